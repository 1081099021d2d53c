"""Referring expressions in video: Ref-DAVIS17, Ref-YouTube-VOS and MeViS (datasets specification C14 to C16).

What an expression means is in ``Expression.track_ids``; the annotation of a video has all objects that are known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from maskstream.formats.indexed_png import an_object, read_masks
from maskstream.formats.json_files import Json, read_json, read_lines
from maskstream.formats.long_json import reading
from maskstream.formats.referring import ANNOTATORS, MaskDict
from maskstream.formats.run_lengths import check_codes, frame_of, read_code
from maskstream.types import (
    OBJECT,
    RLE,
    Expression,
    FrameAnnotation,
    InputError,
    Task,
    TextPrompt,
    VideoSample,
)

from .dataset import Dataset, DatasetInfo, LazyVideos
from .places import find, frames_of, pictures

META = "meta_expressions.json"

TEXTS = ("Davis17_annot1", "Davis17_annot1_full_video", "Davis17_annot2", "Davis17_annot2_full_video")
"""Text files of Ref-DAVIS17 in the order of its annotators."""

RENAMED = {"clasic-car": "classic-car", "dog-scale": "dogs-scale", "motor-bike": "motorbike"}
"""What these files call some videos, and what DAVIS does."""

_TEXT_LINE = re.compile(r'(\S+)\s+(\d+)\s+"?(.*?)"?')


@dataclass(frozen=True, slots=True, eq=False)
class ReferringDataset(Dataset):
    """Videos, or images, with sentences about them.

    Attributes:
        numbers: of the expressions of every video, as results name them.
        hidden: whether this part does not show whom they mean.
    """

    numbers: Mapping[str, Sequence[str]] = field(repr=False)
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Described:
    """A video in ``meta_expressions.json``: names of its frames, and expressions by number."""

    stems: tuple[str, ...]
    expressions: Mapping[str, Expression]


# Ref-DAVIS17 (C14).


def read_ref_davis(root: Path, split: str) -> ReferringDataset:
    """Open Ref-DAVIS17: DAVIS-2017 with its unsupervised annotation, and what four annotators say of the objects.

    Sentences come from ``meta_expressions`` if that is there, else from ``davis_text_annotations``.

    Raises:
        InputError: something is missing, or is no such file.
    """
    davis = root / "DAVIS" if (root / "DAVIS").is_dir() else root
    folder = "valid" if split == "val" else split
    masks = find(
        root,
        "DAVIS/Annotations_unsupervised/480p",
        "Annotations_unsupervised/480p",
        f"{folder}/Annotations",
        what="the annotations of the unsupervised task of DAVIS-2017",
    )
    images = davis / "JPEGImages" / "480p"
    if not images.is_dir() and (root / folder / "JPEGImages").is_dir():
        images = root / folder / "JPEGImages"
    meta = root / "meta_expressions" / folder / META
    described = _read_meta(meta, "obj_id") if meta.exists() else _read_texts(root)
    listed = davis / "ImageSets" / "2017" / f"{split}.txt"
    if meta.exists() and not listed.exists():
        names = list(described)
    else:
        names = read_lines(listed, what=f"the videos of the split {split} of DAVIS-2017")
    silent = [name for name in names if name not in described]
    if silent:
        raise InputError(
            f"{meta if meta.exists() else root}: there is no expression for {silent[0]}, a video of {split}"
        )

    def make(name: str) -> VideoSample:
        labelled = pictures(masks / name)
        if not labelled:
            raise InputError(f"{masks / name} has no annotation, but {name} is in the split {split}")
        stems = described[name].stems or tuple(labelled | pictures(images / name))
        one = Described(stems, described[name].expressions)
        return _sample(name, one, images / name, masks=masks / name, fps=24.0)

    numbers = {name: tuple(described[name].expressions) for name in names}
    return ReferringDataset("ref-davis", split, root, OBJECT, LazyVideos(names, make), numbers)


def _read_texts(root: Path) -> dict[str, Described]:
    """The four text files: expression 4 (k - 1) + a is what annotator a says of the k-th object of a video."""
    folder = find(root, "davis_text_annotations", "DAVIS/davis_text_annotations", what="the expressions of Ref-DAVIS17")
    said: dict[str, dict[int, dict[int, str]]] = {}
    for annotator, stem in enumerate(TEXTS):
        path = folder / f"{stem}.txt"
        for number, line in enumerate(_text_lines(path), 1):
            match = _TEXT_LINE.fullmatch(line)
            if match is None:
                raise InputError(f'{path}, line {number}: a line must be: VIDEO OBJECT "EXPRESSION", not {line!r}')
            video, track, text = RENAMED.get(match[1], match[1]), int(match[2]), match[3]
            texts = said.setdefault(video, {}).setdefault(track, {})
            if annotator in texts:
                raise InputError(f"{path}, line {number}: object {track} of {video} is described twice")
            texts[annotator] = text
    return {name: Described((), _numbered(objects)) for name, objects in said.items()}


def _text_lines(path: Path) -> list[str]:
    # The first annotator's files are UTF-8, the second one's Latin-1.
    encoding = "utf-8-sig" if path.stem.startswith("Davis17_annot1") else "latin-1"
    try:
        return [line.strip() for line in path.read_text(encoding=encoding).split("\n") if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as expressions of Ref-DAVIS17: {error}") from error


def _numbered(objects: Mapping[int, Mapping[int, str]]) -> dict[str, Expression]:
    """Expressions by number, from texts by object and annotator."""
    return {
        str(ANNOTATORS * place + annotator): Expression(text, (track,))
        for place, track in enumerate(sorted(objects))
        for annotator, text in sorted(objects[track].items())
    }


# Ref-YouTube-VOS (C15).


def read_ref_ytvos(root: Path, split: str) -> ReferringDataset:
    """Open Ref-YouTube-VOS, or a synthetic set in its layout, whose validation set shows its labels.

    Raises:
        InputError: something is missing, or is no such file.
    """
    folder = "valid" if split == "val" else split
    place = f"meta_expressions/{folder}/{META}"
    meta = find(root, place, f"*/{place}", what="the expressions of Ref-YouTube-VOS")
    base = meta.parents[2]
    described = _read_meta(meta, "obj_id")
    test = base / "meta_expressions" / "test" / META
    if folder == "valid" and test.exists():  # the videos of the test set are listed in both
        tested = _read_meta(test, "obj_id")
        described = {name: one for name, one in described.items() if name not in tested}
    images, masks = base / folder / "JPEGImages", base / folder / "Annotations"
    told = any(expression.track_ids for one in described.values() for expression in one.expressions.values())
    hidden = not (told and masks.is_dir())

    def make(name: str) -> VideoSample:
        return _sample(name, described[name], images / name, masks=None if hidden else masks / name, fps=6.0)

    videos = LazyVideos(tuple(described), make)
    return ReferringDataset("ref-ytvos", split, root, OBJECT, videos, _numbers(described), hidden)


# MeViS (C16).


def read_mevis(root: Path, split: str) -> ReferringDataset:
    """Open MeViS. The track of an object is its place among the ``anno_id`` of its video, from 1.

    Raises:
        InputError: something is missing, or is no such file.
    """
    own = (META,) if root.name == split else ()
    meta = find(root, f"{split}/{META}", *own, f"*/{split}/{META}", what="the expressions of MeViS")
    described = _read_meta(meta, "anno_id")
    codes = meta.parent / "mask_dict.json"
    hidden = split == "valid" and not codes.exists()

    @cache
    def masks() -> MaskDict:
        return MaskDict(codes)

    def make(name: str) -> VideoSample:
        one = described[name]
        anno_ids = sorted({anno_id for expression in one.expressions.values() for anno_id in expression.track_ids})
        expressions = {
            number: Expression(expression.text, tuple(1 + anno_ids.index(n) for n in expression.track_ids))
            for number, expression in one.expressions.items()
        }
        read = None if hidden else _coded_frames(name, anno_ids, masks, len(one.stems))
        return _sample(name, Described(one.stems, expressions), meta.parent / "JPEGImages" / name, read=read)

    videos = LazyVideos(tuple(described), make)
    return ReferringDataset("mevis", split, root, OBJECT, videos, _numbers(described), hidden)


def _coded_frames(
    name: str, anno_ids: Sequence[int], masks: Callable[[], MaskDict], length: int
) -> Callable[[int], FrameAnnotation]:
    """What reads the frames of a video of MeViS; the codes of its objects are kept from the first frame on."""

    @cache
    def tubes() -> tuple[tuple[int, int], list[list[RLE | None]]]:
        path, plain, found = masks().path, [masks()[anno_id] for anno_id in anno_ids], []
        with reading(path, name):
            sizes = [code["size"] for tube in plain for code in tube if code]
            if not sizes:
                raise InputError("no object has a mask, so the size of its frames is unknown")
            height, width = sizes[0]
        for anno_id, tube in zip(anno_ids, plain, strict=True):
            with reading(path, f"object {anno_id}"):
                if len(tube) != length:
                    raise InputError(f"it has masks for {len(tube)} frames, but {name} has {length}")
                found.append([read_code(code, (height, width)) for code in tube])
                check_codes([code for code in found[-1] if code is not None])
        return (height, width), found

    def read(index: int) -> FrameAnnotation:
        size_hw, found = tubes()
        shown = {n: tube[index] for n, tube in enumerate(found, 1)}
        present = {n: code for n, code in shown.items() if code is not None}
        return FrameAnnotation(frame_of(index, size_hw, list(map(an_object, present)), list(present.values())))

    return read


# What they share.


def _read_meta(path: Path, key: str) -> dict[str, Described]:
    """``meta_expressions.json``.

    Args:
        path: the file.
        key: of what an expression is about, a number or a list of them; it is missing where that is hidden.

    Raises:
        InputError: it is something else, or lists a frame twice.
    """
    plain = read_json(path, what="expressions")
    videos = plain.get("videos") if isinstance(plain, dict) else None
    if not isinstance(videos, dict):
        raise InputError(f'{path} lists no expressions: it must be {{"videos": {{NAME: …}}}}')
    described = {}
    for name, video in videos.items():
        with reading(path, name):
            stems = tuple(map(str, video["frames"]))
            if len(set(stems)) != len(stems):
                raise InputError("a frame is listed twice")
            expressions = {
                str(number): Expression(str(one["exp"]), _tracks(one.get(key, ())))
                for number, one in video["expressions"].items()
            }
        described[name] = Described(stems, expressions)
    return described


def _tracks(value: Json) -> tuple[int, ...]:
    listed = value if isinstance(value, list | tuple) else [value]
    return tuple(int(number) for number in listed)


def _numbers(described: Mapping[str, Described]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(one.expressions) for name, one in described.items()}


def _sample(
    name: str,
    described: Described,
    images: Path,
    *,
    masks: Path | None = None,
    read: Callable[[int], FrameAnnotation] | None = None,
    fps: float | None = None,
) -> VideoSample:
    """A video.

    Args:
        name: of it.
        described: what is said of it.
        images: the folder of its pictures.
        masks: the folder of its label pictures, if it has one.
        read: what reads its frames if not.
        fps: frames a second.
    """
    frames = frames_of(described.stems, images=images, annotated=None if masks is None else pictures(masks))
    if masks is not None:
        read = _pictured_frames(masks, [frame.stem for frame in frames])
    return VideoSample(
        name,
        frames,
        read,
        read_prompts=lambda task: text_prompts(name, described.expressions, task),
        read_expressions=lambda: described.expressions,
        fps=fps,
    )


def _pictured_frames(folder: Path, stems: Sequence[str]) -> Callable[[int], FrameAnnotation]:
    return lambda index: read_masks(folder / f"{stems[index]}.png", index, at_255="void")


def text_prompts(name: str, expressions: Mapping[str, Expression], task: Task) -> list[TextPrompt]:
    """The sentences as prompts that carry the number of the expression.

    Raises:
        InputError: another task is meant.
    """
    if task is not Task.REFVOS:
        raise InputError(f"{name}: this data set has sentences for refvos, but no prompts for the task {task.value}")
    return [TextPrompt(one.text, "expression", prompt_id=number) for number, one in expressions.items()]


INFOS = (
    DatasetInfo(
        name="ref-davis",
        title="Ref-DAVIS17",
        tasks=(Task.REFVOS,),
        splits=("val", "train"),
        home="https://davischallenge.org, and the language annotations of MPI for Informatics",
        licence="the text is for non-commercial use; see the pages",
        about="90 videos of DAVIS-2017 (30 for validation), about 1.5 k expressions: four for every object.",
        layout="""\
