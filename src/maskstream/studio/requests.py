"""What a browser may ask for: every field known, every number finite and of its kind, every list bounded."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

MOST_POINTS = 10_000
"""Of one stroke."""
_MOST_PROMPTS = 200
_MOST_OBJECTS = 10_000
_LARGEST = 2**31 - 1

FrameIndex: TypeAlias = Annotated[int, Field(strict=True, ge=0, le=_LARGEST)]
ObjectId: TypeAlias = Annotated[int, Field(strict=True, ge=1, le=_LARGEST)]
ObjectIds: TypeAlias = Annotated[list[ObjectId], Field(min_length=1, max_length=_MOST_OBJECTS)]
Coordinate: TypeAlias = Annotated[float, Field(strict=True, ge=-100_000, le=100_000, allow_inf_nan=False)]
Flag: TypeAlias = Annotated[bool, Field(strict=True)]
Stroke: TypeAlias = Annotated[list[tuple[Coordinate, Coordinate]], Field(min_length=1, max_length=MOST_POINTS)]
Text: TypeAlias = Annotated[str, Field(strict=True, max_length=200)]
Place: TypeAlias = Annotated[str, Field(strict=True, min_length=1, max_length=4096)]
FormatName: TypeAlias = Annotated[str, Field(strict=True, min_length=1, max_length=40)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PointAsked(_Asked):
    """A click."""

    kind: Literal["point"]
    x: Coordinate
    y: Coordinate
    positive: Flag


class BoxAsked(_Asked):
    """A box: left, top, right and bottom."""

    kind: Literal["box"]
    box: tuple[Coordinate, Coordinate, Coordinate, Coordinate]


class ScribbleAsked(_Asked):
    """A line drawn on an object, or off it."""

    kind: Literal["scribble"]
    stroke: Stroke
    positive: Flag


PromptAsked: TypeAlias = Annotated[PointAsked | BoxAsked | ScribbleAsked, Field(discriminator="kind")]


class PromptsAsked(_Asked):
    """Prompts of an object on a frame; of a new one if None."""

    frame: FrameIndex
    object: ObjectId | None
    prompts: Annotated[list[PromptAsked], Field(min_length=1, max_length=_MOST_PROMPTS)]


class BrushAsked(_Asked):
    """A stroke that adds to the mask of an object, or takes away from it."""

    frame: FrameIndex
    object: ObjectId | None
    stroke: Stroke
    radius: Annotated[float, Field(strict=True, gt=0, le=1000, allow_inf_nan=False)]
    erase: Flag


class ClearAsked(_Asked):
    """Nothing of an object on a frame."""

    frame: FrameIndex
    object: ObjectId


class DescribeAsked(_Asked):
    """What to call an object, and how to show it; what is left out stays."""

    name: Text | None = None
    category: Text | None = None
    colour: Annotated[str, Field(strict=True, pattern=r"^#[0-9a-fA-F]{6}$")] | None = None
    visible: Flag | None = None


class MergeAsked(_Asked):
    """Objects that are one."""

    model_config = ConfigDict(extra="forbid", populate_by_name=False)

    into: ObjectId
    others: ObjectIds = Field(alias="from")


class SplitAsked(_Asked):
    """An object that is several."""

    object: ObjectId
    frame: FrameIndex
    how: Literal["time", "regions"]


class PropagateAsked(_Asked):
    """Follow objects, all if None, from one frame to another, both included."""

    objects: ObjectIds | None
    first: FrameIndex
    last: FrameIndex
    direction: Literal["forward", "backward", "both"]


class FindAsked(_Asked):
    """Look for objects on some frames: whatever there is, or what words say."""

    first: FrameIndex
    last: FrameIndex
    text: Text | None = None


class ExportAsked(_Asked):
    """Masks of objects, all if None, in a layout."""

    format: FormatName
    objects: ObjectIds | None = None


class ImportAsked(_Asked):
    """Masks from a folder or file."""

    path: Place
    format: FormatName


class OpenAsked(_Asked):
    """A video, a folder of pictures or a project."""

    path: Place
