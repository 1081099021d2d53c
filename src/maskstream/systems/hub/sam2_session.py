"""SAM 2 on one video: objects that people point at, followed frame by frame.

frame ─► image encoder ─┬─► `SamObjects`: what each object may be ─┬─► result
 prompts of the frame ──┘         ▲                                │
                                  └── what is remembered of it ◄───┘

Nothing of one object reaches another but on the picture that is written, where each pixel belongs to the object that is
surest of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from maskstream.identity import ObjectTable
from maskstream.mask2former.postprocess import FrameSizes, owners
from maskstream.pretrained import Pixels
from maskstream.prompt_queue import WaitingPrompts, paint_given
from maskstream.propagation.network.network import aggregate
from maskstream.segmenters.prompted import given_mask, grouped
from maskstream.types import (
    Event,
    EventKind,
    Frame,
    FrameSegmentation,
    InputError,
    LabelMap,
    MaskPrompt,
    ObjectPrompt,
    PointPrompt,
    Prompt,
    ScribblePrompt,
    StateDict,
    TextPrompt,
    Track,
    check_arrival,
    prompt_id,
)

from .sam2_network import Sam2Parts
from .sam2_objects import Pointed, SamObjects, SamVideoSettings


class SamVideoSession:
    """One video. Satisfies the `Session` contract.

    Args:
        parts: of the network.
        pixels: how it wants to see pictures.
        size_hw: of the video.
        settings: what is remembered, and how much goes through the network at a time.
        soft: return probabilities beside masks.
    """

    latency = 0

    def __init__(
        self,
        parts: Sam2Parts,
        pixels: Pixels,
        *,
        size_hw: tuple[int, int],
        settings: SamVideoSettings,
        soft: bool = False,
    ) -> None:
        self._parts = parts
        self._pixels = pixels
        self._size_hw = size_hw
        self._soft = soft
        self._objects = ObjectTable()
        self._followed = SamObjects(parts, size_hw=size_hw, settings=settings)
        self._waiting = WaitingPrompts(size_hw)
        self._begins: dict[int, int] = {}  # first frame on which something says where an object is
        self._removals: list[int] = []
        self._events: list[Event] = []
        self._last_index = -1

    def prompt(self, prompts: Sequence[Prompt]) -> None:
        """Queue prompts for frames that have not left yet; see `Session.prompt`.

        Prompts of an object on a frame act together. A mask is taken as it is, or is what clicks refine. Clicks, boxes
        and strokes look for the object anew; with ``add`` they correct what it is on that frame.
        """
        accepted: list[ObjectPrompt] = []
        for prompt in prompts:
            if isinstance(prompt, TextPrompt):
                raise InputError(f"SAM 2 does not read, and {prompt.text!r} is text: point at objects")
            accepted.append(self._waiting.checked(prompt, emitted=self._last_index))
        for prompt in accepted:
            if self._objects.was_removed(prompt.object_id) or prompt.object_id in self._removals:
                raise InputError(f"object {prompt.object_id} was removed: ids are never reused, give a new one")
        begins = self._begins | self._begins_on(accepted)
        self._followed.check_room(len(begins))
        self._begins = begins
        for prompt in accepted:
            self._objects.reserve(prompt.object_id)
        self._waiting.add(accepted)

    def remove(self, object_ids: Sequence[int]) -> None:
        """Stop following objects from the next frame on; see `Session.remove`."""
        followed = [track_id for track_id in self._objects.ids if track_id not in self._removals]
        for object_id in object_ids:
            if object_id not in followed:
                known = ", ".join(map(str, followed)) or "none"
                raise InputError(f"object {object_id} cannot be removed: it is not followed (followed: {known})")
        for object_id in dict.fromkeys(object_ids):
            self._removals.append(object_id)
            del self._begins[object_id]

    @torch.no_grad()
    def step(self, frame: Frame, *, force_key: bool = False) -> list[FrameSegmentation]:
        """Segment the next frame. There are no key frames.

        Raises:
            InputError: the frame is of another size, or comes out of order.
        """
        check_arrival(frame, self._size_hw, self._last_index)
        self._waiting.refuse_skipped(frame.index, ())
        self._last_index = frame.index
        self._followed.position += 1
        self._drop()
        prompts = [p for p in self._waiting.pop(frame.index) if not self._objects.was_removed(p.object_id)]
        pointed = {object_id: Pointed.of(own) for object_id, own in grouped(prompts, self._size_hw).items()}
        if not self._followed.pathways and not pointed:
            return [self._result(frame.index, {}, {})]
        seen = self._parts.see(self._pixels([frame]))
        hypotheses = self._followed.hypotheses(seen, pointed)
        self._meet(prompts)
        self._followed.remember(seen, hypotheses, prompted=pointed, hard=pointed)
        best = {object_id: hypotheses[object_id][0].logits_hw for object_id in self._objects.ids}
        exact = {n: one.mask for n, one in pointed.items() if one.mask is not None and not one.labels}
        return [self._result(frame.index, best, exact)]

    def finish(self) -> Iterator[FrameSegmentation]:
        """Nothing is held back."""
        yield from ()
        self._waiting.refuse_leftover(self._last_index)

    def tracks(self) -> list[Track]:
        """Every object that was ever visible."""
        return self._objects.tracks()

    def state_dict(self) -> StateDict:
        """Everything the next step depends on."""
        return {
            "objects": self._objects.state_dict(),
            "waiting": self._waiting.state_dict(),
            "followed": self._followed.state_dict(),
            "begins": dict(self._begins),
            "removals": list(self._removals),
            "last_index": self._last_index,
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Continue where `state_dict` was taken; prompts queued meanwhile are replaced by those of the state."""
        self._objects.load_state_dict(state["objects"])
        self._waiting.load_state_dict(state["waiting"])
        self._followed.load_state_dict(state["followed"])
        self._begins = dict(state["begins"])
        self._removals = list(state["removals"])
        self._last_index = state["last_index"]

    # --------------------------------------------------------------- prompts

    def _begins_on(self, prompts: Sequence[ObjectPrompt]) -> dict[int, int]:
        """Objects that these prompts begin, and the first frame of each on which something says where it is."""
        begins = {
            prompt.object_id: prompt.frame_index for prompt in reversed(_in_order(prompts)) if _says_where(prompt)
        }
        for prompt in prompts:
            object_id, frame_index = prompt.object_id, prompt.frame_index
            if min(begins.get(object_id, frame_index + 1), self._begins.get(object_id, frame_index + 1)) > frame_index:
                raise InputError(
                    f"object {object_id} is not followed yet, and its prompts on frame {frame_index} only say where it "
                    "is not: add a point on it, or a mask that is not empty"
                )
        return {n: min(frame_index, self._begins.get(n, frame_index)) for n, frame_index in begins.items()}

    def _meet(self, prompts: Sequence[ObjectPrompt]) -> None:
        """Enter objects that are pointed at for the first time, and tell of all that are pointed at."""
        known = set(self._objects.ids)
        for prompt in prompts:
            if prompt.object_id not in self._objects:
                self._objects.add(prompt.object_id, is_thing=prompt.is_thing, prompt_id=prompt_id(prompt))
            self._objects[prompt.object_id].vote(prompt.category, None)
        for object_id in dict.fromkeys(prompt.object_id for prompt in prompts):
            kind: EventKind = "corrected" if object_id in known else "born"
            self._events.append(Event(kind, object_id, "a person pointed at it"))

    def _drop(self) -> None:
        """Take away what a person took away, if it was followed."""
        removals, self._removals = self._removals, []
        self._objects.remove(removals)
        self._followed.forget(removals)
        self._events += [Event("removed", object_id, "a person took it away") for object_id in removals]

    # ---------------------------------------------------------------- output

    def _result(self, frame_index: int, best: Mapping[int, Tensor], exact: Mapping[int, Tensor]) -> FrameSegmentation:
        """Every pixel to the object with the greatest logit there, if that is above 0."""
        events, self._events = self._events, []
        ids = list(best)
        if not ids:
            nothing = LabelMap(torch.zeros(self._size_hw, dtype=torch.int32, device=self._parts.device))
            return FrameSegmentation(frame_index, self._size_hw, (), nothing, events=tuple(events))
        logits_nhw = torch.stack([best[object_id] for object_id in ids])
        mask_hw = self._parts.mask_hw
        ones_n = torch.ones(len(ids), device=logits_nhw.device)
        label_hw, _ = owners(logits_nhw, ones_n, FrameSizes(self._size_hw, mask_hw, mask_hw))
        paint_given(label_hw, {n: exact[object_id] for n, object_id in enumerate(ids, 1) if object_id in exact})
        visible = torch.bincount(label_hw.flatten(), minlength=len(ids) + 1)[1:].tolist()
        for object_id, area in zip(ids, visible, strict=True):
            if area:
                self._objects[object_id].seen(frame_index)
        segments, labels, renamed = self._objects.segments(ids)
        number_n = torch.tensor(labels, device=label_hw.device)  # several regions of one kind of stuff are one segment
        probabilities = None
        if self._soft:
            of_objects = aggregate(logits_nhw.sigmoid()[None])[0].softmax(0)
            zeros = of_objects.new_zeros((len(segments) + 1, *of_objects.shape[1:]))
            probabilities = zeros.index_add_(0, number_n, of_objects).half()
        return FrameSegmentation(
            frame_index,
            self._size_hw,
            segments,
            LabelMap(number_n.int()[label_hw]),
            probabilities,
            events=(*events, *renamed),
        )


def _in_order(prompts: Sequence[ObjectPrompt]) -> list[ObjectPrompt]:
    return sorted(prompts, key=lambda prompt: prompt.frame_index)


def _says_where(prompt: ObjectPrompt) -> bool:
    """Whether a prompt says where the object is, rather than where it is not."""
    if isinstance(prompt, MaskPrompt):
        mask = given_mask([prompt])
        return mask is not None and bool(mask.any())
    if isinstance(prompt, PointPrompt):
        return any(prompt.positive)
    return not isinstance(prompt, ScribblePrompt) or prompt.positive
