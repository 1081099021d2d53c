"""Region similarity J and boundary accuracy F of two masks (Perazzi et al., CVPR 2016).

For masks at hand; the metrics take frames apart into the regions of ``boundaries.py``, which does the work here too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from maskstream.types import InputError

from .boundaries import BoolMask, Region, boundary_radius, region_f, region_j


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
    return region_j(Region.of_mask(pred), Region.of_mask(truth))


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
    radius = boundary_radius(truth.shape) if radius is None else radius
    return region_f(Region.of_mask(pred), Region.of_mask(truth), radius=radius)


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
