import math
from itertools import permutations
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from maskstream.metrics.lvos import Lvos, LvosObject, LvosUnsupervised
from maskstream.types import FrameAnnotation, InputError

from .fixtures_vos import assert_golden, feed, frame_of_labels, golden_cases
from .literal_jf import literal_f, literal_j

_videos = st.tuples(st.integers(2, 4), st.integers(2, 4)).flatmap(
    lambda size: hnp.arrays(np.int32, (2, 6, *size), elements=st.integers(0, 2))
)


@pytest.mark.parametrize("folder, path", golden_cases("lvos"))
def test_lvos_equals_the_official_tool(folder, path):
    assert_golden(folder, path, 1e-9)


@settings(deadline=None)
@given(_videos)
def test_objects_are_scored_within_their_own_ranges_and_stability_is_rounded(video):
    # Frames 1, 6, …, 26; object 2 lives from 6 to 21, so 11 and 16 count.
    metric = Lvos({"v": {1: LvosObject(1, 26), 2: LvosObject(6, 21)}}, unseen_videos=[])
    feed(metric, "v", *video, first=1, step=5)
    rows = metric.result().per_video
    for o, counted in ((1, range(1, 5)), (2, range(2, 4))):
        masks = [(video[1, t] == o, video[0, t] == o) for t in counted]
        j, f = ([score(*pair) for pair in masks] for score in (literal_j, literal_f))
        jf = [(a + b) / 2 for a, b in zip(j, f, strict=True)]
        middle = sum(jf) / len(jf)
        variance = sum((middle - value) ** 2 for value in jf) / len(jf)
        row = rows[f"v/{o}"]
        assert row["J"] == pytest.approx(sum(j) / len(j))
        assert row["F"] == pytest.approx(sum(f) / len(f))
        # A variance that lies halfway may be rounded either way by the last bit.
        assert row["V"] ** 2 == pytest.approx(variance, abs=0.500001e-4)
        assert row["V"] ** 2 * 1e4 == pytest.approx(round(row["V"] ** 2 * 1e4), abs=1e-6)


def _metric():
    objects = {video: {1: LvosObject(1, 16)} for video in ("old", "new", "newer")}
    return Lvos(objects, unseen_videos=["new", "newer"])


def _labels(covered):
    """Two frames count, of which the object is found or not."""
    here, gone = np.ones((1, 2), int), np.zeros((1, 2), int)
    return [here] * 4, [here, *(here if hit else gone for hit in covered), here]


def test_seen_and_unseen_videos_weigh_the_same():
    metric = _metric()
    feed(metric, "old", *_labels([True, True]), first=1, step=5)
    feed(metric, "new", *_labels([True, False]), first=1, step=5)
    feed(metric, "newer", *_labels([False, False]), first=1, step=5)
    values = metric.result().values
    assert (values["J-seen"], values["J-unseen"], values["J-Mean"]) == (1, 0.25, 0.625)
    assert (values["V-seen"], values["V-Mean"]) == (0, values["V-unseen"] / 2)


def test_without_unseen_videos_the_mean_is_undefined_and_a_note_says_so():
    metric = _metric()
    feed(metric, "old", *_labels([True, True]), first=1, step=5)
    report = metric.result()
    assert report.values["J-seen"] == 1
    assert math.isnan(report.values["J&F-Mean"])
    assert report.notes == ("no unseen video: means over both groups are undefined",)


def test_an_unknown_video_and_a_missing_frame_are_refused_by_name():
    frame = frame_of_labels([[1]])
    metric = _metric()
    with pytest.raises(InputError, match="stranger: no such video in the meta file"):
        metric.update("stranger", 1, FrameAnnotation(frame), frame)
    metric.update("old", 1, FrameAnnotation(frame), frame)
    metric.update("old", 6, FrameAnnotation(frame), frame)
    with pytest.raises(InputError, match="old, frame 11: object 1 is scored on this frame"):
        metric.end_sequence("old")


def test_an_object_whose_range_leaves_nothing_to_score_is_refused():
    metric = Lvos({"v": {1: LvosObject(1, 6)}}, unseen_videos=[])
    with pytest.raises(InputError, match="v: object 1 has no frame to score"):
        feed(metric, "v", [np.ones((1, 1), int)] * 2, [np.ones((1, 1), int)] * 2, first=1, step=5)


