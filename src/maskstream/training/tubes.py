"""Clips in which every thing and every kind of stuff has a class and a mask: what the query core learns from.

scene ─► draw ─► grain ─────┬─► frames
video ─► read ─► augment ───┴─► things one by one, stuff by its kind ─► ClipTargets
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from maskstream.mask2former.prediction import ClipTargets
from maskstream.synthetic.batched import Clips
from maskstream.synthetic.expressions import Observer, refer
from maskstream.synthetic.scene import Scene
from maskstream.types import (
    OBJECT,
    CategorySet,
    FrameAnnotation,
    FrameSegmentation,
    InputError,
    LabelMap,
    Segment,
    VideoSample,
)

from .clips import Clip
from .rendered import MOST_GRAIN, RenderedClips, grainy
from .sampling import Augmentation, Choice, choose_frames, read_clip

_LEAST_PIXELS = 16
"""What is smaller in the whole clip is not asked for."""

_TRIES = 6

_GAP = 5
"""Frames of a video that a frame of a clip may be from the nearest other one, where they are annotated."""

_REACH = 10
"""Frames from a key frame to the frame it is carried to, at most (MPVSS, specification §5)."""


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


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence about a clip, and the positions of what it means among the clip's objects."""

    text: str
    objects: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class LabelledClip:
    """A clip of T frames with all that is known of it.

    Attributes:
        frames_t3hw: ``uint8[T, 3, H, W]``, RGB.
        targets: what is there.
        times_t: ``int64[T]``, which frames of the video these are; of a picture they are all one.
        say: gives sentences about it, which takes a while; none where nobody said anything.
    """

    frames_t3hw: Tensor
    targets: ClipTargets
    times_t: Tensor
    say: Callable[[], list[Said]] = field(repr=False)

    def as_batch(self, number: int) -> TubeBatch:
        """A batch of this clip."""
        return TubeBatch(self.frames_t3hw[None], (self.targets,), torch.tensor([number]))


class TubeSource(Protocol):
    """What clips come from."""

    def labelled(self, number: int, rng: np.random.Generator) -> LabelledClip:
        """A clip, see `tube`."""
        ...

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
        return self.labelled(number, rng).as_batch(number)

    def labelled(self, number: int, rng: np.random.Generator) -> LabelledClip:
        """See `TubeSource`."""
        (clips, scene), noise = self.scenes.drawn_scene(rng, motion=False), int(rng.integers(MOST_GRAIN + 1))
        frames_t3hw = grainy(clips.frames_bt3hw[0], noise, int(rng.integers(2**63)))
        regions_n = _regions(clips)
        times_t = self.scenes.step * torch.arange(len(frames_t3hw))
        return LabelledClip(
            frames_t3hw, targets_of(clips), times_t, lambda: _said_of_scene(clips, scene, regions_n, seed=number)
        )


