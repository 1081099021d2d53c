"""KITTI-MOTS: a line for each mask of a sequence, or a picture for each frame (C3).

================  ================================================================================================
truth             ``instances_txt/0002.txt``, or ``instances/0002/000000.png`` with 1000 · class + instance
results           ``0002.txt``
================  ================================================================================================

A line is ``frame id class height width run-lengths``. Class 10 is a region to ignore. Masks of a frame are disjoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from maskstream.types import (
    RLE,
    CategorySet,
    FrameAnnotation,
    FrameRef,
    FrameSegmentation,
    InputError,
    LabelMap,
    Segment,
    VideoSample,
    decode_rle,
    encode_rle,
)

from .long_json import LazySamples, reading
from .pictures import painted, visible, write_picture
from .png import read_label_png
from .run_lengths import check_codes, frame_of
from .youtube_vis import known_category

IGNORED = 10
"""The class of regions to ignore."""
_PER_CLASS = 1000


@dataclass(frozen=True, slots=True)
class MotsLine:
    """A mask of a frame."""

    track: int
    category: int
    code: RLE = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class MotsFile:
    """A sequence as text.

    Attributes:
        path: of the file.
        size_hw: height and width, or None where there is no line.
        lines: by frame.
    """

    path: Path
    size_hw: tuple[int, int] | None
    lines: dict[int, list[MotsLine]]

    def annotation(self, frame: int, frame_index: int, size_hw: tuple[int, int]) -> FrameAnnotation:
        """The masks of a frame; regions to ignore are void.

        Args:
            frame: its number.
            frame_index: its position.
            size_hw: of the sequence, for frames without a line.

        Raises:
            InputError: a mask is damaged.
        """
        lines = self.lines.get(frame, [])
        objects = [line for line in lines if line.category != IGNORED]
        segments = [Segment(line.track, line.track, line.category, is_thing=True) for line in objects]
        ignored = [line.code for line in lines if line.category == IGNORED]
        with reading(self.path, f"frame {frame}"):
            segmentation = frame_of(frame_index, size_hw, segments, [line.code for line in objects])
            check_codes(ignored)
        return FrameAnnotation(segmentation, decode_rle(ignored, size_hw).any(dim=0) if ignored else None)


def read_mots(path: Path, *, classes: Sequence[int]) -> MotsFile:
    """The masks of a sequence.

    Args:
        path: of the text file.
        classes: that may be in it.

    Raises:
        InputError: it is missing; a line is none, is of an unknown class or another size, or comes twice.
    """
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError as error:
        raise InputError(f"there is no {path}, the masks of a sequence of KITTI-MOTS") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as masks of KITTI-MOTS: {error}") from error
    size_hw: tuple[int, int] | None = None
    lines: dict[int, list[MotsLine]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            frame, track, category, height, width, counts = line.split()
            size = int(height), int(width)
            one = MotsLine(int(track), int(category), RLE(size=list(size), counts=counts))
            others = lines.setdefault(int(frame), [])
        except ValueError as error:
            raise InputError(f"{where} is not 'frame id class height width run-lengths', but {line[:40]!r}") from error
        if one.category not in classes:
            raise InputError(f"{where} has the class {category}; there are {', '.join(map(str, classes))}")
        if size != (size_hw or size):
            raise InputError(f"{where} is {height}×{width}, but the lines above are {size_hw}")
        if one.category != IGNORED and any(one.track == other.track for other in others):
            raise InputError(f"{where} has the id {track} for the second time on frame {frame}")
        if one.track < 1:
            raise InputError(f"{where} has the id {track}; ids count from 1")
        others.append(one)
        size_hw = size
    return MotsFile(path, size_hw, lines)


def read_mots_results(root: Path, *, classes: Sequence[int]) -> LazySamples:
    """Results by sequence: its frames are those that have a line.

    Raises:
        InputError: there is no file of results.
    """
    files = {path.stem: path for path in sorted(root.glob("*.txt")) if not path.name.startswith(".")}
    if not files:
        raise InputError(f"{root} has no VIDEO.txt, the results of a sequence of KITTI-MOTS")

    def sample(name: str) -> VideoSample:
        text = read_mots(files[name], classes=classes)
        frames = sorted(text.lines)

        def annotation(index: int) -> FrameAnnotation:
            assert text.size_hw is not None
            return text.annotation(frames[index], index, text.size_hw)

        return VideoSample(name, tuple(FrameRef(f"{frame:06d}") for frame in frames), annotation)

    return LazySamples(list(files), sample)


def read_mots_png(path: Path, frame_index: int, *, classes: Sequence[int]) -> FrameAnnotation:
    """A frame from a picture of 16 bits, 1000 · class + instance; regions to ignore are void.

    Raises:
        InputError: it is missing or damaged, or has an unknown class.
    """
    values = read_label_png(path)
    present = np.unique(values)
    ids = [int(value) for value in present if value and value // _PER_CLASS != IGNORED]
    unknown = [value for value in ids if value // _PER_CLASS not in classes]
    if unknown:
        raise InputError(f"{path} has the id {unknown[0]}, of class {unknown[0] // _PER_CLASS}, which is none")
    labels = np.searchsorted(np.array([0, *ids]), values).astype(np.int32)
    void = values // _PER_CLASS == IGNORED
    labels[void] = 0
    masks = LabelMap(torch.from_numpy(labels))
    segments = tuple(Segment(value, value, value // _PER_CLASS, is_thing=True) for value in ids)
    return FrameAnnotation(
        FrameSegmentation(frame_index, masks.size_hw, segments, masks),
        void=torch.from_numpy(void) if void.any() else None,
    )


def write_mots(root: Path, videos: Iterable[VideoSample], categories: CategorySet) -> None:
    """``instances_txt``, regions to ignore included, pictures in ``image_02`` and ``evaluate_mots.seqmap.val``.

    Annotated frames only, numbered anew from 0.
    """
    (root / "instances_txt").mkdir(parents=True)
    with (root / "evaluate_mots.seqmap.val").open("w", encoding="ascii", newline="\n") as names:
        for video in videos:
            shown = [index for index, frame in enumerate(video.frames) if frame.annotated]
            with _LineWriter(root / "instances_txt" / f"{video.name}.txt", categories) as lines:
                for number, index in enumerate(shown):
                    write_picture(root / "image_02" / video.name / f"{number:06d}.jpg", video, index)
                    annotation = video.annotation(index)
                    lines.objects(number, annotation)
                    lines.ignored(number, annotation)
            names.write(f"{video.name} empty 000000 {len(shown):06d}\n")


def write_mots_results(root: Path, videos: Iterable[VideoSample], categories: CategorySet) -> None:
    """``VIDEO.txt``; where masks overlap the one with the highest score is on top."""
    root.mkdir(parents=True, exist_ok=True)
    for video in videos:
        with _LineWriter(root / f"{video.name}.txt", categories) as lines:
            for index, frame in enumerate(video.frames):
                lines.objects(int(frame.stem) if frame.stem.isdecimal() else index, video.annotation(index))


class _LineWriter:
    """Writes the lines of a sequence."""

    def __init__(self, path: Path, categories: CategorySet) -> None:
        self._file = path.open("w", encoding="ascii", newline="\n")
        self._name, self._categories = path.stem, categories
        self._ids: dict[int, int] = {}

    def objects(self, frame: int, annotation: FrameAnnotation) -> None:
        """The things of a frame."""
        for segment, code in visible(_disjoint(annotation)):
            if segment.is_thing is not False:
                category = known_category(segment.category, self._categories, f"{self._name}: segment {segment.id}")
                self._write(frame, self._id(segment, category), category, code)

    def ignored(self, frame: int, annotation: FrameAnnotation) -> None:
        """The region to ignore of a frame."""
        if annotation.void is not None and annotation.void.any():
            self._write(frame, IGNORED * _PER_CLASS, IGNORED, encode_rle(annotation.void[None])[0])

    def _write(self, frame: int, number: int, category: int, code: RLE) -> None:
        self._file.write(f"{frame} {number} {category} {code['size'][0]} {code['size'][1]} {code['counts']}\n")

    def _id(self, segment: Segment, category: int) -> int:
        """1000 · class + instance: what the segment has already, or the next free number of its class."""
        if segment.category is None or segment.category not in self._categories.ids:
            name = self._categories.name
            raise InputError(
                f"segment {segment.id} has category {segment.category}, which {name} has not: map categories"
            )
        if segment.id not in self._ids:
            is_one = segment.id // _PER_CLASS == segment.category
            number = segment.id if is_one else segment.category * _PER_CLASS + 1
            taken = set(self._ids.values())
            while number in taken:
                number += 1
            self._ids[segment.id] = number
        return self._ids[segment.id]

    def __enter__(self) -> _LineWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _disjoint(annotation: FrameAnnotation) -> FrameAnnotation:
    segmentation = annotation.segmentation
    positions = painted(annotation, range(1, len(segmentation.segments) + 1))
    masks = LabelMap(torch.from_numpy(positions))
    return FrameAnnotation(
        FrameSegmentation(segmentation.frame_index, segmentation.size_hw, segmentation.segments, masks)
    )
