"""BURST: TAO with masks, for exemplars, long-tailed classes and the open world (datasets specification C13)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from maskstream.formats.burst import BurstFile, BurstRecord
from maskstream.formats.json_files import read_json
from maskstream.formats.long_json import reading
from maskstream.types import Category, CategorySet, Task

from .dataset import Dataset, DatasetInfo, LazyVideos
from .places import find


@dataclass(frozen=True, slots=True, eq=False)
class BurstDataset(Dataset):
    """BURST.

    Attributes:
        file: its annotations.
        common: categories of the group "common", or None where there is no ``class_split.json``.
    """

    file: BurstFile = field(repr=False)
    common: frozenset[int] | None

    def record(self, name: str) -> BurstRecord:
        """What the file says of a video."""
        return self.file.record(name)


def read_burst(root: Path, split: str) -> BurstDataset:
    """BURST.

    Args:
        root: ``all_classes.json`` or another file of annotations, the folder of its split, or one above.
        split: val, test or train.

    Raises:
        InputError: there is no such file.
    """
    path = root
    if root.is_dir():
        names = ("all_classes.json", "train.json") if split == "train" else ("all_classes.json",)
        places = [f"{above}{split}/{name}" for above in ("annotations/", "", "*/annotations/", "*/") for name in names]
        path = find(root, *places, *names, what=f"the annotations of BURST {split}")
    file = BurstFile(path)
    info = path.parent.parent / "info"
    listed = file.rest.get("categories") or read_json(info / "categories.json", what="the categories of BURST")
    with reading(path, "categories"):
        categories = tuple(Category(int(one["id"]), str(one["name"]), is_thing=True) for one in listed)
    groups = info / "class_split.json"
    common = None
    if groups.exists():
        with reading(groups, "the groups of categories"):
            common = frozenset(map(int, read_json(groups, what="the groups of categories")["common"]))
    exemplars = path.parent / "first_frame_annotations.json"
    given = BurstFile(exemplars) if exemplars.exists() else None
    images = _images(path, split)
    videos = LazyVideos(file.names, lambda name: file.sample(name, images, given))
    return BurstDataset("burst", split, root, CategorySet("burst", categories), videos, file, common)


def _images(path: Path, split: str) -> Path:
    """The folder of the pictures of a split: beside ``annotations`` or in it."""
    above = path.parent.parent
    places = [place / split for base in (above.parent, above) for place in (base / "frames", base / "images", base)]
    # The folder of the split that holds the annotations is no folder of pictures.
    return next((place for place in places if place.is_dir() and place != path.parent), places[0])


INFOS = (
    DatasetInfo(
        name="burst",
        title="BURST",
        tasks=(Task.PET, Task.OWVS, Task.VIS, Task.VOS),
        splits=("val", "test", "train"),
        home="https://github.com/Ali2500/BURST-benchmark",
        licence="annotations MIT; pictures as their sources, for research",
        about="993, 1,421 and 500 videos (val, test, train) of TAO with 16,089 objects of 482 classes, 78 of them "
        "common; about one frame a second is annotated, in train six.",
        layout=(
            "annotations/val/all_classes.json\n"
            "annotations/val/first_frame_annotations.json    exemplars: a point, box or mask for each object\n"
            "annotations/info/categories.json, class_split.json\n"
            "frames/val/DATASET/SEQUENCE/FILE                not needed to evaluate"
        ),
        results=(
            "exemplar_guided.json    for pet and vos; tracks and categories are those given\n"
            "open_world.json         for owvs\n"
            "class_guided.json       for vis, with categories and scores; all as all_classes.json"
        ),
        read=read_burst,
        notes=(
            "Published HOTA and OWTA compare boxes; '--compat paper' compares masks. AP of tracks always uses masks.",
            "The official program compares the category of an exemplar, though its documentation says it does not: "
            "write the category that was given.",
            "Do not write empty masks: each counts as a detection.",
            "The common classes of the open world are in the same file; one run gives all three groups.",
            "In train some masks were made by a program; these have a score.",
        ),
    ),
)
