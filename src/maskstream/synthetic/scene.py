"""A scene: entities made of parts, parts moved by affine maps. One description, which every engine draws.

    Scene ─┬─ entities: things and stuff, far to near              ─► ids, categories, depth order, expressions
           └─ parts, far to near: a shape, a texture, a pose a frame ─► pixels, masks, flow, occlusion

Because a part is rigid in its own coordinates, every truth is exact: a point of part p that is seen at x on frame t is
at ``place[t + 1, p] ∘ place[t, p]⁻¹ (x)`` on the next, and it is seen there if p is the nearest part at that place.

The picture is 1 high and W / H wide, whatever its size in pixels; (0, 0) is its top left corner, x goes to the right, y
down. The camera is in the poses already: an engine knows neither camera nor depth, only the order of the parts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from maskstream.types import Category, CategorySet

FloatArray: TypeAlias = NDArray[np.float32]
Pattern: TypeAlias = Literal["plain", "striped", "spotted", "checked"]

THINGS = (
    "fish", "turtle", "octopus", "snake", "spider", "crab", "bird", "butterfly",
    "walker", "car", "boat", "windmill", "kite", "balloon",
)  # fmt: skip
STUFF = ("sky", "water", "grass", "sand", "rock", "road", "forest", "snow")

WORLD = CategorySet(
    "synthetic",
    tuple(
        Category(number, name, is_thing=number <= len(THINGS)) for number, name in enumerate((*THINGS, *STUFF), start=1)
    ),
)
"""What there is in this world: things are 1 to 14, stuff 15 to 22."""

HALF_PLANES = 6
"""A polygon has so many sides at most."""


class ShapeKind(IntEnum):
    """Shapes in their own coordinates; `distance` in each engine says how far inside a point is.

    Attributes:
        EVERYWHERE: the whole plane.
        ELLIPSE: the unit circle; the pose makes it an ellipse.
        CAPSULE: all within r of the segment from (0, 0) to (1, 0), r going from ``params[0]`` to ``params[1]``.
        POLYGON: convex: where ``a u + b v + c`` is positive for each of its ``HALF_PLANES`` triples (a, b, c), of which
            (a, b) has length 1; unused ones are (0, 0, 1e3).
    """

    EVERYWHERE = 0
    ELLIPSE = 1
    CAPSULE = 2
    POLYGON = 3


@dataclass(frozen=True, slots=True)
class Entity:
    """A thing or a kind of stuff.

    Attributes:
        id: from 1; its ``Segment.id`` and ``track_id``.
        category: in `WORLD`. There is one entity for each category of stuff at most.
        pattern: of its main parts.
        colour: name of its main colour, a key of `COLOURS`.
        size: how large it was meant to be: its length as a fraction of the height of the picture.
    """

    id: int
    category: int
    pattern: Pattern
    colour: str
    size: float

    @property
    def is_thing(self) -> bool:
        """Whether it is a thing."""
        return self.category <= len(THINGS)


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """P parts on T frames, far to near: a later one covers an earlier one.

    Attributes:
        entity_p: ``int64[P]``, id of the entity each belongs to; 0 for what belongs to none: the void behind
            everything, and shadows.
        kind_p: ``int64[P]``, a `ShapeKind`.
        params_pk: ``float32[P, 18]``, see `ShapeKind`.
        place_tp23: ``float32[T, P, 2, 3]``, from the part's coordinates to the picture: x = A u + b.
        shown_tp: ``bool[T, P]``, whether it is there at all.
        shadow_p: ``bool[P]``: it is no body but darkens what is beneath to 60 %, and changes no truth.
        texture_p: ``int64[P]``, row of ``Scene.textures``.
        texture_scale_p: ``float32[P]``, tiles a unit of the part's coordinates.
        colour_p3: ``float32[P, 3]``, RGB in [0, 1], where the texture is 0.
        second_p3: ``float32[P, 3]``, where it is 1.
        photo_p: ``int64[P]``, row of ``Scene.photos`` to paint with instead, or -1.
    """

    entity_p: NDArray[np.int64]
    kind_p: NDArray[np.int64]
    params_pk: FloatArray
    place_tp23: FloatArray
    shown_tp: NDArray[np.bool_]
    shadow_p: NDArray[np.bool_]
    texture_p: NDArray[np.int64]
    texture_scale_p: FloatArray
    colour_p3: FloatArray
    second_p3: FloatArray
    photo_p: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.entity_p)


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """T frames of a world.

    Attributes:
        entities: far to near; their parts come in the same order, those of one entity together.
        parts: what is drawn.
        textures: ``uint8[K, 64, 64]`` tiles that repeat without a seam, 255 for 1; tile 0 is grain, which shades
            every part: its colour is multiplied by 0.7 + 0.6 · grain.
        photos: ``uint8[M, 64, 64, 3]``, tiles of a texture pack, mirrored where they repeat; M may be 0.
        light_t3: ``float32[T, 3]``, what the picture is multiplied by.
        noise: grain of the camera, in levels of 255.
        shutter: how much of the time between two frames the shutter is open, for motion blur; 0 for none.
        quality: of a JPEG compression that the picture goes through, or None.
        cuts: frames on which another shot begins: nothing corresponds across.
        fps: frames a second.
        seed: where noise begins.
    """

    entities: tuple[Entity, ...]
    parts: Parts
    textures: NDArray[np.uint8] = field(repr=False)
    photos: NDArray[np.uint8] = field(repr=False)
    light_t3: FloatArray = field(repr=False)
    noise: int = 0
    shutter: float = 0.0
    quality: int | None = None
    cuts: tuple[int, ...] = ()
    fps: float = 24.0
    seed: int = 0

    @property
    def frame_count(self) -> int:
        """T."""
        return len(self.light_t3)


COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (208, 44, 44),
    "orange": (236, 128, 32),
    "yellow": (238, 208, 50),
    "green": (58, 158, 64),
    "blue": (48, 88, 204),
    "purple": (132, 62, 176),
    "pink": (240, 130, 178),
    "brown": (122, 78, 44),
    "white": (236, 236, 232),
    "black": (34, 34, 38),
}
"""Names of colours of things, and their RGB."""
