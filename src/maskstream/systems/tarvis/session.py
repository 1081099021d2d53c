"""TarViS on a video: what all its sessions have in common (specification §9).

frames ─► backbone, each once ─► clips that overlap ─► temporal neck ─► queries of the task ─► joined with what was
                                                                                             known where clips overlap
"""

from __future__ import annotations

import torch

from maskstream.mask2former.clips import Clip, ClipBuffer, ClipSession
from maskstream.mask2former.network import ClipFeatures
from maskstream.pretrained import Pixels

from .network import Maps, TarViSNetwork
from .settings import TarViSSettings


class TarViSSession(ClipSession[Maps]):
    """The state of one video.

    Args:
        network: for inference.
        pixels: how it wants to see pictures.
        size_hw: of the video.
        settings: see there.

    Raises:
        InputError: clips have no frame, or do not meet.
    """

    def __init__(
        self, network: TarViSNetwork, pixels: Pixels, *, size_hw: tuple[int, int], settings: TarViSSettings
    ) -> None:
        frames = network.config.frames if settings.frames is None else settings.frames
        overlap = frames // 2 if settings.overlap is None else settings.overlap
        self._device = next(network.parameters()).device
        super().__init__(
            ClipBuffer(
                network.maps,
                pixels,
                size_hw=size_hw,
                frames=frames,
                stride=frames - overlap,
                last=settings.last,
                device=self._device,
            ),
            size_hw=size_hw,
        )
        self._network = network
        self._settings = settings

    def _features(self, clip: Clip[Maps]) -> ClipFeatures:
        """Of all frames of a clip, which see each other."""
        maps = tuple(torch.cat(of_level) for of_level in zip(*clip.encoded, strict=True))
        return self._network.joined(maps, frames=len(clip.frames))
