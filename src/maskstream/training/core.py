"""Training of the query core: every picture or clip is answered by queries, which are matched with what is there.

    frames ─► ClipMask2Former ─► answers of every stage ─► matched with the targets, each stage by itself ─► loss

Mask2Former (Cheng et al., CVPR 2022), §3.3 and 4; over clips as Mask2Former for video (arXiv:2112.10764).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from maskstream.mask2former.checkpoints import save_core
from maskstream.mask2former.criterion import SetCriterion
from maskstream.mask2former.network import STRIDE, ClipMask2Former, normalised
from maskstream.mask2former.prediction import ClipTargets
from maskstream.metrics import VideoPanopticQuality
from maskstream.pretrained import Pixels
from maskstream.segmenters.mask2former import Mask2FormerSegmenter
from maskstream.sinks.draw import draw_overlay
from maskstream.synthetic.scene import WORLD
from maskstream.synthetic.videos import synthetic_videos
from maskstream.types import Frame, FrameSegmentation, Proposals, Segment

from .recipe import TrainRecipe, ValidateRecipe
from .sampling import read_picture
from .schedule import mixed
from .tubes import TubeBatch

_EVERY = 8
"""Frames of a video that are measured: neighbours are much the same."""

_MIN_SCORE = 0.5
"""Of regions that are measured; a network that has not seen much is seldom surer."""


class CoreLearner(nn.Module):
    """The query core with its loss.

    Args:
        network: to be trained.
        points: see `SetCriterion`.
        auxiliary: weight of the class of every place beside those of queries. Features then know classes long before
            queries do, which a network that begins from nothing is in need of; published ones begin from ImageNet.
        validation: on what `validate` measures.
    """

    def __init__(
        self, network: ClipMask2Former, *, points: int, auxiliary: float = 0.0, validation: ValidateRecipe
    ) -> None:
        super().__init__()
        self.network = network
        self.criterion = SetCriterion(points=points)
        self.auxiliary = auxiliary
        self.classifier = nn.Conv2d(network.network.config.feature_size, network.classes, 1) if auxiliary else None
        self.validation = validation

    def forward(self, batch: TubeBatch, *, iteration: int, seed: int) -> dict[str, Tensor]:
        """The loss of a batch.

        Args:
            batch: clips.
            iteration: of the run; changes nothing.
            seed: of the run.

        Returns:
            ``loss``, the sum over all stages, to be differentiated, the parts of the last stage, and ``places``, the
            auxiliary loss, if there is one.
        """
        del iteration
        generator = torch.Generator(batch.frames_bt3hw.device).manual_seed(mixed(seed, int(batch.number_b[0])))
        features = self.network.features(normalised(batch.frames_bt3hw))
        found = self.criterion(self.network.decode(features, every_stage=True), batch.targets, generator=generator)
        if self.classifier is None:
            return found
        logits_xkhw = self.classifier(features.levels[-1].flatten(0, 1))
        places = place_loss(logits_xkhw, batch.targets)
        return {**found, "loss": found["loss"] + self.auxiliary * places, "places": places.detach()}

    def parameter_groups(self, plan: TrainRecipe) -> list[dict[str, Any]]:
        """See `parameter_groups`."""
        return parameter_groups(self, self.network, plan)

    def save(self, folder: Path) -> None:
        """Write the network as segmenters take it."""
        save_core(self.network.network, folder, short_side=self.validation.size[0])

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Panoptic quality on single frames of videos that are not trained on.

        Returns:
            ``pq``, and that of things and of stuff; nothing without videos.
        """
        return picture_quality(self._segmenter(), self.validation) if self.validation.videos else {}

    @torch.no_grad()
    def strip(self, batch: TubeBatch) -> NDArray[np.uint8]:
        """The first frame of each clip, over it what is there, and what is found.

        Returns:
            ``uint8[3 · H, B · W, 3]``, RGB.
        """
        pictures = batch.frames_bt3hw[:, 0].permute(0, 2, 3, 1).cpu().numpy()
        segmenter = self._segmenter()
        frames = [Frame(n, 0.0, np.ascontiguousarray(picture)) for n, picture in enumerate(pictures)]
        rows: tuple[list[NDArray[np.uint8]], ...] = ([], [], [])
        for frame, features, target in zip(frames, segmenter.encode(frames), batch.targets, strict=True):
            there = Proposals(target.masks_nthw[:, 0].cpu(), tuple(target.classes_n.tolist()))
            for row, proposals in zip(rows, (None, there, segmenter.segment(features)), strict=True):
                row.append(
                    frame.image
                    if proposals is None
                    else draw_overlay(frame.image, _segmentation(proposals, 0), labels=False)
                )
        return np.concatenate([np.concatenate(row, axis=1) for row in rows])

    def _segmenter(self) -> Mask2FormerSegmenter:
        return Mask2FormerSegmenter(self.network.network, Pixels(divisor=STRIDE), min_score=_MIN_SCORE)


