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
from maskstream.metrics.vpq import (
    CITYSCAPES_VPS_WINDOWS,
    DEVA_WINDOWS,
    VIPSEG_WINDOWS,
    VideoPanopticQuality,
    named_averages,
)
from maskstream.types import FrameAnnotation, FrameSegmentation, InputError, LabelMap, MaskstreamWarning, Segment

from .fixtures_panoptic import (
    CLASSES,
    Pair,
    annotation,
    empty,
    fixture_folder,
    flipped,
    id_map,
    perfect,
    read_categories,
    read_cityscapes_vps,
    read_vipseg,
    renamed,
    run,
    segmentation,
    tiny_videos,
    with_other_pred_ids,
)


def evaluate(pairs: Iterable[Pair], **options: Any) -> Report:
    return run(VideoPanopticQuality(CLASSES, **options), pairs).result()


# Golden values


class Golden:
    """A fixture, its golden values, and our result on it."""

    def __init__(self, key: str) -> None:
        readers: dict[str, tuple[str, str, Callable[[Path], Iterable[Pair]]]] = {
            "vpq_deva": ("vipseg", "panoptic_gt_VIPSeg_val.json", read_vipseg),
            "vpq_vipseg": ("vipseg", "panoptic_gt_VIPSeg_val.json", read_vipseg),
            "cityscapes_vps": ("cityscapes_vps", "panoptic_gt_val_city_vps.json", read_cityscapes_vps),
        }
        windows = {
            "vpq_deva": DEVA_WINDOWS,
            "vpq_vipseg": VIPSEG_WINDOWS,
            "cityscapes_vps": CITYSCAPES_VPS_WINDOWS,
        }
        name, truth_file, read = readers[key]
        folder = fixture_folder(name)
        expected = json.loads((folder / "expected.json").read_text())
        self.expected = expected if key == "cityscapes_vps" else expected[key]
        self.categories = read_categories(folder / truth_file, name)
        short_clips: Literal["skip", "whole"] = "whole" if key == "vpq_deva" else "skip"
        metric = VideoPanopticQuality(self.categories, windows=windows[key], short_clips=short_clips)
        self.metric = run(metric, read(folder), use_areas=True)
        self.report = self.metric.result()


golden = functools.cache(Golden)
SUFFIX = {"All": "", "Things": "_things", "Stuff": "_stuff"}
WINDOWS = [
    *(("vpq_deva", k) for k in DEVA_WINDOWS),
    *(("vpq_vipseg", k) for k in VIPSEG_WINDOWS),
    *(("cityscapes_vps", k) for k in CITYSCAPES_VPS_WINDOWS),
]


@pytest.mark.parametrize("group", SUFFIX)
@pytest.mark.parametrize(("key", "window"), WINDOWS)
def test_every_window_equals_the_official_tool(key: str, window: float, group: str):
    fixture = golden(key)
    label = "inf" if window == math.inf else str(window)
    expected = fixture.expected["windows"][label][group]
    for name, expected_name in (("VPQ", "pq"), ("SQ", "sq"), ("RQ", "rq")):
        value = 100 * fixture.report.values[f"{name}_{label}{SUFFIX[group]}"]
        assert value == pytest.approx(expected[expected_name], abs=1e-9)
    kinds = {"All": (True, False), "Things": (True,), "Stuff": (False,)}[group]
    occurs = fixture.metric.counts(window).occurs
    members = [occurs[n] for n, category in enumerate(fixture.categories.categories) if category.is_thing in kinds]
    assert sum(members) == expected["n"]


@pytest.mark.parametrize(("key", "window"), WINDOWS)
def test_every_class_equals_the_official_tool(key: str, window: float):
    fixture = golden(key)
    label = "inf" if window == math.inf else str(window)
    expected = fixture.expected["windows"][label]["per_class"]
    counts = fixture.metric.counts(window)
    classes = {fixture.categories.ids[n]: n for n in np.flatnonzero(counts.occurs).tolist()}
    assert set(classes) == {int(category) for category in expected}
    for category, n in classes.items():
        row = expected[str(category)]
        assert (counts.tp[n], counts.fp[n], counts.fn[n]) == (row["tp"], row["fp"], row["fn"])
        assert counts.iou[n] == pytest.approx(row["iou"], abs=1e-11)
        ours = fixture.report.per_class[fixture.categories[category].name]
        for name, expected_name in (("PQ", "pq"), ("SQ", "sq"), ("RQ", "rq")):
            assert ours[f"{name}_{label}"] == pytest.approx(row[expected_name], abs=1e-11)


