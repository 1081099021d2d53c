"""BURST: masks by track for every annotated frame, in one JSON file for each split (C13).

================  ================================================================================================
truth             ``annotations/val/all_classes.json`` and ``first_frame_annotations.json``, ``annotations/info``;
                  ``frames/val/DATASET/SEQUENCE/FILE``
results           ``exemplar_guided.json``, ``class_guided.json`` or ``open_world.json``, of the same structure
================  ================================================================================================

A video is named ``DATASET/SEQUENCE``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TypeAlias

import cv2
import numpy as np

from maskstream.types import (
    RLE,
    CategorySet,
    FrameAnnotation,
    FrameRef,
    InputError,
    LabelMap,
    MaskPrompt,
    PointPrompt,
    Prompt,
    Segment,
    Task,
    VideoSample,
    decode_rle,
    rle_box_xywh,
)

from .json_files import Json, json_list, write_json
from .long_json import LazySamples, Shards, reading
from .pictures import visible, write_picture
from .run_lengths import frame_of

COLLECTION = "Synthetic"
"""What BURST calls the data set that a video comes from, for videos whose name does not say it."""
_WHAT = "annotations of BURST"
_EXEMPLARS = (Task.PET, Task.VOS)

Plain: TypeAlias = dict[str, object]


@dataclass(frozen=True, slots=True, eq=False)
class BurstRecord:
    """A sequence as it is in a file.

    Attributes:
        name: ``DATASET/SEQUENCE``.
        number: its id.
        size_hw: height and width.
        fps: of the pictures that are listed, or None.
        pictures: files of all frames, below the folder of the sequence, in order.
        annotated: files of those that somebody labelled.
        negative: categories that are certainly absent.
        not_exhaustive: categories of which not every object is annotated.
        categories: by track.
        masks: for each of ``annotated`` what the file says of each track.
    """

    name: str
    number: int
    size_hw: tuple[int, int]
    fps: float | None
    pictures: tuple[str, ...]
    annotated: tuple[str, ...]
    negative: frozenset[int]
    not_exhaustive: frozenset[int]
    categories: Mapping[int, int | None]
    masks: tuple[Mapping[int, Json], ...] = field(repr=False)

    def annotation(self, position: int, frame_index: int) -> FrameAnnotation:
        """The masks of frame ``position`` of ``annotated``.

        Raises:
            InputError: one is damaged or not of the size of the sequence.
        """
        listed = self.masks[position]
        codes = [RLE(size=list(self.size_hw), counts=str(one["rle"])) for one in listed.values()]
        segments = [
            Segment(track, track, self.categories[track], _score(one), is_thing=True) for track, one in listed.items()
        ]
        return FrameAnnotation(frame_of(frame_index, self.size_hw, segments, codes))


class BurstFile:
    """A file of annotations or results; one sequence is held at a time.

    Attributes:
        path: of the file.
        names: of the sequences, ``DATASET/SEQUENCE``, in the order of the file.
        rest: what else is in it.

    Raises:
        InputError: it is no such file, or a sequence is in it twice.
    """

    def __init__(self, path: Path, *, what: str = _WHAT) -> None:
        self.path = path
        self._sequences = Shards(path, "sequences", by=("dataset", "seq_name"), what=what)
        if not self._sequences.has_list:
            raise InputError(f"{path} has no list of sequences; it should be {what}")
        self.names, self.rest = self._sequences.keys(), self._sequences.rest
        self.record = lru_cache(maxsize=1)(self._record)

    def _record(self, name: str) -> BurstRecord:
        """A sequence.

        Raises:
            InputError: something of it is missing or does not fit together.
        """
        found = self._sequences[name]
        if len(found) != 1:
            raise InputError(f"{self.path} has the sequence {name} {len(found)} times")
        with reading(self.path, name):
            return _record(name, found[0])

    def sample(self, name: str, images: Path | None = None, exemplars: BurstFile | None = None) -> VideoSample:
        """A video.

        Args:
            name: of the sequence.
            images: the folder of its split; results have none, and have their annotated frames only.
            exemplars: where prompts are.
        """
        record = self.record(name)  # read again for each frame, so that no sample holds masks
        size_hw = record.size_hw
        files = record.annotated if images is None else record.pictures
        at = {file: position for position, file in enumerate(record.annotated)}

        def annotation(index: int) -> FrameAnnotation:
            if files[index] not in at:
                return FrameAnnotation(frame_of(index, size_hw, (), ()), annotated=False)
            sequence = self.record(name)
            with reading(self.path, f"{name}, {files[index]}"):
                return sequence.annotation(at[files[index]], index)

        def prompts(task: Task) -> Sequence[Prompt]:
            if exemplars is None or task not in _EXEMPLARS:
                raise InputError(f"{name}: there are no exemplars for the task {task.value}")
            return _prompts(exemplars, name, files, task)

        frames = tuple(
            FrameRef(_stem(file), None if images is None else images / name / file, file in at) for file in files
        )
        return VideoSample(name, frames, annotation, read_prompts=prompts, video_id=record.number, fps=record.fps)


def read_burst_results(path: Path) -> LazySamples:
    """Results by ``DATASET/SEQUENCE``; one sequence is held at a time.

    Raises:
        InputError: it is no such file, or a sequence is in it twice.
    """
    file = BurstFile(path, what="results of BURST")
    return LazySamples(file.names, file.sample)


# Writing.


def write_burst(root: Path, videos: Iterable[VideoSample], categories: CategorySet) -> None:
    """``frames/val``, ``annotations/val`` (``all_classes`` and ``first_frame_annotations``) and ``annotations/info``.

    Every thing on an annotated frame counts as annotated, so all categories that do not occur are negative. The point
    of a mask is the pixel that lies deepest inside.
    """
    things = _things(categories)
    ids = [c.id for c in categories.categories if c.is_thing is not False]
    folder, rest = root / "annotations", {"split": "val", "categories": things}
    with (
        json_list(folder / "val" / "all_classes.json", "sequences", rest) as add,
        json_list(folder / "val" / "first_frame_annotations.json", "sequences", rest) as add_first,
    ):
        for number, video in enumerate(videos, 1):
            every, first = _Sequence(video, ".jpg"), _Sequence(video, ".jpg")
            for index, frame in enumerate(video.frames):
                write_picture(root / "frames" / "val" / every.path / every.pictures[index], video, index)
                if frame.annotated:
                    shown = _things_on(annotation := video.annotation(index))
                    new = {s: code for s, code in shown.items() if s.track_id not in every.categories}
                    size_hw = annotation.segmentation.size_hw
                    truth = {s: {"rle": code["counts"], "is_gt": True, "score": 1.0} for s, code in shown.items()}
                    every.add(index, size_hw, truth)
                    first.add(index, size_hw, {s: truth[s] | _exemplar(code) for s, code in new.items()})
            absent = sorted(set(ids) - set(every.categories.values()))
            add(every.plain(number, negative=absent))
            add_first(first.plain(number, negative=absent, categories=every.categories))
    write_json(folder / "info" / "categories.json", things)
    write_json(folder / "info" / "class_split.json", {"common": ids, "uncommon": [], "all": ids})


def write_burst_exemplar_results(root: Path, videos: Iterable[VideoSample], categories: CategorySet) -> None:
    """``exemplar_guided.json``: the tracks and categories that were given."""
    _write_results(root / "exemplar_guided.json", videos, categories)


def write_burst_class_results(root: Path, videos: Iterable[VideoSample], categories: CategorySet) -> None:
    """``class_guided.json``."""
    _write_results(root / "class_guided.json", videos, categories)


def write_burst_open_world_results(root: Path, videos: Iterable[VideoSample], categories: CategorySet) -> None:
    """``open_world.json``; masks must not overlap there, so the one with the highest score is on top."""
    _write_results(root / "open_world.json", videos, categories, disjoint=True)


def _write_results(
    path: Path, videos: Iterable[VideoSample], categories: CategorySet, *, disjoint: bool = False
) -> None:
    with json_list(path, "sequences", {"split": "val", "categories": _things(categories)}) as add:
        for number, video in enumerate(videos, 1):
            sequence = _Sequence(video)
            for index in range(len(video)):
                shown = _things_on(annotation := video.annotation(index), disjoint=disjoint)
                masks = {
                    s: {"rle": code["counts"], "score": 1.0 if s.score is None else s.score}
                    for s, code in shown.items()
                }
                sequence.add(index, annotation.segmentation.size_hw, masks)
            add(sequence.plain(number))


class _Sequence:
    """An entry of ``sequences`` that is still growing.

    Args:
        video: what it is.
        suffix: of its pictures; that of each frame if there is none.
    """

    def __init__(self, video: VideoSample, suffix: str | None = None) -> None:
        self._video = video
        self.path = video.name if "/" in video.name else f"{COLLECTION}/{video.name}"
        self.pictures = [
            f"{frame.stem}{suffix or (frame.image.suffix if frame.image else '.jpg')}" for frame in video.frames
        ]
        self.categories: dict[int, int | None] = {}
        self._size_hw = (0, 0)
        self._annotated: list[str] = []
        self._masks: list[dict[str, Plain]] = []

    def add(self, index: int, size_hw: tuple[int, int], masks: Mapping[Segment, Plain]) -> None:
        """Take a frame."""
        self._size_hw = size_hw
        self._annotated.append(self.pictures[index])
        by_track = sorted(masks.items(), key=lambda pair: pair[0].track_id)
        self._masks.append({str(segment.track_id): plain for segment, plain in by_track})
        self.categories.update({segment.track_id: segment.category for segment in masks})

    def plain(
        self, number: int, *, negative: Collection[int] = (), categories: Mapping[int, int | None] | None = None
    ) -> Plain:
        """The entry; its own number is used if the video has none."""
        collection, _, name = self.path.partition("/")
        categories = self.categories if categories is None else categories
        return {
            "id": number if self._video.video_id is None else self._video.video_id,
            "seq_name": name,
            "dataset": collection,
            "width": self._size_hw[1],
            "height": self._size_hw[0],
            "fps": self._video.fps,
            "all_image_paths": self.pictures,
            "annotated_image_paths": self._annotated,
            "neg_category_ids": list(negative),
            "not_exhaustive_category_ids": [],
            "track_category_ids": {str(track): category for track, category in sorted(categories.items())},
            "segmentations": self._masks,
        }


def _things(categories: CategorySet) -> list[Plain]:
    return [{"id": c.id, "name": c.name} for c in categories.categories if c.is_thing is not False]


def _things_on(annotation: FrameAnnotation, *, disjoint: bool = False) -> dict[Segment, RLE]:
    segmentation = annotation.segmentation
    if disjoint and not segmentation.disjoint:
        annotation = FrameAnnotation(replace(segmentation, masks=LabelMap(segmentation.label_map())))
    return {segment: code for segment, code in visible(annotation) if segment.is_thing is not False}


def _exemplar(code: RLE) -> Plain:
    """Box and point of a mask, the point being the pixel that is farthest from all others."""
    x, y, width, height = rle_box_xywh(code)
    mask = decode_rle([code], (code["size"][0], code["size"][1]))[0, y : y + height, x : x + width]
    around = cv2.copyMakeBorder(mask.numpy().astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    distance = cv2.distanceTransform(around, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    # Squares of distances are whole numbers: rounded, they are the same with every build of OpenCV.
    row, column = divmod(int(np.rint(distance * distance).argmax()), width)
    return {"bbox": [x, y, width, height], "point": {"x": x + column, "y": y + row}}


# Pieces of the files.


def _record(name: str, plain: Json) -> BurstRecord:
    annotated, listed = tuple(plain["annotated_image_paths"]), plain["segmentations"]
    if len(listed) != len(annotated):
        raise InputError(f"there are {len(listed)} segmentations, but {len(annotated)} annotated_image_paths")
    pictures = tuple(plain.get("all_image_paths") or annotated)
    if not set(annotated) <= set(pictures):
        pictures = tuple(sorted({*pictures, *annotated}))
    keys = list(plain["track_category_ids"])
    unknown = {key for masks in listed for key in masks} - set(keys)
    if unknown:
        raise InputError(f"track {min(unknown)} has masks, but is not in track_category_ids")
    # Tracks count from 1; a zero gets the first number that is free.
    number = {key: int(key) or max(map(int, keys)) + 1 for key in keys}
    return BurstRecord(
        name,
        int(plain["id"]),
        (int(plain["height"]), int(plain["width"])),
        plain.get("fps"),
        pictures,
        annotated,
        frozenset(plain.get("neg_category_ids") or ()),
        frozenset(plain.get("not_exhaustive_category_ids") or ()),
        {number[key]: category for key, category in plain["track_category_ids"].items()},
        tuple({number[key]: one for key, one in masks.items()} for masks in listed),
    )


def _stem(file: str) -> str:
    return str(PurePosixPath(file).with_suffix(""))


def _score(plain: Json) -> float | None:
    """Of a mask that no person drew."""
    return None if plain.get("is_gt", False) else plain.get("score")


def _prompts(exemplars: BurstFile, name: str, files: Sequence[str], task: Task) -> list[Prompt]:
    """A point or a mask for each track, on the frame on which it is first seen."""
    record = exemplars.record(name)
    prompts: list[Prompt] = []
    for position, (file, listed) in enumerate(zip(record.annotated, record.masks, strict=True)):
        if not listed:
            continue
        with reading(exemplars.path, f"{name}, {file}"):
            index = files.index(file)
            masks_nhw = record.annotation(position, index).segmentation.masks_nhw() if task is Task.VOS else ()
            for n, (track, plain) in enumerate(listed.items()):
                category = record.categories[track]
                if task is Task.VOS:
                    prompts.append(MaskPrompt(index, track, masks_nhw[n], category=category, is_thing=True))
                else:
                    point = plain["point"]
                    x_y = (point["x"], point["y"]) if isinstance(point, dict) else tuple(point)
                    prompts.append(PointPrompt(index, track, (x_y,), category=category, is_thing=True))
    return prompts
