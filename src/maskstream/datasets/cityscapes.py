"""Cityscapes (Cordts et al., CVPR 2016) and Cityscapes-VPS (Kim et al., CVPR 2020; datasets specification C4)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from maskstream.formats.id_picture import IdPicture
from maskstream.formats.json_files import Json, read_json, well_formed
from maskstream.formats.panoptic import (
    PanopticFrame,
    frames_by_image,
    read_categories,
    read_panoptic_json,
)
from maskstream.formats.png import read_label_png
from maskstream.types import FrameAnnotation, FrameRef, InputError, Segment, Task, VideoSample

from .classes import CITYSCAPES, CITYSCAPES_VPS
from .dataset import Dataset, DatasetInfo, LazyVideos
from .places import find, pictures
from .vipseg import PanopticDataset, panoptic_video

_FPS = 17
_SNIPPET = 30
_LABELLED = 19
"""Position of the labelled frame in a snippet of 30."""
_INSTANCES = 1000


def image_name(stem: str) -> str:
    """``CITY_SEQUENCE_FRAME`` of a file's name: what truth, pictures and results have in common."""
    return "_".join(stem.split("_")[:3])


def read_cityscapes(root: Path, split: str) -> Dataset:
    """Open a split: a video for each labelled picture, the snippet around it where the snippets are there.

    Raises:
        InputError: there are neither labels nor pictures of the split.
    """
    hidden = split == "test"
    kind = "leftImg8bit" if hidden else "gtFine"
    places = ("", "cityscapes/", "Cityscapes/")
    found = find(root, *(f"{place}{kind}/{split}" for place in places), what=f"the {split} split of Cityscapes")
    home, suffix = found.parent.parent, "_leftImg8bit.png" if hidden else "_gtFine_labelIds.png"
    names = sorted(image_name(path.stem) for path in found.glob(f"*/[!.]*{suffix}"))
    if not names:
        raise InputError(f"{found} has no CITY/CITY_000000_000019{suffix}")

    def video(name: str) -> VideoSample:
        city = name.split("_", maxsplit=1)[0]
        frames = _snippet(home, split, city, name)
        return VideoSample(name, frames, None if hidden else partial(_read, found / city / name), fps=_FPS)

    return Dataset("cityscapes", split, home, CITYSCAPES, LazyVideos(names, video))


