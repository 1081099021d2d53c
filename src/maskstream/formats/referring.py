"""Referring expressions: whom they mean, and results with a picture for every expression and frame (C14 to C16).

=================  ===========================================================================================
benchmark          results
=================  ===========================================================================================
Ref-DAVIS17        anno_0 … anno_3/VIDEO/00000.png, id k for the k-th object
Ref-YouTube-VOS    Annotations/VIDEO/EXPRESSION/00000.png, 0 and 255
MeViS, RefCOCO     VIDEO/EXPRESSION/00000.png, 0 and 255
=================  ===========================================================================================

A prediction is a video whose segments carry the number of an expression as ``prompt_id``; all that carry one number
are the answer to it.
"""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Container, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from maskstream.types import (
    CategorySet,
    Expression,
    FrameAnnotation,
    FrameRef,
    FrameSegmentation,
    InputError,
    Segment,
    VideoSample,
)

from .indexed_png import ReadMask, labelled_frame, mask_files, read_masks, track_ids
from .json_files import Json, json_map
from .long_json import LazySamples, reading
from .pictures import VOID, painted, visible, write_indices, write_picture
from .png import read_label_png

ANNOTATORS = 4
"""Of Ref-DAVIS17: two people, each once after the first frame and once after the whole video."""

_OBJECT = re.compile(rb'"(\d+)"\s*:\s*\[')
"""Where an object begins in ``mask_dict.json``: codes have no quotation mark, and no other key is a number."""


# Whom expressions mean.


def meant(segmentation: FrameSegmentation, expression: Expression) -> FrameSegmentation:
    """The segments that an expression is about."""
    return _kept(segmentation, [segment.track_id in expression.track_ids for segment in segmentation.segments])


def answering(segmentation: FrameSegmentation, numbers: Container[str | None]) -> FrameSegmentation:
    """The segments of a prediction that answer some expressions."""
    return _kept(segmentation, [segment.prompt_id in numbers for segment in segmentation.segments])


def as_answers(video: VideoSample) -> VideoSample:
    """The truth as a prediction: on annotated frames a segment for every expression, the union of what it means."""
    annotated = [n for n, frame in enumerate(video.frames) if frame.annotated]

    def read(index: int) -> FrameAnnotation:
        truth, expressions = video.annotation(annotated[index]).segmentation, video.expressions()
        masks = [meant(truth, expression).masks_nhw().any(dim=0) for expression in expressions.values()]
        masks_nhw = torch.stack(masks) if masks else torch.zeros((0, *truth.size_hw), dtype=torch.bool)
        segments = tuple(Segment(n, n, prompt_id=number) for n, number in enumerate(expressions, 1))
        return FrameAnnotation(FrameSegmentation.from_masks(index, segments, masks_nhw))

    frames = tuple(video.frames[n] for n in annotated)
    return replace(video, frames=frames, read_annotation=None if video.read_annotation is None else read)


def _kept(segmentation: FrameSegmentation, chosen: Sequence[bool]) -> FrameSegmentation:
    positions = [n for n, keep in enumerate(chosen) if keep]
    return segmentation.selected(positions, tuple(segmentation.segments[n] for n in positions))


# Results.


def read_answer(path: Path, frame_index: int) -> FrameAnnotation:
    """A picture of what an expression means: whatever is not 0.

    Raises:
        InputError: it is missing or damaged.
    """
    # Some tools save it in colour, white on black: in either encoding only black is 0.
    return labelled_frame((read_label_png(path, encoding="rgb") > 0).astype(np.int32), frame_index)


def write_answer(path: Path, segmentation: FrameSegmentation) -> None:
    """Write the union of all segments as a grey picture, 255 on 0, and its folder."""
    foreground = segmentation.masks_nhw().any(dim=0).cpu().numpy()
    write_indices(path, VOID * foreground.astype(np.int32), grey=True)


def read_expression_results(path: Path) -> LazySamples:
    """Results of Ref-YouTube-VOS, MeViS or RefCOCO, by "video/expression".

    Args:
        path: the folder, with or without the level ``Annotations``.

    Raises:
        InputError: it holds no such results.
    """
    inner = path / "Annotations"
    return _sequences(inner if inner.is_dir() else path, read_answer, "VIDEO/EXPRESSION/FRAME.png")


def read_ref_davis_results(path: Path) -> LazySamples:
    """Results of Ref-DAVIS17, by "anno_A/video".

    Raises:
        InputError: it holds no such results.
    """
    return _sequences(path, read_masks, "anno_0/VIDEO/FRAME.png and so on to anno_3")


def _sequences(path: Path, read: ReadMask, layout: str) -> LazySamples:
    """Folders in folders; those of a sequence are listed when it is asked for."""
    folders = {f"{outer.name}/{inner.name}": inner for outer in _folders(path) for inner in _folders(outer)}
    if not folders:
        raise InputError(f"{path} holds no results: they must lie there as {layout}")

    def make(sequence: str) -> VideoSample:
        files = mask_files(folders[sequence])
        paths = list(files.values())
        return VideoSample(sequence, tuple(map(FrameRef, files)), lambda index: read(paths[index], index))

    return LazySamples(list(folders), make)


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    return sorted(entry for entry in path.iterdir() if not entry.name.startswith(".") and entry.is_dir())


def write_ref_youtube_vos_results(root: Path, videos: Iterable[VideoSample], categories: CategorySet) -> None:
    """``Annotations/VIDEO/EXPRESSION/00000.png``, every frame."""
    write_expression_results(root / "Annotations", videos, categories)


