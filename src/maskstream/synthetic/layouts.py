"""Synthetic video on disk, as the benchmark of each task lays it out (datasets specification, part C).

===========  ================  ====================================================================================
task         benchmark         truth; results
===========  ================  ====================================================================================
vos, uvos    DAVIS-2017        JPEGImages, Annotations(_unsupervised), ImageSets; VIDEO/00000.png
vis          YouTube-VIS       valid/JPEGImages, valid/instances.json; results.json
vps          VIPSeg at 720p    images, panomasksRGB, panoptic_gt_VIPSeg_val.json; pred.json, pan_pred
vss          VSPW              data/VIDEO/origin and mask, label_num_dic_final.json; VIDEO/00000000.png
refvos       Ref-YouTube-VOS   valid, meta_expressions/valid; Annotations/VIDEO/EXPRESSION/00000.png
pet, owvs    BURST             frames/val, annotations/val and info; exemplar_guided.json, open_world.json
pvos         VIPOSeg           valid/JPEGImages, Annotations and Annotations_gt; VIDEO/00000000.png
===========  ================  ====================================================================================

Every set is a validation set that shows its truth, also where the official one hides it. Videos are read once, frame
by frame, and what is kept of a video is run-length codes at most.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskstream.formats import davis_palette
from maskstream.types import (
    RLE,
    Category,
    CategorySet,
    FrameAnnotation,
    InputError,
    OutputError,
    Segment,
    Task,
    decode_rle,
    rle_area,
    rle_box_xywh,
)

from .exact import Draw
from .expressions import Observer, refer
from .render import render
from .scene import WORLD, Scene
from .world import Level, make_scene

JPEG_QUALITY = 95
VOID = 255
DAVIS_OBJECTS = 20
"""Proposals that the unsupervised task of DAVIS allows."""
BURST_DATASET = "Synthetic"
"""What BURST calls the collection that a sequence comes from."""
EXPRESSIONS_PER_OBJECT = 2

Ids: TypeAlias = NDArray[np.int32]
Plain: TypeAlias = dict[str, object]


@dataclass(frozen=True, slots=True, eq=False)
class LabelledFrame:
    """A picture and its truth.

    Attributes:
        image: ``uint8[H, W, 3]``, RGB.
        annotation: the truth; ``track_id`` names objects.
        points: a pixel (x, y) inside each visible thing, by ``track_id``.
    """

    image: NDArray[np.uint8] = field(repr=False)
    annotation: FrameAnnotation
    points: Mapping[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Of the annotation."""
        return self.annotation.segmentation.segments


@dataclass(frozen=True, slots=True, eq=False)
class LabelledVideo:
    """A video to write.

    Attributes:
        name: of its folder; unique in a data set.
        size_hw: height and width of every frame.
        fps: frames a second.
        frames: in order; read once.
        expressions: pairs of object and text; asked for when all frames have been read.
        quality: of the JPEG pictures.
    """

    name: str
    size_hw: tuple[int, int]
    fps: float
    frames: Iterable[LabelledFrame]
    expressions: Callable[[], Sequence[tuple[int, str]]] = list
    quality: int = JPEG_QUALITY


# What is rendered.


def video_seed(seed: int, number: int) -> int:
    """Seed of the scene that is video ``number``, from 0, of the data set ``seed``.

    The first 53 bits of chance of ``Draw(seed, number)``; it depends neither on the task nor on how many videos there
    are, so a smaller set is the beginning of a larger one.
    """
    return Draw(seed, number).integer(0, 2**53 - 1)


