"""How a video is cut into clips that overlap (UniVS, §4.2; specification §9 and 10).

    frames ─► features, each once ─► the last T of them ─► every S frames a clip ─► results of what no later clip sees
                                                                  the last clip ends where the video does

Every frame leaves exactly once, at most T - 1 frames late, however long the video is.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import torch
from torch import Tensor

from maskstream.mask2former.network import ClipFeatures
from maskstream.mask2former.postprocess import FrameSizes
from maskstream.pretrained import Pixels
from maskstream.types import Frame, InputError, StateDict, check_arrival

from .network import UniVSNetwork


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """Frames that are decoded together.

    Attributes:
        frames: of the clip.
        first: position of the first in the video, counted in frames that came.
        seen: so many of them, from the first on, an earlier clip had.
        leaving: which of them no later clip will have, and have not left.
        features: of all of them.
        sizes: of each of them.
        times_t: ``int64[T]``, when each frame is, in frames of the source since the first.
    """

    frames: tuple[Frame, ...]
    first: int
    seen: int
    leaving: range
    features: ClipFeatures = field(repr=False)
    sizes: FrameSizes
    times_t: Tensor = field(repr=False)

    @property
    def stop(self) -> int:
        """Position after the last frame."""
        return self.first + len(self.frames)


class ClipBuffer:
    """The last frames of a video.

    Args:
        network: makes features.
        pixels: how it wants to see pictures.
        size_hw: of the video.
        frames: T, of a clip.
        stride: S, from one clip to the next.

    Raises:
        InputError: clips have no frame, or do not meet.
    """

    def __init__(
        self, network: UniVSNetwork, pixels: Pixels, *, size_hw: tuple[int, int], frames: int, stride: int
    ) -> None:
        if frames < 1:
            raise InputError(f"a clip has at least one frame, not {frames}")
        if not 1 <= stride <= frames:
            raise InputError(f"clips of {frames} frames overlap by 0 to {frames - 1}, not {frames - stride}")
        self._network = network
        self._pixels = pixels
        self._size_hw = size_hw
        self._device = next(network.parameters()).device
        self.frames = frames
        self.stride = stride
        self._held: deque[tuple[Frame, ClipFeatures]] = deque(maxlen=frames)
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

    def arrive(self, frame: Frame) -> Clip | None:
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
        return self._clip(self._next)

    def rest(self) -> Clip | None:
        """The last clip, of the last T frames; None if all frames have left."""
        return self._clip(self.arrived) if self.left < self.arrived else None

    def state_dict(self) -> StateDict:
        """Frames and numbers; features are made again."""
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

    def _encoded(self, frame: Frame) -> ClipFeatures:
        """Each frame alone, so that those of a run that goes on are the same to the last bit."""
        pixels_13hw = self._pixels([frame]).to(self._device)
        self._padded_hw = (pixels_13hw.shape[2], pixels_13hw.shape[3])
        return self._network.features(pixels_13hw)

    def _clip(self, until: int) -> Clip:
        """All that is held; frames before ``until`` leave."""
        first = self.arrived - len(self._held)
        frames, features = zip(*self._held, strict=True)
        clip = Clip(
            frames,
            first,
            max(self.decoded - first, 0),
            range(self.left - first, until - first),
            ClipFeatures.joined(features),
            FrameSizes(self._size_hw, self._pixels.resized_hw(self._size_hw), self._padded_hw),
            torch.tensor([frame.index - self._first_index for frame in frames], device=self._device),
        )
        self.decoded, self.left = self.arrived, until
        return clip
