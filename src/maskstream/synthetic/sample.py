"""The sample clip: sea creatures over a reef, with exact ground truth.

What happens in the first 90 frames: a ray crosses the picture, a turtle swims over it, a fish leaves on the right and
comes back, an octopus enters late from the left. Longer clips repeat the movement; a shorter clip is the beginning of
a longer one. The camera pans all the time.

The pixels are the same on every machine. Textures, compositing and noise are integers; outlines are float32 made of
operations that IEEE 754 defines to the last bit (see `creatures`); sines are rounded to 1/4096.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from maskstream.types import OBJECT, Frame, FrameAnnotation, FrameSegmentation, InputError, LabelMap, Segment

from .creatures import CREATURES, Array, Brush, Colour, wave
from .texture import fractal_noise, lattice_noise, seabed

FPS = 24.0
MAX_OBJECTS = 16
_FRAMES_PER_WAYPOINT = 20
_PAN_SIXTEENTHS = 20  # of a pixel a frame, to the right
_NOISE_RANGE = 9
_CATEGORY = OBJECT.categories[0]


@dataclass(frozen=True, slots=True)
class _Actor:
    """One object: what it looks like and where it goes.

    Attributes:
        path_xy: waypoints of a closed path, in pixels of an 854×480 picture, twenty frames apart.
        size: pixels per unit in that picture.
        depth: larger is nearer to the camera.
        phase: frames by which it is ahead of its path.
        spin: turns a frame, for one that does not look where it swims; None for one that does.
        period: frames of one beat of its limbs.
        swell: relative change of its size, over 120 frames.
    """

    kind: int
    path_xy: tuple[tuple[int, int], ...]
    size: float
    depth: int
    period: float
    spin: float | None = None
    swell: float = 0.0
    phase: int = 0
    colours: tuple[Colour, Colour] = ((0, 0, 0), (0, 0, 0))


# fmt: off
_CAST = (
    _Actor(
        kind=0,
        path_xy=(
            (165, 314), (228, 292), (300, 274), (380, 254), (465, 242), (545, 250),
            (610, 300), (565, 360), (470, 390), (370, 395), (260, 395), (145, 372),
        ),
        size=112,
        depth=0,
        period=36,
        swell=0.12,
    ),
    _Actor(
        kind=1,
        path_xy=(
            (640, 84), (575, 96), (512, 122), (448, 158), (376, 196), (310, 256),
            (250, 345), (320, 405), (430, 415), (530, 365), (620, 290), (665, 180),
        ),
        size=72,
        depth=2,
        period=44,
        swell=-0.08,
    ),
    _Actor(
        kind=2,
        path_xy=(
            (752, 342), (842, 324), (925, 292), (925, 222), (848, 192), (762, 188),
            (685, 215), (620, 270), (600, 340), (635, 385), (680, 390), (705, 368),
        ),
        size=72,
        depth=3,
        period=18,
    ),
    _Actor(
        kind=3,
        path_xy=(
            (-190, 120), (-130, 118), (-58, 122), (16, 136), (92, 146), (170, 150),
            (250, 140), (290, 80), (230, 10), (130, -60), (0, -110), (-130, -40),
        ),
        size=76,
        depth=1,
        period=42,
        spin=1 / 200,
        swell=0.08,
    ),
)
# fmt: on
# Main and second colour, all far from the reef's blue, green and sand.
_COLOURS: tuple[tuple[Colour, Colour], ...] = (
    ((88, 62, 150), (226, 214, 244)),
    ((200, 112, 20), (126, 206, 40)),
    ((246, 106, 26), (250, 246, 236)),
    ((204, 40, 84), (250, 190, 150)),
    ((226, 196, 40), (60, 50, 40)),
    ((150, 30, 40), (240, 150, 60)),
    ((60, 60, 66), (246, 206, 60)),
    ((236, 120, 170), (120, 30, 90)),
)


def render_sample(
    *, frames: int = 90, size_hw: tuple[int, int] = (480, 854), objects: int = 4, seed: int = 0
) -> Iterator[tuple[Frame, FrameAnnotation]]:
    """Draw the sample clip, one frame at a time.

    Args:
        frames: how many frames; frame n does not depend on it.
        size_hw: height and width of the picture, at least 32 each.
        objects: how many objects, 1 to 16; object n does not depend on it.
        seed: another seed gives another reef, other textures and slightly other paths.

    Yields:
        Frames at 24 per second, and their truth: disjoint segments of category 1 ("object"), ``id`` and ``track_id``
        both the object's number from 1, only those that are visible. A pixel belongs to the nearest object that
        covers at least half of it.

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
    reef = _Reef(size_hw, seed)
    grains = [
        fractal_noise((256, 256), ((32, 2), (16, 3), (8, 3)), seed * 101 + number).astype(np.float32) / 65280.0
        for number in range(len(actors))
    ]
    far_to_near = sorted(range(len(actors)), key=lambda number: (actors[number].depth, number))
    for index in range(frames):
        image = reef.view(index)
        ids = np.zeros(size_hw, dtype=np.uint8)
        for number in far_to_near:
            _draw(actors[number], index, grains[number], number + 1, image, ids)
        image += reef.camera_noise(index)
        yield Frame(index, index / FPS, image), _annotate(index, ids)


