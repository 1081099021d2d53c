"""What a person asked for: prompts that wait for their frame, and the masks they become."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from torch import Tensor

from maskstream.prompt_queue import WaitingPrompts
from maskstream.types import (
    Frame,
    ImageSegmenter,
    MaskPrompt,
    ObjectPrompt,
    PointPrompt,
    ScribblePrompt,
    resize_masks,
)


class PromptQueue(WaitingPrompts):
    """Prompts by frame, and what becomes of them.

    Args:
        size_hw: height and width of the video.
        prompter: turns boxes, points and scribbles into masks; without it only masks are taken.
    """

    def __init__(self, size_hw: tuple[int, int], prompter: ImageSegmenter[Any] | None) -> None:
        super().__init__(size_hw, masks_only=prompter is None)
        self._prompter = prompter

    def masks(
        self, frame: Frame, prompts: Sequence[ObjectPrompt], current: Callable[[int], Tensor | None]
    ) -> dict[int, Tensor]:
        """Masks ``bool[H, W]`` of the prompted objects at source size, in order of first mention; a pixel belongs to
        the last one that has it. Arguments are those of `own_masks`.
        """
        masks = self.own_masks(frame, prompts, current)
        ids = list(masks)
        for position, object_id in enumerate(ids):
            for later in ids[position + 1 :]:
                masks[object_id] = masks[object_id] & ~masks[later]
        return masks

    def own_masks(
        self, frame: Frame, prompts: Sequence[ObjectPrompt], current: Callable[[int], Tensor | None]
    ) -> dict[int, Tensor]:
        """As `masks`, each object by itself: they may overlap.

        Args:
            frame: they are on.
            prompts: of this frame.
            current: the mask of an object as it is without them, or None when it is not followed.
        """
        in_order = sorted(
            prompts, key=lambda prompt: list(dict.fromkeys(p.object_id for p in prompts)).index(prompt.object_id)
        )
        masks: dict[int, Tensor] = {}
        to_segment: list[ObjectPrompt] = []
        for object_id, group in groupby(in_order, key=lambda prompt: prompt.object_id):
            own = list(group)
            mask_prompts = [prompt for prompt in own if isinstance(prompt, MaskPrompt)]
            if mask_prompts:
                last = mask_prompts[-1]
                masks[object_id] = last.mask if last.void is None else last.mask & ~last.void
            if len(mask_prompts) == len(own):
                continue
            refines = any(isinstance(p, PointPrompt | ScribblePrompt) and p.add for p in own)
            mask = current(object_id) if refines and not mask_prompts else None
            if mask is not None:
                own.insert(0, MaskPrompt(frame.index, object_id, mask))
            to_segment += own
        if to_segment and self._prompter is not None:
            (features,) = self._prompter.encode([frame])
            proposals = self._prompter.segment(features, to_segment)
            segmented = resize_masks(proposals.masks_nhw, self._size_hw) >= 0.5
            masks.update(zip(dict.fromkeys(prompt.object_id for prompt in to_segment), segmented, strict=True))
        return {prompt.object_id: masks[prompt.object_id] for prompt in prompts}
