"""Truth and results in the layout of DAVIS-2017 (Pont-Tuset et al., 2017; Caelles et al., 2019).

::

    JPEGImages/480p/VIDEO/00000.jpg
    Annotations/480p/VIDEO/00000.png                 objects 1…N
    Annotations_unsupervised/480p/VIDEO/00000.png    salient objects 1…N, 255 = void
    ImageSets/2017/val.txt

The objects are the things of the first frame. "480p" is the name of the folder, at whatever size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from maskstream.types import CategorySet, FrameAnnotation, VideoSample

from .indexed_png import write_mask_folders
from .json_files import write_lines
from .pictures import VOID, painted, write_indices, write_picture
from .renumber import renumbered

MAX_PROPOSALS = 20
"""Objects that the unsupervised task allows."""


def write_davis(root: Path, videos: Iterable[VideoSample], _: CategorySet) -> None:
    """Semi-supervised: the things of the first frame are objects 1…N, in the order of their ids; others are nothing."""
    _write_davis(root, videos, folders={"Annotations": 0}, most=VOID - 1)


def write_davis_unsupervised(root: Path, videos: Iterable[VideoSample], _: CategorySet) -> None:
    """Unsupervised: as `write_davis`, with the 20 largest objects at most.

    What is void, and things that are no object, are 255.
    """
    _write_davis(root, videos, folders={"Annotations": 0, "Annotations_unsupervised": VOID}, most=MAX_PROPOSALS)


def _write_davis(root: Path, videos: Iterable[VideoSample], *, folders: Mapping[str, int], most: int) -> None:
    """``folders`` says where masks go, and what void and other things are there."""
    names = []
    for video in videos:
        for index, annotation, objects in _labelled(video, most):
            stem = f"{index:05d}"
            write_picture(root / "JPEGImages" / "480p" / video.name / f"{stem}.jpg", video, index)
            if annotation is None:
                continue
            for folder, other in folders.items():
                path = root / folder / "480p" / video.name / f"{stem}.png"
                segments = annotation.segmentation.segments
                values = [objects.get(s.track_id, 0 if s.is_thing is False else other) for s in segments]
                ids = painted(annotation, values)
                if annotation.void is not None:
                    ids[annotation.void.cpu().numpy()] = other
                write_indices(path, ids)
        names.append(video.name)
    write_lines(root / "ImageSets" / "2017" / "val.txt", names)


def write_davis_results(root: Path, videos: Iterable[VideoSample], _: CategorySet) -> None:
    """``VIDEO/00000.png``, all frames, with the ids that `write_davis` gives to objects."""
    _write_davis_results(root, videos, most=VOID - 1)


def write_davis_unsupervised_results(root: Path, videos: Iterable[VideoSample], _: CategorySet) -> None:
    """``VIDEO/00000.png``, with the ids that `write_davis_unsupervised` gives to objects."""
    _write_davis_results(root, videos, most=MAX_PROPOSALS)


def _write_davis_results(root: Path, videos: Iterable[VideoSample], *, most: int) -> None:
    for video in videos:
        for index, annotation, objects in _labelled(video, most):
            if annotation is not None:
                values = [objects.get(segment.track_id, 0) for segment in annotation.segmentation.segments]
                write_indices(root / video.name / f"{index:05d}.png", painted(annotation, values))


def _labelled(video: VideoSample, most: int) -> Iterator[tuple[int, FrameAnnotation | None, dict[int, int]]]:
    """Frame by frame, its labels if it has any, and the objects of the video by track."""
    objects: dict[int, int] | None = None
    for index, frame in enumerate(video.frames):
        annotation = video.annotation(index) if frame.annotated else None
        if objects is None and annotation is not None:
            objects = first_frame_objects(annotation, most=most)
        yield index, annotation, objects or {}


def first_frame_objects(annotation: FrameAnnotation, *, most: int) -> dict[int, int]:
    """The things that are visible, by track, numbered from 1 in the order of their tracks; the largest if too many."""
    areas = zip(annotation.segmentation.segments, annotation.segmentation.areas().tolist(), strict=True)
    return numbered({s.track_id: area for s, area in areas if s.is_thing is not False and area}, most=most)


def numbered(area_of: Mapping[int, int], *, most: int) -> dict[int, int]:
    """The largest tracks, numbered from 1 in the order of their ids."""
    kept = sorted(sorted(area_of, key=lambda track: (-area_of[track], track))[:most])
    return {track: number for number, track in enumerate(kept, 1)}


def write_proposals(root: Path, videos: Iterable[VideoSample]) -> None:
    """``VIDEO/00000.png``, frames by name: the 20 tracks of a video that cover most pixels, numbered 1…20.

    Reads a video twice: once to see which tracks these are.
    """
    write_mask_folders(root, map(_with_proposals, videos))


def _with_proposals(video: VideoSample) -> VideoSample:
    area_of: dict[int, int] = {}
    for index in range(len(video)):
        segmentation = video.annotation(index).segmentation
        for segment, area in zip(segmentation.segments, segmentation.areas().tolist(), strict=True):
            area_of[segment.track_id] = area_of.get(segment.track_id, 0) + area
    return renumbered(video, numbered(area_of, most=MAX_PROPOSALS))
