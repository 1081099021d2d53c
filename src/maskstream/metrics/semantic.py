"""Semantic scores: IoU and accuracy of classes, temporal consistency mVC, and J of the foreground.

Everything is counted in pixels that truth and prediction share (metrics specification §0.1, §3). Here, too, is
`frame_overlap`, the one pass over the pixels of a frame that the panoptic metrics are built on as well.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstream.types import (
    CategorySet,
    FrameAnnotation,
    FrameSegmentation,
    InputError,
    LabelMap,
    Segment,
    joint_histogram,
)

from .accumulator import Scores
from .additive import Additive, Numbers, RowMeans, Terms, ratio, ratios
from .boundaries import BoolMask
from .jf import region_similarity

Counts = NDArray[np.int64]


def frame_overlap(truth: FrameAnnotation, prediction: FrameSegmentation) -> Counts:
    """How many pixels every true segment shares with every predicted one (metrics specification §0.1).

    Returns:
        ``int64[1 + G, 1 + P]`` in the order of the segments; row 0 is void (marked so, or in no true segment), column
        0 is where nothing is predicted. Where predicted masks overlap, `FrameSegmentation.label_map` decides.

    Raises:
        InputError: the maps differ in size, or hold a label that is not listed among the segments.
    """
    pred_hw = prediction.label_map()
    true_hw = truth.segmentation.label_map().to(pred_hw.device)
    if truth.void is not None:
        true_hw = true_hw.masked_fill(truth.void.to(pred_hw.device), 0)
    true_count, pred_count = len(truth.segmentation.segments), len(prediction.segments)
    check_labels(true_hw, true_count, "ground truth")
    check_labels(pred_hw, pred_count, "prediction")
    overlap: Counts = joint_histogram(true_hw, true_count, pred_hw, pred_count).cpu().numpy()
    return overlap


def check_labels(labels_hw: Tensor, count: int, whose: str) -> None:
    """Refuse a label map with labels of segments that do not exist.

    Args:
        labels_hw: ``int32[H, W]``.
        count: of segments; labels are 0…count.
        whose: what to call the map in a message.

    Raises:
        InputError: there is such a label.
    """
    if labels_hw.numel():
        low, high = (int(value) for value in torch.aminmax(labels_hw))
        if low < 0 or high > count:
            raise InputError(
                f"the {whose} has a pixel of segment number {low if low < 0 else high}, but lists {count} segments"
            )


def category_positions(segments: Sequence[Segment], categories: CategorySet, *, whose: str) -> Counts:
    """Where the categories of segments stand in their label space.

    Args:
        segments: N segments.
        categories: the label space.
        whose: what to call the segments in a message.

    Returns:
        ``int64[N]``, positions from 0.

    Raises:
        InputError: a segment has no category, or one that the label space does not know.
    """
    position_of = {category: position for position, category in enumerate(categories.ids)}
    for segment in segments:
        if segment.category not in position_of:
            raise InputError(
                f"segment {segment.id} of the {whose} has the category {segment.category}, which the label space "
                f"{categories.name!r} does not know"
            )
    return np.array([position_of[segment.category] for segment in segments if segment.category is not None], np.int64)


def class_areas(overlap: Counts, true_classes: Counts, pred_classes: Counts, class_count: int) -> Counts:
    """Pixels of every class on labelled ground truth: all that IoU and accuracy need of a confusion matrix.

    Args:
        overlap: ``int64[1 + G, 1 + P]``, from `frame_overlap`.
        true_classes: ``int64[G]``, class of each true segment.
        pred_classes: ``int64[P]``, class of each predicted segment.
        class_count: C.

    Returns:
        ``int64[3, C]``: true pixels, predicted pixels, and pixels that are both. True pixels where nothing is
        predicted count in the first row only.
    """
    confusion = np.zeros((class_count, class_count + 1), np.int64)
    columns = np.concatenate([[class_count], pred_classes])
    np.add.at(confusion, (true_classes[:, None], columns[None, :]), overlap[1:])
    return np.stack([confusion.sum(axis=1), confusion[:, :-1].sum(axis=0), confusion.diagonal()])


def class_iou(areas: Numbers) -> NDArray[np.float64]:
    """IoU of every class from `class_areas`: ``float64[C]``, nan for a class that occurs on neither side."""
    true, pred, both = areas
    return ratios(both, true + pred - both)


def class_accuracy(areas: Numbers) -> NDArray[np.float64]:
    """Fraction of the pixels of every class that are found: ``float64[C]``, nan for a class without true pixels."""
    true, _, both = areas
    return ratios(both, true)


def semantic_scores(areas: Numbers, *, denominator: Literal["gt", "gt_or_pred"] = "gt") -> Scores:
    """Mean and weighted IoU, pixel and class accuracy (metrics specification §3.2).

    Args:
        areas: ``int64[3, C]``, from `class_areas`, summed over frames.
        denominator: by how many classes the sum of IoU over true classes is divided: those that occur in the ground
            truth (VSPW), or also those that are only predicted (detectron2; lower).

    Returns:
        ``mIoU``, ``wIoU``, ``pixel_accuracy``, ``class_accuracy``; nan when no pixel is labelled.
    """
    true, pred, both = areas
    occurs = true > 0
    if not occurs.any():
        return dict.fromkeys(("mIoU", "wIoU", "pixel_accuracy", "class_accuracy"), math.nan)
    iou = class_iou(areas)[occurs]
    divisor = np.count_nonzero(occurs if denominator == "gt" else occurs | (pred > 0))
    return {
        "mIoU": float(iou.sum() / divisor),
        "wIoU": float((true[occurs] / true.sum() * iou).sum()),
        "pixel_accuracy": float(both.sum() / true.sum()),
        "class_accuracy": float(class_accuracy(areas)[occurs].mean()),
    }


class SemanticQuality(Additive[Counts, Counts, None]):
    """mIoU, weighted IoU and accuracies over a data set, per class and per video (metrics specification §3.2, §3.3).

    Void pixels count for nothing; a labelled pixel that is in no predicted segment counts against its class.
    ``video_mIoU`` and ``video_wIoU`` are means over the videos that have a labelled pixel.

    Args:
        categories: the label space; a segment of any other category is an error.
        denominator: see `semantic_scores`.
    """

    name = "semantic"

    def __init__(self, categories: CategorySet, *, denominator: Literal["gt", "gt_or_pred"] = "gt") -> None:
        super().__init__()
        self.categories = categories
        self.denominator = denominator

    def begin(self, sequence_id: str) -> Counts:
        """No pixel yet."""
        return np.zeros((3, len(self.categories)), np.int64)

    def add(
        self,
        state: Counts,
        frame_index: int,
        truth: FrameAnnotation,
        prediction: FrameSegmentation,
        meta: None = None,
    ) -> None:
        """Count a frame; one that is not annotated is passed over."""
        if truth.annotated:
            true_classes = category_positions(truth.segmentation.segments, self.categories, whose="ground truth")
            pred_classes = category_positions(prediction.segments, self.categories, whose="prediction")
            overlap = frame_overlap(truth, prediction)
            state += class_areas(overlap, true_classes, pred_classes, len(self.categories))

    def reduce(self, state: Counts) -> Counts:
        """``int64[3, C]``, as `class_areas`."""
        return state

    def terms(self, summaries: Mapping[str, Counts]) -> Terms:
        """Class areas; mean and weighted IoU of each video, 0 where undefined; and whether they are defined."""
        areas = np.array([*summaries.values()], np.int64).reshape(len(summaries), 3, len(self.categories))
        rows = np.array([[row["mIoU"], row["wIoU"]] for row in self.video_rows(summaries).values()]).reshape(-1, 2)
        return {"areas": areas, "videos": np.nan_to_num(rows), "defined": ~np.isnan(rows) * 1}

    def from_sums(self, sums: Terms) -> Scores:
        """Ratios of sums over all videos, and means over videos."""
        video_means = ratios(sums["videos"], sums["defined"]).tolist()
        values = semantic_scores(sums["areas"], denominator=self.denominator)
        return values | dict(zip(("video_mIoU", "video_wIoU"), video_means, strict=True))

    def class_rows(self, summaries: Mapping[str, Counts]) -> dict[str, Scores]:
        """IoU and accuracy of the classes that occur."""
        areas = self.sums(summaries)["areas"]
        iou, accuracy = class_iou(areas).tolist(), class_accuracy(areas).tolist()
        names = enumerate(self.categories.names)
        return {name: {"IoU": iou[n], "accuracy": accuracy[n]} for n, name in names if not math.isnan(iou[n])}

    def video_rows(self, summaries: Mapping[str, Counts]) -> dict[str, Scores]:
        """The same scores video by video."""
        return {name: semantic_scores(areas, denominator=self.denominator) for name, areas in summaries.items()}

    def notes(self, summaries: Mapping[str, Counts]) -> Sequence[str]:
        """What mIoU divides by."""
        counted = "in the ground truth" if self.denominator == "gt" else "in the ground truth or the prediction"
        return (f"mIoU divides by the number of classes that occur {counted}.",)


@dataclass(slots=True)
class Runs:
    """For how many frames every pixel has kept its class, in truth and prediction.

    Attributes:
        frames: how many frames were seen.
        labels_hw: ``int32[H, W]`` each, classes of the last frame, or None before the first.
        runs_hw: ``uint16[H, W]`` each, frames since the class of the pixel last changed.
        values: VC of every window so far, by window size; nan for a window without a constant pixel.
    """

    frames: int = 0
    labels_hw: tuple[NDArray[np.int32], NDArray[np.int32]] | None = None
    runs_hw: tuple[NDArray[np.uint16], NDArray[np.uint16]] | None = None
    values: dict[int, list[float]] = field(default_factory=dict)


ConsistencySummary = dict[int, tuple[float, int, int]]
"""By window size: the sum of VC, over how many windows, and how many windows there were with undefined ones."""


class VideoConsistency(Additive[Runs, ConsistencySummary, None]):
    """mVC_n: do pixels whose true class stands still for n frames stand still in the prediction (specification §3.4)?

    "official" is what the published VSPW tables hold: the prediction has to be constant but not right, void and
    unlabelled pixels count as two more classes, the last window of each video is left out, and the mean is over the
    windows of all videos. "paper" asks for the right class, leaves void and unlabelled pixels out, uses every window,
    and takes the mean of each video first.

    Keeps the run length of every pixel instead of frames, so that memory does not grow with n.
    """

    name = "mVC"

    def __init__(self, *, windows: Sequence[int] = (8, 16), compat: Literal["official", "paper"] = "official") -> None:
        super().__init__()
        if not windows or not all(1 <= n < 2**16 for n in windows):
            raise InputError(f"mVC needs window sizes between 1 and 65535, not {list(windows)}")
        self.windows = tuple(windows)
        self.compat = compat

    def begin(self, sequence_id: str) -> Runs:
        """No frame yet."""
        return Runs(values={n: [] for n in self.windows})

    def add(
        self, state: Runs, frame_index: int, truth: FrameAnnotation, prediction: FrameSegmentation, meta: None = None
    ) -> None:
        """Extend the runs and score the windows that end here; a frame that is not annotated is passed over."""
        if not truth.annotated:
            return
        true_hw, pred_hw = _true_classes(truth), _classes(prediction, "prediction")
        if state.labels_hw is None or state.runs_hw is None:
            state.runs_hw = np.ones(true_hw.shape, np.uint16), np.ones(true_hw.shape, np.uint16)
        else:
            for run_hw, now_hw, before_hw in zip(state.runs_hw, (true_hw, pred_hw), state.labels_hw, strict=True):
                _extend(run_hw, now_hw, before_hw, longest=max(self.windows))
        state.labels_hw = true_hw, pred_hw
        state.frames += 1
        for n, values in state.values.items():
            if state.frames >= n:
                values.append(self._consistency(n, *state.labels_hw, *state.runs_hw))

    def reduce(self, state: Runs) -> ConsistencySummary:
        """A sum and two counts a window size."""
        summary = {}
        for n, values in state.values.items():
            counted = values[:-1] if self.compat == "official" else values
            defined = [value for value in counted if not math.isnan(value)]
            summary[n] = sum(defined), len(defined), len(counted)
        return summary

    def terms(self, summaries: Mapping[str, ConsistencySummary]) -> Terms:
        """Sum and number of VC over the windows of each video; for "paper" its mean, and whether there is one."""
        rows = np.array([[summary[n][:2] for n in self.windows] for summary in summaries.values()], np.float64)
        rows = rows.reshape(len(summaries), len(self.windows), 2)
        if self.compat == "paper":
            rows = np.stack([np.nan_to_num(ratios(rows[..., 0], rows[..., 1])), rows[..., 1] > 0], axis=-1)
        return {"consistency": rows}

    def from_sums(self, sums: Terms) -> Scores:
        """Mean over windows, or over videos."""
        means = ratios(sums["consistency"][:, 0], sums["consistency"][:, 1]).tolist()
        return {f"mVC{n}": value for n, value in zip(self.windows, means, strict=True)}

    def notes(self, summaries: Mapping[str, ConsistencySummary]) -> Sequence[str]:
        """How many windows there are."""
        counts = {n: sum(summary[n][2] for summary in summaries.values()) for n in self.windows}
        return [f"mVC{n}: {count} windows, convention {self.compat!r}." for n, count in counts.items()]

    def _consistency(
        self,
        n: int,
        true_hw: NDArray[np.int32],
        pred_hw: NDArray[np.int32],
        true_run_hw: NDArray[np.uint16],
        pred_run_hw: NDArray[np.uint16],
    ) -> float:
        """VC of the window of n frames that ends here."""
        constant_hw = true_run_hw >= n
        both_hw = pred_run_hw >= n
        if self.compat == "paper":
            constant_hw &= true_hw >= 0
            both_hw &= true_hw == pred_hw
        return ratio(int(np.count_nonzero(constant_hw & both_hw)), int(np.count_nonzero(constant_hw)))


class ForegroundJ(RowMeans[list[float], tuple[float, int], None]):
    """J of the union of segments, whatever their ids: is the foreground found?

    The mean of J over the annotated frames of a video, then over videos. A frame without foreground on either side
    counts 1, as in DAVIS.

    Args:
        foreground: ids of the categories that are foreground; None for every segment.
    """

    name = "foreground J"
    columns = ("J",)
    skip_undefined = True

    def __init__(self, *, foreground: Collection[int] | None = None) -> None:
        super().__init__()
        self.foreground = None if foreground is None else frozenset(foreground)

    def begin(self, sequence_id: str) -> list[float]:
        """No frame yet."""
        return []

    def add(
        self,
        state: list[float],
        frame_index: int,
        truth: FrameAnnotation,
        prediction: FrameSegmentation,
        meta: None = None,
    ) -> None:
        """Take J of a frame; one that is not annotated is passed over."""
        if truth.annotated:
            void = None if truth.void is None else truth.void.cpu().numpy()
            pred, true = self._union(prediction, "prediction"), self._union(truth.segmentation, "ground truth")
            state.append(region_similarity(pred, true, void))

    def reduce(self, state: list[float]) -> tuple[float, int]:
        """Sum of J and number of frames."""
        return sum(state), len(state)

    def rows(self, sequence_id: str, summary: tuple[float, int]) -> dict[str, Scores]:
        """The mean of a video; nan without an annotated frame."""
        return {sequence_id: {"J": ratio(*summary)}}

    def _union(self, segmentation: FrameSegmentation, whose: str) -> BoolMask:
        chosen = [self.foreground is None or segment.category in self.foreground for segment in segmentation.segments]
        if isinstance(segmentation.masks, LabelMap):
            check_labels(segmentation.masks.values, len(chosen), whose)
            foreground: BoolMask = np.array([False, *chosen])[segmentation.masks.values.cpu().numpy()]
        else:
            # Not the label map: a chosen segment may lie below another.
            foreground = segmentation.masks_nhw()[torch.tensor(chosen, dtype=torch.bool)].any(dim=0).cpu().numpy()
        return foreground


def _classes(segmentation: FrameSegmentation, whose: str) -> NDArray[np.int32]:
    """``int32[H, W]``: the category of every pixel, -1 where there is none."""
    categories = [-1]
    for segment in segmentation.segments:
        if segment.category is None:
            raise InputError(f"segment {segment.id} of the {whose} has no category")
        categories.append(segment.category)
    labels = segmentation.label_map()
    check_labels(labels, len(segmentation.segments), whose)
    classes_hw: NDArray[np.int32] = np.asarray(categories, np.int32)[labels.cpu().numpy()]
    return classes_hw


def _true_classes(truth: FrameAnnotation) -> NDArray[np.int32]:
    """The same of the truth, and -2 on void: two labels, because the official mVC tells 0 and 255 apart."""
    classes_hw = _classes(truth.segmentation, "ground truth")
    if truth.void is not None:
        classes_hw[truth.void.cpu().numpy()] = -2
    return classes_hw


def _extend(
    run_hw: NDArray[np.uint16], now_hw: NDArray[np.int32], before_hw: NDArray[np.int32], *, longest: int
) -> None:
    """Count one more frame where the class stayed, and begin again where it changed; in place.

    Raises:
        InputError: the frames differ in size.
    """
    if now_hw.shape != before_hw.shape:
        raise InputError(
            f"the size changes within the video, from {before_hw.shape[0]}×{before_hw.shape[1]} "
            f"to {now_hw.shape[0]}×{now_hw.shape[1]}"
        )
    run_hw *= now_hw == before_hw
    run_hw += 1
    # Runs longer than the longest window need not be told apart, and would overflow.
    np.minimum(run_hw, longest, out=run_hw)
