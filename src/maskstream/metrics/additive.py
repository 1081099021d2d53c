"""Metrics that are made of sums over sequences, so that thousands of resampled data sets are one matrix product."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .accumulator import Accumulator, MetaT, OpenT, Scores, SummaryT

Numbers: TypeAlias = NDArray[np.float64] | NDArray[np.int64]

Terms = Mapping[str, Numbers]
"""Named arrays to be summed over their first axis, the sequences."""

_AT_ONCE = 100  # resampled data sets; bounds the memory of their sums


class Additive(Accumulator[OpenT, SummaryT, MetaT]):
    """A metric whose values need nothing of the sequences but sums over them."""

    @abstractmethod
    def terms(self, summaries: Mapping[str, SummaryT]) -> Terms:
        """What is summed: arrays ``[N, …]`` with an entry for each of the N sequences; a sum with nan is nan."""

    @abstractmethod
    def from_sums(self, sums: Terms) -> Scores:
        """The values, from the sums of `terms` over the sequences: the same arrays without their first axis."""

    def values(self, summaries: Mapping[str, SummaryT]) -> Scores:
        """The values over a data set."""
        return self.from_sums(self.sums(summaries))

    def sums(self, summaries: Mapping[str, SummaryT]) -> Terms:
        """The terms summed over the sequences."""
        return {name: rows.sum(axis=0) for name, rows in self.terms(summaries).items()}

    def resample(self, summaries: Mapping[str, SummaryT], weights_sn: NDArray[np.float64]) -> list[Scores]:
        """The values of S data sets that hold each of the N sequences so and so often."""
        terms = self.terms(summaries)
        drawn = []
        for first in range(0, len(weights_sn), _AT_ONCE):
            some_sn = weights_sn[first : first + _AT_ONCE]
            sums = {name: weighted_sums(some_sn, rows) for name, rows in terms.items()}
            drawn += [self.from_sums({name: total[s] for name, total in sums.items()}) for s in range(len(some_sn))]
        return drawn


class RowMeans(Additive[OpenT, SummaryT, MetaT]):
    """A metric whose values are means of rows over the data set: a row an object, an expression or a sequence."""

    columns: ClassVar[tuple[str, ...]]
    """What is averaged of every row."""
    skip_undefined: ClassVar[bool] = False
    """Whether nan is left out of a mean; it makes the mean nan otherwise."""

    @abstractmethod
    def rows(self, sequence_id: str, summary: SummaryT) -> dict[str, Scores]:
        """The rows of a sequence, by name."""

    def terms(self, summaries: Mapping[str, SummaryT]) -> Terms:
        """Sums of the columns over the rows of each sequence, and over how many."""
        sums, counts = np.zeros((2, len(summaries), len(self.columns)))
        for n, (sequence_id, summary) in enumerate(summaries.items()):
            for row in self.rows(sequence_id, summary).values():
                values = np.array([row[column] for column in self.columns])
                counted = ~np.isnan(values) if self.skip_undefined else np.ones(len(values), bool)
                sums[n, counted] += values[counted]
                counts[n] += counted
        return {"sums": sums, "counts": counts}

    def from_sums(self, sums: Terms) -> Scores:
        """The means."""
        return dict(zip(self.columns, ratios(sums["sums"], sums["counts"]).tolist(), strict=True))

    def video_rows(self, summaries: Mapping[str, SummaryT]) -> dict[str, Scores]:
        """All rows."""
        return {name: row for s, summary in summaries.items() for name, row in self.rows(s, summary).items()}


def weighted_sums(weights_sn: NDArray[np.float64], rows: Numbers) -> NDArray[np.float64]:
    """Sums over the first axis of ``rows``, ``[N, …]``, for S weightings: ``float64[S, …]``; nan only with a nan in."""
    undefined = np.isnan(rows)
    sums: NDArray[np.float64] = np.tensordot(weights_sn, np.where(undefined, 0.0, rows), 1)
    if undefined.any():
        sums[np.tensordot(weights_sn, undefined.astype(np.float64), 1) > 0] = math.nan
    return sums


def ratios(parts: Numbers, wholes: Numbers) -> NDArray[np.float64]:
    """Parts divided by wholes; nan where the whole is 0."""
    quotients = np.full(np.broadcast_shapes(np.shape(parts), np.shape(wholes)), math.nan)
    np.divide(parts, wholes, out=quotients, where=np.asarray(wholes) > 0)
    return quotients


def ratio(part: float, whole: float) -> float:
    """Part divided by whole; nan when the whole is 0."""
    return float(part / whole) if whole else math.nan
