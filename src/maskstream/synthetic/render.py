"""A scene as pictures and their whole truth, on a CPU, one frame at a time; the same bytes on every machine.

    outlines of frame t ──► cover: near to far ──► labels, amodal masks ──► annotation, points inside
                                │                        │
                                ▼                        ▼
                      weights of parts,         where each pixel's point is on t + 1 ──► flow
                      several at outlines       is a nearer part there?              ──► occlusion
                                │
                                ▼
                     texture, grain, colour ──► blur, light, noise ──► image

The part of a pixel is the nearest one whose distance inside is not negative at the pixel's centre. Labels, flow and
occlusion all follow from this one rule, so that they agree. The image is smooth over one pixel at outlines.

Everything at pixels is float32, one IEEE 754 operation a NumPy call; see `shapes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from maskstream.types import (
    Frame,
    FrameAnnotation,
    FrameSegmentation,
    InputError,
    LabelMap,
    PackedMasks,
    Segment,
    pack_masks,
)

from .scene import FloatArray, Scene
from .shapes import Float64Array, Hulls, Outlines
from .texture import lattice_noise
from .tiles import SIDE

SHADOW = 0.4
"""How much of the light a shadow takes."""
GRAIN = (0.7, 0.6)
"""Shade of a part: the first where grain is 0, the sum where it is 1."""
SUBFRAMES = 4
"""Moments that a blurred frame is the mean of."""

_BLOCK = 1 << 15  # pixels shaded at a time: they stay in the cache
_NOWHERE = -1
_BYTE_DEVIATION = 73.9  # of evenly distributed bytes

_Number = TypeVar("_Number", np.float32, np.int32, np.int64)
Window: TypeAlias = tuple[slice, slice]


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticFrame:
    """A frame and all that is true of it. Truth is of the moment of the frame, without blur, light and noise.

    Attributes:
        frame: the picture.
        annotation: disjoint segments of things and stuff, far to near, only those seen: ``id`` and ``track_id`` are
            the entity's. What belongs to no entity is void.
        flow: ``float32[H, W, 2]``, how far the point at each pixel's centre moves until the next frame, in pixels,
            x then y. 0 where there is no next frame, before a cut, and where the part is not shown on the next.
        occluded: ``bool[H, W]``, where that point is not seen on the next frame: covered, out of the picture, of a
            part not shown there, or there is no next frame.
        amodal: a mask a thing, as if it were alone, cut at the border of the picture.
        amodal_ids: entities of these masks, far to near; those that are in the picture, seen or not.
        points: for each thing that is seen a pixel (x, y) of its visible mask, as deep inside as any.
    """

    frame: Frame
    annotation: FrameAnnotation
    flow: FloatArray = field(repr=False)
    occluded: NDArray[np.bool_] = field(repr=False)
    amodal: PackedMasks = field(repr=False)
    amodal_ids: tuple[int, ...]
    points: dict[int, tuple[int, int]]

    @property
    def depth_order(self) -> tuple[int, ...]:
        """Entities that are seen, far to near."""
        return tuple(segment.id for segment in self.annotation.segmentation.segments)


def render(
    scene: Scene, size_hw: tuple[int, int], *, start: int = 0, stop: int | None = None, motion: bool = True
) -> Iterator[SyntheticFrame]:
    """Draw frames of a scene.

    The picture does not go through ``scene.quality``: what a JPEG encoder writes depends on its build. Call `compress`
    where that does not matter, or write files with this quality.

    Args:
        scene: what to draw.
        size_hw: height and width in pixels.
        start: first frame.
        stop: one past the last; all by default. A frame does not depend on it, nor on ``start``.
        motion: find flow and occlusion. Without, all is as where there is no next frame: no flow, everything occluded.

    Yields:
        Frames whose index is that in the scene.

    Raises:
        InputError: an argument is out of range.
    """
    stop = scene.frame_count if stop is None else stop
    if min(size_hw) < 1:
        raise InputError(f"a picture has at least 1×1 pixels, not {size_hw[0]}×{size_hw[1]}")
    if not 0 <= start <= stop <= scene.frame_count:
        raise InputError(
            f"frames {start} to {stop} of a scene of {scene.frame_count}: give 0 ≤ start ≤ stop ≤ {scene.frame_count}"
        )
    return _render(scene, size_hw, start, stop, motion)


def compress(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """The picture (``uint8[H, W, 3]``, RGB) after a JPEG compression; not the same bytes with every build of OpenCV."""
    done, code = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise InputError(f"OpenCV cannot compress a picture of {image.shape[0]}×{image.shape[1]} pixels")
    decoded = cv2.imdecode(code, cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.ascontiguousarray(decoded[..., ::-1], dtype=np.uint8)


def nearest_part(scene: Scene, frame: int, points_xy: FloatArray) -> NDArray[np.int64]:
    """What is seen at points of the picture.

    Args:
        scene: the scene.
        frame: on which frame.
        points_xy: ``float32[N, 2]``, in heights of the picture.

    Returns:
        ``int64[N]``, the nearest part that is no shadow, or -1.
    """
    outlines = _outlines(scene, frame, Hulls.of(scene.parts))
    x, y = points_xy.astype(np.float32).T
    found = np.full(len(points_xy), _NOWHERE, np.int64)
    for part in _near_to_far(scene, outlines):
        left = np.flatnonzero(found == _NOWHERE)
        found[left[outlines.distance(part, x[left], y[left]) >= 0]] = part
    return found


def flow_of(scene: Scene, frame: int, points_xy: FloatArray, parts: NDArray[np.int64]) -> FloatArray:
    """How far points of parts move until the next frame.

    Args:
        scene: the scene.
        frame: on which frame the points are.
        points_xy: ``float32[N, 2]``, in heights of the picture.
        parts: ``int64[N]``, the part each is of, or -1.

    Returns:
        ``float32[N, 2]``, in heights of the picture; 0 for a point of no part, where there is no next frame, before
        a cut, and for a part that is not shown on both frames.
    """
    hulls = Hulls.of(scene.parts)
    following = _outlines(scene, frame + 1, hulls) if _continues(scene, frame) else None
    moves = _moves(scene, frame, _outlines(scene, frame, hulls), following)
    x, y = points_xy.astype(np.float32).T
    return np.stack(_moved(moves, x, y, parts), axis=1)


def _render(scene: Scene, size_hw: tuple[int, int], start: int, stop: int, motion: bool) -> Iterator[SyntheticFrame]:
    hulls, paint = Hulls.of(scene.parts), _Paint.of(scene)
    outlines = _outlines(scene, start, hulls) if start < stop else None
    for index in range(start, stop):
        assert outlines is not None
        after = _outlines(scene, index + 1, hulls) if index + 1 < scene.frame_count else None
        following = after if _continues(scene, index) else None
        layers = _cover(scene, outlines, size_hw)
        picture = paint.picture(layers, outlines, size_hw)
        if scene.shutter > 0 and following is not None:
            for moment in range(1, SUBFRAMES):
                between = _between(scene, index, following, hulls, scene.shutter * moment / SUBFRAMES)
                picture += paint.picture(_cover(scene, between, size_hw), between, size_hw)
            picture /= SUBFRAMES
        frame = Frame(index, index / scene.fps, _develop(scene, index, picture))
        flow, occluded = _motion(scene, index, layers.labels_hw, outlines, following if motion else None)
        annotation = _annotate(scene, index, layers.labels_hw)
        yield SyntheticFrame(
            frame, annotation, flow, occluded, *_amodal(scene, layers), _points_inside(annotation.segmentation)
        )
        outlines = after


def _continues(scene: Scene, frame: int) -> bool:
    """Whether there is a next frame of the same shot."""
    return frame + 1 < scene.frame_count and frame + 1 not in scene.cuts


def _outlines(scene: Scene, frame: int, hulls: Hulls) -> Outlines:
    parts = scene.parts
    return Outlines.of(parts, parts.place_tp23[frame], parts.shown_tp[frame], hulls)


def _between(scene: Scene, frame: int, following: Outlines, hulls: Hulls, fraction: float) -> Outlines:
    """The parts of a frame, a fraction of the way to the next; those not shown there stay."""
    start, end = scene.parts.place_tp23[frame].astype(np.float64), scene.parts.place_tp23[frame + 1].astype(np.float64)
    moves = following.shown_p[:, None, None]
    change = np.where(moves, end - start, 0.0) * fraction
    return Outlines.of(scene.parts, start + change, scene.parts.shown_tp[frame], hulls)


def _near_to_far(scene: Scene, outlines: Outlines) -> list[int]:
    """Parts that can be seen, without shadows."""
    body: list[int] = np.flatnonzero(outlines.shown_p & ~scene.parts.shadow_p).tolist()
    return body[::-1]


def _centres(size_hw: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
    """x of the columns, ``float32[1, W]``, and y of the rows, ``float32[H, 1]``, in heights."""
    height, width = size_hw
    x = (np.arange(width, dtype=np.float32) + np.float32(0.5)) / np.float32(height)
    y = (np.arange(height, dtype=np.float32) + np.float32(0.5)) / np.float32(height)
    return x[None], y[:, None]


def _windows(bounds_p4: Float64Array, size_hw: tuple[int, int]) -> list[Window | None]:
    """Pixels whose colour a part may change: those within a pixel of its bounds; None if there are none."""
    height, width = size_hw
    corners = bounds_p4 * height
    first = np.clip(np.floor(corners[:, :2] - 1.5), 0, (width, height)).astype(np.int64).tolist()
    stop = np.clip(np.ceil(corners[:, 2:] + 1.5), 0, (width, height)).astype(np.int64).tolist()
    return [
        (slice(y0, y1), slice(x0, x1)) if x0 < x1 and y0 < y1 else None
        for (x0, y0), (x1, y1) in zip(first, stop, strict=True)
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Layers:
    """What is seen of which part on one frame.

    Attributes:
        labels_hw: ``int32[H, W]``, the nearest part, or -1.
        weight_hw: ``float32[H, W]``, which fraction of the pixel it is.
        other_part_n: ``int64[N]``, what else is seen, at outlines: the part,
        other_pixel_n: ``int64[N]``, the pixel, rows in a row, and
        other_weight_n: ``float32[N]``, the fraction.
        amodal: masks of things as if each were alone, by entity, far to near.
    """

    labels_hw: NDArray[np.int32]
    weight_hw: FloatArray
    other_part_n: NDArray[np.int64]
    other_pixel_n: NDArray[np.int64]
    other_weight_n: FloatArray
    amodal: dict[int, NDArray[np.bool_]]


def _cover(scene: Scene, outlines: Outlines, size_hw: tuple[int, int]) -> _Layers:
    """Go through the parts from near to far; each takes from the light that those before it let through."""
    height, width = size_hw
    x, y = _centres(size_hw)
    windows = _windows(outlines.bounds_p4, size_hw)
    thing_p, shadow_p = _thing_of_part(scene), scene.parts.shadow_p.tolist()
    labels_hw = np.full(size_hw, _NOWHERE, np.int32)
    weight_hw, light_hw = np.zeros(size_hw, np.float32), np.ones(size_hw, np.float32)
    edges: list[tuple[int, Window]] = []
    places: list[NDArray[np.int64]] = []
    weights = [np.zeros(0, np.float32)]
    amodal: dict[int, NDArray[np.bool_]] = {}
    for part in np.flatnonzero(outlines.shown_p)[::-1].tolist():
        window = windows[part]
        if window is None:
            continue
        distance = outlines.distance(part, x[:, window[1]], y[window[0]])
        inside = distance >= 0
        light, cover = light_hw[window], distance
        cover *= height
        cover += 0.5
        np.minimum(np.maximum(cover, 0.0, out=cover), 1.0, out=cover)
        cover *= light
        if shadow_p[part]:
            cover *= SHADOW
            light -= cover
            continue
        light -= cover
        thing = thing_p[part]
        if thing:
            if thing not in amodal:
                amodal[thing] = np.zeros(size_hw, np.bool_)
            amodal[thing][window] |= inside
        labels = labels_hw[window]
        inside &= labels < 0
        np.copyto(labels, part, where=inside)
        np.copyto(weight_hw[window], cover, where=inside)
        np.copyto(cover, 0.0, where=inside)
        cover = cover.reshape(-1)
        place = (cover > 0).nonzero()[0]
        if len(place):
            edges.append((part, window))
            places.append(place)
            weights.append(cover[place])
    return _Layers(
        labels_hw,
        weight_hw,
        np.repeat(np.array([part for part, _ in edges], np.int64), [len(place) for place in places]),
        _pixels(places, [window for _, window in edges], width),
        np.concatenate(weights),
        dict(reversed(amodal.items())),
    )


def _pixels(places: Sequence[NDArray[np.int64]], windows: Sequence[Window], width: int) -> NDArray[np.int64]:
    """Pixels of the picture, rows in a row, that are at these places of windows, rows in a row."""
    if not places:
        return np.zeros(0, np.int64)
    counts = [len(place) for place in places]
    corner = np.repeat([rows.start * width + columns.start for rows, columns in windows], counts)
    row, column = np.divmod(np.concatenate(places), np.repeat([w.stop - w.start for _, w in windows], counts))
    return np.asarray(corner + row * width + column, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class _Paint:
    """What the parts of a scene are painted with.

    Attributes:
        tiles: ``int32[K · 64 · 64]``, all textures, packed; the first is grain.
        photos: ``int32[M · 64 · 64, 3]``, the same of photos, for each channel.
        tile_p: ``int64[P + 1]``, where each part's texture begins. The last part is nothing, and black.
        photo_p: ``int64[P + 1]``, where its photo begins, or -1.
        texels_p: ``float64[P]``, texels a unit of its coordinates.
        colour_p6: ``float32[P + 1, 6]``, RGB where the texture is 0, and what is added for each of its 255 levels.
    """

    tiles: NDArray[np.int32]
    photos: NDArray[np.int32]
    tile_p: NDArray[np.int64]
    photo_p: NDArray[np.int64]
    texels_p: Float64Array
    colour_p6: FloatArray

    @classmethod
    def of(cls, scene: Scene) -> _Paint:
        parts = scene.parts
        added = (parts.second_p3 - parts.colour_p3) / np.float32(255.0)
        colours = np.concatenate([parts.colour_p3, added], axis=1)
        return cls(
            _with_neighbours(scene.textures, mode="wrap").reshape(-1),
            _with_neighbours(scene.photos, mode="symmetric").reshape(-1, 3),
            np.append(parts.texture_p * SIDE**2, 0),
            np.append(np.where(parts.photo_p < 0, -1, parts.photo_p * SIDE**2), -1),
            parts.texture_scale_p.astype(np.float64) * SIDE,
            np.concatenate([colours, np.zeros((1, 6))], dtype=np.float32),
        )

    def picture(self, layers: _Layers, outlines: Outlines, size_hw: tuple[int, int]) -> FloatArray:
        """Mean colour of every pixel, ``float32[3, H, W]`` in about [0, 1.3], black where there is nothing."""
        places = outlines.inverse_p23 * self.texels_p[:, None, None]
        texels_p6 = np.concatenate([places.reshape(-1, 6), np.zeros((1, 6))], dtype=np.float32)
        x, y = _centres(size_hw)
        picture = np.empty((3, *size_hw), np.float32)
        for rows in _bands(size_hw):
            labels = layers.labels_hw[rows].astype(np.int64)
            picture[:, rows] = self._colours(texels_p6, labels, x, y[rows], layers.weight_hw[rows])
        row, column = np.divmod(layers.other_pixel_n, size_hw[1])
        others = self._colours(texels_p6, layers.other_part_n, x[0][column], y[:, 0][row], layers.other_weight_n)
        for channel in range(3):
            np.add.at(picture[channel].reshape(-1), layers.other_pixel_n, others[channel])
        return picture

    def _colours(
        self, texels_p6: FloatArray, parts: NDArray[np.int64], x: FloatArray, y: FloatArray, weight: FloatArray
    ) -> FloatArray:
        """Colours of points of parts times their weights, ``float32[3, …]``."""
        m00, m01, m02, m10, m11, m12 = (_take(column, parts) for column in texels_p6.T)
        texel = _Texels.at((x * m00 + m02) + y * m01, (x * m10 + m12) + y * m11)
        place = texel.repeated()
        shade = texel.read(self.tiles, place)
        shade *= GRAIN[1] / 255
        shade += GRAIN[0]
        shade *= weight
        place += _take(self.tile_p, parts)
        texture = texel.read(self.tiles, place)
        painted = np.empty((3, *parts.shape), np.float32)
        for channel in range(3):
            colour = painted[channel]
            np.multiply(_take(self.colour_p6[:, 3 + channel], parts), texture, out=colour)
            colour += _take(self.colour_p6[:, channel], parts)
            colour *= shade
        photo = _take(self.photo_p, parts)
        chosen = np.nonzero(photo >= 0)
        if len(chosen[0]):
            self._put_photos(texel.of(chosen), photo[chosen], shade[chosen], painted, chosen)
        return painted

    def _put_photos(
        self,
        texel: _Texels,
        photo: NDArray[np.int64],
        shade: FloatArray,
        painted: FloatArray,
        chosen: tuple[NDArray[np.int64], ...],
    ) -> None:
        texel, place = texel.mirrored()
        place += photo
        for channel in range(3):
            level = texel.read(self.photos[:, channel], place)
            level /= 255.0
            level *= shade
            painted[channel][chosen] = level


def _with_neighbours(tiles: NDArray[np.uint8], *, mode: Literal["wrap", "symmetric"]) -> NDArray[np.int32]:
    """Each texel with its neighbours to the right, below, and below to the right, in one integer: one look-up of four.

    Args:
        tiles: ``uint8[K, 64, 64, …]``.
        mode: how it goes on beyond the edge.
    """
    padded = np.pad(tiles, [(0, 0), (0, 1), (0, 1), *[(0, 0)] * (tiles.ndim - 3)], mode=mode)
    four = np.stack([padded[:, :-1, :-1], padded[:, :-1, 1:], padded[:, 1:, :-1], padded[:, 1:, 1:]], axis=-1)
    return np.ascontiguousarray(four).view(np.int32)[..., 0]


@dataclass(frozen=True, slots=True, eq=False)
class _Texels:
    """Places in tiles, between four texels each; texel i is at i.

    Attributes:
        left: ``float32``, column of the left texels.
        top: ``float32``, row of the upper ones.
        right: ``float32``, how far it is from the left to the right ones.
        down: ``float32``, how far from the upper to the lower ones.
    """

    left: FloatArray
    top: FloatArray
    right: FloatArray
    down: FloatArray

    @classmethod
    def at(cls, s: FloatArray, t: FloatArray) -> _Texels:
        left, top = np.floor(s), np.floor(t)
        s -= left
        t -= top
        return cls(left, top, s, t)

    def of(self, chosen: tuple[NDArray[np.int64], ...]) -> _Texels:
        return _Texels(self.left[chosen], self.top[chosen], self.right[chosen], self.down[chosen])

    def repeated(self) -> NDArray[np.int64]:
        """Where the upper left texels are in a tile that repeats."""
        column, row = self.left.astype(np.int64), self.top.astype(np.int64)
        column &= SIDE - 1
        row &= SIDE - 1
        row *= SIDE
        row += column
        return row

    def mirrored(self) -> tuple[_Texels, NDArray[np.int64]]:
        """The same places in a tile that is mirrored where it repeats, and where the upper left texels are."""
        column, right = _mirror(self.left, self.right)
        row, down = _mirror(self.top, self.down)
        return _Texels(self.left, self.top, right, down), row * SIDE + column

    def read(self, tiles: NDArray[np.int32], place: NDArray[np.int64]) -> FloatArray:
        """Bilinear, from 0 to 255."""
        four = _take(tiles, place)[..., None].view(np.uint8)
        upper, upper_right, lower, lower_right = (four[..., corner].astype(np.float32) for corner in range(4))
        upper, lower = _mix(upper, upper_right, self.right), _mix(lower, lower_right, self.right)
        return _mix(upper, lower, self.down)


def _mix(start: FloatArray, end: FloatArray, fraction: FloatArray) -> FloatArray:
    """From ``start`` a fraction of the way to ``end``, written over both."""
    end -= start
    end *= fraction
    start += end
    return start


def _mirror(texel: FloatArray, beyond: FloatArray) -> tuple[NDArray[np.int64], FloatArray]:
    """Left texel, and how far it is from there, after mirroring every other tile."""
    place = texel.astype(np.int64) & (2 * SIDE - 1)
    # Between two tiles both texels are the last (or the first) one.
    back = place >= SIDE
    left = np.where(back, 2 * SIDE - 2 - place, place)
    seam = left < 0
    return np.where(seam, 0, left), np.where(seam, np.float32(0), np.where(back, np.float32(1) - beyond, beyond))


def _develop(scene: Scene, index: int, picture: FloatArray) -> NDArray[np.uint8]:
    """Light and noise, in levels of 255: ``uint8[H, W, 3]``."""
    size_hw = (picture.shape[1], picture.shape[2])
    image = np.empty((*size_hw, 3), np.uint8)
    noise: FloatArray | None = None
    if scene.noise:
        noise = lattice_noise(size_hw, scene.seed * 1009 + index).astype(np.float32)
        noise -= 127.5
        noise *= scene.noise / _BYTE_DEVIATION
    for channel, light in enumerate(scene.light_t3[index].tolist()):
        level = picture[channel] * (light * 255.0)
        if noise is not None:
            level += noise
        level += 0.5
        np.minimum(np.maximum(level, 0.0, out=level), 255.0, out=level)
        image[..., channel] = level
    return image


def _take(values: NDArray[_Number], places: NDArray[np.int64]) -> NDArray[_Number]:
    """``values[places]``, faster; -1 is the last one."""
    return np.take(values, places, axis=0, mode="wrap")


def _thing_of_part(scene: Scene) -> list[int]:
    """Entity of each part, 0 for those of stuff and of nothing."""
    things = np.array([entity.id for entity in scene.entities if entity.is_thing], np.int64)
    owner = scene.parts.entity_p
    chosen: list[int] = np.where(np.isin(owner, things), owner, 0).tolist()
    return chosen


def _moves(scene: Scene, frame: int, outlines: Outlines, following: Outlines | None) -> FloatArray:
    """x, y ↦ how far a point of each part moves: ``float32[P + 1, 6]`` rows of a 2 × 3 matrix; the last is 0."""
    count = len(scene.parts)
    moves = np.zeros((count + 1, 6), np.float32)
    if following is None:
        return moves
    start, end = scene.parts.place_tp23[frame], scene.parts.place_tp23[frame + 1]
    # (A' - A) u + (b' - b) with u = M x + m: exactly 0 for what stays.
    change = end.astype(np.float64) - start.astype(np.float64)
    u, v = outlines.inverse_p23[:, 0].T, outlines.inverse_p23[:, 1].T
    both = outlines.shown_p & following.shown_p
    for row in range(2):
        across, down, shift = change[:, row].T
        for column in range(3):
            move = across * u[column] + down * v[column]
            moves[:count, 3 * row + column] = np.where(both, move + shift if column == 2 else move, 0.0)
    return moves


def _moved(moves: FloatArray, x: FloatArray, y: FloatArray, labels: NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    xx, xy, x1, yx, yy, y1 = moves.T
    dx, dy = x * _take(xx, labels), x * _take(yx, labels)
    dx += _take(x1, labels)
    dy += _take(y1, labels)
    dx += y * _take(xy, labels)
    dy += y * _take(yy, labels)
    return dx, dy


def _motion(
    scene: Scene, index: int, labels_hw: NDArray[np.int32], outlines: Outlines, following: Outlines | None
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Flow in pixels, and occlusion."""
    height, width = labels_hw.shape
    if following is None:
        return np.zeros((height, width, 2), np.float32), np.ones((height, width), np.bool_)
    x, y = _centres((height, width))
    moves = _moves(scene, index, outlines, following)
    flow = np.empty((height, width, 2), np.float32)
    there_x, there_y = np.empty((2, height, width), np.float32)
    # What is seen on the next frame, and what cannot be covered there any more, is nearer than every part.
    gone = len(scene.parts)
    depth_p = np.append(np.where(following.shown_p, np.arange(gone), gone), gone).astype(np.int32)
    depth_hw = np.empty((height, width), np.int32)
    reach = []
    for rows in _bands(labels_hw.shape):
        labels = labels_hw[rows].astype(np.int64)
        dx, dy = _moved(moves, x, y[rows], labels)
        reach.append((dx.max(), dy.max(), -dx.min(), -dy.min()))
        np.multiply(dx, height, out=flow[rows, :, 0])
        np.multiply(dy, height, out=flow[rows, :, 1])
        to_x, to_y = np.add(x, dx, out=there_x[rows]), np.add(y[rows], dy, out=there_y[rows])
        depth = np.take(depth_p, labels, out=depth_hw[rows], mode="wrap")
        np.copyto(depth, gone, where=(to_x < 0) | (to_x >= width / height) | (to_y < 0) | (to_y >= 1))
    # A point is covered if a part nearer than its own is there; only points this near to a part can come to it.
    farthest = np.array(reach, np.float64).max(axis=0) * (1, 1, -1, -1)
    windows = _windows(following.bounds_p4 - farthest, (height, width))
    for part in _near_to_far(scene, following):
        window = windows[part]
        if window is None:
            continue
        depth = depth_hw[window]
        behind = depth < part
        if behind.any():
            inside = following.distance(part, there_x[window][behind], there_y[window][behind]) >= 0
            behind[behind] = inside
            np.copyto(depth, gone, where=behind)
    return flow, depth_hw == gone


