"""The part that all metrics share, with a metric that anyone can work out: the fraction of pixels that agree."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import jsonschema
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskstream.metrics import Accumulator, Report, Scores
from maskstream.types import FrameAnnotation, FrameSegmentation, InputError, LabelMap, Segment

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "schemas" / "scores.json").read_text())


class Agreement(Accumulator[list[int], tuple[int, int], None]):
    name = "agreement"

    def begin(self, sequence_id: str) -> list[int]:
        return [0, 0]

    def add(
        self,
        state: list[int],
        frame_index: int,
        truth: FrameAnnotation,
        prediction: FrameSegmentation,
        meta: None,
    ) -> None:
        equal = truth.segmentation.label_map() == prediction.label_map()
        state[0] += int(equal.sum())
        state[1] += equal.numel()

    def reduce(self, state: list[int]) -> tuple[int, int]:
        return state[0], state[1]

    def values(self, summaries: Mapping[str, tuple[int, int]]) -> Scores:
        equal, total = (sum(summary[n] for summary in summaries.values()) for n in range(2))
        return {"agreement": equal / total if total else math.nan}


def frame(index: int, *labels: int) -> FrameSegmentation:
    values = torch.tensor([labels], dtype=torch.int32)
    return FrameSegmentation(index, (1, len(labels)), (Segment(1, 1),), LabelMap(values))


def feed(metric: Agreement, sequence: str, *pairs: tuple[tuple[int, ...], tuple[int, ...]]) -> Agreement:
    for index, (true, predicted) in enumerate(pairs):
        metric.update(sequence, index, FrameAnnotation(frame(index, *true)), frame(index, *predicted))
    metric.end_sequence(sequence)
    return metric


def test_frames_and_sequences_add_up():
    metric = feed(Agreement(), "a", ((1, 0), (1, 0)), ((1, 0), (0, 0)))
    report = feed(metric, "b", ((0, 0), (1, 1))).result()
    assert report.values == {"agreement": 3 / 6}
    assert report.per_video == {"a": {"agreement": 3 / 4}, "b": {"agreement": 0.0}}


@given(st.lists(st.lists(st.tuples(*[st.tuples(*[st.integers(0, 1)] * 3)] * 2), max_size=3), max_size=5), st.data())
def test_any_split_over_workers_gives_the_same_bits(sequences, data):
    whole, workers = Agreement(), [Agreement(), Agreement()]
    for n, pairs in enumerate(sequences):
        feed(whole, f"s{n}", *pairs)
        feed(workers[data.draw(st.integers(0, 1))], f"s{n}", *pairs)
    merged = Agreement()
    for worker in reversed(workers):
        sent = Agreement()
        sent.load_state_dict(worker.state_dict())
        merged.merge(sent)
    assert merged.result().to_json() == whole.result().to_json()
    assert merged.bootstrap(samples=20) == whole.bootstrap(samples=20) or math.isnan(whole.result().values["agreement"])


@pytest.mark.parametrize("index", [1, 0])
def test_a_frame_comes_once_and_in_order(index):
    metric = Agreement()
    metric.update("a", 1, FrameAnnotation(frame(1, 0)), frame(1, 0))
    with pytest.raises(InputError, match=rf"a, frame {index}: came after frame 1"):
        metric.update("a", index, FrameAnnotation(frame(index, 0)), frame(index, 0))


def test_a_sequence_ends_once():
    metric = feed(Agreement(), "a", ((1,), (1,)))
    with pytest.raises(InputError, match="a, frame 5: this sequence has ended"):
        metric.update("a", 5, FrameAnnotation(frame(5, 0)), frame(5, 0))
    with pytest.raises(InputError, match="a: this sequence has ended"):
        metric.end_sequence("a")


def test_a_prediction_of_another_size_names_sequence_frame_and_sizes():
    with pytest.raises(InputError, match="a, frame 0: the prediction is 1×2 but the ground truth 1×3"):
        feed(Agreement(), "a", ((1, 1, 1), (1, 1)))


def test_a_result_waits_for_open_sequences():
    metric = Agreement()
    metric.update("late", 0, FrameAnnotation(frame(0, 1)), frame(0, 1))
    for action in (metric.result, metric.state_dict):
        with pytest.raises(InputError, match="late has not ended"):
            action()


def test_a_sequence_is_evaluated_by_one_worker_only():
    with pytest.raises(InputError, match="a was evaluated twice"):
        feed(Agreement(), "a", ((1,), (1,))).merge(feed(Agreement(), "a", ((1,), (1,))))


def test_the_interval_of_sequences_that_agree_has_no_width_and_otherwise_holds_the_value():
    metric = Agreement()
    for n in range(8):
        feed(metric, f"s{n}", ((1, 1), (1, n % 2)))
    low, high = metric.bootstrap(samples=300)["agreement"]
    assert 0.5 < low < metric.result().values["agreement"] < high < 1
    same = feed(feed(Agreement(), "a", ((1, 1), (1, 0))), "b", ((1, 1), (1, 0)))
    assert same.bootstrap(samples=50) == {"agreement": (0.5, 0.5)}


def test_a_report_obeys_its_schema_and_undefined_values_are_null():
    report = Report("m", {"a": math.nan, "b": 0.5}, {"cat": {"x": math.nan}}, {"v": {"x": 1.0}}, {"b": (0.4, math.nan)})
    plain = json.loads(report.to_json())
    jsonschema.validate(plain, SCHEMA)
    assert plain["values"] == {"a": None, "b": 0.5}
    assert plain["intervals"] == {"b": [0.4, None]}


def test_a_report_for_people_is_in_percent_with_intervals():
    report = Report("m", {"a": math.nan, "b": 0.5}, {"cat": {"x": 0.25}}, intervals={"b": (0.4, 0.6)}, notes=("hm",))
    lines = report.to_markdown().splitlines()
    assert "| a | – |" in lines
    assert "| b | 50.0 (40.0 – 60.0) |" in lines
    assert "| cat | 25.0 |" in lines
    assert lines[-1] == "hm"
