"""Rules by which SAM 3 keeps what it detects and what it follows together (Carion et al., 2025, as published).

They are about masks, of which N or M are followed and D detected, and about numbers; nothing here knows the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

HIDDEN = -10.0
"""Logit of every pixel of a mask that gives way to another one."""

_HOLE, _SPECK = 0.1, -0.1
"""Logits of pixels that change sides because they are few."""

_SHRUNK = 0.3
"""Share of its mask that an object has to keep beside others."""

_NEIGHBOURS = np.zeros((3, 3, 3), bool)
_NEIGHBOURS[1] = True  # eight, none of them on another mask


def mask_ious(first_nhw: Tensor, second_mhw: Tensor) -> Tensor:
    """``float32[N, M]``, intersection over union; 0 for two masks without a pixel."""
    first, second = first_nhw.flatten(1).float(), second_mhw.flatten(1).float()
    both_nm = first @ second.T
    return both_nm / (first.sum(1)[:, None] + second.sum(1) - both_nm).clamp(min=1)


def without_doubles(masks_dhw: Tensor, scores_d: Tensor, most: float) -> Tensor:
    """Non-maximum suppression: of masks that overlap by more than ``most``, only the one with the highest score stays.

    Returns:
        ``bool[D]``, which stay.
    """
    ious_dd = mask_ious(masks_dhw, masks_dhw)
    stays_d = torch.zeros(len(scores_d), dtype=torch.bool, device=scores_d.device)
    for n in scores_d.argsort(descending=True, stable=True).tolist():
        stays_d[n] = not bool((ious_dd[n, stays_d] > most).any())
    return stays_d


def without_specks(logits_nhw: Tensor, most: int) -> Tensor:
    """Masks without holes and specks of at most so many pixels; what is no larger than two such specks stays.

    Args:
        logits_nhw: ``float[N, h, w]``.
        most: pixels; 0 changes nothing.
    """
    if most <= 0 or not len(logits_nhw):
        return logits_nhw
    inside_nhw = (logits_nhw > 0).cpu().numpy()
    holes_nhw = ~inside_nhw & (_piece_areas(~inside_nhw) <= most)
    inside_nhw |= holes_nhw
    at_most_n = np.minimum(inside_nhw.sum((1, 2)) // 2, most)
    specks_nhw = inside_nhw & (_piece_areas(inside_nhw) <= at_most_n[:, None, None])
    holes, specks = (torch.from_numpy(changed).to(logits_nhw.device) for changed in (holes_nhw, specks_nhw))
    return torch.where(specks, _SPECK, torch.where(holes, _HOLE, logits_nhw))


def _piece_areas(masks_nhw: NDArray[np.bool_]) -> NDArray[np.int64]:
    """``int64[N, h, w]``, how many pixels of its mask hang together with each; of others, how many are in no mask."""
    pieces_nhw, _ = ndimage.label(masks_nhw, _NEIGHBOURS)
    areas: NDArray[np.int64] = np.bincount(pieces_nhw.ravel())[pieces_nhw]
    return areas


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchRules:
    """When something that is detected is something that is followed.

    Attributes:
        same: overlap from which it is.
        confirms: overlap from which a detection confirms a mask.
        believed: score from which something new is believed.
        sure: score from which a detection says anew what an object looks like.
        close: overlap from which it may.
    """

    same: float
    confirms: float
    believed: float
    sure: float
    close: float


@dataclass(frozen=True, slots=True)
class Matches:
    """What is detected, and what is followed, by position.

    Attributes:
        new: detections of something that is not followed.
        followed: for each detection, what is followed and may be it.
        unconfirmed: what is followed, is there, and was not detected.
        sure: for some of what is followed, a detection that says what it looks like.
    """

    new: list[int]
    followed: list[list[int]]
    unconfirmed: list[int]
    sure: dict[int, int]


def matched(
    found_dhw: Tensor,
    scores_d: Tensor,
    concepts_d: Sequence[int],
    masks_nhw: Tensor,
    concepts_n: Sequence[int],
    rules: MatchRules,
) -> Matches:
    """Tell which detection is which object; those of different concepts have nothing in common.

    Where nothing is followed, everything is new, however unsure the network is of it.

    Args:
        found_dhw: ``bool[D, h, w]``.
        scores_d: ``float[D]``.
        concepts_d: by which each was found.
        masks_nhw: ``bool[N, h, w]``.
        concepts_n: by which each was found once.
        rules: see there.
    """
    if not len(masks_nhw):
        return Matches(list(range(len(found_dhw))), [[] for _ in concepts_d], [], {})
    alike_dn = torch.tensor([[one == other for other in concepts_n] for one in concepts_d], dtype=torch.bool)
    ious_dn = mask_ious(found_dhw, masks_nhw) * alike_dn.view(-1, len(concepts_n)).to(found_dhw.device)
    is_new_d = (scores_d >= rules.believed) & ~(ious_dn >= rules.same).any(1)
    unconfirmed_n = masks_nhw.flatten(1).any(1) & ~(ious_dn >= rules.confirms).any(0)
    sure: dict[int, int] = {}
    if len(ious_dn):
        best_d, nearest_d = ious_dn.max(1)
        is_sure_d = (scores_d >= rules.sure) & ~is_new_d & (best_d >= rules.close)
        sure = {int(nearest_d[d]): d for d in is_sure_d.nonzero().flatten().tolist()}
    followed = [row.nonzero().flatten().tolist() for row in ious_dn >= rules.same]
    return Matches(is_new_d.nonzero().flatten().tolist(), followed, unconfirmed_n.nonzero().flatten().tolist(), sure)


@dataclass(slots=True)
class Standing:
    """How an object has fared against what is detected.

    Attributes:
        concept: by which it was found.
        born: position of the frame on which it was.
        alive: how often it may go unconfirmed before it is hidden.
        unconfirmed: frames on which it was there, and not detected.
        doubles: by older object, frames on which one detection was of both.
        hidden: position of the last frame on which it was not to be seen; -1 for none.
        there: position of the last frame on which it was.
    """

    concept: int
    born: int
    alive: int
    unconfirmed: int = 0
    doubles: dict[int, int] = field(default_factory=dict)
    hidden: int = -1
    there: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRules:
    """How long new objects are on trial, and what they have to do.

    Attributes:
        frames: of a trial.
        unconfirmed: so many frames without a detection end it.
        doubles: so many frames that it shares with an older object end it.
        most_alive: see `Standing.alive`; of a confirmed object it does not grow beyond this.
        least_alive: of an unconfirmed one it does not fall below.
        empty_dies: whether it falls where an object is not to be seen, too.
        hides: whether objects that were not confirmed for long are hidden after their trial, too.
    """

    frames: int
    unconfirmed: int
    doubles: int
    most_alive: int
    least_alive: int
    empty_dies: bool
    hides: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of objects.

    Attributes:
        fallen: those that failed their trial, and why.
        hidden: those that are not shown on this frame.
    """

    fallen: dict[int, str]
    hidden: list[int]


