"""Trackers: the specification's golden cases (§6), and what the authors' program does not do right."""

import pytest
import torch

from maskstream.mask2former.affinity import bi_softmax
from maskstream.systems.tubelink.tracker import (
    NaiveTracker,
    OverlapTracker,
    QuasiDenseTracker,
    TrackerSettings,
    published,
)

UNIT = 4 * torch.eye(4)


def apart(count):
    """Masks that do not touch."""
    masks = torch.zeros(count, 2, max(count, 1), dtype=torch.bool)
    for n in range(count):
        masks[n, :, n] = True
    return masks


def see(tracker, which, scores, frame, masks=None):
    return tracker.update(UNIT[which], scores, apart(len(which)) if masks is None else masks, frame)


@pytest.mark.parametrize("settings", [TrackerSettings(), published(TrackerSettings())], ids=["ours", "published"])
def test_golden_case_of_the_quasi_dense_tracker(settings):
    tracker = QuasiDenseTracker(settings)
    assert see(tracker, [0, 1, 2], [0.9, 0.3, 0.1], 0) == [0, 1, None]
    assert see(tracker, [1, 0, 2, 3], [0.9, 0.9, 0.4, 0.8], 6) == [1, 0, None, 2]
    assert see(tracker, [3, 2], [0.9, 0.9], 12) == [2, 3]
    assert see(tracker, [0], [0.9], 18) == [0]
    assert 1 not in tracker.alive


def test_the_only_object_is_not_the_only_track_unless_they_are_alike():
    """As published it is, whatever they look like: softmax over one is 1."""
    for settings, expected in ((TrackerSettings(), 1), (published(TrackerSettings()), 0)):
        tracker = QuasiDenseTracker(settings)
        see(tracker, [0], [0.9], 0)
        assert see(tracker, [1], [0.9], 6) == [expected]


def test_a_double_is_followed_by_nobody():
    tracker = QuasiDenseTracker()
    masks = apart(3)
    masks[1] = masks[0]
    assert see(tracker, [0, 1, 2], [0.9, 0.9, 0.9], 0, masks) == [0, None, 1]


def test_a_tube_without_objects_counts_for_the_memory():
    """As published it does not: a track that should be forgotten is there still when something is seen again."""
    for settings, expected in ((TrackerSettings(), 1), (published(TrackerSettings()), 0)):
        tracker = QuasiDenseTracker(settings)
        see(tracker, [0], [0.9], 0)
        assert see(tracker, [], [], 12) == []
        assert see(tracker, [0], [0.9], 18) == [expected]


def test_objects_that_have_left_the_last_frame_are_no_doubles():
    """As published the second empty mask is dropped, and ids go to the wrong objects."""
    masks = apart(3)
    masks[:2] = False
    assert see(QuasiDenseTracker(), [0, 1, 2], [0.9, 0.9, 0.9], 0, masks) == [0, 1, 2]
    tracker = QuasiDenseTracker(published(TrackerSettings()))
    assert see(tracker, [0, 1, 2], [0.9, 0.9, 0.9], 0, masks) == [0, 1, None]
    assert see(tracker, [2], [0.9], 6) == [1]  # the third object's, which the second was told it has


def test_nothing_seen_changes_nothing_but_age():
    tracker = QuasiDenseTracker()
    see(tracker, [0], [0.9], 0)
    assert see(tracker, [], [], 6) == []
    assert tracker.alive == [0]
    see(tracker, [], [], 12)
    assert tracker.alive == []
    assert see(tracker, [0], [0.9], 18) == [1]  # ids are never used again


def test_a_track_is_the_mean_of_what_was_seen():
    tracker = QuasiDenseTracker()
    see(tracker, [0], [0.9], 0)
    tracker.update(UNIT[[0]] + UNIT[[1]], [0.9], apart(1), 6)
    assert torch.equal(tracker.state_dict()["tracks"][0][1], torch.tensor([4.0, 2, 0, 0]))


def test_golden_case_of_the_naive_tracker():
    tracker = NaiveTracker()
    assert see(tracker, [0, 1], [], 0) == [0, 1]
    assert see(tracker, [1, 2, 0], [], 1) == [1, 2, 0]
    assert see(tracker, [2], [], 2) == [2]


def test_masks_that_overlap_are_of_one_object():
    tracker = OverlapTracker()
    masks = apart(3)
    assert tracker.update(masks, masks.flip(0)) == [0, 1, 2]
    assert tracker.update(masks[:2], masks[:2]) == [2, 1]
    assert tracker.update(masks[2:], masks[2:]) == [3]


def test_bi_softmax_by_hand():
    similarity = torch.tensor([[1.0, 0.0]])
    e = torch.e
    assert bi_softmax(similarity)[0].tolist() == pytest.approx([(e / (e + 1) + 1) / 2, (1 / (e + 1) + 1) / 2])
    rival = [(e / (e + 2) + e / (e + 1)) / 2, (1 / (e + 2) + 1 / 2) / 2]
    assert bi_softmax(similarity, rival=True)[0].tolist() == pytest.approx(rival)


@pytest.mark.parametrize("make", [QuasiDenseTracker, NaiveTracker], ids=["quasi-dense", "naive"])
def test_a_tracker_goes_on_from_its_state(make):
    one, other = make(), make()
    see(one, [0, 1], [0.9, 0.9], 0)
    other.load_state_dict(one.state_dict())
    assert see(one, [1, 2], [0.9, 0.9], 6) == see(other, [1, 2], [0.9, 0.9], 6)
