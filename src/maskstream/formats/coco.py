"""COCO's JSON of images, and the same with videos: ``video_id`` and ``frame_index`` of images, ``track_id`` of objects.

================  ================================================================================================
truth             ``annotations/instances_val.json``, pictures in ``val``
================  ================================================================================================

An image of a file without those fields is a video of one frame, and so is one of LVIS.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath

from maskstream.types import (
    RLE,
    Category,
    CategorySet,
    FrameAnnotation,
    FrameRef,
    InputError,
    Segment,
    VideoSample,
    rle_area,
    rle_box_xywh,
)

from .json_files import Json, json_list
from .long_json import Shards, reading
from .pictures import visible, write_picture
from .run_lengths import frame_of, read_code
from .youtube_vis import known_category

_WHAT = "the annotations of COCO or a data set like it"


@dataclass(frozen=True, slots=True)
class _Objects:
    """The objects of one image."""

    segments: list[Segment] = field(default_factory=list)
    codes: list[RLE] = field(default_factory=list)
    crowds: set[int] = field(default_factory=set)


class CocoFile:
    """A file of annotations; the masks of one video are held at a time.

    Attributes:
        path: of the file.
        categories: its label space, named by the file.
        shows_labels: whether it has annotations.
        names: of the videos, or of the images, in the order of the file.

    Raises:
        InputError: it is no such file, or an id is used twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._annotations = Shards(path, "annotations", by=("image_id",), what=_WHAT)
        self.shows_labels = self._annotations.has_list
        rest = self._annotations.rest
        with reading(path, "categories"):
            listed = rest.get("categories") or []
            categories = tuple(Category(int(one["id"]), str(one["name"]), is_thing=True) for one in listed)
            self.categories = CategorySet(path.stem, categories)
        with reading(path, "images"):
            self._videos = _videos(rest["images"], rest.get("videos") or ())
        self.names = list(self._videos)
        self._ids = frozenset(self.categories.ids)
        self._objects = lru_cache(maxsize=1)(self._read)

    def sample(self, name: str, images: Path) -> VideoSample:
        """A video; ``images`` is the folder of its pictures, below which ``file_name`` or ``coco_url`` leads."""
        listed = self._videos[name]
        frames = tuple(FrameRef(PurePosixPath(_file(one)).stem, images / _file(one)) for one in listed)
        video_id = listed[0].get("video_id", listed[0]["id"])
        return VideoSample(
            name,
            frames,
            (lambda index: self._annotation(name, index)) if self.shows_labels else None,
            video_id=video_id,
        )

    def _annotation(self, name: str, index: int) -> FrameAnnotation:
        objects = self._objects(name)[index]
        with reading(self.path, name):
            segmentation = frame_of(index, _size(self._videos[name][index]), objects.segments, objects.codes)
        return FrameAnnotation(segmentation, crowd_ids=frozenset(objects.crowds))

    def _read(self, name: str) -> list[_Objects]:
        """The objects of every frame of a video.

        Raises:
            InputError: a mask is damaged, an id is twice on an image, or a category is unknown.
        """
        records = [self._annotations[str(image["id"])] for image in self._videos[name]]
        # Ids of segments count from 1.
        offset = int(any(_number(record) == 0 for of_image in records for record in of_image))
        frames = []
        for image, of_image in zip(self._videos[name], records, strict=True):
            objects = _Objects()
            for record in of_image:
                with reading(self.path, f"annotation {record.get('id')} of image {image['id']}"):
                    self._add(objects, record, _size(image), offset)
            frames.append(objects)
        return frames

    def _add(self, objects: _Objects, record: Json, size_hw: tuple[int, int], offset: int) -> None:
        number, category = int(_number(record)) + offset, int(record["category_id"])
        if category not in self._ids:
            raise InputError(f"category {category} is not listed")
        if any(number == segment.id for segment in objects.segments):
            raise InputError("this id is used twice")
        code = read_code(record["segmentation"], size_hw)
        if code is not None:
            objects.segments.append(Segment(number, number, category, record.get("score"), is_thing=True))
            objects.codes.append(code)
            objects.crowds.update({number} if record.get("iscrowd") else ())


def write_coco(root: Path, videos: Iterable[VideoSample], categories: CategorySet) -> None:
    """``annotations/instances_val.json``, with videos and tracks, and ``val``. Things on annotated frames only."""
    images: list[dict[str, object]] = []
    listed: list[dict[str, object]] = []
    rest = {
        "images": images,
        "videos": listed,
        "categories": [{"id": c.id, "name": c.name} for c in categories.categories if c.is_thing is not False],
    }
    count = 0
    with json_list(root / "annotations" / "instances_val.json", "annotations", rest) as add:
        for position, video in enumerate(videos, 1):
            video_id = position if video.video_id is None else video.video_id
            listed.append({"id": video_id, "name": video.name})
            for index, frame in enumerate(video.frames):
                if not frame.annotated:
                    continue
                file = f"{video.name}/{frame.stem}.jpg"
                write_picture(root / "val" / file, video, index)
                annotation = video.annotation(index)
                height, width = annotation.segmentation.size_hw
                image_id = len(images) + 1
                images.append(
                    {
                        "id": image_id,
                        "file_name": file,
                        "width": width,
                        "height": height,
                        "video_id": video_id,
                        "frame_index": index,
                    }
                )
                for segment, code in visible(annotation):
                    if segment.is_thing is False:
                        continue
                    category = known_category(segment.category, categories, f"{video.name}: segment {segment.id}")
                    count += 1
                    add(
                        {
                            "id": count,
                            "image_id": image_id,
                            "video_id": video_id,
                            "track_id": segment.track_id,
                            "category_id": category,
                            "iscrowd": int(segment.id in annotation.crowd_ids),
                            "area": rle_area(code),
                            "bbox": rle_box_xywh(code),
                            "segmentation": code,
                        }
                    )


def _videos(images: Json, listed: Json) -> dict[str, list[Json]]:
    """Images by video, each in the order of their frames; an image without a video is one."""
    if len({image["id"] for image in images}) < len(images):
        raise InputError("an id is used twice")
    names = {int(video["id"]): str(video["name"]) for video in listed if "name" in video}
    by_id: dict[tuple[str, int], list[Json]] = {}
    for image in images:
        kind = "video_id" if "video_id" in image else "id"
        by_id.setdefault((kind, int(image[kind])), []).append(image)
    videos: dict[str, list[Json]] = {}
    for (kind, number), frames in by_id.items():
        path = PurePosixPath(_file(frames[0]))
        name = names.get(number, str(path.parent)) if kind == "video_id" else str(path.with_suffix(""))
        if name in videos or name == ".":
            name = f"{name}-{number}".lstrip(".-")
        videos[name] = sorted(frames, key=lambda image: int(image.get("frame_index", 0)))
    return videos


def _file(image: Json) -> str:
    """Path of the picture. LVIS says it in the address: the last folder of it and the name."""
    if "file_name" in image:
        return str(image["file_name"])
    return "/".join(str(image["coco_url"]).split("/")[-2:])


def _size(image: Json) -> tuple[int, int]:
    return int(image["height"]), int(image["width"])


def _number(record: Json) -> Json:
    return record.get("track_id", record.get("id"))
