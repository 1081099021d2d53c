from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskstream.metrics.accumulator import Accumulator, Report
from maskstream.metrics.semantic import ForegroundJ, SemanticQuality, VideoConsistency
from maskstream.types import FrameAnnotation, FrameSegmentation, InputError, LabelMap, Segment

from .fixtures_panoptic import (
    CLASSES,
    VSPW,
    Ids,
    Pair,
    annotation,
    empty,
    fixture_folder,
    flipped,
    perfect,
    read_vspw,
    renamed,
    run,
    segmentation,
    semantic_frame,
    tiny_videos,
    with_other_pred_ids,
)


def evaluate(metric: Accumulator[Any, Any, None], pairs: Iterable[Pair]) -> Report:
    return run(metric, pairs).result()


# Golden values


@functools.cache
def vspw() -> tuple[dict[str, Any], list[Pair]]:
    folder = fixture_folder("vspw")
    return json.loads((folder / "expected.json").read_text()), list(read_vspw(folder))


@pytest.mark.parametrize(
    ("value", "expected_name"),
    [
        ("mIoU", "mIoU"),
        ("wIoU", "weighted_IoU"),
        ("pixel_accuracy", "pixel_accuracy"),
        ("class_accuracy", "class_accuracy"),
        ("video_mIoU", "video_mIoU"),
        ("video_wIoU", "video_fwIoU"),
    ],
)
def test_vspw_scores_are_the_official_ones(value, expected_name):
    expected, pairs = vspw()
    report = evaluate(SemanticQuality(VSPW), pairs)
    assert report.values[value] == pytest.approx(expected["iou"][expected_name], abs=1e-12)


@pytest.mark.parametrize("video", ["1001_aaa", "1002_bbb", "1003_ccc", "1004_ddd"])
def test_every_vspw_video_scores_what_the_official_tool_says(video):
    expected, pairs = vspw()
    row = evaluate(SemanticQuality(VSPW), pairs).per_video[video]
    assert row["mIoU"] == pytest.approx(expected["iou"]["per_video"][video]["mIoU"], abs=1e-12)
    assert row["wIoU"] == pytest.approx(expected["iou"]["per_video"][video]["fwIoU"], abs=1e-12)


@pytest.mark.parametrize(
    ("value", "expected_name"),
    [("mIoU", "mIoU"), ("wIoU", "fwIoU"), ("class_accuracy", "mACC"), ("pixel_accuracy", "pACC")],
)
def test_the_other_denominator_is_that_of_peer_evaluators(value, expected_name):
    expected, pairs = vspw()
    report = evaluate(SemanticQuality(VSPW, denominator="gt_or_pred"), pairs)
    assert 100 * report.values[value] == pytest.approx(expected["peer_iou"][expected_name], abs=1e-9)


@pytest.mark.parametrize("n", [8, 16])
def test_video_consistency_is_the_official_one(n):
    expected, pairs = vspw()
    report = evaluate(VideoConsistency(), pairs)
    assert report.values[f"mVC{n}"] == pytest.approx(expected["vc"][f"mVC{n}"], abs=1e-12)
    assert f"mVC{n}: {expected['vc'][f'num_windows_{n}']} windows, convention 'official'." in report.notes


# The definitions, literally


@settings(max_examples=100, deadline=None)
@given(tiny_videos(), tiny_videos(max_frames=2), st.sampled_from(["gt", "gt_or_pred"]))
def test_semantic_scores_are_what_the_definition_says(first, second, denominator):
    report = evaluate(SemanticQuality(CLASSES, denominator=denominator), [*renamed(first, "a"), *renamed(second, "b")])
    true, pred = (
        np.concatenate([frame.semantic_map(void=-1).numpy().ravel() for frame in frames])
        for frames in (
            [pair.truth.segmentation for pair in [*first, *second]],
            [pair.prediction for pair in [*first, *second]],
        )
    )
    true, pred = true[true != -1], pred[true != -1]
    ious, weights, accuracies = [], [], []
    for category in set(true.tolist()):
        both = ((true == category) & (pred == category)).sum()
        ious.append(both / ((true == category) | (pred == category)).sum())
        weights.append((true == category).mean())
        accuracies.append(both / (true == category).sum())
    classes = set(true.tolist()) | (set(pred.tolist()) - {-1} if denominator == "gt_or_pred" else set())
    expected = {
        "mIoU": sum(ious) / len(classes) if ious else math.nan,
        "wIoU": np.dot(weights, ious) if ious else math.nan,
        "pixel_accuracy": (true == pred).mean() if ious else math.nan,
        "class_accuracy": np.mean(accuracies) if ious else math.nan,
    }
    assert {name: report.values[name] for name in expected} == pytest.approx(expected, nan_ok=True)