def write_expression_results(root: Path, videos: Iterable[VideoSample], _: CategorySet) -> None:
    """``VIDEO/EXPRESSION/00000.png``, every frame."""
    for video in videos:
        for index, frame in enumerate(video.frames):
            prediction = video.annotation(index).segmentation
            for number in video.expressions():
                write_answer(root / video.name / number / f"{frame.stem}.png", answering(prediction, (number,)))


def annotator_of(video: str, number: str) -> int:
    """The annotator of an expression of a video of Ref-DAVIS17.

    Raises:
        InputError: the expression has no number.
    """
    if not number.isdecimal():
        raise InputError(f"{video}: expressions of Ref-DAVIS17 are 0, 1, 2 and so on, not {number!r}")
    return int(number) % ANNOTATORS


def write_ref_davis_results(root: Path, videos: Iterable[VideoSample], _: CategorySet) -> None:
    """``anno_A/VIDEO/00000.png``, every frame. Expression 4 (k - 1) + a is what annotator a says of object k.

    Raises:
        InputError: an expression has no number.
    """
    for video in videos:
        objects: list[dict[str | None, int]] = [{} for _ in range(ANNOTATORS)]
        for number in video.expressions():
            of_annotator = objects[annotator_of(video.name, number)]
            of_annotator[number] = 1 + int(number) // ANNOTATORS
        for index, frame in enumerate(video.frames):
            prediction = video.annotation(index).segmentation
            for annotator, object_of in enumerate(objects):
                said = answering(prediction, object_of)
                ids = painted(FrameAnnotation(said), [object_of[segment.prompt_id] for segment in said.segments])
                write_indices(root / f"anno_{annotator}" / video.name / f"{frame.stem}.png", ids)


# Truth.


class MaskDict:
    """``mask_dict.json`` of MeViS: by ``anno_id`` an object's mask on every frame, null where there is none.

    The file is gone through once, to note where each object stands; its masks are read when they are asked for.

    Raises:
        InputError: the file is missing, holds nothing of the kind, or has an object twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._spans: dict[int, tuple[int, int]] = {}
        try:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
                keys = [(int(key[1]), key.end() - 1, key.start()) for key in _OBJECT.finditer(text)]
                ends = [*(begin for _, _, begin in keys[1:]), len(text)]
        except FileNotFoundError as error:
            raise InputError(f"there is no {path}, the masks of MeViS") from error
        except (OSError, ValueError) as error:  # an empty file cannot be mapped
            raise InputError(f"{path} cannot be read as the masks of MeViS: {error}") from error
        if not keys:
            raise InputError(f'{path} has no masks of MeViS: it must be {{"0": [mask or null, …], …}}')
        for (anno_id, start, _), end in zip(keys, ends, strict=True):
            if anno_id in self._spans:
                raise InputError(f"{path} has object {anno_id} twice")
            self._spans[anno_id] = (start, end)

    def __getitem__(self, anno_id: int) -> list[Json]:
        """An object's masks, as the file has them.

        Raises:
            InputError: the file does not have it, or is damaged there.
        """
        if anno_id not in self._spans:
            raise InputError(f"{self.path} has no object {anno_id}")
        start, end = self._spans[anno_id]
        with reading(self.path, f"object {anno_id}"), self.path.open("rb") as file:
            file.seek(start)
            masks, _ = json.JSONDecoder().raw_decode(file.read(end - start).decode())
            return list(masks)


def write_ref_youtube_vos(root: Path, videos: Iterable[VideoSample], categories: CategorySet) -> None:
    """``valid`` with pictures, masks of all things and ``meta.json``; ``meta_expressions/valid`` with ``obj_id``.

    Raises:
        InputError: an expression means several objects, which this layout cannot say.
    """
    with (
        json_map(root / "meta_expressions" / "valid" / "meta_expressions.json") as add_expressions,
        json_map(root / "valid" / "meta.json") as add_meta,
    ):
        for video in videos:
            images, masks = (root / "valid" / kind / video.name for kind in ("JPEGImages", "Annotations"))
            category_of: dict[int, str] = {}
            frames_of: dict[int, list[str]] = {}
            for index, frame in enumerate(video.frames):
                write_picture(images / f"{frame.stem}.jpg", video, index)
                if not frame.annotated:
                    continue
                truth = video.annotation(index)
                things = _kept(truth.segmentation, [s.is_thing is not False for s in truth.segmentation.segments])
                write_indices(masks / f"{frame.stem}.png", track_ids(FrameAnnotation(things)))
                for segment, _ in visible(FrameAnnotation(things)):
                    if segment.category is not None:
                        category_of.setdefault(segment.track_id, categories[segment.category].name)
                        frames_of.setdefault(segment.track_id, []).append(frame.stem)
            # Asked for last: what is true of a rendered video shows when all of it was seen.
            expressions = {number: _entry(video, number, one) for number, one in video.expressions().items()}
            add_expressions(video.name, {"expressions": expressions, "frames": [frame.stem for frame in video.frames]})
            objects = {str(n): {"category": category_of[n], "frames": frames_of[n]} for n in sorted(category_of)}
            add_meta(video.name, {"objects": objects})


def _entry(video: VideoSample, number: str, expression: Expression) -> dict[str, str]:
    if not expression.track_ids:  # whom it means is hidden
        return {"exp": expression.text}
    if len(expression.track_ids) > 1:
        raise InputError(
            f"{video.name}: expression {number} means {len(expression.track_ids)} objects, but Ref-YouTube-VOS has "
            "one an expression"
        )
    return {"exp": expression.text, "obj_id": str(expression.track_ids[0])}