def judged(
    standings: Mapping[int, Standing], matches: Matches, empty: Sequence[int], position: int, rules: TrialRules
) -> Verdict:
    """Count what a frame says of objects, and judge them.

    Args:
        standings: of all objects, by id, in the order of the positions of ``matches``; changed.
        matches: of the frame.
        empty: positions of objects that are not to be seen.
        position: of the frame.
        rules: see there.
    """
    ids, objects = list(standings), list(standings.values())
    for n in sorted({n for several in matches.followed for n in several}):
        objects[n].alive = min(rules.most_alive, objects[n].alive + 1)
    for n in matches.unconfirmed:
        objects[n].unconfirmed += 1
    for n in (*matches.unconfirmed, *(empty if rules.empty_dies else ())):
        objects[n].alive = max(rules.least_alive, objects[n].alive - 1)
    for several in matches.followed:
        if len(several) > 1:
            oldest = min(several, key=lambda n: objects[n].born)
            for n in several:
                if n != oldest:
                    objects[n].doubles[ids[oldest]] = objects[n].doubles.get(ids[oldest], 0) + 1
    fallen: dict[int, str] = {}
    for object_id, one in standings.items():
        double = next((other for other, count in one.doubles.items() if count >= rules.doubles), None)
        if position - one.born >= rules.frames:
            one.doubles.clear()  # its trial is over, and nobody asks any more
        elif one.unconfirmed >= rules.unconfirmed:
            fallen[object_id] = f"on {one.unconfirmed} of its first frames nothing was detected where it is"
        elif double is not None:
            fallen[object_id] = f"it is object {double} once more"
    hidden = [
        object_id
        for object_id, one in standings.items()
        if rules.hides and one.unconfirmed and one.alive <= 0 and object_id not in fallen
    ]
    return Verdict(fallen, hidden)


