"""How a data set is scored: which metrics, from which layout of results, and what is compared with what."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeAlias, TypeVar

from maskstream.datasets import Dataset
from maskstream.formats.category_map import CategoryMap, map_annotation
from maskstream.metrics import Accumulator
from maskstream.types import CategorySet, FrameAnnotation, FrameSegmentation, Task, VideoSample

DatasetT = TypeVar("DatasetT", bound=Dataset)

Metrics: TypeAlias = dict[str, Accumulator[Any, Any, Any]]
"""Accumulators by the name that reports and tables give them."""

Results: TypeAlias = Mapping[str, VideoSample]
"""What was predicted, by sequence: a video without pictures whose labels are the prediction."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may choose.

    Attributes:
        compat: "official" does what the official program does, "paper" what its paper says, where they differ.
        categories: score truth and prediction in another label space.
        allow_missing: count missing predictions as empty instead of refusing them.
    """

    compat: Literal["official", "paper"] = "official"
    categories: CategoryMap | None = None
    allow_missing: bool = False


class Protocol(ABC, Generic[DatasetT]):
    """How one data set is scored for one task. Knows its layout of results; keeps nothing between videos.

    Args:
        dataset: the truth.
        task: one of those the data set is annotated for.
        options: what the user chose.
    """

    headline: ClassVar[tuple[str, str]]
    """The metric, by its name in `metrics`, and the value by which videos are ranked and results are summed up."""

    def __init__(self, dataset: DatasetT, task: Task, options: Options) -> None:
        self.dataset = dataset
        self.task = task
        self.options = options

    @property
    def categories(self) -> CategorySet:
        """The label space that is scored: the data set's, or the one its categories are mapped to."""
        mapping = self.options.categories
        return self.dataset.categories if mapping is None else mapping.target

    @abstractmethod
    def metrics(self) -> Metrics:
        """New accumulators. Several when one set of results has several scores, such as VPQ and STQ."""

    @abstractmethod
    def read_results(self, path: Path) -> Results:
        """Open a folder or file of results; masks are read when they are asked for.

        Raises:
            InputError: it is not in the layout, or holds a sequence that the data set has not.
        """

    @abstractmethod
    def write_results(self, path: Path, videos: Iterable[VideoSample]) -> None:
        """Write predictions, or truth as predictions, in the layout that `read_results` reads and servers take.

        Args:
            path: an empty folder.
            videos: in the order of the data set; ``expressions`` and ``video_id`` are those of the data set.
        """

    def answers(self, video: VideoSample) -> VideoSample:
        """The truth of a video as a prediction: what a perfect system would hand to `write_results`."""
        return video

    def sequences(self, video: VideoSample) -> list[str]:
        """The sequences of a video in `Results`: itself, or one for every expression."""
        return [video.name]

    def score(self, video: VideoSample, results: Results, metrics: Metrics) -> None:
        """Give a video to the metrics, and end it.

        Raises:
            InputError: truth or prediction is missing or does not fit; the message names video and frame.
        """
        for sequence in self.sequences(video):
            found = results.get(sequence)
            position = {} if found is None else {frame.stem: n for n, frame in enumerate(found.frames)}
            for index, frame in enumerate(video.frames):
                if not frame.annotated:
                    continue
                truth = self._mapped(self.truth(video, sequence, index))
                prediction: FrameSegmentation | None = None
                if found is not None and frame.stem in position:
                    prediction = self._mapped(found.annotation(position[frame.stem])).segmentation
                for metric in metrics.values():
                    metric.update(
                        sequence,
                        self.frame_index(video, index),
                        truth,
                        prediction,
                        self.meta(video, index),
                        allow_missing=self.options.allow_missing,
                    )
            for metric in metrics.values():
                metric.end_sequence(sequence)

    def _mapped(self, annotation: FrameAnnotation) -> FrameAnnotation:
        mapping = self.options.categories
        return annotation if mapping is None else map_annotation(annotation, mapping)

    def truth(self, video: VideoSample, sequence: str, index: int) -> FrameAnnotation:
        """What a sequence is compared with on frame ``index`` of its video."""
        return video.annotation(index)

    def frame_index(self, video: VideoSample, index: int) -> int:
        """What the metrics call frame ``index``: its position, or the number in its name where they need that."""
        return index

    def meta(self, video: VideoSample, index: int) -> object:
        """What the metrics need beside."""
        return None
