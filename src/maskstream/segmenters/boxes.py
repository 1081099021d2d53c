"""Boxes: what detectors find, and which of several on one thing is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from maskstream.types import Frame


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """N boxes of one picture, the surest first.

    Attributes:
        xyxy_n4: ``float32[N, 4]``, left, top, right and bottom edges in pixels of the source, inside the picture.
        scores_n: ``float32[N]``, confidence in [0, 1].
        phrases_n: ``int64[N]``, position of the phrase each is an answer to.
    """

    xyxy_n4: Tensor
    scores_n: Tensor
    phrases_n: Tensor

    def __len__(self) -> int:
        return len(self.scores_n)


class Detector(Protocol):
    """Finds what phrases name."""

    def detect(self, frame: Frame, phrases: Sequence[str]) -> Boxes:
        """All that any of the phrases names.

        Args:
            frame: the picture.
            phrases: what to look for, at least one.

        Raises:
            InputError: a phrase is empty, or too long for the model.
        """


def box_nms(boxes_n4: Tensor, scores_n: Tensor, max_iou: float) -> Tensor:
    """Non-maximum suppression: of boxes that overlap more than this, only the one with the highest score stays.

    Args:
        boxes_n4: ``float[N, 4]``, left, top, right, bottom.
        scores_n: ``float[N]``; of equal ones the earlier comes first.
        max_iou: highest intersection over union of two boxes that both stay.

    Returns:
        ``int64[K]``, positions of those that stay, the highest score first.
    """
    areas_n = (boxes_n4[:, 2:] - boxes_n4[:, :2]).prod(1)
    kept = []
    rest = scores_n.argsort(descending=True, stable=True)
    while len(rest):
        best, rest = rest[0], rest[1:]
        kept.append(best)
        sides = torch.minimum(boxes_n4[best, 2:], boxes_n4[rest, 2:]) - torch.maximum(
            boxes_n4[best, :2], boxes_n4[rest, :2]
        )
        shared = sides.clamp_min(0).prod(1)
        rest = rest[~(shared > max_iou * (areas_n[best] + areas_n[rest] - shared))]
    return torch.stack(kept) if kept else rest


def chosen(xyxy_n4: Tensor, scores_n: Tensor, phrases_n: Tensor, *, max_iou: float) -> Boxes:
    """What a detector found, without boxes that lie outside the picture and those that `box_nms` drops."""
    inside = (xyxy_n4[:, 2:] > xyxy_n4[:, :2]).all(1)
    xyxy_n4, scores_n, phrases_n = xyxy_n4[inside], scores_n[inside], phrases_n[inside]
    kept = box_nms(xyxy_n4, scores_n, max_iou)
    return Boxes(xyxy_n4[kept], scores_n[kept], phrases_n[kept])


def finished(centred_n4: Tensor, scale_wh: tuple[float, float], size_hw: tuple[int, int]) -> Tensor:
    """Boxes as networks give them to boxes as we do.

    Args:
        centred_n4: ``float[N, 4]``, centre x, centre y, width, height as fractions of what the network saw.
        scale_wh: how many pixels of the source a fraction of one is.
        size_hw: of the source; boxes are cut to it.

    Returns:
        ``float32[N, 4]``, see `Boxes`.
    """
    centre, half = centred_n4[:, :2], centred_n4[:, 2:] / 2
    corners = torch.cat([centre - half, centre + half], 1).float() * centred_n4.new_tensor(scale_wh * 2).float()
    limits = corners.new_tensor((size_hw[1], size_hw[0]) * 2)
    return corners.clamp_min(0).minimum(limits)
