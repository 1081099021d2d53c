"""Region similarity J and boundary accuracy F of the DAVIS benchmarks (Perazzi et al., CVPR 2016)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from maskstream.types import InputError

BoolMask: TypeAlias = NDArray[np.bool_]


def region_similarity(pred: BoolMask, truth: BoolMask, void: BoolMask | None = None) -> float:
    """Region similarity J, the intersection over union of two masks (Perazzi et al., section 4).

    Args:
        pred: ``bool[H, W]``, the prediction.
        truth: ``bool[H, W]``, the annotation.
        void: ``bool[H, W]``, pixels that count for nothing, or None.

    Returns:
        A fraction; 1 when both masks are empty.

    Raises:
        InputError: the shapes differ.
    """
    pred, truth = _outside_void(pred, truth, void)
    union = np.count_nonzero(pred | truth)
    return np.count_nonzero(pred & truth) / union if union else 1.0


def boundary_f(pred: BoolMask, truth: BoolMask, void: BoolMask | None = None, radius: int | None = None) -> float:
    """Boundary accuracy F, the harmonic mean of the precision and recall of contour pixels (section 4).

    A contour pixel is right when the other contour has a pixel within a disk of ``radius``. A mask that covers the
    whole picture has no contour and counts as an empty one.

    Args:
        pred: ``bool[H, W]``, the prediction.
        truth: ``bool[H, W]``, the annotation.
        void: ``bool[H, W]``, pixels set to background in both masks before contours are drawn, or None.
        radius: tolerance in pixels; `boundary_radius` of the picture by default.

    Returns:
        A fraction; 1 when neither mask has a contour, 0 when exactly one has.

    Raises:
        InputError: the shapes differ.
    """
    pred, truth = _outside_void(pred, truth, void)
    pred_contour, truth_contour = _contour(pred), _contour(truth)
    if not pred_contour.any() or not truth_contour.any():
        return float(pred_contour.any() == truth_contour.any())
    rows = np.flatnonzero((pred_contour | truth_contour).any(axis=1))
    columns = np.flatnonzero((pred_contour | truth_contour).any(axis=0))
    crop = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    radius = boundary_radius(truth.shape) if radius is None else radius
    precision = _fraction_near(pred_contour[crop], truth_contour[crop], radius)
    recall = _fraction_near(truth_contour[crop], pred_contour[crop], radius)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary_radius(size_hw: tuple[int, ...]) -> int:
    """The tolerance of F in pixels: 0.8 % of the diagonal, rounded up; 8 for 480×854 and 12 for 720×1280."""
    return math.ceil(0.008 * math.hypot(*size_hw))


def sequence_mean(values: Sequence[float], *, skip_first_last: bool = True) -> float:
    """Mean over the frames of a DAVIS-2016 sequence, of which the first is given and the last is not counted.

    Raises:
        InputError: no frame is left to average.
    """
    counted = values[1:-1] if skip_first_last else values
    if not counted:
        raise InputError(f"a sequence of {len(values)} frames has none to score: at least 3 are needed")
    return math.fsum(counted) / len(counted)


def _outside_void(pred: BoolMask, truth: BoolMask, void: BoolMask | None) -> tuple[BoolMask, BoolMask]:
    for name, mask in (("prediction", pred), ("void mask", void)):
        if mask is not None and mask.shape != truth.shape:
            raise InputError(f"the {name} is {list(mask.shape)} but the annotation is {list(truth.shape)}")
    pred, truth = pred.astype(bool), truth.astype(bool)
    return (pred, truth) if void is None else (pred & ~void.astype(bool), truth & ~void.astype(bool))


def _contour(mask: BoolMask) -> BoolMask:
    """Pixels that differ from their east, south or south-east neighbour; nothing is added at the picture's edge."""
    contour = np.zeros(mask.shape, dtype=bool)
    contour[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    contour[:-1] |= mask[:-1] != mask[1:]
    contour[:-1, :-1] |= mask[:-1, :-1] != mask[1:, 1:]
    return contour


def _fraction_near(contour: BoolMask, other: BoolMask, radius: int) -> float:
    """Fraction of the pixels of one contour that have a pixel of the other within the radius; neither is empty."""
    distance = cv2.distanceTransform((~other).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # Distances are roots of integers in single precision, so nothing lies between the radius and this bound.
    return np.count_nonzero(distance[contour] < radius + 1e-3) / np.count_nonzero(contour)
