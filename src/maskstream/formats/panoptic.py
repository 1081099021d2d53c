"""Panoptic segmentation as COCO has it: a PNG of ids a frame, and a JSON file that lists the segments of each.

==============  =======================================  ==========================================================
layout          pictures                                 ``annotations`` of the JSON file
==============  =======================================  ==========================================================
VIPSeg          ``panomasksRGB/VIDEO/FRAME.png``         ``[{"video_id", "annotations": [FRAME, …]}, …]``
  results       ``pan_pred/VIDEO/FRAME.png``             the same, in ``pred.json``
Cityscapes-VPS  ``val/panoptic_video/…``                 ``[FRAME, …]``, video after video
  results       ``pan_pred/IMAGE.png``                   the same, in ``pred.json``
images          ``panoptic_val/IMAGE.png``               ``[FRAME, …]``
  results       ``pan_pred/IMAGE.png``                   the same, in ``pred.json``
==============  =======================================  ==========================================================

An id is R + 256 G + 65536 B; 0 is nothing. FRAME is ``{"image_id", "file_name", "segments_info": [{"id", "category_id",
"iscrowd", "area", "bbox"}, …]}``. Ids are those of one video and keep their category.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, TypeAlias

from maskstream.types import (
    Category,
    CategorySet,
    FrameAnnotation,
    FrameRef,
    InputError,
    LabelMap,
    Segment,
    VideoSample,
    rle_area,
    rle_box_xywh,
)

from .id_picture import IdPicture
from .json_files import Json, json_list, read_json, well_formed, write_json, write_lines
from .palette import davis_palette
from .pictures import painted, visible, write_picture, write_rgb_ids
from .png import read_label_png

RESULTS = "pred.json"
RESULT_MASKS = "pan_pred"

Plain: TypeAlias = dict[str, object]

_PER_CATEGORY = 1000


class Listed(NamedTuple):
    """An entry of ``segments_info``."""

    category: int
    is_crowd: bool
    area: int


@dataclass(frozen=True, slots=True, eq=False)
class PanopticFrame:
    """An entry of ``annotations``: a frame, its picture of ids, and what is listed for it.

    Attributes:
        stem: the name of the frame.
        mask: the picture of ids.
        source: the file that lists it.
        segments_info: as in the file; looked at when it is needed.
    """

    stem: str
    mask: Path
    source: Path
    segments_info: Sequence[Json] = field(repr=False)

    def listed(self) -> dict[int, Listed]:
        """The segments by id, in the order of the file. One that is listed twice is one, with both areas.

        Raises:
            InputError: an entry lacks something.
        """
        segments: dict[int, Listed] = {}
        with well_formed(self.source, f"the segments of {self.stem}"):
            for row in self.segments_info:
                area = int(row.get("area", 0))
                known = segments.get(int(row["id"]))
                segments[int(row["id"])] = (
                    known._replace(area=known.area + area)
                    if known
                    else Listed(int(row["category_id"]), bool(row.get("iscrowd", 0)), area)
                )
        return segments

    def annotation(self, frame_index: int, categories: CategorySet, *, truth: bool = True) -> FrameAnnotation:
        """The labels of the frame, in the order in which they are listed.

        Args:
            frame_index: position of the frame.
            categories: the label space.
            truth: what has no id is void; in a prediction it is nothing.

        Raises:
            InputError: the picture is missing or damaged, holds an id that is not listed, or a category is unknown.
        """
        kinds = {category.id: category.is_thing for category in categories.categories}
        segments, crowd = {}, set()
        for number, (category, is_crowd, _) in self.listed().items():
            if category not in kinds or number < 1:
                what = f"the category {category}, which {categories.name} has not" if number > 0 else "no id above 0"
                raise InputError(f"{self.source}: segment {number} of {self.stem} has {what}")
            segments[number] = Segment(number, number, category, is_thing=kinds[category])
            if is_crowd:
                crowd.add(number)
        picture = IdPicture(read_label_png(self.mask, encoding="rgb"))
        unlisted = [number for number in picture.ids if number and number not in segments]
        if unlisted:
            raise InputError(f"{self.mask} has the id {unlisted[0]}, which {self.source.name} does not list for it")
        void = picture.where([0]) if truth else None
        return FrameAnnotation(picture.segmentation(frame_index, segments), void, crowd_ids=frozenset(crowd))


# Reading.


def read_panoptic_json(path: Path, *, what: str) -> Json:
    """A JSON file with a list of ``annotations``, whole.

    Args:
        path: the file.
        what: what it should be, for messages.

    Raises:
        InputError: it is missing or has no such list.
    """
    plain = read_json(path, what=what)
    if not isinstance(plain, dict) or not isinstance(plain.get("annotations"), list):
        raise InputError(f'{path} is not {what}: it has no list "annotations"')
    return plain


def read_categories(rows: Json, path: Path, *, name: str) -> CategorySet:
    """A label space as these files list it: ``[{"id", "name", "isthing", "color"}, …]``.

    Raises:
        InputError: it is something else.
    """
    with well_formed(path, "a list of categories"):
        categories = tuple(_category(row) for row in rows)
    try:
        return CategorySet(name, categories)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def frames_by_video(plain: Json, path: Path, masks: Path) -> dict[str, dict[str, PanopticFrame]]:
    """The frames of a file in VIPSeg's form, by video and stem.

    Args:
        plain: its content.
        path: of the file.
        masks: the folder of the pictures, in it a folder a video.

    Raises:
        InputError: it is of another form, or lists something twice.
    """
    videos: dict[str, dict[str, PanopticFrame]] = {}
    with well_formed(path, "a list of videos with their frames, as VIPSeg has it"):
        for video in plain["annotations"]:
            name = str(video["video_id"])
            if name in videos:
                raise InputError(f"{path} lists the video {name} twice")
            videos[name] = {}
            for row in video["annotations"]:
                stem = Path(str(row.get("file_name") or row["image_id"])).stem
                if stem in videos[name]:
                    raise InputError(f"{path} lists the frame {stem} of {name} twice")
                videos[name][stem] = PanopticFrame(stem, masks / name / f"{stem}.png", path, row["segments_info"])
    return videos


def frames_by_image(
    plain: Json, path: Path, mask_of: Callable[[str, str | None], Path], *, names: Sequence[str] = ()
) -> dict[str, PanopticFrame]:
    """The frames of a file that lists them one after the other, by ``image_id``.

    Args:
        plain: its content.
        path: of the file.
        mask_of: gives the picture for ``image_id`` and ``file_name``.
        names: who is who where no entry has a name, as in what the program of Cityscapes-VPS writes.

    Raises:
        InputError: it is of another form, or lists something twice.
    """
    frames: dict[str, PanopticFrame] = {}
    rows = plain["annotations"]
    with well_formed(path, "a list of frames with their segments"):
        if not any("image_id" in row or "file_name" in row for row in rows) and len(rows) == len(names):
            rows = [{"image_id": name, **row} for name, row in zip(names, rows, strict=True)]
        for row in rows:
            name = str(row["image_id"]) if "image_id" in row else Path(row["file_name"]).stem
            if name in frames:
                raise InputError(f"{path} lists {name} twice")
            frames[name] = PanopticFrame(name, mask_of(name, row.get("file_name")), path, row["segments_info"])
    return frames


def read_vipseg_results(path: Path, categories: CategorySet) -> dict[str, VideoSample]:
    """``pred.json`` and ``pan_pred/VIDEO/FRAME.png``.

    Args:
        path: the folder, or the JSON file.
        categories: the label space.

    Raises:
        InputError: something is missing or of another form.
    """
    listing = path / RESULTS if path.is_dir() else path
    plain = read_panoptic_json(listing, what="panoptic results in the layout of VIPSeg")
    videos = frames_by_video(plain, listing, listing.parent / RESULT_MASKS)
    return {name: _result(name, frames, categories) for name, frames in videos.items()}


def read_image_results(
    path: Path,
    categories: CategorySet,
    *,
    video_of: Callable[[str], str] = str,
    names: Sequence[str] = (),
) -> dict[str, VideoSample]:
    """A JSON file and the folder of its pictures: ``pred.json`` and ``pan_pred``, or ``NAME.json`` and ``NAME``.

    Args:
        path: the folder of both, or the JSON file.
        categories: the label space.
        video_of: the video of an image; images are videos of one frame by default.
        names: who is who where no entry has a name.

    Raises:
        InputError: something is missing or of another form.
    """
    listing = _only_json(path) if path.is_dir() else path
    plain = read_panoptic_json(listing, what="panoptic results as COCO has them")
    masks = listing.with_suffix("") if listing.with_suffix("").is_dir() else listing.parent / RESULT_MASKS

    def mask_of(name: str, file_name: str | None) -> Path:
        given = None if file_name is None else masks / file_name
        return given if given is not None and given.exists() else masks / f"{name}.png"

    videos: dict[str, dict[str, PanopticFrame]] = {}
    for name, frame in frames_by_image(plain, listing, mask_of, names=names).items():
        videos.setdefault(video_of(name), {})[name] = frame
    return {name: _result(name, frames, categories) for name, frames in videos.items()}


def _only_json(folder: Path) -> Path:
    found = sorted(folder.glob("*.json"))
    if (folder / RESULTS).exists() or len(found) != 1:
        return folder / RESULTS
    return found[0]


def _result(name: str, frames: Mapping[str, PanopticFrame], categories: CategorySet) -> VideoSample:
    listed = tuple(frames.values())
    refs = tuple(FrameRef(frame.stem) for frame in listed)
    return VideoSample(name, refs, lambda index: listed[index].annotation(index, categories, truth=False))


def _category(row: Json) -> Category:
    colour = row.get("color")
    is_thing = row.get("isthing")
    return Category(
        int(row["id"]),
        str(row["name"]),
        None if is_thing is None else bool(is_thing),
        None if colour is None else (int(colour[0]), int(colour[1]), int(colour[2])),
    )


# Writing.


def write_vipseg(root: Path, videos: Iterable[VideoSample], categories: CategorySet) -> None:
    """The truth as VIPSeg's 720p conversion has it, a validation set.

    ``images``, ``panomasksRGB``, ``panoptic_gt_VIPSeg_val.json``, the list of categories and ``val.txt``. Frames that
    nobody labelled are left out. Segments keep their order, on which the official STQ depends.
    """
    listed: list[Plain] = []
    entries = category_entries(categories, from_zero=True)
    with json_list(
        root / "panoptic_gt_VIPSeg_val.json", "annotations", {"videos": listed, "categories": entries}
    ) as add:
        for video in videos:
            writer = _Writer(categories, from_zero=True)
            images, rows = [], []
            for index, frame in _labelled(video):
                write_picture(root / "images" / video.name / f"{frame.stem}.jpg", video, index)
                row, (height, width) = writer.write(root / "panomasksRGB" / video.name, video, index)
                rows.append(row)
                images.append({"id": frame.stem, "file_name": f"{frame.stem}.jpg", "width": width, "height": height})
            listed.append({"video_id": video.name, "images": images})
            add({"video_id": video.name, "annotations": rows})
    write_json(root / "panoVIPSeg_categories.json", entries)
    write_lines(root / "val.txt", [str(video["video_id"]) for video in listed])


def write_vipseg_results(root: Path, videos: Iterable[VideoSample], categories: CategorySet) -> None:
    """``pred.json`` and ``pan_pred/VIDEO/FRAME.png``, every frame that is labelled, empty ones too."""
    with json_list(root / RESULTS, "annotations") as add:
        for video in videos:
            writer = _Writer(categories, from_zero=True)
            masks = root / RESULT_MASKS / video.name
            rows = [writer.write(masks, video, index)[0] for index, _ in _labelled(video)]
            add({"video_id": video.name, "annotations": rows})


def write_image_results(root: Path, videos: Iterable[VideoSample], categories: CategorySet) -> None:
    """``pred.json`` and ``pan_pred/FRAME.png``, every frame that is labelled; categories by their ids."""
    with json_list(root / RESULTS, "annotations") as add:
        for video in videos:
            writer = _Writer(categories, from_zero=False)
            for index, _ in _labelled(video):
                row = writer.write(root / RESULT_MASKS, video, index)[0]
                add(row if video.video_id is None else {**row, "image_id": video.video_id})


def write_coco_panoptic(root: Path, videos: Iterable[VideoSample], categories: CategorySet) -> None:
    """The truth of images as COCO has it: ``val``, ``panoptic_val`` and ``annotations/panoptic_val.json``.

    A video gives an image for each frame that is labelled, named after both unless it has only one.
    """
    images: list[Plain] = []
    rest = {"images": images, "categories": category_entries(categories, from_zero=False)}
    with json_list(root / "annotations" / "panoptic_val.json", "annotations", rest) as add:
        for video in videos:
            writer = _Writer(categories, from_zero=False)
            for index, frame in _labelled(video):
                name = video.name if len(video) == 1 else f"{video.name}_{frame.stem}"
                write_picture(root / "val" / f"{name}.jpg", video, index)
                row, (height, width) = writer.write(root / "panoptic_val", video, index, name=name)
                images.append({"id": name, "file_name": f"{name}.jpg", "width": width, "height": height})
                add(row)


def category_entries(categories: CategorySet, *, from_zero: bool) -> list[Plain]:
    """Entries of ``categories``, counted from 0 as VIPSeg does, or with the ids they have."""
    palette = davis_palette().tolist()
    return [
        {
            "id": n if from_zero else c.id,
            "name": c.name,
            "isthing": int(bool(c.is_thing)),
            "color": list(c.colour or palette[(n + 1) % 255]),
        }
        for n, c in enumerate(categories.categories)
    ]


class PanopticIds:
    """Ids of the segments of a video: 1000 times the category, plus ``Segment.id``.

    A ``Segment.id`` beyond 999 gets the next number above all those instead. A segment that changes its category
    changes its id, because an id has one category. One of unknown category gets 0: these layouts cannot say it.

    Args:
        number_of: the number of a category in the file.
    """

    def __init__(self, number_of: Mapping[int, int]) -> None:
        self._number_of = number_of
        self._first_free = _PER_CATEGORY * (max(number_of.values(), default=0) + 1)
        self._large: dict[tuple[int, int], int] = {}

    def of(self, segment: Segment) -> int:
        """The id of a segment.

        Raises:
            InputError: its category is not in the label space.
        """
        if segment.category is None:
            return 0
        if segment.category not in self._number_of:
            raise InputError(f"segment {segment.id} has the category {segment.category}, which the label space has not")
        number = self._number_of[segment.category]
        if segment.id < _PER_CATEGORY:
            return _PER_CATEGORY * number + segment.id
        return self._large.setdefault((number, segment.id), self._first_free + len(self._large))


class _Writer:
    """Writes the frames of one video, whose ids belong together."""

    def __init__(self, categories: CategorySet, *, from_zero: bool) -> None:
        self._number_of = {c.id: n if from_zero else c.id for n, c in enumerate(categories.categories)}
        self._things: Collection[int] = {c.id for c in categories.categories if c.is_thing}
        self._ids = PanopticIds(self._number_of)

    def write(
        self, masks: Path, video: VideoSample, index: int, *, name: str | None = None
    ) -> tuple[Plain, tuple[int, int]]:
        """Write the picture of a frame; its entry, and its height and width."""
        name = name or video.frames[index].stem
        annotation = _disjoint(video.annotation(index))
        segmentation = annotation.segmentation
        write_rgb_ids(masks / f"{name}.png", painted(annotation, [self._ids.of(s) for s in segmentation.segments]))
        segments = [
            {
                "id": self._ids.of(segment),
                "category_id": self._number_of[segment.category],
                "isthing": int(segment.category in self._things),
                "iscrowd": int(segment.id in annotation.crowd_ids),
                "area": rle_area(code),
                "bbox": rle_box_xywh(code),
            }
            for segment, code in visible(annotation)
            if segment.category is not None
        ]
        return {"image_id": name, "file_name": f"{name}.png", "segments_info": segments}, segmentation.size_hw


def _labelled(video: VideoSample) -> list[tuple[int, FrameRef]]:
    return [(index, frame) for index, frame in enumerate(video.frames) if frame.annotated]


def _disjoint(annotation: FrameAnnotation) -> FrameAnnotation:
    """The same with every pixel in one segment, the one on top, so that what is listed is what is seen."""
    segmentation = annotation.segmentation
    return replace(annotation, segmentation=replace(segmentation, masks=LabelMap(segmentation.label_map())))
