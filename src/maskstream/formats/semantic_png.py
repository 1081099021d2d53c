"""Semantic segmentation as pictures: the value of a pixel says its class.

==================  ==============================  ================================================================
results             pictures                        values
==================  ==============================  ================================================================
VSPW, CamVid        ``VIDEO/FRAME.png``             classes counted from 0, in the order of the label space
Cityscapes          ``IMAGE….png``                  labelIds
images              ``IMAGE.png``                   those of the annotation
==================  ==============================  ================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from maskstream.types import CategorySet, FrameAnnotation, FrameRef, InputError, Segment, VideoSample

from .id_picture import IdPicture
from .indexed_png import mask_files, read_mask_folders
from .json_files import write_json, write_lines
from .pictures import VOID, Ids, painted, write_indices, write_picture
from .png import read_label_png

CategoryOf: TypeAlias = Mapping[int, int | None]
"""The category that a value stands for; None for a value that stands for nothing."""


def counted_from_zero(categories: CategorySet) -> dict[int, int]:
    """Values 0, 1, … for the categories in their order."""
    return dict(enumerate(categories.ids))


def read_semantic_png(
    path: Path, frame_index: int, categories: CategorySet, category_of: CategoryOf, *, void: Collection[int] = ()
) -> FrameAnnotation:
    """The labels of a frame: a segment for each class, whose id is its position in the label space, from 1.

    Args:
        path: of the picture.
        frame_index: position of the frame.
        categories: the label space.
        category_of: what values mean.
        void: the values of pixels that count for nothing.

    Raises:
        InputError: it is missing, damaged, or has a value that means nothing.
    """
    picture = IdPicture(read_label_png(path))
    segments = {}
    for value in picture.ids:
        if value in void:
            continue
        if value not in category_of:
            known = sorted(category_of)
            raise InputError(
                f"{path} has the value {value}, which is no class of {categories.name}: "
                f"{len(known)} values from {known[0]} to {known[-1]} are known here"
            )
        category = category_of[value]
        if category is not None:
            number = categories.ids.index(category) + 1
            segments[value] = Segment(number, number, category, is_thing=categories[category].is_thing)
    return FrameAnnotation(picture.segmentation(frame_index, segments), picture.where(list(void)))


def semantic_values(annotation: FrameAnnotation, value_of: Mapping[int, int], *, nothing: int) -> Ids:
    """``int32[H, W]``: the value of the class at each pixel.

    Args:
        annotation: of a frame.
        value_of: by category.
        nothing: where there is no segment, or none of known category.

    Raises:
        InputError: a segment has a category without a value.
    """
    values = []
    for segment in annotation.segmentation.segments:
        if segment.category is not None and segment.category not in value_of:
            raise InputError(f"segment {segment.id} has the category {segment.category}, which the label space has not")
        values.append(nothing if segment.category is None else value_of[segment.category])
    # Shifted, because 0 may be a class and is what `painted` leaves where there is no segment.
    shifted = painted(annotation, [value + 1 for value in values])
    picture: Ids = np.where(shifted, shifted - 1, nothing).astype(np.int32)
    return picture


def read_label_results(
    root: Path, categories: CategorySet, category_of: CategoryOf | None = None
) -> dict[str, VideoSample]:
    """``VIDEO/FRAME.png``: classes counted from 0, unless ``category_of`` says something else."""
    meaning = counted_from_zero(categories) if category_of is None else category_of
    return read_mask_folders(root, read=lambda path, index: read_semantic_png(path, index, categories, meaning))


def write_label_results(
    root: Path, videos: Iterable[VideoSample], categories: CategorySet, *, nothing: int = 0
) -> None:
    """``VIDEO/FRAME.png``, grey, every frame that is labelled: classes counted from 0.

    Args:
        root: the folder of the folders.
        videos: what to write.
        categories: the label space.
        nothing: where nothing is predicted. VSPW knows no such value, so that it is the first class.
    """
    value_of = {category: value for value, category in counted_from_zero(categories).items()}
    for video in videos:
        for index, frame in enumerate(video.frames):
            if frame.annotated:
                values = semantic_values(video.annotation(index), value_of, nothing=nothing)
                write_indices(root / video.name / f"{frame.stem}.png", values, grey=True)


def read_flat_results(
    root: Path, categories: CategorySet, category_of: CategoryOf, *, name_of: Callable[[str], str] = str
) -> dict[str, VideoSample]:
    """``IMAGE.png``, images being videos of one frame.

    Args:
        root: the folder of the pictures.
        categories: the label space.
        category_of: what values mean.
        name_of: the name of an image, from that of its file without ``.png``.

    Raises:
        InputError: two files are of one image.
    """
    files: dict[str, Path] = {}
    for stem, path in mask_files(root).items():
        other = files.setdefault(name_of(stem), path)
        if other is not path:
            raise InputError(f"{other} and {path.name} are both of {name_of(stem)}: leave one of them")
    read = partial(read_semantic_png, categories=categories, category_of=category_of)
    return {name: VideoSample(name, (FrameRef(name),), partial(read, path)) for name, path in files.items()}


def write_flat_results(root: Path, videos: Iterable[VideoSample], value_of: Mapping[int, int], *, nothing: int) -> None:
    """``FRAME.png``, grey, every frame that is labelled.

    Args:
        root: the folder of the pictures.
        videos: what to write.
        value_of: the value of each category.
        nothing: where nothing is predicted.
    """
    for video in videos:
        for index, frame in enumerate(video.frames):
            if frame.annotated:
                values = semantic_values(video.annotation(index), value_of, nothing=nothing)
                write_indices(root / f"{frame.stem}.png", values, grey=True)


def write_vspw(root: Path, videos: Iterable[VideoSample], categories: CategorySet) -> None:
    """The truth as VSPW has it, a validation set: ``data/VIDEO/origin`` and ``mask``, and what the values mean.

    1…K in the order of the categories, 0 for other classes, 255 for void. Frames that nobody labelled are left out.
    """
    value_of = {category: position for position, category in enumerate(categories.ids, 1)}
    names = []
    for video in videos:
        folder = root / "data" / video.name
        for index, frame in enumerate(video.frames):
            if frame.annotated:
                write_picture(folder / "origin" / f"{frame.stem}.jpg", video, index)
                annotation = video.annotation(index)
                values = semantic_values(annotation, value_of, nothing=0)
                if annotation.void is not None:
                    values[annotation.void.cpu().numpy()] = VOID
                write_indices(folder / "mask" / f"{frame.stem}.png", values)
        names.append(video.name)
    write_json(root / "label_num_dic_final.json", {"others": 0, **{categories[c].name: n for c, n in value_of.items()}})
    write_lines(root / "val.txt", names)


def write_vspw_results(root: Path, videos: Iterable[VideoSample], categories: CategorySet) -> None:
    """``VIDEO/FRAME.png`` with 0…K-1, grey; 0 also where nothing is predicted, for which there is no value."""
    write_label_results(root, videos, categories)
