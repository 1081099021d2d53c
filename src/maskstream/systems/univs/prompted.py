"""What people point at or describe, followed (UniVS, §4.2; specification §10).

masks, boxes, points, scribbles ─► tokens ─► pool ─► one pass, in which they share pixels out ─┐
sentences ─► texts that look at the clip ──────────► another pass, each by itself ─────────────┴─► results
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from maskstream.mask2former.affinity import mask_overlap
from maskstream.mask2former.clips import Clip
from maskstream.mask2former.network import ClipFeatures
from maskstream.mask2former.postprocess import at_input, masks_at_source, owners
from maskstream.pretrained import Pixels
from maskstream.prompt_queue import WaitingPrompts, check_says, from_plain, paint_given, to_plain
from maskstream.segmenters.prompted import given_mask, last_given
from maskstream.types import (
    CategorySet,
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
    Task,
    TextPrompt,
    pack_masks,
    prompt_id,
    resize_masks,
)

from .expressions import Expressions, ReadTexts, mean_where
from .network import Answers, UniVSNetwork
from .pointing import Pointed, pointed_tokens
from .prompts import PromptMap, Tokens
from .regions import class_values
from .session import TargetSession
from .settings import UniVSSettings
from .tracking import contested, quality

_REJECTED = 0.15
"""IoU with the mask that was given up to which an answer is none; less for what is small."""

_SMALL = 9216
"""Pixels of the input: what is smaller."""

_FORCED = 10.0
"""Logit of stuff where the picture is of its class."""


@dataclass(slots=True, eq=False)
class _Given:
    """What a person said of an object on a frame that is among the last.

    Attributes:
        position: of the frame.
        track_id: of the object.
        prompts: of it there.
        mask: ``bool[H, W]``, if one was given.
        refines: whether it goes on from what the object is.
        begins: whether the object was not there before.
    """

    position: int
    track_id: int
    prompts: list[ObjectPrompt]
    mask: Tensor | None = field(repr=False)
    refines: bool
    begins: bool


class PromptedSession(TargetSession):
    """One video in which what people point at or describe is followed.

    Args:
        network: for inference.
        pixels: how it wants to see pictures.
        task: "vos", "pvos" or "refvos".
        size_hw: of the video.
        settings: see there.
        read: what expressions say; None: there is no text tower.
        categories: of given regions; with ``names_kd``, stuff is taken from what the picture shows everywhere.
        names_kd: ``float[K, D]``, embeddings of their names.
        seed: see `TargetSession`.

    Raises:
        InputError: clips have no frame, or do not meet.
    """

    def __init__(
        self,
        network: UniVSNetwork,
        pixels: Pixels,
        *,
        task: Task,
        size_hw: tuple[int, int],
        settings: UniVSSettings,
        read: ReadTexts | None = None,
        categories: CategorySet | None = None,
        names_kd: Tensor | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(network, pixels, task=task, size_hw=size_hw, settings=settings, seed=seed)
        self._expressions = Expressions(read, self._new_identities(), self._device)
        self._classes = {} if categories is None else {c.id: k for k, c in enumerate(categories.categories)}
        self._names_kd = None if names_kd is None else names_kd.to(self._device)
        self._queue = WaitingPrompts(size_hw)
        self._given: list[_Given] = []

    def prompt(self, prompts: Sequence[Prompt]) -> None:
        """Queue prompts for frames that have not left yet; see `Session.prompt`."""
        texts = [prompt for prompt in prompts if isinstance(prompt, TextPrompt)]
        taken = [self._objects[track_id].prompt_id for track_id in self._objects.ids]
        self._expressions.check(texts, emitted=self._clips.emitted, taken=taken)
        pointing = [prompt for prompt in prompts if not isinstance(prompt, TextPrompt)]
        accepted = [self._queue.checked(prompt, emitted=self._clips.emitted) for prompt in pointing]
        for prompt in accepted:
            if prompt.object_id in self._hidden or self._objects.was_removed(prompt.object_id):
                raise InputError(f"object {prompt.object_id} was removed: ids are never reused, give a new one")
            check_says(prompt, "UniVS")
        for prompt in accepted:
            self._objects.reserve(prompt.object_id)
        self._queue.add(accepted)
        self._expressions.add(texts)

    def state_dict(self) -> StateDict:
        """See `TargetSession.state_dict`; texts are read again."""
        return super().state_dict() | {
            "queue": self._queue.state_dict(),
            "expressions": self._expressions.state_dict(),
            "given": [
                [one.position, one.track_id, [to_plain(p) for p in one.prompts], one.begins] for one in self._given
            ],
        }

    @torch.no_grad()
    def load_state_dict(self, state: StateDict) -> None:
        """Undo `state_dict`."""
        super().load_state_dict(state)
        self._queue.load_state_dict(state["queue"])
        self._expressions.load_state_dict(state["expressions"])
        self._given = [
            self._taken(position, track_id, [from_plain(plain) for plain in prompts], begins=begins)
            for position, track_id, prompts, begins in state["given"]
        ]

    # Prompts.

    def _before(self, frame: Frame, *, force_key: bool) -> None:
        self._queue.refuse_skipped(frame.index, self._clips.held)

    def _wants_more(self) -> bool:
        """Somebody pointed at a frame after its clip."""
        return bool(self._queue) or self._expressions.waits(self._clips.last_index)

    def _after(self) -> None:
        self._queue.refuse_leftover(self._clips.last_index)
        self._expressions.refuse_leftover(self._clips.last_index)

    def _taken(self, position: int, track_id: int, prompts: list[ObjectPrompt], *, begins: bool) -> _Given:
        """What prompts of an object on a frame say together."""
        refines = any(isinstance(p, PointPrompt | ScribblePrompt) and p.add for p in prompts)
        mask = given_mask(prompts)
        alone = all(isinstance(p, MaskPrompt) for p in prompts)
        return _Given(position, track_id, prompts, mask if alone else None, refines and mask is None, begins)

    def _point(self, clip: Clip[ClipFeatures], t: int, where: PromptMap) -> None:
        """Take the prompts of a frame, and put tokens of all that were given there into the pool."""
        frame, position = clip.frames[t], clip.first + t
        by_object: dict[int, list[ObjectPrompt]] = {}
        for prompt in self._queue.pop(frame.index):
            if prompt.object_id not in self._hidden:
                by_object.setdefault(prompt.object_id, []).append(prompt)
        for object_id, prompts in by_object.items():
            self._given.append(self._accepted(clip, t, object_id, prompts))
        here = [one for one in self._given if one.position == position and one.track_id in self._keys]
        if not here:
            return
        targets = [self._keys.index(one.track_id) for one in here]
        tokens = pointed_tokens(
            where,
            [Pointed(one.prompts, one.mask) for one in here],
            clip.sizes,
            count=self._rules.tokens,
            choose=self._choose,
        )
        before = self._pool.on_frame(position)
        content_nrc, code_nrc = before.content_nrc.clone(), before.code_nrc.clone()
        for n, one, content_rc, code_rc in zip(targets, here, tokens.content_nrc, tokens.code_nrc, strict=True):
            # A refinement goes on from what is remembered: every other token is of it.
            step = 2 if one.refines and bool(content_nrc[n].any()) else 1
            content_nrc[n, ::step], code_nrc[n, ::step] = content_rc[::step], code_rc[::step]
        which_n = torch.zeros(len(self._keys), dtype=torch.bool, device=self._device)
        which_n[targets] = True
        just_now = [(n, one) for n, one in zip(targets, here, strict=True) if one.track_id in by_object]
        begun_n, restarted_n = torch.zeros_like(which_n), torch.zeros_like(which_n)
        begun_n[[n for n, one in just_now if one.begins]] = True
        restarted_n[[n for n, one in just_now if not one.begins and not one.refines]] = True
        self._pool.write(clip.first, Tokens(content_nrc, code_nrc), begun_n)  # what is new has them on the whole clip
        self._pool.restart(Tokens(content_nrc, code_nrc), restarted_n)
        self._pool.write(position, Tokens(content_nrc, code_nrc), which_n)
        self._pool.pin({n: position for n, one in zip(targets, here, strict=True) if not one.refines})

    def _accepted(self, clip: Clip[ClipFeatures], t: int, object_id: int, prompts: list[ObjectPrompt]) -> _Given:
        """Begin an object, begin it anew, or let it go on."""
        position = clip.first + t
        begins = object_id not in self._objects
        one = self._taken(position, object_id, prompts, begins=begins)
        if begins:
            is_thing = last_given(prompt.is_thing for prompt in prompts)
            self._objects.add(object_id, is_thing=is_thing, prompt_id=prompt_id(prompts[0]))
            self._keys.append(object_id)
            nothing = torch.zeros((1, self._rules.tokens, self._channels), device=self._device)
            self._pool.add([Tokens(nothing, nothing)], [position])
            self._masks.add(1)
            self._identities.add(1)
        n = self._keys.index(object_id)
        if not one.refines:
            self._masks.clear(n, t)
            self._identities.forget(n)
        if one.mask is not None:
            self._masks.put(n, t, torch.where(self._at_masks(one.mask, clip), _FORCED, -_FORCED))
        self._objects[object_id].vote(last_given(p.category for p in prompts), None)
        given = "its mask" if one.mask is not None else "what it is"
        kind: EventKind = "born" if begins else "corrected"
        self._events.append(Event(kind, object_id, f"a person {'refined' if one.refines else 'gave'} {given}"))
        return one

    def _at_masks(self, mask_hw: Tensor, clip: Clip[ClipFeatures]) -> Tensor:
        """A mask that was given, at the size of answers, ``bool[h, w]``."""
        height, width = self._masks.sum_nthw.shape[2:]
        return resize_masks(at_input(mask_hw[None].to(self._device), clip.sizes), (height, width))[0] >= 0.5

    # Clips.

    def _decode(self, clip: Clip[ClipFeatures]) -> None:
        self._let_go(clip)
        maps = self._network.maps(ClipFeatures.joined(clip.encoded), clip.times_t)
        self._renew(clip, maps)
        self._events += self._expressions.listen(clip, maps, self._objects)
        learnable, settings = self._network.queries, self._settings
        if self._keys:
            prompts = self._visual_prompts(clip)
            (answers,) = self._network.decode(maps, prompts, separation=settings.separation)
            self._follow(clip, answers[learnable:], answers[:learnable])
        if len(self._expressions):
            prompts = self._expressions.prompts(self._network, maps)
            (answers,) = self._network.decode(maps, prompts, average=settings.average)
            self._expressions.follow(clip, answers[learnable:], self._rules.similarity)

    def _let_go(self, clip: Clip[ClipFeatures]) -> None:
        """Forget what was taken away before all frames that are to leave, and prompts of frames that are gone."""
        first = clip.first + clip.leaving.start
        gone = {track_id for track_id, since in self._hidden.items() if since <= first and track_id in self._objects}
        self._keep([n for n, key in enumerate(self._keys) if key not in gone])
        self._expressions.forget(gone)
        self._objects.remove(sorted(gone))
        self._given = [one for one in self._given if one.position >= clip.first and one.track_id not in gone]

    def _counts(self, clip: Clip[ClipFeatures]) -> Tensor:
        """Where answers for targets count, ``bool[N, T]``: not before they were given, nor on a mask that was given.

        Before a correction they count only where nothing else is known.
        """
        counts_nt = torch.ones_like(self._masks.votes_nt, dtype=torch.bool)
        for one in self._given:
            if one.refines or one.track_id not in self._keys:
                continue
            n, t = self._keys.index(one.track_id), one.position - clip.first
            counts_nt[n, :t] &= False if one.begins else self._masks.votes_nt[n, :t] == 0
            counts_nt[n, t] &= one.mask is None
        return counts_nt

    def _follow(self, clip: Clip[ClipFeatures], found: Answers, learnable: Answers) -> None:
        """What the prompts of targets say (specification §10)."""
        masks_nthw = self._with_stuff(found.masks_qthw.float(), learnable)
        counts_nt = self._counts(clip)
        known_n, sharp_n = self._identities.known_n, quality(masks_nthw)
        similarity_n = self._identities.similarity(found.embeddings_qtc)
        given_n, accepted_n = self._agrees(clip, masks_nthw)
        weights_n = torch.ones_like(sharp_n)
        if self._settings.contest == "weighted" or self._settings.compat:
            weights_n = torch.where(known_n, similarity_n, given_n).clamp(min=0) ** 2 * sharp_n
        seen_n = torch.where(known_n, similarity_n > self._rules.similarity, accepted_n)
        inside_nthw = torch.where(counts_nt[..., None, None], masks_nthw, -1.0)
        won_nthw, share_n = contested(inside_nthw, weights_n * seen_n)
        seen_n &= share_n > self._rules.share
        # What others have is not its own.
        logits_nthw = torch.where(won_nthw, masks_nthw, masks_nthw.clamp(max=0))
        self._masks.vote(logits_nthw, seen_n[:, None] & counts_nt)
        self._identities.push(mean_where(found.embeddings_qtc, counts_nt), seen_n)

    def _agrees(self, clip: Clip[ClipFeatures], masks_nthw: Tensor) -> tuple[Tensor, Tensor]:
        """How well answers agree with masks that were given on this clip, ``float[N]``, 1 without; and well enough?"""
        agree_n = torch.ones(len(masks_nthw), device=self._device)
        accepted_n = torch.ones(len(masks_nthw), dtype=torch.bool, device=self._device)
        for one in self._given:
            if one.mask is None or one.track_id not in self._keys:
                continue
            n, t = self._keys.index(one.track_id), one.position - clip.first
            given_hw = self._at_masks(one.mask, clip)
            iou = mask_overlap(given_hw[None, None], masks_nthw[n, None, None, t] > 0)[0, 0]
            area = float(given_hw.sum()) * 16  # masks are a quarter of the input, in both directions
            agree_n[n] = iou
            stuff = self._objects[one.track_id].is_thing is False
            accepted_n[n] = stuff or bool(iou > _REJECTED * min(1.0, area / _SMALL))
        return agree_n, accepted_n

    def _with_stuff(self, masks_nthw: Tensor, learnable: Answers) -> Tensor:
        """Stuff is where learnable queries find its class, too (specification §10, PVOS)."""
        class_of = {
            n: self._classes[record.category]
            for n, record in enumerate(self._objects[key] for key in self._keys)
            if record.is_thing is False and record.category is not None and record.category in self._classes
        }
        if self._task is not Task.PVOS or self._names_kd is None or not class_of:
            return masks_nthw
        masks_qthw = learnable.masks_qthw.float()
        scores_qk = self._network.class_logits(learnable, self._names_kd).sigmoid() * quality(masks_qthw)[:, None]
        labels_thw = torch.stack([class_values(scores_qk, x_qhw).argmax(0) for x_qhw in masks_qthw.unbind(1)])
        forced_nthw = masks_nthw.clone()
        for n, label in class_of.items():
            forced_nthw[n][labels_thw == label] = _FORCED
        return forced_nthw

    # Results.

    def _result(self, clip: Clip[ClipFeatures], t: int) -> FrameSegmentation:
        position, frame = clip.first + t, clip.frames[t]
        label_hw, keys = self._pointed_at(clip, t)
        masks = [label_hw == n for n in range(1, len(keys) + 1)]
        if len(self._expressions):
            tracks, logits_nhw = self._expressions.there(t)
            shown = [n for n, track_id in enumerate(tracks) if self._shown(track_id, position)]
            masks += masks_at_source(logits_nhw[shown], clip.sizes).unbind()
            keys += [tracks[n] for n in shown]
        visible = [n for n, mask in enumerate(masks) if bool(mask.any())]
        for n in visible:
            self._objects[keys[n]].seen(frame.index)
        segments, labels, renamed = self._objects.segments([keys[n] for n in visible])
        events = (*self._told(), *renamed)
        if len(self._expressions):  # they may overlap
            masks_shw = torch.zeros((len(segments), *self._size_hw), dtype=torch.bool, device=self._device)
            for label, n in zip(labels[1:], visible, strict=True):
                masks_shw[label - 1] |= masks[n]
            return FrameSegmentation(frame.index, self._size_hw, segments, pack_masks(masks_shw), events=events)
        number_n = torch.zeros(len(keys) + 1, dtype=torch.int32, device=self._device)
        number_n[[n + 1 for n in visible]] = torch.tensor(labels[1:], dtype=torch.int32, device=self._device)
        return FrameSegmentation(frame.index, self._size_hw, segments, LabelMap(number_n[label_hw]), events=events)

    def _pointed_at(self, clip: Clip[ClipFeatures], t: int) -> tuple[Tensor, list[int]]:
        """What was pointed at, on a frame: ``int64[H, W]``, n for the n-th track (from 1); and these tracks."""
        position = clip.first + t
        exact = {one.track_id: one.mask for one in self._given if one.position == position and one.mask is not None}
        shown = [
            n
            for n, key in enumerate(self._keys)
            if (bool(self._masks.votes_nt[n, t]) or key in exact) and self._shown(key, position)
        ]
        keys = [self._keys[n] for n in shown]
        if not shown:
            return torch.zeros(self._size_hw, dtype=torch.long, device=self._device), keys
        votes_n = self._masks.votes_nt[shown, t].clamp(min=1)[:, None, None]
        logits_nhw = self._masks.sum_nthw[shown, t] / votes_n
        label_hw, _ = owners(logits_nhw, torch.ones(len(shown)), clip.sizes)
        paint_given(label_hw, {n: exact[key] for n, key in enumerate(keys, 1) if key in exact})
        return label_hw, keys
