"""UniVS on a video: what sessions with and without prompts have in common (UniVS, §4.2; specification §8).

frames ─► clips that overlap ─► what is followed, as prompts of the clip ─► masks ─► results of frames that leave
                                       ▲                                     │
                                       └── tokens of the masks: the pool ◄───┘
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from maskstream.mask2former.clips import Clip, ClipBuffer, ClipSession
from maskstream.mask2former.network import ClipFeatures
from maskstream.mask2former.postprocess import AT_ONCE, resized
from maskstream.pretrained import Pixels
from maskstream.types import StateDict, Task

from .network import ClipMaps, Prompts, UniVSNetwork
from .pool import MemoryPool
from .prompts import Choose, PromptMap, Tokens, at_random, evenly, joined, mask_tokens
from .settings import UniVSSettings
from .tracking import ClipMasks, Identities


class TargetSession(ClipSession[ClipFeatures]):
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
        self._device = next(network.parameters()).device
        clips = ClipBuffer(network.features, pixels, size_hw=size_hw, frames=frames, stride=stride, device=self._device)
        super().__init__(clips, size_hw=size_hw)
        self._network = network
        self._task = task
        self._settings = settings
        self._rules = settings.rules(task)
        self._generator = torch.Generator().manual_seed(seed)
        self._choose: Choose = at_random(self._generator) if settings.sampling == "random" else evenly
        self._channels, self._remembered = int(network.core.config.hidden_dim), max(settings.memory, frames)
        self._keys: list[int] = []  # tracks of targets, in the order of what follows
        self._pool = MemoryPool(
            self._remembered, tokens=self._rules.tokens, channels=self._channels, device=self._device
        )
        self._masks = ClipMasks()
        self._identities = self._new_identities()

    def state_dict(self) -> StateDict:
        """Everything the next step depends on; features are made again."""
        return super().state_dict() | {
            "generator": self._generator.get_state(),
            "keys": list(self._keys),
            "pool": self._pool.state_dict(),
            "masks": self._masks.state_dict(),
            "identities": self._identities.state_dict(),
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Undo `state_dict`."""
        super().load_state_dict(state)
        self._generator.set_state(state["generator"])
        self._keys = list(state["keys"])
        self._pool.load_state_dict(state["pool"])
        self._masks.load_state_dict(state["masks"], self._device)
        self._identities.load_state_dict(state["identities"])

    # What sessions do in their own way.

    def _point(self, clip: Clip[ClipFeatures], t: int, where: PromptMap) -> None:  # nobody may have
        """Somebody may have pointed at things on frame t."""

    # What they share.

    def _new_identities(self) -> Identities:
        """Of nobody; the clips of the frames that are remembered count."""
        clips = math.ceil(self._remembered / self._clips.stride)
        return Identities(clips, channels=self._channels, device=self._device)

    def _renew(self, clip: Clip[ClipFeatures], maps: ClipMaps, *, tokens: bool = True) -> None:
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

    def _mask_tokens(self, clip: Clip[ClipFeatures], where: PromptMap, logits_nhw: Tensor) -> Tokens:
        """Tokens of masks of a frame, a few at a time."""
        parts = []
        for first in range(0, len(logits_nhw), AT_ONCE):
            masks_nhw = resized(logits_nhw[first : first + AT_ONCE], clip.sizes.padded_hw) > 0
            parts.append(mask_tokens(where, masks_nhw, self._rules.tokens, choose=self._choose))
        return joined(parts)

    def _visual_prompts(self, clip: Clip[ClipFeatures]) -> Prompts:
        """What is followed, as prompts."""
        of_frames = [self._pool.on_frame(position) for position in range(clip.first, clip.stop)]
        return Prompts.visual(of_frames, self._pool.remembered())

    def _keep(self, which: list[int]) -> None:
        """Forget all targets but these positions."""
        self._keys = [self._keys[n] for n in which]
        self._pool.keep(which)
        self._masks.keep(which)
        self._identities.keep(which)
