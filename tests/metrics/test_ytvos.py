import math

import numpy as np
import pytest

from maskstream.metrics.ytvos import YoutubeObject, YoutubeVos
from maskstream.types import FrameAnnotation, InputError

from .fixtures_vos import assert_golden, feed, frame_of_labels, golden_cases


def _metric():
    objects = {
        "a": {1: YoutubeObject("dog", (0, 5, 10)), 4: YoutubeObject("yak", (5, 10))},
        "b": {1: YoutubeObject("dog", (0, 10))},
    }
    return YoutubeVos(objects, seen_categories=["dog", "cat"])


@pytest.mark.parametrize("folder, path", golden_cases("ytvos"))
def test_youtube_vos_equals_official_frames_and_the_written_convention(folder, path):
    assert_golden(folder, path, 1e-12)


def test_objects_are_scored_after_the_frame_on_which_each_is_given():
    here, both, gone = np.array([[1, 0]]), np.array([[1, 4]]), np.array([[0, 0]])
    metric = _metric()
    #                       0     5     10
    feed(metric, "a", [here, both, both], [gone, here, both], step=5)
    feed(metric, "b", [here, both, here], [here, gone, gone], step=5)
    report = metric.result()
    # Object 4 is given on frame 5, where its absence in the prediction does not count; neither does "b" on frame 5.
    assert report.per_video == {"a/1": {"J": 1, "F": 1}, "a/4": {"J": 1, "F": 1}, "b/1": {"J": 0, "F": 0}}
    assert report.values == {"G": 0.75, "Js": 0.5, "Fs": 0.5, "Ju": 1, "Fu": 1}
    assert "provenance: convention" in report.notes[0]


def test_without_unseen_objects_g_is_undefined():
    metric = _metric()
    feed(metric, "b", [np.array([[1, 0]])] * 3, [np.array([[1, 0]])] * 3, step=5)
    values = metric.result().values
    assert values["Js"] == 1
    assert math.isnan(values["G"])


def test_an_unlisted_video_and_a_missing_or_unlabelled_frame_are_refused_by_name():
    frame = frame_of_labels([[1]])
    with pytest.raises(InputError, match="stranger: no such video"):
        _metric().update("stranger", 0, FrameAnnotation(frame), frame)
    metric = _metric()
    metric.update("b", 0, FrameAnnotation(frame), frame)
    metric.update("b", 10, FrameAnnotation(frame, annotated=False), frame)
    with pytest.raises(InputError, match="b, frame 10: object 1 is scored on this frame but no annotation"):
        metric.end_sequence("b")
