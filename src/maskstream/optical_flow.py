"""Dense optical flow without weights: DIS (Kroeger et al., ECCV 2016), as OpenCV has it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_SMALLEST = 12
"""Pixels of the longer side that DIS takes."""


def dense_flow(
    source_hw: NDArray[np.uint8], target_hw: NDArray[np.uint8], *, start: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Where each pixel of the source is in the target.

    Args:
        source_hw: ``uint8[H, W]``, grey.
        target_hw: ``uint8[H, W]``, grey.
        start: ``float32[H, W, 2]``, a first guess. Zeros are a guess too: without any, DIS begins on coarser scales.

    Returns:
        ``float32[H, W, 2]``, displacement in pixels, column and row. The same whatever the number of threads. Pictures
        that are smaller than a patch of DIS have none but the first guess.
    """
    if max(source_hw.shape) < _SMALLEST:
        return np.zeros((*source_hw.shape, 2), np.float32) if start is None else start.copy()
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    guess = None if start is None else start.copy()  # OpenCV writes the result over it
    return np.asarray(dis.calc(source_hw, target_hw, guess), dtype=np.float32)  # type: ignore[arg-type]
