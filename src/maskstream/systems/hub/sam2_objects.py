"""The objects of one video that SAM 2 follows: what is remembered of them, and what each may be on a frame.

what is remembered ─► memory attention ─► decoder ────┬─► hypotheses ─► memory encoder ─► policy: what is kept
                      clicks with `add` refine these ─┤
clicks, boxes, strokes: objects that begin ─► decoder ┤
masks as they are given ──────────────────────────────┘

Objects go through the network together, in slices that fit a budget. Nothing of one reaches another.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from maskstream.segmenters.prompted import given_mask
from maskstream.segmenters.sam import clicks_of_stroke
from maskstream.types import (
    BoxPrompt,
    InputError,
    ObjectPrompt,
    PointPrompt,
    ScribblePrompt,
    StateDict,
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

    def check(self, parts: Sam2Parts) -> None:
        """See that the network can do what the policy asks for.

        Raises:
            InputError: the policy reads more memories than the network can tell apart.
        """
        if self.policy.slots > parts.slots:
            raise InputError(
                f"this network tells {parts.slots} recent memories apart, and the policy reads "
                f"{self.policy.slots}: give a policy that keeps fewer"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Hypothesis:
    """What an object may be on a frame.

    Attributes:
        before: what was remembered of it.
        score: see `Pathway`.
        logits_hw: ``float32[h, w]``, its mask.
        pointer_d: ``float[D]``.
        quality: see `Memory`.
        presence: see `Memory`.
        agreement: see `Memory`.
        given_hw: ``float32[S, S]`` from zero to one, if its mask was given.
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
class Pointed:
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
    def of(cls, prompts: Sequence[ObjectPrompt]) -> Pointed:
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


