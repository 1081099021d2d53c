"""YOLO segmentation: a text file a picture, a line an object, ``class x y …`` (docs.ultralytics.com/datasets/segment).

::

    data.yaml                     where the pictures are, and the names of the classes, counted from 0
    images/VIDEO/00000.jpg
    labels/VIDEO/00000.txt        x and y in fractions of the picture

Polygons follow the edges of pixels. Parts and holes of an object are joined by bridges of no width, as the tools of
YOLO join parts. Read here, a mask comes back as it was; tools that draw the line of a polygon too make it half a pixel
larger, and its bridges a pixel wide.

A line says nothing of tracks, scores, things and stuff, crowds or void: objects are numbered anew on every frame, and
a picture without a file has none. What ``yolo track save_txt=True`` appends is understood: the id of a track (a whole
number), or a confidence (a fraction). The size of a frame is that of its picture, which must be there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from maskstream.types import (
    CategorySet,
    FrameAnnotation,
    FrameRef,
    InputError,
    Segment,
    VideoSample,
    decode_rle,
)
from maskstream.video.images import image_size, is_image

from .json_files import read_lines
from .pictures import visible, write_picture
from .regions import joined, outline, polygon_mask

FILE = "data.yaml"


# Writing.


def write_yolo(root: Path, videos: Iterable[VideoSample], categories: CategorySet) -> None:
    """Write ``data.yaml``, ``images`` and ``labels``, of annotated frames only; all are for training and validation.

    Raises:
        InputError: a frame has no picture, or an object no category, or one that the label space has not.
    """
    root.mkdir(parents=True, exist_ok=True)
    names = "".join(f"  {n}: {json.dumps(name, ensure_ascii=False)}\n" for n, name in enumerate(categories.names))
    text = f"train: images\nval: images\nnames:\n{names}"
    (root / FILE).write_text(text, encoding="utf-8", newline="\n")
    for video in videos:
        for index, frame in enumerate(video.frames):
            if not frame.annotated:
                continue
            if not write_picture(root / "images" / video.name / f"{frame.stem}.jpg", video, index):
                raise InputError(f"frame {frame.stem} of {video.name} has no picture, without which YOLO has no size")
            path = root / "labels" / video.name / f"{frame.stem}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = "".join(_lines(video, index, categories))
            path.write_text(lines, encoding="utf-8", newline="\n")


def _lines(video: VideoSample, index: int, categories: CategorySet) -> Iterator[str]:
    annotation = video.annotation(index)
    height, width = annotation.segmentation.size_hw
    for segment, code in visible(annotation):
        if segment.category not in categories.ids:
            raise InputError(
                f"object {segment.track_id} of {video.name} has category {segment.category}, which "
                f"{categories.name} has not; YOLO needs one"
            )
        points = outline(decode_rle([code], (height, width))[0].numpy()) / (width, height)
        number = categories.ids.index(segment.category)
        yield f"{number} {' '.join(f'{value:.7g}' for value in points.ravel())}\n"


# Reading.


def read_yolo(path: Path) -> tuple[CategorySet, list[VideoSample]]:
    """Read a folder with ``data.yaml``, ``images`` and ``labels``. Each folder of pictures is a video.

    Returns:
        The classes, numbered from 1, and the videos.

    Raises:
        InputError: one of them is missing, or labels have no picture.
    """
    root = path.parent if path.is_file() else path
    categories = CategorySet.from_names(_names(root / FILE), name="yolo")
    images, labels = root / "images", root / "labels"
    if not images.is_dir():
        raise InputError(f"{root} has no folder images: the layout is {FILE}, images/… and labels/…")
    pictures = {p.relative_to(images).with_suffix(""): p for p in sorted(images.rglob("*")) if is_image(p)}
    texts = {p.relative_to(labels).with_suffix(""): p for p in sorted(labels.rglob("*.txt"))}
    alone = sorted(texts.keys() - pictures.keys())
    if alone:
        raise InputError(f"{texts[alone[0]]} has no picture {images / alone[0]}.jpg, without which it has no size")
    folders: dict[Path, list[Path]] = {}
    for name in pictures:
        folders.setdefault(name.parent, []).append(name)
    return categories, [
        _video(
            folder.as_posix() if folder.parts else root.name,
            [pictures[name] for name in names],
            [texts.get(name) for name in names],
            categories,
        )
        for folder, names in folders.items()
    ]


def _video(name: str, pictures: list[Path], texts: list[Path | None], categories: CategorySet) -> VideoSample:
    def read_annotation(index: int) -> FrameAnnotation:
        size_hw, text = image_size(pictures[index]), texts[index]
        return joined(index, size_hw, () if text is None else _objects(text, size_hw, categories))

    return VideoSample(name, tuple(FrameRef(picture.stem, picture) for picture in pictures), read_annotation)


def _objects(path: Path, size_hw: tuple[int, int], categories: CategorySet) -> Iterator[tuple[Segment, Tensor]]:
    for number, line in enumerate(read_lines(path, what="labels of YOLO"), 1):
        try:
            values = np.array(line.split(), np.float64)
        except ValueError as error:
            raise InputError(f"{path}, line {number}: {error}") from error
        extra = float(values[-1]) if len(values) % 2 == 0 else None
        points = values[1:] if extra is None else values[1:-1]
        if len(points) < 6 or not (np.abs(points - 0.5) <= 0.5 + 1e-6).all():
            raise InputError(f"{path}, line {number} is not a class and three points or more, x and y from 0 to 1")
        if values[0] not in range(len(categories)):
            raise InputError(f"{path}, line {number} has class {values[0]:g}, but {FILE} has {len(categories)}, from 0")
        is_id = extra is not None and extra >= 1 and extra == int(extra)
        track_id = int(extra) if extra is not None and is_id else number
        score = None if is_id else extra
        pixels = polygon_mask(points.reshape(-1, 2) * (size_hw[1], size_hw[0]), size_hw)
        yield Segment(track_id, track_id, categories.ids[int(values[0])], score), pixels


def _names(path: Path) -> list[str]:
    """The class names of ``data.yaml``, in any of the forms in use: a list or a map, on lines of their own or not.

    Raises:
        InputError: it is missing or has none.
    """
    lines = read_lines(path, what="the description of a YOLO data set")
    text = "\n".join(re.sub(r"(^|\s)#.*", "", line) for line in lines)
    found = re.search(r"^names:\s*(\[[^\]]*\]|\{[^}]*\}|(?:\n(?:- .*|\d+\s*:.*))+)", text, re.MULTILINE)
    if found is None:
        raise InputError(f'{path} has no list "names": the classes of the data set')
    body = found[1].strip("[]{}\n")
    quoted_or_plain = r"""\s*(?:-\s|(\d+)\s*:)?\s*("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^,\n]+)\s*(?:,|\n|$)"""
    entries = [(number, _unquoted(name)) for number, name in re.findall(quoted_or_plain, body)]
    numbers = [int(number) if number else position for position, (number, _) in enumerate(entries)]
    if sorted(numbers) != list(range(len(numbers))):
        raise InputError(f"{path} numbers its classes {numbers}: they must be 0, 1, 2 …")
    return [name for _, (_, name) in sorted(zip(numbers, entries, strict=True))]


def _unquoted(text: str) -> str:
    text = text.strip()
    if text.startswith('"'):
        return str(json.loads(text))
    return text[1:-1].replace("''", "'") if text.startswith("'") else text
