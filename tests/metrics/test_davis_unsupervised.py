from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from maskstream.metrics.davis_unsupervised import DavisUnsupervised
from maskstream.types import FrameAnnotation, InputError

from .fixtures_vos import feed, frame_of_labels
from .literal_jf import literal_f, literal_j

_videos = st.tuples(st.integers(1, 4), st.integers(2, 5), st.integers(2, 5)).flatmap(
    lambda size: st.tuples(
        hnp.arrays(np.int32, size, elements=st.sampled_from([0, 1, 2, 255])),
        hnp.arrays(np.int32, size, elements=st.integers(0, 3)),
    )
)


@settings(deadline=None)
@given(_videos)
def test_objects_get_the_proposals_that_maximise_the_mean_score(video):
    truth, pred = video
    truth[0, 0, :2] = 1, 2
    valid = truth != 255
    metric = DavisUnsupervised()
    feed(metric, "v", truth, pred)
    rows = metric.result().per_video
    assert set(rows) == {"v/1", "v/2"}
    # As many proposals as the largest predicted id, but no fewer than objects.
    proposals = range(1, max(2, pred.max()) + 1)
    pairs = {
        (p, g): tuple(
            np.mean([score((pred[t] == p) & valid[t], (truth[t] == g) & valid[t]) for t in range(len(truth))])
            for score in (literal_j, literal_f)
        )
        for p in proposals
        for g in (1, 2)
    }
    best = max(sum(sum(pairs[p, g]) for g, p in enumerate(chosen, 1)) for chosen in permutations(proposals, 2))
    found = [(rows[f"v/{g}"]["J-Mean"], rows[f"v/{g}"]["F-Mean"]) for g in (1, 2)]
    assert sum(map(sum, found)) == pytest.approx(best)
    for g, both in enumerate(found, 1):
        assert any(both == pytest.approx(pairs[p, g]) for p in proposals)


def test_rows_are_by_annotated_id_whatever_the_proposals_are_called():
    truth = np.array([[[1, 1, 0, 2]]] * 2)
    metric = DavisUnsupervised()
    feed(metric, "v", truth, np.array([0, 17, 5])[truth])
    assert [metric.result().per_video[f"v/{g}"]["J-Mean"] for g in (1, 2)] == [1, 1]


def test_proposals_that_no_object_needs_cost_nothing():
    truth, pred = np.zeros((2, 6, 8), int), np.zeros((2, 6, 8), int)
    truth[:, 1:3, 1:3], pred[:, 1:3, 1:3], pred[:, 4:, 5:] = 1, 4, 9
    metric = DavisUnsupervised()
    feed(metric, "v", truth, pred)
    assert metric.result().values["J&F-Mean"] == 1


def test_fewer_proposals_than_objects_are_filled_up_with_empty_ones():
    truth = np.tile(np.arange(25).reshape(1, 5, 5), (2, 1, 1))
    metric = DavisUnsupervised()
    feed(metric, "v", truth, truth * (truth <= 2))
    rows = metric.result().per_video
    assert len(rows) == 24
    assert sorted(row["J-Mean"] for row in rows.values()) == [0] * 22 + [1] * 2


def test_void_pixels_count_for_nothing_wherever_they_are_marked():
    labels = np.array([[1, 1, 0, 0]])
    pred = np.array([[1, 1, 1, 1]])
    by_id, by_mask = DavisUnsupervised(), DavisUnsupervised()
    by_id.update("v", 0, FrameAnnotation(frame_of_labels([[1, 1, 255, 255]])), frame_of_labels(pred))
    by_mask.update(
        "v",
        0,
        FrameAnnotation(frame_of_labels(labels), torch.tensor([[False] * 2 + [True] * 2])),
        frame_of_labels(pred),
    )
    for metric in (by_id, by_mask):
        metric.end_sequence("v")
        assert metric.result().values["J-Mean"] == 1


def test_more_than_twenty_ids_are_refused_even_on_void_pixels():
    metric = DavisUnsupervised()
    truth = FrameAnnotation(frame_of_labels([[1, 255]]))
    metric.update("swan", 0, truth, frame_of_labels([[20, 1]]))
    with pytest.raises(InputError, match="swan, frame 1: the prediction has the id 21 but ids end at 20"):
        metric.update("swan", 1, truth, frame_of_labels([[1, 21]]))


@pytest.mark.parametrize("annotated", [0, 255])
def test_a_first_frame_without_objects_adds_none(annotated):
    metric = DavisUnsupervised()
    feed(metric, "v", np.full((2, 2, 2), annotated), np.ones((2, 2, 2), int))
    assert metric.result().notes == ("without any object to score: v",)


def test_renaming_proposals_and_spreading_sequences_change_no_bit():
    videos = np.random.default_rng(1).integers(0, 5, (4, 2, 3, 7, 7))
    alone, first, second = DavisUnsupervised(), DavisUnsupervised(), DavisUnsupervised()
    for n, (truth, pred) in enumerate(videos):
        feed(alone, f"v{n}", truth, pred)
        feed((first, second)[n % 2], f"v{n}", truth, np.array([0, 3, 1, 12, 20])[pred])
    second.merge(first)
    assert second.result().values == alone.result().values
