"""DEVA on one video, online: propagate every frame, let prompts and detections correct it (specification §5, §8, §9).

frame ──► propagator.read ──► probabilities ──┬─► prompts on this frame: paste, memorise
               ▲                              ├─► every `detection_every` frames: detect, merge, memorise
               └────────── state ◄────────────┴─► argmax at source size ──► FrameSegmentation
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from maskstream.types import (
    BoxPrompt,
    CategorySet,
    Frame,
    FrameSegmentation,
    ImageSegmenter,
    InputError,
    LabelMap,
    MaskPrompt,
    ObjectPrompt,
    PointPrompt,
    Prompt,
    Propagator,
    ScribblePrompt,
    StalePromptError,
    StateDict,
    TextPrompt,
    Track,
    prompt_id,
    resize_masks,
)

from .identity import ObjectTable
from .merge import merge, render_proposals

_PROMPT_TYPES = {kind.__name__: kind for kind in (MaskPrompt, BoxPrompt, PointPrompt, ScribblePrompt)}


@dataclass(frozen=True, slots=True)
class DevaSettings:
    """How detections are taken in.

    Attributes:
        detection_every: the image-level model runs on one frame in so many (d of specification §9).
        max_missed: an object is dropped when more detections in a row than this did not confirm it (L of §8.3).
        incremental: detections look only at what is not segmented yet, so an object is missed only when it is empty.
        max_objects: most objects followed at once through detection; None for any number.
        part_threshold: a detection of which a greater fraction lies within one object is a part of it, not an object of
            its own; None to go by overlap of both alone, as published.
        min_score: detections below this score are ignored; those without a score are not.
    """

    detection_every: int = 5
    max_missed: int = 5
    incremental: bool = False
    max_objects: int | None = None
    part_threshold: float | None = None
    min_score: float = 0.0


class DevaSession:
    """One video through DEVA, results at once (latency 0). Satisfies the `Session` contract.

    Args:
        propagator: carries masks between frames.
        size_hw: height and width of the video.
        prompter: turns boxes, points and scribbles into masks; without it only masks are taken.
        detector: finds objects by itself; without it only prompted objects are followed.
        settings: how detections are taken in.
        categories: what the detector looks for.
        soft: return probabilities beside masks.
    """

    latency = 0

    def __init__(
        self,
        propagator: Propagator[Any, Any],
        *,
        size_hw: tuple[int, int],
        prompter: ImageSegmenter[Any] | None = None,
        detector: ImageSegmenter[Any] | None = None,
        settings: DevaSettings | None = None,
        categories: CategorySet | None = None,
        soft: bool = False,
    ) -> None:
        self._propagator = propagator
        self._prompter = prompter
        self._detector = detector
        self._settings = settings or DevaSettings()
        self._categories = categories
        self._size_hw = size_hw
        self._soft = soft
        self._objects = ObjectTable()
        self._propagation = propagator.start()
        self._pending: dict[int, list[ObjectPrompt]] = {}
        self._context: deque[Any] = deque(maxlen=detector.context if detector else 0)
        self._steps = 0
        self._last_index = -1

    def prompt(self, prompts: Sequence[Prompt]) -> None:
        """Queue prompts for frames to come; see `Session.prompt`."""
        accepted = [self._checked(prompt) for prompt in prompts]
        for prompt in accepted:
            self._objects.reserve(prompt.object_id)
            self._pending.setdefault(prompt.frame_index, []).append(prompt)

    def remove(self, object_ids: Sequence[int]) -> None:
        """Stop following objects; see `Session.remove`."""
        self._objects.remove(object_ids)
        self._propagation = self._propagator.remove(self._propagation, object_ids)

    def step(self, frame: Frame, *, force_key: bool = False) -> list[FrameSegmentation]:
        """Segment the next frame.

        Raises:
            InputError: the frame is of another size, or comes out of order.
        """
        if frame.size_hw != self._size_hw:
            raise InputError(
                f"frame {frame.index} is {_by(frame.size_hw)} but the video began at {_by(self._size_hw)}: "
                "all frames of a video must be of one size"
            )
        if frame.index <= self._last_index:
            raise InputError(f"frame {frame.index} came after frame {self._last_index}: frames must come in order")
        self._refuse_skipped_prompts(frame.index)

        features = self._propagator.encode(frame)
        self._propagation, probabilities = self._propagator.read(self._propagation, features)
        given = self._pending.pop(frame.index, [])
        exact: dict[int, Tensor] = {}
        if self._detector is not None:
            probabilities = self._detect(frame, features, probabilities, force_key=force_key)
        if given:
            exact = self._prompted_masks(frame, given, probabilities)
            probabilities = self._paste(features, probabilities, exact, given)
        self._steps += 1
        self._last_index = frame.index
        return [self._result(frame.index, probabilities, exact)]

    def finish(self) -> Iterator[FrameSegmentation]:
        """Nothing is held back; complains of prompts whose frame never came."""
        if self._pending:
            index = min(self._pending)
            raise InputError(
                f"the prompt for object {self._pending[index][0].object_id} is on frame {index}, "
                f"but the video ended at frame {self._last_index}"
            )
        yield from ()

    def tracks(self) -> list[Track]:
        """Every object that was ever visible."""
        return self._objects.tracks()

    def state_dict(self) -> StateDict:
        """Everything the next step depends on."""
        return {
            "propagation": self._propagator.state_dict(self._propagation),
            "objects": self._objects.state_dict(),
            "pending": [_prompt_to_plain(prompt) for prompts in self._pending.values() for prompt in prompts],
            "context": list(self._context),
            "steps": self._steps,
            "last_index": self._last_index,
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Continue where `state_dict` was taken; prompts queued meanwhile are replaced by those of the state."""
        self._propagation = self._propagator.load_state_dict(state["propagation"])
        self._objects.load_state_dict(state["objects"])
        self._pending = {}
        for plain in state["pending"]:
            prompt = _prompt_from_plain(plain)
            self._pending.setdefault(prompt.frame_index, []).append(prompt)
        self._context.clear()
        self._context.extend(state["context"])
        self._steps = state["steps"]
        self._last_index = state["last_index"]

    # ------------------------------------------------------------------ prompts

    def _checked(self, prompt: Prompt) -> ObjectPrompt:
        """The prompt itself, once it is known to fit the video and the parts this session has."""
        if isinstance(prompt, TextPrompt):
            raise InputError(f"the text prompt {prompt.text!r} needs a model that reads text; this one takes masks, "
                             "boxes, points and scribbles")  # fmt: skip
        if prompt.frame_index <= self._last_index:
            raise StalePromptError(
                f"the prompt for object {prompt.object_id} is on frame {prompt.frame_index}, "
                f"but frames up to {self._last_index} were already emitted"
            )
        if self._objects.was_removed(prompt.object_id):
            raise InputError(f"object {prompt.object_id} was removed: ids are never reused, give a new one")
        if isinstance(prompt, MaskPrompt):
            size_hw = (prompt.mask.shape[0], prompt.mask.shape[1])
            if size_hw != self._size_hw:
                raise InputError(
                    f"the mask for object {prompt.object_id} on frame {prompt.frame_index} is {_by(size_hw)} "
                    f"but the video is {_by(self._size_hw)}: resize the mask to the video"
                )
            return prompt
        if self._prompter is None:
            raise InputError(f"{type(prompt).__name__} of object {prompt.object_id}: this model takes masks only")
        self._check_inside(prompt)
        return prompt

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

    def _refuse_skipped_prompts(self, frame_index: int) -> None:
        skipped = [index for index in self._pending if index < frame_index]
        if skipped:
            prompt = self._pending[min(skipped)][0]
            raise InputError(
                f"the prompt for object {prompt.object_id} is on frame {prompt.frame_index}, which is not among the "
                f"frames being segmented (the next one is {frame_index})"
            )

    def _prompted_masks(
        self, frame: Frame, prompts: Sequence[ObjectPrompt], probabilities: Tensor
    ) -> dict[int, Tensor]:
        """Masks ``bool[H, W]`` of the prompted objects at source size; a pixel belongs to the last one that has it."""
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
            if refines and not mask_prompts and object_id in self._objects:
                own.insert(0, MaskPrompt(frame.index, object_id, self._current_mask(object_id, probabilities)))
            to_segment += own
        if to_segment and self._prompter is not None:
            (features,) = self._prompter.encode([frame])
            proposals = self._prompter.segment(features, to_segment)
            segmented = resize_masks(proposals.masks_nhw, self._size_hw) >= 0.5
            masks.update(zip(dict.fromkeys(prompt.object_id for prompt in to_segment), segmented, strict=True))
        ids = list(masks)
        for position, object_id in enumerate(ids):
            for later in ids[position + 1 :]:
                masks[object_id] = masks[object_id] & ~masks[later]
        return masks

    def _current_mask(self, object_id: int, probabilities: Tensor) -> Tensor:
        channel = self._propagator.object_ids(self._propagation).index(object_id) + 1
        return _labels(resize_masks(probabilities, self._size_hw)) == channel

    def _paste(
        self, features: Any, probabilities: Tensor, exact: dict[int, Tensor], prompts: Sequence[ObjectPrompt]
    ) -> Tensor:
        """Memorise the prompted masks and put them into the probabilities (specification §5.1, step 4)."""
        for prompt in prompts:
            if prompt.object_id not in self._objects:
                self._objects.add(prompt.object_id, is_thing=prompt.is_thing, prompt_id=prompt_id(prompt))
            self._objects[prompt.object_id].vote(prompt.category, None)
        size_hw = (probabilities.shape[1], probabilities.shape[2])
        masks_nhw = resize_masks(torch.stack(list(exact.values())), size_hw).to(probabilities.device)
        before = self._propagator.object_ids(self._propagation)
        self._propagation = self._propagator.write(self._propagation, features, masks_nhw, list(exact))
        free = 1 - masks_nhw.sum(0).clamp_max(1)
        given = dict(zip(exact, masks_nhw, strict=True))
        followed = dict(zip(before, probabilities[1:] * free, strict=True)) | given
        foreground = [followed[object_id] for object_id in self._propagator.object_ids(self._propagation)]
        return torch.stack([1 - torch.stack(foreground).sum(0).clamp_max(1), *foreground])

    # --------------------------------------------------------------- detections

    def _detect(self, frame: Frame, features: Any, probabilities: Tensor, *, force_key: bool) -> Tensor:
        """Keep the detector's context; when it is due, merge what it finds (specification §8)."""
        assert self._detector is not None
        due = force_key or self._steps % self._settings.detection_every == 0
        if not due and self._detector.context == 0:
            return probabilities
        (seen,) = self._detector.encode([frame])
        if due:
            probabilities = self._incorporate(seen, features, probabilities)
        self._context.append(seen)
        return probabilities

    def _incorporate(self, seen: Any, features: Any, probabilities: Tensor) -> Tensor:
        assert self._detector is not None
        settings = self._settings
        size_hw = (probabilities.shape[1], probabilities.shape[2])
        objects_hw = _labels(probabilities)
        covered = objects_hw > 0 if settings.incremental else None
        proposals = self._detector.segment(
            seen, context=list(self._context), categories=self._categories, exclude=covered
        )
        proposals = proposals.keep([score is None or score >= settings.min_score for score in proposals.scores])

        ids = list(self._objects.ids)
        room = None if settings.max_objects is None else max(settings.max_objects - len(ids), 0)
        merged = merge(
            objects_hw,
            [self._objects[track_id].is_thing for track_id in ids],
            render_proposals(proposals, size_hw).to(objects_hw.device),
            proposals.is_thing,
            priorities=[score or 0.0 for score in proposals.scores],
            room=room,
            part_threshold=settings.part_threshold,
        )
        area = torch.bincount(merged.label_map.flatten(), minlength=len(ids) + len(merged.new) + 1).tolist()
        label_of_id = {track_id: label for label, track_id in enumerate(ids, start=1)}
        for proposal, position in enumerate(merged.object_of_proposal):
            if position is not None:
                self._objects[ids[position]].vote(proposals.categories[proposal], proposals.scores[proposal])
        matched = {position for position in merged.object_of_proposal if position is not None}
        self._count_misses(ids, matched, area)
        confirmed = {ids[position] for position in matched}
        for k, proposal in enumerate(merged.new):
            label = len(ids) + k + 1
            if area[label] > 0:
                record = self._objects.add(is_thing=proposals.is_thing[proposal])
                record.vote(proposals.categories[proposal], proposals.scores[proposal])
                label_of_id[record.track_id] = label
                confirmed.add(record.track_id)
        return self._memorise_merge(features, merged.label_map, label_of_id, confirmed)

    def _count_misses(self, ids: Sequence[int], matched: set[int], area: Sequence[int]) -> None:
        """Specification §8.3: prompted objects are the user's, and are never dropped for being missed."""
        for position, track_id in enumerate(ids):
            record = self._objects[track_id]
            confirmed = position in matched or (self._settings.incremental and area[position + 1] > 0)
            record.missed = 0 if confirmed else record.missed + 1
            if record.missed > self._settings.max_missed and record.prompt_id is None:
                self.remove([track_id])

    def _memorise_merge(
        self, features: Any, label_map: Tensor, label_of_id: dict[int, int], confirmed: set[int]
    ) -> Tensor:
        """Memorise the merged regions as hard masks (specification §5.2, step 3).

        What no detection confirmed is only propagation: writing it down would teach the propagator its own mistakes.
        """
        ids = self._objects.ids
        labels = torch.tensor([label_of_id[track_id] for track_id in ids], dtype=torch.int32, device=label_map.device)
        masks_nhw = (label_map == labels[:, None, None]).float()
        written = [n for n, track_id in enumerate(ids) if track_id in confirmed]
        if written:
            self._propagation = self._propagator.write(
                self._propagation, features, masks_nhw[written], [ids[n] for n in written]
            )
        return torch.cat([1 - masks_nhw.sum(0, keepdim=True), masks_nhw])

    # ------------------------------------------------------------------- output

    def _result(self, frame_index: int, probabilities: Tensor, exact: dict[int, Tensor]) -> FrameSegmentation:
        ids = self._propagator.object_ids(self._propagation)
        label_map = _labels(resize_masks(probabilities, self._size_hw))
        for object_id, mask in exact.items():
            channel = ids.index(object_id) + 1
            label_map[label_map == channel] = 0
            label_map[mask.to(label_map.device)] = channel
        visible = torch.bincount(label_map.flatten(), minlength=len(ids) + 1)[1:].tolist()
        for object_id, area in zip(ids, visible, strict=True):
            if area:
                self._objects[object_id].seen(frame_index)
        return FrameSegmentation(
            frame_index,
            self._size_hw,
            tuple(self._objects[object_id].segment() for object_id in ids),
            LabelMap(label_map),
            probabilities.half() if self._soft else None,
        )


def _labels(probabilities: Tensor) -> Tensor:
    """``int32[H, W]``, the most probable channel. ``max`` finds it five times faster than ``argmax`` on a CPU."""
    return probabilities.max(0).indices.int()


def _by(size_hw: tuple[int, int]) -> str:
    return f"{size_hw[0]}×{size_hw[1]}"


def _prompt_to_plain(prompt: ObjectPrompt) -> StateDict:
    return {"type": type(prompt).__name__} | {field.name: getattr(prompt, field.name) for field in fields(prompt)}


def _prompt_from_plain(plain: StateDict) -> ObjectPrompt:
    arguments = {name: value for name, value in plain.items() if name != "type"}
    prompt: ObjectPrompt = _PROMPT_TYPES[plain["type"]](**arguments)
    return prompt
