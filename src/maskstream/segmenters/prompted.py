"""Segmenters that take prompts: what they have in common.

frame ─► encode ─► picture at working resolution ─┐
boxes, clicks, scribbles ─► hints ────────────────┴─► the segmenter ─► mask ─► size of the source
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstream.types import (
    BoxPrompt,
    CategorySet,
    Frame,
    InputError,
    MaskPrompt,
    ObjectPrompt,
    PointPrompt,
    Proposals,
    resize_masks,
)

BoolMask: TypeAlias = NDArray[np.bool_]
ByteArray: TypeAlias = NDArray[np.uint8]
FloatArray: TypeAlias = NDArray[np.float32]
Value = TypeVar("Value", int, bool)


@dataclass(frozen=True, slots=True, eq=False)
class PromptedFeatures:
    """A picture to be segmented.

    Attributes:
        image_hwc: ``uint8[h, w, 3]``, RGB at working resolution.
        size_hw: height and width of the source.
    """

    image_hwc: Tensor = field(repr=False)
    size_hw: tuple[int, int]


@dataclass(slots=True, eq=False)
class Hints:
    """What the prompts of one object say, at working resolution."""

    object: BoolMask
    background: BoolMask
    box: BoolMask | None = None
    mask: BoolMask | None = None


class PromptedSegmenter(ABC):
    """An `ImageSegmenter` for prompts: one proposal for each object, none without prompts.

    Args:
        size: short side of the working resolution in pixels; smaller pictures are not enlarged.
    """

    context = 0

    def __init__(self, *, size: int) -> None:
        if size < 16:
            raise InputError(f"the size of a segmenter must be at least 16 pixels, not {size}")
        self.size = size

    def encode(self, frames: Sequence[Frame]) -> list[PromptedFeatures]:
        """The frames at working resolution."""
        features = []
        for frame in frames:
            height, width = frame.size_hw
            short = min(height, width)
            image = frame.image
            if short > self.size:
                reduced = (width * self.size // short, height * self.size // short)
                image = np.asarray(cv2.resize(image, reduced, interpolation=cv2.INTER_AREA), dtype=np.uint8)
            features.append(PromptedFeatures(torch.from_numpy(np.ascontiguousarray(image)), frame.size_hw))
        return features

    def segment(
        self,
        features: PromptedFeatures,
        prompts: Sequence[ObjectPrompt] = (),
        *,
        context: Sequence[PromptedFeatures] = (),
        categories: CategorySet | None = None,
        exclude: Tensor | None = None,
    ) -> Proposals:
        """Segment the prompted objects, each on its own; the proposals may overlap.

        Args:
            features: of the picture.
            prompts: prompts of one object act together. A `MaskPrompt` is returned as it is, or is what clicks and
                scribbles refine.
            context: not used.
            categories: not used; a proposal has the category its prompts name.
            exclude: not used.

        Returns:
            ``bool`` masks at the size of the source, one an object in order of first mention.

        Raises:
            InputError: a prompt reaches outside the picture, or a mask is of another size.
        """
        if not prompts:
            return Proposals.none(features.size_hw)
        by_object = grouped(prompts, features.size_hw)
        return Proposals(
            torch.stack([self._object(features, own) for own in by_object.values()]),
            categories=tuple(last_given(prompt.category for prompt in own) for own in by_object.values()),
            is_thing=tuple(last_given(prompt.is_thing for prompt in own) for own in by_object.values()),
        )

    def _object(self, features: PromptedFeatures, prompts: Sequence[ObjectPrompt]) -> Tensor:
        """``bool[H, W]`` at the size of the source."""
        mask = given_mask(prompts)
        if mask is not None and all(isinstance(prompt, MaskPrompt) for prompt in prompts):
            return mask
        found = self._segment(features, prompts)
        return resize_masks(torch.from_numpy(found)[None], features.size_hw)[0] >= 0.5

    @abstractmethod
    def _segment(self, features: PromptedFeatures, prompts: Sequence[ObjectPrompt]) -> BoolMask:
        """One object that not only masks are given for, at working resolution."""


def grouped(prompts: Sequence[ObjectPrompt], size_hw: tuple[int, int]) -> dict[int, list[ObjectPrompt]]:
    """The prompts of each object, objects in order of first mention.

    Raises:
        InputError: a prompt reaches outside the picture, or a mask is of another size.
    """
    by_object: dict[int, list[ObjectPrompt]] = {}
    for prompt in prompts:
        check(prompt, size_hw)
        by_object.setdefault(prompt.object_id, []).append(prompt)
    return by_object


def given_mask(prompts: Sequence[ObjectPrompt]) -> Tensor | None:
    """The last mask among the prompts of an object, without what is void in it, ``bool[H, W]``; None without one."""
    masks = [prompt for prompt in prompts if isinstance(prompt, MaskPrompt)]
    if not masks:
        return None
    return masks[-1].mask if masks[-1].void is None else masks[-1].mask & ~masks[-1].void


def last_given(values: Iterable[Value | None]) -> Value | None:
    """The last one that is known, or None."""
    return next((value for value in reversed(list(values)) if value is not None), None)


def check(prompt: ObjectPrompt, size_hw: tuple[int, int]) -> None:
    """A box may reach one pixel over the border, as detectors round; a point may not."""
    height, width = size_hw
    where = f"of object {prompt.object_id} on frame {prompt.frame_index}"
    picture = f"the picture, which is {width} wide and {height} high"
    if isinstance(prompt, MaskPrompt):
        if tuple(prompt.mask.shape) != size_hw:
            raise InputError(f"the mask {where} is {prompt.mask.shape[0]}×{prompt.mask.shape[1]}, unlike {picture}")
    elif isinstance(prompt, BoxPrompt):
        x0, y0, x1, y1 = prompt.box_xyxy
        if min(x0, y0) < -1 or x1 > width + 1 or y1 > height + 1 or x0 >= width or y0 >= height or min(x1, y1) <= 0:
            raise InputError(f"the box {x0:g},{y0:g},{x1:g},{y1:g} {where} reaches outside {picture}")
    else:
        for x, y in prompt.points_xy if isinstance(prompt, PointPrompt) else prompt.stroke_xy:
            if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
                raise InputError(f"the point {x:g},{y:g} {where} is outside {picture}")


def hints_of(features: PromptedFeatures, prompts: Sequence[ObjectPrompt]) -> Hints:
    """Draw the prompts at working resolution; of two boxes or masks the later one counts."""
    height, width = features.image_hwc.shape[:2]
    scale_xy = np.array([width / features.size_hw[1], height / features.size_hw[0]])
    drawn = {sign: np.zeros((height, width), dtype=np.uint8) for sign in (True, False)}
    hints = Hints(np.zeros((height, width), dtype=bool), np.zeros((height, width), dtype=bool))
    thickness = max(3, min(height, width) // 100)
    for prompt in prompts:
        if isinstance(prompt, BoxPrompt):
            x0, y0, x1, y1 = np.rint(np.array(prompt.box_xyxy) * np.tile(scale_xy, 2)).astype(int).clip(0)
            hints.box = np.zeros((height, width), dtype=bool)
            hints.box[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)] = True
        elif isinstance(prompt, MaskPrompt):
            hints.mask = (resize_masks(prompt.mask[None], (height, width))[0] >= 0.5).numpy()
        else:
            if isinstance(prompt, PointPrompt):
                strokes = [([point], sign) for point, sign in zip(prompt.points_xy, prompt.positive, strict=True)]
            else:
                strokes = [(list(prompt.stroke_xy), prompt.positive)]
            for stroke, sign in strokes:
                # Pixel centres are whole numbers in both pictures.
                dots = np.floor((np.array(stroke) + 0.5) * scale_xy).astype(int).clip(0, [width - 1, height - 1])
                for first, second in pairwise([dots[0], *dots]):
                    start, end = (int(first[0]), int(first[1])), (int(second[0]), int(second[1]))
                    cv2.line(drawn[sign], start, end, 1, thickness)
    hints.object, hints.background = drawn[True] > drawn[False], drawn[False] > 0
    return hints
