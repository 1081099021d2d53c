"""What all metrics share: accumulate frame by frame, reduce a sequence to a few numbers, merge, report.

A metric is an `Accumulator` with four parts of its own: what it keeps while a sequence is open, what a frame adds, to
which summary a finished sequence is reduced, and how summaries make the result. Everything else is here: frames may
come once and in order, sequences may be spread over processes, and the sums run over sequences in sorted order, so
that one worker and N workers give the same bits.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from maskstream.types import FrameAnnotation, FrameSegmentation, InputError, StateDict

OpenT = TypeVar("OpenT")
SummaryT = TypeVar("SummaryT")
MetaT = TypeVar("MetaT")

SCHEMA = "maskstream/scores"
VERSION = 1

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


class Accumulator(ABC, Generic[OpenT, SummaryT, MetaT]):
    """A metric over many sequences. Keeps one open state a sequence, and only a summary once it has ended.

    ``MetaT`` is what `update` needs beside truth and prediction; None for most metrics.
    """

    name: str

    def __init__(self) -> None:
        self._open: dict[str, OpenT] = {}
        self._last_frame: dict[str, int] = {}
        self._summaries: dict[str, SummaryT] = {}

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
    def score(self, summaries: Mapping[str, SummaryT]) -> Report:
        """The result, from summaries in sorted order of their sequences."""

    def update(
        self,
        sequence_id: str,
        frame_index: int,
        truth: FrameAnnotation,
        prediction: FrameSegmentation,
        meta: MetaT | None = None,
    ) -> None:
        """Take one frame.

        Raises:
            InputError: sizes differ, the sequence has ended, or the frame came before; the message names both.
        """
        where = f"{sequence_id}, frame {frame_index}"
        if sequence_id in self._summaries:
            raise InputError(f"{where}: this sequence has ended already")
        if frame_index <= self._last_frame.get(sequence_id, -1):
            raise InputError(f"{where}: came after frame {self._last_frame[sequence_id]}; each frame once and in order")
        true_size, size = truth.segmentation.size_hw, prediction.size_hw
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
        self._last_frame[sequence_id] = frame_index

    def end_sequence(self, sequence_id: str) -> None:
        """Reduce a sequence to its summary. One of which no frame was seen counts as empty."""
        if sequence_id in self._summaries:
            raise InputError(f"{sequence_id}: this sequence has ended already")
        state = self._open.pop(sequence_id) if sequence_id in self._open else self.begin(sequence_id)
        self._last_frame.pop(sequence_id, None)
        self._summaries[sequence_id] = self.reduce(state)

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

    def result(self) -> Report:
        """The result over all sequences that have ended.

        Raises:
            InputError: a sequence has not ended.
        """
        if self._open:
            raise InputError(f"{min(self._open)} has not ended: call end_sequence first")
        return self.score(dict(sorted(self._summaries.items())))

    def bootstrap(self, *, samples: int = 1000, level: float = 0.95, seed: int = 0) -> dict[str, tuple[float, float]]:
        """Percentile intervals of every value over resampled sequences, for ``Report.intervals``.

        Args:
            samples: how often as many sequences are drawn with replacement.
            level: how much of the distribution the interval holds.
            seed: of the draws.
        """
        names = sorted(self._summaries)
        if not names:
            return {}
        draws = np.random.default_rng(seed).integers(0, len(names), (samples, len(names)))
        drawn: list[Scores] = []
        for draw in draws:
            # Numbered, because a sequence drawn twice counts twice.
            resampled = {f"{names[n]}#{k:06d}": self._summaries[names[n]] for k, n in enumerate(draw)}
            drawn.append(self.score(resampled).values)
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
        if self._open:
            raise InputError(f"{min(self._open)} has not ended: call end_sequence first")
        return {"summaries": dict(self._summaries)}

    def load_state_dict(self, state: StateDict) -> None:
        """Undo `state_dict`."""
        self._summaries = dict(state["summaries"])


def _null(value: float) -> float | None:
    return None if math.isnan(value) else value


def _without_nan(row: Scores) -> dict[str, float | None]:
    return {name: _null(value) for name, value in row.items()}


def _percent(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.{digits}f}"