@pytest.mark.parametrize("group", SUFFIX)
@pytest.mark.parametrize(
    ("key", "average", "expected_name"),
    [
        ("vpq_deva", "VPQ_deva", "deva_vpq"),
        ("vpq_deva", "VPQ_1246", "mean_1_2_4_6"),
        ("vpq_vipseg", "VPQ_1246", "mean_1_2_4_6"),
        ("vpq_vipseg", "VPQ_12468", "mean_1_2_4_6_8"),
        ("cityscapes_vps", "VPQ_1234", "mean_1_2_3_4"),
    ],
)
def test_every_average_equals_the_official_tool(key: str, average: str, expected_name: str, group: str):
    fixture = golden(key)
    expected = fixture.expected[expected_name][group]
    assert 100 * fixture.report.values[average + SUFFIX[group]] == pytest.approx(expected, abs=1e-9)


# The definition, literally


def brute_force(
    pairs: Sequence[Pair], window: float, *, short: str, all_crowds: bool
) -> dict[int, tuple[int, int, int, float]]:
    """TP, FP, FN and sum of IoU by category, from the pixels of every clip."""
    count = len(pairs)
    if window == math.inf or (count < window and short == "whole"):
        clips = [pairs]
    else:
        clips = [pairs[start : start + int(window)] for start in range(count - int(window) + 1)]
    totals = dict.fromkeys(CLASSES.ids, (0, 0, 0, 0.0))
    for clip in clips:
        for category, found in match_by_pixels(clip, all_crowds=all_crowds).items():
            before = totals[category]
            totals[category] = (
                before[0] + found[0],
                before[1] + found[1],
                before[2] + found[2],
                before[3] + found[3],
            )
    return totals


def match_by_pixels(clip: Sequence[Pair], *, all_crowds: bool) -> dict[int, tuple[int, int, int, float]]:
    true = np.concatenate([id_map(pair.truth.segmentation) for pair in clip], axis=1)
    pred = np.concatenate([id_map(pair.prediction) for pair in clip], axis=1)
    true_category = {s.id: s.category for pair in clip for s in pair.truth.segmentation.segments}
    pred_category = {s.id: s.category for pair in clip for s in pair.prediction.segments}
    crowd = {n for pair in clip for n in pair.truth.crowd_ids}
    found = {}
    for category in CLASSES.ids:
        trues = [n for n, c in true_category.items() if c == category and n not in crowd]
        preds = [n for n, c in pred_category.items() if c == category]
        crowds = [n for n in true_category if true_category[n] == category and n in crowd]
        forgiving = np.isin(true, [0, *(crowds if all_crowds else crowds[-1:])])
        matches = {}
        for g in trues:
            for p in preds:
                union = ((true == g) | (pred == p)) & ~((true == 0) & (pred == p))
                iou = ((true == g) & (pred == p)).sum() / union.sum()
                if iou > 0.5:
                    matches[g, p] = iou
        unmatched = [p for p in preds if p not in {p for _, p in matches}]
        false = [p for p in unmatched if not (forgiving & (pred == p)).sum() / (pred == p).sum() > 0.5]
        found[category] = (len(matches), len(false), len(trues) - len(matches), float(sum(matches.values())))
    return found


