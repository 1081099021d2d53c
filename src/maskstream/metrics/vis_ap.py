"""Average precision and recall of tubes: YouTube-VIS, OVIS and, without categories, UVO (metrics specification §4).

The protocol of COCO with one mask a frame instead of a box (Yang et al., ICCV 2019; Wang et al., ICCV 2021 for UVO).
A video is reduced to the outcome of every prediction at every threshold; masks are gone before the next one begins.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypedDict

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from maskstream.types import OBJECT, RLE, CategorySet, FrameAnnotation, FrameSegmentation, InputError

from .accumulator import Accumulator, Scores, WithoutPrediction
from .additive import ratios

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Outcomes = NDArray[np.int8]

IOU_THRESHOLDS: FloatArray = np.linspace(0.5, 0.95, 10)
RECALLS: FloatArray = np.linspace(0.0, 1.0, 101)
AREA_RANGES = ((0.0, 1e10), (0.0, 128.0**2), (128.0**2, 256.0**2), (256.0**2, 1e10))
"""All, small, medium and large, in pixels of an average frame; both ends belong to a range."""

MAX_PREDICTIONS = 100
_AT_ONCE = 100  # resampled data sets; bounds memory
_ALMOST_ONE = 1 - 1e-10
_SPACING = float(np.spacing(1.0))
WRONG, RIGHT, IGNORED = 0, 1, 2

Masks = Sequence[RLE | None]
"""One mask a frame of the video; None where there is nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class TrueTube:
    """An annotated object.

    Attributes:
        masks: one a frame.
        category: category id.
        crowd: stands for an uncounted group, and may take any number of predictions.
        areas: pixels on every frame as the annotation file states them; counted from the masks when None.
    """

    masks: Masks = field(repr=False)
    category: int
    crowd: bool = False
    areas: Sequence[float | None] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class PredictedTube:
    """A predicted object: one mask a frame, category id and confidence."""

    masks: Masks = field(repr=False)
    category: int
    score: float


class ClassSummary(TypedDict):
    """One category of one video.

    ``scores`` is ``float64[D]``, descending; ``outcomes`` ``int8[areas, thresholds, D]`` of `WRONG`, `RIGHT` and
    `IGNORED`; ``truths`` ``int64[areas]``, ground truths that count.
    """

    scores: FloatArray
    outcomes: Outcomes
    truths: IntArray


class VisSummary(TypedDict):
    """One video."""

    video_id: str
    classes: dict[int, ClassSummary]


# The mathematics.


def tube_iou(predicted: Sequence[Masks], truth: Sequence[Masks]) -> FloatArray:
    """Intersection over union of tubes: pixels shared by all frames over pixels in either (§4.1).

    Args:
        predicted: D tubes of T frames.
        truth: G tubes of T frames.

    Returns:
        ``float64[D, G]``; 0 where both tubes are empty.

    Raises:
        InputError: tubes differ in length, or masks in size.
    """
    check_tubes([*predicted, *truth])
    return _tube_iou(predicted, truth, frame_areas(predicted), frame_areas(truth))


def frame_areas(tubes: Sequence[Masks]) -> IntArray:
    """Pixels of every tube on every frame: ``int64[N, T]``, 0 where there is no mask."""
    areas_nt = np.zeros((len(tubes), len(tubes[0]) if tubes else 0), dtype=np.int64)
    present = [(n, t) for n, masks in enumerate(tubes) for t, code in enumerate(masks) if code is not None]
    # pycocotools refuses more than 255 masks at once under NumPy 2.
    for first in range(0, len(present), 255):
        some = present[first : first + 255]
        areas_nt[tuple(np.array(some).T)] = coco_mask.area([tubes[n][t] for n, t in some])
    return areas_nt


def check_tubes(tubes: Sequence[Masks]) -> None:
    """Refuse tubes that do not belong to one video.

    Raises:
        InputError: tubes differ in length, or masks in size.
    """
    size: list[int] | None = None
    for masks in tubes:
        if len(masks) != len(tubes[0]):
            raise InputError(
                f"tubes have {len(tubes[0])} and {len(masks)} frames: give one mask or null for each frame"
            )
        for frame, code in enumerate(masks):
            if code is None:
                continue
            size = size or code["size"]
            if code["size"] != size:
                raise InputError(
                    f"frame {frame}: a mask is {code['size'][0]}×{code['size'][1]}, "
                    f"but others of this video are {size[0]}×{size[1]}"
                )


