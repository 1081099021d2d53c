"""Interactive segmentation, learned: clicks, boxes, scribbles and the mask so far, to a mask.

    picture, hints ─► GrabCut ─► cut, the mask so far where there is none ─┐
    picture, clicks on the object, clicks off it, box, mask so far ────────┴─► U-Net ─► probability ─► mask

A small network knows what belongs to an object once that is roughly marked, but cannot guess from one click how far the
object reaches; GrabCut, which follows colours, can. So the network mends the first cut of GrabCut. After that, both
answer every further hint, and the network must be sure where it contradicts the cut.

Earlier masks as input and training by the network's own mistakes are those of RITM (Sofiiuk et al., "Reviving Iterative
Training with Mask Guidance for Interactive Segmentation", ICIP 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch

from maskstream.types import ObjectPrompt

from .grabcut import grab_cut
from .prompted import BoolMask, ByteArray, FloatArray, Hints, PromptedFeatures, PromptedSegmenter, hints_of
from .unet import UNet, filled, read_config, save_folder

CHANNELS = 7
SCHEMA = "maskstream/click-network"
_DISC = 7
"""Pixels across that are added to a dot."""
_SURE = 0.85
"""Probability at which the network is believed against GrabCut; the mean of it and of a cut that is as sure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClickConfig:
    """Widths.

    Attributes:
        widths: channels at strides 2, 4, 8, 16 and 32.
    """

    widths: tuple[int, ...] = (32, 48, 96, 160, 192)


class ClickNetwork(UNet):
    """The network; see the module. It takes what `click_inputs` gives.

    Args:
        config: widths.
    """

    def __init__(self, config: ClickConfig) -> None:
        super().__init__(CHANNELS, config.widths)
        self.config = config


def click_inputs(image_hw3: ByteArray, hints: Hints) -> FloatArray:
    """What the network sees.

    Args:
        image_hw3: ``uint8[h, w, 3]``, RGB.
        hints: at its size.

    Returns:
        ``float32[CHANNELS, h, w]``.
    """
    out = np.zeros((CHANNELS, *image_hw3.shape[:2]), np.float32)
    out[:3] = (image_hw3.astype(np.float32) / 128 - 1).transpose(2, 0, 1)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_DISC, _DISC))
    out[3], out[4] = (cv2.dilate(dots.astype(np.uint8), disc) for dots in (hints.object, hints.background))
    for channel, mask in ((5, hints.mask), (6, hints.box)):
        if mask is not None:
            out[channel] = mask
    return out


@torch.inference_mode()
def clicked_mask(network: ClickNetwork, image_hw3: ByteArray, hints: Hints) -> BoolMask:
    """What the network and GrabCut find together; see the module.

    Args:
        network: in evaluation mode, on any device.
        image_hw3: ``uint8[h, w, 3]``, RGB.
        hints: at its size, of one object.

    Returns:
        ``bool[h, w]``.
    """
    cut = grab_cut(image_hw3, hints)
    begins = hints.mask is None
    inputs = torch.from_numpy(click_inputs(image_hw3, replace(hints, mask=cut) if begins else hints))
    logits_bhw = network(inputs[None].to(next(network.parameters()).device))
    probability = torch.sigmoid(logits_bhw)[0].cpu().numpy()
    found: BoolMask = probability > (0.5 if begins else np.where(cut, 1 - _SURE, _SURE))
    return (found | hints.object) & ~hints.background


class ClickSegmenter(PromptedSegmenter):
    """An `ImageSegmenter` for prompts, by a network and GrabCut.

    Args:
        network: on the CPU.
        size: short side of the working resolution in pixels; smaller pictures are not enlarged. By default that of the
            pictures it is trained on: what is larger than all it has seen, it finds less well.
    """

    def __init__(self, network: ClickNetwork, *, size: int = 160) -> None:
        super().__init__(size=size)
        self.network = network.eval()

    def _segment(self, features: PromptedFeatures, prompts: Sequence[ObjectPrompt]) -> BoolMask:
        return clicked_mask(self.network, features.image_hwc.numpy(), hints_of(features, prompts))


def save_click_network(network: ClickNetwork, folder: Path) -> None:
    """Write ``config.json`` and ``model.safetensors``; the same network gives the same bytes."""
    save_folder(network, asdict(network.config), folder, schema=SCHEMA)


def load_click_network(folder: Path) -> ClickNetwork:
    """Load what `save_click_network` wrote, for evaluation.

    Raises:
        InputError: a file is missing or damaged.
    """
    return filled(ClickNetwork(read_config(folder, ClickConfig, schema=SCHEMA)), folder)