@settings(max_examples=150, deadline=None)
@given(
    tiny_videos(max_frames=5),
    tiny_videos(max_frames=2),
    st.sampled_from(["skip", "whole"]),
    st.sampled_from(["official", "paper"]),
)
def test_windows_are_what_the_definition_says(first, second, short, compat):
    windows = (1, 2, 4, math.inf)
    metric = VideoPanopticQuality(CLASSES, windows=windows, short_clips=short, compat=compat)
    run(metric, [*renamed(first, "a"), *renamed(second, "b")])
    for window in windows:
        counts = metric.counts(window)
        tables = [brute_force(pairs, window, short=short, all_crowds=compat == "paper") for pairs in (first, second)]
        qualities = []
        for n, category in enumerate(CLASSES.ids):
            tp, fp, fn = (sum(table[category][row] for table in tables) for row in range(3))
            iou = sum(table[category][3] for table in tables)
            assert (counts.tp[n], counts.fp[n], counts.fn[n]) == (tp, fp, fn)
            assert counts.iou[n] == pytest.approx(iou)
            qualities += [iou / (tp + fp / 2 + fn / 2)] if tp + fp + fn else []
        label = "inf" if window == math.inf else str(window)
        expected = np.mean(qualities) if qualities else math.nan
        assert metric.result().values[f"VPQ_{label}"] == pytest.approx(expected, nan_ok=True)


def test_a_long_video_is_one_clip_of_the_infinite_window():
    """Longer than the clips that are kept before they are joined."""
    ids = np.zeros((150, 2, 8), np.int32)
    for t in range(150):
        ids[t, :, t % 7 :] = 1 + t // 100
    pairs = [
        Pair("v", t, annotation(t, ids[t], {1: 5, 2: 5}), segmentation(t, np.roll(ids[t], 1, 1), {1: 5, 2: 5}), {})
        for t in range(150)
    ]
    counts = run(VideoPanopticQuality(CLASSES, windows=[math.inf]), pairs).counts(math.inf)
    expected = match_by_pixels(pairs, all_crowds=False)[5]
    assert (counts.tp[0], counts.fp[0], counts.fn[0]) == expected[:3] == (2, 0, 0)
    assert counts.iou[0] == pytest.approx(expected[3])


# Invariances


@settings(max_examples=30, deadline=None)
@given(tiny_videos())
def test_predicted_ids_and_left_and_right_do_not_matter(pairs):
    scores = evaluate(pairs).values
    assert evaluate([with_other_pred_ids(pair) for pair in pairs]).values == pytest.approx(scores, nan_ok=True)
    assert evaluate([flipped(pair) for pair in pairs]).values == pytest.approx(scores, nan_ok=True)


@settings(max_examples=30, deadline=None)
@given(tiny_videos())
def test_a_perfect_prediction_scores_one_wherever_it_is_defined(pairs):
    # Officially only one crowd tube of a class forgives, so that even the truth itself may hold a false positive.
    scores = evaluate([perfect(pair) for pair in pairs], compat="paper").values.values()
    assert all(math.isnan(score) or score == 1 for score in scores)


@settings(max_examples=30, deadline=None)
@given(tiny_videos(crowd=False))
def test_an_empty_prediction_misses_every_tube(pairs):
    metric = run(VideoPanopticQuality(CLASSES, windows=[1]), [empty(pair) for pair in pairs])
    counts = metric.counts(1)
    assert counts.fn.sum() == sum(len(pair.truth.segmentation.segments) for pair in pairs)
    assert counts.tp.sum() == counts.fp.sum() == 0


# The traps, one by one