def match_tubes(
    iou_dg: FloatArray, *, ignored_g: BoolArray, crowd_g: BoolArray, thresholds: FloatArray = IOU_THRESHOLDS
) -> IntArray:
    """Give ground truths to predictions, the best scored first (§4.3).

    A regular ground truth is taken once and is preferred to an ignored one; of two that fit equally well the later
    wins, as in the reference program.

    Args:
        iou_dg: ``float64[D, G]``, predictions by descending score.
        ignored_g: ``bool[G]``, matching these is neither right nor wrong.
        crowd_g: ``bool[G]``, these can be matched again and again.
        thresholds: the smallest IoU that matches, one run each.

    Returns:
        ``int64[thresholds, D]``, the position of the ground truth, or -1.
    """
    match_td = np.full((len(thresholds), len(iou_dg)), -1, dtype=np.int64)
    lowest = min(thresholds.min(), _ALMOST_ONE)
    rows = [(d, row) for d, row in enumerate(iou_dg.tolist()) if max(row, default=0.0) >= lowest]
    if not rows:
        return match_td
    order = np.argsort(ignored_g, kind="stable").tolist()
    ignored, crowd = ignored_g.tolist(), crowd_g.tolist()
    for match_d, threshold in zip(match_td, thresholds.tolist(), strict=True):
        taken: set[int] = set()
        for d, row in rows:
            best, match = min(threshold, _ALMOST_ONE), -1
            for g in order:
                if g in taken and not crowd[g]:
                    continue
                if match >= 0 and ignored[g] and not ignored[match]:
                    break
                if row[g] >= best:
                    best, match = row[g], g
            if match >= 0:
                taken.add(match)
                match_d[d] = match
    return match_td


def judge(
    iou_dg: FloatArray,
    areas_d: FloatArray,
    areas_g: FloatArray,
    crowd_g: BoolArray,
    *,
    area_ranges: Sequence[tuple[float, float]] = AREA_RANGES,
) -> tuple[Outcomes, IntArray]:
    """The outcome of every prediction of one video and category, for all area ranges and thresholds (§4.2, §4.3).

    Args:
        iou_dg: ``float64[D, G]``, predictions by descending score.
        areas_d: ``float64[D]``, mean areas.
        areas_g: ``float64[G]``, mean areas.
        crowd_g: ``bool[G]``.
        area_ranges: smallest and largest area of each range.

    Returns:
        ``int8[areas, thresholds, D]`` and the number of ground truths that count, ``int64[areas]``.
    """
    outcomes_atd = np.zeros((len(area_ranges), len(IOU_THRESHOLDS), len(areas_d)), dtype=np.int8)
    truths_a = np.zeros(len(area_ranges), dtype=np.int64)
    matches: dict[bytes, IntArray] = {}  # ranges that ignore the same ground truths match alike
    for a, (low, high) in enumerate(area_ranges):
        ignored_g = crowd_g | (areas_g < low) | (areas_g > high)
        key = ignored_g.tobytes()
        if key not in matches:
            matches[key] = match_tubes(iou_dg, ignored_g=ignored_g, crowd_g=crowd_g)
        match_td = matches[key]
        outside_d = (areas_d < low) | (areas_d > high)
        unmatched_d = np.where(outside_d, IGNORED, WRONG)
        # The last entry is never looked up by a match; it lets -1 be an index when there is no ground truth.
        matched_td = np.where(np.append(ignored_g, False)[match_td], IGNORED, RIGHT)
        outcomes_atd[a] = np.where(match_td >= 0, matched_td, unmatched_d)
        truths_a[a] = np.count_nonzero(~ignored_g)
    return outcomes_atd, truths_a


