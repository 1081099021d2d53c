"""What people point at, carried from clip to clip (specification §9.5).

masks and points of people ──────────────┐
masks of the clip before, on frames that ├─► object encoder, on features of this clip ─► queries ─► masks of this clip
both clips have ─────────────────────────┘                                                  │        │
         ▲                                                          of the next clips, too ◄┘        │
         └───────────────────────────────────────────────────────────────────────────────────────────┘

What carries an object to the next clip is its queries, or as published its masks (`TarViSSettings.carry`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskstream.mask2former.clips import Clip
from maskstream.mask2former.network import ClipFeatures
from maskstream.mask2former.postprocess import FrameSizes, at_input, owners, resized
from maskstream.pretrained import Pixels
from maskstream.prompt_queue import WaitingPrompts, check_says, from_plain, paint_given, to_plain
from maskstream.segmenters.prompted import given_mask, last_given
from maskstream.types import (
    BoxPrompt,
    Event,
    EventKind,
    Frame,
    FrameSegmentation,
    ImageSegmenter,
    InputError,
    LabelMap,
    MaskPrompt,
    ObjectPrompt,
    PointPrompt,
    Prompt,
    ScribblePrompt,
    StateDict,
    TextPrompt,
    prompt_id,
    resize_masks,
)

from .network import Maps, TarViSNetwork
from .session import TarViSSession
from .settings import TarViSSettings
from .targets import ObjectQueries, PointTargets, padded_points

_STROKE = 8
"""Most points that stand for a stroke."""


@dataclass(slots=True, eq=False)
class _Target:
    """An object that is followed. Positions are those of frames in the video.

    Attributes:
        track_id: its number.
        begun: position from which it is there.
        sure: position from which it is known what it is; what was found before a person corrected it, tells nothing.
        given: what people said of it, by position.
        logits: ``float[h, w]``, what clips found, by position.
        queries_qc: ``float[Q, C]``, as it was encoded last; empty before.
        given_qc: as it was encoded when somebody last pointed at it.
    """

    track_id: int
    begun: int
    sure: int
    given: dict[int, list[ObjectPrompt]] = field(default_factory=dict)
    logits: dict[int, Tensor] = field(default_factory=dict, repr=False)
    queries_qc: Tensor = field(default_factory=lambda: torch.zeros(0), repr=False)
    given_qc: Tensor = field(default_factory=lambda: torch.zeros(0), repr=False)

    def correct(self, position: int) -> None:
        """A person says anew what it is: what was found from there on does not count."""
        self.sure = position
        self.logits = {where: found for where, found in self.logits.items() if where < position}

    def forget(self, before: int) -> None:
        """No clip will have frames before this position again."""
        self.given = {where: prompts for where, prompts in self.given.items() if where >= before}
        self.logits = {where: found for where, found in self.logits.items() if where >= before}

    def known(self) -> list[int]:
        """Positions where something tells what it is."""
        return sorted(where for where in {*self.given, *self.logits} if where >= self.sure)

    def said(self) -> dict[int, list[ObjectPrompt]]:
        """What people said and did not correct."""
        return {where: prompts for where, prompts in self.given.items() if where >= self.sure}

    def exact(self, position: int) -> Tensor | None:
        """The mask that it has there because a person gave it, ``bool[H, W]``."""
        prompts = self.given.get(position, [])
        return given_mask(prompts) if all(isinstance(prompt, MaskPrompt) for prompt in prompts) else None

    def takes(self, position: int) -> bool:
        """Whether answers for a frame count: not before it is there, nor where it was found before it was corrected."""
        return position >= self.sure or (position >= self.begun and position not in self.logits)


class ObjectSession(TarViSSession):
    """One video in which what people point at is followed.

    Args:
        network: for inference.
        pixels: how it wants to see pictures.
        size_hw: of the video.
        settings: see there.
        prompter: turns boxes into masks; without it none are taken.

    Raises:
        InputError: clips have no frame, or do not meet.
    """

    def __init__(
        self,
        network: TarViSNetwork,
        pixels: Pixels,
        *,
        size_hw: tuple[int, int],
        settings: TarViSSettings,
        prompter: ImageSegmenter[Any] | None = None,
    ) -> None:
        super().__init__(network, pixels, size_hw=size_hw, settings=settings)
        self._prompter = prompter
        self._queue = WaitingPrompts(size_hw)
        self._targets: list[_Target] = []
        self._background_gc = torch.zeros(0)  # as it was encoded last
        self._over = False

    def prompt(self, prompts: Sequence[Prompt]) -> None:
        """Queue prompts for frames that have not left yet; see `Session.prompt`."""
        accepted: list[ObjectPrompt] = []
        for prompt in prompts:
            if isinstance(prompt, TextPrompt):
                raise InputError(f"TarViS does not read, but was asked for {prompt.text!r}: point at objects instead")
            accepted.append(self._queue.checked(prompt, emitted=self._clips.emitted))
            if prompt.object_id in self._hidden or self._objects.was_removed(prompt.object_id):
                raise InputError(f"object {prompt.object_id} was removed: ids are never reused, give a new one")
            if isinstance(prompt, BoxPrompt) and self._prompter is None:
                raise InputError(
                    f"the box of object {prompt.object_id} on frame {prompt.frame_index}: TarViS takes masks, points "
                    "and scribbles; give a point inside instead"
                )
            check_says(prompt, "TarViS")
        for prompt in accepted:
            self._objects.reserve(prompt.object_id)
        self._queue.add(accepted)

    def finish(self) -> Iterator[FrameSegmentation]:
        """See `ClipSession.finish`."""
        self._over = True
        yield from super().finish()

    def state_dict(self) -> StateDict:
        """Everything the next step depends on; features are made again."""
        return super().state_dict() | {
            "queue": self._queue.state_dict(),
            "background": self._background_gc.clone(),
            "targets": [
                [
                    [target.track_id, target.begun, target.sure],
                    [[where, [to_plain(prompt) for prompt in prompts]] for where, prompts in target.given.items()],
                    [[where, found_hw.clone()] for where, found_hw in target.logits.items()],
                    [target.queries_qc.clone(), target.given_qc.clone()],
                ]
                for target in self._targets
            ],
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Undo `state_dict`."""
        super().load_state_dict(state)
        self._queue.load_state_dict(state["queue"])
        self._background_gc = state["background"].to(self._device)
        self._targets = []
        for (track_id, begun, sure), given, logits, queries in state["targets"]:
            target = _Target(track_id, begun, sure)
            target.queries_qc, target.given_qc = (queries_qc.to(self._device) for queries_qc in queries)
            target.given = {where: [from_plain(plain) for plain in prompts] for where, prompts in given}
            target.logits = {where: found_hw.to(self._device) for where, found_hw in logits}
            self._targets.append(target)

    # Prompts.

    def _before(self, frame: Frame, *, force_key: bool) -> None:
        self._queue.refuse_skipped(frame.index, self._clips.held)

    def _wants_more(self) -> bool:
        """Somebody pointed at a frame after its clip."""
        return bool(self._queue)

    def _after(self) -> None:
        self._queue.refuse_leftover(self._clips.last_index)

    def _take(self, clip: Clip[Maps]) -> set[tuple[int, int]]:
        """Take the prompts of a clip: of which objects, and at which positions."""
        taken: set[tuple[int, int]] = set()
        for position, frame in enumerate(clip.frames, clip.first):
            by_object: dict[int, list[ObjectPrompt]] = {}
            for prompt in self._queue.pop(frame.index):
                if prompt.object_id not in self._hidden:
                    by_object.setdefault(prompt.object_id, []).append(prompt)
            for object_id, prompts in by_object.items():
                if said := self._without_boxes(frame, prompts):
                    self._accept(position, object_id, said, taken)
                    taken.add((object_id, position))
        return taken

    def _without_boxes(self, frame: Frame, prompts: list[ObjectPrompt]) -> list[ObjectPrompt]:
        """The same of an object on a frame; with a box among them, the mask that is found for all of them."""
        if self._prompter is None or not any(isinstance(prompt, BoxPrompt) for prompt in prompts):
            return prompts
        (features,) = self._prompter.encode([frame])
        found_hw = resize_masks(self._prompter.segment(features, prompts).masks_nhw, self._size_hw)[0] >= 0.5
        object_id, category = prompts[0].object_id, last_given(prompt.category for prompt in prompts)
        if not bool(found_hw.any()):
            self._events.append(Event("refused", None, f"nothing is found in the box of object {object_id}"))
            return []
        is_thing = last_given(prompt.is_thing for prompt in prompts)
        return [MaskPrompt(frame.index, object_id, found_hw.cpu(), category=category, is_thing=is_thing)]

    def _accept(self, position: int, object_id: int, prompts: list[ObjectPrompt], taken: set[tuple[int, int]]) -> None:
        """Begin an object, begin it anew, or let it go on."""
        kind: EventKind = "corrected" if object_id in self._objects else "born"
        if kind == "born":
            is_thing = last_given(prompt.is_thing for prompt in prompts)
            self._objects.add(object_id, is_thing=is_thing, prompt_id=prompt_id(prompts[0]))
        mask = given_mask(prompts)
        refines = mask is None and any(isinstance(p, PointPrompt | ScribblePrompt) and p.add for p in prompts)
        target = next((target for target in self._targets if target.track_id == object_id), None)
        if target is None:
            target = _Target(object_id, position, position)
            self._targets.append(target)
            refines = False
        elif not refines and (object_id, target.sure) not in taken:  # what is said of a clip is said at once
            target.correct(position)
        before = target.given.get(position, []) if refines else []
        target.given[position] = [*before, *prompts]
        self._objects[object_id].vote(last_given(prompt.category for prompt in prompts), None)
        what = "what it is" if mask is None else "its mask"
        self._events.append(Event(kind, object_id, f"a person {'refined' if refines else 'gave'} {what}"))

    # Clips.

    def _results(self, clip: Clip[Maps], *, decodes: bool) -> list[FrameSegmentation]:
        """Clips begin with a frame on which somebody points at something; before, there is nothing to decode."""
        self._let_go(clip)
        if decodes:
            self._lose(clip)
        if self._targets:
            return super()._results(clip, decodes=decodes)
        begins = next((t for t, frame in enumerate(clip.frames) if frame.index in self._queue), None)
        if not begins:
            return super()._results(clip, decodes=begins is not None)
        empty = [self._result(clip, t) for t in range(clip.leaving.start, begins)]
        if self._over:
            return empty + super()._results(_rest_of(clip, begins), decodes=True)
        self._clips.begin_at(clip.first + begins)
        return empty

    def _let_go(self, clip: Clip[Maps]) -> None:
        """Forget what was taken away before all frames that are to leave, and frames that are gone."""
        first = clip.first + clip.leaving.start
        gone = {track_id for track_id, since in self._hidden.items() if since <= first and track_id in self._objects}
        self._objects.remove(sorted(gone))
        self._targets = [target for target in self._targets if target.track_id not in gone]
        for target in self._targets:
            target.forget(clip.first)

    def _lose(self, clip: Clip[Maps]) -> None:
        """Forget objects of which nothing is left where clips overlap."""
        if self._settings.carries != "masks":  # there are always queries
            return
        lost = [
            target
            for target in self._targets
            if target.known() and not target.said() and not _references(target, clip.sizes)
        ]
        self._targets = [target for target in self._targets if target not in lost]
        self._events += [Event("deleted", target.track_id, "nothing of it is seen where clips meet") for target in lost]

    def _decode(self, clip: Clip[Maps]) -> None:
        taken = self._take(clip)
        if not self._targets:
            return
        features = self._features(clip)
        encoded, of_q = self._encode(clip, features, taken)
        masks_qthw = self._network.objects(features, [encoded])[0].masks_bnthw[0].float()
        parts = torch.split(encoded.objects_qc, list(encoded.counts))
        masks_nthw = []
        for n, target in enumerate(self._targets):
            own = [q for q, of in enumerate(of_q) if of == n]
            target.queries_qc = torch.cat([parts[q] for q in own])
            if any((target.track_id, where) in taken for where in target.given):
                target.given_qc = target.queries_qc
            masks_nthw.append(masks_qthw[own].amax(0))
        self._keep(clip, torch.stack(masks_nthw))

    def _encode(
        self, clip: Clip[Maps], features: ClipFeatures, taken: set[tuple[int, int]]
    ) -> tuple[ObjectQueries, list[int]]:
        """All targets as queries, and of which target each group of queries is.

        A point counts once, and longer while no mask says more; in the authors' program while its frame is in the clip
        (specification, T6). Of what nothing in this clip tells what it is, queries stay those of the clip before.
        """
        carry = self._settings.carries
        carried: dict[int, Tensor] = {}
        masked: dict[int, dict[int, Tensor]] = {}
        pointed: list[tuple[int, int, float, float]] = []
        for n, target in enumerate(self._targets):
            anew = any((target.track_id, where) in taken for where in target.given)
            if carry != "masks" and not anew and len(target.given_qc):
                carried[n] = target.given_qc
            elif not target.known():
                carried[n] = target.queries_qc
            if references := _references(target, clip.sizes):
                masked[n] = references
            for where, prompts in target.said().items():
                if n not in carried and (not references or self._settings.compat or (target.track_id, where) in taken):
                    pointed += [(n, where - clip.first, x, y) for prompt in prompts for x, y in _places(prompt)]
        groups = list(carried.items())
        if masked or pointed:
            positions = sorted({where for target in self._targets for where in target.known()})
            shape = (len(masked), len(positions), *clip.sizes.padded_hw)
            masks_nthw = torch.zeros(shape, dtype=torch.bool, device=self._device)
            for mask_thw, references in zip(masks_nthw, masked.values(), strict=True):
                for where, mask_hw in references.items():
                    mask_thw[positions.index(where)] = mask_hw
            features_tchw = features.mask_features_btchw[0, [where - clip.first for where in positions]]
            points = _points(features, pointed, clip.sizes) if pointed else None
            encoded = self._network.encode(features_tchw, masks_nthw, points)
            self._background_gc = encoded.background_gc
            parts = torch.split(encoded.objects_qc, list(encoded.counts))
            found = zip([*masked, *(n for n, *_ in pointed)], parts, strict=True)
            # Masks of those whose queries are carried only say what is no background.
            groups += [(n, part_qc) for n, part_qc in found if carry == "both" or n not in carried]
        queries_qc = torch.cat([part_qc for _, part_qc in groups])
        counts = tuple(len(part_qc) for _, part_qc in groups)
        return ObjectQueries(self._background_gc, queries_qc, counts), [n for n, _ in groups]

    def _keep(self, clip: Clip[Maps], masks_nthw: Tensor) -> None:
        """Remember what a clip found; where two clips found something it is the later."""
        found_nt = (masks_nthw > 0).flatten(2).any(2).tolist()
        for target, masks_thw, found_t in zip(self._targets, masks_nthw, found_nt, strict=True):
            for position, mask_hw, found in zip(range(clip.first, clip.stop), masks_thw, found_t, strict=True):
                if target.takes(position) and (found or position not in target.logits):
                    target.logits[position] = mask_hw

    # Results.

    def _result(self, clip: Clip[Maps], t: int) -> FrameSegmentation:
        position, frame = clip.first + t, clip.frames[t]
        there = [x for x in self._targets if position in x.logits and self._shown(x.track_id, position)]
        label_hw = torch.zeros(self._size_hw, dtype=torch.long, device=self._device)
        if there:
            logits_nhw = torch.stack([target.logits[position] for target in there])
            label_hw, _ = owners(logits_nhw, torch.ones(len(there)), clip.sizes)
        exact = {n: mask for n, x in enumerate(there, 1) if (mask := x.exact(position)) is not None}
        paint_given(label_hw, exact)
        areas = torch.bincount(label_hw.flatten(), minlength=len(there) + 1).tolist()
        visible = [n for n in range(1, len(there) + 1) if areas[n]]
        keys = [there[n - 1].track_id for n in visible]
        for key in keys:
            self._objects[key].seen(frame.index)
        segments, labels, renamed = self._objects.segments(keys)
        number_n = torch.zeros(len(there) + 1, dtype=torch.int32, device=self._device)
        number_n[visible] = torch.tensor(labels[1:], dtype=torch.int32, device=self._device)
        events = (*self._told(), *renamed)
        return FrameSegmentation(frame.index, self._size_hw, segments, LabelMap(number_n[label_hw]), events=events)


