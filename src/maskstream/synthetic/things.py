"""Things: fourteen shape grammars, told apart by their parts and how these move, never by colour.

Each category is a function that draws itself, from chance and the phase of its movement, with a `Body`: about 1 long,
its middle at (0, 0), looking along x, y down. Side views are mirrored to look back; views from above turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from .exact import Affine, Draw, Point, Scalar, joint, length, moved, scaled, stay, turned, wave
from .scene import HALF_PLANES, ShapeKind
from .tiles import TILE

Colour: TypeAlias = tuple[int, int, int]
Paint: TypeAlias = Literal["main", "flat", "second", "dark", "ink", "wood", "glass", "cabin", "eye", "pupil"]
"""What a part is painted with: the pattern, or one colour; which colour that is differs between individuals."""

_SIDES = (-1, 1)


@dataclass(frozen=True, slots=True)
class Look:
    """How an individual is painted.

    Attributes:
        tile: row of its pattern in `tiles`.
        density: tiles of the pattern along the body.
        colours: of each paint; that of "main" where the pattern is 0.
        pattern: colour where the pattern is 1.
    """

    tile: int
    density: float
    colours: Mapping[Paint, Colour]
    pattern: Colour


def dressed(draw: Draw, *, tile: int, main: Colour, second: Colour, trim: Colour) -> Look:
    """A look in three colours and their shades.

    Which parts have which is left to chance, in the same way for all: a car is not known by its black tyres, nor an
    octopus by the white of its eyes.
    """
    own = (main, second, trim)
    # The darker and the lighter shade of a colour are 420 apart, so every colour contrasts with one of them.
    shades = (second, trim, *(_darker(colour) for colour in own), *(_lighter(colour) for colour in own))
    accents = [shade for shade in shades if contrast(shade, main) >= 120]
    one = draw.choice(accents)
    other = draw.choice([shade for shade in shades if contrast(shade, one) >= 200])
    pupil, eye = sorted((one, other), key=sum)
    colours: dict[Paint, Colour] = {
        "main": main,
        "flat": draw.choice((main, main, main, draw.choice(accents))),
        "second": draw.choice(accents),
        "dark": draw.choice((_darker(main), draw.choice(accents))),
        "ink": draw.choice(accents),
        "wood": draw.choice(accents),
        "glass": draw.choice(accents),
        "cabin": draw.choice(accents),
        "eye": eye,
        "pupil": pupil,
    }
    return Look(tile, draw.between(1.6, 2.8), colours, second)


def contrast(one: Colour, other: Colour) -> int:
    """How far apart two colours are, from 0 to 765."""
    return sum(abs(a - b) for a, b in zip(one, other, strict=True))


def _darker(colour: Colour) -> Colour:
    red, green, blue = colour
    return (red * 9 // 20, green * 9 // 20, blue * 9 // 20)


def _lighter(colour: Colour) -> Colour:
    red, green, blue = _darker(colour)
    return (140 + red, 140 + green, 140 + blue)


class Part(NamedTuple):
    """A row of `Parts`, its place still in the coordinates of the body or layer it belongs to."""

    kind: ShapeKind
    params: tuple[float, ...]
    place: Affine
    tile: int
    texture_scale: float
    colour: Colour
    second: Colour
    photo: int = -1


@dataclass(slots=True)
class Body:
    """Collects the parts of one individual, far to near."""

    look: Look
    parts: list[Part] = field(default_factory=list)

    def ellipse(
        self,
        x: Scalar,
        y: Scalar,
        across: float,
        down: float,
        *,
        turns: Scalar = 0.0,
        at: Affine | None = None,
        paint: Paint = "main",
    ) -> None:
        """Half as long as ``across`` says along its own axis, which is turned."""
        place = joint(x, y, turns) @ scaled(across, down)
        self._add(ShapeKind.ELLIPSE, (), place, math.sqrt(across * down), at, paint)

    def limb(
        self,
        start: Point,
        end: Point,
        radii: tuple[float, float],
        *,
        at: Affine | None = None,
        paint: Paint = "flat",
    ) -> None:
        """A capsule; where its length changes it is stretched, and stays as wide as it is on the first frame."""
        place, params, long = capsule(start, end, radii)
        self._add(ShapeKind.CAPSULE, params, place, long, at, paint)

    def chain(
        self,
        start: Point,
        joints: Sequence[tuple[Scalar, float]],
        radii: Sequence[float],
        *,
        at: Affine | None = None,
        paint: Paint = "flat",
    ) -> Point:
        """Limbs one after another, each (turns, length); returns where the last one ends."""
        for number, (turns, long) in enumerate(joints):
            end = (start[0] + wave(turns + 0.25) * long, start[1] + wave(turns) * long)
            self.limb(start, end, (radii[number], radii[number + 1]), at=at, paint=paint)
            start = end
        return start

    def polygon(self, *corners: tuple[float, float], at: Affine | None = None, paint: Paint = "main") -> None:
        """Convex, its corners in order."""
        self._add(ShapeKind.POLYGON, half_planes(corners), stay(), 1.0, at, paint)

    def eye(self, x: float, y: float, radius: float, *, at: Affine | None = None) -> None:
        """Light, with a pupil that looks ahead."""
        self.ellipse(x, y, radius, radius, at=at, paint="eye")
        self.ellipse(x + radius * 0.25, y, radius * 0.6, radius * 0.6, at=at, paint="pupil")

    def _add(
        self, kind: ShapeKind, params: tuple[float, ...], place: Affine, unit: float, at: Affine | None, paint: Paint
    ) -> None:
        look = self.look
        tile, second = (look.tile, look.pattern) if paint == "main" else (TILE["plain"], look.colours[paint])
        place = place if at is None else at @ place
        self.parts.append(Part(kind, params, place, tile, look.density * unit, look.colours[paint], second))


def capsule(start: Point, end: Point, radii: tuple[float, float]) -> tuple[Affine, tuple[float, float], float]:
    """The place and parameters of a capsule between two points, and its length on the first frame."""
    across, down = end[0] - start[0], end[1] - start[1]
    now = length(across, down)
    first = float(now[0]) if isinstance(now, np.ndarray) else float(now)
    widen = first / now
    place = Affine(across, -down * widen, start[0], down, across * widen, start[1])
    return place, (radii[0] / first, radii[1] / first), first


def half_planes(corners: Sequence[tuple[float, float]]) -> tuple[float, ...]:
    """``params_pk`` of a convex polygon, corners in order, either way round."""
    following = [*corners[1:], corners[0]]
    doubled_area = 0.0
    for (x0, y0), (x1, y1) in zip(corners, following, strict=True):
        doubled_area = doubled_area + (x0 * y1 - x1 * y0)
    inward = 1.0 if doubled_area > 0 else -1.0
    planes: list[float] = []
    for (x0, y0), (x1, y1) in zip(corners, following, strict=True):
        across, down = x1 - x0, y1 - y0
        long = math.sqrt(across * across + down * down)
        a, b = -inward * down / long, inward * across / long
        planes += [a, b, -(a * x0 + b * y0)]
    return (*planes, *((0.0, 0.0, 1e3) * (HALF_PLANES - len(corners))))


def away_from_zero(value: Scalar, least: float) -> Scalar:
    """Nearer to 0 than ``least`` becomes ``least``: a part seen edge on keeps some width."""
    return np.where(np.abs(value) < least, np.where(np.asarray(value) < 0, -least, least), value)


def fish(draw: Draw, beat: Scalar, body: Body) -> None:
    """From the side: a tail of two lobes that swishes, fins, one eye."""
    tall = draw.between(0.16, 0.25)
    fork = draw.between(0.15, 0.22)
    swish = wave(beat)
    root = joint(-0.22, 0.0, 0.025 * swish)
    tail = root @ joint(-0.1, 0.0, 0.04 * wave(beat - 0.2)) @ scaled(0.85 + 0.15 * wave(beat - 0.15), 1.0)
    for side in _SIDES:
        body.polygon(
            (0.02, 0.0), (-0.2, side * fork), (-0.24, side * fork * 0.9), (-0.13, 0.0), at=tail, paint="second"
        )
    body.limb((0.04, 0.0), (-0.12, 0.0), (tall * 0.55, 0.05), at=root)
    fin = draw.between(0.1, 0.16)
    body.polygon((0.22, -0.1), (0.02, -tall - fin), (-0.1, -tall - fin * 0.7), (-0.16, -0.08), paint="second")
    body.polygon((0.12, 0.1), (-0.06, tall + fin * 0.7), (-0.14, tall + fin * 0.6), (-0.06, 0.08), paint="second")
    body.ellipse(0.1, 0.0, 0.36, tall)
    body.ellipse(-0.09, 0.0, 0.09, 0.05, at=joint(0.12, 0.05, 0.06 * wave(beat + 0.3) - 0.08), paint="second")
    body.eye(0.32, -0.05, 0.045)


def turtle(draw: Draw, beat: Scalar, body: Body) -> None:
    """From above: a shell with a rim, four paddling flippers, a head and a stub of a tail."""
    wide = draw.between(0.25, 0.31)
    front, rear = draw.between(0.26, 0.34), draw.between(0.14, 0.19)
    for side in _SIDES:
        stroke, kick = 0.07 * wave(beat), 0.05 * wave(beat + 0.35)
        body.chain(
            (0.18, side * wide * 0.6),
            ((side * (0.18 + stroke), front * 0.5), (side * (0.3 + 1.7 * stroke), front * 0.6)),
            (0.075, 0.075, 0.03),
            paint="second",
        )
        body.chain((-0.24, side * wide * 0.55), ((side * (0.37 + kick), rear),), (0.065, 0.04), paint="second")
    body.limb((-0.32, 0.0), (-0.46, 0.02 * wave(beat)), (0.04, 0.012), paint="second")
    body.limb((0.3, 0.0), (0.43, 0.015 * wave(beat + 0.2)), (0.07, 0.085), paint="second")
    for side in _SIDES:
        body.ellipse(0.46, side * 0.055, 0.02, 0.02, paint="pupil")
    body.ellipse(0.0, 0.0, 0.36, wide, paint="dark")
    body.ellipse(0.0, 0.0, 0.31, wide - 0.05)


def octopus(draw: Draw, beat: Scalar, body: Body) -> None:
    """From the front: a bulging head over six arms that curl."""
    head = draw.between(0.19, 0.23)
    reach = draw.between(0.18, 0.21)
    for arm in draw.shuffled(range(6)):
        place = (arm - 2.5) / 2.5
        bend = wave(beat + arm * 0.37)
        curl = 0.05 * bend - 0.07 * place
        joints = ((0.25 - 0.2 * place, reach), (0.25 - 0.08 * place - curl, reach), (0.25 + 1.8 * curl, reach * 0.8))
        body.chain((0.15 * place, -0.03 - 0.03 * abs(place)), joints, (0.065, 0.052, 0.038, 0.014), paint="main")
    body.ellipse(0.0, -0.22, head, head * draw.between(1.1, 1.3))
    for side in _SIDES:
        body.ellipse(side * 0.09, -0.1, 0.055, 0.065, paint="eye")
        body.ellipse(side * 0.09, -0.085, 0.028, 0.034, paint="pupil")


def snake(draw: Draw, beat: Scalar, body: Body) -> None:
    """From above: a long winding body, a head with a tongue."""
    links = 8
    bends, swing, thick = draw.between(1.0, 1.5), draw.between(0.1, 0.15), draw.between(0.055, 0.072)
    spine = [
        (0.42 - 0.9 * step / links, swing * (0.4 + 0.6 * step / links) * wave(beat + bends * step / links))
        for step in range(links + 1)
    ]
    (x0, y0), (x1, y1) = spine[0], spine[1]
    nose = joint(x0, y0, 0.0) @ Affine(1.0, 0.0, 0.0, (y0 - y1) / (x0 - x1), 1.0, 0.0)
    for side in _SIDES:
        body.limb((0.06, 0.0), (0.14 + 0.015 * wave(3 * beat), side * 0.03), (0.01, 0.006), at=nose, paint="ink")
    for step in reversed(range(links)):
        radii = tuple(thick * (1.0 if n < 3 else 1.0 - 0.8 * (n - 2) / (links - 2)) for n in (step, step + 1))
        body.limb(spine[step], spine[step + 1], (radii[0], radii[1]), paint="main")
    body.ellipse(0.025, 0.0, 0.085, thick * 1.35, at=nose, paint="flat")
    for side in _SIDES:
        body.ellipse(0.055, side * 0.036, 0.016, 0.016, at=nose, paint="eye")


def spider(draw: Draw, beat: Scalar, body: Body) -> None:
    """From above: eight thin legs of two joints, a large abdomen, a small front."""
    upper, lower = draw.between(0.2, 0.25), draw.between(0.22, 0.28)
    thick = draw.between(0.016, 0.024)
    for leg in range(4):
        for side in _SIDES:
            step = 0.028 * wave(beat + leg * 0.25 + (0.5 if side > 0 else 0.0))
            out = 0.1 + 0.09 * leg + step
            bent = out + (0.06 if leg > 1 else -0.06) + step
            joints = ((side * out, upper), (side * bent, lower))
            body.chain((0.13 - 0.055 * leg, side * 0.06), joints, (thick * 1.3, thick, thick * 0.6), paint="dark")
    fat = draw.between(0.14, 0.19)
    body.ellipse(-0.2, 0.0, draw.between(0.19, 0.23), fat)
    body.ellipse(0.07, 0.0, 0.12, 0.1, paint="flat")
    for side in _SIDES:
        body.limb((0.16, side * 0.03), (0.22, side * 0.02), (0.022, 0.012), paint="ink")
        body.ellipse(0.13, side * 0.035, 0.02, 0.02, paint="eye")


def crab(draw: Draw, beat: Scalar, body: Body) -> None:
    """From the front: a wide shell, six bent legs, two claws that open, eyes on stalks."""
    wide, claw = draw.between(0.26, 0.32), draw.between(0.1, 0.14)
    for side in _SIDES:
        mirror = scaled(side, 1.0)
        for leg in range(3):
            step = 0.03 * wave(beat + leg * 0.33 + (0.5 if side > 0 else 0.0))
            joints = ((0.02 + 0.05 * leg + step, 0.13), (0.16 + 0.03 * leg - step, 0.16))
            body.chain((wide - 0.1 - 0.04 * leg, 0.06 + 0.03 * leg), joints, (0.035, 0.03, 0.012), at=mirror)
        lift = 0.03 * wave(beat * 0.5 + 0.2 * side)
        hand = body.chain(
            (wide - 0.06, -0.04), ((-0.06 + lift, 0.13), (-0.2 + lift, 0.1)), (0.04, 0.038, 0.04), at=mirror
        )
        gape = 0.05 + 0.035 * wave(beat * 0.5 + 0.3 * side)
        for jaw in _SIDES:
            grip = mirror @ joint(hand[0], hand[1], -0.27 + jaw * gape)
            body.polygon(
                (-0.03, 0.0), (0.04, jaw * 0.075), (claw * 1.6, jaw * 0.02), (claw * 1.6, -0.01 * jaw),
                at=grip, paint="second",
            )  # fmt: skip
        body.limb((side * 0.07, -0.1), (side * 0.09, -0.25), (0.018, 0.014))
    body.ellipse(0.0, 0.03, wide, draw.between(0.17, 0.2))
    for side in _SIDES:
        body.ellipse(side * 0.09, -0.26, 0.042, 0.042, paint="eye")
        body.ellipse(side * 0.09, -0.255, 0.022, 0.022, paint="pupil")


def bird(draw: Draw, beat: Scalar, body: Body) -> None:
    """From the side: beating wings, a fan of a tail, a head with a beak."""
    span, chord = draw.between(0.42, 0.52), draw.between(0.15, 0.19)
    flap = away_from_zero(0.15 + 0.85 * wave(beat), 0.4)
    wing = ((0.12, 0.03), (chord * 0.2, -span * 0.7), (-0.16, -span), (-0.26, -span * 0.85), (-chord - 0.04, 0.02))
    body.polygon(*wing, at=moved(0.13, -0.05) @ scaled(0.8, flap * 0.85), paint="dark")
    body.polygon((-0.12, -0.05), (-0.5, -0.07), (-0.46, 0.03), (-0.12, 0.06), paint="second")
    body.polygon((0.36, -0.13), (0.5, -0.06), (0.35, -0.04), paint="second")
    body.ellipse(0.0, 0.0, 0.27, draw.between(0.1, 0.13), turns=-0.02)
    body.ellipse(0.28, -0.1, 0.105, 0.1, paint="flat")
    body.polygon(*wing, at=moved(0.04, -0.03) @ scaled(1.0, flap), paint="main")
    body.eye(0.32, -0.12, 0.03)


def butterfly(draw: Draw, beat: Scalar, body: Body) -> None:
    """From above: four wings that fold, a thin body, feelers."""
    span, rear = draw.between(0.27, 0.33), draw.between(0.17, 0.22)
    lean = draw.between(0.03, 0.07)
    fold = 0.72 + 0.28 * wave(beat)
    for side in _SIDES:
        wing = scaled(1.0, side * fold)
        body.ellipse(-0.17, rear, rear * 0.75, rear, turns=lean, at=wing, paint="second")
        body.ellipse(0.12, span * 0.92, 0.19, span, turns=-lean, at=wing)
        body.ellipse(0.15, span * 1.25, 0.06, 0.08, at=wing, paint="second")
        body.limb((0.24, 0.0), (0.42, side * 0.13), (0.012, 0.012), paint="ink")
        body.ellipse(0.43, side * 0.135, 0.022, 0.022, paint="ink")
    body.limb((0.2, 0.0), (-0.3, 0.0), (0.04, 0.022), paint="ink")
    body.ellipse(0.24, 0.0, 0.05, 0.045, paint="ink")


def walker(draw: Draw, beat: Scalar, body: Body) -> None:
    """A person from the side: legs and arms that swing and bend, a head with hair or a hat."""
    leg, thick = draw.between(0.2, 0.22), draw.between(0.085, 0.115)
    hip, shoulder = 0.5 - 2 * leg - 0.03, -0.19
    bob = 0.012 * wave(2 * beat)
    for far in (True, False):
        phase = beat + 0.5 if far else beat
        swing = 0.075 * wave(phase)
        knee = 0.05 + 0.05 * wave(phase - 0.28)
        ankle = body.chain(
            (0.0, hip + bob), ((0.25 - swing, leg), (0.25 - swing + knee, leg)), (0.055, 0.045, 0.035),
            paint="ink" if far else "dark",
        )  # fmt: skip
        body.limb(ankle, (ankle[0] + 0.07, ankle[1] + 0.0), (0.035, 0.028), paint="ink")
        if far:
            _arm(body, (0.0, shoulder + bob), -swing, "dark")
            body.limb((0.0, shoulder + bob), (0.0, hip + bob), (thick, thick * 0.85), paint="main")
    _arm(body, (0.0, shoulder + bob), swing, "flat")
    face = moved(0.015, -0.37 + bob)
    if draw.chance(50):
        body.ellipse(-0.015, -0.015, 0.1, 0.105, at=face, paint="ink")
        body.ellipse(0.02, 0.015, 0.08, 0.085, at=face, paint="second")
    else:
        body.ellipse(0.0, 0.0, 0.09, 0.1, at=face, paint="second")
        body.limb((-0.08, -0.05), (0.14, -0.05), (0.022, 0.016), at=face, paint="dark")
        body.ellipse(-0.005, -0.075, 0.085, 0.05, at=face, paint="dark")
    body.ellipse(0.06, 0.0, 0.013, 0.018, at=face, paint="pupil")


def _arm(body: Body, shoulder: Point, swing: Scalar, paint: Paint) -> None:
    hand = body.chain(shoulder, ((0.25 + swing, 0.15), (0.23 + 1.4 * swing, 0.14)), (0.042, 0.036, 0.03), paint=paint)
    body.ellipse(hand[0], hand[1], 0.035, 0.035, paint="second")


def car(draw: Draw, beat: Scalar, body: Body) -> None:
    """From the side: a low box, a cabin with windows, two wheels that roll."""
    tall, low = draw.between(0.18, 0.24), draw.between(0.1, 0.12)
    back, front = draw.choice(((-0.42, 0.22), (-0.3, 0.2), (-0.12, 0.24)))
    roof = -0.04 - tall
    slope = (front - back) * draw.between(0.1, 0.2)
    body.polygon((back, 0.02), (back + slope, roof), (front - slope - 0.04, roof), (front + 0.08, 0.02), paint="flat")
    body.limb((-0.5 + low, 0.04), (0.5 - low, 0.05), (low, low * 0.9), paint="main")
    middle = (back + front) / 2
    edge = roof + 0.035
    body.polygon((back + 0.05, -0.05), (back + slope + 0.025, edge), (middle - 0.02, edge), (middle - 0.02, -0.05),
                 paint="glass")  # fmt: skip
    body.polygon((middle + 0.02, -0.05), (middle + 0.02, edge), (front - slope - 0.06, edge), (front + 0.03, -0.05),
                 paint="glass")  # fmt: skip
    body.ellipse(0.47, 0.03, 0.025, 0.035, paint="glass")
    radius = draw.between(0.1, 0.125)
    for x in (-0.27, 0.27):
        wheel = joint(x, 0.15, beat)
        body.ellipse(0.0, 0.0, radius, radius, at=wheel, paint="ink")
        body.ellipse(0.0, 0.0, radius * 0.6, radius * 0.6, at=wheel, paint="second")
        spoke = radius * 0.5
        body.limb((-spoke, 0.0), (spoke, 0.0), (radius * 0.14, radius * 0.14), at=wheel, paint="ink")


def boat(draw: Draw, beat: Scalar, body: Body) -> None:
    """From the side: a hull that rocks, with a mast and sails, or a cabin and a funnel."""
    rock = turned(0.014 * wave(beat))
    deep = draw.between(0.17, 0.23)
    if draw.chance(70):
        body.limb((-0.02, 0.12), (-0.02, -0.48), (0.018, 0.012), at=rock, paint="wood")
        body.polygon((0.02, -0.44), (0.02, 0.06), (draw.between(0.34, 0.42), 0.06), at=rock)
        body.polygon((-0.05, -0.36), (-0.05, 0.06), (-draw.between(0.26, 0.34), 0.06), at=rock, paint="second")
        body.polygon((-0.02, -0.5), (-0.13, -0.46), (-0.02, -0.42), at=rock, paint="second")
    else:
        top = -draw.between(0.08, 0.14)
        body.polygon((-0.22, -0.36), (-0.1, -0.36), (-0.1, 0.0), (-0.22, 0.0), at=rock, paint="second")
        body.polygon((-0.3, top), (0.16, top), (0.2, 0.13), (-0.3, 0.13), at=rock, paint="cabin")
        for x in (-0.2, -0.06, 0.08):
            body.ellipse(x, 0.02, 0.04, 0.04, at=rock, paint="ink")
    body.polygon((-0.44, 0.1), (0.5, 0.08), (0.34, 0.1 + deep), (-0.34, 0.1 + deep), at=rock)
    body.polygon((-0.45, 0.08), (0.52, 0.06), (0.49, 0.12), (-0.43, 0.13), at=rock, paint="dark")


def windmill(draw: Draw, beat: Scalar, body: Body) -> None:
    """A tower with a cap and four blades that go round."""
    foot, neck = draw.between(0.14, 0.19), draw.between(0.08, 0.1)
    hub = draw.between(-0.2, -0.14)
    body.polygon((-foot, 0.5), (foot, 0.5), (neck, hub), (-neck, hub))
    body.polygon((-neck - 0.03, hub + 0.02), (neck + 0.03, hub + 0.02), (0.0, hub - 0.15), paint="dark")
    body.limb((0.0, 0.5), (0.0, 0.4), (0.05, 0.05), paint="ink")
    body.ellipse(0.0, 0.12, 0.035, 0.045, paint="ink")
    reach, wide = draw.between(0.34, 0.4), draw.between(0.08, 0.11)
    for blade in range(4):
        arm = joint(0.0, hub, beat + blade / 4)
        body.polygon((0.1, 0.0), (reach, 0.0), (reach, wide), (0.1, wide * 0.8), at=arm, paint="second")
        body.limb((0.0, 0.0), (reach, 0.0), (0.018, 0.012), at=arm, paint="wood")
    body.ellipse(0.0, hub, 0.035, 0.035, paint="ink")


def kite(draw: Draw, beat: Scalar, body: Body) -> None:
    """A diamond on two spars, with a long tail of bows that trails in the wind."""
    wide, cross = draw.between(0.24, 0.3), draw.between(-0.26, -0.18)
    sway = turned(draw.between(-0.06, 0.06) + 0.02 * wave(beat * 0.5))
    tip = (0.0, 0.14)
    turns = [0.25 + 0.06 * wave(beat - 0.22 * link) for link in range(4)]
    end: Point = tip
    for link, turn in enumerate(turns):
        following = body.chain(end, ((turn, 0.1),), (0.012, 0.012), at=sway, paint="dark")
        if link:
            bow = sway @ joint(end[0], end[1], turn)
            for side in _SIDES:
                body.polygon((0.0, 0.0), (0.035, side * 0.07), (-0.035, side * 0.07), at=bow, paint="second")
        end = following
    body.polygon((0.0, -0.5), (wide, cross), tip, (-wide, cross), at=sway)
    body.polygon((0.0, cross), (wide, cross), tip, at=sway, paint="second")
    body.limb((0.0, -0.5), tip, (0.012, 0.012), at=sway, paint="wood")
    body.limb((-wide, cross), (wide, cross), (0.012, 0.012), at=sway, paint="wood")


def balloon(draw: Draw, beat: Scalar, body: Body) -> None:
    """A hot-air balloon: a round envelope that narrows to a skirt, ropes, a basket that swings."""
    wide, tall = draw.between(0.29, 0.34), draw.between(0.31, 0.35)
    sway = joint(0.0, 0.2, 0.012 * wave(beat))
    for side in _SIDES:
        body.limb((side * 0.09, -0.02), (side * 0.07, 0.16), (0.01, 0.01), at=sway, paint="ink")
    basket = draw.between(0.075, 0.1)
    body.polygon((-basket, 0.14), (basket, 0.14), (basket * 0.8, 0.28), (-basket * 0.8, 0.28), at=sway, paint="wood")
    body.limb((-basket, 0.14), (basket, 0.14), (0.018, 0.018), at=sway, paint="dark")
    body.polygon((-wide * 0.84, 0.02), (wide * 0.84, 0.02), (0.1, 0.22), (-0.1, 0.22), paint="flat")
    body.ellipse(0.0, 0.15 - tall, wide, tall)
    body.ellipse(0.0, 0.15 - tall, wide * 0.22, tall, paint="second")
    body.polygon((-0.11, 0.185), (0.11, 0.185), (0.095, 0.225), (-0.095, 0.225), paint="second")


@dataclass(frozen=True, slots=True)
class Kind:
    """How a category is drawn and lives.

    Attributes:
        build: draws it.
        heading: it turns where it goes, faces where it goes by mirroring, or stays upright.
        home: where it likes to be in the picture.
        beat: frames that one cycle of its movement takes, least and most.
        foot: how far below its middle the ground is; None for one that is seen from above.
        wide: half the width of its shadow, if it is seen from above.
        roams: it can move about at all.
        idles: it moves its limbs also when it stands still.
    """

    build: Callable[[Draw, Scalar, Body], None]
    heading: Literal["turns", "faces", "upright"]
    home: Literal["high", "low", "any"]
    beat: tuple[int, int]
    foot: float | None = None
    wide: float = 0.28
    roams: bool = True
    idles: bool = True


KINDS: tuple[Kind, ...] = (
    Kind(fish, "faces", "any", (14, 30), foot=0.5),
    Kind(turtle, "turns", "any", (36, 70)),
    Kind(octopus, "upright", "any", (40, 80), foot=0.5),
    Kind(snake, "turns", "low", (26, 50), wide=0.1),
    Kind(spider, "turns", "any", (18, 36)),
    Kind(crab, "upright", "low", (20, 40), foot=0.3),
    Kind(bird, "faces", "high", (14, 30), foot=0.6),
    Kind(butterfly, "turns", "high", (14, 32)),
    Kind(walker, "faces", "low", (22, 40), foot=0.5, idles=False),
    Kind(car, "faces", "low", (18, 40), foot=0.27, idles=False),
    Kind(boat, "faces", "low", (50, 100), foot=0.32),
    Kind(windmill, "upright", "low", (60, 140), foot=0.5, roams=False),
    Kind(kite, "upright", "high", (24, 50), foot=0.7),
    Kind(balloon, "upright", "high", (60, 120), foot=0.6),
)
"""Of each category, in the order of `THINGS`."""
