"""Trees of mask pictures, a folder a video: of ids, of one foreground, or of one folder an object.

==================================  =================================================  ==============================
tree                                pictures                                           who has it
==================================  =================================================  ==============================
``VIDEO/00000.png``                 palette or grey, the value is the id               DAVIS-2017, YouTube-VOS, MOSE …
``VIDEO/00000.png``                 grey, 0 and 255, or a soft saliency map            DAVIS-2016
``VIDEO/000/00000.png``             grey, 0 and 255; the folder is the id less one     SA-V
==================================  =================================================  ==============================
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from maskstream.types import (
    OBJECT,
    FrameAnnotation,
    FrameRef,
    FrameSegmentation,
    InputError,
    Segment,
    VideoSample,
)

from .id_picture import IdPicture
from .pictures import VOID, Ids, painted, write_indices
from .png import read_label_png, write_label_png

ReadMask: TypeAlias = Callable[[Path, int], FrameAnnotation]
"""Reads the picture of frame ``index``."""

Meaning: TypeAlias = Literal["object", "nothing", "void"]
"""What the value 255 is."""


def an_object(number: int) -> Segment:
    """An object of which only the id is known."""
    return Segment(number, number, OBJECT.ids[0], is_thing=True)


# One picture.


def labelled_frame(
    ids: Ids, frame_index: int, *, at_255: Meaning = "object", describe: Callable[[int], Segment] = an_object
) -> FrameAnnotation:
    """The labels of a frame from a picture of ids; those that are there become segments, in the order of their ids.

    Args:
        ids: ``int32[H, W]``; 0 is nothing.
        frame_index: position of the frame.
        at_255: what 255 is.
        describe: gives the segment of an id.
    """
    picture = IdPicture(ids)
    objects = [number for number in picture.ids if number and (number != VOID or at_255 == "object")]
    segmentation = picture.segmentation(frame_index, {number: describe(number) for number in objects})
    return FrameAnnotation(segmentation, picture.where([VOID]) if at_255 == "void" else None)


def read_masks(
    path: Path, frame_index: int, *, at_255: Meaning = "object", describe: Callable[[int], Segment] = an_object
) -> FrameAnnotation:
    """`labelled_frame` of a PNG file.

    Raises:
        InputError: it is missing, damaged or no picture of ids.
    """
    return labelled_frame(read_label_png(path), frame_index, at_255=at_255, describe=describe)


def read_foreground(path: Path, frame_index: int) -> FrameAnnotation:
    """Everything that is not background, as object 1.

    A grey picture of more than two values is a soft saliency map, and is cut at one half (metrics specification §5.6).

    Raises:
        InputError: it is missing, damaged or no mask.
    """
    picture = IdPicture(read_label_png(path))
    with Image.open(path) as image:  # read_label_png has found it to be sound
        is_soft = image.mode == "L" and len(picture.ids) > 2
    least = 128 if is_soft else 1
    covered = picture.renamed({value: 1 for value in picture.ids if value >= least})
    return labelled_frame(covered, frame_index)


def read_objects(files: Mapping[int, Path], frame_index: int) -> FrameAnnotation:
    """Objects that may overlap, each from a picture of its own. One without a pixel is an empty segment.

    Args:
        files: by id; at least one.
        frame_index: position of the frame.

    Raises:
        InputError: a file is missing or damaged, or they differ in size.
    """
    masks: dict[int, NDArray[np.bool_]] = {}
    for number, path in sorted(files.items()):
        masks[number] = read_label_png(path) > 0
        first = next(iter(masks.values()))
        if masks[number].shape != first.shape:
            raise InputError(f"{path} is {_size(masks[number])}, but the mask of object {min(masks)} {_size(first)}")
    stacked_nhw = torch.from_numpy(np.stack(list(masks.values())))
    return FrameAnnotation(FrameSegmentation.from_masks(frame_index, tuple(map(an_object, masks)), stacked_nhw))


def track_ids(annotation: FrameAnnotation) -> Ids:
    """``int32[H, W]``: the id of the object at each pixel, 0 where there is none."""
    return painted(annotation, [segment.track_id for segment in annotation.segmentation.segments])


# Trees.


def mask_files(folder: Path) -> dict[str, Path]:
    """The PNG files of a folder by stem, sorted, without hidden ones; none if there is no such folder."""
    if not folder.is_dir():
        return {}
    found = (path for path in folder.iterdir() if path.suffix.lower() == ".png" and not path.name.startswith("."))
    return {path.stem: path for path in sorted(found)}


def read_mask_folders(root: Path, *, read: ReadMask = read_masks) -> dict[str, VideoSample]:
    """A folder of masks a video.

    Args:
        root: the folder of the folders.
        read: reads a picture.
    """
    return {folder.name: _mask_video(folder, read) for folder in _folders(root)}


def write_mask_folders(root: Path, videos: Iterable[VideoSample], *, large_ids: bool = False) -> None:
    """``VIDEO/00000.png``, a palette picture for every frame, its name kept, the ids those of the tracks.

    Args:
        root: the folder of the folders.
        videos: what to write.
        large_ids: take ids beyond 255 too, and write them as colours that `read_label_png` understands.

    Raises:
        InputError: an id is beyond 255.
    """
    for video in videos:
        folder = root / video.name
        folder.mkdir(parents=True, exist_ok=True)
        for index, frame in enumerate(video.frames):
            write = write_label_png if large_ids else write_indices
            write(folder / f"{frame.stem}.png", track_ids(video.annotation(index)))


def write_foreground_folders(root: Path, videos: Iterable[VideoSample]) -> None:
    """``VIDEO/00000.png``, grey, 255 where any object is, for every frame."""
    for video in videos:
        for index, frame in enumerate(video.frames):
            covered = track_ids(video.annotation(index)) > 0
            write_indices(root / video.name / f"{frame.stem}.png", VOID * covered.astype(np.int32), grey=True)


def object_files(folder: Path) -> dict[int, dict[str, Path]]:
    """The pictures of each object of a video, by id and stem. Folders count objects from 0, ids from 1.

    Raises:
        InputError: a folder is not named by a number.
    """
    files = {}
    for entry in _folders(folder):
        if not entry.name.isdecimal():
            raise InputError(f"{entry} is not named by the number of an object, such as 000")
        files[int(entry.name) + 1] = mask_files(entry)
    return files


def read_object_folders(root: Path) -> dict[str, VideoSample]:
    """A folder a video, in it a folder an object.

    Raises:
        InputError: a folder is not named by a number.
    """
    return {folder.name: _object_video(folder) for folder in _folders(root)}


def write_object_folders(
    root: Path, videos: Iterable[VideoSample], *, objects: Callable[[str], Collection[int]] = lambda name: ()
) -> None:
    """``VIDEO/000/00000.png``, grey, 0 and 255: every object on every frame, also where it is not.

    Args:
        root: the folder of the folders.
        videos: what to write.
        objects: the ids that a video, by name, must have even if they are never visible.
    """
    for video in videos:
        known = set(objects(video.name))
        stems: list[str] = []
        for index, frame in enumerate(video.frames):
            segmentation = video.annotation(index).segmentation
            tracks = [segment.track_id for segment in segmentation.segments]
            masks = dict(zip(tracks, segmentation.masks_nhw().cpu().numpy(), strict=True))
            nothing = np.zeros(segmentation.size_hw, np.int32)
            for number in masks.keys() - known:  # it was nowhere before
                for stem in stems:
                    write_indices(_object_path(root, video.name, number, stem), nothing, grey=True)
            known |= masks.keys()
            stems.append(frame.stem)
            for number in known:
                mask = VOID * masks.get(number, nothing).astype(np.int32)
                write_indices(_object_path(root, video.name, number, frame.stem), mask, grey=True)


def _mask_video(folder: Path, read: ReadMask) -> VideoSample:
    files = list(mask_files(folder).items())
    frames = tuple(FrameRef(stem) for stem, _ in files)
    return VideoSample(folder.name, frames, lambda index: read(files[index][1], index))


def _object_video(folder: Path) -> VideoSample:
    files = object_files(folder)
    stems = sorted({stem for by_stem in files.values() for stem in by_stem})

    def read(index: int) -> FrameAnnotation:
        stem = stems[index]
        return read_objects({n: by_stem[stem] for n, by_stem in files.items() if stem in by_stem}, index)

    return VideoSample(folder.name, tuple(map(FrameRef, stems)), read)


def _object_path(root: Path, video: str, number: int, stem: str) -> Path:
    return root / video / f"{number - 1:03d}" / f"{stem}.png"


def _folders(root: Path) -> list[Path]:
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _size(mask: NDArray[np.bool_]) -> str:
    return f"{mask.shape[0]}×{mask.shape[1]}"
