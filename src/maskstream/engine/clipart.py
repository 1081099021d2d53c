"""Objects of clip art pasted on frames of videos: thousands of outlines, where a few videos show few objects.

What is drawn looks unlike what is filmed, so half of them are filled with another frame, shaded as they were drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from maskstream.types import InputError
from maskstream.video.images import is_image

_FILL = (0.15, 0.95)
"""Of the box around an object: less is a line, more is a rectangle."""
_LEAST_SIDE = 48
"""Pixels of that box."""
_ONE_PIECE = 0.7
"""Share of the largest of its pieces; other pictures show several objects."""
_SIDE = (0.35, 0.8)
"""Of the frame's short side, the longer side of an object that is pasted."""
_SHADE = (0.4, 1.2)
"""Of black and white in a drawing, how bright they leave a frame that fills it."""


def clipart_in(folder: Path) -> list[Path]:
    """The PNGs of a folder and its folders, in order of their paths.

    Raises:
        InputError: there is none.
    """
    found = sorted(path for path in folder.rglob("*.png") if is_image(path))
    if not found:
        raise InputError(f"{folder} holds no PNG: name a folder of pictures that are transparent around one object")
    return found


def read_clipart(path: Path) -> NDArray[np.uint8] | None:
    """A picture cut to its object, ``uint8[h, w, 4]`` RGB and alpha, if it is transparent around one object."""
    art = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if art is None or art.dtype != np.uint8 or art.ndim < 3 or art.shape[2] < 4:
        return None
    inside = (art[..., 3] > 127).astype(np.uint8)
    x, y, width, height = cv2.boundingRect(inside)
    if min(width, height) < _LEAST_SIDE or not _FILL[0] < inside.sum() / (width * height) < _FILL[1]:
        return None
    pieces = cv2.connectedComponentsWithStats(inside)[2][1:, cv2.CC_STAT_AREA]
    if pieces.max() < _ONE_PIECE * pieces.sum():
        return None
    return np.asarray(cv2.cvtColor(art[y : y + height, x : x + width], cv2.COLOR_BGRA2RGBA), dtype=np.uint8)


def paste_clipart(
    art: NDArray[np.uint8], frames: Sequence[NDArray[np.uint8]], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Paste an object on one of some frames.

    Args:
        art: ``uint8[h, w, 4]``, from `read_clipart`.
        frames: ``uint8[H, W, 3]`` each.
        rng: decides where, how large, and whether it is filled.

    Returns:
        The frame with the object, and where that is, ``bool[H, W]``.
    """
    picture = frames[int(rng.integers(len(frames)))].copy()
    scale = rng.uniform(*_SIDE) * min(picture.shape[:2]) / max(art.shape[:2])
    size_hw = max(1, round(scale * art.shape[0])), max(1, round(scale * art.shape[1]))
    art = np.asarray(cv2.resize(art, size_hw[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)
    colours, cover = art[..., :3].astype(np.float32), art[..., 3:].astype(np.float32) / 255
    if rng.random() < 0.5:
        other = frames[int(rng.integers(len(frames)))]
        shade = _SHADE[0] + (_SHADE[1] - _SHADE[0]) * colours.mean(axis=2, keepdims=True) / 255
        colours = other[_window(other, size_hw, rng)] * shade
    window = _window(picture, size_hw, rng)
    picture[window] = np.clip(picture[window] * (1 - cover) + colours * cover, 0, 255).astype(np.uint8)
    mask = np.zeros(picture.shape[:2], np.bool_)
    mask[window] = cover[..., 0] > 0.5
    return picture, mask


def _window(picture: NDArray[np.uint8], size_hw: tuple[int, int], rng: np.random.Generator) -> tuple[slice, slice]:
    top, left = (int(rng.integers(whole - part + 1)) for whole, part in zip(picture.shape, size_hw, strict=False))
    return slice(top, top + size_hw[0]), slice(left, left + size_hw[1])