def synthetic_videos(
    *,
    level: Level,
    seed: int,
    videos: int,
    frames: int,
    size_hw: tuple[int, int],
    photos: NDArray[np.uint8] | None = None,
    on_frame: Callable[[int], None] | None = None,
) -> Iterator[LabelledVideo]:
    """Render the videos of a synthetic data set, one after the other, as they are read.

    Args:
        level: how difficult.
        seed: another one, other videos.
        videos: how many.
        frames: of each.
        size_hw: height and width.
        photos: tiles of a texture pack.
        on_frame: called with the number of frames rendered so far, of all videos, after every frame.

    Raises:
        InputError: an argument is out of range.
    """
    height, width = size_hw
    for number in range(videos):
        scene = make_scene(
            level=level, seed=video_seed(seed, number), frames=frames, aspect=width / height, photos=photos
        )
        observer = Observer(scene)

        def rendered(
            scene: Scene = scene, observer: Observer = observer, before: int = number * frames
        ) -> Iterator[LabelledFrame]:
            for done, one in enumerate(render(scene, size_hw, motion=False), before + 1):
                observer.add(one.annotation)
                yield LabelledFrame(one.frame.image, one.annotation, one.points)
                if on_frame is not None:
                    on_frame(done)

        def said(observer: Observer = observer, scene_seed: int = scene.seed) -> list[tuple[int, str]]:
            chosen = refer(observer.appearances(), scene_seed, per_object=EXPRESSIONS_PER_OBJECT)
            return [(number, expression.text) for number, expression in chosen]

        yield LabelledVideo(
            f"{level}-{seed}-{number:04d}", size_hw, scene.fps, rendered(), said, scene.quality or JPEG_QUALITY
        )


