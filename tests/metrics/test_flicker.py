from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from maskstream.metrics.flicker import Flicker, Motion, changed_fraction
from maskstream.types import FrameSegmentation, InputError, LabelMap, Segment

from .fixtures_panoptic import Pair, renamed, segmentation, tiny_videos

LEFT = np.array([[1, 1, 0, 0]], np.int32)
RIGHT = np.array([[0, 0, 1, 1]], np.int32)
NAN = math.nan


def flow(x: float, y: float = 0.0, *, width: int = 4) -> NDArray[np.float32]:
    return np.tile(np.array([x, y], np.float32), (1, width, 1))


def run(metric: Flicker, pairs: list[Pair]) -> Flicker:
    for name in dict.fromkeys(pair.sequence_id for pair in pairs):
        for pair in pairs:
            if pair.sequence_id == name:
                metric.update(name, pair.frame_index, None, pair.prediction)
        metric.end_sequence(name)
    return metric


@pytest.mark.parametrize(
    ("after", "motion", "expected"),
    [
        pytest.param(LEFT, None, 0.0, id="nothing moved"),
        pytest.param(RIGHT, None, 1.0, id="everything changed"),
        pytest.param(RIGHT, Motion(flow(-2)), 0.0, id="it moved two to the right, and two pixels came from outside"),
        pytest.param(RIGHT, Motion(flow(-1)), 2 / 3, id="it moved further than the flow says"),
        pytest.param(RIGHT, Motion(flow(-1.4)), 2 / 3, id="the nearest pixel is compared"),
        pytest.param(
            RIGHT, Motion(flow(-1), np.array([[True, True, True, False]])), 1 / 2, id="a hidden pixel is left out"
        ),
        pytest.param(RIGHT, Motion(flow(-4)), NAN, id="everything came from outside"),
        pytest.param(RIGHT, Motion(flow(0, 1)), NAN, id="everything came from below"),
        pytest.param(RIGHT, Motion(flow(NAN)), NAN, id="no pixel has a flow"),
    ],
)
def test_changed_fraction_counts_pixels_that_lost_their_label(after, motion, expected):
    assert changed_fraction(LEFT, after, motion) == pytest.approx(expected, nan_ok=True)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_changed_fraction_along_a_flow_is_what_a_loop_over_pixels_finds(data):
    before, after = (
        np.array(data.draw(st.lists(st.integers(0, 2), min_size=12, max_size=12)), np.int32).reshape(3, 4)
        for _ in range(2)
    )
    numbers = st.floats(-3, 3, width=32)
    motion = np.array(data.draw(st.lists(numbers, min_size=24, max_size=24)), np.float32).reshape(3, 4, 2)
    visible = np.array(data.draw(st.lists(st.booleans(), min_size=12, max_size=12))).reshape(3, 4)
    changed = []
    for y in range(3):
        for x in range(4):
            from_x, from_y = (int(np.rint(np.float32(p) + d)) for p, d in zip((x, y), motion[y, x], strict=True))
            if visible[y, x] and 0 <= from_x < 4 and 0 <= from_y < 3:
                changed.append(before[from_y, from_x] != after[y, x])
    expected = np.mean(changed) if changed else math.nan
    assert changed_fraction(before, after, Motion(motion, visible)) == pytest.approx(expected, nan_ok=True)


@settings(max_examples=30, deadline=None)
@given(tiny_videos(), tiny_videos())
def test_flicker_is_the_mean_over_frames_and_then_over_videos(first, second):
    report = run(Flicker(), [*renamed(first, "a"), *renamed(second, "b")]).result()
    means = []
    for pairs in (first, second):
        maps = [pair.prediction.panoptic_map().numpy() for pair in pairs]
        if len(maps) > 1:
            means.append(np.mean([(maps[t] != maps[t - 1]).mean() for t in range(1, len(maps))]))
    expected = np.mean(means) if means else math.nan
    assert report.values["flicker"] == pytest.approx(expected, nan_ok=True)
    assert report.values["consistency"] == pytest.approx(1 - expected, nan_ok=True)


@pytest.mark.parametrize(("by", "expected"), [("track", 0.5), ("category", 0.0)])
def test_an_identity_switch_within_a_class_is_seen_by_track_only(by, expected):
    pairs = [segmentation(t, LEFT * (t + 1), {t + 1: 5}) for t in range(2)]
    metric = Flicker(by=by)
    for prediction in pairs:
        metric.update("v", prediction.frame_index, None, prediction)
    metric.end_sequence("v")
    assert metric.result().values["flicker"] == expected


def test_the_motion_of_a_frame_is_given_beside_it():
    metric = Flicker()
    metric.update("v", 0, None, segmentation(0, LEFT, {1: 5}))
    metric.update("v", 1, None, segmentation(1, RIGHT, {1: 5}), Motion(flow(-2)))
    metric.end_sequence("v")
    assert metric.result().values == {"flicker": 0.0, "consistency": 1.0}


def test_a_video_of_one_frame_is_undefined():
    metric = Flicker()
    metric.update("v", 0, None, segmentation(0, LEFT, {1: 5}))
    metric.end_sequence("v")
    assert math.isnan(metric.result().values["flicker"])


def test_bad_input_is_named():
    unlisted = FrameSegmentation(0, (1, 4), (), LabelMap(torch.from_numpy(LEFT)))
    with pytest.raises(InputError, match="v, frame 0: the prediction has a pixel of segment number 1, but lists 0"):
        Flicker().update("v", 0, None, unlisted)
    with pytest.raises(InputError, match='v, frame 0: segment 1 has no category: compare by "track"'):
        Flicker(by="category").update(
            "v", 0, None, FrameSegmentation.from_masks(0, (Segment(1, 1),), torch.ones(1, 1, 4) > 0)
        )
    metric = Flicker()
    metric.update("v", 0, None, segmentation(0, LEFT, {1: 5}))
    with pytest.raises(InputError, match=r"v, frame 1: label maps differ in size: \[1, 4\] and \[1, 2\]"):
        metric.update("v", 1, None, segmentation(1, LEFT[:, :2], {1: 5}))
    with pytest.raises(InputError, match=r"v, frame 1: the flow must be float32\[1, 4, 2\], not \[1, 3, 2\]"):
        metric.update("v", 1, None, segmentation(1, LEFT, {1: 5}), Motion(flow(0, width=3)))
    with pytest.raises(InputError, match=r"v, frame 1: visible must be bool\[1, 4\], not \[1, 2\]"):
        metric.update("v", 1, None, segmentation(1, LEFT, {1: 5}), Motion(flow(0), np.ones((1, 2), bool)))
