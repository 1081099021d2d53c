"""What is in labelled videos, as far as layouts differ in what they have a place for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from maskstream.formats.category_map import CategoryMap, map_annotation
from maskstream.types import (
    OBJECT,
    CategorySet,
    FrameAnnotation,
    FrameRef,
    FrameSegmentation,
    LabelMap,
    VideoSample,
)


class Feature(Enum):
    """What may be in a video, and what becomes of it where there is no place for it."""

    OVERLAPS = "masks overlap: only the one on top is kept"
    CATEGORIES = "objects have categories: these are left out"
    NO_CATEGORY = "objects have no category: these objects are left out"
    CHANGING = "objects change their category: each gets one only, or becomes several"
    STUFF = "there is stuff: it is left out"
    KINDS = "there are things and stuff: they are not told apart"
    INSTANCES = "frames have several objects of one category: these become one"
    IDS = "objects have numbers: they get others"
    IDS_BY_CATEGORY = "objects have several categories: they get other numbers, made from category and number"
    TRACKS = "objects are the same on several frames: it is not said which is which"
    SCORES = "objects have scores: these are left out"
    SOFT = "there are probabilities: these are not kept as they are"
    CROWD = "there are crowds: they become objects"
    CROWD_AT_TIMES = "objects are a crowd on some frames: they become one on all"
    VOID = "there are void pixels: they become background"
    BACKGROUND = "there is background: it becomes void"
    UNANNOTATED = "frames have no labels: these frames are left out"
    NAMES = "frames have names: they are numbered instead"
    EMPTY = "no object is ever visible: the video is left out"
    NO_PICTURE = "frames have no picture: these frames are left out"
    EXPRESSIONS = "there are sentences: these are left out"
    NESTED = "the name has a slash: it gets a hyphen"


@dataclass(slots=True)
class Content:
    """What is in some videos.

    Attributes:
        videos: how many.
        frames: of all of them.
        having: number of videos that have each feature.
        digits: number of videos whose frames are named 0, 1, 2 … with so many digits; under None all others.
        ids: of the objects of each video, by name.
    """

    videos: int = 0
    frames: int = 0
    having: Counter[Feature] = field(default_factory=Counter)
    digits: Counter[int | None] = field(default_factory=Counter)
    ids: dict[str, set[int]] = field(default_factory=dict)


def survey(
    videos: Iterable[VideoSample],
    categories: CategorySet,
    *,
    mapping: CategoryMap | None = None,
    on_frame: Callable[[], None] = lambda: None,
) -> Content:
    """Go through videos once, a frame at a time, and see what is in them.

    Args:
        videos: to look at.
        categories: the label space of their annotation.
        mapping: see them as they are after it.
        on_frame: called after every frame.

    Raises:
        InputError: labels are hidden or damaged.
    """
    content = Content()
    for video in videos:
        found, seen = set[Feature](), _Seen()
        for index, frame in enumerate(video.frames):
            if frame.annotated:
                annotation = video.annotation(index)
                if annotation.segmentation.probabilities is not None:
                    found.add(Feature.SOFT)
                if mapping is not None:
                    if mapping.unknown is None and any(s.category is None for s in annotation.segmentation.segments):
                        found.add(Feature.NO_CATEGORY)
                    annotation = map_annotation(annotation, mapping)
                found |= seen.features(annotation)
            else:
                found.add(Feature.UNANNOTATED)
            if not has_picture(video, frame):
                found.add(Feature.NO_PICTURE)
            on_frame()
        space = categories if mapping is None else mapping.target
        if seen.categories and space.names != OBJECT.names:
            found.add(Feature.CATEGORIES)
        if seen.categories - set(space.ids[:1]):
            found.add(Feature.IDS_BY_CATEGORY)
        stuff = {c.id for c in space.categories if c.is_thing is False} & seen.categories
        found |= {Feature.STUFF} if stuff else set()
        found |= {Feature.KINDS} if stuff and seen.categories - stuff else set()
        found |= {Feature.EXPRESSIONS} if video.expressions() else set()
        found |= {Feature.NESTED} if "/" in video.name else set()
        found |= {Feature.IDS} if seen.ids else {Feature.EMPTY}
        content.videos += 1
        content.frames += len(video)
        content.having.update(found)
        content.digits[_digits(video)] += 1
        content.ids[video.name] = seen.ids
    return content


class _Seen:
    """What has been seen of a video: objects, and their categories."""

    def __init__(self) -> None:
        self.ids: set[int] = set()
        self.categories: set[int] = set()
        self._category_of: dict[int, int | None] = {}
        self._is_crowd: dict[int, bool] = {}

    def features(self, annotation: FrameAnnotation) -> set[Feature]:
        """What is on the next frame."""
        segmentation = annotation.segmentation
        areas = segmentation.areas().tolist()
        shown = [s for s, area in zip(segmentation.segments, areas, strict=True) if area]
        covered = _covered(segmentation)
        categories = [s.category for s in shown if s.category is not None]
        void = annotation.void
        checks = {
            Feature.OVERLAPS: sum(areas) > int(covered.sum()),
            Feature.NO_CATEGORY: len(categories) < len(shown),
            Feature.CROWD_AT_TIMES: any(
                self._is_crowd.setdefault(s.track_id, s.id in annotation.crowd_ids) != (s.id in annotation.crowd_ids)
                for s in shown
            ),
            Feature.CHANGING: any(self._category_of.setdefault(s.track_id, s.category) != s.category for s in shown),
            Feature.INSTANCES: len(set(categories)) < len(categories),
            Feature.TRACKS: any(s.track_id in self.ids for s in shown),
            Feature.SCORES: any(s.score is not None for s in shown),
            Feature.CROWD: any(s.id in annotation.crowd_ids for s in shown),
            Feature.VOID: void is not None and bool(void.any()),
            Feature.BACKGROUND: not (covered if void is None else covered | void.cpu().numpy()).all(),
        }
        self.ids |= {s.track_id for s in shown}
        self.categories |= set(categories)
        return {feature for feature, there in checks.items() if there}


def has_picture(video: VideoSample, frame: FrameRef) -> bool:
    """Whether there is a picture of a frame."""
    return video.read_image is not None or (frame.image is not None and frame.image.exists())


def _covered(segmentation: FrameSegmentation) -> NDArray[np.bool_]:
    """``bool[H, W]``, where there is any segment."""
    masks = segmentation.masks
    if isinstance(masks, LabelMap):
        return masks.values.cpu().numpy() > 0
    union = np.bitwise_or.reduce(masks.bits.cpu().numpy(), axis=0, initial=0)
    return np.unpackbits(union, axis=1, count=masks.width).astype(bool)


def _digits(video: VideoSample) -> int | None:
    """With how many digits frames are numbered from 0, or None if they are not."""
    digits = len(video.frames[0].stem) if video.frames else 0
    numbered = all(frame.stem == f"{index:0{digits}d}" for index, frame in enumerate(video.frames))
    return digits if numbered else None
