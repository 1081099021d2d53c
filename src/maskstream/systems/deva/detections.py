"""What image-level models found, made ready to be merged: of one frame, or what a clip of frames agrees on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TypeAlias

import torch
from torch import Tensor

from maskstream.types import LabelMap, Proposals, resize_masks

from .consensus import ALPHA, consensus, pairwise_iou
from .merge import paint

Vote: TypeAlias = tuple[int | None, float | None]
"""Category and score that one proposal gives; None says nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """M disjoint regions of one frame.

    Attributes:
        label_map: ``int32[h, w]``, 0 or m on the m-th (from 1).
        groups: ``is_thing`` of each.
        votes: of each, one for every proposal that stands behind it.
    """

    label_map: Tensor = field(repr=False)
    groups: tuple[bool | None, ...]
    votes: tuple[tuple[Vote, ...], ...]

    def __len__(self) -> int:
        return len(self.groups)

    @property
    def scores(self) -> list[float]:
        """Mean score of each; 0 where none is known."""
        known = ([score for _, score in votes if score is not None] for votes in self.votes)
        return [fmean(scores) if scores else 0.0 for scores in known]

    def divided(self, score: float) -> tuple[Detections, Detections]:
        """Those with at least this score, or without any, and the others."""
        unscored = [all(given is None for _, given in votes) for votes in self.votes]
        is_sure = [none or mean >= score for none, mean in zip(unscored, self.scores, strict=True)]
        return self._only(is_sure), self._only([not sure for sure in is_sure])

    def _only(self, keep: Sequence[bool]) -> Detections:
        if all(keep):
            return self
        chosen = [n for n, kept in enumerate(keep) if kept]
        kept_labels = [0, *(chosen.index(n) + 1 if kept else 0 for n, kept in enumerate(keep))]
        label_of = torch.tensor(kept_labels, dtype=torch.int32, device=self.label_map.device)
        label_map = label_of.index_select(0, self.label_map.flatten()).view_as(self.label_map)
        return Detections(label_map, tuple(self.groups[n] for n in chosen), tuple(self.votes[n] for n in chosen))

    @classmethod
    def of_frame(cls, proposals: Proposals, size_hw: tuple[int, int]) -> Detections:
        """All proposals of one frame, as they are."""
        votes = tuple((vote,) for vote in zip(proposals.categories, proposals.scores, strict=True))
        return cls(render_proposals(proposals, size_hw), proposals.is_thing, votes)


def agreed(clip: Sequence[Detections], *, alpha: float = ALPHA) -> tuple[Detections, bool]:
    """What the frames of a clip agree on (DEVA §3.2.1; specification §7, steps 3 to 5).

    A chosen region inherits the votes of all that support it. Chosen ones are painted large before small.

    Args:
        clip: of every frame, aligned to the key frame, which comes first.
        alpha: see `consensus`.

    Returns:
        The detections of the key frame, and whether the choice is exact.
    """
    counts = [len(detections) for detections in clip]
    iou_pp, areas_p = pairwise_iou([LabelMap(detections.label_map) for detections in clip], counts)
    origin = [(frame, n) for frame, count in enumerate(counts) for n in range(count)]
    choice = consensus(
        iou_pp,
        [frame for frame, _ in origin],
        [clip[frame].groups[n] for frame, n in origin],
        areas_p=areas_p,
        alpha=alpha,
    )
    seen = [(p, by) for p, by in zip(choice.selected, choice.supporters, strict=True) if areas_p[p]]
    region_of = {origin[p]: region for region, (p, _) in enumerate(seen)}
    label_map = paint(
        [detections.label_map for detections in clip],
        [[region_of.get((frame, n)) for n in range(count)] for frame, count in enumerate(counts)],
        sorted(range(len(seen)), key=lambda region: -int(areas_p[seen[region][0]])),
    )
    votes = tuple(tuple(vote for q in (p, *by) for vote in clip[origin[q][0]].votes[origin[q][1]]) for p, by in seen)
    groups = tuple(clip[origin[p][0]].groups[origin[p][1]] for p, _ in seen)
    return Detections(label_map, groups, votes), choice.exact


def render_proposals(proposals: Proposals, size_hw: tuple[int, int]) -> Tensor:
    """Make proposals disjoint: painted by descending area, smaller on top (specification §10.1).

    Returns:
        ``int32[h, w]``, 0 or n on the n-th proposal (from 1).
    """
    masks_nhw = proposals.masks_nhw
    if masks_nhw.dtype != torch.bool or masks_nhw.shape[1:] != size_hw:
        masks_nhw = resize_masks(masks_nhw, size_hw) >= 0.5
    label_map = torch.zeros(size_hw, dtype=torch.int32, device=masks_nhw.device)
    areas = masks_nhw.sum(dim=(1, 2)).tolist()
    for position in sorted(range(len(areas)), key=lambda n: (-areas[n], n)):
        label_map[masks_nhw[position]] = position + 1
    return label_map
