"""The layouts that can be read and written, and what each has a place for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

from maskstream.datasets import Dataset
from maskstream.datasets.burst import read_burst
from maskstream.datasets.cityscapes import read_cityscapes_vps
from maskstream.datasets.classes import KITTI_STEP
from maskstream.datasets.davis import read_davis
from maskstream.datasets.kitti_mots import KITTI_MOTS, read_kitti_mots
from maskstream.datasets.kitti_step import read_kitti_step
from maskstream.datasets.mask_folders import read_mask_folder
from maskstream.datasets.places import find
from maskstream.datasets.sav import read_sav
from maskstream.datasets.vipseg import read_vipseg
from maskstream.datasets.vspw import read_vspw
from maskstream.datasets.youtube_vis import read_youtube_vis
from maskstream.datasets.ytvos import read_youtube_vos
from maskstream.formats.alpha import read_alpha, read_alpha_video, write_alpha, write_alpha_video
from maskstream.formats.burst import COLLECTION, write_burst
from maskstream.formats.coco import CocoFile, write_coco
from maskstream.formats.cvat import read_cvat, write_cvat
from maskstream.formats.indexed_png import read_masks, track_ids, write_mask_folders, write_object_folders
from maskstream.formats.journal import Journal, read_journal_video
from maskstream.formats.json_files import json_map, read_json, write_lines
from maskstream.formats.label_studio import read_label_studio, write_label_studio
from maskstream.formats.long_json import Shards, reading
from maskstream.formats.mots import write_mots
from maskstream.formats.panoptic import read_categories, write_vipseg
from maskstream.formats.pictures import VOID, visible, write_indices, write_picture
from maskstream.formats.semantic_png import write_vspw
from maskstream.formats.soft_png import LISTING, read_soft, write_soft
from maskstream.formats.step_png import write_kitti_step
from maskstream.formats.yolo_seg import read_yolo, write_yolo
from maskstream.formats.youtube_vis import write_youtube_vis
from maskstream.types import (
    OBJECT,
    Category,
    CategorySet,
    FrameAnnotation,
    FrameRef,
    InputError,
    VideoSample,
)

from .content import Feature

Videos: TypeAlias = Sequence[VideoSample]
Read: TypeAlias = Callable[[Path, str | None], tuple[CategorySet, Videos]]
Write: TypeAlias = Callable[[Path, Iterable[VideoSample], CategorySet], None]


@dataclass(frozen=True, slots=True)
class Format:
    """A layout that can be read or written.

    Attributes:
        title: what people call it.
        read: opens a folder or file, and a split of it where there are several; the first one if none is named.
        write: fills an empty folder; None where it is only read.
        holds: what it has a place for.
        with_pictures: what it has a place for beside when there are pictures.
        largest_id: of an object, or None where there is no end.
        digits: of the numbers of frames, where these have no names.
        label_space: the only categories that it has, or None where it takes any.
        suffix: of the one file that it may be instead of a folder, without pictures.
    """

    title: str
    read: Read
    write: Write | None
    holds: frozenset[Feature]
    with_pictures: frozenset[Feature] = frozenset()
    largest_id: int | None = None
    digits: int | None = None
    label_space: CategorySet | None = None
    suffix: str | None = None


def _dataset(open_split: Callable[[Path, str], Dataset], *splits: str) -> Read:
    """The reader of a data set with these splits, that show their labels; the first there is taken if none is named."""

    def opened(path: Path, name: str) -> Dataset | InputError:
        try:
            return open_split(path, name)
        except InputError as error:
            return error

    def read(path: Path, split: str | None) -> tuple[CategorySet, Videos]:
        if split is not None and split not in splits:
            raise InputError(f"there is no split {split!r}; there are {', '.join(splits)}")
        found = [opened(path, name) for name in (splits if split is None else (split,))]
        dataset = next((one for one in found if isinstance(one, Dataset)), None)
        if dataset is None:
            raise found[0] if isinstance(found[0], InputError) else AssertionError
        return dataset.categories, dataset.videos

    return read


def _unsplit(read: Callable[[Path], tuple[CategorySet, Videos]]) -> Read:
    """The reader of a layout that knows no splits."""

    def read_all(path: Path, split: str | None) -> tuple[CategorySet, Videos]:
        if split is not None:
            raise InputError(f"this layout has no splits, so no {split!r}: leave --split out")
        return read(path)

    return read_all


def _without_categories(read: Callable[[Path], Videos]) -> Callable[[Path], tuple[CategorySet, Videos]]:
    return lambda path: (OBJECT, read(path))


def _read_burst(path: Path, split: str) -> Dataset:
    """BURST; the collection that our writer puts before a name that has none is taken off."""
    dataset = read_burst(path, split)
    named = [replace(video, name=video.name.removeprefix(f"{COLLECTION}/")) for video in dataset.videos]
    return Dataset(dataset.name, split, path, dataset.categories, named)


def _read_coco(path: Path, split: str | None) -> tuple[CategorySet, Videos]:
    names = [f"annotations/instances_{name}*.json" for name in (("val", "train") if split is None else (split,))]
    file = (
        path if path.is_file() else find(path, *names, *(["*.json"] if split is None else []), what="objects of COCO")
    )
    coco = CocoFile(file)
    images = file.parent.parent / file.stem.removeprefix("instances_")
    return coco.categories, [coco.sample(name, images if images.is_dir() else file.parent) for name in coco.names]


def _read_soft(path: Path) -> tuple[CategorySet, Videos]:
    """Soft masks, whose categories have numbers but no names."""
    numbers = set()
    for listing in path.rglob(LISTING):
        with reading(listing, "the listing"):
            plain = read_json(listing, what="a listing of soft masks")
            numbers |= {one["category"] for frame in plain["frames"] for one in frame["segments"]}
    known = sorted(number for number in numbers if number is not None)
    categories = CategorySet("soft", tuple(Category(number, f"category {number}") for number in known))
    return OBJECT if known in ([], list(OBJECT.ids)) else categories, list(read_soft(path).values())


def _read_outputs(path: Path) -> tuple[CategorySet, Videos]:
    """The output folder of a run, or a folder of such folders; the label space is that of the first."""
    journals = sorted(path.rglob("segments.jsonl"))
    if not journals:
        raise InputError(f"{path} has no segments.jsonl, the journal of a run")
    spaces = [_listed_categories(journal.with_name("tracks.json")) for journal in journals]
    if any(space != spaces[0] for space in spaces):
        raise InputError(f"{path} has runs with different categories: convert them one by one")
    return spaces[0], [_output(journal) for journal in journals]


def _output(path: Path) -> VideoSample:
    journal = Journal(path)
    length = 1 + max((frame.frame_index for frame in journal), default=-1)
    frames = tuple(FrameRef(f"{index:05d}") for index in range(length))
    return read_journal_video(journal, VideoSample(path.parent.resolve().name, frames))


def _listed_categories(path: Path) -> CategorySet:
    if not path.exists():  # the run was interrupted
        return OBJECT
    return read_categories(
        Shards(path, "annotations", by=("video_id",), what="tracks").rest["categories"], path, name="run"
    )


def with_frames(video: VideoSample, kept: Sequence[int]) -> VideoSample:
    """The video with the frames at these positions, ascending."""
    if len(kept) == len(video):
        return video
    image = video.read_image

    def read_annotation(index: int) -> FrameAnnotation:
        annotation = video.annotation(kept[index])
        return replace(annotation, segmentation=replace(annotation.segmentation, frame_index=index))

    return replace(
        video,
        frames=tuple(video.frames[index] for index in kept),
        read_annotation=read_annotation,
        read_image=None if image is None else lambda index: image(kept[index]),
    )


def _pictured(videos: Iterable[VideoSample], folder: Path) -> Iterator[VideoSample]:
    """The frames of videos that somebody labelled; the pictures of all are written to ``folder/VIDEO`` on the way."""
    for video in videos:
        for index, frame in enumerate(video.frames):
            write_picture(folder / video.name / f"{frame.stem}.jpg", video, index)
        yield with_frames(video, [index for index, frame in enumerate(video.frames) if frame.annotated])


def _listed(videos: Iterable[VideoSample], names: list[str]) -> Iterator[VideoSample]:
    """The videos; their names are added to a list on the way."""
    for video in videos:
        names.append(video.name)
        yield video


def _write_davis(root: Path, videos: Iterable[VideoSample], _: CategorySet) -> None:
    """DAVIS-2017 with the objects there are, under the numbers they have."""
    names: list[str] = []
    pictured = _pictured(_listed(videos, names), root / "JPEGImages" / "480p")
    write_mask_folders(root / "Annotations" / "480p", pictured)
    write_lines(root / "ImageSets" / "2017" / "val.txt", names)


def _write_vos(root: Path, videos: Iterable[VideoSample], _: CategorySet) -> None:
    (root / "Annotations").mkdir()
    write_mask_folders(root / "Annotations", _pictured(videos, root / "JPEGImages"), large_ids=True)


def _write_youtube_vos(root: Path, videos: Iterable[VideoSample], categories: CategorySet) -> None:
    """The training set of YouTube-VOS, the only one that shows all masks."""
    folder = root / "train"
    with json_map(folder / "meta.json") as add:
        for video in _pictured(videos, folder / "JPEGImages"):
            stems: dict[int, list[str]] = {}
            name_of: dict[int, str] = {}
            for index, frame in enumerate(video.frames):
                annotation = video.annotation(index)
                write_indices(folder / "Annotations" / video.name / f"{frame.stem}.png", track_ids(annotation))
                for segment, _ in visible(annotation):
                    assert segment.category is not None  # the others have been left out
                    stems.setdefault(segment.track_id, []).append(frame.stem)
                    name_of[segment.track_id] = categories[segment.category].name
            objects = {str(n): {"category": name_of[n], "frames": stems[n]} for n in sorted(stems)}
            add(video.name, {"objects": objects})


def _write_sav(root: Path, videos: Iterable[VideoSample], _: CategorySet) -> None:
    names: list[str] = []
    pictured = _pictured(_listed(videos, names), root / "JPEGImages_24fps")
    write_object_folders(root / "Annotations_6fps", pictured)
    write_lines(root / "sav_val.txt", names)


def _write_vspw(root: Path, videos: Iterable[VideoSample], categories: CategorySet) -> None:
    if len(categories) >= VOID:
        raise InputError(f"{categories.name} has {len(categories)} categories: VSPW ends at {VOID - 1}")
    write_vspw(root, videos, categories)


def _without_space(write: Callable[[Path, Iterable[VideoSample]], None]) -> Write:
    return lambda root, videos, _: write(root, videos)


_F = Feature
_ALL = frozenset(Feature)
_SIMPLE = _ALL - {_F.SCORES, _F.SOFT, _F.CROWD, _F.VOID, _F.KINDS, _F.EXPRESSIONS, _F.UNANNOTATED}
"""What nearly all layouts have a place for."""
_OBJECTS = _SIMPLE - {_F.CATEGORIES, _F.NESTED}
"""Objects of which only the number is known; an unknown category is none that could be lost."""
_TUBES = (_SIMPLE | {_F.CROWD, _F.KINDS}) - {_F.STUFF, _F.NO_CATEGORY}
"""Things alone, so that they are told apart from stuff."""
_PANOPTIC = (_SIMPLE | {_F.CROWD, _F.VOID, _F.KINDS}) - {_F.OVERLAPS, _F.NO_CATEGORY, _F.CHANGING, _F.BACKGROUND}

FORMATS: dict[str, Format] = {
    "davis": Format(
        "DAVIS-2017",
        _dataset(
            partial(
                read_davis,
                name="davis",
                folder="Annotations",
                lists=("2017", "2016"),
                read=partial(read_masks, at_255="nothing"),
            ),
            *("val", "train"),
        ),
        _write_davis,
        _OBJECTS - {_F.OVERLAPS},
        largest_id=VOID - 1,
    ),
    "ytvos": Format(
        "YouTube-VOS",
        _dataset(partial(read_youtube_vos, name="ytvos"), "train", "valid"),
        _write_youtube_vos,
        _SIMPLE - {_F.OVERLAPS, _F.NO_CATEGORY, _F.CHANGING, _F.NESTED},
        with_pictures=frozenset({_F.UNANNOTATED}),
        largest_id=VOID,
    ),
    "sav": Format(
        "SA-V",
        _dataset(read_sav, "val", "test"),
        _write_sav,
        _OBJECTS - {_F.EMPTY},
        with_pictures=frozenset({_F.UNANNOTATED}),
    ),
    "vos": Format(
        "a folder of masks",
        _dataset(read_mask_folder, "all"),
        _write_vos,
        _OBJECTS - {_F.OVERLAPS},
        with_pictures=frozenset({_F.UNANNOTATED}),
        largest_id=2**24 - 1,
    ),
    "ytvis": Format(
        "YouTube-VIS",
        _dataset(partial(read_youtube_vis, name="ytvis", categories=OBJECT), "valid", "train"),
        partial(write_youtube_vis, keep_ids=True),
        _TUBES - {_F.CHANGING, _F.CROWD_AT_TIMES},
        suffix=".json",
    ),
    "coco": Format("COCO", _read_coco, write_coco, _TUBES, suffix=".json"),
    "vipseg": Format(
        "VIPSeg",
        _dataset(read_vipseg, "val", "train"),
        write_vipseg,
        _PANOPTIC - {_F.IDS_BY_CATEGORY},
        largest_id=999,
    ),
    "cityscapes-vps": Format("Cityscapes-VPS", _dataset(read_cityscapes_vps, "val", "train"), None, frozenset()),
    "kitti-step": Format(
        "KITTI-STEP",
        _dataset(read_kitti_step, "val", "train"),
        write_kitti_step,
        _PANOPTIC - {_F.IDS, _F.NESTED},
        label_space=KITTI_STEP,
    ),
    "vspw": Format(
        "VSPW",
        _dataset(read_vspw, "val", "train"),
        _write_vspw,
        (_SIMPLE | {_F.VOID}) - {_F.OVERLAPS, _F.NO_CATEGORY, _F.INSTANCES, _F.IDS},
    ),
    "burst": Format(
        "BURST",
        _dataset(_read_burst, "val", "test", "train"),
        write_burst,
        (_SIMPLE | {_F.UNANNOTATED, _F.KINDS}) - {_F.STUFF, _F.NO_CATEGORY, _F.CHANGING},
    ),
    "mots": Format(
        "KITTI-MOTS",
        _dataset(read_kitti_mots, "val", "train"),
        write_mots,
        (_SIMPLE | {_F.VOID, _F.KINDS})
        - {_F.OVERLAPS, _F.STUFF, _F.NO_CATEGORY, _F.CHANGING, _F.IDS, _F.NAMES, _F.NESTED, _F.EMPTY},
        with_pictures=frozenset({_F.EMPTY}),
        digits=6,
        label_space=KITTI_MOTS,
    ),
    "soft": Format(
        "soft masks",
        _unsplit(_read_soft),
        _without_space(write_soft),
        (_SIMPLE | {_F.SOFT, _F.SCORES, _F.KINDS}) - {_F.OVERLAPS, _F.CATEGORIES},
    ),
    "maskstream": Format("an output folder of maskstream", _unsplit(_read_outputs), None, frozenset()),
    "cvat": Format(
        "CVAT",
        _unsplit(read_cvat),
        write_cvat,
        _SIMPLE - {_F.NO_CATEGORY, _F.NAMES},
        with_pictures=frozenset({_F.NAMES}),
        digits=5,
        suffix=".xml",
    ),
    "yolo": Format(
        "YOLO",
        _unsplit(read_yolo),
        write_yolo,
        _SIMPLE - {_F.NO_CATEGORY, _F.IDS, _F.TRACKS, _F.NO_PICTURE},
    ),
    "label-studio": Format(
        "Label Studio",
        _unsplit(read_label_studio),
        write_label_studio,
        (_SIMPLE | {_F.SCORES, _F.UNANNOTATED}) - {_F.NO_CATEGORY},
    ),
    "alpha": Format(
        "mattes", _unsplit(_without_categories(read_alpha)), _without_space(write_alpha), _OBJECTS - {_F.EMPTY}
    ),
    "alpha-video": Format(
        "mattes as video",
        _unsplit(_without_categories(read_alpha_video)),
        _without_space(write_alpha_video),
        _OBJECTS - {_F.EMPTY, _F.NAMES},
        digits=5,
    ),
}
"""Every layout by the name that it has in commands."""