def hidden_by_others(masks_nhw: Tensor, standings: Sequence[Standing], least: float) -> list[int]:
    """Of two masks of one concept that are nearly the same, the one that was out of sight more recently gives way.

    What was never out of sight neither gives way nor makes others do so.

    Args:
        masks_nhw: ``bool[N, h, w]``.
        standings: of the N objects.
        least: overlap from which two are nearly the same; 0: nobody gives way.

    Returns:
        Positions of those that give way.
    """
    if least <= 0 or len(standings) < 2:
        return []
    near_nn = (mask_ious(masks_nhw, masks_nhw) >= least).cpu()
    concepts_n, hidden_n = (torch.tensor([getattr(s, name) for s in standings]) for name in ("concept", "hidden"))
    rivals_nn = near_nn & (concepts_n[:, None] == concepts_n)
    gives_way_n = (rivals_nn & (hidden_n[:, None] > hidden_n) & (hidden_n > -1)).any(1)
    return gives_way_n.nonzero().flatten().tolist()


def as_remembered(logits_nhw: Tensor, concepts_n: Sequence[int]) -> Tensor:
    """Masks as they are remembered: what hardly has a pixel of its own beside others of its concept is nowhere.

    Args:
        logits_nhw: ``float[N, h, w]``.
        concepts_n: of each.
    """
    result_nhw = logits_nhw.clone()
    for rows in _by_concept(concepts_n):
        own_nhw = logits_nhw[rows]
        inside_nhw = own_nhw > 0
        alone_nhw = inside_nhw & (own_nhw.argmax(0) == torch.arange(len(rows), device=own_nhw.device)[:, None, None])
        share_n = alone_nhw.sum((1, 2)) / inside_nhw.sum((1, 2)).clamp(min=1)
        result_nhw[rows] = torch.where((share_n >= _SHRUNK)[:, None, None], own_nhw, own_nhw.clamp(max=HIDDEN))
    return result_nhw


def as_shown(masks_nhw: Tensor, scores_n: Tensor, concepts_n: Sequence[int]) -> Tensor:
    """Masks as they are shown: each pixel belongs to one object of a concept, that with the highest score.

    Args:
        masks_nhw: ``bool[N, H, W]``; changed.
        scores_n: ``float[N]``; of equal ones the first.
        concepts_n: of each.
    """
    for rows in _by_concept(concepts_n):
        taken_hw = torch.zeros_like(masks_nhw[0])
        for n in sorted(rows, key=lambda n: -float(scores_n[n])):
            masks_nhw[n] &= ~taken_hw
            taken_hw |= masks_nhw[n]
    return masks_nhw


def _by_concept(concepts_n: Sequence[int]) -> list[list[int]]:
    """Positions of concepts with several objects."""
    groups: dict[int, list[int]] = {}
    for n, concept in enumerate(concepts_n):
        groups.setdefault(concept, []).append(n)
    return [rows for rows in groups.values() if len(rows) > 1]
