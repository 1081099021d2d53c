"""How unsure a frame is, so that people look where it matters.

Three signs, each scaled to 0…1, and the largest counts:

* blur: entropy of the probabilities where the object may be;
* jump: the area differs from what it is on neighbouring frames, 1 where it is half or twice as large;
* dispute: what was followed forward and what was followed backward is not the same, 1 - IoU.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

DOUBTFUL = 0.5
"""From here on a person should look."""
REASONS = ("its outline is unclear", "its size changes suddenly", "forward and backward disagree")
"""What each sign means, for people."""

NEIGHBOURS = 3
"""Frames before, and as many after, that an area is compared with."""
BLURRED = 0.8
"""Bits. On rendered clips, half of this is exceeded by 96 of 100 masks of optical flow whose IoU is between 0.6 and
0.85, and by 6 of 100 that are better."""
TINY = 1e-4
"""Areas below this fraction of the picture are as good as nothing."""


def blur(map_hw: NDArray[np.uint8]) -> float:
    """Mean entropy, in bits, of the pixels that may be an object: 0 is sure, 1 is any guess.

    Args:
        map_hw: ``uint8[h, w]``, its probability in steps of 1/255.
    """
    counts = np.bincount(map_hw.ravel(), minlength=256)[_POSSIBLE:]
    return float((counts * _ENTROPY[_POSSIBLE:]).sum() / max(counts.sum(), 1))


def agreement(first_hw: NDArray[np.uint8], second_hw: NDArray[np.uint8]) -> float:
    """IoU of two masks that are given as probabilities in steps of 1/255; 1 where both are nothing."""
    first, second = first_hw > 127, second_hw > 127
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else 1.0


def jumps(areas_t: FloatArray) -> FloatArray:
    """How much each area differs from the median of its neighbours: 0 is not at all, 1 is by a factor of two or more.

    Args:
        areas_t: ``float32[T]``, fractions of the picture; NaN where nothing is known.

    Returns:
        ``float32[T]``; NaN where the area or all its neighbours are unknown.
    """
    padded = np.pad(areas_t, NEIGHBOURS, constant_values=np.nan)
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * NEIGHBOURS + 1)
    usual = _median(np.delete(around, NEIGHBOURS, axis=1))
    return np.asarray(np.abs(np.log2((areas_t + TINY) / (usual + TINY))).clip(0, 1), dtype=np.float32)


def doubts(areas_t: FloatArray, blur_t: FloatArray, agreement_t: FloatArray) -> tuple[FloatArray, NDArray[np.int64]]:
    """How unsure each frame of an object is.

    Args:
        areas_t: ``float32[T]``, fractions of the picture; NaN where the object is neither found nor given.
        blur_t: ``float32[T]``, see `blur`; NaN where it is unknown.
        agreement_t: ``float32[T]``, see `agreement`; NaN where it is unknown.

    Returns:
        ``float32[T]`` in 0…1, and ``int64[T]``, which of `REASONS`.
    """
    signs_3t = np.stack([blur_t / BLURRED, jumps(areas_t), 1 - agreement_t])
    signs_3t = np.nan_to_num(signs_3t, nan=0.0).clip(0, 1)
    return signs_3t.max(0).astype(np.float32), signs_3t.argmax(0)


def _median(values_tn: FloatArray) -> FloatArray:
    """Median of what is known in each row; NaN where nothing is. ``nanmedian`` warns of that, and is slow."""
    ordered = np.sort(values_tn, axis=1)  # NaN last
    known = np.count_nonzero(~np.isnan(values_tn), axis=1)
    rows = np.arange(len(ordered))
    low, high = ordered[rows, (known - 1).clip(0) // 2], ordered[rows, known // 2 % ordered.shape[1]]
    return np.where(known > 0, (low + high) / 2, np.nan)


_POSSIBLE = 13
"""Probabilities of 5 in 100 and more."""
_P = np.arange(256) / 255
with np.errstate(divide="ignore", invalid="ignore"):
    _ENTROPY = np.nan_to_num(-_P * np.log2(_P) - (1 - _P) * np.log2(1 - _P))
