"""A Mask2Former for key frames, and the motion module for those between.

key frame ─► Mask2Former ─► classes, masks, queries ─────────────────────────┐
frame, key frame, queries ─► Motion ─► a flow of each query ─► warp the masks ┴─► classes and masks of the frame
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import torch.nn.functional as F
from torch import Tensor, nn

from maskstream.mask2former.checkpoints import save_core
from maskstream.mask2former.network import ClipFeatures, ClipMask2Former
from maskstream.mask2former.parts import fill, read_settings, write_part

from .motion import Motion, MotionConfig
from .warp import warp

if TYPE_CHECKING:
    from transformers import Mask2FormerForUniversalSegmentation

PART = "mpvss"
"""What files are called that hold the motion module."""

Maps: TypeAlias = tuple[Tensor, ...]
"""Features of a backbone, the finest first."""


@dataclass(frozen=True, slots=True, eq=False)
class KeyFrame:
    """What is kept of B key frames.

    Attributes:
        classes_bqc: ``float[B, Q, K + 1]``, logits.
        masks_bqhw: ``float[B, Q, h, w]``, logits at a quarter of the input's size.
        queries_bqc: ``float[B, Q, C]``, after the last normalisation.
        picture_b3hw: ``float[B, 3, H, W]``, RGB in 0 … 255, as the network saw it, without padding.
    """

    classes_bqc: Tensor
    masks_bqhw: Tensor = field(repr=False)
    queries_bqc: Tensor
    picture_b3hw: Tensor = field(repr=False)


class MpvssNetwork(nn.Module):
    """The networks of key frames and of motion.

    Args:
        core: of `transformers`; its parameters are this one's.
        motion: None: there is none, and masks are carried in other ways.
    """

    def __init__(self, core: Mask2FormerForUniversalSegmentation, motion: Motion | None) -> None:
        super().__init__()
        self.core = ClipMask2Former(core, time_code=False)
        self.motion = motion

    @property
    def names(self) -> dict[int, str]:
        """What classes are called."""
        return {int(n): str(name) for n, name in (self.core.network.config.id2label or {}).items()}

    def key_frame(self, pixels_b3hw: Tensor, picture_b3hw: Tensor) -> KeyFrame:
        """Segment key frames.

        Args:
            pixels_b3hw: ``float[B, 3, H, W]``, normalised and padded.
            picture_b3hw: see `KeyFrame`.
        """
        return self.answered(self.maps(pixels_b3hw), picture_b3hw)

    def maps(self, pixels_b3hw: Tensor) -> Maps:
        """What the backbone makes of pictures: four of ``float[B, C, h, w]``, at strides 4, 8, 16 and 32.

        Args:
            pixels_b3hw: ``float[B, 3, H, W]``, normalised and padded.
        """
        return tuple(self.core.network.model.pixel_level_module.encoder(pixels_b3hw).feature_maps)

    def answered(self, maps: Maps, picture_b3hw: Tensor) -> KeyFrame:
        """What queries find in maps of `maps`, whether those were seen or carried.

        Args:
            maps: of the frames.
            picture_b3hw: see `KeyFrame`.
        """
        decoded = self.core.network.model.pixel_level_module.decoder(maps)
        levels = tuple(level[:, None] for level in decoded.multi_scale_features)
        (found,) = self.core.decode(ClipFeatures(levels, decoded.mask_features[:, None]))
        queries_bqc = self.core.network.model.transformer_module.decoder.layernorm(found.queries_bqc)
        return KeyFrame(found.classes_bqc, found.masks_bqthw[:, :, 0], queries_bqc, picture_b3hw)

    def carried(self, key: KeyFrame, picture_b3hw: Tensor) -> Tensor:
        """The masks of key frames on other frames, ``float[B, Q, h, w]``, by the motion module.

        Args:
            key: of the same videos.
            picture_b3hw: the frames, of the size of the key frames.
        """
        assert self.motion is not None
        flow_bq2hw = self.motion(picture_b3hw, key.picture_b3hw, key.queries_bqc)
        return warp(key.masks_bqhw, flow_bq2hw, consistent=self.motion.config.consistent)

    @property
    def shares_flow(self) -> bool:
        """Whether there is a motion module, and its flow is one for all queries: maps can be carried by it."""
        return self.motion is not None and self.motion.decoder.shared

    def shared_flow(self, key: KeyFrame, picture_b3hw: Tensor) -> Tensor:
        """``float[B, 1, 2, h, w]``, the flow to key frames of a motion module that `shares_flow`."""
        assert self.motion is not None and self.shares_flow
        flow_b12hw: Tensor = self.motion(picture_b3hw, key.picture_b3hw, key.queries_bqc)
        return flow_b12hw

    def corrected(self, carried: Maps, unlike_b1hw: Tensor, pixels_b3hw: Tensor) -> Maps:
        """Maps that were carried, mended with what the backbone makes of the frame itself at half the size.

        Accel (Jain et al., CVPR 2019) has an update branch, too: a smaller network, fused by a learned convolution.
        Here it is the same backbone on a quarter of the pixels, and it counts where flow fails; nothing is trained.

        Args:
            carried: maps of key frames, moved by flow.
            unlike_b1hw: ``float[B, 1, h, w]``, 0 where flow explains the frame … 1 where it does not.
            pixels_b3hw: the frames, normalised and padded.
        """
        seen = self.maps(F.interpolate(pixels_b3hw, scale_factor=0.5, mode="bilinear", align_corners=False))
        mended = []
        for moved, own in zip(carried, seen, strict=True):
            size_hw = (moved.shape[2], moved.shape[3])
            share = F.adaptive_avg_pool2d(unlike_b1hw, size_hw)
            mended.append(moved.lerp(F.interpolate(own, size_hw, mode="bilinear", align_corners=False), share))
        return tuple(mended)


def motion_config(core: Mask2FormerForUniversalSegmentation, **sizes: object) -> MotionConfig:
    """The motion module for a core: as published but for what the core decides.

    Args:
        core: whose queries it gets.
        sizes: attributes of `MotionConfig` that are others.
    """
    own = {"dim": core.config.hidden_dim, "queries": core.config.num_queries, "heads": core.config.num_attention_heads}
    return MotionConfig(**{**own, **sizes})  # type: ignore[arg-type]


def save_mpvss(network: MpvssNetwork, folder: Path, *, short_side: int) -> None:
    """Write a network: the core as `transformers` takes it, and beside it the motion module.

    Args:
        network: with a motion module.
        folder: is made.
        short_side: of pictures that it is meant for.
    """
    assert network.motion is not None
    save_core(network.core.network, folder, short_side=short_side)
    save_motion(network.motion, folder)


def save_motion(motion: Motion, folder: Path) -> None:
    """Write a motion module by itself.

    Args:
        motion: of any kind.
        folder: is made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_part(folder, PART, motion.config, motion)


def read_motion(folder: Path) -> Motion | None:
    """The motion module of a folder, if it has one.

    Raises:
        InputError: it is damaged.
    """
    config = read_settings(folder, PART, MotionConfig)
    if config is None:
        return None
    motion = Motion(config)
    fill(motion, folder, PART)
    return motion


def read_mpvss(core: Mask2FormerForUniversalSegmentation, folder: Path) -> MpvssNetwork:
    """A network around a core that was read from a folder; without a motion module if that has none.

    Raises:
        InputError: what is added is damaged or of another network.
    """
    return MpvssNetwork(core, read_motion(folder)).eval().requires_grad_(False)
