"""DEVA on a video that is all there: prompts on any frames, in both directions; sentences; what is salient (§11).

prompts ─► masks on their frames ──► passes backward, kept in a file ─┐
sentences ─► masks on key frames ─┘  passes forward ──────────────────┴─► mean by distance ─► argmax ─► results

A pass carries one object from a frame it is given on to the next such frame, or to the end; it begins with nothing but
that frame. Between two given frames a pass comes from each, and their probabilities are averaged, weighted linearly by
how near each began. So what an object is on a frame depends on the two given frames around it and on nothing else: a
correction changes the frames up to its neighbours, and only those are done again and leave again, as the next revision.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from maskstream.types import (
    CategorySet,
    Event,
    Frame,
    FrameSegmentation,
    ImageSegmenter,
    InputError,
    LabelMap,
    MaskPrompt,
    ObjectPrompt,
    PackedMasks,
    PointPrompt,
    Prompt,
    Proposals,
    ScribblePrompt,
    Segment,
    TextPrompt,
    Video,
    VideoError,
    pack_masks,
    prompt_id,
    resize_masks,
)
from maskstream.video import prefetch
from maskstream.video.backward import frame_indices, frames_at, frames_backward

from .key_frame import (
    KeyMask,
    Sighting,
    chosen_positions,
    key_masks,
    sighting_of_expressions,
    sighting_of_salient,
)
from .model import Deva
from .passes import MapStore, Pass, blended, plan, quantised, sweep
from .prompting import PromptQueue
from .session import most_probable

Direction: TypeAlias = Literal["forward", "backward", "both"]

KEY_FRAMES = 10
"""Frames that agree on where a sentence's object is (paper; the authors' program takes 5 for Ref-DAVIS)."""


class OfflineDeva:
    """DEVA for videos that can be read twice. Satisfies the `OfflineSegmenter` contract.

    Args:
        deva: its propagator carries masks, its prompter takes boxes, points and scribbles. Its detector has to know
            sentences, given as categories, for `TextPrompt`, and to find what is salient for `saliency`.
        key_frames: frames that a sentence, or what is salient, is looked for on.
        joint: carry objects that are given on the same frames together. They compete for pixels, and it is faster;
            but a correction of one changes what is known of the others.
        compat: sentences and saliency as the authors' program has it: weights softmax(2·score), sentences jointly, by
            their mean score; saliency without scores. Else as in the paper.
        group_of: which sentences speak of different objects, and compete for pixels: those for which this is the same.
            Sentences of different groups know nothing of each other, and their masks may overlap. None: all compete.
        soft: return probabilities beside masks; only where all compete.
    """

    def __init__(
        self,
        deva: Deva,
        *,
        key_frames: int = KEY_FRAMES,
        joint: bool = False,
        compat: bool = False,
        group_of: Callable[[TextPrompt], Hashable] | None = None,
        soft: bool = False,
    ) -> None:
        if key_frames < 1:
            raise InputError(f"key_frames is at least 1, not {key_frames}")
        if soft and group_of is not None:
            raise InputError("masks that may overlap have no probabilities that sum to one: leave out soft or group_of")
        self.deva = deva
        self.key_frames = key_frames
        self.joint = joint
        self.compat = compat
        self.group_of = group_of
        self.soft = soft

    def run(
        self,
        video: Video,
        prompts: Sequence[Prompt],
        *,
        start: int = 0,
        stop: int | None = None,
        direction: Direction = "both",
    ) -> Iterator[FrameSegmentation]:
        """Segment a video around prompts on any of its frames; to correct results afterwards, `begin` instead.

        Args:
            video: that can be read twice.
            prompts: masks, boxes, points and scribbles, several frames an object if need be; or sentences, which become
                objects 1, 2, … in the order given.
            start: ``Frame.index`` of the first frame.
            stop: ``Frame.index`` to end before.
            direction: from prompted frames "forward", "backward", or "both" ways.

        Returns:
            One result a frame, in order, with revision 0.

        Raises:
            InputError: a prompt does not fit, or its frame is not among those to be segmented; at once.
            VideoError: a prompted frame cannot be decoded.
        """
        run = self.begin(video, start=start, stop=stop, direction=direction)
        return run._and_close(run.prompt(prompts))

    def saliency(self, video: Video, *, start: int = 0, stop: int | None = None) -> Iterator[FrameSegmentation]:
        """Segment what is salient, as one object: DAVIS-2016, unsupervised; see `run`."""
        run = self.begin(video, start=start, stop=stop)
        return run._and_close(run.salient())

    def begin(
        self, video: Video, *, start: int = 0, stop: int | None = None, direction: Direction = "both"
    ) -> OfflineRun:
        """A video to be segmented and corrected; see `run` for the arguments."""
        return OfflineRun(self, video, start=start, stop=stop, direction=direction)


@dataclass(frozen=True, slots=True)
class _Object:
    """What does not change about an object; ``born`` is the frame it was given on first, and those of one ``group``
    compete for pixels."""

    born: int
    reason: str
    prompt_id: str
    category: int | None = None
    is_thing: bool | None = None
    group: Hashable = None


class OfflineRun:
    """One video, and what was said about it so far. From `OfflineDeva.begin`."""

    def __init__(
        self, system: OfflineDeva, video: Video, *, start: int, stop: int | None, direction: Direction
    ) -> None:
        if direction not in ("forward", "backward", "both"):
            raise InputError(f"direction is forward, backward or both, not {direction!r}")
        self._indices = [i for i in frame_indices(video) if i >= start and (stop is None or i < stop)]
        if not self._indices:
            raise InputError(f"{video.name} has no frame from {start} to before {'the end' if stop is None else stop}")
        self._system = system
        self._propagator = system.deva.propagator
        self._video = video
        self._direction = direction
        self._prompts = PromptQueue(video.size_hw, system.deva.prompter)
        self._objects: dict[int, _Object] = {}
        self._given: dict[int, dict[int, Tensor]] = {}  # by frame and object: bool at source size, or soft
        self._maps, self._behind = MapStore(), MapStore()
        self._stale: dict[int, set[int]] = {}
        self._unsent = set(self._indices)
        self._revisions: dict[int, int] = {}
        self._joint = system.joint

    def prompt(self, prompts: Sequence[Prompt]) -> Iterator[FrameSegmentation]:
        """Say where objects are, for the first time or to correct what came out.

        Args:
            prompts: as for `OfflineDeva.run`. One for a frame an object was given on before replaces that; clicks with
                ``add`` refine what came out.

        Returns:
            The frames that change, in order, each with a revision one more than its last: at first all of them, later
            those up to the nearest frames that the prompted objects were given on. All others stay as they are. Nothing
            happens before the first is asked for; what is not taken then comes with the next call.

        Raises:
            InputError: a prompt does not fit; nothing is changed.
        """
        texts = [prompt for prompt in prompts if isinstance(prompt, TextPrompt)]
        if texts:
            self._check_sentences(texts, others=len(texts) < len(prompts))
            return self._refer(texts)
        checked = [self._checked(prompt) for prompt in prompts if not isinstance(prompt, TextPrompt)]
        return self._correct(checked)

    def salient(self) -> Iterator[FrameSegmentation]:
        """Find what is salient, as object 1; returns as `prompt` does.

        Raises:
            InputError: there is no detector, or objects are followed already.
        """
        self._detector("what is salient is to be found")
        self._refuse_mixture()
        return self._find_salient()

    def close(self) -> None:
        """Delete what is kept on disk."""
        self._maps.close()
        self._behind.close()

    def _and_close(self, results: Iterator[FrameSegmentation]) -> Iterator[FrameSegmentation]:
        try:
            yield from results
        finally:
            self.close()

    # --------------------------------------------------------------- prompts

    def _checked(self, prompt: ObjectPrompt) -> ObjectPrompt:
        checked = self._prompts.checked(prompt, emitted=-1)
        place = bisect_left(self._indices, prompt.frame_index)
        if self._indices[place : place + 1] != [prompt.frame_index]:
            raise InputError(
                f"the prompt for object {prompt.object_id} is on frame {prompt.frame_index}, "
                f"but the frames to segment are {_listed(self._indices)}"
            )
        known = self._objects.get(prompt.object_id)
        for what in ("category", "is_thing"):
            wanted = getattr(prompt, what)
            if known is not None and wanted not in (None, getattr(known, what)):
                raise InputError(
                    f"object {prompt.object_id} has {what} {getattr(known, what)}, and a correction cannot make it "
                    f"{wanted}: frames that are not corrected would not know"
                )
        return checked

    def _correct(self, prompts: Sequence[ObjectPrompt]) -> Iterator[FrameSegmentation]:
        refining = _refining(prompts)
        self._take([prompt for prompt in prompts if prompt not in refining])
        if refining:
            for _ in self._recompute():  # what they refine
                pass
            self._take(refining)
        yield from self._results()

    def _take(self, prompts: Sequence[ObjectPrompt]) -> None:
        """Turn prompts into masks."""
        by_frame: dict[int, list[ObjectPrompt]] = {}
        for prompt in prompts:
            by_frame.setdefault(prompt.frame_index, []).append(prompt)
        for frame in frames_at(self._video, sorted(by_frame)):
            own = by_frame.pop(frame.index)
            for object_id, mask in self._prompts.own_masks(frame, own, self._current_on(frame.index)).items():
                self._give(object_id, frame.index, mask, _described(object_id, frame.index, prompts))
        if by_frame:
            raise VideoError(f"frame {min(by_frame)} of {self._video.name}, which is prompted, cannot be decoded")

    def _give(self, object_id: int, frame_index: int, mask: Tensor, described: _Object) -> None:
        self._objects.setdefault(object_id, described)
        given = self._given.setdefault(frame_index, {})
        given.pop(object_id, None)  # the mask that was given last is on top
        given[object_id] = mask
        others = [frame for frame in self._frames_of(object_id) if frame != frame_index]
        place = bisect_left(others, frame_index)
        first = 0 if place == 0 else bisect_right(self._indices, others[place - 1])
        stop = len(self._indices) if place == len(others) else bisect_left(self._indices, others[place])
        if self._direction == "forward":
            first = bisect_left(self._indices, frame_index)
        elif self._direction == "backward":
            stop = bisect_right(self._indices, frame_index)
        self._stale.setdefault(object_id, set()).update(self._indices[first:stop])
        self._unsent.update(self._indices[first:stop])

    def _frames_of(self, object_id: int) -> list[int]:
        """The frames an object is given on."""
        return sorted(frame_index for frame_index, given in self._given.items() if object_id in given)

    # ----------------------------------------------------- sentences, saliency

    def _check_sentences(self, texts: Sequence[TextPrompt], *, others: bool) -> None:
        self._detector(f"the text prompt {texts[0].text!r} needs a model that reads text")
        if not self._system.deva.open_vocabulary:
            raise InputError(f"the text prompt {texts[0].text!r} needs a segmenter that reads text; this one does not")
        if others:
            raise InputError("sentences and other prompts cannot be given at once: give sentences, then corrections")
        self._refuse_mixture()
        for text in texts:
            if [other.prompt_id for other in texts].count(text.prompt_id) > 1:
                raise InputError(f"the sentence {text.prompt_id!r} is given twice: once is enough")
            if text.kind != "expression":
                raise InputError(
                    f"the text prompt {text.text!r} asks for any number of objects; offline, a sentence stands for "
                    'one: say kind="expression"'
                )

    def _refuse_mixture(self) -> None:
        if self._objects:
            raise InputError("objects are followed in this video already: sentences and saliency come first, or alone")

    def _detector(self, what: str) -> ImageSegmenter[Any]:
        detector = self._system.deva.detector
        if detector is None:
            raise InputError(f"{what}, but this model has no segmenter that finds anything by itself")
        return detector

    def _refer(self, texts: Sequence[TextPrompt]) -> Iterator[FrameSegmentation]:
        """Sentences, each on its own (paper) or all of a group together (the authors' program)."""
        self._joint |= self._system.compat
        group_of = self._system.group_of or (lambda text: None)
        sentences = list(dict.fromkeys(text.text.strip() for text in texts))  # different people say the same
        by_group: dict[Hashable, list[int]] = {}
        for n, text in enumerate(texts):
            by_group.setdefault(group_of(text) if self._system.compat else n, []).append(n)
        groups = list(by_group.values())
        sightings = [sighting_of_expressions(frame, answers) for frame, answers in self._looked_at(sentences)]
        keys = self._key_masks(sightings, [[sentences.index(texts[n].text.strip()) for n in group] for group in groups])
        key_of = dict(zip([n for group in groups for n in group], keys, strict=True))
        for n, text in enumerate(texts):
            key, reason = key_of[n], f"{text.text!r} describes it"
            described = _Object(key.frame_index, reason, text.prompt_id, group=group_of(text))
            self._give(n + 1, key.frame_index, key.mask_hw, described)
        yield from self._results()

    def _find_salient(self) -> Iterator[FrameSegmentation]:
        compat = self._system.compat
        sightings = [sighting_of_salient(frame, found, compat=compat) for frame, (found,) in self._looked_at([None])]
        (key,) = self._key_masks(sightings, [[0]])
        self._give(1, key.frame_index, key.mask_hw, _Object(key.frame_index, "it is salient", "salient"))
        yield from self._results()

    def _key_masks(self, sightings: Sequence[Sighting], groups: Sequence[Sequence[int]]) -> list[KeyMask]:
        return key_masks(
            sightings,
            self._propagator,
            groups,
            alignment=self._system.deva.settings.alignment,
            compat=self._system.compat,
        )

    def _looked_at(self, sentences: Sequence[str | None]) -> Iterator[tuple[Frame, list[Proposals]]]:
        """Frames spread over the video, and what the detector finds on them.

        It is asked for each sentence by itself: a detector that reads several at once gives a box to one of them only,
        and sentences may describe the same object. None asks for anything.
        """
        detector = self._detector("something is to be found")
        asked = [None if each is None else CategorySet.from_names([each], name="sentence") for each in sentences]
        positions = chosen_positions(len(self._indices), self._system.key_frames)
        context = detector.context
        needed = sorted({n for p in positions for n in range(max(p - context, 0), p + 1)})
        chosen = {self._indices[position] for position in positions}
        seen: deque[Any] = deque(maxlen=context)
        for frame in frames_at(self._video, [self._indices[n] for n in needed]):
            (features,) = detector.encode([frame])
            if frame.index in chosen:
                yield frame, [detector.segment(features, context=list(seen), categories=each) for each in asked]
            seen.append(features)

    # ----------------------------------------------------------- propagation

    def _results(self) -> Iterator[FrameSegmentation]:
        """Everything that has to leave, up to date."""
        for frame_index in self._recompute():
            if frame_index in self._unsent:
                self._unsent.discard(frame_index)
                self._revisions[frame_index] = self._revisions.get(frame_index, -1) + 1
                yield self._composed(frame_index)
        self._unsent.clear()  # what is left cannot be decoded

    def _recompute(self) -> Iterator[int]:
        """Bring all maps up to date; yields frames, in order, whose maps are."""
        given = {object_id: self._frames_of(object_id) for object_id in self._objects}
        ahead = self._plan(given, backward=False) if self._direction != "backward" else []
        behind = self._plan(given, backward=True) if self._direction != "forward" else []
        needed = self._needed(behind, backward=True)
        with closing(prefetch(frames_backward(self._video, needed))) as frames:
            for frame, _, found in sweep(frames, behind, self._propagator, self._given_mask, backward=True):
                for object_id, found_hw in found.items():
                    self._behind.put((object_id, frame.index), found_hw)
        needed = self._needed(ahead, self._unsent, *self._stale.values(), backward=False)
        with closing(prefetch(frames_at(self._video, needed))) as frames:
            for frame, features, found in sweep(frames, ahead, self._propagator, self._given_mask, backward=False):
                for object_id, stale in self._stale.items():
                    if frame.index in stale:
                        self._settle(object_id, given[object_id], frame, features, found.get(object_id))
                        stale.discard(frame.index)
                yield frame.index

    def _plan(self, given: Mapping[int, Sequence[int]], *, backward: bool) -> list[Pass]:
        return [
            each
            for ids in self._groups()
            for each in plan({i: given[i] for i in ids}, self._stale, backward=backward, joint=self._joint)
        ]

    def _groups(self) -> list[list[int]]:
        """The objects that compete with each other."""
        groups: dict[Hashable, list[int]] = {}
        for object_id in sorted(self._objects):
            groups.setdefault(self._objects[object_id].group, []).append(object_id)
        return list(groups.values())

    def _needed(self, passes: Sequence[Pass], *others: Iterable[int], backward: bool) -> list[int]:
        needed = {index for each in passes for index in each.frames(self._indices, backward=backward)}
        return sorted(needed.union(*others))

    def _given_mask(self, object_id: int, frame_index: int) -> Tensor:
        return self._given[frame_index][object_id]

    def _settle(self, object_id: int, given: Sequence[int], frame: Frame, features: Any, ahead: Any) -> None:
        """Decide the map of an object on a frame."""
        key = object_id, frame.index
        mask = self._given.get(frame.index, {}).get(object_id)
        if mask is not None:
            size_hw = self._propagator.size_hw(self._propagator.encode(frame) if features is None else features)
            self._maps.put(key, quantised(resize_masks(mask[None], size_hw)[0]))
            return
        place = bisect_left(given, frame.index)
        since = frame.index - given[place - 1] if place else 0
        to = given[place] - frame.index if place < len(given) else 0
        found = blended(ahead, self._behind.get(key), since=since, to=to)
        self._behind.drop(key)
        if found is not None:
            self._maps.put(key, found)

    # ---------------------------------------------------------------- output

    def _composed(self, frame_index: int) -> FrameSegmentation:
        shown, masks, probabilities = self._masks(frame_index)
        segments, events = [], []
        for object_id in shown:
            it = self._objects[object_id]
            segments.append(Segment(object_id, object_id, it.category, None, it.is_thing, it.prompt_id))
        for object_id in self._given.get(frame_index, {}):
            it = self._objects[object_id]
            events.append(Event("born" if it.born == frame_index else "corrected", object_id, it.reason))
        return FrameSegmentation(
            frame_index,
            self._video.size_hw,
            tuple(segments),
            masks,
            probabilities.half() if self._system.soft and probabilities is not None else None,
            revision=self._revisions[frame_index],
            events=tuple(events),
        )

    def _masks(self, frame_index: int) -> tuple[list[int], LabelMap | PackedMasks, Tensor | None]:
        """The objects that are on a frame, their masks, and where all compete their probabilities, see `_frame`."""
        groups = self._groups()
        if len(groups) <= 1:
            ids, probabilities, label_map = self._frame(frame_index, groups[0] if groups else [])
            return ids, LabelMap(label_map), probabilities
        mask_of: dict[int, Tensor] = {}
        for group in groups:
            ids, _, label_map = self._frame(frame_index, group)
            mask_of |= zip(ids, LabelMap(label_map).masks_nhw(len(ids)), strict=True)
        shown = sorted(mask_of)
        nothing = torch.zeros((0, *self._video.size_hw), dtype=torch.bool)
        return shown, pack_masks(torch.stack([mask_of[i] for i in shown]) if shown else nothing), None

    def _frame(self, frame_index: int, ids: Sequence[int]) -> tuple[list[int], Tensor, Tensor]:
        """Those of some objects that are on a frame, their probabilities ``float[1 + N, h, w]`` and labels
        ``int32[H, W]``."""
        found = {i: found for i in ids if (found := self._maps.get((i, frame_index))) is not None}
        ids = list(found)
        if not ids:
            return [], torch.ones((1, *self._video.size_hw)), torch.zeros(self._video.size_hw, dtype=torch.int32)
        probabilities = together(torch.stack([torch.from_numpy(each.copy()) for each in found.values()]).float() / 255)
        label_map = most_probable(resize_masks(probabilities, self._video.size_hw))
        for object_id, mask in self._given.get(frame_index, {}).items():
            if mask.dtype == torch.bool and object_id in found:
                channel = ids.index(object_id) + 1
                label_map[label_map == channel] = 0
                label_map[mask.to(label_map.device)] = channel
        return ids, probabilities, label_map

    def _current_on(self, frame_index: int) -> Callable[[int], Tensor | None]:
        def current(object_id: int) -> Tensor | None:
            group = next((group for group in self._groups() if object_id in group), [])
            ids, _, label_map = self._frame(frame_index, group)
            return label_map == ids.index(object_id) + 1 if object_id in ids else None

        return current


def together(probabilities_nhw: Tensor) -> Tensor:
    """Probabilities of objects that know nothing of each other, as ``float[1 + N, h, w]`` that sum to one.

    Background is what none of them is, Π (1 - p). A lone object keeps its probability.
    """
    background = (1 - probabilities_nhw).prod(dim=0, keepdim=True)
    channels = torch.cat([background, probabilities_nhw])
    return channels / channels.sum(dim=0)


def _refining(prompts: Sequence[ObjectPrompt]) -> list[ObjectPrompt]:
    """All prompts of an object on a frame where clicks or strokes refine what it is there."""
    where = {
        (prompt.frame_index, prompt.object_id)
        for prompt in prompts
        if isinstance(prompt, PointPrompt | ScribblePrompt) and prompt.add
    } - {(prompt.frame_index, prompt.object_id) for prompt in prompts if isinstance(prompt, MaskPrompt)}
    return [prompt for prompt in prompts if (prompt.frame_index, prompt.object_id) in where]


def _described(object_id: int, frame_index: int, prompts: Sequence[ObjectPrompt]) -> _Object:
    """A new object, by all that is said of it."""
    own = [prompt for prompt in prompts if prompt.object_id == object_id]
    category = next((prompt.category for prompt in own if prompt.category is not None), None)
    is_thing = next((prompt.is_thing for prompt in own if prompt.is_thing is not None), None)
    return _Object(frame_index, "a person gave its mask", prompt_id(own[0]), category, is_thing)


def _listed(indices: Sequence[int]) -> str:
    """Frames for people."""
    if len(indices) == 1:
        return f"{indices[0]} alone"
    stride = indices[1] - indices[0]
    return f"{indices[0]} to {indices[-1]}" + (f", every {stride}" if stride > 1 else "")