class AnnotatedTubes:
    """Clips of labelled videos, or pictures: things one by one, stuff by its category.

    Args:
        videos: those with too few annotated frames are left out.
        categories: of the data set, in the order of the network's classes.
        frames: T.
        augment: what chance does with a clip.
        every: frames of a video from one annotated frame to the next.
        keyed: clips are a key frame and a later frame, which alone has to be annotated; see `choose_pair`.

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
        keyed: bool = False,
    ) -> None:
        self._places = []
        for n, video in enumerate(videos):
            annotated = [index for index, frame in enumerate(video.frames) if frame.annotated]
            if (
                any(annotated) if keyed else len(annotated) >= frames or _is_picture(video)
            ):  # the first frame has no key frame
                self._places.append((n, annotated))
        if not self._places and keyed:
            raise InputError("no video has an annotated frame with a frame before it: give the whole videos")
        if not self._places:
            raise InputError(f"no video has {frames} annotated frames: make clips shorter with task.frames")
        self._videos = videos
        self._class_of: dict[int | None, int] = {category.id: n for n, category in enumerate(categories.categories)}
        if categories.names == OBJECT.names:
            self._class_of[None] = 0
        self._is_stuff = {category.id for category in categories.categories if category.is_thing is False}
        self._frames = frames
        self._augment = augment
        self._gap = max(1, _GAP // every)
        self._keyed = keyed

    def __len__(self) -> int:
        return len(self._places)

    def tube(self, number: int, rng: np.random.Generator) -> TubeBatch:
        """See `TubeSource`."""
        return self.labelled(number, rng).as_batch(number)

    def labelled(self, number: int, rng: np.random.Generator) -> LabelledClip:
        """See `TubeSource`. A clip of which nothing is left is drawn again, a few times."""
        for _ in range(_TRIES):
            clip, known, video, times = self._clip(number, rng)
            ids = np.flatnonzero(np.bincount(clip.labels_thw.ravel(), minlength=len(known) + 1) >= _LEAST_PIXELS)
            if len(ids := ids[ids > 0]):
                break
        labels_thw = torch.from_numpy(clip.labels_thw)
        masks_nthw = labels_thw[None] == torch.from_numpy(ids)[:, None, None, None]
        frames_t3hw = torch.from_numpy(clip.frames_thw3).permute(0, 3, 1, 2).contiguous()
        classes = torch.tensor([label for label, _ in known], dtype=torch.int64)
        tracks = [known[label - 1][1] for label in ids.tolist()]
        return LabelledClip(
            frames_t3hw,
            ClipTargets(classes[ids - 1], masks_nthw),
            torch.tensor(times),
            lambda: _said_of_video(video, tracks, is_mirrored=clip.is_mirrored),
        )

    def _clip(
        self, number: int, rng: np.random.Generator
    ) -> tuple[Clip, list[tuple[int, int | None]], VideoSample, list[int]]:
        """A clip whose labels are 1 … n, classes and track ids of these, where it is from, and which frames it is."""
        n, annotated = self._places[int(rng.integers(len(self._places)))]
        if self._keyed:
            indices = list(choose_pair(len(self._videos[n].frames), annotated, rng))
        elif len(annotated) < self._frames:  # a picture, as often as is wanted
            indices = annotated * self._frames
        else:
            indices = [annotated[p] for p in choose_frames(len(annotated), self._frames, self._gap, rng)]
        numbers: dict[tuple[int, int | None], int] = {}

        def number_of(segment: Segment) -> int:
            if segment.category not in self._class_of:
                return 0
            own = None if segment.category in self._is_stuff else segment.track_id
            return numbers.setdefault((self._class_of[segment.category], own), len(numbers) + 1)

        clip = read_clip(self._videos[n], indices, number, number_of)
        return self._augment(clip, rng), list(numbers), self._videos[n], indices


def choose_pair(frames: int, annotated: Sequence[int], rng: np.random.Generator) -> tuple[int, int]:
    """A key frame and a later frame, which is annotated, up to ten frames apart (MPVSS, specification §5).

    Where all frames are annotated, one is drawn, then another one near it; the earlier is the key frame. Where few are,
    one of them is drawn, and the key frame is one before it.

    Args:
        frames: of the video.
        annotated: which are, ascending; one at least that is not the first.
        rng: chance.
    """
    if len(annotated) == frames:
        first = int(rng.integers(frames))
        near = [n for n in range(max(0, first - _REACH), min(frames, first + _REACH + 1)) if n != first]
        second = int(rng.choice(near))
        return min(first, second), max(first, second)
    current = int(rng.choice([n for n in annotated if n > 0]))
    return int(rng.integers(max(0, current - _REACH), current)), current


def _is_picture(video: VideoSample) -> bool:
    """Whether it is a labelled picture, of which clips show the same T times."""
    return len(video) == 1 and video.frames[0].annotated


def targets_of(clips: Clips) -> ClipTargets:
    """What is to be found in the first of some clips; classes count from 0, as those of `scene.WORLD` do from 1."""
    region_thw, regions_n = _region_of(clips)[clips.entity_bthw[0]], _regions(clips)
    return ClipTargets(clips.category_be[0, regions_n] - 1, region_thw[None] == regions_n[:, None, None, None])


def _region_of(clips: Clips) -> Tensor:
    """``int64[1 + E]``, of the first of some clips: things are one by one, stuff is known by the first of its kind."""
    category_e, is_thing_e = clips.category_be[0], clips.is_thing_be[0]
    first_e = (category_e[:, None] == category_e[None]).int().argmax(1)
    return torch.where(is_thing_e | (category_e == 0), torch.arange(len(category_e)), first_e)


def _regions(clips: Clips) -> Tensor:
    """``int64[N]``, the regions that are asked for."""
    category_e = clips.category_be[0]
    areas_e = torch.bincount(_region_of(clips)[clips.entity_bthw[0]].flatten(), minlength=len(category_e))
    return ((areas_e >= _LEAST_PIXELS) & (category_e > 0)).nonzero()[:, 0]


def _said_of_scene(clips: Clips, scene: Scene, regions_n: Tensor, *, seed: int) -> list[Said]:
    """Sentences that are true of what is seen of a scene in the first of some clips."""
    observer, position = Observer(scene), {number: n for n, number in enumerate(regions_n.tolist())}
    things = [entity for entity in scene.entities if entity.is_thing]
    for index, entity_hw in enumerate(clips.entity_bthw[0].cpu()):
        number_e = torch.zeros(clips.category_be.shape[1], dtype=torch.int32)
        seen = [thing for thing in things if bool((entity_hw == thing.id).any())]
        number_e[[thing.id for thing in seen]] = torch.arange(1, len(seen) + 1, dtype=torch.int32)
        segments = tuple(Segment(thing.id, thing.id, thing.category, is_thing=True) for thing in seen)
        found = FrameSegmentation(index, tuple(entity_hw.shape), segments, LabelMap(number_e[entity_hw]))
        observer.add(FrameAnnotation(found))
    said = refer(observer.appearances(), seed)
    return [Said(one.text, (position[number],)) for number, one in said if number in position]


def _said_of_video(video: VideoSample, tracks: Sequence[int | None], *, is_mirrored: bool) -> list[Said]:
    """Sentences about a video of whose objects all are there; mirrored, left is right."""
    found = []
    for one in video.expressions().values():
        if one.track_ids and set(one.track_ids) <= set(tracks):
            text = _mirrored(one.text) if is_mirrored else one.text
            found.append(Said(text, tuple(n for n, track in enumerate(tracks) if track in one.track_ids)))
    return found


def _mirrored(text: str) -> str:
    other = {"left": "right", "right": "left"}
    return re.sub(r"(?i)\b(left|right)(?=\b|most\b)", lambda found: other[found[0].lower()], text)


def cut(frames: int, tubes: int, overlap: int) -> list[slice]:
    """Where the tubes of a clip are.

    Raises:
        InputError: they would not be of one length, or no more than they share.
    """
    shared = overlap * (tubes - 1)
    if (frames + shared) % tubes or frames + shared < tubes * (overlap + 1):
        raise InputError(f"clips of {frames} frames are not {tubes} tubes of one length: change task.frames")
    length = (frames + shared) // tubes
    return [slice(n * (length - overlap), n * (length - overlap) + length) for n in range(tubes)]


def stacked_tubes(batches: Sequence[TubeBatch]) -> TubeBatch:
    """One batch of several."""
    return TubeBatch(
        torch.cat([batch.frames_bt3hw for batch in batches]),
        tuple(target for batch in batches for target in batch.targets),
        torch.cat([batch.number_b for batch in batches]),
    )
