"""Average precision and recall of tubes: YouTube-VIS, OVIS and, without categories, UVO (metrics specification §4).

The protocol of COCO with one mask a frame instead of a box (Yang et al., ICCV 2019; Wang et al., ICCV 2021 for UVO).
A video is reduced to the outcome of every prediction at every threshold; masks are gone before the next one begins.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar, TypedDict

import numpy as np
from numpy.typing import NDArray

from maskstream.types import (
    OBJECT,
    RLE,
    CategorySet,
    FrameAnnotation,
    FrameSegmentation,
    InputError,
    RunLengthError,
    Runs,
    decode_runs,
)

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

VALUES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")

MAX_PREDICTIONS = 100
# How much is computed by one call; bounds memory.
_DATA_SETS_AT_ONCE = 100
_VIDEOS_AT_ONCE = 20
_CURVE_POINTS_AT_ONCE = 2**16
_CODES_AT_ONCE = 256

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
        InputError: tubes differ in length, or masks in size; a run-length code is damaged.
    """
    check_tubes([*predicted, *truth])
    return _compare(predicted, truth, np.ones((len(predicted), len(truth)), dtype=bool)).iou_dg


def check_tubes(tubes: Sequence[Masks]) -> None:
    """Refuse tubes that do not belong to one video.

    Raises:
        InputError: tubes differ in length, or masks in size.
    """
    for masks in tubes:
        if len(masks) != len(tubes[0]):
            raise InputError(
                f"tubes have {len(tubes[0])} and {len(masks)} frames: give one mask or null for each frame"
            )
    sizes = [code["size"] for masks in tubes for code in masks if code is not None]
    if sizes and sizes.count(sizes[0]) < len(sizes):
        frame, (height, width) = next(
            (frame, code["size"])
            for masks in tubes
            for frame, code in enumerate(masks)
            if code is not None and code["size"] != sizes[0]
        )
        raise InputError(
            f"frame {frame}: a mask is {height}×{width}, but others of this video are {sizes[0][0]}×{sizes[0][1]}"
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
    lowest = min(*thresholds.tolist(), _ALMOST_ONE)
    rows = [(d, row) for d, row in enumerate(iou_dg.tolist()) if max(row, default=0.0) >= lowest]
    if not rows:
        return match_td
    ignored, crowd = ignored_g.tolist(), crowd_g.tolist()
    order = sorted(range(len(ignored)), key=ignored.__getitem__)
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
    low_a1, high_a1 = np.array(area_ranges, dtype=np.float64).T[:, :, None]
    ignored_ag = crowd_g | (areas_g < low_a1) | (areas_g > high_a1)
    outside_ad = (areas_d < low_a1) | (areas_d > high_a1)
    # Ranges that put the same ground truths last match alike; none is last where all are ignored.
    last_ag = ignored_ag & ~ignored_ag.all(axis=1, keepdims=True)
    matches: dict[bytes, IntArray] = {}
    match_atd = np.empty((len(area_ranges), len(IOU_THRESHOLDS), len(areas_d)), dtype=np.int64)
    for match_td, last_g in zip(match_atd, last_ag, strict=True):
        key = last_g.tobytes()
        if key not in matches:
            matches[key] = match_tubes(iou_dg, ignored_g=last_g, crowd_g=crowd_g)
        match_td[:] = matches[key]
    unmatched_ad = np.full(outside_ad.shape, WRONG, np.int8)
    unmatched_ad[outside_ad] = IGNORED
    # The last entry belongs to -1, and is not used.
    matched_ag = np.full((len(area_ranges), len(areas_g) + 1), RIGHT, np.int8)
    matched_ag[:, :-1][ignored_ag] = IGNORED
    matched_atd = matched_ag[np.arange(len(area_ranges))[:, None, None], match_atd]
    outcomes_atd: Outcomes = np.where(match_atd < 0, unmatched_ad[:, None], matched_atd)
    return outcomes_atd, (~ignored_ag).sum(axis=1)


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
    ap_ts = np.zeros((len(outcomes_td), len(weights_sv)))
    order = np.argsort(-scores_d, kind="stable")
    # How many of the 101 recalls are reached with so many right predictions.
    found_k = np.arange(truths_s.max(initial=0) + 1)
    reached_ks = np.searchsorted(RECALLS, found_k[:, None] / np.maximum(1, truths_s), side="right")
    at_once = max(1, _CURVE_POINTS_AT_ONCE // max(1, len(order) * len(weights_sv)))
    for first in range(0, len(outcomes_td), at_once):
        outcomes_cd = outcomes_td[first : first + at_once, order]
        right_cd = outcomes_cd == RIGHT
        # Right at any of these thresholds: where a prediction is wrong, no recall is gained.
        right_r = right_cd.any(axis=0).nonzero()[0]
        if not len(right_r):
            continue
        starts = np.concatenate([[0], right_r[:-1] + 1])
        weights_ds = weights_sv.T[video_d[order[: right_r[-1] + 1]]]
        counted_cds = (outcomes_cd[:, : len(weights_ds), None] != IGNORED) * weights_ds
        counted_crs = np.add.reduceat(counted_cds, starts, axis=1).cumsum(axis=1)
        found_crs = (right_cd[:, right_r, None] * weights_ds[right_r]).cumsum(axis=1)
        precision_crs = found_crs / (counted_crs + _SPACING)
        envelope_crs = np.maximum.accumulate(precision_crs[:, ::-1], axis=1)[:, ::-1]
        reached_crs = reached_ks[found_crs.astype(np.intp), np.arange(len(truths_s))]
        reached_crs[:, 1:] -= reached_crs[:, :-1].copy()
        ap_ts[first : first + at_once] = (envelope_crs * reached_crs).sum(axis=1) / len(RECALLS)
    ap_st: FloatArray = np.where(truths_s > 0, ap_ts, math.nan).T
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
            InputError: tubes and video differ in length or size, a run-length code is damaged, a category is unknown,
                a score is not a number, or the video came before; the message names the video.
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
        classes = self._classes(summaries).values()
        order = _order(summaries)
        drawn: list[Scores] = []
        for first in range(0, len(weights_sn), _DATA_SETS_AT_ONCE):
            some_sv = weights_sn[first : first + _DATA_SETS_AT_ONCE, order]
            scores_csv = np.array([_class_scores(one, some_sv) for one in classes])
            means_sv = _mean_over_classes(scores_csv.reshape(-1, len(some_sv), len(VALUES)))
            drawn += [_named(row) for row in means_sv.tolist()]
        return drawn

    def video_rows(self, summaries: Mapping[str, VisSummary]) -> dict[str, Scores]:
        """A row a video: data sets of one video each, some at once."""
        names, rows = list(summaries), dict[str, Scores]()
        for first in range(0, len(names), _VIDEOS_AT_ONCE):
            some = {name: summaries[name] for name in names[first : first + _VIDEOS_AT_ONCE]}
            rows |= zip(some, self.resample(some, np.eye(len(some))), strict=True)
        return rows

    def class_rows(self, summaries: Mapping[str, VisSummary]) -> dict[str, Scores]:
        """A row a category; none when categories are pooled."""
        if self.class_agnostic:
            return {}
        whole, classes = np.ones((1, len(summaries))), self._classes(summaries)
        rows = {category: _class_scores(one, whole)[0].tolist() for category, one in classes.items()}
        undefined = [math.nan] * len(VALUES)
        return {category.name: _named(rows.get(category.id, undefined)) for category in self.categories.categories}

    def precision_by_threshold(self) -> FloatArray:
        """AP at each of the ten IoU thresholds: ``float64[10]``, over all videos that have ended; nan if undefined."""
        whole = np.ones((1, len(self._summaries)))
        ap_ct = [
            average_precision(one.outcomes_atd[0], one.scores_d, one.video_d, whole, whole @ one.truths_va[:, 0])
            for one in self._classes(self._summaries).values()
        ]
        return _mean_over_classes(np.array(ap_ct).reshape(-1, len(IOU_THRESHOLDS)))

    def _classes(self, summaries: Mapping[str, VisSummary]) -> dict[int, _Predictions]:
        """By category, those that have ground truth; one in all when they are pooled."""
        names = list(summaries.values())
        videos = [names[n] for n in _order(summaries)]
        found = {category for video in videos for category, one in video["classes"].items() if one["truths"].any()}
        return {category: _predictions(videos, category) for category in sorted(found)}

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
            groups = {_POOLED: (sorted(truth, key=lambda tube: tube.category), predicted)}
        else:
            present = sorted({tube.category for tube in truth} | {tube.category for tube in predicted})
            groups = {
                category: (
                    [tube for tube in truth if tube.category == category],
                    [tube for tube in predicted if tube.category == category],
                )
                for category in present
            }
        return VisSummary(video_id=video_id, classes=_summarise_classes(groups))

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


def _summarise_classes(
    groups: Mapping[int, tuple[Sequence[TrueTube], Sequence[PredictedTube]]],
) -> dict[int, ClassSummary]:
    """Match the best scored predictions of every category of one video."""
    truth, ranked = list[TrueTube](), list[PredictedTube]()
    parts: dict[int, tuple[slice, slice]] = {}
    for category, (some_truth, some_predicted) in groups.items():
        best = sorted(some_predicted, key=lambda tube: -tube.score)[:MAX_PREDICTIONS]
        parts[category] = slice(len(ranked), len(ranked) + len(best)), slice(len(truth), len(truth) + len(some_truth))
        truth += some_truth
        ranked += best
    wanted_dg = np.zeros((len(ranked), len(truth)), dtype=bool)
    for of_d, of_g in parts.values():
        wanted_dg[of_d, of_g] = True
    found = _compare(
        [tube.masks for tube in ranked], [tube.masks for tube in truth], wanted_dg, lowest=IOU_THRESHOLDS.min()
    )
    counted_gt = found.areas_gt.tolist()
    stated = [areas if tube.areas is None else tube.areas for tube, areas in zip(truth, counted_gt, strict=True)]
    areas_g = np.array([mean_area(areas) for areas in stated])
    areas_d = np.array([mean_area(areas) for areas in found.areas_dt.tolist()])
    crowd_g = np.array([tube.crowd for tube in truth], dtype=bool)
    scores_d = np.array([tube.score for tube in ranked])
    classes: dict[int, ClassSummary] = {}
    for category, (of_d, of_g) in parts.items():
        outcomes, truths = judge(found.iou_dg[of_d, of_g], areas_d[of_d], areas_g[of_g], crowd_g[of_g])
        classes[category] = ClassSummary(scores=scores_d[of_d], outcomes=outcomes, truths=truths)
    return classes


@dataclass(frozen=True, slots=True, eq=False)
class _Compared:
    """IoU of D predictions with G ground truths, ``float64[D, G]``; pixels by frame, ``int64[D, T]`` and ``[G, T]``."""

    iou_dg: FloatArray
    areas_dt: IntArray
    areas_gt: IntArray


Coverage = tuple[FloatArray, FloatArray]
"""How many pixels of a tube lie before a position: ascending positions, and numbers, which are linear in between."""


def _compare(
    predicted: Sequence[Masks], truth: Sequence[Masks], wanted_dg: BoolArray, *, lowest: float = 0.0
) -> _Compared:
    """Compare those pairs that are wanted and whose areas allow an IoU of ``lowest``; the IoU of others is 0.

    Raises:
        InputError: a run-length code is damaged.
    """
    tubes, truths = [*truth, *predicted], len(truth)
    length = len(tubes[0]) if tubes else 0
    areas_nt, shared_ng = np.zeros((len(tubes), length), np.int64), np.zeros((len(tubes), truths))
    wanted_ng = np.concatenate([np.zeros((truths, truths), dtype=bool), wanted_dg])
    size = next((code["size"] for masks in tubes for code in masks if code is not None), [0, 0])
    coverage_g: list[Coverage] = []
    at_once = max(1, _CODES_AT_ONCE // max(1, length))
    for first in range(0, len(tubes) if length else 0, at_once):
        some = slice(first, first + at_once)
        runs = _decode(tubes[some], size)
        first_n = runs.first_n[::length]
        areas_nt[some] = runs.areas_n.reshape(-1, length)
        bounds = pairwise(first_n[: max(0, truths - first) + 1].tolist())
        coverage_g += [_coverage(runs.edges_r2[begin:end].astype(np.float64)) for begin, end in bounds]
        areas = areas_nt[some, None], areas_nt[:truths]
        is_possible_ng = np.minimum(*areas).sum(axis=2) >= lowest * np.maximum(*areas).sum(axis=2)
        for g, is_chosen_n in enumerate((wanted_ng[some] & is_possible_ng).T):
            if is_chosen_n.any():
                (chosen_n,) = is_chosen_n.nonzero()
                shared_ng[first + chosen_n, g] = _shared_pixels(runs, first_n, chosen_n, coverage_g[g])
    shared_dg, areas_dt, areas_gt = shared_ng[truths:], areas_nt[truths:], areas_nt[:truths]
    union_dg = areas_dt.sum(axis=1)[:, None] + areas_gt.sum(axis=1) - shared_dg
    return _Compared(shared_dg / np.maximum(1, union_dg), areas_dt, areas_gt)


def _decode(tubes: Sequence[Masks], size: Sequence[int]) -> Runs:
    """The runs of N tubes. All frames lie one after the other on one axis, where a tube is a single list of runs."""
    length, pixels = len(tubes[0]), size[0] * size[1]
    codes = [None if code is None else code["counts"] for masks in tubes for code in masks]
    try:
        return decode_runs(codes, np.tile(np.arange(length) * pixels, len(tubes)), pixels=pixels)
    except RunLengthError as error:
        raise InputError(f"frame {error.position % length}: {error}") from None


def _coverage(edges_r2: FloatArray) -> Coverage:
    covered_r2 = np.zeros_like(edges_r2)
    np.cumsum(edges_r2[:, 1] - edges_r2[:, 0], out=covered_r2[:, 1])
    covered_r2[1:, 0] = covered_r2[:-1, 1]
    edges, covered = edges_r2.ravel(), covered_r2.ravel()
    distinct = np.append(edges[:-1] < edges[1:], True)  # `np.interp` wants no position twice
    return edges[distinct], covered[distinct]


def _shared_pixels(runs: Runs, first_n: IntArray, chosen_n: IntArray, coverage: Coverage) -> FloatArray:
    """Pixels that each of the chosen tubes shares with a ground truth: ``float64[chosen]``, whole numbers.

    Slopes are 0 or 1 and all numbers are below 2⁵³, so that interpolation is exact.
    """
    bounds = zip(first_n[chosen_n].tolist(), first_n[chosen_n + 1].tolist(), strict=True)
    chosen = [runs.edges_r2[begin:end] for begin, end in bounds]
    before_r2 = np.interp(np.concatenate(chosen, dtype=np.float64).ravel(), *coverage).reshape(-1, 2)
    starts = np.cumsum([0, *map(len, chosen[:-1])])
    shared: FloatArray = np.add.reduceat(before_r2[:, 1] - before_r2[:, 0], starts)
    return shared


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


def _class_scores(one: _Predictions, weights_sv: FloatArray) -> FloatArray:
    """`VALUES` of one category in S data sets: ``float64[S, values]``; nan where no ground truth counts."""
    truths_as = (weights_sv @ one.truths_va).T
    ap_ast = np.full((len(AREA_RANGES), len(weights_sv), len(IOU_THRESHOLDS)), math.nan)
    same_as: dict[bytes, int] = {}  # where everything is of one size, this size is the same as all
    for area in np.flatnonzero(truths_as.any(axis=1)).tolist():
        outcomes_td, truths_s = one.outcomes_atd[area], truths_as[area]
        before = same_as.setdefault(outcomes_td.tobytes() + truths_s.tobytes(), area)
        if before < area:
            ap_ast[area] = ap_ast[before]
        else:
            ap_ast[area] = average_precision(outcomes_td, one.scores_d, one.video_d, weights_sv, truths_s)
    ap_as, ar_as = ap_ast.mean(axis=2), _recall(one, weights_sv, truths_as)
    return np.stack([ap_as[0], ap_ast[0, :, 0], ap_ast[0, :, 5], *ap_as[1:], *ar_as[4:], *ar_as[:4]], axis=1)


def _recall(one: _Predictions, weights_sv: FloatArray, truths_as: FloatArray) -> FloatArray:
    """The part of the ground truths that the best predictions of each video find, averaged over the thresholds.

    Returns:
        ``float64[areas + 2, S]``: with 100 predictions; then of all areas with 1 and 10.
    """
    right_atd = one.outcomes_atd == RIGHT
    best = [right_atd[0] & (one.rank_d < limit) for limit in (1, 10)]
    right_atd = np.concatenate([right_atd, best])
    shape = *right_atd.shape[:2], weights_sv.shape[1]
    a, t, d = right_atd.nonzero()
    found_atv = np.bincount((a * shape[1] + t) * shape[2] + one.video_d[d], minlength=math.prod(shape)).reshape(shape)
    truths_as = np.concatenate([truths_as, truths_as[[0, 0]]])
    recall_ast = weights_sv @ found_atv.transpose(0, 2, 1) / np.where(truths_as > 0, truths_as, math.nan)[:, :, None]
    recall_as: FloatArray = recall_ast.mean(axis=2)
    return recall_as


def _named(row: Sequence[float]) -> Scores:
    return dict(zip(VALUES, row, strict=True))


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
