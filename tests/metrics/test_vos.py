import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from maskstream.metrics.vos import Davis2016, DavisSemiSupervised, GenericVos, SaV
from maskstream.types import FrameAnnotation, FrameSegmentation, InputError, LabelMap

from .fixtures_vos import (
    SKIPS,
    assert_golden,
    davis16_report,
    feed,
    frame_of_labels,
    frame_of_masks,
    golden_cases,
    measured,
    needs_fixtures,
)
from .literal_jf import literal_f, literal_j

_sizes = st.tuples(st.integers(3, 5), st.integers(2, 5), st.integers(2, 5))


def _videos(ids):
    """Annotation and prediction, ``int[2, T, H, W]``."""
    return _sizes.flatmap(lambda size: hnp.arrays(np.int32, (2, *size), elements=st.sampled_from(ids)))


def _mean(values):
    return sum(values) / len(values)


def _row(metric, name):
    return metric.result().per_video[name]


@pytest.mark.parametrize("folder, path", golden_cases("davis"))
def test_davis_2017_equals_the_official_tool(folder, path):
    assert_golden(folder, path, 1e-12)


@pytest.mark.parametrize("folder, path", golden_cases("davis16", "vos_generic", "sav"))
def test_generic_and_sav_equal_the_official_tools(folder, path):
    assert_golden(folder, path, 1e-9)


@needs_fixtures
@pytest.mark.parametrize("column", "JF")
@pytest.mark.parametrize("setting", SKIPS)
def test_davis_2016_means_equal_the_generic_tool_on_binary_masks(setting, column):
    value = davis16_report(skip_first_last=SKIPS[setting]).values[f"{column}-Mean"]
    assert 100 * value == pytest.approx(measured("davis16")[f"/{setting}/global/{column}"], rel=0, abs=1e-9)


@settings(deadline=None)
@given(_videos([0, 1, 2, 3, 255]))
def test_semi_supervised_scores_the_objects_of_the_first_frame_without_the_ends(video):
    truth, pred = video[0], np.where(video[1] == 255, 0, video[1])
    truth[0, 0, 0] = 3
    metric = DavisSemiSupervised()
    feed(metric, "v", truth, pred)
    inner = range(1, len(truth) - 1)
    for o in (1, 2, 3):
        row = _row(metric, f"v/{o}")
        assert row["J-Mean"] == pytest.approx(_mean([literal_j(pred[t] == o, truth[t] == o) for t in inner]))
        assert row["F-Mean"] == pytest.approx(_mean([literal_f(pred[t] == o, truth[t] == o) for t in inner]))
    rows, values = metric.result().per_video, metric.result().values
    assert set(rows) == {"v/1", "v/2", "v/3"}
    for column in rows["v/1"]:
        assert values[column] == pytest.approx(_mean([row[column] for row in rows.values()]))
    assert values["J&F-Mean"] == (values["J-Mean"] + values["F-Mean"]) / 2


def _literal_generic(truth, pred, frames):
    """A running set of ids, as metrics specification §5.7 tells it."""
    seen: set[int] = set()
    true_ids: set[int] = set()
    lists: dict[int, list[tuple[float, float]]] = {}
    for t in frames:
        seen |= {*truth[t].flat, *pred[t].flat} - {0}
        true_ids |= {*truth[t].flat} - {0}
        for o in seen:
            masks = pred[t] == o, truth[t] == o
            lists.setdefault(o, []).append((literal_j(*masks), literal_f(*masks)))
    return {int(o): tuple(map(_mean, zip(*lists[o], strict=True))) for o in true_ids}


@settings(deadline=None)
@given(_videos([0, 1, 7, 255]), st.booleans())
def test_generic_protocol_keeps_a_running_set_of_ids(video, skip):
    metric = GenericVos(skip_first_last=skip)
    feed(metric, "v", *video)
    expected = _literal_generic(video[0], video[1], range(len(video[0]))[1:-1] if skip else range(len(video[0])))
    rows = metric.result().per_video
    assert set(rows) == {f"v/{o}" for o in expected}
    for o, (j, f) in expected.items():
        assert (rows[f"v/{o}"]["J"], rows[f"v/{o}"]["F"]) == pytest.approx((j, f))


