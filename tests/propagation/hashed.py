"""Numbers made from names: the same weights and inputs on every machine and in every version of every library.

The value at position i of a tensor is a hash of the tensor's name and i. No generator, whose sequence might change.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

GAIN = 1.2
"""Of a layer: variance of what comes out, per variance of what comes in. Chosen so that logits are not saturated."""


def hashed(name: str, shape: tuple[int, ...], low: float = -1, high: float = 1) -> Tensor:
    """``float32[shape]``, evenly spread in [low, high): a finaliser of 32 bits (lowbias32) over name and position."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
    x = np.arange(math.prod(shape), dtype=np.uint32)
    x *= np.uint32(0x9E3779B9)
    x += np.uint32(seed)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x ^= x >> np.uint32(shift)
        x *= np.uint32(factor)
    x ^= x >> np.uint32(16)
    x >>= np.uint32(8)  # 24 bits fit a float32
    values = x.astype(np.float32)
    values *= np.float32((high - low) / 2**24)
    values += np.float32(low)
    return torch.from_numpy(values.reshape(shape))


def hashed_weights(shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """A state dict: every tensor by its name, so scaled that activations stay near 1 through the whole network."""
    return {name: _weight(name, tuple(shape)) for name, shape in shapes.items()}


def _weight(name: str, shape: tuple[int, ...]) -> Tensor:
    part = name.rsplit(".", 1)[-1]
    if part == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    if part == "running_var":
        return hashed(name, shape, 0.75, 1.25)
    if part in ("running_mean", "bias"):
        return hashed(name, shape, -0.1, 0.1)
    if len(shape) == 1:  # of a normalisation
        return hashed(name, shape, 0.5, 1)
    bound = math.sqrt(3 * GAIN / math.prod(shape[1:]))
    return hashed(name, shape, -bound, bound)
