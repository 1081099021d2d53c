"""What all metrics promise, on every one of them: `every_metric.CASES` lists them."""

import inspect
import json
import math
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import maskstream.metrics
from maskstream.metrics import Accumulator
from maskstream.types import FrameAnnotation, InputError

from .every_metric import ANYTHING, CASES, NAMES, OBJECTS, Case, feed, frame, labels_of


def metrics(chosen: Callable[[Case], bool] = lambda case: True):
    cases = {name: case for name, case in CASES.items() if chosen(case)}
    return pytest.mark.parametrize("case", cases.values(), ids=cases.keys())


every_metric = metrics()
seeds = st.integers(0, 10_000)
SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "schemas" / "scores.json").read_text())


def test_every_public_metric_is_in_the_list():
    public = {
        value
        for value in vars(maskstream.metrics).values()
        if inspect.isclass(value) and issubclass(value, Accumulator) and not inspect.isabstract(value)
    }
    assert {type(case.make()) for case in CASES.values()} == public


def evaluated(case: Case, videos: dict[str, int], **options):
    metric = case.make()
    for name, seed in videos.items():
        feed(metric, case, name, seed, **options)
    return metric


@every_metric
@settings(max_examples=5, deadline=None)
@given(seeds, st.lists(st.integers(0, 2), min_size=4, max_size=4))
def test_resampled_values_are_those_of_repeated_videos(case, seed, times):
    metric = evaluated(case, {name: seed + n for n, name in enumerate(NAMES[:4])})
    summaries = metric.state_dict()["summaries"]
    weights = np.array([[times[NAMES.index(metric.video_of(name))] for name in summaries]], float)
    repeated = {f"{name}-{k}": seed + n for n, name in enumerate(NAMES[:4]) for k in range(times[n])}
    (values,) = metric.resample(summaries, weights)
    assert values == pytest.approx(evaluated(case, repeated).result().values, abs=1e-12, nan_ok=True)
    # And of the slow way that every metric inherits.
    (slow,) = Accumulator.resample(metric, summaries, weights)
    assert values == pytest.approx(slow, abs=1e-12, nan_ok=True)


@every_metric
@settings(max_examples=5, deadline=None)
@given(seeds, st.lists(st.integers(0, 2), min_size=4, max_size=4))
def test_any_split_over_workers_gives_the_same_bits(case, seed, worker_of):
    videos = {name: seed + n for n, name in enumerate(NAMES[:4])}
    merged = case.make()
    for worker in (2, 0, 1):
        part = evaluated(case, {name: s for n, (name, s) in enumerate(videos.items()) if worker_of[n] == worker})
        received = case.make()
        received.load_state_dict(part.state_dict())
        merged.merge(received)
    whole = evaluated(case, videos)
    assert merged.result().to_json() == whole.result().to_json()
    assert repr(merged.bootstrap(samples=5)) == repr(whole.bootstrap(samples=5))


@every_metric
@settings(max_examples=5, deadline=None)
@given(seeds)
def test_a_mirror_changes_nothing_but_contours(case, seed):
    values, mirrored = (evaluated(case, {"v0": seed, "v1": seed + 1}, mirror=m).result().values for m in (False, True))
    kept = [name for name in values if not case.by_contour(name)]
    assert {n: mirrored[n] for n in kept} == pytest.approx({n: values[n] for n in kept}, abs=1e-12, nan_ok=True)


@metrics(lambda case: case.renamed is not None)
@settings(max_examples=5, deadline=None)
@given(seeds)
def test_predicted_ids_do_not_matter_where_they_mean_nothing(case, seed):
    videos = {"v0": seed, "v1": seed + 1}
    renamed = evaluated(case, videos, names=case.renamed).result().values
    assert renamed == pytest.approx(evaluated(case, videos).result().values, abs=1e-12, nan_ok=True)


@every_metric
def test_a_frame_comes_once(case):
    metric = case.make()
    sequence = case.sequences("v0")[0]
    truth, pred, scores = labels_of(0, 1)
    both = FrameAnnotation(frame(truth[0], 1)), frame(pred[0], 1, scores)
    metric.update(sequence, 1, *both, case.meta)
    with pytest.raises(InputError, match=f"{sequence}, frame 1: came after frame 1"):
        metric.update(sequence, 1, *both, case.meta)


@every_metric
def test_a_prediction_of_another_size_is_refused_with_video_and_frame(case):
    sequence = case.sequences("v0")[0]
    labels = labels_of(0, 1)[0][0]
    with pytest.raises(InputError, match=f"{sequence}, frame 1: the prediction is 6×6 but the ground truth 6×7"):
        case.make().update(sequence, 1, FrameAnnotation(frame(labels, 1)), frame(labels[:, :6], 1), case.meta)


