"""Outlines of parts: how far inside one a point of the picture is.

A part lies at x = A u + b (its *place*), so u = M x + m with M = A⁻¹, m = -M b (its *inverse*). With u = (u, v), the
distance inside, in heights of the picture, negative outside, is for

    EVERYWHERE   1000
    ELLIPSE      f / |Mᵀ g|  with  f = (1 - u² - v²) / 2          and  g = (u, v)
    CAPSULE      f / |Mᵀ g|  with  f = (r² - (u - k)² - v²) / 2   and  g = (u - k, v),
                 where k = u clipped to 0 … 1 and r = params[0] + k (params[1] - params[0])
    POLYGON      the least of (a u + b v + c) / |Mᵀ (a, b)| over its half planes

That of a polygon is exact; the others are so to first order at the outline (Taubin, 1994), and have the right sign
everywhere. |Mᵀ g| is taken as √(|Mᵀ g|² + 1e-12), so that nothing is divided by 0 in the middle.

Whatever is measured at every pixel is float32, one addition, multiplication, division, root or comparison a NumPy call;
coefficients of parts are float64. IEEE 754 defines all of it to the last bit, so that every machine finds the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .scene import HALF_PLANES, FloatArray, Parts, ShapeKind

Float64Array: TypeAlias = NDArray[np.float64]

FAR_INSIDE = 1e3
"""The distance inside of what is everywhere, and half the side of the square that ends an unbounded polygon."""
_LEAST_AREA = 1e-10  # a place that shrinks the unit square to less than this shows nothing
_LEAST_SLOPE = 1e-12


def invert(place_p23: FloatArray | Float64Array) -> Float64Array:
    """Inverses of places: ``float64[P, 2, 3]``, picture to part; zeros for those that have none."""
    (a, b, x), (c, d, y) = np.moveaxis(place_p23.astype(np.float64), 0, -1)
    area = a * d - b * c
    regular = np.abs(area) > _LEAST_AREA
    per_area = np.where(regular, 1.0, 0.0) / np.where(regular, area, 1.0)
    m00, m01, m10, m11 = d * per_area, -b * per_area, -c * per_area, a * per_area
    rows = np.array([[m00, m01, -(m00 * x + m01 * y)], [m10, m11, -(m10 * x + m11 * y)]])
    return np.ascontiguousarray(np.moveaxis(rows, -1, 0))


@dataclass(frozen=True, slots=True, eq=False)
class Hulls:
    """Discs whose convex hull holds the part, in its own coordinates: what bounds it in the picture.

    Attributes:
        centre_pk2: ``float64[P, K, 2]``.
        radius_pk: ``float64[P, K]``; -inf for a part without any point.
        endless_p: ``bool[P]``, whether it is everywhere.
    """

    centre_pk2: Float64Array
    radius_pk: Float64Array
    endless_p: NDArray[np.bool_]

    @classmethod
    def of(cls, parts: Parts) -> Hulls:
        """Those of all parts; they do not depend on the frame."""
        discs = [_discs(ShapeKind(kind), row) for kind, row in zip(parts.kind_p.tolist(), parts.params_pk, strict=True)]
        most = max(map(len, discs), default=1)
        padded = np.array([disc + [disc[0]] * (most - len(disc)) for disc in discs]).reshape(len(parts), most, 3)
        return cls(padded[..., :2], padded[..., 2], parts.kind_p == ShapeKind.EVERYWHERE)

    def bounds(self, place_p23: FloatArray | Float64Array) -> Float64Array:
        """``float64[P, 4]``, x0, y0, x1, y1 of each part in the picture; x0 > x1 for one without any point."""
        place = place_p23.astype(np.float64)
        u, v = self.centre_pk2[..., 0], self.centre_pk2[..., 1]
        low, high = [], []
        for across, down, shift in (place[:, 0].T[..., None], place[:, 1].T[..., None]):
            middle = across * u + down * v + shift
            reach = np.sqrt(across * across + down * down) * self.radius_pk
            low.append(np.where(self.endless_p, -np.inf, (middle - reach).min(axis=1)))
            high.append(np.where(self.endless_p, np.inf, (middle + reach).max(axis=1)))
        return np.stack([*low, *high], axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class Outlines:
    """The parts of one frame, ready to be measured.

    Attributes:
        inverse_p23: ``float64[P, 2, 3]``, picture to part.
        bounds_p4: ``float64[P, 4]``, x0, y0, x1, y1 in the picture.
        shown_p: ``bool[P]``, whether it can be seen at all.
    """

    inverse_p23: Float64Array
    bounds_p4: Float64Array
    shown_p: NDArray[np.bool_]
    _kind: list[int]
    _inverse: list[list[list[float]]]
    _params: list[list[float]]
    _slope: list[list[float]]
    _planes: list[list[list[float]]]

    @classmethod
    def of(
        cls, parts: Parts, place_p23: FloatArray | Float64Array, shown_p: NDArray[np.bool_], hulls: Hulls
    ) -> Outlines:
        """Prepare the parts at these places (``[P, 2, 3]``)."""
        inverse = invert(place_p23)
        (m00, m01, _), (m10, m11, _) = np.moveaxis(inverse, 0, -1)
        bounds = hulls.bounds(place_p23)
        regular = (inverse[:, :, :2] != 0).any(axis=(1, 2)) & (bounds[:, 0] <= bounds[:, 2])
        slope = np.stack([m00 * m00 + m01 * m01, 2 * (m00 * m10 + m01 * m11), m10 * m10 + m11 * m11], axis=1)
        return cls(
            inverse,
            bounds,
            shown_p & regular,
            parts.kind_p.tolist(),
            inverse.tolist(),
            parts.params_pk[:, :2].tolist(),
            slope.tolist(),
            planes_in_picture(parts.params_pk, inverse).tolist(),
        )

    def distance(self, part: int, x: FloatArray, y: FloatArray) -> FloatArray:
        """How far inside a part points are, in heights of the picture.

        Args:
            part: which.
            x: ``float32``, and
            y: ``float32``, coordinates in the picture. A row and a column make a grid, with the bits that its points
                give one by one.
        """
        kind = self._kind[part]
        if kind == ShapeKind.EVERYWHERE:
            return _everywhere(x, y)
        if kind == ShapeKind.POLYGON:
            return _to_planes(self._planes[part], x, y)
        u, v = self.own(part, x, y)
        if kind == ShapeKind.ELLIPSE:
            return _to_curve(self._slope[part], u, v, 1.0)
        start, end = self._params[part]
        along = np.maximum(u, 0.0)
        np.minimum(along, 1.0, out=along)
        u -= along
        along *= end - start
        along += start
        along *= along
        return _to_curve(self._slope[part], u, v, along)

    def own(self, part: int, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Points of the picture in the coordinates of a part."""
        (m00, m01, m02), (m10, m11, m12) = self._inverse[part]
        return (x * m00 + m02) + y * m01, (x * m10 + m12) + y * m11