@settings(deadline=None)
@given(_sizes.flatmap(lambda size: hnp.arrays(np.bool_, (2, 2, *size))), st.booleans())
def test_sav_evaluates_each_object_alone(masks, skip):
    """``bool[side, object, T, H, W]``; objects overlap."""
    size_hw, frame_count = masks.shape[3:], masks.shape[2]
    sides = [
        [frame_of_masks({1: side[0, t], 2: side[1, t]}, size_hw=size_hw) for t in range(frame_count)] for side in masks
    ]
    metric = SaV(skip_first_last=skip)
    feed(metric, "v", *sides)
    counted = range(frame_count)[1:-1] if skip else range(frame_count)
    expected: dict[str, tuple[float, float]] = {}
    for o in (1, 2):
        alone = _literal_generic(masks[0, o - 1].astype(int), masks[1, o - 1].astype(int), counted)
        expected |= {f"v/{o}": alone[1]} if alone else {}
    report = metric.result()
    assert {name: (row["J"], row["F"]) for name, row in report.per_video.items()} == {
        name: pytest.approx(both) for name, both in expected.items()
    }
    assert len(report.notes) == (len(expected) < 2)


def test_sav_drops_the_first_and_last_frame_on_which_each_object_is_listed():
    mask, nothing = np.ones((3, 3), bool), np.zeros((3, 3), bool)
    # Object 2 is listed from the second frame on; its prediction is empty on its own first and last frame only.
    truth = [{1: mask}, {1: mask, 2: mask}, {1: mask, 2: mask}, {1: mask, 2: mask}]
    pred = [{1: mask}, {1: mask, 2: nothing}, {1: mask, 2: mask}, {1: mask, 2: nothing}]
    metric = SaV()
    feed(metric, "v", *([frame_of_masks(masks, size_hw=(3, 3)) for masks in side] for side in (truth, pred)))
    assert _row(metric, "v/2")["J"] == 1


def test_davis_2016_computes_recall_and_decay_with_one_frame_less_at_either_end():
    mask, nothing = np.array([[255, 0], [0, 0]]), np.zeros((2, 2), int)
    metric = Davis2016()
    #         first   counted ……………………………… last
    hits = [mask, nothing, mask, mask, nothing, mask]
    feed(metric, "v", [mask] * 6, hits)
    row = _row(metric, "v")
    assert (row["J-Mean"], row["J-Recall"], row["J-Decay"]) == (0.5, 1, 0)
    everything = Davis2016(skip_first_last=False)
    feed(everything, "v", [mask] * 6, hits)
    assert _row(everything, "v")["J-Mean"] == _row(everything, "v")["J-Recall"] == pytest.approx(4 / 6)


def test_davis_2016_takes_the_union_of_whatever_is_annotated_and_predicted():
    metric = Davis2016(skip_first_last=False)
    feed(metric, "v", [np.array([[1, 2, 0]])], [np.array([[255, 9, 0]])])
    assert _row(metric, "v")["J-Mean"] == 1


def test_ids_that_the_first_frame_skips_are_objects_all_the_same():
    metric = DavisSemiSupervised()
    labels = np.array([[1, 0, 3]])
    feed(metric, "v", [labels] * 3, [labels, np.zeros((1, 3), int), labels])
    rows = metric.result().per_video
    assert [rows[f"v/{o}"]["J-Mean"] for o in (1, 2, 3)] == [0, 1, 0]


