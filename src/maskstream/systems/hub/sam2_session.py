"""SAM 2 on one video: objects that people point at, followed frame by frame.

frame ─► image encoder ─┬─► objects that are followed: memory attention ─► decoder ─┬─► hypotheses ─► memory encoder
                        │                            clicks with `add` refine these ┤       │              │
 prompts of the frame ──┴─► objects that begin: clicks, boxes, strokes ─► decoder ──┤       ▼              ▼
                                                masks as they are given ────────────┘    result    policy: what is kept

Objects go through the network together, in slices that fit a budget. Nothing of one reaches another but on the picture
that is written, where each pixel belongs to the object that is surest of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from maskstream.identity import ObjectTable
from maskstream.mask2former.postprocess import FrameSizes, owners
from maskstream.pretrained import Pixels
from maskstream.prompt_queue import WaitingPrompts, paint_given
from maskstream.propagation.network.network import aggregate
from maskstream.segmenters.prompted import given_mask, grouped
from maskstream.segmenters.sam import clicks_of_stroke
from maskstream.types import (
    BoxPrompt,
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
    resize_masks,
)

from .memory import Kind, Memory, MemoryPolicy, Pathway, Reading, RecentFrames, agreements, fit
from .sam2_network import Answers, Clicks, Sam2Parts, Seen

_SOFTEST = 32.0
"""Largest logit of a mask that clicks refine, as published."""

_WORKING_BYTES = 2 * 2**30
_WORKING_BYTES_OF_CPU = 20 * 2**20

_FIRST_CORNER, _SECOND_CORNER = 2, 3
"""Labels of clicks that are the corners of a box."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamVideoSettings:
    """What is remembered, and how much goes through the network at a time.

    Attributes:
        policy: what is remembered of each object.
        memory_bytes: most bytes that memories of all objects take together; None: as many as the policy keeps.
        working_bytes: about as many bytes as objects that go through the network together may take; None: 20 MiB on a
            CPU, which is slower once its caches are full, and 2 GiB elsewhere.
    """

    policy: MemoryPolicy = field(default_factory=RecentFrames)
    memory_bytes: int | None = None
    working_bytes: int | None = None

    def __post_init__(self) -> None:
        if any(budget is not None and budget < 1 for budget in (self.working_bytes, self.memory_bytes)):
            raise InputError("budgets of memories and of work are at least one byte")


@dataclass(frozen=True, slots=True, eq=False)
class _Hypothesis:
    """What an object may be on a frame.

    Attributes:
        before: what was remembered of it.
        score: see `Pathway`.
        logits_hw: ``float32[h, w]``, its mask.
        pointer_d: ``float[D]``.
        quality: see `Memory`.
        presence: see `Memory`.
        agreement: see `Memory`.
        given_hw: ``float32[S, S]`` of zeros and ones, if its mask was given.
    """

    before: Pathway
    score: float
    logits_hw: Tensor
    pointer_d: Tensor
    quality: float
    presence: float
    agreement: float
    given_hw: Tensor | None = None


