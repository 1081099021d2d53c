"""SA-V, the validation and the test set (datasets specification C12)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from maskstream.formats.indexed_png import object_files, read_objects
from maskstream.formats.json_files import read_lines
from maskstream.types import OBJECT, FrameAnnotation, FrameRef, InputError, Prompt, Task, VideoSample

from .dataset import DatasetInfo, LazyVideos
from .mask_folders import MaskDataset, first_masks, video_names
from .places import find, pictures

FPS, FPS_OF_MASKS = 24, 6
MASKS, IMAGES = "Annotations_6fps", "JPEGImages_24fps"


@dataclass(frozen=True, slots=True, eq=False)
class SavDataset(MaskDataset):
    """SA-V.

    Attributes:
        masks: the folder with a folder for each video, and in it one for each object.
    """

    masks: Path


def read_sav(root: Path, split: str) -> SavDataset:
    """SA-V, its masks at 6 frames a second, its pictures, if they are there, at 24.

    Args:
        root: the folder ``sav_val`` or ``sav_test``, or the one it is in.
        split: val or test.

    Raises:
        InputError: the split is not there.
    """
    masks = find(root, MASKS, f"sav_{split}/{MASKS}", what=f"the masks of SA-V {split}")
    listed = masks.parent / f"sav_{split}.txt"
    names = read_lines(listed, what="the videos of SA-V") if listed.exists() else []
    images = masks.parent / IMAGES
    videos = LazyVideos(video_names(names, masks), lambda video: _video(video, masks / video, images / video))
    return SavDataset("sav", split, root, OBJECT, videos, masks)


def _video(name: str, masks: Path, images: Path) -> VideoSample:
    if not masks.is_dir():
        raise InputError(f"{name} is listed, but there is no folder {masks}")
    files, shown = object_files(masks), pictures(images)
    labelled = {stem for by_stem in files.values() for stem in by_stem}
    stems = sorted(labelled | shown.keys())

    def read(index: int) -> FrameAnnotation:
        here = {n: by_stem[stems[index]] for n, by_stem in files.items() if stems[index] in by_stem}
        if not here:
            raise InputError(f"{masks} has no mask of the frame {stems[index]}")
        return read_objects(here, index)

    def read_prompts(task: Task) -> Sequence[Prompt]:
        if task is not Task.VOS:
            raise InputError(f"{name}: this data set has no prompts for the task {task.value}")
        frames = ((index, read(index)) for index, stem in enumerate(stems) if stem in labelled)
        return list(first_masks(frames, objects=files))

    frames = tuple(FrameRef(stem, shown.get(stem, images / f"{stem}.jpg"), stem in labelled) for stem in stems)
    return VideoSample(name, frames, read, read_prompts=read_prompts, fps=FPS if shown else FPS_OF_MASKS)


INFOS = (
    DatasetInfo(
        name="sav",
        title="SA-V",
        tasks=(Task.VOS,),
        splits=("val", "test"),
        home="https://ai.meta.com/datasets/segment-anything-video",
        licence="CC BY 4.0",
        about="155 and 150 videos with 293 and 278 masklets of anything, parts and wholes alike, so they may overlap; "
        "every fourth frame of 24 a second is annotated.",
        layout=(
            "sav_val/Annotations_6fps/VIDEO/000/00000.png   grey, 0 and 255; a folder an object\n"
            "sav_val/sav_val.txt                            the videos\n"
            "sav_val/JPEGImages_24fps/VIDEO/00000.jpg       not needed to evaluate"
        ),
        results="VIDEO/000/00000.png   grey, 0 and 255, every object at least on the annotated frames",
        read=read_sav,
        notes=(
            "Object 000 of a folder has the id 1, and so on.",
            "The training set, in JSON, is not read.",
            "The first and the last annotated frame of an object are not scored.",
        ),
    ),
)
