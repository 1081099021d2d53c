import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from maskstream.metrics.viposeg import (
    GROUPS,
    OTHER_MACHINE_UNSEEN_VIDEOS,
    THINGS,
    UNSEEN_STUFF,
    UNSEEN_THINGS,
    Viposeg,
    ViposegCurve,
    ViposegObject,
    viposeg_group,
)
from maskstream.types import FrameAnnotation, InputError

from .fixtures_vos import assert_golden, feed, frame_of_labels, golden_cases
from .literal_jf import literal_boundary_iou, literal_j

# One object a group; two of them enter later.
OBJECTS = {1: ViposegObject(2, 0), 2: ViposegObject(46, 0), 3: ViposegObject(0, 1), 4: ViposegObject(5, 2)}
_videos = st.tuples(st.integers(2, 5), st.integers(2, 5)).flatmap(
    lambda size: hnp.arrays(np.int32, (2, 5, *size), elements=st.integers(0, 4))
)


@pytest.mark.parametrize("folder, path", golden_cases("viposeg"))
def test_viposeg_equals_the_official_tool(folder, path):
    assert_golden(folder, path, 1e-9)


def _literal(truth, pred):
    """Mask and boundary IoU of every object and frame after the one on which it is given, with the crowd so far."""
    pooled = []
    for t in range(len(truth)):
        introduced = [o for o, known in OBJECTS.items() if known.given < t]
        for o in introduced:
            p, g = pred[t] == o, truth[t] == o
            if p.any() and g.any():
                both = literal_j(p, g), literal_boundary_iou(p, g, 1)
            else:
                both = (float(not p.any() and not g.any()),) * 2
            pooled.append((o, *both, len(introduced)))
    return pooled


@settings(deadline=None)
@given(_videos)
def test_values_are_pooled_over_objects_and_frames_of_a_group(video):
    metric = Viposeg({"v": OBJECTS})
    feed(metric, "v", *video)
    values = metric.result().values
    pooled = _literal(*video)
    groups = []
    for o, group in enumerate(GROUPS, 1):
        own = [(mask, boundary) for owner, mask, boundary, _ in pooled if owner == o]
        mask, boundary = np.mean(own, axis=0)
        assert values[f"{group}_miou"] == pytest.approx(mask)
        assert values[f"{group}_biou"] == pytest.approx(boundary)
        assert values[f"{group}_iou"] == pytest.approx((mask + boundary) / 2)
        groups += [mask, boundary]
    assert values["overall_iou"] == pytest.approx(np.mean(groups))
    crowds = sorted({k for *_, k in pooled})
    y = [np.mean([(mask + boundary) / 2 for _, mask, boundary, k in pooled if k == crowd]) for crowd in crowds]
    if min(y) > 0:
        x = np.array(crowds) / 100
        slope = np.linalg.lstsq(x[:, None], -np.log(y), rcond=None)[0][0]
        assert values["decay"] == pytest.approx(slope, abs=1e-9)
    else:
        assert values["decay"] == math.inf


def test_every_crowd_size_weighs_the_same_and_sixty_or_more_take_no_part():
    crowd = np.array([1, 1, 1, 50, 60, 80])
    ious = np.exp(-0.7 * np.array([1, 1, 1, 50, 0, 0]) / 100)
    assert _decay(crowd, ious) == pytest.approx(0.7)
    assert math.isnan(_decay(np.array([60, 70]), np.array([0.5, 0.5])))


def _decay(crowd, ious):
    metric = Viposeg({"v": {1: ViposegObject(2, 0)}})
    curve = ViposegCurve(group=GROUPS[0], frames=np.arange(len(crowd)), mask=ious, boundary=ious, crowd=crowd)
    return metric.values({"v": {1: curve}})["decay"]


def test_classes_fall_into_the_published_groups():
    counts = {group: sum(viposeg_group(c, "elsewhere") == group for c in range(124)) for group in GROUPS}
    assert counts == {"thing_seen": 41, "thing_unseen": 17, "stuff_seen": 49, "stuff_unseen": 17}
    assert len(THINGS) == 58
    assert UNSEEN_THINGS <= THINGS
    assert not UNSEEN_STUFF & THINGS


def test_other_machine_is_unseen_in_the_listed_videos_only():
    assert len(OTHER_MACHINE_UNSEEN_VIDEOS) == 23
    assert viposeg_group(98, "187_WUZUSD4477I") == "stuff_unseen"
    assert viposeg_group(98, "15_xx") == "stuff_seen"


def test_a_perfect_prediction_scores_one_and_does_not_decay():
    labels = np.tile(np.arange(1, 5).repeat(3), (5, 6, 1))
    metric = Viposeg({"v": OBJECTS})
    feed(metric, "v", labels, labels)
    values = metric.result().values
    assert values.pop("decay") == 0
    assert set(values.values()) == {1}


def test_a_group_without_objects_leaves_the_overall_score_undefined():
    metric = Viposeg({"v": {1: OBJECTS[1]}})
    feed(metric, "v", np.ones((3, 2, 2), int), np.ones((3, 2, 2), int))
    report = metric.result()
    assert report.values["thing_seen_iou"] == 1
    assert math.isnan(report.values["overall_iou"])
    assert "stuff_unseen" in report.notes[0]


def test_unknown_videos_and_classes_are_refused_by_name():
    frame = frame_of_labels([[1]])
    with pytest.raises(InputError, match="stranger: no such video"):
        Viposeg({"v": OBJECTS}).update("stranger", 0, FrameAnnotation(frame), frame)
    with pytest.raises(InputError, match="v: ended without an annotated frame"):
        Viposeg({"v": OBJECTS}).end_sequence("v")
    with pytest.raises(InputError, match="v: object 1 has class 124"):
        Viposeg({"v": {1: ViposegObject(124, 0)}})
