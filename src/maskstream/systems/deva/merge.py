"""Joining what is propagated with what is detected (DEVA §3.2.2; specification §8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from maskstream.types import Proposals, joint_histogram, resize_masks

GROUPS: tuple[bool | None, ...] = (None, False, True)
"""Unknown, stuff, thing: only segments of one group match, and a later group is painted over an earlier one."""


@dataclass(frozen=True, slots=True, eq=False)
class Merge:
    """N objects joined with M proposals.

    Attributes:
        label_map: ``int32[h, w]``, 0 or n: objects are 1…N, and the k-th unmatched proposal is N + k.
        object_of_proposal: ``M`` positions in the objects (from 0), or None for a new object.
        new: positions of the unmatched proposals, in the order of their labels.
    """

    label_map: Tensor = field(repr=False)
    object_of_proposal: tuple[int | None, ...]
    new: tuple[int, ...]


def merge(
    objects_hw: Tensor,
    object_groups: Sequence[bool | None],
    proposals_hw: Tensor,
    proposal_groups: Sequence[bool | None],
    *,
    priorities: Sequence[float] = (),
    room: int | None = None,
    iou_threshold: float = 0.5,
    part_threshold: float | None = None,
) -> Merge:
    """Match proposals to propagated objects and paint both into one label map.

    Inside a group, a proposal and an object whose IoU exceeds the threshold are one: the region is their union.
    Everything else stays as it is. Groups are painted unknown, stuff, thing; inside a group large before small.

    Args:
        objects_hw: ``int32[h, w]``, propagated objects 1…N.
        object_groups: ``is_thing`` of each object.
        proposals_hw: ``int32[h, w]``, proposals 1…M; one without a pixel is ignored.
        proposal_groups: ``is_thing`` of each proposal.
        priorities: which unmatched proposals to prefer when ``room`` is short (M values, higher first; equal ones and
            by default all: the larger area first).
        room: how many new objects may be added; None for any number. Matching is never refused.
        iou_threshold: IoU must be greater; at 0.5 or above a proposal has one match at most, as regions are disjoint.
        part_threshold: a proposal of which a greater fraction lies within one object is a part of it, and matches it
            too (not in the paper, where detections are whole objects); None, or 0.5 and above.

    Returns:
        The merged label map and which proposal became which object.
    """
    n, m = len(object_groups), len(proposal_groups)
    joint = joint_histogram(objects_hw, n, proposals_hw, m)
    object_area, proposal_area = joint.sum(1)[1:], joint.sum(0)[1:]
    intersection = joint[1:, 1:]
    iou = intersection / (object_area[:, None] + proposal_area[None, :] - intersection).clamp_min(1)
    same_group = torch.tensor(
        [[group == other for other in proposal_groups] for group in object_groups], dtype=torch.bool
    ).view(n, m)
    matching = iou > iou_threshold
    if part_threshold is not None:
        matching |= intersection > part_threshold * proposal_area
    matches = torch.nonzero(matching & same_group.to(iou.device)).tolist()

    object_of_proposal: list[int | None] = [None] * m
    sort_area = [*object_area.tolist(), *[0] * m]
    for o, p in matches:
        object_of_proposal[p] = o
        sort_area[o] += int(proposal_area[p] - intersection[o, p])

    preference = priorities or [0.0] * m
    unmatched = [p for p in range(m) if object_of_proposal[p] is None and proposal_area[p] > 0]
    unmatched.sort(key=lambda p: (-preference[p], -int(proposal_area[p]), p))
    new = tuple(sorted(unmatched[:room]))

    # Every region gets its place in the painting order; a pixel goes to whichever of its two regions is painted last.
    region_of_proposal = [object_of_proposal[p] for p in range(m)]
    groups = list(object_groups)
    for k, p in enumerate(new):
        region_of_proposal[p] = n + k
        sort_area[n + k] = int(proposal_area[p])
        groups.append(proposal_groups[p])
    order = sorted(range(len(groups)), key=lambda r: (GROUPS.index(groups[r]), -sort_area[r], r))
    place = {region: position for position, region in enumerate(order, start=1)}
    device = objects_hw.device
    place_of_object = torch.tensor([0, *(place[o] for o in range(n))], dtype=torch.int32, device=device)
    place_of_proposal = torch.tensor(
        [0, *(0 if r is None else place[r] for r in region_of_proposal)], dtype=torch.int32, device=device
    )
    label_of_place = torch.tensor([0, *(region + 1 for region in order)], dtype=torch.int32, device=device)
    painted = torch.maximum(place_of_object[objects_hw], place_of_proposal[proposals_hw])
    return Merge(label_of_place[painted], tuple(object_of_proposal), new)


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
