"""Tiles: patterns of things and textures of stuff, made of integers alone, that repeat without a seam."""

from __future__ import annotations

from functools import cache
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .scene import Pattern
from .texture import fractal_noise, lattice_noise

SIDE = 64
"""Texels along each side of a tile."""

Tile: TypeAlias = NDArray[np.uint8]
_NAMES = (
    "grain", "plain",
    "stripes", "waves", "slants", "spots", "blots", "checks", "diamonds",
    "clouds", "ripples", "blades", "dunes", "cracks", "asphalt", "bricks", "leaves", "drifts",
)  # fmt: skip
TILE = MappingProxyType({name: number for number, name in enumerate(_NAMES)})
"""Row of each tile in `tiles`."""
TILES_OF_PATTERN: MappingProxyType[Pattern, tuple[int, ...]] = MappingProxyType(
    {
        "plain": (TILE["plain"],),
        "striped": (TILE["stripes"], TILE["waves"], TILE["slants"]),
        "spotted": (TILE["spots"], TILE["blots"]),
        "checked": (TILE["checks"], TILE["diamonds"]),
    }
)


@cache
def tiles() -> NDArray[np.uint8]:
    """All tiles, ``uint8[K, 64, 64]``, the same for every scene; read only."""
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.int32)
    drawn = {
        "grain": _levels(_noise(1, (16, 1), (8, 3), (4, 4), (2, 3)), 20, 235),
        "plain": np.zeros((SIDE, SIDE), np.uint8),
        "stripes": _where(x % 32 < 16),
        "waves": _where((x + _triangle(y, 32, 9)) % 32 < 15),
        "slants": _where((x + y) % 32 < 14),
        "spots": _where(_near_staggered(x, y, 32) < 10 * 10),
        "blots": _blots(x, y),
        "checks": _where((x // 16 + y // 16) % 2 == 0),
        "diamonds": _where(((x + y) // 16 + (x - y) // 16) % 2 == 0),
        "clouds": _levels(_noise(2, (32, 4), (16, 3), (8, 2)), -160, 300),
        "ripples": _levels(_noise(3, (16, 2), (8, 1)) + 5000 * _triangle(y * 4 + x % 64 // 2, 32, 4), -60, 300),
        "blades": _blades(),
        "dunes": _levels(_noise(4, (32, 2)) + 1800 * _triangle(x + 2 * y + _triangle(x, 64, 16), 32, 16), 0, 255),
        "cracks": _cracks(x, y),
        "asphalt": _levels(lattice_noise((SIDE, SIDE), 5).astype(np.int32) * 200 + _noise(6, (8, 1)), 0, 255),
        "bricks": _where((y % 16 < 2) | ((x + 16 * (y // 16 % 2)) % 32 < 2)),
        "leaves": _leaves(x, y),
        "drifts": _levels(_noise(7, (32, 3), (16, 1)), 0, 200),
    }
    stacked: NDArray[np.uint8] = np.stack([drawn[name] for name in _NAMES])
    stacked.setflags(write=False)
    return stacked


def _where(mask: NDArray[np.bool_]) -> Tile:
    return np.asarray(mask * 255, dtype=np.uint8)


def _noise(seed: int, *octaves: tuple[int, int]) -> NDArray[np.int32]:
    return fractal_noise((SIDE, SIDE), octaves, seed)


def _levels(values: NDArray[np.int32], low: int, high: int) -> Tile:
    """The least value becomes ``low`` and the greatest ``high``, cut at 0 and 255."""
    least, greatest = int(values.min()), int(values.max())
    scaled = low + (values.astype(np.int64) - least) * (high - low) // (greatest - least)
    return np.asarray(np.clip(scaled, 0, 255), dtype=np.uint8)


def _triangle(values: NDArray[np.int32], period: int, height: int) -> NDArray[np.int32]:
    """Up from 0 to ``height`` and down again."""
    half = period // 2
    return np.asarray((half - np.abs(values % period - half)) * height // half, dtype=np.int32)


def _near_staggered(x: NDArray[np.int32], y: NDArray[np.int32], step: int) -> NDArray[np.int32]:
    """Squared distance to the nearest point of a square grid, every other row shifted."""
    nearest = np.full(x.shape, 1 << 20, np.int32)
    for row in range(-1, SIDE // step + 1):
        across = (x + (row % 2) * step // 2) % step - step // 2
        down = y - row * step - step // 2
        np.minimum(nearest, across * across + down * down, out=nearest)
    return nearest


def _seeds(count: int, seed: int) -> list[tuple[int, int, int]]:
    """Places (x, y) on a jittered grid of ``count`` a side, and a third number from 0 to 255."""
    step = SIDE // count
    jitter = lattice_noise((count, count * 3), seed).astype(int).tolist()
    return [
        (step * column + jitter[row][3 * column] * step // 256, step * row + jitter[row][3 * column + 1] * step // 256,
         jitter[row][3 * column + 2])
        for row in range(count)
        for column in range(count)
    ]  # fmt: skip


def _from(x: NDArray[np.int32], y: NDArray[np.int32], place: tuple[int, int, int]) -> NDArray[np.int32]:
    """Squared distance to a place on the torus."""
    across, down = (x - place[0] + SIDE // 2) % SIDE - SIDE // 2, (y - place[1] + SIDE // 2) % SIDE - SIDE // 2
    return np.asarray(across * across + down * down, dtype=np.int32)


def _blots(x: NDArray[np.int32], y: NDArray[np.int32]) -> Tile:
    """Round blots of several sizes."""
    inside = np.zeros(x.shape, dtype=np.bool_)
    for place in _seeds(3, 11):
        radius = 5 + place[2] * 6 // 256
        inside |= _from(x, y, place) < radius * radius
    return _where(inside)


def _cracks(x: NDArray[np.int32], y: NDArray[np.int32]) -> Tile:
    """Stones: each a level of its own, dark where two meet."""
    places = _seeds(4, 12)
    away = np.stack([_from(x, y, place) for place in places])
    first, second = np.sort(away, axis=0)[:2]
    level = np.array([90 + place[2] * 160 // 256 for place in places])[away.argmin(0)]
    return np.where(second - first < 60, 0, level).astype(np.uint8)


def _leaves(x: NDArray[np.int32], y: NDArray[np.int32]) -> Tile:
    """Clumps of leaves, light above and dark below."""
    level = np.zeros(x.shape, np.int32)
    for place in _seeds(6, 13):
        radius = 6 + place[2] * 4 // 256
        down = (y - place[1] + SIDE // 2) % SIDE - SIDE // 2
        shade = np.clip(150 - down * 14 + (place[2] - 128) // 3, 20, 255)
        level = np.where(_from(x, y, place) < radius * radius, shade, level)
    return level.astype(np.uint8)


def _blades() -> Tile:
    """Upright strokes of grass."""
    noise = lattice_noise((SIDE, SIDE), 14).astype(np.int32)
    level = np.zeros((SIDE, SIDE), np.int32)
    for row, column in zip(*np.nonzero(noise > 225), strict=True):
        for step in range(9):
            lean = (int(noise[row, column]) % 3 - 1) * step // 4
            y, x = (int(row) - step) % SIDE, (int(column) + lean) % SIDE
            level[y, x] = max(int(level[y, x]), 90 + step * 20)
    return level.astype(np.uint8)
