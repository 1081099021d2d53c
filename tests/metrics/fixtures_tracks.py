"""Readers of the golden fixtures whose results are tracks: ytvis, burst and kitti_mots."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from maskstream.metrics.burst import BurstSequence
from maskstream.metrics.vis_ap import PredictedTube, TrueTube
from maskstream.types import (
    RLE,
    Category,
    CategorySet,
    FrameAnnotation,
    FrameSegmentation,
    LabelMap,
    PackedMasks,
    Segment,
    decode_rle,
    pack_masks,
)

FIXTURES = os.environ.get("MASKSTREAM_FIXTURES")
needs_fixtures = pytest.mark.skipif(FIXTURES is None, reason="MASKSTREAM_FIXTURES does not name the golden fixtures")


def read_json(*parts: str) -> Any:
    return json.loads(Path(FIXTURES or "", *parts).read_text(encoding="utf-8"))


def expected(family: str) -> Any:
    """The golden values, or nothing when there are no fixtures, so that tests can still be collected."""
    return read_json(family, "expected.json") if FIXTURES else {}


def segmentation(
    frame_index: int, size_hw: tuple[int, int], codes: list[RLE], segments: list[Segment]
) -> FrameSegmentation:
    masks: PackedMasks = pack_masks(decode_rle(codes, size_hw))
    return FrameSegmentation(frame_index, size_hw, tuple(segments), masks)


# YouTube-VIS


def ytvis_categories() -> CategorySet:
    listed = read_json("ytvis", "instances_gt.json")["categories"]
    return CategorySet("ytvis", tuple(Category(entry["id"], entry["name"], is_thing=True) for entry in listed))


def ytvis_videos() -> Iterator[tuple[int, list[TrueTube], list[PredictedTube]]]:
    truth, results = read_json("ytvis", "instances_gt.json"), read_json("ytvis", "results.json")
    for video in truth["videos"]:
        tubes = [
            TrueTube(entry["segmentations"], entry["category_id"], bool(entry["iscrowd"]), entry["areas"])
            for entry in truth["annotations"]
            if entry["video_id"] == video["id"]
        ]
        predicted = [
            PredictedTube(entry["segmentations"], entry["category_id"], entry["score"])
            for entry in results
            if entry["video_id"] == video["id"]
        ]
        yield video["id"], tubes, predicted


# KITTI-MOTS


def mots_sequences() -> Iterator[tuple[str, list[tuple[FrameAnnotation, FrameSegmentation]]]]:
    for line in Path(FIXTURES or "", "kitti_mots", "evaluate_mots.seqmap.val").read_text().splitlines():
        name, _, first, last = line.split()
        truth, results = _mots_file("label_02", name), _mots_file("results", name)
        frames = []
        for index in range(int(first), int(last)):
            rows, found = truth.get(index, []), results.get(index, [])
            size_hw = next(((row[2], row[3]) for row in [*rows, *found]), (1, 1))
            ignored = [row[4] for row in rows if row[1] == 10]
            void = decode_rle(ignored, size_hw).any(dim=0) if ignored else None
            annotation = FrameAnnotation(_mots_frame(index, size_hw, [row for row in rows if row[1] != 10]), void)
            frames.append((annotation, _mots_frame(index, size_hw, found)))
        yield name, frames


def _mots_file(folder: str, name: str) -> dict[int, list[tuple[int, int, int, int, RLE]]]:
    frames: dict[int, list[tuple[int, int, int, int, RLE]]] = {}
    for line in Path(FIXTURES or "", "kitti_mots", folder, f"{name}.txt").read_text().splitlines():
        frame, track, category, height, width, counts = line.split(" ")
        code = RLE(size=[int(height), int(width)], counts=counts)
        frames.setdefault(int(frame), []).append((int(track), int(category), int(height), int(width), code))
    return frames


def _mots_frame(index: int, size_hw: tuple[int, int], rows: list[tuple[int, int, int, int, RLE]]) -> FrameSegmentation:
    segments = [Segment(track, track, category) for track, category, *_ in rows]
    return segmentation(index, size_hw, [row[4] for row in rows], segments)


# BURST


def burst_sequences(
    truth_file: str, results: str
) -> Iterator[tuple[str, BurstSequence, list[tuple[FrameAnnotation, FrameSegmentation]]]]:
    """Frames with their annotations; predictions on other frames are left out."""
    predicted = {entry["seq_name"]: entry for entry in read_json("burst", "results", f"{results}.json")["sequences"]}
    for entry in read_json("burst", "annotations", "val", f"{truth_file}.json")["sequences"]:
        found = predicted[entry["seq_name"]]
        at = {path: index for index, path in enumerate(found["annotated_image_paths"])}
        frames = []
        for index, path in enumerate(entry["annotated_image_paths"]):
            truth = FrameAnnotation(_burst_frame(entry, index, index))
            frames.append((truth, _burst_frame(found, at[path], index)))
        meta = BurstSequence(frozenset(entry["neg_category_ids"]), frozenset(entry["not_exhaustive_category_ids"]))
        # Equal scores are decided by the order of the full names.
        yield f"{entry['dataset']}/{entry['seq_name']}", meta, frames


def _burst_frame(entry: Any, position: int, frame_index: int) -> FrameSegmentation:
    size_hw = (entry["height"], entry["width"])
    masks = entry["segmentations"][position]
    segments = [
        Segment(int(track), int(track), entry["track_category_ids"][track], mask.get("score"))
        for track, mask in masks.items()
    ]
    codes = [RLE(size=list(size_hw), counts=mask["rle"]) for mask in masks.values()]
    return segmentation(frame_index, size_hw, codes, segments)


def square(size_hw: tuple[int, int], y: int, x: int, side: int) -> torch.Tensor:
    """``bool[H, W]``, a square."""
    mask = torch.zeros(size_hw, dtype=torch.bool)
    mask[y : y + side, x : x + side] = True
    return mask


def disjoint(frame_index: int, labels_hw: torch.Tensor, segments: tuple[Segment, ...]) -> FrameSegmentation:
    """A segmentation from a label map of positions, counted from 1."""
    masks = LabelMap(labels_hw.to(torch.int32))
    return FrameSegmentation(frame_index, masks.size_hw, segments, masks)


def all_matchings(rows: int, columns: int) -> list[list[tuple[int, int]]]:
    """Every set of pairs in which nothing is used twice."""
    found = []
    for size in range(min(rows, columns) + 1):
        for chosen in itertools.combinations(range(rows), size):
            found += [list(zip(chosen, order, strict=True)) for order in itertools.permutations(range(columns), size)]
    return found