def average_precision(
    outcomes_td: Outcomes, scores_d: FloatArray, video_d: IntArray, weights_sv: FloatArray, truths_s: FloatArray
) -> FloatArray:
    """AP of one category, for S data sets that hold each video so and so often (§4.4).

    Precision, made non-increasing, is averaged over the 101 recalls, where a recall that is not reached counts 0. It
    rises at right predictions only, so nothing needs to be known of the curve but its value there.

    Args:
        outcomes_td: ``int8[thresholds, D]``.
        scores_d: ``float64[D]``; equal scores keep their order.
        video_d: ``int64[D]``, the video of each prediction.
        weights_sv: ``float64[S, V]``, how often each video is there.
        truths_s: ``float64[S]``, number of ground truths that count.

    Returns:
        ``float64[S, thresholds]``; nan without ground truth.
    """
    ap_st = np.zeros((len(weights_sv), len(outcomes_td)))
    ap_st[truths_s == 0] = math.nan
    if not (outcomes_td == RIGHT).any() or not truths_s.any():
        return ap_st
    order = np.argsort(-scores_d, kind="stable")
    # How many of the 101 recalls are reached with so many right predictions.
    found_k = np.arange(truths_s.max() + 1)
    reached_ks = np.searchsorted(RECALLS, found_k[:, None] / np.maximum(1, truths_s), side="right")
    same_as: dict[bytes, int] = {}  # thresholds between which no IoU lies
    for t, outcome_d in enumerate(outcomes_td[:, order]):
        before = same_as.setdefault(outcome_d.tobytes(), t)
        counted = (outcome_d != IGNORED).nonzero()[0]
        right = (outcome_d[counted] == RIGHT).nonzero()[0]
        if before < t or not len(right):
            ap_st[:, t] = ap_st[:, before]
            continue
        weights_ds = weights_sv.T[video_d[order[counted[: right[-1] + 1]]]]
        starts = np.concatenate([[0], right[:-1] + 1])
        counted_rs = np.add.reduceat(weights_ds, starts, axis=0).cumsum(axis=0)
        found_rs = weights_ds[right].cumsum(axis=0)
        precision_rs = found_rs / (counted_rs + _SPACING)
        envelope_rs = np.maximum.accumulate(precision_rs[::-1], axis=0)[::-1]
        reached_rs = reached_ks[found_rs.astype(np.intp), np.arange(len(truths_s))]
        reached_rs[1:] -= reached_rs[:-1].copy()
        ap_st[:, t] = np.where(truths_s > 0, (envelope_rs * reached_rs).sum(axis=0) / len(RECALLS), math.nan)
    return ap_st


def mean_area(areas: Iterable[float | None]) -> float:
    """Mean over frames on which there is something; 0 when there is nothing on any (§4.2)."""
    visible = [area for area in areas if area]
    return math.fsum(visible) / len(visible) if visible else 0.0


# The accumulator.


@dataclass(slots=True)
class GrowingTube:
    """A tube of a video that is still coming in; the segment is the one seen last."""

    category: int
    score: float
    crowd: bool = False
    masks: list[RLE | None] = field(default_factory=list)


@dataclass(slots=True)
class OpenVideo:
    """A video that is still coming in: tubes by track id."""

    video_id: str
    length: int = 0
    truth: dict[int, GrowingTube] = field(default_factory=dict)
    predicted: dict[int, GrowingTube] = field(default_factory=dict)


