"""A small project with parts that are simple to foresee."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from maskstream.studio.editing import Editor
from maskstream.studio.following import Following
from maskstream.studio.jobs import Event, Job, Jobs
from maskstream.studio.project import Project
from maskstream.types import (
    BoxPrompt,
    CategorySet,
    Frame,
    MaskPrompt,
    ObjectPrompt,
    PointPrompt,
    Proposals,
    ScribblePrompt,
    VideoSegmenter,
)
from tests.systems.deva.parts import MaskState, ShiftingPropagator

SIZE = (12, 16)
FRAMES = 8


def pictures(folder: Path, frames: int = FRAMES, size_hw: tuple[int, int] = SIZE) -> Path:
    """A folder of images, each of one grey value: its number."""
    folder.mkdir()
    for index in range(frames):
        Image.fromarray(np.full((*size_hw, 3), index, np.uint8)).save(folder / f"{index:05d}.png")
    return folder


def rectangle(x0: int, y0: int, x1: int, y1: int, size_hw: tuple[int, int] = SIZE) -> NDArray[np.bool_]:
    mask = np.zeros(size_hw, bool)
    mask[y0:y1, x0:x1] = True
    return mask


class Prompter:
    """A box is filled, a point is a pixel more or less, a stroke is its points.

    Attributes:
        encoded: frames that were encoded.
        asked: prompts of each call.
    """

    context = 0

    def __init__(self) -> None:
        self.encoded: list[int] = []
        self.asked: list[list[ObjectPrompt]] = []

    def encode(self, frames: Sequence[Frame]) -> list[tuple[int, int]]:
        self.encoded += [frame.index for frame in frames]
        return [frame.size_hw for frame in frames]

    def segment(
        self,
        features: tuple[int, int],
        prompts: Sequence[ObjectPrompt] = (),
        *,
        context: Sequence[object] = (),
        categories: CategorySet | None = None,
        exclude: Tensor | None = None,
    ) -> Proposals:
        self.asked.append(list(prompts))
        mask = torch.zeros(features, dtype=torch.bool)
        for prompt in prompts:
            if isinstance(prompt, MaskPrompt):
                mask |= prompt.mask
            elif isinstance(prompt, BoxPrompt):
                x0, y0, x1, y1 = map(int, prompt.box_xyxy)
                mask[y0:y1, x0:x1] = True
            elif isinstance(prompt, PointPrompt):
                for (x, y), positive in zip(prompt.points_xy, prompt.positive, strict=True):
                    mask[int(y), int(x)] = positive
            elif isinstance(prompt, ScribblePrompt):
                for x, y in prompt.stroke_xy:
                    mask[int(y), int(x)] = prompt.positive
        return Proposals(mask[None])


class Propagator(ShiftingPropagator):
    """Everything moves one pixel to the right a frame; ``looked_at`` are the frames it was shown."""

    def __init__(self, velocity: int = 1, size_hw: tuple[int, int] = SIZE) -> None:
        super().__init__(velocity, size_hw)
        self.looked_at: list[int] = []

    def encode(self, frame: Frame) -> int:
        self.looked_at.append(frame.index)
        return super().encode(frame)

    def read(self, state: MaskState, features: int, *, advance: bool = True) -> tuple[MaskState, Tensor]:
        return super().read(state, features, advance=advance)


class Bench:
    """An open project with everything around it; to be closed.

    Attributes:
        events: what listeners of jobs were told.
    """

    def __init__(
        self,
        folder: Path,
        *,
        frames: int = FRAMES,
        propagator: ShiftingPropagator | None = None,
        segmenter: VideoSegmenter | None = None,
    ) -> None:
        self.propagator = propagator or Propagator()
        if Project.is_in(folder / "project"):
            self.project = Project.open(folder / "project")
        else:
            self.project = Project.create(folder / "project", pictures(folder / "video", frames))
        self.jobs = Jobs()
        self.prompter = Prompter()
        self.editor = Editor(self.project, self.prompter, self.jobs)
        self.events: list[Event] = []
        self.jobs.listen(self.events.append)
        find = None if segmenter is None else lambda: segmenter
        self.following = Following(self.project, self.jobs, propagator=lambda: self.propagator, segmenter=find)

    def propagate(self, first: int = 0, last: int = FRAMES - 1, direction: str = "both", **options: object) -> Event:
        """Propagate and wait; returns the event of the end."""
        job = self.following.propagate(options.get("objects"), first, last, direction)  # type: ignore[arg-type]
        return self.ended(job)

    def ended(self, job: Job) -> Event:
        """Wait for a job; returns the event of its end."""
        assert job.wait(30)
        return next(event for event in self.events if event["type"] == "ended" and event["id"] == job.id)

    def content(self) -> list[tuple[str, bytes]]:
        """Everything that is in the project."""
        return self.project.store.items()

    def close(self) -> None:
        self.jobs.stop()
        self.project.close()
