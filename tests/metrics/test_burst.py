"""BURST: the golden values of all tasks with both similarities, brute force, and the rules of annotation one by one."""

from __future__ import annotations

import itertools
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from maskstream.metrics.burst import COMMON, DISTRACTORS, MERGED, BurstGuided, BurstOpenWorld, BurstSequence
from maskstream.metrics.hota import TrackedFrame, hota_counts, hota_scores
from maskstream.types import FrameAnnotation, FrameSegmentation, InputError, Segment

from .fixtures_tracks import all_matchings, burst_sequences, expected, needs_fixtures, square

seeds = st.integers(0, 2**32 - 1)
Frames = list[tuple[FrameAnnotation, FrameSegmentation]]
Sequences = list[tuple[str, BurstSequence, Frames]]
Metric = BurstGuided | BurstOpenWorld

SIMILARITY: dict[str, Literal["box", "mask"]] = {"official": "box", "mask_similarity": "mask"}
GOLDEN = expected("burst")
CASES = [
    (kind, task, measure, group)
    for kind, tasks in GOLDEN.items()
    for task, measures in tasks.items()
    if task != "produced_by"
    for measure, groups in measures.items()
    if measure != "task"
    for group in groups
] or [("no fixtures", "", "", "")]
BABY, ACORN, ALLIGATOR = 805, 1, 7  # common, uncommon, uncommon


def metric_of(task: str, similarity: Literal["box", "mask"] = "box") -> Metric:
    if task.startswith("open_world"):
        return BurstOpenWorld(similarity=similarity)
    return BurstGuided("class" if task.startswith("class") else "exemplar", similarity=similarity)


def evaluated(metric: Metric, sequences: Sequences) -> Metric:
    for name, meta, frames in sequences:
        for index, (truth, prediction) in enumerate(frames):
            metric.update(name, index, truth, prediction, meta)
        metric.end_sequence(name)
    return metric


@pytest.fixture(scope="module")
def golden_runs() -> dict[tuple[str, str], dict[str, float]]:
    runs: dict[tuple[str, str], dict[str, float]] = {}
    for kind, task in {(kind, task) for kind, task, *_ in CASES}:
        metric = metric_of(task, SIMILARITY[kind])
        runs[kind, task] = evaluated(metric, list(burst_sequences("all_classes", task))).result().values
    return runs


@needs_fixtures
@pytest.mark.parametrize("kind, task, measure, group", CASES)
def test_burst_equals_the_reference(golden_runs, kind, task, measure, group):
    value = 100 * golden_runs[kind, task][f"{measure}_{group}"]
    assert value == pytest.approx(GOLDEN[kind][task][measure][group], abs=1e-6)


@needs_fixtures
@pytest.mark.parametrize("group", ["common", "uncommon"])
def test_one_open_world_run_equals_a_run_on_the_file_of_each_group(golden_runs, group):
    alone = evaluated(BurstOpenWorld(), list(burst_sequences(f"{group}_classes", "open_world"))).result().values
    for measure in ("OWTA", "DetRe", "AssA"):
        assert alone[f"{measure}_all"] == golden_runs["official", "open_world"][f"{measure}_{group}"]


