"""Soft masks as grey pictures: how likely each pixel is to be an object, for fusing runs (DEVA specification §3).

::

    VIDEO/scores.json        who is on which frame, with category and score
    VIDEO/0/00000.png        background
    VIDEO/ID/00000.png       the segment of this id

A picture has 8 or 16 bits; its largest value is probability 1. It may be smaller than the frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from maskstream.types import (
    FrameAnnotation,
    FrameRef,
    FrameSegmentation,
    InputError,
    LabelMap,
    Segment,
    VideoSample,
    resize_masks,
)

from .json_files import json_list, read_json
from .long_json import reading
from .png import read_label_png

SCHEMA = "maskstream/soft"
VERSION = 1
LISTING = "scores.json"

_FULL = {"1": 1, "P": 1, "L": 255, "RGB": 255, "I": 65535, "I;16": 65535}
"""What is probability 1, by the mode of a picture. Palettes and black-and-white pictures are not soft."""


# One picture.


def write_soft_png(path: Path, probability_hw: Tensor, *, bits: Literal[8, 16] = 8) -> None:
    """Write probabilities as a grey picture, rounded to the nearest of its values, and its folder.

    Args:
        path: where.
        probability_hw: ``float[h, w]`` from 0 to 1.
        bits: of a pixel.
    """
    values = (probability_hw.float().clamp(0, 1) * (2**bits - 1)).round().cpu().numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8 if bits == 8 else np.uint16)).save(path, "PNG", compress_level=1)


def read_soft_png(path: Path) -> NDArray[np.float32]:
    """Read probabilities: grey pictures of 8 or 16 bits, also grey ones saved in colour, and hard masks.

    Returns:
        ``float32[h, w]`` from 0 to 1.

    Raises:
        InputError: it is missing, damaged or no such picture.
    """
    values = read_label_png(path, encoding="rgb")
    with Image.open(path) as image:  # read_label_png has found it to be sound
        mode = image.mode
    if mode == "RGB":
        values = np.ascontiguousarray(values, "<i4").view(np.uint8).reshape(*values.shape, 4)[..., :3].max(axis=2)
    soft: NDArray[np.float32] = np.minimum(values.astype(np.float32) / _FULL[mode], 1)
    return soft


# Videos.


def write_soft(root: Path, videos: Iterable[VideoSample], *, bits: Literal[8, 16] = 8) -> None:
    """Write the probabilities of videos, frame by frame.

    Args:
        root: the folder of the folders of videos.
        videos: whose frames have ``FrameSegmentation.probabilities``.
        bits: of a pixel; the error is at most half a step, 1/510 or 1/131070.

    Raises:
        InputError: a frame has no probabilities, or another size than the first.
    """
    for video in videos:
        folder = root / video.name
        rest: dict[str, object] = {"schema": SCHEMA, "version": VERSION}
        with json_list(folder / LISTING, "frames", rest) as add:
            for index, frame in enumerate(video.frames):
                result = video.annotation(index).segmentation
                if result.probabilities is None:
                    raise InputError(f"{video.name}, frame {frame.stem}: it has no probabilities; ask for soft results")
                height, width = result.size_hw
                if (rest.setdefault("height", height), rest.setdefault("width", width)) != (height, width):
                    raise InputError(
                        f"{video.name}, frame {frame.stem}: it is {height}×{width}, but the first frame is "
                        f"{rest['height']}×{rest['width']}"
                    )
                add(write_soft_frame(folder, frame.stem, result, bits=bits))


def write_soft_frame(
    folder: Path, stem: str, result: FrameSegmentation, *, bits: Literal[8, 16] = 8
) -> dict[str, object]:
    """Write the pictures of one frame; its entry in the listing is returned.

    Args:
        folder: of the video.
        stem: the name of the frame.
        result: with probabilities.
        bits: of a pixel.
    """
    assert result.probabilities is not None
    ids = [0, *(segment.id for segment in result.segments)]
    for number, probability_hw in zip(ids, result.probabilities, strict=True):
        write_soft_png(folder / str(number) / f"{stem}.png", probability_hw, bits=bits)
    return {"name": stem, "segments": [asdict(segment) for segment in result.segments]}


def write_soft_listing(folder: Path, size_hw: tuple[int, int], entries: Iterable[Mapping[str, object]]) -> None:
    """Write the listing of a video of this height and width, from the entries of its frames."""
    rest = {"schema": SCHEMA, "version": VERSION, "height": size_hw[0], "width": size_hw[1]}
    with json_list(folder / LISTING, "frames", rest) as add:
        for entry in entries:
            add(entry)


def read_soft(root: Path) -> dict[str, VideoSample]:
    """Read what `write_soft` wrote; the mask of a segment is where it is most likely.

    Raises:
        InputError: there is nothing, or a listing is damaged.
    """
    videos = {path.parent.relative_to(root).as_posix(): _read_video(path) for path in sorted(root.rglob(LISTING))}
    if not videos:
        raise InputError(f"{root} holds no soft masks: there is no VIDEO/{LISTING}")
    return videos


def _read_video(path: Path) -> VideoSample:
    plain = read_json(path, what="a listing of soft masks")
    with reading(path, "the listing"):
        if (plain["schema"], plain["version"]) != (SCHEMA, VERSION):
            raise InputError(f"it is {plain['schema']} {plain['version']}, not {SCHEMA} {VERSION}")
        segments_of = {
            str(frame["name"]): tuple(Segment(**one) for one in frame["segments"]) for frame in plain["frames"]
        }
        size_hw = (int(plain["height"]), int(plain["width"])) if segments_of else (0, 0)
    stems = list(segments_of)

    def read(index: int) -> FrameAnnotation:
        segments = segments_of[stems[index]]
        paths = [path.parent / str(n) / f"{stems[index]}.png" for n in (0, *(segment.id for segment in segments))]
        channels = [torch.from_numpy(read_soft_png(one)) for one in paths]
        for channel, one in zip(channels, paths, strict=True):
            if channel.shape != channels[0].shape:
                raise InputError(f"{one} is {_size(channel)}, but {paths[0]} is {_size(channels[0])}")
        return FrameAnnotation(_most_likely(index, size_hw, segments, torch.stack(channels)))

    return VideoSample(path.parent.name, tuple(map(FrameRef, stems)), read)


def merge_soft(runs: Sequence[VideoSample]) -> VideoSample:
    """Several runs over one video as one, such as at several scales: the mean of their probabilities.

    Segments belong together that have one id; where a run does not have it, it is not there.

    Args:
        runs: at least one, with the same frames.

    Raises:
        InputError: runs differ in their frames, or in the size of one, or one has no probabilities.
    """
    for run in runs[1:]:
        if [frame.stem for frame in run.frames] != [frame.stem for frame in runs[0].frames]:
            raise InputError(f"{run.name}: runs have different frames, {len(runs[0])} and {len(run)}")

    def read(index: int) -> FrameAnnotation:
        results = [run.annotation(index).segmentation for run in runs]
        size_hw = results[0].size_hw
        segments = {segment.id: segment for result in reversed(results) for segment in result.segments}
        place = {number: position for position, number in enumerate([0, *sorted(segments)])}
        total = torch.zeros((len(place), *size_hw))
        for run, result in zip(runs, results, strict=True):
            if result.probabilities is None or result.size_hw != size_hw:
                raise InputError(
                    f"{run.name}, frame {run.frames[index].stem}: to merge runs, all need probabilities and one size"
                )
            channels = [0, *(place[segment.id] for segment in result.segments)]
            total[channels] += resize_masks(result.probabilities, size_hw).cpu()
        chosen = tuple(segments[number] for number in sorted(segments))
        return FrameAnnotation(_most_likely(index, size_hw, chosen, total / len(runs)))

    return VideoSample(runs[0].name, runs[0].frames, read)


def _most_likely(
    frame_index: int, size_hw: tuple[int, int], segments: tuple[Segment, ...], probabilities: Tensor
) -> FrameSegmentation:
    """A frame from ``float[1 + N, h, w]``, background first."""
    labels = resize_masks(probabilities, size_hw).argmax(dim=0).int()
    return FrameSegmentation(frame_index, size_hw, segments, LabelMap(labels), probabilities.half())


def _size(channel: Tensor) -> str:
    return f"{channel.shape[0]}×{channel.shape[1]}"
