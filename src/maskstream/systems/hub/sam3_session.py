"""SAM 3 on one video: all that some words name, found on every frame and followed.

frame ─► image encoder ─┬─► detector, once for each concept ─┬─► who is who? ─┬─► held back while objects are on trial
                        └─► `SamObjects`: what is followed ──┘                │        └─► result
                                  ▲                                           │
                                  └── what is remembered, new objects too ◄───┘

New objects are on trial for some frames: one that is not detected again, or that is another one once more, is never
shown. Results are held back for as long, unless they are wanted at once: then nobody is on trial.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from maskstream.concepts import Concepts
from maskstream.identity import ObjectTable
from maskstream.mask2former.postprocess import AT_ONCE, resized
from maskstream.pretrained import Pixels
from maskstream.types import (
    CategorySet,
    Event,
    Frame,
    FrameSegmentation,
    InputError,
    Prompt,
    StateDict,
    TextPrompt,
    Track,
    check_arrival,
    pack_masks,
)

from .sam2_network import Seen
from .sam2_objects import Hypothesis, SamObjects, SamVideoSettings
from .sam3_network import Detections, Sam3Parts, Words
from .sam3_rules import (
    HIDDEN,
    MatchRules,
    Standing,
    TrialRules,
    Verdict,
    as_remembered,
    as_shown,
    hidden_by_others,
    judged,
    matched,
    without_specks,
)

_THERE = 10.0
"""Logit of an object that is there, as published."""

_NEW = 0.5
"""Logit from which a pixel that is detected belongs to a new object, as published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sam3Settings:
    """How concepts are followed.

    Attributes:
        at_once: let every frame leave at once; nobody is on trial then.
        max_objects: most objects that are followed at a time. Where there is no room for a new one, that which is out
            of sight longest gives way; if none is, those that the network is less sure of are not taken in.
        following: what is remembered of each, and how many go through the network at a time.
    """

    at_once: bool = False
    max_objects: int = 100
    following: SamVideoSettings = field(default_factory=SamVideoSettings)

    def __post_init__(self) -> None:
        if self.max_objects < 1:
            raise InputError(f"at least one object has to be followed at a time, not {self.max_objects}")


@dataclass(slots=True, eq=False)
class _Held:
    """A frame that has not left.

    Attributes:
        frame_index: of the source.
        ids: what is on it.
        logits_nhw: ``float32[N, h, w]``, masks.
        scores: who is in front.
        hidden: of the ids, those that are not shown.
        gone: objects that are not followed any more from this frame on.
        events: what happened.
    """

    frame_index: int
    ids: list[int] = field(default_factory=list)
    logits_nhw: Tensor = field(default_factory=lambda: torch.zeros(0, 1, 1))
    scores: list[float] = field(default_factory=list)
    hidden: list[int] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