@needs_fixtures
def test_on_paper_the_predicted_categories_of_exemplars_are_irrelevant():
    """The released program does not do what its documentation says; the golden value is that of right categories."""
    sequences = list(burst_sequences("all_classes", "exemplar_guided_dummy_categories"))
    values = evaluated(BurstGuided("exemplar", compat="paper"), sequences).result().values
    golden = GOLDEN["official"]["exemplar_guided"]
    for measure, group in itertools.product(("HOTA", "DetA", "AssA", "AP"), ("all", "common", "uncommon")):
        assert 100 * values[f"{measure}_{group}"] == pytest.approx(golden[measure][group], abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_on_paper_a_track_has_the_category_of_the_exemplar_with_its_id(seed):
    frames = random_frames(seed)
    category_of = {s.track_id: s.category for t, _ in frames for s in t.segmentation.segments if s.category != 63}
    right: Frames = []
    for truth, prediction in frames:
        kept = [n for n, s in enumerate(prediction.segments) if s.track_id in category_of]
        segments = tuple(
            Segment(s.id, s.track_id, category_of[s.track_id], s.score) for s in (prediction.segments[n] for n in kept)
        )
        right.append((truth, FrameSegmentation.from_masks(0, segments, prediction.masks_nhw()[kept])))
    values = evaluated(BurstGuided("exemplar", compat="paper"), [("a", METAS[0], frames)]).result().values
    other = evaluated(BurstGuided("exemplar"), [("a", METAS[0], right)]).result().values
    assert values == pytest.approx(other, abs=1e-12, nan_ok=True)


def test_categories_of_the_class_guided_task_are_never_irrelevant():
    with pytest.raises(InputError, match="predicted categories matter here"):
        BurstGuided("class", compat="paper")


def test_the_lists_of_categories_have_their_published_lengths():
    assert (len(COMMON), len(DISTRACTORS), len(MERGED)) == (78, 45, 7)


# Brute force


def random_frames(seed: int) -> Frames:
    rng = np.random.default_rng(seed)
    frames: Frames = []
    for index in range(int(rng.integers(1, 5))):
        sides = []
        for categories in ((BABY, BABY, ACORN, 63), (BABY, BABY, ACORN, ALLIGATOR)):
            chosen = [n for n in range(4) if rng.random() < 0.7]
            segments = tuple(Segment(n + 1, n + 1, categories[n], float(rng.choice([0.1, 0.4, 0.8]))) for n in chosen)
            masks = [square((9, 9), 2 * n + int(rng.integers(2)), index, 3 + int(rng.integers(2))) for n in chosen]
            stacked = torch.stack(masks) if masks else torch.zeros((0, 9, 9), dtype=torch.bool)
            # Ragged edges, so that two similarities are seldom equal by accident.
            ragged = stacked & torch.from_numpy(rng.random((len(chosen), 9, 9)) < 0.9)
            sides.append(FrameSegmentation.from_masks(index, segments, ragged))
        frames.append((FrameAnnotation(sides[0]), sides[1]))
    return frames


def literal_frames(
    frames: Frames, categories: frozenset[int], meta: BurstSequence, *, remove: bool, open_world: bool = False
) -> list[TrackedFrame]:
    """§9.3 word for word, on boolean masks, for the true objects of some categories."""
    chosen = []
    for truth, prediction in frames:
        pairs = zip(truth.segmentation.segments, truth.segmentation.masks_nhw().numpy(), strict=True)
        everyone = [(s.track_id, s.category, mask) for s, mask in pairs if s.category != 63]
        truths = [(track, mask) for track, number, mask in everyone if number in categories]
        if not (truths if open_world else everyone):
            continue
        found = zip(prediction.segments, prediction.masks_nhw().numpy(), strict=True)
        guesses = [(s.track_id, mask) for s, mask in found if open_world or s.category in categories]
        iou = np.zeros((len(truths), len(guesses)))
        for g, p in np.ndindex(*iou.shape):
            union = (truths[g][1] | guesses[p][1]).sum()
            iou[g, p] = (truths[g][1] & guesses[p][1]).sum() / union if union else 0.0
        listed = frozenset({1}) if open_world else categories
        unsure = (not truths and not listed & meta.negative) or bool(listed & meta.not_exhaustive)
        keep = only_best_matching(iou) if remove and unsure else list(range(len(guesses)))
        ids = np.array([guesses[p][0] for p in keep], dtype=np.int64)
        chosen.append(TrackedFrame(np.array([t for t, _ in truths], dtype=np.int64), ids, iou[:, keep]))
    return chosen


def only_best_matching(iou: NDArray[np.float64]) -> list[int]:
    """The predictions of the best assignment of pairs with an IoU of at least 0.5. Any of equally good ones is right,
    so an example in which they leave different predictions over is not one."""
    worth = {
        pairs: sum(iou[pair] for pair in pairs)
        for pairs in map(tuple, all_matchings(*iou.shape))
        if all(iou[pair] >= 0.5 for pair in pairs)
    }
    best = {frozenset(p for _, p in pairs) for pairs, value in worth.items() if value > max(worth.values()) - 1e-9}
    assume(len(best) == 1)
    return sorted(*best)


METAS = [
    BurstSequence(),
    BurstSequence(negative=frozenset({ACORN})),
    BurstSequence(not_exhaustive=frozenset({BABY, ACORN})),
]


@pytest.mark.parametrize("guide", ["class", "exemplar"])
@settings(max_examples=40, deadline=None)
@given(seed=seeds, meta=st.sampled_from(METAS))
def test_guided_tasks_equal_their_definition_on_tiny_sequences(guide, seed, meta):
    frames = random_frames(seed)
    report = evaluated(BurstGuided(guide, similarity="mask"), [("a", meta, frames)]).result()
    present = {s.category for truth, _ in frames for s in truth.segmentation.segments} - {63}
    assert set(report.per_class) == {str(category) for category in present}
    for category in present:
        assert category is not None
        literal = literal_frames(frames, frozenset({category}), meta, remove=guide == "class")
        scores = hota_scores(hota_counts(literal))
        for measure in ("HOTA", "DetA", "AssA"):
            assert report.per_class[str(category)][measure] == pytest.approx(scores[measure], abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, meta=st.sampled_from(METAS))
def test_open_world_equals_its_definition_on_tiny_sequences(seed, meta):
    frames = random_frames(seed)
    values = evaluated(BurstOpenWorld(similarity="mask"), [("a", meta, frames)]).result().values
    for group, categories in (("all", {BABY, ACORN}), ("common", {BABY}), ("uncommon", {ACORN})):
        literal = literal_frames(frames, frozenset(categories), meta, remove=True, open_world=True)
        scores = hota_scores(hota_counts(literal))
        for measure in ("OWTA", "DetRe", "AssA"):
            assert values[f"{measure}_{group}"] == pytest.approx(scores[measure], abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_mirroring_and_renaming_change_nothing(seed):
    frames = random_frames(seed)
    changed: Frames = []
    for truth, prediction in frames:
        names = {1: 31, 2: 5, 3: 77, 4: 2}
        renamed = tuple(Segment(names[s.id], names[s.track_id], s.category, s.score) for s in prediction.segments)
        mirrored = FrameSegmentation.from_masks(
            truth.segmentation.frame_index, truth.segmentation.segments, truth.segmentation.masks_nhw().flip(2)
        )
        found = FrameSegmentation.from_masks(prediction.frame_index, renamed, prediction.masks_nhw().flip(2))
        changed.append((FrameAnnotation(mirrored), found))
    for task in ("class", "open_world"):
        values = evaluated(metric_of(task, "mask"), [("a", METAS[0], frames)]).result().values
        other = evaluated(metric_of(task, "mask"), [("a", METAS[0], changed)]).result().values
        assert other == pytest.approx(values, abs=1e-12, nan_ok=True)


# Rules


def one(index: int, *objects: tuple[int, int, tuple[int, int]], score: float | None = None) -> FrameSegmentation:
    """Squares of 4 pixels on a 20×20 frame: track, category and corner (y, x) of each."""
    masks = [square((20, 20), y, x, 4) for _, _, (y, x) in objects]
    segments = tuple(Segment(track, track, category, score) for track, category, _ in objects)
    stacked = torch.stack(masks) if masks else torch.zeros((0, 20, 20), dtype=torch.bool)
    return FrameSegmentation.from_masks(index, segments, stacked)


def values_of(metric: Metric, frames: Frames, meta: BurstSequence | None = None) -> dict[str, float]:
    return evaluated(metric, [("a", meta or BurstSequence(), frames)]).result().values


@pytest.mark.parametrize("task", ["class", "exemplar", "open_world"])
def test_a_perfect_result_scores_one(task):
    found = one(0, (1, BABY, (0, 0)), (2, ACORN, (8, 8)))
    values = values_of(metric_of(task), [(FrameAnnotation(found), found)])
    assert list(values.values()) == pytest.approx([1.0] * len(values))


@pytest.mark.parametrize("task", ["class", "exemplar", "open_world"])
def test_an_empty_result_scores_zero(task):
    truth = one(0, (1, BABY, (0, 0)), (2, ACORN, (8, 8)))
    values = values_of(metric_of(task), [(FrameAnnotation(truth), one(0))])
    assert set(values.values()) == {0.0}


def test_without_classes_of_a_group_its_mean_is_undefined():
    found = one(0, (1, BABY, (0, 0)))
    values = values_of(metric_of("class"), [(FrameAnnotation(found), found)])
    assert values["HOTA_common"] == 1.0
    assert np.isnan(values["HOTA_uncommon"])


def test_frames_without_an_object_do_not_count():
    seen, distractor = one(0, (1, BABY, (0, 0))), one(1, (2, 63, (8, 8)))
    ghost = one(1, (1, BABY, (8, 8)))
    values = values_of(metric_of("exemplar"), [(FrameAnnotation(seen), seen), (FrameAnnotation(distractor), ghost)])
    assert values["HOTA_all"] == 1.0


def test_merged_categories_are_one():
    truth, found = one(0, (1, 207, (0, 0))), one(0, (1, 554, (0, 0)))
    report = evaluated(metric_of("class"), [("a", BurstSequence(), [(FrameAnnotation(truth), found)])]).result()
    assert report.per_class["554"]["HOTA"] == 1.0
    assert set(report.per_class) == {"554"}


def test_what_merges_into_a_distractor_is_not_averaged():
    found = one(0, (1, 967, (0, 0)), (2, BABY, (8, 8)))
    report = evaluated(metric_of("class"), [("a", BurstSequence(), [(FrameAnnotation(found), found)])]).result()
    assert set(report.per_class) == {str(BABY)}


@pytest.mark.parametrize(
    "guide, meta, detection",
    [
        pytest.param("class", BurstSequence(), 1.0, id="class not searched for on this frame: dropped"),
        pytest.param("class", BurstSequence(negative=frozenset({ACORN})), 1 / 2, id="certainly absent: wrong"),
        pytest.param("class", BurstSequence(not_exhaustive=frozenset({ACORN})), 1.0, id="not exhaustive: dropped"),
        pytest.param("exemplar", BurstSequence(), 1 / 2, id="exemplar: never dropped"),
    ],
)
def test_a_ghost_counts_only_where_the_annotation_can_tell(guide, meta, detection):
    both, baby = one(0, (1, BABY, (0, 0)), (2, ACORN, (8, 8))), one(1, (1, BABY, (0, 0)))
    ghost = one(1, (1, BABY, (0, 0)), (2, ACORN, (15, 15)))
    frames = [(FrameAnnotation(both), both), (FrameAnnotation(baby), ghost)]
    report = evaluated(BurstGuided(guide), [("a", meta, frames)]).result()
    assert report.per_class[str(BABY)]["DetA"] == 1.0
    assert report.per_class[str(ACORN)]["DetA"] == detection


def test_an_open_world_keeps_ghosts_unless_category_one_is_not_exhaustive():
    truth, found = one(0, (1, BABY, (0, 0))), one(0, (1, BABY, (0, 0)), (1 + 1, BABY, (15, 15)))
    switching = one(1, (2, BABY, (0, 0)))
    frames = [(FrameAnnotation(truth), found), (FrameAnnotation(one(1, (1, BABY, (0, 0)))), switching)]
    kept = values_of(BurstOpenWorld(), frames)
    dropped = values_of(BurstOpenWorld(), frames, BurstSequence(not_exhaustive=frozenset({1})))
    assert kept["DetRe_all"] == dropped["DetRe_all"] == 1.0
    assert kept["AssA_all"] == pytest.approx((1 / 2 + 1 / 3) / 2)  # the ghost lengthens the second track
    assert dropped["AssA_all"] == pytest.approx(1 / 2)


def test_boxes_forgive_what_masks_do_not():
    ring = torch.zeros((1, 20, 20), dtype=torch.bool)
    ring[0, 2:10, 2:10] = True
    hollow = ring.clone()
    hollow[0, 3:9, 3:9] = False
    truth = FrameSegmentation.from_masks(0, (Segment(1, 1, BABY),), ring)
    found = FrameSegmentation.from_masks(0, (Segment(1, 1, BABY),), hollow)
    frames = [(FrameAnnotation(truth), found)]
    assert values_of(metric_of("class", "box"), frames)["HOTA_all"] == 1.0
    assert values_of(metric_of("class", "mask"), frames)["HOTA_all"] == pytest.approx(8 / 19)  # IoU 28/64, α to 0.40
    assert values_of(metric_of("class", "box"), frames)["AP_all"] == 0.0  # track AP always uses masks


def test_only_the_300_best_detections_of_a_frame_count():
    truth = one(0, (1, BABY, (0, 0)))
    junk = [(n, BABY, (15, 15)) for n in range(2, 302)]
    masks = torch.stack([square((20, 20), y, x, 4) for _, _, (y, x) in [*junk, (1, BABY, (0, 0))]])
    for score, recall in ((0.1, 0.0), (0.9, 1.0)):
        segments = (*(Segment(n, n, BABY, 0.5) for n, *_ in junk), Segment(1, 1, BABY, score))
        found = FrameSegmentation.from_masks(0, segments, masks)
        assert values_of(BurstOpenWorld(), [(FrameAnnotation(truth), found)])["DetRe_all"] == recall


def test_an_empty_mask_is_a_detection_unless_dropped():
    seen = one(0, (1, BABY, (0, 0)))
    masks = torch.cat([seen.masks_nhw(), torch.zeros((1, 20, 20), dtype=torch.bool)])
    found = FrameSegmentation.from_masks(0, (*seen.segments, Segment(2, 2, BABY)), masks)
    for similarity in ("box", "mask"):
        frames = [(FrameAnnotation(seen), found)]
        counted = values_of(BurstGuided("class", similarity=similarity), frames)
        assert counted["DetA_all"] == 0.5
        dropped = values_of(BurstGuided("class", similarity=similarity, empty_masks="drop"), frames)
        assert dropped["DetA_all"] == 1.0


def test_tracks_of_classes_nobody_looked_for_do_not_lower_track_ap():
    truth = one(0, (1, BABY, (0, 0)))
    ghost = one(0, (1, ACORN, (9, 9)), score=0.9)
    seen = one(0, (1, ACORN, (9, 9)), score=0.5)
    for negative, precision in ((frozenset[int](), 1.0), (frozenset({ACORN}), 0.5)):
        sequences = [
            ("a", BurstSequence(negative), [(FrameAnnotation(truth), ghost)]),
            ("b", BurstSequence(), [(FrameAnnotation(seen), seen)]),
        ]
        assert evaluated(BurstGuided("class"), sequences).result().per_class[str(ACORN)]["AP"] == pytest.approx(
            precision
        )


# Bad input


def test_the_sequence_must_say_what_it_annotates():
    found = one(0, (1, BABY, (0, 0)))
    with pytest.raises(InputError, match="a, frame 0: give the same BurstSequence with every frame"):
        BurstGuided("class").update("a", 0, FrameAnnotation(found), found)
    metric = BurstGuided("class")
    metric.update("a", 0, FrameAnnotation(found), found, BurstSequence())
    with pytest.raises(InputError, match="a, frame 1: give the same BurstSequence"):
        metric.update("a", 1, FrameAnnotation(found), found, BurstSequence(frozenset({4})))


def test_guided_tasks_need_categories_and_an_open_world_none_of_the_prediction():
    truth = one(0, (1, BABY, (0, 0)))
    nameless = FrameSegmentation.from_masks(0, (Segment(1, 1),), truth.masks_nhw())
    with pytest.raises(InputError, match="a, frame 0: segment 1 has no category"):
        BurstGuided("class").update("a", 0, FrameAnnotation(truth), nameless, BurstSequence())
    assert values_of(BurstOpenWorld(), [(FrameAnnotation(truth), nameless)])["OWTA_all"] == 1.0


def test_a_track_may_be_on_a_frame_only_once():
    truth = one(0, (1, BABY, (0, 0)))
    twice = FrameSegmentation.from_masks(
        0, (Segment(1, 1, BABY), Segment(2, 1, BABY)), truth.masks_nhw().repeat(2, 1, 1)
    )
    with pytest.raises(InputError, match="a, frame 0: predicted track 1 is on the frame twice"):
        BurstGuided("class").update("a", 0, FrameAnnotation(truth), twice, BurstSequence())


def test_nothing_evaluated_is_undefined_for_guided_tasks():
    assert np.isnan(BurstGuided("class").result().values["HOTA_all"])
