"""A folder of masks a video and pictures beside: what benchmarks of video object segmentation share, and any such tree.

Benchmarks differ in where the lists are, in which masks are given and in what 255 means: see ``davis.py``,
``ytvos.py``, ``mose.py``, ``lvos.py`` and ``viposeg.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from maskstream.formats.indexed_png import ReadMask, mask_files, read_masks
from maskstream.types import (
    OBJECT,
    FrameAnnotation,
    FrameRef,
    InputError,
    MaskPrompt,
    Prompt,
    Task,
    VideoSample,
)

from .dataset import Dataset, DatasetInfo, LazyVideos
from .places import find, pictures, subfolders

MASKS, IMAGES = "Annotations", "JPEGImages"


@dataclass(frozen=True, slots=True, eq=False)
class MaskDataset(Dataset):
    """A split of which the names of the videos are known without opening one."""

    videos: LazyVideos = field(repr=False)


def mask_video(
    name: str,
    *,
    masks: Path,
    images: Path,
    given: Path | None = None,
    dense: bool = True,
    late: bool = True,
    objects: Collection[int] = (),
    read: ReadMask = read_masks,
    fps: float | None = None,
) -> VideoSample:
    """A video from the folders of its masks and pictures, of which one may be missing.

    The frames are those of the pictures, else those of the masks. Where less than half of the frames of a dense video
    have a mask, or of another one only the first has, those masks are what is given and the labels are hidden.

    Args:
        name: of the video.
        masks: the folder of its masks.
        images: the folder of its pictures.
        given: the folder of the masks that are given, and of nothing else; None where they are among the masks.
        dense: every frame has labels, so a missing mask is an error.
        late: objects may come into view after the first frame.
        objects: who they are, where that is known; spares looking for more of them.
        read: reads a mask.
        fps: frames a second.

    Raises:
        InputError: there is nothing, or a mask without a picture.
    """
    shown, labelled = pictures(images), mask_files(masks)
    references = labelled if given is None else mask_files(given)
    stems = sorted(shown or labelled or references)
    if not stems:
        raise InputError(f"{name} has no pictures in {images} and no masks in {masks}")
    for stem, path in (labelled | references).items():
        if shown and stem not in shown:
            raise InputError(f"{path} belongs to no picture: there is no {images / stem}.jpg; add it")
    few = 2 * len(labelled) < len(stems) if dense else labelled.keys() <= {stems[0]}
    hidden = not labelled or (few and len(stems) > 1)
    annotated = set(stems if dense or hidden else labelled)

    def read_annotation(index: int) -> FrameAnnotation:
        stem = stems[index]
        return read(labelled.get(stem, masks / f"{stem}.png"), index)

    def read_prompts(task: Task) -> Sequence[Prompt]:
        if task not in (Task.VOS, Task.PVOS):
            raise InputError(f"{name}: this data set has no prompts for the task {task.value}")
        at = [index for index, stem in enumerate(stems) if stem in references]
        frames = ((index, read(references[stems[index]], index)) for index in (at if late else at[:1]))
        return list(first_masks(frames, objects=objects))

    return VideoSample(
        name,
        tuple(FrameRef(stem, shown.get(stem, images / f"{stem}.jpg"), stem in annotated) for stem in stems),
        None if hidden else read_annotation,
        read_prompts=read_prompts,
        fps=fps,
    )


def first_masks(
    frames: Iterable[tuple[int, FrameAnnotation]], *, objects: Collection[int] = ()
) -> Iterator[MaskPrompt]:
    """The mask of every object on the frame on which it is first seen.

    Args:
        frames: indices and labels, in order.
        objects: who is looked for, as a hint when to stop; everybody if empty.
    """
    seen: set[int] = set()
    for index, annotation in frames:
        segmentation, masks_nhw = annotation.segmentation, annotation.segmentation.masks_nhw()
        for segment, mask_hw in zip(segmentation.segments, masks_nhw, strict=True):
            if segment.track_id not in seen and bool(mask_hw.any()):
                seen.add(segment.track_id)
                yield MaskPrompt(
                    index, segment.track_id, mask_hw, annotation.void, segment.category, is_thing=segment.is_thing
                )
        if objects and seen.issuperset(objects):
            return


def split_folder(root: Path, split: str, *, title: str) -> Path:
    """The folder of a split: the root itself, one in it, or one in a folder of it.

    Raises:
        InputError: there is none, or there are several.
    """
    if root.name == split and ((root / MASKS).is_dir() or (root / IMAGES).is_dir()):
        return root
    folder = find(root, split, f"*/{split}", what=f"the {split} split of {title}")
    others = sorted(root.glob(f"*/{split}"))[1:]
    if folder != root / split and others:
        raise InputError(f"{folder} and {others[0]} could both be the {split} split of {title}: name the folder of one")
    return folder


def video_names(listed: Iterable[str], *folders: Path) -> list[str]:
    """The videos of a split: those that are listed, else the folders that are there.

    Raises:
        InputError: there are none.
    """
    names = list(listed) or sorted({name for folder in folders if folder.is_dir() for name in subfolders(folder)})
    if not names:
        raise InputError(f"there is no folder of a video in {' or '.join(map(str, folders))}")
    return names


# Any folder of masks.


def read_mask_folder(root: Path, split: str) -> MaskDataset:
    """Any folder of masks: ``Annotations/VIDEO/*.png``, or ``VIDEO/*.png``, with ``JPEGImages/VIDEO`` beside.

    Raises:
        InputError: there is no folder of a video.
    """
    masks, images = root / MASKS, root / IMAGES
    if not masks.is_dir():
        masks, images = root, images if images.is_dir() else root.parent / IMAGES
    inner = subfolders(masks)
    if len(inner) == 1 and subfolders(masks / inner[0]):  # a folder between, such as 480p
        masks, images = masks / inner[0], images / inner[0]
    names = [name for name in video_names((), masks) if name != IMAGES]
    videos = LazyVideos(names, lambda name: mask_video(name, masks=masks / name, images=images / name, dense=False))
    return MaskDataset("vos", split, root, OBJECT, videos)


INFOS = (
    DatasetInfo(
        name="vos",
        title="a folder of masks",
        tasks=(Task.VOS,),
        splits=("all",),
        home="your own",
        licence="yours",
        about="Any videos with masks of objects: of some frames or of all, ids of any size, objects that come late.",
        layout=(
            "Annotations/VIDEO/00000.png    palette or grey, 8 or 16 bit; the value is the id of the object\n"
            "JPEGImages/VIDEO/00000.jpg     not needed to evaluate\n"
            "or VIDEO/00000.png without Annotations; a folder between, such as 480p, is passed"
        ),
        results="VIDEO/00000.png                palette, the ids that were given",
        read=read_mask_folder,
        notes=(
            "The first and the last annotated frame are not scored.",
            "255 is an ordinary id.",
            "A video of which only the first frame has a mask can be predicted, but not evaluated.",
        ),
    ),
)
