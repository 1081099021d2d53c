"""Small networks with random weights, and clips for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from maskstream.systems.tarvis.network import TarViSConfig, TarViSNetwork

from ...mask2former.networks import small_network

CHANNELS, INSTANCES = 32, 12
SPACES = {"shapes": 3, "colours": 5}


def small_tarvis(seed: int = 0, **config: Any) -> TarViSNetwork:
    """Of 3 layers, for evaluation."""
    core = small_network(seed, layers=3)
    wanted: dict[str, Any] = {
        "label_spaces": tuple(SPACES),
        "classes": tuple(SPACES.values()),
        "object_queries": 2,
        "object_layers": 2,
        "object_hidden": 48,
        "neck_hidden": 48,
    }
    network = TarViSNetwork(core, TarViSConfig(**wanted | config))
    network.train(False)
    return network


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pixels(batch: int = 1, frames: int = 2, size_hw: tuple[int, int] = (64, 128), seed: int = 1) -> Tensor:
    return drawn(batch, frames, 3, *size_hw, seed=seed)


def maps(batch: int, frames: int, size_hw: tuple[int, int] = (64, 128), seed: int = 1) -> list[Tensor]:
    """As the backbone of a small network makes them, at strides 4, 8, 16 and 32; frames of a clip side by side."""
    height, width = size_hw
    return [
        drawn(batch * frames, channels, height // stride, width // stride, seed=seed + n)
        for n, (channels, stride) in enumerate(((8, 4), (16, 8), (24, 16), (32, 32)))
    ]
