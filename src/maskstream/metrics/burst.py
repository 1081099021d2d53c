"""BURST: long-tail, exemplar-guided and open-world tracking (Athar et al., WACV 2023; metrics specification §9).

The published numbers compare **boxes** frame by frame, although the paper speaks of masks; both are here. Annotations
are not exhaustive: a sequence names the classes that are certainly absent and those of which not all is annotated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from maskstream.types import FrameAnnotation, FrameSegmentation, InputError, Segment

from .accumulator import Accumulator, Report, Scores
from .clear import unmatched
from .hota import (
    FloatArray,
    HotaCounts,
    IntArray,
    Overlaps,
    TrackedFrame,
    add_hota_counts,
    box_iou,
    hota_counts,
    hota_scores,
    mask_overlaps,
    mean_scores,
    tight_boxes,
)
from .vis_ap import AREA_RANGES, IGNORED, WRONG, Outcomes, judge, precision_and_recall

MAX_DETECTIONS = 300

# fmt: off
DISTRACTORS = frozenset({
    20, 63, 108, 180, 188, 204, 212, 247, 303, 403, 407, 415, 490, 504, 507, 513, 529, 567, 569, 588, 672, 691, 702,
    708, 711, 720, 736, 737, 798, 813, 815, 827, 831, 851, 877, 883, 912, 971, 976, 1130, 1133, 1134, 1169, 1184, 1220,
})
"""Categories that are dropped from the ground truth before anything else."""

MERGED = {504: 347, 720: 347, 912: 529, 967: 529, 207: 554, 153: 943, 201: 1175}
"""Categories that count as another one."""

COMMON = frozenset({
    4, 13, 34, 35, 36, 41, 45, 58, 60, 78, 79, 81, 91, 95, 99, 118, 126, 133, 139, 154, 174, 185, 211, 221, 229, 235,
    237, 276, 299, 347, 371, 382, 392, 428, 429, 452, 475, 480, 502, 544, 579, 621, 625, 642, 699, 714, 717, 729, 747,
    779, 805, 829, 852, 896, 926, 937, 961, 979, 980, 982, 993, 1001, 1018, 1038, 1057, 1091, 1097, 1099, 1115, 1117,
    1122, 1132, 1135, 1144, 1155, 1162, 1215, 1229,
})
# fmt: on
"""The 78 classes of COCO; every other one is uncommon."""

Group = Literal["all", "common", "uncommon"]
GROUPS: tuple[Group, ...] = ("all", "common", "uncommon")

_OBJECT = 1  # the class of everything in an open world, as the reference program numbers it


@dataclass(frozen=True, slots=True)
class BurstSequence:
    """What a sequence says of its own annotation.

    Attributes:
        negative: categories that are certainly absent.
        not_exhaustive: categories of which not every object is annotated.
    """

    negative: frozenset[int] = frozenset()
    not_exhaustive: frozenset[int] = frozenset()


@dataclass(slots=True)
class BurstFrame:
    """One frame without its masks.

    Attributes:
        tracked: all ground truth but distractors, and all predictions, with their similarities.
        categories_g: ``int64[G]``, merged.
        categories_p: ``int64[P]``, merged.
        scores_p: ``float64[P]``.
        overlaps: of the masks, for track AP; None in an open world.
    """

    tracked: TrackedFrame
    categories_g: IntArray
    categories_p: IntArray
    scores_p: FloatArray
    overlaps: Overlaps | None


@dataclass(slots=True)
class OpenBurst:
    """A sequence that is still coming in."""

    meta: BurstSequence | None = None
    frames: list[BurstFrame] = field(default_factory=list)


class TrackSummary(TypedDict):
    """Whole tracks of one class of one sequence, for track AP.

    ``scores`` is ``float64[D]``, descending; ``outcomes`` ``int8[thresholds, D]``; ``truths`` counts the true tracks.
    """

    scores: FloatArray
    outcomes: Outcomes
    truths: int


class ClassSummary(TypedDict):
    """One class, or one group of an open world, of one sequence."""

    hota: dict[str, FloatArray]
    tracks: TrackSummary | None


BurstSummary = dict[str, ClassSummary]
"""By number of the class, or by group."""


class _Burst(Accumulator[OpenBurst, BurstSummary, BurstSequence]):
    """What the tasks share: taking frames."""

    _needs_masks: bool

    def __init__(
        self,
        *,
        similarity: Literal["box", "mask"] = "box",
        empty_masks: Literal["count", "drop"] = "count",
        common: Iterable[int] = COMMON,
    ) -> None:
        super().__init__()
        self.similarity = similarity
        self.empty_masks = empty_masks
        self.common = frozenset(common)

    def begin(self, sequence_id: str) -> OpenBurst:
        """No frame."""
        return OpenBurst()

    def add(
        self,
        state: OpenBurst,
        frame_index: int,
        truth: FrameAnnotation,
        prediction: FrameSegmentation,
        meta: BurstSequence | None,
    ) -> None:
        """Reduce a frame to similarities. Frames nobody annotated, and those without an object, do not count."""
        if meta is None or (state.meta is not None and state.meta != meta):
            raise InputError("give the same BurstSequence with every frame: its absent and its unfinished categories")
        state.meta = meta
        segments_g, segments_p = truth.segmentation.segments, prediction.segments
        categories_g, categories_p = self._categories(segments_g), self._categories(segments_p)
        kept_g = ~np.isin(categories_g, list(DISTRACTORS))
        if not truth.annotated or not kept_g.any():
            return
        overlaps = None
        if self._needs_masks or self.similarity == "mask":
            overlaps = mask_overlaps(truth.segmentation, prediction)
        if self.similarity == "mask" and overlaps is not None:
            similarity_gp = overlaps.iou_gp()
            visible_g, visible_p = overlaps.areas_g > 0, overlaps.areas_p > 0
        else:
            boxes_g4, boxes_p4 = tight_boxes(truth.segmentation), tight_boxes(prediction)
            similarity_gp = box_iou(boxes_g4, boxes_p4)
            visible_g, visible_p = boxes_g4[:, 2] > 0, boxes_p4[:, 2] > 0
        scores_p = np.array([1.0 if segment.score is None else segment.score for segment in segments_p])
        count_all = self.empty_masks == "count"
        kept_g &= visible_g | count_all
        kept_p = _best(scores_p, np.flatnonzero(visible_p | count_all), MAX_DETECTIONS)
        if kept_g.any():
            tracked = TrackedFrame(_track_ids(segments_g), _track_ids(segments_p), similarity_gp)
            state.frames.append(
                BurstFrame(
                    tracked.select(kept_g, kept_p),
                    _merged(categories_g)[kept_g],
                    _merged(categories_p)[kept_p],
                    scores_p[kept_p],
                    overlaps.select(kept_g, kept_p) if overlaps is not None and self._needs_masks else None,
                )
            )

    def _categories(self, segments: Sequence[Segment]) -> IntArray:
        """As they were given, before merging."""
        for segment in segments:
            if segment.category is None:
                raise InputError(f"segment {segment.id} has no category")
        return np.array([segment.category for segment in segments], dtype=np.int64)

    def result(self) -> Report:
        """The result over all sequences that have ended, with a row each."""
        rows = {name: self.score({name: summary}).values for name, summary in sorted(self._summaries.items())}
        return replace(super().result(), per_video=rows)


class BurstGuided(_Burst):
    """HOTA, DetA, AssA and track AP, averaged over all, common and uncommon classes.

    ``guide="class"`` finds objects of known classes; an unmatched prediction is dropped where the annotation cannot
    tell whether it is wrong. ``guide="exemplar"`` follows objects given once by a mask, box or point (point-exemplar
    tracking): nothing is dropped. There, too, the predicted category must be that of the exemplar, because the
    reference program compares it.

    The similarity is of boxes (``"box"``, the published numbers) or masks (``"mask"``, what the paper says); track AP
    always uses masks. An empty mask in a result file counts as a detection; ``empty_masks="drop"`` is for segments that
    merely say that a track is not visible.

    Name sequences by data set and name, as in ``LaSOT/bear-2``: their order decides between equal scores.
    """

    _needs_masks = True

    def __init__(
        self,
        guide: Literal["class", "exemplar"],
        *,
        similarity: Literal["box", "mask"] = "box",
        empty_masks: Literal["count", "drop"] = "count",
        common: Iterable[int] = COMMON,
    ) -> None:
        super().__init__(similarity=similarity, empty_masks=empty_masks, common=common)
        self.name = f"BURST {guide}-guided"
        self.guide = guide

    def reduce(self, state: OpenBurst) -> BurstSummary:
        """Counts of every class that the sequence or the prediction has."""
        meta = state.meta or BurstSequence()
        found = [frame.categories_g for frame in state.frames] + [frame.categories_p for frame in state.frames]
        categories = np.unique(np.concatenate(found)).tolist() if found else []
        return {str(category): self._summarise(state.frames, category, meta) for category in categories}

    def score(self, summaries: Mapping[str, BurstSummary]) -> Report:
        """A class counts when any sequence has ground truth of it and it is no distractor, not even by merging."""
        by_class: dict[int, list[ClassSummary]] = {}
        for summary in summaries.values():
            for number, one in summary.items():
                by_class.setdefault(int(number), []).append(one)
        rows: dict[int, Scores] = {}
        for category, found in sorted(by_class.items()):
            tracks = [one["tracks"] for one in found if one["tracks"] is not None]
            truths = sum(one["truths"] for one in tracks)
            if truths and category not in DISTRACTORS:
                total = add_hota_counts(HotaCounts(**one["hota"]) for one in found)
                rows[category] = {**hota_scores(total), "AP": _track_ap(tracks, truths)}
        values: Scores = {}
        for group in GROUPS:
            chosen = [row for category, row in rows.items() if _belongs(category, group, self.common)]
            means = mean_scores(chosen, ("HOTA", "DetA", "AssA", "AP"))
            values.update({f"{measure}_{group}": value for measure, value in means.items()})
        return Report(self.name, values, {str(category): row for category, row in rows.items()})

    def _summarise(self, frames: Sequence[BurstFrame], category: int, meta: BurstSequence) -> ClassSummary:
        chosen = []
        for frame in frames:
            of_class_p = np.flatnonzero(frame.categories_p == category)
            one = frame.tracked.select(frame.categories_g == category, of_class_p)
            chosen.append(_without_unknowable(one, category, meta) if self.guide == "class" else one)
        is_known = category in meta.negative or any((frame.categories_g == category).any() for frame in frames)
        tracks = _match_tracks(frames, category, not_exhaustive=category in meta.not_exhaustive) if is_known else None
        return ClassSummary(hota=hota_counts(chosen).to_plain(), tracks=tracks)


class BurstOpenWorld(_Burst):
    """OWTA, DetRe and AssA of all, common and uncommon objects; whatever class is predicted.

    The three groups are three runs: frames without an object of the group do not count, and everything predicted on
    the others does. The similarity is of boxes (``"box"``, the published numbers) or masks (``"mask"``); empty masks
    are treated as in `BurstGuided`.
    """

    name = "BURST open-world"
    _needs_masks = False

    def reduce(self, state: OpenBurst) -> BurstSummary:
        """Counts of the three groups."""
        meta = state.meta or BurstSequence()
        return {
            group: ClassSummary(hota=hota_counts(self._frames_of(state.frames, group, meta)).to_plain(), tracks=None)
            for group in GROUPS
        }

    def score(self, summaries: Mapping[str, BurstSummary]) -> Report:
        """Everything is one class."""
        values: Scores = {}
        for group in GROUPS:
            scores = hota_scores(
                add_hota_counts(HotaCounts(**summary[group]["hota"]) for summary in summaries.values())
            )
            values.update({f"{measure}_{group}": scores[measure] for measure in ("OWTA", "DetRe", "AssA")})
        return Report(self.name, values)

    def _categories(self, segments: Sequence[Segment]) -> IntArray:
        # Only ground truth needs one, to be told common from uncommon.
        return np.array([_OBJECT if s.category is None else s.category for s in segments], dtype=np.int64)

    def _frames_of(self, frames: Sequence[BurstFrame], group: Group, meta: BurstSequence) -> list[TrackedFrame]:
        chosen = []
        for frame in frames:
            in_group = [_belongs(category, group, self.common) for category in frame.categories_g.tolist()]
            if any(in_group):
                everyone = np.arange(len(frame.categories_p))
                chosen.append(_without_unknowable(frame.tracked.select(np.array(in_group), everyone), _OBJECT, meta))
        return chosen


def _belongs(category: int, group: Group, common: frozenset[int]) -> bool:
    return group == "all" or (category in common) == (group == "common")


def _merged(categories: IntArray) -> IntArray:
    return np.array([MERGED.get(category, category) for category in categories.tolist()], dtype=np.int64)


def _track_ids(segments: Sequence[Segment]) -> IntArray:
    return np.array([segment.track_id for segment in segments], dtype=np.int64)


def _best(scores_p: FloatArray, candidates: IntArray, limit: int) -> IntArray:
    """Positions of the best scored candidates, in the order given."""
    return np.sort(candidates[np.argsort(-scores_p[candidates], kind="stable")[:limit]])


def _without_unknowable(frame: TrackedFrame, category: int, meta: BurstSequence) -> TrackedFrame:
    """Drop unmatched predictions of which the annotation cannot tell whether they are wrong (§9.3)."""
    is_absent_by_chance = not len(frame.truth_ids) and category not in meta.negative
    if not is_absent_by_chance and category not in meta.not_exhaustive:
        return frame
    everyone = np.arange(len(frame.truth_ids))
    return frame.select(everyone, ~unmatched(frame.similarity_gp, invalid=0.0))


def _match_tracks(frames: Sequence[BurstFrame], category: int, *, not_exhaustive: bool) -> TrackSummary:
    """Whole tracks by the IoU of their masks over all frames that count (§9.3, track AP)."""
    areas_g: dict[int, int] = {}
    areas_p: dict[int, int] = {}
    scores: dict[int, list[float]] = {}
    shared: dict[tuple[int, int], int] = {}
    for frame in frames:
        assert frame.overlaps is not None
        of_g, of_p = np.flatnonzero(frame.categories_g == category), np.flatnonzero(frame.categories_p == category)
        truths, tracks = frame.tracked.truth_ids[of_g].tolist(), frame.tracked.predicted_ids[of_p].tolist()
        for truth, area in zip(truths, frame.overlaps.areas_g[of_g].tolist(), strict=True):
            areas_g[truth] = areas_g.get(truth, 0) + area
        for track, n in zip(tracks, of_p.tolist(), strict=True):
            areas_p[track] = areas_p.get(track, 0) + int(frame.overlaps.areas_p[n])
            scores.setdefault(track, []).append(float(frame.scores_p[n]))
        shared_gp = frame.overlaps.shared_gp[np.ix_(of_g, of_p)]
        for g, p in np.argwhere(shared_gp):
            pair = (truths[g], tracks[p])
            shared[pair] = shared.get(pair, 0) + int(shared_gp[g, p])
    mean_score = {track: float(np.mean(values)) for track, values in scores.items()}
    ranked = sorted(mean_score, key=lambda track: -mean_score[track])
    iou_dg = np.zeros((len(ranked), len(areas_g)))
    for d, track in enumerate(ranked):
        for g, truth in enumerate(areas_g):
            both = shared.get((truth, track), 0)
            iou_dg[d, g] = both / max(1, areas_p[track] + areas_g[truth] - both)
    outcomes_atd, truths_a = judge(
        iou_dg,
        np.zeros(len(ranked)),
        np.zeros(len(areas_g)),
        np.zeros(len(areas_g), dtype=bool),
        area_ranges=[AREA_RANGES[0]],
    )
    outcomes = outcomes_atd[0]
    if not_exhaustive:
        outcomes[outcomes == WRONG] = IGNORED
    return TrackSummary(
        scores=np.array([mean_score[track] for track in ranked]), outcomes=outcomes, truths=int(truths_a[0])
    )


def _track_ap(tracks: Sequence[TrackSummary], truths: int) -> float:
    outcomes: NDArray[np.int8] = np.concatenate([one["outcomes"] for one in tracks], axis=1)
    scores = np.concatenate([one["scores"] for one in tracks])
    return float(precision_and_recall(outcomes, scores, truths)[0].mean())
