"""The one palette of the house: the colours that PASCAL VOC and DAVIS write their masks with."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray


@cache
def davis_palette() -> NDArray[np.uint8]:
    """The PASCAL VOC / DAVIS palette: ``uint8[256, 3]``, RGB, read-only.

    The bits of an index are dealt to red, green and blue in turn, lowest first, and fill each channel from its
    highest bit: 0 is black, 1 is (128, 0, 0), 2 is (0, 128, 0) and 255, the void, is (224, 224, 192).
    """
    indices = np.arange(256)
    palette = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        palette[:, bit % 3] |= ((indices >> bit & 1) << (7 - bit // 3)).astype(np.uint8)
    palette.flags.writeable = False
    return palette


def colour_of(ids: ArrayLike) -> NDArray[np.uint8]:
    """The colour that an object keeps for ever, in every picture of the house.

    Args:
        ids: N object ids, not negative.

    Returns:
        ``uint8[N, 3]``, RGB: the palette's colour up to 254, beyond that a bright one whose hue steps by the golden
        ratio, so that neighbouring ids differ.
    """
    numbers = np.asarray(ids, dtype=np.int64).reshape(-1)
    colours = davis_palette()[np.minimum(numbers, 255)]
    large = numbers > 254
    colours[large] = _bright(numbers[large])
    return colours


def _bright(numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Fully saturated down to a floor of 64: hue = number × golden ratio, in 1536 integer steps round the circle."""
    hue = (numbers * 0x9E3779B9 & 0xFFFFFFFF) * 1536 >> 32
    offsets = np.array([0, 512, 1024])  # where on the circle red, green and blue are strongest
    distance = np.abs((hue[:, None] - offsets + 768) % 1536 - 768)
    colours: NDArray[np.uint8] = (64 + np.clip(512 - distance, 0, 256) * 191 // 256).astype(np.uint8)
    return colours
