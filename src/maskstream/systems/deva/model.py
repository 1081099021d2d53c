"""DEVA as a system: a propagator, and image-level models of one's choice (Cheng et al., ICCV 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maskstream.types import OBJECT, CategorySet, ImageSegmenter, InputError, Propagator, Task, check_task

from .association import AssociationSession
from .session import DevaSession, DevaSettings


class Deva:
    """Any image-level segmenter with any propagator. Satisfies the `VideoSegmenter` contract.

    Args:
        propagator: carries masks between frames.
        prompter: turns boxes, points and scribbles into masks, or None to take masks only.
        detector: finds objects by itself, or None to follow prompted objects only.
        label_space: what the detector's categories mean.
        open_vocabulary: whether the detector looks for whatever it is told, as categories or by text prompts.
        salient: whether it finds what stands out, as one object.
        settings: how detections are taken in.
    """

    def __init__(
        self,
        propagator: Propagator[Any, Any],
        *,
        prompter: ImageSegmenter[Any] | None = None,
        detector: ImageSegmenter[Any] | None = None,
        label_space: CategorySet = OBJECT,
        open_vocabulary: bool = False,
        salient: bool = False,
        settings: DevaSettings | None = None,
    ) -> None:
        self.propagator = propagator
        self.prompter = prompter
        self.detector = detector
        self.open_vocabulary = open_vocabulary
        self.salient = salient
        self.settings = settings or DevaSettings()
        self.label_spaces: Mapping[str, CategorySet] = {label_space.name: label_space}
        tasks = {Task.VOS, Task.PVOS}
        tasks |= {Task.PET} if prompter else set()
        tasks |= {Task.UVOS, Task.OWVS} if detector else set()
        names_things = open_vocabulary or label_space != OBJECT
        tasks |= {Task.VIS, Task.VPS, Task.VSS} if detector and names_things else set()
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
        check_task(task, self.tasks)
        detector = None if task.is_prompted else self.detector
        found = self._categories(categories)
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
            open_vocabulary=self.open_vocabulary,
            soft=soft,
        )

    def _categories(self, categories: CategorySet | str | None) -> CategorySet | None:
        """What to look for; None for everything."""
        if categories is None or (isinstance(categories, CategorySet) and self._looks_for(categories)):
            return categories
        known = categories.name if isinstance(categories, CategorySet) else categories
        if known not in self.label_spaces:
            raise InputError(f"unknown label space {known!r}; this model has: {', '.join(self.label_spaces)}")
        return self.label_spaces[known]

    def _looks_for(self, categories: CategorySet) -> bool:
        """Whether the detector can be told to look for these: any, or those whose names it knows."""
        known = {name for space in self.label_spaces.values() for name in space.names}
        return self.open_vocabulary or bool(known & set(categories.names))
