"""Images with instance masks: COCO, LVIS and SA-1B (datasets specification D). An image is a video of one frame."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskstream.formats.coco import CocoFile
from maskstream.formats.json_files import Json
from maskstream.formats.long_json import reading
from maskstream.formats.run_lengths import frame_of, read_code
from maskstream.types import OBJECT, RLE, FrameAnnotation, FrameRef, InputError, Segment, Task, VideoSample

from .dataset import Dataset, DatasetInfo, LazyVideos
from .places import contents, find, subfolders


def read_coco(root: Path, split: str) -> Dataset:
    """COCO, or a file of images or videos of one's own in its layout.

    Args:
        root: a file of annotations, or the folder with ``annotations``.
        split: val or train.

    Raises:
        InputError: there is no such file.
    """
    path = root
    if root.is_dir():
        names = (f"instances_{split}2017.json", f"instances_{split}.json")
        places = [f"{folder}{name}" for name in names for folder in ("annotations/", "", "coco/annotations/")]
        path = find(root, *places, what=f"the annotations of COCO {split}")
    above = path.parent.parent if path.parent.name == "annotations" else path.parent
    folder = path.stem.removeprefix("instances_")
    places_of_images = (above / folder, above / "images" / folder, above / split, above / "images")
    images = next((place for place in places_of_images if place.is_dir()), places_of_images[0])
    return _dataset("coco", split, root, path, images)


def read_lvis(root: Path, split: str) -> Dataset:
    """LVIS v1, on the pictures of COCO.

    Args:
        root: a file of annotations, the folder it is in, or the one above.
        split: val or train.

    Raises:
        InputError: there is no such file.
    """
    path = root
    if root.is_dir():
        name = f"lvis_v1_{split}.json"
        path = find(root, name, f"annotations/{name}", f"lvis/{name}", what=f"the annotations of LVIS {split}")
    above = (path.parent, path.parent.parent, path.parent.parent / "coco")
    return _dataset("lvis", split, root, path, next((a for a in above if (a / "train2017").is_dir()), above[0]))


def _dataset(name: str, split: str, root: Path, path: Path, images: Path) -> Dataset:
    file = CocoFile(path)
    videos = LazyVideos(file.names, partial(file.sample, images=images))
    return Dataset(name, split, root, replace(file.categories, name=name), videos)


# SA-1B.


def read_sa1b(root: Path, split: str) -> Dataset:
    """SA-1B: ``sa_1.jpg`` beside ``sa_1.json`` in a folder, in folders of these, or in archives ``sa_000000.tar``.

    Args:
        root: the folder, or an archive.
        split: all; there is no other.

    Raises:
        InputError: there is no image.
    """
    archives = [root] if root.is_file() else sorted(root.glob("sa_*.tar"))
    folders = [] if archives else [root, *(root / name for name in subfolders(root))]
    make: dict[str, Callable[[str], VideoSample]] = {}
    for folder in folders:
        make |= {path.stem: partial(_loose, path) for path in folder.glob("sa_*.json")}
    for archive in archives:
        places = _places(archive)
        members = (Path(member) for member in places if member.endswith(".json"))
        make |= {member.stem: partial(_packed, archive, places, member) for member in members}
    if not make:
        raise InputError(f"{root} has no sa_1.json beside sa_1.jpg, and no sa_000000.tar of these; {contents(root)}")
    names = sorted(make, key=lambda name: (len(name), name))  # sa_2 before sa_10
    return Dataset("sa1b", split, root, OBJECT, LazyVideos(names, lambda name: make[name](name)))


def _loose(path: Path, name: str) -> VideoSample:
    def read(index: int) -> FrameAnnotation:
        try:
            return _annotation(path.read_bytes(), path)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error}") from error

    return VideoSample(name, (FrameRef(name, path.with_suffix(".jpg")),), read)


def _packed(archive: Path, places: Mapping[str, tuple[int, int]], member: Path, name: str) -> VideoSample:
    def unpacked(path: Path) -> bytes:
        if path.as_posix() not in places:
            raise InputError(f"{archive} has no {path}")
        offset, size = places[path.as_posix()]
        with archive.open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def image(index: int) -> NDArray[np.uint8]:
        with Image.open(io.BytesIO(unpacked(member.with_suffix(".jpg")))) as picture:
            return np.asarray(picture.convert("RGB"))

    return VideoSample(name, (FrameRef(name),), lambda index: _annotation(unpacked(member), archive / member), image)


def _places(archive: Path) -> dict[str, tuple[int, int]]:
    """Where the files of an archive begin, and how long they are; it is not compressed."""
    try:
        with tarfile.open(archive, "r:") as opened:
            files = [member for member in opened if member.isfile()]
    except (OSError, tarfile.TarError) as error:
        raise InputError(f"{archive} cannot be read as an archive of SA-1B: {error}") from error
    return {Path(file.name).as_posix(): (file.offset_data, file.size) for file in files}


def _annotation(text: bytes, path: Path) -> FrameAnnotation:
    """The masks of an image, which overlap; their score is the IoU that was predicted."""
    with reading(path, "masks"):
        plain: Json = json.loads(text)
        size_hw = int(plain["image"]["height"]), int(plain["image"]["width"])
        segments: list[Segment] = []
        codes: list[RLE] = []
        for one in plain["annotations"]:
            code = read_code(one["segmentation"], size_hw)
            if code is not None:
                number = int(one["id"])
                segments.append(Segment(number, number, OBJECT.ids[0], one.get("predicted_iou"), is_thing=True))
                codes.append(code)
        return FrameAnnotation(frame_of(0, size_hw, segments, codes))


_UNSCORED = "There is no protocol: AP of images has other sizes and other rules for crowds than AP of videos."

INFOS = (
    DatasetInfo(
        name="coco",
        title="COCO 2017, instances",
        tasks=(Task.VIS,),
        splits=("val", "train"),
        home="https://cocodataset.org",
        licence="annotations CC BY 4.0; pictures from Flickr under licences of their own",
        about="5,000 and 118,000 images (val, train) with masks of 80 classes. Also any file of this layout, with "
        "video_id, track_id and frame_index where images belong to videos.",
        layout=(
            "annotations/instances_val2017.json\nval2017/000000000139.jpg                   not needed to read masks"
        ),
        results="none",
        read=read_coco,
        notes=("Class ids run from 1 to 90, with gaps.", _UNSCORED),
    ),
    DatasetInfo(
        name="lvis",
        title="LVIS v1",
        tasks=(Task.VIS,),
        splits=("val", "train"),
        home="https://www.lvisdataset.org",
        licence="see the page; pictures of COCO",
        about="19,800 and 100,000 images (val, train) with masks of 1,203 classes; not every object is annotated.",
        layout=(
            "lvis_v1_val.json\ntrain2017, val2017                         pictures of COCO; val has some of train2017"
        ),
        results="none",
        read=read_lvis,
        notes=("The lists of absent and of unfinished classes are not read.", _UNSCORED),
    ),
    DatasetInfo(
        name="sa1b",
        title="SA-1B",
        tasks=(Task.OWVS,),
        splits=("all",),
        home="https://ai.meta.com/datasets/segment-anything",
        licence="SA-1B research licence",
        about="11 million images with 1.1 billion masks without classes, which overlap: parts, wholes and groups.",
        layout="sa_1.jpg, sa_1.json   in a folder, in folders of it, or in sa_000000.tar",
        results="none",
        read=read_sa1b,
        notes=("Scores of masks are the IoU that the annotating model predicted.",),
    ),
)
