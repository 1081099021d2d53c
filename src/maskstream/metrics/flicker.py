"""Temporal consistency without ground truth: how many pixels change their label from one frame to the next.

A label is an object or a category. `changed_fraction` compares a pixel with itself, so real motion counts as change;
given the optical flow, it is compared with where it came from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from maskstream.types import FrameAnnotation, FrameSegmentation, InputError

from .accumulator import NO_PREDICTION, Scores
from .additive import RowMeans, Terms, ratio
from .boundaries import BoolMask
from .semantic import check_labels

Labels = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """Where the pixels of a frame came from.

    Attributes:
        flow_hw2: ``float32[H, W, 2]``, pixels (x, y) from a pixel of this frame to its place on the frame before.
        visible_hw: ``bool[H, W]``, pixels that were visible there, or None when all were.
    """

    flow_hw2: NDArray[np.float32]
    visible_hw: BoolMask | None = None


def changed_fraction(before_hw: Labels, after_hw: Labels, motion: Motion | None = None) -> float:
    """Fraction of the pixels whose label is not that of the frame before.

    Args:
        before_hw: ``int32[H, W]``, labels of the frame before.
        after_hw: ``int32[H, W]``, labels of this frame.
        motion: of this frame. Pixels are then compared with the nearest pixel they came from, and those that came from
            outside the picture or were hidden are left out. None compares every pixel with itself.

    Returns:
        A fraction; nan when no pixel can be compared.

    Raises:
        InputError: the shapes differ.
    """
    height, width = after_hw.shape
    if before_hw.shape != after_hw.shape:
        raise InputError(f"label maps differ in size: {list(before_hw.shape)} and {list(after_hw.shape)}")
    if motion is None:
        return np.count_nonzero(before_hw != after_hw) / after_hw.size if after_hw.size else math.nan
    if motion.flow_hw2.shape != (height, width, 2):
        raise InputError(f"the flow must be float32[{height}, {width}, 2], not {list(motion.flow_hw2.shape)}")
    if motion.visible_hw is not None and motion.visible_hw.shape != (height, width):
        raise InputError(f"visible must be bool[{height}, {width}], not {list(motion.visible_hw.shape)}")
    y, x, comparable = came_from(motion.flow_hw2)
    if motion.visible_hw is not None:
        comparable &= motion.visible_hw
    changed = before_hw[y[comparable], x[comparable]] != after_hw[comparable]
    return float(changed.mean()) if changed.size else math.nan


def came_from(flow_hw2: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.intp], BoolMask]:
    """The nearest pixel of the frame before that each pixel came from.

    Args:
        flow_hw2: ``float32[H, W, 2]``, see `Motion`.

    Returns:
        Row and column, ``intp[H, W]``, and whether it is in the picture; 0, 0 where it is not, or the flow is nan.
    """
    height, width = flow_hw2.shape[:2]
    x = np.rint(np.arange(width, dtype=np.float32) + flow_hw2[..., 0])
    y = np.rint(np.arange(height, dtype=np.float32)[:, None] + flow_hw2[..., 1])
    # Comparisons with nan are false, so a pixel without a flow is left out.
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return np.where(inside, y, 0).astype(np.intp), np.where(inside, x, 0).astype(np.intp), inside


@dataclass(slots=True)
class OpenLabels:
    """The labels of the last frame, and how many changed on every frame so far."""

    before_hw: Labels | None = None
    changed: list[float] = field(default_factory=list)


class Flicker(RowMeans[OpenLabels, tuple[float, int], Motion]):
    """Mean fraction of pixels that change their label between consecutive frames; needs no ground truth.

    The mean over the frames of a video but the first, then over videos. ``consistency`` is one minus it. Pixels
    without a segment have a label of their own. A still and wrong result does not flicker: read it beside an accuracy.

    Args:
        by: "track" asks whether a pixel stays with its object, "category" only whether it keeps its class.
    """

    name = "flicker"
    columns = ("flicker",)
    skip_undefined = True

    def __init__(self, *, by: Literal["track", "category"] = "track") -> None:
        super().__init__()
        self.by = by

    def begin(self, sequence_id: str) -> OpenLabels:
        """No frame yet."""
        return OpenLabels()

    def update(
        self,
        sequence_id: str,
        frame_index: int,
        truth: FrameAnnotation | None,
        prediction: FrameSegmentation | None,
        meta: Motion | None = None,
        *,
        allow_missing: bool = False,
    ) -> None:
        """Take one frame; ``truth`` may be None and is not looked at, ``meta`` is the motion since the frame before.

        Raises:
            InputError: as `Accumulator.update`, or the size changes within a video, or both sides are None.
        """
        if truth is None:
            if prediction is None:
                raise InputError(f"{sequence_id}, frame {frame_index}: {NO_PREDICTION}")
            truth = FrameAnnotation(prediction, annotated=False)
        super().update(sequence_id, frame_index, truth, prediction, meta, allow_missing=allow_missing)

    def add(
        self,
        state: OpenLabels,
        frame_index: int,
        truth: FrameAnnotation,
        prediction: FrameSegmentation,
        meta: Motion | None = None,
    ) -> None:
        """Compare with the frame before."""
        after_hw = self._labels(prediction)
        if state.before_hw is not None:
            state.changed.append(changed_fraction(state.before_hw, after_hw, meta))
        state.before_hw = after_hw

    def reduce(self, state: OpenLabels) -> tuple[float, int]:
        """Sum over the frames that could be compared, and their number."""
        defined = [value for value in state.changed if not math.isnan(value)]
        return sum(defined), len(defined)

    def rows(self, sequence_id: str, summary: tuple[float, int]) -> dict[str, Scores]:
        """The mean of a video; nan without two frames to compare."""
        flicker = ratio(*summary)
        return {sequence_id: {"flicker": flicker, "consistency": 1 - flicker}}

    def from_sums(self, sums: Terms) -> Scores:
        """Mean over the videos that have two frames to compare."""
        flicker = super().from_sums(sums)["flicker"]
        return {"flicker": flicker, "consistency": 1 - flicker}

    def notes(self, summaries: Mapping[str, tuple[float, int]]) -> Sequence[str]:
        """What a label is."""
        return (f"Labels are compared by {self.by}.",)

    def _labels(self, prediction: FrameSegmentation) -> Labels:
        labels = [0 if self.by == "track" else -1]
        for segment in prediction.segments:
            label = segment.track_id if self.by == "track" else segment.category
            if label is None:
                raise InputError(f'segment {segment.id} has no category: compare by "track"')
            labels.append(label)
        positions_hw = prediction.label_map()
        check_labels(positions_hw, len(prediction.segments), "prediction")
        labels_hw: Labels = np.array(labels, np.int32)[positions_hw.cpu().numpy()]
        return labels_hw
