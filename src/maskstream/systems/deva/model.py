"""DEVA as a system: a propagator, and image-level models of one's choice (Cheng et al., ICCV 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maskstream.types import OBJECT, CategorySet, ImageSegmenter, InputError, Propagator, Task

from .association import AssociationSession
from .session import DevaSession, DevaSettings


class Deva:
    """Any image-level segmenter with any propagator. Satisfies the `VideoSegmenter` contract.

    Args:
        propagator: carries masks between frames.
        prompter: turns boxes, points and scribbles into masks, or None to take masks only.
        detector: finds objects by itself, or None to follow prompted objects only.
        label_space: what the detector's categories mean.
        settings: how detections are taken in.
    """

    open_vocabulary = False

    def __init__(
        self,
        propagator: Propagator[Any, Any],
        *,
        prompter: ImageSegmenter[Any] | None = None,
        detector: ImageSegmenter[Any] | None = None,
        label_space: CategorySet = OBJECT,
        settings: DevaSettings | None = None,
    ) -> None:
        self.propagator = propagator
        self.prompter = prompter
        self.detector = detector
        self.settings = settings or DevaSettings()
        self.label_spaces: Mapping[str, CategorySet] = {label_space.name: label_space}
        tasks = {Task.VOS, Task.PVOS}
        tasks |= {Task.PET} if prompter else set()
        tasks |= {Task.UVOS, Task.OWVS} if detector else set()
        self.tasks = frozenset(tasks)

    def start(
        self,
        task: Task,
        *,
        size_hw: tuple[int, int],
        fps: float | None = None,
        categories: CategorySet | str | None = None,
        soft: bool = False,
        seed: int = 0,
    ) -> DevaSession | AssociationSession:
        """Begin a video; see `VideoSegmenter.start`. Nothing here is random, so ``seed`` changes nothing.

        Raises:
            InputError: the task needs a part that is missing, or the label space is not the detector's.
        """
        if task not in self.tasks:
            able = ", ".join(sorted(t.value for t in self.tasks))
            raise InputError(f"this model cannot do {task.value!r}; it can do: {able}")
        known = categories.name if isinstance(categories, CategorySet) else categories
        if known is not None and known not in self.label_spaces:
            raise InputError(f"unknown label space {known!r}; this model has: {', '.join(self.label_spaces)}")
        found = None if known is None else self.label_spaces[known]
        detector = None if task.is_prompted else self.detector
        if detector and self.settings.temporal in ("mask-iou", "mask-iou-flow", "query"):
            return AssociationSession(
                self.propagator,
                detector,
                size_hw=size_hw,
                association=self.settings.temporal,
                categories=found,
                min_score=self.settings.min_score,
            )
        return DevaSession(
            self.propagator,
            size_hw=size_hw,
            prompter=self.prompter,
            detector=detector,
            settings=self.settings,
            categories=found,
            soft=soft,
        )
