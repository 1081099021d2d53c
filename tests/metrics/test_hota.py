"""HOTA, CLEAR and identity measures on plain similarity matrices, and the similarities themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskstream.metrics.clear import ClearCounts, add_clear_counts, clear_counts, clear_scores, unmatched
from maskstream.metrics.hota import (
    ALPHAS,
    EPSILON,
    TrackedFrame,
    add_hota_counts,
    box_iou,
    hota_counts,
    hota_curves,
    hota_scores,
)
from maskstream.types import FrameSegmentation, InputError, Segment

from .fixtures_tracks import all_matchings, disjoint

seeds = st.integers(0, 2**32 - 1)


def frame(truth: list[int], predicted: list[int], similarity: list[list[float]]) -> TrackedFrame:
    shaped = np.array(similarity, dtype=np.float64).reshape(len(truth), len(predicted))
    return TrackedFrame(np.array(truth, dtype=np.int64), np.array(predicted, dtype=np.int64), shaped)


def random_sequence(seed: int) -> list[TrackedFrame]:
    """Up to five frames with up to three tracks on either side; similarities have no ties but zero."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(int(rng.integers(0, 6))):
        truth = rng.permutation([3, 5, 8])[: rng.integers(0, 4)]
        predicted = rng.permutation([1, 5, 1000])[: rng.integers(0, 4)]
        similarity = rng.random((len(truth), len(predicted))) * (rng.random((len(truth), len(predicted))) < 0.8)
        frames.append(TrackedFrame(truth.astype(np.int64), predicted.astype(np.int64), similarity))
    return frames


def brute_force_hota(frames: list[TrackedFrame]) -> dict[str, list[float]]:
    """The definitions one by one: plain loops, every matching tried."""
    in_frames = {("g", int(i)): sum(i in f.truth_ids for f in frames) for f in frames for i in f.truth_ids}
    in_frames |= {("p", int(i)): sum(i in f.predicted_ids for f in frames) for f in frames for i in f.predicted_ids}
    potential: dict[tuple[int, int], float] = {}
    for f in frames:
        for a, g in enumerate(f.truth_ids.tolist()):
            for b, p in enumerate(f.predicted_ids.tolist()):
                s = f.similarity_gp[a, b]
                either = f.similarity_gp[a].sum() + f.similarity_gp[:, b].sum() - s
                potential[g, p] = potential.get((g, p), 0.0) + (s / either if either > 0 else 0.0)
    alignment = {(g, p): v / (in_frames["g", g] + in_frames["p", p] - v) for (g, p), v in potential.items()}

    matches = []
    for f in frames:
        g, p = f.truth_ids.tolist(), f.predicted_ids.tolist()
        best = max(
            all_matchings(len(g), len(p)),
            key=lambda pairs: sum(alignment[g[a], p[b]] * f.similarity_gp[a, b] for a, b in pairs),
        )
        matches += [(g[a], p[b], f.similarity_gp[a, b]) for a, b in best]
    truths, predictions = sum(len(f.truth_ids) for f in frames), sum(len(f.predicted_ids) for f in frames)
    curves: dict[str, list[float]] = {name: [] for name in ("HOTA", "DetA", "AssA", "DetRe", "DetPr", "LocA", "OWTA")}
    for alpha in ALPHAS:
        kept = [(g, p, s) for g, p, s in matches if s >= alpha - EPSILON]
        tp = len(kept)
        shares = []
        for g, p, _ in kept:
            tpa = sum((g, p) == (a, b) for a, b, _ in kept)
            shares.append(tpa / (in_frames["g", g] + in_frames["p", p] - tpa))
        deta = tp / max(1, truths + predictions - tp)
        assa = sum(shares) / max(1, tp)
        curves["DetA"].append(deta)
        curves["AssA"].append(assa)
        curves["HOTA"].append(math.sqrt(deta * assa))
        curves["DetRe"].append(tp / max(1, truths))
        curves["DetPr"].append(tp / max(1, predictions))
        curves["OWTA"].append(math.sqrt(tp / max(1, truths) * assa))
        curves["LocA"].append(sum(s for *_, s in kept) / tp if tp else 1.0)
    return curves


@settings(max_examples=150, deadline=None)
@given(seeds)
def test_hota_equals_its_definition_on_tiny_sequences(seed):
    frames = random_sequence(seed)
    curves = hota_curves(hota_counts(frames))
    for name, values in brute_force_hota(frames).items():
        np.testing.assert_allclose(curves[name], values, rtol=0, atol=1e-12, err_msg=name)