def frame(
    true_ids: Sequence[int],
    pred_ids: Sequence[int],
    *,
    true: dict[int, int],
    pred: dict[int, int],
    crowd: Sequence[int] = (),
    areas: dict[int, int] | None = None,
) -> Pair:
    """A frame of one row."""
    truth = annotation(0, np.array([true_ids], np.int32), true, crowd)
    return Pair("v", 0, truth, segmentation(0, np.array([pred_ids], np.int32), pred), areas or {})


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        pytest.param(
            frame([1, 1, 0, 0], [3, 3, 3, 3], true={1: 5}, pred={3: 5}), (1, 0, 0), id="void is not in the union"
        ),
        pytest.param(
            frame([1, 1, 2, 2], [3, 3, 3, 3], true={1: 5, 2: 2}, pred={3: 5}),
            (0, 1, 1),
            id="half is not more than half",
        ),
        pytest.param(
            frame([1, 1, 1, 1], [3, 3, 3, 3], true={1: 5}, pred={3: 2}), (0, 0, 1), id="another class does not match"
        ),
        pytest.param(
            frame([0, 0, 0, 1], [3, 3, 3, 4], true={1: 5}, pred={3: 5, 4: 5}), (1, 0, 0), id="most of it on void"
        ),
        pytest.param(
            frame([0, 0, 1, 1], [3, 3, 3, 3], true={1: 2}, pred={3: 5}),
            (0, 1, 0),
            id="half of it on void is too little",
        ),
        pytest.param(
            frame([7, 7, 7, 1], [3, 3, 3, 4], true={7: 5, 1: 5}, pred={3: 5, 4: 5}, crowd=[7]),
            (1, 0, 0),
            id="a crowd is neither missed nor matched, and forgives",
        ),
        pytest.param(
            frame([7, 7, 7, 1], [3, 3, 3, 4], true={7: 2, 1: 5}, pred={3: 5, 4: 5}, crowd=[7]),
            (1, 1, 0),
            id="the crowd of another class does not forgive",
        ),
        pytest.param(
            frame([1, 1, 7, 7], [3, 3, 3, 3], true={1: 5, 7: 5}, pred={3: 5}, crowd=[7]),
            (0, 1, 1),
            id="crowd is in the union",
        ),
        pytest.param(
            frame([0, 0, 0, 0], [3, 3, 4, 4], true={}, pred={3: 5, 4: 5}), (0, 0, 0), id="void-only ground truth"
        ),
    ],
)
def test_a_cat_counts_as(pair: Pair, expected: tuple[int, int, int]):
    counts = run(VideoPanopticQuality(CLASSES, windows=[1]), [pair]).counts(1)
    assert (counts.tp[0], counts.fp[0], counts.fn[0]) == expected


@pytest.mark.parametrize(("compat", "false_positives"), [("official", 1), ("paper", 0)])
def test_officially_only_the_last_listed_crowd_of_a_class_forgives(compat, false_positives):
    pair = frame([7, 7, 7, 8], [3, 3, 3, 3], true={7: 5, 8: 5}, pred={3: 5}, crowd=[7, 8])
    metric = run(VideoPanopticQuality(CLASSES, windows=[1], compat=compat), [pair])
    assert metric.counts(1).fp[0] == false_positives


@pytest.mark.parametrize("ids", [pytest.param((8, 7), id="smaller id last"), pytest.param((7, 8), id="larger id last")])
def test_a_crowd_that_appears_later_in_the_clip_is_listed_later(ids):
    first, last = ids
    early = frame([first] * 4, [3] * 4, true={first: 5}, pred={3: 5}, crowd=[first])
    late = frame([last] * 4, [0] * 4, true={last: 5}, pred={}, crowd=[last])
    pairs = [early, Pair("v", 1, late.truth, late.prediction, {})]
    assert run(VideoPanopticQuality(CLASSES, windows=[2]), pairs).counts(2).fp[0] == 1


@pytest.mark.parametrize(("compat", "iou"), [("official", 3 / 5), ("paper", 3 / 4)])
def test_officially_listed_areas_are_taken_and_a_wrong_one_is_reported(compat, iou):
    pair = frame([1, 1, 1, 1], [3, 3, 3, 0], true={1: 5}, pred={3: 5}, areas={1: 5})
    metric = VideoPanopticQuality(CLASSES, windows=[1], compat=compat)
    with pytest.warns(MaskstreamWarning, match="v, frame 0: the listed area of segment 1 is 5, but it has 4 pixels"):
        run(metric, [pair], use_areas=True)
    assert metric.counts(1).iou[0] == pytest.approx(iou)
    assert any("On 1 frames a listed area" in note for note in metric.result().notes)


