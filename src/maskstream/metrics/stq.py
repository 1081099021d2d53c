"""Segmentation and tracking quality STQ (Weber et al., "STEP", NeurIPS 2021; metrics specification §2)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypedDict

import numpy as np

from maskstream.types import CategorySet, FrameAnnotation, FrameSegmentation, InputError

from .accumulator import Scores
from .additive import Additive, Numbers, Terms
from .semantic import Counts, category_positions, class_areas, class_iou, frame_overlap

Tube = tuple[int, int]
"""A track: position of its category in the label space, and ``Segment.id``. A track never changes its category."""


@dataclass(slots=True)
class TrackOverlaps:
    """Pixels of the thing tracks of a video.

    Attributes:
        true: of every true track.
        pred: of every predicted track, crowd left out, void and stuff included.
        shared: of every two that touch.
    """

    true: dict[Tube, int] = field(default_factory=lambda: defaultdict(int))
    pred: dict[Tube, int] = field(default_factory=lambda: defaultdict(int))
    shared: dict[tuple[Tube, Tube], int] = field(default_factory=lambda: defaultdict(int))


def association_sum(overlaps: TrackOverlaps) -> float:
    """How well the pixels of true tracks are held together, summed over true tracks; AQ is this over their number.

    A true track g gives ``1/|g| Σ_p TPA · TPA / (|g| + |p| − TPA)``, over predicted tracks p of whatever class.
    """
    inner: dict[Tube, float] = defaultdict(float)
    for (true, pred), both in overlaps.shared.items():
        inner[true] += both * (both / (overlaps.true[true] + overlaps.pred[pred] - both))
    return sum(inner[track] / pixels for track, pixels in overlaps.true.items())


def segmentation_quality(areas: Numbers, *, compat: Literal["official", "paper"] = "official") -> float:
    """SQ: mean IoU over the classes that occur in truth or prediction.

    Args:
        areas: ``int64[3, C]``, from `class_areas`.
        compat: "official" counts "nothing predicted" as one more class, of IoU 0, when it occurs on labelled pixels;
            "paper" does not.

    Returns:
        A fraction; nan when no pixel is labelled.
    """
    iou = class_iou(areas)
    defined = iou[~np.isnan(iou)]
    unlabelled = int(areas[0].sum() - areas[1].sum())
    divisor = len(defined) + (compat == "official" and unlabelled > 0)
    return float(defined.sum() / divisor) if divisor else math.nan


@dataclass(slots=True)
class OpenSequence:
    """A video while it is being read.

    Attributes:
        areas: ``int64[3, C]``, as `class_areas`.
        tracks: the overlaps so far.
        first_id: id of the first true segment that was listed, or None before one was.
    """

    areas: Counts
    tracks: TrackOverlaps = field(default_factory=TrackOverlaps)
    first_id: int | None = None


class SequenceSummary(TypedDict):
    """What stays of a video."""

    areas: Counts
    association: float
    track_count: int


class SegmentationTrackingQuality(Additive[OpenSequence, SequenceSummary, None]):
    """STQ, AQ and SQ over a data set and per video (metrics specification §2).

    SQ is the mean IoU of classes over all pixels. AQ looks at thing pixels alone and not at their class: a predicted
    pixel takes part when its class is any thing. A track is a ``Segment.id`` of one category. Void is what
    `FrameAnnotation.void` marks and what is in no true segment. Crowd things are no tracks, and predictions on them are
    dropped from AQ; their class counts in SQ.

    Args:
        categories: the label space; each category must say whether it is a thing.
        crowd: which true things are crowd. "flagged": those of ``crowd_ids`` (KITTI-STEP: instance 0). "first": the
            segment listed first in the video and no other, which the official VIPSeg wrapper makes crowd by numbering
            segments from 0. "none": there is no crowd (VIPSeg with numbering from 1).
        compat: "official" counts "nothing predicted" as a class in SQ, and gives AQ 0 to a data set without tracks;
            "paper" does neither (AQ is then nan).
    """

    name = "STQ"

    def __init__(
        self,
        categories: CategorySet,
        *,
        crowd: Literal["flagged", "first", "none"] = "flagged",
        compat: Literal["official", "paper"] = "official",
    ) -> None:
        super().__init__()
        undecided = [category.name for category in categories.categories if category.is_thing is None]
        if undecided:
            raise InputError(f"STQ must know what is a thing, but {undecided[0]!r} of {categories.name!r} does not say")
        self.categories = categories
        self.crowd = crowd
        self.compat = compat
        self._is_thing = np.array([category.is_thing for category in categories.categories], bool)

    def begin(self, sequence_id: str) -> OpenSequence:
        """No frame yet."""
        return OpenSequence(np.zeros((3, len(self.categories)), np.int64))

    def add(
        self,
        state: OpenSequence,
        frame_index: int,
        truth: FrameAnnotation,
        prediction: FrameSegmentation,
        meta: None = None,
    ) -> None:
        """Take a frame; one that is not annotated is passed over."""
        if not truth.annotated:
            return
        segments = truth.segmentation.segments
        true_classes = category_positions(segments, self.categories, whose="ground truth")
        pred_classes = category_positions(prediction.segments, self.categories, whose="prediction")
        overlap = frame_overlap(truth, prediction)
        state.areas += class_areas(overlap, true_classes, pred_classes, len(self.categories))
        if state.first_id is None and segments:
            state.first_id = segments[0].id
        true_things, pred_things = self._is_thing[true_classes], self._is_thing[pred_classes]
        crowd = np.array([self._is_crowd(segment.id, truth, state) for segment in segments], bool) & true_things
        # Row and column 0 are void and nothing predicted; predictions on crowd count nowhere.
        rows = np.flatnonzero(np.concatenate([[True], ~crowd]))
        columns = 1 + np.flatnonzero(pred_things)
        pred_tracks = {n: (int(pred_classes[n - 1]), prediction.segments[n - 1].id) for n in columns.tolist()}
        for n, pixels in zip(columns.tolist(), overlap[np.ix_(rows, columns)].sum(axis=0).tolist(), strict=True):
            if pixels:
                state.tracks.pred[pred_tracks[n]] += pixels
        for row in (1 + np.flatnonzero(true_things & ~crowd)).tolist():
            true_track = int(true_classes[row - 1]), segments[row - 1].id
            pixels = int(overlap[row].sum())
            if pixels:
                state.tracks.true[true_track] += pixels
            for n in (columns[overlap[row, columns] > 0]).tolist():
                state.tracks.shared[true_track, pred_tracks[n]] += int(overlap[row, n])

    def reduce(self, state: OpenSequence) -> SequenceSummary:
        """Class areas, and the association of the tracks."""
        return {
            "areas": state.areas,
            "association": association_sum(state.tracks),
            "track_count": len(state.tracks.true),
        }

    def terms(self, summaries: Mapping[str, SequenceSummary]) -> Terms:
        """Class areas, association and number of tracks of each video."""
        areas = np.array([summary["areas"] for summary in summaries.values()], np.int64)
        return {
            "areas": areas.reshape(len(summaries), 3, len(self.categories)),
            "association": np.array([summary["association"] for summary in summaries.values()], np.float64),
            "tracks": np.array([summary["track_count"] for summary in summaries.values()], np.int64),
        }

    def from_sums(self, sums: Terms) -> Scores:
        """Ratios of sums."""
        association, tracks = float(sums["association"]), int(sums["tracks"])
        without_tracks = 0.0 if self.compat == "official" else math.nan
        aq = association / tracks if tracks else without_tracks
        sq = segmentation_quality(sums["areas"], compat=self.compat)
        return {"STQ": math.sqrt(aq * sq), "AQ": aq, "SQ": sq}

    def class_rows(self, summaries: Mapping[str, SequenceSummary]) -> dict[str, Scores]:
        """IoU of the classes that occur."""
        iou = class_iou(self.sums(summaries)["areas"]).tolist()
        return {name: {"IoU": iou[n]} for n, name in enumerate(self.categories.names) if not math.isnan(iou[n])}

    def notes(self, summaries: Mapping[str, SequenceSummary]) -> Sequence[str]:
        """How many tracks there are."""
        return (f"{sum(summary['track_count'] for summary in summaries.values())} true tracks; crowd: {self.crowd}.",)

    def _is_crowd(self, segment_id: int, truth: FrameAnnotation, state: OpenSequence) -> bool:
        if self.crowd == "flagged":
            return segment_id in truth.crowd_ids
        return self.crowd == "first" and segment_id == state.first_id
