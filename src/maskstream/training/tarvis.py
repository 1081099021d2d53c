"""Training of TarViS: one network, asked for instances, regions or objects in turn.

    frames ─► padded with grey ─► features ─┬─ vis, vps: instances, classes of a label space ─┐
                                            └─ objects: masks, points ─► object encoder ──────┴─► loss of all stages

TarViS (Athar et al., CVPR 2023), §3.4 and 4; specification §10 to 12.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from maskstream.mask2former.network import ClipFeatures, ClipMask2Former
from maskstream.mask2former.postprocess import FrameSizes, at_source, masks_at_source, owners
from maskstream.mask2former.prediction import ClipTargets
from maskstream.sinks.draw import draw_overlay
from maskstream.synthetic.scene import WORLD
from maskstream.synthetic.videos import synthetic_videos
from maskstream.systems.tarvis.label_spaces import spaces_of
from maskstream.systems.tarvis.losses import TarViSCriterion
from maskstream.systems.tarvis.neck import TemporalLayer
from maskstream.systems.tarvis.network import (
    STRIDE,
    ObjectAnswers,
    TarViSConfig,
    TarViSNetwork,
    padded_pixels,
    save_tarvis,
)
from maskstream.systems.tarvis.targets import PointTargets, middle_points, padded_points
from maskstream.types import FrameSegmentation, Segment, VideoSample

from .core import add_nothing, parameter_groups
from .recipe import TaskRecipe, TrainRecipe, ValidateRecipe
from .sampling import read_picture
from .schedule import mixed
from .target_clips import TargetBatch, TargetClip

_TERMS = ("ce", "bce", "dice", "semantic", "object_bce", "object_dice")

_EVERY = 4
"""Frames of a video from one that is measured to the next."""

_LEAST_PIXELS = 16
"""What is smaller on a frame is not measured there."""

_SURE = 0.5
"""Probability of a class from which an instance is drawn."""


class TarViSLearner(nn.Module):
    """TarViS with its losses.

    Args:
        network: to be trained.
        task: how many points masks are compared at, and how long clips are.
        frozen_normalisation: keep the statistics of batch normalisation as they are.
        validation: on what `validate` measures.
    """

    def __init__(
        self,
        network: TarViSNetwork,
        *,
        task: TaskRecipe,
        frozen_normalisation: bool = True,
        validation: ValidateRecipe,
    ) -> None:
        super().__init__()
        self.network = network
        self.criterion = TarViSCriterion(points=task.points, vps_points=task.vps_points)
        self.task = task
        self.validation = validation
        self._frozen_normalisation = frozen_normalisation
        self.train()

    def train(self, mode: bool = True) -> TarViSLearner:
        """Frozen normalisation stays as it is."""
        super().train(mode)
        if self._frozen_normalisation:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, batch: TargetBatch, *, iteration: int, seed: int) -> dict[str, Tensor]:
        """The loss of a batch.

        Args:
            batch: clips of one kind.
            iteration: of the run; changes nothing.
            seed: of the run.

        Returns:
            ``loss``, the sum over all stages, to be differentiated, and the terms of `TarViSCriterion` for both kinds
            of questions; those of the kind that was not asked are 0. Of objects they are means over clips.
        """
        del iteration
        generator = torch.Generator(batch.frames_bt3hw.device).manual_seed(mixed(seed, int(batch.number_b[0])))
        features = self.network.features(padded_pixels(batch.frames_bt3hw))
        if batch.kind == "objects":
            found = self._objects(features, batch, generator)
        else:
            found = self.criterion.categories(
                self.network.categories(features, batch.space, every_stage=True),
                [ClipTargets(clip.targets.classes_n, padded_masks(clip.targets.masks_nthw)) for clip in batch.clips],
                kind=batch.kind,
                things=batch.things,
                size_hw=_size_hw(batch.frames_bt3hw),
                generator=generator,
            )
        nothing = torch.zeros_like(found["loss"], requires_grad=False)
        return {"loss": found["loss"], **{name: found.get(name, nothing) for name in _TERMS}}

    def parameter_groups(self, plan: TrainRecipe) -> list[dict[str, Any]]:
        """See `core.parameter_groups`; what queries begin with, their codes and those of levels do not decay either."""
        targets, pixels = self.network.targets, self.network.core.model.pixel_level_module
        learned: list[nn.Parameter] = [
            targets.background,
            targets.neck.level_codes,
            pixels.decoder.level_embed,
            *targets.semantic.parameters(),
            *targets.codes.parameters(),
            *targets.encoder.kinds.parameters(),
        ]
        groups = parameter_groups(self, ClipMask2Former(self.network.core), plan)
        for group in groups:
            group["params"] = [weight for weight in group["params"] if all(weight is not other for other in learned)]
        return [*groups, {"params": learned, "lr_scale": 1.0, "weight_decay": 0.0}]

    def save(self, folder: Path) -> None:
        """Write the network, as commands take it."""
        save_tarvis(self.network, folder, short_side=self.validation.size[0])

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """See `target_quality`; nothing without videos."""
        return target_quality(self.network, self.validation, frames=self.task.frames) if self.validation.videos else {}

    @torch.no_grad()
    def strip(self, batch: TargetBatch) -> NDArray[np.uint8]:
        """The frames of the first clips side by side, and over them what is found of what is asked for.

        Returns:
            ``uint8[2 · n · H, T · W, 3]``, RGB.
        """
        rows = []
        for clip_t3hw, clip in list(zip(batch.frames_bt3hw, batch.clips, strict=True))[:3]:
            found_nthw = self._found(clip_t3hw, clip, batch).cpu()
            segments = tuple(Segment(n, n) for n in range(1, len(found_nthw) + 1))
            pictures = np.ascontiguousarray(clip_t3hw.permute(0, 2, 3, 1).cpu().numpy())
            rows.append(np.concatenate(list(pictures), axis=1))
            overlays = [
                draw_overlay(picture, FrameSegmentation.from_masks(t, segments, found_nthw[:, t]), labels=False)
                for t, picture in enumerate(pictures)
            ]
            rows.append(np.concatenate(overlays, axis=1))
        return np.concatenate(rows)

    def _objects(self, features: ClipFeatures, batch: TargetBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Clip by clip, because each has objects of its own number; a mean over clips."""
        nothing = features.mask_features_btchw.sum() * 0.0  # of a clip without objects; its gradient is 0, not missing
        losses = {"loss": nothing.float()}
        for n, clip in enumerate(batch.clips):
            if not len(clip.targets.classes_n):
                continue
            own = ClipFeatures(
                tuple(level[n : n + 1] for level in features.levels), features.mask_features_btchw[n : n + 1]
            )
            masks_nthw = padded_masks(clip.targets.masks_nthw)
            answers = pointed_answers(self.network, own, clip, _size_hw(batch.frames_bt3hw), every_stage=True)
            for name, value in self.criterion.objects(answers, masks_nthw[None], generator=generator).items():
                losses[name] = losses.get(name, 0) + value / len(batch.clips)
        return losses

    def _found(self, clip_t3hw: Tensor, clip: TargetClip, batch: TargetBatch) -> Tensor:
        """``bool[N, T, H, W]``: objects, sure instances, or classes of pixels."""
        features, size_hw = self.network.features(padded_pixels(clip_t3hw[None])), _size_hw(clip_t3hw)
        if batch.kind == "objects":
            if not len(clip.targets.classes_n):
                return clip.targets.masks_nthw
            return disjoint(pointed_answers(self.network, features, clip, size_hw)[-1].masks_bnthw[0], size_hw)
        (answers,) = self.network.categories(features, batch.space)
        if batch.kind == "vps":
            surest_thw = surest_classes(answers.semantic_bkthw[0], size_hw)
            return torch.eq(surest_thw, torch.unique(surest_thw)[:, None, None, None])
        sure_q = answers.instances.classes_bqc[0].softmax(-1)[:, :-1].amax(-1) > _SURE
        masks_nthw = answers.instances.masks_bqthw[0, sure_q]
        return torch.stack([masks_at_source(x, _sizes(size_hw)) for x in masks_nthw.unbind(1)], 1)


