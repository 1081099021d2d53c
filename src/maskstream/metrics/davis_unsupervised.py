"""DAVIS-2017 unsupervised: proposals without identity, assigned to objects once a sequence (Caelles et al., 2019).

Per frame every proposal is compared with every object; a mask's contour is drawn and dilated once, whatever the
number of pairs. Only the J and F of pairs outlive the frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from maskstream.types import FrameAnnotation, FrameSegmentation

from .boundaries import BoolMask, Region, boundary_radius, frame_regions, pairwise_jf
from .curves import Curve, DavisMeans, make_curve
from .vos import VOID_ID, check_ids, objects_of_first_frame

MAX_PROPOSALS = 20
"""How many predicted ids the benchmark allows a sequence."""


@dataclass(slots=True)
class OpenProposals:
    """An open sequence: J and F of every proposal with every object, a ``float64[20, G]`` a frame each."""

    objects: tuple[int, ...] | None = None
    proposal_count: int = 0
    frames: list[int] = field(default_factory=list)
    j_pg: list[NDArray[np.float64]] = field(default_factory=list)
    f_pg: list[NDArray[np.float64]] = field(default_factory=list)


class DavisUnsupervised(DavisMeans[OpenProposals]):
    """DAVIS-2017 unsupervised, also the engine of Ref-DAVIS (metrics specification §5.5).

    The first frame says which objects there are. All frames count. Annotated id 255, and ``FrameAnnotation.void``,
    are ignored. At most 20 proposals, ids 1 to 20, take part; the assignment that maximises the sum of mean J&F over
    the whole sequence gives each object its proposal, and the others cost nothing. Rows are by annotated id.

    Args:
        davis_uint8_decay: reproduce the official decay of sequences beyond 256 frames.
    """

    name = "DAVIS-2017 unsupervised"

    def begin(self, sequence_id: str) -> OpenProposals:
        """No frame seen."""
        return OpenProposals()

    def add(
        self, state: OpenProposals, frame_index: int, truth: FrameAnnotation, prediction: FrameSegmentation, meta: None
    ) -> None:
        """Compare every proposal with every object of the first frame.

        Raises:
            InputError: a predicted id is above 20.
        """
        if not truth.annotated:
            return
        void, size_hw = void_pixels(truth), prediction.size_hw
        true_regions, proposals = frame_regions(truth.segmentation, void=void), frame_regions(prediction, void=void)
        if state.objects is None:
            state.objects = objects_of_first_frame(true_regions)
        # Ids count even where only void pixels have them, as in the files themselves.
        ids = [s.id for s, area in zip(prediction.segments, prediction.areas().tolist(), strict=True) if area]
        check_ids(ids, MAX_PROPOSALS)
        state.proposal_count = max(state.proposal_count, *ids, 0)
        empty = Region.empty(size_hw)
        j_pg, f_pg = proposal_jf(proposals, [true_regions.get(o, empty) for o in state.objects], size_hw=size_hw)
        state.frames.append(frame_index)
        state.j_pg.append(j_pg)
        state.f_pg.append(f_pg)

    def reduce(self, state: OpenProposals) -> dict[int, Curve]:
        """The curve of each object with the proposal assigned to it."""
        if not state.objects:
            return {}
        count = max(state.proposal_count, len(state.objects))
        j_tpg, f_tpg = (_padded(np.stack(frames), count) for frames in (state.j_pg, state.f_pg))
        chosen = assigned_proposals((j_tpg.mean(axis=0) + f_tpg.mean(axis=0)) / 2)
        return {state.objects[g]: make_curve(state.frames, j_tpg[:, p, g], f_tpg[:, p, g]) for g, p in chosen.items()}


def proposal_jf(
    proposals: Mapping[int, Region], truths: Sequence[Region], *, size_hw: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """J and F of the proposals 1 to 20 of a frame with every object; one that is not there is an empty mask.

    Returns:
        J and F, both ``float64[20, G]``.
    """
    # Most of the 20 are absent from a frame, and an absent one compares the same whoever it is.
    present = sorted(proposals)
    preds = [proposals[p] for p in present] + [Region.empty(size_hw)]
    j, f = pairwise_jf(preds, truths, radius=boundary_radius(size_hw))
    row_of = np.full(MAX_PROPOSALS, len(present))
    row_of[np.array(present, np.int64) - 1] = np.arange(len(present))
    return j[row_of], f[row_of]


def assigned_proposals(mean_jf_pg: NDArray[np.float64]) -> dict[int, int]:
    """The proposal of each object: one proposal an object, so that the sum of J&F is greatest (§5.5).

    Args:
        mean_jf_pg: ``float64[P, G]``, over all frames of the sequence.

    Returns:
        Positions of proposals by position of the object; an object goes without when there are too few.
    """
    proposals, objects = linear_sum_assignment(mean_jf_pg, maximize=True)
    return dict(zip(objects.tolist(), proposals.tolist(), strict=True))


def void_pixels(truth: FrameAnnotation) -> BoolMask | None:
    """The pixels of an annotation that count for nothing: its void mask and its id 255, or None without either."""
    masks = [] if truth.void is None else [truth.void.cpu().numpy()]
    for position, segment in enumerate(truth.segmentation.segments):
        if segment.id == VOID_ID:
            masks.append(truth.segmentation.masks_nhw()[position].cpu().numpy())
    if not masks:
        return None
    void: BoolMask = np.logical_or.reduce(masks)
    return void


def _padded(tpg: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Exactly ``count`` proposals; those beyond the 20 that are kept equal the last, which was never predicted."""
    if count <= tpg.shape[1]:
        return tpg[:, :count]
    return np.concatenate([tpg, np.repeat(tpg[:, -1:], count - tpg.shape[1], axis=1)], axis=1)
