"""Training of the motion encoder of MPVSS on true flow, before it meets queries.

    two frames of a rendered scene ─► FlowNetS: contracting part ─► expanding part ─► flow at five sizes ─► loss
                                          └─► what the motion module begins from

FlowNet (Dosovitskiy et al., ICCV 2015), §4 and 5, with scenes of the synthetic world for flying chairs. A motion
encoder that begins from nothing learns little from masks alone (MPVSS, §4.1; specification §11.7).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from maskstream.optical_flow import dense_flow
from maskstream.systems.mpvss.motion import Motion
from maskstream.systems.mpvss.network import save_motion
from maskstream.systems.mpvss.warp import warp

from .rendered import MOST_GRAIN, RenderedClips, grainy
from .sampling import Choice

STRIDE = 8
"""Of the finest flow, which is in pixels of this size."""

_WEIGHTS = (0.25, 0.25, 0.25, 0.5, 1.0)
"""Of mean errors, the coarsest flow first: those of FlowNetS, which weigh sums over ever more places."""


@dataclass(frozen=True, slots=True, eq=False)
class FlowBatch:
    """B pairs of pictures.

    Attributes:
        frames_b23hw: ``uint8[B, 2, 3, H, W]``, RGB: a frame, and its key frame.
        flow_b2hw: ``float32[B, 2, H, W]``, x and y in pixels from the frame to the key frame.
        seen_bhw: ``bool[B, H, W]``, where the key frame shows what is here.
    """

    frames_b23hw: Tensor
    flow_b2hw: Tensor = field(repr=False)
    seen_bhw: Tensor = field(repr=False)

    def to(self, device: torch.device | str) -> FlowBatch:
        """The same on another device."""
        return FlowBatch(*(getattr(self, name).to(device, non_blocking=True) for name in self.__slots__))


class FlowPairs(torch.utils.data.Dataset[FlowBatch]):
    """Pairs of frames of scenes that nobody has seen before: each number gives another one, always the same.

    Args:
        sources: of clips of two frames, with their weights.
        seed: of the run.
    """

    def __init__(self, sources: Sequence[tuple[RenderedClips, float]], *, seed: int) -> None:
        self._sources = Choice(sources)
        self._seed = seed

    def __getitem__(self, number: int) -> FlowBatch:
        """A batch of one pair."""
        rng = np.random.default_rng([self._seed, number])
        drawn = self._sources.draw(rng).drawn(rng)
        frames_23hw = grainy(drawn.frames_bt3hw[0], int(rng.integers(MOST_GRAIN + 1)), int(rng.integers(2**63)))
        return FlowBatch(frames_23hw[None], drawn.flow_bt2hw[:, 0], ~drawn.occluded_bthw[:, 0])


def stacked_pairs(batches: Sequence[FlowBatch]) -> FlowBatch:
    """One batch of several."""
    return FlowBatch(*(torch.cat([getattr(b, name) for b in batches]) for name in FlowBatch.__slots__))


class FlowLearner(nn.Module):
    """A motion module of pixel flow alone, which is FlowNetS, or one whose maps queries refined, with its loss.

    Args:
        motion: to be trained.
        validation: the pairs on which `validate` measures.
    """

    def __init__(self, motion: Motion, validation: Sequence[FlowBatch] = ()) -> None:
        super().__init__()
        assert motion.decoder.shared and (motion.config.query != "key" or not motion.decoder.looks)
        self.motion = motion
        self.validation = validation

    def forward(self, batch: FlowBatch, *, iteration: int, seed: int) -> dict[str, Tensor]:
        """The loss of a batch.

        Args:
            batch: pairs.
            iteration: of the run; changes nothing.
            seed: of the run; changes nothing.

        Returns:
            ``loss``, to be differentiated, and ``error``, the mean error of the finest flow in pixels of the picture.
        """
        del iteration, seed
        errors = [mean_error(flow_b2hw, batch.flow_b2hw / STRIDE, batch.seen_bhw) for flow_b2hw in self._flows(batch)]
        loss = sum(weight * error for weight, error in zip(_WEIGHTS, errors, strict=True))
        assert isinstance(loss, Tensor)
        return {"loss": loss, "error": STRIDE * errors[-1].detach()}

    def save(self, folder: Path) -> None:
        """Write the module, as ``model.flow_encoder`` takes it."""
        save_motion(self.motion, folder)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Mean error, in pixels, on pairs that are not trained on.

        Returns:
            ``epe``; ``still_epe``, if nothing is thought to move; and ``classic_epe``, of optical flow without weights.
            Nothing if there are no pairs.
        """
        errors: dict[str, list[float]] = {"epe": [], "still_epe": [], "classic_epe": []}
        for batch in self.validation:
            size_hw = batch.flow_b2hw.shape[2:]
            ours = STRIDE * F.interpolate(self._flows(batch)[-1], size_hw, mode="bilinear", align_corners=False)
            classic = torch.stack([_classic(pair) for pair in batch.frames_b23hw.cpu()]).to(ours)
            for name, found in zip(errors, (ours, torch.zeros_like(ours), classic), strict=True):
                errors[name].append(float(mean_error(found, batch.flow_b2hw, batch.seen_bhw)))
        return {name: float(np.mean(each)) for name, each in errors.items()} if self.validation else {}

    @torch.no_grad()
    def strip(self, batch: FlowBatch) -> NDArray[np.uint8]:
        """Rows of frames, key frames, and key frames as they are moved to the frames.

        Returns:
            ``uint8[3 · H, B · W, 3]``, RGB.
        """
        frame_b3hw, key_b3hw = (batch.frames_b23hw[:, n].float() for n in (0, 1))
        moved_b3hw = warp(key_b3hw, self._flows(batch)[-1][:, None], consistent=True)
        rows = [row.round().byte().permute(0, 2, 3, 1).cpu().numpy() for row in (frame_b3hw, key_b3hw, moved_b3hw)]
        return np.concatenate([np.concatenate(list(row), axis=1) for row in rows])

    def _flows(self, batch: FlowBatch) -> list[Tensor]:
        """The coarsest first."""
        frame_b3hw, key_b3hw = (batch.frames_b23hw[:, n].float() for n in (0, 1))
        return self.motion.decoder.pixel_flows(self.motion.encoder(frame_b3hw, key_b3hw))


