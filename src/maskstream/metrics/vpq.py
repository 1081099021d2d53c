"""Video panoptic quality VPQ_k (Kim et al., "Video Panoptic Segmentation", CVPR 2020; metrics specification §1).

    frame ──► overlaps of segments ──► Clip of one frame ──┐
              int64[1+G, 1+P]                              ├─ join ──► Clip of k frames ──► count ──► TP FP FN ΣIoU
                                     Clips of the last k−1 ┘                                           per class

Pixels are read once per frame. A clip is a few hundred numbers, and longer clips are joined from shorter ones, so all
windows together cost little more than one.
"""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from maskstream.types import CategorySet, FrameAnnotation, FrameSegmentation, InputError, MaskstreamWarning, Segment

from .accumulator import Scores
from .additive import Additive, Terms
from .semantic import Counts, category_positions, frame_overlap

DEVA_WINDOWS = (1, 2, 4, 6, 8, 10, math.inf)
"""The windows of VPQ_deva. Its tool counts a video shorter than a window as one clip: ``short_clips="whole"``."""
VIPSEG_WINDOWS = (1, 2, 4, 6, 8)
"""The windows of the official VIPSeg tool, which drops videos shorter than a window: ``short_clips="skip"``."""
CITYSCAPES_VPS_WINDOWS = (1, 2, 3, 4)
"""The windows of Cityscapes-VPS in annotated frames; its tool calls them 0, 5, 10 and 15."""

ListedAreas = Mapping[int, int]
"""Area of every true segment of a frame by id, as the annotation file lists it."""

_MERGE_EVERY = 64


@dataclass(frozen=True, slots=True, eq=False)
class Tubes:
    """What one side has in a clip: N tubes, in the order they are first listed.

    Attributes:
        ids: ``int64[N]``, ``Segment.id``.
        classes: ``int64[N]``, position of the category in the label space, on the first frame of the tube in the clip.
        crowd: ``bool[N]``, likewise of the first frame.
        areas: ``int64[N]``, pixels, all more than 0.
    """

    ids: Counts
    classes: Counts
    crowd: NDArray[np.bool_]
    areas: Counts


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """The overlaps of a clip: everything that VPQ asks of its pixels.

    Attributes:
        truth: G true tubes.
        prediction: P predicted tubes.
        on_void: ``int64[P]``, pixels of each predicted tube on void.
        pairs: ``int64[2, N]``, positions of a true and a predicted tube that touch.
        shared: ``int64[N]``, the pixels they share.
    """

    truth: Tubes
    prediction: Tubes
    on_void: Counts
    pairs: Counts
    shared: Counts


@dataclass(slots=True)
class PanopticCounts:
    """Matches of clips, class by class.

    Attributes:
        tp: ``int64[C]``, matched tubes.
        fp: ``int64[C]``, predicted tubes without a match.
        fn: ``int64[C]``, true tubes without a match.
        iou: ``float64[C]``, sum of the IoU of matches.
    """

    tp: Counts
    fp: Counts
    fn: Counts
    iou: NDArray[np.float64]

    @classmethod
    def zeros(cls, class_count: int) -> PanopticCounts:
        """Nothing counted yet."""
        tp, fp, fn = np.zeros((3, class_count), np.int64)
        return cls(tp, fp, fn, np.zeros(class_count))

    def __iadd__(self, other: PanopticCounts) -> PanopticCounts:
        self.tp += other.tp
        self.fp += other.fp
        self.fn += other.fn
        self.iou += other.iou
        return self

    @property
    def occurs(self) -> NDArray[np.bool_]:
        """``bool[C]``: the classes that means are taken over."""
        occurs: NDArray[np.bool_] = (self.tp + self.fp + self.fn) > 0
        return occurs

    def quality(self) -> NDArray[np.float64]:
        """``float64[3, C]``: PQ, SQ and RQ of every class (§1.2); nan where the class does not occur."""
        penalty = np.where(self.occurs, self.tp + self.fp / 2 + self.fn / 2, math.nan)
        segmentation = np.where(self.occurs, self.iou / np.maximum(self.tp, 1), math.nan)
        return np.stack([self.iou / penalty, segmentation, self.tp / penalty])


