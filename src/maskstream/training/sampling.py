"""Samples: which frames of which video, by the number of the sample alone.

    sample number ─► source ─► frames, labels ─► augmentation ─► objects ─► Clip
          └─► chance: every choice is made by ``default_rng([seed, number])``

There is no stream of chance and no order of reading. A run that goes on after a stop, or on several processes, sees the
samples that one run on one process would see.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeAlias, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from maskstream.types import InputError, Segment, VideoSample

from .clips import Clip, choose_objects

Augmentation: TypeAlias = Callable[[Clip, np.random.Generator], Clip]
"""Changes a clip by chance; all clips come out in one size."""
_T = TypeVar("_T")

_TRIES = 6
"""Spec §15: up to five retries for a first frame that shows an object."""
_GAPS = ((0.0, 5), (0.1, 10), (0.3, 15), (0.8, 5))
_CHOICE_OF_SOURCE = 1
"""Keeps the chance of a batch apart from that of the sample with the same number."""


class Source(Protocol):
    """What clips come from."""

    def clip(self, number: int, *, progress: float, rng: np.random.Generator) -> Clip:
        """Make a sample.

        Args:
            number: of the sample.
            progress: how much of the run is done, from 0 to 1.
            rng: chance of this sample; the only one that is used.
        """
        ...


@dataclass(frozen=True, slots=True)
class GapSchedule:
    """How far apart neighbouring frames of a clip may be (DEVA, specification §15).

    The authors change it at the end of an epoch; here it changes as soon as the run has come so far.

    Attributes:
        gaps: from which part of the run on, and how many frames; parts ascend from 0.
        every: frames of the video from one annotated frame to the next: gaps are divided by it, because only annotated
            frames are counted.
    """

    gaps: tuple[tuple[float, int], ...] = _GAPS
    every: int = 1

    def __post_init__(self) -> None:
        starts = [start for start, _ in self.gaps]
        if not starts or starts[0] != 0 or sorted(starts) != starts:
            raise InputError(f"a schedule of gaps goes from 0 upwards, not {starts}")
        if self.every < 1:
            raise InputError(f"every is 1 where every frame is annotated, or more, not {self.every}")

    def at(self, progress: float) -> int:
        """The greatest gap, in annotated frames, when so much of the run is done."""
        gap = [gap for start, gap in self.gaps if start <= progress][-1]
        return max(1, gap // self.every)


def choose_frames(frames: int, length: int, gap: int, rng: np.random.Generator) -> list[int]:
    """Choose the frames of a clip (DEVA, specification §15, "clip sampling").

    It begins with any frame and adds others, each near one that it has. Half of the clips go backwards.

    Args:
        frames: of the video.
        length: of the clip.
        gap: how far a frame may be from the nearest other one.
        rng: chance.

    Raises:
        InputError: the video is too short.
    """
    if not 1 <= length <= frames:
        raise InputError(f"a clip of {length} frames cannot be cut from a video of {frames}")
    chosen: list[int] = []
    near = np.ones(frames, np.bool_)
    for _ in range(length):
        frame = int(rng.choice(np.flatnonzero(near)))
        if not chosen:
            near[:] = False
        chosen.append(frame)
        near[max(0, frame - gap) : frame + gap + 1] = True
        near[chosen] = False
    return sorted(chosen, reverse=rng.random() < 0.5)


def some_of(items: Sequence[_T], fraction: float, *, seed: int = 0) -> Sequence[_T]:
    """A random part of the data, in order; a smaller part is within a larger one.

    Raises:
        InputError: the fraction is not more than 0 and at most 1.
    """
    if not 0 < fraction <= 1:
        raise InputError(f"the fraction of the data must be more than 0 and at most 1, not {fraction:g}")
    if fraction == 1:
        return items
    order = np.random.default_rng(seed).permutation(len(items))
    return [items[n] for n in sorted(order[: math.ceil(fraction * len(items))].tolist())]


class VideoClips:
    """Clips of labelled videos; only annotated frames are read.

    Args:
        videos: those with too few annotated frames are left out.
        length: frames of a clip.
        augment: what chance does with a clip.
        gaps: how far apart its frames may be.

    Raises:
        InputError: no video is long enough.
    """

    def __init__(
        self,
        videos: Sequence[VideoSample],
        *,
        length: int,
        augment: Augmentation | None = None,
        gaps: GapSchedule | None = None,
    ) -> None:
        self._videos = videos
        self._long_enough = [
            n for n, video in enumerate(videos) if sum(frame.annotated for frame in video.frames) >= length
        ]
        if not self._long_enough:
            raise InputError(
                f"none of {len(videos)} videos has {length} annotated frames: add longer ones, or train on shorter "
                "clips"
            )
        self._length = length
        self._augment = augment
        self._gaps = gaps or GapSchedule()

    def __len__(self) -> int:
        """How many videos are long enough."""
        return len(self._long_enough)

    def clip(self, number: int, *, progress: float, rng: np.random.Generator) -> Clip:
        """Read a clip. After six without an object on their first frames, the last one is taken as it is."""

        def attempt() -> Clip:
            video = self._videos[self._long_enough[int(rng.integers(len(self)))]]
            annotated = [n for n, frame in enumerate(video.frames) if frame.annotated]
            places = choose_frames(len(annotated), self._length, self._gaps.at(progress), rng)
            return read_clip(video, [annotated[place] for place in places], number)

        return _with_objects(attempt, self._augment, rng)


class ImageClips:
    """Clips that show one image T times, for an augmentation to move each time another way.

    Args:
        images: videos of one frame; of longer ones, any annotated frame is taken.
        length: T.
        augment: what chance does with a clip.

    Raises:
        InputError: there is no image.
    """

    def __init__(self, images: Sequence[VideoSample], *, length: int, augment: Augmentation | None = None) -> None:
        if not images:
            raise InputError("there is no image to make clips of")
        self._images = images
        self._length = length
        self._augment = augment

    def __len__(self) -> int:
        """How many images there are."""
        return len(self._images)

    def clip(self, number: int, *, progress: float, rng: np.random.Generator) -> Clip:
        """Read an image. After six without an object on their first frames, the last one is taken as it is."""
        del progress

        def attempt() -> Clip:
            image = self._images[int(rng.integers(len(self)))]
            annotated = [n for n, frame in enumerate(image.frames) if frame.annotated] or [0]
            still = read_clip(image, [annotated[int(rng.integers(len(annotated)))]], number)
            return Clip(
                still.frames_thw3.repeat(self._length, axis=0), still.labels_thw.repeat(self._length, axis=0), number
            )

        return _with_objects(attempt, self._augment, rng)


class Choice(Generic[_T]):
    """One of several, each as often as its weight says.

    Args:
        weighted: what there is, with its weights, which are positive.
    """

    def __init__(self, weighted: Sequence[tuple[_T, float]]) -> None:
        weights = np.array([weight for _, weight in weighted], np.float64)
        if not len(weights) or not (weights > 0).all():
            raise InputError(f"data come from one source or more, with weights above 0, not {weights.tolist()}")
        self._options = [option for option, _ in weighted]
        self._chances = weights / weights.sum()

    def draw(self, rng: np.random.Generator) -> _T:
        """Any of them."""
        return self._options[int(rng.choice(len(self._options), p=self._chances))]


class Mixture(Dataset[Clip]):
    """The samples of a run, from several sources; give it to a ``DataLoader`` with the numbers as sampler.

    Args:
        sources: each with its weight, how often it is chosen; for a data set, its length times its repeats.
        seed: of the run.
        batch: samples of one iteration, of all processes together.
        steps: iterations of the run.
        objects: that a clip keeps at most.
        mix: whether every sample chooses its source, or the samples of one iteration have one together.

    Raises:
        InputError: there is no source, or a weight is not positive.
    """

    def __init__(
        self,
        sources: Sequence[tuple[Source, float]],
        *,
        seed: int,
        batch: int,
        steps: int,
        objects: int,
        mix: Literal["sample", "batch"] = "sample",
    ) -> None:
        self._sources = Choice(sources)
        self._seed = seed
        self._batch = batch
        self._steps = steps
        self._objects = objects
        self._mix = mix

    def __len__(self) -> int:
        return self._steps * self._batch

    def __getitem__(self, number: int) -> Clip:
        if not 0 <= number < len(self):
            raise IndexError(f"there is no sample {number}: the run has {len(self)}")
        rng = np.random.default_rng([self._seed, number])
        iteration = number // self._batch
        by = rng if self._mix == "sample" else np.random.default_rng([self._seed, iteration, _CHOICE_OF_SOURCE])
        source = self._sources.draw(by)
        clip = source.clip(number, progress=iteration / self._steps, rng=rng)
        return replace(clip, labels_thw=choose_objects(clip.labels_thw, self._objects, rng))


def _with_objects(attempt: Callable[[], Clip], augment: Augmentation | None, rng: np.random.Generator) -> Clip:
    """The first of some attempts that shows an object on its first frame, else the last."""
    for _ in range(_TRIES):
        clip = attempt()
        clip = clip if augment is None else augment(clip, rng)
        if clip.labels_thw[0].any():
            break
    return clip


def _track_id(segment: Segment) -> int:
    return segment.track_id


def read_clip(
    video: VideoSample, indices: Sequence[int], number: int, id_of: Callable[[Segment], int] = _track_id
) -> Clip:
    """Frames of a video with their labels; all is background where there are none.

    Args:
        video: labelled.
        indices: of its frames.
        number: of the sample.
        id_of: the label of a segment, 0 for background; crowds and void are background whatever it says.

    Raises:
        InputError: a picture or labels cannot be read, or their sizes differ.
    """
    frames, labels = [], []
    for index in indices:
        frame = read_picture(video, index)
        if video.frames[index].annotated:
            label = _read_labels(video, index, id_of)
        else:
            label = np.zeros(frame.shape[:2], np.int32)
        if frame.shape[:2] != label.shape:
            (height, width), (label_height, label_width) = frame.shape[:2], label.shape
            raise InputError(
                f"{video.name}, frame {video.frames[index].stem}: the picture is {height}×{width} but its labels are "
                f"{label_height}×{label_width}: make them one size"
            )
        frames.append(frame)
        labels.append(label)
    sizes = sorted({label.shape for label in labels})
    if len(sizes) != 1:
        raise InputError(f"{video.name}: frames of a video have one size, not {sizes[0]} and {sizes[1]}")
    return Clip(np.stack(frames), np.stack(labels), number)


def read_picture(video: VideoSample, index: int) -> NDArray[np.uint8]:
    """Upright ``uint8[H, W, 3]`` RGB, without the video reader, which training does not need."""
    if video.read_image is not None:
        return video.read_image(index)
    frame = video.frames[index]
    if frame.image is None:
        raise InputError(f"{video.name}, frame {frame.stem}: this data set has annotations but no pictures here")
    return _decode(frame.image)


def _decode(path: Path) -> NDArray[np.uint8]:
    try:
        picture = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error) as error:
        raise InputError(f"{path} cannot be read as an image: {error}") from error
    if picture is None:
        raise InputError(f"{path} cannot be read as an image: it is damaged, or no image")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _read_labels(video: VideoSample, index: int, id_of: Callable[[Segment], int]) -> NDArray[np.int32]:
    annotation = video.annotation(index)
    segmentation = annotation.segmentation
    ids = [0, *(0 if s.id in annotation.crowd_ids else id_of(s) for s in segmentation.segments)]
    labels: NDArray[np.int32] = np.array(ids, np.int32)[segmentation.label_map().cpu().numpy()]
    if annotation.void is not None:
        labels[annotation.void.cpu().numpy()] = 0
    return labels
