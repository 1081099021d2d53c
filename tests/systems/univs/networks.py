"""Small networks with random weights, and clips for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from maskstream.mask2former.network import ClipFeatures
from maskstream.mask2former.positions import position_codes
from maskstream.systems.univs.network import ClipMaps, UniVSConfig, UniVSNetwork

from ...mask2former.networks import small_network

CHANNELS, LEARNABLE, TEXT = 32, 12, 20
SIZES = ((1, 2), (2, 4), (4, 8))


def small_univs(seed: int = 0, **config: Any) -> UniVSNetwork:
    """Of 3 layers, for evaluation."""
    core = small_network(seed, layers=3)
    network = UniVSNetwork(core, UniVSConfig(text_dim=TEXT, **config))
    with torch.no_grad():  # as they come, all kinds are nearly the same, and biases are zero
        for parameter in network.prompting.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    network.train(False)
    return network


def clip_features(frames: int, seed: int = 0) -> ClipFeatures:
    """Of frames of 32 × 64 pixels."""
    generator = torch.Generator().manual_seed(seed)
    levels = tuple(torch.randn(1, frames, CHANNELS, *size_hw, generator=generator) for size_hw in SIZES)
    return ClipFeatures(levels, torch.randn(1, frames, CHANNELS, 8, 16, generator=generator))


def without_time(maps: ClipMaps) -> ClipMaps:
    """Places that do not say when they are, as in Mask2Former."""
    levels = []
    for level in maps.levels:
        code_tchw = position_codes(level.size_thw[1:], CHANNELS)
        levels.append(replace(level, code_bkc=code_tchw.flatten(2).transpose(1, 2)))
    return replace(maps, levels=tuple(levels))
