"""The models that a studio works with, by name; each is loaded once, when it is first needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from maskstream.api import load, load_prompter, load_propagator
from maskstream.types import (
    OBJECT,
    Frame,
    ImageSegmenter,
    ObjectPrompt,
    Propagator,
    Proposals,
    Task,
    VideoSegmenter,
)

LoadedT = TypeVar("LoadedT")


@dataclass(frozen=True, slots=True)
class ModelNames:
    """Names or paths, as `maskstream.load` takes them.

    Attributes:
        segmenter: finds objects by itself.
        propagator: carries masks.
        prompter: turns clicks into masks.
    """

    segmenter: str = "motion-small"
    propagator: str = "flow+propagate-small"
    prompter: str = "click-small"


class Models:
    """The models with these names; for any number of threads."""

    def __init__(self, names: ModelNames) -> None:
        self.names = names
        self._lock = threading.Lock()
        self._loaded: dict[str, Any] = {}

    def prompter(self) -> ImageSegmenter[Any]:
        """What turns clicks into masks.

        Raises:
            InputError: as the others, where it cannot be loaded.
        """
        return self._once("prompter", lambda: load_prompter(self.names.prompter))

    def propagator(self) -> Propagator[Any, Any]:
        """What carries masks."""
        return self._once("propagator", lambda: load_propagator(self.names.propagator))

    def segmenter(self) -> VideoSegmenter:
        """What finds objects by itself."""
        segmenter, propagator = self.names.segmenter, self.names.propagator
        # Whoever finds objects by itself is not prompted: the prompter that needs no weights will do.
        return self._once("segmenter", lambda: load(segmenter=segmenter, propagator=propagator, prompter="grabcut"))

    @property
    def reads_text(self) -> bool:
        """Whether the segmenter can be told what to look for; False until it is loaded."""
        segmenter: VideoSegmenter | None = self._loaded.get("segmenter")
        if segmenter is None:
            return False
        names = next(iter(segmenter.label_spaces.values()), OBJECT)
        return segmenter.open_vocabulary or Task.REFVOS in segmenter.tasks or names != OBJECT

    def load_all(self) -> None:
        """Load what is not loaded yet.

        Raises:
            InputError: one of them cannot be.
        """
        self.prompter()
        self.propagator()
        self.segmenter()

    def _once(self, kind: str, make: Callable[[], LoadedT]) -> LoadedT:
        with self._lock:
            if kind not in self._loaded:
                self._loaded[kind] = make()
            loaded: LoadedT = self._loaded[kind]
            return loaded


class LazyPrompter:
    """The prompter of some models, loaded by the first click."""

    def __init__(self, models: Models) -> None:
        self.context = 0  # prompters look at one picture
        self._models = models

    def encode(self, frames: Sequence[Frame]) -> list[Any]:
        """As the prompter's."""
        return self._models.prompter().encode(frames)

    def segment(self, features: Any, prompts: Sequence[ObjectPrompt] = (), **options: Any) -> Proposals:
        """As the prompter's."""
        return self._models.prompter().segment(features, prompts, **options)
