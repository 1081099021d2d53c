from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskstream.metrics.accumulator import Report
from maskstream.metrics.stq import SegmentationTrackingQuality
from maskstream.types import Category, CategorySet, FrameAnnotation, InputError

from .fixtures_panoptic import (
    CLASSES,
    KITTI_STEP,
    Pair,
    annotation,
    empty,
    fixture_folder,
    flipped,
    id_map,
    perfect,
    read_categories,
    read_kitti_step,
    read_vipseg,
    renamed,
    run,
    segmentation,
    tiny_videos,
    with_other_pred_ids,
)

Crowd = Literal["flagged", "first", "none"]


def evaluate(pairs: Iterable[Pair], **options: Any) -> Report:
    return run(SegmentationTrackingQuality(CLASSES, **options), pairs).result()


# Golden values


@functools.cache
def golden(name: str) -> tuple[dict[str, Any], Report]:
    folder = fixture_folder(name)
    expected = json.loads((folder / "expected.json").read_text())
    read: Callable[[Path], Iterable[Pair]] = read_kitti_step
    categories, crowd = KITTI_STEP, "flagged"
    if name == "vipseg":
        expected, read = expected["stq"], read_vipseg
        categories, crowd = read_categories(folder / "panoptic_gt_VIPSeg_val.json", "vipseg"), "first"
    metric = SegmentationTrackingQuality(categories, crowd="first" if crowd == "first" else "flagged")
    return expected, run(metric, read(folder)).result()


@pytest.mark.parametrize(
    ("name", "value", "expected_name"),
    [
        ("vipseg", "STQ", "STQ"),
        ("vipseg", "AQ", "AQ"),
        ("vipseg", "SQ", "IoU"),
        ("kitti_step", "STQ", "STQ"),
        ("kitti_step", "AQ", "AQ"),
        ("kitti_step", "SQ", "SQ_IoU"),
    ],
)
def test_the_data_set_scores_what_the_official_tool_says(name: str, value: str, expected_name: str):
    expected, report = golden(name)
    assert report.values[value] == pytest.approx(expected[expected_name], abs=1e-12)


@pytest.mark.parametrize(("value", "expected_name"), [("STQ", "STQ"), ("AQ", "AQ"), ("SQ", "IoU")])
@pytest.mark.parametrize(
    ("name", "video"),
    [
        *(("vipseg", video) for video in ("0_AAA", "1_BBB", "2_CCC", "3_DDD")),
        *(("kitti_step", video) for video in ("0002", "0006", "0007")),
    ],
)
def test_every_video_scores_what_the_official_tool_says(name: str, video: str, value: str, expected_name: str):
    expected, report = golden(name)
    assert set(report.per_video) == set(expected["per_sequence"])
    assert report.per_video[video][value] == pytest.approx(expected["per_sequence"][video][expected_name], abs=1e-12)


# The definition, literally

THINGS = {category.id for category in CLASSES.categories if category.is_thing}


def brute_force_aq(videos: Sequence[Sequence[Pair]], crowd: Crowd) -> float:
    total, track_count = 0.0, 0
    for pairs in videos:
        true_pixels: dict[tuple[int, int], set[tuple[int, int]]] = {}
        pred_pixels: dict[tuple[int, int], set[tuple[int, int]]] = {}
        listed = [segment.id for pair in pairs for segment in pair.truth.segmentation.segments]
        for pair in pairs:
            true, pred = id_map(pair.truth.segmentation).ravel(), id_map(pair.prediction).ravel()
            true_category = {s.id: s.category for s in pair.truth.segmentation.segments}
            pred_category = {s.id: s.category for s in pair.prediction.segments}
            crowd_ids = {"flagged": set(pair.truth.crowd_ids), "first": set(listed[:1]), "none": set()}[crowd]
            for position, (g, p) in enumerate(zip(true.tolist(), pred.tolist(), strict=True)):
                pixel = (pair.frame_index, position)
                g_category, p_category = true_category.get(g), pred_category.get(p)
                if g_category in THINGS and g in crowd_ids:
                    continue
                if g_category in THINGS:
                    true_pixels.setdefault((g_category or 0, g), set()).add(pixel)
                if p_category in THINGS:
                    pred_pixels.setdefault((p_category or 0, p), set()).add(pixel)
        track_count += len(true_pixels)
        for g_pixels in true_pixels.values():
            inner = 0.0
            for p_pixels in pred_pixels.values():
                tpa = len(g_pixels & p_pixels)
                inner += tpa * tpa / len(g_pixels | p_pixels)
            total += inner / len(g_pixels)
    return total / track_count if track_count else math.nan


