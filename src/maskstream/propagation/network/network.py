"""The temporal propagation network of DEVA, and of XMem, from which it comes.

DEVA: Cheng et al., "Tracking Anything with Decoupled Video Segmentation", ICCV 2023, appendix A. XMem: Cheng & Schwing,
ECCV 2022.

    image [b, 3, H, W] ─► encode_image ─► ImageFeatures ─► key, shrinkage, selection ─┐
                                               │                                      ▼
    masks [b, n, H, W] ─► encode_masks ◄───────┤               value ─────────────► memory, which is not in here
                            │     ▲            │         [b, n, Cv, h, w]             │
                            ▼     │            ▼                                      ▼
                          sensory │         decode ◄──────────────────────────── readout [b, n, Cv, h, w]
                [b, n, Ch, h, w]  │         │    │
                                  └─ sensory┘    └─► logits [b, n, H/4, W/4] ─► probabilities [b, 1 + n, H, W]

h and w are H / 16 and W / 16. Images are normalised, and padded to multiples of 16, by the caller. Objects are a batch
axis: nothing in here loops over them, except in groups of ``chunk`` where that is asked for. Nothing is remembered
between calls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .backbones import RESNET18, RESNET50, BackboneConfig, fold_normalisation_
from .decoder import MaskDecoder
from .key_encoder import KeyHead, PixelEncoder
from .mask_encoder import MaskEncoder

STRIDE = 16
"""Of keys, values and sensory memory. Heights and widths of images are multiples of it."""

EPSILON = 1e-7
"""Probabilities are kept so far from 0 and 1 before their log-odds are taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """Widths, and where XMem differs. Defaults are DEVA's, as published.

    Attributes:
        image_backbone: of the pixel encoder.
        mask_backbone: of the mask encoder.
        pixel_dim: channels to which the deepest feature of the image is projected; None: used as it is (XMem).
        key_dim: channels of keys and selection.
        value_dim: channels of values and of what is read from memory.
        sensory_dim: channels of sensory memory.
        decoder_dims: channels of the decoder at strides 16, 8 and 4.
        update_dim: channels to which the decoder's scales are projected for the sensory update.
        skip_kernel: of the convolutions of f8 and f4: 1, or 3 (XMem).
        shortcut_kernel: of residual blocks whose width changes: 1, or 3 (XMem).
        compress_sensory: add sensory memory and the last mask, compressed, to the read-out; otherwise sensory memory is
            joined to it, and the last mask not seen (XMem).
        other_masks: show the mask encoder the sum of the other masks (XMem).
        auxiliary: have the head of the auxiliary loss.
        upsample_first: aggregate at full resolution (XMem), not at stride 4.
        one_update: weights were trained with either the decoder's sensory update or the deep one on a frame (XMem); not
            with the deep one after the decoder's. It is the caller who follows this.
        guide_dim: channels of what the decoder makes of a guide of flow and colour (`maskstream.propagation.guide`);
            0: there is none, as published.
    """

    image_backbone: BackboneConfig = RESNET50
    mask_backbone: BackboneConfig = RESNET18
    pixel_dim: int | None = 512
    key_dim: int = 64
    value_dim: int = 512
    sensory_dim: int = 512
    decoder_dims: tuple[int, int, int] = (512, 256, 256)
    update_dim: int = 512
    skip_kernel: int = 1
    shortcut_kernel: int = 1
    compress_sensory: bool = True
    other_masks: bool = False
    auxiliary: bool = True
    upsample_first: bool = False
    one_update: bool = False
    guide_dim: int = 0

    @classmethod
    def deva(cls) -> NetworkConfig:
        """DEVA as published: 69,155,657 parameters."""
        return cls()

    @classmethod
    def xmem(cls) -> NetworkConfig:
        """XMem as published: 62,185,224 parameters."""
        return cls(
            pixel_dim=None,
            sensory_dim=64,
            update_dim=256,
            skip_kernel=3,
            shortcut_kernel=3,
            compress_sensory=False,
            other_masks=True,
            auxiliary=False,
            upsample_first=True,
            one_update=True,
        )

    @classmethod
    def small(cls) -> NetworkConfig:
        """DEVA in small, for processors without an accelerator."""
        return cls(
            image_backbone=BackboneConfig(stem=32, widths=(48, 96, 192), depths=(2, 2, 3)),
            mask_backbone=BackboneConfig(stem=32, widths=(32, 64, 128), depths=(1, 2, 2)),
            pixel_dim=128,
            value_dim=128,
            sensory_dim=128,
            decoder_dims=(128, 64, 48),
            update_dim=128,
            guide_dim=48,
        )

    @property
    def image_dims(self) -> tuple[int, int, int]:
        """Channels of f16, f8 and f4."""
        f4_dim, f8_dim, deepest = self.image_backbone.out_dims
        return self.pixel_dim or deepest, f8_dim, f4_dim


