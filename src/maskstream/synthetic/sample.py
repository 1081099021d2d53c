"""The sample clip: a scene of this world, directed by hand, with exact ground truth.

What happens in the first 90 frames: a large fish crosses the picture, a turtle swims over it, a small fish leaves on
the right and comes back, an octopus enters late from the left. Longer clips repeat the movement; a shorter clip is the
beginning of a longer one. The camera pans all the time.

The pixels are the same on every machine; `exact` and `render` say why.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from maskstream.types import OBJECT, Frame, FrameAnnotation, FrameSegmentation, InputError, LabelMap, Segment

from .exact import Affine, Draw, composed, length, moved, scaled, stack, turned, wave
from .places import Region
from .render import render
from .scene import COLOURS, THINGS, Entity, Pattern, Scene
from .things import KINDS, Body, Colour, Look, Paint, away_from_zero
from .tiles import TILE, tiles
from .world import Rows, Times, pack

FPS = 24.0
MAX_OBJECTS = 16
_FRAMES_PER_SCENE = 64
_FRAMES_PER_WAYPOINT = 20
_NOISE = 2


@dataclass(frozen=True, slots=True)
class _Actor:
    """One object: what it looks like and where it goes.

    Attributes:
        category: one of `THINGS`.
        path_xy: waypoints of a closed path, in pixels of an 854×480 picture, twenty frames apart.
        size: its length there.
        depth: larger is nearer to the camera.
        beat: frames of one cycle of its movement.
        pattern: of its main parts,
        tile: and the tile that draws it.
        colours: names of the colours of body, pattern, and fins or flippers.
        swell: relative change of its size, over 120 frames.
        phase: frames by which it is ahead of its path.
    """

    category: str
    path_xy: tuple[tuple[int, int], ...]
    size: float
    depth: int
    beat: int
    pattern: Pattern
    tile: str
    colours: tuple[str, str, str]
    swell: float = 0.0
    phase: int = 0

    @property
    def look(self) -> Look:
        """How it is painted."""
        main, second, limbs = (COLOURS[name] for name in self.colours)
        dark = (main[0] // 2, main[1] // 2, main[2] // 2)
        paints: dict[Paint, Colour] = {
            "main": main, "flat": main, "second": limbs, "dark": dark, "eye": (240, 240, 238), "pupil": (24, 24, 28)
        }  # fmt: skip
        return Look(TILE[self.tile], 2.2, paints, second)


# fmt: off
_CAST = (
    _Actor(
        "fish", size=232, depth=0, beat=30, swell=0.08, pattern="spotted", tile="spots",
        colours=("purple", "white", "pink"),
        path_xy=(
            (165, 314), (228, 292), (300, 274), (380, 254), (465, 242), (545, 250),
            (610, 300), (565, 360), (470, 390), (370, 395), (260, 395), (145, 372),
        ),
    ),
    _Actor(
        "turtle", size=166, depth=2, beat=44, swell=-0.08, pattern="checked", tile="diamonds",
        colours=("orange", "brown", "green"),
        path_xy=(
            (640, 84), (575, 96), (512, 122), (448, 158), (376, 196), (310, 256),
            (250, 345), (320, 405), (430, 415), (530, 365), (620, 290), (665, 180),
        ),
    ),
    _Actor(
        "fish", size=150, depth=3, beat=18, pattern="striped", tile="stripes",
        colours=("orange", "white", "orange"),
        path_xy=(
            (752, 342), (842, 324), (925, 292), (925, 222), (848, 192), (762, 188),
            (685, 215), (620, 270), (600, 340), (635, 385), (680, 390), (705, 368),
        ),
    ),
    _Actor(
        "octopus", size=190, depth=1, beat=42, swell=0.08, pattern="spotted", tile="blots",
        colours=("red", "pink", "red"),
        path_xy=(
            (-190, 120), (-130, 118), (-58, 122), (16, 136), (92, 146), (170, 150),
            (250, 140), (290, 80), (230, 10), (130, -60), (0, -110), (-130, -40),
        ),
    ),
)
# fmt: on
# Colours of those who come after these four.
_PALETTES = (
    ("yellow", "black", "yellow"),
    ("red", "yellow", "orange"),
    ("pink", "purple", "white"),
    ("white", "red", "red"),
    ("black", "yellow", "black"),
    ("orange", "red", "yellow"),
    ("purple", "yellow", "orange"),
)


def render_sample(
    *, frames: int = 90, size_hw: tuple[int, int] = (480, 854), objects: int = 4, seed: int = 0
) -> Iterator[tuple[Frame, FrameAnnotation]]:
    """Draw the sample clip, one frame at a time.

    Args:
        frames: how many frames; frame n does not depend on it.
        size_hw: height and width of the picture, at least 32 each.
        objects: how many objects, 1 to 16; object n does not depend on it.
        seed: another seed gives another sea, other proportions and slightly other paths.

    Yields:
        Frames at 24 per second, and their truth: disjoint segments of category 1 ("object"), ``id`` and ``track_id``
        both the object's number from 1, only those that are visible. A pixel belongs to the nearest object that
        its centre is in.

    Raises:
        InputError: an argument is out of range.
    """
    if frames < 1 or min(size_hw) < 32 or not 1 <= objects <= MAX_OBJECTS:
        raise InputError(
            f"a sample has at least 1 frame of at least 32×32 pixels and 1 to {MAX_OBJECTS} objects, "
            f"not {frames} frames of {size_hw[0]}×{size_hw[1]} and {objects} objects"
        )
    return _render(frames, size_hw, _cast(objects, seed), seed)


def _render(
    frames: int, size_hw: tuple[int, int], actors: list[_Actor], seed: int
) -> Iterator[tuple[Frame, FrameAnnotation]]:
    sea = _sea(Draw(seed, 0), size_hw[1] / size_hw[0])
    for start in range(0, frames, _FRAMES_PER_SCENE):
        stop = min(start + _FRAMES_PER_SCENE, frames)
        # Frame 0 is in every scene, because limbs are as wide as they are on the first.
        times = np.array([0, *range(start, stop)], np.float64)
        scene = _scene(sea, actors, times, size_hw[1] / size_hw[0], seed)
        for index, drawn in enumerate(render(scene, size_hw, start=1, motion=False), start=start):
            yield Frame(index, index / FPS, drawn.frame.image), _annotate(index, drawn.annotation.segmentation)


def _cast(objects: int, seed: int) -> list[_Actor]:
    """The actors; from the fifth on they are smaller, in other colours, on mirrored paths and at another time."""
    actors = []
    for number in range(objects):
        role, crowd = _CAST[number % len(_CAST)], number // len(_CAST)
        draw = Draw(seed, 1, number)
        shift_x, shift_y = (draw.integer(-8, 8) if seed else 0 for _ in "xy")
        path = [(854 - x if crowd & 1 else x, 480 - y if crowd & 2 or crowd == 1 else y) for x, y in role.path_xy]
        actors.append(
            replace(
                role,
                path_xy=tuple((x + shift_x, y + shift_y) for x, y in path),
                size=role.size * 0.75 ** min(crowd, 2),
                depth=role.depth + len(_CAST) * crowd,
                phase=70 * crowd,
                colours=_PALETTES[(number - len(_CAST)) % len(_PALETTES)] if crowd else role.colours,
            )
        )
    return actors


def _scene(sea: list[Region], actors: list[_Actor], times: Times, aspect: float, seed: int) -> Scene:
    """The frames at these times; the first may be any, the others follow one another."""
    shown_t = np.ones(len(times), np.bool_)
    # The camera goes round an ellipse in a minute, and up and down; at first to the right, 1.25 pixels of 480 a frame.
    camera = stack([moved(-0.6 * wave(times / 1440), -0.03 * wave(times / 160))], len(times))
    rows = [
        (0, Rows(region.parts, composed(camera, stack([part.place for part in region.parts], 1)), shown_t))
        for region in sea
    ]
    entities = []
    for number in sorted(range(len(actors)), key=lambda number: (actors[number].depth, number)):
        actor = actors[number]
        category = THINGS.index(actor.category)
        body = Body(actor.look)
        KINDS[category].build(Draw(seed, 2, number), (times + actor.phase) / actor.beat, body)
        places = [_pose(actor, times, aspect) @ part.place for part in body.parts]
        rows.append((number + 1, Rows(body.parts, stack(places, len(times)), shown_t)))
        entities.append(Entity(number + 1, category + 1, actor.pattern, actor.colours[0], actor.size / 480))
    return Scene(
        entities=tuple(entities),
        parts=pack(rows),
        textures=tiles(),
        photos=np.zeros((0, 64, 64, 3), np.uint8),
        light_t3=np.ones((len(times), 3), np.float32),
        noise=_NOISE,
        fps=FPS,
        seed=seed + int(times[1]),
    )


def _pose(actor: _Actor, times: Times, aspect: float) -> Affine:
    """From its own coordinates to the picture."""
    x, y, dx, dy = _swim(actor, times)
    size = actor.size / 480 * (1.0 + actor.swell * wave(times / 120))
    at = moved(x * (aspect / 854), y / 480) @ scaled(size, size)
    speed = length(dx, dy)
    ahead, aside = dx / speed, dy / speed
    heading = KINDS[THINGS.index(actor.category)].heading
    if heading == "turns":
        return at @ Affine(ahead, -aside, 0.0, aside, ahead, 0.0)
    if heading == "faces":
        # It turns about like a sheet of paper, and looks up or down a little where it goes.
        return at @ scaled(away_from_zero(np.clip(2.5 * ahead, -1.0, 1.0), 0.25), 1.0) @ turned(0.08 * aside)
    return at @ turned(0.02 * wave(times / actor.beat / 2))


def _swim(actor: _Actor, times: Times) -> tuple[Times, Times, Times, Times]:
    """Where it is and its velocity, in pixels of an 854×480 picture: a closed Catmull-Rom spline."""
    step = times + actor.phase
    segment, t = (step // _FRAMES_PER_WAYPOINT).astype(np.int64), step % _FRAMES_PER_WAYPOINT / _FRAMES_PER_WAYPOINT
    path = np.array(actor.path_xy, np.float64)
    place, velocity = [], []
    for axis in (0, 1):
        p0, p1, p2, p3 = (path[(segment + offset) % len(path), axis] for offset in (-1, 0, 1, 2))
        c1, c2, c3 = p2 - p0, 2 * p0 - 5 * p1 + 4 * p2 - p3, 3 * (p1 - p2) + p3 - p0
        place.append(0.5 * (2 * p1 + t * (c1 + t * (c2 + t * c3))))
        velocity.append(c1 + t * (2 * c2 + 3 * t * c3))
    return place[0], place[1], velocity[0], velocity[1]


def _sea(draw: Draw, aspect: float) -> list[Region]:
    """What is behind, far to near, as far as the camera goes: water with rays of light, reefs, sand, corals, weed."""
    left, right = -0.75, aspect + 0.75

    def along(count: int) -> list[float]:
        return [left + (right - left) * (number + draw.between(0.2, 0.8)) / count for number in range(count)]

    deep = _region("clouds", 2.0, (10, 58, 104), (40, 124, 164))
    deep.fill()
    bright = _region("clouds", 2.0, (18, 86, 136), (66, 160, 192))
    for x in along(3):
        bright.ellipse(x, -0.3, 1.2, draw.between(0.7, 0.9))
    rays = _region("clouds", 2.0, (40, 126, 168), (122, 204, 218))
    for x in along(5):
        top, lean = draw.between(0.03, 0.06), draw.between(0.16, 0.24)
        rays.polygon((x - top, -0.2), (x + top, -0.2), (x - lean + 2 * top, 0.9), (x - lean - 2 * top, 0.9))
    far = _region("cracks", 3.2, (18, 66, 100), (52, 120, 146))
    for x in along(4):
        far.ellipse(x, 0.86, draw.between(0.22, 0.42), draw.between(0.12, 0.34))
    near = _region("cracks", 2.6, (34, 58, 78), (104, 130, 140))
    for x in along(3):
        near.ellipse(x, 0.92, draw.between(0.16, 0.3), draw.between(0.12, 0.26))
    sand = _region("dunes", 1.6, (158, 152, 120), (230, 218, 174))
    sand.polygon((left - 1, 0.87), (right + 1, 0.87), (right + 1, 2.0), (left - 1, 2.0))
    for x in along(3):
        sand.ellipse(x, 0.92, draw.between(0.4, 0.6), draw.between(0.07, 0.12))
    sea = [deep, bright, rays, far, near, sand]
    for x in along(4):
        dark, pale = draw.choice((((24, 88, 92), (112, 186, 158)), ((96, 66, 92), (172, 128, 150))))
        coral, size = _region("leaves", 3.6, dark, pale), draw.between(0.06, 0.1)
        coral.ellipse(x, 0.93, 1.3 * size, size)
        coral.ellipse(x + 1.3 * size, 0.96, 0.9 * size, 0.7 * size)
        sea.append(coral)
    weed = _region("blades", 3.0, (16, 80, 64), (78, 164, 96))
    for x in along(3):
        for stalk in (-1, 0, 1):
            root = x + 0.05 * stalk
            weed.strip((root, 1.1), (root + draw.between(-0.03, 0.05), 0.98 - draw.between(0.12, 0.32)), 0.014)
    return [*sea, weed]


def _region(tile: str, density: float, colour: Colour, second: Colour) -> Region:
    return Region("", colour, second, TILE[tile], density, 1.0)


def _annotate(index: int, seen: FrameSegmentation) -> FrameAnnotation:
    """Objects without their categories, in the order of their numbers."""
    ids = [segment.id for segment in seen.segments]
    positions = {number: position for position, number in enumerate(sorted(ids), start=1)}
    position_of = np.array([0, *(positions[number] for number in ids)], np.int32)
    category, is_thing = OBJECT.categories[0].id, OBJECT.categories[0].is_thing
    segments = tuple(Segment(number, number, category=category, is_thing=is_thing) for number in positions)
    label_map = LabelMap(torch.from_numpy(position_of[seen.label_map().numpy()]))
    return FrameAnnotation(FrameSegmentation(index, seen.size_hw, segments, label_map))
