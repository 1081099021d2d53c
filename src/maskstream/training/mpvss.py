"""Training of MPVSS: the masks of a key frame, carried to a later frame, are compared with what is there.

    key frame ─► Mask2Former, frozen but for its heads ─► answers of every stage, queries
    frame, key frame, queries ─► motion ─► a flow of each query ─► masks of every stage, warped ─► loss on the frame

MPVSS (Weng et al., NeurIPS 2023), §3.3; specification §5.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from maskstream.mask2former.criterion import SetCriterion
from maskstream.mask2former.network import STRIDE, normalised
from maskstream.mask2former.prediction import ClipPrediction
from maskstream.metrics import SemanticQuality
from maskstream.pretrained import Pixels
from maskstream.sinks.draw import draw_overlay
from maskstream.synthetic.scene import WORLD
from maskstream.synthetic.videos import synthetic_videos
from maskstream.systems.mpvss import Mpvss, MpvssNetwork, save_mpvss
from maskstream.systems.mpvss.warp import warp
from maskstream.types import Frame, Task

from .core import parameter_groups
from .recipe import TrainRecipe, ValidateRecipe
from .sampling import read_picture
from .schedule import mixed
from .tubes import TubeBatch

_TRAINED = ("class_predictor", "mask_embedder")
"""Of the query core; everything else of it stays as it is (specification §5)."""


class MpvssLearner(nn.Module):
    """MPVSS with its loss.

    Args:
        network: with a motion module.
        points: see `SetCriterion`.
        validation: on what `validate` measures.
        frozen_eval: see `ModelRecipe`.
    """

    def __init__(
        self, network: MpvssNetwork, *, points: int, validation: ValidateRecipe, frozen_eval: bool = True
    ) -> None:
        super().__init__()
        self._frozen_eval = frozen_eval
        self.network = network
        self.criterion = SetCriterion(points=points)
        self.validation = validation
        for name, weight in network.core.named_parameters():
            weight.requires_grad_(any(part in name for part in _TRAINED))
        self.train()

    def train(self, mode: bool = True) -> MpvssLearner:
        """The frozen parts are as in use, unless that is not wanted."""
        super().train(mode)
        self.network.core.train(mode and not self._frozen_eval)
        return self

    def forward(self, batch: TubeBatch, *, iteration: int, seed: int) -> dict[str, Tensor]:
        """The loss of a batch.

        Args:
            batch: clips of two frames; the first is the key frame.
            iteration: of the run; changes nothing.
            seed: of the run.

        Returns:
            ``loss``, the sum over all stages, to be differentiated, the parts of the last stage, and ``flow``, the mean
            length of the flow in pixels of an eighth of the size.
        """
        del iteration
        core, motion = self.network.core, self.network.motion
        assert motion is not None
        generator = torch.Generator(batch.frames_bt3hw.device).manual_seed(mixed(seed, int(batch.number_b[0])))
        key_b3hw, current_b3hw = (batch.frames_bt3hw[:, n].float() for n in (0, 1))
        decoder = core.network.model.transformer_module.decoder
        with torch.no_grad():
            features = core.features(normalised(batch.frames_bt3hw[:, :1]))
            normed = [decoder.layernorm(stage.queries_bqc) for stage in core.decode(features, every_stage=True)]
        flow_bq2hw = motion(current_b3hw, key_b3hw, normed[-1])
        warped = []
        for queries_bqc in normed:  # heads once more, because they learn
            embedded_bqc = decoder.mask_predictor.mask_embedder(queries_bqc)
            masks_bqhw = torch.einsum("bqc,bchw->bqhw", embedded_bqc, features.mask_features_btchw[:, 0])
            moved_bqhw = warp(masks_bqhw, flow_bq2hw, consistent=motion.config.consistent)
            classes_bqc = core.network.class_predictor(queries_bqc)
            warped.append(ClipPrediction(classes_bqc, moved_bqhw[:, :, None], queries_bqc))
        seen = [target.on_frames(slice(1, None)).seen() for target in batch.targets]
        found = self.criterion(warped, seen, generator=generator)
        return {**found, "flow": flow_bq2hw.detach().norm(dim=2).mean()}

    def parameter_groups(self, plan: TrainRecipe) -> list[dict[str, Any]]:
        """See `parameter_groups`."""
        return parameter_groups(self, self.network.core, plan)

    def save(self, folder: Path) -> None:
        """Write the network, as commands take it."""
        save_mpvss(self.network, folder, short_side=self.validation.size[0])

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """mIoU on videos that are not trained on, with a key frame every fifth frame.

        Returns:
            ``miou``; nothing without videos.
        """
        return {"miou": class_quality(self._system(), self.validation)} if self.validation.videos else {}

    @torch.no_grad()
    def strip(self, batch: TubeBatch) -> NDArray[np.uint8]:
        """Key frames, frames, and what is carried to these.

        Returns:
            ``uint8[3 · H, B · W, 3]``, RGB.
        """
        rows: tuple[list[NDArray[np.uint8]], ...] = ([], [], [])
        for clip_t3hw in batch.frames_bt3hw:
            pictures = np.ascontiguousarray(clip_t3hw.permute(0, 2, 3, 1).cpu().numpy())
            frames = [Frame(n, float(n), picture) for n, picture in enumerate(pictures)]
            session = self._system().start(Task.VSS, size_hw=frames[0].size_hw, categories=WORLD)
            carried = [result for frame in frames for result in session.step(frame)][1]
            shown = (pictures[0], pictures[1], draw_overlay(pictures[1], carried, labels=False))
            for row, picture in zip(rows, shown, strict=True):
                row.append(picture)
        return np.concatenate([np.concatenate(row, axis=1) for row in rows])

    def _system(self) -> Mpvss:
        return Mpvss(self.network, Pixels(divisor=STRIDE))


def class_quality(system: Mpvss, plan: ValidateRecipe) -> float:
    """mIoU of a system on rendered videos.

    Args:
        system: whose classes are those of `scene.WORLD`.
        plan: which videos.
    """
    quality = SemanticQuality(WORLD)
    for video in synthetic_videos(
        level=plan.level, seed=plan.seed, videos=plan.videos, frames=plan.frames, size_hw=plan.size
    ):
        session = system.start(Task.VSS, size_hw=plan.size, categories=WORLD)
        for index in range(plan.frames):
            (result,) = session.step(Frame(index, float(index), read_picture(video, index)))
            quality.update(video.name, index, video.annotation(index), result)
        quality.end_sequence(video.name)
    return quality.result().values["mIoU"]