def literal_vc(true_thw: Ids, pred_thw: Ids, n: int, *, paper: bool) -> list[float]:
    """VC of every window of a video; labels below 0 are void."""
    values = []
    for start in range(len(true_thw) - n + (1 if paper else 0)):
        true, pred = true_thw[start : start + n], pred_thw[start : start + n]
        constant = (true == true[0]).all(axis=0)
        still = (pred == pred[0]).all(axis=0)
        if paper:
            constant &= true[0] >= 0
            still &= pred[0] == true[0]
        values.append((constant & still).sum() / constant.sum() if constant.any() else math.nan)
    return values


def label_videos() -> st.SearchStrategy[tuple[Ids, Ids]]:
    """Truth (0 unlabelled, 3 void) and prediction of 1 to 7 frames of 4 pixels that mostly stand still."""

    def build(size: int) -> st.SearchStrategy[tuple[Ids, Ids]]:
        def video(values: list[int]) -> st.SearchStrategy[Ids]:
            row = st.lists(st.sampled_from(values), min_size=4, max_size=4)
            changes = st.lists(
                st.tuples(st.integers(0, size - 1), st.integers(0, 3), st.sampled_from(values)), max_size=4
            )
            return st.builds(_painted, st.just(size), row, changes)

        return st.tuples(video([0, 1, 2, 3]), video([1, 2]))

    return st.integers(1, 7).flatmap(build)


def _painted(size: int, row: list[int], changes: list[tuple[int, int, int]]) -> Ids:
    frames = np.tile(np.array(row, np.int32), (size, 1))[:, None, :]
    for start, position, value in changes:
        frames[start:, 0, position] = value
    return frames


def as_pairs(name: str, true_thw: Ids, pred_thw: Ids) -> list[Pair]:
    return [
        Pair(
            name,
            t,
            FrameAnnotation(semantic_frame(t, np.where(true == 3, 0, true)), torch.from_numpy(true == 3)),
            semantic_frame(t, pred),
            {},
        )
        for t, (true, pred) in enumerate(zip(true_thw, pred_thw, strict=True))
    ]


@settings(max_examples=150, deadline=None)
@given(label_videos(), label_videos(), st.sampled_from([1, 2, 3]), st.sampled_from(["official", "paper"]))
def test_video_consistency_is_what_the_definition_says(first, second, n, compat):
    paper = compat == "paper"
    report = evaluate(VideoConsistency(windows=(n,), compat=compat), [*as_pairs("a", *first), *as_pairs("b", *second)])
    per_video = []
    for true, pred in (first, second):
        void_last = np.where(true == 3, -2, np.where(true == 0, -1, true))
        per_video.append([v for v in literal_vc(void_last, pred, n, paper=paper) if not math.isnan(v)])
    if paper:
        means = [np.mean(values) for values in per_video if values]
        expected = np.mean(means) if means else math.nan
    else:
        pooled = [value for values in per_video for value in values]
        expected = np.mean(pooled) if pooled else math.nan
    assert report.values[f"mVC{n}"] == pytest.approx(expected, nan_ok=True)


# Invariances


def metrics() -> list[Accumulator[Any, Any, None]]:
    return [SemanticQuality(CLASSES), VideoConsistency(windows=(1, 2)), ForegroundJ()]


