"""Places: regions of stuff, each with textures and shapes of its own, under a backdrop.

Every place keeps to one order, far to near, so that several places can be shots of one scene: sky, rock, snow, forest,
water, sand, grass, road. A place seen from the side has a horizon; one seen from above has patches on the ground.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .exact import Affine, Draw, moved, scaled, stay, wave
from .scene import ShapeKind
from .things import Colour, Part, capsule, half_planes
from .tiles import TILE

FAR_TO_NEAR = ("sky", "rock", "snow", "forest", "water", "sand", "grass", "road")
FOREGROUNDS = ("rock", "snow", "forest", "sand", "grass")
"""What may stand between the viewer and things."""

_BEYOND = 1.5
"""So far outside the picture regions reach, for the camera moves."""


class Finish(NamedTuple):
    """How a kind of stuff looks: tiles to choose from, tiles per height of the picture, pairs of colours."""

    tiles: tuple[str, ...]
    density: tuple[float, float]
    colours: tuple[tuple[Colour, Colour], ...]


# fmt: off
FINISHES: dict[str, Finish] = {
    "sky": Finish(("clouds",), (0.9, 1.4), (
        ((104, 164, 226), (244, 246, 250)), ((150, 196, 232), (250, 250, 246)), ((236, 164, 120), (252, 222, 180)),
        ((120, 132, 150), (186, 192, 200)), ((58, 70, 128), (150, 132, 176)),
    )),
    "rock": Finish(("cracks",), (2.6, 4.0), (
        ((66, 62, 60), (160, 154, 150)), ((84, 60, 46), (176, 142, 116)), ((48, 52, 66), (132, 140, 160)),
    )),
    "snow": Finish(("drifts",), (1.2, 2.2), (
        ((206, 218, 236), (250, 252, 254)), ((222, 214, 226), (252, 248, 248)), ((190, 208, 224), (236, 242, 246)),
    )),
    "forest": Finish(("leaves",), (2.4, 3.6), (
        ((18, 50, 28), (72, 128, 60)), ((30, 58, 40), (100, 132, 52)), ((84, 44, 20), (212, 132, 48)),
    )),
    "water": Finish(("ripples",), (1.4, 2.4), (
        ((24, 74, 132), (104, 168, 208)), ((18, 96, 104), (112, 196, 188)), ((54, 76, 84), (136, 160, 160)),
    )),
    "sand": Finish(("dunes",), (1.4, 2.4), (
        ((190, 156, 104), (240, 216, 164)), ((204, 176, 140), (246, 230, 200)), ((176, 122, 84), (222, 178, 136)),
    )),
    "grass": Finish(("blades",), (2.2, 3.4), (
        ((48, 102, 40), (130, 180, 76)), ((78, 112, 48), (176, 190, 92)), ((112, 104, 50), (204, 190, 106)),
    )),
    "road": Finish(("asphalt", "bricks"), (3.0, 4.5), (
        ((70, 70, 76), (112, 112, 118)), ((96, 88, 84), (140, 130, 124)), ((52, 54, 62), (90, 94, 104)),
    )),
}
# fmt: on


@dataclass(slots=True)
class Region:
    """The parts of one kind of stuff in one place, in coordinates of the picture.

    Attributes:
        depth: how much of the camera's movement it takes part in: 0 for infinitely far, 1 for as near as things.
    """

    name: str
    colour: Colour
    second: Colour
    tile: int
    density: float
    depth: float
    photo: int = -1
    parts: list[Part] = field(default_factory=list)

    def fill(self) -> None:
        """It is everywhere."""
        self._add(ShapeKind.EVERYWHERE, (), stay(), 1.0)

    def polygon(self, *corners: tuple[float, float]) -> None:
        """Convex, its corners in order."""
        self._add(ShapeKind.POLYGON, half_planes(corners), stay(), 1.0)

    def ellipse(self, x: float, y: float, across: float, down: float) -> None:
        """Around (x, y)."""
        self._add(ShapeKind.ELLIPSE, (), moved(x, y) @ scaled(across, down), math.sqrt(across * down))

    def strip(self, start: tuple[float, float], end: tuple[float, float], radius: float) -> None:
        """A band with round ends."""
        place, params, long = capsule(start, end, (radius, radius))
        self._add(ShapeKind.CAPSULE, params, place, long)

    def marking(self, start: tuple[float, float], end: tuple[float, float], radius: float) -> None:
        """A pale strip on it, as on a road."""
        self.strip(start, end, radius)
        pale = (226, 222, 206)
        self.parts[-1] = self.parts[-1]._replace(tile=TILE["plain"], colour=pale, second=pale, photo=-1)

    def _add(self, kind: ShapeKind, params: tuple[float, ...], place: Affine, unit: float) -> None:
        self.parts.append(
            Part(kind, params, place, self.tile, self.density * unit, self.colour, self.second, self.photo)
        )


def plain_place(draw: Draw, *, aspect: float, photos: int, without: str | None = None) -> list[Region]:
    """One kind of stuff, or sky over another; for the arguments see `rich_place`."""
    names = [name for name in FAR_TO_NEAR if name != without]
    if draw.chance(50):
        return [_everywhere(draw, draw.choice(names), photos)]
    ground = _region(draw, draw.choice(names[1:]), 1.0, photos)
    _band(draw, ground, draw.between(0.35, 0.6), aspect)
    return [_everywhere(draw, "sky", photos), ground]


def rich_place(draw: Draw, *, aspect: float, photos: int, without: str | None = None) -> list[Region]:
    """At least three kinds of stuff, far to near.

    Args:
        draw: chance.
        aspect: width of the picture over its height.
        photos: how many photos there are to paint with.
        without: stuff that is kept for something else.
    """
    make = _from_above if draw.chance(35) else _with_horizon
    return make(draw, [name for name in FAR_TO_NEAR if name != without], aspect, photos)


def backdrop(draw: Draw, photos: int) -> Region:
    """What is behind a place and is no stuff."""
    colours = [(draw.integer(30, 220), draw.integer(30, 220), draw.integer(30, 220)) for _ in range(2)]
    tile = TILE[draw.choice(("drifts", "clouds", "asphalt", "dunes"))]
    photo = draw.integer(0, photos - 1) if photos else -1
    region = Region("", colours[0], colours[1], tile, draw.between(1.0, 2.0), 0.15, photo)
    region.fill()
    return region


def foreground(draw: Draw, name: str, *, aspect: float, photos: int) -> Region:
    """Stuff at the lower edge that things pass behind."""
    region = _region(draw, name, 1.15, photos)
    for _ in range(draw.integer(1, 3)):
        x, tall = draw.between(0.0, aspect), draw.between(0.1, 0.24)
        if name == "rock":
            _boulder(draw, region, x, 1.0, tall)
        else:
            region.ellipse(x, 1.02, draw.between(0.15, 0.4), tall)
    return region


def _with_horizon(draw: Draw, names: Sequence[str], aspect: float, photos: int) -> list[Region]:
    horizon = draw.between(0.28, 0.5)
    grounds = {draw.choice([name for name in names if name in GROUNDS])}
    for _ in range(draw.integer(1, 2)):
        grounds.add(draw.choice([name for name in names if name in GROUNDS]))
    rising = {
        name: raise_it for name, raise_it in RISING.items() if name in names and name not in grounds and draw.chance(50)
    }
    if "rock" in rising:
        rising.pop("snow", None)  # hills of snow would hide it
    if not rising:
        name = draw.choice([name for name in RISING if name in names and name not in grounds])
        rising[name] = RISING[name]
    open_sky = draw.chance(85)
    regions = [_everywhere(draw, "sky", photos)] if open_sky else [backdrop(draw, photos)]
    if not open_sky and len(grounds) + len(rising) < 3:
        grounds.update([name for name in names if name in GROUNDS and name not in rising][:3])
    ordered = [name for name in names if name in grounds]
    below = 0
    for name in names:
        if name in rising:
            region = _region(draw, name, 0.45, photos)
            rising[name](draw, region, horizon, aspect)
            regions.append(region)
        if name in grounds:
            top = horizon + (0.97 - horizon) * below / len(ordered) + (draw.between(0.0, 0.06) if below else 0.0)
            region = _region(draw, name, 0.6 + 0.4 * below / max(1, len(ordered) - 1), photos)
            if name == "road" and below:
                _street(draw, region, min(top + 0.12, 0.85), aspect)
            else:
                _band(draw, region, top, aspect)
            regions.append(region)
            below += 1
    return regions


def _from_above(draw: Draw, names: Sequence[str], aspect: float, photos: int) -> list[Region]:
    grounds = [name for name in names if name != "sky"]
    base = draw.integer(0, len(grounds) - 3)
    regions = [_everywhere(draw, grounds[base], photos)]
    regions[0].depth = 1.0
    count = min(draw.integer(2, 4), len(grounds) - base - 1)
    chosen = set(draw.shuffled(range(base + 1, len(grounds)))[:count])
    # Each has a part of the picture to itself, so that a nearer one does not hide it all.
    slots = draw.shuffled(range(count))
    for position in sorted(chosen):
        region = _region(draw, grounds[position], 1.0, photos)
        slot = slots.pop()
        x = aspect * (slot + draw.between(0.3, 0.7)) / count
        y = draw.between(0.2, 0.8)
        if region.name == "road":
            lean = draw.between(-0.4, 0.4)
            _lane(region, (x - lean, -_BEYOND), (x + lean, 1 + _BEYOND), draw.between(0.09, 0.13))
        else:
            _patch(draw, region, x, y, draw.between(0.3, 0.4))
        regions.append(region)
    return regions


def _region(draw: Draw, name: str, depth: float, photos: int) -> Region:
    finish = FINISHES[name]
    first, second = draw.choice(finish.colours)
    shift = [draw.integer(-14, 14) for _ in range(3)]
    tile = TILE[draw.choice(finish.tiles)]
    density = draw.between(*finish.density)
    painted = draw.chance(60)
    photo = draw.integer(0, photos - 1) if photos else -1
    return Region(
        name, _shifted(first, shift), _shifted(second, shift), tile, density, depth, photo if painted else -1
    )  # fmt: skip


def _shifted(colour: Colour, shift: Sequence[int]) -> Colour:
    red, green, blue = (min(255, max(0, level + change)) for level, change in zip(colour, shift, strict=True))
    return (red, green, blue)


def _everywhere(draw: Draw, name: str, photos: int) -> Region:
    region = _region(draw, name, 0.2, photos)
    region.fill()
    return region


def _band(draw: Draw, region: Region, top: float, aspect: float) -> None:
    """All below a border that is slanted, stepped or wavy."""
    left, right = -_BEYOND, aspect + _BEYOND
    border = draw.integer(0, 2)
    slant = draw.between(-0.05, 0.05) if border == 0 else 0.0
    reach = slant * (right - left) / aspect
    region.polygon((left, top - reach / 2), (right, top + reach / 2), (right, 1 + _BEYOND), (left, 1 + _BEYOND))
    for _ in range(draw.integer(2, 4) if border else 0):
        x, rise = draw.between(-0.2, aspect + 0.2), draw.between(0.015, 0.05)
        wide = draw.between(0.15, 0.45)
        if border == 1:
            region.polygon((x - wide, top - rise), (x + wide, top - rise), (x + wide, 1.0), (x - wide, 1.0))
        else:
            region.ellipse(x, top + rise * 0.2, wide, rise * 1.4)


def _street(draw: Draw, region: Region, middle: float, aspect: float) -> None:
    """A road from left to right."""
    slant = draw.between(-0.06, 0.06)
    _lane(region, (-_BEYOND, middle - slant), (aspect + _BEYOND, middle + slant), draw.between(0.08, 0.11))


def _lane(region: Region, start: tuple[float, float], end: tuple[float, float], radius: float) -> None:
    """A road with dashes along its middle."""
    region.strip(start, end, radius)
    dashes = 9
    for number in range(1, dashes - 1):
        ends = [(number + offset) / dashes for offset in (0.3, 0.7)]
        points = [(start[0] + (end[0] - start[0]) * s, start[1] + (end[1] - start[1]) * s) for s in ends]
        region.marking(points[0], points[1], radius * 0.07)


def _hills(draw: Draw, region: Region, base: float, aspect: float) -> None:
    """Broad round hills."""
    count = draw.integer(2, 3)
    for number in range(count):
        x = aspect * (number + draw.between(0.1, 0.9)) / count
        region.ellipse(x, base + 0.1, draw.between(0.45, 0.8), draw.between(0.22, 0.36))


def _peaks(draw: Draw, region: Region, base: float, aspect: float) -> None:
    """Mountains with blunt tops."""
    count = draw.integer(2, 4)
    for number in range(count):
        x = aspect * (number + draw.between(0.2, 0.8)) / count
        top, wide = base - draw.between(0.14, 0.3), draw.between(0.35, 0.6)
        blunt = draw.between(0.02, 0.06)
        region.polygon(
            (x - wide, base + 0.3), (x - wide * 0.5, (base + top) / 2), (x - blunt, top), (x + blunt, top + 0.02),
            (x + wide * 0.6, (base + top) / 2), (x + wide, base + 0.3),
        )  # fmt: skip


def _trees(draw: Draw, region: Region, base: float, aspect: float) -> None:
    """A row of crowns."""
    count = draw.integer(4, 6)
    first, last = (0.0, aspect) if draw.chance(60) else (draw.between(0.0, 0.6 * aspect), draw.between(0.8, 1) * aspect)
    for number in range(count):
        x = first + (last - first) * (number + draw.between(0.2, 0.8)) / count
        region.ellipse(x, base + 0.02, draw.between(0.12, 0.26), draw.between(0.1, 0.2))


RISING: dict[str, Callable[[Draw, Region, float, float], None]] = {"rock": _peaks, "snow": _hills, "forest": _trees}
GROUNDS = ("snow", "water", "sand", "grass", "road")


def _patch(draw: Draw, region: Region, x: float, y: float, size: float) -> None:
    """A pond, an island, a grove: a few ellipses that overlap, or a field with corners."""
    if draw.chance(70):
        around = draw.between(0.0, 1.0)
        for number in range(3):
            dx, dy = (size * draw.between(0.2, 0.4) * float(wave(around + number / 3 + turn)) for turn in (0.25, 0.0))
            radius = size * draw.between(0.5, 0.75)
            region.ellipse(x + dx, y + dy, radius, radius * draw.between(0.6, 0.9))
    else:
        _boulder(draw, region, x, y, draw.between(0.25, 0.4))


def _boulder(draw: Draw, region: Region, x: float, y: float, size: float) -> None:
    """Six corners."""
    wide = size * draw.between(1.1, 1.6)
    corners = ((-1.0, 0.3), (-0.6, -0.7), (0.2, -1.0), (0.8, -0.6), (1.0, 0.4), (0.1, 1.0))
    shift = draw.between(-0.1, 0.1)
    region.polygon(
        *((x + wide * (u + shift * v), y + size * v) for u, v in corners)
    )  # fmt: skip