@dataclass(frozen=True, slots=True, eq=False)
class ImageFeatures:
    """What is known of a frame whatever its objects.

    Attributes:
        f16_bchw: ``[b, Cp, h, w]``, stride 16, for the mask encoder and the decoder.
        f8_bchw: ``[b, C, H/8, W/8]``, ready to be added in the decoder.
        f4_bchw: ``[b, C, H/4, W/4]``, ready to be added in the decoder.
        key_bchw: ``[b, Ck, h, w]``.
        shrinkage_b1hw: ``float32[b, 1, h, w]``, at least 1.
        selection_bchw: ``[b, Ck, h, w]`` in (0, 1).
    """

    f16_bchw: Tensor
    f8_bchw: Tensor
    f4_bchw: Tensor
    key_bchw: Tensor
    shrinkage_b1hw: Tensor
    selection_bchw: Tensor


class PropagationNetwork(nn.Module):
    """The network without its memory: tensors in, tensors out.

    The published networks are trained with frozen normalisation: call ``eval()`` for training too.

    Args:
        config: widths and habits.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.folded = False
        f16_dim = config.image_dims[0]
        self.pixel_encoder = PixelEncoder(config.image_backbone, config.pixel_dim)
        self.mask_encoder = MaskEncoder(
            config.mask_backbone,
            image_dim=f16_dim,
            value_dim=config.value_dim,
            sensory_dim=config.sensory_dim,
            other_masks=config.other_masks,
            shortcut_kernel=config.shortcut_kernel,
        )
        self.key_proj = KeyHead(f16_dim, config.key_dim)
        self.mask_decoder = MaskDecoder(
            config.image_dims,
            value_dim=config.value_dim,
            sensory_dim=config.sensory_dim,
            dims=config.decoder_dims,
            update_dim=config.update_dim,
            compress_sensory=config.compress_sensory,
            auxiliary=config.auxiliary,
            skip_kernel=config.skip_kernel,
            shortcut_kernel=config.shortcut_kernel,
            guide_dim=config.guide_dim,
        )

    def fold_normalisation_(self) -> PropagationNetwork:
        """Make inference faster, in place: normalisations become part of the convolutions before them.

        Results stay the same but for rounding. What is folded cannot be trained, or saved.
        """
        fold_normalisation_(self.eval())
        self.folded = True
        return self

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights; what comes in is converted to it."""
        return self.key_proj.key_proj.weight.dtype

    def encode_image(self, image_b3hw: Tensor) -> ImageFeatures:
        """Features and keys of frames, once for all objects.

        Args:
            image_b3hw: ``float[b, 3, H, W]``, normalised; H and W are multiples of 16.

        Raises:
            ValueError: if they are not.
        """
        _check_size(image_b3hw)
        f16, f8, f4, key_feature = self.pixel_encoder(image_b3hw.to(self.dtype))
        return ImageFeatures(f16, *self.mask_decoder.skips(f8, f4), *self.key_proj(key_feature))

    def encode_masks(
        self,
        image_b3hw: Tensor,
        features: ImageFeatures,
        masks_bnhw: Tensor,
        sensory_bnchw: Tensor,
        *,
        deep_update: bool,
        chunk: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """What to remember of the objects on a frame.

        Args:
            image_b3hw: ``float[b, 3, H, W]``, as for `encode_image`.
            features: of the same image.
            masks_bnhw: ``float[b, n, H, W]`` in [0, 1].
            sensory_bnchw: ``float[b, n, Ch, h, w]``.
            deep_update: whether sensory memory is updated from the values; otherwise it comes back as it was.
            chunk: objects at a time, to bound memory; None for all.

        Returns:
            Values ``[b, n, Cv, h, w]`` and sensory memory ``[b, n, Ch, h, w]``.

        Raises:
            ValueError: if sizes or numbers of objects differ.
        """
        _check_size(image_b3hw)
        _check_objects(masks_bnhw, sensory_bnchw)
        if masks_bnhw.shape[-2:] != image_b3hw.shape[-2:]:
            raise ValueError(f"masks are {_size(masks_bnhw)} but the image is {_size(image_b3hw)}")
        if not masks_bnhw.shape[1]:
            return _no_values(features.f16_bchw, self.config.value_dim), sensory_bnchw
        encoder, image = self.mask_encoder, image_b3hw.to(self.dtype)

        def encode(inputs: Tensor, sensory: Tensor) -> tuple[Tensor, Tensor]:
            value, sensory = encoder(image, features.f16_bchw, inputs, sensory, deep_update=deep_update)
            return value, sensory

        return _in_chunks(encode, chunk, encoder.inputs(masks_bnhw.to(self.dtype)), sensory_bnchw)

    def decode(
        self,
        features: ImageFeatures,
        readout_bnchw: Tensor,
        sensory_bnchw: Tensor,
        last_masks_bnhw: Tensor,
        *,
        update_sensory: bool,
        guide_bnchw: Tensor | None = None,
        chunk: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Segment objects on a frame.

        Args:
            features: of the frame.
            readout_bnchw: ``float[b, n, Cv, h, w]``, from memory.
            sensory_bnchw: ``float[b, n, Ch, h, w]``.
            last_masks_bnhw: ``float[b, n, H, W]``, soft or hard masks of the frame before.
            update_sensory: whether sensory memory moves on; otherwise it comes back as it was.
            guide_bnchw: ``float32[b, n, CHANNELS, H, W]``, for networks with a guide, and only for them.
            chunk: objects at a time, to bound memory; None for all.

        Returns:
            Logits ``float32[b, n, H/4, W/4]`` and sensory memory ``[b, n, Ch, h, w]``.

        Raises:
            ValueError: if sizes or numbers of objects differ, or a guide is missing or superfluous.
        """
        _check_objects(readout_bnchw, sensory_bnchw, last_masks_bnhw)
        if (guide_bnchw is not None) != (self.config.guide_dim > 0):
            raise ValueError(f"guide_dim is {self.config.guide_dim}: give a guide to networks that have one, and only")
        size = (STRIDE * readout_bnchw.shape[-2], STRIDE * readout_bnchw.shape[-1])
        if last_masks_bnhw.shape[-2:] != size:
            raise ValueError(f"last masks are {_size(last_masks_bnhw)}; this read-out needs {size[0]}×{size[1]}")
        if not readout_bnchw.shape[1]:
            height, width = features.f4_bchw.shape[-2:]
            return readout_bnchw.new_zeros(readout_bnchw.shape[0], 0, height, width).float(), sensory_bnchw
        image = (features.f16_bchw, features.f8_bchw, features.f4_bchw)
        last = F.avg_pool2d(last_masks_bnhw.float(), STRIDE)

        def segment(readout: Tensor, sensory: Tensor, last: Tensor, *guide: Tensor) -> tuple[Tensor, Tensor]:
            logits, sensory = self.mask_decoder(image, readout, sensory, last, *guide, update_sensory=update_sensory)
            return logits, sensory

        guide = () if guide_bnchw is None else (guide_bnchw.to(self.dtype),)
        return _in_chunks(segment, chunk, readout_bnchw.to(self.dtype), sensory_bnchw, last, *guide)

    def auxiliary(self, features: ImageFeatures, sensory_bnchw: Tensor) -> Tensor:
        """Segment from sensory memory alone, for the auxiliary loss.

        Args:
            features: of the frame.
            sensory_bnchw: ``float[b, n, Ch, h, w]``, before `decode` updates it.

        Returns:
            Logits ``[b, n, h, w]`` at stride 16, for `log_odds` with ``stride=16``.

        Raises:
            ValueError: if the network has no such head.
        """
        head = self.mask_decoder.sensory_linear_pred
        if head is None:
            raise ValueError("this network has no auxiliary head: configure it with auxiliary=True")
        logits: Tensor = head(features.f16_bchw, sensory_bnchw.to(self.dtype))
        return logits

    def log_odds(self, logits_bnhw: Tensor, selector_bn: Tensor | None = None, *, stride: int = 4) -> Tensor:
        """Log-odds of background and objects at full resolution.

        Args:
            logits_bnhw: ``[b, n, H/stride, W/stride]``.
            selector_bn: ``[b, n]``, 0 where an object is padding; for training.
            stride: of the logits.

        Returns:
            ``float32[b, 1 + n, H, W]``, background first; their softmax is what `probabilities` gives.
        """
        logits = logits_bnhw.float()
        if self.config.upsample_first:
            logits = _upsample(logits, stride)
        probabilities = torch.sigmoid(logits)
        if selector_bn is not None:
            probabilities = probabilities * selector_bn[..., None, None]
        odds = aggregate(probabilities)
        return odds if self.config.upsample_first else _upsample(odds, stride)

    def probabilities(self, logits_bnhw: Tensor, selector_bn: Tensor | None = None, *, stride: int = 4) -> Tensor:
        """Probabilities of background and objects at full resolution: the softmax of `log_odds`.

        Returns:
            ``float32[b, 1 + n, H, W]``, background first; they add up to one.
        """
        return torch.softmax(self.log_odds(logits_bnhw, selector_bn, stride=stride), dim=1)


def aggregate(probabilities_bnhw: Tensor) -> Tensor:
    """Soft aggregation (Oh et al., ICCV 2019, "Space-time memory networks", eq. 5), in float32.

    Objects know nothing of each other; their background is what none of them is. The softmax of the result are
    probabilities that add up to one.

    Args:
        probabilities_bnhw: ``[b, n, h, w]`` in [0, 1].

    Returns:
        Log-odds ``float32[b, 1 + n, h, w]``, background first.
    """
    with torch.autocast(probabilities_bnhw.device.type, enabled=False):
        objects = probabilities_bnhw.float()
        background = (1 - objects).prod(dim=1, keepdim=True)
        return torch.logit(torch.cat([background, objects], dim=1), eps=EPSILON)


def _upsample(x_bnhw: Tensor, factor: int) -> Tensor:
    if not x_bnhw.shape[1]:
        return x_bnhw.new_zeros(*x_bnhw.shape[:2], factor * x_bnhw.shape[2], factor * x_bnhw.shape[3])
    return F.interpolate(x_bnhw, scale_factor=factor, mode="bilinear", align_corners=False)


def _in_chunks(
    work: Callable[..., tuple[Tensor, Tensor]], chunk: int | None, *objects_bn: Tensor
) -> tuple[Tensor, Tensor]:
    """Apply ``work`` to groups of at most ``chunk`` objects, and join what it returns."""
    if chunk is None or chunk >= objects_bn[0].shape[1]:
        return work(*objects_bn)
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}: at least one object at a time, or None for all")
    groups = zip(*(torch.split(x, chunk, dim=1) for x in objects_bn), strict=True)
    first, second = zip(*(work(*group) for group in groups), strict=True)
    return torch.cat(first, dim=1), torch.cat(second, dim=1)


def _no_values(f16_bchw: Tensor, value_dim: int) -> Tensor:
    batch, _, height, width = f16_bchw.shape
    return f16_bchw.new_zeros(batch, 0, value_dim, height, width)


def _size(x: Tensor) -> str:
    return f"{x.shape[-2]}×{x.shape[-1]}"


def _check_size(image_b3hw: Tensor) -> None:
    height, width = image_b3hw.shape[-2:]
    if height % STRIDE or width % STRIDE:
        raise ValueError(f"the image is {height}×{width}: pad both to multiples of {STRIDE}")


def _check_objects(*objects_bn: Tensor) -> None:
    if len({x.shape[:2] for x in objects_bn}) > 1:
        counts = ", ".join(f"{x.shape[0]}×{x.shape[1]}" for x in objects_bn)
        raise ValueError(f"batch × objects differ between masks, read-out and sensory memory: {counts}")
