"""Textures made of integers alone: the same bytes on every machine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def lattice_noise(size_hw: tuple[int, int], seed: int) -> NDArray[np.uint8]:
    """White noise, ``uint8[H, W]``: a hash of row, column and seed (multiply, xor and shift, modulo 2^32)."""
    rows = np.arange(size_hw[0], dtype=np.uint32)[:, None] * np.uint32(0x9E3779B1)
    columns = np.arange(size_hw[1], dtype=np.uint32)[None] * np.uint32(0x85EBCA77)
    mixed = rows + columns + np.uint32((seed * 0xC2B2AE3D + 1) & 0xFFFFFFFF)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        mixed = (mixed ^ (mixed >> np.uint32(shift))) * np.uint32(factor)
    noise: NDArray[np.uint8] = (mixed >> np.uint32(24)).astype(np.uint8)
    return noise


def value_noise(size_hw: tuple[int, int], cell: int, seed: int) -> NDArray[np.int32]:
    """Smooth noise of one scale, from 0 to 255 × 256, that repeats without a seam.

    Random values on a lattice, joined by Perlin's cubic ``3t² − 2t³``.

    Args:
        size_hw: height and width, multiples of ``cell``.
        cell: distance of the lattice points in pixels.
        seed: which noise.
    """
    coarse = lattice_noise((size_hw[0] // cell, size_hw[1] // cell), seed).astype(np.int32) << 8
    step = np.arange(cell, dtype=np.int32)
    weight = (3 * step * step * cell - 2 * step**3) * 256 // cell**3
    for axis in (0, 1):
        following = np.roll(coarse, -1, axis)
        shape = (-1, 1) if axis == 0 else (-1,)
        start, change = np.expand_dims(coarse, axis + 1), np.expand_dims(following - coarse, axis + 1)
        fine = start + (change * weight.reshape(shape) >> 8)
        sides = list(coarse.shape)
        sides[axis] *= cell
        coarse = fine.reshape(sides)
    return coarse


def fractal_noise(size_hw: tuple[int, int], octaves: Sequence[tuple[int, int]], seed: int) -> NDArray[np.int32]:
    """Sum of noises of several scales, from 0 to 255 × 256, that repeats without a seam.

    Args:
        size_hw: height and width, multiples of every cell.
        octaves: (cell in pixels, weight) of each.
        seed: which noise.
    """
    total = np.zeros(size_hw, dtype=np.int32)
    for number, (cell, weight) in enumerate(octaves):
        total += value_noise(size_hw, cell, seed * 31 + number) * weight
    return total // sum(weight for _, weight in octaves)