@torch.no_grad()
def tarvis_from_core(network: TarViSNetwork) -> TarViSNetwork:
    """A new TarViS that begins where its core is: what is new between layers of the core changes nothing yet.

    Args:
        network: changed in place. Temporal layers add nothing; masks are embedded as those of instances, but of
            classes, which are to share pixels out among them; instances have the mean of the codes that queries of the
            core have.
    """
    decoder, transformer = network.core.model.pixel_level_module.decoder, network.core.model.transformer_module
    temporal_layers = cast("Sequence[TemporalLayer]", network.targets.neck.layers)
    for layer, temporal in zip(decoder.encoder.layers, temporal_layers, strict=True):
        add_nothing(temporal.attention_norm, [temporal.attention.out_proj], layer.final_layer_norm)
        add_nothing(temporal.norm, [temporal.contract], layer.final_layer_norm)
    of_instances = _linear(transformer.decoder.mask_predictor.mask_embedder)
    for group, embedder in network.targets.mask_embedders.items():
        for own, known in zip(_linear(embedder), of_instances, strict=True):
            if group != "semantic":
                own.load_state_dict(known.state_dict())
    network.targets.codes["instance"].copy_(transformer.queries_embedder.weight.mean(0))
    return network


def retargeted(network: TarViSNetwork, config: TarViSConfig) -> TarViSNetwork:
    """The same network for other label spaces (specification §11).

    Args:
        network: its core becomes the other's.
        config: of the same sizes. Everything stays but classes of label spaces that the network did not know, or with
            another number of them. These are new, unless one that it knew has all of them by name: then they begin as
            they are there, as those of KITTI-STEP and Cityscapes-VPS do from Cityscapes.
    """
    other = TarViSNetwork(network.core, config)
    begun, known = other.targets.state_dict(), network.targets.state_dict()
    kept = {name: known[name] for name, new in begun.items() if name in known and known[name].shape == new.shape}
    before, meant = spaces_of(network.config), spaces_of(config)
    for space in meant.values():
        source = next((old for old in before.values() if set(space.names) <= set(old.names)), None)
        if f"semantic.{space.name}" not in kept and source is not None:
            rows = [source.names.index(name) for name in space.names]
            kept[f"semantic.{space.name}"] = known[f"semantic.{source.name}"][rows]
    other.targets.load_state_dict(begun | kept)
    return other


