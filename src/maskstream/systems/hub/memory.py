"""What is remembered of an object, and what of it is read (SAM 2, §4, "Memory bank", and those after it).

    frame ─► memory: what it looked like [T, C] and a pointer [D] ─► keep ─► what is kept of the object ─┐
             its quality, presence, and whether hypotheses agree                                       ▼
    next frame ◄─ slots of memories, ages of pointers ◄───────────────────────────────────────────── read

Policies are plug-ins. `RecentFrames` is SAM 2's, `DistractorAware` that of DAM4SAM (Videnovic et al., "A
Distractor-Aware Memory for Visual Object Tracking with SAM2", CVPR 2025), and `HypothesisTree` that of SAM2Long (Ding
et al., "SAM2Long: Enhancing SAM 2 for Long Video Segmentation with a Training-Free Memory Tree", ICCV 2025). Whatever
the policy, what is kept does not grow with the video.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from maskstream.types import InputError, mask_boxes


class Kind(IntEnum):
    """Why a frame is remembered; the first kinds are given up first where there is no room."""

    RECENT = 0
    """It was one of the last."""
    ANCHOR = 1
    """It tells the object from what resembles it."""
    PROMPTED = 2
    """A person pointed at the object there."""


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """What is remembered of an object on one frame.

    Attributes:
        position: of the frame, counted from the first one of the session.
        kind: why it is remembered.
        pointer_d: ``float[D]``, the object pointer.
        features_tc: ``[T, C]``, spatial memory; None where only the pointer was kept.
        quality: intersection over union of the mask with the true one, as predicted.
        presence: logit of whether the object is there.
        agreement: how far other hypotheses lie within the box of the mask; see `agreements`.
    """

    position: int
    kind: Kind
    pointer_d: Tensor = field(repr=False)
    features_tc: Tensor | None = field(repr=False)
    quality: float = 1.0
    presence: float = 1.0
    agreement: float = 1.0


Memories: TypeAlias = tuple[Memory, ...]
"""Of one object, oldest first."""


@dataclass(frozen=True, slots=True)
class Pathway:
    """One history of an object; there are several where hypotheses are kept apart.

    Attributes:
        memories: what is kept of it.
        score: sum of the logarithms of predicted qualities since the last prompt.
    """

    memories: Memories
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class Branch:
    """A hypothesis that is kept: the answer ``mask`` of pathway ``pathway``, and the score of both together."""

    pathway: int
    mask: int
    score: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What attention reads.

    Attributes:
        spatial: memories that have features, each with its slot: 0 for those without a place in time, or from 1, the
            most recent.
        pointers: memories of which the pointer is read, each with its age in frames.
    """

    spatial: tuple[tuple[int, Memory], ...]
    pointers: tuple[tuple[int, Memory], ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Objects are read together where this is the same: what pads the others would be attended to."""
        return len(self.spatial), len(self.pointers)


class MemoryPolicy(Protocol):
    """What is remembered of every object, and which hypotheses there are of it.

    Attributes:
        pathways: most hypotheses of an object.
        slots: highest slot that is read.
        most: most memories that are kept of a pathway.
    """

    @property
    def pathways(self) -> int:
        """See the class."""

    @property
    def slots(self) -> int:
        """See the class."""

    @property
    def most(self) -> int:
        """See the class."""

    def keep(self, kept: Memories, new: Memory) -> Memories:
        """What is kept once ``new``, which is later than all of ``kept``, has come."""

    def read(self, kept: Memories, position: int) -> Reading:
        """What the frame at ``position``, the next one, reads. At least one memory with features."""

    def branches(self, scores_p: Sequence[float], quality_pm: Sequence[Sequence[float]]) -> list[Branch]:
        """Which answers to keep, the best first.

        Args:
            scores_p: of the pathways.
            quality_pm: predicted quality of the answers of each.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentFrames:
    """Prompted frames and the most recent ones (SAM 2, §4).

    Attributes:
        recent: most frames that nobody pointed at (N).
        prompted: most frames that somebody did (M), the latest ones; one too many is a recent frame from then on.
        pointers: object pointers are kept of so many frames, the current one included, and of all prompted ones.
    """

    recent: int = 6
    prompted: int = 4
    pointers: int = 16

    def __post_init__(self) -> None:
        _check(recent=(self.recent, 1), prompted=(self.prompted, 0), pointers=(self.pointers, 1))

    @classmethod
    def fifo(cls, frames: int = 6) -> RecentFrames:
        """First in, first out: prompted frames are forgotten like others."""
        return cls(recent=frames, prompted=0)

    @property
    def pathways(self) -> int:
        """One history."""
        return 1

    @property
    def slots(self) -> int:
        """The age of a memory is its slot."""
        return self.recent

    @property
    def most(self) -> int:
        """Prompted ones, and pointers."""
        return self.prompted + max(self.pointers - 1, self.recent)

    def keep(self, kept: Memories, new: Memory) -> Memories:
        """See `MemoryPolicy.keep`."""
        memories = limited((*kept, new), {Kind.PROMPTED: self.prompted})
        return aged(
            memories, self.pointers, lambda recent: [m for m in recent if new.position - m.position < self.recent]
        )

    def read(self, kept: Memories, position: int) -> Reading:
        """See `MemoryPolicy.read`."""
        return _reading(kept, position, lambda recent: [position - m.position for m in recent])

    def branches(self, scores_p: Sequence[float], quality_pm: Sequence[Sequence[float]]) -> list[Branch]:
        """The best answer."""
        return [_best(quality_pm)]


@dataclass(frozen=True, slots=True, kw_only=True)
class DistractorAware:
    """Two memories: what the object looks like, and what tells it from others that look like it (DAM4SAM).

    Recent frames are remembered only where the object is there, the last one and then one in so many. A frame becomes
    an anchor where the network is sure of its answer and yet another hypothesis reaches far out of it: something else
    was taken for the object there, and was told from it.

    Attributes:
        recent: most recent frames.
        anchors: most anchors; the oldest goes.
        every: one in so many frames is remembered, and so many lie between anchors (Δ).
        sure: predicted quality from which the network is sure (θ_IoU).
        agree: `agreements` below this is a distractor (θ_anc).
        prompted: see `RecentFrames`.
        pointers: see `RecentFrames`.
    """

    recent: int = 3
    anchors: int = 3
    every: int = 5
    sure: float = 0.8
    agree: float = 0.7
    prompted: int = 4
    pointers: int = 16

    def __post_init__(self) -> None:
        _check(
            recent=(self.recent, 1),
            anchors=(self.anchors, 1),
            every=(self.every, 1),
            prompted=(self.prompted, 1),
            pointers=(self.pointers, 1),
        )

    @property
    def pathways(self) -> int:
        """One history."""
        return 1

    @property
    def slots(self) -> int:
        """Memories are numbered from the latest."""
        return self.recent

    @property
    def most(self) -> int:
        """Prompted ones, anchors, and pointers; recent frames may be older than these."""
        return self.prompted + self.anchors + self.pointers - 1 + self.recent

    def keep(self, kept: Memories, new: Memory) -> Memories:
        """See `MemoryPolicy.keep`."""
        if new.kind is Kind.RECENT and new.presence <= 0:
            new = replace(new, features_tc=None)
        elif new.kind is Kind.RECENT and self._tells_apart(kept, new):
            new = replace(new, kind=Kind.ANCHOR)
        memories = limited((*kept, new), {Kind.PROMPTED: self.prompted, Kind.ANCHOR: self.anchors})

        def wanted(recent: Sequence[Memory]) -> list[Memory]:
            return [*(m for m in recent[:-1] if m.position % self.every == 0), *recent[-1:]][-self.recent :]

        return aged(memories, self.pointers, wanted)

    def read(self, kept: Memories, position: int) -> Reading:
        """See `MemoryPolicy.read`."""
        return _reading(kept, position, _ranks)

    def branches(self, scores_p: Sequence[float], quality_pm: Sequence[Sequence[float]]) -> list[Branch]:
        """The best answer."""
        return [_best(quality_pm)]

    def _tells_apart(self, kept: Memories, new: Memory) -> bool:
        last = max((m.position for m in kept if m.kind is Kind.ANCHOR), default=-self.every)
        return new.quality >= self.sure and new.agreement < self.agree and new.position - last >= self.every


@dataclass(frozen=True, slots=True, kw_only=True)
class HypothesisTree:
    """Several histories of an object, which decide late who it was (SAM2Long).

    Every pathway answers with several masks. Of all answers the best few go on, each with the memory of its pathway, by
    the sum of the logarithms of their predicted qualities. The best pathway is what is shown. A pathway remembers only
    frames on which it was sure enough that it saw the object.

    Attributes:
        most_pathways: hypotheses that are kept (P).
        sure: predicted quality above which a frame is remembered (δ_IoU).
        recent: see `RecentFrames`.
        prompted: see `RecentFrames`.
        pointers: see `RecentFrames`.
    """

    most_pathways: int = 3
    sure: float = 0.3
    recent: int = 6
    prompted: int = 4
    pointers: int = 16

    def __post_init__(self) -> None:
        _check(
            most_pathways=(self.most_pathways, 1),
            recent=(self.recent, 1),
            prompted=(self.prompted, 1),
            pointers=(self.pointers, 1),
        )

    @property
    def pathways(self) -> int:
        """So many histories."""
        return self.most_pathways

    @property
    def slots(self) -> int:
        """Memories are numbered from the latest."""
        return self.recent

    @property
    def most(self) -> int:
        """Prompted ones, pointers, and recent frames, which may be older than these."""
        return self.prompted + self.pointers - 1 + self.recent

    def keep(self, kept: Memories, new: Memory) -> Memories:
        """See `MemoryPolicy.keep`."""
        if new.kind is Kind.RECENT and not (new.quality > self.sure and new.presence > 0):
            new = replace(new, features_tc=None)
        memories = limited((*kept, new), {Kind.PROMPTED: self.prompted})
        return aged(memories, self.pointers, lambda recent: recent[-self.recent :])

    def read(self, kept: Memories, position: int) -> Reading:
        """See `MemoryPolicy.read`."""
        return _reading(kept, position, _ranks)

    def branches(self, scores_p: Sequence[float], quality_pm: Sequence[Sequence[float]]) -> list[Branch]:
        """The answers with the best histories; of equal ones the first."""
        all_branches = [
            Branch(p, m, score + math.log(max(quality, _LEAST_QUALITY)))
            for p, (score, quality_m) in enumerate(zip(scores_p, quality_pm, strict=True))
            for m, quality in enumerate(quality_m)
        ]
        return sorted(all_branches, key=lambda branch: -branch.score)[: self.most_pathways]


_LEAST_QUALITY = 1e-6

POLICIES: Mapping[str, Callable[[], MemoryPolicy]] = {
    "recent": RecentFrames,
    "fifo": RecentFrames.fifo,
    "anchors": DistractorAware,
    "tree": HypothesisTree,
}
"""Policies by the names that commands take, as published each."""


def policy_named(name: str) -> MemoryPolicy:
    """A policy by its name.

    Raises:
        InputError: there is none of this name.
    """
    if name not in POLICIES:
        raise InputError(f"unknown memory policy {name!r}; known: {', '.join(POLICIES)}")
    return POLICIES[name]()


def limited(memories: Memories, most: Mapping[Kind, int]) -> Memories:
    """At most so many memories of a kind, the latest ones; the others are recent frames from then on.

    Args:
        memories: oldest first.
        most: by kind; a kind that is not named is not limited.
    """
    seen = dict.fromkeys(Kind, 0)
    result: list[Memory] = []
    for memory in reversed(memories):
        seen[memory.kind] += 1
        too_many = seen[memory.kind] > most.get(memory.kind, len(memories))
        result.append(replace(memory, kind=Kind.RECENT) if too_many else memory)
    return tuple(reversed(result))


def aged(memories: Memories, pointers: int, wanted: Callable[[Sequence[Memory]], Sequence[Memory]]) -> Memories:
    """Take features from recent frames that are not wanted, and forget those whose pointers are too old.

    Args:
        memories: oldest first; the last one is the frame that has just been.
        pointers: pointers are kept of so many frames, the next one included.
        wanted: which of the recent frames that have features keep them.
    """
    recent = [memory for memory in memories if memory.kind is Kind.RECENT and memory.features_tc is not None]
    keeps = {memory.position for memory in wanted(recent)}
    result: list[Memory] = []
    for memory in memories:
        if memory.kind is not Kind.RECENT or memory.position in keeps:
            result.append(memory)
        elif memories[-1].position - memory.position < pointers - 1:
            result.append(replace(memory, features_tc=None))
    return tuple(result)


def _reading(kept: Memories, position: int, slots_of: Callable[[Sequence[Memory]], Sequence[int]]) -> Reading:
    fixed = [m for m in kept if m.kind is not Kind.RECENT and m.features_tc is not None]
    recent = [m for m in kept if m.kind is Kind.RECENT and m.features_tc is not None]
    return Reading(
        (*((0, m) for m in fixed), *zip(slots_of(recent), recent, strict=True)),
        tuple((position - m.position, m) for m in sorted(kept, key=lambda m: (m.kind is Kind.RECENT, -m.position))),
    )


def _ranks(recent: Sequence[Memory]) -> Sequence[int]:
    return range(len(recent), 0, -1)


def _best(quality_pm: Sequence[Sequence[float]]) -> Branch:
    """The best answer of the only pathway; of equal ones the first."""
    (quality_m,) = quality_pm
    return Branch(0, max(range(len(quality_m)), key=lambda m: quality_m[m]), 0.0)


def _check(**numbers: tuple[int, int]) -> None:
    for name, (number, least) in numbers.items():
        if number < least:
            raise InputError(f"{name} of a memory policy is at least {least}, not {number}")


def agreements(logits_nmhw: Tensor) -> Tensor:
    """How far other answers lie within the box around an answer (DAM4SAM).

    The area of the box, by that of the box around it and another answer; the least over the others. What the network
    takes for a part of the object is within; something else that resembles it is not.

    Args:
        logits_nmhw: ``float[N, M, h, w]``, M answers on each of N objects.

    Returns:
        ``float32[N, M]``, 1 where there is one answer or the others are empty, 0 for an empty one beside others.
    """
    n, m = logits_nmhw.shape[:2]
    boxes_nm4 = mask_boxes((logits_nmhw > 0).flatten(0, 1)).view(n, m, 4).float()
    first, second = boxes_nm4[:, :, None], boxes_nm4[:, None]
    joint = torch.cat(
        [torch.minimum(first[..., :2], second[..., :2]), torch.maximum(first[..., 2:], second[..., 2:])], -1
    )
    area_nm, joint_nmm = _area(boxes_nm4), _area(joint)
    share_nmm = torch.where(area_nm[:, None] > 0, area_nm[..., None] / joint_nmm.clamp(min=1), 1.0)
    return torch.where(torch.eye(m, dtype=torch.bool, device=share_nmm.device), 1.0, share_nmm).amin(2)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def memory_bytes(objects: Mapping[int, Sequence[Pathway]]) -> int:
    """What all objects hold together; pathways share what they have in common."""
    memories = [memory for pathways in objects.values() for pathway in pathways for memory in pathway.memories]
    tensors = {id(memory.pointer_d): memory.pointer_d for memory in memories}
    tensors |= {id(memory.features_tc): memory.features_tc for memory in memories if memory.features_tc is not None}
    return sum(tensor.nbytes for tensor in tensors.values())


def fit(objects: Mapping[int, Sequence[Pathway]], budget: int) -> dict[int, list[Pathway]]:
    """Give up spatial memories until all objects together fit.

    The least useful go first: recent frames, then anchors, then prompted ones, and among these the oldest. Pointers
    stay, and every pathway keeps the latest of its most useful memories, so the budget must have room for these.

    Args:
        objects: pathways by object.
        budget: bytes.
    """
    too_much = memory_bytes(objects) - budget
    given_up: set[int] = set()
    if too_much > 0:
        of_pathways = [
            sorted((m for m in pathway.memories if m.features_tc is not None), key=_use)
            for pathways in objects.values()
            for pathway in pathways
        ]
        needed = {id(memories[-1].features_tc) for memories in of_pathways if memories}
        for memory in sorted((m for memories in of_pathways for m in memories), key=_use):
            if too_much <= 0:
                break
            features = memory.features_tc
            if features is not None and id(features) not in needed | given_up:
                too_much -= features.nbytes
                given_up.add(id(features))
    return {
        object_id: [replace(one, memories=tuple(_without(m, given_up) for m in one.memories)) for one in pathways]
        for object_id, pathways in objects.items()
    }


def _use(memory: Memory) -> tuple[Kind, int]:
    return memory.kind, memory.position


def _without(memory: Memory, given_up: Collection[int]) -> Memory:
    return replace(memory, features_tc=None) if id(memory.features_tc) in given_up else memory
