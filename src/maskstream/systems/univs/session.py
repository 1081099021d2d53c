"""UniVS on a video: what sessions with and without prompts have in common (UniVS, §4.2; specification §8).

frames ─► clips that overlap ─► what is followed, as prompts of the clip ─► masks ─► results of frames that leave
                                       ▲                                     │
                                       └── tokens of the masks: the pool ◄───┘
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from maskstream.identity import ObjectTable
from maskstream.mask2former.postprocess import resized
from maskstream.pretrained import Pixels
from maskstream.types import Event, Frame, FrameSegmentation, InputError, Prompt, StateDict, Task, Track

from .clips import Clip, ClipBuffer
from .network import ClipMaps, Prompts, UniVSNetwork
from .pool import MemoryPool
from .prompts import Choose, PromptMap, Tokens, at_random, evenly, joined, mask_tokens
from .settings import UniVSSettings
from .tracking import ClipMasks, Identities

_AT_ONCE = 16
"""Masks that are brought to the size of the input together."""


class ClipSession(ABC):
    """The state of one video.

    Args:
        network: for inference.
        pixels: how it wants to see pictures.
        task: of those it can do.
        size_hw: of the video.
        settings: see there.
        seed: of places that are drawn by chance.

    Raises:
        InputError: clips have no frame, or do not meet.
    """

    def __init__(
        self,
        network: UniVSNetwork,
        pixels: Pixels,
        *,
        task: Task,
        size_hw: tuple[int, int],
        settings: UniVSSettings,
        seed: int,
    ) -> None:
        frames = network.config.frames if settings.frames is None else settings.frames
        usual = 0 if task is Task.VSS else frames - 1
        stride = frames - (usual if settings.overlap is None else settings.overlap)
        self._network = network
        self._task = task
        self._size_hw = size_hw
        self._settings = settings
        self._rules = settings.rules(task)
        self._clips = ClipBuffer(network, pixels, size_hw=size_hw, frames=frames, stride=stride)
        self.latency = frames - 1
        self._generator = torch.Generator().manual_seed(seed)
        self._choose: Choose = at_random(self._generator) if settings.sampling == "random" else evenly
        self._device = next(network.parameters()).device
        self._channels, self._remembered = int(network.core.config.hidden_dim), max(settings.memory, frames)
        self._keys: list[int] = []  # tracks of targets, in the order of what follows
        self._pool = MemoryPool(
            self._remembered, tokens=self._rules.tokens, channels=self._channels, device=self._device
        )
        self._masks = ClipMasks()
        self._identities = self._new_identities()
        self._objects = ObjectTable()
        self._hidden: dict[int, int] = {}  # since which frame objects are shown no more
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
            "generator": self._generator.get_state(),
            "keys": list(self._keys),
            "pool": self._pool.state_dict(),
            "masks": self._masks.state_dict(),
            "identities": self._identities.state_dict(),
            "objects": self._objects.state_dict(),
            "hidden": [list(pair) for pair in self._hidden.items()],
            "events": [[event.kind, event.track_id, event.reason] for event in self._events],
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Undo `state_dict`."""
        self._clips.load_state_dict(state["clips"])
        self._generator.set_state(state["generator"])
        self._keys = list(state["keys"])
        self._pool.load_state_dict(state["pool"])
        self._masks.load_state_dict(state["masks"], self._device)
        self._identities.load_state_dict(state["identities"])
        self._objects.load_state_dict(state["objects"])
        self._hidden = dict(state["hidden"])
        self._events = [Event(*plain) for plain in state["events"]]

    # What sessions do in their own way.

    def _before(self, frame: Frame, *, force_key: bool) -> None:  # noqa: B027  # not all have something to do
        """A frame comes."""

    @abstractmethod
    def _decode(self, clip: Clip) -> None:
        """Find masks on a clip."""

    @abstractmethod
    def _result(self, clip: Clip, t: int) -> FrameSegmentation:
        """Of a frame that leaves."""

    def _wants_more(self) -> bool:
        """Whether frames that were decoded have to be decoded once more before they leave."""
        return False

    def _after(self) -> None:  # noqa: B027
        """The video is over."""

    def _point(self, clip: Clip, t: int, where: PromptMap) -> None:  # noqa: B027
        """Somebody may have pointed at things on frame t."""

    # What they share.

    def _new_identities(self) -> Identities:
        """Of nobody; the clips of the frames that are remembered count."""
        clips = math.ceil(self._remembered / self._clips.stride)
        return Identities(clips, channels=self._channels, device=self._device)

    def _results(self, clip: Clip, *, decodes: bool) -> list[FrameSegmentation]:
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

    def _renew(self, clip: Clip, maps: ClipMaps, *, tokens: bool = True) -> None:
        """Make tokens of what is followed, from masks found before (specification §8).

        A new frame inherits those of the last frame with a mask. Where no frame was there before, it is the mask of the
        last frame, on what is seen there now.

        Args:
            clip: that comes.
            maps: of it.
            tokens: whether any are wanted.
        """
        last_nhw = self._masks.sum_nthw[:, -1] if len(self._masks) else None
        self._masks.advance(clip.first, len(clip.frames), maps.mask_features_tchw)
        self._pool.advance(clip.stop)
        for t in range(len(clip.frames) if tokens else 0):
            where = maps.prompt_map(t)
            logits_nhw = self._masks.sum_nthw[:, t] if t < clip.seen else last_nhw if not t else None
            if logits_nhw is not None and len(self._pool):
                found = self._mask_tokens(clip, where, logits_nhw)
                self._pool.write(clip.first + t, found, (logits_nhw > 0).flatten(1).any(1))
            self._point(clip, t, where)

    def _mask_tokens(self, clip: Clip, where: PromptMap, logits_nhw: Tensor) -> Tokens:
        """Tokens of masks of a frame, a few at a time."""
        parts = []
        for first in range(0, len(logits_nhw), _AT_ONCE):
            masks_nhw = resized(logits_nhw[first : first + _AT_ONCE], clip.sizes.padded_hw) > 0
            parts.append(mask_tokens(where, masks_nhw, self._rules.tokens, choose=self._choose))
        return joined(parts)

    def _visual_prompts(self, clip: Clip) -> Prompts:
        """What is followed, as prompts."""
        of_frames = [self._pool.on_frame(position) for position in range(clip.first, clip.stop)]
        return Prompts.visual(of_frames, self._pool.remembered())

    def _keep(self, which: list[int]) -> None:
        """Forget all targets but these positions."""
        self._keys = [self._keys[n] for n in which]
        self._pool.keep(which)
        self._masks.keep(which)
        self._identities.keep(which)