def _references(target: _Target, sizes: FrameSizes) -> dict[int, Tensor]:
    """Masks that tell what a target is, ``bool[H, W]`` at the size of the padded input, by position; none is empty."""
    found = {}
    for where in target.known():
        if (mask_hw := given_mask(target.given.get(where, []))) is not None:
            found[where] = at_input(mask_hw[None], sizes)[0] >= 0.5
        elif where in target.logits:
            found[where] = resized(target.logits[where][None], sizes.padded_hw)[0] > 0
    return {where: mask_hw for where, mask_hw in found.items() if bool(mask_hw.any())}


def _points(
    features: ClipFeatures, pointed: Sequence[tuple[int, int, float, float]], sizes: FrameSizes
) -> PointTargets:
    """Points of a clip as the object encoder wants them.

    Args:
        features: of the clip.
        pointed: of each point whose it is, the frame of the clip, x and y in pixels of the source.
        sizes: of all frames.
    """
    height, width = sizes.source_hw
    inside = [
        ((min(max(y, 0), height - 1) + 0.5) / height, (min(max(x, 0), width - 1) + 0.5) / width)
        for _, _, x, y in pointed
    ]
    maps = (*features.levels, features.mask_features_btchw)
    frames = [t for _, t, _, _ in pointed]
    points_p2 = torch.tensor(inside, device=maps[-1].device)
    return PointTargets(
        padded_points(points_p2, sizes.content_hw, sizes.padded_hw), tuple(level[0, frames] for level in maps)
    )


def _places(prompt: ObjectPrompt) -> list[tuple[float, float]]:
    """The points of a prompt, x and y; of a stroke some that are equally far from each other."""
    if isinstance(prompt, PointPrompt):
        return list(prompt.points_xy)
    if not isinstance(prompt, ScribblePrompt):
        return []
    stroke_p2 = np.array(prompt.stroke_xy)
    far_p = np.concatenate([[0.0], np.hypot(*np.diff(stroke_p2, axis=0).T).cumsum()])
    wanted = np.linspace(0, far_p[-1], min(_STROKE, 1 + int(far_p[-1])))
    x, y = (np.interp(wanted, far_p, axis_p).tolist() for axis_p in stroke_p2.T)
    return list(zip(x, y, strict=True))


def _rest_of(clip: Clip[Maps], first: int) -> Clip[Maps]:
    """A clip from one of its frames on."""
    leaving = range(max(clip.leaving.start - first, 0), clip.leaving.stop - first)
    return replace(
        clip,
        frames=clip.frames[first:],
        first=clip.first + first,
        seen=max(clip.seen - first, 0),
        leaving=leaving,
        encoded=clip.encoded[first:],
        times_t=clip.times_t[first:],
    )
