import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from maskstream.metrics.boundaries import Region, region_f
from maskstream.metrics.mose import MoseV2, adaptive_f, smoothed_j
from maskstream.types import FrameAnnotation, InputError

from .fixtures_vos import assert_golden, feed, frame_of_labels, golden_cases

_masks = st.tuples(st.integers(1, 5), st.integers(1, 5)).flatmap(lambda size: hnp.arrays(np.bool_, (2, *size)))
_videos = st.integers(3, 9).flatmap(lambda length: hnp.arrays(np.int32, (2, length, 2, 3), elements=st.integers(0, 2)))


@pytest.mark.parametrize("folder, path", golden_cases("mose"))
def test_mose_equals_the_official_tools(folder, path):
    assert_golden(folder, path, 1e-9)


@settings(deadline=None)
@given(_masks)
def test_smoothed_similarity_equals_its_definition(masks):
    pred, truth = masks
    expected = ((pred & truth).sum() + 1) / ((pred | truth).sum() + 1)
    assert smoothed_j(Region.of_mask(pred), Region.of_mask(truth)) == expected


@pytest.mark.parametrize(
    "side, radii",
    [
        pytest.param(10, (4, 1), id="a small object is judged more strictly"),
        pytest.param(29, (4, 3), id="its width is rounded up"),
        pytest.param(80, (3.2, 3.2), id="a large object has the unrounded radius twice"),
    ],
)
def test_tolerance_follows_the_size_of_the_object(side, radii):
    # The diagonal is 400, so that q is 3.2.
    truth, pred = np.zeros((240, 320), bool), np.zeros((240, 320), bool)
    truth[50 : 50 + side, 60 : 60 + side] = True
    pred[52 : 52 + side, 63 : 63 + side] = True
    regions = Region.of_mask(pred), Region.of_mask(truth)
    expected = tuple(region_f(*regions, radius=radius) for radius in radii)
    assert adaptive_f(*regions) == expected
    assert (expected[0] > expected[1]) == (radii[0] > radii[1])


def test_an_absent_object_is_right_only_when_nothing_is_predicted():
    empty, blob = Region.empty((240, 320)), np.zeros((240, 320), bool)
    blob[4:9, 4:9] = True
    assert (smoothed_j(empty, empty), *adaptive_f(empty, empty)) == (1, 1, 1)
    assert (smoothed_j(Region.of_mask(blob), empty), *adaptive_f(Region.of_mask(blob), empty)) == (1 / 26, 0, 0)


def _literal_runs(visible):
    """Disappearances and reappearances as lists of positions, read frame by frame."""
    gone: list[list[int]] = []
    back: list[list[int]] = []
    for t, now in enumerate(visible):
        if t and visible[t - 1] != now:
            (back if now else gone).append([])
        runs = back if now else gone
        # A run that starts the sequence is of neither kind.
        if runs and any(visible[s] != now for s in range(t)):
            runs[-1].append(t)
    return gone, back


@settings(deadline=None)
@given(_videos)
def test_runs_of_absence_and_return_are_averaged_within_and_then_over_runs(video):
    truth, pred = video
    metric = MoseV2({"v": [1, 2]})
    feed(metric, "v", truth, pred)
    report = metric.result()
    inner = range(1, len(truth) - 1)
    for o in (1, 2):
        regions = [(Region.of_mask(pred[t] == o), Region.of_mask(truth[t] == o)) for t in inner]
        j = [smoothed_j(*pair) for pair in regions]
        row = report.per_video[f"v/{o}"]
        assert row["J"] == pytest.approx(np.mean(j))
        for prefix, runs in zip(
            ("disappear", "reappear"), _literal_runs([g.area > 0 for _, g in regions]), strict=True
        ):
            expected = np.mean([np.mean([j[t] for t in run]) for run in runs]) if runs else math.nan
            assert row[f"{prefix}_J"] == pytest.approx(expected, nan_ok=True)
    for column in ("J", "disappear_J", "reappear_F_new"):
        defined = [row[column] for row in report.per_video.values() if not math.isnan(row[column])]
        assert report.values[column] == pytest.approx(np.mean(defined) if defined else math.nan, nan_ok=True)


@pytest.mark.parametrize(
    "visible, gone, back",
    [
        pytest.param("1100", 1, 0, id="vanishes"),
        pytest.param("0011", 0, 1, id="absent at first: no disappearance, but a return"),
        pytest.param("1011", 1, 1, id="vanishes and returns"),
        pytest.param("1111", 0, 0, id="always there"),
        pytest.param("0000", 0, 0, id="never there"),
    ],
)
def test_what_counts_as_disappearance_and_reappearance(visible, gone, back):
    labels = [np.full((1, 2), int(now)) for now in f"1{visible}1"]
    metric = MoseV2({"v": [1]})
    feed(metric, "v", labels, labels)
    row = metric.result().per_video["v/1"]
    assert math.isnan(row["disappear_J"]) == (not gone)
    assert math.isnan(row["reappear_J"]) == (not back)
    assert all(value == 1 for value in row.values() if not math.isnan(value))


def test_unknown_and_too_short_videos_are_refused_by_name():
    frame = frame_of_labels([[1]])
    with pytest.raises(InputError, match="stranger: no such video"):
        MoseV2({"v": [1]}).update("stranger", 0, FrameAnnotation(frame), frame)
    with pytest.raises(InputError, match="v: a sequence of 2 annotated frames has none to score"):
        feed(MoseV2({"v": [1]}), "v", [frame] * 2, [frame] * 2)
