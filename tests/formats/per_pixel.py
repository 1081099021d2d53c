"""Videos with a label for every pixel, for the tests of layouts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch

from maskstream.types import (
    Category,
    CategorySet,
    FrameAnnotation,
    FrameRef,
    FrameSegmentation,
    LabelMap,
    Segment,
    VideoSample,
)

TOWN = CategorySet(
    "town",
    (
        Category(3, "sky", is_thing=False),
        Category(1, "car", is_thing=True),
        Category(10, "road", is_thing=False),
        Category(0, "person", is_thing=True),
    ),
)
SKY, CAR, ROAD, PERSON = TOWN.ids


def annotation(
    rows: Sequence[Sequence[int]],
    category_of: Mapping[int, int | None],
    *,
    crowd: Collection[int] = (),
    void: int = -1,
    frame_index: int = 0,
) -> FrameAnnotation:
    """From a picture of ids, 0 where there is none, and their categories in the order of the segments."""
    ids_hw = np.array(rows)
    labels = np.zeros(ids_hw.shape, np.int32)
    for position, number in enumerate(category_of, 1):
        labels[ids_hw == number] = position
    segments = tuple(
        Segment(n, n, category, is_thing=None if category is None else TOWN[category].is_thing)
        for n, category in category_of.items()
    )
    masks = LabelMap(torch.from_numpy(labels))
    segmentation = FrameSegmentation(frame_index, masks.size_hw, segments, masks)
    is_void = torch.from_numpy(ids_hw == void) if (ids_hw == void).any() else None
    return FrameAnnotation(segmentation, is_void, crowd_ids=frozenset(crowd))


def video(
    name: str, *frames: FrameAnnotation, stems: Sequence[str] = (), labelled: Collection[int] | None = None
) -> VideoSample:
    """Frames 00000003, 00000004, …, of which some may be without labels."""
    names = stems or [f"{n + 3:08d}" for n in range(len(frames))]
    refs = (FrameRef(stem, annotated=labelled is None or n in labelled) for n, stem in enumerate(names))
    return VideoSample(name, tuple(refs), lambda index: frames[index])


def as_seen(frame: FrameAnnotation) -> list[list[tuple[int, int] | None]]:
    """Id and category of every pixel."""
    label_map = frame.segmentation.label_map().tolist()
    segments = frame.segmentation.segments
    return [[(segments[n - 1].id, segments[n - 1].category or 0) if n else None for n in row] for row in label_map]