class VideoInstanceAP(Accumulator[OpenVideo, VisSummary, None]):
    """AP, AP50, AP75, AR1, AR10, AR100 and the three sizes, as the servers of YouTube-VIS and OVIS compute them.

    Give whole videos to `update_video`, or frames to `update`. By frames, a track has the category and score of the
    last frame it was seen on, and a missing score is 1. Void is not used: this protocol has none. Frames that nobody
    annotated are left out.

    Videos are taken in ascending order of their ids, which matters for equal scores: numbers by value.
    """

    name = "VIS AP"
    without_prediction: ClassVar[WithoutPrediction] = "empty"

    def __init__(self, categories: CategorySet = OBJECT, *, class_agnostic: bool = False) -> None:
        """Choose the protocol.

        Args:
            categories: the label space of truth and predictions.
            class_agnostic: pool all categories, as UVO does; AR100 is then the headline.
        """
        super().__init__()
        self.categories = categories
        self.class_agnostic = class_agnostic

    def update_video(
        self,
        video_id: str | int,
        truth: Sequence[TrueTube],
        predicted: Sequence[PredictedTube],
        *,
        length: int | None = None,
    ) -> None:
        """Take a whole video at once; no `end_sequence` is needed.

        Args:
            video_id: of the video.
            truth: in the order of the annotation file.
            predicted: in the order of the result file; equal scores keep it.
            length: frames of the video, to be compared with the tubes.

        Raises:
            InputError: tubes and video differ in length or size, a category is unknown, a score is not a number, or
                the video came before; the message names the video.
        """
        sequence_id = str(video_id)
        if sequence_id in self._summaries or sequence_id in self._open:
            raise InputError(f"video {sequence_id} came before: give each video once")
        tubes: list[TrueTube | PredictedTube] = [*truth, *predicted]
        for tube in tubes:
            if length is not None and len(tube.masks) != length:
                what = "predicted" if isinstance(tube, PredictedTube) else "true"
                raise InputError(
                    f"video {sequence_id}: a {what} tube has {len(tube.masks)} frames but the video {length}: "
                    "give one mask or null for each frame"
                )
        try:
            self._summaries[sequence_id] = self._summarise(sequence_id, truth, predicted)
        except InputError as error:
            raise InputError(f"video {sequence_id}: {error}") from error

    def begin(self, sequence_id: str) -> OpenVideo:
        """No tube."""
        return OpenVideo(sequence_id)

    def add(
        self, state: OpenVideo, frame_index: int, truth: FrameAnnotation, prediction: FrameSegmentation, meta: None
    ) -> None:
        """Encode the masks of a frame and hang them on their tubes."""
        if not truth.annotated:
            return
        self._grow(state.truth, truth.segmentation, state.length, truth.crowd_ids)
        self._grow(state.predicted, prediction, state.length, frozenset())
        state.length += 1

    def reduce(self, state: OpenVideo) -> VisSummary:
        """Match the tubes."""
        for tube in [*state.truth.values(), *state.predicted.values()]:
            tube.masks.extend([None] * (state.length - len(tube.masks)))
        truth = [TrueTube(tube.masks, tube.category, tube.crowd) for tube in state.truth.values()]
        predicted = [PredictedTube(tube.masks, tube.category, tube.score) for tube in state.predicted.values()]
        return self._summarise(state.video_id, truth, predicted)

    def values(self, summaries: Mapping[str, VisSummary]) -> Scores:
        """Mean over the categories that have ground truth (§4.4)."""
        return self.resample(summaries, np.ones((1, len(summaries))))[0]

    def resample(self, summaries: Mapping[str, VisSummary], weights_sn: FloatArray) -> list[Scores]:
        """The values of S data sets that hold each of the N videos so and so often."""
        classes = self._classes(summaries)
        order = _order(summaries)
        drawn: list[Scores] = []
        for first in range(0, len(weights_sn), _AT_ONCE):
            some_sv = weights_sn[first : first + _AT_ONCE, order]
            drawn += _means([_class_scores(one, some_sv) for one in classes.values()])
        return drawn

    def class_rows(self, summaries: Mapping[str, VisSummary]) -> dict[str, Scores]:
        """A row a category; none when categories are pooled."""
        whole = np.ones((1, len(summaries)))
        classes = {} if self.class_agnostic else self._classes(summaries)
        return {name: _means([_class_scores(one, whole)])[0] for name, one in classes.items()}

    def precision_by_threshold(self) -> FloatArray:
        """AP at each of the ten IoU thresholds: ``float64[10]``, over all videos that have ended; nan if undefined."""
        whole = np.ones((1, len(self._summaries)))
        classes = self._classes(self._summaries).values()
        ap_st = _mean_over_classes(np.stack([_class_scores(one, whole).ap_ast[0] for one in classes]))
        return ap_st.reshape(-1)

    def _classes(self, summaries: Mapping[str, VisSummary]) -> dict[str, _Predictions]:
        """By name of the category; one in all when they are pooled."""
        names = list(summaries.values())
        videos = [names[n] for n in _order(summaries)]
        if self.class_agnostic:
            return {"": _predictions(videos, _POOLED)}
        return {category.name: _predictions(videos, category.id) for category in self.categories.categories}

    def _grow(
        self, tubes: dict[int, GrowingTube], segmentation: FrameSegmentation, position: int, crowd_ids: frozenset[int]
    ) -> None:
        areas = segmentation.areas().tolist()
        for segment, code, area in zip(segmentation.segments, segmentation.to_rle(), areas, strict=True):
            category = segment.category
            if category is None:
                if not self.class_agnostic:
                    raise InputError(f"segment {segment.id} has no category")
                category = _POOLED
            score = 1.0 if segment.score is None else segment.score
            tube = tubes.setdefault(segment.track_id, GrowingTube(category, score))
            tube.category, tube.score, tube.crowd = category, score, tube.crowd or segment.id in crowd_ids
            if len(tube.masks) > position:
                raise InputError(f"track {segment.track_id} has two segments")
            tube.masks.extend([None] * (position - len(tube.masks)))
            tube.masks.append(code if area else None)

    def _summarise(self, video_id: str, truth: Sequence[TrueTube], predicted: Sequence[PredictedTube]) -> VisSummary:
        self._check(truth, predicted)
        if self.class_agnostic:
            by_category = sorted(truth, key=lambda tube: tube.category)
            return VisSummary(video_id=video_id, classes={_POOLED: _summarise_class(by_category, predicted)})
        present = sorted({tube.category for tube in truth} | {tube.category for tube in predicted})
        classes = {
            category: _summarise_class(
                [tube for tube in truth if tube.category == category],
                [tube for tube in predicted if tube.category == category],
            )
            for category in present
        }
        return VisSummary(video_id=video_id, classes=classes)

    def _check(self, truth: Sequence[TrueTube], predicted: Sequence[PredictedTube]) -> None:
        tubes: list[TrueTube | PredictedTube] = [*truth, *predicted]
        check_tubes([tube.masks for tube in tubes])
        unknown = {tube.category for tube in tubes} - set(self.categories.ids)
        if unknown and not self.class_agnostic:
            raise InputError(
                f"category {min(unknown)} is not in the label space {self.categories.name!r}: "
                f"it has {list(self.categories.ids)}"
            )
        for guess in predicted:
            if not math.isfinite(guess.score):
                raise InputError(f"a prediction of category {guess.category} has the score {guess.score}")
        for annotated in truth:
            if annotated.areas is not None and len(annotated.areas) != len(annotated.masks):
                raise InputError(f"a tube has {len(annotated.masks)} masks but {len(annotated.areas)} areas")


