"""BURST: long-tail, exemplar-guided and open-world tracking (Athar et al., WACV 2023; metrics specification §9).

The published numbers compare **boxes** frame by frame, although the paper speaks of masks; both are here. Annotations
are not exhaustive: a sequence names the classes that are certainly absent and those of which not all is annotated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import ClassVar, Literal, TypedDict

import numpy as np

from maskstream.types import FrameAnnotation, FrameSegmentation, InputError, Overlaps, Segment, tight_boxes

from .accumulator import Accumulator, Scores, WithoutPrediction
from .additive import Additive, Terms, ratios, weighted_sums
from .clear import unmatched
from .hota import (
    ALPHAS,
    FloatArray,
    HotaCounts,
    IntArray,
    TrackedFrame,
    box_iou,
    frame_overlaps,
    hota_counts,
    hota_curves,
    hota_scores,
)
from .vis_ap import AREA_RANGES, IGNORED, IOU_THRESHOLDS, WRONG, Outcomes, average_precision, judge

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

    without_prediction: ClassVar[WithoutPrediction] = "empty"
    _needs_masks: bool
    _needs_category_p: bool

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
        categories_g = _categories(segments_g, needed=True)
        categories_p = _categories(segments_p, needed=self._needs_category_p)
        kept_g = ~np.isin(categories_g, list(DISTRACTORS))
        if not truth.annotated or not kept_g.any():
            return
        overlaps = None
        if self._needs_masks or self.similarity == "mask":
            overlaps = frame_overlaps(truth.segmentation, prediction)
        if self.similarity == "mask" and overlaps is not None:
            similarity_gp = overlaps.iou_gp()
            visible_g, visible_p = overlaps.areas_g > 0, overlaps.areas_p > 0
        else:
            boxes_g4, boxes_p4 = (
                tight_boxes(side.masks, len(side.segments)) for side in (truth.segmentation, prediction)
            )
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


class BurstGuided(_Burst):
    """HOTA, DetA, AssA and track AP, averaged over all, common and uncommon classes.

    ``guide="class"`` finds objects of known classes; an unmatched prediction is dropped where the annotation cannot
    tell whether it is wrong. ``guide="exemplar"`` follows objects given once by a mask, box or point (point-exemplar
    tracking): nothing is dropped. There, too, the predicted category must be that of the exemplar, because the
    reference program compares it (``compat="official"``). With ``compat="paper"`` it is irrelevant, as the benchmark's
    documentation has it: a predicted track takes the category of the true track with its id, and one without a true
    track counts for nothing.

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
        compat: Literal["official", "paper"] = "official",
    ) -> None:
        super().__init__(similarity=similarity, empty_masks=empty_masks, common=common)
        if compat == "paper" and guide == "class":
            raise InputError('compat="paper" is of the exemplar-guided task: predicted categories matter here')
        self.name = f"BURST {guide}-guided"
        self.guide = guide
        self.compat = compat
        self._needs_category_p = compat == "official"

    def reduce(self, state: OpenBurst) -> BurstSummary:
        """Counts of every class that the sequence or the prediction has."""
        meta = state.meta or BurstSequence()
        frames = _with_true_categories(state.frames) if self.compat == "paper" else state.frames
        found = [frame.categories_g for frame in frames] + [frame.categories_p for frame in frames]
        categories = np.unique(np.concatenate(found)).tolist() if found else []
        return {str(category): self._summarise(frames, category, meta) for category in categories}

    def values(self, summaries: Mapping[str, BurstSummary]) -> Scores:
        """A class counts when any sequence has ground truth of it and it is no distractor, not even by merging."""
        return self._group_means(self._class_scores(summaries), 1)[0]

    def resample(self, summaries: Mapping[str, BurstSummary], weights_sn: FloatArray) -> list[Scores]:
        """The values of S data sets that hold each of the N sequences so and so often."""
        return self._group_means(self._class_scores(summaries, weights_sn), len(weights_sn))

    def class_rows(self, summaries: Mapping[str, BurstSummary]) -> dict[str, Scores]:
        """The HOTA family and track AP of every class that counts."""
        return {
            str(category): {measure: float(value_s[0]) for measure, value_s in row.items()}
            for category, row in self._class_scores(summaries).items()
            if not np.isnan(row["AP"][0])
        }

    def _class_scores(
        self, summaries: Mapping[str, BurstSummary], weights_sn: FloatArray | None = None
    ) -> dict[int, dict[str, FloatArray]]:
        """Each measure of each class, ``float64[S]`` for S weightings of the sequences; nan without ground truth."""
        by_class: dict[int, dict[int, ClassSummary]] = {}
        for n, summary in enumerate(summaries.values()):
            for number, one in summary.items():
                if int(number) not in DISTRACTORS:
                    by_class.setdefault(int(number), {})[n] = one
        rows: dict[int, dict[str, FloatArray]] = {}
        for category, found in sorted(by_class.items()):
            some_sn = None if weights_sn is None else weights_sn[:, list(found)]
            rows[category] = _hota_measures(list(found.values()), some_sn) | {"AP": _track_ap(found.values(), some_sn)}
            for measure in rows[category]:
                rows[category][measure] = np.where(np.isnan(rows[category]["AP"]), np.nan, rows[category][measure])
        return rows

    def _group_means(self, rows: Mapping[int, Mapping[str, FloatArray]], count: int) -> list[Scores]:
        """Plain means over the classes of each group, for ``count`` data sets."""
        values: dict[str, list[float]] = {}
        for group in GROUPS:
            chosen = [row for category, row in rows.items() if _belongs(category, group, self.common)]
            for measure in ("HOTA", "DetA", "AssA", "AP"):
                value_cs = np.array([row[measure] for row in chosen]).reshape(-1, count)
                defined = ~np.isnan(value_cs)
                means = ratios(np.where(defined, value_cs, 0.0).sum(axis=0), defined.sum(axis=0))
                values[f"{measure}_{group}"] = means.tolist()
        return [{name: column[s] for name, column in values.items()} for s in range(count)]

    def _summarise(self, frames: Sequence[BurstFrame], category: int, meta: BurstSequence) -> ClassSummary:
        chosen = []
        for frame in frames:
            of_class_p = np.flatnonzero(frame.categories_p == category)
            one = frame.tracked.select(frame.categories_g == category, of_class_p)
            chosen.append(_without_unknowable(one, category, meta) if self.guide == "class" else one)
        is_known = category in meta.negative or any((frame.categories_g == category).any() for frame in frames)
        tracks = _match_tracks(frames, category, not_exhaustive=category in meta.not_exhaustive) if is_known else None
        return ClassSummary(hota=hota_counts(chosen).to_plain(), tracks=tracks)


