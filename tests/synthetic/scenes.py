"""Small scenes made by hand and at random, to test engines with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from maskstream.synthetic.scene import HALF_PLANES, THINGS, WORLD, Entity, Parts, Scene, ShapeKind
from maskstream.synthetic.texture import fractal_noise

Place = Sequence[Sequence[float]]

SKY = WORLD.categories[len(THINGS)].id
GRASS = WORLD.categories[len(THINGS) + 2].id
WHOLE: Place = ((1, 0, 0), (0, 1, 0))


@dataclass(frozen=True)
class Body:
    """A part: whose, what shape, where on each frame."""

    entity: int
    kind: ShapeKind
    place: Callable[[int], Place] = lambda frame: WHOLE
    params: Sequence[float] = ()
    colour: tuple[float, float, float] = (0.5, 0.5, 0.5)
    second: tuple[float, float, float] | None = None
    texture: int = 0
    scale: float = 0.5
    photo: int = -1
    shadow: bool = False
    shown: Callable[[int], bool] = lambda frame: True


def disc(x: float, y: float, radius: float) -> Place:
    """Place of an ellipse that is a circle."""
    return ((radius, 0, x), (0, radius, y))


def turned(x: float, y: float, turns: float, length: float, width: float) -> Place:
    """Place of a shape whose first axis is turned."""
    c, s = math.cos(2 * math.pi * turns), math.sin(2 * math.pi * turns)
    return ((c * length, -s * width, x), (s * length, c * width, y))


def convex(*planes: tuple[float, float, float]) -> list[float]:
    """Parameters of a polygon; the lengths of (a, b) are made 1."""
    scaled = [(a / math.hypot(a, b), b / math.hypot(a, b), c / math.hypot(a, b)) for a, b, c in planes]
    return [number for plane in [*scaled, *[(0.0, 0.0, 1e3)] * (HALF_PLANES - len(scaled))] for number in plane]


SQUARE = convex((1, 0, 1), (-1, 0, 1), (0, 1, 1), (0, -1, 1))
"""From -1 to 1."""
LOWER_HALF = convex((0, 1, 0))


def tiles() -> NDArray[np.uint8]:
    """Grain, stripes, spots."""
    grain = (fractal_noise((64, 64), ((32, 2), (16, 1)), 5) >> 8).astype(np.uint8)
    ramp = np.abs(np.arange(64) % 32 - 16) * 255 // 16
    stripes = np.broadcast_to(ramp.astype(np.uint8), (64, 64))
    spots = (ramp[:, None] * ramp // 255).astype(np.uint8)
    return np.stack([grain, stripes, spots])


def photos() -> NDArray[np.uint8]:
    """One, of three noises."""
    return np.stack([(fractal_noise((64, 64), ((32, 2), (16, 1)), n) >> 8).astype(np.uint8) for n in range(3)], -1)[
        None
    ]


def build(bodies: Sequence[Body], categories: Sequence[int], *, frames: int = 3) -> Scene:
    """A scene of these parts, far to near; entity n, from 1, has the n-th category."""
    params = np.zeros((len(bodies), 3 * HALF_PLANES), np.float32)
    for row, body in zip(params, bodies, strict=True):
        row[: len(body.params)] = body.params
    order = list(dict.fromkeys(body.entity for body in bodies if body.entity))
    parts = Parts(
        entity_p=np.array([body.entity for body in bodies], np.int64),
        kind_p=np.array([body.kind for body in bodies], np.int64),
        params_pk=params,
        place_tp23=np.array([[body.place(t) for body in bodies] for t in range(frames)], np.float32).reshape(
            frames, -1, 2, 3
        ),
        shown_tp=np.array([[body.shown(t) for body in bodies] for t in range(frames)], np.bool_),
        shadow_p=np.array([body.shadow for body in bodies], np.bool_),
        texture_p=np.array([body.texture for body in bodies], np.int64),
        texture_scale_p=np.array([body.scale for body in bodies], np.float32),
        colour_p3=np.array([body.colour for body in bodies], np.float32).reshape(-1, 3),
        second_p3=np.array([body.second or body.colour for body in bodies], np.float32).reshape(-1, 3),
        photo_p=np.array([body.photo for body in bodies], np.int64),
    )
    entities = tuple(Entity(n, categories[n - 1], "plain", "red", 0.2) for n in order)
    return Scene(entities, parts, tiles(), photos(), np.ones((frames, 3), np.float32))


def hand_made(*, frames: int = 4) -> Scene:
    """Sky, grass, a disc that passes behind a bar of two parts, its shadow. No number of it is rounded by a library."""
    bodies = [
        Body(1, ShapeKind.EVERYWHERE, lambda t: ((1, 0, t / 64), (0, 1, 0)), colour=(0.4, 0.6, 0.9)),
        Body(2, ShapeKind.POLYGON, lambda t: ((1, 0, t / 32), (0, 1, 0.625)), LOWER_HALF, (0.2, 0.6, 0.2)),
        Body(0, ShapeKind.ELLIPSE, lambda t: ((0.25, 0, 0.5 + t / 16), (0, 0.0625, 0.75)), shadow=True),
        Body(3, ShapeKind.ELLIPSE, lambda t: disc(0.5 + t / 16, 0.5, 0.25), (), (0.9, 0.2, 0.1), (1, 1, 0.2), 1),
        Body(4, ShapeKind.CAPSULE, lambda t: ((0, -0.5, 0.75), (0.5, 0, 0.25)), (0.125, 0.25), photo=0),
        Body(4, ShapeKind.POLYGON, lambda t: ((0.125, 0, 0.75), (0, 0.125, 0.25 - t / 64)), SQUARE, (0.1, 0.1, 0.5)),
    ]
    return build(bodies, (SKY, GRASS, 1, 2), frames=frames)


def random_scene(seed: int, *, frames: int = 3, things: int = 4) -> Scene:
    """Void, stuff that leaves some of it, things of one to four parts that turn, swell and move, one that is hidden."""
    random = np.random.default_rng(seed)
    bodies = [
        Body(0, ShapeKind.EVERYWHERE, _drift(random), colour=(0.1, 0.1, 0.1)),
        Body(1, ShapeKind.POLYGON, _drift(random), convex((0.3, 1, -0.1)), (0.4, 0.6, 0.9)),
        Body(2, ShapeKind.ELLIPSE, _moving(random, 0.5), colour=(0.2, 0.6, 0.2)),
    ]
    for entity in range(3, 3 + things):
        motion = _motion(random)
        hidden = int(random.integers(0, 2 * frames))
        bodies.append(Body(0, ShapeKind.ELLIPSE, _moving(random, 0.2, motion), shadow=True))
        for _ in range(int(random.integers(1, 5))):
            kind = ShapeKind(int(random.integers(1, 4)))
            bodies.append(
                Body(
                    entity,
                    kind,
                    _moving(random, 0.15, motion),
                    _params(random, kind),
                    tuple(random.uniform(0, 1, 3)),
                    tuple(random.uniform(0, 1, 3)),
                    int(random.integers(0, 3)),
                    photo=int(random.integers(-1, 1)),
                    shown=_but(hidden),
                )
            )
    return build(bodies, (SKY, GRASS, *random.integers(1, len(THINGS), things).tolist()), frames=frames)


def with_camera(scene: Scene) -> Scene:
    """The scene with blur, light, noise and a cut in the middle."""
    frames = scene.frame_count
    light = np.linspace(0.75, 1.25, frames, dtype=np.float32)[:, None] * np.ones(3, np.float32)
    return replace(scene, noise=6, shutter=0.5, light_t3=light, quality=80, cuts=(frames // 2,), seed=7)


def _but(hidden: int) -> Callable[[int], bool]:
    return lambda t: t != hidden


def _params(random: np.random.Generator, kind: ShapeKind) -> Sequence[float]:
    if kind == ShapeKind.CAPSULE:
        return tuple(random.uniform(0.1, 0.5, 2))
    if kind == ShapeKind.ELLIPSE:
        return ()
    angles = (np.arange(5) + random.uniform(0, 0.8, 5)) * (2 * np.pi / 5)
    return convex(*((math.cos(angle), math.sin(angle), 1.0) for angle in angles))


def _motion(random: np.random.Generator) -> tuple[float, float, float, float]:
    return (*random.uniform(0, 1.5, 1), *random.uniform(0, 1, 1), *random.uniform(-0.08, 0.08, 2))


def _moving(
    random: np.random.Generator, size: float, motion: tuple[float, float, float, float] | None = None
) -> Callable[[int], Place]:
    x, y, dx, dy = motion or _motion(random)
    x, y = x + random.uniform(-size, size), y + random.uniform(-size, size)
    turn, spin, swell = random.uniform(0, 1), random.uniform(-0.02, 0.02), random.uniform(0.9, 1.1)
    length, width = random.uniform(0.5, 1.5, 2) * size
    return lambda t: turned(x + dx * t, y + dy * t, turn + spin * t, length * swell**t, width)


def _drift(random: np.random.Generator) -> Callable[[int], Place]:
    x, y, dx, dy = random.uniform(-0.03, 0.03, 4)
    return lambda t: ((1, 0, x + dx * t), (0, 1, y + dy * t))