def padded_masks(masks_nthw: Tensor) -> Tensor:
    """Masks as pictures are padded; there is nothing in what is added."""
    height, width = masks_nthw.shape[-2:]
    return F.pad(masks_nthw, (0, -width % STRIDE, 0, -height % STRIDE))


def pointed_answers(
    network: TarViSNetwork,
    features: ClipFeatures,
    clip: TargetClip,
    size_hw: tuple[int, int],
    *,
    every_stage: bool = False,
) -> list[ObjectAnswers]:
    """What a network finds of objects that are pointed out on a frame.

    Args:
        network: in training, or for inference.
        features: of this clip alone.
        clip: with an object at least.
        size_hw: of its pictures, without padding.
        every_stage: see `TarViSNetwork.objects`.
    """
    points, frame = len(clip.points_p2), slice(clip.reference, clip.reference + 1)
    maps = [level[0, frame] for level in features.levels] + [features.mask_features_btchw[0, frame]]
    masks_n1hw = padded_masks(clip.targets.masks_nthw[: len(clip.targets.masks_nthw) - points, frame])
    of_points = None
    if points:
        padded_hw = (masks_n1hw.shape[2], masks_n1hw.shape[3])
        of_points = PointTargets(
            padded_points(clip.points_p2, size_hw, padded_hw), tuple(x.expand(points, -1, -1, -1) for x in maps)
        )
    return network.objects(features, [network.encode(maps[-1], masks_n1hw, of_points)], every_stage=every_stage)