@settings(max_examples=30, deadline=None)
@given(tiny_videos())
def test_predicted_ids_and_left_and_right_do_not_matter(pairs):
    for here, there, elsewhere in zip(metrics(), metrics(), metrics(), strict=True):
        scores = evaluate(here, pairs).values
        assert evaluate(there, map(with_other_pred_ids, pairs)).values == pytest.approx(scores, nan_ok=True)
        assert evaluate(elsewhere, map(flipped, pairs)).values == pytest.approx(scores, nan_ok=True)


@settings(max_examples=30, deadline=None)
@given(tiny_videos())
def test_a_perfect_prediction_scores_one_wherever_it_is_defined(pairs):
    for metric in [*metrics(), VideoConsistency(windows=(1, 2), compat="paper")]:
        values = evaluate(metric, map(perfect, pairs)).values.values()
        assert all(math.isnan(value) or value == pytest.approx(1, abs=1e-15) for value in values)


def test_an_empty_prediction_scores_zero():
    ids = np.array([[1, 1, 2, 2]], np.int32)
    pair = empty(Pair("v", 0, annotation(0, ids, {1: 5, 2: 0}), segmentation(0, ids, {1: 5, 2: 0}), {}))
    assert set(evaluate(SemanticQuality(CLASSES), [pair]).values.values()) == {0}
    assert evaluate(ForegroundJ(), [pair]).values == {"J": 0}


# The traps, one by one


def still(true: Sequence[int], pred: Sequence[int], frames: int) -> list[Pair]:
    return as_pairs("v", *(np.tile(np.array(row, np.int32), (frames, 1))[:, None] for row in (true, pred)))


def test_constant_but_wrong_is_officially_consistent():
    pairs = still([1, 1], [2, 1], 5)
    assert evaluate(VideoConsistency(windows=(3,)), pairs).values["mVC3"] == 1
    assert evaluate(VideoConsistency(windows=(3,), compat="paper"), pairs).values["mVC3"] == 0.5


@pytest.mark.parametrize(("compat", "windows"), [("official", 2), ("paper", 3)])
def test_the_last_window_is_officially_missing(compat, windows):
    report = evaluate(VideoConsistency(windows=(3,), compat=compat), still([1], [1], 5))
    assert report.notes == (f"mVC3: {windows} windows, convention {compat!r}.",)


def test_a_video_as_long_as_the_window_is_officially_not_counted():
    assert math.isnan(evaluate(VideoConsistency(windows=(5,)), still([1], [1], 5)).values["mVC5"])


def test_void_and_unlabelled_are_officially_two_classes():
    true = np.array([[[0, 1]], [[3, 1]], [[3, 1]]], np.int32)
    pred = np.array([[[1, 1]], [[1, 2]], [[1, 2]]], np.int32)
    # The first pixel goes from unlabelled to void, so only the second is constant, and its prediction is not.
    assert evaluate(VideoConsistency(windows=(2,)), as_pairs("v", true, pred)).values["mVC2"] == 0


def test_long_runs_do_not_overflow():
    metric = VideoConsistency(windows=(2,))
    state = metric.begin("v")
    pair = still([1], [1], 1)[0]
    for index in range(5):
        metric.add(state, index, pair.truth, pair.prediction)
    assert state.runs_hw is not None and state.runs_hw[0].max() == 2


def test_nothing_predicted_counts_against_the_class():
    ids = np.array([[1, 1, 1, 1]], np.int32)
    pair = Pair("v", 0, annotation(0, ids, {1: 5}), segmentation(0, np.array([[1, 0, 0, 0]], np.int32), {1: 5}), {})
    report = evaluate(SemanticQuality(CLASSES), [pair])
    assert report.values["mIoU"] == report.values["pixel_accuracy"] == 0.25
    assert report.per_class == {"cat": {"IoU": 0.25, "accuracy": 0.25}}


def test_void_only_ground_truth_is_undefined():
    ids = np.array([[0, 0]], np.int32)
    pair = Pair("v", 0, annotation(0, ids, {}), segmentation(0, ids + 1, {1: 5}), {})
    assert all(math.isnan(value) for value in evaluate(SemanticQuality(CLASSES), [pair]).values.values())


