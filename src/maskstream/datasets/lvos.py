"""LVOS, long videos (datasets specification C11)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from maskstream.formats.indexed_png import read_masks
from maskstream.formats.json_files import read_json, read_lines, well_formed
from maskstream.types import OBJECT, Task

from .dataset import DatasetInfo, LazyVideos
from .mask_folders import IMAGES, MASKS, MaskDataset, mask_video, split_folder, video_names

FPS = 6

# fmt: off
UNSEEN_VIDEOS = frozenset({
    "R3UJGYwy", "K3OUeINk", "058oeZ2p", "xpI7xRWN", "FiRTBMg2", "nfcT3owb", "JGG6MrhF", "yfzVCnvU", "6mNj04tC",
    "yWnanBID", "v3uNUctx", "49TNsJzk", "gw84JOqH", "711gAS21", "dtHbJvYy", "tAyQIobn", "vJ8W2TO5", "FmzvB44A",
    "8lxxCA5h", "N6CONZUW", "Oj1z5fO0", "gdqCcvs2", "LWVlKBlK", "yxCvN6OJ", "pMntJwSQ", "p9RjdKoh", "9NA8c5C3",
    "m37l7ti1", "nwflTTf1", "LY2zehlH", "beR0WT11", "afoR2rH6", "xQZlxhxV", "o36i3YWC", "cdzAjcuN", "IlvtT6D6",
    "YfoFnMgm", "FiQUhyRi", "9oLyy7aJ", "9RoNInYO", "wrrX6bxv", "q2HE4zaM", "rvwT3piq", "ZFqAoImI", "bwcKqVSN",
    "QE1wMR58", "eEcUJVBZ", "Qf9YVXOW", "SRRojucs", "PQfn7XV2", "3bvEjhOT",
})
# fmt: on
"""The videos whose categories training never saw, where no ``unseen_videos.txt`` says so."""


@dataclass(frozen=True, slots=True, eq=False)
class LvosDataset(MaskDataset):
    """LVOS.

    Attributes:
        ranges: the first and the last frame number of each object of each video, from the meta file.
        unseen_videos: those whose categories training never saw.
    """

    ranges: Mapping[str, Mapping[int, tuple[int, int]]] = field(repr=False)
    unseen_videos: frozenset[str] = field(repr=False)


def read_lvos(root: Path, split: str) -> LvosDataset:
    """LVOS; the labels are hidden where only the first masks of objects are there.

    Args:
        root: the folder of the splits, or of this one.
        split: train, valid or test.

    Raises:
        InputError: the split is not there, or its meta file is not of LVOS.
    """
    folder = split_folder(root, split, title="LVOS")
    meta = folder / f"{split}_meta.json"
    ranges = read_ranges(meta) if meta.exists() else {}
    masks, images = folder / MASKS, folder / IMAGES
    lists = (path for path in (folder / "unseen_videos.txt", folder.parent / "unseen_videos.txt") if path.exists())
    listed = next(lists, None)
    unseen = UNSEEN_VIDEOS if listed is None else frozenset(read_lines(listed, what="the unseen videos of LVOS"))
    videos = LazyVideos(
        video_names(ranges, masks, images),
        lambda video: mask_video(
            video,
            masks=masks / video,
            images=images / video,
            objects=ranges.get(video, ()),
            read=partial(read_masks, at_255="nothing"),
            fps=FPS,
        ),
    )
    return LvosDataset("lvos", split, root, OBJECT, videos, ranges, unseen)


def read_ranges(path: Path) -> dict[str, dict[int, tuple[int, int]]]:
    """The first and the last frame number of each object of every video.

    Raises:
        InputError: the file is no meta file of LVOS.
    """
    plain = read_json(path, what="the objects of LVOS")
    with well_formed(path, "a meta file of LVOS"):
        return {
            video: {
                int(o): (int(known["frame_range"]["start"]), int(known["frame_range"]["end"]))
                for o, known in meta["objects"].items()
            }
            for video, meta in plain["videos"].items()
        }


INFOS = (
    DatasetInfo(
        name="lvos",
        title="LVOS",
        tasks=(Task.VOS,),
        splits=("valid", "test", "train"),
        home="https://lingyihongfd.github.io/lvos.github.io",
        licence="CC BY-NC-SA 4.0",
        about="Long videos, six frames a second, every frame annotated. Version 1: 220 videos of 1.6 minutes on "
        "average. Version 2: 720 videos, 44 categories, some of them never seen in training.",
        layout=(
            "valid/Annotations/VIDEO/00000001.png   palette; numbers advance by five\n"
            "valid/valid_meta.json                  the frame range of each object\n"
            "valid/JPEGImages/VIDEO/00000001.jpg    not needed to evaluate\n"
            "unseen_videos.txt                      where it is not there, the official list is taken"
        ),
        results="VIDEO/00000001.png   palette, all frames; inside Annotations for test",
        read=read_lvos,
        notes=(
            "An object is scored on the frames of its own range but the first and the last.",
            "The labels of test are hidden: its results go to the server.",
        ),
    ),
)
