"""KITTI-MOTS: the golden values, brute force, the region to ignore, and bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from maskstream.metrics.clear import clear_counts, clear_scores
from maskstream.metrics.hota import TrackedFrame, hota_counts, hota_scores
from maskstream.metrics.mots import Mots
from maskstream.types import FrameAnnotation, FrameSegmentation, InputError, Segment

from .fixtures_tracks import disjoint, expected, mots_sequences, needs_fixtures, square

seeds = st.integers(0, 2**32 - 1)
Frames = list[tuple[FrameAnnotation, FrameSegmentation]]

GOLDEN = expected("kitti_mots").get("values", {})
COUNTS = {
    "CLR_TP": "tp",
    "CLR_FP": "fp",
    "CLR_FN": "fn",
    "IDSW": "switches",
    "MT": "mostly_tracked",
    "PT": "partly_tracked",
    "ML": "mostly_lost",
    "Frag": "fragments",
}
CASES = [(name, key) for name, row in GOLDEN.items() for key in row] or [("no fixtures", "")]


def evaluated(sequences: list[tuple[str, Frames]]) -> Mots:
    metric = Mots()
    for name, frames in sequences:
        for index, (truth, prediction) in enumerate(frames):
            metric.update(name, index, truth, prediction)
        metric.end_sequence(name)
    return metric


@pytest.fixture(scope="module")
def kitti() -> Mots:
    return evaluated(list(mots_sequences()))


@needs_fixtures
@pytest.mark.parametrize("name, key", CASES)
def test_kitti_mots_equals_the_reference(kitti, name, key):
    golden = GOLDEN[name][key]
    if key == "HOTA_per_alpha":
        np.testing.assert_allclose(kitti.curves()[name]["HOTA"], golden, rtol=0, atol=1e-9)
    elif key in COUNTS:
        assert getattr(kitti.counts()[name], COUNTS[key]) == golden
    else:
        assert kitti.result().per_class[name][key] == pytest.approx(golden, abs=1e-9)


# Brute force


def random_sequence(seed: int) -> Frames:
    """A few 6×7 frames of up to three tracks a side; predictions copy the truth on most pixels."""
    rng = np.random.default_rng(seed)
    frames: Frames = []
    for index in range(int(rng.integers(0, 4))):
        labels = rng.integers(0, 4, (3, 4)).repeat(2, axis=0).repeat(2, axis=1)[:, :7]
        moved = np.where(rng.random(labels.shape) < 0.8, labels, rng.integers(0, 4, labels.shape))
        segments = tuple(Segment(n, n, 1 + n % 2) for n in (1, 2, 3))
        names = rng.permutation([1, 2, 3])
        guesses = tuple(Segment(int(n), int(n), 1 + int(rng.integers(2))) for n in names)
        void = torch.from_numpy(rng.random(labels.shape) < 0.3) if rng.random() < 0.7 else None
        truth = FrameAnnotation(disjoint(index, torch.from_numpy(labels), segments), void)
        frames.append((truth, disjoint(index, torch.from_numpy(moved), guesses)))
    return frames


def literal_frames(frames: Frames, category: int) -> list[TrackedFrame]:
    """The preprocessing word for word, on boolean masks."""
    chosen = []
    for truth, prediction in frames:
        truths = [
            (s.track_id, mask)
            for s, mask in zip(truth.segmentation.segments, truth.segmentation.masks_nhw().numpy(), strict=True)
            if s.category == category
        ]
        guesses = [
            (s.track_id, mask)
            for s, mask in zip(prediction.segments, prediction.masks_nhw().numpy(), strict=True)
            if s.category == category
        ]
        listed = np.array([[iou_of(mask, other) for _, other in guesses] for _, mask in truths])
        iou = listed.reshape(len(truths), len(guesses)).astype(np.float64)
        # Two disjoint predictions cannot both overlap one truth by more than half: matched means overlapping so.
        assume(not (iou == 0.5).any())
        matched = [bool((iou[:, n] > 0.5).any()) for n in range(len(guesses))]
        keep = []
        for n, (_, mask) in enumerate(guesses):
            inside = 0 if truth.void is None else (mask & truth.void.numpy()).sum()
            keep.append(matched[n] or not inside > 0.5 * mask.sum())
        ids = np.array([track for (track, _), kept in zip(guesses, keep, strict=True) if kept], dtype=np.int64)
        chosen.append(TrackedFrame(np.array([t for t, _ in truths], dtype=np.int64), ids, iou[:, np.array(keep, bool)]))
    return chosen


def iou_of(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    union = (one | other).sum()
    return (one & other).sum() / union if union else 0.0


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_mots_equals_its_definition_on_tiny_sequences(seed):
    frames = random_sequence(seed)
    report = evaluated([("a", frames)]).result()
    for name, category in (("car", 1), ("pedestrian", 2)):
        literal = literal_frames(frames, category)
        values = clear_scores(clear_counts(literal)) | hota_scores(hota_counts(literal))
        assert report.per_class[name] == pytest.approx(values, abs=1e-12)


# Properties


def perfect(length: int = 3) -> Frames:
    segments = (Segment(1, 1, 1), Segment(2, 2, 2))
    frames: Frames = []
    for index in range(length):
        masks = torch.stack([square((8, 8), index, 0, 3), square((8, 8), 5, 5, 2)])
        found = FrameSegmentation.from_masks(index, segments, masks)
        frames.append((FrameAnnotation(found), found))
    return frames


def test_a_perfect_result_scores_one():
    report = evaluated([("a", perfect())]).result()
    assert set(report.values.values()) == {1.0}
    assert report.values["car/sMOTSA"] == 1.0
    assert set(report.per_video["a"].values()) == {1.0}


def test_an_empty_result_scores_zero_and_misses_everything():
    frames = [
        (truth, FrameSegmentation.from_masks(n, (), torch.zeros((0, 8, 8), dtype=torch.bool)))
        for n, (truth, _) in enumerate(perfect())
    ]
    metric = evaluated([("a", frames)])
    assert metric.result().values["car/MOTSA"] == metric.result().values["car/HOTA"] == 0.0
    assert metric.counts()["car"].fn == 3
    assert "car: 0 matched, 0 too many, 3 missed, 0 identity switches" in metric.result().notes[0]


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_mirroring_and_renaming_change_nothing(seed):
    frames = random_sequence(seed)
    changed: Frames = []
    for truth, prediction in frames:
        names = {1: 40, 2: 7, 3: 90}
        renamed = tuple(Segment(names[s.id], names[s.track_id], s.category) for s in prediction.segments)
        void = None if truth.void is None else truth.void.flip(1)
        mirrored = disjoint(
            truth.segmentation.frame_index, truth.segmentation.label_map().flip(1), truth.segmentation.segments
        )
        changed.append(
            (FrameAnnotation(mirrored, void), disjoint(prediction.frame_index, prediction.label_map().flip(1), renamed))
        )
    values = evaluated([("a", frames)]).result().values
    assert evaluated([("a", changed)]).result().values == pytest.approx(values, abs=1e-12)


@pytest.mark.parametrize(
    "side, counted",
    [
        pytest.param(4, 0, id="inside the ignored region: excused"),
        pytest.param(2, 1, id="exactly half inside: counts"),
    ],
)
def test_an_unmatched_prediction_mostly_in_the_ignored_region_is_excused(side, counted):
    void = torch.zeros((8, 8), dtype=torch.bool)
    void[4:8, 4 : 4 + side] = True
    prediction = FrameSegmentation.from_masks(0, (Segment(1, 1, 1),), square((8, 8), 4, 4, 4)[None])
    nothing = FrameSegmentation.from_masks(0, (), torch.zeros((0, 8, 8), dtype=torch.bool))
    metric = evaluated([("a", [(FrameAnnotation(nothing, void), prediction)])])
    assert metric.counts()["car"].fp == counted


def test_an_empty_mask_is_a_detection_unless_dropped():
    empty = FrameSegmentation.from_masks(0, (Segment(1, 1, 1),), torch.zeros((1, 8, 8), dtype=torch.bool))
    for choice, counted in (("count", 1), ("drop", 0)):
        metric = Mots(empty_masks=choice)  # type: ignore[arg-type]
        metric.update("a", 0, FrameAnnotation(empty), empty)
        metric.end_sequence("a")
        counts = metric.counts()["car"]
        assert (counts.fp, counts.fn) == (counted, counted)


# Bad input


@pytest.mark.parametrize("what", ["true", "predicted"])
def test_masks_that_overlap_are_refused_with_their_names(what):
    good = perfect(1)[0][1]
    masks = torch.stack([square((8, 8), 0, 0, 4), square((8, 8), 3, 3, 4)])
    bad = FrameSegmentation.from_masks(0, (Segment(4, 4, 1), Segment(9, 9, 2)), masks)
    truth, prediction = (bad, good) if what == "true" else (good, bad)
    with pytest.raises(InputError, match=f"0002, frame 0: the {what} segments 4 and 9 overlap"):
        Mots().update("0002", 0, FrameAnnotation(truth), prediction)


def test_a_class_that_is_not_evaluated_is_refused():
    good = perfect(1)[0][1]
    bad = FrameSegmentation.from_masks(0, (Segment(4, 4, 10),), square((8, 8), 0, 0, 4)[None])
    with pytest.raises(InputError, match="0002, frame 3: predicted segment 4 is of category 10; kitti-mots has"):
        Mots().update("0002", 3, FrameAnnotation(good), bad)