def test_frames_nobody_annotated_are_passed_over():
    ids = np.array([[1, 1]], np.int32)
    nobody = FrameAnnotation(segmentation(1, ids, {1: 2}), annotated=False)
    pairs = [
        Pair("v", 0, annotation(0, ids, {1: 5}), segmentation(0, ids, {1: 5}), {}),
        Pair("v", 1, nobody, segmentation(1, 0 * ids, {}), {}),
    ]
    for metric in (SemanticQuality(CLASSES), VideoConsistency(windows=(1,), compat="paper"), ForegroundJ()):
        assert set(evaluate(metric, pairs).values.values()) == {1}


def test_foreground_is_the_union_of_the_chosen_segments():
    true = annotation(0, np.array([[1, 2, 3, 0]], np.int32), {1: 5, 2: 2, 3: 0})
    pred = segmentation(0, np.array([[4, 4, 0, 6]], np.int32), {4: 2, 6: 0})
    pair = Pair("v", 0, true, pred, {})
    assert evaluate(ForegroundJ(), [pair]).values["J"] == pytest.approx(2 / 4)
    assert evaluate(ForegroundJ(foreground=[5, 2]), [pair]).values["J"] == 1


def test_a_chosen_segment_below_another_is_foreground():
    masks = torch.tensor([[[True, True]], [[True, True]]])
    below = FrameSegmentation.from_masks(0, (Segment(1, 1, 5, score=0.1), Segment(2, 2, 0, score=0.9)), masks)
    pair = Pair("v", 0, annotation(0, np.array([[1, 1]], np.int32), {1: 5}), below, {})
    assert evaluate(ForegroundJ(foreground=[5]), [pair]).values["J"] == 1


def test_foreground_leaves_void_out():
    truth = FrameAnnotation(
        segmentation(0, np.array([[1, 0, 0]], np.int32), {1: 5}), torch.tensor([[False, True, False]])
    )
    pair = Pair("v", 0, truth, segmentation(0, np.array([[1, 1, 0]], np.int32), {1: 5}), {})
    assert evaluate(ForegroundJ(), [pair]).values["J"] == 1


# Bad input


def test_bad_frames_are_errors_that_name_video_and_frame():
    ids = np.array([[1, 1]], np.int32)
    good = annotation(3, ids, {1: 5})
    uncategorised = FrameSegmentation(3, (1, 2), (Segment(1, 1),), LabelMap(torch.from_numpy(ids)))
    unlisted = FrameSegmentation(3, (1, 2), (), LabelMap(torch.from_numpy(ids)))
    with pytest.raises(InputError, match="v, frame 3: segment 1 of the prediction has the category 124"):
        SemanticQuality(CLASSES).update("v", 3, good, segmentation(3, ids, {1: 124}))
    with pytest.raises(InputError, match="v, frame 3: segment 1 of the prediction has no category"):
        VideoConsistency().update("v", 3, good, uncategorised)
    with pytest.raises(InputError, match="v, frame 3: the prediction has a pixel of segment number 1"):
        VideoConsistency().update("v", 3, good, unlisted)
    with pytest.raises(InputError, match="v, frame 3: the prediction has a pixel of segment number 1"):
        ForegroundJ().update("v", 3, good, unlisted)
    with pytest.raises(InputError, match="mVC needs window sizes"):
        VideoConsistency(windows=(0,))


def test_a_video_that_changes_its_size_is_an_error():
    metric = VideoConsistency()
    small, large = np.array([[1, 1]], np.int32), np.array([[1, 1, 1]], np.int32)
    metric.update("v", 0, annotation(0, small, {1: 5}), segmentation(0, small, {1: 5}))
    with pytest.raises(InputError, match="v, frame 1: the size changes within the video, from 1×2 to 1×3"):
        metric.update("v", 1, annotation(1, large, {1: 5}), segmentation(1, large, {1: 5}))
