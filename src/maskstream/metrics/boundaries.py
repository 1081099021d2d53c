"""Masks of a frame on their bounding boxes, with contours and dilated contours drawn once and compared often.

J and F look at a mask and at a band around its contour, so nothing here ever touches the rest of the picture:

    FrameSegmentation ──► Region per segment ──► contour ──► dilated contour (one per radius, kept)
                                └── overlap of two boxes: intersections ──► J, F, boundary IoU

Equal, pixel for pixel, to working on whole pictures (metrics specification §5.1, 5.2 and 7).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from maskstream.types import FrameSegmentation, LabelMap

BoolMask: TypeAlias = NDArray[np.bool_]
_Bytes: TypeAlias = NDArray[np.uint8]

_TWO_BY_TWO = np.ones((2, 2), np.uint8)

_FEW_LABELS = 16
"""Up to so many labels are looked for one by one, with OpenCV, in less time than all at once takes."""


@dataclass(frozen=True, eq=False)
class _Patch:
    """A rectangle of 0 and 1 somewhere in a picture; zero outside."""

    values: _Bytes = field(repr=False)
    top: int
    left: int

    def shared_with(self, other: _Patch) -> int:
        """How many pixels are 1 in both."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        bottom = min(self.top + self.values.shape[0], other.top + other.values.shape[0])
        right = min(self.left + self.values.shape[1], other.left + other.values.shape[1])
        if top >= bottom or left >= right:
            return 0
        mine = self.values[top - self.top : bottom - self.top, left - self.left : right - self.left]
        theirs = other.values[top - other.top : bottom - other.top, left - other.left : right - other.left]
        return cv2.countNonZero(cv2.bitwise_and(mine, theirs))


@dataclass(frozen=True, eq=False)
class Region:
    """One mask of a frame: its pixels on its bounding box, and what is derived from them, computed when first asked.

    Attributes:
        mask: ``uint8[h, w]`` of 0 and 1, on the box grown by one pixel wherever the picture goes on.
        top: row of the patch's first row in the picture.
        left: column of the patch's first column in the picture.
        size_hw: height and width of the picture.
    """

    mask: _Bytes = field(repr=False)
    top: int
    left: int
    size_hw: tuple[int, int]
    _dilated: dict[float, _Patch] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def empty(cls, size_hw: tuple[int, int]) -> Region:
        """A mask without pixels."""
        return cls(np.zeros((0, 0), np.uint8), 0, 0, size_hw)

    @classmethod
    def of_mask(cls, mask_hw: BoolMask) -> Region:
        """The region of one whole-picture mask, ``bool[H, W]``."""
        height, width = mask_hw.shape
        rows, columns = np.flatnonzero(mask_hw.any(axis=1)), np.flatnonzero(mask_hw.any(axis=0))
        if not len(rows):
            return cls.empty((height, width))
        box = _grown(slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1), 1, (height, width))
        return cls(
            np.ascontiguousarray(mask_hw[box], np.bool_).view(np.uint8), box[0].start, box[1].start, (height, width)
        )

    @cached_property
    def area(self) -> int:
        """Pixels of the mask."""
        return cv2.countNonZero(self.mask) if self.mask.size else 0

    @cached_property
    def contour_length(self) -> int:
        """Pixels of the contour; 0 for an empty mask and for one that covers the picture."""
        return cv2.countNonZero(self._contour.values) if self.area else 0

    def shared_area(self, other: Region) -> int:
        """Pixels of the intersection of two masks."""
        if not self.area or not other.area:
            return 0
        return _Patch(self.mask, self.top, self.left).shared_with(_Patch(other.mask, other.top, other.left))

    def contour_near(self, other: Region, radius: float) -> int:
        """How many pixels of this contour the other contour reaches when dilated with `disk` of the radius."""
        if not self.contour_length or not other.contour_length:
            return 0
        return self._contour.shared_with(other._dilated_contour(radius))

    @cached_property
    def _contour(self) -> _Patch:
        # A pixel differs from its east, south or south-east neighbour exactly when its 2×2 window is not constant.
        contour = cv2.morphologyEx(self.mask, cv2.MORPH_GRADIENT, _TWO_BY_TWO, anchor=(0, 0))
        return _Patch(np.asarray(contour, np.uint8), self.top, self.left)

    def _dilated_contour(self, radius: float) -> _Patch:
        if radius not in self._dilated:
            element = disk(radius)
            contour, reach = self._contour.values, len(element) // 2
            rows, columns = slice(self.top, self.top + len(contour)), slice(self.left, self.left + contour.shape[1])
            box = _grown(rows, columns, reach, self.size_hw)
            drawn = np.zeros((box[0].stop - box[0].start, box[1].stop - box[1].start), np.uint8)
            top, left = self.top - box[0].start, self.left - box[1].start
            drawn[top : top + len(contour), left : left + contour.shape[1]] = contour
            dilated = np.asarray(cv2.dilate(drawn, element), np.uint8)
            self._dilated[radius] = _Patch(dilated, box[0].start, box[1].start)
        return self._dilated[radius]