def _snippet(home: Path, split: str, city: str, name: str) -> tuple[FrameRef, ...]:
    """The frames around a labelled one; itself alone where there is no folder of snippets."""
    snippets = home / "leftImg8bit_sequence" / split / city
    if not snippets.is_dir():
        return (FrameRef(name, home / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png"),)
    sequence, number = name.rsplit("_", maxsplit=1)
    stems = [f"{sequence}_{int(number) - _LABELLED + n:06d}" for n in range(_SNIPPET)]
    return tuple(FrameRef(stem, snippets / f"{stem}_leftImg8bit.png", stem == name) for stem in stems)


def _read(base: Path, frame_index: int) -> FrameAnnotation:
    """The labels of a picture, with instances where there is a file of them."""
    instances = base.with_name(f"{base.name}_gtFine_instanceIds.png")
    path = instances if instances.exists() else base.with_name(f"{base.name}_gtFine_labelIds.png")
    return read_instance_ids(path, frame_index)


def read_instance_ids(path: Path, frame_index: int) -> FrameAnnotation:
    """``instanceIds`` or ``labelIds``: 1000 times the labelId plus the instance, or the labelId of stuff or of a group.

    Classes that are not evaluated are void, groups of things are crowd.

    Raises:
        InputError: it is missing or damaged.
    """
    kinds = {category.id: category.is_thing for category in CITYSCAPES.categories}
    picture = IdPicture(read_label_png(path))
    void, segments, crowd = [], {}, set()
    for value in picture.ids:
        category = value if value < _INSTANCES else value // _INSTANCES
        if category not in kinds:
            void.append(value)
            continue
        segments[value] = Segment(value, value, category, is_thing=kinds[category])
        if kinds[category] and value < _INSTANCES:
            crowd.add(value)
    segmentation = picture.segmentation(frame_index, segments)
    return FrameAnnotation(segmentation, picture.where(void), crowd_ids=frozenset(crowd))


# Cityscapes-VPS.


def read_cityscapes_vps(root: Path, split: str) -> Dataset:
    """Open a split: videos of 30 frames where all pictures are there, else of the 6 labelled ones.

    Raises:
        InputError: there is no JSON file of the split, or it is of another kind.
    """
    listing = root if root.is_file() else _listing(root, split)
    home, hidden, what = listing.parent, split == "test", "the annotation of Cityscapes-VPS"
    plain = read_json(listing, what=what) if hidden else read_panoptic_json(listing, what=what)
    labelled: dict[str, dict[str, FrameRef]] = {}
    listed: dict[str, dict[str, PanopticFrame]] = {}
    for stem, file_name in _images(plain, listing).items():
        labelled.setdefault(_video(stem), {})[stem] = FrameRef(stem, home / split / "img" / file_name)
    given = plain.get("categories")
    categories = CITYSCAPES_VPS if given is None else read_categories(given, listing, name="cityscapes-vps")
    if not hidden:
        masks = home / split / "panoptic_video"
        for stem, frame in frames_by_image(plain, listing, partial(_mask, masks)).items():
            listed.setdefault(_video(stem), {})[stem] = frame
    unlabelled = sorted(labelled.keys() - listed.keys())
    if unlabelled and not hidden:
        raise InputError(f"{listing} lists pictures of the video {unlabelled[0]}, but no annotations of it")
    others = _all_frames(home / split / "img_all")

    def video(name: str) -> VideoSample:
        frames = _joined(others.get(name, {}), labelled[name])
        if hidden:
            return VideoSample(name, frames, fps=_FPS)
        return panoptic_video(name, frames, listed[name], categories)

    return PanopticDataset("cityscapes-vps", split, home, categories, LazyVideos(sorted(labelled), video), listed)


def _listing(root: Path, split: str) -> Path:
    names = [f"panoptic_gt_{split}_city_vps.json", f"panpotic_gt_{split}_city_vps.json"]  # one release misspells it
    if split == "test":
        names = ["panoptic_im_test_city_vps.json"]
    places = ("", "cityscapes_vps/")
    return find(root, *(f"{p}{name}" for p in places for name in names), what=f"the {split} split of Cityscapes-VPS")


def _video(stem: str) -> str:
    """The video, the first number of a name ``0005_0025_frankfurt_000000_001736``."""
    return stem.split("_", maxsplit=1)[0]


def _moment(stem: str) -> str:
    """City, drive and frame of a name: the second number counts labelled frames only."""
    return stem.split("_", maxsplit=2)[-1]


def _images(plain: Json, path: Path) -> dict[str, str]:
    with well_formed(path, "a list of pictures as Cityscapes-VPS has it"):
        return {str(image["id"]): str(image["file_name"]) for image in plain["images"]}


def _mask(folder: Path, name: str, file_name: str | None) -> Path:
    """The mask of a picture; the file may give the name of either."""
    file = file_name or f"{name}_newImg8bit.png"
    return folder / file.replace("_newImg8bit", "_final_mask").replace("_leftImg8bit", "_gtFine_color")


def _all_frames(folder: Path) -> dict[str, dict[str, FrameRef]]:
    """Every picture by video and moment."""
    found: dict[str, dict[str, FrameRef]] = {}
    for path in pictures(folder).values():
        stem = path.stem.removesuffix("_newImg8bit").removesuffix("_leftImg8bit")
        found.setdefault(_video(stem), {})[_moment(stem)] = FrameRef(stem, path, annotated=False)
    return found


def _joined(others: Mapping[str, FrameRef], labelled: Mapping[str, FrameRef]) -> tuple[FrameRef, ...]:
    """All frames in the order of time; labelled ones have the names by which they are listed."""
    frames = {**others, **{_moment(stem): frame for stem, frame in labelled.items()}}
    return tuple(frame for _, frame in sorted(frames.items()))


INFOS = (
    DatasetInfo(
        name="cityscapes",
        title="Cityscapes",
        tasks=(Task.VSS, Task.VPS),
        splits=("val", "train", "test"),
        home="https://www.cityscapes-dataset.com",
        licence="non-commercial, registration",
        about="5,000 finely labelled pictures of 2048×1024 (2,975 train, 500 val, 1,525 test), each the 20th of a "
        "snippet of 30 frames at 17 frames a second; 19 classes, 8 of them things.",
        layout="gtFine/val/CITY/CITY_000000_000019_gtFine_labelIds.png (and instanceIds)\n"
        "leftImg8bit/val/CITY/CITY_000000_000019_leftImg8bit.png\n"
        "leftImg8bit_sequence/val/CITY/… where there is video",
        results="vss: CITY_000000_000019.png, grey, labelIds; more may follow the name\n"
        "vps: pred.json, pan_pred/CITY_000000_000019.png, category_id being the labelId",
        read=read_cityscapes,
        notes=(
            "Videos are run whole, and the labelled frame is scored.",
            "Category ids are labelIds; train ids are positions in the label space.",
            "The labels of the test pictures are hidden.",
        ),
    ),
    DatasetInfo(
        name="cityscapes-vps",
        title="Cityscapes-VPS",
        tasks=(Task.VPS,),
        splits=("val", "train", "test"),
        home="https://github.com/mcahny/vps",
        licence="CC BY-NC-SA 4.0, and that of Cityscapes",
        about="500 snippets of the validation set of Cityscapes (400 train, 50 val, 50 test), 30 frames each, of which "
        "every fifth is labelled; 19 classes, 8 of them things.",
        layout="panoptic_gt_val_city_vps.json\n"
        "val/panoptic_video/0005_0025_CITY_000000_001736_final_mask.png\n"
        "val/img_all/… or val/img/0005_0025_CITY_000000_001736_newImg8bit.png",
        results="pred.json\npan_pred/0005_0025_CITY_000000_001736.png, the labelled frames",
        read=read_cityscapes_vps,
        notes=(
            "Windows of VPQ count labelled frames.",
            "Models trained on it have seen the validation set of Cityscapes.",
            "The labels of the test videos are hidden.",
        ),
    ),
)
