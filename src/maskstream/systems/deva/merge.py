"""Joining what is propagated with what is detected (DEVA §3.2.2; specification §8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from maskstream.types import LabelMap, mask_overlaps

Fused: TypeAlias = Literal["union", "detection"]

GROUPS: tuple[bool | None, ...] = (None, False, True)
"""Unknown, stuff, thing: only segments of one group match, and a later group is painted over an earlier one."""


@dataclass(frozen=True, slots=True, eq=False)
class Merge:
    """N objects joined with M proposals.

    Attributes:
        label_map: ``int32[h, w]``, 0 or n: objects are 1…N, and the k-th unmatched proposal is N + k.
        object_of_proposal: ``M`` positions in the objects (from 0), or None for a new object.
        iou_of_proposal: of each proposal with its object; 0 for a new one.
        new: positions of the unmatched proposals, in the order of their labels.
        refused: positions of the unmatched proposals for which there was no room.
    """

    label_map: Tensor = field(repr=False)
    object_of_proposal: tuple[int | None, ...]
    iou_of_proposal: tuple[float, ...]
    new: tuple[int, ...]
    refused: tuple[int, ...]


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
    fused: Fused = "union",
) -> Merge:
    """Match proposals to propagated objects and paint both into one label map.

    Inside a group, a proposal and an object whose IoU exceeds the threshold are one: the region is their union.
    Everything else stays as it is. Groups are painted unknown, stuff, thing; inside a group large before small, and of
    the same size those with a proposal first, in the order of the proposals.

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
        fused: what an object becomes that matches: the "union" of both (eq. 9), or the "detection" alone, where
            detections draw outlines better than propagation does. What only has parts is not drawn anew by them.

    Returns:
        The merged label map and which proposal became which object.
    """
    n, m = len(object_groups), len(proposal_groups)
    overlaps = mask_overlaps(LabelMap(objects_hw), n, LabelMap(proposals_hw), m)
    shared_nm, object_area, proposal_area = overlaps.shared_gp, overlaps.areas_g.tolist(), overlaps.areas_p.tolist()
    iou_nm = overlaps.iou_gp()
    matching_nm = iou_nm > iou_threshold
    if part_threshold is not None:
        matching_nm |= shared_nm > part_threshold * overlaps.areas_p
    same_group_nm = [[group == other for other in proposal_groups] for group in object_groups]
    matching_nm &= np.array(same_group_nm, dtype=np.bool_).reshape(n, m)

    matches = np.argwhere(matching_nm).tolist()
    drawn_anew = {o for o, p in matches if fused == "detection" and iou_nm[o, p] > iou_threshold}
    object_of_proposal: list[int | None] = [None] * m
    iou_of_proposal = [0.0] * m
    sort_area = [0 if o in drawn_anew else area for o, area in enumerate(object_area)]
    for o, p in matches:
        object_of_proposal[p] = o
        iou_of_proposal[p] = float(iou_nm[o, p])
        sort_area[o] += proposal_area[p] - (0 if o in drawn_anew else int(shared_nm[o, p]))

    preference = priorities or [0.0] * m
    unmatched = [p for p in range(m) if object_of_proposal[p] is None and proposal_area[p] > 0]
    unmatched.sort(key=lambda p: (-preference[p], -proposal_area[p], p))
    new = tuple(sorted(unmatched[:room]))
    refused = () if room is None else tuple(sorted(unmatched[room:]))

    region_of_proposal = object_of_proposal.copy()
    for region, p in enumerate(new, start=n):
        region_of_proposal[p] = region
    sort_area += [proposal_area[p] for p in new]
    groups = [*object_groups, *(proposal_groups[p] for p in new)]
    proposal_of_region = {region: p for p, region in enumerate(region_of_proposal)}
    turn = [proposal_of_region.get(region, m + region) for region in range(len(groups))]
    order = sorted(range(len(groups)), key=lambda r: (GROUPS.index(groups[r]), -sort_area[r], turn[r]))
    kept = [None if o in drawn_anew else o for o in range(n)]
    label_map = paint([objects_hw, proposals_hw], [kept, region_of_proposal], order)
    return Merge(label_map, tuple(object_of_proposal), tuple(iou_of_proposal), new, refused)


def paint(maps_hw: Sequence[Tensor], region_of_label: Sequence[Sequence[int | None]], order: Sequence[int]) -> Tensor:
    """Paint regions one over the other, each made of labels of several maps.

    Args:
        maps_hw: ``int32[h, w]`` each, 0 or n on its n-th label (from 1).
        region_of_label: for each map the region (from 0) of its first label, its second …; None for one not painted.
        order: the regions as they are painted, the last on top.

    Returns:
        ``int32[h, w]``, 0 or r + 1 on region r.
    """
    device = maps_hw[0].device
    place = {region: position for position, region in enumerate(order, start=1)}
    painted = torch.zeros(maps_hw[0].numel(), dtype=torch.int32, device=device)
    for map_hw, regions in zip(maps_hw, region_of_label, strict=True):
        places = [0, *(0 if region is None else place[region] for region in regions)]
        place_of_label = torch.tensor(places, dtype=torch.int32, device=device)
        # A pixel goes to whichever of its regions is painted last.
        torch.maximum(painted, place_of_label.index_select(0, map_hw.flatten()), out=painted)
    label_of_place = torch.tensor([0, *(region + 1 for region in order)], dtype=torch.int32, device=device)
    return label_of_place.index_select(0, painted).view_as(maps_hw[0])