_POOLED = 1


def _summarise_class(truth: Sequence[TrueTube], predicted: Sequence[PredictedTube]) -> ClassSummary:
    """Match the best scored predictions of one category of one video."""
    ranked = sorted(predicted, key=lambda tube: -tube.score)[:MAX_PREDICTIONS]
    masks_d, masks_g = [tube.masks for tube in ranked], [tube.masks for tube in truth]
    areas_dt, areas_gt = frame_areas(masks_d), frame_areas(masks_g)
    stated = [areas if tube.areas is None else tube.areas for tube, areas in zip(truth, areas_gt.tolist(), strict=True)]
    outcomes, truths = judge(
        _tube_iou(masks_d, masks_g, areas_dt, areas_gt),
        np.array([mean_area(areas) for areas in areas_dt.tolist()]),
        np.array([mean_area(areas) for areas in stated]),
        np.array([tube.crowd for tube in truth], dtype=bool),
    )
    return ClassSummary(scores=np.array([tube.score for tube in ranked]), outcomes=outcomes, truths=truths)


def _tube_iou(predicted: Sequence[Masks], truth: Sequence[Masks], areas_dt: IntArray, areas_gt: IntArray) -> FloatArray:
    shared_dg = np.zeros((len(predicted), len(truth)))
    seen_t = (areas_dt > 0).any(axis=0) & (areas_gt > 0).any(axis=0) if shared_dg.size else np.zeros(0, dtype=bool)
    if seen_t.any():
        nothing = _empty(next(code["size"] for masks in truth for code in masks if code is not None))
        against_crowd = [1] * len(truth)
        for t in np.flatnonzero(seen_t).tolist():
            codes_d, codes_g = [masks[t] or nothing for masks in predicted], [masks[t] or nothing for masks in truth]
            # Against "crowd" pycocotools divides by the area of the prediction, which gives back the intersection.
            shared_dg += np.rint(coco_mask.iou(codes_d, codes_g, against_crowd) * areas_dt[:, t, None])
    union_dg = areas_dt.sum(axis=1)[:, None] + areas_gt.sum(axis=1)[None] - shared_dg
    iou_dg: FloatArray = shared_dg / np.maximum(1, union_dg)
    return iou_dg


def _empty(size: list[int]) -> RLE:
    code = coco_mask.frPyObjects({"size": size, "counts": [size[0] * size[1]]}, *size)
    return RLE(size=size, counts=code["counts"].decode("ascii"))


@dataclass(frozen=True, slots=True, eq=False)
class _Predictions:
    """One category over V videos.

    Attributes:
        scores_d: ``float64[D]``.
        video_d: ``int64[D]``.
        rank_d: ``int64[D]``, how many better ones of this category the video has.
        outcomes_atd: ``int8[areas, thresholds, D]``.
        truths_va: ``int64[V, areas]``.
    """

    scores_d: FloatArray
    video_d: IntArray
    rank_d: IntArray
    outcomes_atd: Outcomes
    truths_va: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class _ClassScores:
    """One category in S data sets; nan where no ground truth counts.

    Attributes:
        ap_ast: ``float64[areas, S, thresholds]``, AP at 100 predictions.
        ar_ast: ``float64[areas + 2, S, thresholds]``, recall at 100 predictions; then of all areas at 1 and 10.
    """

    ap_ast: FloatArray
    ar_ast: FloatArray


