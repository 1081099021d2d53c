"""How much masks overlap: one joint histogram when they are disjoint, their bits counted when not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import InputError
from .masks import LabelMap, PackedMasks, joint_histogram, pack_masks

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Overlaps:
    """G masks against P masks, in pixels.

    Attributes:
        shared_gp: ``int64[G, P]``.
        areas_g: ``int64[G]``.
        areas_p: ``int64[P]``.
    """

    shared_gp: IntArray
    areas_g: IntArray
    areas_p: IntArray

    def iou_gp(self) -> FloatArray:
        """``float64[G, P]``, intersection over union; 0 when both are empty."""
        union_gp = self.areas_g[:, None] + self.areas_p[None] - self.shared_gp
        iou_gp: FloatArray = self.shared_gp / np.maximum(1, union_gp)
        return iou_gp

    def select(self, truths: NDArray[np.bool_] | IntArray, predictions: NDArray[np.bool_] | IntArray) -> Overlaps:
        """Only some of the masks, by flags or positions."""
        return Overlaps(self.shared_gp[truths][:, predictions], self.areas_g[truths], self.areas_p[predictions])


def mask_overlaps(
    first: LabelMap | PackedMasks, first_count: int, second: LabelMap | PackedMasks, second_count: int
) -> Overlaps:
    """Intersections and areas of all masks of two pictures.

    One joint histogram when both are label maps; otherwise the bits of every two masks whose boxes touch are counted.

    Args:
        first: G masks.
        first_count: G.
        second: P masks.
        second_count: P.

    Raises:
        InputError: the sizes differ.
    """
    if first.size_hw != second.size_hw:
        raise InputError(f"segmentations differ in size: {list(first.size_hw)} and {list(second.size_hw)}")
    if isinstance(first, LabelMap) and isinstance(second, LabelMap):
        values = second.values.to(first.values.device)
        shared_gp = joint_histogram(first.values, first_count, values, second_count).cpu().numpy()
        return Overlaps(shared_gp[1:, 1:], shared_gp.sum(axis=1)[1:], shared_gp.sum(axis=0)[1:])
    bits_g, boxes_g = _bits_and_boxes(first, first_count)
    bits_p, boxes_p = _bits_and_boxes(second, second_count)
    corner_gp2 = np.maximum(boxes_g[:, None, :2], boxes_p[None, :, :2])
    end_gp2 = np.minimum(boxes_g[:, None, 2:], boxes_p[None, :, 2:])
    shared_gp = np.zeros((len(bits_g), len(bits_p)), dtype=np.int64)
    for g, p in np.argwhere((end_gp2 > corner_gp2).all(axis=2)):
        (x0, y0), (x1, y1) = corner_gp2[g, p], end_gp2[g, p]
        crop = np.s_[y0:y1, x0 // 8 : (x1 + 7) // 8]
        shared_gp[g, p] = _count_bits(bits_g[g][crop] & bits_p[p][crop])
    return Overlaps(shared_gp, _areas(bits_g, boxes_g), _areas(bits_p, boxes_p))


def tight_boxes(masks: LabelMap | PackedMasks, count: int) -> IntArray:
    """``int64[N, 4]``: x0, y0 and one past x1, y1 of each mask; zeros when empty. Never unpacks packed masks."""
    return _bits_and_boxes(masks, count)[1]


def _bits_and_boxes(masks: LabelMap | PackedMasks, count: int) -> tuple[NDArray[np.uint8], IntArray]:
    packed = masks if isinstance(masks, PackedMasks) else pack_masks(masks.masks_nhw(count).cpu())
    bits = packed.bits.cpu().numpy()
    if not len(bits):
        return bits, np.zeros((0, 4), dtype=np.int64)
    columns: NDArray[np.bool_] = np.unpackbits(np.bitwise_or.reduce(bits, axis=1), axis=1, count=packed.width).astype(
        bool
    )
    rows: NDArray[np.bool_] = np.logical_or.reduce(bits, axis=2)
    boxes = np.stack([columns.argmax(1), rows.argmax(1), _end(columns), _end(rows)], axis=1)
    return bits, boxes * rows.any(axis=1, keepdims=True)


def _end(occupied_nl: NDArray[np.bool_]) -> IntArray:
    """One past the last True of each row."""
    end_n: IntArray = occupied_nl.shape[1] - occupied_nl[:, ::-1].argmax(axis=1)
    return end_n


def _areas(bits: NDArray[np.uint8], boxes: IntArray) -> IntArray:
    crops = (mask[y0:y1, x0 // 8 : (x1 + 7) // 8] for mask, (x0, y0, x1, y1) in zip(bits, boxes, strict=True))
    return np.array([_count_bits(crop) for crop in crops], dtype=np.int64)


def _count_bits(bits: NDArray[np.uint8]) -> int:
    # np.bitwise_count needs NumPy 2; Python's own counts a long integer at once.
    return int.from_bytes(bits.tobytes(), "little").bit_count()
