"""Data sets that need no folder: ``synthetic-TASK:v1-LEVEL-seedS`` names 24 videos of 48 frames, the same for all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import get_args

from maskstream.types import InputError, Task, VideoSample

from .videos import synthetic_videos
from .world import Level

VERSION = 1
"""Of the world. A change of one pixel or label makes a new version, and an old one is not drawn any more."""

VIDEOS = 24
FRAMES = 48
SIZE = (240, 427)

_NAME = re.compile(r"synthetic-(?P<task>[a-z]+):v(?P<version>\d+)-(?P<level>[a-z]+)-seed(?P<seed>\d+)")


@dataclass(frozen=True, slots=True)
class NamedSet:
    """A synthetic data set that a name stands for.

    Attributes:
        task: what it is annotated for. The videos are the same for every task.
        level: how difficult.
        seed: another one, other videos.
    """

    task: Task
    level: Level
    seed: int

    @property
    def name(self) -> str:
        """The name, as in ``synthetic-vos:v1-medium-seed0``."""
        return f"synthetic-{self.task.value}:v{VERSION}-{self.level}-seed{self.seed}"

    def videos(self, *, on_frame: Callable[[int], None] | None = None) -> Iterator[VideoSample]:
        """Render it; see `synthetic_videos`."""
        return synthetic_videos(
            level=self.level, seed=self.seed, videos=VIDEOS, frames=FRAMES, size_hw=SIZE, on_frame=on_frame
        )


def named_set(name: str) -> NamedSet:
    """The data set of a name.

    Raises:
        InputError: it is no such name, or of another version of the world.
    """
    match = _NAME.fullmatch(name)
    levels = {str(level): level for level in get_args(Level)}
    tasks = {task.value: task for task in Task}
    if match is None or match["level"] not in levels or match["task"] not in tasks:
        raise InputError(
            f"{name!r} names no synthetic data set: write synthetic-TASK:v{VERSION}-LEVEL-seedS with a task of "
            f"{', '.join(tasks)} and a level of {', '.join(levels)}, as in synthetic-vos:v{VERSION}-medium-seed0"
        )
    if int(match["version"]) != VERSION:
        raise InputError(f"{name!r} is of version {match['version']} of the world, but this one draws v{VERSION}")
    return NamedSet(tasks[match["task"]], levels[match["level"]], int(match["seed"]))
