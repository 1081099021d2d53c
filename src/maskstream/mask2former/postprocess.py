"""Regions from what queries answer (MaskFormer, Cheng et al., NeurIPS 2021, §3.4, A.1; Mask2Former; Tube-Link, §6).

    class logits [Q, K + 1] ───┬─► panoptic: in every frame each pixel to the query that is surest of it, no overlap
    mask logits [Q, T, h, w] ──┤   instance: each query by itself, masks may overlap
                               └─► semantic: in every frame each pixel to the class that all queries are surest of

A query has one class in the whole clip. With one frame this is the inference of pictures. Masks are brought to the
size of the network's input first, what was padded is cut off, and the rest is brought to the size of the source: one
frame at a time, and of that a few masks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from maskstream.types import resize_masks

MIN_SCORE = 0.8
"""Class score that a panoptic segment must exceed, as published."""

MIN_VISIBLE = 0.8
"""A panoptic segment that keeps less than this share of its mask, the rest being others', is dropped."""

AT_ONCE = 16
"""Masks that are brought to the size of the input or of the source at a time."""


@dataclass(frozen=True, slots=True)
class FrameSizes:
    """What became of a frame on its way into the network.

    Attributes:
        source_hw: of the frame.
        content_hw: the frame as the network saw it, without padding.
        padded_hw: of the network's input; what was padded is at the right and at the bottom.
    """

    source_hw: tuple[int, int]
    content_hw: tuple[int, int]
    padded_hw: tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class PanopticClip:
    """S disjoint segments of a clip, the surest first.

    Attributes:
        segments_thw: ``int32[T, H, W]``: 0 where nothing is, n on the n-th segment (from 1).
        queries_s: ``int64[S]``; of stuff that several queries found, the surest.
        classes_s: ``int64[S]``.
        scores_s: ``float[S]``.
    """

    segments_thw: Tensor = field(repr=False)
    queries_s: Tensor
    classes_s: Tensor
    scores_s: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class InstanceClip:
    """N instances of a clip, which may overlap, the surest first.

    Attributes:
        masks_nthw: ``bool[N, T, H, W]``.
        queries_n: ``int64[N]``; a query may be there several times, with different classes.
        classes_n: ``int64[N]``.
        scores_n: ``float[N]``.
    """

    masks_nthw: Tensor = field(repr=False)
    queries_n: Tensor
    classes_n: Tensor
    scores_n: Tensor


@torch.no_grad()
def panoptic(
    classes_qc: Tensor,
    masks_qthw: Tensor,
    sizes: FrameSizes,
    *,
    stuff_k: Tensor | None = None,
    min_score: float = MIN_SCORE,
    min_visible: float = MIN_VISIBLE,
    sure_only: bool = True,
) -> PanopticClip:
    """Disjoint regions (MaskFormer, §3.4, "general inference", and A.1; Tube-Link, specification §6, VPS.3).

    Queries that are sure of a class compete for every pixel by class score times mask probability. What a query wins of
    a frame is its region there where its own mask says so too, unless it lost too much of that mask in that frame.
    Regions of one class of stuff are one segment.

    Args:
        classes_qc: ``float[Q, K + 1]``, logits; the last class is "nothing".
        masks_qthw: ``float[Q, T, h, w]``, logits, of the padded input.
        sizes: of the frames.
        stuff_k: ``bool[K]``, classes whose regions are joined; None: no class.
        min_score: class score that a query must exceed.
        min_visible: least area won in a frame, as a share of the query's own mask there.
        sure_only: leave pixels to nobody where the winner's own probability is below 0.5 (``filter_low_score``).
    """
    scores_q, labels_q = classes_qc.float().softmax(-1).max(-1)
    queries_n = by_score(scores_q, (labels_q < classes_qc.shape[1] - 1) & (scores_q > min_score))
    clip_thw = torch.zeros((masks_qthw.shape[1], *sizes.source_hw), dtype=torch.int32, device=masks_qthw.device)
    found_n = torch.zeros(len(queries_n), dtype=torch.bool, device=masks_qthw.device)
    for frame_hw, masks_qhw in zip(clip_thw, masks_qthw.unbind(1), strict=True):
        owner_hw, sure_hw, area_n = _contest(masks_qhw, queries_n, scores_q, sizes)
        won_n = torch.bincount(owner_hw.flatten(), minlength=1 + len(queries_n))[1:]
        region_hw = torch.where(sure_hw, owner_hw, 0) if sure_only else owner_hw
        painted_n = torch.bincount(region_hw.flatten(), minlength=1 + len(queries_n))[1:]
        keeps_n = (painted_n > 0) & (area_n > 0) & (won_n >= min_visible * area_n)
        found_n |= keeps_n
        numbers_n = torch.arange(1, 1 + len(queries_n), device=keeps_n.device) * keeps_n
        frame_hw.copy_(F.pad(numbers_n, (1, 0))[region_hw])
    first_s, numbers_n = _joined(labels_q[queries_n], found_n, stuff_k)
    queries_s = queries_n[first_s]
    segments_thw = F.pad(numbers_n, (1, 0)).to(torch.int32)[clip_thw]
    return PanopticClip(segments_thw, queries_s, labels_q[queries_s], scores_q[queries_s])