class BurstOpenWorld(_Burst, Additive[OpenBurst, BurstSummary, BurstSequence]):
    """OWTA, DetRe and AssA of all, common and uncommon objects; whatever class is predicted.

    The three groups are three runs: frames without an object of the group do not count, and everything predicted on
    the others does. The similarity is of boxes (``"box"``, the published numbers) or masks (``"mask"``); empty masks
    are treated as in `BurstGuided`.
    """

    name = "BURST open-world"
    _needs_masks = False
    _needs_category_p = False

    def reduce(self, state: OpenBurst) -> BurstSummary:
        """Counts of the three groups."""
        meta = state.meta or BurstSequence()
        return {
            group: ClassSummary(hota=hota_counts(self._frames_of(state.frames, group, meta)).to_plain(), tracks=None)
            for group in GROUPS
        }

    def terms(self, summaries: Mapping[str, BurstSummary]) -> Terms:
        """The counts of the three groups of each sequence."""
        rows = [[HotaCounts(**s[group]["hota"]).to_array() for group in GROUPS] for s in summaries.values()]
        shape = (len(summaries), len(GROUPS), len(fields(HotaCounts)), len(ALPHAS))
        return {"hota": np.array(rows, np.float64).reshape(shape)}

    def from_sums(self, sums: Terms) -> Scores:
        """Everything is one class."""
        values: Scores = {}
        for group, hota in zip(GROUPS, sums["hota"], strict=True):
            scores = hota_scores(HotaCounts(*hota))
            values |= {f"{measure}_{group}": scores[measure] for measure in ("OWTA", "DetRe", "AssA")}
        return values

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