def brute_force_sq(videos: Sequence[Sequence[Pair]], *, void_is_a_class: bool) -> float:
    trues, preds = [], []
    for pair in (pair for pairs in videos for pair in pairs):
        trues.append(pair.truth.segmentation.semantic_map(void=-1).numpy().ravel())
        preds.append(pair.prediction.semantic_map(void=-1).numpy().ravel())
    true, pred = np.concatenate(trues), np.concatenate(preds)
    labelled = true != -1
    ious = []
    for category in [*CLASSES.ids, *([-1] if void_is_a_class else [])]:
        union = ((true == category) | (pred == category)) & labelled
        if union.any():
            ious.append(((true == category) & (pred == category) & labelled).sum() / union.sum())
    return float(np.mean(ious)) if ious else math.nan


@settings(max_examples=150, deadline=None)
@given(
    tiny_videos(),
    tiny_videos(max_frames=2),
    st.sampled_from(["flagged", "first", "none"]),
    st.sampled_from(["official", "paper"]),
)
def test_scores_are_what_the_definition_says(first, second, crowd, compat):
    values = evaluate([*renamed(first, "a"), *renamed(second, "b")], crowd=crowd, compat=compat).values
    aq = brute_force_aq([first, second], crowd)
    if math.isnan(aq) and compat == "official":
        aq = 0.0
    sq = brute_force_sq([first, second], void_is_a_class=compat == "official")
    assert values["AQ"] == pytest.approx(aq, nan_ok=True)
    assert values["SQ"] == pytest.approx(sq, nan_ok=True)
    assert values["STQ"] == pytest.approx(math.sqrt(aq * sq), nan_ok=True)


# Invariances


@settings(max_examples=30, deadline=None)
@given(tiny_videos())
def test_predicted_ids_and_left_and_right_do_not_matter(pairs):
    scores = evaluate(pairs).values
    assert evaluate([with_other_pred_ids(pair) for pair in pairs]).values == pytest.approx(scores, nan_ok=True)
    assert evaluate([flipped(pair) for pair in pairs]).values == pytest.approx(scores, nan_ok=True)


@settings(max_examples=30, deadline=None)
@given(tiny_videos())
def test_a_perfect_prediction_scores_one_where_there_are_tracks(pairs):
    values = evaluate([perfect(pair) for pair in pairs], compat="paper").values
    assert all(math.isnan(value) or value == 1 for value in values.values())


def test_an_empty_prediction_scores_zero():
    pair = toy([1, 1, 2, 2], [0, 0, 0, 0], true={1: 5, 2: 0}, pred={})
    assert evaluate([empty(pair)]).values == {"STQ": 0, "AQ": 0, "SQ": 0}


# The traps, one by one


def toy(
    true_ids: Sequence[int],
    pred_ids: Sequence[int],
    *,
    true: dict[int, int],
    pred: dict[int, int],
    crowd: Sequence[int] = (),
) -> Pair:
    """A frame of one row. Categories 5 and 2 are things, 0 and 9 stuff."""
    truth = annotation(0, np.array([true_ids], np.int32), true, crowd)
    return Pair("v", 0, truth, segmentation(0, np.array([pred_ids], np.int32), pred), {})


def test_association_does_not_ask_for_the_class():
    values = evaluate([toy([1, 1, 3, 3], [7, 7, 3, 3], true={1: 5, 3: 0}, pred={7: 2, 3: 0})]).values
    assert values["AQ"] == 1
    assert values["SQ"] == pytest.approx((0 + 0 + 1) / 3)


def test_stuff_predicted_on_a_thing_earns_no_association():
    assert evaluate([toy([1, 1], [7, 7], true={1: 5}, pred={7: 0})]).values["AQ"] == 0


@pytest.mark.parametrize("rest", [pytest.param({}, id="void"), pytest.param({3: 0}, id="stuff")])
def test_a_track_that_spills_over_is_worse(rest):
    spilt = list(rest) or [0]
    values = evaluate([toy([1, 1, *spilt * 2], [7, 7, 7, 7], true={1: 5, **rest}, pred={7: 5})]).values
    assert values["AQ"] == pytest.approx(2 / 4)


def test_a_crowd_is_no_track_and_hides_predictions_but_not_classes():
    values = evaluate([toy([1, 1, 4, 4], [7, 7, 7, 7], true={1: 5, 4: 5}, pred={7: 5}, crowd=[4])]).values
    assert values == {"STQ": 1, "AQ": 1, "SQ": 1}
    values = evaluate([toy([1, 1, 4, 4], [7, 7, 8, 8], true={1: 5, 4: 5}, pred={7: 5, 8: 2}, crowd=[4])]).values
    assert values["AQ"] == 1
    assert values["SQ"] == pytest.approx((2 / 4 + 0) / 2)


@pytest.mark.parametrize(("crowd", "expected"), [("none", (1 + 0) / 2), ("first", 0.0), ("flagged", 1.0)])
def test_officially_the_first_listed_segment_of_a_vipseg_video_is_crowd(crowd, expected):
    """Track 9 is listed first and found, track 1 is flagged as crowd and missed."""
    pair = toy([1, 1, 9, 9], [0, 0, 7, 7], true={9: 5, 1: 5}, pred={7: 5}, crowd=[1])
    assert evaluate([pair], crowd=crowd).values["AQ"] == expected