def parameter_groups(learner: nn.Module, core: ClipMask2Former, plan: TrainRecipe) -> list[dict[str, Any]]:
    """The backbone learns more slowly, also the rest of the core, if wanted; normalisation and embeddings do not decay.

    Mask2Former, §4.1.

    Args:
        learner: whose parameters are trained.
        core: the query core in it.
        plan: says how much more slowly, and what the others' decay is.
    """
    scales = dict.fromkeys(core.parameters(), plan.core_lr)
    scales |= dict.fromkeys(core.network.model.pixel_level_module.encoder.parameters(), plan.backbone_lr)
    kept = {
        weight
        for module in learner.modules()
        if isinstance(module, (nn.Embedding, nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d))
        for weight in module.parameters(recurse=False)
    }
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for weight in learner.parameters():
        groups.setdefault((scales.get(weight, 1.0), weight in kept), []).append(weight)
    return [
        {"params": weights, "lr_scale": scale, "weight_decay": 0.0 if is_kept else plan.weight_decay}
        for (scale, is_kept), weights in groups.items()
    ]


@torch.no_grad()
def add_nothing(norm: nn.LayerNorm, last: Sequence[nn.Linear], after: nn.LayerNorm | Tensor) -> None:
    """Make a new post-norm layer within a trained network begin as one that changes nothing.

    So the first steps have features to work with; where all is left to chance, hundreds go by until they are back.

    Args:
        norm: of the layer; becomes what leaves vectors that come to it about as they are.
        last: by these is made what the layer adds; they begin with zeros.
        after: what those vectors come from, or some of them.
    """
    for linear in last:
        linear.weight.zero_()
        linear.bias.zero_()
    if isinstance(after, Tensor):
        mean, variance = after.mean(), after.var(correction=0)
    else:
        mean, variance = after.bias.mean(), after.weight.square().mean() + after.bias.var(correction=0)
    norm.weight.fill_(float(variance.sqrt()))
    norm.bias.fill_(float(mean))


def place_loss(logits_xkhw: Tensor, targets: Sequence[ClipTargets]) -> Tensor:
    """Cross-entropy of the class of every place; every region counts the same, however large it is.

    Args:
        logits_xkhw: ``float[B·T, K, h, w]``.
        targets: of each clip. Places in no region do not count.
    """
    total, regions = logits_xkhw.new_zeros(()), 0
    for logits_tkhw, target in zip(logits_xkhw.chunk(len(targets)), targets, strict=True):
        inside_nthw = F.interpolate(target.masks_nthw.float(), logits_xkhw.shape[2:], mode="area")
        inside_nx, seen_n = inside_nthw.flatten(1), inside_nthw.sum((1, 2, 3)) > 0
        surprise_kx = -logits_tkhw.log_softmax(1).transpose(0, 1).flatten(1)
        surprise_n = (surprise_kx[target.classes_n] * inside_nx).sum(1) / inside_nx.sum(1).clamp(min=1e-6)
        total, regions = total + surprise_n[seen_n].sum(), regions + int(seen_n.sum())
    return total / max(regions, 1)


def picture_quality(segmenter: Mask2FormerSegmenter, plan: ValidateRecipe) -> dict[str, float]:
    """Panoptic quality of what a segmenter finds on single frames of rendered videos.

    Args:
        segmenter: whose classes are those of `scene.WORLD`.
        plan: which videos; every 8th frame is measured.

    Returns:
        ``pq``, ``pq_things`` and ``pq_stuff``.
    """
    quality = VideoPanopticQuality(WORLD, windows=(1,))
    for video in synthetic_videos(
        level=plan.level, seed=plan.seed, videos=plan.videos, frames=plan.frames, size_hw=plan.size
    ):
        for index in range(0, plan.frames, _EVERY):
            found = segmenter.segment(segmenter.encode([Frame(index, 0.0, read_picture(video, index))])[0])
            quality.update(video.name, index, video.annotation(index), _segmentation(found, index))
        quality.end_sequence(video.name)
    values = quality.result().values
    return {"pq": values["VPQ_1"], "pq_things": values["VPQ_1_things"], "pq_stuff": values["VPQ_1_stuff"]}


def _segmentation(found: Proposals, index: int) -> FrameSegmentation:
    """Proposals of a frame, each as an object of its own; categories count from 0 in the network, from 1 outside."""
    segments = tuple(
        Segment(n, n, category=None if category is None else category + 1)
        for n, category in enumerate(found.categories, start=1)
    )
    return FrameSegmentation.from_masks(index, segments, found.masks_nhw.cpu())
