"""Chance and geometry that come out the same on every machine.

Chance is splitmix64 in Python integers. Geometry is additions, multiplications, divisions and square roots of float64,
one operation at a time: IEEE 754 defines those to the last bit. Sines are rounded to 1/4096, because math libraries
differ in the last bit and never by this much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

Scalar: TypeAlias = float | NDArray[np.float64]
"""A number that stays, or ``float64[T]``, one for each frame."""
Point: TypeAlias = tuple[Scalar, Scalar]
_T = TypeVar("_T")
_MASK = 0xFFFFFFFFFFFFFFFF


class Draw:
    """A stream of chance: splitmix64 (Steele, Lea and Flood, 2014).

    >>> Draw(7).integer(1, 6) == Draw(7).integer(1, 6)
    True
    """

    def __init__(self, *key: int) -> None:
        """Start the stream of a key; other keys give unrelated streams."""
        self._state = 0
        for part in key:
            self._state = _mix(self._state ^ (part & _MASK)) + 1

    def integer(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        return low + _mix(self._state) % (high - low + 1)

    def between(self, low: float, high: float) -> float:
        """A number from ``low`` to ``high`` in 65536 steps."""
        return low + (high - low) * (self.integer(0, 65536) / 65536)

    def chance(self, percent: int) -> bool:
        """Whether something of so many percent happens."""
        return self.integer(0, 99) < percent

    def sign(self) -> int:
        """-1 or 1."""
        return 2 * self.integer(0, 1) - 1

    def choice(self, options: Sequence[_T]) -> _T:
        """One of them."""
        return options[self.integer(0, len(options) - 1)]

    def shuffled(self, items: Sequence[_T]) -> list[_T]:
        """All of them in another order (Fisher and Yates)."""
        order = list(items)
        for last in range(len(order) - 1, 0, -1):
            other = self.integer(0, last)
            order[last], order[other] = order[other], order[last]
        return order


def _mix(value: int) -> int:
    value &= _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def wave(turns: Scalar) -> Scalar:
    """Sine of so many whole turns, rounded to 1/4096."""
    if isinstance(turns, np.ndarray):
        return np.asarray(np.rint(np.sin(2 * np.pi * (turns % 1)) * 4096) / 4096)
    return round(math.sin(2 * math.pi * (turns % 1)) * 4096) / 4096


def length(x: Scalar, y: Scalar) -> Scalar:
    """Of a vector."""
    squared = x * x + y * y
    return np.asarray(np.sqrt(squared)) if isinstance(squared, np.ndarray) else math.sqrt(squared)


class Affine(NamedTuple):
    """A map of the plane: (u, v) to (xu u + xv v + x, yu u + yv v + y)."""

    xu: Scalar
    xv: Scalar
    x: Scalar
    yu: Scalar
    yv: Scalar
    y: Scalar

    def __matmul__(self, inner: Affine) -> Affine:
        """``inner`` first, then this one."""
        return Affine(
            self.xu * inner.xu + self.xv * inner.yu,
            self.xu * inner.xv + self.xv * inner.yv,
            self.xu * inner.x + self.xv * inner.y + self.x,
            self.yu * inner.xu + self.yv * inner.yu,
            self.yu * inner.xv + self.yv * inner.yv,
            self.yu * inner.x + self.yv * inner.y + self.y,
        )


def stay() -> Affine:
    """The map that changes nothing."""
    return Affine(1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def moved(x: Scalar, y: Scalar) -> Affine:
    """(0, 0) goes to (x, y)."""
    return Affine(1.0, 0.0, x, 0.0, 1.0, y)


def scaled(across: Scalar, down: Scalar) -> Affine:
    """Both axes stretched."""
    return Affine(across, 0.0, 0.0, 0.0, down, 0.0)


def turned(turns: Scalar) -> Affine:
    """Rotated clockwise as one sees it, y being down."""
    sine, cosine = wave(turns), wave(turns + 0.25)
    return Affine(cosine, -sine, 0.0, sine, cosine, 0.0)


def joint(x: Scalar, y: Scalar, turns: Scalar) -> Affine:
    """A limb's own coordinates: its root at (x, y), turned."""
    return moved(x, y) @ turned(turns)


def stack(places: Sequence[Affine], frames: int) -> NDArray[np.float64]:
    """``float64[T, P, 2, 3]`` of P maps."""
    matrices = np.empty((frames, len(places), 2, 3))
    flat = matrices.reshape(frames, len(places), 6)
    for number, place in enumerate(places):
        for entry, value in enumerate(place):
            flat[:, number, entry] = value
    return matrices


def composed(outer: NDArray[np.float64], inner: NDArray[np.float64]) -> NDArray[np.float64]:
    """``outer`` after ``inner``, ``float64[..., 2, 3]``; no BLAS, whose sums depend on the machine."""
    linear = outer[..., :, 0, None] * inner[..., 0, None, :] + outer[..., :, 1, None] * inner[..., 1, None, :]
    linear[..., 2] += outer[..., 2]
    return np.asarray(linear)
