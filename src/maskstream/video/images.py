"""Folders of images and glob patterns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from maskstream.types import Frame, VideoError

from .source import DEFAULT_FPS, Source

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_UNREADABLE = (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError)
_SIDEWAYS = frozenset({5, 6, 7, 8})
"""EXIF orientations that swap height and width."""


def natural_key(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Sort ``img2`` before ``img10``; equal numbers written differently by their text."""
    parts = re.findall(r"(\d+)|(\D+)", path.name.casefold())
    return [(int(digits or -1), text) for digits, text in parts], path.name


def is_image(path: Path) -> bool:
    """Whether a path is named like an image; hidden files are not."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


class ImagesVideo(Source):
    """Images of one size, one a frame, read when they are asked for."""

    seekable = True

    def __init__(self, paths: Sequence[Path], *, name: str, fps: float | None = None) -> None:
        """Take images in the order given. Sizes are compared at once, from the headers; pixels are read later.

        Raises:
            VideoError: there is no image, one cannot be opened, or one has another size than the first.
        """
        if not paths:
            raise VideoError(f"{name} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
        self.name = name
        self.fps = fps or DEFAULT_FPS
        self._paths = tuple(paths)
        self.size_hw = image_size(self._paths[0])
        for path in self._paths[1:]:
            self._check_size(path, image_size(path))

    @property
    def paths(self) -> tuple[Path, ...]:
        """The file of every frame, in order."""
        return self._paths

    def indices(self) -> range:
        """Every ``Frame.index``."""
        return range(len(self._paths))

    def frames_from(self, index: int) -> Iterator[Frame]:
        """Yield frame ``index`` and those after it."""
        return map(self._read, self.indices()[max(index, 0) :])

    def __getitem__(self, index: int) -> Frame:
        if index not in self.indices():
            raise IndexError(f"{self.name} has {len(self._paths)} images, so there is no frame {index}")
        return self._read(index)

    def _read(self, index: int) -> Frame:
        path = self._paths[index]
        image = read_image(path)
        self._check_size(path, (image.shape[0], image.shape[1]))
        return Frame(index, index / (self.fps or DEFAULT_FPS), image)

    def _check_size(self, path: Path, size_hw: tuple[int, int]) -> None:
        if size_hw != self.size_hw:
            (height, width), (first_height, first_width) = size_hw, self.size_hw
            raise VideoError(
                f"{path} is {height}×{width} but {self._paths[0].name} is {first_height}×{first_width} "
                "(height×width): all images of a video must have one size"
            )


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read an image as upright ``uint8[H, W, 3]`` RGB. Transparency is dropped, 16 bits are cut to 8.

    Raises:
        VideoError: it cannot be read, or is cut off.
    """
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):  # 16-bit grey, which Pillow would clip
                upright = Image.fromarray((np.asarray(upright).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
            return np.array(upright.convert("RGB"))
    except _UNREADABLE as error:
        raise VideoError(f"{path} cannot be read as an image: {error}") from error


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of an image as it is shown, without decoding it."""
    try:
        with Image.open(path) as image:
            sideways = image.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS
            return (image.width, image.height) if sideways else (image.height, image.width)
    except _UNREADABLE as error:
        raise VideoError(f"{path} cannot be read as an image: {error}") from error