@pytest.mark.parametrize("metric_class", [DavisSemiSupervised, Davis2016, GenericVos, SaV])
def test_a_perfect_prediction_scores_one_and_an_empty_one_zero(metric_class):
    labels = np.zeros((5, 12, 16), int)
    labels[:, 2:6, 3:9], labels[:, 7:11, 5:8] = 1, 2
    for pred, expected in ((labels, 1), (np.zeros_like(labels), 0)):
        metric = metric_class()
        feed(metric, "v", labels, pred)
        values = metric.result().values
        assert {value for name, value in values.items() if not name.endswith("Decay")} == {expected}
        assert {value for name, value in values.items() if name.endswith("Decay")} <= {0}


@settings(deadline=None)
@given(_videos([0, 1, 2]))
def test_region_similarity_does_not_change_in_a_mirror_nor_ids_when_renamed(video):
    plain, mirrored, renamed = GenericVos(), GenericVos(), GenericVos()
    feed(plain, "v", *video)
    feed(mirrored, "v", *video[..., ::-1])
    feed(renamed, "v", *np.array([0, 40, 300])[video])
    values = plain.result().values
    assert mirrored.result().values["J"] == pytest.approx(values["J"], nan_ok=True)
    assert renamed.result().values == pytest.approx(values, nan_ok=True)


def test_frames_without_annotation_are_passed_over():
    labels = np.array([[1, 0]])
    for metric in (DavisSemiSupervised(), Davis2016(), GenericVos(), SaV()):
        for t, annotated in enumerate([True, False, True, False, True]):
            truth = FrameAnnotation(frame_of_labels(labels if annotated else 0 * labels), annotated=annotated)
            metric.update("v", t, truth, frame_of_labels(labels))
        metric.end_sequence("v")
        curves = metric.state_dict()["summaries"]["v"]
        assert curves[1]["frames"].tolist() == [2]


def test_an_id_that_no_object_has_is_refused_with_video_and_frame():
    metric = DavisSemiSupervised()
    truth = FrameAnnotation(frame_of_labels([[1, 2]]))
    metric.update("swan", 0, truth, frame_of_labels([[1, 3]]))
    with pytest.raises(InputError, match=r"swan, frame 4: the prediction has the id 3 but ids end at 2"):
        metric.update("swan", 4, truth, frame_of_labels([[1, 3]]))


@pytest.mark.parametrize("metric_class", [DavisSemiSupervised, Davis2016])
def test_a_sequence_too_short_to_score_is_refused(metric_class):
    with pytest.raises(InputError, match="swan: a sequence of 2 annotated frames has none to score"):
        feed(metric_class(), "swan", [np.array([[1]])] * 2, [np.array([[1]])] * 2)


def test_a_sequence_of_nothing_but_void_has_no_object_and_a_note_says_so():
    void = np.full((3, 2, 2), 255)
    metric = DavisSemiSupervised()
    feed(metric, "void", void, np.zeros_like(void))
    feed(metric, "swan", np.ones((3, 2, 3), int), np.ones((3, 2, 3), int))
    report = metric.result()
    assert report.values["J-Mean"] == 1
    assert report.notes == ("without any object to score: void",)


def test_without_any_sequence_every_value_is_undefined():
    for metric in (DavisSemiSupervised(), Davis2016(), GenericVos(), SaV()):
        assert all(np.isnan(value) for value in metric.result().values.values())


@pytest.mark.parametrize("metric_class", [DavisSemiSupervised, Davis2016, GenericVos, SaV])
def test_a_sequence_that_ends_without_a_frame_adds_no_object(metric_class):
    labels = np.ones((3, 2, 3), int)
    metric = metric_class()
    metric.end_sequence("silent")
    feed(metric, "swan", labels, labels)
    report = metric.result()
    assert report.values[next(iter(report.values))] == 1
    assert all(name.startswith("swan") for name in report.per_video)


def test_an_empty_frame_stands_for_a_missing_prediction():
    nothing = FrameSegmentation(0, (1, 2), (), LabelMap(torch.zeros((1, 2), dtype=torch.int32)))
    metric = DavisSemiSupervised()
    feed(metric, "v", [np.array([[1, 0]])] * 4, [nothing, nothing, np.array([[1, 0]]), nothing])
    assert metric.result().values["J-Mean"] == 0.5
