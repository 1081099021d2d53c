import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from maskstream.metrics.davis_unsupervised import DavisUnsupervised
from maskstream.metrics.referring import Mevis, RefCoco, RefDavis, RefYoutubeVos
from maskstream.types import FrameAnnotation, InputError

from .fixtures_vos import assert_golden, feed, frame_of_labels, frame_of_masks, golden_cases
from .literal_jf import literal_f, literal_j

_videos = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5)).flatmap(
    lambda size: hnp.arrays(np.int32, (2, *size), elements=st.integers(0, 2))
)


@pytest.mark.parametrize("folder, path", golden_cases("ref_davis", "mevis"))
def test_referring_scores_equal_the_official_tools(folder, path):
    assert_golden(folder, path, 1e-9)


@settings(deadline=None)
@given(_videos, _videos)
def test_expressions_are_scored_on_the_union_of_their_targets_on_every_frame(one, other):
    for metric in (Mevis(), RefYoutubeVos()):
        expected = []
        for name, (truth, pred) in {"v/0": one, "v/1": other}.items():
            feed(metric, name, truth, pred)
            frames = range(len(truth))
            expected.append([np.mean([s(pred[t] > 0, truth[t] > 0) for t in frames]) for s in (literal_j, literal_f)])
        values = metric.result().values
        assert (values["J"], values["F"]) == pytest.approx(tuple(np.mean(expected, axis=0)))
        assert values["J&F"] == (values["J"] + values["F"]) / 2


def test_targets_of_an_expression_may_overlap():
    truth = frame_of_masks({1: np.array([[1, 1, 0]]), 2: np.array([[0, 1, 1]])}, size_hw=(1, 3))
    metric = Mevis()
    feed(metric, "v/0", [truth], [np.array([[255, 255, 255]])])
    assert metric.result().values["J"] == 1


def test_an_expression_without_any_prediction_scores_zero_and_is_noted():
    metric = Mevis()
    feed(metric, "v/0", [np.zeros((2, 2), int)], [np.zeros((2, 2), int)])
    metric.end_sequence("v/1")
    report = metric.result()
    assert (report.values["J"], report.values["F"]) == pytest.approx((0.5, 0.5))
    assert report.notes == ("1 expressions without any prediction score 0, first v/1",)


def test_hidden_labels_of_ref_youtube_vos_are_refused_with_the_reason():
    frame = frame_of_labels([[1]])
    metric = RefYoutubeVos()
    with pytest.raises(InputError, match="v/0, frame 5: the labels of Ref-YouTube-VOS validation are not public"):
        metric.update("v/0", 5, FrameAnnotation(frame, annotated=False), frame)
    with pytest.raises(InputError, match="ended without a frame"):
        metric.end_sequence("v/1")


def test_ref_davis_is_the_mean_of_four_unsupervised_runs():
    draw = np.random.default_rng(0)
    truth = {video: draw.integers(0, 3, (4, 9, 9)) for video in ("a", "b")}
    metric, runs = RefDavis(), []
    for annotator in metric.annotators:
        runs.append(DavisUnsupervised())
        for video, labels in truth.items():
            pred = np.where(draw.random(labels.shape) < 0.7, labels, 0)
            feed(metric, f"{annotator}/{video}", labels, pred)
            feed(runs[-1], video, labels, pred)
    report = metric.result()
    for column, value in report.values.items():
        assert value == pytest.approx(np.mean([run.result().values[column] for run in runs]), abs=1e-15)
    assert report.per_video["anno_2"] == runs[2].result().values
    assert report.per_video["anno_3/b/1"] == runs[3].result().per_video["b/1"]


def test_ref_davis_needs_every_video_from_four_annotators():
    frame = frame_of_labels([[1, 0]])
    metric = RefDavis()
    with pytest.raises(InputError, match="dogs: a sequence of Ref-DAVIS is named anno_A/video"):
        metric.update("dogs", 0, FrameAnnotation(frame), frame)
    for name in ("anno_0/dogs", "anno_1/dogs", "anno_3/dogs"):
        feed(metric, name, [frame], [frame])
    with pytest.raises(InputError, match="anno_2/dogs is missing"):
        metric.result()


def test_refcoco_pools_pixels_for_ciou_and_averages_expressions_for_giou():
    pairs = {
        "large/0": ([[1, 1, 1, 1, 1, 1, 1, 1]], [[1, 1, 1, 1, 1, 1, 0, 0]]),  # 6 of 8
        "small/0": ([[0, 1, 1, 0]], [[0, 0, 1, 0]]),  # 1 of 2
        "wrong/0": ([[1, 1]], [[0, 0]]),  # 0 of 2
        "nothing/0": ([[0, 0]], [[0, 0]]),  # right to say nothing
    }
    metric = RefCoco()
    for name, (truth, pred) in pairs.items():
        feed(metric, name, [np.array(truth)], [np.array(pred)])
    values = metric.result().values
    assert values["cIoU"] == 7 / 12
    assert values["gIoU"] == (0.75 + 0.5 + 0 + 1) / 4
    # A half is not more than a half.
    assert [values[f"P@{t}"] for t in (0.5, 0.6, 0.7, 0.8, 0.9)] == [0.5, 0.5, 0.5, 0.25, 0.25]
    with pytest.raises(InputError, match="x, frame 1: an expression of RefCOCO has exactly one image"):
        feed(metric, "x", [np.ones((1, 1), int)] * 2, [np.ones((1, 1), int)] * 2)


def test_without_expressions_every_value_is_undefined():
    for metric in (Mevis(), RefYoutubeVos(), RefCoco(), RefDavis()):
        assert all(math.isnan(value) for value in metric.result().values.values())


def test_the_four_readings_of_a_video_are_drawn_together():
    metric = RefDavis()
    right, wrong = np.ones((2, 2), int), np.zeros((2, 2), int)
    for n in range(6):
        for a, annotator in enumerate(metric.annotators):
            feed(metric, f"{annotator}/v{n}", [right], [right if (n + a) % 2 else wrong])
    # Each video is half right whoever reads it, so that drawing videos changes nothing.
    assert metric.bootstrap(samples=50)["J-Mean"] == pytest.approx((0.5, 0.5))


def test_expressions_of_a_video_are_drawn_together():
    metric = Mevis()
    for n in range(6):
        for expression in range(2):
            feed(metric, f"v{n}/{expression}", [np.ones((2, 2), int)], [np.full((2, 2), expression)])
    assert metric.bootstrap(samples=50)["J"] == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize("allow_missing", [False, True])
def test_one_missing_frame_of_an_expression_is_no_missing_expression(allow_missing):
    metric = Mevis()
    truth = FrameAnnotation(frame_of_labels([[0, 1]]))
    metric.update("v/0", 0, truth, frame_of_labels([[0, 1]]), allow_missing=allow_missing)
    metric.update("v/0", 1, truth, None, allow_missing=allow_missing)
    if allow_missing:
        metric.end_sequence("v/0")
        assert metric.result().values["J"] == 0.5
    else:
        with pytest.raises(InputError, match="v/0, frame 1: there is no prediction"):
            metric.end_sequence("v/0")