def _predictions(videos: Sequence[VisSummary], category: int) -> _Predictions:
    classes = [(n, video["classes"][category]) for n, video in enumerate(videos) if category in video["classes"]]
    truths_va = np.zeros((len(videos), len(AREA_RANGES)), np.int64)
    for n, one in classes:
        truths_va[n] = one["truths"]
    none: Outcomes = np.zeros((len(AREA_RANGES), len(IOU_THRESHOLDS), 0), np.int8)
    return _Predictions(
        np.concatenate([np.zeros(0), *(one["scores"] for _, one in classes)]),
        np.repeat(np.array([n for n, _ in classes], np.int64), [len(one["scores"]) for _, one in classes]),
        np.concatenate([np.zeros(0, np.int64), *(np.arange(len(one["scores"])) for _, one in classes)]),
        np.concatenate([none, *(one["outcomes"] for _, one in classes)], axis=2),
        truths_va,
    )


def _class_scores(one: _Predictions, weights_sv: FloatArray) -> _ClassScores:
    truths_as = (weights_sv @ one.truths_va).T
    ap_ast = np.full((len(AREA_RANGES), len(weights_sv), len(IOU_THRESHOLDS)), math.nan)
    ar_ast = np.full((len(AREA_RANGES) + 2, *ap_ast.shape[1:]), math.nan)
    for area in np.flatnonzero(truths_as.any(axis=1)).tolist():
        outcomes_td, truths_s = one.outcomes_atd[area], truths_as[area]
        ap_ast[area] = average_precision(outcomes_td, one.scores_d, one.video_d, weights_sv, truths_s)
        ar_ast[area] = _recall(one, area, MAX_PREDICTIONS, weights_sv, truths_s)
    if truths_as[0].any():
        for n, limit in ((-2, 1), (-1, 10)):
            ar_ast[n] = _recall(one, 0, limit, weights_sv, truths_as[0])
    return _ClassScores(ap_ast, ar_ast)


def _recall(one: _Predictions, area: int, limit: int, weights_sv: FloatArray, truths_s: FloatArray) -> FloatArray:
    """``float64[S, thresholds]``: the part of the ground truths that the best predictions of each video find."""
    shape = len(IOU_THRESHOLDS), weights_sv.shape[1]
    t, d = np.nonzero((one.outcomes_atd[area] == RIGHT) & (one.rank_d < limit))
    found_tv = np.bincount(t * shape[1] + one.video_d[d], minlength=shape[0] * shape[1]).reshape(shape)
    recall_st: FloatArray = weights_sv @ found_tv.T / np.where(truths_s > 0, truths_s, math.nan)[:, None]
    return recall_st


def _means(classes: Sequence[_ClassScores]) -> list[Scores]:
    """The values of each of the S data sets."""
    ap_cast, ar_cast = np.stack([one.ap_ast for one in classes]), np.stack([one.ar_ast for one in classes])
    ap_as, ar_as = (_mean_over_classes(values.mean(axis=3)) for values in (ap_cast, ar_cast))
    columns = {
        "AP": ap_as[0],
        "AP50": _mean_over_classes(ap_cast[:, 0, :, 0]),
        "AP75": _mean_over_classes(ap_cast[:, 0, :, 5]),
        "APs": ap_as[1],
        "APm": ap_as[2],
        "APl": ap_as[3],
        "AR1": ar_as[4],
        "AR10": ar_as[5],
        "AR100": ar_as[0],
        "ARs": ar_as[1],
        "ARm": ar_as[2],
        "ARl": ar_as[3],
    }
    rows = np.stack(list(columns.values()), axis=1).tolist()
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _mean_over_classes(values: FloatArray) -> FloatArray:
    """Mean over the first axis without what is undefined; nan where all is."""
    defined = ~np.isnan(values)
    return ratios(np.where(defined, values, 0.0).sum(axis=0), defined.sum(axis=0))


def _order(summaries: Mapping[str, VisSummary]) -> list[int]:
    """Where the videos stand in ascending order of their ids, which decides between equal scores."""
    ids = [summary["video_id"] for summary in summaries.values()]
    return sorted(range(len(ids)), key=lambda n: _natural(ids[n]))


def _natural(video_id: str) -> tuple[int, str]:
    """Numbers before names, by value."""
    return (int(video_id), "") if video_id.isdecimal() else (2**63, video_id)