def write_dataset(
    path: Path,
    task: Task,
    videos: Iterable[LabelledVideo],
    *,
    categories: CategorySet = WORLD,
    as_predictions: bool = False,
) -> None:
    """Write videos in the layout of the benchmark of a task. The folder appears whole or not at all.

    Args:
        path: the folder to make; it may exist if it is empty.
        task: which of the nine.
        videos: what to write.
        categories: the label space of their annotation.
        as_predictions: write the truth as results of that benchmark: what a perfect system would hand in.

    Raises:
        OutputError: there is something at this place, or it cannot be written.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise OutputError(f"{path} exists: remove it, or name another folder")
    path = path.resolve()
    building = path.with_name(f".{path.name}.partial")
    writer = (RESULT_WRITERS if as_predictions else TRUTH_WRITERS)[task]
    try:
        if building.exists():  # left by a run that was killed
            shutil.rmtree(building)
        building.mkdir(parents=True)
        writer(building, videos, categories)
        if path.exists():
            path.rmdir()
        building.rename(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


# DAVIS-2017 (C8).


def write_davis(root: Path, videos: Iterable[LabelledVideo], _: CategorySet) -> None:
    """Semi-supervised: the things of the first frame are objects 1…N, in the order of their ids; others are nothing."""
    _write_davis(root, videos, folders={"Annotations": False}, most=VOID - 1)


def write_davis_unsupervised(root: Path, videos: Iterable[LabelledVideo], _: CategorySet) -> None:
    """Unsupervised: as `write_davis`, with the 20 largest objects at most; things that are no object are void, 255."""
    _write_davis(root, videos, folders={"Annotations": False, "Annotations_unsupervised": True}, most=DAVIS_OBJECTS)


def _write_davis(root: Path, videos: Iterable[LabelledVideo], *, folders: Mapping[str, bool], most: int) -> None:
    """``folders`` says where masks go, and whether other things are void there."""
    names = []
    for video in videos:
        for stem, frame, objects in _davis_frames(video, most):
            write_jpeg(root / "JPEGImages" / "480p" / video.name / f"{stem}.jpg", frame.image, quality=video.quality)
            for folder, has_void in folders.items():
                other = VOID if has_void else 0
                ids = painted(
                    frame.annotation, [objects.get(s.track_id, other if s.is_thing else 0) for s in frame.segments]
                )
                _write_indices(root / folder / "480p" / video.name / f"{stem}.png", ids)
        names.append(video.name)
    _write_lines(root / "ImageSets" / "2017" / "val.txt", names)


def write_davis_results(root: Path, videos: Iterable[LabelledVideo], _: CategorySet) -> None:
    """``VIDEO/00000.png``, all frames, the ids of the first one."""
    _write_davis_results(root, videos, most=VOID - 1)


def write_davis_unsupervised_results(root: Path, videos: Iterable[LabelledVideo], _: CategorySet) -> None:
    """``VIDEO/00000.png``, 20 ids at most."""
    _write_davis_results(root, videos, most=DAVIS_OBJECTS)


def _write_davis_results(root: Path, videos: Iterable[LabelledVideo], *, most: int) -> None:
    for video in videos:
        for stem, frame, objects in _davis_frames(video, most):
            ids = painted(frame.annotation, [objects.get(segment.track_id, 0) for segment in frame.segments])
            _write_indices(root / video.name / f"{stem}.png", ids)


def _davis_frames(video: LabelledVideo, most: int) -> Iterator[tuple[str, LabelledFrame, dict[int, int]]]:
    """Name of the file, frame, and the objects of the video by track."""
    objects: dict[int, int] | None = None
    for index, frame in enumerate(video.frames):
        if objects is None:
            objects = first_frame_objects(frame.annotation, most=most)
        yield f"{index:05d}", frame, objects


def first_frame_objects(annotation: FrameAnnotation, *, most: int) -> dict[int, int]:
    """The things that are visible, by track, numbered from 1 in the order of their tracks; the largest if too many."""
    areas = dict(zip(annotation.segmentation.segments, annotation.segmentation.areas().tolist(), strict=True))
    things = [segment.track_id for segment, area in areas.items() if segment.is_thing and area]
    area_of = {segment.track_id: area for segment, area in areas.items()}
    kept = sorted(sorted(things, key=lambda track: (-area_of[track], track))[:most])
    return {track: number for number, track in enumerate(kept, 1)}


# YouTube-VIS (C5).


def write_youtube_vis(root: Path, videos: Iterable[LabelledVideo], categories: CategorySet) -> None:
    """``valid/instances.json`` with annotations, and ``valid/JPEGImages``. Things only."""
    listed: list[Plain] = []
    rest = {"videos": listed, "categories": [{"id": c.id, "name": c.name} for c in _things(categories)]}
    number = 0
    with _json_list(root / "valid" / "instances.json", "annotations", rest) as add:
        for video_id, video in enumerate(videos, 1):
            tubes = _tubes(video, images=root / "valid" / "JPEGImages" / video.name)
            listed.append(youtube_vis_video(video_id, video, len(tubes)))
            for category, codes in tubes.by_track():
                number += 1
                add(youtube_vis_annotation(number, video_id, video.size_hw, category, codes))


def write_youtube_vis_results(root: Path, videos: Iterable[LabelledVideo], _: CategorySet) -> None:
    """``results.json``: every thing with its category, score 1."""
    with _json_list(root / "results.json") as add:
        for video_id, video in enumerate(videos, 1):
            for category, codes in _tubes(video).by_track():
                add({"video_id": video_id, "category_id": category, "score": 1.0, "segmentations": codes})


def youtube_vis_video(video_id: int, video: LabelledVideo, length: int) -> Plain:
    """An entry of ``videos``."""
    height, width = video.size_hw
    names = [f"{video.name}/{index:05d}.jpg" for index in range(length)]
    return {"id": video_id, "width": width, "height": height, "length": length, "file_names": names}


def youtube_vis_annotation(
    number: int, video_id: int, size_hw: tuple[int, int], category: int | None, codes: Sequence[RLE | None]
) -> Plain:
    """An entry of ``annotations``: a tube with its areas and boxes."""
    return {
        "id": number,
        "video_id": video_id,
        "category_id": category,
        "iscrowd": 0,
        "width": size_hw[1],
        "height": size_hw[0],
        "areas": [code and rle_area(code) for code in codes],
        "bboxes": [code and rle_box_xywh(code) for code in codes],
        "segmentations": codes,
    }


@dataclass(slots=True)
class _Tubes:
    """The things of a video: their codes on every frame."""

    frames: list[dict[int, RLE]] = field(default_factory=list)
    categories: dict[int, int | None] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.frames)

    def by_track(self) -> Iterator[tuple[int | None, list[RLE | None]]]:
        """Category, and a code or None a frame, of each thing."""
        for track, category in sorted(self.categories.items()):
            yield category, [codes.get(track) for codes in self.frames]


def _tubes(video: LabelledVideo, *, images: Path | None = None) -> _Tubes:
    """Read a video, and write its pictures if a folder is given."""
    tubes = _Tubes()
    for index, frame in enumerate(video.frames):
        if images is not None:
            write_jpeg(images / f"{index:05d}.jpg", frame.image, quality=video.quality)
        seen = {segment: code for segment, code in visible(frame.annotation) if segment.is_thing}
        tubes.frames.append({segment.track_id: code for segment, code in seen.items()})
        tubes.categories.update({segment.track_id: segment.category for segment in seen})
    return tubes


# VIPSeg, the 720p conversion (C2).


def write_vipseg(root: Path, videos: Iterable[LabelledVideo], categories: CategorySet) -> None:
    """``images``, ``panomasksRGB``, ``panoptic_gt_VIPSeg_val.json``, the list of categories and ``val.txt``."""
    listed: list[Plain] = []
    entries = vipseg_categories(categories)
    with _json_list(
        root / "panoptic_gt_VIPSeg_val.json", "annotations", {"videos": listed, "categories": entries}
    ) as add:
        for video in videos:
            rows = _write_panoptic(
                video, categories, masks=root / "panomasksRGB" / video.name, images=root / "images" / video.name
            )
            height, width = video.size_hw
            pictures = [
                {"id": row["image_id"], "file_name": f"{row['image_id']}.jpg", "width": width, "height": height}
                for row in rows
            ]
            listed.append({"video_id": video.name, "images": pictures})
            add({"video_id": video.name, "annotations": rows})
    _write_json(root / "panoVIPSeg_categories.json", entries)
    _write_lines(root / "val.txt", [str(video["video_id"]) for video in listed])


def write_vipseg_results(root: Path, videos: Iterable[LabelledVideo], categories: CategorySet) -> None:
    """``pred.json`` and ``pan_pred``."""
    with _json_list(root / "pred.json", "annotations") as add:
        for video in videos:
            rows = _write_panoptic(video, categories, masks=root / "pan_pred" / video.name)
            add({"video_id": video.name, "annotations": rows})


def vipseg_categories(categories: CategorySet) -> list[Plain]:
    """Entries of ``categories``, counted from 0 as VIPSeg does."""
    palette = davis_palette().tolist()
    return [
        {"id": n, "name": c.name, "isthing": int(bool(c.is_thing)), "color": list(c.colour or palette[n + 1])}
        for n, c in enumerate(categories.categories)
    ]


def panoptic_row(annotation: FrameAnnotation, categories: CategorySet, *, stem: str) -> Plain:
    """The entry of one frame: a list of segments by id. ids are category from 0, times 1000, plus ``Segment.id``."""
    segments = [
        {
            "id": panoptic_id(segment, categories),
            "category_id": _position(segment, categories),
            "isthing": int(bool(segment.is_thing)),
            "iscrowd": int(segment.id in annotation.crowd_ids),
            "area": rle_area(code),
            "bbox": rle_box_xywh(code),
        }
        for segment, code in visible(annotation)
        if segment.category is not None
    ]
    return {
        "image_id": stem,
        "file_name": f"{stem}.png",
        "segments_info": sorted(segments, key=lambda row: int(row["id"])),  # type: ignore[call-overload]
    }


def panoptic_id(segment: Segment, categories: CategorySet) -> int:
    """A number that says category and object; 0 for a segment of unknown category, which VIPSeg cannot say."""
    return 0 if segment.category is None else 1000 * _position(segment, categories) + segment.id


def _write_panoptic(
    video: LabelledVideo, categories: CategorySet, *, masks: Path, images: Path | None = None
) -> list[Plain]:
    rows = []
    for index, frame in enumerate(video.frames):
        stem = f"{index:08d}"
        if images is not None:
            write_jpeg(images / f"{stem}.jpg", frame.image, quality=video.quality)
        ids = painted(frame.annotation, [panoptic_id(segment, categories) for segment in frame.segments])
        _write_rgb_ids(masks / f"{stem}.png", ids)
        rows.append(panoptic_row(frame.annotation, categories, stem=stem))
    return rows


# VSPW (C1).


def write_vspw(root: Path, videos: Iterable[LabelledVideo], categories: CategorySet) -> None:
    """``data/VIDEO/origin`` and ``mask``: 1…K in the order of the categories, 255 where there is none."""
    names = []
    for video in videos:
        folder = root / "data" / video.name
        for index, frame in enumerate(video.frames):
            write_jpeg(folder / "origin" / f"{index:08d}.jpg", frame.image, quality=video.quality)
            classes = painted(
                frame.annotation, [_class(segment, categories, other=VOID - 1) + 1 for segment in frame.segments]
            )
            _write_indices(folder / "mask" / f"{index:08d}.png", np.where(classes, classes, VOID))
        names.append(video.name)
    labels = {"others": 0, **{c.name: n for n, c in enumerate(categories.categories, 1)}}
    _write_json(root / "label_num_dic_final.json", labels)
    _write_lines(root / "val.txt", names)


def write_vspw_results(root: Path, videos: Iterable[LabelledVideo], categories: CategorySet) -> None:
    """``VIDEO/00000000.png`` with 0…K-1, grey; 0 also where the truth is void, as results have no void."""
    for video in videos:
        for index, frame in enumerate(video.frames):
            classes = painted(frame.annotation, [_class(segment, categories, other=0) for segment in frame.segments])
            _write_indices(root / video.name / f"{index:08d}.png", classes, grey=True)


# Ref-YouTube-VOS (C15).


def write_ref_youtube_vos(root: Path, videos: Iterable[LabelledVideo], categories: CategorySet) -> None:
    """``valid`` with pictures, masks of all things and ``meta.json``; ``meta_expressions/valid`` with ``obj_id``."""
    with (
        _json_map(root / "meta_expressions" / "valid" / "meta_expressions.json") as add_expressions,
        _json_map(root / "valid" / "meta.json") as add_meta,
    ):
        for video in videos:
            images, masks = (root / "valid" / kind / video.name for kind in ("JPEGImages", "Annotations"))
            objects: dict[int, Plain] = {}
            stems = []
            for index, frame in enumerate(video.frames):
                stems.append(f"{index:05d}")
                write_jpeg(images / f"{stems[-1]}.jpg", frame.image, quality=video.quality)
                ids = painted(
                    frame.annotation, [segment.track_id if segment.is_thing else 0 for segment in frame.segments]
                )
                _write_indices(masks / f"{stems[-1]}.png", ids)
                _note_objects(objects, frame.annotation, categories, stems[-1])
            expressions = {
                str(n): {"exp": text, "obj_id": str(track)} for n, (track, text) in enumerate(video.expressions())
            }
            add_expressions(video.name, {"expressions": expressions, "frames": stems})
            add_meta(video.name, {"objects": {str(track): one for track, one in sorted(objects.items())}})


def write_ref_youtube_vos_results(root: Path, videos: Iterable[LabelledVideo], _: CategorySet) -> None:
    """``Annotations/VIDEO/EXPRESSION/00000.png``, 0 and 255, every frame. Keeps the codes of one video."""
    for video in videos:
        tubes = _tubes(video)
        for number, (track, _text) in enumerate(video.expressions()):
            folder = root / "Annotations" / video.name / str(number)
            for index, codes in enumerate(tubes.frames):
                mask = np.zeros(video.size_hw, np.int32)
                if track in codes:
                    mask[decode_rle([codes[track]], video.size_hw)[0].numpy()] = 255
                _write_indices(folder / f"{index:05d}.png", mask, grey=True)


def _note_objects(objects: dict[int, Plain], annotation: FrameAnnotation, categories: CategorySet, stem: str) -> None:
    """Add a frame to ``objects`` of ``meta.json``: category, and where each is visible."""
    for segment, _ in visible(annotation):
        if segment.is_thing and segment.category is not None:
            one = objects.setdefault(segment.track_id, {"category": categories[segment.category].name, "frames": []})
            frames = one["frames"]
            assert isinstance(frames, list)
            frames.append(stem)


# BURST (C13).


def write_burst(root: Path, videos: Iterable[LabelledVideo], categories: CategorySet) -> None:
    """``frames/val``, ``annotations/val`` (``all_classes`` and ``first_frame_annotations``) and ``annotations/info``.

    Every frame is annotated, and every thing, so all categories that do not occur are negative.
    """
    things = [{"id": c.id, "name": c.name} for c in _things(categories)]
    ids = [c.id for c in _things(categories)]
    folder = root / "annotations"
    rest: Plain = {"split": "val", "categories": things}
    with (
        _json_list(folder / "val" / "all_classes.json", "sequences", rest) as add,
        _json_list(folder / "val" / "first_frame_annotations.json", "sequences", rest) as add_first,
    ):
        for number, video in enumerate(videos, 1):
            frames, first = _BurstFrames(), _BurstFrames()
            for index, frame in enumerate(video.frames):
                picture = root / "frames" / "val" / BURST_DATASET / video.name / _burst_name(index)
                write_jpeg(picture, frame.image, quality=video.quality)
                shown = [(s, code) for s, code in visible(frame.annotation) if s.is_thing]
                new = [(s, code) for s, code in shown if s.track_id not in frames.categories]
                frames.add((s, {"rle": code["counts"], "is_gt": True, "score": 1.0}) for s, code in shown)
                first.add((s, burst_exemplar(code, frame.points[s.track_id])) for s, code in new)
            absent = sorted(set(ids) - set(frames.categories.values()))
            add(burst_sequence(number, video, frames.categories, frames.frames, negative=absent))
            add_first(burst_sequence(number, video, frames.categories, first.frames, negative=absent))
    _write_json(folder / "info" / "categories.json", things)
    _write_json(folder / "info" / "class_split.json", {"common": ids, "uncommon": [], "all": ids})


def write_burst_exemplar_results(root: Path, videos: Iterable[LabelledVideo], categories: CategorySet) -> None:
    """``exemplar_guided.json``: the tracks and categories that were given, for point-exemplar tracking."""
    _write_burst_results(root / "exemplar_guided.json", videos, categories)


def write_burst_open_world_results(root: Path, videos: Iterable[LabelledVideo], categories: CategorySet) -> None:
    """``open_world.json``."""
    _write_burst_results(root / "open_world.json", videos, categories)


def _write_burst_results(path: Path, videos: Iterable[LabelledVideo], categories: CategorySet) -> None:
    rest: Plain = {"split": "val", "categories": [{"id": c.id, "name": c.name} for c in _things(categories)]}
    with _json_list(path, "sequences", rest) as add:
        for number, video in enumerate(videos, 1):
            frames = _BurstFrames()
            for frame in video.frames:
                shown = [(s, code) for s, code in visible(frame.annotation) if s.is_thing]
                frames.add((s, {"rle": code["counts"], "score": 1.0}) for s, code in shown)
            add(burst_sequence(number, video, frames.categories, frames.frames))


@dataclass(slots=True)
class _BurstFrames:
    """``segmentations`` of a sequence as they come, and the category of each track."""

    frames: list[dict[str, Plain]] = field(default_factory=list)
    categories: dict[int, int | None] = field(default_factory=dict)

    def add(self, entries: Iterable[tuple[Segment, Plain]]) -> None:
        """Take the objects of the next frame."""
        frame = {}
        for segment, entry in sorted(entries, key=lambda pair: pair[0].track_id):
            frame[str(segment.track_id)] = entry
            self.categories[segment.track_id] = segment.category
        self.frames.append(frame)


def burst_exemplar(code: RLE, point_xy: tuple[int, int]) -> Plain:
    """Mask, box and point of an object on the frame on which it is first seen."""
    point = {"x": point_xy[0], "y": point_xy[1]}
    return {"rle": code["counts"], "is_gt": True, "score": 1.0, "bbox": rle_box_xywh(code), "point": point}


def burst_sequence(
    number: int,
    video: LabelledVideo,
    categories: Mapping[int, int | None],
    frames: Sequence[Mapping[str, Plain]],
    *,
    negative: Collection[int] = (),
) -> Plain:
    """An entry of ``sequences``."""
    names = [_burst_name(index) for index in range(len(frames))]
    return {
        "id": number,
        "seq_name": video.name,
        "dataset": BURST_DATASET,
        "width": video.size_hw[1],
        "height": video.size_hw[0],
        "fps": video.fps,
        "all_image_paths": names,
        "annotated_image_paths": names,
        "neg_category_ids": list(negative),
        "not_exhaustive_category_ids": [],
        "track_category_ids": {str(track): category for track, category in sorted(categories.items())},
        "segmentations": list(frames),
    }


def _burst_name(index: int) -> str:
    return f"{index:05d}.jpg"


# VIPOSeg (C17).


def write_viposeg(root: Path, videos: Iterable[LabelledVideo], categories: CategorySet) -> None:
    """``valid``: pictures, reference masks of what is new on a frame, masks of all frames and who is where.

    Classes are counted from 0 in the order of the categories; the official groups of seen and unseen classes are of
    other categories and mean nothing here.
    """
    valid = root / "valid"
    with _json_map(valid / "meta.json") as add_meta:
        classes: dict[str, dict[str, str]] = {}
        for video in videos:
            images, given, truth = (
                valid / kind / video.name for kind in ("JPEGImages", "Annotations", "Annotations_gt")
            )
            frames_of: dict[int, list[str]] = {}
            class_of: dict[int, str] = {}
            for index, frame in enumerate(video.frames):
                stem = f"{index:08d}"
                write_jpeg(images / f"{stem}.jpg", frame.image, quality=video.quality)
                shown = [segment for segment, _ in visible(frame.annotation)]
                new = {segment.id for segment in shown} - set(frames_of)
                _write_indices(
                    truth / f"{stem}.png", painted(frame.annotation, [segment.id for segment in frame.segments])
                )
                if new:  # objects come into view on several frames
                    ids = painted(frame.annotation, [segment.id * (segment.id in new) for segment in frame.segments])
                    _write_indices(given / f"{stem}.png", ids)
                for segment in shown:
                    frames_of.setdefault(segment.id, []).append(stem)
                    class_of[segment.id] = str(_class(segment, categories, other=0))
            add_meta(video.name, {"objects": {str(n): {"frames": frames_of[n]} for n in sorted(frames_of)}})
            classes[video.name] = {str(n): class_of[n] for n in sorted(class_of)}
    _write_json(valid / "obj_class.json", classes)


def write_viposeg_results(root: Path, videos: Iterable[LabelledVideo], _: CategorySet) -> None:
    """``VIDEO/00000000.png``, every frame."""
    for video in videos:
        for index, frame in enumerate(video.frames):
            ids = painted(frame.annotation, [segment.id for segment in frame.segments])
            _write_indices(root / video.name / f"{index:08d}.png", ids)


Writer: TypeAlias = Callable[[Path, Iterable[LabelledVideo], CategorySet], None]

TRUTH_WRITERS: dict[Task, Writer] = {
    Task.VOS: write_davis,
    Task.UVOS: write_davis_unsupervised,
    Task.VIS: write_youtube_vis,
    Task.VPS: write_vipseg,
    Task.VSS: write_vspw,
    Task.REFVOS: write_ref_youtube_vos,
    Task.PET: write_burst,
    Task.OWVS: write_burst,
    Task.PVOS: write_viposeg,
}
"""What writes the truth of each task."""

RESULT_WRITERS: dict[Task, Writer] = {
    Task.VOS: write_davis_results,
    Task.UVOS: write_davis_unsupervised_results,
    Task.VIS: write_youtube_vis_results,
    Task.VPS: write_vipseg_results,
    Task.VSS: write_vspw_results,
    Task.REFVOS: write_ref_youtube_vos_results,
    Task.PET: write_burst_exemplar_results,
    Task.OWVS: write_burst_open_world_results,
    Task.PVOS: write_viposeg_results,
}
"""What writes it as results."""


# Pictures and pieces of JSON.


def visible(annotation: FrameAnnotation) -> list[tuple[Segment, RLE]]:
    """The segments that have a pixel, and their codes."""
    pairs = zip(annotation.segmentation.segments, annotation.segmentation.to_rle(), strict=True)
    return [(segment, code) for segment, code in pairs if rle_area(code)]


def painted(annotation: FrameAnnotation, values: Sequence[int]) -> Ids:
    """``int32[H, W]``: the value of the segment at each pixel, 0 where there is none.

    Args:
        annotation: of a frame.
        values: one for each of its segments.
    """
    ids: Ids = np.array([0, *values], np.int32)[annotation.segmentation.label_map().cpu().numpy()]
    return ids


def write_jpeg(path: Path, image: NDArray[np.uint8], *, quality: int = JPEG_QUALITY) -> None:
    """Write a picture, ``uint8[H, W, 3]`` RGB, and its folder. The bytes depend on the build of OpenCV."""
    done, jpeg = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise OutputError(f"OpenCV cannot compress {path.name}, {image.shape[0]}×{image.shape[1]} pixels")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg.tobytes())


def _write_indices(path: Path, values: Ids, *, grey: bool = False) -> None:
    """Write 0 to 255 as a palette picture, or a grey one; unlike `write_label_png` it takes the void, 255."""
    if int(values.max()) > VOID:
        raise OutputError(f"{path.name} has the id {int(values.max())}: this layout ends at {VOID}")
    image = Image.fromarray(values.astype(np.uint8))
    if not grey:
        image.putpalette(davis_palette().tobytes())
    _save_png(path, image)


def _write_rgb_ids(path: Path, ids: Ids) -> None:
    """Write ids as R + 256 G + 65536 B, small ones too."""
    octets = np.ascontiguousarray(ids, dtype="<i4").view(np.uint8).reshape(*ids.shape, 4)
    _save_png(path, Image.fromarray(np.ascontiguousarray(octets[..., :3])))


def _save_png(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, "PNG", compress_level=1, compress_type=Image.RLE)


@contextmanager
def _json_list(
    path: Path, key: str | None = None, rest: Mapping[str, object] | None = None
) -> Iterator[Callable[[object], None]]:
    """A JSON file whose one long list is written entry by entry; ``rest`` follows, as it is at the end.

    Args:
        path: the file.
        key: of the list; None if the file is the list.
        rest: the other keys.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write("[" if key is None else f"{{{_json(key)}:[")
        count = 0

        def add(entry: object) -> None:
            nonlocal count
            file.write(("\n" if count == 0 else ",\n") + _json(entry))
            count += 1

        yield add
        tail = "".join(f",\n{_json(name)}:{_json(value)}" for name, value in (rest or {}).items())
        file.write("\n]" + ("\n" if key is None else f"{tail}}}\n"))


@contextmanager
def _json_map(path: Path) -> Iterator[Callable[[str, object], None]]:
    """A JSON file ``{"videos": {name: …}}``, written video by video."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write('{"videos":{')
        count = 0

        def add(name: str, entry: object) -> None:
            nonlocal count
            file.write(("\n" if count == 0 else ",\n") + f"{_json(name)}:{_json(entry)}")
            count += 1

        yield add
        file.write("\n}}\n")


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_json(value) + "\n", encoding="utf-8", newline="\n")


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


# Categories.


def _things(categories: CategorySet) -> list[Category]:
    return [category for category in categories.categories if category.is_thing]


def _position(segment: Segment, categories: CategorySet) -> int:
    """Position of its category in the label space, from 0.

    Raises:
        InputError: it has none, or one that is not in the label space.
    """
    if segment.category not in categories.ids:
        raise InputError(f"segment {segment.id} has category {segment.category}, which {categories.name} has not")
    return categories.ids.index(segment.category)


def _class(segment: Segment, categories: CategorySet, *, other: int) -> int:
    """`_position`, or ``other`` for a segment of unknown category."""
    return other if segment.category is None else _position(segment, categories)
