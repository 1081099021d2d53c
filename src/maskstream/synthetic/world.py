"""Scenes: chance puts things into places and moves them, before a camera.

Everything that happens is a function of the seed and the time, so a shorter clip is the beginning of a longer one: the
same pixels, the same ids; what comes into view only later is left out. ids are numbered in the order in which entities
come into view.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from maskstream.types import InputError

from .exact import Affine, Draw, Scalar, composed, length, moved, scaled, stack, stay, turned, wave
from .places import FAR_TO_NEAR, FOREGROUNDS, Region, foreground, plain_place, rich_place
from .scene import COLOURS, HALF_PLANES, STUFF, THINGS, Entity, Parts, Pattern, Scene, ShapeKind
from .things import KINDS, Body, Kind, Look, Part, away_from_zero, contrast, dressed
from .tiles import TILE, TILES_OF_PATTERN, tiles

Level: TypeAlias = Literal["easy", "medium", "hard"]
Times: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rules:
    """What a level has; frozen: a change makes a new version of the world.

    Attributes:
        things: fewest and most. The fewest are in view on the first frame.
        size: least and greatest length of a thing, heights of the picture.
        patterns: how many in a hundred things have a pattern.
        camera: how far it pans, heights of the picture, and zooms, as a factor.
        shake: heights of the picture.
        light: how much the light changes.
        crowd: how many in a hundred things resemble one that is there.
        noise: of the camera.
    """

    things: tuple[int, int]
    size: tuple[float, float]
    patterns: int
    rich: bool
    camera: tuple[float, float]
    shake: float
    light: float
    shadows: int
    crowd: int
    noise: int
    shutter: float = 0.0
    quality: tuple[int, int] | None = None
    cuts: int = 0


LEVELS: dict[Level, Rules] = {
    "easy": Rules(
        things=(2, 3), size=(0.32, 0.6), patterns=0, rich=False, camera=(0.0, 0.0), shake=0.0, light=0.0, shadows=0,
        crowd=0, noise=2,
    ),
    "medium": Rules(
        things=(3, 6), size=(0.24, 0.55), patterns=65, rich=True, camera=(0.22, 0.05), shake=0.0, light=0.08,
        shadows=60, crowd=25, noise=4,
    ),
    "hard": Rules(
        things=(5, 10), size=(0.16, 0.55), patterns=75, rich=True, camera=(0.28, 0.14), shake=0.006, light=0.16,
        shadows=70, crowd=50, noise=7, shutter=0.5, quality=(35, 80), cuts=65,
    ),
}  # fmt: skip


class _Path(NamedTuple):
    """Where a thing is in one setting: its middle, and its velocity a frame, in heights of the picture."""

    x: Scalar
    y: Scalar
    dx: Scalar
    dy: Scalar
    top_speed: float
    shown_t: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Individual:
    """What stays the same of a thing, wherever it is."""

    category: int
    pattern: Pattern
    colour: str
    size: float
    look: Look
    seed: int

    @property
    def kind(self) -> Kind:
        return KINDS[self.category - 1]


@dataclass(slots=True)
class _Actor:
    """Where an individual is: its body and its shadow in the picture, and the phase of its movement."""

    body_t23: NDArray[np.float64]
    shadow_t23: NDArray[np.float64]
    beat_t: Times
    shown_t: NDArray[np.bool_]
    shaded_t: NDArray[np.bool_]

    def first_in_view(self, aspect: float) -> int | None:
        """The first frame on which its middle is inside the picture."""
        x, y = self.body_t23[:, 0, 2], self.body_t23[:, 1, 2]
        return _first(self.shown_t & (x > 0) & (x < aspect) & (y > 0) & (y < 1))


@dataclass(frozen=True, slots=True)
class _Camera:
    """How a setting is filmed; on its first frame everything is seen where it is, but for the shake.

    Attributes:
        left, right: all that it ever sees, as far away as things are.
    """

    pan_x: Scalar
    pan_y: Scalar
    zoom: Scalar
    shake_x: Scalar
    shake_y: Scalar
    aspect: float
    left: float
    right: float

    def view(self, depth: float) -> Affine:
        """From a layer to the picture: far layers move less."""
        middle_x, middle_y = self.aspect / 2, 0.5
        zoom = 1.0 + (self.zoom - 1.0) * depth
        to_middle = moved(-middle_x - self.pan_x * depth, -middle_y - self.pan_y * depth)
        return moved(middle_x + self.shake_x, middle_y + self.shake_y) @ scaled(zoom, zoom) @ to_middle


class Rows(NamedTuple):
    """Rows of `Parts` that are shown together; ``place_tp23`` is ``float64[T, P, 2, 3]`` for these parts."""

    parts: list[Part]
    place_tp23: NDArray[np.float64]
    shown_t: NDArray[np.bool_]
    shadow: bool = False


def make_scene(
    *, level: Level, seed: int, frames: int, aspect: float = 854 / 480, photos: NDArray[np.uint8] | None = None
) -> Scene:
    """Make a scene up.

    Args:
        level: easy (two or three plain things, one or two kinds of stuff, a still camera), medium (three to six things
            with patterns and shadows, three kinds of stuff or more, a camera that pans, changing light), or hard (five
            to ten things, look-alikes, zoom and shake, cuts, motion blur, compression).
        seed: another seed, another scene.
        frames: how many, T.
        aspect: width of the picture over its height.
        photos: ``uint8[M, 64, 64, 3]``, tiles of a texture pack to paint with here and there.

    Returns:
        The scene. Every thing's middle, and every kind of stuff, is inside the picture on some frame, though it may be
        hidden behind nearer ones.

    Raises:
        InputError: there is no such level, no frame, or the photos are none.
    """
    if level not in LEVELS:
        raise InputError(f"there is no level {level!r}: choose one of {', '.join(LEVELS)}")
    if frames < 1:
        raise InputError(f"a scene has at least 1 frame, not {frames}")
    if not 0.2 <= aspect <= 5:
        raise InputError(f"a picture is 0.2 to 5 times as wide as it is high, not {aspect:g} times")
    if photos is None:
        photos = np.zeros((0, 64, 64, 3), np.uint8)
    if photos.dtype != np.uint8 or photos.shape[1:] != (64, 64, 3):
        raise InputError(f"photos are uint8[M, 64, 64, 3], not {photos.dtype}{list(photos.shape)}")
    rules, times = LEVELS[level], np.arange(frames, dtype=np.float64)
    key = (tuple(LEVELS).index(level), seed)
    crew = _cast(Draw(*key, 1), rules)
    starts, settings = _shots(Draw(*key, 2), rules, frames)
    setting_t = np.array(settings)[np.searchsorted(starts, times, side="right") - 1]
    chance = Draw(*key, 3)
    # A kind of stuff that is kept for the foreground, for some things to pass behind.
    near = chance.choice(FOREGROUNDS) if rules.rich and chance.chance(30) else None
    far_to_near: list[str | int] = [*chance.shuffled(range(len(crew)))]
    if near is not None:
        far_to_near.insert(chance.integer(1, len(crew) - 1), near)

    actors: dict[int, _Actor] = {}
    rows_of_stuff: dict[str, list[Rows]] = {}
    for setting in range(max(settings) + 1):
        draw, shown_t = Draw(*key, 4, setting), setting_t == setting
        since = times - float(np.argmax(shown_t))
        camera = _film(draw, rules, since, aspect)
        make_place = rich_place if rules.rich else plain_place
        place = make_place(draw, aspect=aspect, photos=len(photos), without=near)
        if near is not None:
            place.append(foreground(draw, near, aspect=aspect, photos=len(photos)))
        for region in place:
            rows_of_stuff.setdefault(region.name, []).append(_layer(region, camera, since, shown_t))
        _enter(draw, rules, crew, actors, since, shown_t, camera, first=setting == 0)

    entities, parts = _assemble(crew, actors, rows_of_stuff, far_to_near, near=near, aspect=aspect)
    return Scene(
        entities=entities,
        parts=parts,
        textures=tiles(),
        photos=photos,
        light_t3=_light(Draw(*key, 5), rules, times),
        noise=rules.noise,
        shutter=rules.shutter,
        quality=Draw(*key, 6).integer(*rules.quality) if rules.quality else None,
        cuts=tuple(starts[1:]),
        seed=seed,
    )


def _cast(draw: Draw, rules: Rules) -> list[_Individual]:
    """The individuals of all places."""
    things: list[_Individual] = []
    for _ in range(draw.integer(*rules.things)):
        category = draw.integer(1, len(THINGS))
        pattern: Pattern = "plain"
        if draw.chance(rules.patterns):
            pattern = draw.choice(("striped", "spotted", "checked"))
        colour = draw.choice(tuple(COLOURS))
        second = draw.choice([name for name, rgb in COLOURS.items() if contrast(rgb, COLOURS[colour]) >= 200])
        trim = draw.choice([name for name, rgb in COLOURS.items() if contrast(rgb, COLOURS[colour]) >= 150])
        light = draw.between(0.88, 1.08)
        main_rgb, second_rgb, trim_rgb = (_lit(COLOURS[name], light) for name in (colour, second, trim))
        tile = draw.choice(TILES_OF_PATTERN[pattern])
        look = dressed(draw, tile=tile, main=main_rgb, second=second_rgb, trim=trim_rgb)
        if things and draw.chance(rules.crowd):
            model, same = draw.choice(things), draw.choice(("paint", "category", "both"))
            if same != "paint":
                category = model.category
            if same != "category":
                pattern, colour, look = model.pattern, model.colour, model.look
        size = draw.between(*rules.size)
        things.append(_Individual(category, pattern, colour, size, look, draw.integer(0, 1 << 30)))
    return things


def _lit(colour: tuple[int, int, int], light: float) -> tuple[int, int, int]:
    red, green, blue = (min(255, int(level * light)) for level in colour)
    return (red, green, blue)


def _shots(draw: Draw, rules: Rules, frames: int) -> tuple[list[int], list[int]]:
    """First frame of each shot, and its setting: the camera goes back and forth between two or three."""
    starts, settings = [0], [0]
    count = draw.integer(2, 3)
    if not draw.chance(rules.cuts):
        return starts, settings
    while True:
        start = starts[-1] + draw.integer(14, 56)
        others = [number for number in range(min(count, max(settings) + 2)) if number != settings[-1]]
        setting = draw.choice(others)
        if start >= frames:
            return starts, settings
        starts.append(start)
        settings.append(setting)


def _film(draw: Draw, rules: Rules, since: Times, aspect: float) -> _Camera:
    """A camera that sways; by how much, the level says."""
    reach, closer = rules.camera
    across = draw.between(0.4, 1.0) * reach
    pan_x, least, greatest = _from_rest(draw, since, (160, 360))
    pan_y, _, _ = _from_rest(draw, since, (160, 360))
    zoom, farthest, _ = _from_rest(draw, since, (120, 300))
    phase = draw.between(0.0, 1.0)
    shake = [rules.shake * (wave(since / 9.7 + phase + turn) + wave(since / 4.3 + turn)) for turn in (0.0, 0.3)]
    half = aspect / 2 / (1.0 + closer * farthest) + 2 * rules.shake
    return _Camera(
        across * pan_x, 0.25 * across * pan_y, 1.0 + closer * zoom, shake[0], shake[1], aspect,
        left=aspect / 2 - half + across * least, right=aspect / 2 + half + across * greatest,
    )  # fmt: skip


def _from_rest(draw: Draw, since: Times, periods: tuple[int, int]) -> tuple[Scalar, float, float]:
    """A slow wave that starts at 0, and its least and greatest value."""
    period, phase = draw.integer(*periods), draw.between(0.0, 1.0)
    start = float(wave(phase))
    return wave(since / period + phase) - start, -1.0 - start, 1.0 - start


def _layer(region: Region, camera: _Camera, since: Times, shown_t: NDArray[np.bool_]) -> Rows:
    view = stack([camera.view(region.depth)], len(since))
    return Rows(region.parts, composed(view, stack([part.place for part in region.parts], 1)), shown_t)


def _enter(
    draw: Draw,
    rules: Rules,
    crew: Sequence[_Individual],
    actors: dict[int, _Actor],
    since: Times,
    shown_t: NDArray[np.bool_],
    camera: _Camera,
    *,
    first: bool,
) -> None:
    """Add what happens in one setting to the actors.

    In the first setting are the fewest things that the level allows, in view from the beginning, and perhaps others; in
    a later one are all others, and some of those, two of them in view from the beginning.
    """
    fewest, at_once = rules.things[0], rules.things[0] if first else 2
    shaded = draw.chance(rules.shadows)
    view = stack([camera.view(1.0)], len(since))[:, 0]
    taken: list[tuple[float, float, float]] = []
    for number, one in enumerate(crew):
        if not draw.chance(100 if (number < fewest) == first else 65):
            continue
        waits = len(taken) >= at_once and one.kind.roams and draw.chance(50)
        x, y = _free_spot(draw, one, camera.aspect, taken)
        path = _path(draw, one, since, x, y, camera, waits=waits)
        body, beat_t = _pose(draw, one, path, since, still=path.top_speed == 0)
        shadow = moved(path.x, path.y) @ _shadow_shape(one, body)
        if number not in actors:
            blank, never = np.zeros((len(since), 2, 3)), np.zeros(len(since), dtype=np.bool_)
            actors[number] = _Actor(blank, blank.copy(), np.zeros(len(since)), never, never.copy())
        actor = actors[number]
        actor.body_t23[shown_t] = composed(view, stack([body], len(since))[:, 0])[shown_t]
        actor.shadow_t23[shown_t] = composed(view, stack([shadow], len(since))[:, 0])[shown_t]
        actor.beat_t[shown_t] = beat_t[shown_t]
        actor.shown_t |= shown_t & path.shown_t
        actor.shaded_t |= shown_t & path.shown_t & shaded


def _free_spot(
    draw: Draw, one: _Individual, aspect: float, taken: list[tuple[float, float, float]]
) -> tuple[float, float]:
    """The best of some places where it could begin, away from those that are taken; it is taken then."""
    home = "any" if draw.chance(35) else one.kind.home
    low, high = {"high": (0.2, 0.5), "low": (0.5, 0.82), "any": (0.2, 0.8)}[home]
    best, room = (aspect / 2, 0.5), -10.0
    for _ in range(8):
        x, y = draw.between(0.12, 0.88) * aspect, draw.between(low, high)
        gaps = [length(x - there_x, y - there_y) - (one.size + size) / 2 for there_x, there_y, size in taken]
        gap = float(min([10.0, *gaps]))
        if gap > room:
            best, room = (x, y), gap
    taken.append((*best, one.size))
    return best


def _path(draw: Draw, one: _Individual, since: Times, x: float, y: float, camera: _Camera, *, waits: bool) -> _Path:
    """Standing still, round a closed curve, or straight across, to come back on the other side.

    Args:
        draw: chance.
        one: who.
        since: frames since the setting began.
        x: where it begins.
        y: where it begins.
        camera: what sees it.
        waits: it is outside the picture at first, and comes in.
    """
    kind = one.kind
    style = draw.integer(0, 99)
    always = np.ones(len(since), np.bool_)
    if not kind.roams or (style < 18 and not waits):
        heading = draw.between(0.0, 1.0) + 0.03 * wave(since / draw.integer(70, 160))
        drift = 0.006 * draw.between(0.0, 1.0) * _from_rest(draw, since, (50, 110))[0] if kind.roams else 0.0
        return _Path(x, y + drift, wave(heading + 0.25), wave(heading), 0.0, always)
    flat = kind.home == "low" and kind.heading != "turns"
    if style < 55 and not waits:
        period = draw.integer(100, 260)
        wide, tall = draw.between(0.14, 0.42), draw.between(0.01, 0.04) if flat else draw.between(0.08, 0.24)
        wide *= draw.sign()
        across, down, twice = draw.between(0.0, 1.0), draw.between(0.15, 0.35), draw.integer(1, 2)
        turn = since / period + across
        leap = 2 * np.pi / period
        return _Path(
            x + wide * (wave(turn) - wave(across)),
            y + tall * (wave(twice * turn + down) - wave(twice * across + down)),
            leap * wide * wave(turn + 0.25),
            leap * twice * tall * wave(twice * turn + down + 0.25),
            leap * abs(wide),
            always,
        )
    speed, side = draw.between(0.004, 0.013), draw.sign()
    # Far enough outside to be seen no more, it goes back to the other side, and is away meanwhile.
    margin, pause = 0.72 * one.size + 0.02, draw.between(0.0, 0.4)
    lap = camera.right - camera.left + 2 * margin + pause
    begun = draw.between(-pause, margin) if waits else margin + (x - camera.left if side > 0 else camera.right - x)
    gone = (speed * since + begun) % lap
    period, rise = draw.integer(70, 160), draw.between(0.0, 0.015) if flat else draw.between(0.02, 0.1)
    phase = draw.between(0.0, 1.0)
    return _Path(
        camera.left - margin + gone if side > 0 else camera.right + margin - gone,
        y + rise * (wave(since / period + phase) - wave(phase)),
        side * speed,
        2 * np.pi / period * rise * wave(since / period + phase + 0.25),
        speed,
        (gone > speed) & (gone < lap - speed),
    )


def _pose(draw: Draw, one: _Individual, path: _Path, since: Times, *, still: bool) -> tuple[Affine, Times]:
    """From the body to the setting, and the phase of its limbs."""
    swell, phase = draw.between(0.0, 0.14), draw.between(0.0, 1.0)
    size = one.size * (1.0 + swell * wave(since / draw.integer(90, 200) + phase))
    beat = since / draw.integer(*one.kind.beat) + draw.between(0.0, 1.0)
    at = moved(path.x, path.y) @ scaled(size, size)
    if one.kind.heading == "turns":
        speed = np.maximum(length(path.dx, path.dy), 1e-6)
        ahead, aside = path.dx / speed, path.dy / speed
        return at @ Affine(ahead, -aside, 0.0, aside, ahead, 0.0), beat
    if one.kind.heading == "upright":
        return at @ turned(0.006 * wave(beat * 0.5)) if one.kind.roams else at, beat
    # It faces the way it goes, and turns about like a sheet of paper; uphill it is tilted.
    pace = path.top_speed or 1.0
    face = away_from_zero(np.clip(2.5 * path.dx / pace, -1.0, 1.0), 0.25)
    tilt = 0.0 if still or not one.kind.idles else 0.06 * np.clip(path.dy / pace, -1.0, 1.0)
    if not one.kind.idles:
        # Wheels and feet do not slip.
        beat = path.x * np.sign(face) / (0.75 * one.size) + draw.between(0.0, 1.0) + 0.0 * since
    return at @ scaled(face, 1.0) @ turned(tilt), beat


def _shadow_shape(one: _Individual, body: Affine) -> Affine:
    """Of the unit circle, about the middle of the body: on the ground beneath, or beside what is seen from above."""
    size = length(body.xu, body.yu) if one.kind.heading != "faces" else length(body.xv, body.yv)
    if one.kind.foot is None:
        turn = Affine(body.xu, body.xv, 0.04 * size, body.yu, body.yv, 0.06 * size)
        return turn @ scaled(0.42, one.kind.wide)
    return moved(0.0, one.kind.foot * size) @ scaled(0.42 * size, 0.055 * size)


def _assemble(
    crew: Sequence[_Individual],
    actors: Mapping[int, _Actor],
    rows_of_stuff: Mapping[str, Sequence[Rows]],
    far_to_near: Sequence[str | int],
    *,
    near: str | None,
    aspect: float,
) -> tuple[tuple[Entity, ...], Parts]:
    """Put all in order, far to near, without what is never in view.

    Args:
        crew: all individuals.
        actors: those that are in some setting, by number.
        rows_of_stuff: by name; that of the backdrop is empty.
        far_to_near: numbers of individuals, and ``near`` among them.
        near: the stuff in the foreground.
        aspect: width of the picture.
    """
    first_of_thing = {number: actor.first_in_view(aspect) for number, actor in actors.items()}
    order: list[str | int] = [name for name in ("", *FAR_TO_NEAR) if name in rows_of_stuff and name != near]
    order += [
        what for what in far_to_near if what == near or (isinstance(what, int) and first_of_thing.get(what) is not None)
    ]
    arrival = {what: _arrival(what, first_of_thing, rows_of_stuff) for what in order}
    ids = {
        what: number
        for number, what in enumerate(sorted((what for what in order if what != ""), key=arrival.__getitem__), 1)
    }
    entities: list[Entity] = []
    rows: list[tuple[int, Rows]] = []
    for what in order:
        number = ids.get(what, 0)
        if isinstance(what, str):
            rows += [(number, of_setting) for of_setting in rows_of_stuff[what]]
            if what:
                entities.append(_stuff_entity(number, what, rows_of_stuff[what][0]))
        else:
            one, actor = crew[what], actors[what]
            entities.append(Entity(number, one.category, one.pattern, one.colour, one.size))
            if actor.shaded_t.any():
                rows.append((0, _shadow(actor)))
            rows.append((number, _body(one, actor)))
    return tuple(entities), pack(rows)


def _arrival(
    key: str | int, first_of_thing: Mapping[int, int | None], rows_of_stuff: Mapping[str, Sequence[Rows]]
) -> tuple[int, int, int]:
    """What ids are ordered by: the first frame in view; stuff first; then any order that never changes."""
    if isinstance(key, int):
        return first_of_thing[key] or 0, 1, key
    firsts = [_first(rows.shown_t) for rows in rows_of_stuff[key]]
    return min(first for first in firsts if first is not None), 0, ("", *STUFF).index(key)


def _first(flags: NDArray[np.bool_]) -> int | None:
    return int(np.argmax(flags)) if flags.any() else None


def _stuff_entity(number: int, name: str, rows: Rows) -> Entity:
    """Its colour is the nearest that has a name."""
    part = rows.parts[0]
    mean = [(a + b) // 2 for a, b in zip(part.colour, part.second, strict=True)]
    away = {name: sum(abs(a - b) for a, b in zip(mean, rgb, strict=True)) for name, rgb in COLOURS.items()}
    category = len(THINGS) + 1 + STUFF.index(name)
    return Entity(number, category, "plain", min(away, key=away.__getitem__), 1.0)


def _shadow(actor: _Actor) -> Rows:
    part = Part(ShapeKind.ELLIPSE, (), stay(), TILE["plain"], 0.0, (0, 0, 0), (0, 0, 0))
    return Rows([part], _invertible(actor.shadow_t23)[:, None], actor.shaded_t, shadow=True)


def _body(one: _Individual, actor: _Actor) -> Rows:
    body = Body(one.look)
    draw = Draw(one.seed)
    stretch = scaled(draw.between(0.92, 1.08), draw.between(0.92, 1.08))
    one.kind.build(draw, actor.beat_t, body)
    frames = len(actor.beat_t)
    local = stack([stretch @ part.place for part in body.parts], frames)
    return Rows(body.parts, composed(_invertible(actor.body_t23)[:, None], local), actor.shown_t)


def _invertible(place_t23: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where it is not shown it has some place, too, because engines invert them all."""
    missing = np.asarray(~place_t23[:, :, :2].any(axis=(1, 2)))
    return np.where(missing[:, None, None], np.array([[1.0, 0.0, -9.0], [0.0, 1.0, -9.0]]), place_t23)


