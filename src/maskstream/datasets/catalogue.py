"""Every data set by name."""

from __future__ import annotations

from pathlib import Path

from maskstream.types import InputError

from . import (
    ade20k,
    burst,
    camvid,
    cityscapes,
    coco,
    davis,
    kitti_mots,
    kitti_step,
    lvos,
    mapillary,
    mask_folders,
    mose,
    refcoco,
    referring,
    saliency,
    sav,
    viposeg,
    vipseg,
    vspw,
    youtube_vis,
    ytvos,
)
from .dataset import Dataset, DatasetInfo
from .synthetic import is_synthetic, rendered_folder, synthetic_info

_FAMILIES = (
    vipseg,
    cityscapes,
    kitti_step,
    vspw,
    camvid,
    youtube_vis,
    burst,
    kitti_mots,
    davis,
    ytvos,
    mose,
    lvos,
    sav,
    viposeg,
    mask_folders,
    referring,
    refcoco,
    saliency,
    coco,
    ade20k,
    mapillary,
)

DATASETS: dict[str, DatasetInfo] = {info.name: info for family in _FAMILIES for info in family.INFOS}
"""Every data set by name, family by family."""


def find_dataset(name: str) -> DatasetInfo:
    """What is known of a data set.

    Raises:
        InputError: there is none of this name; the message lists them.
    """
    if is_synthetic(name):
        return synthetic_info(name, DATASETS)
    if name not in DATASETS:
        raise InputError(
            f"there is no data set {name!r}; known: {', '.join(DATASETS)}, and synthetic-TASK:v1-LEVEL-seedS"
        )
    return DATASETS[name]


def open_dataset(name: str, root: str | Path | None = None, *, split: str | None = None) -> Dataset:
    """Open a split of a data set.

    Args:
        name: one of `DATASETS`, or of a synthetic one, such as "synthetic-vos:v1-medium-seed0".
        root: the folder it is in, or its annotation file where it has one. Synthetic data needs none: it is rendered
            once, and kept in the cache.
        split: which part; the first of the data set when None.

    Raises:
        InputError: the name or the split is unknown, or something is missing.
    """
    info = find_dataset(name)
    if root is None and is_synthetic(name):
        root = rendered_folder(name)
    if root is None:
        raise InputError(f"say where {name} is: name its folder with --root; 'maskstream datasets {name}' tells more")
    return info.open(Path(root), split)
