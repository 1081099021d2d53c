"""The contracts between rooms. A room implements one of these protocols and never imports another room.

``Features`` and ``State`` are opaque to everyone but their maker. Whatever a session keeps between frames must
survive ``state_dict`` and ``load_state_dict``: tensors, numbers, strings and plain containers of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

from torch import Tensor

from .categories import CategorySet
from .frames import Frame, Video
from .prompts import ObjectPrompt, Prompt
from .proposals import Proposals
from .segmentation import FrameSegmentation, Track
from .tasks import Task

StateDict: TypeAlias = dict[str, Any]
"""Nested dictionaries and lists of tensors, numbers, strings and None: what ``torch.save`` stores without code."""

FeaturesT = TypeVar("FeaturesT")
StateT = TypeVar("StateT")


class Session(Protocol):
    """The state of one video. Frames go in once, in order; results come out in order, at most ``latency`` later."""

    latency: int

    def prompt(self, prompts: Sequence[Prompt]) -> None:
        """Queue prompts; all or none are taken. Call before ``step`` of the frames they name.

        Raises:
            StalePromptError: a frame has already been segmented.
            InputError: a prompt does not fit the video or the task.
        """

    def remove(self, object_ids: Sequence[int]) -> None:
        """Stop following these objects from the next frame on. Their ids are not used again.

        Raises:
            InputError: an object is not being followed.
        """

    def step(self, frame: Frame, *, force_key: bool = False) -> list[FrameSegmentation]:
        """Take the next frame; return the results that are ready. ``force_key`` runs the image-level model on it."""

    def finish(self) -> Iterator[FrameSegmentation]:
        """Yield what is still held back. Nothing may be stepped after it.

        Raises:
            InputError: a prompt names a frame that never came; raised after everything was yielded.
        """

    def tracks(self) -> list[Track]:
        """Every object so far, gone ones included; final after ``finish``."""

    def state_dict(self) -> StateDict:
        """Everything the next ``step`` depends on: buffers, counters and generators included."""

    def load_state_dict(self, state: StateDict) -> None:
        """Continue exactly where ``state_dict`` was taken."""


class VideoSegmenter(Protocol):
    """A system, ours or adapted: weights and settings, but no video."""

    tasks: frozenset[Task]
    label_spaces: Mapping[str, CategorySet]
    open_vocabulary: bool

    def start(
        self,
        task: Task,
        *,
        size_hw: tuple[int, int],
        fps: float | None = None,
        categories: CategorySet | str | None = None,
        soft: bool = False,
        seed: int = 0,
    ) -> Session:
        """Begin a video of this size. ``soft`` asks for probabilities beside masks.

        Raises:
            InputError: the system cannot do this task, or does not know the categories.
        """


class OfflineSegmenter(Protocol):
    """What needs the whole video: corrections of the past, propagation backward, referring, saliency."""

    def run(
        self,
        video: Video,
        prompts: Sequence[Prompt],
        *,
        start: int = 0,
        stop: int | None = None,
        direction: Literal["forward", "backward", "both"] = "both",
    ) -> Iterator[FrameSegmentation]:
        """Segment frames ``start`` to ``stop`` around the prompts; results carry a ``revision``."""


class ImageSegmenter(Protocol[FeaturesT]):
    """An image-level model: what DEVA and the studio plug in.

    Attributes:
        context: how many frames before the current one `segment` wants to see; 0 for a still-image model.
    """

    context: int

    def encode(self, frames: Sequence[Frame]) -> list[FeaturesT]:
        """Features of each frame, cached by the caller between clicks and as context."""

    def segment(
        self,
        features: FeaturesT,
        prompts: Sequence[ObjectPrompt] = (),
        *,
        context: Sequence[FeaturesT] = (),
        categories: CategorySet | None = None,
        exclude: Tensor | None = None,
    ) -> Proposals:
        """Segment one image.

        Args:
            features: of the image, from `encode`.
            prompts: none: propose objects. Some: one proposal per object id, in order of first mention; prompts of
                one object act together, and a `MaskPrompt` among them is what the others refine.
            context: features of the frames just before, oldest first, at most ``self.context`` of them; at the
                beginning of a video perhaps of those just after, the nearest last.
            categories: look for these.
            exclude: ``bool[H, W]``, regions that need no proposal.
        """


class Propagator(Protocol[FeaturesT, StateT]):
    """Carries masks from frame to frame. State goes in and comes out; the propagator itself keeps nothing."""

    def start(self) -> StateT:
        """A state that follows no object."""

    def object_ids(self, state: StateT) -> tuple[int, ...]:
        """The objects a state follows, in the order of the channels that `read` returns."""

    def encode(self, frame: Frame) -> FeaturesT:
        """What the propagator needs to know of a frame, independent of objects."""

    def size_hw(self, features: FeaturesT) -> tuple[int, int]:
        """Height and width of all masks of a frame, those that are read and those that are written."""

    def read(self, state: StateT, features: FeaturesT, *, advance: bool = True) -> tuple[StateT, Tensor]:
        """Find the objects on a new frame.

        Returns:
            The state (moved on to the new frame, or unchanged when not ``advance``) and ``float[1 + N, h, w]``
            probabilities, background first, summing to one.
        """

    def write(self, state: StateT, features: FeaturesT, masks_nhw: Tensor, object_ids: Sequence[int]) -> StateT:
        """Memorise masks of the frame that was read last (or of the first one).

        Args:
            state: what is followed so far.
            features: of the frame.
            masks_nhw: ``float[N, h, w]`` in [0, 1] or ``bool``, at the resolution `read` returns.
            object_ids: N ids; a known one is replaced, a new one appended, and one not listed keeps its own mask
                but for the pixels that the listed ones claim.
        """

    def align(self, source: FeaturesT, masks_nhw: Tensor, target: FeaturesT) -> Tensor:
        """Carry masks from one frame to another, apart from any state.

        Returns:
            ``float[1 + N, h, w]`` probabilities on the target frame, background first.
        """

    def remove(self, state: StateT, object_ids: Sequence[int]) -> StateT:
        """Forget objects."""

    def state_dict(self, state: StateT) -> StateDict:
        """The state as plain data."""

    def load_state_dict(self, plain: StateDict) -> StateT:
        """The state again; undoes `state_dict`."""