def test_a_listed_area_that_makes_the_iou_exceed_one_is_an_error():
    pair = frame([1, 1, 1, 1], [3, 3, 3, 3], true={1: 5}, pred={3: 5}, areas={1: 2})
    with (
        pytest.warns(MaskstreamWarning, match="listed area"),
        pytest.raises(InputError, match=r"v, frame 0: true segment 1 has more pixels than its listed area"),
    ):
        run(VideoPanopticQuality(CLASSES, windows=[1]), [pair], use_areas=True)
    with (
        pytest.warns(MaskstreamWarning, match="listed area"),
        pytest.raises(InputError, match=r"^v: true segment 1 has more pixels"),
    ):
        run(VideoPanopticQuality(CLASSES, windows=[math.inf]), [pair], use_areas=True)


def test_a_tube_has_the_category_of_its_first_frame_in_the_clip():
    ids = np.ones((1, 4), np.int32)
    pairs = [
        Pair("v", t, annotation(t, ids, {1: 5}), segmentation(t, ids, {1: category}), {})
        for t, category in enumerate((5, 2))
    ]
    metric = run(VideoPanopticQuality(CLASSES, windows=[1, 2]), pairs)
    assert metric.counts(1).tp.tolist() == [1, 0, 0, 0]
    assert metric.counts(2).tp.tolist() == [1, 0, 0, 0]
    assert metric.counts(2).fp.sum() == 0


@pytest.mark.parametrize(("short_clips", "clips"), [("whole", 1), ("skip", 0)])
def test_a_video_shorter_than_the_window_is_one_clip_or_none(short_clips, clips):
    ids = np.ones((1, 4), np.int32)
    pairs = [Pair("v", t, annotation(t, ids, {1: 5}), segmentation(t, ids, {1: 5}), {}) for t in range(3)]
    metric = run(VideoPanopticQuality(CLASSES, windows=[4, math.inf], short_clips=short_clips), pairs)
    assert metric.counts(4).tp[0] == clips
    assert metric.counts(math.inf).tp[0] == 1


def test_void_marked_on_a_segment_counts_for_nothing():
    ids = np.array([[1, 1, 1, 1]], np.int32)
    void = torch.tensor([[False, False, True, True]])
    truth = FrameAnnotation(segmentation(0, ids, {1: 5}), void)
    pair = Pair("v", 0, truth, segmentation(0, np.array([[3, 3, 0, 0]], np.int32), {3: 5}), {})
    assert evaluate([pair], windows=[1]).values["VPQ_1"] == 1


def test_frames_nobody_annotated_are_passed_over():
    ids = np.ones((1, 4), np.int32)
    truths = [FrameAnnotation(segmentation(t, ids, {1: 5}), annotated=t % 2 == 0) for t in range(5)]
    pairs = [Pair("v", t, truth, segmentation(t, ids, {1: 5}), {}) for t, truth in enumerate(truths)]
    counts = run(VideoPanopticQuality(CLASSES, windows=[2], short_clips="skip"), pairs).counts(2)
    assert counts.tp[0] == 2


def test_named_groups_are_averaged_beside_things_and_stuff():
    pair = frame([1, 2, 3, 4], [1, 2, 3, 0], true={1: 5, 2: 2, 3: 0, 4: 9}, pred={1: 5, 2: 0, 3: 0})
    values = evaluate([pair], windows=[1], groups={"rare": [5, 9]}).values
    assert values["VPQ_1_rare"] == pytest.approx((1 + 0) / 2)
    assert values["VPQ_1_things"] == pytest.approx((1 + 0) / 2)
    assert values["VPQ_1_stuff"] == pytest.approx((1 / 1.5 + 0) / 2)
    assert values["VPQ_1"] == pytest.approx((1 + 0 + 1 / 1.5 + 0) / 4)


def test_a_group_without_a_tube_is_undefined():
    pair = frame([1, 1], [1, 1], true={1: 5}, pred={1: 5})
    values = evaluate([pair]).values
    assert math.isnan(values["VPQ_1_stuff"]) and math.isnan(values["VPQ_deva_stuff"])
    assert values["VPQ_deva"] == 1