class SamObjects:
    """The objects of one video.

    Attributes:
        pathways: what is remembered of each, the best history first.
        position: of the frame at hand, counted from the first one of the session; the caller counts.

    Args:
        parts: of the network.
        size_hw: of the video.
        settings: what is remembered, and how much goes through the network at a time.
    """

    def __init__(self, parts: Sam2Parts, *, size_hw: tuple[int, int], settings: SamVideoSettings) -> None:
        self.pathways: dict[int, list[Pathway]] = {}
        self.position = -1
        self._parts = parts
        self._size_hw = size_hw
        self._policy = settings.policy
        self._memory_bytes = settings.memory_bytes
        of_device = _WORKING_BYTES if parts.device.type != "cpu" else _WORKING_BYTES_OF_CPU
        self._working_bytes = of_device if settings.working_bytes is None else settings.working_bytes

    @property
    def most(self) -> int | None:
        """Objects for the least of which the budget has room; None: any number."""
        if self._memory_bytes is None:
            return None
        return self._memory_bytes // self._least_bytes

    def check_room(self, count: int) -> None:
        """The budget must have room for the least that is remembered of every object.

        Raises:
            InputError: it has not.
        """
        if self.most is not None and count > self.most:
            raise InputError(
                f"{count} objects need at least {count * self._least_bytes} bytes of memory, and there are "
                f"{self._memory_bytes}: give more, or remove objects"
            )

    @property
    def _least_bytes(self) -> int:
        """Of one object."""
        parts, policy = self._parts, self._policy
        return policy.pathways * (parts.memory_bytes + policy.most * parts.pointer_bytes)

    # ------------------------------------------------------------- one frame

    def hypotheses(self, seen: Seen, pointed: Mapping[int, Pointed]) -> dict[int, list[Hypothesis]]:
        """What every object may be, the best first: those that are remembered, and those that somebody points at."""
        corrected = {n: one for n, one in pointed.items() if one.corrects and n in self.pathways}
        masks = {n: one for n, one in pointed.items() if one.mask is not None and not one.labels}
        begins = {n: one for n, one in pointed.items() if n not in masks and n not in corrected}
        found = self.followed(seen, [n for n in self.pathways if n not in pointed or n in corrected])
        found |= self._refined(seen, {n: (one, found[n][0]) for n, one in corrected.items()})
        found |= self._begun(seen, begins)
        squares = zip(masks, self._squares(list(masks.values())), strict=True) if masks else ()
        return found | self.taken(seen, dict(squares))

    def followed(self, seen: Seen, object_ids: Sequence[int]) -> dict[int, list[Hypothesis]]:
        """What objects may be that are remembered, on all their pathways, the best first."""
        rows = [(n, p) for n in object_ids for p in range(len(self.pathways[n]))]
        readings = [self._read(self.pathways[n][p]) for n, p in rows]
        answers: list[_Answer] = [_NOBODY] * len(rows)
        for part in self._slices([reading.shape for reading in readings]):
            coarse_nchw = self._parts.with_memory(seen, [readings[i] for i in part])
            for i, answer in zip(part, _rows(self._parts.decode(seen, coarse_nchw)), strict=True):
                answers[i] = answer
        found: dict[int, list[Hypothesis]] = {}
        for object_id in object_ids:
            own = [answer for (n, _), answer in zip(rows, answers, strict=True) if n == object_id]
            pathways = self.pathways[object_id]
            branches = self._policy.branches([one.score for one in pathways], [answer.quality_m for answer in own])
            found[object_id] = [own[b.pathway].choose(b.mask, pathways[b.pathway], b.score) for b in branches]
        return found

    def taken(self, seen: Seen, squares: Mapping[int, Tensor]) -> dict[int, list[Hypothesis]]:
        """Objects whose masks are given, ``float32[S, S]`` each, in the square that the network sees."""
        found: dict[int, list[Hypothesis]] = {}
        ids = list(squares)
        for part in self._slices([(0,)] * len(ids)):
            masks_n1hw = torch.stack([squares[ids[i]] for i in part])[:, None]
            answers = _rows(self._parts.take(seen, masks_n1hw))
            for i, answer, mask_1hw in zip(part, answers, masks_n1hw, strict=True):
                found[ids[i]] = [replace(answer.best(self._before(ids[i])), given_hw=mask_1hw[0])]
        return found

    def remember(
        self,
        seen: Seen,
        found: Mapping[int, Sequence[Hypothesis]],
        *,
        prompted: Collection[int] = (),
        hard: Collection[int] = (),
    ) -> None:
        """Keep what every hypothesis leaves behind (SAM 2, §4, "Memory bank").

        Args:
            seen: of the frame.
            found: hypotheses by object; nothing changes for others.
            prompted: objects that were pointed at on this frame.
            hard: those whose masks are taken at their word.
        """
        rows = [(object_id, one) for object_id, own in found.items() for one in own]
        pathways: dict[int, list[Pathway]] = {object_id: [] for object_id in found}
        for part in self._slices([(0, one.given_hw is not None) for _, one in rows]):
            own = [rows[i] for i in part]
            given = [one.given_hw for _, one in own if one.given_hw is not None]
            if given:
                logits_n1hw = self._parts.sure(torch.stack(given)[:, None])
            else:
                logits_n1hw = self._parts.large(torch.stack([one.logits_hw for _, one in own]))
            presence_n = torch.tensor([one.presence for _, one in own], device=self._parts.device)
            hard_n = torch.tensor([object_id in hard for object_id, _ in own], device=self._parts.device)
            features_ntc = self._parts.remember(seen, logits_n1hw, presence_n, hard_n)
            for (object_id, one), features_tc in zip(own, features_ntc, strict=True):
                memory = Memory(
                    self.position,
                    Kind.PROMPTED if object_id in prompted else Kind.RECENT,
                    one.pointer_d.clone(),  # copies: views would keep what belongs to all objects
                    features_tc.clone(),
                    one.quality,
                    one.presence,
                    one.agreement,
                )
                pathways[object_id].append(Pathway(self._policy.keep(one.before.memories, memory), one.score))
        self.pathways |= pathways
        if self._memory_bytes is not None:
            self.pathways = fit(self.pathways, self._memory_bytes)

    def forget(self, object_ids: Collection[int]) -> None:
        """Remember nothing more of objects; of some nothing may have been."""
        for object_id in object_ids:
            self.pathways.pop(object_id, None)

    def state_dict(self) -> StateDict:
        """Everything that is remembered."""
        return {
            "position": self.position,
            "pathways": {
                object_id: [
                    {"score": one.score, "memories": [_to_plain(memory) for memory in one.memories]} for one in pathways
                ]
                for object_id, pathways in self.pathways.items()
            },
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Undo `state_dict`."""
        self.position = state["position"]
        self.pathways = {
            object_id: [
                Pathway(tuple(_from_plain(memory, self._parts.device) for memory in one["memories"]), one["score"])
                for one in pathways
            ]
            for object_id, pathways in state["pathways"].items()
        }

    # ----------------------------------------------------------------- parts

    def _refined(self, seen: Seen, corrected: Mapping[int, tuple[Pointed, Hypothesis]]) -> dict[int, list[Hypothesis]]:
        """Objects that clicks correct: decoded again, with what they were taken for as a prompt."""
        found: dict[int, list[Hypothesis]] = {}
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

    def _begun(self, seen: Seen, pointed: Mapping[int, Pointed]) -> dict[int, list[Hypothesis]]:
        """Objects that are looked for anew; a mask beside clicks is what these refine."""
        found: dict[int, list[Hypothesis]] = {}
        ids = list(pointed)
        for part in self._slices([(0, len(pointed[n].labels), pointed[n].mask is not None) for n in ids]):
            own = [pointed[ids[i]] for i in part]
            dense_n1hw = None
            if own[0].mask is not None:
                dense_n1hw = self._parts.small(self._parts.sure(self._squares(own)[:, None]))
            coarse_nchw = self._parts.without_memory(seen)
            answers = self._parts.decode(seen, coarse_nchw, self._clicks(own), dense_n1hw, begins=True)
            for i, answer in zip(part, _rows(answers), strict=True):
                found[ids[i]] = [answer.best(self._before(ids[i]))]
        return found

    def _clicks(self, pointed: Sequence[Pointed]) -> Clicks:
        """Coordinates are whole numbers for centres of pixels and are scaled as they are, as published."""
        height, width = self._size_hw
        scale_xy = torch.tensor([self._parts.side / width, self._parts.side / height])
        points_np2 = torch.tensor([one.clicks_xy for one in pointed], dtype=torch.float32) * scale_xy
        return Clicks(points_np2, torch.tensor([one.labels for one in pointed]))

    def _squares(self, pointed: Sequence[Pointed]) -> Tensor:
        """Masks that were given, in the square that the network sees: ``float32[N, S, S]`` of zeros and ones."""
        masks_nhw = torch.stack([one.mask for one in pointed if one.mask is not None]).to(self._parts.device)
        return (resize_masks(masks_nhw, (self._parts.side, self._parts.side)) >= 0.5).float()

    def _before(self, object_id: int) -> Pathway:
        """What is remembered of an object that is pointed at: one history, the best."""
        pathways = self.pathways.get(object_id)
        return Pathway(pathways[0].memories if pathways else ())

    def _read(self, pathway: Pathway) -> Reading:
        return self._policy.read(pathway.memories, self.position)

    def _slices(self, shapes: Sequence[tuple[int, ...]]) -> Iterator[list[int]]:
        """Positions of objects of one shape, whose first number is that of memories, as many as fit the budget."""
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for i, shape in enumerate(shapes):
            by_shape.setdefault(shape, []).append(i)
        for shape, alike in by_shape.items():
            most = max(1, self._working_bytes // self._parts.working_bytes(shape[0]))
            for first in range(0, len(alike), most):
                yield alike[first : first + most]


@dataclass(frozen=True, slots=True, eq=False)
class _Answer:
    """The answers on one object, or on one pathway of it; see `Answers`."""

    logits_mhw: Tensor
    pointers_md: Tensor
    quality_m: list[float]
    agreement_m: list[float]
    presence: float

    def choose(self, mask: int, before: Pathway, score: float) -> Hypothesis:
        """One of them, of an object of which ``before`` is remembered."""
        return Hypothesis(
            before,
            score,
            self.logits_mhw[mask],
            self.pointers_md[mask],
            self.quality_m[mask],
            self.presence,
            self.agreement_m[mask],
        )

    def best(self, before: Pathway) -> Hypothesis:
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
