"""Finding the videos of a data set in a folder of results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from maskstream.datasets import Dataset, LazyVideos
from maskstream.datasets.mask_folders import MASKS
from maskstream.datasets.places import contents, subfolders
from maskstream.metrics import paired_names
from maskstream.types import InputError

from .protocol import Results


def names_of(dataset: Dataset) -> Sequence[str]:
    """The names of the videos, without opening one where that is possible."""
    videos = dataset.videos
    return videos.names if isinstance(videos, LazyVideos) else [video.name for video in videos]


def results_folder(path: Path, names: Sequence[str]) -> Path:
    """The folder that has the folders of videos: this one, or one in it that is alone or called ``Annotations``.

    Raises:
        InputError: no folder is named like a video.
    """
    folder, known = path, set(names)
    while folder.is_dir():
        inner = subfolders(folder)
        if known.intersection(inner):
            return folder
        if MASKS not in inner and len(inner) != 1:
            break
        folder = folder / (MASKS if MASKS in inner else inner[0])
    raise InputError(f"{path} has no folder named like a video of the data set, such as {names[0]}; {contents(path)}")


def known_videos(path: Path, names: Sequence[str], found: Results) -> Results:
    """Results, if they are of videos of the data set; not all of them need to be there.

    Raises:
        InputError: one is of another video.
    """
    paired_names(dict.fromkeys(names), found, where=str(path), allow_missing=True)
    return found
