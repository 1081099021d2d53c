"""Prompts: how a person (or a detector) says which object is meant.

All coordinates are pixels of the source video, x to the right and y down, (0, 0) the centre of the top-left pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from .errors import InputError

Point: TypeAlias = tuple[float, float]


def _as_mask(mask: Tensor | ArrayLike, what: str) -> Tensor:
    tensor = mask if isinstance(mask, Tensor) else torch.from_numpy(np.ascontiguousarray(mask))
    if tensor.ndim != 2:
        raise InputError(f"{what} must have two axes, height and width, not shape {list(tensor.shape)}")
    return tensor != 0


def _as_points(points: Sequence[Point], what: str) -> tuple[Point, ...]:
    if not points or any(len(point) != 2 for point in points):
        raise InputError(f"{what} needs at least one (x, y) pair, not {points!r}")
    return tuple((float(x), float(y)) for x, y in points)


def _check_object(frame_index: int, object_id: int) -> None:
    if frame_index < 0:
        raise InputError(f"a prompt names frame {frame_index}: frames are counted from 0")
    if object_id < 1:
        raise InputError(f"a prompt names object {object_id}: object ids are counted from 1")


@dataclass(frozen=True, slots=True, eq=False)
class MaskPrompt:
    """An object given by its mask.

    Attributes:
        frame_index: ``Frame.index`` of the frame the mask belongs to.
        object_id: the caller's number for the object; becomes its ``track_id``.
        mask: ``bool[H, W]`` (anything non-zero counts) at the size of the video.
        void: ``bool[H, W]``, pixels that are neither the object nor background, or None.
        category: category id, or None when unknown.
        is_thing: thing (True), stuff (False) or unknown (None).
    """

    frame_index: int
    object_id: int
    mask: Tensor = field(repr=False)
    void: Tensor | None = field(default=None, repr=False)
    category: int | None = None
    is_thing: bool | None = None

    if TYPE_CHECKING:  # what may be given is wider than what is kept

        def __init__(
            self,
            frame_index: int,
            object_id: int,
            mask: Tensor | ArrayLike,
            void: Tensor | ArrayLike | None = None,
            category: int | None = None,
            is_thing: bool | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        _check_object(self.frame_index, self.object_id)
        object.__setattr__(self, "mask", _as_mask(self.mask, f"the mask of object {self.object_id}"))
        if self.void is not None:
            object.__setattr__(self, "void", _as_mask(self.void, f"the void mask of object {self.object_id}"))


@dataclass(frozen=True, slots=True)
class BoxPrompt:
    """An object given by a box around it: ``x0, y0, x1, y1`` with x0 < x1 and y0 < y1."""

    frame_index: int
    object_id: int
    box_xyxy: tuple[float, float, float, float]
    category: int | None = None
    is_thing: bool | None = None

    def __post_init__(self) -> None:
        _check_object(self.frame_index, self.object_id)
        x0, y0, x1, y1 = self.box_xyxy
        if not (x0 < x1 and y0 < y1):
            raise InputError(
                f"the box of object {self.object_id} is empty: x0 < x1 and y0 < y1 are needed, "
                f"not {x0:g},{y0:g},{x1:g},{y1:g}"
            )


@dataclass(frozen=True, slots=True)
class PointPrompt:
    """An object given by clicks.

    Attributes:
        points_xy: the clicks.
        positive: one flag a click: on the object (True) or off it (False).
        add: refine what the object already is on this frame, instead of starting anew.
    """

    frame_index: int
    object_id: int
    points_xy: tuple[Point, ...]
    positive: tuple[bool, ...] = ()
    add: bool = False
    category: int | None = None
    is_thing: bool | None = None

    def __post_init__(self) -> None:
        _check_object(self.frame_index, self.object_id)
        object.__setattr__(self, "points_xy", _as_points(self.points_xy, f"a point prompt of object {self.object_id}"))
        positive = tuple(bool(p) for p in self.positive) or (True,) * len(self.points_xy)
        if len(positive) != len(self.points_xy):
            raise InputError(f"object {self.object_id} has {len(self.points_xy)} points but {len(positive)} signs")
        if not self.add and not any(positive):
            raise InputError(f"object {self.object_id} has only negative points: add at least one on the object")
        object.__setattr__(self, "positive", positive)


@dataclass(frozen=True, slots=True)
class ScribblePrompt:
    """An object given by a freehand stroke, a polyline of at least one point, on the object or off it."""

    frame_index: int
    object_id: int
    stroke_xy: tuple[Point, ...]
    positive: bool = True
    add: bool = False
    category: int | None = None
    is_thing: bool | None = None

    def __post_init__(self) -> None:
        _check_object(self.frame_index, self.object_id)
        object.__setattr__(self, "stroke_xy", _as_points(self.stroke_xy, f"a scribble of object {self.object_id}"))


@dataclass(frozen=True, slots=True)
class TextPrompt:
    """Objects given by words.

    Attributes:
        text: the words.
        kind: "concept" finds every such object, "expression" the one thing (or union) that is described.
        prompt_id: the name results carry in ``Segment.prompt_id``; the text itself by default.
    """

    text: str
    kind: Literal["concept", "expression"] = "concept"
    prompt_id: str = ""
    frame_index: int = 0

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise InputError("a text prompt is empty")
        if not self.prompt_id:
            object.__setattr__(self, "prompt_id", self.text)


ObjectPrompt: TypeAlias = MaskPrompt | BoxPrompt | PointPrompt | ScribblePrompt
"""A prompt that points at one numbered object of one frame."""

Prompt: TypeAlias = ObjectPrompt | TextPrompt


def prompt_id(prompt: Prompt) -> str:
    """The name that results carry in ``Segment.prompt_id``: the text's own, or ``object-N``."""
    return prompt.prompt_id if isinstance(prompt, TextPrompt) else f"object-{prompt.object_id}"
