"""The guide of flow and colour for clips of a batch, as `maskstream.propagation.guide` makes it frame by frame.

Flow and colour do not depend on what the network finds, so they are there before it begins.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from maskstream.propagation.guide import View, assembled, begin, stacked, views
from maskstream.propagation.references import FlowFeatures

from .clips import ClipBatch


@dataclass(frozen=True, slots=True, eq=False)
class ClipGuide:
    """What is known of the frames of some clips but their masks; frames are 1 … T - 1.

    Attributes:
        first_bnhw: ``float32[b, n, H, W]``, true masks of the first frame.
        last: each frame's view of the frame before, ``[b, T - 1, …]``.
        given: each frame's view of the first, ``[b, T - 1, …]``.
        colour_btnhw: ``float32[b, T - 1, n, H, W]``.
    """

    first_bnhw: Tensor
    last: View
    given: View
    colour_btnhw: Tensor

    @classmethod
    def of(cls, batch: ClipBatch, first_bnhw: Tensor) -> ClipGuide:
        """Look at all frames, on the CPU; the result is where the masks are."""
        frames_bthw3 = batch.frames_bt3hw.permute(0, 1, 3, 4, 2).contiguous().cpu()
        clips = [_of_clip(frames, masks) for frames, masks in zip(frames_bthw3, first_bnhw.cpu(), strict=True)]
        last, given, colour = zip(*clips, strict=True)
        device = first_bnhw.device
        return cls(first_bnhw, stacked(last).to(device), stacked(given).to(device), torch.stack(colour).to(device))

    def at(self, t: int, last_bnhw: Tensor) -> Tensor:
        """The guide of frame ``t``, ``[b, n, CHANNELS, H, W]``, from the masks of the frame before."""
        return assembled(
            last_bnhw, self.last[:, t - 1], self.first_bnhw, self.given[:, t - 1], self.colour_btnhw[:, t - 1]
        )


def _of_clip(frames_thw3: Tensor, first_nhw: Tensor) -> tuple[View, View, Tensor]:
    """Views of the frame before and of the first, and colours, of frames 1 … T - 1."""
    height, width = first_nhw.shape[1:]
    first, *later = (FlowFeatures.of(frame.numpy(), (height, width)) for frame in frames_thw3)
    state, seen = begin(first, first_nhw), []
    for features in later:
        state, *of_frame = views(state, features)
        seen.append(of_frame)
    last, given, colour = zip(*seen, strict=True)
    return stacked(last), stacked(given), torch.stack(colour)
