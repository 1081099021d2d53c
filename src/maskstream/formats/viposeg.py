"""Truth and results in the layout of VIPOSeg (Xu et al., 2023).

::

    valid/JPEGImages/VIDEO/00000000.jpg
    valid/Annotations/VIDEO/00000000.png       where regions come into view: those, and nothing else
    valid/Annotations_gt/VIDEO/00000000.png    every frame
    valid/obj_class.json                       {"VIDEO": {"1": "60", …}}, classes from 0
    panoVIPSeg_categories.json                 what these classes are; not in the official set, whose are VIPSeg's
    valid/meta.json                            {"videos": {"VIDEO": {"objects": {"1": {"frames": ["00000000", …]}}}}}
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from maskstream.types import CategorySet, InputError, Segment, VideoSample

from .json_files import json_map, write_json
from .panoptic import category_entries
from .pictures import painted, visible, write_indices, write_picture


def write_viposeg(root: Path, videos: Iterable[VideoSample], categories: CategorySet) -> None:
    """A validation set with its truth.

    Classes are counted from 0 in the order of the categories, 0 also standing for an unknown one.

    Raises:
        InputError: a segment has a category that is not among them, or an id beyond 255.
    """
    valid = root / "valid"
    classes: dict[str, dict[str, str]] = {}
    with json_map(valid / "meta.json") as add_meta:
        for video in videos:
            frames_of: dict[int, list[str]] = {}
            class_of: dict[int, str] = {}
            for index, frame in enumerate(video.frames):
                stem = f"{index:08d}"
                write_picture(valid / "JPEGImages" / video.name / f"{stem}.jpg", video, index)
                if not frame.annotated:
                    continue
                annotation = video.annotation(index)
                segments = annotation.segmentation.segments
                shown = [segment for segment, _ in visible(annotation)]
                new = {segment.id for segment in shown} - frames_of.keys()
                truth = painted(annotation, [segment.id for segment in segments])
                write_indices(valid / "Annotations_gt" / video.name / f"{stem}.png", truth)
                if new:  # objects come into view on several frames
                    given = painted(annotation, [segment.id * (segment.id in new) for segment in segments])
                    write_indices(valid / "Annotations" / video.name / f"{stem}.png", given)
                for segment in shown:
                    frames_of.setdefault(segment.id, []).append(stem)
                    class_of[segment.id] = str(_class(segment, categories))
            add_meta(video.name, {"objects": {str(n): {"frames": frames_of[n]} for n in sorted(frames_of)}})
            classes[video.name] = {str(n): class_of[n] for n in sorted(class_of)}
    write_json(valid / "obj_class.json", classes)
    write_json(root / "panoVIPSeg_categories.json", category_entries(categories, from_zero=True))


def write_viposeg_results(root: Path, videos: Iterable[VideoSample], _: CategorySet) -> None:
    """``VIDEO/00000000.png``, every frame, numbered as `write_viposeg` numbers them."""
    for video in videos:
        for index, frame in enumerate(video.frames):
            if frame.annotated:
                annotation = video.annotation(index)
                ids = painted(annotation, [segment.id for segment in annotation.segmentation.segments])
                write_indices(root / video.name / f"{index:08d}.png", ids)


def _class(segment: Segment, categories: CategorySet) -> int:
    if segment.category is None:
        return 0
    if segment.category not in categories.ids:
        raise InputError(f"segment {segment.id} has category {segment.category}, which {categories.name} has not")
    return categories.ids.index(segment.category)
