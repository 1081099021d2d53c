"""J & F of video object segmentation: the statistics of DAVIS, and the protocols that take objects as they come.

Every protocol records J and F of each object on each frame (a `Curve`), keeps the frames that count when a sequence
ends, and averages over objects. Benchmarks with files of their own about who counts where are in ``lvos.py``,
``mose.py``, ``ytvos.py`` and ``viposeg.py``; unsupervised matching is in ``davis_unsupervised.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from maskstream.types import FrameAnnotation, FrameSegmentation, InputError

from .accumulator import Scores
from .boundaries import Region, boundary_radius, frame_regions, object_jf, region_f, region_j, union_region
from .curves import (
    Curve,
    DavisMeans,
    JfMeans,
    davis_statistics,
    jf_row,
    make_curve,
    mean,
    without_ends,
    without_objects,
)

VOID_ID = 255
"""The id that DAVIS files give to pixels that are no object."""


@dataclass(slots=True)
class ObjectFrames:
    """An open sequence of which the objects are known: J and F of each object on each frame so far."""

    sequence_id: str
    objects: tuple[int, ...] | None = None
    frames: list[int] = field(default_factory=list)
    j: list[list[float]] = field(default_factory=list)
    f: list[list[float]] = field(default_factory=list)

    def add(
        self, frame_index: int, truth: Mapping[int, Region], pred: Mapping[int, Region], size_hw: tuple[int, int]
    ) -> None:
        """Score every object on a frame."""
        j, f = object_jf(pred, truth, self.objects or (), size_hw=size_hw, radius=boundary_radius(size_hw))
        self.frames.append(frame_index)
        self.j.append(j)
        self.f.append(f)

    def add_union(self, frame_index: int, truth: FrameAnnotation, prediction: FrameSegmentation) -> None:
        """Score all that is annotated and all that is predicted as object 1, if the frame is annotated."""
        if truth.annotated:
            target, answer = union_region(truth.segmentation), union_region(prediction)
            self.add(frame_index, {1: target}, {1: answer}, prediction.size_hw)

    def curves(self, counted: slice) -> dict[int, Curve]:
        """What was recorded of each object, on some of the frames."""
        frames = self.frames[counted]
        objects = self.objects or ()
        shape = (len(frames), len(objects))
        j, f = (np.array(rows[counted], np.float64).reshape(shape) for rows in (self.j, self.f))
        return {o: make_curve(frames, j[:, n], f[:, n]) for n, o in enumerate(objects)}


@dataclass(slots=True)
class OpenVideo:
    """An open sequence of which objects are found on the way: J and F of the ids that are visible on each frame."""

    sequence_id: str
    frames: list[int] = field(default_factory=list)
    scores: list[dict[int, tuple[float, float]]] = field(default_factory=list)
    annotated: list[frozenset[int]] = field(default_factory=list)
    true_ids: list[frozenset[int]] = field(default_factory=list)


class DavisSemiSupervised(DavisMeans[ObjectFrames]):
    """DAVIS-2017 semi-supervised, also MOSE v1 (metrics specification §5.4; Pont-Tuset et al., 2017).

    The first annotated frame says which objects there are: every id up to its largest. It and the last annotated
    frame are not scored. Annotated id 255 is background. Frames that are not annotated are passed over.

    Args:
        skip_first_last: leave out the first and the last annotated frame.
        davis_uint8_decay: reproduce the official decay of sequences beyond 256 frames.
    """

    name = "DAVIS-2017 semi-supervised"

    def __init__(self, *, skip_first_last: bool = True, davis_uint8_decay: bool = False) -> None:
        super().__init__(davis_uint8_decay=davis_uint8_decay)
        self.skip_first_last = skip_first_last

    def begin(self, sequence_id: str) -> ObjectFrames:
        """No frame seen."""
        return ObjectFrames(sequence_id)

    def add(
        self,
        state: ObjectFrames,
        frame_index: int,
        truth: FrameAnnotation,
        prediction: FrameSegmentation,
        meta: None,
    ) -> None:
        """Score the objects of the first frame.

        Raises:
            InputError: the prediction has an id that no object of the first frame has.
        """
        if not truth.annotated:
            return
        true_regions, pred_regions = frame_regions(truth.segmentation), frame_regions(prediction)
        is_given = state.objects is None
        if state.objects is None:
            state.objects = objects_of_first_frame(true_regions)
        if not (is_given and self.skip_first_last):
            check_ids(pred_regions, len(state.objects))
        state.add(frame_index, true_regions, pred_regions, prediction.size_hw)

    def reduce(self, state: ObjectFrames) -> dict[int, Curve]:
        """A curve an object."""
        if not state.frames or not self.skip_first_last:
            return state.curves(slice(None))
        return state.curves(without_ends(state.sequence_id, len(state.frames)))


class Davis2016(DavisMeans[ObjectFrames]):
    """DAVIS-2016, one object a sequence (metrics specification §5.6; Perazzi et al., CVPR 2016).

    Whatever is annotated is the object, whatever is predicted the prediction; a soft saliency map is to be cut at one
    half by whoever reads it.

    Args:
        skip_first_last: as the official toolkit does, average without the first and the last frame, and compute
            recall and decay with one frame less at either end. Otherwise every frame counts for everything.
    """

    name = "DAVIS-2016"

    def __init__(self, *, skip_first_last: bool = True) -> None:
        super().__init__()
        self.skip_first_last = skip_first_last

    def begin(self, sequence_id: str) -> ObjectFrames:
        """No frame seen."""
        return ObjectFrames(sequence_id, objects=(1,))

    def add(
        self,
        state: ObjectFrames,
        frame_index: int,
        truth: FrameAnnotation,
        prediction: FrameSegmentation,
        meta: None,
    ) -> None:
        """Score the foreground."""
        state.add_union(frame_index, truth, prediction)

    def reduce(self, state: ObjectFrames) -> dict[int, Curve]:
        """The curve of the one object."""
        if not state.frames:
            return {}
        counted = without_ends(state.sequence_id, len(state.frames)) if self.skip_first_last else slice(None)
        return state.curves(counted)

    def rows(self, sequence_id: str, summary: dict[int, Curve]) -> dict[str, Scores]:
        """The row of the one object."""
        rows = {}
        for curve in summary.values():
            inner = slice(1, -1) if self.skip_first_last else slice(None)
            ends_cut = Curve(frames=curve["frames"][inner], j=curve["j"][inner], f=curve["f"][inner])
            means = {"J-Mean": mean(curve["j"]), "F-Mean": mean(curve["f"])}
            rows[sequence_id] = {**davis_statistics(ends_cut), **means}
        return rows


class GenericVos(JfMeans[OpenVideo, dict[int, Curve]]):
    """J & F of any folder of masks (metrics specification §5.7), and of MOSE v1 style evaluation.

    An object is any annotated id. It counts from the frame on which its id is first seen, in the annotation or in the
    prediction, so objects may appear late and ids may have gaps. 255 is an ordinary id. Ids that are only ever
    predicted cost nothing, and a sequence that shows no object adds none.

    Args:
        skip_first_last: leave out the first and the last annotated frame.
    """

    name = "VOS"

    def __init__(self, *, skip_first_last: bool = True) -> None:
        super().__init__()
        self.skip_first_last = skip_first_last

    def begin(self, sequence_id: str) -> OpenVideo:
        """No frame seen."""
        return OpenVideo(sequence_id)

    def add(
        self, state: OpenVideo, frame_index: int, truth: FrameAnnotation, prediction: FrameSegmentation, meta: None
    ) -> None:
        """Score every id that is visible."""
        if truth.annotated:
            record_visible(state, frame_index, truth, prediction)

    def reduce(self, state: OpenVideo) -> dict[int, Curve]:
        """A curve an object, from the frame on which its id is first seen."""
        counted = range(len(state.frames))[1:-1] if self.skip_first_last else range(len(state.frames))
        objects = sorted(set().union(*(state.true_ids[n] for n in counted)))
        return {o: since_first_seen(state, o, counted) for o in objects}

    def rows(self, sequence_id: str, summary: dict[int, Curve]) -> dict[str, Scores]:
        """A row ``sequence/object`` for every object, by id."""
        return {f"{sequence_id}/{o}": jf_row(summary[o]) for o in sorted(summary)}

    def notes(self, summaries: Mapping[str, dict[int, Curve]]) -> Sequence[str]:
        """Sequences that add nothing."""
        return without_objects(summaries)


class SaV(GenericVos):
    """SA-V (metrics specification §5.9; Ravi et al., 2024): objects may overlap and each is evaluated alone.

    A segment that is listed in an annotation, even with an empty mask, is annotated on that frame; the first and
    last frame of each object are those on which it is listed. It counts from the frame on which it is first visible
    in annotation or prediction. An object that is never visible on a frame that counts is left out, with a note,
    where the official program stops.
    """

    name = "SA-V"

    def reduce(self, state: OpenVideo) -> dict[int, Curve]:
        """A curve an object; one without frames for an object that was never visible."""
        curves = {}
        for o in sorted(set().union(*state.annotated)):
            listed = [n for n, ids in enumerate(state.annotated) if o in ids]
            counted = listed[1:-1] if self.skip_first_last else listed
            visible = any(o in state.true_ids[n] for n in counted)
            curves[o] = since_first_seen(state, o, counted if visible else [])
        return curves

    def rows(self, sequence_id: str, summary: dict[int, Curve]) -> dict[str, Scores]:
        """A row ``sequence/object`` for every object that is ever visible, by id."""
        return super().rows(sequence_id, {o: curve for o, curve in summary.items() if len(curve["frames"])})

    def notes(self, summaries: Mapping[str, dict[int, Curve]]) -> Sequence[str]:
        """Objects that add nothing."""
        hidden = [f"{s}/{o}" for s, curves in summaries.items() for o, c in curves.items() if not len(c["frames"])]
        return [f"left out because never visible on a frame that counts: {', '.join(hidden)}"] if hidden else []


def objects_of_first_frame(regions: Collection[int]) -> tuple[int, ...]:
    """Every id up to the largest of a DAVIS first frame; ids that are missing in between are objects all the same."""
    return tuple(range(1, max((o for o in regions if o != VOID_ID), default=0) + 1))


def check_ids(regions: Collection[int], highest: int) -> None:
    """Refuse predicted ids that no object has.

    Raises:
        InputError: an id is above the highest.
    """
    if max(regions, default=0) > highest:
        raise InputError(
            f"the prediction has the id {max(regions)} but ids end at {highest} in this sequence: remove or renumber it"
        )


def record_visible(state: OpenVideo, frame_index: int, truth: FrameAnnotation, prediction: FrameSegmentation) -> None:
    """Note J and F of every id that the annotation or the prediction of a frame shows."""
    true_regions, pred_regions = frame_regions(truth.segmentation), frame_regions(prediction)
    objects = sorted({*true_regions, *pred_regions})
    size_hw = prediction.size_hw
    empty, radius = Region.empty(size_hw), boundary_radius(size_hw)
    scores = {}
    for o in objects:
        p, g = pred_regions.get(o, empty), true_regions.get(o, empty)
        scores[o] = (region_j(p, g), region_f(p, g, radius=radius))
    state.frames.append(frame_index)
    state.scores.append(scores)
    state.annotated.append(frozenset(segment.id for segment in truth.segmentation.segments))
    state.true_ids.append(frozenset(true_regions))


def since_first_seen(state: OpenVideo, object_id: int, counted: Sequence[int]) -> Curve:
    """An object from the first counted frame on which it is visible; hidden on both sides it scores 1."""
    seen = [n for n in counted if object_id in state.scores[n]]
    lived = [n for n in counted if n >= seen[0]] if seen else []
    both = [state.scores[n].get(object_id, (1.0, 1.0)) for n in lived]
    return make_curve([state.frames[n] for n in lived], [j for j, _ in both], [f for _, f in both])
