"""From what people point at, in pixels of the video, to tokens (specification §5.1 to 5.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from torch import Tensor

from maskstream.mask2former.postprocess import AT_ONCE, FrameSizes, at_input
from maskstream.types import BoxPrompt, ObjectPrompt, PointPrompt, ScribblePrompt

from .prompts import STRIDE, Choose, PromptMap, Tokens, box_tokens, joined, mask_tokens, point_tokens


@dataclass(frozen=True, slots=True, eq=False)
class Pointed:
    """An object on a frame.

    Attributes:
        prompts: all of it there.
        mask: ``bool[H, W]`` at the size of the source, if one is among them.
    """

    prompts: Sequence[ObjectPrompt]
    mask: Tensor | None = field(repr=False)


def pointed_tokens(
    where: PromptMap, objects: Sequence[Pointed], sizes: FrameSizes, *, count: int, choose: Choose
) -> Tokens:
    """Tokens of N objects; those of several prompts are shared out evenly.

    Args:
        where: the frame.
        objects: N of them.
        sizes: of the frame.
        count: R.
        choose: which places where there are more.
    """
    device = where.content_chw.device
    masks: list[Tensor] = []
    boxes: list[tuple[float, ...]] = []
    points: list[tuple[float, ...]] = []
    parts_of: list[list[tuple[int, int]]] = []  # for each object kinds, and which of their kind
    width_px = max(1, round(STRIDE * sizes.source_hw[0] / sizes.content_hw[0]))
    for one in objects:
        parts: list[tuple[int, int]] = []
        if one.mask is not None:
            parts.append((0, len(masks)))
            masks.append(one.mask)
        for prompt in one.prompts:
            if isinstance(prompt, ScribblePrompt):
                parts.append((0, len(masks)))
                masks.append(drawn(prompt, sizes.source_hw, width_px))
            elif isinstance(prompt, BoxPrompt):
                parts.append((1, len(boxes)))
                boxes.append(_fractions(prompt.box_xyxy, sizes))
            elif isinstance(prompt, PointPrompt):
                parts += [(2, len(points) + n) for n in range(len(prompt.points_xy))]
                points += [_fractions((x + 0.5, y + 0.5), sizes) for x, y in prompt.points_xy]
        parts_of.append(parts)
    of_kinds = [
        _of_masks(where, masks, sizes, count=count, choose=choose),
        box_tokens(where, torch.tensor(boxes, device=device).reshape(-1, 4), count, choose=choose),
        point_tokens(where, torch.tensor(points, device=device).reshape(-1, 2), count),
    ]
    begins = (0, len(masks), len(masks) + len(boxes))
    everything = joined(of_kinds)
    rows = [[begins[kind] + n for kind, n in parts] for parts in parts_of]
    # Token r of an object with P prompts is of prompt r mod P.
    place_nr = torch.tensor([[own[r % len(own)] for r in range(count)] for own in rows], device=device)
    tokens_r = torch.arange(count, device=device)
    return Tokens(everything.content_nrc[place_nr, tokens_r], everything.code_nrc[place_nr, tokens_r])


def drawn(prompt: ScribblePrompt, size_hw: tuple[int, int], width_px: int) -> Tensor:
    """A stroke as a mask, ``bool[H, W]``, so wide that places of the features meet it."""
    canvas = np.zeros(size_hw, np.uint8)
    points = np.rint(np.array([*prompt.stroke_xy, prompt.stroke_xy[-1]])).astype(np.int32)  # one point is a line, too
    cv2.polylines(canvas, [points.reshape(-1, 1, 2)], isClosed=False, color=1, thickness=width_px)
    return torch.from_numpy(canvas).bool()


def _of_masks(where: PromptMap, masks: list[Tensor], sizes: FrameSizes, *, count: int, choose: Choose) -> Tokens:
    nothing = where.content_chw.new_zeros((0, count, where.content_chw.shape[0]))
    parts = [Tokens(nothing, nothing)]
    for first in range(0, len(masks), AT_ONCE):
        masks_nhw = at_input(torch.stack(masks[first : first + AT_ONCE]).to(nothing.device), sizes)
        parts.append(mask_tokens(where, masks_nhw, count, choose=choose))
    return joined(parts)


def _fractions(xy: Sequence[float], sizes: FrameSizes) -> tuple[float, ...]:
    """Coordinates x, y, x, y … of the source as fractions of the padded input."""
    found = []
    for axis, value in enumerate(xy):
        side = 1 - axis % 2  # x goes along the width
        inside = min(max(value / sizes.source_hw[side], 0.0), 1.0)
        found.append(inside * sizes.content_hw[side] / sizes.padded_hw[side])
    return tuple(found)