DAVIS/JPEGImages/480p/VIDEO/00000.jpg
DAVIS/Annotations_unsupervised/480p/VIDEO/00000.png
DAVIS/ImageSets/2017/val.txt
davis_text_annotations/Davis17_annot{1,2}{,_full_video}.txt
or meta_expressions/valid/meta_expressions.json""",
        results="anno_{0,1,2,3}/VIDEO/00000.png    palette, id k for the k-th object",
        read=read_ref_davis,
        notes=(
            "The score is the mean of four runs, one for each annotator, each scored as DAVIS-2017 unsupervised.",
            "Objects are assigned anew to the predicted ids, which is how published numbers come about.",
        ),
    ),
    DatasetInfo(
        name="ref-ytvos",
        title="Ref-YouTube-VOS",
        tasks=(Task.REFVOS,),
        splits=("valid", "train"),
        home="https://youtube-vos.org/dataset/rvos",
        licence="CC BY 4.0; see the page",
        about="3,978 videos of YouTube-VOS 2019 at 6 frames a second, about 15 k expressions. Validation: 202 videos.",
        layout="""\
meta_expressions/{train,valid,test}/meta_expressions.json
{train,valid}/JPEGImages/VIDEO/00000.jpg
train/Annotations/VIDEO/00000.png""",
        results="Annotations/VIDEO/EXPRESSION/00000.png    0 and 255, every frame of the list",
        read=read_ref_ytvos,
        notes=(
            "Validation labels are hidden: results are scored by the server only.",
            "The videos to hand in are those listed in valid and not in test.",
        ),
    ),
    DatasetInfo(
        name="mevis",
        title="MeViS",
        tasks=(Task.REFVOS,),
        splits=("valid_u", "valid", "train"),
        home="https://github.com/henghuiding/MeViS",
        licence="CC BY-NC-SA 4.0",
        about="2,006 videos, 28,570 expressions of motion, some of several objects. valid_u: 50 videos, 793 of them.",
        layout="""\
{train,valid_u,valid}/meta_expressions.json
{train,valid_u}/mask_dict.json
{train,valid_u,valid}/JPEGImages/VIDEO/00000.jpg""",
        results="VIDEO/EXPRESSION/00000.png    0 and 255, no level Annotations",
        read=read_mevis,
        notes=("The labels of valid are hidden; valid_u is the part whose masks are public.",),
    ),
)
