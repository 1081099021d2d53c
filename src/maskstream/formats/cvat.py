"""CVAT for video 1.1: a folder a video, with ``annotations.xml`` and ``images`` (docs.cvat.ai/docs/other/xml_format).

A ``<track>`` holds shapes, each on a frame, counted from 0. A ``<mask>`` is the lengths of the runs along the rows of
its box, the first one outside; ``outside="1"`` says that the object is gone.

CVAT has no tracks of masks. It writes a mask as a track of one frame, gone on the next, and of a track of masks that
it reads it keeps the first (cvat/apps/dataset_manager/formats/cvat.py of its source). So every mask is a track here
too, and the attribute ``track_id`` names the object. CVAT keeps attributes that the label has: give the labels of the
task a text attribute of this name. Shapes without it are an object for each track. Polygons and boxes are read as the
pixels inside; frames between key frames are in what CVAT exports, so none is interpolated.

There is no place for scores, things and stuff, crowds, void, or names of frames; those of ``images`` are taken.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO, TypeAlias
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstream.types import (
    Category,
    CategorySet,
    FrameAnnotation,
    FrameRef,
    InputError,
    MaskstreamWarning,
    Segment,
    VideoSample,
    decode_rle,
)
from maskstream.video.images import is_image

from .pictures import visible, write_picture
from .regions import joined, polygon_mask

FILE = "annotations.xml"
_TRACK_ID = "track_id"

_Box: TypeAlias = tuple[int, int, int, int]
"""Left, top, width and height."""
_Colour: TypeAlias = tuple[int, int, int]


# Writing.


def write_cvat(root: Path, videos: Iterable[VideoSample], categories: CategorySet) -> None:
    """Write ``VIDEO/annotations.xml``, and ``VIDEO/images`` where there are pictures. Every object has a category."""
    for video in videos:
        folder = root / video.name
        write_cvat_file(folder / FILE, video, categories)
        for index, frame in enumerate(video.frames):
            write_picture(folder / "images" / f"{frame.stem}.jpg", video, index)


def write_cvat_file(path: Path, video: VideoSample, categories: CategorySet) -> None:
    """Write the labels of one video as an XML file, and its folder.

    Raises:
        InputError: an object has no category, or one that the label space has not.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        tracks = 0
        begun = False
        for index, frame in enumerate(video.frames):
            if not frame.annotated:
                continue
            annotation = video.annotation(index)
            if not begun:
                _write_head(file, video, categories, annotation.segmentation.size_hw)
                begun = True
            for segment, code in visible(annotation):
                if segment.category is None:
                    raise InputError(f"object {segment.track_id} of {video.name} has no category, which CVAT needs")
                box, runs = boxed_runs(decode_rle([code], annotation.segmentation.size_hw)[0].numpy())
                label = quoteattr(categories[segment.category].name)
                file.write(f'  <track id="{tracks}" label={label} source="file">\n')
                _write_shape(file, index, segment.track_id, box, runs)
                if index + 1 < len(video):  # gone; it must be a mask even so
                    _write_shape(file, index + 1, segment.track_id, (box[0], box[1], 1, 1), [0, 1], outside=True)
                file.write("  </track>\n")
                tracks += 1
        if not begun:
            raise InputError(f"{video.name} has no frame with labels, which CVAT needs")
        file.write("</annotations>\n")


