"""Folders of images and masks of what is salient in them: DUTS, ECSSD, FSS-1000, HRSOD, BIG … (specification D)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from maskstream.formats.indexed_png import labelled_frame, mask_files
from maskstream.formats.soft_png import read_soft_png
from maskstream.types import OBJECT, FrameAnnotation, FrameRef, InputError, Task, VideoSample
from maskstream.video.images import is_image

from .dataset import Dataset, DatasetInfo, LazyVideos
from .places import contents, pictures, subfolders

_IMAGES, _MASKS = ("image", "images", "img", "imgs"), ("mask", "masks", "gt", "gts")
"""How the names of two folders end."""


def read_saliency(root: Path, split: str) -> Dataset:
    """Open a folder of pairs: NAME.jpg beside NAME.png, there or in its subfolders, or two folders of them.

    A sample is one image. In a subfolder its name is "SUBFOLDER/NAME".

    Raises:
        InputError: there is no pair.
    """
    pairs = _two_folders(root) or _side_by_side(root)
    if not pairs:
        raise InputError(
            f"{root} has no pairs of image and mask, neither NAME.jpg beside NAME.png nor two folders whose names end "
            f"in Image and Mask; {contents(root)}"
        )

    def make(name: str) -> VideoSample:
        image, mask = pairs[name]
        return VideoSample(name, (FrameRef(mask.stem, image),), lambda index: _read_truth(mask, index))

    return Dataset("saliency", split, root, OBJECT, LazyVideos(tuple(pairs), make))


def read_salient(path: Path, frame_index: int) -> FrameAnnotation:
    """What a picture says is salient: where it is at least half as bright as it could be.

    Raises:
        InputError: it is missing, damaged or no mask.
    """
    return labelled_frame((read_soft_png(path) >= 0.5).astype(np.int32), frame_index)


def _read_truth(path: Path, frame_index: int) -> FrameAnnotation:
    """An empty mask says that nobody labelled the image."""
    annotation = read_salient(path, frame_index)
    return replace(annotation, annotated=bool(annotation.segmentation.segments))


def _two_folders(root: Path) -> dict[str, tuple[Path, Path]]:
    names = subfolders(root)
    images = next((root / name for name in names if name.lower().endswith(_IMAGES)), None)
    masks = next((root / name for name in names if name.lower().endswith(_MASKS)), None)
    if images is None or masks is None:
        return {}
    shown = pictures(images)
    return {stem: (shown.get(stem, images / f"{stem}.jpg"), mask) for stem, mask in mask_files(masks).items()}


def _side_by_side(root: Path) -> dict[str, tuple[Path, Path]]:
    pairs = {}
    for folder in ("", *subfolders(root)):
        masks = mask_files(root / folder)
        for image in sorted((root / folder).iterdir()):
            if image.stem in masks and is_image(image) and image.suffix.lower() != ".png":
                pairs[f"{folder}/{image.stem}" if folder else image.stem] = (image, masks[image.stem])
    return pairs


INFOS = (
    DatasetInfo(
        name="saliency",
        title="a folder of images and masks",
        tasks=(Task.UVOS,),
        splits=("all",),
        home="each data set has its own",
        licence="that of the data set",
        about="Still images and what is salient in them: DUTS (10,553 + 5,019), ECSSD, FSS-1000, HRSOD, BIG, yours.",
        layout="""\
NAME.jpg and NAME.png, or CLASS/NAME.jpg and CLASS/NAME.png
or *-Image/NAME.jpg and *-Mask/NAME.png""",
        results="NAME.png or CLASS/NAME.png    grey, 0 and 255, or a soft map, which is cut at one half",
        read=read_saliency,
        notes=(
            "A mask is what is at least half as bright as it could be; of palettes, what is not 0.",
            "Images whose mask is empty are not scored.",
        ),
    ),
)