def test_resampled_videos_stay_in_their_groups():
    metric = _metric()
    feed(metric, "old", *_labels([True, True]), first=1, step=5)
    feed(metric, "new", *_labels([False, False]), first=1, step=5)
    intervals = metric.bootstrap(samples=50)
    assert intervals["J-seen"] == (1, 1)
    assert intervals["J-unseen"] == (0, 0)


# Without prompts

# Frames 1, 6, 11, 16; object 2 lives from 6 to 16.
_RANGES = {1: LvosObject(1, 16), 2: LvosObject(6, 16)}
_LIVED = {1: range(4), 2: range(1, 4)}
_short_videos = st.tuples(st.integers(2, 4), st.integers(2, 4)).flatmap(
    lambda size: hnp.arrays(np.int32, (2, 4, *size), elements=st.integers(0, 3))
)


def _frames_of(o, compat):
    """The frames of an object that are looked at, and how many its mean divides by."""
    lived = _LIVED[o]
    return (lived[:-1] if compat == "official" else lived), len(lived)


@pytest.mark.parametrize("compat", ["official", "paper"])
@settings(deadline=None, max_examples=30)
@given(_short_videos)
def test_unsupervised_objects_get_the_proposals_that_maximise_the_mean_score(compat, video):
    truth, pred = video
    metric = LvosUnsupervised({"v": _RANGES}, unseen_videos=[], compat=compat)
    feed(metric, "v", truth, pred, first=1, step=5)
    rows = metric.result().per_video
    scores = {}
    for p in range(1, 21):
        for o in _RANGES:
            frames, count = _frames_of(o, compat)
            pairs = [(pred[t] == p, truth[t] == o) for t in frames]
            scores[p, o] = tuple(sum(score(*pair) for pair in pairs) / count for score in (literal_j, literal_f))
    # Of the proposals that are empty, two are enough to choose from.
    best = max(sum(scores[p, 1]) + sum(scores[q, 2]) for p, q in permutations(range(1, 6), 2))
    found = {o: (rows[f"v/{o}"]["J"], rows[f"v/{o}"]["F"]) for o in _RANGES}
    assert sum(map(sum, found.values())) == pytest.approx(best)
    for o, both in found.items():
        assert any(both == pytest.approx(scores[p, o]) for p in range(1, 21))


@pytest.mark.parametrize("compat", ["official", "paper"])
@settings(deadline=None, max_examples=30)
@given(_short_videos)
def test_a_salient_mask_is_compared_with_every_object(compat, video):
    truth, pred = video
    metric = LvosUnsupervised({"v": _RANGES}, unseen_videos=[], task="single", compat=compat)
    feed(metric, "v", truth, pred, first=1, step=5)
    for o in _RANGES:
        frames, count = _frames_of(o, compat)
        row = metric.result().per_video[f"v/{o}"]
        for column, score in (("J", literal_j), ("F", literal_f)):
            assert row[column] == pytest.approx(sum(score(pred[t] > 0, truth[t] == o) for t in frames) / count)


def test_officially_the_last_frame_of_a_range_is_lost():
    here = [np.array([[1, 0]])] * 4
    conventions: list[tuple[Literal["official", "paper"], float]] = [("official", 3 / 4), ("paper", 1)]
    for compat, expected in conventions:
        metric = LvosUnsupervised({"v": {1: LvosObject(1, 16)}}, unseen_videos=[], compat=compat)
        feed(metric, "v", here, here, first=1, step=5)
        assert metric.result().values["J-seen"] == expected


def test_ids_above_twenty_are_no_proposals():
    truth = [np.array([[1, 0]])] * 2
    metric = LvosUnsupervised({"v": {1: LvosObject(1, 6)}}, unseen_videos=[], compat="paper")
    feed(metric, "v", truth, [21 * frame for frame in truth], first=1, step=5)
    assert metric.result().values["J-seen"] == 0


def test_an_object_for_which_no_proposal_is_left_scores_zero():
    objects = {o: LvosObject(1, 6) for o in range(1, 23)}
    truth = [np.arange(1, 23)[None]] * 2
    metric = LvosUnsupervised({"v": objects}, unseen_videos=[], compat="paper")
    feed(metric, "v", truth, truth, first=1, step=5)
    assert sorted(row["J"] for row in metric.result().per_video.values()) == [0] * 2 + [1] * 20