def boxed_runs(mask: NDArray[np.bool_]) -> tuple[_Box, list[int]]:
    """The box of a mask, and the lengths of the runs along its rows, the first one outside.

    Args:
        mask: ``bool[H, W]`` with a pixel at least.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = int(rows[0]), int(columns[0])
    box = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    pixels = box.ravel()
    edges = np.append(np.flatnonzero(np.diff(pixels)) + 1, pixels.size)
    runs = np.diff(edges, prepend=0).tolist()
    return (left, top, box.shape[1], box.shape[0]), [0, *runs] if pixels[0] else runs


def _write_head(file: TextIO, video: VideoSample, categories: CategorySet, size_hw: tuple[int, int]) -> None:
    file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n')
    file.write("  <version>1.1</version>\n  <meta>\n    <task>\n")
    file.write(f"      <name>{escape(video.name)}</name>\n      <size>{len(video)}</size>\n")
    file.write("      <mode>interpolation</mode>\n      <start_frame>0</start_frame>\n")
    file.write(f"      <stop_frame>{len(video) - 1}</stop_frame>\n      <labels>\n")
    for category in categories.categories:
        colour = "" if category.colour is None else "<color>#{:02x}{:02x}{:02x}</color>".format(*category.colour)
        file.write(f"        <label><name>{escape(category.name)}</name>{colour}<attributes><attribute>")
        file.write(f"<name>{_TRACK_ID}</name><mutable>False</mutable><input_type>text</input_type>")
        file.write("<default_value></default_value><values></values></attribute></attributes></label>\n")
    file.write("      </labels>\n")
    file.write(f"      <original_size><width>{size_hw[1]}</width><height>{size_hw[0]}</height></original_size>\n")
    file.write("    </task>\n  </meta>\n")


def _write_shape(
    file: TextIO, frame: int, track_id: int, box: _Box, runs: Sequence[int], *, outside: bool = False
) -> None:
    left, top, width, height = box
    file.write(f'    <mask frame="{frame}" keyframe="1" outside="{int(outside)}" occluded="0" z_order="0" ')
    file.write(f'rle="{", ".join(map(str, runs))}" left="{left}" top="{top}" width="{width}" height="{height}">')
    file.write(f'<attribute name="{_TRACK_ID}">{track_id}</attribute></mask>\n')


# Reading.


@dataclass(frozen=True, slots=True, eq=False)
class _Shape:
    """A region on a frame.

    Attributes:
        track: number of the track, from 0.
        track_id: what its attribute says, or None.
        label: its name.
        numbers: run lengths of a mask, or x and y of the corners of a polygon.
        box: of a mask; None for a polygon.
    """

    track: int
    track_id: int | None
    label: str
    numbers: NDArray[np.float64]
    box: _Box | None

    def pixels(self, size_hw: tuple[int, int]) -> Tensor:
        """``bool[H, W]``.

        Raises:
            InputError: it does not fit its box, or its box not the frame.
        """
        if self.box is None:
            return polygon_mask(self.numbers.reshape(-1, 2), size_hw)
        left, top, width, height = self.box
        runs = self.numbers.astype(np.int64)
        inside_frame = min(left, top, *runs) >= 0 and top + height <= size_hw[0] and left + width <= size_hw[1]
        if runs.sum() != width * height or not inside_frame:
            raise InputError(
                f"the mask of track {self.track} has {runs.sum()} pixels in a box of {height}×{width} at row {top} "
                f"and column {left}, which does not fit a frame of {size_hw[0]}×{size_hw[1]}"
            )
        inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        mask = torch.zeros(size_hw, dtype=torch.bool)
        mask[top : top + height, left : left + width] = torch.from_numpy(inside.reshape(height, width))
        return mask


@dataclass(slots=True, eq=False)
class _Task:
    """What one file says. Masks stay run lengths until a frame is asked for."""

    path: Path
    name: str
    length: int = 0
    size_hw: tuple[int, int] | None = None
    labels: dict[str, _Colour | None] = field(default_factory=dict)
    shapes: dict[int, list[_Shape]] = field(default_factory=dict)
    left_out: int = 0


def read_cvat(path: Path) -> tuple[CategorySet, list[VideoSample]]:
    """Read a file, or all in a folder: one a video.

    Returns:
        The labels of all of them, numbered from 1, and the videos.

    Raises:
        InputError: there is none, one is damaged or for images, or its pictures do not fit it.
    """
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*.xml") if not p.name.startswith("."))
    if not files:
        raise InputError(f"{path} has no {FILE}: export the task from CVAT as 'CVAT for video 1.1' and unpack it")
    tasks: dict[str, _Task] = {}
    labels: dict[str, _Colour | None] = {}
    for task in map(_read_task, files):
        if task.name in tasks:
            raise InputError(f"{task.path} and {tasks[task.name].path} are both the video {task.name}: rename one")
        tasks[task.name] = task
        labels |= task.labels
    categories = CategorySet("cvat", tuple(Category(n, name, colour=labels[name]) for n, name in enumerate(labels, 1)))
    return categories, [_video(task, {name: n for n, name in enumerate(labels, 1)}) for task in tasks.values()]


def _video(task: _Task, number: Mapping[str, int]) -> VideoSample:
    """The video of a task; ``number`` is the category of each label."""
    assert task.size_hw is not None
    size_hw = task.size_hw
    named = [shape.track_id or 0 for shapes in task.shapes.values() for shape in shapes]
    unnamed_from = max(named, default=0) + 1

    def pieces(index: int) -> Iterator[tuple[Segment, Tensor]]:
        for shape in task.shapes.get(index, []):
            track_id = shape.track + unnamed_from if shape.track_id is None else shape.track_id
            try:
                yield Segment(track_id, track_id, number[shape.label]), shape.pixels(size_hw)
            except InputError as error:
                raise InputError(f"{task.path}, frame {index}: {error}") from error

    def read_annotation(index: int) -> FrameAnnotation:
        return joined(index, size_hw, pieces(index))

    return VideoSample(task.name, _frames(task), read_annotation)


def _frames(task: _Task) -> tuple[FrameRef, ...]:
    folder = task.path.parent / "images"
    pictures = sorted(p for p in folder.iterdir() if is_image(p)) if folder.is_dir() else []
    if pictures and len(pictures) != task.length:
        raise InputError(f"{folder} has {len(pictures)} pictures, but {task.path} has {task.length} frames")
    if pictures:
        return tuple(FrameRef(picture.stem, picture) for picture in pictures)
    return tuple(FrameRef(f"{index:05d}") for index in range(task.length))


def _read_task(path: Path) -> _Task:
    try:
        task = _parse(path)
    except ElementTree.ParseError as error:
        raise InputError(f"{path} cannot be read as XML: {error}") from error
    except InputError:
        raise
    except (KeyError, ValueError, OSError) as error:
        raise InputError(f"{path} is not 'CVAT for video 1.1': {error!r}") from error
    if task.size_hw is None:
        raise InputError(f"{path} does not say how large its frames are (original_size): export one task at a time")
    if task.left_out:
        message = f"{path}: {task.left_out} shapes that are no regions, such as points, are left out"
        warnings.warn(message, MaskstreamWarning, stacklevel=2)
    return task


def _parse(path: Path) -> _Task:
    task = _Task(path, path.parent.name if path.name == FILE else path.stem)
    seen: set[int] = set()
    for _, element in ElementTree.iterparse(path):
        if element.tag == "meta":
            _read_meta(element, task)
        elif element.tag == "image":
            raise InputError(f"{path} is 'CVAT for images': export the task as 'CVAT for video 1.1'")
        elif element.tag == "track":
            number = int(element.attrib["id"])
            if number in seen:
                raise InputError(f"{path} has two tracks with the id {number}: give each its own")
            seen.add(number)
            _read_track(element, number, task)
            element.clear()
    task.length = max(task.length, max(task.shapes, default=-1) + 1)
    return task


def _read_meta(meta: ElementTree.Element, task: _Task) -> None:
    task.name = meta.findtext("task/name") or task.name
    task.length = max(int(meta.findtext(".//size") or 0), int(meta.findtext(".//stop_frame") or -1) + 1)
    size = meta.find(".//original_size")
    if size is not None:
        task.size_hw = int(size.findtext("height") or 0), int(size.findtext("width") or 0)
    for label in meta.iterfind(".//label"):
        colour = bytes.fromhex((label.findtext("color") or "").lstrip("#"))
        task.labels[label.findtext("name") or ""] = (colour[0], colour[1], colour[2]) if len(colour) == 3 else None


def _read_track(track: ElementTree.Element, number: int, task: _Task) -> None:
    label = track.attrib["label"]
    task.labels.setdefault(label, None)
    for shape in track:
        if shape.get("outside") == "1":
            continue
        region = _region(shape)
        if region is None:
            task.left_out += 1
            continue
        named = shape.findtext(f"attribute[@name='{_TRACK_ID}']")
        track_id = int(named) if named else None
        task.shapes.setdefault(int(shape.attrib["frame"]), []).append(_Shape(number, track_id, label, *region))


def _region(shape: ElementTree.Element) -> tuple[NDArray[np.float64], _Box | None] | None:
    """Numbers and box of a `_Shape`; None if the shape is no region."""
    of = shape.attrib
    if shape.tag == "mask":
        box = (int(of["left"]), int(of["top"]), int(of["width"]), int(of["height"]))
        return np.array(of["rle"].split(","), np.float64), box
    if shape.tag == "box":
        left, top, right, bottom = (float(of[side]) for side in ("xtl", "ytl", "xbr", "ybr"))
        return np.array([left, top, right, top, right, bottom, left, bottom]), None
    if shape.tag == "polygon":
        return np.array(of["points"].replace(";", ",").split(","), np.float64), None
    return None
