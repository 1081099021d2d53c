"""Labelled videos of one's own: in which layout they are."""

from __future__ import annotations

from pathlib import Path

from maskstream.conversion import FORMATS
from maskstream.formats.json_files import read_json
from maskstream.types import InputError


def recognised(path: Path, split: str | None = None) -> tuple[str, str | None]:
    """The layout of labelled videos, by its name among the formats, and the part to train on.

    Args:
        path: a folder of masks as of DAVIS or YouTube-VOS, or a JSON file of YouTube-VIS or COCO, or the folder it is
            in.
        split: the part; if None, "train" where there is one, else the first that there is.

    Raises:
        InputError: it is none of these; the message says what was missing.
    """
    layout = _layout(path)
    if split is None:
        try:
            FORMATS[layout].read(path, "train")
        except InputError:
            FORMATS[layout].read(path, None)
            return layout, None
        return layout, "train"
    FORMATS[layout].read(path, split)
    return layout, split


def _layout(path: Path) -> str:
    if not path.exists():
        raise InputError(f"there is no {path}: name a folder of masks, or a JSON file of annotations")
    for folder in (path, path / "DAVIS"):
        if (folder / "Annotations").is_dir():
            return "davis" if (folder / "ImageSets").is_dir() else "vos"
    if any(path.glob("*/Annotations")):
        return "ytvos"
    files = [path] if path.is_file() else sorted([*path.glob("*.json"), *path.glob("*/*.json")])
    for file in files:
        plain = read_json(file, what="annotations")
        if isinstance(plain, dict) and "annotations" in plain:
            return "coco" if "images" in plain else "ytvis"
    if path.is_file():
        raise InputError(f"{path} has no annotations as YouTube-VIS or COCO have them: 'maskstream convert' can help")
    return "vos"
