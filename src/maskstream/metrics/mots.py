"""KITTI-MOTS: multi-object tracking and segmentation (Voigtlaender et al., CVPR 2019; metrics specification §10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, Literal, TypedDict

import numpy as np

from maskstream.types import Category, CategorySet, FrameAnnotation, FrameSegmentation, InputError, LabelMap

from .accumulator import Scores, WithoutPrediction
from .additive import Additive, Terms
from .clear import ClearCounts, add_clear_counts, clear_counts, clear_scores, unmatched
from .hota import (
    ALPHAS,
    EPSILON,
    FloatArray,
    HotaCounts,
    IntArray,
    TrackedFrame,
    add_hota_counts,
    frame_overlaps,
    hota_counts,
    hota_curves,
    hota_scores,
)

KITTI_MOTS = CategorySet("kitti-mots", (Category(1, "car", is_thing=True), Category(2, "pedestrian", is_thing=True)))
"""The two evaluated classes; regions of class 10 are ground truth to ignore and belong into ``void``."""


class ClassSummary(TypedDict):
    """One class of one sequence."""

    hota: dict[str, FloatArray]
    clear: dict[str, float]


MotsSummary = dict[int, ClassSummary]


@dataclass(slots=True)
class OpenMots:
    """Frames so far, for each class."""

    frames: dict[int, list[TrackedFrame]]


class Mots(Additive[OpenMots, MotsSummary, None]):
    """sMOTSA, MOTSA, MOTSP, IDF1 and the HOTA family on masks, for each class; there is no mean over classes.

    ``FrameAnnotation.void`` is the region to ignore: a prediction that matches nothing and has more than half of its
    pixels there counts for nothing. Masks of one frame must not overlap. An empty mask counts as a detection, as a
    line in a result file does; ``empty_masks="drop"`` is for segments that merely say that a track is not visible.
    """

    name = "MOTS"
    without_prediction: ClassVar[WithoutPrediction] = "empty"

    def __init__(
        self, categories: CategorySet = KITTI_MOTS, *, empty_masks: Literal["count", "drop"] = "count"
    ) -> None:
        super().__init__()
        self.categories = categories
        self.empty_masks = empty_masks

    def begin(self, sequence_id: str) -> OpenMots:
        """No frame of any class."""
        return OpenMots({category: [] for category in self.categories.ids})

    def add(
        self, state: OpenMots, frame_index: int, truth: FrameAnnotation, prediction: FrameSegmentation, meta: None
    ) -> None:
        """Reduce a frame to the similarities of each class; what the ignored region excuses is left out."""
        if not truth.annotated:
            return
        true_category_g = _categories(truth.segmentation, self.categories, "true")
        category_p = _categories(prediction, self.categories, "predicted")
        _check_disjoint(truth.segmentation, "true")
        _check_disjoint(prediction, "predicted")
        overlaps = frame_overlaps(truth.segmentation, prediction)
        inside_p = _fraction_inside(prediction, truth, overlaps.areas_p)
        whole = TrackedFrame(_track_ids(truth.segmentation), _track_ids(prediction), overlaps.iou_gp())
        count_all = self.empty_masks == "count"
        visible_g, visible_p = (overlaps.areas_g > 0) | count_all, (overlaps.areas_p > 0) | count_all
        for category, frames in state.frames.items():
            of_class_p = np.flatnonzero((category_p == category) & visible_p)
            frame = whole.select((true_category_g == category) & visible_g, of_class_p)
            excused_p = unmatched(frame.similarity_gp, invalid=-10000.0) & (inside_p[of_class_p] > 0.5 + EPSILON)
            frames.append(frame.select(np.arange(len(frame.truth_ids)), ~excused_p))

    def reduce(self, state: OpenMots) -> MotsSummary:
        """Counts of each class."""
        return {
            category: ClassSummary(hota=hota_counts(frames).to_plain(), clear=clear_counts(frames).to_plain())
            for category, frames in state.frames.items()
        }

    def terms(self, summaries: Mapping[str, MotsSummary]) -> Terms:
        """The counts of each class of each sequence, those of HOTA and those of CLEAR."""
        rows = [[summary[category] for category in self.categories.ids] for summary in summaries.values()]
        hota = np.array([[HotaCounts(**one["hota"]).to_array() for one in row] for row in rows], np.float64)
        clear = np.array([[[*one["clear"].values()] for one in row] for row in rows], np.float64)
        shape = (len(summaries), len(self.categories))
        return {
            "hota": hota.reshape(*shape, len(fields(HotaCounts)), len(ALPHAS)),
            "clear": clear.reshape(*shape, len(fields(ClearCounts))),
        }

    def from_sums(self, sums: Terms) -> Scores:
        """The measures of each class as ``class/measure``."""
        rows = self._class_scores(sums).items()
        return {f"{name}/{measure}": value for name, row in rows for measure, value in row.items()}

    def class_rows(self, summaries: Mapping[str, MotsSummary]) -> dict[str, Scores]:
        """A row a class, with the numbers of the values."""
        return self._class_scores(self.sums(summaries))

    def notes(self, summaries: Mapping[str, MotsSummary]) -> Sequence[str]:
        """What was counted."""
        return [_note(name, counts) for name, counts in self.counts().items()]

    def _class_scores(self, sums: Terms) -> dict[str, Scores]:
        return {
            name: clear_scores(ClearCounts(*clear.tolist())) | hota_scores(HotaCounts(*hota))
            for name, hota, clear in zip(self.categories.names, sums["hota"], sums["clear"], strict=True)
        }

    def curves(self) -> dict[str, dict[str, FloatArray]]:
        """HOTA and its parts at each of the 19 α, for each class over all sequences that have ended."""
        summaries = [summary for _, summary in sorted(self._summaries.items())]
        return {
            c.name: hota_curves(_hota([summary[c.id] for summary in summaries])) for c in self.categories.categories
        }

    def counts(self) -> dict[str, ClearCounts]:
        """What was counted, for each class over all sequences that have ended."""
        summaries = [summary for _, summary in sorted(self._summaries.items())]
        return {c.name: _total([summary[c.id] for summary in summaries]) for c in self.categories.categories}


def _categories(segmentation: FrameSegmentation, known: CategorySet, what: str) -> IntArray:
    for segment in segmentation.segments:
        if segment.category not in known.ids:
            raise InputError(
                f"{what} segment {segment.id} is of category {segment.category}; "
                f"{known.name} has {list(known.ids)} (regions to ignore belong into the void mask)"
            )
    return np.array([segment.category for segment in segmentation.segments], dtype=np.int64)


def _track_ids(segmentation: FrameSegmentation) -> IntArray:
    return np.array([segment.track_id for segment in segmentation.segments], dtype=np.int64)


def _check_disjoint(segmentation: FrameSegmentation, what: str) -> None:
    if isinstance(segmentation.masks, LabelMap):
        return
    shared = frame_overlaps(segmentation, segmentation).shared_gp
    np.fill_diagonal(shared, 0)
    if shared.any():
        first, second = (segmentation.segments[int(n)].id for n in np.argwhere(shared)[0])
        raise InputError(f"the {what} segments {first} and {second} overlap: masks of one frame must be disjoint here")


def _fraction_inside(prediction: FrameSegmentation, truth: FrameAnnotation, areas_p: IntArray) -> FloatArray:
    """Part of each predicted mask that lies in the region to ignore."""
    if truth.void is None or not prediction.segments:
        return np.zeros(len(areas_p))
    label_map = prediction.label_map().cpu()
    inside_p = np.bincount(label_map[truth.void.cpu()].numpy(), minlength=len(areas_p) + 1)[1:]
    return inside_p / np.maximum(1, areas_p)


def _hota(rows: list[ClassSummary]) -> HotaCounts:
    return add_hota_counts(HotaCounts(**row["hota"]) for row in rows)


def _total(rows: list[ClassSummary]) -> ClearCounts:
    return add_clear_counts(ClearCounts(**row["clear"]) for row in rows)  # type: ignore[arg-type]


def _note(name: str, counts: ClearCounts) -> str:
    return (
        f"{name}: {counts.tp} matched, {counts.fp} too many, {counts.fn} missed, {counts.switches} identity switches; "
        f"{counts.mostly_tracked} tracks mostly tracked, {counts.partly_tracked} partly, {counts.mostly_lost} mostly "
        f"lost, {counts.fragments} fragmentations"
    )
