"""Data sets with a label for every pixel, whose test splits hide all of them."""

from __future__ import annotations

from collections.abc import Sequence

from maskstream.types import InputError, VideoSample

from .protocol import DatasetT, Metrics, Protocol, Results
from .results import names_of


class ShownLabels(Protocol[DatasetT]):
    """Scores what can be compared, and says so where nothing can."""

    @property
    def names(self) -> Sequence[str]:
        """Of the videos."""
        return names_of(self.dataset)

    def score(self, video: VideoSample, results: Results, metrics: Metrics) -> None:
        """Give a video to the metrics, and end it.

        Raises:
            InputError: the labels are hidden; truth or prediction is missing or does not fit.
        """
        if video.read_annotation is None:
            raise InputError(
                f"the labels of {self.dataset.name} {self.dataset.split} are hidden: "
                "its results are scored by the server of the benchmark"
            )
        super().score(video, results, metrics)
