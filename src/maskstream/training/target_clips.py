"""Clips with what is asked for in them: what TarViS learns from (specification §11 and 12).

number ─┬─► iteration ─► source, kind, which objects are points: the same for all clips of the iteration
        └─► LabelledClip ─┬─► vis: things, one by one
                          ├─► vps: everything
                          └─► objects: things that are seen on a frame, by their masks there; of the last ones a point

The authors keep kind and source for eight iterations, so that data are read faster; here each draws its own. They also
take as many objects of each clip as of the others, so that a process can stack them; here a clip has all it may have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from maskstream.mask2former.prediction import ClipTargets
from maskstream.systems.tarvis.targets import middle_points
from maskstream.types import CategorySet

from .recipe import Kind, TaskRecipe
from .sampling import Choice
from .tubes import LabelledClip, TubeSource

_TRIES = 6
"""How often a clip without a thing is drawn again."""

_CHOICE_OF_BATCH = 1
"""Keeps the chance of a batch apart from that of the sample with the same number."""


@dataclass(frozen=True, slots=True, eq=False)
class TargetSource:
    """Where clips come from.

    Attributes:
        tubes: gives them.
        kinds: what they may be asked for, with weights above 0.
        space: of their classes, things first.
    """

    tubes: TubeSource
    kinds: Mapping[Kind, float]
    space: CategorySet

    @property
    def things(self) -> int:
        """How many classes are of things; they are the first."""
        return sum(category.is_thing is not False for category in self.space.categories)


@dataclass(frozen=True, slots=True, eq=False)
class TargetClip:
    """What is asked for in a clip.

    Attributes:
        targets: N things; in VPS also stuff.
        reference: the frame on which objects are pointed out.
        points_p2: ``float32[P, 2]``, y and x as fractions of the picture, of the last P objects; the others are pointed
            out with their masks.
    """

    targets: ClipTargets
    reference: int = 0
    points_p2: Tensor = field(default_factory=lambda: torch.zeros(0, 2))

    def to(self, device: torch.device | str) -> TargetClip:
        """The same on another device."""
        targets = ClipTargets(self.targets.classes_n.to(device), self.targets.masks_nthw.to(device))
        return replace(self, targets=targets, points_p2=self.points_p2.to(device))


@dataclass(frozen=True, slots=True, eq=False)
class TargetBatch:
    """B clips of T frames, all of one source and asked for the same.

    Attributes:
        frames_bt3hw: ``uint8[B, T, 3, H, W]``, RGB.
        kind: what they are asked for.
        space: name of the label space.
        things: how many of its classes are of things; they are the first.
        clips: what is asked for in each.
        number_b: ``int64[B]``, of the samples.
    """

    frames_bt3hw: Tensor
    kind: Kind
    space: str
    things: int
    clips: tuple[TargetClip, ...]
    number_b: Tensor

    def to(self, device: torch.device | str) -> TargetBatch:
        """The same on another device."""
        return replace(
            self,
            frames_bt3hw=self.frames_bt3hw.to(device, non_blocking=True),
            clips=tuple(clip.to(device) for clip in self.clips),
            number_b=self.number_b.to(device),
        )


class TargetClips(Dataset[TargetBatch]):
    """The samples of a run: each number gives another one, always the same.

    Args:
        sources: of clips, with their weights.
        task: what clips are asked for.
        seed: of the run.
        batch: samples of an iteration.

    Raises:
        InputError: there is no source.
    """

    def __init__(
        self, sources: Sequence[tuple[TargetSource, float]], task: TaskRecipe, *, seed: int, batch: int
    ) -> None:
        self._sources = Choice([((one, Choice(list(one.kinds.items()))), weight) for one, weight in sources])
        self._task = task
        self._seed = seed
        self._batch = batch

    def __getitem__(self, number: int) -> TargetBatch:
        """A batch of one clip."""
        of_batch = np.random.default_rng([self._seed, number // self._batch, _CHOICE_OF_BATCH])
        source, kinds = self._sources.draw(of_batch)
        kind = kinds.draw(of_batch)
        is_point_n = of_batch.random(self._task.objects) < self._task.point_share
        rng = np.random.default_rng([self._seed, number])
        found = _with_things(source, number, rng)
        things = found.targets.only(found.targets.classes_n < source.things)
        clip = TargetClip(found.targets if kind == "vps" else things)
        if kind == "objects":
            clip = pointed_out(things, is_point_n, rng, first=self._task.reference == "first")
        frames_bt3hw = found.frames_t3hw[None]
        return TargetBatch(frames_bt3hw, kind, source.space.name, source.things, (clip,), torch.tensor([number]))


def pointed_out(
    things: ClipTargets, is_point_n: NDArray[np.bool_], rng: np.random.Generator, *, first: bool
) -> TargetClip:
    """Objects of a clip that are pointed out on one of its frames (specification §12).

    Args:
        things: of the clip; those that are not seen on the frame are left out.
        is_point_n: ``bool[M]``, for up to M objects. As many as are true of the first n are points where there are n,
            so that it is the same number in all clips of a batch that have as many objects.
        rng: chance.
        first: take the first frame on which a thing is seen, not any.
    """
    seen_nt = things.masks_nthw.flatten(2).any(2)
    frames = seen_nt.any(0).nonzero()[:, 0].tolist() or [0]
    frame = frames[0] if first else int(rng.choice(frames))
    chosen_n = rng.permutation(seen_nt[:, frame].nonzero()[:, 0].numpy())[: len(is_point_n)]
    objects = things.only(torch.from_numpy(chosen_n))
    masks = len(chosen_n) - int(is_point_n[: len(chosen_n)].sum())
    return TargetClip(objects, frame, middle_points(objects.masks_nthw[masks:, frame]))


def stacked_targets(batches: Sequence[TargetBatch]) -> TargetBatch:
    """One batch of several, of the same source and kind."""
    return replace(
        batches[0],
        frames_bt3hw=torch.cat([batch.frames_bt3hw for batch in batches]),
        clips=tuple(clip for batch in batches for clip in batch.clips),
        number_b=torch.cat([batch.number_b for batch in batches]),
    )


def _with_things(source: TargetSource, number: int, rng: np.random.Generator) -> LabelledClip:
    """A clip with a thing, or the last of a few without."""
    for _ in range(_TRIES):
        clip = source.tubes.labelled(number, rng)
        if bool((clip.targets.classes_n < source.things).any()):
            break
    return clip