def brute_force_clear(frames: list[TrackedFrame]) -> ClearCounts:
    """Frame by frame, every matching tried; whole tracks, every assignment tried."""
    previous: dict[int, int] = {}
    last: dict[int, int] = {}
    history: dict[int, list[bool]] = {}
    began: dict[int, int] = {}
    tp = switches = 0
    similarity = 0.0
    for f in frames:
        g, p = f.truth_ids.tolist(), f.predicted_ids.tolist()
        valid = f.similarity_gp >= 0.5 - EPSILON
        options = [pairs for pairs in all_matchings(len(g), len(p)) if all(valid[pair] for pair in pairs)]
        best = max(
            options,
            key=lambda pairs: sum(1000 * (previous.get(g[a]) == p[b]) + f.similarity_gp[a, b] for a, b in pairs),
        )
        pairing = {g[a]: p[b] for a, b in best}
        for truth in g:
            history.setdefault(truth, []).append(truth in pairing)
        for truth, track in pairing.items():
            switches += truth in last and last[truth] != track
            began[truth] = began.get(truth, 0) + (truth not in previous)
        last |= pairing
        tp += len(best)
        similarity += sum(f.similarity_gp[pair] for pair in best)
        if g and p:
            previous = pairing
    ratios = [sum(visible) / len(visible) for visible in history.values()]
    true_ids = sorted(history)
    predicted_ids = sorted({int(i) for f in frames for i in f.predicted_ids})
    identity = 0
    for pairs in all_matchings(len(true_ids), len(predicted_ids)):
        agree = 0
        for a, b in pairs:
            for f in frames:
                where = np.outer(f.truth_ids == true_ids[a], f.predicted_ids == predicted_ids[b])
                agree += int((f.similarity_gp[where] >= 0.5).sum())
        identity = max(identity, agree)
    return ClearCounts(
        tp=tp,
        fp=sum(len(f.predicted_ids) for f in frames) - tp,
        fn=sum(len(f.truth_ids) for f in frames) - tp,
        switches=switches,
        mostly_tracked=sum(ratio > 0.8 for ratio in ratios),
        partly_tracked=sum(0.2 <= ratio <= 0.8 for ratio in ratios),
        mostly_lost=sum(ratio < 0.2 for ratio in ratios),
        fragments=sum(began.values()) - len(began),
        identity_tp=identity,
        similarity=pytest.approx(similarity, abs=1e-12),  # type: ignore[arg-type]
    )


@settings(max_examples=150, deadline=None)
@given(seeds)
def test_clear_and_identity_equal_their_definitions_on_tiny_sequences(seed):
    frames = random_sequence(seed)
    assert brute_force_clear(frames) == clear_counts(frames)


@settings(max_examples=50, deadline=None)
@given(seeds)
def test_names_of_tracks_do_not_matter(seed):
    frames = random_sequence(seed)
    names = {1: 7, 5: 2, 1000: 3}
    renamed = [
        TrackedFrame(
            f.truth_ids, np.array([names[i] for i in f.predicted_ids.tolist()], dtype=np.int64), f.similarity_gp
        )
        for f in frames
    ]
    assert hota_scores(hota_counts(renamed)) == pytest.approx(hota_scores(hota_counts(frames)), abs=1e-12)
    assert clear_scores(clear_counts(renamed)) == pytest.approx(clear_scores(clear_counts(frames)), abs=1e-12)


def test_a_perfect_result_scores_one():
    frames = [frame([1, 2], [9, 8], [[1, 0], [0, 1]])] * 3
    assert set(hota_scores(hota_counts(frames)).values()) == {1.0}
    assert set(clear_scores(clear_counts(frames)).values()) == {1.0}


def test_an_identity_switch_halfway_halves_association():
    frames = [frame([1], [1 if t < 5 else 2], [[1]]) for t in range(10)]
    scores = hota_scores(hota_counts(frames))
    assert scores["DetA"] == 1.0
    assert scores["AssA"] == pytest.approx(0.5)
    assert scores["HOTA"] == pytest.approx(math.sqrt(0.5))
    assert scores["AssPr"] == pytest.approx(1.0)  # each half is pure
    assert clear_counts(frames).switches == 1
    assert clear_scores(clear_counts(frames))["IDF1"] == pytest.approx(0.5)


def test_false_positives_cost_hota_but_not_owta():
    frames = [frame([1], [1, 2], [[1, 0]])] * 4
    scores = hota_scores(hota_counts(frames))
    assert scores["OWTA"] == 1.0
    assert scores["HOTA"] == pytest.approx(math.sqrt(0.5))


@pytest.mark.parametrize(
    "frames, tp, fn, fp",
    [
        pytest.param([], 0, 0, 0, id="no frame"),
        pytest.param([frame([1, 2], [], [])], 0, 2, 0, id="nothing predicted"),
        pytest.param([frame([], [4], [])], 0, 0, 1, id="nothing there"),
        pytest.param([frame([], [], [])], 0, 0, 0, id="nothing at all"),
    ],
)
def test_empty_sides_only_miss_or_invent(frames, tp, fn, fp):
    counts = hota_counts(frames)
    assert (counts.tp[0], counts.fn[0], counts.fp[0]) == (tp, fn, fp)
    clear = clear_counts(frames)
    assert (clear.tp, clear.fn, clear.fp) == (tp, fn, fp)
    assert hota_scores(counts)["HOTA"] == 0


