"""KITTI-STEP (Weber et al., NeurIPS 2021; datasets specification C3)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from maskstream.formats.step_png import read_step_png
from maskstream.types import Task, VideoSample

from .classes import KITTI_STEP
from .dataset import Dataset, DatasetInfo, LazyVideos
from .per_pixel import mask_folder_video
from .places import find, subfolders

_FPS = 10


def read_kitti_step(root: Path, split: str) -> Dataset:
    """Open a split, whose sequences are the folders that are there.

    Raises:
        InputError: there is no folder of its masks, or for the test split of its pictures.
    """
    hidden = split == "test"
    kind = "images" if hidden else "panoptic_maps"
    places = ("", "kitti-step/", "KITTI-STEP/", "kitti_step/")
    found = find(root, *(f"{place}{kind}/{split}" for place in places), what=f"the {split} split of KITTI-STEP")
    home = found.parent.parent
    read = partial(read_step_png, categories=KITTI_STEP)

    def video(name: str) -> VideoSample:
        images = home / "images" / split / name
        return mask_folder_video(
            name, images=images, masks=None if hidden else found / name, read=read, suffix=".png", fps=_FPS
        )

    return Dataset("kitti-step", split, home, KITTI_STEP, LazyVideos(subfolders(found), video))


INFOS = (
    DatasetInfo(
        name="kitti-step",
        title="KITTI-STEP",
        tasks=(Task.VPS,),
        splits=("val", "train", "test"),
        home="https://www.cvlibs.net/datasets/kitti/eval_step.php",
        licence="CC BY-NC-SA 3.0",
        about="50 sequences (12 train, 9 val, 29 test) at 10 frames a second, every frame labelled: 5,027 for "
        "training, 2,981 for validation; 19 classes, of which persons and cars have instances.",
        layout="panoptic_maps/val/SEQUENCE/FRAME.png\nimages/val/SEQUENCE/FRAME.png",
        results="SEQUENCE/FRAME.png: red the class, 256 green + blue the instance, 0 for stuff",
        read=read_kitti_step,
        notes=(
            "Pictures are those of KITTI tracking, left colour camera, sorted into splits.",
            "Persons and cars without an instance are crowd.",
            "The labels of the test sequences are hidden.",
        ),
    ),
)
