"""What the values of a project are, and what their keys are called.

    object/ID               name, category, colour, shown or not
    next_id                 number of the next object
    prompts/ID/FRAME        what a person pointed at, as plain data
    given/ID/FRAME          about the mask that a person gave           mask/given/ID/FRAME   the mask
    found/ID/FRAME          about the mask that a model found           mask/found/ID/FRAME   the mask

What is known about masks lies apart from them, so that all of it can be in memory and none of the masks need be. Masks
of people are at the size of the video. Those of a model are too, or probabilities at the size it works at.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from maskstream.sinks.draw import display_colours
from maskstream.types import RLE, InputError, decode_rle, encode_rle

Json: TypeAlias = Any
"""What a JSON text says."""
Direction: TypeAlias = Literal["forward", "backward", "both"]
Mask: TypeAlias = NDArray[np.bool_]
"""``bool[H, W]``, at the size of the video."""
SoftMap: TypeAlias = NDArray[np.uint8]
"""``uint8[h, w]``, probability in steps of 1/255, at the size a propagator works at."""

NEXT_ID = "next_id"
LONGEST_TEXT = 200
"""Characters of a name or category."""
_SIZE = struct.Struct("<II")
_SOFT, _HARD = b"S", b"H"
_COLOUR = re.compile(r"#[0-9a-f]{6}")


@dataclass(frozen=True, slots=True)
class Object:
    """What an object is called.

    Attributes:
        name: for people.
        category: what it is, or "".
        colour: ``#rrggbb``.
        visible: whether it is shown.
    """

    name: str
    category: str
    colour: str
    visible: bool = True

    @classmethod
    def new(cls, object_id: int, *, name: str | None = None, category: str = "") -> Object:
        """An object of which nobody said more; its colour is the one that overlays have for its number."""
        red, green, blue = display_colours([object_id])[0].tolist()
        return cls(name or f"object {object_id}", category, f"#{red:02x}{green:02x}{blue:02x}")

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Its colour, each part from 0 to 255."""
        red, green, blue = bytes.fromhex(self.colour[1:])
        return red, green, blue

    def described(self, *, name: str | None, category: str | None, colour: str | None, visible: bool | None) -> Object:
        """With what is not None changed.

        Raises:
            InputError: the name is empty, a text is too long, or the colour is none.
        """
        new = replace(
            self,
            name=self.name if name is None else name.strip(),
            category=self.category if category is None else category.strip(),
            colour=self.colour if colour is None else colour.lower(),
            visible=self.visible if visible is None else visible,
        )
        if not new.name:
            raise InputError("the name of an object is empty: give it at least one character")
        if max(len(new.name), len(new.category)) > LONGEST_TEXT:
            raise InputError(f"a name or category is longer than {LONGEST_TEXT} characters: shorten it")
        if not _COLOUR.fullmatch(new.colour):
            raise InputError(f"{colour!r} is no colour: give it as #rrggbb")
        return new

    def to_bytes(self) -> bytes:
        """As a value."""
        return to_json(asdict(self))

    @classmethod
    def from_bytes(cls, value: bytes) -> Object:
        """Undo `to_bytes`."""
        return cls(**json.loads(value))


@dataclass(frozen=True, slots=True)
class Origin:
    """A mask that a person gave, which others were found from.

    Attributes:
        frame: it is on.
        digest: of the mask: another mask is another origin, and the same one given again is not.
    """

    frame: int
    digest: int


@dataclass(frozen=True, slots=True)
class Given:
    """What is known about a mask that a person gave.

    Attributes:
        action: that gave it; of two masks the later one is on top.
        digest: of the mask.
        area: fraction of the picture.
    """

    action: int
    digest: int
    area: float

    def to_bytes(self) -> bytes:
        """As a value."""
        return to_json(asdict(self))

    @classmethod
    def from_bytes(cls, value: bytes) -> Given:
        """Undo `to_bytes`."""
        return cls(**json.loads(value))


