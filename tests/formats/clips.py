"""Small labelled videos for tests of formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray

from maskstream.types import (
    Category,
    CategorySet,
    FrameAnnotation,
    FrameRef,
    FrameSegmentation,
    Segment,
    VideoSample,
)

ANIMALS = CategorySet("animals", (Category(1, "cat", is_thing=True), Category(2, 'a "big" dog & co', is_thing=True)))

Masks = Mapping[int, NDArray[np.bool_]]
"""One frame: where each object is, ``bool[H, W]``."""


def clip(
    frames: Sequence[Masks],
    *,
    size_hw: tuple[int, int] = (9, 13),
    name: str = "clip",
    categories: Mapping[int, int | None] | None = None,
    scores: Mapping[int, float] | None = None,
    pictures: Path | None = None,
    stems: Sequence[str] | None = None,
) -> VideoSample:
    """A video with these masks. Objects are of category 1 unless it is said; ``pictures`` is a folder to write."""
    names = [f"{index:05d}" for index in range(len(frames))] if stems is None else list(stems)

    def read_annotation(index: int) -> FrameAnnotation:
        masks = frames[index]
        segments = tuple(
            Segment(i, i, 1 if categories is None else categories[i], None if scores is None else scores.get(i))
            for i in masks
        )
        stack = torch.from_numpy(np.array(list(masks.values()), bool).reshape(-1, *size_hw))
        return FrameAnnotation(FrameSegmentation.from_masks(index, segments, stack))

    paths: list[Path | None] = [None] * len(frames)
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
        paths = [pictures / f"{stem}.png" for stem in names]
        for number, path in enumerate(paths):
            cv2.imwrite(str(path), np.full((*size_hw, 3), 40 + 10 * number, np.uint8))
    refs = tuple(FrameRef(stem, path) for stem, path in zip(names, paths, strict=True))
    return VideoSample(name, refs, read_annotation, fps=24.0)


def box(left: int, top: int, right: int, bottom: int, size_hw: tuple[int, int] = (9, 13)) -> NDArray[np.bool_]:
    """A mask of columns and rows from the first pair to before the second."""
    mask = np.zeros(size_hw, bool)
    mask[top:bottom, left:right] = True
    return mask


def content(video: VideoSample) -> list[dict[int, list[tuple[int, int]]]]:
    """For each frame the pixels of each object that has one."""
    frames = []
    for index in range(len(video)):
        segmentation = video.annotation(index).segmentation
        masks = segmentation.masks_nhw()
        pairs = zip(segmentation.segments, masks, strict=True)
        frames.append({s.track_id: [(int(y), int(x)) for y, x in m.nonzero().tolist()] for s, m in pairs if m.any()})
    return frames


def labels(video: VideoSample, categories: CategorySet) -> dict[int, str | None]:
    """The name of the category of each object."""
    found: dict[int, str | None] = {}
    for index in range(len(video)):
        for segment in video.annotation(index).segmentation.segments:
            found[segment.track_id] = None if segment.category is None else categories[segment.category].name
    return found


@st.composite
def masks(draw: st.DrawFn, size_hw: tuple[int, int] = (9, 13)) -> NDArray[np.bool_]:
    """Any mask, with holes and parts that touch at corners; empty now and then."""
    bits = draw(st.integers(0, 2 ** (size_hw[0] * size_hw[1]) - 1))
    coarse = draw(st.booleans())
    flat = np.array([bits >> n & 1 for n in range(size_hw[0] * size_hw[1])], bool).reshape(size_hw)
    return flat if not coarse else np.kron(flat, np.ones((3, 3), bool))[: size_hw[0], : size_hw[1]]


def videos(most: int = 3) -> st.SearchStrategy[list[Masks]]:
    """The masks of a few frames; objects overlap, come and go."""
    return st.lists(st.dictionaries(st.integers(1, 5), masks(), max_size=3), min_size=1, max_size=most)