def _to_planes(planes: list[list[float]], x: FloatArray, y: FloatArray) -> FloatArray:
    least: FloatArray | None = None
    for across, down, shift in planes:
        if across == 0.0 and down == 0.0:
            continue  # not in use
        distance = (x * across + shift) + y * down
        least = distance if least is None else np.minimum(least, distance, out=least)
    return least if least is not None else _everywhere(x, y)


def _everywhere(x: FloatArray, y: FloatArray) -> FloatArray:
    return np.full(np.broadcast_shapes(x.shape, y.shape), FAR_INSIDE, np.float32)


def _to_curve(slope: list[float], u: FloatArray, v: FloatArray, room: FloatArray | float) -> FloatArray:
    """(room - u² - v²) / 2 / |Mᵀ (u, v)|."""
    uu, vv, uv = u * u, v * v, u * v
    inside = room - uu
    inside -= vv
    inside *= 0.5
    uu *= slope[0]
    uv *= slope[1]
    vv *= slope[2]
    uu += vv
    uu += uv
    # Rounding may leave less than nothing where u and v are almost 0.
    np.maximum(uu, 0.0, out=uu)
    uu += _LEAST_SLOPE
    inside /= np.sqrt(uu, out=uu)
    return np.asarray(inside, dtype=np.float32)


def planes_in_picture(params_pk: FloatArray, inverse_p23: Float64Array) -> Float64Array:
    """Half planes a x + b y + c of each part in the picture, (a, b) of length 1 or 0: ``float64[P, 6, 3]``."""
    a, b, c = np.moveaxis(params_pk[:, : 3 * HALF_PLANES].reshape(-1, HALF_PLANES, 3).astype(np.float64), -1, 0)
    (m00, m01, m02), (m10, m11, m12) = np.moveaxis(inverse_p23, 0, -1)[..., None]
    across, down, shift = a * m00 + b * m10, a * m01 + b * m11, a * m02 + b * m12 + c
    length = np.sqrt(across * across + down * down)
    per_length = 1.0 / np.where(length > 0, length, 1.0)
    return np.stack([across * per_length, down * per_length, shift * per_length], axis=-1)


def _discs(kind: ShapeKind, params_k: FloatArray) -> list[list[float]]:
    """u, v and radius of discs whose hull holds the shape."""
    if kind == ShapeKind.CAPSULE:
        return [[0.0, 0.0, float(params_k[0])], [1.0, 0.0, float(params_k[1])]]
    if kind == ShapeKind.POLYGON:
        corners = polygon_corners(params_k).tolist()
        return [[*corner, 0.0] for corner in corners] or [[0.0, 0.0, -np.inf]]
    return [[0.0, 0.0, 1.0]]


def polygon_corners(params_k: FloatArray) -> Float64Array:
    """Corners of a polygon, ``float64[C, 2]``, cut at `FAR_INSIDE` from 0; none if no point is in all half planes."""
    planes = params_k[: 3 * HALF_PLANES].reshape(HALF_PLANES, 3).astype(np.float64)
    square = np.array([[1, 0, FAR_INSIDE], [-1, 0, FAR_INSIDE], [0, 1, FAR_INSIDE], [0, -1, FAR_INSIDE]], np.float64)
    planes = np.concatenate([planes, square])
    first, second = np.triu_indices(len(planes), 1)
    (a, b, c), (d, e, f) = planes[first].T, planes[second].T
    area = a * e - b * d
    crossing = np.abs(area) > 1e-9
    area = np.where(crossing, area, 1.0)
    u, v = (b * f - c * e) / area, (c * d - a * f) / area
    distance = planes[:, :1] * u + planes[:, 1:2] * v + planes[:, 2:]
    # What the square bounds is far away; 1e-6 of that is nothing.
    corner = crossing & (distance >= -1e-9 * (1 + np.abs(u) + np.abs(v))).all(axis=0)
    return np.stack([u[corner], v[corner]], axis=1)
