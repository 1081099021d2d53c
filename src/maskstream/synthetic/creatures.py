"""Sea creatures drawn from ellipses and limbs: textured, articulated, and different in colour.

Everything is float32 and made of additions, multiplications, divisions, square roots and comparisons alone, one
operation a NumPy call: IEEE 754 defines those to the last bit, so every machine draws the same pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float32]
Colour: TypeAlias = tuple[int, int, int]
Creature: TypeAlias = Callable[["Brush", float, Colour, Colour], None]
"""Draws itself with a brush: phase of its movement in turns, main colour, second colour."""


def wave(turns: float) -> float:
    """Sine of a whole turn, rounded to 1/4096: math libraries differ in the last bit, never by this much."""
    return round(math.sin(2 * math.pi * (turns % 1)) * 4096) / 4096


class Brush:
    """Paints parts over one another on a patch of the picture, in the creature's own coordinates.

    Attributes:
        forward, side: ``float32[h, w]``, coordinates of every pixel; 1 is about half the creature's length.
        alpha: ``float32[h, w]``, coverage so far, smooth over one pixel at the outline.
        colour: ``float32[h, w, 3]``, 0 … 255.
    """

    def __init__(self, forward: Array, side: Array, *, pixels_per_unit: float, grain: Array) -> None:
        """Start with nothing. ``grain`` is ``float32[256, 256]`` in [0, 1] and repeats without a seam."""
        self.forward, self.side = forward, side
        self.alpha = np.zeros_like(forward)
        self.colour = np.zeros((*forward.shape, 3), dtype=np.float32)
        self._scale = pixels_per_unit
        self._shade = _sample(grain, forward * 64.0, side * 64.0)

    def part(
        self, distance: Array, colour: Colour, *, second: Colour | None = None, where: Array | None = None
    ) -> None:
        """Paint a part over what is there.

        Args:
            distance: ``float32[h, w]``, how far inside the part's outline, in units; negative is outside.
            colour: of the part.
            second: colour of its pattern.
            where: ``float32[h, w]``, 1 where the pattern is, 0 where it is not.
        """
        cover = np.clip(distance * self._scale + 0.5, 0.0, 1.0)
        # Darker towards the outline, which rounds the body; grain gives optical flow something to hold.
        rim = np.clip(distance * 7.0 + 0.45, 0.45, 1.0)
        tone = rim * (self._shade * 0.7 + 0.62)
        for channel in range(3):
            paint = tone * float(colour[channel])
            if second is not None and where is not None:
                paint += where * (tone * float(second[channel]) - paint)
            np.minimum(paint, 240.0, out=paint)
            layer = self.colour[..., channel]
            layer += cover * (paint - layer)
        np.maximum(self.alpha, cover, out=self.alpha)

    def eyes(self, forward: float, apart: float, radius: float, *, lift: Array | float = 0.0) -> None:
        """Paint two dark eyes, at equal distances from the middle (or from the line ``lift`` beside it)."""
        beside = np.abs(self.side - lift) - apart
        ahead = self.forward - forward
        self.part(radius - np.sqrt(ahead * ahead + beside * beside), (20, 20, 28))

    def soft_step(self, value: Array) -> Array:
        """1 where ``value`` (in units) is positive, 0 where negative, smooth over a pixel."""
        step: Array = np.clip(value * self._scale + 0.5, 0.0, 1.0)
        return step

    def dots(self, per_unit: float, radius: float) -> Array:
        """1 on round dots of a square grid, every other row shifted."""
        row = np.floor(self.side * per_unit)
        across = self.forward * per_unit + row * 0.5
        du, dv = across - np.floor(across) - 0.5, self.side * per_unit - row - 0.5
        return self.soft_step((radius - np.sqrt(du * du + dv * dv)) / per_unit)


def _sample(grain: Array, column: Array, row: Array) -> Array:
    """Bilinear look-up in a texture of 256 × 256 that repeats."""
    left, top = np.floor(column), np.floor(row)
    right_weight, lower_weight = column - left, row - top
    x0, y0 = left.astype(np.int64) & 255, top.astype(np.int64) & 255
    x1, y1 = (x0 + 1) & 255, (y0 + 1) & 255
    flat, y0, y1 = grain.reshape(-1), y0 << 8, y1 << 8
    upper_left, lower_left = flat[y0 + x0], flat[y1 + x0]
    upper = upper_left + right_weight * (flat[y0 + x1] - upper_left)
    lower = lower_left + right_weight * (flat[y1 + x1] - lower_left)
    sampled: Array = upper + lower_weight * (lower - upper)
    return sampled


def ellipse(u: Array, v: Array, half_length: float, half_width: float) -> Array:
    """Distance inside an ellipse around 0, to first order."""
    nu, nv = u / half_length, v / half_width
    inside = 1.0 - nu * nu - nv * nv
    su, sv = nu / half_length, nv / half_width
    slope = np.sqrt(su * su + sv * sv) * 2.0 + 1e-3
    return np.asarray(inside / slope, dtype=np.float32)


def limb(u: Array, v: Array, start: tuple[float, float], end: tuple[float, float], radii: tuple[float, float]) -> Array:
    """Distance inside a rounded limb that tapers from one radius to another."""
    along_u, along_v = end[0] - start[0], end[1] - start[1]
    du, dv = u - start[0], v - start[1]
    place = np.clip((du * along_u + dv * along_v) / (along_u * along_u + along_v * along_v), 0.0, 1.0)
    du, dv = du - place * along_u, dv - place * along_v
    radius = place * (radii[1] - radii[0]) + radii[0]
    return np.asarray(radius - np.sqrt(du * du + dv * dv), dtype=np.float32)


def union(*distances: Array) -> Array:
    """Distance inside any of several outlines."""
    return reduce(np.maximum, distances)


def ray(brush: Brush, phase: float, colour: Colour, second: Colour) -> None:
    """A manta ray: flapping wings, a thin tail that lags behind, pale spots."""
    flap = wave(phase)
    u, v = brush.forward, brush.side
    span = 0.94 + 0.1 * flap
    out = np.abs(v) / span
    tip = -0.26 - 0.07 * flap
    leading = 0.52 + (tip - 0.52) * out * out - 0.12 * out * (1.0 - out)
    trailing = -0.46 + (tip + 0.46) * out * (2.0 - out)
    lag = 0.16 * wave(phase - 0.2)
    tail = union(
        limb(u, v, (-0.4, 0.0), (-0.85, 0.4 * lag), (0.06, 0.04)),
        limb(u, v, (-0.85, 0.4 * lag), (-1.3, 1.6 * lag), (0.04, 0.022)),
    )
    horns = [limb(u, v, (0.4, 0.15 * side), (0.66, 0.2 * side), (0.08, 0.05)) for side in (-1.0, 1.0)]
    brush.part(union(tail, *horns), colour)
    body = np.minimum(np.minimum(leading - u, u - trailing) * 0.8, (1.0 - out) * span)
    brush.part(body, colour, second=second, where=brush.dots(4.6, 0.26))
    brush.eyes(0.36, 0.2, 0.045)


def turtle(brush: Brush, phase: float, colour: Colour, second: Colour) -> None:
    """A turtle: paddling flippers, a patterned shell."""
    u, v = brush.forward, brush.side
    stroke, back = wave(phase), wave(phase + 0.35)
    limbs = [limb(u, v, (0.55, 0.0), (0.84, 0.03 * back), (0.13, 0.17))]
    for side in (-1.0, 1.0):
        elbow = (0.5 + 0.1 * stroke, 0.66 * side)
        hand = (0.26 + 0.3 * stroke, 1.04 * side)
        foot = (-0.82 - 0.06 * back, (0.42 + 0.12 * back) * side)
        limbs += [
            limb(u, v, (0.36, 0.36 * side), elbow, (0.18, 0.16)),
            limb(u, v, elbow, hand, (0.16, 0.08)),
            limb(u, v, (-0.45, 0.3 * side), foot, (0.15, 0.09)),
        ]
    brush.part(union(*limbs), second)
    brush.eyes(0.9, 0.1, 0.04)
    # Plates like bricks: seams along the shell and, every other row shifted, across it.
    row = np.floor(v * 3.0 + 0.5)
    across = u * 2.6 + row * 0.5
    to_seam = np.minimum(np.abs(across - np.floor(across) - 0.5) / 2.6, (0.5 - np.abs(v * 3.0 + 0.5 - row - 0.5)) / 3.0)
    shell = ellipse(u, v, 0.7, 0.56)
    dark = (colour[0] * 2 // 5, colour[1] * 2 // 5, colour[2] * 2 // 5)
    seams = brush.soft_step(np.maximum(0.022 - to_seam, 0.07 - shell))
    brush.part(shell, colour, second=dark, where=seams)


def fish(brush: Brush, phase: float, colour: Colour, second: Colour) -> None:
    """A fish: bands of two colours, a body that undulates towards the tail."""
    u = brush.forward
    behind = np.clip(0.45 - u, 0.0, 2.0)
    swing = (behind * behind) * (0.13 * wave(phase)) + (behind * behind * behind) * (0.05 * wave(phase - 0.25))
    v = brush.side - swing
    fan = np.clip(-0.5 - u, 0.0, 1.0)
    notch = np.abs(v) * 0.35 + u + 1.0
    tail = np.minimum(np.minimum(fan * 0.85 + 0.06 - np.abs(v), notch), -0.42 - u)
    fins = [
        limb(u, v, (0.2, 0.24 * side), (-0.06, (0.5 + 0.05 * wave(phase + 0.25 * side)) * side), (0.13, 0.05))
        for side in (-1.0, 1.0)
    ]
    brush.part(union(tail, *fins), colour)
    bands = np.maximum(0.1 - np.abs(u - 0.42), np.maximum(0.11 - np.abs(u), 0.08 - np.abs(u + 0.42)))
    brush.part(ellipse(u - 0.1, v, 0.82, 0.34), colour, second=second, where=brush.soft_step(bands))
    brush.eyes(0.68, 0.17, 0.055, lift=swing)


def octopus(brush: Brush, phase: float, colour: Colour, second: Colour) -> None:
    """An octopus: seven arms around a head, each bending in its own time."""
    u, v = brush.forward, brush.side
    spots = brush.dots(5.5, 0.27)
    arms = []
    for arm in range(7):
        # Turned like the hand of a clock: the first joint by the arm, the second by its bend.
        base = arm / 7
        turned = base + 0.085 * wave(phase + arm * 0.31)
        knee = (0.62 * wave(base + 0.25), 0.62 * wave(base))
        tip = (knee[0] + 0.46 * wave(turned + 0.25), knee[1] + 0.46 * wave(turned))
        arms += [limb(u, v, (0.0, 0.0), knee, (0.21, 0.12)), limb(u, v, knee, tip, (0.12, 0.05))]
    brush.part(union(*arms), colour)
    brush.part(ellipse(u, v, 0.42, 0.38), colour, second=second, where=spots)


CREATURES: tuple[tuple[Creature, float], ...] = ((ray, 1.45), (turtle, 1.2), (fish, 1.2), (octopus, 1.2))
"""Each creature, and how far it reaches from its centre, in units."""
