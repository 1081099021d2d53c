"""Videos that are segmented clip by clip, clips overlapping (UniVS, §4.2; TarViS, specification §9).

    frames ─► encoded, each once ─► the last T of them ─► every S frames a clip ─► results of what no later clip sees

Every frame leaves exactly once, at most T - 1 frames late, however long the video is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

import torch
from torch import Tensor

from maskstream.identity import ObjectTable
from maskstream.pretrained import Pixels
from maskstream.types import Event, Frame, FrameSegmentation, InputError, Prompt, StateDict, Track, check_arrival

from .postprocess import FrameSizes

E = TypeVar("E")
"""What is made of a frame before it is known of which clips it is."""


@dataclass(frozen=True, slots=True, eq=False)
class Clip(Generic[E]):
    """Frames that are decoded together.

    Attributes:
        frames: of the clip.
        first: position of the first in the video, counted in frames that came.
        seen: so many of them, from the first on, an earlier clip had.
        leaving: which of them no later clip will have, and have not left.
        encoded: of each frame.
        sizes: of each of them.
        times_t: ``int64[T]``, when each frame is, in frames of the source since the first.
    """

    frames: tuple[Frame, ...]
    first: int
    seen: int
    leaving: range
    encoded: tuple[E, ...] = field(repr=False)
    sizes: FrameSizes
    times_t: Tensor = field(repr=False)

    @property
    def stop(self) -> int:
        """Position after the last frame."""
        return self.first + len(self.frames)


class ClipBuffer(Generic[E]):
    """The last frames of a video.

    Args:
        encode: what is made of a frame, from ``float[1, 3, H, W]``.
        pixels: how pictures are prepared for that.
        size_hw: of the video.
        frames: T, of a clip.
        stride: S, from one clip to the next.
        last: the last clip is as long as the others and begins earlier ("full"), or begins where it would ("cut").
        device: of what is encoded.

    Raises:
        InputError: clips have no frame, or do not meet.
    """

    def __init__(
        self,
        encode: Callable[[Tensor], E],
        pixels: Pixels,
        *,
        size_hw: tuple[int, int],
        frames: int,
        stride: int,
        last: Literal["full", "cut"] = "full",
        device: torch.device | str = "cpu",
    ) -> None:
        if frames < 1:
            raise InputError(f"a clip has at least one frame, not {frames}")
        if not 1 <= stride <= frames:
            raise InputError(f"clips of {frames} frames overlap by 0 to {frames - 1}, not {frames - stride}")
        self._encode = encode
        self._pixels = pixels
        self._size_hw = size_hw
        self._device = device
        self._last = last
        self.frames = frames
        self.stride = stride
        self._held: deque[tuple[Frame, E]] = deque(maxlen=frames)
        self._padded_hw = (0, 0)
        self.arrived = 0
        self.decoded = 0
        self.left = 0
        self._next = 0  # where the next clip begins
        self._first_index = 0
        self.last_index = -1

    @property
    def held(self) -> list[int]:
        """Indices of frames that came and have not left."""
        waiting = self.arrived - self.left
        return [frame.index for frame, _ in self._held][len(self._held) - waiting :]

    @property
    def emitted(self) -> int:
        """Index of the last frame that has left."""
        return self.held[0] - 1 if self.held else self.last_index

    def arrive(self, frame: Frame) -> Clip[E] | None:
        """Take the next frame; a clip comes when it is whole.

        Raises:
            InputError: the frame is of another size, or comes out of order.
        """
        check_arrival(frame, self._size_hw, self.last_index)
        if not self.arrived:
            self._first_index = frame.index
        self.last_index = frame.index
        self._held.append((frame, self._encoded(frame)))
        self.arrived += 1
        if self.arrived < self._next + self.frames:
            return None
        self._next += self.stride
        return self._clip(self.arrived - len(self._held), self._next)

    def rest(self) -> Clip[E] | None:
        """The last clip; None if all frames have left."""
        if self.left == self.arrived:
            return None
        return self._clip(self.left if self._last == "cut" else self.arrived - len(self._held), self.arrived)

    def begin_at(self, position: int) -> None:
        """The clip that came is not decoded: its frames before this one leave, and the next clip begins with it."""
        self.left = self.decoded = self._next = position

    def state_dict(self) -> StateDict:
        """Frames and numbers; what is encoded is made again."""
        return {
            "held": [
                {"index": frame.index, "timestamp": frame.timestamp, "image": torch.from_numpy(frame.image)}
                for frame, _ in self._held
            ],
            "numbers": [self.arrived, self.decoded, self.left, self._next, self._first_index, self.last_index],
        }

    @torch.no_grad()
    def load_state_dict(self, state: StateDict) -> None:
        """Undo `state_dict`."""
        frames = [Frame(one["index"], one["timestamp"], one["image"].numpy()) for one in state["held"]]
        self._held.clear()
        self._held.extend((frame, self._encoded(frame)) for frame in frames)
        self.arrived, self.decoded, self.left, self._next, self._first_index, self.last_index = state["numbers"]

    def _encoded(self, frame: Frame) -> E:
        """Each frame alone, so that those of a run that goes on are the same to the last bit."""
        pixels_13hw = self._pixels([frame]).to(self._device)
        self._padded_hw = (pixels_13hw.shape[2], pixels_13hw.shape[3])
        return self._encode(pixels_13hw)

    def _clip(self, first: int, until: int) -> Clip[E]:
        """All that is held from ``first`` on; frames before ``until`` leave."""
        held = list(self._held)[first - self.arrived :]
        clip = Clip(
            tuple(frame for frame, _ in held),
            first,
            max(self.decoded - first, 0),
            range(self.left - first, until - first),
            tuple(encoded for _, encoded in held),
            FrameSizes(self._size_hw, self._pixels.resized_hw(self._size_hw), self._padded_hw),
            torch.tensor([frame.index - self._first_index for frame, _ in held], device=self._device),
        )
        self.decoded, self.left = self.arrived, until
        return clip


class ClipSession(ABC, Generic[E]):
    """The state of one video that is segmented clip by clip.

    Args:
        clips: how it is cut.
        size_hw: of the video.
    """

    def __init__(self, clips: ClipBuffer[E], *, size_hw: tuple[int, int]) -> None:
        self._clips = clips
        self._size_hw = size_hw
        self.latency = clips.frames - 1
        self._objects = ObjectTable()
        self._hidden: dict[int, int] = {}  # since which position objects are shown no more
        self._events: list[Event] = []

    @abstractmethod
    def prompt(self, prompts: Sequence[Prompt]) -> None:
        """See `Session.prompt`."""

    def remove(self, object_ids: Sequence[int]) -> None:
        """Show objects no more, from the next frame on.

        Raises:
            InputError: one is not followed; none is removed then.
        """
        followed = [track_id for track_id in self._objects.ids if track_id not in self._hidden]
        for object_id in object_ids:
            if object_id not in followed:
                known = ", ".join(map(str, followed)) or "none"
                raise InputError(f"object {object_id} cannot be removed: it is not followed (followed: {known})")
        gone = dict.fromkeys(object_ids, self._clips.arrived)
        self._hidden |= gone
        self._events += [Event("removed", track_id, "a person took it away") for track_id in gone]

    @torch.no_grad()
    def step(self, frame: Frame, *, force_key: bool = False) -> list[FrameSegmentation]:
        """Take the next frame; results come when no later clip sees their frames.

        Args:
            frame: the next one.
            force_key: look for new objects on the next clip, though it is not its turn.

        Raises:
            InputError: the frame is of another size, or comes out of order.
        """
        self._before(frame, force_key=force_key)
        clip = self._clips.arrive(frame)
        return [] if clip is None else self._results(clip, decodes=True)

    @torch.no_grad()
    def finish(self) -> Iterator[FrameSegmentation]:
        """Results of the frames that are left; the last clip ends where the video does."""
        clip = self._clips.rest()
        if clip is not None:
            yield from self._results(clip, decodes=clip.seen < len(clip.frames) or self._wants_more())
        self._after()

    def tracks(self) -> list[Track]:
        """Every object that was ever visible."""
        return self._objects.tracks()

    def state_dict(self) -> StateDict:
        """Everything the next step depends on; features are made again."""
        return {
            "clips": self._clips.state_dict(),
            "objects": self._objects.state_dict(),
            "hidden": [list(pair) for pair in self._hidden.items()],
            "events": [[event.kind, event.track_id, event.reason] for event in self._events],
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Undo `state_dict`."""
        self._clips.load_state_dict(state["clips"])
        self._objects.load_state_dict(state["objects"])
        self._hidden = dict(state["hidden"])
        self._events = [Event(*plain) for plain in state["events"]]

    # What sessions do in their own way.

    def _before(self, frame: Frame, *, force_key: bool) -> None:  # not all have something to do
        """A frame comes."""

    @abstractmethod
    def _decode(self, clip: Clip[E]) -> None:
        """Find masks on a clip."""

    @abstractmethod
    def _result(self, clip: Clip[E], t: int) -> FrameSegmentation:
        """Of a frame that leaves."""

    def _wants_more(self) -> bool:
        """Whether frames that were decoded have to be decoded once more before they leave."""
        return False

    def _after(self) -> None:
        """The video is over."""

    # What they share.

    def _results(self, clip: Clip[E], *, decodes: bool) -> list[FrameSegmentation]:
        if decodes:
            self._decode(clip)
        return [self._result(clip, t) for t in clip.leaving]

    def _shown(self, track_id: int, position: int) -> bool:
        """Whether a person has not taken an object away before this frame."""
        return position < self._hidden.get(track_id, position + 1)

    def _told(self) -> tuple[Event, ...]:
        """What happened since the last result."""
        events, self._events = tuple(self._events), []
        return events