def _categories(segments: Sequence[Segment], *, needed: bool) -> IntArray:
    """As they were given, before merging; that of an open world for segments that need none."""
    for segment in segments:
        if segment.category is None and needed:
            raise InputError(f"segment {segment.id} has no category")
    return np.array([_OBJECT if s.category is None else s.category for s in segments], dtype=np.int64)


def _merged(categories: IntArray) -> IntArray:
    return np.array([MERGED.get(category, category) for category in categories.tolist()], dtype=np.int64)


def _track_ids(segments: Sequence[Segment]) -> IntArray:
    return np.array([segment.track_id for segment in segments], dtype=np.int64)


def _best(scores_p: FloatArray, candidates: IntArray, limit: int) -> IntArray:
    """Positions of the best scored candidates, in the order given."""
    return np.sort(candidates[np.argsort(-scores_p[candidates], kind="stable")[:limit]])


def _with_true_categories(frames: Sequence[BurstFrame]) -> list[BurstFrame]:
    """Predicted tracks with the category of the true track of the same id; without those that have none."""
    category_of: dict[int, int] = {}
    for frame in frames:
        category_of.update(zip(frame.tracked.truth_ids.tolist(), frame.categories_g.tolist(), strict=True))
    relabelled = []
    for frame in frames:
        ids, everyone_g = frame.tracked.predicted_ids.tolist(), np.arange(len(frame.categories_g))
        known_p = np.array([n for n, track in enumerate(ids) if track in category_of], dtype=np.int64)
        categories_p = np.array([category_of[ids[n]] for n in known_p], dtype=np.int64)
        overlaps = None if frame.overlaps is None else frame.overlaps.select(everyone_g, known_p)
        tracked = frame.tracked.select(everyone_g, known_p)
        relabelled.append(BurstFrame(tracked, frame.categories_g, categories_p, frame.scores_p[known_p], overlaps))
    return relabelled


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


def _hota_measures(found: Sequence[ClassSummary], weights_sn: FloatArray | None) -> dict[str, FloatArray]:
    """Each measure of the HOTA family of one class, ``float64[S]``."""
    counts = np.stack([HotaCounts(**one["hota"]).to_array() for one in found])
    total = counts.sum(axis=0, keepdims=True) if weights_sn is None else weighted_sums(weights_sn, counts)
    return {name: curve.mean(axis=-1) for name, curve in hota_curves(HotaCounts(*np.moveaxis(total, 1, 0))).items()}


def _track_ap(found: Iterable[ClassSummary], weights_sn: FloatArray | None) -> FloatArray:
    """Track AP of one class, ``float64[S]``; nan without ground truth."""
    tracks = [one["tracks"] or _NO_TRACKS for one in found]
    weights_sn = np.ones((1, len(tracks))) if weights_sn is None else weights_sn
    outcomes: Outcomes = np.concatenate([one["outcomes"] for one in tracks], axis=1)
    scores = np.concatenate([one["scores"] for one in tracks])
    sequence_d = np.repeat(np.arange(len(tracks)), [len(one["scores"]) for one in tracks])
    truths_s = weights_sn @ np.array([one["truths"] for one in tracks])
    ap_s: FloatArray = average_precision(outcomes, scores, sequence_d, weights_sn, truths_s).mean(axis=1)
    return ap_s


_NO_TRACKS = TrackSummary(scores=np.zeros(0), outcomes=np.zeros((len(IOU_THRESHOLDS), 0), np.int8), truths=0)
