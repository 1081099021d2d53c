"""KITTI-MOTS: cars and pedestrians, tracked with masks (datasets specification C3)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from PIL import Image

from maskstream.formats.json_files import read_lines
from maskstream.formats.mots import IGNORED, MotsFile, read_mots, read_mots_png
from maskstream.types import Category, CategorySet, FrameAnnotation, FrameRef, InputError, Task, VideoSample

from .dataset import Dataset, DatasetInfo, LazyVideos
from .places import contents, pictures

KITTI_MOTS = CategorySet("kitti-mots", (Category(1, "car", is_thing=True), Category(2, "pedestrian", is_thing=True)))

_SEQUENCES = {
    "val": (2, 6, 7, 8, 10, 13, 14, 16, 18),
    "train": (0, 1, 3, 4, 5, 9, 11, 12, 15, 17, 19, 20),
    "test": tuple(range(29)),
}


def read_kitti_mots(root: Path, split: str) -> Dataset:
    """KITTI-MOTS, as text or as pictures.

    Args:
        root: the folder with ``instances_txt`` or ``instances``, or the one above.
        split: val, train or test; sequences are those of ``evaluate_mots.seqmap.SPLIT`` where it is there.

    Raises:
        InputError: there are no masks, or a sequence is missing.
    """
    base, masks = _masks(root, split)
    listed, lengths = [f"{number:04d}" for number in _SEQUENCES[split]], dict[str, int]()
    seqmap = base / f"evaluate_mots.seqmap.{split}"
    if seqmap.exists():
        listed = []
        for line in read_lines(seqmap, what="the sequences of KITTI-MOTS"):
            fields = line.split()
            if len(fields) != 4 or not fields[3].isdecimal():
                raise InputError(f"{seqmap} has the line {line!r}: 'sequence empty 000000 frames' is expected")
            listed.append(fields[0])
            lengths[fields[0]] = int(fields[3])
    folders = (base / "training" / "image_02", base / "image_02", base / "images" / split, base / "images")
    images = next((folder for folder in folders if folder.is_dir()), folders[0])
    videos = LazyVideos(listed, lambda name: _video(name, masks, images / name, lengths.get(name, 0)))
    return Dataset("kitti-mots", split, root, KITTI_MOTS, videos)


def _masks(root: Path, split: str) -> tuple[Path, Path | None]:
    """The folder of the data set, and that of its masks; none in test."""
    for base in (root, root / "KITTI_MOTS", root / "kitti-mots", root / "training"):
        for name in ("instances_txt", "label_02", "instances"):
            if (base / name).is_dir():
                return base, None if split == "test" else base / name
    if split == "test":
        return root, None
    raise InputError(f"{root} has no instances_txt or instances, the masks of KITTI-MOTS; {contents(root)}")


def _video(name: str, masks: Path | None, images: Path, length: int) -> VideoSample:
    files = pictures(images)
    if masks is None:
        frames = tuple(FrameRef(stem, path) for stem, path in files.items())
        return VideoSample(name, frames, fps=10)
    if (masks / name).is_dir():
        return _video_of_pictures(name, pictures(masks / name), images, files)
    if not files and not length:
        length = 1 + max(_text(masks / f"{name}.txt").lines, default=0)
    stems = list(files) or [f"{frame:06d}" for frame in range(length)]
    frames = tuple(FrameRef(stem, files.get(stem, images / f"{stem}.png")) for stem in stems)

    def read(index: int) -> FrameAnnotation:
        lines = _text(masks / f"{name}.txt")
        return lines.annotation(int(stems[index]), index, lines.size_hw or _size(frames[index]))

    return VideoSample(name, frames, read, fps=10)


def _video_of_pictures(name: str, masks: dict[str, Path], images: Path, files: dict[str, Path]) -> VideoSample:
    stems = sorted(masks)
    frames = tuple(FrameRef(stem, files.get(stem, images / f"{stem}.png")) for stem in stems)
    return VideoSample(
        name,
        frames,
        lambda index: read_mots_png(masks[stems[index]], index, classes=KITTI_MOTS.ids),
        fps=10,
    )


@lru_cache(maxsize=1)
def _text(path: Path) -> MotsFile:
    return read_mots(path, classes=(*KITTI_MOTS.ids, IGNORED))


def _size(frame: FrameRef) -> tuple[int, int]:
    """Height and width of a picture: a sequence without an object does not say how large it is."""
    if frame.image is None or not frame.image.exists():
        raise InputError(f"nothing is annotated in the whole sequence, and there is no {frame.image} to tell its size")
    with Image.open(frame.image) as image:
        return image.height, image.width


INFOS = (
    DatasetInfo(
        name="kitti-mots",
        title="KITTI-MOTS",
        tasks=(Task.VIS,),
        splits=("val", "train", "test"),
        home="https://www.cvlibs.net/datasets/kitti",
        licence="CC BY-NC-SA 3.0, as KITTI",
        about="9, 12 and 29 sequences (val, train, test) of a camera in a car, 10 frames a second, every frame "
        "annotated; cars and pedestrians.",
        layout=(
            "instances_txt/0002.txt                     'frame id class height width run-lengths', or\n"
            "instances/0002/000000.png                  1000 · class + instance in 16 bits\n"
            "evaluate_mots.seqmap.val                   'sequence empty 000000 frames', if there\n"
            "training/image_02/0002/000000.png          not needed to evaluate"
        ),
        results="0002.txt   lines as in instances_txt; masks of a frame are disjoint",
        read=read_kitti_mots,
        notes=(
            "Class 10 is a region to ignore; it is void.",
            "Scores are of each class, without a mean; HOTA of cars sums results up.",
            "The labels of test are hidden.",
        ),
    ),
)