@torch.no_grad()
def instances(
    classes_qc: Tensor,
    masks_qthw: Tensor,
    sizes: FrameSizes,
    *,
    things_k: Tensor | None = None,
    min_score: float = 0.0,
    count: int | None = None,
) -> InstanceClip:
    """Regions that may overlap (Mask2Former's instance inference).

    The score is that of the class times the mean probability inside the mask, over all frames. One query may stand for
    several classes when none of them is sure. What is empty in the whole clip is left out.

    Args:
        classes_qc: ``float[Q, K + 1]``, logits; the last class is "nothing".
        masks_qthw: ``float[Q, T, h, w]``, logits, of the padded input.
        sizes: of the frames.
        things_k: ``bool[K]``, classes that are wanted; None: all.
        min_score: least score.
        count: most pairs of query and class, the surest of their classes among all; None: as many as there are queries.
    """
    scores_qk = classes_qc.float().softmax(-1)[:, :-1]
    classes, frames = scores_qk.shape[1], masks_qthw.shape[1]
    scores_n, flat_n = scores_qk.flatten().topk(min(count or len(scores_qk), scores_qk.numel()))
    # A mask's mean probability is at most 1: what its class alone rules out need not be brought to full size.
    possible_n = scores_n >= min_score
    if things_k is not None:
        possible_n &= things_k[flat_n % classes]
    scores_n, flat_n = scores_n[possible_n], flat_n[possible_n]
    queries_n, labels_n = flat_n // classes, flat_n % classes
    together = max(AT_ONCE // frames, 1)
    kept: list[Tensor] = []
    for first in range(0, len(queries_n), together):
        part = slice(first, first + together)
        logits_nthw = torch.stack([at_source(m, sizes) for m in masks_qthw[queries_n[part]].unbind(1)], 1)
        masks_nthw = logits_nthw > 0
        area_n = masks_nthw.sum((1, 2, 3))
        inside_n = (logits_nthw.sigmoid() * masks_nthw).sum((1, 2, 3)) / area_n.clamp_min(1)
        scores_n[part] = torch.where(area_n > 0, scores_n[part] * inside_n, -1)
        kept += masks_nthw[scores_n[part] >= max(min_score, 0)].unbind()
    wanted_n = scores_n >= max(min_score, 0)
    order_n = by_score(scores_n, wanted_n)
    place_n = wanted_n.cumsum(0) - 1
    masks = [kept[n] for n in place_n[order_n].tolist()]
    masks_nthw = torch.stack(masks) if masks else classes_qc.new_zeros((0, frames, *sizes.source_hw), dtype=torch.bool)
    return InstanceClip(masks_nthw, queries_n[order_n], labels_n[order_n], scores_n[order_n])


@torch.no_grad()
def semantic(classes_qc: Tensor, masks_qthw: Tensor, sizes: FrameSizes) -> tuple[Tensor, Tensor]:
    """The class of every pixel (MaskFormer, §3.4, "semantic inference"; Tube-Link, specification §6, VSS).

    Args:
        classes_qc: ``float[Q, K + 1]``, logits; the last class is "nothing".
        masks_qthw: ``float[Q, T, h, w]``, logits, of the padded input.
        sizes: of the frames.

    Returns:
        The class ``int64[T, H, W]`` of which Σ over queries of class probability times mask probability is greatest,
        and that sum ``float[T, H, W]``.
    """
    height, width = sizes.content_hw
    frames = [
        surest_class(class_values(classes_qc, masks_qhw, sizes.padded_hw)[:, :height, :width], sizes.source_hw)
        for masks_qhw in masks_qthw.unbind(1)
    ]
    labels, values = zip(*frames, strict=True)
    return torch.stack(labels), torch.stack(values)


def class_values(
    classes_qc: Tensor, masks_qhw: Tensor, size_hw: tuple[int, int], *, wanted: Sequence[int] | None = None
) -> Tensor:
    """``float[K, H, W]``: Σ over queries of class probability times mask probability, of one frame.

    Args:
        classes_qc: ``float[Q, K + 1]``, logits.
        masks_qhw: ``float[Q, h, w]``, logits.
        size_hw: size at which masks become probabilities.
        wanted: classes; None: all, in their order.
    """
    scores_qk = classes_qc.float().softmax(-1)[:, :-1]
    if wanted is not None:
        scores_qk = scores_qk[:, wanted]
    probability_qhw = resized(masks_qhw.float(), size_hw).sigmoid_()
    return torch.einsum("qc,qhw->chw", scores_qk, probability_qhw)


def surest_class(values_khw: Tensor, size_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Of every pixel the class with the greatest value, ``int64[H, W]``, and that value, ``float[H, W]``.

    Args:
        values_khw: ``float[K, h, w]``, not negative.
        size_hw: size wanted; a few classes at a time are brought to it.
    """
    if tuple(values_khw.shape[1:]) == size_hw:  # nothing to bring to another size
        best_hw, labels_hw = values_khw.max(0)
        return labels_hw, best_hw
    best_hw = torch.full(size_hw, -1.0, device=values_khw.device)
    labels_hw = torch.zeros(size_hw, dtype=torch.long, device=values_khw.device)
    for first in range(0, len(values_khw), AT_ONCE):
        value_hw, label_hw = resized(values_khw[first : first + AT_ONCE], size_hw).max(0)
        wins = value_hw > best_hw
        best_hw = torch.where(wins, value_hw, best_hw)
        labels_hw = torch.where(wins, label_hw + first, labels_hw)
    return labels_hw, best_hw


def resized(values_nhw: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Bilinear without averaging where it shrinks, as published."""
    return F.interpolate(values_nhw[None], size_hw, mode="bilinear", align_corners=False)[0]


def at_input(masks_nhw: Tensor, sizes: FrameSizes) -> Tensor:
    """Masks at the size of the padded input, ``float[N, H, W]``; what is thin does not vanish.

    Args:
        masks_nhw: ``bool[N, H, W]``, at the size of the source.
        sizes: of the frame.
    """
    soft_nhw = resize_masks(masks_nhw, sizes.content_hw)
    if len(soft_nhw):
        soft_nhw = soft_nhw / soft_nhw.amax((1, 2), keepdim=True).clamp(min=1e-6)
    bottom, right = (padded - side for padded, side in zip(sizes.padded_hw, sizes.content_hw, strict=True))
    return F.pad(soft_nhw, (0, right, 0, bottom))


def at_source(logits_nhw: Tensor, sizes: FrameSizes) -> Tensor:
    """Masks at the size of the source: padding is cut off at the size of the input.

    Args:
        logits_nhw: ``float[N, h, w]``, of the padded input.
        sizes: of the frame.
    """
    height, width = sizes.content_hw
    return resized(resized(logits_nhw.float(), sizes.padded_hw)[:, :height, :width], sizes.source_hw)


def owners(logits_nhw: Tensor, weights_n: Tensor, sizes: FrameSizes) -> tuple[Tensor, Tensor]:
    """Every pixel to the mask that has it with the greatest weight times logit (UniVS, §9.3; TarViS, §9.5).

    Args:
        logits_nhw: ``float[N, h, w]``, of the padded input.
        weights_n: ``float[N]``, positive.
        sizes: of the frame.

    Returns:
        ``int64[H, W]``, n for the n-th mask (from 1), 0 for nobody; and ``int64[N]``, how large each mask is.
    """
    best_hw = torch.zeros(sizes.source_hw, device=logits_nhw.device)
    owner_hw = torch.zeros(sizes.source_hw, dtype=torch.long, device=logits_nhw.device)
    areas = [owner_hw.new_zeros(0)]
    for first in range(0, len(logits_nhw), AT_ONCE):
        part_nhw = at_source(logits_nhw[first : first + AT_ONCE], sizes)
        areas.append((part_nhw > 0).sum((1, 2)))
        weights = weights_n[first : first + AT_ONCE].to(part_nhw)
        value_hw, winner_hw = (weights[:, None, None] * part_nhw).max(0)
        wins = value_hw > best_hw
        best_hw = torch.where(wins, value_hw, best_hw)
        owner_hw = torch.where(wins, winner_hw + first + 1, owner_hw)
    return owner_hw, torch.cat(areas)


def masks_at_source(logits_nhw: Tensor, sizes: FrameSizes) -> Tensor:
    """``bool[N, H, W]``, each mask by itself.

    Args:
        logits_nhw: ``float[N, h, w]``, of the padded input.
        sizes: of the frame.
    """
    parts = [at_source(logits_nhw[n : n + AT_ONCE], sizes) > 0 for n in range(0, len(logits_nhw), AT_ONCE)]
    nothing = torch.zeros((0, *sizes.source_hw), dtype=torch.bool, device=logits_nhw.device)
    return torch.cat([nothing, *parts])


def by_score(scores_n: Tensor, wanted_n: Tensor) -> Tensor:
    """Positions of those that are wanted, the highest score first; of equal ones the first."""
    order_n = scores_n.argsort(descending=True, stable=True)
    return order_n[wanted_n[order_n]]


def _contest(
    masks_qhw: Tensor, queries_n: Tensor, scores_q: Tensor, sizes: FrameSizes
) -> tuple[Tensor, Tensor, Tensor]:
    """Who wins each pixel of a frame: n for the n-th query (from 1), 0 nobody; is it at least 0.5; areas of masks."""
    best_hw = torch.zeros(sizes.source_hw, device=masks_qhw.device)
    owner_hw = torch.zeros(sizes.source_hw, dtype=torch.long, device=masks_qhw.device)
    sure_hw = torch.zeros(sizes.source_hw, dtype=torch.bool, device=masks_qhw.device)
    areas: list[Tensor] = [queries_n.new_zeros(0)]
    for first, logits_nhw in _logits_at_source(masks_qhw, queries_n, sizes):
        probability_nhw = logits_nhw.sigmoid()
        masks_nhw = probability_nhw >= 0.5
        areas.append(masks_nhw.sum((1, 2), dtype=torch.int32))
        weights_n = scores_q[queries_n[first : first + len(logits_nhw)]]
        value_hw, winner_hw = (weights_n[:, None, None] * probability_nhw).max(0)
        wins = value_hw > best_hw
        best_hw = torch.where(wins, value_hw, best_hw)
        owner_hw = torch.where(wins, winner_hw + first + 1, owner_hw)
        sure_hw = torch.where(wins, masks_nhw.gather(0, winner_hw[None])[0], sure_hw)
    return owner_hw, sure_hw, torch.cat(areas)


def _joined(labels_n: Tensor, found_n: Tensor, stuff_k: Tensor | None) -> tuple[Tensor, Tensor]:
    """The first query of each segment ``[S]``; the segment, from 1, of each query that was found ``[N]``, else 0."""
    stuff = set() if stuff_k is None else set(stuff_k.nonzero()[:, 0].tolist())
    first: list[int] = []
    numbers = [0] * len(labels_n)
    joined: dict[int, int] = {}
    for n in found_n.nonzero()[:, 0].tolist():
        label = int(labels_n[n])
        if label not in joined:
            first.append(n)
        numbers[n] = joined.get(label, len(first))
        if label in stuff:
            joined[label] = numbers[n]
    return labels_n.new_tensor(first), labels_n.new_tensor(numbers)


def _logits_at_source(masks_qhw: Tensor, queries_n: Tensor, sizes: FrameSizes) -> Iterator[tuple[int, Tensor]]:
    """Mask logits ``float[n, H, W]`` of some queries, a few at a time, each time with the position of the first."""
    for first in range(0, len(queries_n), AT_ONCE):
        yield first, at_source(masks_qhw[queries_n[first : first + AT_ONCE]], sizes)
