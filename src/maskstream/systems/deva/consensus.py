"""In-clip consensus: what the noisy segmentations of a few neighbouring frames agree on (DEVA §3.2.1).

    proposals of n frames ─► aligned to the key frame ─► IoU of every two [P, P] ─► integer program ─► selected ones
          (the caller)             (a Propagator)            pairwise_iou                consensus

The program, eqs. 4-8: choose v ∈ {0, 1}^P that maximises Σ v_i (Supp_i - α), where Supp_i is the sum of the IoUs above
one half with proposals of other frames, and where no two chosen ones have such an IoU. Its graph falls apart into
components of a few proposals, one for each thing seen; each is solved exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, reduce
from operator import or_

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from maskstream.types import InputError, LabelMap, PackedMasks, mask_overlaps

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

ALPHA = 0.5
"""Cost of choosing a proposal (eq. 8): more than nothing, less than what any supporter gives."""

ENUMERATED = 40
"""Components up to this size are enumerated, in at most a few thousand steps; larger ones go to HiGHS."""

GRAIN = 2.0**-40
"""IoUs and α are rounded to multiples of this. Sums are then exact in any order, and equal choices tie exactly."""


@dataclass(frozen=True, slots=True)
class Consensus:
    """What a clip agrees on.

    Attributes:
        selected: positions of the chosen proposals, ascending.
        supporters: for each chosen one the proposals of other frames that support it, whose votes it inherits.
        objective: Σ v_i (Supp_i - α), as eq. 4 has it.
        exact: False when the time ran out and some component was chosen greedily.
    """

    selected: tuple[int, ...]
    supporters: tuple[tuple[int, ...], ...]
    objective: float
    exact: bool


def pairwise_iou(masks: Sequence[LabelMap | PackedMasks], counts: Sequence[int]) -> tuple[FloatArray, IntArray]:
    """IoU of every two proposals of a clip (eq. 5), aligned to one frame.

    Args:
        masks: of each frame; a `LabelMap` when its proposals are disjoint, `PackedMasks` when they may overlap.
        counts: number of proposals of each frame.

    Returns:
        ``float64[P, P]``, symmetric, and ``int64[P]``, the area of each proposal in pixels. Within a frame of disjoint
        proposals the IoUs are 0; so is the diagonal.

    Raises:
        InputError: frames differ in size, or there are not as many counts as frames.
    """
    if len(masks) != len(counts):
        raise InputError(f"there are masks of {len(masks)} frames but {len(counts)} counts")
    first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    iou_pp = np.zeros((first[-1], first[-1]))
    areas_p = np.zeros(first[-1], dtype=np.int64)
    for a, masks_a in enumerate(masks):
        rows = slice(first[a], first[a + 1])
        # A frame against itself says nothing new when its proposals are disjoint, unless it is all there is.
        with_itself = isinstance(masks_a, PackedMasks) or len(masks) == 1
        for b in range(a if with_itself else a + 1, len(masks)):
            columns = slice(first[b], first[b + 1])
            overlaps = mask_overlaps(masks_a, counts[a], masks[b], counts[b])
            iou_pp[rows, columns] = overlaps.iou_gp()
            iou_pp[columns, rows] = iou_pp[rows, columns].T
            areas_p[rows], areas_p[columns] = overlaps.areas_g, overlaps.areas_p
    np.fill_diagonal(iou_pp, 0)
    return iou_pp, areas_p


def consensus(
    iou_pp: FloatArray,
    frame_of_p: Sequence[int] | IntArray,
    group_of_p: Sequence[bool | None],
    *,
    areas_p: Sequence[int] | IntArray | None = None,
    alpha: float = ALPHA,
    iou_threshold: float = 0.5,
    time_limit: float = 5.0,
) -> Consensus:
    """Choose the proposals that a clip agrees on (DEVA, eqs. 4-8; specification §7, steps 3 and 4).

    Two proposals support each other when they are of different frames and of one group and their IoU exceeds the
    threshold; they are then the same thing, and one is chosen at most. Two such proposals of one frame, possible when
    the proposals of a frame overlap, exclude each other but give no support, and a frame supports a proposal once,
    by the best of its own. Several choices may be best: they are compared proposal by proposal, the earliest frame
    first, in a frame the larger first, and the choice that has the first one in which they differ wins.

    Components of more than `ENUMERATED` proposals are solved by HiGHS; one that is not solved in time is chosen
    greedily instead, by worth.

    Args:
        iou_pp: ``float[P, P]``, symmetric, from `pairwise_iou`.
        frame_of_p: the frame of each proposal; the lower wins a tie, so the key frame comes first.
        group_of_p: thing, stuff or unknown.
        areas_p: pixels of each proposal, to break ties; None for none to prefer.
        alpha: cost of choosing a proposal. Below 0 a proposal without support is chosen too.
        iou_threshold: IoU must be greater.
        time_limit: seconds for HiGHS, each component.

    Raises:
        InputError: the sizes of the arguments do not fit together.
    """
    count = len(frame_of_p)
    if iou_pp.shape != (count, count) or len(group_of_p) != count:
        raise InputError(
            f"{count} proposals need IoUs of [{count}, {count}] and {count} groups, "
            f"not {list(iou_pp.shape)} and {len(group_of_p)}"
        )
    frame_of_p = np.asarray(frame_of_p, dtype=np.int64)
    group_number = np.array([(None, False, True).index(group) for group in group_of_p], dtype=np.int64)
    excludes_pp = (iou_pp > iou_threshold) & (group_number[:, None] == group_number[None])
    np.fill_diagonal(excludes_pp, False)
    supports_pp = excludes_pp & (frame_of_p[:, None] != frame_of_p[None])
    support_pp: FloatArray = np.where(supports_pp, np.rint(iou_pp / GRAIN) * GRAIN, 0.0)
    worth_p = _support(support_pp, frame_of_p) - np.rint(alpha / GRAIN) * GRAIN

    order = np.lexsort((-np.asarray(areas_p if areas_p is not None else np.zeros(count)), frame_of_p))
    useful = order[worth_p[order] > 0]
    chosen, exact = _best_components(worth_p[useful], excludes_pp[np.ix_(useful, useful)], time_limit)
    selected = np.sort(useful[chosen])
    return Consensus(
        tuple(selected.tolist()),
        tuple(tuple(np.flatnonzero(supports_pp[p]).tolist()) for p in selected),
        float(worth_p[selected].sum()),
        exact,
    )


def _support(support_pp: FloatArray, frame_of_p: IntArray) -> FloatArray:
    """``float64[P]``, for each proposal the sum over frames of its best supporter there (eq. 6)."""
    total_p = np.zeros(len(frame_of_p))
    for frame in np.unique(frame_of_p):
        total_p += support_pp[:, frame_of_p == frame].max(axis=1)
    return total_p


def _best_components(worth_n: FloatArray, excludes_nn: BoolArray, time_limit: float) -> tuple[list[int], bool]:
    """Positions chosen, component by component, and whether every one was solved exactly.

    Args:
        worth_n: positive, in the order in which ties are broken.
        excludes_nn: symmetric, without a diagonal.
    """
    _, component_of_n = connected_components(csr_array(excludes_nn), directed=False)
    sizes = np.bincount(component_of_n)
    small = np.flatnonzero(sizes[component_of_n] <= ENUMERATED)
    chosen: list[int] = small[enumerated(worth_n[small], excludes_nn[np.ix_(small, small)])].tolist()
    exact = True
    for large in np.flatnonzero(sizes > ENUMERATED):
        component = np.flatnonzero(component_of_n == large)
        worth, excludes = worth_n[component], excludes_nn[np.ix_(component, component)]
        solved = integer_program(worth, excludes, time_limit=time_limit)
        exact = exact and solved is not None
        chosen += component[greedy(worth, excludes) if solved is None else solved].tolist()
    return chosen, exact


def enumerated(worth_n: FloatArray, excludes_nn: BoolArray) -> list[int]:
    """The best independent set: with or without the member that excludes most, then each component left on its own.

    Of equally good sets, the one that has the first member in which they differ.

    Args:
        worth_n: positive worth of each member.
        excludes_nn: ``bool[N, N]``, which two may not be chosen together.
    """
    # A set is a number, a bit for each member, the first the highest: of two sets the greater number is preferred.
    last = len(worth_n) - 1
    worth = worth_n[::-1].tolist()
    excluded_by = [0] * len(worth)
    for one, other in np.argwhere(excludes_nn).tolist():
        excluded_by[last - one] |= 1 << last - other

    def best(free: int) -> tuple[float, int]:
        total, chosen = 0.0, 0
        while free:
            component = _reached(free & -free, free, excluded_by)
            free &= ~component
            worth_here, chosen_here = best_connected(component)
            total, chosen = total + worth_here, chosen | chosen_here
        return total, chosen

    @cache
    def best_connected(free: int) -> tuple[float, int]:
        n = max(_members(free), key=lambda member: (excluded_by[member] & free).bit_count())
        others = free & ~(1 << n)
        total, chosen = best(others & ~excluded_by[n])
        return max((total + worth[n], chosen | 1 << n), best(others))

    return [last - n for n in reversed(_members(best((1 << len(worth)) - 1)[1]))]


def _reached(start: int, free: int, excluded_by: Sequence[int]) -> int:
    """The component of ``free`` that ``start`` is in."""
    reached = new = start
    while new:
        near = reduce(or_, (excluded_by[n] for n in _members(new)))
        new = near & free & ~reached
        reached |= new
    return reached


def _members(bits: int) -> list[int]:
    """Positions of the bits that are set, ascending."""
    members = []
    while bits:
        members.append((bits & -bits).bit_length() - 1)
        bits &= bits - 1
    return members


def integer_program(worth_n: FloatArray, excludes_nn: BoolArray, *, time_limit: float) -> list[int] | None:
    """The best independent set by HiGHS, earlier members preferred; None when it was not proved best in time."""
    first, second = np.nonzero(np.triu(excludes_nn))
    pairs = np.arange(len(first))
    rows = csr_array(
        (np.ones(2 * len(first)), (np.concatenate([pairs, pairs]), np.concatenate([first, second]))),
        shape=(len(first), len(worth_n)),
    )
    # Halving, so that the first member in which two sets differ decides; 1e4, as HiGHS takes 1e-6 for nothing.
    preference = 1e-7 * 0.5 ** np.arange(len(worth_n))
    solution = milp(
        -1e4 * (worth_n + preference),
        integrality=np.ones(len(worth_n)),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(rows, ub=1),
        options={"time_limit": time_limit, "mip_rel_gap": 0},
    )
    return None if solution.status != 0 else np.flatnonzero(solution.x > 0.5).tolist()


def greedy(worth_n: FloatArray, excludes_nn: BoolArray) -> list[int]:
    """An independent set by worth, the best first; not always the best set."""
    free = np.ones(len(worth_n), dtype=bool)
    chosen = []
    for n in np.argsort(-worth_n, kind="stable").tolist():
        if free[n]:
            chosen.append(n)
            free &= ~excludes_nn[n]
    return sorted(chosen)