def frame_clip(
    overlap: Counts,
    true_segments: Sequence[Segment],
    true_classes: Counts,
    crowd_ids: Collection[int],
    pred_segments: Sequence[Segment],
    pred_classes: Counts,
    *,
    listed_areas: ListedAreas | None = None,
) -> Clip:
    """The clip of a single frame.

    Args:
        overlap: ``int64[1 + G, 1 + P]``, from `frame_overlap`.
        true_segments: G segments.
        true_classes: ``int64[G]``.
        crowd_ids: ids of true segments that are crowd.
        pred_segments: P segments.
        pred_classes: ``int64[P]``.
        listed_areas: taken for the areas of true segments instead of their pixels.
    """
    true_ids = np.array([segment.id for segment in true_segments], np.int64)
    crowd = np.array([segment.id in crowd_ids for segment in true_segments], bool)
    areas = overlap[1:].sum(axis=1)
    if listed_areas is not None:
        areas = np.array([listed_areas[segment.id] for segment in true_segments], np.int64)
    pred_ids = np.array([segment.id for segment in pred_segments], np.int64)
    pred_areas = overlap[:, 1:].sum(axis=0)
    # A segment without a pixel is no tube.
    true_kept, pred_kept = np.flatnonzero(areas > 0), np.flatnonzero(pred_areas > 0)
    inner = overlap[1:, 1:][np.ix_(true_kept, pred_kept)]
    pairs = np.nonzero(inner)
    truth = Tubes(true_ids[true_kept], true_classes[true_kept], crowd[true_kept], areas[true_kept])
    no_crowd = np.zeros(len(pred_kept), bool)
    prediction = Tubes(pred_ids[pred_kept], pred_classes[pred_kept], no_crowd, pred_areas[pred_kept])
    return Clip(truth, prediction, overlap[0, 1:][pred_kept], np.stack(pairs), inner[pairs])


