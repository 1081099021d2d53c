"""Training of Tube-Link: tubes are segmented, and the things of two tubes of a video learn to be the same ones.

    frames ─┬─ earlier tube ─► answers ─► matched with what is there ─► loss of classes and masks ─┐
            └─ later tube ───► answers ─► …  ─────────────────────────► …  ────────────────────────┼─► loss
                  queries of both ─► link ─► embed ─► temporal contrastive loss ───────────────────┘

Tube-Link (Li et al., ICCV 2023), §3.2 and 3.3; specification §4 and 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from maskstream.mask2former.network import STRIDE, ClipFeatures, normalised
from maskstream.mask2former.prediction import ClipPrediction
from maskstream.metrics import VideoPanopticQuality
from maskstream.pretrained import Pixels
from maskstream.sinks.draw import draw_overlay
from maskstream.synthetic.scene import WORLD
from maskstream.synthetic.videos import synthetic_videos
from maskstream.systems.tubelink import TubeLink, TubeLinkNetwork, TubeLinkSettings, save_tubelink
from maskstream.systems.tubelink.losses import AssociationLoss, TubeCriterion
from maskstream.types import Frame, FrameSegmentation, Task

from .core import parameter_groups
from .recipe import TrainRecipe, ValidateRecipe
from .sampling import read_picture
from .schedule import mixed
from .tubes import TubeBatch

WINDOWS = (1, 2, 4, 6)
"""Of video panoptic quality; the mean over them is what the paper reports."""

_MIN_SCORE = 0.5
"""Of regions that are measured; a network that has not seen much is seldom surer."""


class TubeLinkLearner(nn.Module):
    """Tube-Link with its losses.

    Args:
        network: to be trained.
        tubes: of a clip.
        overlap: frames that two of them share.
        criterion: of classes and masks.
        association: of embeddings, where there are two tubes.
        validation: on what `validate` measures.
    """

    def __init__(
        self,
        network: TubeLinkNetwork,
        *,
        tubes: int,
        overlap: int,
        criterion: TubeCriterion,
        association: AssociationLoss | None,
        validation: ValidateRecipe,
    ) -> None:
        super().__init__()
        self.network = network
        self.tubes = tubes
        self.overlap = overlap
        self.criterion = criterion
        self.association = association
        self.validation = validation

    def forward(self, batch: TubeBatch, *, iteration: int, seed: int) -> dict[str, Tensor]:
        """The loss of a batch.

        Args:
            batch: clips.
            iteration: of the run; changes nothing.
            seed: of the run.

        Returns:
            ``loss``, the sum over tubes and over all stages, to be differentiated, the parts of the last stage, means
            over tubes, and those of the temporal contrastive loss.
        """
        del iteration
        generator = torch.Generator(batch.frames_bt3hw.device).manual_seed(mixed(seed, int(batch.number_b[0])))
        features = self.network.core.features(normalised(batch.frames_bt3hw))
        tubes = self._parts(batch.frames_bt3hw.shape[1])
        parts = [features.on_frames(part) for part in tubes]
        both = ClipFeatures(
            tuple(torch.cat(level) for level in zip(*(part.levels for part in parts), strict=True)),
            torch.cat([part.mask_features_btchw for part in parts]),
        )
        stages = self.network.core.decode(both, every_stage=True)
        targets = [[target.on_frames(part) for target in batch.targets] for part in tubes]
        losses: dict[str, Tensor] = {}
        last: list[ClipPrediction] = []
        clips = len(batch.targets)
        for n, of_tubes in enumerate(targets):
            answers = [stage.of_clips(slice(n * clips, (n + 1) * clips)) for stage in stages]
            seen = [target.seen() for target in of_tubes]
            for name, value in self.criterion(answers, seen, generator=generator).items():
                share = value if name == "loss" else value / self.tubes
                losses[name] = losses.get(name, 0) + share
            last.append(answers[-1])
        if self.association is not None and self.network.association is not None:
            found = self.association(
                self.network.association, last[0], last[1], (targets[0], targets[1]), generator=generator
            )
            losses["loss"] = losses["loss"] + found.pop("track")
            losses |= found
        return losses

    def parameter_groups(self, plan: TrainRecipe) -> list[dict[str, Any]]:
        """See `parameter_groups`."""
        return parameter_groups(self, self.network.core, plan)

    def save(self, folder: Path) -> None:
        """Write the network, as commands take it."""
        save_tubelink(self.network, folder, short_side=self.validation.size[0])

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Video panoptic quality on videos that are not trained on.

        Returns:
            ``vpq``, and that of things and of stuff; nothing without videos.
        """
        return video_quality(self._system(), self.validation) if self.validation.videos else {}

    @torch.no_grad()
    def strip(self, batch: TubeBatch) -> NDArray[np.uint8]:
        """The frames of the first clips side by side, and under them what is found.

        Returns:
            ``uint8[2 · n · H, T · W, 3]``, RGB.
        """
        rows = []
        for clip_t3hw in batch.frames_bt3hw[:3]:
            pictures = np.ascontiguousarray(clip_t3hw.permute(0, 2, 3, 1).cpu().numpy())
            frames = [Frame(n, float(n), picture) for n, picture in enumerate(pictures)]
            found = segmented(self._system(), frames)
            rows.append(np.concatenate(list(pictures), axis=1))
            overlays = [draw_overlay(f.image, result, labels=False) for f, result in zip(frames, found, strict=True)]
            rows.append(np.concatenate(overlays, axis=1))
        return np.concatenate(rows)

    def _parts(self, frames: int) -> list[slice]:
        """Where the tubes of a clip are."""
        length = (frames + self.overlap * (self.tubes - 1)) // self.tubes
        return [slice(n * (length - self.overlap), n * (length - self.overlap) + length) for n in range(self.tubes)]

    def _system(self) -> TubeLink:
        settings = TubeLinkSettings(min_score=_MIN_SCORE)
        return TubeLink(self.network, Pixels(divisor=STRIDE), settings=settings)


def segmented(system: TubeLink, frames: Sequence[Frame], task: Task = Task.VPS) -> list[FrameSegmentation]:
    """What a system finds in a video."""
    session = system.start(task, size_hw=frames[0].size_hw, categories=WORLD)
    return [*(result for frame in frames for result in session.step(frame)), *session.finish()]


def video_quality(system: TubeLink, plan: ValidateRecipe) -> dict[str, float]:
    """Video panoptic quality of a system on rendered videos.

    Args:
        system: whose classes are those of `scene.WORLD`.
        plan: which videos.

    Returns:
        ``vpq``, ``vpq_things`` and ``vpq_stuff``, means over windows of 1, 2, 4 and 6 frames.
    """
    quality = VideoPanopticQuality(WORLD, windows=WINDOWS)
    for video in synthetic_videos(
        level=plan.level, seed=plan.seed, videos=plan.videos, frames=plan.frames, size_hw=plan.size
    ):
        frames = [Frame(n, float(n), read_picture(video, n)) for n in range(plan.frames)]
        for index, result in enumerate(segmented(system, frames)):
            quality.update(video.name, index, video.annotation(index), result)
        quality.end_sequence(video.name)
    values = quality.result().values
    return {f"vpq{part}": values[f"VPQ_1246{part}"] for part in ("", "_things", "_stuff")}
