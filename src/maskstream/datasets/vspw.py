"""VSPW (Miao et al., CVPR 2021; datasets specification C1)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from maskstream.formats.json_files import read_json, read_lines, well_formed
from maskstream.formats.pictures import VOID
from maskstream.formats.semantic_png import read_semantic_png
from maskstream.types import Category, CategorySet, Task, VideoSample

from .classes import VSPW
from .dataset import Dataset, DatasetInfo, LazyVideos
from .per_pixel import mask_folder_video
from .places import find

_NAMES = "label_num_dic_final.json"
_OTHERS = 0  # ignored like void, but another value, which the official mVC tells from it
_FPS = 15


def read_vspw(root: Path, split: str) -> Dataset:
    """Open a split.

    Raises:
        InputError: there is no list of its videos, or no folder of them.
    """
    names = find(
        root, *(f"{p}{split}.txt" for p in ("", "VSPW_480p/", "VSPW/")), what=f"the videos of the {split} split of VSPW"
    )
    folder = find(names.parent, "data", what="the videos of VSPW")
    listing = names.parent / _NAMES
    categories = _categories(listing) if listing.exists() else VSPW
    read = partial(
        read_semantic_png,
        categories=categories,
        category_of={_OTHERS: None, **{number: number for number in categories.ids}},
        void=(VOID,),
    )

    def video(name: str) -> VideoSample:
        masks = folder / name / "mask"
        hidden = split == "test" and not masks.is_dir()
        return mask_folder_video(
            name, images=folder / name / "origin", masks=None if hidden else masks, read=read, fps=_FPS
        )

    videos = LazyVideos(read_lines(names, what="the names of videos"), video)
    return Dataset("vspw", split, names.parent, categories, videos)


def _categories(path: Path) -> CategorySet:
    """``{"wall": "1", …, "others": "0"}``; what is a thing is known by name."""
    things = {category.name: category.is_thing for category in VSPW.categories}
    with well_formed(path, "what the values of VSPW mean"):
        values = {int(value): name for name, value in read_json(path, what="the classes of VSPW").items()}
        return CategorySet(
            "vspw",
            tuple(Category(n, values[n], things.get(values[n])) for n in sorted(values) if n not in (_OTHERS, VOID)),
        )


INFOS = (
    DatasetInfo(
        name="vspw",
        title="VSPW",
        tasks=(Task.VSS,),
        splits=("val", "train", "test"),
        home="https://www.vspwdataset.com",
        licence="non-commercial research",
        about="3,536 videos (2,806 train, 343 val, 387 test) of about 5 seconds at 15 frames a second, every frame "
        "labelled, 124 classes.",
        layout="VSPW_480p/val.txt\nVSPW_480p/data/VIDEO/mask/FRAME.png\nVSPW_480p/data/VIDEO/origin/FRAME.jpg",
        results="VIDEO/FRAME.png, grey, classes counted from 0: 0 to 123",
        read=read_vspw,
        notes=(
            "Published numbers are those of the 480p copy.",
            "Masks have 1 to 124; 0 and 255 are ignored. Results have no value for nothing.",
            "The video 988_f_Xvy_DCPt8 has pictures without a byte in some archives.",
            "The labels of the test videos are hidden.",
            "The videos are those of VIPSeg and VIPOSeg, in the same splits.",
        ),
    ),
)
