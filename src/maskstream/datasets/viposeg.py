"""VIPOSeg, panoptic video object segmentation (datasets specification C17)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from maskstream.formats.indexed_png import mask_files, read_masks
from maskstream.formats.json_files import read_json, well_formed
from maskstream.formats.panoptic import read_categories
from maskstream.types import CategorySet, InputError, Segment, Task, VideoSample

from .classes import VIPSEG
from .dataset import DatasetInfo, LazyVideos
from .mask_folders import IMAGES, MASKS, MaskDataset, mask_video, split_folder, video_names

TRUTH = "Annotations_gt"
CATEGORIES = "panoVIPSeg_categories.json"
"""Names the classes; beside the splits in sets of other classes than those of VIPSeg."""


@dataclass(frozen=True, slots=True, eq=False)
class ViposegDataset(MaskDataset):
    """VIPOSeg.

    Attributes:
        folder: of the split.
        class_of: the class of each object of each video, from ``obj_class.json``.
    """

    folder: Path
    class_of: Mapping[str, Mapping[int, int]] = field(repr=False)

    def given(self) -> dict[str, dict[int, str]]:
        """The stem of the frame on which each object of each video is given.

        It is the first that ``meta.json`` lists; where that is missing, all given masks are read.

        Raises:
            InputError: the file is not of VIPOSeg, or a mask is damaged.
        """
        meta = self.folder / "meta.json"
        if meta.exists():
            return _first_stems(meta)
        found: dict[str, dict[int, str]] = {}
        for video in self.class_of:
            by_object = found.setdefault(video, {})
            for stem, path in mask_files(self.folder / MASKS / video).items():
                for segment in read_masks(path, 0).segmentation.segments:
                    by_object.setdefault(segment.id, stem)
        return found


def read_viposeg(root: Path, split: str) -> ViposegDataset:
    """VIPOSeg.

    Args:
        root: the folder of the splits, or of this one.
        split: valid, or train, all of whose masks are truth.

    Raises:
        InputError: the split is not there, or ``obj_class.json`` is missing or no list of classes.
    """
    folder = split_folder(root, split, title="VIPOSeg")
    listed = folder.parent / CATEGORIES
    categories = VIPSEG
    if listed.exists():
        categories = read_categories(read_json(listed, what="a list of categories"), listed, name="viposeg")
    class_of = _read_classes(folder / "obj_class.json", categories)
    given = None if split == "train" else folder / MASKS
    truth, images = folder / (MASKS if given is None else TRUTH), folder / IMAGES

    is_thing = {category.id: category.is_thing for category in categories.categories}

    def make(video: str) -> VideoSample:
        known = class_of.get(video, {})
        return mask_video(
            video,
            masks=truth / video,
            images=images / video,
            given=None if given is None else given / video,
            read=partial(read_masks, describe=lambda o: _segment(o, known.get(o), is_thing)),
        )

    videos = LazyVideos(video_names(class_of, truth, images), make)
    return ViposegDataset("viposeg", split, root, categories, videos, folder, class_of)


def _segment(number: int, category: int | None, is_thing: Mapping[int, bool | None]) -> Segment:
    return Segment(number, number, category, is_thing=None if category is None else is_thing[category])


def _read_classes(path: Path, categories: CategorySet) -> dict[str, dict[int, int]]:
    plain = read_json(path, what="the classes of the objects of VIPOSeg")
    with well_formed(path, "an obj_class.json of VIPOSeg"):
        classes = {video: {int(o): int(number) for o, number in known.items()} for video, known in plain.items()}
    for video, known in classes.items():
        for o, number in known.items():
            if number not in categories.ids:
                raise InputError(
                    f"{path}: object {o} of {video} has the class {number}, which {categories.name} has not"
                )
    return classes


def _first_stems(path: Path) -> dict[str, dict[int, str]]:
    plain = read_json(path, what="the frames of the objects of VIPOSeg")
    with well_formed(path, "a meta.json of VIPOSeg"):
        return {
            video: {int(o): str(next(iter(known["frames"]))) for o, known in meta["objects"].items() if known["frames"]}
            for video, meta in plain["videos"].items()
        }


INFOS = (
    DatasetInfo(
        name="viposeg",
        title="VIPOSeg",
        tasks=(Task.PVOS,),
        splits=("valid", "train"),
        home="https://github.com/yoxu515/VIPOSeg-Benchmark",
        licence="non-commercial research",
        about="The videos of VIPSeg, 2,806 to train and 343 to validate on, annotated for tracking: up to 255 things "
        "and stuff a video, which come in at different times, of 124 classes seen and unseen in training.",
        layout=(
            "valid/Annotations_gt/VIDEO/00000000.png   palette, every frame\n"
            "valid/Annotations/VIDEO/00000000.png      the masks that are given, where objects come in\n"
            "valid/obj_class.json                      the class of each object, 0 to 123\n"
            "valid/meta.json                           the frames of each object\n"
            "valid/JPEGImages/VIDEO/00000000.jpg       not needed to evaluate"
        ),
        results="VIDEO/00000000.png   palette, every frame of Annotations_gt, the ids that were given",
        read=read_viposeg,
        notes=(
            "An object is scored on the frames after the one on which it is given.",
            "Videos of VIPSeg and VSPW: compare their splits before you train on several of them.",
        ),
    ),
)
