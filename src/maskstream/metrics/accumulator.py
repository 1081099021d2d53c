"""What all metrics share: accumulate frame by frame, reduce a sequence to a few numbers, merge, report.

A metric is an `Accumulator` with parts of its own: what it keeps while a sequence is open, what a frame adds, to which
summary a finished sequence is reduced, how summaries make the values, and which tables go with them. Everything else is
here: frames may come once and in order, predictions may be missing, sequences may be spread over processes, and the
sums run over sequences in sorted order, so that one worker and N workers give the same bits.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Generic, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from maskstream.types import FrameAnnotation, FrameSegmentation, InputError, LabelMap, StateDict

OpenT = TypeVar("OpenT")
SummaryT = TypeVar("SummaryT")
MetaT = TypeVar("MetaT")

SCHEMA = "maskstream/scores"
VERSION = 1

WithoutPrediction = Literal["refuse", "empty", "zero"]

NO_PREDICTION = "there is no prediction: add it, or allow missing ones, which then count as empty"

Scores = dict[str, float]
"""Named values, fractions in [0, 1] unless the metric says otherwise; nan where undefined."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a metric found.

    Attributes:
        metric: its name.
        values: over the whole data set.
        per_class: a row a class, by the name or number of the class.
        per_video: a row a sequence.
        intervals: bootstrap intervals over sequences of some of ``values``, low and high.
        notes: what a reader must know, such as conventions and missing frames.
    """

    metric: str
    values: Scores
    per_class: Mapping[str, Scores] = field(default_factory=dict)
    per_video: Mapping[str, Scores] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Schema ``docs/schemas/scores.json``; undefined values are null."""
        plain = {
            "schema": SCHEMA,
            "version": VERSION,
            "metric": self.metric,
            "values": _without_nan(self.values),
            "per_class": {name: _without_nan(row) for name, row in self.per_class.items()},
            "per_video": {name: _without_nan(row) for name, row in self.per_video.items()},
            "intervals": {name: [_null(low), _null(high)] for name, (low, high) in self.intervals.items()},
            "notes": list(self.notes),
        }
        return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"

    def to_markdown(self, *, digits: int = 1) -> str:
        """Tables for people, in percent; undefined values are a dash."""
        lines = [f"### {self.metric}", "", "| | value |", "|---|---|"]
        for name, value in self.values.items():
            low_high = self.intervals.get(name)
            spread = "" if low_high is None else f" ({' – '.join(_percent(v, digits) for v in low_high)})"
            lines.append(f"| {name} | {_percent(value, digits)}{spread} |")
        for title, table in (("class", self.per_class), ("video", self.per_video)):
            if table:
                columns = list(dict.fromkeys(name for row in table.values() for name in row))
                lines += ["", f"| {title} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
                for name, row in table.items():
                    cells = (_percent(row.get(column, math.nan), digits) for column in columns)
                    lines.append(f"| {name} | {' | '.join(cells)} |")
        lines += ["", *self.notes] if self.notes else []
        return "\n".join(lines) + "\n"


@dataclass(slots=True)
class _Progress:
    """How far a sequence has come.

    Attributes:
        last: index of the last frame.
        frames: how many annotated ones came.
        missing: how many of them should have had a prediction and had none.
        refused: the first of those that nobody allowed, or None.
    """

    last: int = -1
    frames: int = 0
    missing: int = 0
    refused: int | None = None


class Accumulator(ABC, Generic[OpenT, SummaryT, MetaT]):
    """A metric over many sequences. Keeps one open state a sequence, and only a summary once it has ended.

    ``MetaT`` is what `update` needs beside truth and prediction; None for most metrics.
    """

    name: str
    without_prediction: ClassVar[WithoutPrediction] = "refuse"
    """What it means that an annotated frame has no prediction.

    "refuse": an error, unless the caller allows it. "empty": that nothing was found, because the result files of this
    benchmark list what was found and nothing else. "zero": as "refuse"; but a sequence without any prediction scores 0
    whatever its truth, because the official program says so.
    """

    def __init__(self) -> None:
        self._open: dict[str, OpenT] = {}
        self._progress: dict[str, _Progress] = {}
        self._summaries: dict[str, SummaryT] = {}
        self._missing: dict[str, int] = {}

    @abstractmethod
    def begin(self, sequence_id: str) -> OpenT:
        """State of a sequence of which no frame was seen."""

    @abstractmethod
    def add(
        self, state: OpenT, frame_index: int, truth: FrameAnnotation, prediction: FrameSegmentation, meta: MetaT | None
    ) -> None:
        """Take one frame into the state, of the same size and both checked."""

    @abstractmethod
    def reduce(self, state: OpenT) -> SummaryT:
        """The few numbers that stay of a sequence: plain numbers, strings, arrays and containers of them."""

    @abstractmethod
    def values(self, summaries: Mapping[str, SummaryT]) -> Scores:
        """The values over a data set, from summaries in sorted order of their sequences; cheap, for `bootstrap`."""

    def class_rows(self, summaries: Mapping[str, SummaryT]) -> dict[str, Scores]:
        """A row a class, by its name or number."""
        return {}

    def video_rows(self, summaries: Mapping[str, SummaryT]) -> dict[str, Scores]:
        """A row a sequence, or one an object."""
        return {name: self.values({name: summary}) for name, summary in summaries.items()}

    def notes(self, summaries: Mapping[str, SummaryT]) -> Sequence[str]:
        """What a reader of the values must know."""
        return ()

    def video_of(self, sequence_id: str) -> str:
        """The video of a sequence: sequences of one video are drawn together by `bootstrap`."""
        return sequence_id

    def resample(self, summaries: Mapping[str, SummaryT], weights_sn: NDArray[np.float64]) -> list[Scores]:
        """The values of S data sets that hold each of the N sequences so and so often.

        Args:
            summaries: N summaries in sorted order of their sequences.
            weights_sn: ``float64[S, N]``, whole numbers.
        """
        drawn = []
        for weights in weights_sn.astype(int).tolist():
            counted = zip(summaries.items(), weights, strict=True)
            drawn.append(self.values({f"{name}#{k}": one for (name, one), count in counted for k in range(count)}))
        return drawn

    def update(
        self,
        sequence_id: str,
        frame_index: int,
        truth: FrameAnnotation,
        prediction: FrameSegmentation | None,
        meta: MetaT | None = None,
        *,
        allow_missing: bool = False,
    ) -> None:
        """Take one frame.

        Args:
            sequence_id: name of the sequence.
            frame_index: greater than those before.
            truth: what is annotated.
            prediction: of the size of the truth; None where there is none.
            meta: what the metric needs beside.
            allow_missing: take a missing prediction for an empty one; the report says how many there were.

        Raises:
            InputError: the prediction is missing and must not be, sizes differ, the sequence has ended, or the frame
                came before; the message names both.
        """
        where = f"{sequence_id}, frame {frame_index}"
        if sequence_id in self._summaries:
            raise InputError(f"{where}: this sequence has ended already")
        progress = self._progress.setdefault(sequence_id, _Progress())
        if frame_index <= progress.last:
            raise InputError(f"{where}: came after frame {progress.last}; each frame once and in order")
        is_missing = prediction is None and truth.annotated
        if is_missing and not allow_missing and self.without_prediction == "refuse":
            raise InputError(f"{where}: {NO_PREDICTION}")
        true_size = truth.segmentation.size_hw
        if prediction is None:
            prediction = empty_segmentation(frame_index, true_size)
        size = prediction.size_hw
        if true_size != size:
            raise InputError(
                f"{where}: the prediction is {size[0]}×{size[1]} but the ground truth {true_size[0]}×{true_size[1]}: "
                "resize the prediction (label maps: nearest)"
            )
        if sequence_id not in self._open:
            self._open[sequence_id] = self.begin(sequence_id)
        try:
            self.add(self._open[sequence_id], frame_index, truth, prediction, meta)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        progress.last = frame_index
        progress.frames += truth.annotated
        progress.missing += is_missing
        if is_missing and not allow_missing and progress.refused is None:
            progress.refused = frame_index

    def end_sequence(self, sequence_id: str) -> None:
        """Reduce a sequence to its summary. One of which no frame was seen counts as empty.

        Raises:
            InputError: the sequence has ended already, or cannot be scored.
        """
        if sequence_id in self._summaries:
            raise InputError(f"{sequence_id}: this sequence has ended already")
        state = self._open.pop(sequence_id) if sequence_id in self._open else self.begin(sequence_id)
        progress = self._progress.pop(sequence_id, _Progress())
        if self.without_prediction == "zero" and progress.missing:
            if progress.missing == progress.frames:
                state, progress = self.begin(sequence_id), _Progress()
            elif progress.refused is not None:
                raise InputError(f"{sequence_id}, frame {progress.refused}: {NO_PREDICTION}")
        self._summaries[sequence_id] = self.reduce(state)
        if progress.missing and self.without_prediction != "empty":
            self._missing[sequence_id] = progress.missing

    def merge(self, other: Accumulator[OpenT, SummaryT, MetaT]) -> None:
        """Take over the sequences that another process has finished.

        Raises:
            InputError: a sequence was seen by both, or is still open in the other.
        """
        twice = sorted(set(other._summaries) & ({*self._summaries, *self._open}))
        if twice or other._open:
            what = f"{twice[0]} was evaluated twice" if twice else f"{min(other._open)} has not ended"
            raise InputError(f"cannot merge: {what}")
        self._summaries.update(other._summaries)
        self._missing.update(other._missing)

    def result(self) -> Report:
        """The result over all sequences that have ended.

        Raises:
            InputError: a sequence has not ended.
        """
        summaries = self._ended()
        notes = [*self.notes(summaries)]
        if self._missing:
            frames, videos = sum(self._missing.values()), len(self._missing)
            notes.append(
                f"{frames} frames of {videos} videos had no prediction and count as empty, first {min(self._missing)}"
            )
        return Report(
            self.name,
            self.values(summaries),
            self.class_rows(summaries),
            self.video_rows(summaries),
            notes=tuple(notes),
        )

    def bootstrap(self, *, samples: int = 1000, level: float = 0.95, seed: int = 0) -> dict[str, tuple[float, float]]:
        """Percentile intervals of every value over resampled videos, for ``Report.intervals``.

        Args:
            samples: how often as many videos are drawn with replacement.
            level: how much of the distribution the interval holds.
            seed: of the draws.

        Raises:
            InputError: a sequence has not ended.
        """
        summaries = self._ended()
        if not summaries:
            return {}
        videos = sorted({self.video_of(name) for name in summaries})
        draws = np.random.default_rng(seed).integers(0, len(videos), (samples, len(videos)))
        times_sv = np.stack([np.bincount(draw, minlength=len(videos)) for draw in draws]).astype(np.float64)
        video_n = [videos.index(self.video_of(name)) for name in summaries]
        drawn = self.resample(summaries, times_sv[:, video_n])
        intervals = {}
        tails = [50 * (1 - level), 100 - 50 * (1 - level)]
        for name in drawn[0]:
            values = np.array([row[name] for row in drawn])
            finite = values[np.isfinite(values)]
            low, high = np.percentile(finite, tails) if len(finite) else (math.nan, math.nan)
            intervals[name] = (float(low), float(high))
        return intervals

    def state_dict(self) -> StateDict:
        """The summaries, to be sent to another process.

        Raises:
            InputError: a sequence has not ended.
        """
        return {"summaries": self._ended(), "missing": dict(self._missing)}

    def load_state_dict(self, state: StateDict) -> None:
        """Undo `state_dict`."""
        self._summaries = dict(state["summaries"])
        self._missing = dict(state["missing"])

    def _ended(self) -> dict[str, SummaryT]:
        if self._open:
            raise InputError(f"{min(self._open)} has not ended: call end_sequence first")
        return dict(sorted(self._summaries.items()))


def empty_segmentation(frame_index: int, size_hw: tuple[int, int]) -> FrameSegmentation:
    """A frame on which nothing is found."""
    return FrameSegmentation(frame_index, size_hw, (), LabelMap(torch.zeros(size_hw, dtype=torch.int32)))


def _null(value: float) -> float | None:
    return None if math.isnan(value) else value


def _without_nan(row: Scores) -> dict[str, float | None]:
    return {name: _null(value) for name, value in row.items()}


def _percent(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.{digits}f}"