def pack(rows: Sequence[tuple[int, Rows]]) -> Parts:
    """All rows in one, far to near, each with the id of the entity they belong to, or 0."""
    flat = [(number, group.shadow, part) for number, group in rows for part in group.parts]
    params = np.zeros((len(flat), 3 * HALF_PLANES), np.float32)
    for line, (_, _, part) in zip(params, flat, strict=True):
        line[: len(part.params)] = part.params
    return Parts(
        entity_p=np.array([number for number, _, _ in flat], np.int64),
        kind_p=np.array([part.kind for _, _, part in flat], np.int64),
        params_pk=params,
        place_tp23=np.concatenate([group.place_tp23 for _, group in rows], axis=1).astype(np.float32),
        shown_tp=np.concatenate(
            [np.repeat(group.shown_t[:, None], len(group.parts), axis=1) for _, group in rows], axis=1
        ),
        shadow_p=np.array([shadow for _, shadow, _ in flat], np.bool_),
        texture_p=np.array([part.tile for _, _, part in flat], np.int64),
        texture_scale_p=np.array([part.texture_scale for _, _, part in flat], np.float32),
        colour_p3=(np.array([part.colour for _, _, part in flat], np.float64) / 255).astype(np.float32),
        second_p3=(np.array([part.second for _, _, part in flat], np.float64) / 255).astype(np.float32),
        photo_p=np.array([part.photo for _, _, part in flat], np.int64),
    )


def _light(draw: Draw, rules: Rules, times: Times) -> NDArray[np.float32]:
    """``float32[T, 3]``: brighter and darker, warmer and cooler."""
    bright = 1.0 + rules.light * wave(times / draw.integer(70, 200) + draw.between(0.0, 1.0))
    warm = 0.3 * rules.light * wave(times / draw.integer(90, 260) + draw.between(0.0, 1.0))
    return np.stack([bright + warm, bright + 0.0 * times, bright - warm], axis=1).astype(np.float32)