class Sam3Session:
    """One video. Satisfies the `Session` contract.

    Args:
        parts: of the network.
        pixels: how it wants to see pictures.
        size_hw: of the video.
        settings: how concepts are followed.
        categories: what is looked for from the beginning; text prompts may tell more.

    Raises:
        InputError: the name of a category is too long.
    """

    def __init__(
        self,
        parts: Sam3Parts,
        pixels: Pixels,
        *,
        size_hw: tuple[int, int],
        settings: Sam3Settings,
        categories: CategorySet | None = None,
    ) -> None:
        rules = parts.whole.config
        self._parts = parts
        self._pixels = pixels
        self._size_hw = size_hw
        self._settings = settings
        self._rules = rules
        self._matching = MatchRules(
            same=rules.assoc_iou_thresh,
            confirms=rules.trk_assoc_iou_thresh,
            believed=rules.new_det_thresh,
            sure=rules.high_conf_thresh,
            close=rules.high_iou_thresh,
        )
        self._trial = TrialRules(
            frames=rules.hotstart_delay,
            unconfirmed=rules.hotstart_unmatch_thresh,
            doubles=rules.hotstart_dup_thresh,
            most_alive=rules.max_trk_keep_alive,
            least_alive=rules.min_trk_keep_alive,
            empty_dies=rules.decrease_trk_keep_alive_for_empty_masklets,
            hides=not rules.suppress_unmatched_only_within_hotstart,
        )
        self.latency = 0 if settings.at_once else max(self._trial.frames - 1, 0)
        self._concepts = Concepts(categories, reads=True)
        self._words: dict[str, Words] = {}
        self._objects = ObjectTable()  # those that results may still show
        self._followed = SamObjects(parts, size_hw=size_hw, settings=settings.following)
        self._most = min(settings.max_objects, rules.max_num_objects)
        if self._followed.most is not None:
            self._most = min(self._most, self._followed.most)
        self._standings: dict[int, Standing] = {}
        self._removals: list[int] = []
        self._held: list[_Held] = []
        self._last_index = -1
        for name in () if categories is None else categories.names:
            self._read(name)

    @property
    def categories(self) -> CategorySet | None:
        """What `Segment.category` means, concepts that were prompted included."""
        return self._concepts.categories

    def prompt(self, prompts: Sequence[Prompt]) -> None:
        """Look for more concepts from a frame on; see `Session.prompt`. What is found carries their ``prompt_id``.

        Raises:
            StalePromptError: its frame has come already.
            InputError: something is pointed at, a sentence is meant, or a concept is too long, or looked for already.
        """
        texts = [prompt for prompt in prompts if isinstance(prompt, TextPrompt)]
        if len(texts) < len(prompts):
            raise InputError(
                "the model sam3 finds what words name: to point at objects, load these weights as the model sam2"
            )
        self._concepts.check(texts, emitted=self._last_index)
        for prompt in texts:
            self._read(prompt.text.strip())
        self._concepts.add(texts)

    def remove(self, object_ids: Sequence[int]) -> None:
        """Stop following objects from the next frame on; see `Session.remove`."""
        followed = [object_id for object_id in self._standings if object_id not in self._removals]
        for object_id in object_ids:
            if object_id not in followed:
                known = ", ".join(map(str, followed)) or "none"
                raise InputError(f"object {object_id} cannot be removed: it is not followed (followed: {known})")
        self._removals += dict.fromkeys(object_ids)

    @torch.no_grad()
    def step(self, frame: Frame, *, force_key: bool = False) -> list[FrameSegmentation]:
        """Segment the next frame; a result of some frames ago leaves. Every frame is a key frame.

        Raises:
            InputError: the frame is of another size, or comes out of order; or nobody said what to look for.
        """
        check_arrival(frame, self._size_hw, self._last_index)
        wanted = self._concepts.on(frame.index)
        self._last_index = frame.index
        self._followed.position += 1
        held = _Held(frame.index)
        for object_id in self._removals:
            self._let_go(held, object_id, Event("removed", object_id, "a person took it away"))
        self._removals = []
        if wanted is not None and len(wanted):
            self._look(frame, wanted, held)
        self._held.append(held)
        return [self._leave(self._held.pop(0))] if len(self._held) > self.latency else []

    def finish(self) -> Iterator[FrameSegmentation]:
        """What is still held back."""
        while self._held:
            yield self._leave(self._held.pop(0))
        self._concepts.refuse_leftover(self._last_index)

    def tracks(self) -> list[Track]:
        """Every object that was ever visible."""
        return self._objects.tracks()

    def state_dict(self) -> StateDict:
        """Everything the next step depends on; what the network reads is read again."""
        return {
            "concepts": self._concepts.state_dict(),
            "objects": self._objects.state_dict(),
            "followed": self._followed.state_dict(),
            "standings": {object_id: asdict(standing) for object_id, standing in self._standings.items()},
            "removals": list(self._removals),
            "held": [asdict(held) for held in self._held],
            "last_index": self._last_index,
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Continue where `state_dict` was taken; prompts that came meanwhile are replaced by those of the state."""
        self._concepts.load_state_dict(state["concepts"])
        self._objects.load_state_dict(state["objects"])
        self._followed.load_state_dict(state["followed"])
        self._standings = {
            object_id: Standing(**plain | {"doubles": dict(plain["doubles"])})
            for object_id, plain in state["standings"].items()
        }
        self._removals = list(state["removals"])
        self._held = [
            _Held(
                **plain
                | {
                    "logits_nhw": plain["logits_nhw"].to(self._parts.device),
                    "events": [Event(**event) for event in plain["events"]],
                }
            )
            for plain in state["held"]
        ]
        self._last_index = state["last_index"]

    # ------------------------------------------------------------- one frame

    def _look(self, frame: Frame, wanted: CategorySet, held: _Held) -> None:
        """Find what is there, tell who it is, and remember it."""
        picture = self._parts.look(self._pixels([frame]))
        seen = self._parts.seen(picture)
        found, concepts_d = self._detect(picture, wanted)
        ids, concepts_n = list(self._standings), [standing.concept for standing in self._standings.values()]
        hypotheses = self._followed.followed(seen, ids)
        logits_nhw = without_specks(self._best_masks(hypotheses), self._rules.fill_hole_area)
        matches = matched(found.logits_dhw > 0, found.scores_d, concepts_d, logits_nhw > 0, concepts_n, self._matching)
        empty = (~(logits_nhw > 0).flatten(1).any(1)).nonzero().flatten().tolist()
        verdict = Verdict({}, [])
        if not self._settings.at_once:
            verdict = judged(self._standings, matches, empty, self._followed.position, self._trial)
        logits_nhw[self._behind(logits_nhw, empty)] = HIDDEN
        presences = [hypotheses[object_id][0].presence for object_id in ids]
        sure = {n: d for n, d in matches.sure.items() if self._says_anew(presences[n])}
        self._remember(seen, hypotheses, as_remembered(logits_nhw, concepts_n), prompted=[ids[n] for n in sure])
        for n, d in sure.items():
            logits_nhw[n] = found.logits_dhw[d]
        held.ids, held.logits_nhw, held.scores = ids, logits_nhw, torch.tensor(presences).sigmoid().tolist()
        held.hidden = verdict.hidden
        for object_id, reason in verdict.fallen.items():
            self._objects.remove([object_id])
            self._forget(object_id)
            held.events.append(Event("deleted", object_id, reason))
        self._begin(seen, found, self._with_room(matches.new, found.scores_d, held), concepts_d, held)

    def _detect(self, picture: object, wanted: CategorySet) -> tuple[Detections, list[int]]:
        """All that any of the concepts names, and which concept it was."""
        ids = [category.id for category in wanted.categories]
        found = [self._parts.detect(picture, self._read(category.name)) for category in wanted.categories]
        logits_dhw, scores_d = (
            torch.cat(parts) for parts in ([f.logits_dhw for f in found], [f.scores_d for f in found])
        )
        return Detections(logits_dhw, scores_d), [n for n, f in zip(ids, found, strict=True) for _ in f.scores_d]

    def _best_masks(self, hypotheses: Mapping[int, Sequence[Hypothesis]]) -> Tensor:
        """What every object most probably is."""
        if not hypotheses:
            return torch.zeros(0, *self._parts.mask_hw, device=self._parts.device)
        return torch.stack([own[0].logits_hw for own in hypotheses.values()])

    def _behind(self, logits_nhw: Tensor, empty: Sequence[int]) -> list[int]:
        """Positions of objects that give way to others; it is noted who is out of sight, for whatever reason."""
        standings, position = list(self._standings.values()), self._followed.position
        least = self._rules.suppress_overlapping_based_on_recent_occlusion_threshold
        behind = hidden_by_others(logits_nhw > 0, standings, least)
        for n, standing in enumerate(standings):
            standing.hidden = position if n in behind or n in empty else standing.hidden
            standing.there = standing.there if n in empty else position
        return behind

    def _says_anew(self, presence: float) -> bool:
        """Whether what is detected may say on this frame what an object looks like, if the tracker is sure of it."""
        every, least = int(self._rules.recondition_every_nth_frame), float(self._rules.high_conf_thresh)
        # Probabilities and logits are compared, as published.
        return every > 0 and self._followed.position % every == 0 and presence > least

    def _remember(
        self,
        seen: Seen,
        hypotheses: Mapping[int, Sequence[Hypothesis]],
        logits_nhw: Tensor,
        *,
        prompted: Sequence[int],
    ) -> None:
        """Keep what is followed as it is beside others; what else an object may be, as the network said it."""
        there_n = (logits_nhw > 0).flatten(1).any(1).tolist()
        rows = zip(hypotheses.items(), logits_nhw, there_n, strict=True)
        adjusted = {
            object_id: [replace(own[0], logits_hw=logits_hw, presence=_THERE if there else -_THERE), *own[1:]]
            for (object_id, own), logits_hw, there in rows
        }
        self._followed.remember(seen, adjusted, prompted=prompted)

    # --------------------------------------------------------------- objects

    def _with_room(self, new: Sequence[int], scores_d: Tensor, held: _Held) -> list[int]:
        """Detections that are taken in; others make room for them, if they can."""
        position = self._followed.position
        lost = sorted((one.there, n) for n, one in self._standings.items() if one.there < position)
        too_many = max(len(self._standings) + len(new) - self._most, 0)
        for there, object_id in lost[:too_many]:
            reason = f"out of sight for {position - there} frames, it made room for a new one"
            self._let_go(held, object_id, Event("deleted", object_id, reason))
        room = self._most - len(self._standings)
        if len(new) <= room:
            return list(new)
        held.events.append(Event("refused", None, f"{len(new) - room} more were found, and there was no room"))
        return sorted(new, key=lambda d: -float(scores_d[d]))[:room]

    def _begin(self, seen: Seen, found: Detections, new: Sequence[int], concepts_d: Sequence[int], held: _Held) -> None:
        """Follow what was not followed so far."""
        if not new:
            return
        logits_nhw, scores = found.logits_dhw[list(new)], found.scores_d[list(new)].tolist()
        position, names = self._followed.position, self._concepts.categories
        assert names is not None  # of what was looked for
        ids = []
        for concept, score in zip([concepts_d[d] for d in new], scores, strict=True):
            kind = names[concept]
            record = self._objects.add(is_thing=kind.is_thing, prompt_id=self._concepts.prompt_id(concept))
            record.vote(concept, score)
            ids.append(record.track_id)
            self._standings[record.track_id] = Standing(
                concept, position, self._rules.init_trk_keep_alive, there=position
            )
            held.events.append(Event("born", record.track_id, f"{kind.name!r} was found there"))
        side = self._parts.side
        squares_nhw = F.interpolate(
            (logits_nhw >= _NEW).float()[:, None], (side, side), mode="bilinear", align_corners=False, antialias=True
        )[:, 0]
        taken = self._followed.taken(seen, dict(zip(ids, squares_nhw, strict=True)))
        self._followed.remember(seen, taken, prompted=ids, hard=ids)
        held.ids += ids
        held.logits_nhw = torch.cat([held.logits_nhw, without_specks(logits_nhw, self._rules.fill_hole_area)])
        held.scores += scores

    def _let_go(self, held: _Held, object_id: int, event: Event) -> None:
        """Follow an object no more; results of earlier frames still show it."""
        self._forget(object_id)
        held.gone.append(object_id)
        held.events.append(event)

    def _forget(self, object_id: int) -> None:
        del self._standings[object_id]
        self._followed.forget([object_id])

    def _read(self, text: str) -> Words:
        """A concept as the network reads it, which it does once."""
        if text not in self._words:
            self._words[text] = self._parts.read(text)
        return self._words[text]

    # ---------------------------------------------------------------- output

    def _leave(self, held: _Held) -> FrameSegmentation:
        """The result of a frame: objects that failed their trial meanwhile are not on it."""
        self._objects.remove(held.gone)
        rows = [n for n, i in enumerate(held.ids) if i in self._objects and i not in held.hidden]
        masks_nhw = torch.zeros(0, *self._size_hw, dtype=torch.bool, device=self._parts.device)
        for first in range(0, len(rows), AT_ONCE):
            large_nhw = resized(held.logits_nhw[rows[first : first + AT_ONCE]], self._size_hw)
            masks_nhw = torch.cat([masks_nhw, large_nhw > 0])
        visible = masks_nhw.flatten(1).any(1).tolist()
        masks_nhw, rows = masks_nhw[visible], [n for n, is_seen in zip(rows, visible, strict=True) if is_seen]
        ids = [held.ids[n] for n in rows]
        concepts = [self._concept_of(object_id) for object_id in ids]
        masks_nhw = as_shown(masks_nhw, torch.tensor([held.scores[n] for n in rows]), concepts)
        for object_id in ids:
            self._objects[object_id].seen(held.frame_index)
        segments, _, renamed = self._objects.segments(ids)
        events = (*held.events, *renamed)
        return FrameSegmentation(held.frame_index, self._size_hw, segments, pack_masks(masks_nhw), events=events)

    def _concept_of(self, object_id: int) -> int:
        concept = self._objects[object_id].category
        assert concept is not None  # all were found by one
        return concept