@dataclass(frozen=True, slots=True)
class _Pointed:
    """What the prompts of an object on a frame say together.

    Attributes:
        mask: ``bool[H, W]``, if one was given, without what is void in it.
        clicks_xy: in pixels of the source, corners of the box first.
        labels: of these, see `Clicks`.
        refines: whether clicks go on from what the object is.
    """

    mask: Tensor | None
    clicks_xy: list[tuple[float, float]]
    labels: list[int]
    refines: bool

    @classmethod
    def of(cls, prompts: Sequence[ObjectPrompt]) -> _Pointed:
        """Of several boxes or masks the last one counts."""
        corners: list[tuple[float, float]] = []
        clicks: list[tuple[float, float]] = []
        signs: list[bool] = []
        for prompt in prompts:
            if isinstance(prompt, BoxPrompt):
                x0, y0, x1, y1 = prompt.box_xyxy
                corners = [(x0, y0), (x1, y1)]
            elif isinstance(prompt, PointPrompt):
                clicks += prompt.points_xy
                signs += prompt.positive
            elif isinstance(prompt, ScribblePrompt):
                dots = clicks_of_stroke(prompt.stroke_xy)
                clicks += dots
                signs += [prompt.positive] * len(dots)
        labels = [_FIRST_CORNER, _SECOND_CORNER][: len(corners)] + [int(sign) for sign in signs]
        refines = any(isinstance(prompt, PointPrompt | ScribblePrompt) and prompt.add for prompt in prompts)
        return cls(given_mask(prompts), corners + clicks, labels, refines)

    @property
    def corrects(self) -> bool:
        """Whether that is what it was taken for, and not a mask that comes with the clicks."""
        return self.refines and self.mask is None


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
        self._settings = settings
        self._policy = settings.policy
        self._soft = soft
        of_device = _WORKING_BYTES if parts.device.type != "cpu" else _WORKING_BYTES_OF_CPU
        self._working_bytes = of_device if settings.working_bytes is None else settings.working_bytes
        self._objects = ObjectTable()
        self._waiting = WaitingPrompts(size_hw)
        self._pathways: dict[int, list[Pathway]] = {}
        self._begins: dict[int, int] = {}  # first frame on which something says where an object is
        self._removals: list[int] = []
        self._events: list[Event] = []
        self._position = -1  # of the last frame, counted from the first
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
        self._check_room(len(begins))
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
        self._position += 1
        self._drop()
        prompts = [p for p in self._waiting.pop(frame.index) if not self._objects.was_removed(p.object_id)]
        pointed = {object_id: _Pointed.of(own) for object_id, own in grouped(prompts, self._size_hw).items()}
        if not self._pathways and not pointed:
            return [self._result(frame.index, {}, {})]
        seen = self._parts.see(self._pixels([frame]))
        hypotheses = self._hypotheses(seen, pointed)
        self._meet(prompts)
        self._remember(seen, hypotheses, pointed)
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
            "pathways": {
                object_id: [
                    {"score": one.score, "memories": [_to_plain(memory) for memory in one.memories]} for one in pathways
                ]
                for object_id, pathways in self._pathways.items()
            },
            "begins": dict(self._begins),
            "removals": list(self._removals),
            "position": self._position,
            "last_index": self._last_index,
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Continue where `state_dict` was taken; prompts queued meanwhile are replaced by those of the state."""
        self._objects.load_state_dict(state["objects"])
        self._waiting.load_state_dict(state["waiting"])
        self._pathways = {
            object_id: [
                Pathway(tuple(_from_plain(memory, self._parts.device) for memory in one["memories"]), one["score"])
                for one in pathways
            ]
            for object_id, pathways in state["pathways"].items()
        }
        self._begins = dict(state["begins"])
        self._removals = list(state["removals"])
        self._position = state["position"]
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

    def _check_room(self, count: int) -> None:
        """The budget must have room for the least that is remembered of every object."""
        budget, parts, policy = self._settings.memory_bytes, self._parts, self._policy
        needed = count * policy.pathways * (parts.memory_bytes + policy.most * parts.pointer_bytes)
        if budget is not None and needed > budget:
            raise InputError(
                f"{count} objects need at least {needed} bytes of memory, and there are {budget}: give more, or remove "
                "objects"
            )

    def _clicks(self, pointed: Sequence[_Pointed]) -> Clicks:
        """Coordinates are whole numbers for centres of pixels and are scaled as they are, as published."""
        height, width = self._size_hw
        scale_xy = torch.tensor([self._parts.side / width, self._parts.side / height])
        points_np2 = torch.tensor([one.clicks_xy for one in pointed], dtype=torch.float32) * scale_xy
        return Clicks(points_np2, torch.tensor([one.labels for one in pointed]))

    def _square(self, pointed: Sequence[_Pointed]) -> Tensor:
        """Masks that were given, in the square that the network sees: ``float32[N, 1, S, S]`` of zeros and ones."""
        masks_nhw = torch.stack([one.mask for one in pointed if one.mask is not None]).to(self._parts.device)
        side = self._parts.side
        return (resize_masks(masks_nhw, (side, side)) >= 0.5).float()[:, None]

    # ------------------------------------------------------------- one frame

    def _hypotheses(self, seen: Seen, pointed: Mapping[int, _Pointed]) -> dict[int, list[_Hypothesis]]:
        """What every object may be, the best first."""
        corrected = {n: one for n, one in pointed.items() if one.corrects and n in self._pathways}
        masks = {n: one for n, one in pointed.items() if one.mask is not None and not one.labels}
        begins = {n: one for n, one in pointed.items() if n not in masks and n not in corrected}
        found = self._followed(seen, [n for n in self._pathways if n not in pointed or n in corrected])
        found |= self._refined(seen, {n: (one, found[n][0]) for n, one in corrected.items()})
        found |= self._begun(seen, begins)
        return found | self._taken(seen, masks)

    def _followed(self, seen: Seen, object_ids: Sequence[int]) -> dict[int, list[_Hypothesis]]:
        """Objects that are remembered, all their pathways."""
        rows = [(n, p) for n in object_ids for p in range(len(self._pathways[n]))]
        readings = [self._read(self._pathways[n][p]) for n, p in rows]
        answers: list[_Answer] = [_NOBODY] * len(rows)
        for part in self._slices([reading.shape for reading in readings]):
            coarse_nchw = self._parts.with_memory(seen, [readings[i] for i in part])
            for i, answer in zip(part, _rows(self._parts.decode(seen, coarse_nchw)), strict=True):
                answers[i] = answer
        found: dict[int, list[_Hypothesis]] = {}
        for object_id in object_ids:
            own = [answer for (n, _), answer in zip(rows, answers, strict=True) if n == object_id]
            pathways = self._pathways[object_id]
            branches = self._policy.branches([one.score for one in pathways], [answer.quality_m for answer in own])
            found[object_id] = [own[b.pathway].choose(b.mask, pathways[b.pathway], b.score) for b in branches]
        return found

    def _refined(
        self, seen: Seen, corrected: Mapping[int, tuple[_Pointed, _Hypothesis]]
    ) -> dict[int, list[_Hypothesis]]:
        """Objects that clicks correct: decoded again, with what they were taken for as a prompt."""
        found: dict[int, list[_Hypothesis]] = {}
        ids = list(corrected)
        readings = [self._read(corrected[n][1].before) for n in ids]
        shapes = [(*reading.shape, len(corrected[n][0].labels)) for n, reading in zip(ids, readings, strict=True)]
        for part in self._slices(shapes):
            own = [corrected[ids[i]] for i in part]
            dense_n1hw = torch.stack([taken.logits_hw for _, taken in own])[:, None].clamp(-_SOFTEST, _SOFTEST)
            coarse_nchw = self._parts.with_memory(seen, [readings[i] for i in part])
            answers = self._parts.decode(seen, coarse_nchw, self._clicks([one for one, _ in own]), dense_n1hw)
            for i, answer in zip(part, _rows(answers), strict=True):
                found[ids[i]] = [answer.best(corrected[ids[i]][1].before)]
        return found

    def _begun(self, seen: Seen, pointed: Mapping[int, _Pointed]) -> dict[int, list[_Hypothesis]]:
        """Objects that are looked for anew; a mask beside clicks is what these refine."""
        found: dict[int, list[_Hypothesis]] = {}
        ids = list(pointed)
        for part in self._slices([(0, len(pointed[n].labels), pointed[n].mask is not None) for n in ids]):
            own = [pointed[ids[i]] for i in part]
            dense_n1hw = None
            if own[0].mask is not None:
                dense_n1hw = self._parts.small(self._parts.sure(self._square(own)))
            coarse_nchw = self._parts.without_memory(seen)
            answers = self._parts.decode(seen, coarse_nchw, self._clicks(own), dense_n1hw, begins=True)
            for i, answer in zip(part, _rows(answers), strict=True):
                found[ids[i]] = [answer.best(self._before(ids[i]))]
        return found

    def _taken(self, seen: Seen, pointed: Mapping[int, _Pointed]) -> dict[int, list[_Hypothesis]]:
        """Objects whose masks are given."""
        found: dict[int, list[_Hypothesis]] = {}
        ids = list(pointed)
        for part in self._slices([(0,)] * len(ids)):
            masks_n1hw = self._square([pointed[ids[i]] for i in part])
            answers = _rows(self._parts.take(seen, masks_n1hw))
            for i, answer, mask_1hw in zip(part, answers, masks_n1hw, strict=True):
                found[ids[i]] = [replace(answer.best(self._before(ids[i])), given_hw=mask_1hw[0])]
        return found

    def _before(self, object_id: int) -> Pathway:
        """What is remembered of an object that is pointed at: one history, the best."""
        pathways = self._pathways.get(object_id)
        return Pathway(pathways[0].memories if pathways else ())

    def _read(self, pathway: Pathway) -> Reading:
        return self._policy.read(pathway.memories, self._position)

    def _slices(self, shapes: Sequence[tuple[int, ...]]) -> Iterator[list[int]]:
        """Positions of objects of one shape, whose first number is that of memories, as many as fit the budget."""
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for i, shape in enumerate(shapes):
            by_shape.setdefault(shape, []).append(i)
        for shape, alike in by_shape.items():
            most = max(1, self._working_bytes // self._parts.working_bytes(shape[0]))
            for first in range(0, len(alike), most):
                yield alike[first : first + most]

    # ---------------------------------------------------------------- memory

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

    def _remember(self, seen: Seen, found: Mapping[int, list[_Hypothesis]], pointed: Mapping[int, _Pointed]) -> None:
        """What every hypothesis leaves behind (SAM 2, §4, "Memory bank")."""
        rows = [(object_id, one) for object_id, own in found.items() for one in own]
        pathways: dict[int, list[Pathway]] = {object_id: [] for object_id in found}
        for part in self._slices([(0,)] * len(rows)):
            own = [rows[i] for i in part]
            logits_n1hw = self._parts.large(torch.stack([one.logits_hw for _, one in own]))
            for n, (_, one) in enumerate(own):
                if one.given_hw is not None:
                    logits_n1hw[n, 0] = self._parts.sure(one.given_hw)
            presence_n = torch.tensor([one.presence for _, one in own], device=self._parts.device)
            hard_n = torch.tensor([object_id in pointed for object_id, _ in own], device=self._parts.device)
            features_ntc = self._parts.remember(seen, logits_n1hw, presence_n, hard_n)
            for (object_id, one), features_tc in zip(own, features_ntc, strict=True):
                memory = Memory(
                    self._position,
                    Kind.PROMPTED if object_id in pointed else Kind.RECENT,
                    one.pointer_d.clone(),  # copies: views would keep what belongs to all objects
                    features_tc.clone(),
                    one.quality,
                    one.presence,
                    one.agreement,
                )
                pathways[object_id].append(Pathway(self._policy.keep(one.before.memories, memory), one.score))
        budget = self._settings.memory_bytes
        self._pathways = pathways if budget is None else fit(pathways, budget)

    def _drop(self) -> None:
        """Take away what a person took away, if it was followed."""
        removals, self._removals = self._removals, []
        self._objects.remove(removals)
        for object_id in removals:
            self._pathways.pop(object_id, None)
            self._events.append(Event("removed", object_id, "a person took it away"))

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


@dataclass(frozen=True, slots=True, eq=False)
class _Answer:
    """The answers on one object, or on one pathway of it; see `Answers`."""

    logits_mhw: Tensor
    pointers_md: Tensor
    quality_m: list[float]
    agreement_m: list[float]
    presence: float

    def choose(self, mask: int, before: Pathway, score: float) -> _Hypothesis:
        """One of them, of an object of which ``before`` is remembered."""
        return _Hypothesis(
            before,
            score,
            self.logits_mhw[mask],
            self.pointers_md[mask],
            self.quality_m[mask],
            self.presence,
            self.agreement_m[mask],
        )

    def best(self, before: Pathway) -> _Hypothesis:
        """The one the network thinks best of; of equal ones the first. Scores are counted from here."""
        return self.choose(max(range(len(self.quality_m)), key=lambda m: self.quality_m[m]), before, 0.0)


_NOBODY = _Answer(torch.zeros(0), torch.zeros(0), [], [], 0.0)


def _rows(answers: Answers) -> list[_Answer]:
    """Answers by object; numbers come from the device together."""
    count, several = answers.quality_nm.shape
    numbers = torch.cat([answers.quality_nm, agreements(answers.logits_nmhw), answers.presence_n[:, None]], 1).tolist()
    return [
        _Answer(
            answers.logits_nmhw[n],
            answers.pointers_nmd[n],
            numbers[n][:several],
            numbers[n][several : 2 * several],
            numbers[n][-1],
        )
        for n in range(count)
    ]


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


def _to_plain(memory: Memory) -> StateDict:
    return {each.name: getattr(memory, each.name) for each in fields(Memory)} | {"kind": int(memory.kind)}


def _from_plain(plain: StateDict, device: torch.device) -> Memory:
    features = plain["features_tc"]
    return Memory(
        **plain
        | {
            "kind": Kind(plain["kind"]),
            "pointer_d": plain["pointer_d"].to(device),
            "features_tc": None if features is None else features.to(device),
        }
    )
