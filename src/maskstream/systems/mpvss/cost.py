"""What frames cost, in multiply-adds (specification §6; Table 1 of the paper calls them FLOPs)."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from maskstream.mask2former.network import STRIDE
from maskstream.mask2former.postprocess import class_values

from .network import KeyFrame, MpvssNetwork
from .session import Carrying, unexplained
from .warp import warp

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
def cost(network: MpvssNetwork, size_hw: tuple[int, int], *, carrying: Carrying | None = None) -> Cost:
    """Count the multiply-adds of a network, without computing anything: of convolutions, products, and sampling.

    Classes of pixels are counted at the size the network sees; what brings them to that of the source is not. Optical
    flow without weights is no network, and costs nothing here.

    Args:
        network: of any kind.
        size_hw: of pictures, as the network sees them.
        carrying: how masks get to frames between key frames; None: by the motion module, or, without, as copies.
    """
    how = carrying or ("copy" if network.motion is None else "motion")
    shape_only = copy.deepcopy(network).to("meta").eval().requires_grad_(False)
    picture_13hw = torch.empty((1, 3, *size_hw), device="meta")
    bottom, right = (-side % STRIDE for side in size_hw)
    pixels_13hw = torch.nn.functional.pad(picture_13hw, (0, right, 0, bottom))

    with sdpa_kernel(SDPBackend.MATH):  # the fused kernel is not counted
        with _counter() as counter:
            maps = shape_only.maps(pixels_13hw)
            key = shape_only.answered(maps, picture_13hw)
            _classes(key.classes_bqc, key.masks_bqhw)
        of_key = counter.get_total_flops() / 2
        with _counter() as counter:
            if how in ("dff", "accel"):
                shared = shape_only.shares_flow
                flow_112hw = shape_only.shared_flow(key, picture_13hw) if shared else _optical_flow(key)
                moved = tuple(warp(map_bchw, flow_112hw) for map_bchw in maps)
                if how == "accel":
                    unlike_11hw = unexplained(picture_13hw, key.picture_b3hw, flow_112hw)
                    moved = shape_only.corrected(moved, unlike_11hw, pixels_13hw)
                found = shape_only.answered(moved, picture_13hw)
                _classes(found.classes_bqc, found.masks_bqhw)
            else:
                learned = how != "flow" and network.motion is not None
                for _ in range(2 if how == "bidirectional" else 1):
                    masks_bqhw = key.masks_bqhw
                    if how != "copy":
                        moves = shape_only.carried(key, picture_13hw) if learned else None
                        masks_bqhw = warp(masks_bqhw, _optical_flow(key)) if moves is None else moves
                    _classes(key.classes_bqc, masks_bqhw)
    return Cost(of_key, counter.get_total_flops() / 2)


def _classes(classes_1qc: Tensor, masks_1qhw: Tensor) -> None:
    class_values(classes_1qc[0], masks_1qhw[0], (4 * masks_1qhw.shape[2], 4 * masks_1qhw.shape[3]))


def _optical_flow(key: KeyFrame) -> Tensor:
    """Of the shape that `session.pixel_flow` gives."""
    return key.masks_bqhw.new_empty((1, 1, 2, *key.masks_bqhw.shape[2:]))


def _counter() -> FlopCounterMode:
    """Counts two operations for a multiply-add."""
    aten = torch.ops.aten
    sampled = [aten.upsample_bilinear2d, aten.grid_sampler_2d]
    return FlopCounterMode(display=False, custom_mapping=dict.fromkeys(sampled, _sampled))


def _sampled(*_: object, out_shape: tuple[int, ...], **__: object) -> int:
    return 2 * _CORNERS * prod(out_shape)
