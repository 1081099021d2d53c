"""Labelled videos: what readers of data sets and results give, and what writers take. Read when asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .errors import InputError
from .prompts import Prompt
from .segmentation import FrameAnnotation, Track
from .tasks import Task

JPEG_QUALITY = 95
"""Of pictures that have to be compressed anew."""


@dataclass(frozen=True, slots=True)
class FrameRef:
    """A frame of a labelled video, by name.

    Attributes:
        stem: the name of its files, without suffix; results carry it.
        image: where its picture is, or should be; None if it is not a file.
        annotated: False when a person never labelled this frame, so that "nothing here" says nothing.
    """

    stem: str
    image: Path | None = None
    annotated: bool = True


@dataclass(frozen=True, slots=True)
class Expression:
    """A sentence about a video, and the objects it means; none where the data set hides them."""

    text: str
    track_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class VideoSample:
    """One video of a data set or of a set of results. An image is a video of one frame.

    Attributes:
        name: of the video, as results name its folder; unique in a data set.
        frames: in order; position n is ``Frame.index`` and ``frame_index`` of everything read from the sample.
        read_annotation: the labels of frame n, or None where the data set hides all of them. For results, what was
            predicted.
        read_image: the picture of frame n, ``uint8[H, W, 3]`` RGB, for those that are no files.
        read_prompts: what may be given to a model that does a task on this video.
        read_expressions: sentences about it, by the number they have in results.
        read_tracks: its objects with their categories and scores, where they are known for the whole video; for
            results that are scored by track.
        video_id: the number that JSON files know it by.
        fps: frames a second, or None when unknown.
        jpeg_quality: of pictures that have to be compressed anew.
    """

    name: str
    frames: tuple[FrameRef, ...]
    read_annotation: Callable[[int], FrameAnnotation] | None = field(default=None, repr=False)
    read_image: Callable[[int], NDArray[np.uint8]] | None = field(default=None, repr=False)
    read_prompts: Callable[[Task], Sequence[Prompt]] | None = field(default=None, repr=False)
    read_expressions: Callable[[], Mapping[str, Expression]] | None = field(default=None, repr=False)
    read_tracks: Callable[[], Sequence[Track]] | None = field(default=None, repr=False)
    video_id: int | None = None
    fps: float | None = None
    jpeg_quality: int = JPEG_QUALITY

    def __len__(self) -> int:
        return len(self.frames)

    def annotation(self, index: int) -> FrameAnnotation:
        """The labels of a frame.

        Raises:
            InputError: they are hidden, missing or damaged.
        """
        if self.read_annotation is None:
            raise InputError(f"{self.name}: this data set does not show the labels of this video")
        return self.read_annotation(index)

    def prompts(self, task: Task) -> tuple[Prompt, ...]:
        """What may be given to a model that does this task on this video.

        Raises:
            InputError: the data set has nothing to give for this task.
        """
        if self.read_prompts is None:
            raise InputError(f"{self.name}: this data set has no prompts for the task {task.value}")
        return tuple(self.read_prompts(task))

    def expressions(self) -> Mapping[str, Expression]:
        """Sentences about the video, by the number they have in results; empty when there are none."""
        return {} if self.read_expressions is None else self.read_expressions()

    def tracks(self) -> Sequence[Track]:
        """Objects of the whole video; empty when they are only known frame by frame."""
        return () if self.read_tracks is None else self.read_tracks()