@metrics(lambda case: case.frames > 1 and case.make().without_prediction != "empty")
def test_a_missing_prediction_is_refused_unless_allowed_and_then_counted_as_empty(case):
    sequence = case.sequences("v0")[0]
    with pytest.raises(InputError, match=f"{sequence}, frame 11: there is no prediction: add it, or allow"):
        feed(case.make(), case, "v0", 0, missing=lambda n: n == 2)
    split = [evaluated(case, {name: 0}, missing=lambda n: n in (1, 3), allow_missing=True) for name in ("v0", "v1")]
    merged = case.make()
    for metric in split:
        received = case.make()
        received.load_state_dict(metric.state_dict())
        merged.merge(received)
    sequences = [s for name in ("v0", "v1") for s in case.sequences(name)]
    note = f"{2 * len(sequences)} frames of {len(sequences)} videos had no prediction and count as empty"
    assert merged.result().notes[-1] == f"{note}, first {min(sequences)}"


@every_metric
def test_a_missing_prediction_scores_as_an_empty_one(case):
    missing, empty = case.make(), case.make()
    truth, pred, scores = labels_of(3, case.frames)
    for sequence in case.sequences("v0"):
        for n in range(case.frames):
            index, is_missing = 1 + 5 * n, n in (1, 3)
            annotated, found = FrameAnnotation(frame(truth[n], index)), frame(pred[n], index, scores)
            nothing = frame(np.zeros_like(pred[n]), index)
            missing.update(
                sequence, index, annotated, None if is_missing else found, case.meta, allow_missing=is_missing
            )
            empty.update(sequence, index, annotated, nothing if is_missing else found, case.meta)
        for metric in (missing, empty):
            metric.end_sequence(sequence)
    assert missing.result().values == pytest.approx(empty.result().values, nan_ok=True, abs=0)


@metrics(lambda case: case.make().without_prediction == "empty")
def test_where_results_list_only_what_was_found_no_prediction_is_no_mistake(case):
    report = evaluated(case, {"v0": 0}, missing=lambda n: True).result()
    assert all(value == 0 or math.isnan(value) for name, value in report.values.items() if "LocA" not in name)
    assert not any("no prediction" in note for note in report.notes)


@metrics(lambda case: case.make().without_prediction == "zero")
def test_officially_a_sequence_without_any_prediction_scores_zero_even_where_nothing_is_the_answer(case):
    # Without the convention the empty frames of the truth would count 1.
    metric = case.make()
    for allowed, name in ((False, "v0"), (True, "v1")):
        for sequence in case.sequences(name):
            for n in range(case.frames):
                nothing = FrameAnnotation(frame(np.zeros((4, 4), int), n))
                metric.update(sequence, n, nothing, None, allow_missing=allowed)
            metric.end_sequence(sequence)
    report = metric.result()
    assert [report.values[name] for name in ("J&F", "J", "F")] == [0, 0, 0]
    assert "without any prediction score 0" in report.notes[-1]
    state = metric.state_dict()
    assert not state["missing"]


@every_metric
def test_a_frame_nobody_annotated_needs_no_prediction(case):
    metric = case.make()
    sequence = case.sequences("v0")[0]
    unlabelled = FrameAnnotation(frame(np.zeros((4, 4), int), 0), annotated=False)
    if metric.name in ("RefCOCO", "Ref-YouTube-VOS"):
        with pytest.raises(InputError, match=f"{sequence}, frame 0"):
            metric.update(sequence, 0, unlabelled, None, case.meta)
    else:
        metric.update(sequence, 0, unlabelled, None, case.meta)


@every_metric
def test_ground_truth_of_nothing_but_void_is_undefined_or_zero_and_no_failure(case):
    metric = case.make()
    _, pred, scores = labels_of(5, case.frames)
    if metric.name == "DAVIS-2017 semi-supervised":
        pred[:] = 0  # it refuses ids of objects that are not there
    for sequence in case.sequences("v0"):
        for n in range(case.frames):
            index = 1 + 5 * n
            void = torch.ones(pred[n].shape, dtype=torch.bool)
            truth = FrameAnnotation(frame(np.zeros_like(pred[n]), index), void)
            metric.update(sequence, index, truth, frame(pred[n], index, scores), case.meta)
        metric.end_sequence(sequence)
    assert metric.result().to_markdown()


@every_metric
def test_a_report_obeys_its_schema(case):
    report = evaluated(case, {"v0": 1, "v1": 2}).result()
    jsonschema.validate(json.loads(report.to_json()), SCHEMA)
    assert report.per_video
    assert set(case.make().result().values) == set(report.values)


@metrics(lambda case: case.frames > 1)
def test_areas_ids_and_lengths_beyond_a_byte_change_nothing(case):
    bands = np.repeat([1, 2, 3], 6)
    values = []
    for frames, width, ids in ((5, 3, OBJECTS), (258, 50, (1, 2, 300) if case.renamed == ANYTHING else OBJECTS)):
        labels = np.tile(bands[:, None], (1, width))
        metric = case.make()
        for sequence in case.sequences("v0"):
            for index in range(1, 1 + 5 * frames, 5):
                perfect = frame(labels, index, names=ids)
                metric.update(sequence, index, FrameAnnotation(frame(labels, index)), perfect, case.meta)
            metric.end_sequence(sequence)
        values.append(metric.result().values)
    assert values[1] == pytest.approx(values[0], abs=1e-9, nan_ok=True)
    assert any(value > 0 for value in values[1].values()) or case.make().name == "flicker"
