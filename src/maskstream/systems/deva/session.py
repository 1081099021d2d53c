"""DEVA on one video: propagate every frame, let prompts and detections correct it (specification §5, §7-9).

online         frame ──► read ──► probabilities ──┬─► prompts of this frame: paste, memorise
                          ▲                       ├─► every `detection_every` frames: detect, merge, memorise
                          └──────── state ◄───────┴─► argmax at source size ──► FrameSegmentation

semi-online    the first `voting_frames` of every `detection_every` are held back and segmented; what they agree on,
               aligned to the first of them, is merged there; then all of them go through as above.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from maskstream.concepts import Concepts
from maskstream.identity import ObjectRecord, ObjectTable
from maskstream.types import (
    CategorySet,
    Event,
    EventKind,
    Frame,
    FrameSegmentation,
    ImageSegmenter,
    InputError,
    LabelMap,
    MaskstreamWarning,
    ObjectPrompt,
    Prompt,
    Propagator,
    Proposals,
    StateDict,
    TextPrompt,
    Track,
    check_arrival,
    prompt_id,
    resize_masks,
)

from .alignment import Alignment, align
from .consensus import ALPHA
from .detections import Detections, Vote, agreed
from .merge import Fused, Merge, merge
from .prompting import PromptQueue

Schedule: TypeAlias = Literal["online", "semi-online"]
Temporal: TypeAlias = Literal["bidirectional", "short-track", "trust-image", "mask-iou", "mask-iou-flow", "query"]

LONE_STANDS = -1e-3
"""Cost of choosing a proposal (α) where there are too few frames for a vote: one without support is chosen too."""


@dataclass(frozen=True, slots=True)
class DevaSettings:
    """How detections are taken in.

    Attributes:
        schedule: "online" merges the detections of one frame as they are, at once; "semi-online" waits for what several
            frames agree on, so that a lone mistake is never believed (specification §9).
        detection_every: detections are merged on one frame in so many (d of §9).
        voting_frames: so many frames vote, semi-online (n of §9); results leave ``voting_frames - 1`` frames late.
        alignment: how proposals are brought to the frame of the vote: "network" as published, "flow", "auto" or "none";
            see `alignment.align`.
        alpha: cost of choosing a proposal in the vote (eq. 8).
        max_missed: an object is dropped when more detections in a row than this did not confirm it (L of §8.3). The
            paper drops it when L *is reached*, L = 5, which is 4 here; the authors' release when it is exceeded, 5.
        incremental: detections look only at what is not segmented yet, so an object is missed only when it is empty.
        max_objects: most objects followed at once through detection; None for any number.
        part_threshold: a detection of which a greater fraction lies within one object is a part of it, not an object of
            its own; None to go by overlap of both alone, as published.
        min_score: detections below this score are ignored; those without a score are not.
        sure_score: detections below this score begin no object and draw none anew. They only say that one is still
            there, as in ByteTrack (Zhang et al., ECCV 2022): what moves stops for a while.
        look_ahead: the first frames of a semi-online video wait until a detector that compares frames can compare them
            with those that follow, as it does others with those before.
        fused: what an object that a detection confirms becomes: the "union" of both, as published, or the "detection"
            alone; see `merge`.
        temporal: "bidirectional" as published. Table 6 of the paper compares it with: "short-track", which begins its
            memory anew on every frame; "trust-image", which drops what no detection confirms at once; and tracking by
            detection, "mask-iou", "mask-iou-flow" and "query" (see `AssociationSession`).
    """

    schedule: Schedule = "online"
    detection_every: int = 5
    voting_frames: int = 3
    alignment: Alignment = "network"
    alpha: float = ALPHA
    max_missed: int = 5
    incremental: bool = False
    max_objects: int | None = None
    part_threshold: float | None = None
    min_score: float = 0.0
    sure_score: float = 0.0
    look_ahead: bool = False
    fused: Fused = "union"
    temporal: Temporal = "bidirectional"

    def __post_init__(self) -> None:
        for name, known in (
            ("schedule", Schedule),
            ("temporal", Temporal),
            ("fused", Fused),
            ("alignment", Alignment),
        ):
            if getattr(self, name) not in get_args(known):
                raise InputError(f"{name} is one of {', '.join(get_args(known))}, not {getattr(self, name)!r}")
        if self.max_missed < 0 or (self.max_objects is not None and self.max_objects < 1):
            raise InputError(
                f"max_missed is at least 0 and max_objects at least 1, not {self.max_missed} and {self.max_objects}"
            )
        if self.detection_every < 1 or self.voting_frames < 1:
            raise InputError(
                f"detection_every and voting_frames are at least 1, not {self.detection_every} and {self.voting_frames}"
            )
        if self.schedule == "semi-online" and self.voting_frames > self.detection_every:
            raise InputError(
                f"{self.voting_frames} frames cannot vote on every {self.detection_every}th: "
                "voting_frames must not exceed detection_every"
            )

    @property
    def latency(self) -> int:
        """How many frames later than its frame a result leaves, for a vote."""
        return self.voting_frames - 1 if self.schedule == "semi-online" else 0


@dataclass(slots=True, eq=False)
class _Arrival:
    """A frame that came and is not segmented yet.

    Attributes:
        frame: the frame.
        features: of it, for the propagator.
        proposals: what was found on it, or None where nobody looked.
        removals: objects to stop following before it.
        force_key: detect on it though it may not be its turn.
    """

    frame: Frame
    features: Any
    proposals: Proposals | None = None
    removals: list[int] = field(default_factory=list)
    force_key: bool = False


class DevaSession:
    """One video through DEVA. Satisfies the `Session` contract.

    Args:
        propagator: carries masks between frames.
        size_hw: height and width of the video.
        prompter: turns boxes, points and scribbles into masks; without it only masks are taken.
        detector: finds objects by itself; without it only prompted objects are followed, and nothing is held back.
        settings: how detections are taken in.
        categories: what the detector looks for; one that reads may be told more by text prompts, and nothing yet by an
            empty set.
        open_vocabulary: whether the detector looks for whatever it is told.
        soft: return probabilities beside masks.
    """

    def __init__(
        self,
        propagator: Propagator[Any, Any],
        *,
        size_hw: tuple[int, int],
        prompter: ImageSegmenter[Any] | None = None,
        detector: ImageSegmenter[Any] | None = None,
        settings: DevaSettings | None = None,
        categories: CategorySet | None = None,
        open_vocabulary: bool = False,
        soft: bool = False,
    ) -> None:
        self._propagator = propagator
        self._detector = detector
        self._settings = settings or DevaSettings()
        self._concepts = Concepts(categories, reads=open_vocabulary and detector is not None)
        self._size_hw = size_hw
        self._soft = soft
        looks_ahead = self._settings.look_ahead and self._settings.schedule == "semi-online"
        ahead = detector.context if detector and looks_ahead else 0
        self.latency = self._settings.latency + ahead if detector else 0
        self._objects = ObjectTable()
        self._propagation = propagator.start()
        self._prompts = PromptQueue(size_hw, prompter)
        self._context: deque[Any] = deque(maxlen=detector.context if detector else 0)
        self._opening: list[_Arrival] | None = [] if ahead else None  # the first frames, until enough follow
        self._held: list[_Arrival] = []
        self._removals: list[int] = []
        self._events: list[Event] = []
        self._since_key: int | None = None  # frames since detection last began
        self._merges = 0
        self._refused = False
        self._last_index = -1
        self._last_emitted = -1

    @property
    def categories(self) -> CategorySet | None:
        """What `Segment.category` means, concepts that were prompted included; None where nothing was named."""
        return self._concepts.categories

    def prompt(self, prompts: Sequence[Prompt]) -> None:
        """Queue prompts for frames that have not left yet; see `Session.prompt`.

        A `TextPrompt` of a concept is looked for from its frame on, or from the next that the detector has not seen;
        what is found carries its ``prompt_id``.
        """
        texts = [prompt for prompt in prompts if isinstance(prompt, TextPrompt)]
        self._concepts.check(texts, emitted=self._last_emitted)
        pointing = [prompt for prompt in prompts if not isinstance(prompt, TextPrompt)]
        accepted = [self._prompts.checked(prompt, emitted=self._last_emitted) for prompt in pointing]
        for prompt in accepted:
            if self._objects.was_removed(prompt.object_id) or prompt.object_id in self._leaving():
                raise InputError(f"object {prompt.object_id} was removed: ids are never reused, give a new one")
        for prompt in accepted:
            self._objects.reserve(prompt.object_id)
        self._prompts.add(accepted)
        self._concepts.add(texts)

    def remove(self, object_ids: Sequence[int]) -> None:
        """Stop following objects from the next frame on; see `Session.remove`."""
        followed = [track_id for track_id in self._objects.ids if track_id not in self._leaving()]
        for object_id in object_ids:
            if object_id not in followed:
                known = ", ".join(map(str, followed)) or "none"
                raise InputError(f"object {object_id} cannot be removed: it is not followed (followed: {known})")
        self._removals += dict.fromkeys(object_ids)

    def step(self, frame: Frame, *, force_key: bool = False) -> list[FrameSegmentation]:
        """Segment the next frame; results of it and of frames held back leave together.

        Args:
            frame: the next frame.
            force_key: detect on it though it is not its turn; the turns are counted from here.

        Raises:
            InputError: the frame is of another size, or comes out of order.
        """
        check_arrival(frame, self._size_hw, self._last_index)
        self._prompts.refuse_skipped(frame.index, [arrival.frame.index for arrival in self._waiting()])
        force_key |= self._concepts.begin_between(self._last_index, frame.index)
        arrival = _Arrival(frame, self._propagator.encode(frame), removals=self._removals, force_key=force_key)
        self._removals = []
        self._last_index = frame.index
        if self._detector is None:
            return [self._segment(arrival, None)]
        if self._opening is None:
            return self._take(arrival)
        self._opening.append(arrival)
        return self._open() if len(self._opening) > self.latency else []

    def _waiting(self) -> list[_Arrival]:
        """Frames that came and have not left."""
        return [*(self._opening or ()), *self._held]

    def _open(self) -> list[FrameSegmentation]:
        """Begin the video with all the frames that waited for it."""
        assert self._detector is not None and self._opening is not None
        opening, self._opening = self._opening, None
        seen = self._detector.encode([arrival.frame for arrival in opening])
        context = self._detector.context
        return [
            result
            for n, arrival in enumerate(opening)
            for result in self._take(arrival, ahead=seen[n + 1 : n + 1 + context][::-1])
        ]

    def _take(self, arrival: _Arrival, *, ahead: Sequence[Any] = ()) -> list[FrameSegmentation]:
        """A frame in its turn.

        Args:
            arrival: the frame.
            ahead: of the detector, features of those that follow, the nearest last.
        """
        results = []
        if arrival.force_key or self._since_key is None or self._since_key + 1 >= self._settings.detection_every:
            results = self._let_go()
            self._since_key = 0
        else:
            self._since_key += 1
        looks = self._since_key <= self._settings.latency
        arrival.proposals = self._look(arrival, segment=looks, ahead=ahead)
        if self._settings.schedule == "online":
            detections = None if arrival.proposals is None else self._detections(arrival)
            return [self._segment(arrival, detections)]
        if not looks:
            return [*results, self._segment(arrival, None)]
        self._held.append(arrival)
        if self._since_key == self._settings.latency:
            results += self._vote(lone_stands=self._settings.voting_frames == 1)
        return results

    def finish(self) -> Iterator[FrameSegmentation]:
        """What is still held back."""
        if self._opening:
            yield from self._open()
        yield from self._let_go()
        self._prompts.refuse_leftover(self._last_index)
        self._concepts.refuse_leftover(self._last_index)

    def tracks(self) -> list[Track]:
        """Every object that was ever visible."""
        return self._objects.tracks()

    def state_dict(self) -> StateDict:
        """Everything the next step depends on."""
        return {
            "propagation": self._propagator.state_dict(self._propagation),
            "objects": self._objects.state_dict(),
            "prompts": self._prompts.state_dict(),
            "concepts": self._concepts.state_dict(),
            "context": list(self._context),
            "opening": None if self._opening is None else [_to_plain(arrival) for arrival in self._opening],
            "held": [_to_plain(arrival) for arrival in self._held],
            "removals": list(self._removals),
            "since_key": self._since_key,
            "merges": self._merges,
            "refused": self._refused,
            "last_index": self._last_index,
            "last_emitted": self._last_emitted,
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Continue where `state_dict` was taken; prompts queued meanwhile are replaced by those of the state."""
        self._propagation = self._propagator.load_state_dict(state["propagation"])
        self._objects.load_state_dict(state["objects"])
        self._prompts.load_state_dict(state["prompts"])
        self._concepts.load_state_dict(state["concepts"])
        self._context.clear()
        self._context.extend(state["context"])
        opening, held = (
            [_from_plain(plain, self._propagator) for plain in state[k] or ()] for k in ("opening", "held")
        )
        self._opening, self._held = None if state["opening"] is None else opening, held
        self._removals = list(state["removals"])
        self._since_key = state["since_key"]
        self._merges = state["merges"]
        self._refused = state["refused"]
        self._last_index = state["last_index"]
        self._last_emitted = state["last_emitted"]

    # ------------------------------------------------------------- one frame

    def _segment(self, arrival: _Arrival, detections: Detections | None) -> FrameSegmentation:
        """One frame from arrival to result."""
        self._drop([i for i in arrival.removals if i in self._objects], "removed", "a person took it away")
        features = arrival.features
        self._propagation, probabilities = self._propagator.read(self._propagation, features)
        if detections is not None:
            probabilities = self._incorporate(features, probabilities, detections)
        prompts = [p for p in self._prompts.pop(arrival.frame.index) if not self._objects.was_removed(p.object_id)]
        exact: dict[int, Tensor] = {}
        if prompts:
            exact = self._prompts.masks(arrival.frame, prompts, lambda i: self._current_mask(i, probabilities))
            probabilities = self._paste(features, probabilities, exact, prompts)
        if self._settings.temporal == "short-track":
            ids = self._propagator.object_ids(self._propagation)
            self._propagation = self._propagator.write(self._propagator.start(), features, probabilities[1:], ids)
        self._last_emitted = arrival.frame.index
        return self._result(arrival.frame.index, probabilities, exact)

    def _leaving(self) -> set[int]:
        """Objects that are to be removed on frames that came or are to come."""
        return {
            i for removals in (self._removals, *(arrival.removals for arrival in self._waiting())) for i in removals
        }

    def _drop(self, track_ids: Sequence[int], kind: EventKind, reason: str) -> None:
        if track_ids:
            self._objects.remove(track_ids)
            self._propagation = self._propagator.remove(self._propagation, track_ids)
            self._events += [Event(kind, track_id, reason) for track_id in track_ids]

    def _current_mask(self, object_id: int, probabilities: Tensor) -> Tensor | None:
        ids = self._propagator.object_ids(self._propagation)
        if object_id not in ids:
            return None
        return most_probable(resize_masks(probabilities, self._size_hw)) == ids.index(object_id) + 1

    def _paste(
        self, features: Any, probabilities: Tensor, exact: dict[int, Tensor], prompts: Sequence[ObjectPrompt]
    ) -> Tensor:
        """Memorise the prompted masks and put them into the probabilities (specification §5.1, step 4)."""
        known = set(self._objects.ids)
        for prompt in prompts:
            if prompt.object_id not in self._objects:
                self._objects.add(prompt.object_id, is_thing=prompt.is_thing, prompt_id=prompt_id(prompt))
            self._objects[prompt.object_id].vote(prompt.category, None)
        for object_id in exact:
            kind: EventKind = "corrected" if object_id in known else "born"
            self._events.append(Event(kind, object_id, "a person gave its mask"))
        size_hw = (probabilities.shape[1], probabilities.shape[2])
        masks_nhw = resize_masks(torch.stack(list(exact.values())), size_hw).to(probabilities.device)
        before = self._propagator.object_ids(self._propagation)
        self._propagation = self._propagator.write(self._propagation, features, masks_nhw, list(exact))
        free = 1 - masks_nhw.sum(0).clamp_max(1)
        given = dict(zip(exact, masks_nhw, strict=True))
        followed = dict(zip(before, probabilities[1:] * free, strict=True)) | given
        foreground = [followed[object_id] for object_id in self._propagator.object_ids(self._propagation)]
        return torch.stack([1 - torch.stack(foreground).sum(0).clamp_max(1), *foreground])

    # ------------------------------------------------------------- detection

    def _look(self, arrival: _Arrival, *, segment: bool, ahead: Sequence[Any]) -> Proposals | None:
        """What the detector proposes on a frame; its context is kept on every frame."""
        assert self._detector is not None
        if not segment and self._detector.context == 0:
            return None
        (seen,) = self._detector.encode([arrival.frame])
        proposals = None
        if segment:
            covered = None
            if self._settings.incremental:
                _, probabilities = self._propagator.read(self._propagation, arrival.features, advance=False)
                covered = most_probable(probabilities) > 0
            context = ahead if len(ahead) > len(self._context) else list(self._context)
            proposals = self._found(arrival.frame, seen, context, covered)
        self._context.append(seen)
        return proposals

    def _found(self, frame: Frame, seen: Any, context: Sequence[Any], covered: Tensor | None) -> Proposals:
        """What the detector finds of what it is asked for; nothing, unasked, where that is nothing."""
        assert self._detector is not None
        categories = self._concepts.on(frame.index)
        if categories is not None and not len(categories):
            return Proposals.none(frame.size_hw)
        proposals = self._detector.segment(seen, context=context, categories=categories, exclude=covered)
        return proposals.keep([s is None or s >= self._settings.min_score for s in proposals.scores])

    def _detections(self, arrival: _Arrival, key: _Arrival | None = None) -> Detections:
        """What was found on a frame, at the propagator's resolution; seen from the key frame when that is another."""
        assert arrival.proposals is not None
        found = Detections.of_frame(arrival.proposals, self._propagator.size_hw(arrival.features))
        if key is None or key is arrival or not len(found):
            return found
        masks_nhw = LabelMap(found.label_map).masks_nhw(len(found))
        aligned = align(
            self._settings.alignment,
            self._propagator,
            (arrival.frame, arrival.features),
            masks_nhw,
            (key.frame, key.features),
        )
        return Detections(most_probable(aligned), found.groups, found.votes)

    def _vote(self, *, lone_stands: bool) -> list[FrameSegmentation]:
        """Merge what the frames held back agree on into the first of them, and let all of them go."""
        clip, self._held = self._held, []
        alpha = LONE_STANDS if lone_stands else self._settings.alpha
        detections, exact = agreed([self._detections(arrival, clip[0]) for arrival in clip], alpha=alpha)
        if not exact:
            warnings.warn(
                f"frame {clip[0].frame.index}: the vote on {sum(len(a.proposals or ()) for a in clip)} proposals took "
                "too long and was decided greedily in part",
                MaskstreamWarning,
                stacklevel=2,
            )
        first = self._segment(clip[0], detections)
        return [first, *(self._segment(arrival, None) for arrival in clip[1:])]

    def _let_go(self) -> list[FrameSegmentation]:
        """Frames held back of which too few came for a vote: propagated, or taken at their word in a video that has
        never seen a vote, as it may be shorter than one (specification §9)."""
        if self._held and self._merges == 0:
            return self._vote(lone_stands=True)
        held, self._held = self._held, []
        return [self._segment(arrival, None) for arrival in held]

    def _incorporate(self, features: Any, probabilities: Tensor, detections: Detections) -> Tensor:
        """Merge detections into what was propagated, and memorise the result (specification §5.2, §8)."""
        settings = self._settings
        objects_hw = most_probable(probabilities)
        ids = list(self._objects.ids)
        detections, unsure = detections.divided(settings.sure_score)
        still_there = self._still_there(objects_hw, ids, unsure)
        merged = self._merge(objects_hw, ids, detections)
        if settings.temporal == "trust-image":
            matched = {o for o in merged.object_of_proposal if o is not None}
            unconfirmed = [i for n, i in enumerate(ids) if n not in matched and not self._objects.is_reserved(i)]
            kept = [n for n, i in enumerate(ids, start=1) if i not in unconfirmed]
            lookup = torch.zeros(len(ids) + 1, dtype=torch.int32, device=objects_hw.device)
            lookup[kept] = torch.arange(1, len(kept) + 1, dtype=torch.int32, device=objects_hw.device)
            objects_hw, ids = lookup[objects_hw], [ids[n - 1] for n in kept]
            self._drop(unconfirmed, "deleted", "no detection confirms it, and detections are trusted")
            merged = self._merge(objects_hw, ids, detections)
        self._merges += 1

        area = torch.bincount(merged.label_map.flatten(), minlength=len(ids) + len(merged.new) + 1).tolist()
        label_of_id = {track_id: label for label, track_id in enumerate(ids, start=1)}
        confirmed = set()
        for proposal, position in enumerate(merged.object_of_proposal):
            if position is not None:
                self._note_match(ids[position], merged.iou_of_proposal[proposal], detections.votes[proposal])
                confirmed.add(ids[position])
        self._count_misses(ids, confirmed | still_there, area)
        for k, proposal in enumerate(merged.new):
            label = len(ids) + k + 1
            if area[label] > 0:
                record = self._objects.add(is_thing=detections.groups[proposal])
                self._vote_for(record, detections.votes[proposal])
                label_of_id[record.track_id] = label
                confirmed.add(record.track_id)
                seen = _plural(len(detections.votes[proposal]), "frame")
                self._events.append(Event("born", record.track_id, f"detected on {seen}, matches no object"))
        self._refuse(len(merged.refused))
        return self._memorise_merge(features, merged.label_map, label_of_id, confirmed)

    def _merge(self, objects_hw: Tensor, ids: Sequence[int], detections: Detections) -> Merge:
        room = None if self._settings.max_objects is None else max(self._settings.max_objects - len(ids), 0)
        return merge(
            objects_hw,
            [self._objects[track_id].is_thing for track_id in ids],
            detections.label_map.to(objects_hw.device),
            detections.groups,
            priorities=detections.scores,
            room=room,
            part_threshold=self._settings.part_threshold,
            fused=self._settings.fused,
        )

    def _still_there(self, objects_hw: Tensor, ids: Sequence[int], unsure: Detections) -> set[int]:
        """Objects that detections suggest which are not sure."""
        if not len(unsure):
            return set()
        found = self._merge(objects_hw, ids, unsure).object_of_proposal
        return {ids[position] for position in found if position is not None}

    def _vote_for(self, record: ObjectRecord, votes: Sequence[Vote]) -> None:
        """Count votes. What nobody pointed at belongs to the prompt that asks for its category."""
        record.vote_all(votes)
        if not self._objects.is_reserved(record.track_id):
            record.prompt_id = self._concepts.prompt_id(record.category)

    def _note_match(self, track_id: int, iou: float, votes: Sequence[Vote]) -> None:
        self._vote_for(self._objects[track_id], votes)
        event = (
            Event("matched", track_id, f"detected on {_plural(len(votes), 'frame')}, IoU {iou:.2f}")
            if iou > 0.5
            else Event("joined", track_id, f"a detection on {_plural(len(votes), 'frame')} lies within it")
        )
        self._events.append(event)

    def _count_misses(self, ids: Sequence[int], confirmed: set[int], area: Sequence[int]) -> None:
        """Specification §8.3. What was ever prompted is the user's, and is never dropped for being missed."""
        for position, track_id in enumerate(ids):
            record = self._objects[track_id]
            if track_id in confirmed or (self._settings.incremental and area[position + 1] > 0):
                record.missed = 0
                continue
            record.missed += 1
            if record.missed > self._settings.max_missed and not self._objects.is_reserved(track_id):
                self._drop([track_id], "deleted", f"{_plural(record.missed, 'detection')} in a row did not find it")
            else:
                self._events.append(
                    Event("missed", track_id, f"{_plural(record.missed, 'detection')} in a row did not find it")
                )

    def _refuse(self, count: int) -> None:
        """Tell that there was no room for detections; as a warning, once."""
        self._events += [Event("refused", None, f"{self._settings.max_objects} objects are followed already")] * count
        if count and not self._refused:
            self._refused = True
            warnings.warn(
                f"{self._settings.max_objects} objects are followed; what else is found is ignored until one is gone",
                MaskstreamWarning,
                stacklevel=2,
            )

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

    # ---------------------------------------------------------------- output

    def _result(self, frame_index: int, probabilities: Tensor, exact: dict[int, Tensor]) -> FrameSegmentation:
        ids = self._propagator.object_ids(self._propagation)
        label_map = most_probable(resize_masks(probabilities, self._size_hw))
        for object_id, mask in exact.items():
            channel = ids.index(object_id) + 1
            label_map[label_map == channel] = 0
            label_map[mask.to(label_map.device)] = channel
        visible = torch.bincount(label_map.flatten(), minlength=len(ids) + 1)[1:].tolist()
        for object_id, area in zip(ids, visible, strict=True):
            if area:
                self._objects[object_id].seen(frame_index)
        segments, label_of_channel, renamed = self._objects.segments(ids)
        if label_of_channel != list(range(len(ids) + 1)):  # several regions of one kind of stuff are one segment
            lookup = torch.tensor(label_of_channel, device=label_map.device)
            label_map = lookup.int()[label_map]
            probabilities = probabilities.new_zeros((len(segments) + 1, *probabilities.shape[1:])).index_add_(
                0, lookup, probabilities
            )
        self._events += renamed
        events, self._events = tuple(self._events), []
        return FrameSegmentation(
            frame_index,
            self._size_hw,
            segments,
            LabelMap(label_map),
            probabilities.half() if self._soft else None,
            events=events,
        )


def most_probable(probabilities: Tensor) -> Tensor:
    """``int32[H, W]``, the most probable channel. ``max`` finds it five times faster than ``argmax`` on a CPU."""
    return probabilities.max(0).indices.int()


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _to_plain(arrival: _Arrival) -> StateDict:
    """Features are left out: they are made again."""
    proposals = arrival.proposals
    return {
        "index": arrival.frame.index,
        "timestamp": arrival.frame.timestamp,
        "image": torch.from_numpy(arrival.frame.image),
        "removals": list(arrival.removals),
        "force_key": arrival.force_key,
        "proposals": None
        if proposals is None
        else {each.name: getattr(proposals, each.name) for each in fields(Proposals)},
    }


def _from_plain(plain: StateDict, propagator: Propagator[Any, Any]) -> _Arrival:
    frame = Frame(plain["index"], plain["timestamp"], plain["image"].numpy())
    proposals = None if plain["proposals"] is None else Proposals(**plain["proposals"])
    return _Arrival(frame, propagator.encode(frame), proposals, list(plain["removals"]), plain["force_key"])