def _cast(objects: int, seed: int) -> list[_Actor]:
    """The actors; from the fifth on they are smaller, in other colours, on mirrored paths and at another time."""
    jitter = lattice_noise((objects, 2), seed).astype(np.int64) % 17 - 8 if seed else np.zeros((objects, 2), np.int64)
    actors = []
    for number in range(objects):
        role, crowd = _CAST[number % len(_CAST)], number // len(_CAST)
        path = [(854 - x if crowd & 1 else x, 480 - y if crowd & 2 or crowd == 1 else y) for x, y in role.path_xy]
        shift_x, shift_y = (int(step) for step in jitter[number])
        actors.append(
            _Actor(
                kind=role.kind,
                path_xy=tuple((x + shift_x, y + shift_y) for x, y in path),
                size=role.size * 0.75 ** min(crowd, 2),
                depth=role.depth + len(_CAST) * crowd,
                period=role.period,
                spin=role.spin,
                swell=role.swell,
                phase=70 * crowd,
                colours=_COLOURS[(number + 3 * (crowd // 2)) % len(_COLOURS)],
            )
        )
    return actors


class _Reef:
    """The background: a picture that repeats without a seam, and a camera that pans over it."""

    def __init__(self, size_hw: tuple[int, int], seed: int) -> None:
        self._size_hw = size_hw
        self._tile_hw = (_round_up(size_hw[0] + 64, 128), _round_up(size_hw[1] * 3 // 2, 128))
        tile = seabed(self._tile_hw, seed)
        # A view's width more, so that every view is one slice.
        self._wide = np.concatenate([tile, tile[:, : size_hw[1] + 1]], axis=1).astype(np.uint16)
        noise = lattice_noise((size_hw[0] + 64, size_hw[1] + 64), seed + 31337)
        grey = (noise.astype(np.uint16) * _NOISE_RANGE >> 8).astype(np.uint8)
        self._noise = np.repeat(grey[..., None], 3, axis=2)

    def view(self, index: int) -> NDArray[np.uint8]:
        """``uint8[H, W, 3]``, bilinear at sixteenths of a pixel."""
        height, width = self._size_hw
        x = index * _PAN_SIXTEENTHS % (self._tile_hw[1] * 16)
        y = 16 * 32 + round(16 * 24 * wave(index / 160))
        left, top, fx, fy = x >> 4, y >> 4, x & 15, y & 15
        rows = self._wide[top : top + height + 1]
        across = rows[:, left : left + width] * np.uint16(16 - fx)
        across += rows[:, left + 1 : left + width + 1] * np.uint16(fx)
        down = across[:-1] * np.uint16(16 - fy)
        down += across[1:] * np.uint16(fy)
        down >>= np.uint16(8)
        view: NDArray[np.uint8] = down.astype(np.uint8)
        return view

    def camera_noise(self, index: int) -> NDArray[np.uint8]:
        """``uint8[H, W, 3]``, grain that changes every frame."""
        height, width = self._size_hw
        top, left = index * 37 % 64, index * 23 % 61
        return self._noise[top : top + height, left : left + width]


def _draw(
    actor: _Actor, index: int, grain: Array, number: int, image: NDArray[np.uint8], ids: NDArray[np.uint8]
) -> None:
    """Paint an actor over the picture and its number over the ids."""
    height, width = ids.shape
    centre, (ahead_u, ahead_v) = _pose(actor, index)
    beat = wave(index / 120 + actor.kind * 0.3)
    size = actor.size * (1.0 + actor.swell * beat) * height / 480.0
    x, y = centre[0] * width / 854.0, centre[1] * height / 480.0
    creature, extent = CREATURES[actor.kind]
    reach = math.ceil(extent * size) + 1
    x0, x1 = max(0, math.floor(x) - reach), min(width, math.floor(x) + reach + 1)
    y0, y1 = max(0, math.floor(y) - reach), min(height, math.floor(y) + reach + 1)
    if x0 >= x1 or y0 >= y1:
        return
    dx = ((np.arange(x0, x1, dtype=np.float64) - x) / size).astype(np.float32)[None]
    dy = ((np.arange(y0, y1, dtype=np.float64) - y) / size).astype(np.float32)[:, None]
    brush = Brush(dx * ahead_u + dy * ahead_v, dy * ahead_u - dx * ahead_v, pixels_per_unit=size, grain=grain)
    creature(brush, (index + actor.phase) / actor.period, *actor.colours)
    weight = np.floor(brush.alpha * 256.0).astype(np.int32)[..., None]
    patch = image[y0:y1, x0:x1]
    painted = brush.colour.astype(np.int32)
    patch += ((painted - patch) * weight >> 8).astype(np.uint8)  # modulo 256, as the sum is
    ids[y0:y1, x0:x1][weight[..., 0] >= 128] = number


def _pose(actor: _Actor, index: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Centre, and the direction it faces as a unit vector; a closed Catmull-Rom spline through the waypoints."""
    step, count = index + actor.phase, len(actor.path_xy)
    segment, t = step // _FRAMES_PER_WAYPOINT, step % _FRAMES_PER_WAYPOINT / _FRAMES_PER_WAYPOINT
    before, start, end, after = (actor.path_xy[(segment + offset) % count] for offset in (-1, 0, 1, 2))
    centre, velocity = [], []
    for p0, p1, p2, p3 in zip(before, start, end, after, strict=True):
        c1, c2, c3 = p2 - p0, 2 * p0 - 5 * p1 + 4 * p2 - p3, 3 * (p1 - p2) + p3 - p0
        centre.append(0.5 * (2 * p1 + t * (c1 + t * (c2 + t * c3))))
        velocity.append(c1 + t * (2 * c2 + 3 * t * c3))
    speed = math.sqrt(velocity[0] * velocity[0] + velocity[1] * velocity[1])
    facing = (velocity[0] / speed, velocity[1] / speed)
    if actor.spin is not None:
        facing = (wave(step * actor.spin + 0.25), wave(step * actor.spin))
    return (centre[0], centre[1]), facing


def _annotate(index: int, ids: NDArray[np.uint8]) -> FrameAnnotation:
    present = np.flatnonzero(np.bincount(ids.reshape(-1))[1:]) + 1
    position_of_id = np.zeros(MAX_OBJECTS + 1, dtype=np.int32)
    position_of_id[present] = np.arange(1, len(present) + 1)
    segments = tuple(
        Segment(number, number, category=_CATEGORY.id, is_thing=_CATEGORY.is_thing) for number in present.tolist()
    )
    label_map = LabelMap(torch.from_numpy(position_of_id[ids]))
    return FrameAnnotation(FrameSegmentation(index, (ids.shape[0], ids.shape[1]), segments, label_map))


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step
