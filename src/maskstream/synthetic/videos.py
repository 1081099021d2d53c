"""Scenes as labelled videos: rendered when a frame is asked for, fastest in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from maskstream.types import (
    Expression,
    FrameAnnotation,
    FrameRef,
    InputError,
    PointPrompt,
    Prompt,
    Task,
    VideoSample,
)
from maskstream.types.samples import JPEG_QUALITY

from .exact import Draw
from .expressions import Observer, refer
from .render import SyntheticFrame, render
from .scene import Scene
from .world import Level, make_scene

EXPRESSIONS_PER_OBJECT = 2


def video_seed(seed: int, number: int) -> int:
    """Seed of the scene that is video ``number``, from 0, of the data set ``seed``.

    The first 53 bits of chance of ``Draw(seed, number)``; it depends neither on the task nor on how many videos there
    are, so a smaller set is the beginning of a larger one.
    """
    return Draw(seed, number).integer(0, 2**53 - 1)


def synthetic_videos(
    *,
    level: Level,
    seed: int,
    videos: int,
    frames: int,
    size_hw: tuple[int, int],
    photos: NDArray[np.uint8] | None = None,
    on_frame: Callable[[int], None] | None = None,
) -> Iterator[VideoSample]:
    """The videos of a synthetic data set; frames are rendered as they are read.

    Args:
        level: how difficult.
        seed: another one, other videos.
        videos: how many.
        frames: of each.
        size_hw: height and width.
        photos: tiles of a texture pack.
        on_frame: called with the number of frames rendered so far, of all videos, after every new frame.

    Raises:
        InputError: an argument is out of range.
    """
    height, width = size_hw
    for number in range(videos):
        scene = make_scene(
            level=level, seed=video_seed(seed, number), frames=frames, aspect=width / height, photos=photos
        )
        yield RenderedScene(scene, size_hw, on_frame, before=number * frames).sample(f"{level}-{seed}-{number:04d}")


class RenderedScene:
    """Reads frames of a scene; keeps the last one, and goes on from there.

    Args:
        scene: the scene.
        size_hw: height and width of the pictures.
        on_frame: called with the number of frames that were seen, and those ``before``, after every new one.
        before: frames of earlier scenes.
    """

    def __init__(
        self,
        scene: Scene,
        size_hw: tuple[int, int],
        on_frame: Callable[[int], None] | None = None,
        *,
        before: int = 0,
    ) -> None:
        self.scene = scene
        self.size_hw = size_hw
        self._on_frame = on_frame
        self._before = before
        self._coming: Iterator[SyntheticFrame] = iter(())
        self._last: SyntheticFrame | None = None
        self._observer = Observer(scene)
        self._observed = 0

    def sample(self, name: str) -> VideoSample:
        """The scene as a video of this name."""
        return VideoSample(
            name,
            tuple(FrameRef(f"{n:05d}") for n in range(self.scene.frame_count)),
            read_annotation=self.annotation,
            read_image=lambda index: self.frame(index).frame.image,
            read_prompts=self.prompts,
            read_expressions=self.expressions,
            fps=self.scene.fps,
            jpeg_quality=self.scene.quality or JPEG_QUALITY,
        )

    def frame(self, index: int) -> SyntheticFrame:
        """Render a frame."""
        last = None if self._last is None else self._last.frame.index
        if self._last is not None and index == last:
            return self._last
        if last is None or index != last + 1:
            self._coming = render(self.scene, self.size_hw, start=index, motion=False)
        self._last = next(self._coming)
        if index == self._observed:
            self._observer.add(self._last.annotation)
            self._observed += 1
            if self._on_frame is not None:
                self._on_frame(self._before + self._observed)
        return self._last

    def annotation(self, index: int) -> FrameAnnotation:
        """The truth of a frame."""
        return self.frame(index).annotation

    def prompts(self, task: Task) -> Sequence[Prompt]:
        """A point inside every thing on the frame on which it is first seen.

        Raises:
            InputError: the task takes something else, which readers of the written data set find for themselves.
        """
        if task is not Task.PET:
            raise InputError(f"a scene gives points for the task pet, but nothing for {task.value}")
        found: dict[int, Prompt] = {}
        for index in range(self.scene.frame_count):
            for track, (x, y) in self.frame(index).points.items():
                found.setdefault(track, PointPrompt(index, track, ((x, y),)))
        return list(found.values())

    def expressions(self) -> Mapping[str, Expression]:
        """Sentences that are true of one object each; looks at all frames that were not seen yet."""
        for index in range(self._observed, self.scene.frame_count):
            self.frame(index)
        chosen = refer(self._observer.appearances(), self.scene.seed, per_object=EXPRESSIONS_PER_OBJECT)
        return {str(n): Expression(said.text, (track,)) for n, (track, said) in enumerate(chosen)}
