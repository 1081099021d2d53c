"""Masks as JSON files of the COCO kind hold them: run lengths, compressed or not, and polygons (B3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask

from maskstream.types import RLE, FrameSegmentation, InputError, Segment, decode_rle, pack_masks
from maskstream.types.runs import decode_runs

from .json_files import Json


def read_code(plain: Json, size_hw: tuple[int, int]) -> RLE | None:
    """A mask in any of the forms of COCO: compressed or plain run lengths, polygons that belong together, or nothing.

    Args:
        plain: what the file says.
        size_hw: height and width of the picture.

    Returns:
        Compressed run lengths, which may still be damaged (see `check_codes`); None for nothing.

    Raises:
        InputError: it is none of these, or of another size.
    """
    height, width = size_hw
    if not plain:
        return None
    if isinstance(plain, list):
        if not all(isinstance(polygon, list) and len(polygon) >= 6 for polygon in plain):
            raise InputError("a polygon is a list of three or more pairs x, y")  # pycocotools takes four for a box
        return _compressed(coco_mask.merge(coco_mask.frPyObjects(plain, height, width)))
    size, counts = [height, width], plain["counts"]
    if plain["size"] != size:
        given = "×".join(map(str, plain["size"]))
        raise InputError(f"a mask is {given}, but the picture {height}×{width} (height × width)")
    if isinstance(counts, list):
        if sum(counts) != height * width or min(counts) < 0:
            raise InputError(f"run lengths add up to {sum(counts)}, not to {height}×{width}")
        return _compressed(coco_mask.frPyObjects({"size": size, "counts": counts}, height, width))
    return RLE(size=size, counts=counts if isinstance(counts, str) else counts.decode("ascii"))


def check_codes(codes: Sequence[RLE]) -> None:
    """Refuse damaged codes, on which pycocotools gives chance values, never returns or ends the process.

    Args:
        codes: of one size.

    Raises:
        InputError: a code is not made of runs that fill its picture, or is of another size than the first.
    """
    sizes = {tuple(code["size"]) for code in codes}
    if len(sizes) > 1:
        raise InputError(f"masks of one frame are of different sizes: {', '.join(map(str, sorted(sizes)))}")
    for height, width in sizes:
        decode_runs([code["counts"] for code in codes], np.zeros(len(codes), np.int64), pixels=height * width)


def frame_of(
    frame_index: int, size_hw: tuple[int, int], segments: Sequence[Segment], codes: Sequence[RLE]
) -> FrameSegmentation:
    """A frame from the codes of its segments, which may overlap.

    Raises:
        InputError: a code is damaged or of another size.
    """
    check_codes(codes)
    return FrameSegmentation(frame_index, size_hw, tuple(segments), pack_masks(decode_rle(codes, size_hw)))


def _compressed(code: dict[str, object]) -> RLE:
    size, counts = code["size"], code["counts"]
    assert isinstance(size, list)
    assert isinstance(counts, bytes)
    return RLE(size=[int(side) for side in size], counts=counts.decode("ascii"))