@dataclass(frozen=True, slots=True)
class Found:
    """What is known about a mask that a model found.

    Attributes:
        model: that found it.
        area: fraction of the picture.
        direction: how it followed from masks that were given; None where it did not, as what was imported or detected.
        before: the nearest given mask before it, where it was followed forward from there.
        after: the nearest given mask after it, where it was followed backward from there.
        blur: how blurred it is, see `doubt.blur`; None where it has no probabilities.
        agreement: IoU of what was found forward and backward; None where there is only one of them.
    """

    model: str
    area: float
    direction: Direction | None = None
    before: Origin | None = None
    after: Origin | None = None
    blur: float | None = None
    agreement: float | None = None

    def to_bytes(self) -> bytes:
        """As a value."""
        return to_json(asdict(self))

    @classmethod
    def from_bytes(cls, value: bytes) -> Found:
        """Undo `to_bytes`."""
        plain = json.loads(value)
        for side in ("before", "after"):
            plain[side] = None if plain[side] is None else Origin(**plain[side])
        return cls(**plain)


def object_key(object_id: int) -> str:
    """Where it is said what an object is called."""
    return f"object/{object_id}"


def prompts_key(object_id: int, frame: int) -> str:
    """Where it is said what a person pointed at."""
    return f"prompts/{object_id}/{frame}"


def given_key(object_id: int, frame: int) -> str:
    """Where it is said what is known about a given mask."""
    return f"given/{object_id}/{frame}"


def found_key(object_id: int, frame: int) -> str:
    """Where it is said what is known about a found mask."""
    return f"found/{object_id}/{frame}"


def mask_key(key: str) -> str:
    """Where the mask is that a key of one of the last two kinds says something about."""
    return f"mask/{key}"


def places(keys: Iterable[str]) -> set[tuple[int, int]]:
    """The objects and frames whose masks these keys are about."""
    found = set()
    for key in keys:
        kind, _, rest = key.removeprefix("mask/").partition("/")
        if kind in ("given", "found"):
            object_id, _, frame = rest.partition("/")
            found.add((int(object_id), int(frame)))
    return found


def to_json(plain: Json) -> bytes:
    """Plain data as a value; the same data as the same bytes."""
    return json.dumps(plain, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()


def hard_bytes(mask_hw: Mask) -> bytes:
    """A mask as a value: COCO's run-length code."""
    (code,) = encode_rle(torch.from_numpy(np.ascontiguousarray(mask_hw))[None])
    return rle_bytes(code)


def rle_bytes(code: RLE) -> bytes:
    """As `hard_bytes`, of a mask that is coded already."""
    return _HARD + _SIZE.pack(*code["size"]) + code["counts"].encode()


def soft_bytes(map_hw: SoftMap) -> bytes:
    """Probabilities as a value."""
    # Level 1: maps are almost everywhere 0 or 255.
    return _SOFT + _SIZE.pack(*map_hw.shape) + zlib.compress(np.ascontiguousarray(map_hw).tobytes(), 1)


def is_soft(value: bytes) -> bool:
    """Whether a value is probabilities."""
    return value[:1] == _SOFT


def read_soft(value: bytes) -> SoftMap:
    """Undo `soft_bytes`."""
    size_hw = _SIZE.unpack_from(value, 1)
    return np.frombuffer(zlib.decompress(value[1 + _SIZE.size :]), np.uint8).reshape(size_hw)


def read_hard(value: bytes) -> Mask:
    """Undo `hard_bytes`."""
    height, width = _SIZE.unpack_from(value, 1)
    code = RLE(size=[height, width], counts=value[1 + _SIZE.size :].decode())
    mask_hw: Mask = decode_rle([code], (height, width))[0].numpy()
    return mask_hw


def digest(value: bytes) -> int:
    """64 bits that tell masks apart."""
    return int.from_bytes(hashlib.sha256(value).digest()[:8], "little")


def given_values(object_id: int, frame: int, mask_hw: Mask, *, action: int) -> Mapping[str, bytes]:
    """A mask that a person gave, as values by key."""
    value, key = hard_bytes(mask_hw), given_key(object_id, frame)
    about = Given(action, digest(value), area_of(mask_hw))
    return {key: about.to_bytes(), mask_key(key): value}


def area_of(mask_hw: Mask) -> float:
    """Fraction of the picture."""
    return round(float(mask_hw.mean()), 8)
