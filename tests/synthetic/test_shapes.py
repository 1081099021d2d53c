import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskstream.synthetic.scene import HALF_PLANES, Parts, ShapeKind
from maskstream.synthetic.shapes import FAR_INSIDE, Hulls, Outlines, invert, polygon_corners

from .scenes import LOWER_HALF, SQUARE, Body, Place, build, convex, disc, random_scene, turned


def parts_of(*bodies: Body) -> Parts:
    return build(bodies, (), frames=1).parts


def outlines_of(parts: Parts, frame: int = 0) -> Outlines:
    return Outlines.of(parts, parts.place_tp23[frame], parts.shown_tp[frame], Hulls.of(parts))


def alone(kind: ShapeKind, place: Place, params=()) -> Outlines:
    return outlines_of(parts_of(Body(0, kind, lambda t: place, params)))


def distance_at(outlines: Outlines, *points: tuple[float, float]) -> list[float]:
    x, y = np.array(points, np.float32).T
    measured: list[float] = outlines.distance(0, x, y).tolist()
    return measured


def room_of(parts: Parts, part: int, place: np.ndarray, x: float, y: float) -> float:
    """A number that is positive inside, as the contract says it, in doubles and in the part's own units."""
    (a, b, dx), (c, d, dy) = place.astype(float).tolist()
    area = a * d - b * c
    u, v = (d * (x - dx) - b * (y - dy)) / area, (a * (y - dy) - c * (x - dx)) / area
    params = parts.params_pk[part].astype(float)
    kind = parts.kind_p[part]
    if kind == ShapeKind.EVERYWHERE:
        return 1.0
    if kind == ShapeKind.ELLIPSE:
        return 1 - math.hypot(u, v)
    if kind == ShapeKind.CAPSULE:
        along = min(max(u, 0), 1)
        return float(params[0] + along * (params[1] - params[0])) - math.hypot(u - along, v)
    planes: list[list[float]] = params.reshape(HALF_PLANES, 3).tolist()
    return float(min(a * u + b * v + c for a, b, c in planes))


@pytest.mark.parametrize(
    "kind, place, params, expected",
    [
        pytest.param(ShapeKind.EVERYWHERE, disc(9, 9, 2), (), [(0, 0, FAR_INSIDE)], id="everywhere"),
        pytest.param(
            ShapeKind.ELLIPSE,
            disc(0.5, 0.5, 0.25),
            (),
            [(0.75, 0.5, 0), (0.5, 0.24, -0.01), (0.5, 0.27, 0.02)],
            id="disc",
        ),
        pytest.param(
            ShapeKind.ELLIPSE, ((0.5, 0, 0.5), (0, 0.1, 0.5)), (), [(0.99, 0.5, 0.01), (0.5, 0.61, -0.01)], id="ellipse"
        ),
        pytest.param(
            ShapeKind.CAPSULE,
            turned(0.25, 0.5, 0, 0.5, 0.5),
            (0.2, 0.2),
            [(0.5, 0.59, 0.01), (0.5, 0.41, 0.01), (0.86, 0.5, -0.01), (0.15, 0.5, 0)],
            id="capsule",
        ),
        pytest.param(
            ShapeKind.POLYGON,
            ((0.2, 0, 0.5), (0, 0.1, 0.5)),
            SQUARE,
            [(0.5, 0.5, 0.1), (0.69, 0.5, 0.01), (0.9, 0.5, -0.2), (0.5, 0.65, -0.05)],
            id="rectangle",
        ),
        pytest.param(ShapeKind.POLYGON, ((1, 0, 0), (0, 1, 0.5)), LOWER_HALF, [(9, 0.75, 0.25)], id="half plane"),
        pytest.param(ShapeKind.POLYGON, disc(0, 0, 1), convex(), [(3, 3, FAR_INSIDE)], id="polygon without sides"),
    ],
)
def test_distance_inside_is_in_heights_near_the_outline(kind, place, params, expected):
    outlines = alone(kind, place, params)
    measured = distance_at(outlines, *((x, y) for x, y, _ in expected))
    assert measured == pytest.approx([distance for *_, distance in expected], abs=1.5e-3)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_the_sign_of_a_distance_is_what_the_contract_says(seed):
    parts = random_scene(seed, frames=2).parts
    outlines = outlines_of(parts, 1)
    points = np.random.default_rng(seed).uniform(-0.2, 1.8, (40, 2)).astype(np.float32)
    for part in range(len(parts)):
        distance = outlines.distance(part, points[:, 0], points[:, 1])
        expected = np.array([room_of(parts, part, parts.place_tp23[1, part], x, y) for x, y in points.tolist()])
        clear = np.abs(expected) > 1e-5
        np.testing.assert_array_equal((distance >= 0)[clear], (expected >= 0)[clear])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_a_grid_has_the_bits_that_its_points_have_one_by_one(seed):
    parts = random_scene(seed).parts
    outlines = outlines_of(parts)
    x, y = np.linspace(-0.1, 1.7, 19, dtype=np.float32), np.linspace(-0.1, 1.1, 13, dtype=np.float32)
    points_x, points_y = (plane.ravel() for plane in np.meshgrid(x, y))
    for part in range(len(parts)):
        grid = outlines.distance(part, x[None], y[:, None])
        assert grid.dtype == np.float32
        assert grid.tobytes() == outlines.distance(part, points_x, points_y).tobytes()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_bounds_hold_all_of_a_part_and_touch_it(seed):
    parts = random_scene(seed).parts
    outlines = outlines_of(parts)
    for part in np.flatnonzero(parts.entity_p >= 3).tolist():
        x0, y0, x1, y1 = outlines.bounds_p4[part].tolist()
        x, y = np.linspace(x0 - 0.1, x1 + 0.1, 400), np.linspace(y0 - 0.1, y1 + 0.1, 400)
        inside = outlines.distance(part, x[None].astype(np.float32), y[:, None].astype(np.float32)) >= 0
        seen_x, seen_y = x[inside.any(axis=0)], y[inside.any(axis=1)]
        assert x0 - 1e-5 < seen_x[0] and seen_x[-1] < x1 + 1e-5
        assert y0 - 1e-5 < seen_y[0] and seen_y[-1] < y1 + 1e-5
        if parts.kind_p[part] == ShapeKind.ELLIPSE:  # the sharp corner of a polygon may lie between two points
            step = max(x[1] - x[0], y[1] - y[0])
            reached = np.array([seen_x[0], seen_y[0], seen_x[-1], seen_y[-1]])
            np.testing.assert_allclose(reached, [x0, y0, x1, y1], atol=6 * step)


