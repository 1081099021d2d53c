"""YouTube-VOS 2018 and 2019 (datasets specification C9)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from maskstream.formats.indexed_png import read_masks
from maskstream.formats.json_files import read_json, well_formed
from maskstream.types import OBJECT, CategorySet, InputError, Segment, Task, VideoSample

from .dataset import DatasetInfo, LazyVideos
from .mask_folders import IMAGES, MASKS, MaskDataset, mask_video, split_folder, video_names

FPS, FPS_OF_ALL_FRAMES = 6, 30


@dataclass(frozen=True, slots=True)
class MetaObject:
    """An object of ``meta.json``: its category by name, and the stems of its frames; on the first it is given."""

    category: str
    stems: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class YoutubeVosDataset(MaskDataset):
    """YouTube-VOS.

    Attributes:
        folder: of the split.
        objects: of each video, from ``meta.json``.
    """

    folder: Path
    objects: Mapping[str, Mapping[int, MetaObject]] = field(repr=False)

    def seen_categories(self) -> list[str]:
        """The categories of the training set.

        Raises:
            InputError: the file that says so is missing.
        """
        beside = self.folder.parent
        if (beside / "seen_categories.json").exists():
            return [str(name) for name in read_json(beside / "seen_categories.json", what="a list of categories")]
        path = beside / "train" / "meta.json"
        if not path.exists():
            raise InputError(
                f"{beside} has neither train/meta.json nor seen_categories.json, which say what categories training "
                "has seen: add the first, from the training archive, or the second, a list of names"
            )
        objects = (one for known in read_meta(path).values() for one in known.values())
        return sorted({one.category for one in objects})


def read_youtube_vos(root: Path, split: str, *, name: str) -> YoutubeVosDataset:
    """YouTube-VOS.

    The masks of ``train`` are all there. Those of the other splits are given ones, and the labels are hidden unless
    they are in ``SPLIT_gt_all/Annotations``. Pictures are taken from ``SPLIT_all_frames`` where that is there.

    Args:
        root: the folder of the splits, or of this one.
        split: train, valid or test.
        name: of the data set.

    Raises:
        InputError: the split is not there, or its ``meta.json`` is not of YouTube-VOS.
    """
    folder = split_folder(root, split, title="YouTube-VOS")
    masks, images = folder / MASKS, folder / IMAGES
    truth = masks if split == "train" else folder.with_name(f"{split}_gt_all") / MASKS
    all_images = folder.with_name(f"{split}_all_frames") / IMAGES
    meta = folder / "meta.json"
    objects = read_meta(meta) if meta.exists() else {}
    names = sorted({one.category for known in objects.values() for one in known.values()})
    categories = CategorySet.from_names(names, name=name, is_thing=True) if names else OBJECT

    def make(video: str) -> VideoSample:
        known = objects.get(video, {})
        category_of = {o: names.index(one.category) + 1 for o, one in known.items()}
        dense_images = all_images / video
        has_all = dense_images.is_dir()
        return mask_video(
            video,
            masks=truth / video,
            images=dense_images if has_all else images / video,
            given=None if split == "train" else masks / video,
            dense=False,
            objects=known,
            read=partial(read_masks, describe=lambda o: Segment(o, o, category_of.get(o), is_thing=True)),
            fps=FPS_OF_ALL_FRAMES if has_all else FPS,
        )

    videos = LazyVideos(video_names(objects, masks, images), make)
    return YoutubeVosDataset(name, split, root, categories, videos, folder, objects)


def read_meta(path: Path) -> dict[str, dict[int, MetaObject]]:
    """The objects of every video.

    Raises:
        InputError: the file is missing or is not a ``meta.json`` of YouTube-VOS.
    """
    plain = read_json(path, what="the objects of YouTube-VOS")
    with well_formed(path, "a meta.json of YouTube-VOS"):
        return {
            video: {
                int(o): MetaObject(str(known["category"]), tuple(map(str, known["frames"])))
                for o, known in meta["objects"].items()
            }
            for video, meta in plain["videos"].items()
        }


def _info(year: int, videos: str, objects: str) -> DatasetInfo:
    name = f"ytvos-{year}"
    return DatasetInfo(
        name=name,
        title=f"YouTube-VOS {year}",
        tasks=(Task.VOS,),
        splits=("valid", "test", "train"),
        home="https://youtube-vos.org/dataset/vos",
        licence="CC BY 4.0",
        about=f"{videos} videos of 3 to 6 seconds to train, validate and test on, {objects}; every fifth frame of 30 a "
        "second is annotated. 65 categories are seen in training, the others are not.",
        layout=(
            "valid/Annotations/VIDEO/00000.png          palette; the masks that are given, where objects come in\n"
            "valid/meta.json                            objects with their categories and frames\n"
            "valid/JPEGImages/VIDEO/00000.jpg           every fifth frame; not needed to evaluate\n"
            "valid_all_frames/JPEGImages/VIDEO/*.jpg    every frame, taken instead where it is there\n"
            "valid_gt_all/Annotations/VIDEO/00000.png   the labels, where you have them\n"
            "train/meta.json                            says which categories are seen; or seen_categories.json"
        ),
        results="Annotations/VIDEO/00000.png   palette, the frames of valid/JPEGImages",
        read=partial(read_youtube_vos, name=name),
        notes=(
            "The labels of valid and test are hidden: their results go to the servers, one for each year.",
            "The scoring program is not public: G follows its description.",
            "An object is scored on the frames listed for it after the one on which it is given.",
        ),
    )


INFOS = (
    _info(2019, "3,471, 507 and 541", "with more objects in the training videos of 2018"),
    _info(2018, "3,471, 474 and 508", "with 5,945, 894 and 915 objects"),
)