def frame_regions(segmentation: FrameSegmentation, *, void: BoolMask | None = None) -> dict[int, Region]:
    """The masks of a frame, each on its box, in one pass over the picture when they are disjoint.

    Args:
        segmentation: the masks; they may overlap.
        void: ``bool[H, W]``, pixels taken out of every mask, or None.

    Returns:
        A region for every segment with at least one pixel left, by ``Segment.id``.
    """
    if isinstance(segmentation.masks, LabelMap):
        labels: NDArray[np.int32] = segmentation.masks.values.cpu().numpy()
        if void is not None:
            labels = np.where(void, np.int32(0), labels)
        return _label_regions(labels, [segment.id for segment in segmentation.segments])
    masks_nhw: BoolMask = segmentation.masks_nhw().cpu().numpy()
    regions = {}
    for segment, mask_hw in zip(segmentation.segments, masks_nhw, strict=True):
        region = Region.of_mask(mask_hw if void is None else mask_hw & ~void)
        if region.area:
            regions[segment.id] = region
    return regions


def union_region(segmentation: FrameSegmentation, *, void: BoolMask | None = None) -> Region:
    """The region covered by any segment of the frame."""
    if isinstance(segmentation.masks, LabelMap):
        covered: BoolMask = segmentation.masks.values.cpu().numpy() > 0
    else:
        covered = np.logical_or.reduce(segmentation.masks_nhw().cpu().numpy(), axis=0)
    return Region.of_mask(covered if void is None else covered & ~void)


def region_j(pred: Region, truth: Region) -> float:
    """Region similarity J: intersection over union, 1 when both are empty (metrics specification §5.1)."""
    shared = pred.shared_area(truth)
    union = pred.area + truth.area - shared
    return shared / union if union else 1.0


