"""Prompts that wait for their frame, for every session that people point things out to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields

from torch import Tensor

from .types import (
    BoxPrompt,
    InputError,
    MaskPrompt,
    ObjectPrompt,
    PointPrompt,
    Prompt,
    ScribblePrompt,
    StalePromptError,
    StateDict,
)

_PROMPT_TYPES = {kind.__name__: kind for kind in (MaskPrompt, BoxPrompt, PointPrompt, ScribblePrompt)}


class WaitingPrompts:
    """Prompts by frame, checked when they come.

    Args:
        size_hw: height and width of the video.
        masks_only: whether boxes, points and scribbles are refused.
    """

    def __init__(self, size_hw: tuple[int, int], *, masks_only: bool = False) -> None:
        self._size_hw = size_hw
        self._masks_only = masks_only
        self._waiting: dict[int, list[ObjectPrompt]] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def __contains__(self, frame_index: int) -> bool:
        """Whether prompts of this frame wait."""
        return frame_index in self._waiting

    def add(self, prompts: Sequence[ObjectPrompt]) -> None:
        """Take prompts that were `checked`."""
        for prompt in prompts:
            self._waiting.setdefault(prompt.frame_index, []).append(prompt)

    def pop(self, frame_index: int) -> list[ObjectPrompt]:
        """The prompts of a frame, which wait no longer."""
        return self._waiting.pop(frame_index, [])

    def checked(self, prompt: ObjectPrompt, *, emitted: int) -> ObjectPrompt:
        """The prompt itself, once it is known to fit the video and the parts there are.

        Args:
            prompt: what came.
            emitted: index of the last frame whose result has left.

        Raises:
            StalePromptError: its frame has left already.
            InputError: it does not fit.
        """
        if prompt.frame_index <= emitted:
            raise StalePromptError(
                f"the prompt for object {prompt.object_id} is on frame {prompt.frame_index}, "
                f"but frames up to {emitted} were already emitted"
            )
        if isinstance(prompt, MaskPrompt):
            size_hw = (prompt.mask.shape[0], prompt.mask.shape[1])
            if size_hw != self._size_hw:
                raise InputError(
                    f"the mask for object {prompt.object_id} on frame {prompt.frame_index} is {by(size_hw)} "
                    f"but the video is {by(self._size_hw)}: resize the mask to the video"
                )
            return prompt
        if self._masks_only:
            raise InputError(f"{type(prompt).__name__} of object {prompt.object_id}: this model takes masks only")
        self._check_inside(prompt)
        return prompt

    def refuse_skipped(self, coming: int, held: Collection[int]) -> None:
        """Complain of a prompt whose frame was passed over.

        Args:
            coming: index of the frame that came.
            held: indices of frames that came before and are still to be segmented.

        Raises:
            InputError: there is one.
        """
        skipped = [index for index in self._waiting if index < coming and index not in held]
        if skipped:
            prompt = self._waiting[min(skipped)][0]
            raise InputError(
                f"the prompt for object {prompt.object_id} is on frame {prompt.frame_index}, which is not among the "
                f"frames being segmented (the next one is {coming})"
            )

    def refuse_leftover(self, last: int) -> None:
        """Complain of a prompt whose frame never came; ``last`` is the last that did."""
        if self._waiting:
            index = min(self._waiting)
            raise InputError(
                f"the prompt for object {self._waiting[index][0].object_id} is on frame {index}, "
                f"but the video ended at frame {last}"
            )

    def state_dict(self) -> StateDict:
        """What waits, as plain data."""
        return {"waiting": [to_plain(prompt) for prompts in self._waiting.values() for prompt in prompts]}

    def load_state_dict(self, state: StateDict) -> None:
        """Undo `state_dict`; what waits now is dropped."""
        self._waiting = {}
        self.add([from_plain(plain) for plain in state["waiting"]])

    def _check_inside(self, prompt: BoxPrompt | PointPrompt | ScribblePrompt) -> None:
        """A box may reach one pixel over the border, as detectors round; a point may not."""
        height, width = self._size_hw
        if isinstance(prompt, BoxPrompt):
            x0, y0, x1, y1 = prompt.box_xyxy
            if min(x0, y0) < -1 or x1 > width + 1 or y1 > height + 1:
                raise InputError(
                    f"the box {x0:g},{y0:g},{x1:g},{y1:g} of object {prompt.object_id} on frame {prompt.frame_index} "
                    f"reaches outside the video, which is {width} wide and {height} high"
                )
            return
        for x, y in prompt.points_xy if isinstance(prompt, PointPrompt) else prompt.stroke_xy:
            if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
                raise InputError(
                    f"the point {x:g},{y:g} of object {prompt.object_id} on frame {prompt.frame_index} "
                    f"is outside the video, which is {width} wide and {height} high"
                )


def refuse_prompts(prompts: Sequence[Prompt], system: str) -> None:
    """Take no prompts.

    Args:
        prompts: what came.
        system: what takes none.

    Raises:
        InputError: there is one.
    """
    if prompts:
        raise InputError(f"{system} segments what it knows and takes no prompts: use the model deva for these")


def check_says(prompt: ObjectPrompt, system: str) -> None:
    """See that a prompt says where the object is.

    Args:
        prompt: what came.
        system: what does not learn from where an object is not.

    Raises:
        InputError: its mask is empty, or it says where the object is not.
    """
    if isinstance(prompt, MaskPrompt):
        mask_hw = prompt.mask if prompt.void is None else prompt.mask & ~prompt.void
        if not bool(mask_hw.any()):
            raise InputError(
                f"the mask for object {prompt.object_id} on frame {prompt.frame_index} is empty: give it on a frame "
                "where the object is seen"
            )
    elif isinstance(prompt, PointPrompt | ScribblePrompt):
        signs = prompt.positive if isinstance(prompt, PointPrompt) else (prompt.positive,)
        if not all(signs):
            raise InputError(
                f"{system} learns from what an object is, not from what it is not: leave out negative points and "
                f"strokes of object {prompt.object_id}, or give its mask"
            )


def paint_given(label_hw: Tensor, masks: Mapping[int, Tensor]) -> None:
    """Masks that were given come out as they were given: number n is where its mask is, and nowhere else.

    Args:
        label_hw: ``int64[H, W]``, is painted on.
        masks: ``bool[H, W]`` by number; the later ones on top.
    """
    for number in masks:
        label_hw[label_hw == number] = 0
    for number, mask_hw in masks.items():
        label_hw[mask_hw.to(label_hw.device)] = number


def by(size_hw: tuple[int, int]) -> str:
    """A size for people."""
    return f"{size_hw[0]}×{size_hw[1]}"


def to_plain(prompt: ObjectPrompt) -> StateDict:
    """A prompt as plain data."""
    return {"type": type(prompt).__name__} | {field.name: getattr(prompt, field.name) for field in fields(prompt)}


def from_plain(plain: StateDict) -> ObjectPrompt:
    """Undo `to_plain`."""
    arguments = {name: value for name, value in plain.items() if name != "type"}
    prompt: ObjectPrompt = _PROMPT_TYPES[plain["type"]](**arguments)
    return prompt
