"""Training of UniVS: learnable queries find everything, and every prompt finds its own object.

    frames ─► features ─► clip by clip ─┬─ tokens of masks, boxes, points ─┐
    names, sentences ─► text tower ─────┴─ texts that look at the picture ─┴─► decode ─► loss of all stages
                                              of long videos: tokens of the first clip are remembered in all others

UniVS (Li et al., CVPR 2024), §4.1; specification §11 and 12.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from maskstream.mask2former.network import STRIDE, ClipFeatures, ClipMask2Former, normalised
from maskstream.mask2former.prediction import ClipTargets
from maskstream.sinks.draw import draw_overlay
from maskstream.synthetic.expressions import Act, Motion, Ordinal, Position, Side, When
from maskstream.synthetic.scene import COLOURS, WORLD
from maskstream.synthetic.videos import synthetic_videos
from maskstream.systems.univs.losses import Asked, Known, UniVSCriterion
from maskstream.systems.univs.network import Answers, ClipMaps, ProCA, Prompts, UniVSNetwork, save_univs
from maskstream.systems.univs.prompts import Tokens, at_random, box_tokens, joined, mask_tokens, point_tokens
from maskstream.systems.univs.text import TextEncoder
from maskstream.types import FrameSegmentation, Segment, VideoSample

from .core import add_nothing, parameter_groups
from .prompted_clips import BOX, MASK, POINT, Marks, PromptedBatch, PromptedClip
from .recipe import TaskRecipe, TrainRecipe, ValidateRecipe
from .sampling import read_picture
from .schedule import mixed
from .tubes import cut

_EVERY = 4
"""Frames of a video from one that is measured to the next."""

_LEAST_PIXELS = 16
"""What is smaller on a frame is not measured there."""


class UniVSLearner(nn.Module):
    """UniVS with its losses.

    Args:
        network: to be trained.
        text: its text tower; trained along where its parameters want gradients.
        task: how clips are cut and prompted.
        frozen: what of the network stays as it is.
        frozen_normalisation: keep the statistics of batch normalisation as they are.
        validation: on what `validate` measures.
    """

    def __init__(
        self,
        network: UniVSNetwork,
        text: TextEncoder,
        *,
        task: TaskRecipe,
        frozen: Literal["nothing", "backbone", "pixels"] = "nothing",
        frozen_normalisation: bool = True,
        validation: ValidateRecipe,
    ) -> None:
        super().__init__()
        self.network = network
        self.text = text
        self.task = task
        self.validation = validation
        self.criterion = UniVSCriterion(points=task.points, reid=task.reid / (2 if task.tubes > 1 else 1))
        self._frozen_normalisation = frozen_normalisation
        self._embedded: dict[tuple[str, ...], Tensor] = {}
        pixels = network.core.model.pixel_level_module
        stays = {"nothing": [], "backbone": [pixels.encoder], "pixels": [pixels]}[frozen]
        for module in stays:
            module.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> UniVSLearner:
        """The frozen parts stay as they are."""
        super().train(mode)
        if self._frozen_normalisation:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, batch: PromptedBatch, *, iteration: int, seed: int) -> dict[str, Tensor]:
        """The loss of a batch.

        Args:
            batch: clips.
            iteration: of the run; changes nothing.
            seed: of the run.

        Returns:
            See `UniVSCriterion`; means over clips. Of long videos ``loss`` has also that of who is who between clips.
        """
        del iteration
        features = self.network.features(normalised(batch.frames_bt3hw).flatten(0, 1))
        frames = batch.frames_bt3hw.shape[1]
        losses: dict[str, Tensor] = {}
        for n, (clip, number) in enumerate(zip(batch.clips, batch.number_b.tolist(), strict=True)):
            generator = torch.Generator(batch.frames_bt3hw.device).manual_seed(mixed(seed, number))
            own = features.on_frames(slice(n * frames, (n + 1) * frames))
            for name, value in self._loss(own, clip, generator).items():
                losses[name] = losses.get(name, 0) + value / len(batch.clips)
        return losses

    def parameter_groups(self, plan: TrainRecipe) -> list[dict[str, Any]]:
        """See `parameter_groups`."""
        return parameter_groups(self, ClipMask2Former(self.network.core), plan)

    def save(self, folder: Path) -> None:
        """Write the network with its text tower, as commands take it."""
        save_univs(self.network, self.text, folder, short_side=self.validation.size[0])

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """See `prompted_quality`; nothing without videos."""
        plan = self.validation
        return prompted_quality(self.network, self.text, plan, task=self.task) if plan.videos else {}

    @torch.no_grad()
    def strip(self, batch: PromptedBatch) -> NDArray[np.uint8]:
        """The frames of the first clips side by side, and over them what prompts find.

        Returns:
            ``uint8[2 · n · H, T · W, 3]``, RGB.
        """
        rows = []
        for clip_t3hw, clip in list(zip(batch.frames_bt3hw, batch.clips, strict=True))[:3]:
            size_hw = (clip_t3hw.shape[2], clip_t3hw.shape[3])
            generator = torch.Generator(clip_t3hw.device).manual_seed(0)
            maps = self.network.maps(self.network.features(normalised(clip_t3hw[None])[0]), clip.times_t)
            names_kd = self._names(clip.names)
            prompts, _ = self._prompts(clip, 0, slice(len(clip_t3hw)), maps, generator, names_kd=names_kd)
            answers = self.network.decode(maps, prompts)[-1][slice(self.network.queries, None)]
            found_pthw = found_masks(answers, size_hw).cpu()
            segments = tuple(Segment(p, p) for p in range(1, len(found_pthw) + 1))
            pictures = np.ascontiguousarray(clip_t3hw.permute(0, 2, 3, 1).cpu().numpy())
            rows.append(np.concatenate(list(pictures), axis=1))
            overlays = [
                draw_overlay(picture, FrameSegmentation.from_masks(t, segments, found_pthw[:, t]), labels=False)
                for t, picture in enumerate(pictures)
            ]
            rows.append(np.concatenate(overlays, axis=1))
        return np.concatenate(rows)

    def _loss(self, features: ClipFeatures, clip: PromptedClip, generator: torch.Generator) -> dict[str, Tensor]:
        """Of all parts of a clip: their mean, and who is who between them."""
        parts = cut(len(clip.times_t), self.task.tubes, self.task.overlap)
        losses: dict[str, Tensor] = {}
        who: list[tuple[Known, Known]] = []
        memory: list[Tokens] = []
        names_kd = self._names(clip.names)
        for n, part in enumerate(parts):
            maps = self.network.maps(features.on_frames(part), clip.times_t[part])
            prompts, means_pn = self._prompts(clip, n, part, maps, generator, memory=memory, names_kd=names_kd)
            frames = len(maps.angles_t)
            order_t = torch.randperm(frames, generator=generator, device=generator.device)
            stages = self.network.decode(maps, prompts, order_t=order_t, every_stage=True)
            asked = Asked(clip.targets.on_frames(part), means_pn, clip.kind, names_kd)
            found, known = self.criterion(self.network, stages, asked, generator=generator)
            who.append(known)
            for name, value in found.items():
                losses[name] = losses.get(name, 0) + value / len(parts)
            if n == 0 and len(parts) > 1 and clip.kind == "visual":
                memory = self._remembered(clip.targets.on_frames(part), maps, generator)
        if len(parts) > 1:
            are_names = clip.kind == "category"
            between = self.criterion.between_clips(who, are_names=are_names, generator=generator)
            losses["loss"] = losses["loss"] + between
            losses["between"] = between.detach()
        return losses

    def _prompts(
        self,
        clip: PromptedClip,
        number: int,
        part: slice,
        maps: ClipMaps,
        generator: torch.Generator,
        *,
        memory: Sequence[Tokens] = (),
        names_kd: Tensor | None,
    ) -> tuple[Prompts | None, Tensor]:
        """Prompts of a part of a clip, and ``bool[P, N]``, what they mean."""
        if clip.kind == "expression":
            sentences_pd, words_pwd = self.text.expressions(clip.texts)
            return self.network.text_prompts("expression", sentences_pd, words_pwd, maps), clip.means_pn
        if clip.kind == "category" and names_kd is not None:
            names_pd = names_kd[clip.targets.classes_n[clip.means_pn.int().argmax(1)]]
            return self.network.text_prompts("category", names_pd, None, maps), clip.means_pn
        if not clip.marks or not len(clip.marks[number].objects_p):
            return None, clip.means_pn[:0]
        marks = clip.marks[number]
        tokens = self._tokens(marks, clip.targets.masks_nthw[marks.objects_p, part][:, marks.frame], maps, generator)
        remembered = [Tokens(x.content_nrc[marks.objects_p], x.code_nrc[marks.objects_p]) for x in memory]
        prompts = Prompts.visual([tokens] * len(maps.angles_t), [tokens, *remembered])
        if self.training and bool(torch.rand((), generator=generator, device=generator.device) < 0.5):
            prompts = replace(prompts, code_ptc=prompts.content_ptc)  # specification §5.6
        return prompts, F.one_hot(marks.objects_p, len(clip.targets.classes_n)).bool()

    def _tokens(self, marks: Marks, masks_phw: Tensor, maps: ClipMaps, generator: torch.Generator) -> Tokens:
        """What visual prompts point at; every prompt keeps its place among the others, whatever its shape (T10)."""
        where, count, choose = maps.prompt_map(marks.frame), self.task.tokens, at_random(generator)
        masks_phw, shrink_2 = _padded(masks_phw)
        positions = [(marks.shapes_p == shape).nonzero()[:, 0] for shape in (MASK, BOX, POINT)]
        masks, boxes, points = positions
        found = joined(
            [
                mask_tokens(where, masks_phw[masks], count, choose=choose, extremes=self.training),
                box_tokens(where, marks.boxes_p4[boxes] * shrink_2.repeat(2), count, choose=choose),
                point_tokens(where, marks.points_p2[points] * shrink_2, count),
            ]
        )
        order_p = torch.cat(positions).argsort()
        return Tokens(found.content_nrc[order_p], found.code_nrc[order_p])

    def _remembered(self, targets: ClipTargets, maps: ClipMaps, generator: torch.Generator) -> list[Tokens]:
        """Tokens of the masks of all objects on the last frames of a clip (specification §12, stage 3)."""
        frames = len(maps.angles_t)
        drawn = int(torch.randint(frames, (), generator=generator, device=generator.device))
        masks_nthw, _ = _padded(targets.masks_nthw)
        return [
            mask_tokens(
                maps.prompt_map(t), masks_nthw[:, t], self.task.tokens, choose=at_random(generator), extremes=True
            )
            for t in range(frames - max(drawn, frames // 3 + 1), frames)
        ]

    def _names(self, names: tuple[str, ...]) -> Tensor | None:
        """Embeddings of names; those of a tower that stays as it is are found once."""
        if not names:
            return None
        if any(weight.requires_grad for weight in self.text.parameters()):
            return self.text.names(names)
        if names not in self._embedded:
            self._embedded[names] = self.text.names(names)
        return self._embedded[names]


@torch.no_grad()
def univs_from_core(network: UniVSNetwork, names_kd: Tensor) -> UniVSNetwork:
    """A new UniVS that begins where its core is: what is new between layers of the core changes nothing yet.

    Args:
        network: changed in place. Prompts are looked at, but what is found is not added yet; and what queries say of
            classes, multiplied with these names, is what the core says of them, less what it says of nothing.
        names_kd: ``float[K, D]``, embeddings of the names of the core's classes.
    """
    modules, transformer = network.prompting, network.core.model.transformer_module
    norms = [layer.final_layer_norm for layer in transformer.decoder.layers]
    comes_from = [transformer.queries_features.weight, *norms[:-1]]
    for proca, after in zip(cast("Sequence[ProCA]", modules.proca), comes_from, strict=True):
        add_nothing(proca.norm, [proca.attention.out_proj], after)
    classes = network.core.class_predictor
    of_names_dk = torch.linalg.pinv(F.normalize(names_kd, dim=-1))
    modules.to_text.weight.copy_(of_names_dk @ (classes.weight[:-1] - classes.weight[-1]))
    modules.to_text.bias.copy_(of_names_dk @ (classes.bias[:-1] - classes.bias[-1]))
    return network


def grammar() -> list[str]:
    """All that sentences about the synthetic world, and names of its classes, are made of."""
    acts: tuple[Act, ...] = ("left", "right", "up", "down", "still", "leaves", "comes in", "turns")
    sides: tuple[Side, ...] = ("left", "right", "top", "bottom", "middle")
    whens: tuple[When, ...] = ("start", "end")
    nths: tuple[Literal[1, 2, 3], ...] = (1, 2, 3)
    both: tuple[Literal["left", "right"], ...] = ("left", "right")
    ordinals = [Ordinal(nth, side, when) for nth in nths for side in both for when in whens]
    return [
        "the", "animal", "vehicle", "thing", "large", "small", "plain", "striped", "spotted", "checked", "behind",
        "in front of",
        *WORLD.names,
        *COLOURS,
        "largest", "smallest",
        *(Motion(act).text for act in acts),
        *(Position(side, when).text for side in sides for when in whens),
        *(text for ordinal in ordinals for text in (ordinal.text, ordinal.tail)),
    ]  # fmt: skip


def found_masks(answers: Answers, size_hw: tuple[int, int]) -> Tensor:
    """``bool[Q, T, H, W]``, masks at the size of the frames."""
    height, width = (side + -side % STRIDE for side in size_hw)
    large_qthw = F.interpolate(answers.masks_qthw, (height, width), mode="bilinear", align_corners=False)
    return large_qthw[:, :, : size_hw[0], : size_hw[1]] > 0


def prompted_quality(
    network: UniVSNetwork, text: TextEncoder, plan: ValidateRecipe, *, task: TaskRecipe
) -> dict[str, float]:
    """How well prompts are answered on rendered videos, in one clip of each.

    Args:
        network: in evaluation.
        text: its tower.
        plan: which videos.
        task: how long clips are, and how many tokens visual prompts have.

    Returns:
        Mean IoU: ``visual``, of the masks of what is on the first frame, on the frames after it; ``category``, of the
        names of what is there, and ``expression``, of sentences, on all frames on which there is something to find.
    """
    frames = (task.frames + task.overlap * (task.tubes - 1)) // task.tubes
    found: dict[str, list[float]] = {"visual": [], "category": [], "expression": []}
    for video in synthetic_videos(
        level=plan.level, seed=plan.seed, videos=plan.videos, frames=max(plan.frames, frames), size_hw=plan.size
    ):
        for name, values in _of_video(network, text, video, min(frames, plan.frames), task.tokens):
            found[name] += values
    return {name: float(np.mean(values)) if values else 0.0 for name, values in found.items()}


def _of_video(
    network: UniVSNetwork, text: TextEncoder, video: VideoSample, frames: int, tokens: int
) -> Iterator[tuple[str, list[float]]]:
    """IoU of what is prompted, on each frame, by the kind of prompt."""
    step = min(_EVERY, max(1, (len(video) - 1) // max(1, frames - 1)))
    indices = [step * t for t in range(frames)]
    pictures = np.stack([read_picture(video, index) for index in indices])
    truths = [video.annotation(index).segmentation for index in indices]
    ids_thw = torch.stack([truth.panoptic_map() for truth in truths])
    kinds_thw = torch.stack([truth.semantic_map(void=0) for truth in truths])
    frames_t3hw = torch.from_numpy(pictures).permute(0, 3, 1, 2).to(network.prompting.log_scale.device)
    pixels_t3hw = normalised(frames_t3hw[None])[0]
    maps = network.maps(network.features(pixels_t3hw), torch.tensor(indices, device=pixels_t3hw.device))

    def ious(prompts: Prompts, truth_pthw: Tensor, since: int = 0) -> list[float]:
        answers = network.decode(maps, prompts)[-1][slice(network.queries, None)]
        found_pthw = found_masks(answers, (pictures.shape[1], pictures.shape[2])).cpu()
        both_pt, either_pt = ((x).flatten(2).sum(2) for x in (found_pthw & truth_pthw, found_pthw | truth_pthw))
        seen_pt = truth_pthw.flatten(2).sum(2) >= _LEAST_PIXELS
        iou_pt = both_pt / either_pt.clamp(min=1)
        values: list[float] = iou_pt[:, since:][seen_pt[:, since:]].tolist()
        return values

    areas = torch.bincount(ids_thw[0].flatten())
    first = [n for n, area in enumerate(areas.tolist()) if n and area >= _LEAST_PIXELS]
    if first:
        truth_pthw = torch.stack([ids_thw == n for n in first])
        given = mask_tokens(maps.prompt_map(0), _padded(truth_pthw[:, 0])[0].to(pixels_t3hw), tokens)
        yield "visual", ious(Prompts.visual([given] * frames, [given]), truth_pthw, since=min(1, frames - 1))
    present = [n for n, area in enumerate(torch.bincount(kinds_thw.flatten()).tolist()) if n and area]
    if present:
        names_pd = text.names([WORLD[n].name for n in present])
        truth_pthw = torch.stack([kinds_thw == n for n in present])
        yield "category", ious(network.text_prompts("category", names_pd, None, maps), truth_pthw)
    said = list(video.expressions().values())
    if said:
        sentences_pd, words_pwd = text.expressions([one.text for one in said])
        truth_pthw = torch.stack([ids_thw == one.track_ids[0] for one in said])
        yield "expression", ious(network.text_prompts("expression", sentences_pd, words_pwd, maps), truth_pthw)


def _padded(masks: Tensor) -> tuple[Tensor, Tensor]:
    """``[..., H, W]`` as inputs are padded, and how much of width and height was there before."""
    height, width = masks.shape[-2:]
    across, down = -width % STRIDE, -height % STRIDE
    shrink_2 = torch.tensor([width / (width + across), height / (height + down)], device=masks.device)
    return F.pad(masks, (0, across, 0, down)), shrink_2