def disjoint(logits_nthw: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Masks of objects at the size of the frames, ``bool[N, T, H, W]``: each pixel is of the greatest above 0."""
    one_n = torch.ones(len(logits_nthw))
    owner_thw = torch.stack([owners(x, one_n, _sizes(size_hw))[0] for x in logits_nthw.unbind(1)])
    return owner_thw == torch.arange(1, len(logits_nthw) + 1, device=owner_thw.device)[:, None, None, None]


def surest_classes(logits_kthw: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """The class of every pixel at the size of the frames, ``int64[T, H, W]``."""
    return torch.stack([at_source(x, _sizes(size_hw)).argmax(0) for x in logits_kthw.unbind(1)])


def target_quality(network: TarViSNetwork, plan: ValidateRecipe, *, frames: int) -> dict[str, float]:
    """How well questions are answered on rendered videos, in one clip of each.

    Args:
        network: in evaluation.
        plan: which videos.
        frames: of a clip.

    Returns:
        Mean IoU: ``mask`` and ``point``, of the things that are on the first frame and pointed out there, on the frames
        after it; and ``semantic``, of the classes that are on each frame, if the network knows those of the world.
    """
    found: dict[str, list[float]] = {"mask": [], "point": []}
    if WORLD.name in network.config.label_spaces:
        found["semantic"] = []
    for video in synthetic_videos(
        level=plan.level, seed=plan.seed, videos=plan.videos, frames=max(plan.frames, frames), size_hw=plan.size
    ):
        for name, values in _of_video(network, video, min(frames, plan.frames)):
            found[name] += values
    return {name: float(np.mean(values)) if values else 0.0 for name, values in found.items()}


def _of_video(network: TarViSNetwork, video: VideoSample, frames: int) -> Iterator[tuple[str, list[float]]]:
    """IoU of what is asked for, on each frame, by the kind of question."""
    step = min(_EVERY, max(1, (len(video) - 1) // max(1, frames - 1)))
    indices = [step * t for t in range(frames)]
    pictures = np.stack([read_picture(video, index) for index in indices])
    size_hw = (pictures.shape[1], pictures.shape[2])
    truths = [video.annotation(index).segmentation for index in indices]
    frames_1t3hw = torch.from_numpy(pictures).permute(0, 3, 1, 2)[None].to(network.targets.background.device)
    features = network.features(padded_pixels(frames_1t3hw))

    def ious(found_nthw: Tensor, truth_nthw: Tensor) -> list[float]:
        both_nt, either_nt = (x.flatten(2).sum(2) for x in (found_nthw & truth_nthw, found_nthw | truth_nthw))
        seen_nt = truth_nthw.flatten(2).sum(2) >= _LEAST_PIXELS
        values: list[float] = (both_nt / either_nt.clamp(min=1))[seen_nt].tolist()
        return values

    ids_thw = torch.stack([truth.panoptic_map() for truth in truths]).to(frames_1t3hw.device)
    areas = torch.bincount(ids_thw[0].flatten()).tolist()
    things = [one.id for one in truths[0].segments if one.is_thing and areas[one.id] >= _LEAST_PIXELS]
    if things:
        truth_nthw = ids_thw == ids_thw.new_tensor(things)[:, None, None, None]
        targets = ClipTargets(torch.zeros(len(things), dtype=torch.int64), truth_nthw)
        since = min(1, frames - 1)
        for name, points_p2 in (
            ("mask", torch.zeros(0, 2, device=ids_thw.device)),
            ("point", middle_points(truth_nthw[:, 0])),
        ):
            answers = pointed_answers(network, features, TargetClip(targets, points_p2=points_p2), size_hw)
            found_nthw = disjoint(answers[-1].masks_bnthw[0], size_hw)
            yield name, ious(found_nthw[:, since:], truth_nthw[:, since:])
    if WORLD.name in network.config.label_spaces:
        (categories,) = network.categories(features, WORLD.name)
        found_thw = surest_classes(categories.semantic_bkthw[0], size_hw)
        kinds_thw = torch.stack([truth.semantic_map(void=0) for truth in truths]).to(found_thw.device)
        ids = WORLD.things_first().ids
        truth_kthw, found_kthw = (
            x_thw == x_thw.new_tensor(numbers)[:, None, None, None]
            for x_thw, numbers in ((kinds_thw, ids), (found_thw, range(len(ids))))
        )
        yield "semantic", ious(found_kthw, truth_kthw)


def _linear(module: nn.Module) -> list[nn.Linear]:
    return [part for part in module.modules() if isinstance(part, nn.Linear)]


def _sizes(size_hw: tuple[int, int]) -> FrameSizes:
    height, width = (side + -side % STRIDE for side in size_hw)
    return FrameSizes(size_hw, size_hw, (height, width))


def _size_hw(frames: Tensor) -> tuple[int, int]:
    height, width = frames.shape[-2:]
    return height, width
