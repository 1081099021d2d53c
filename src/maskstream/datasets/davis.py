"""DAVIS 2016 and 2017, semi-supervised and unsupervised (datasets specification C8)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from maskstream.formats.indexed_png import ReadMask, read_foreground, read_masks
from maskstream.formats.json_files import read_lines
from maskstream.types import OBJECT, InputError, Task, VideoSample

from .dataset import DatasetInfo, LazyVideos
from .mask_folders import IMAGES, MASKS, MaskDataset, mask_video, video_names
from .places import find

FPS = 24
UNSUPERVISED = "Annotations_unsupervised"
LISTS = "ImageSets"
_LEVELS = ("480p", "Full-Resolution", "1080p")


def read_davis(
    root: Path, split: str, *, name: str, folder: str, lists: tuple[str, ...], read: ReadMask
) -> MaskDataset:
    """DAVIS of one year and task. Where there are no lists at all, every video is of the split.

    Args:
        root: the folder ``DAVIS``, or the one it is in.
        split: the name of a list.
        name: of the data set.
        folder: where the masks are.
        lists: the folders in which the list may be.
        read: reads a mask.

    Raises:
        InputError: there are neither masks nor pictures, or other lists but not this one.
    """
    base = find(root, folder, f"DAVIS/{folder}", IMAGES, f"DAVIS/{IMAGES}", what="the masks or pictures").parent
    there = [base / kind / level for kind in (folder, IMAGES) for level in _LEVELS]
    level = next((path.name for path in there if path.is_dir()), "")
    masks, images = base / folder / level, base / IMAGES / level
    if folder == UNSUPERVISED and split.startswith("test"):  # the other task has test videos of its own
        lists = ("2019",)
    listed = listed_videos(base / LISTS, split, lists) if (base / LISTS).is_dir() else []

    def make(video: str) -> VideoSample:
        sample = mask_video(video, masks=masks / video, images=images / video, late=False, read=read, fps=FPS)
        return replace(sample, read_prompts=None) if folder == UNSUPERVISED else sample

    return MaskDataset(name, split, root, OBJECT, LazyVideos(video_names(listed, masks, images), make))


def listed_videos(folder: Path, split: str, lists: tuple[str, ...]) -> list[str]:
    """The videos of a list, which are named, or by the paths of their frames as in the release of 2016.

    Raises:
        InputError: there is no such list; the message says which there are.
    """
    path = next((path for year in lists if (path := folder / year / f"{split}.txt").exists()), None)
    if path is None:
        there = sorted(path.stem for year in lists for path in (folder / year).glob("*.txt"))
        raise InputError(f"{folder} has no list {lists[0]}/{split}.txt; it has {', '.join(there) or 'none'}")
    first = (line.split()[0] for line in read_lines(path, what="a list of videos"))
    return list(dict.fromkeys(Path(word).parent.name if "/" in word else word for word in first))


_HOME = "https://davischallenge.org"
_LICENCE = "BSD in the repository of 2016; see the page for the data of 2017 and 2019"
_RESULTS = "VIDEO/00000.png"

INFOS = (
    DatasetInfo(
        name="davis-2017",
        title="DAVIS-2017",
        tasks=(Task.VOS,),
        splits=("val", "train", "test-dev", "test-challenge"),
        open_splits=True,
        home=_HOME,
        licence=_LICENCE,
        about="60 and 30 videos of 24 frames a second, every frame annotated with several objects; 30 videos in each "
        "test split, with the masks of the first frame only.",
        layout=(
            "DAVIS/Annotations/480p/VIDEO/00000.png   palette, objects 1…N\n"
            "DAVIS/ImageSets/2017/val.txt\n"
            "DAVIS/JPEGImages/480p/VIDEO/00000.jpg    not needed to evaluate"
        ),
        results=f"{_RESULTS}   palette, all frames, the ids of the first one",
        read=partial(
            read_davis, name="davis-2017", folder=MASKS, lists=("2017",), read=partial(read_masks, at_255="nothing")
        ),
        notes=("The objects are those of the first frame; it and the last one are not scored.",),
    ),
    DatasetInfo(
        name="davis-2017-unsupervised",
        title="DAVIS-2017 unsupervised",
        tasks=(Task.UVOS,),
        splits=("val", "train", "test-dev", "test-challenge"),
        open_splits=True,
        home=_HOME,
        licence=_LICENCE,
        about="The videos of DAVIS-2017, annotated anew in 2019 with the objects that are salient; other test videos, "
        "whose labels are hidden.",
        layout=(
            "DAVIS/Annotations_unsupervised/480p/VIDEO/00000.png   palette, objects 1…N, 255 = void\n"
            "DAVIS/ImageSets/2017/val.txt                          ImageSets/2019 for the test splits\n"
            "DAVIS/JPEGImages/480p/VIDEO/00000.jpg                 not needed to evaluate"
        ),
        results=f"{_RESULTS}   palette, all frames, 20 ids at most that mean the same in all of them",
        read=partial(
            read_davis,
            name="davis-2017-unsupervised",
            folder=UNSUPERVISED,
            lists=("2017",),
            read=partial(read_masks, at_255="void"),
        ),
        notes=("All frames are scored, the first and the last one too.",),
    ),
    DatasetInfo(
        name="davis-2016",
        title="DAVIS-2016",
        tasks=(Task.VOS, Task.UVOS),
        splits=("val", "train"),
        open_splits=True,
        home=_HOME,
        licence=_LICENCE,
        about="30 and 20 videos of 24 frames a second, every frame annotated with one object.",
        layout=(
            "DAVIS/Annotations/480p/VIDEO/00000.png   0 and 255; of several objects their union is taken\n"
            "DAVIS/ImageSets/2016/val.txt             names, or the paths of all frames\n"
            "DAVIS/JPEGImages/480p/VIDEO/00000.jpg    not needed to evaluate"
        ),
        results=f"{_RESULTS}   grey, 0 and 255, or a saliency map, which is cut at one half",
        read=partial(
            read_davis, name="davis-2016", folder=MASKS, lists=("2016", "480p", "1080p"), read=read_foreground
        ),
        notes=("The first and the last frame are not scored; recall and decay leave out one more at either end.",),
    ),
)