def test_each_video_has_its_own_scores():
    good = frame([1, 1], [1, 1], true={1: 5}, pred={1: 5})
    report = evaluate([*renamed([good], "a"), *renamed([empty(good)], "b")], windows=[1])
    assert report.per_video["a"]["VPQ_1"] == 1
    assert report.per_video["b"]["VPQ_1"] == 0
    assert report.values["VPQ_1"] == pytest.approx(1 / 1.5)


def test_ids_and_areas_beyond_a_byte_are_kept():
    ids = np.full((40, 40), 70_000, np.int32)
    ids[:, 20:] = 70_000 + 2**16
    pair = Pair("v", 0, annotation(0, ids, {70_000: 5, 70_000 + 2**16: 5}), segmentation(0, ids, {70_000: 5}), {})
    counts = run(VideoPanopticQuality(CLASSES, windows=[1]), [pair]).counts(1)
    assert (counts.tp[0], counts.fn[0]) == (1, 1)


def test_averages_appear_when_their_windows_are_there():
    vpq = {float(k): 1 / k for k in (1, 2, 3, 4, 6)}
    averages = named_averages(vpq)
    assert set(averages) == {"VPQ_1246", "VPQ_1234"}
    assert averages["VPQ_1246"] == pytest.approx((1 + 1 / 2 + 1 / 4 + 1 / 6) / 4)


# Bad input


def test_bad_frames_are_errors_that_name_video_and_frame():
    good = frame([1, 1], [3, 3], true={1: 5}, pred={3: 5})
    metric = VideoPanopticQuality(CLASSES, windows=[1])

    def update(truth: FrameAnnotation, prediction: FrameSegmentation, areas: dict[int, int] | None = None) -> None:
        metric.update("v", 0, truth, prediction, areas)

    unlisted = FrameSegmentation(0, (1, 2), (), LabelMap(torch.ones((1, 2), dtype=torch.int32)))
    with pytest.raises(InputError, match="v, frame 0: the prediction has a pixel of segment number 1, but lists 0"):
        update(good.truth, unlisted)
    with pytest.raises(InputError, match="v, frame 0: the ground truth has a pixel of segment number 1"):
        update(FrameAnnotation(unlisted), good.prediction)
    with pytest.raises(InputError, match="v, frame 0: segment 3 of the prediction has the category 77"):
        update(good.truth, segmentation(0, np.array([[3, 3]], np.int32), {3: 77}))
    no_category = FrameSegmentation(0, (1, 2), (Segment(1, 1),), LabelMap(torch.ones((1, 2), dtype=torch.int32)))
    with pytest.raises(InputError, match="v, frame 0: segment 1 of the ground truth has the category None"):
        update(FrameAnnotation(no_category), good.prediction)
    with pytest.raises(InputError, match="v, frame 0: the prediction is 1×3 but the ground truth 1×2"):
        update(good.truth, segmentation(0, np.array([[3, 3, 3]], np.int32), {3: 5}))
    with pytest.raises(InputError, match="v, frame 0: true segment 1 has no listed area"):
        update(good.truth, good.prediction, {2: 2})
    update(good.truth, good.prediction)
    with pytest.raises(InputError, match="v, frame 0: came after frame 0"):
        update(good.truth, good.prediction)


@pytest.mark.parametrize("windows", [[], [0], [-1, 2], [1.5]])
def test_windows_must_be_whole_and_positive(windows):
    with pytest.raises(InputError, match="VPQ needs windows"):
        VideoPanopticQuality(CLASSES, windows=windows)


def test_a_group_of_unknown_categories_is_an_error():
    with pytest.raises(InputError, match=r"the group 'rare' names \[77\]"):
        VideoPanopticQuality(CLASSES, groups={"rare": [77, 5]})


def test_a_video_without_frames_or_without_truth_is_undefined_and_not_zero():
    metric = VideoPanopticQuality(CLASSES)
    metric.end_sequence("nothing")
    assert math.isnan(metric.result().values["VPQ_1"])
    void_only = frame([0, 0], [0, 0], true={}, pred={})
    assert math.isnan(evaluate([void_only]).values["VPQ_inf"])
