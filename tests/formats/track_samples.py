"""Videos to write: the miniature scenes of the trees as samples."""

from collections.abc import Sequence
from pathlib import Path

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
    Track,
    VideoSample,
)
from tests.datasets.trees_tracks import FRAMES, NAMES, SIZE, masks

CATEGORIES = CategorySet(
    "mine", (Category(1, "car", is_thing=True), Category(2, "pedestrian", is_thing=True), Category(4, "sky", False))
)
CROWD = 5


def video(
    name: str = NAMES[0],
    *,
    scores: dict[int, float] | None = None,
    tracks: Sequence[Track] | None = None,
    unlabelled: Sequence[int] = (),
    disjoint: bool = False,
    video_id: int | None = None,
    image: Path | None = None,
) -> VideoSample:
    """Objects 1 and 2 overlap, 5 is a crowd; 9 is stuff; the void is a bar on the right."""

    def read(index: int) -> FrameAnnotation:
        here = {t: mask for t, of in masks(name).items() if (mask := of[index]) is not None}
        here[9] = np.zeros(SIZE, bool)
        here[9][19:] = True
        segments = tuple(
            Segment(t, t, {1: 1, 2: 2, 5: 1, 9: 4}[t], (scores or {}).get(t), is_thing=t != 9) for t in here
        )
        frame = FrameSegmentation.from_masks(index, segments, torch.from_numpy(np.stack(list(here.values()))))
        if disjoint:
            frame = FrameSegmentation(index, SIZE, segments, LabelMap(frame.label_map()))
        void = torch.zeros(SIZE, dtype=torch.bool)
        void[:18, 33:] = True
        return FrameAnnotation(frame, void, frozenset({CROWD} & here.keys()), annotated=index not in unlabelled)

    frames = tuple(FrameRef(f"{5 * n:05d}", image, n not in unlabelled) for n in range(FRAMES))
    return VideoSample(
        name,
        frames,
        read,
        lambda index: np.full((*SIZE, 3), index, np.uint8),
        read_tracks=None if tracks is None else lambda: tracks,
        video_id=video_id,
        fps=6.0,
    )
