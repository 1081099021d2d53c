"""Mask2Former on clips: pictures in, a class and a tube of every query out.

    frames ─► backbone, pixel decoder, each frame alone ─► levels at strides 32, 16, 8 ─┐
                                     └─► mask features at stride 4 ──────────────────────┴─► decode ─► predictions

With one frame and no time code this is `transformers`' Mask2Former, and its weights load as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskstream.types import InputError

from .decoder import Level, Stage, decode
from .positions import clip_angles, position_codes
from .prediction import ClipPrediction

if TYPE_CHECKING:
    from transformers import Mask2FormerForUniversalSegmentation
    from transformers.models.mask2former.modeling_mask2former import (
        Mask2FormerPixelLevelModule,
        Mask2FormerTransformerModule,
    )

STRIDE = 32
"""Of the coarsest level; pictures are padded to multiples of it, as their authors do."""

MEAN = (123.675, 116.28, 103.53)
DEVIATION = (58.395, 57.12, 57.375)
"""Of the levels of red, green and blue, in all published weights."""


@dataclass(frozen=True, slots=True, eq=False)
class ClipFeatures:
    """Features of all frames of B clips.

    Attributes:
        levels: three of ``float[B, T, C, h, w]``, at strides 32, 16 and 8.
        mask_features_btchw: ``float[B, T, C, H / 4, W / 4]``.
    """

    levels: tuple[Tensor, ...] = field(repr=False)
    mask_features_btchw: Tensor = field(repr=False)

    def on_frames(self, which: slice) -> ClipFeatures:
        """Those of some frames."""
        return ClipFeatures(tuple(level[:, which] for level in self.levels), self.mask_features_btchw[:, which])

    @classmethod
    def joined(cls, parts: Sequence[ClipFeatures]) -> ClipFeatures:
        """Those of frames that follow each other, one clip of several."""
        levels = zip(*(part.levels for part in parts), strict=True)
        return cls(
            tuple(torch.cat(level, 1) for level in levels), torch.cat([part.mask_features_btchw for part in parts], 1)
        )


class ClipMask2Former(nn.Module):
    """Mask2Former whose queries see all frames of a clip.

    Args:
        network: of `transformers`; its parameters are this one's, and whether it is trained.
        time_code: whether keys say of which frame they are; without, queries cannot tell the order of frames.

    Raises:
        InputError: the network is of a kind that nobody published: normalised before attention, or with dropout.
    """

    def __init__(self, network: Mask2FormerForUniversalSegmentation, *, time_code: bool = True) -> None:
        super().__init__()
        config = network.config
        if config.pre_norm or config.dropout:
            raise InputError("a Mask2Former with pre_norm or dropout is not supported: set pre_norm=False, dropout=0")
        self.network = network
        self.time_code = time_code
        self.training = network.training

    @property
    def classes(self) -> int:
        """K, without "nothing"."""
        return self.network.class_predictor.out_features - 1

    def features(self, pixels_bt3hw: Tensor) -> ClipFeatures:
        """See `pixel_features`."""
        return pixel_features(self.network.model.pixel_level_module, pixels_bt3hw)

    def decode(self, features: ClipFeatures, *, every_stage: bool = False) -> list[ClipPrediction]:
        """What queries answer.

        Args:
            features: from `features`; frames may have been joined to another clip since.
            every_stage: after every layer, and before the first, as training wants it; otherwise the last answer alone.
        """
        module = self.network.model.transformer_module
        batch = len(features.mask_features_btchw)
        levels = clip_levels(module, features, time_code=self.time_code)
        queries, codes = (
            embedding.weight[None].expand(batch, -1, -1)
            for embedding in (module.queries_features, module.queries_embedder)
        )
        stages = decode(module.decoder, queries, codes, levels, features.mask_features_btchw, every_stage=every_stage)
        return [self._answer(stage) for stage in (stages if every_stage else stages[-1:])]

    def forward(self, pixels_bt3hw: Tensor) -> list[ClipPrediction]:
        """Answers of every stage in training, otherwise the last one, in a list.

        Args:
            pixels_bt3hw: ``float[B, T, 3, H, W]``, from `normalised`.
        """
        return self.decode(self.features(pixels_bt3hw), every_stage=self.training)

    def _answer(self, stage: Stage) -> ClipPrediction:
        assert stage.masks_bqthw is not None
        return ClipPrediction(self.network.class_predictor(stage.normed_bqc), stage.masks_bqthw, stage.queries_bqc)


def pixel_features(module: Mask2FormerPixelLevelModule, pixels_bt3hw: Tensor) -> ClipFeatures:
    """Backbone and pixel decoder, each frame alone.

    Args:
        module: of `transformers`.
        pixels_bt3hw: ``float[B, T, 3, H, W]``, from `normalised`.

    Raises:
        InputError: there is no frame.
    """
    batch, frames = pixels_bt3hw.shape[:2]
    if not batch or not frames:
        raise InputError("the clip has no frame: give at least one")
    found = module(pixels_bt3hw.flatten(0, 1))
    levels, masks = found.decoder_hidden_states, found.decoder_last_hidden_state
    return ClipFeatures(
        tuple(level.view(batch, frames, *level.shape[1:]) for level in levels),
        masks.view(batch, frames, *masks.shape[1:]),
    )


def clip_levels(module: Mask2FormerTransformerModule, features: ClipFeatures, *, time_code: bool = True) -> list[Level]:
    """What queries of clips look at.

    Args:
        module: of `transformers`.
        features: of clips.
        time_code: see `ClipMask2Former`.
    """
    frames, device = features.mask_features_btchw.shape[1], features.mask_features_btchw.device
    angles_t = clip_angles(frames, device=device) if time_code else None
    return [
        _level(level_btchw, project, embedding, angles_t)
        for level_btchw, project, embedding in zip(
            features.levels, module.input_projections, module.level_embed.weight, strict=True
        )
    ]


def normalised(frames_bt3hw: Tensor, *, divisor: int = STRIDE) -> Tensor:
    """Pictures as networks want them: normalised, then padded with zeros at the right and at the bottom.

    Args:
        frames_bt3hw: ``uint8[B, T, 3, H, W]``, RGB.
        divisor: sides become multiples of it.

    Returns:
        ``float32[B, T, 3, H', W']``.
    """
    mean, deviation = (torch.tensor(x, device=frames_bt3hw.device)[:, None, None] for x in (MEAN, DEVIATION))
    height, width = frames_bt3hw.shape[-2:]
    return F.pad((frames_bt3hw - mean) / deviation, (0, -width % divisor, 0, -height % divisor))


def _level(features_btchw: Tensor, project: nn.Module, embedding_c: Tensor, angles_t: Tensor | None) -> Level:
    """A level as queries look at it."""
    batch, frames = features_btchw.shape[:2]
    projected_xchw: Tensor = project(features_btchw.flatten(0, 1))
    channels, height, width = projected_xchw.shape[1:]
    codes_tchw = position_codes((height, width), channels, angles_t=angles_t, device=projected_xchw.device)
    if angles_t is None:
        codes_tchw = codes_tchw.expand(frames, -1, -1, -1)
    content_xchw = projected_xchw + embedding_c[:, None, None]
    return Level.of(content_xchw.view(batch, frames, channels, height, width), codes_tchw)


def with_classes(
    network: Mask2FormerForUniversalSegmentation, names: Sequence[str]
) -> Mask2FormerForUniversalSegmentation:
    """The same network for other classes; what tells classes is new where their number changes.

    Args:
        network: is changed.
        names: of K classes.

    Raises:
        InputError: there is none.
    """
    if not names:
        raise InputError("a network needs at least one class")
    if len(names) != network.config.num_labels:
        old = network.class_predictor
        network.class_predictor = nn.Linear(old.in_features, len(names) + 1).to(old.weight)
    network.config.id2label = dict(enumerate(names))
    network.config.label2id = {name: n for n, name in enumerate(names)}
    return network
