"""Miniature data sets with real pictures, for training: the labels of DAVIS, and other layouts made from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from maskstream.conversion import convert

SIZE = (48, 64)
FRAMES = 9
VIDEOS = ("ant", "bee")


def frame(video: str, index: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture and its labels: object 1 goes right, object 2 stays, object 3 comes late."""
    rng = np.random.default_rng(VIDEOS.index(video))
    picture = rng.integers(0, 90, (*SIZE, 3), dtype=np.uint8)
    labels = np.zeros(SIZE, np.uint8)
    labels[6:24, 4 + 3 * index : 24 + 3 * index] = 1
    labels[28:44, 8:36] = 2
    if index > 4:
        labels[30:46, 44:60] = 3
    picture[labels == 1] += np.array([120, 20, 10], np.uint8)
    picture[labels == 2] += np.array([10, 130, 60], np.uint8)
    picture[labels == 3] += np.array([30, 30, 140], np.uint8)
    return picture, labels


def davis(root: Path) -> Path:
    for video in VIDEOS:
        for kind in ("JPEGImages", "Annotations"):
            (root / kind / "480p" / video).mkdir(parents=True)
        for index in range(FRAMES):
            picture, labels = frame(video, index)
            Image.fromarray(picture).save(root / "JPEGImages/480p" / video / f"{index:05d}.jpg")
            indexed = Image.fromarray(labels)
            indexed.putpalette(list(range(256)) * 3)
            indexed.save(root / "Annotations/480p" / video / f"{index:05d}.png")
    (root / "ImageSets/2017").mkdir(parents=True)
    (root / "ImageSets/2017/train.txt").write_text("".join(f"{video}\n" for video in VIDEOS))
    return root


def converted(layout: str) -> Callable[[Path], Path]:
    def make(root: Path) -> Path:
        source = davis(root.with_name(f"{root.name} source"))
        convert(source, root, read_as="davis", write_as=layout, split="train", lossy=True)
        return root

    return make


def ytvos(root: Path) -> Path:
    """As DAVIS, under ``train``, with the list of objects."""
    made = davis(root.with_name("ytvos source"))
    for kind in ("JPEGImages", "Annotations"):
        (root / "train").mkdir(parents=True, exist_ok=True)
        (made / kind / "480p").rename(root / "train" / kind)
    objects = {str(n): {"category": "ant", "frames": []} for n in (1, 2, 3)}
    (root / "train/meta.json").write_text(json.dumps({"videos": {video: {"objects": objects} for video in VIDEOS}}))
    return root


def ovis(root: Path) -> Path:
    """The JSON of YouTube-VIS under another name, and pictures under ``train``."""
    made = converted("ytvis")(root.with_name("ovis made"))
    root.mkdir()
    (file,) = made.rglob("*.json")
    file.rename(root / "annotations_train.json")
    next(made.rglob(VIDEOS[0])).parent.rename(root / "train")
    return root


def saliency(root: Path) -> Path:
    root.mkdir(parents=True)
    for video in VIDEOS:
        picture, labels = frame(video, 2)
        Image.fromarray(picture).save(root / f"{video}.jpg")
        Image.fromarray(((labels == 1) * 255).astype(np.uint8)).save(root / f"{video}.png")
    return root