def test_a_first_listed_piece_of_stuff_is_no_crowd():
    pair = toy([1, 1, 9, 9], [7, 7, 8, 8], true={9: 0, 1: 5}, pred={7: 5, 8: 0})
    assert evaluate([pair], crowd="first").values == {"STQ": 1, "AQ": 1, "SQ": 1}


@pytest.mark.parametrize(("compat", "expected"), [("official", (3 / 4) / 2), ("paper", 3 / 4)])
def test_officially_nothing_predicted_is_one_more_class(compat, expected):
    pair = toy([1, 1, 1, 1], [7, 7, 7, 0], true={1: 5}, pred={7: 5})
    assert evaluate([pair], compat=compat).values["SQ"] == pytest.approx(expected)


def test_nothing_predicted_on_void_is_no_class():
    pair = toy([1, 1, 0, 0], [7, 7, 0, 0], true={1: 5}, pred={7: 5})
    assert evaluate([pair]).values["SQ"] == 1


def test_a_class_that_is_only_predicted_counts():
    pair = toy([3, 3, 3, 3], [3, 3, 3, 8], true={3: 0}, pred={3: 0, 8: 9})
    assert evaluate([pair]).values["SQ"] == pytest.approx((3 / 4 + 0) / 2)


def test_a_video_without_tracks_scores_zero_and_adds_nothing():
    tracks = toy([1, 1], [7, 7], true={1: 5}, pred={7: 5})
    stuff = toy([3, 3], [3, 3], true={3: 0}, pred={3: 0})
    report = evaluate([*renamed([tracks], "a"), *renamed([stuff], "b")])
    assert report.per_video["b"] == {"STQ": 0, "AQ": 0, "SQ": 1}
    assert report.values == {"STQ": 1, "AQ": 1, "SQ": 1}


def test_the_mean_is_over_tracks_and_not_over_videos():
    found = toy([1, 1, 2, 2, 3, 3], [1, 1, 2, 2, 3, 3], true={1: 5, 2: 5, 3: 5}, pred={1: 5, 2: 5, 3: 5})
    missed = toy([1, 1], [0, 0], true={1: 5}, pred={})
    assert evaluate([*renamed([found], "a"), *renamed([missed], "b")]).values["AQ"] == pytest.approx(3 / 4)


def test_one_id_with_two_categories_is_two_tracks():
    ids = np.array([[1, 1]], np.int32)
    pairs = [
        Pair("v", t, annotation(t, ids, {1: 5}), segmentation(t, ids, {1: category}), {})
        for t, category in enumerate((5, 2))
    ]
    assert evaluate(pairs).values["AQ"] == pytest.approx(1 / 4 * 2 * (2 * 2 / 4))


def test_frames_nobody_annotated_are_passed_over():
    ids = np.array([[1, 1]], np.int32)
    unlabelled = FrameAnnotation(segmentation(1, ids, {1: 2}), annotated=False)
    pairs = [
        Pair("v", 0, annotation(0, ids, {1: 5}), segmentation(0, ids, {1: 5}), {}),
        Pair("v", 1, unlabelled, segmentation(1, ids, {1: 5}), {}),
    ]
    assert evaluate(pairs).values == {"STQ": 1, "AQ": 1, "SQ": 1}


def test_void_only_ground_truth_is_undefined():
    pair = Pair(
        "v", 0, annotation(0, np.zeros((1, 2), np.int32), {}), segmentation(0, np.ones((1, 2), np.int32), {1: 5}), {}
    )
    values = evaluate([pair]).values
    assert values["AQ"] == 0 and math.isnan(values["SQ"]) and math.isnan(values["STQ"])


# Bad input


def test_bad_frames_are_errors_that_name_video_and_frame():
    pair = toy([1, 1], [7, 7], true={1: 5}, pred={7: 77})
    with pytest.raises(InputError, match="v, frame 0: segment 7 of the prediction has the category 77"):
        evaluate([pair])
    good = toy([1, 1], [7, 7], true={1: 5}, pred={7: 5})
    with pytest.raises(InputError, match="v, frame 0: the prediction is 1×3 but the ground truth 1×2"):
        evaluate([Pair("v", 0, good.truth, toy([0] * 3, [0] * 3, true={}, pred={}).prediction, {})])


def test_a_label_space_that_does_not_tell_things_is_refused():
    undecided = CategorySet("free", (Category(1, "blob"),))
    with pytest.raises(InputError, match="'blob' of 'free' does not say"):
        SegmentationTrackingQuality(undecided)


def test_void_marked_on_a_track_is_not_part_of_it():
    truth = FrameAnnotation(
        segmentation(0, np.array([[1, 1, 1, 1]], np.int32), {1: 5}), torch.tensor([[False, False, True, True]])
    )
    pair = Pair("v", 0, truth, segmentation(0, np.array([[7, 7, 0, 0]], np.int32), {7: 5}), {})
    assert evaluate([pair]).values == {"STQ": 1, "AQ": 1, "SQ": 1}