def region_f(pred: Region, truth: Region, *, radius: float) -> float:
    """Boundary accuracy F (metrics specification §5.2).

    Args:
        pred: the predicted mask.
        truth: the annotated mask.
        radius: of the `disk` that contours are dilated with; usually `boundary_radius` of the picture.

    Returns:
        A fraction; 1 when neither mask has a contour, 0 when exactly one has.
    """
    if not pred.contour_length or not truth.contour_length:
        return float(pred.contour_length == truth.contour_length)
    precision = pred.contour_near(truth, radius) / pred.contour_length
    recall = truth.contour_near(pred, radius) / truth.contour_length
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def pairwise_jf(
    preds: Sequence[Region], truths: Sequence[Region], *, radius: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """J and F of every prediction with every truth; each mask is dilated once, not once a pair.

    Returns:
        J and F, both ``float64[P, G]``.
    """
    j = np.array([[region_j(pred, truth) for truth in truths] for pred in preds])
    f = np.array([[region_f(pred, truth, radius=radius) for truth in truths] for pred in preds])
    shape = (len(preds), len(truths))
    return j.reshape(shape).astype(np.float64), f.reshape(shape).astype(np.float64)


def object_jf(
    pred: Mapping[int, Region],
    truth: Mapping[int, Region],
    objects: Sequence[int],
    *,
    size_hw: tuple[int, int],
    radius: float,
) -> tuple[list[float], list[float]]:
    """J and F of each object with the prediction of the same id; an id without a region is an empty mask.

    Returns:
        J and F, a number for every object.
    """
    empty = Region.empty(size_hw)
    pairs = [(pred.get(o, empty), truth.get(o, empty)) for o in objects]
    return [region_j(p, g) for p, g in pairs], [region_f(p, g, radius=radius) for p, g in pairs]


def boundary_iou(pred: Region, truth: Region, *, width: int) -> float:
    """IoU of the bands of the given width inside two masks (Cheng et al., CVPR 2021; metrics specification §7).

    A band holds the pixels of a mask from which some pixel outside it, or outside the picture, is at most ``width``
    king's moves away.

    Returns:
        A fraction; 0 when neither mask has a pixel, because the union is empty.
    """
    bands = [_inner_band(region, width) for region in (pred, truth)]
    shared = bands[0].shared_with(bands[1])
    union = sum(cv2.countNonZero(band.values) for band in bands if band.values.size) - shared
    return shared / union if union else 0.0


def boundary_radius(size_hw: tuple[int, ...]) -> int:
    """The tolerance of F in pixels: 0.8 % of the diagonal, rounded up; 8 for 480×854 and 12 for 720×1280."""
    return math.ceil(0.008 * math.hypot(*size_hw))


def boundary_iou_width(size_hw: tuple[int, int]) -> int:
    """The band width of boundary IoU: 2 % of the diagonal, at least a pixel (metrics specification §7)."""
    return max(1, round(0.02 * math.hypot(*size_hw)))


@lru_cache(maxsize=256)
def disk(radius: float) -> NDArray[np.uint8]:
    """The structuring element of contours: 1 where x² + y² ≤ radius², on the grid −radius, −radius + 1, ….

    For a whole radius it is a centred disk. For a fractional one, which MOSE v2 uses, the grid has an even number of
    cells and the element is a little shifted, as scikit-image draws it (metrics specification §5.10).
    """
    grid = np.arange(-radius, radius + 1)
    element: NDArray[np.uint8] = (grid**2 + grid[:, None] ** 2 <= radius**2).astype(np.uint8)
    element.setflags(write=False)
    return element


def _label_regions(labels_hw: NDArray[np.int32], ids: Sequence[int]) -> dict[int, Region]:
    """Regions of the n-th ids where ``labels_hw`` is n (from 1)."""
    height, width = labels_hw.shape
    regions = {}
    for position, box in enumerate(_boxes(labels_hw, len(ids)), 1):
        if box is not None:
            rows, columns = _grown(box[0], box[1], 1, (height, width))
            mask = (labels_hw[rows, columns] == position).view(np.uint8)
            regions[ids[position - 1]] = Region(mask, rows.start, columns.start, (height, width))
    return regions


def _boxes(labels_hw: NDArray[np.int32], count: int) -> list[tuple[slice, slice] | None]:
    """Rows and columns that the labels 1…count reach; None for a label without a pixel."""
    if count > _FEW_LABELS:
        return list(ndimage.find_objects(labels_hw, max_label=count))
    octets, boxes = labels_hw.astype(np.uint8), []
    for label in range(1, count + 1):
        left, top, width, height = cv2.boundingRect(cv2.inRange(octets, label, label))
        boxes.append((slice(top, top + height), slice(left, left + width)) if width else None)
    return boxes


def _grown(rows: slice, columns: slice, by: int, size_hw: tuple[int, int]) -> tuple[slice, slice]:
    grown_rows = slice(max(int(rows.start) - by, 0), min(int(rows.stop) + by, size_hw[0]))
    return grown_rows, slice(max(int(columns.start) - by, 0), min(int(columns.stop) + by, size_hw[1]))


def _inner_band(region: Region, width: int) -> _Patch:
    if not region.area:
        return _Patch(region.mask, region.top, region.left)
    # Outside the patch the mask is zero, be it picture or not: the erosion may start from the patch's edge.
    element = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    inside = cv2.erode(region.mask, element, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return _Patch(np.asarray(cv2.subtract(region.mask, inside), np.uint8), region.top, region.left)
