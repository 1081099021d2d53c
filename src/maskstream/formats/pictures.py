"""The pictures of data sets and results: frames as JPEG, labels as PNG in every encoding the benchmarks use."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskstream.types import (
    RLE,
    FrameAnnotation,
    InputError,
    OutputError,
    Segment,
    VideoSample,
    rle_area,
)
from maskstream.types.samples import JPEG_QUALITY
from maskstream.video.images import read_image

from .palette import davis_palette

KIND_OF_SUFFIX = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}

VOID = 255
"""What is no class and no object in 8-bit pictures."""

Ids: TypeAlias = NDArray[np.int32]


def visible(annotation: FrameAnnotation) -> list[tuple[Segment, RLE]]:
    """The segments that have a pixel, and their codes."""
    pairs = zip(annotation.segmentation.segments, annotation.segmentation.to_rle(), strict=True)
    return [(segment, code) for segment, code in pairs if rle_area(code)]


def painted(annotation: FrameAnnotation, values: Sequence[int]) -> Ids:
    """``int32[H, W]``: the value of the segment at each pixel, 0 where there is none.

    Args:
        annotation: of a frame.
        values: one for each of its segments.
    """
    ids: Ids = np.array([0, *values], np.int32)[annotation.segmentation.label_map().cpu().numpy()]
    return ids


def write_picture(path: Path, video: VideoSample, index: int) -> bool:
    """Write a frame of a video as ``path``, a JPEG or PNG by its suffix; a file of that kind is copied as it is.

    Returns:
        Whether there was a picture: a video read from annotations alone has none.
    """
    source = video.frames[index].image
    if video.read_image is None and (source is None or not source.exists()):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    if video.read_image is not None:
        image = video.read_image(index)
    else:
        assert source is not None
        if KIND_OF_SUFFIX.get(source.suffix.lower()) == KIND_OF_SUFFIX[path.suffix]:
            shutil.copyfile(source, path)
            return True
        image = read_image(source)
    if KIND_OF_SUFFIX[path.suffix] == "PNG":
        save_png(path, Image.fromarray(image))
    else:
        write_jpeg(path, image, quality=video.jpeg_quality)
    return True


def write_jpeg(path: Path, image: NDArray[np.uint8], *, quality: int = JPEG_QUALITY) -> None:
    """Write a picture, ``uint8[H, W, 3]`` RGB, and its folder. The bytes depend on the build of OpenCV."""
    done, jpeg = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise OutputError(f"OpenCV cannot compress {path.name}, {image.shape[0]}×{image.shape[1]} pixels")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg.tobytes())


def write_indices(path: Path, values: Ids, *, grey: bool = False) -> None:
    """Write 0 to 255 as a palette picture, or a grey one, and its folder; unlike `write_label_png` it takes the void.

    Raises:
        InputError: a value is beyond 255.
    """
    if int(values.max(initial=0)) > VOID:
        raise InputError(f"{path.name} has the id {int(values.max())}: this layout ends at {VOID}")
    image = Image.fromarray(values.astype(np.uint8))
    if not grey:
        image.putpalette(davis_palette().tobytes())
    save_png(path, image)


def write_rgb_ids(path: Path, ids: Ids) -> None:
    """Write ids as R + 256 G + 65536 B, small ones too, and the folder."""
    octets = np.ascontiguousarray(ids, dtype="<i4").view(np.uint8).reshape(*ids.shape, 4)
    save_png(path, Image.fromarray(np.ascontiguousarray(octets[..., :3])))


def save_png(path: Path, image: Image.Image) -> None:
    """Write a picture and its folder, compressed for flat regions."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, "PNG", compress_level=1, compress_type=Image.RLE)
