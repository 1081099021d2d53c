"""Readers of the golden fixtures with a label for every pixel, and small videos for the brute-force oracles."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray

from maskstream.formats import read_label_png
from maskstream.metrics import Accumulator
from maskstream.types import Category, CategorySet, FrameAnnotation, FrameSegmentation, LabelMap, Segment

Ids = NDArray[np.int32]

CLASSES = CategorySet(
    "toy",
    (
        Category(5, "cat", is_thing=True),
        Category(2, "dog", is_thing=True),
        Category(0, "sky", is_thing=False),
        Category(9, "sea", is_thing=False),
    ),
)


@dataclass(frozen=True)
class Pair:
    """Truth and prediction of a frame, and the areas the annotation file lists."""

    sequence_id: str
    frame_index: int
    truth: FrameAnnotation
    prediction: FrameSegmentation
    areas: Mapping[int, int]


def fixture_folder(name: str) -> Path:
    folder = os.environ.get("MASKSTREAM_FIXTURES")
    if not folder:
        pytest.skip("MASKSTREAM_FIXTURES does not name the folder of golden fixtures")
    return Path(folder) / name


def segmentation(frame_index: int, ids_hw: Ids, category_of: Mapping[int, int]) -> FrameSegmentation:
    """From a map of ids, 0 where there is none, and the category of each id in the order they are listed."""
    labels = np.zeros(ids_hw.shape, np.int32)
    for position, segment_id in enumerate(category_of, 1):
        labels[ids_hw == segment_id] = position
    segments = tuple(Segment(id=n, track_id=n, category=category) for n, category in category_of.items())
    return FrameSegmentation(frame_index, ids_hw.shape, segments, LabelMap(torch.from_numpy(labels)))


def annotation(
    frame_index: int, ids_hw: Ids, category_of: Mapping[int, int], crowd: Sequence[int] = ()
) -> FrameAnnotation:
    return FrameAnnotation(segmentation(frame_index, ids_hw, category_of), crowd_ids=frozenset(crowd))


def read_categories(path: Path, name: str) -> CategorySet:
    rows = json.loads(path.read_text())["categories"]
    return CategorySet(name, tuple(Category(row["id"], row["name"], bool(row["isthing"])) for row in rows))


def read_coco_frame(frame_index: int, path: Path, listed: Sequence[Mapping[str, int]]) -> FrameAnnotation:
    ids_hw = read_label_png(path, encoding="rgb")
    crowd = [row["id"] for row in listed if row["iscrowd"]]
    return annotation(frame_index, ids_hw, {row["id"]: row["category_id"] for row in listed}, crowd)


def read_vipseg(folder: Path) -> Iterator[Pair]:
    truth = json.loads((folder / "panoptic_gt_VIPSeg_val.json").read_text())
    results = json.loads((folder / "results" / "pred.json").read_text())
    results_by_video = {video["video_id"]: video["annotations"] for video in results["annotations"]}
    for video in truth["annotations"]:
        name = video["video_id"]
        result_of = {row["file_name"]: row for row in results_by_video[name]}
        for index, row in enumerate(video["annotations"]):
            true_png = folder / "panomasksRGB" / name / row["file_name"]
            pred_png = folder / "results" / "pan_pred" / name / row["file_name"]
            yield Pair(
                name,
                index,
                read_coco_frame(index, true_png, row["segments_info"]),
                read_coco_frame(index, pred_png, result_of[row["file_name"]]["segments_info"]).segmentation,
                {listed["id"]: listed["area"] for listed in row["segments_info"]},
            )


def read_cityscapes_vps(folder: Path) -> Iterator[Pair]:
    truth = json.loads((folder / "panoptic_gt_val_city_vps.json").read_text())["annotations"]
    results = json.loads((folder / "results" / "pred.json").read_text())["annotations"]
    result_of = {row["image_id"]: row for row in results}
    for n, row in enumerate(truth):
        result = result_of[row["image_id"]]
        index = n % 6
        yield Pair(
            row["image_id"][:4],
            index,
            read_coco_frame(index, folder / "val" / "panoptic_video" / row["file_name"], row["segments_info"]),
            read_coco_frame(
                index, folder / "results" / "pan_pred" / result["file_name"], result["segments_info"]
            ).segmentation,
            {listed["id"]: listed["area"] for listed in row["segments_info"]},
        )


KITTI_STEP = CategorySet("kitti-step", tuple(Category(n, f"class {n}", n in (11, 13)) for n in range(19)))


def read_step_png(frame_index: int, path: Path) -> FrameAnnotation:
    """Red is the class, green and blue the instance; instance 0 of a thing is crowd."""
    codes = read_label_png(path, encoding="rgb")
    classes, instances = codes & 255, (codes >> 8 & 255) * 256 + (codes >> 16)
    ids_hw: Ids = np.where(classes == 255, 0, (classes << 16 | instances) + 1).astype(np.int32)
    ids = [int(n) for n in np.unique(ids_hw) if n]
    crowd = [n for n in ids if (n - 1) >> 16 in (11, 13) and (n - 1) & 65535 == 0]
    return annotation(frame_index, ids_hw, {n: (n - 1) >> 16 for n in ids}, crowd)


def read_kitti_step(folder: Path) -> Iterator[Pair]:
    for path in sorted((folder / "panoptic_maps" / "val").glob("*/*.png")):
        index = int(path.stem)
        result = folder / "results" / path.parent.name / path.name
        prediction = read_step_png(index, result).segmentation
        yield Pair(path.parent.name, index, read_step_png(index, path), prediction, {})


VSPW = CategorySet.from_names([f"class {n}" for n in range(124)], name="vspw")
"""Numbered 1…124, as in the masks."""


def semantic_frame(frame_index: int, values_hw: Ids) -> FrameSegmentation:
    """From categories; 0 is no label."""
    return segmentation(frame_index, values_hw, {int(n): int(n) for n in np.unique(values_hw) if n})


def read_vspw(folder: Path) -> Iterator[Pair]:
    """0 is not labelled, 255 is void; predictions are one less than masks."""
    root = folder / "VSPW_480p"
    for name in (root / "val.txt").read_text().split():
        for path in sorted((root / "data" / name / "mask").glob("*.png")):
            index = int(path.stem)
            mask = read_label_png(path)
            truth = semantic_frame(index, np.where(mask == 255, 0, mask))
            prediction = semantic_frame(index, read_label_png(folder / "results" / name / path.name) + 1)
            yield Pair(name, index, FrameAnnotation(truth, torch.from_numpy(mask == 255)), prediction, {})


@st.composite
def tiny_videos(draw: st.DrawFn, *, max_frames: int = 4, crowd: bool = True) -> list[Pair]:
    """Videos of a few pixels, where every rule is met: void, crowd, unlisted pixels, several tubes of a class."""
    height, width = draw(st.sampled_from([(1, 4), (2, 3), (3, 4)]))
    frame_count = draw(st.integers(1, max_frames))
    true_category = {n: draw(st.sampled_from(CLASSES.ids)) for n in (11, 4, 300, 7)}
    # Mostly the same tubes, so that there is something to match.
    pred_category = {n: draw(st.sampled_from([true_category[n], *CLASSES.ids])) for n in true_category}
    crowd_ids = [n for n in true_category if crowd and draw(st.integers(0, 3)) == 0]
    ids = st.sampled_from([0, *true_category])
    pairs = []
    for index in range(frame_count):
        true_hw = np.array(draw(st.lists(ids, min_size=height * width, max_size=height * width)), np.int32)
        strays = {n: draw(ids) for n in draw(st.sets(st.integers(0, height * width - 1)))}
        pred_hw = true_hw.copy()
        for position, segment_id in strays.items():
            pred_hw[position] = segment_id
        listed = draw(st.permutations([int(n) for n in np.unique(true_hw) if n]))
        true_hw, pred_hw = true_hw.reshape(height, width), pred_hw.reshape(height, width)
        truth = annotation(index, true_hw, {n: true_category[n] for n in listed}, [n for n in crowd_ids if n in listed])
        prediction = segmentation(index, pred_hw, {int(n): pred_category[int(n)] for n in np.unique(pred_hw) if n})
        pairs.append(Pair("tiny", index, truth, prediction, {}))
    return pairs


def renamed(pairs: Sequence[Pair], sequence_id: str) -> list[Pair]:
    return [Pair(sequence_id, pair.frame_index, pair.truth, pair.prediction, pair.areas) for pair in pairs]


def flipped(pair: Pair) -> Pair:
    """Left and right swapped."""

    def flip(frame: FrameSegmentation) -> FrameSegmentation:
        values = frame.label_map().flip(1)
        return FrameSegmentation(frame.frame_index, frame.size_hw, frame.segments, LabelMap(values))

    truth = FrameAnnotation(flip(pair.truth.segmentation), crowd_ids=pair.truth.crowd_ids)
    return Pair(pair.sequence_id, pair.frame_index, truth, flip(pair.prediction), pair.areas)


def with_other_pred_ids(pair: Pair) -> Pair:
    """Every predicted id replaced by another, far from it."""
    frame = pair.prediction
    segments = tuple(Segment(10**6 - 3 * s.id, 10**6 - 3 * s.id, s.category) for s in frame.segments)
    prediction = FrameSegmentation(frame.frame_index, frame.size_hw, segments, frame.masks)
    return Pair(pair.sequence_id, pair.frame_index, pair.truth, prediction, pair.areas)


def perfect(pair: Pair) -> Pair:
    return Pair(pair.sequence_id, pair.frame_index, pair.truth, pair.truth.segmentation, pair.areas)


def empty(pair: Pair) -> Pair:
    """With a prediction that holds nothing: what a missing frame counts as."""
    size_hw = pair.truth.segmentation.size_hw
    nothing = FrameSegmentation(pair.frame_index, size_hw, (), LabelMap(torch.zeros(size_hw, dtype=torch.int32)))
    return Pair(pair.sequence_id, pair.frame_index, pair.truth, nothing, pair.areas)


def id_map(frame: FrameSegmentation) -> Ids:
    """``int32[H, W]``, ``Segment.id`` or 0; for the oracles."""
    ids: Ids = frame.panoptic_map().numpy()
    return ids


MetricT = TypeVar("MetricT", bound=Accumulator[Any, Any, Any])


def run(metric: MetricT, pairs: Iterable[Pair], *, use_areas: bool = False) -> MetricT:
    """Give a metric all frames, with the areas the annotation file lists if asked to, and end the sequences."""
    names: dict[str, None] = {}
    for pair in pairs:
        areas = pair.areas if use_areas else None
        metric.update(pair.sequence_id, pair.frame_index, pair.truth, pair.prediction, areas)
        names[pair.sequence_id] = None
    for name in names:
        metric.end_sequence(name)
    return metric
