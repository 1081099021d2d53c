"""Curves: J and F of one object over its frames, the statistics of DAVIS on them, and metrics that average them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from maskstream.types import InputError

from .accumulator import OpenT, Scores, SummaryT
from .additive import RowMeans, Terms

Values = NDArray[np.float64]


class Curve(TypedDict):
    """One object over the frames on which it is scored: their indices, and J and F on each, all of one length."""

    frames: NDArray[np.int64]
    j: Values
    f: Values


def make_curve(frames: Sequence[int], j: Sequence[float] | Values, f: Sequence[float] | Values) -> Curve:
    """A curve from plain numbers."""
    return Curve(frames=np.array(frames, np.int64), j=np.array(j, np.float64), f=np.array(f, np.float64))


def recall(values: Values) -> float:
    """Fraction of the frames on which a value is above one half (metrics specification §5.3); nan without frames."""
    return float(np.mean(values > 0.5)) if len(values) else math.nan


def decay(values: Values, *, davis_uint8_decay: bool = False) -> float:
    """How much the first quarter of a sequence is better than the last (metrics specification §5.3).

    Neighbouring quarters share a frame.

    Args:
        values: ``float64[T]``, one value a frame.
        davis_uint8_decay: keep the quarters' edges in eight bits, as the official DAVIS program does, which makes
            the result wrong or nan beyond 256 frames.
    """
    if not len(values):
        return math.nan
    edges = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(np.int64) - 1
    bounds = [int(edge) % 256 if davis_uint8_decay else int(edge) for edge in edges]
    first, last = (values[start : stop + 1] for start, stop in (bounds[:2], bounds[3:]))
    return float(first.mean() - last.mean()) if len(first) and len(last) else math.nan


def davis_statistics(curve: Curve, *, davis_uint8_decay: bool = False) -> Scores:
    """Mean, recall and decay of J and of F of one object (metrics specification §5.3)."""
    row: Scores = {}
    for name, values in (("J", curve["j"]), ("F", curve["f"])):
        row[f"{name}-Mean"] = mean(values)
        row[f"{name}-Recall"] = recall(values)
        row[f"{name}-Decay"] = decay(values, davis_uint8_decay=davis_uint8_decay)
    return row


def jf_row(curve: Curve) -> Scores:
    """J&F, J and F of one object."""
    j, f = mean(curve["j"]), mean(curve["f"])
    return {"J&F": (j + f) / 2, "J": j, "F": f}


def mean(values: Iterable[float] | Values) -> float:
    """Arithmetic mean; nan of nothing, and nan if any value is."""
    array = np.fromiter(values, np.float64)
    return float(array.mean()) if len(array) else math.nan


def without_ends(sequence_id: str, frame_count: int) -> slice:
    """The frames of a sequence but for the first, which is given, and the last.

    Raises:
        InputError: nothing is left.
    """
    if frame_count < 3:
        raise InputError(
            f"{sequence_id}: a sequence of {frame_count} annotated frames has none to score, because the first and "
            "the last are not counted: leave it out"
        )
    return slice(1, frame_count - 1)


def without_objects(summaries: Mapping[str, Mapping[int, Curve]]) -> list[str]:
    """A note about sequences that add nothing, if there are any."""
    names = [sequence_id for sequence_id, curves in summaries.items() if not curves]
    return [f"without any object to score: {', '.join(names)}"] if names else []


def without_any_prediction(what: str, names: Sequence[str]) -> list[str]:
    """A note about sequences that score 0 because nothing was predicted for them, if there are any."""
    return [f"{len(names)} {what} without any prediction score 0, first {names[0]}"] if names else []


class DavisMeans(RowMeans[OpenT, dict[int, Curve], None]):
    """The statistics of DAVIS of every object, averaged over objects, and J&F, the mean of both means.

    Args:
        davis_uint8_decay: reproduce the official decay of sequences beyond 256 frames.
    """

    columns = tuple(f"{measure}-{what}" for measure in "JF" for what in ("Mean", "Recall", "Decay"))

    def __init__(self, *, davis_uint8_decay: bool = False) -> None:
        super().__init__()
        self.davis_uint8_decay = davis_uint8_decay

    def rows(self, sequence_id: str, summary: dict[int, Curve]) -> dict[str, Scores]:
        """A row ``sequence/object`` for every object, by id."""
        return {
            f"{sequence_id}/{o}": davis_statistics(summary[o], davis_uint8_decay=self.davis_uint8_decay)
            for o in sorted(summary)
        }

    def from_sums(self, sums: Terms) -> Scores:
        """The means."""
        means = super().from_sums(sums)
        return {"J&F-Mean": (means["J-Mean"] + means["F-Mean"]) / 2, **means}

    def notes(self, summaries: Mapping[str, dict[int, Curve]]) -> Sequence[str]:
        """Sequences that add nothing."""
        return without_objects(summaries)


class JfMeans(RowMeans[OpenT, SummaryT, None]):
    """J and F of every object or expression, averaged, and J&F, the mean of both means."""

    columns = ("J", "F")

    def from_sums(self, sums: Terms) -> Scores:
        """The means."""
        means = super().from_sums(sums)
        return {"J&F": (means["J"] + means["F"]) / 2, **means}