@pytest.mark.parametrize(
    "params, corners",
    [
        pytest.param(SQUARE, {(-1, -1), (-1, 1), (1, -1), (1, 1)}, id="a square"),
        pytest.param(convex((1, 0, -1), (-1, 0, -1)), set(), id="nothing is on both sides"),
        pytest.param(
            convex((1, 0, 1), (-1, 0, 1)),
            {(-1, -FAR_INSIDE), (-1, FAR_INSIDE), (1, -FAR_INSIDE), (1, FAR_INSIDE)},
            id="a strip without an end is cut far away",
        ),
        pytest.param(convex((1, 0, 0), (0, 1, 0), (-1, -1, 1)), {(0, 0), (1, 0), (0, 1)}, id="a triangle"),
        pytest.param(
            convex((1, 0, 0), (0, 1, 0), (-1, -1, 1), (-1, 0, 2)),
            {(0, 0), (1, 0), (0, 1)},
            id="a side that cuts nothing",
        ),
    ],
)
def test_corners_of_polygons(params, corners):
    found = polygon_corners(np.array(params, np.float32))
    assert {(round(u, 5) + 0.0, round(v, 5) + 0.0) for u, v in found.tolist()} == corners


@pytest.mark.parametrize(
    "kind, place, params",
    [
        pytest.param(ShapeKind.ELLIPSE, ((0.1, 0, 0.5), (0.1, 0, 0.5)), (), id="a disc seen from its edge"),
        pytest.param(ShapeKind.EVERYWHERE, disc(0.5, 0.5, 0), (), id="a place that is a point"),
        pytest.param(ShapeKind.POLYGON, disc(0.5, 0.5, 1), convex((1, 0, -1), (-1, 0, -1)), id="a polygon of no point"),
    ],
)
def test_what_has_no_area_is_not_shown(kind, place, params):
    assert not alone(kind, place, params).shown_p.any()


def test_an_inverse_brings_points_back():
    place = random_scene(4).parts.place_tp23[1]
    inverse = invert(place)
    for (a, b), back in zip(place.astype(float).tolist(), inverse.tolist(), strict=True):
        for u, v in ((0, 0), (1, 0), (0.3, -2)):
            x, y = a[0] * u + a[1] * v + a[2], b[0] * u + b[1] * v + b[2]
            assert [row[0] * x + row[1] * y + row[2] for row in back] == pytest.approx([u, v], abs=1e-9)
