"""What frames cost, in multiply-adds (specification §6; Table 1 of the paper calls them FLOPs)."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from math import prod

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from maskstream.mask2former.network import STRIDE
from maskstream.mask2former.postprocess import class_values

from .network import MpvssNetwork

_CORNERS = 4
"""That a bilinear sample is made of."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a frame.

    Attributes:
        key: multiply-adds of a key frame.
        between: of a frame to which masks are carried.
    """

    key: float
    between: float

    def average(self, interval: int) -> float:
        """Of a frame, with a key frame every so many."""
        return (self.key + (interval - 1) * self.between) / interval


@torch.no_grad()
def cost(network: MpvssNetwork, size_hw: tuple[int, int]) -> Cost:
    """Count the multiply-adds of a network, without computing anything: of convolutions, products, and sampling.

    Classes of pixels are counted at the size the network sees; what brings them to that of the source is not.

    Args:
        network: with a motion module; without, masks cost nothing to carry.
        size_hw: of pictures, as the network sees them.
    """
    shape_only = copy.deepcopy(network).to("meta").eval().requires_grad_(False)
    picture_13hw = torch.empty((1, 3, *size_hw), device="meta")
    bottom, right = (-side % STRIDE for side in size_hw)
    pixels_13hw = torch.nn.functional.pad(picture_13hw, (0, right, 0, bottom))
    padded_hw = (pixels_13hw.shape[2], pixels_13hw.shape[3])

    with sdpa_kernel(SDPBackend.MATH):  # the fused kernel is not counted
        with _counter() as counter:
            key = shape_only.key_frame(pixels_13hw, picture_13hw)
            class_values(key.classes_bqc[0], key.masks_bqhw[0], padded_hw)
        of_key = counter.get_total_flops() / 2
        with _counter() as counter:
            masks_bqhw = key.masks_bqhw if network.motion is None else shape_only.carried(key, picture_13hw)
            class_values(key.classes_bqc[0], masks_bqhw[0], padded_hw)
    return Cost(of_key, counter.get_total_flops() / 2)


def _counter() -> FlopCounterMode:
    """Counts two operations for a multiply-add."""
    aten = torch.ops.aten
    sampled = [aten.upsample_bilinear2d, aten.grid_sampler_2d]
    return FlopCounterMode(display=False, custom_mapping=dict.fromkeys(sampled, _sampled))


def _sampled(*_: object, out_shape: tuple[int, ...], **__: object) -> int:
    return 2 * _CORNERS * prod(out_shape)
