"""MOSE, version 1 and 2 (datasets specification C10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from maskstream.formats.json_files import read_json, well_formed
from maskstream.types import OBJECT, Task

from .dataset import DatasetInfo, LazyVideos
from .mask_folders import IMAGES, MASKS, MaskDataset, mask_video, split_folder, video_names


@dataclass(frozen=True, slots=True, eq=False)
class MoseDataset(MaskDataset):
    """MOSE.

    Attributes:
        objects: the ids of each video, from the meta file; empty where there is none.
    """

    objects: Mapping[str, Sequence[int]] = field(repr=False)


def read_mose(root: Path, split: str) -> MoseDataset:
    """MOSE; the labels are hidden where only the first masks of a video are there.

    Args:
        root: the folder of the splits, or of this one.
        split: train, valid or test.

    Raises:
        InputError: the split is not there, or its meta file is not of MOSE.
    """
    folder = split_folder(root, split, title="MOSE")
    metas = (folder / "meta.json", folder / f"meta_{split}.json", folder.parent / f"meta_{split}.json")
    meta = next((path for path in metas if path.exists()), None)
    objects = {} if meta is None else read_objects(meta)
    masks, images = folder / MASKS, folder / IMAGES
    names = video_names(objects, masks, images)
    videos = LazyVideos(
        names,
        lambda video: mask_video(video, masks=masks / video, images=images / video, objects=objects.get(video, ())),
    )
    return MoseDataset("mose", split, root, OBJECT, videos, objects)


def read_objects(path: Path) -> dict[str, list[int]]:
    """The objects of every video.

    Raises:
        InputError: the file is no meta file of MOSE.
    """
    plain = read_json(path, what="the objects of MOSE")
    with well_formed(path, "a meta file of MOSE"):
        # A list in some releases, a dictionary in others: both give the ids.
        return {video: sorted(int(o) for o in meta["objects"]) for video, meta in plain["videos"].items()}


INFOS = (
    DatasetInfo(
        name="mose",
        title="MOSE",
        tasks=(Task.VOS,),
        splits=("valid", "test", "train"),
        home="https://github.com/henghuiding/MOSE-api",
        licence="CC BY-NC-SA 4.0",
        about="Version 1: 2,149 videos, 5,200 objects of 36 categories. Version 2: 5,024 videos, 10,074 objects of 200 "
        "categories. Crowded scenes in which objects vanish and return; every frame is annotated.",
        layout=(
            "valid/Annotations/VIDEO/00000.png   palette\n"
            "valid/meta.json                     objects; or meta_valid.json, also beside valid\n"
            "valid/JPEGImages/VIDEO/00000.jpg    not needed to evaluate"
        ),
        results="VIDEO/00000.png   palette, all frames; a folder around them is passed",
        read=read_mose,
        notes=(
            "Of valid and test only the first masks are published: their results go to the servers.",
            "Scored as version 1, like DAVIS, and as version 2, with disappearance and reappearance.",
            "Videos of OVIS are among them: do not test on OVIS what was trained on MOSE.",
        ),
    ),
)
