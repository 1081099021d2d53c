"""Clips in which every thing and every kind of stuff has a class and a mask: what the query core learns from.

scene ─► draw ─► grain ─────┬─► frames
video ─► read ─► augment ───┴─► things one by one, stuff by its kind ─► ClipTargets
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from maskstream.mask2former.prediction import ClipTargets
from maskstream.synthetic.batched import Clips
from maskstream.types import CategorySet, InputError, Segment, VideoSample

from .clips import Clip
from .rendered import MOST_GRAIN, RenderedClips, grainy
from .sampling import Augmentation, Choice, choose_frames, read_clip

_LEAST_PIXELS = 16
"""What is smaller in the whole clip is not asked for."""

_TRIES = 6

_GAP = 5
"""Frames of a video that a frame of a clip may be from the nearest other one, where they are annotated."""


@dataclass(frozen=True, slots=True, eq=False)
class TubeBatch:
    """B clips of T frames.

    Attributes:
        frames_bt3hw: ``uint8[B, T, 3, H, W]``, RGB.
        targets: of each clip.
        number_b: ``int64[B]``, of the samples.
    """

    frames_bt3hw: Tensor
    targets: tuple[ClipTargets, ...]
    number_b: Tensor

    def to(self, device: torch.device | str) -> TubeBatch:
        """The same on another device."""
        targets = (ClipTargets(one.classes_n.to(device), one.masks_nthw.to(device)) for one in self.targets)
        return TubeBatch(self.frames_bt3hw.to(device, non_blocking=True), tuple(targets), self.number_b.to(device))


class TubeSource(Protocol):
    """What clips come from."""

    def tube(self, number: int, rng: np.random.Generator) -> TubeBatch:
        """Make a sample: a batch of one clip.

        Args:
            number: of the sample.
            rng: chance of this sample; the only one that is used.
        """
        ...


class Tubes(torch.utils.data.Dataset[TubeBatch]):
    """The samples of a run: each number gives another one, always the same.

    Args:
        sources: with their weights.
        seed: of the run.
    """

    def __init__(self, sources: Sequence[tuple[TubeSource, float]], *, seed: int) -> None:
        self._sources = Choice(sources)
        self._seed = seed

    def __getitem__(self, number: int) -> TubeBatch:
        """A batch of one clip."""
        rng = np.random.default_rng([self._seed, number])
        return self._sources.draw(rng).tube(number, rng)


@dataclass(frozen=True, slots=True)
class RenderedTubes:
    """Clips of scenes that nobody has seen before.

    Attributes:
        scenes: to draw.
    """

    scenes: RenderedClips

    def tube(self, number: int, rng: np.random.Generator) -> TubeBatch:
        """See `TubeSource`."""
        clips, noise = self.scenes.drawn(rng, motion=False), int(rng.integers(MOST_GRAIN + 1))
        frames_t3hw = grainy(clips.frames_bt3hw[0], noise, int(rng.integers(2**63)))
        return TubeBatch(frames_t3hw[None], (targets_of(clips),), torch.tensor([number]))


class AnnotatedTubes:
    """Clips of labelled videos, or pictures: things one by one, stuff by its category.

    Args:
        videos: those with too few annotated frames are left out.
        categories: of the data set, in the order of the network's classes.
        frames: T.
        augment: what chance does with a clip.
        every: frames of a video from one annotated frame to the next.

    Raises:
        InputError: no video has so many annotated frames.
    """

    def __init__(
        self,
        videos: Sequence[VideoSample],
        categories: CategorySet,
        *,
        frames: int,
        augment: Augmentation,
        every: int = 1,
    ) -> None:
        self._places = []
        for n, video in enumerate(videos):
            annotated = [index for index, frame in enumerate(video.frames) if frame.annotated]
            if len(annotated) >= frames:
                self._places.append((n, annotated))
        if not self._places:
            raise InputError(f"no video has {frames} annotated frames: make clips shorter with task.frames")
        self._videos = videos
        self._class_of = {category.id: n for n, category in enumerate(categories.categories)}
        self._is_stuff = {category.id for category in categories.categories if category.is_thing is False}
        self._frames = frames
        self._augment = augment
        self._gap = max(1, _GAP // every)

    def __len__(self) -> int:
        return len(self._places)

    def tube(self, number: int, rng: np.random.Generator) -> TubeBatch:
        """See `TubeSource`. A clip of which nothing is left is drawn again, a few times."""
        for _ in range(_TRIES):
            clip, classes = self._clip(number, rng)
            ids = np.flatnonzero(np.bincount(clip.labels_thw.ravel(), minlength=len(classes) + 1) >= _LEAST_PIXELS)
            if len(ids := ids[ids > 0]):
                break
        labels_thw = torch.from_numpy(clip.labels_thw)
        masks_nthw = labels_thw[None] == torch.from_numpy(ids)[:, None, None, None]
        frames_t3hw = torch.from_numpy(clip.frames_thw3).permute(0, 3, 1, 2).contiguous()
        targets = ClipTargets(torch.tensor(classes, dtype=torch.int64)[ids - 1], masks_nthw)
        return TubeBatch(frames_t3hw[None], (targets,), torch.tensor([number]))

    def _clip(self, number: int, rng: np.random.Generator) -> tuple[Clip, list[int]]:
        """A clip whose labels are 1 … n, and the classes of these."""
        n, annotated = self._places[int(rng.integers(len(self._places)))]
        chosen = choose_frames(len(annotated), self._frames, self._gap, rng)
        numbers: dict[tuple[int, int | None], int] = {}

        def number_of(segment: Segment) -> int:
            if segment.category not in self._class_of:
                return 0
            own = None if segment.category in self._is_stuff else segment.track_id
            return numbers.setdefault((self._class_of[segment.category], own), len(numbers) + 1)

        clip = read_clip(self._videos[n], [annotated[position] for position in chosen], number, number_of)
        return self._augment(clip, rng), [label for label, _ in numbers]


def targets_of(clips: Clips) -> ClipTargets:
    """What is to be found in the first of some clips; classes count from 0, as those of `scene.WORLD` do from 1."""
    entity_thw, category_e, is_thing_e = clips.entity_bthw[0], clips.category_be[0], clips.is_thing_be[0]
    # Stuff is known by the first entity of its category.
    ids_e = torch.arange(len(category_e))
    first_e = (category_e[:, None] == category_e[None]).int().argmax(1)
    region_e = torch.where(is_thing_e | (category_e == 0), ids_e, first_e)
    region_thw = region_e[entity_thw]
    areas_e = torch.bincount(region_thw.flatten(), minlength=len(category_e))
    regions_n = ((areas_e >= _LEAST_PIXELS) & (category_e > 0)).nonzero()[:, 0]
    return ClipTargets(category_e[regions_n] - 1, region_thw[None] == regions_n[:, None, None, None])


def stacked_tubes(batches: Sequence[TubeBatch]) -> TubeBatch:
    """One batch of several."""
    return TubeBatch(
        torch.cat([batch.frames_bt3hw for batch in batches]),
        tuple(target for batch in batches for target in batch.targets),
        torch.cat([batch.number_b for batch in batches]),
    )
