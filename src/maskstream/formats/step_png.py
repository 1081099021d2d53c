"""Panoptic video as KITTI-STEP has it: a colour PNG a frame, red the class, 256 green + blue the instance.

``panoptic_maps/val/0002/000000.png`` is truth, ``0002/000000.png`` a result, both with one code. Instance 0 is stuff,
or a crowd of things; class 255 is void.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from pathlib import Path

import numpy as np

from maskstream.types import CategorySet, FrameAnnotation, InputError, Segment, VideoSample

from .id_picture import IdPicture
from .indexed_png import read_mask_folders
from .pictures import VOID, painted, write_picture, write_rgb_ids
from .png import read_label_png

_INSTANCES = 2**16


def read_step_png(path: Path, frame_index: int, categories: CategorySet, *, truth: bool = True) -> FrameAnnotation:
    """The labels of a frame. ``Segment.id`` is 65536 times the class counted from 1, plus the instance.

    Args:
        path: of the picture.
        frame_index: position of the frame.
        categories: the label space; ids are the classes.
        truth: class 255 is void, and things without an instance are crowd; in a prediction they are not.

    Raises:
        InputError: it is missing, damaged, or has a class that is not in the label space.
    """
    kinds = {category.id: category.is_thing for category in categories.categories}
    picture = IdPicture(read_label_png(path, encoding="rgb"))
    void, segments, crowd = [], {}, set()
    for code in picture.ids:
        red, green, blue = code & 255, code >> 8 & 255, code >> 16
        if red == VOID:
            void.append(code)
            continue
        if red not in kinds:
            raise InputError(f"{path} has the class {red} in its red channel, which {categories.name} has not")
        number = (red + 1) * _INSTANCES + 256 * green + blue
        segments[code] = Segment(number, number, red, is_thing=kinds[red])
        if kinds[red] and number % _INSTANCES == 0:
            crowd.add(number)
    by_number = dict(sorted(segments.items(), key=lambda item: item[1].id))
    segmentation = picture.segmentation(frame_index, by_number)
    if not truth:
        return FrameAnnotation(segmentation)
    return FrameAnnotation(segmentation, picture.where(void), crowd_ids=frozenset(crowd))


def read_step_results(root: Path, categories: CategorySet) -> dict[str, VideoSample]:
    """``SEQUENCE/FRAME.png``."""
    return read_mask_folders(root, read=lambda path, index: read_step_png(path, index, categories, truth=False))


def write_step_results(root: Path, videos: Iterable[VideoSample], categories: CategorySet) -> None:
    """``SEQUENCE/FRAME.png``, every frame that is labelled.

    Things keep their ids, modulo 65536, as instances where these are free; stuff has instance 0, and so has crowd.

    Raises:
        InputError: a segment has a category that the label space has not.
    """
    for video in videos:
        instances = _Instances(categories)
        for index, frame in enumerate(video.frames):
            if frame.annotated:
                annotation = video.annotation(index)
                codes = [
                    instances.code(segment, is_crowd=segment.id in annotation.crowd_ids)
                    for segment in annotation.segmentation.segments
                ]
                # The code of class 0 without an instance is 0, and so would be that of no segment.
                shifted = painted(annotation, [code + 1 for code in codes])
                write_rgb_ids(root / video.name / f"{frame.stem}.png", np.where(shifted, shifted - 1, VOID))


def write_kitti_step(root: Path, videos: Iterable[VideoSample], categories: CategorySet) -> None:
    """The truth, as a validation set: ``images/val`` (as JPEG) and ``panoptic_maps/val``."""

    def with_pictures() -> Iterable[VideoSample]:
        for video in videos:
            for index, frame in enumerate(video.frames):
                write_picture(root / "images" / "val" / video.name / f"{frame.stem}.png", video, index)
            yield video

    write_step_results(root / "panoptic_maps" / "val", with_pictures(), categories)


class _Instances:
    """Numbers of the things of a video, class by class."""

    def __init__(self, categories: CategorySet) -> None:
        self._kinds = {category.id: category.is_thing for category in categories.categories}
        self._name = categories.name
        self._given: dict[int, dict[int, int]] = {}

    def code(self, segment: Segment, *, is_crowd: bool) -> int:
        """Red, green and blue of a segment as one number; the void of a segment of unknown category."""
        if segment.category is None:
            return VOID
        if segment.category not in self._kinds:
            raise InputError(f"segment {segment.id} has the category {segment.category}, which {self._name} has not")
        instance = self._instance(segment.category, segment.id) if self._kinds[segment.category] and not is_crowd else 0
        return segment.category + (instance // 256 << 8) + (instance % 256 << 16)

    def _instance(self, category: int, number: int) -> int:
        given = self._given.setdefault(category, {})
        if number not in given:
            wanted, taken = number % _INSTANCES, set(given.values())
            free = (n for n in count(1) if n not in taken)
            given[number] = wanted if wanted and wanted not in taken else next(free)
        return given[number]