def _bands(size_hw: tuple[int, ...]) -> list[slice]:
    """Rows to work on at a time, so that they stay in the cache."""
    step = max(1, _BLOCK // size_hw[1])
    return [slice(first, first + step) for first in range(0, size_hw[0], step)]


def _annotate(scene: Scene, index: int, labels_hw: NDArray[np.int32]) -> FrameAnnotation:
    height, width = labels_hw.shape
    parts = len(scene.parts)
    area_p = np.bincount((labels_hw + 1).reshape(-1), minlength=parts + 1)[1:]
    owner_p = scene.parts.entity_p
    seen = set(owner_p[area_p > 0].tolist())
    entities = [entity for entity in scene.entities if entity.id in seen]
    position_of = {entity.id: position for position, entity in enumerate(entities, start=1)}
    position_p = np.array([*(position_of.get(owner, 0) for owner in owner_p.tolist()), 0], np.int32)
    positions_hw = position_p[labels_hw]
    segments = tuple(
        Segment(entity.id, entity.id, category=entity.category, is_thing=entity.is_thing) for entity in entities
    )
    void = positions_hw == 0
    return FrameAnnotation(
        FrameSegmentation(index, (height, width), segments, LabelMap(torch.from_numpy(positions_hw))),
        void=torch.from_numpy(void) if void.any() else None,
    )


def _amodal(scene: Scene, layers: _Layers) -> tuple[PackedMasks, tuple[int, ...]]:
    masks = {entity: mask for entity, mask in layers.amodal.items() if mask.any()}
    empty = np.zeros((0, *layers.labels_hw.shape), np.bool_)
    stacked = np.stack(list(masks.values())) if masks else empty
    return pack_masks(torch.from_numpy(stacked)), tuple(masks)


def _points_inside(segmentation: FrameSegmentation) -> dict[int, tuple[int, int]]:
    """The pixel of each visible thing that is farthest from all others; the first one in reading order."""
    positions_hw = segmentation.label_map().numpy()
    points = {}
    for position, (segment, window) in enumerate(
        zip(segmentation.segments, ndimage.find_objects(positions_hw), strict=True), start=1
    ):
        if segment.is_thing:
            mask = (positions_hw[window] == position).astype(np.uint8)
            around = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
            distance = cv2.distanceTransform(around, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
            # Squares of distances are whole numbers: rounded, they are the same with every build of OpenCV.
            row, column = divmod(int(np.rint(distance * distance).argmax()), mask.shape[1])
            points[segment.id] = (window[1].start + column, window[0].start + row)
    return points
