"""What people draw: masks from polygons, the exact outline of a mask, and frames put together from pieces."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from torch import Tensor

from maskstream.types import RLE, FrameAnnotation, FrameSegmentation, Segment, decode_rle


def joined(index: int, size_hw: tuple[int, int], pieces: Iterable[tuple[Segment, Tensor]]) -> FrameAnnotation:
    """A frame from pieces; those of one id are one object, described by the first of them.

    Args:
        index: of the frame.
        size_hw: its height and width.
        pieces: what each is, and its ``bool[H, W]``.
    """
    masks: dict[int, Tensor] = {}
    segments: dict[int, Segment] = {}
    for segment, mask in pieces:
        known = segments.setdefault(segment.id, segment)
        masks[segment.id] = mask if known is segment else masks[segment.id] | mask
    stack = torch.stack(list(masks.values())) if masks else torch.zeros((0, *size_hw), dtype=torch.bool)
    return FrameAnnotation(FrameSegmentation.from_masks(index, tuple(segments.values()), stack))


def polygon_mask(points: NDArray[np.float64], size_hw: tuple[int, int]) -> Tensor:
    """The pixels inside a polygon, as pycocotools finds them: where its edges cross it counts even and odd.

    Args:
        points: ``float[N, 2]``, x and y in pixels; the corner of the picture is (0, 0), not its first pixel's centre.
        size_hw: height and width of the picture. What lies beyond it is cut off.

    Returns:
        ``bool[H, W]``; empty for fewer than three points.
    """
    height, width = size_hw
    # pycocotools takes a list of four numbers for a box.
    codes = coco_mask.frPyObjects([points.ravel().tolist()], height, width) if len(points) > 2 else []
    return decode_rle([RLE(size=[height, width], counts=code["counts"]) for code in codes], size_hw).any(0)


def outline(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """One polygon along the edges of the pixels of a mask, so that `polygon_mask` gives back the mask exactly.

    Parts and holes are hung on by a bridge of no width, there and back between the nearest corners: inside and
    outside are told apart by even and odd.

    Args:
        mask: ``bool[H, W]``.

    Returns:
        ``int32[N, 2]``, x and y; nothing for an empty mask.
    """
    # Every pixel as two by two: the border pixels that OpenCV gives then tell on which side of the pixel they are.
    doubled = mask.astype(np.uint8).repeat(2, 0).repeat(2, 1)
    found, _ = cv2.findContours(doubled, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    loops = [_corners(((loop[:, 0] + 1) // 2).astype(np.int32)) for loop in sorted(found, key=len, reverse=True)]
    if not loops:
        return np.zeros((0, 2), np.int32)
    polygon = loops[0]
    for loop in loops[1:]:
        squared = ((polygon[:, None] - loop[None]) ** 2).sum(2)
        here, there = np.unravel_index(int(squared.argmin()), squared.shape)
        turned = np.roll(loop, -int(there), axis=0)
        polygon = np.concatenate([polygon[: here + 1], turned, turned[:1], polygon[here:]])
    return polygon


def _corners(loop: NDArray[np.int32]) -> NDArray[np.int32]:
    """A closed loop without its repeated points."""
    distinct: NDArray[np.int32] = loop[(loop != np.roll(loop, 1, axis=0)).any(1)]
    return distinct
