"""Clips with prompts: what UniVS learns from (UniVS, §4.1; specification §5 and 12).

number ─► LabelledClip ─► as many objects as may be ─► kind of prompts ─┬─► visual: a frame, a point, box or mask each
                                                                        ├─► category: names of what is there
                                                                        └─► expression: sentences about some
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from maskstream.mask2former.prediction import ClipTargets
from maskstream.types.masks import mask_boxes

from .clips import pick
from .recipe import TaskRecipe
from .sampling import Choice
from .tubes import LabelledClip, Said, TubeSource, cut

Kind: TypeAlias = Literal["visual", "category", "expression"]

POINT, BOX, MASK = range(3)
_SHAPES = (0.25, 0.25, 0.5)
"""How often a visual prompt is a point, a box and a mask."""

_LARGE, _JITTER = 0.09, 0.1
"""Boxes of more than this part of the picture are moved and stretched by up to this part of their sides."""

_LATEST = 127
"""Number of the last frame that the code of time tells from the first."""

_CHOICE_OF_SOURCE = 1
"""Keeps the chance of a batch apart from that of the sample with the same number."""


@dataclass(frozen=True, slots=True, eq=False)
class Marks:
    """P visual prompts on one frame of a clip.

    Attributes:
        frame: on which.
        objects_p: ``int64[P]``, what each is about; its mask on this frame is the prompt of those that are masks.
        shapes_p: ``int64[P]``, `POINT`, `BOX` or `MASK`.
        boxes_p4: ``float32[P, 4]``, left, top, right and bottom as fractions of the frame.
        points_p2: ``float32[P, 2]``, x and y likewise.
    """

    frame: int
    objects_p: Tensor
    shapes_p: Tensor
    boxes_p4: Tensor
    points_p2: Tensor

    def to(self, device: torch.device | str) -> Marks:
        """The same on another device."""
        tensors = (self.objects_p, self.shapes_p, self.boxes_p4, self.points_p2)
        return Marks(self.frame, *(tensor.to(device) for tensor in tensors))


@dataclass(frozen=True, slots=True, eq=False)
class PromptedClip:
    """A clip, or several that follow each other, and what it is prompted with.

    Attributes:
        kind: of the prompts.
        targets: all its objects, of all frames.
        times_t: ``int64[T]``, numbers of its frames in the video.
        names: of the classes; none: they are not learned from it.
        texts: P sentences; of other kinds none.
        means_pn: ``bool[P, N]``, which objects sentences and names mean; none of visual prompts.
        marks: visual prompts of each of the clips; of other kinds none.
    """

    kind: Kind
    targets: ClipTargets
    times_t: Tensor
    names: tuple[str, ...]
    means_pn: Tensor
    texts: tuple[str, ...] = ()
    marks: tuple[Marks, ...] = field(default=(), repr=False)

    def to(self, device: torch.device | str) -> PromptedClip:
        """The same on another device."""
        return replace(
            self,
            targets=ClipTargets(self.targets.classes_n.to(device), self.targets.masks_nthw.to(device)),
            times_t=self.times_t.to(device),
            means_pn=self.means_pn.to(device),
            marks=tuple(marks.to(device) for marks in self.marks),
        )


@dataclass(frozen=True, slots=True, eq=False)
class PromptedBatch:
    """B clips of T frames.

    Attributes:
        frames_bt3hw: ``uint8[B, T, 3, H, W]``, RGB.
        clips: what each is about.
        number_b: ``int64[B]``, of the samples.
    """

    frames_bt3hw: Tensor
    clips: tuple[PromptedClip, ...]
    number_b: Tensor

    def to(self, device: torch.device | str) -> PromptedBatch:
        """The same on another device."""
        return PromptedBatch(
            self.frames_bt3hw.to(device, non_blocking=True),
            tuple(clip.to(device) for clip in self.clips),
            self.number_b.to(device),
        )


class PromptedClips(Dataset[PromptedBatch]):
    """The samples of a run: each number gives another one, always the same.

    Args:
        sources: of clips, each with the names of its classes, or none if these are not learned; and their weights.
        task: how clips are prompted.
        seed: of the run.
        batch: samples of an iteration.
        mix: whether every sample chooses its source, or the samples of one iteration have one together.
    """

    def __init__(
        self,
        sources: Sequence[tuple[tuple[TubeSource, tuple[str, ...]], float]],
        task: TaskRecipe,
        *,
        seed: int,
        batch: int,
        mix: Literal["sample", "batch"] = "sample",
    ) -> None:
        self._sources = Choice(sources)
        self._task = task
        self._seed = seed
        self._batch = batch
        self._mix = mix

    def __getitem__(self, number: int) -> PromptedBatch:
        """A batch of one clip."""
        rng = np.random.default_rng([self._seed, number])
        iteration = number // self._batch
        by = rng if self._mix == "sample" else np.random.default_rng([self._seed, iteration, _CHOICE_OF_SOURCE])
        source, names = self._sources.draw(by)
        clip = source.labelled(number, rng)
        return PromptedBatch(clip.frames_t3hw[None], (prompted(clip, names, self._task, rng),), torch.tensor([number]))


def prompted(clip: LabelledClip, names: tuple[str, ...], task: TaskRecipe, rng: np.random.Generator) -> PromptedClip:
    """Draw prompts for a clip (specification §12).

    Args:
        clip: with its objects.
        names: of their classes; none: they are not learned.
        task: how probable which prompts are.
        rng: chance.
    """
    kept = pick(np.arange(len(clip.targets.classes_n)), task.objects, rng)
    targets = clip.targets.only(torch.from_numpy(kept))
    found = PromptedClip(
        "visual", targets, _times(clip.times_t, rng), names, torch.zeros(0, len(kept), dtype=torch.bool)
    )
    if not task.prompting:
        return found
    if not names or rng.random() < task.expressions:
        place = {int(n): position for position, n in enumerate(kept)}
        said = [
            Said(one.text, tuple(place[n] for n in one.objects)) for one in clip.say() if set(one.objects) <= set(place)
        ]
        if said:
            return _with_sentences(found, said, task.objects, rng)
    if names and rng.random() >= task.visual:
        return replace(found, kind="category", means_pn=_classes(targets.classes_n)[:, None] == targets.classes_n)
    parts = cut(len(clip.times_t), task.tubes, task.overlap)
    return replace(found, marks=tuple(drawn_marks(targets.masks_nthw[:, part], rng) for part in parts))


def drawn_marks(masks_nthw: Tensor, rng: np.random.Generator) -> Marks:
    """Visual prompts of all objects that are seen on some frame of a clip (specification §5.1 to 5.4).

    Args:
        masks_nthw: ``bool[N, T, H, W]``.
        rng: chance.
    """
    seen_nt = masks_nthw.flatten(2).any(2)
    frames = seen_nt.any(0).nonzero()[:, 0].tolist() or [0]
    frame = int(rng.choice(frames))
    objects_p = seen_nt[:, frame].nonzero()[:, 0]
    masks_phw = masks_nthw[objects_p, frame]
    boxes_p4 = mask_boxes(masks_phw).numpy()
    points_p2 = np.array([_point(m, box, rng) for m, box in zip(masks_phw.numpy(), boxes_p4, strict=True)])
    height, width = masks_nthw.shape[2:]
    fractions_p4 = np.array([_shaken(box / [width, height, width, height], rng) for box in boxes_p4])
    shapes_p = rng.choice([POINT, BOX, MASK], size=len(objects_p), p=_SHAPES)
    return Marks(
        frame,
        objects_p,
        torch.from_numpy(shapes_p),
        torch.from_numpy(fractions_p4.reshape(-1, 4).astype(np.float32)),
        torch.from_numpy(((points_p2.reshape(-1, 2) + 0.5) / [width, height]).astype(np.float32)),
    )


def stacked_prompts(batches: Sequence[PromptedBatch]) -> PromptedBatch:
    """One batch of several."""
    return PromptedBatch(
        torch.cat([batch.frames_bt3hw for batch in batches]),
        tuple(clip for batch in batches for clip in batch.clips),
        torch.cat([batch.number_b for batch in batches]),
    )


def _with_sentences(clip: PromptedClip, said: Iterable[Said], most: int, rng: np.random.Generator) -> PromptedClip:
    """One sentence for each meaning, by chance."""
    said = list(said)
    chosen: dict[tuple[int, ...], str] = {}
    for n in rng.permutation(len(said)).tolist():
        if len(chosen) < most:
            chosen.setdefault(said[n].objects, said[n].text)
    means_pn = torch.zeros(len(chosen), len(clip.targets.classes_n), dtype=torch.bool)
    for means_n, objects in zip(means_pn, chosen, strict=True):
        means_n[list(objects)] = True
    return replace(clip, kind="expression", texts=tuple(chosen.values()), means_pn=means_pn)


def _classes(classes_n: Tensor) -> Tensor:
    """Those that are there, each once."""
    return torch.bincount(classes_n).nonzero()[:, 0]


def _times(times_t: Tensor, rng: np.random.Generator) -> Tensor:
    """Numbers of frames, as if the video began so that the code of time tells all of them apart."""
    from_first_t = times_t - times_t.min()
    return from_first_t + int(rng.integers(max(0, _LATEST - int(from_first_t.max())) + 1))


def _point(mask_hw: NDArray[np.bool_], box_4: NDArray[np.int64], rng: np.random.Generator) -> tuple[int, int]:
    """A pixel of a mask, x and y; in the middle of its box if it has some there."""
    left, top, right, bottom = box_4.tolist()
    down, across = (bottom - top) // 4, (right - left) // 4
    inner = np.argwhere(mask_hw[top + down : bottom - down, left + across : right - across])
    if len(inner):
        y, x = inner[int(rng.integers(len(inner)))] + (top + down, left + across)
    else:
        y, x = (places := np.argwhere(mask_hw))[int(rng.integers(len(places)))]
    return int(x), int(y)


def _shaken(box_4: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """A box that is large is drawn by a hand that is not sure (specification §5.2)."""
    corner, sides = box_4[:2], box_4[2:] - box_4[:2]
    if sides[0] * sides[1] <= _LARGE:
        return box_4
    middle = corner + sides / 2 + sides * rng.uniform(-_JITTER, _JITTER, 2)
    half = sides * rng.uniform(1 - _JITTER, 1 + _JITTER, 2) / 2
    shaken: NDArray[np.float64] = np.concatenate([middle - half, middle + half]).clip(0, 1)
    return shaken