def test_a_threshold_is_met_by_its_own_value():
    counts = hota_counts([frame([1], [1], [[0.5]])])
    assert counts.tp.tolist() == [1.0] * 10 + [0.0] * 9
    assert clear_counts([frame([1], [1], [[0.5]])]).tp == 1


def test_sequences_weigh_by_what_was_matched():
    long = hota_counts([frame([1], [1], [[1]])] * 9)
    short = hota_counts([frame([1], [1], [[1]]), frame([1], [2], [[1]])])
    together = hota_scores(add_hota_counts([long, short]))
    assert together["AssA"] == pytest.approx((9 * 1.0 + 2 * 0.5) / 11)
    assert add_hota_counts([]).tp.tolist() == [0.0] * 19


def test_clear_keeps_a_valid_pairing_over_a_better_one():
    frames = [frame([1], [1], [[0.9]]), frame([1], [1, 2], [[0.5, 1.0]]), frame([1], [1, 2], [[0.4, 1.0]])]
    counts = clear_counts(frames)
    assert counts.similarity == pytest.approx(0.9 + 0.5 + 1.0)
    assert counts.switches == 1


def test_a_switch_is_counted_after_a_gap():
    frames = [frame([1], [1], [[1]]), frame([1], [3], [[0]]), frame([1], [2], [[1]])]
    counts = clear_counts(frames)
    assert (counts.switches, counts.fragments) == (1, 1)


def test_a_frame_with_one_side_empty_does_not_end_a_pairing():
    frames = [frame([1], [1], [[1]]), frame([1], [], []), frame([1], [1], [[1]])]
    assert clear_counts(frames).fragments == 0


def test_clear_counts_add_up():
    counts = clear_counts([frame([1], [1, 2], [[0.75, 0]])])
    assert add_clear_counts([counts, counts]) == ClearCounts(
        tp=2, fp=2, mostly_tracked=2, identity_tp=2, similarity=1.5
    )


def test_unmatched_predictions_are_those_without_a_half_overlap():
    similarity = np.array([[0.9, 0.8, 0.0], [0.6, 0.0, 0.4]])
    assert unmatched(similarity, invalid=0.0).tolist() == [False, False, True]
    assert unmatched(np.zeros((0, 2)), invalid=0.0).tolist() == [True, True]


def test_a_track_may_be_on_a_frame_only_once():
    with pytest.raises(InputError, match="predicted track 4 is on the frame twice"):
        frame([1], [4, 4], [[0.5, 0.5]])


def test_similarity_must_have_a_row_a_truth_and_a_column_a_prediction():
    with pytest.raises(InputError, match=r"similarity of 1 true and 2 predicted tracks is \[1, 2\], not \[2, 1\]"):
        TrackedFrame(np.array([1]), np.array([1, 2]), np.zeros((2, 1)))


# Similarities


def random_pair(seed: int) -> tuple[list[FrameSegmentation], list[FrameSegmentation]]:
    """Two segmentations of one frame, each as a label map and packed."""
    rng = np.random.default_rng(seed)
    size_hw = (int(rng.integers(1, 12)), int(rng.integers(1, 20)))
    pair = []
    for _ in range(2):
        count = int(rng.integers(0, 4))
        segments = tuple(Segment(n + 1, n + 1) for n in range(count))
        labels = torch.from_numpy(rng.integers(0, count + 1, size_hw) * (rng.random(size_hw) < 0.7))
        label_map = disjoint(0, labels, segments)
        pair.append([label_map, FrameSegmentation.from_masks(0, segments, label_map.masks_nhw())])
    return pair[0], pair[1]


@settings(max_examples=50, deadline=None)
@given(seeds)
def test_box_overlap_is_that_of_painted_boxes(seed):
    (truth, _), (prediction, _) = random_pair(seed)
    boxes = [side.boxes().numpy() for side in (truth, prediction)]
    painted = []
    for listed in boxes:
        masks = np.zeros((len(listed), *truth.size_hw), dtype=bool)
        for mask, (x0, y0, x1, y1) in zip(masks, listed, strict=True):
            mask[y0:y1, x0:x1] = True
        painted.append(masks)
    overlap = box_iou(boxes[0], boxes[1])
    for g, p in np.ndindex(*overlap.shape):
        union = (painted[0][g] | painted[1][p]).sum()
        assert overlap[g, p] == ((painted[0][g] & painted[1][p]).sum() / union if union else 0.0)