def mean_error(found_b2hw: Tensor, true_b2hw: Tensor, seen_bhw: Tensor) -> Tensor:
    """Mean distance between flows where the truth is seen.

    Args:
        found_b2hw: ``float[B, 2, h, w]``.
        true_b2hw: ``float[B, 2, H, W]``, in the same pixels; the mean of what is seen in each place of ``found``.
        seen_bhw: ``bool[B, H, W]``.
    """
    size_hw = (found_b2hw.shape[2], found_b2hw.shape[3])
    share_b1hw = F.adaptive_avg_pool2d(seen_bhw[:, None].float(), size_hw)
    wanted_b2hw = F.adaptive_avg_pool2d(true_b2hw * seen_bhw[:, None], size_hw) / share_b1hw.clamp(min=1e-6)
    distance_bhw = (found_b2hw - wanted_b2hw).square().sum(1).add(1e-12).sqrt()  # smooth where it is 0
    share_bhw = share_b1hw[:, 0]
    return (distance_bhw * share_bhw).sum() / share_bhw.sum().clamp(min=1e-6)


def _classic(pair_23hw: Tensor) -> Tensor:
    """``float32[2, H, W]``, without weights."""
    frame, key = (
        np.asarray(cv2.cvtColor(np.ascontiguousarray(one.permute(1, 2, 0).numpy()), cv2.COLOR_RGB2GRAY), np.uint8)
        for one in pair_23hw
    )
    return torch.from_numpy(dense_flow(frame, key)).permute(2, 0, 1)
