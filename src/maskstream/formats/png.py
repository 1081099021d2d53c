"""Label pictures as PNG: 8-bit palette pictures for ids up to 254, RGB-encoded ids beyond."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from maskstream.files import atomic_path
from maskstream.types import InputError

from .palette import davis_palette

_LARGEST_PALETTE_ID = 254  # 255 is the void of every data set that has one
_LARGEST_RGB_ID = 2**24 - 1
_ENCODING_KEY, _RGB_ENCODING = "Label encoding", "id = R + 256 G + 65536 B"


def write_label_png(path: Path, labels: NDArray[np.integer]) -> None:
    """Write a picture of ids: a palette PNG when all are at most 254, else RGB with id = R + 256 G + 65536 B.

    The RGB form says what it is in a text chunk, so that `read_label_png` needs no hint. The file appears whole or
    not at all.

    Args:
        path: where; its folder must exist.
        labels: ``int[H, W]``, ids from 0 to 16 777 215.

    Raises:
        InputError: the labels are not a picture, or an id cannot be stored.
    """
    if labels.ndim != 2 or labels.size == 0 or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"labels for {path} must be integers [H, W], not {labels.dtype}{list(labels.shape)}")
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest > _LARGEST_RGB_ID:
        raise InputError(f"labels for {path} run from {lowest} to {highest}: a PNG holds ids 0 to {_LARGEST_RGB_ID}")
    notes = PngInfo()
    if highest <= _LARGEST_PALETTE_ID:
        image = Image.fromarray(labels.astype(np.uint8))
        image.putpalette(davis_palette().tobytes())
    else:
        octets = np.ascontiguousarray(labels, dtype="<i4").view(np.uint8).reshape(*labels.shape, 4)
        image = Image.fromarray(np.ascontiguousarray(octets[..., :3]))
        notes.add_text(_ENCODING_KEY, _RGB_ENCODING)
    with atomic_path(path) as temporary:
        # Run-length matching suits flat regions: smaller files than the default strategy at this speed.
        image.save(temporary, "PNG", compress_level=1, compress_type=Image.RLE, pnginfo=notes)


def read_label_png(path: Path, *, encoding: Literal["auto", "palette", "rgb"] = "auto") -> NDArray[np.int32]:
    """Read a picture of ids.

    Palette pictures give their indices, grey ones (8 and 16 bit) their values, black-and-white ones 0 and 1.

    Args:
        path: a PNG file.
        encoding: what the colours of an RGB picture mean. "palette": it was a palette picture before some tool
            re-saved it; "rgb": id = R + 256 G + 65536 B; "auto": what the file says of itself, as those written
            here do, else the palette.

    Returns:
        ``int32[H, W]``.

    Raises:
        InputError: no such file, not a PNG, damaged, has transparency, or a colour that is not in the palette.
    """
    try:
        with Image.open(path, formats=("PNG",)) as image:
            pixels, mode = np.asarray(image), image.mode
            says_rgb = image.info.get(_ENCODING_KEY) == _RGB_ENCODING
    except FileNotFoundError as error:
        raise InputError(f"there is no mask {path}") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is not a PNG picture: masks are read from PNG, which keeps ids exactly") from error
    # Pillow raises all of these for a damaged file, depending on where the damage is.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read as a PNG mask: {error}") from error
    if mode in ("P", "L", "1", "I", "I;16"):
        return pixels.astype(np.int32)
    if mode != "RGB":
        raise InputError(
            f"{path} is a PNG of mode {mode}, not a mask: save it as palette or grey, without transparency"
        )
    codes = _rgb_codes(pixels)
    if encoding == "rgb" or (encoding == "auto" and says_rgb):
        return codes
    return _through_palette(codes, path)


def _rgb_codes(colours: NDArray[np.uint8]) -> NDArray[np.int32]:
    """R + 256 G + 65536 B: the first three bytes of a little-endian integer.

    Args:
        colours: ``uint8[A, B, 3]``.

    Returns:
        ``int32[A, B]``.
    """
    # OpenCV adds the fourth byte eight times faster than NumPy.
    octets = np.ascontiguousarray(cv2.cvtColor(colours, cv2.COLOR_RGB2RGBA))
    return (octets.view("<i4")[..., 0] & 0xFFFFFF).astype(np.int32, copy=False)


def _through_palette(codes_hw: NDArray[np.int32], path: Path) -> NDArray[np.int32]:
    palette_codes = _rgb_codes(davis_palette()[None])[0]
    by_code = np.argsort(palette_codes).astype(np.int32)
    positions = np.searchsorted(palette_codes, codes_hw, sorter=by_code)
    indices: NDArray[np.int32] = by_code[np.minimum(positions, 255)]
    foreign = codes_hw[palette_codes[indices] != codes_hw]
    if foreign.size:
        code = int(foreign[0])
        raise InputError(
            f"{path} is a colour picture with the colour {(code & 255, code >> 8 & 255, code >> 16)}, which is not in "
            'the DAVIS palette: save it as a palette PNG, or read it with encoding="rgb" if its colours are ids'
        )
    return indices
