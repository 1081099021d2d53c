"""Consensus with known association: one soft mask an object from several frames (DEVA specification §7.1, §11).

    m frames of the video ─► segmenter ─► soft masks, scores ─► key frame: the best score
                                                 │
                                     aligned to the key frame ─► Σ weight · mask ─► propagated from there

Which mask is of which object is known: each sentence has one, or there is one object only. So nothing is voted on; the
frames are averaged, the better ones counting more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from maskstream.types import Frame, Propagator, Proposals, resize_masks

from .alignment import Alignment, align

SURE = 0.8
"""Without scores the key frame is the one with the largest fraction of pixels above this probability."""


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """What a segmenter says of N objects on one frame.

    Attributes:
        frame: the frame.
        masks_nhw: ``float[N, h, w]`` in [0, 1] or ``bool``, at any resolution.
        scores: of each object, or None when nothing is known of any.
    """

    frame: Frame = field(repr=False)
    masks_nhw: Tensor = field(repr=False)
    scores: tuple[float, ...] | None


@dataclass(frozen=True, slots=True, eq=False)
class KeyMask:
    """Where an object is on its key frame.

    Attributes:
        frame_index: of the key frame.
        mask_hw: ``float[h, w]`` in [0, 1], at the propagator's resolution.
    """

    frame_index: int
    mask_hw: Tensor = field(repr=False)


def chosen_positions(count: int, wanted: int) -> list[int]:
    """Positions of ``wanted`` frames spread over ``count``, at most all: ⌊i·L/m⌋ + ⌊L/2m⌋.

    >>> chosen_positions(100, 10)
    [5, 15, 25, 35, 45, 55, 65, 75, 85, 95]
    >>> chosen_positions(3, 10)
    [0, 1, 2]
    """
    frames = min(wanted, count)
    return [i * count // frames + count // (2 * frames) for i in range(frames)]


def frame_weights(scores: Sequence[float] | None, count: int, *, compat: bool = False) -> list[float]:
    """How much each frame counts: the softmax of the scores.

    Args:
        scores: of each frame; None counts all alike.
        count: frames.
        compat: of twice the scores, as the authors' program does.
    """
    if scores is None:
        return [1 / count] * count
    exponents = [math.exp((2 if compat else 1) * (score - max(scores))) for score in scores]
    return [exponent / sum(exponents) for exponent in exponents]


def key_position(scores: Sequence[float] | None, masks: Sequence[Tensor]) -> int:
    """Which frame is the key frame: of the best score, or with the largest sure part; the first of those that tie."""
    worth = [float((mask > SURE).float().mean()) for mask in masks] if scores is None else scores
    return max(range(len(masks)), key=lambda i: worth[i])


def key_masks(
    sightings: Sequence[Sighting],
    propagator: Propagator[Any, Any],
    groups: Sequence[Sequence[int]],
    *,
    alignment: Alignment = "network",
    compat: bool = False,
) -> list[KeyMask]:
    """For each object its key frame, and the weighted mean of its masks there.

    The mean is not thresholded: where frames disagree it is uncertain, and the propagator decides.

    Args:
        sightings: of every chosen frame.
        propagator: aligns, and gives the resolution.
        groups: positions of objects that have one key frame together, by their mean score; in the paper each object
            has its own.
        alignment: how masks are brought to the key frame; see `alignment.align`.
        compat: see `frame_weights`.

    Returns:
        One for each position, group after group.
    """
    found = []
    for group in groups:
        scores = _mean_scores(sightings, group)
        key = key_position(scores, [sighting.masks_nhw[list(group)] for sighting in sightings])
        weights = frame_weights(scores, len(sightings), compat=compat)
        mean_nhw = _mean(sightings, group, key, weights, propagator, alignment)
        found += [KeyMask(sightings[key].frame.index, mask_hw) for mask_hw in mean_nhw]
    return found


def sighting_of_expressions(frame: Frame, answers: Sequence[Proposals]) -> Sighting:
    """For each sentence what goes best with it.

    Args:
        frame: that was segmented.
        answers: to each sentence, asked by itself.
    """
    found = [_best(proposals) for proposals in answers]
    masks_nhw = torch.stack([mask_hw for mask_hw, _ in found])
    unknown = any(map(len, answers)) and all(score is None for _, score in found)
    return Sighting(frame, masks_nhw, None if unknown else tuple(score or 0.0 for _, score in found))


def _best(proposals: Proposals) -> tuple[Tensor, float | None]:
    """The mask with the best score, or an empty one, and its score."""
    if not len(proposals):
        return proposals.masks_nhw.new_zeros(proposals.masks_nhw.shape[1:]), None
    scores = [score or 0.0 for score in proposals.scores]
    best = scores.index(max(scores))
    return proposals.masks_nhw[best], proposals.scores[best]


def sighting_of_salient(frame: Frame, proposals: Proposals, *, compat: bool = False) -> Sighting:
    """Everything that was found as one object; its score is the mean probability, or none (``compat``)."""
    size_hw = proposals.masks_nhw.shape[1:]
    masks = proposals.masks_nhw.float()
    mask = masks.amax(dim=0) if len(masks) else torch.zeros(tuple(size_hw))
    return Sighting(frame, mask[None], None if compat else (float(mask.mean()),))


def _mean_scores(sightings: Sequence[Sighting], group: Sequence[int]) -> list[float] | None:
    """Of each frame, over some objects; None where a frame says nothing."""
    scores = []
    for sighting in sightings:
        if sighting.scores is None:
            return None
        scores.append(sum(sighting.scores[n] for n in group) / len(group))
    return scores


def _mean(
    sightings: Sequence[Sighting],
    group: Sequence[int],
    key: int,
    weights: Sequence[float],
    propagator: Propagator[Any, Any],
    alignment: Alignment,
) -> Tensor:
    """``float[n, h, w]``, masks of some objects on the key frame, averaged. Features of a frame may be large: those of
    two frames exist at a time."""
    target = sightings[key].frame, propagator.encode(sightings[key].frame)
    size_hw = propagator.size_hw(target[1])
    aligned = []
    for i, sighting in enumerate(sightings):
        masks_nhw = resize_masks(sighting.masks_nhw[list(group)], size_hw)
        if i != key:
            source = sighting.frame, propagator.encode(sighting.frame)
            masks_nhw = align(alignment, propagator, source, masks_nhw, target)[1:]
        aligned.append(weights[i] * masks_nhw.cpu())
    return torch.stack(aligned).sum(dim=0).clamp(0, 1)
