"""How referring expressions are scored: a sequence is an expression, or one annotator's reading of a video."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from maskstream.datasets.referring import ReferringDataset
from maskstream.formats.referring import (
    annotator_of,
    as_answers,
    meant,
    read_expression_results,
    read_ref_davis_results,
    write_expression_results,
    write_ref_davis_results,
    write_ref_youtube_vos_results,
)
from maskstream.metrics import Mevis, RefCoco, RefDavis, RefYoutubeVos, paired_names
from maskstream.metrics.referring import HIDDEN
from maskstream.types import FrameAnnotation, InputError, Task, VideoSample

from .protocol import Metrics, Protocol, Results

HIDDEN_MEVIS = (
    "the labels of MeViS valid are not public: 140 videos with 2,236 expressions, server only; split valid_u (50 "
    "videos, 793 expressions) is scored here"
)


class ReferringProtocol(Protocol[ReferringDataset]):
    """What data sets of sentences have in common."""

    @abstractmethod
    def reading(self, video: str, number: str) -> str:
        """Whose sentence this is: those of one reading of a video speak of different objects, which compete for
        pixels."""


class MevisProtocol(ReferringProtocol):
    """MeViS: the union of all objects that an expression means, on every frame."""

    headline = ("J&F", "J&F")
    refusal: ClassVar[str] = HIDDEN_MEVIS

    def metrics(self) -> Metrics:
        """J&F over expressions.

        Raises:
            InputError: the labels of this part are hidden.
        """
        if self.dataset.hidden:
            raise InputError(self.refusal)
        return self.accumulators()

    def accumulators(self) -> Metrics:
        """New ones."""
        return {"J&F": Mevis()}

    def read_results(self, path: Path) -> Results:
        """``VIDEO/EXPRESSION/FRAME.png``, with or without ``Annotations`` above it."""
        results, numbers = read_expression_results(path), self.dataset.numbers
        known = {f"{video}/{number}": None for video, of_video in numbers.items() for number in of_video}
        paired_names(known, results, what="expression", where=str(path), allow_missing=True)
        return results

    def write_results(self, path: Path, videos: Iterable[VideoSample]) -> None:
        """The same, without."""
        write_expression_results(path, videos, self.dataset.categories)

    def answers(self, video: VideoSample) -> VideoSample:
        """A segment for every expression."""
        return as_answers(video)

    def reading(self, video: str, number: str) -> str:
        """Every expression is for itself."""
        return number

    def sequences(self, video: VideoSample) -> list[str]:
        """One for every expression."""
        return [f"{video.name}/{number}" for number in self.dataset.numbers[video.name]]

    def truth(self, video: VideoSample, sequence: str, index: int) -> FrameAnnotation:
        """The objects that the expression means.

        Raises:
            InputError: nobody says which these are.
        """
        number = sequence.rpartition("/")[2]
        expression = video.expressions()[number]
        if not expression.track_ids:
            raise InputError(f"{video.name}: the data set does not say whom expression {number} means")
        annotation = video.annotation(index)
        return replace(annotation, segmentation=meant(annotation.segmentation, expression), crowd_ids=frozenset())


class RefYoutubeVosProtocol(MevisProtocol):
    """Ref-YouTube-VOS, where there is truth: one object an expression, on every frame of the list."""

    refusal = HIDDEN

    def accumulators(self) -> Metrics:
        """J&F over expressions."""
        return {"J&F": RefYoutubeVos()}

    def write_results(self, path: Path, videos: Iterable[VideoSample]) -> None:
        """``Annotations/VIDEO/EXPRESSION/FRAME.png``."""
        write_ref_youtube_vos_results(path, videos, self.dataset.categories)


class RefCocoProtocol(MevisProtocol):
    """RefCOCO, RefCOCO+ and RefCOCOg: an image is a video of one frame."""

    headline = ("IoU", "cIoU")

    def accumulators(self) -> Metrics:
        """cIoU, gIoU and P@X."""
        return {"IoU": RefCoco()}


class RefDavisProtocol(ReferringProtocol):
    """Ref-DAVIS17: the unsupervised protocol for each of four annotators."""

    headline = ("J&F", "J&F-Mean")

    def metrics(self) -> Metrics:
        """The mean of four runs."""
        return {"J&F": RefDavis()}

    def read_results(self, path: Path) -> Results:
        """``anno_A/VIDEO/FRAME.png``."""
        results = read_ref_davis_results(path)
        known = {f"{annotator}/{video}": None for annotator in RefDavis.annotators for video in self.dataset.numbers}
        paired_names(known, results, what="reading of a video", where=str(path), allow_missing=True)
        return results

    def write_results(self, path: Path, videos: Iterable[VideoSample]) -> None:
        """The same."""
        write_ref_davis_results(path, videos, self.dataset.categories)

    def answers(self, video: VideoSample) -> VideoSample:
        """A segment for every expression."""
        return as_answers(video)

    def reading(self, video: str, number: str) -> str:
        """The annotator, of whom every fourth expression is."""
        return str(annotator_of(video, number))

    def sequences(self, video: VideoSample) -> list[str]:
        """One for every annotator."""
        return [f"{annotator}/{video.name}" for annotator in RefDavis.annotators]


PROTOCOLS: dict[tuple[str, Task], type[Protocol[Any]]] = {
    ("ref-davis", Task.REFVOS): RefDavisProtocol,
    ("ref-ytvos", Task.REFVOS): RefYoutubeVosProtocol,
    ("mevis", Task.REFVOS): MevisProtocol,
    ("refcoco", Task.REFVOS): RefCocoProtocol,
}
