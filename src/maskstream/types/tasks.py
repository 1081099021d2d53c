"""The nine video-segmentation tasks."""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum

from .errors import InputError


class Task(Enum):
    """A video-segmentation task; the value is its name on the command line."""

    VSS = "vss"
    """Video semantic segmentation: a category for every pixel."""
    VIS = "vis"
    """Video instance segmentation: overlapping masks with track, category and score."""
    VPS = "vps"
    """Video panoptic segmentation: things with tracks and stuff, no overlap."""
    VOS = "vos"
    """Video object segmentation: the objects given by a mask, box, points or scribble."""
    PVOS = "pvos"
    """Panoptic video object segmentation: given regions of things and stuff."""
    REFVOS = "refvos"
    """Referring segmentation: the object a sentence describes."""
    PET = "pet"
    """Point-exemplar tracking: the object under one point."""
    UVOS = "uvos"
    """Unsupervised object segmentation: the salient or primary objects."""
    OWVS = "owvs"
    """Open-world segmentation: every object, whatever its class."""

    @property
    def is_prompted(self) -> bool:
        """Whether the user says which objects to segment."""
        return self in (Task.VOS, Task.PVOS, Task.REFVOS, Task.PET)


def check_task(task: Task, able: Collection[Task]) -> None:
    """See that a model can do what it is asked to.

    Raises:
        InputError: it cannot.
    """
    if task not in able:
        known = ", ".join(sorted(each.value for each in able))
        raise InputError(f"this model cannot do {task.value!r}; it can do: {known}")
