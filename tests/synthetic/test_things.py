"""Shape grammars of things, and the chance and geometry beneath them."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskstream.synthetic.exact import Affine, Draw, composed, joint, scaled, stack, stay, turned, wave
from maskstream.synthetic.scene import COLOURS, HALF_PLANES, THINGS, ShapeKind
from maskstream.synthetic.things import KINDS, Body, Colour, Look, Part, capsule, contrast, dressed, half_planes
from maskstream.synthetic.tiles import TILE, TILES_OF_PATTERN, tiles

RED, BLUE, GREEN = (200, 40, 40), (40, 40, 200), (30, 200, 30)
LOOK = dressed(Draw(1), tile=TILE["spots"], main=RED, second=BLUE, trim=GREEN)
CYCLE = np.arange(24) / 24
CATEGORIES = pytest.mark.parametrize("category", range(len(THINGS)), ids=THINGS)


def drawn(category: int, seed: int, look: Look = LOOK) -> list[Part]:
    """One individual over a cycle of its movement."""
    body = Body(look)
    KINDS[category].build(Draw(seed), CYCLE, body)
    return body.parts


def corners_of(params: tuple[float, ...]) -> list[tuple[float, float]]:
    """Where two sides meet and no other side cuts it off."""
    planes = [params[start : start + 3] for start in range(0, 3 * HALF_PLANES, 3)]
    planes = [plane for plane in planes if plane[:2] != (0.0, 0.0)]
    found = []
    for (a, b, c), (d, e, f) in combinations(planes, 2):
        area = a * e - b * d
        if abs(area) > 1e-9:
            x, y = (b * f - c * e) / area, (c * d - a * f) / area
            if all(p * x + q * y + r > -1e-6 for p, q, r in planes):
                found.append((x, y))
    return found


def outline(part: Part) -> list[tuple[float, float]]:
    if part.kind == ShapeKind.POLYGON:
        return corners_of(part.params)
    circle = [(math.cos(turn), math.sin(turn)) for turn in np.linspace(0, 2 * np.pi, 16)]
    if part.kind == ShapeKind.ELLIPSE:
        return circle
    return [(end + radius * x, radius * y) for end, radius in enumerate(part.params) for x, y in circle]


def extent(parts: list[Part]) -> tuple[float, float]:
    """How long it is either way, over all frames."""
    points = []
    for part in parts:
        place = stack([part.place], len(CYCLE))[:, 0]
        points += [place[:, :, 0] * u + place[:, :, 1] * v + place[:, :, 2] for u, v in outline(part)]
    span = np.ptp(np.concatenate(points), axis=0)
    return float(span[0]), float(span[1])


@CATEGORIES
def test_a_body_is_about_1_long(category):
    for seed in range(12):
        assert 0.85 < max(extent(drawn(category, seed))) < 1.25


@CATEGORIES
def test_parts_of_a_body_move(category):
    moving = [part for part in drawn(category, 0) if np.ptp(stack([part.place], len(CYCLE)), axis=0).max() > 0.005]
    assert moving


@CATEGORIES
def test_individuals_differ_in_proportions(category):
    places = [stack([part.place for part in drawn(category, seed)[:5]], len(CYCLE)).tobytes() for seed in range(6)]
    outlines = [str([part.params for part in drawn(category, seed)]) for seed in range(6)]
    assert len(set(zip(places, outlines, strict=True))) == 6


@CATEGORIES
def test_shape_does_not_depend_on_paint(category):
    other = dressed(Draw(2), tile=TILE["plain"], main=GREEN, second=RED, trim=BLUE)
    shapes = [
        [(part.kind, part.params, stack([part.place], len(CYCLE)).tobytes()) for part in drawn(category, 3, look)]
        for look in (LOOK, other)
    ]
    assert shapes[0] == shapes[1]


@CATEGORIES
def test_every_body_shows_its_pattern_and_its_main_colour(category):
    for seed in range(6):
        assert any(
            part.tile == LOOK.tile and (part.colour, part.second) == (RED, BLUE) for part in drawn(category, seed)
        )


@CATEGORIES
def test_no_colour_belongs_to_a_category(category):
    draw, names, count = Draw(3), list(COLOURS), 60
    seen: Counter[Colour] = Counter()
    for seed in range(count):
        main, second, trim = (COLOURS[name] for name in draw.shuffled(names)[:3])
        look = dressed(draw, tile=TILE["plain"], main=main, second=second, trim=trim)
        seen.update({part.colour for part in drawn(category, seed, look)})
    assert max(seen.values()) < 0.5 * count


def test_a_pupil_is_darker_than_its_eye_and_stands_out():
    for seed, (main, second, trim) in enumerate(permutations(COLOURS.values(), 3)):
        look = dressed(Draw(seed), tile=TILE["plain"], main=main, second=second, trim=trim)
        eye, pupil = look.colours["eye"], look.colours["pupil"]
        assert contrast(eye, pupil) >= 200
        assert sum(pupil) <= sum(eye)
        assert max(contrast(eye, main), contrast(pupil, main)) >= 120


@CATEGORIES
def test_every_polygon_is_convex(category):
    for seed in range(12):
        for part in drawn(category, seed):
            if part.kind == ShapeKind.POLYGON:
                sides = sum(plane != (0.0, 0.0) for plane in zip(part.params[::3], part.params[1::3], strict=True))
                assert len(corners_of(part.params)) >= min(sides, 3)


def test_no_two_categories_have_the_same_parts():
    grammars = {tuple(sorted(part.kind for part in drawn(category, 0))) for category in range(len(THINGS))}
    assert len(grammars) == len(THINGS)


@given(
    corner_count=st.integers(3, HALF_PLANES),
    clockwise=st.booleans(),
    point=st.tuples(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5)),
)
def test_half_planes_hold_what_is_on_the_inner_side_of_every_edge(corner_count, clockwise, point):
    turns = [number / corner_count for number in range(corner_count)]
    corners = [(math.cos(2 * math.pi * turn), 0.5 * math.sin(2 * math.pi * turn)) for turn in turns]
    crosses = [
        (x1 - x0) * (point[1] - y0) - (y1 - y0) * (point[0] - x0)
        for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True)
    ]
    if min(abs(cross) for cross in crosses) < 1e-9:
        return
    params = half_planes(corners if clockwise else corners[::-1])
    inside = all(params[k] * point[0] + params[k + 1] * point[1] + params[k + 2] > 0 for k in range(0, 18, 3))
    assert inside == all(cross > 0 for cross in crosses)


def test_a_capsule_joins_its_ends_and_keeps_its_width():
    end_x = np.array([0.5, 0.25, 0.4])
    place, params, _ = capsule((0.1, 0.2), (end_x, 0.2), (0.05, 0.02))
    matrices = stack([place], 3)[:, 0]
    assert np.allclose(matrices[:, :, 2], (0.1, 0.2))
    assert np.allclose(matrices[:, 0, 0] + matrices[:, 0, 2], end_x)
    assert np.allclose(matrices[:, 1, 1] * params[0], 0.05)


def test_affine_maps_compose_like_matrices():
    outer, inner = joint(0.3, -0.2, 0.1), scaled(2.0, 0.5) @ turned(0.7)
    square = [np.vstack([stack([place], 1)[0, 0], (0, 0, 1)]) for place in (outer, inner)]
    expected = (square[0] @ square[1])[:2]
    assert np.allclose(stack([outer @ inner], 1)[0, 0], expected)
    assert np.allclose(composed(stack([outer], 1), stack([inner], 1))[0, 0], expected)
    assert outer @ stay() == outer == stay() @ outer


def test_one_frame_at_a_time_gives_the_same_as_all_at_once():
    turns = np.arange(100) / 37
    assert [wave(turn) for turn in turns.tolist()] == np.asarray(wave(turns)).tolist()
    assert isinstance(joint(0.0, 0.0, turns), Affine)


def test_draws_are_splitmix64():
    # The first outputs of the generator's reference implementation from state 0.
    draw = Draw()
    first = [draw.integer(0, (1 << 64) - 1) for _ in range(3)]
    assert first == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_the_order_of_a_key_matters():
    assert Draw(1, 2).integer(0, 1 << 60) != Draw(2, 1).integer(0, 1 << 60)


def test_draws_are_spread_evenly():
    draw = Draw(5)
    counts = np.bincount([draw.integer(0, 9) for _ in range(5000)], minlength=10)
    assert counts.min() > 400
    assert counts.max() < 600
    assert sorted(draw.shuffled(range(9))) == list(range(9))
    assert all(-2.0 <= draw.between(-2.0, 3.0) <= 3.0 for _ in range(100))


@pytest.mark.parametrize("name", ["grain", "clouds", "ripples", "dunes", "drifts"])
def test_smooth_tiles_repeat_without_a_seam(name):
    tile = tiles()[TILE[name]].astype(int)
    for axis in (0, 1):
        steps = np.abs(np.diff(tile, axis=axis)).max()
        across_the_border = np.abs(np.take(tile, 0, axis=axis) - np.take(tile, -1, axis=axis)).max()
        assert across_the_border <= steps


def test_tile_0_is_grain_of_middling_mean_and_patterns_are_half_and_half():
    mean = {name: float(tiles()[row].mean()) for name, row in TILE.items()}
    assert TILE["grain"] == 0
    assert 110 < mean["grain"] < 145
    assert mean["plain"] == 0
    for pattern, rows in TILES_OF_PATTERN.items():
        if pattern != "plain":
            assert all(60 < tiles()[row].mean() < 160 for row in rows)