def join_clips(clips: Sequence[Clip]) -> Clip:
    """One clip from the clips of consecutive stretches of a video, in order of time."""
    if len(clips) == 1:
        return clips[0]
    truth, true_positions = _join_tubes([clip.truth for clip in clips])
    prediction, pred_positions = _join_tubes([clip.prediction for clip in clips])
    on_void = _sum_by(pred_positions, np.concatenate([clip.on_void for clip in clips]), len(prediction.ids))
    true_offsets = np.cumsum([0, *(len(clip.truth.ids) for clip in clips)])
    pred_offsets = np.cumsum([0, *(len(clip.prediction.ids) for clip in clips)])
    rows = true_positions[np.concatenate([clip.pairs[0] + true_offsets[n] for n, clip in enumerate(clips)])]
    columns = pred_positions[np.concatenate([clip.pairs[1] + pred_offsets[n] for n, clip in enumerate(clips)])]
    width = max(1, len(prediction.ids))
    keys, of_key = np.unique(rows * width + columns, return_inverse=True)
    shared = _sum_by(of_key, np.concatenate([clip.shared for clip in clips]), len(keys))
    return Clip(truth, prediction, on_void, np.stack([keys // width, keys % width]), shared)


def count_matches(clip: Clip, class_count: int, *, all_crowds: bool = False) -> PanopticCounts:
    """Match the tubes of a clip (metrics specification §1.2, §1.5).

    A predicted and a true tube of one class match when their IoU, without the pixels on void, is above one half. A
    predicted tube without a match is forgiven when more than half of it lies on void and on crowd of its class.

    Args:
        clip: what to match.
        class_count: C.
        all_crowds: forgive pixels on every crowd tube of the class; the official tools know only the last one listed.

    Raises:
        InputError: a tube shares more pixels with another than the area that was listed for it allows.
    """
    truth, prediction = clip.truth, clip.prediction
    of_true, of_pred = clip.pairs
    same_class = truth.classes[of_true] == prediction.classes[of_pred]
    crowd = truth.crowd[of_true]
    union = truth.areas[of_true] + prediction.areas[of_pred] - clip.shared - clip.on_void[of_pred]
    rivals = np.flatnonzero(same_class & ~crowd)
    impossible = rivals[clip.shared[rivals] > union[rivals]]
    if len(impossible):
        raise InputError(
            f"true segment {truth.ids[of_true[impossible[0]]]} has more pixels than its listed area: "
            'correct the annotation file, or count pixels with compat="paper"'
        )
    iou = clip.shared[rivals] / union[rivals]
    matches = rivals[iou > 0.5]
    true_matched, pred_matched = np.zeros(len(truth.ids), bool), np.zeros(len(prediction.ids), bool)
    true_matched[of_true[matches]] = True
    pred_matched[of_pred[matches]] = True

    forgiving = crowd & same_class
    if not all_crowds:
        last_crowd = np.full(class_count, -1, np.int64)
        last_crowd[truth.classes[truth.crowd]] = np.flatnonzero(truth.crowd)
        forgiving &= last_crowd[truth.classes[of_true]] == of_true
    forgiven = clip.on_void + _sum_by(of_pred[forgiving], clip.shared[forgiving], len(prediction.ids))
    false = ~pred_matched & (2 * forgiven <= prediction.areas)

    sum_iou = np.zeros(class_count)
    np.add.at(sum_iou, truth.classes[of_true[matches]], iou[iou > 0.5])
    return PanopticCounts(
        tp=np.bincount(truth.classes[of_true[matches]], minlength=class_count),
        fp=np.bincount(prediction.classes[false], minlength=class_count),
        fn=np.bincount(truth.classes[~true_matched & ~truth.crowd], minlength=class_count),
        iou=sum_iou,
    )


@dataclass(slots=True)
class OpenVideo:
    """A video while it is being read.

    Attributes:
        sequence_id: its name.
        recent: clips of the last frames, as many as the longest finite window.
        whole: clips that make up the video so far, when its window is asked for.
        frames: annotated frames so far.
        counts: by window.
        wrong_areas: on how many frames a listed area was not the number of pixels.
    """

    sequence_id: str
    recent: deque[Clip]
    whole: list[Clip] = field(default_factory=list)
    frames: int = 0
    counts: dict[float, PanopticCounts] = field(default_factory=dict)
    wrong_areas: int = 0


class VideoSummary(TypedDict):
    """What stays of a video: counts of K windows, and on how many frames listed areas were wrong."""

    tubes: Counts
    """``int64[K, 3, C]``: TP, FP, FN."""
    iou: NDArray[np.float64]
    """``float64[K, C]``."""
    wrong_areas: int


class VideoPanopticQuality(Additive[OpenVideo, VideoSummary, ListedAreas]):
    """VPQ_k for any set of windows k, with SQ and RQ, per class, per group and per video (metrics specification §1).

    Void is what `FrameAnnotation.void` marks and what is in no true segment. A tube is a ``Segment.id``. Frames that
    are not annotated are passed over, so windows count annotated frames. Values are named ``VPQ_4`` (all classes),
    ``VPQ_4_things``, ``SQ_inf_stuff`` and so on, and the averages of §1.3 are added when their windows are there:
    ``VPQ_1246``, ``VPQ_12468``, ``VPQ_deva``, ``VPQ_1234``.

    Args:
        categories: the label space, with things and stuff; a segment of any other category is an error.
        windows: lengths of clips in frames; ``math.inf`` for the whole video.
        groups: more groups of categories to average over, by name: ids of the label space.
        short_clips: a video shorter than a window makes one clip of all its frames, or none (§1.4).
        compat: "official" takes true areas from ``meta`` where it is given, and forgives pixels on the last listed
            crowd segment of a class only; "paper" counts pixels and forgives on all of them (§1.5).
    """

    name = "VPQ"

    def __init__(
        self,
        categories: CategorySet,
        *,
        windows: Sequence[float] = DEVA_WINDOWS,
        groups: Mapping[str, Collection[int]] | None = None,
        short_clips: Literal["skip", "whole"] = "whole",
        compat: Literal["official", "paper"] = "official",
    ) -> None:
        super().__init__()
        if not windows or any(k < 1 or (k != math.inf and k != int(k)) for k in windows):
            raise InputError(f"VPQ needs windows of 1, 2, … frames or math.inf, not {list(windows)}")
        self.categories = categories
        self.windows = tuple(sorted(set(windows)))
        self.short_clips = short_clips
        self.compat = compat
        self._longest = int(max((k for k in self.windows if k != math.inf), default=1))
        self._groups = _group_masks(categories, groups or {})

    def begin(self, sequence_id: str) -> OpenVideo:
        """No frame yet."""
        counts = {k: PanopticCounts.zeros(len(self.categories)) for k in self.windows}
        return OpenVideo(sequence_id, deque(maxlen=self._longest), counts=counts)

    def add(
        self,
        state: OpenVideo,
        frame_index: int,
        truth: FrameAnnotation,
        prediction: FrameSegmentation,
        meta: ListedAreas | None = None,
    ) -> None:
        """Take a frame and match the clips that end with it. ``meta``: listed areas of the true segments."""
        if not truth.annotated:
            return
        segments = truth.segmentation.segments
        true_classes = category_positions(segments, self.categories, whose="ground truth")
        pred_classes = category_positions(prediction.segments, self.categories, whose="prediction")
        overlap = frame_overlap(truth, prediction)
        if meta is not None:
            _check_areas(state, frame_index, segments, overlap, meta)
        clip = frame_clip(
            overlap,
            segments,
            true_classes,
            truth.crowd_ids,
            prediction.segments,
            pred_classes,
            listed_areas=meta if self.compat == "official" else None,
        )
        state.recent.append(clip)
        state.frames += 1
        if math.inf in self.windows:
            state.whole.append(clip)
            if len(state.whole) == _MERGE_EVERY:
                state.whole = [join_clips(state.whole)]
        self._count_windows(state)

    def reduce(self, state: OpenVideo) -> VideoSummary:
        """Match the clips that only the end of the video completes."""
        try:
            for k in self.windows:
                if k == math.inf and state.whole:
                    state.counts[k] += self._count(join_clips(state.whole))
                elif 0 < state.frames < k != math.inf and self.short_clips == "whole":
                    state.counts[k] += self._count(join_clips(list(state.recent)))
        except InputError as error:
            raise InputError(f"{state.sequence_id}: {error}") from error
        return VideoSummary(
            tubes=np.stack([[counts.tp, counts.fp, counts.fn] for counts in state.counts.values()]),
            iou=np.stack([counts.iou for counts in state.counts.values()]),
            wrong_areas=state.wrong_areas,
        )

    def terms(self, summaries: Mapping[str, VideoSummary]) -> Terms:
        """Counts and sums of IoU of each video: window by window, class by class."""
        shape = (len(self.windows), len(self.categories))
        tubes = np.array([summary["tubes"] for summary in summaries.values()], np.int64)
        iou = np.array([summary["iou"] for summary in summaries.values()], np.float64)
        return {
            "tubes": tubes.reshape(len(summaries), shape[0], 3, shape[1]),
            "iou": iou.reshape(len(summaries), *shape),
        }

    def from_sums(self, sums: Terms) -> Scores:
        """Qualities of the summed counts; means over the classes that occur, nan where none does."""
        scores: Scores = {}
        counts_by_window = self._by_window(sums)
        for k, counts in counts_by_window.items():
            qualities, occurs = counts.quality(), counts.occurs
            for suffix, members in self._groups.items():
                chosen = qualities[:, members & occurs]
                means = chosen.mean(axis=1).tolist() if chosen.size else [math.nan] * 3
                for name, value in zip(("VPQ", "SQ", "RQ"), means, strict=True):
                    scores[f"{name}_{_label(k)}{suffix}"] = value
        averages: Scores = {}
        for suffix in self._groups:
            vpq = {k: scores[f"VPQ_{_label(k)}{suffix}"] for k in counts_by_window}
            averages |= {f"{name}{suffix}": value for name, value in named_averages(vpq).items()}
        return averages | scores

    def class_rows(self, summaries: Mapping[str, VideoSummary]) -> dict[str, Scores]:
        """PQ, SQ and RQ of every window of the classes that occur."""
        per_class: dict[str, Scores] = {}
        for k, counts in self._totals(summaries).items():
            qualities = counts.quality()
            for position in np.flatnonzero(counts.occurs).tolist():
                row = per_class.setdefault(self.categories.names[position], {})
                for name, value in zip(("PQ", "SQ", "RQ"), qualities[:, position].tolist(), strict=True):
                    row[f"{name}_{_label(k)}"] = value
        return per_class

    def notes(self, summaries: Mapping[str, VideoSummary]) -> Sequence[str]:
        """What happened to short videos, and listed areas that are wrong."""
        notes = [
            "A video shorter than a window is one clip."
            if self.short_clips == "whole"
            else "A video shorter than a window is left out of it."
        ]
        wrong_areas = sum(summary["wrong_areas"] for summary in summaries.values())
        if wrong_areas:
            notes.append(f"On {wrong_areas} frames a listed area was not the number of pixels.")
        return notes

    def counts(self, window: float) -> PanopticCounts:
        """TP, FP, FN and sum of IoU of a window by class, over all videos that have ended."""
        return self._totals(dict(sorted(self._summaries.items())))[window]

    def _totals(self, summaries: Mapping[str, VideoSummary]) -> dict[float, PanopticCounts]:
        return self._by_window(self.sums(summaries))

    def _by_window(self, sums: Terms) -> dict[float, PanopticCounts]:
        return {
            k: PanopticCounts(tp=tubes[0], fp=tubes[1], fn=tubes[2], iou=iou)
            for k, tubes, iou in zip(self.windows, sums["tubes"], sums["iou"], strict=True)
        }

    def _count(self, clip: Clip) -> PanopticCounts:
        return count_matches(clip, len(self.categories), all_crowds=self.compat == "paper")

    def _count_windows(self, state: OpenVideo) -> None:
        """Match every window that ends with the newest frame, each joined from the one before and older frames."""
        frames = list(state.recent)
        clip, length = frames[-1], 1
        for k in self.windows:
            if k > state.frames or k == math.inf:
                break
            clip, length = join_clips([*frames[len(frames) - int(k) : len(frames) - length], clip]), int(k)
            state.counts[k] += self._count(clip)


def named_averages(vpq: Mapping[float, float]) -> Scores:
    """The averages over windows that papers report (metrics specification §1.3), those whose windows are there.

    Args:
        vpq: VPQ_k by window k.

    Returns:
        Some of ``VPQ_1246`` (literature on VIPSeg), ``VPQ_12468`` (its official tool), ``VPQ_1234`` (Cityscapes-VPS)
        and ``VPQ_deva``; nan where one of the windows is undefined.
    """
    averages: Scores = {}
    for windows in ((1, 2, 4, 6), (1, 2, 4, 6, 8), (1, 2, 3, 4)):
        if set(windows) <= set(vpq):
            averages["VPQ_" + "".join(str(k) for k in windows)] = sum(vpq[k] for k in windows) / len(windows)
    if set(DEVA_WINDOWS) <= set(vpq):
        finite = [vpq[k] for k in DEVA_WINDOWS if k != math.inf]
        averages["VPQ_deva"] = (vpq[math.inf] + sum(finite) / len(finite)) / 2
    return averages


def _join_tubes(parts: Sequence[Tubes]) -> tuple[Tubes, Counts]:
    """The tubes of several clips as one, and where each tube of the clips, one after the other, went."""
    ids = np.concatenate([part.ids for part in parts])
    unique_ids, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    positions, first = rank[inverse], first[order]
    classes = np.concatenate([part.classes for part in parts])[first]
    crowd = np.concatenate([part.crowd for part in parts])[first]
    areas = _sum_by(positions, np.concatenate([part.areas for part in parts]), len(order))
    return Tubes(unique_ids[order], classes, crowd, areas), positions


def _sum_by(positions: Counts, values: Counts, length: int) -> Counts:
    sums = np.zeros(length, np.int64)
    np.add.at(sums, positions, values)
    return sums


def _group_masks(categories: CategorySet, groups: Mapping[str, Collection[int]]) -> dict[str, NDArray[np.bool_]]:
    """``bool[C]`` of every group, by the suffix of its values."""
    kinds = [category.is_thing for category in categories.categories]
    masks = {
        "": np.ones(len(kinds), bool),
        "_things": np.array([kind is True for kind in kinds]),
        "_stuff": np.array([kind is False for kind in kinds]),
    }
    for name, ids in groups.items():
        unknown = sorted(set(ids) - set(categories.ids))
        if unknown:
            raise InputError(f"the group {name!r} names {unknown}, which the label space {categories.name!r} lacks")
        masks[f"_{name}"] = np.isin(categories.ids, list(ids))
    return masks


def _check_areas(
    state: OpenVideo, frame_index: int, segments: Sequence[Segment], overlap: Counts, listed: ListedAreas
) -> None:
    """Compare listed areas with pixels; warn on the first frame of a video where they differ.

    Raises:
        InputError: a true segment has no listed area.
    """
    wrong = False
    for segment, pixels in zip(segments, overlap[1:].sum(axis=1).tolist(), strict=True):
        if segment.id not in listed:
            raise InputError(f"true segment {segment.id} has no listed area")
        if listed[segment.id] != pixels and not wrong:
            wrong = True
            if not state.wrong_areas:
                warnings.warn(
                    f"{state.sequence_id}, frame {frame_index}: the listed area of segment {segment.id} is "
                    f"{listed[segment.id]}, but it has {pixels} pixels",
                    MaskstreamWarning,
                    stacklevel=2,
                )
    state.wrong_areas += wrong


def _label(window: float) -> str:
    return "inf" if window == math.inf else str(int(window))
