"""Rules of SAM 3: as those of `transformers`, whose methods are the oracle, on masks that are drawn by chance."""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from transformers import Sam3VideoModel
from transformers.models.sam3_video import modeling_sam3_video as library
from transformers.models.sam3_video.processing_sam3_video import Sam3VideoProcessor

from maskstream.systems.hub.sam3_rules import (
    Matches,
    MatchRules,
    Standing,
    TrialRules,
    as_remembered,
    as_shown,
    hidden_by_others,
    judged,
    mask_ious,
    matched,
    without_doubles,
    without_specks,
)

PROCESSOR: Any = Sam3VideoProcessor


class Library:
    """Methods of the library's model, without the model."""

    _associate_det_trk = Sam3VideoModel._associate_det_trk
    _process_hotstart = Sam3VideoModel._process_hotstart
    _suppress_object_pw_area_shrinkage = Sam3VideoModel._suppress_object_pw_area_shrinkage
    _suppress_object_pw_area_shrinkage_impl = Sam3VideoModel._suppress_object_pw_area_shrinkage_impl
    _apply_non_overlapping_constraints = Sam3VideoModel._apply_non_overlapping_constraints
    _suppress_shrunk_masks = Sam3VideoModel._suppress_shrunk_masks
    suppressed = Sam3VideoModel._get_objects_to_suppress_based_on_most_recently_occluded

    def __init__(self, **rules: Any) -> None:
        vars(self).update(rules)

    def __getattr__(self, name: str) -> Any:  # its annotations do not say what it is made of
        raise AttributeError(name)


def blobs(count, seed, size=12, level=0.0):
    """Logits of masks that hang together, more or less."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(count, size, size)), (0, 1.2, 1.2)) * 8
    return torch.from_numpy(noise).float() + level


def chance(seed):
    """Numbers by chance: how many of each there are, scores and concepts."""
    rng = np.random.default_rng(seed)
    found, followed = (int(n) for n in rng.integers(0, 6, 2))
    scores = torch.from_numpy(rng.random(found)).float()
    return found, followed, scores, rng.integers(1, 3, found).tolist(), rng.integers(1, 3, followed).tolist()


# ------------------------------------------------------------------------- masks


def test_overlap_is_what_two_masks_share_of_what_they_cover():
    masks = torch.zeros(3, 2, 4, dtype=torch.bool)
    masks[0, 0] = masks[1, 0, :2] = True
    expected = [[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 0.0]]
    assert mask_ious(masks, masks).tolist() == expected


@pytest.mark.parametrize("seed", range(10))
def test_of_doubles_the_surest_stays_as_in_the_library(kernels, seed):
    masks, scores = blobs(7, seed, level=1.0), torch.from_numpy(np.random.default_rng(seed).random(7)).float()
    expected = library.nms_masks(scores, masks, 0.0, 0.4)
    assert torch.equal(without_doubles(masks > 0, scores, 0.4), expected)
    assert not expected.all()


@pytest.mark.parametrize("seed", range(10))
def test_holes_and_specks_go_as_in_the_library(kernels, seed):
    masks = blobs(5, seed, level=[-2.0, 0.0, 2.0][seed % 3]) + torch.randn(5, 12, 12, generator=torch.manual_seed(seed))
    expected = library.fill_holes_in_mask_scores(masks[:, None], 5)[:, 0]
    assert torch.equal(without_specks(masks, 5), expected)
    assert not torch.equal(masks, expected)
    assert without_specks(masks, 0) is masks


def test_an_object_that_is_one_speck_stays():
    masks = torch.full((1, 6, 6), -5.0)
    masks[0, 2, 2:4] = 5.0
    assert torch.equal(without_specks(masks, 16) > 0, masks > 0)


def test_no_masks_have_no_specks():
    assert len(without_specks(torch.zeros(0, 4, 4), 16)) == 0


# ---------------------------------------------------------------------- matching

RULES = MatchRules(same=0.2, confirms=0.35, believed=0.5, sure=0.6, close=0.25)


@pytest.mark.parametrize("seed", range(40))
def test_who_is_who_is_decided_as_in_the_library(seed):
    found, followed, scores, concepts, of_followed = chance(seed)
    detections, masks = blobs(found, seed), blobs(followed, seed + 100, level=-1.0)
    oracle: Any = Library(
        assoc_iou_thresh=RULES.same,
        trk_assoc_iou_thresh=RULES.confirms,
        new_det_thresh=RULES.believed,
        high_conf_thresh=RULES.sure,
        high_iou_thresh=RULES.close,
    )
    new, unmatched, matches, sure, _ = oracle._associate_det_trk(
        detections, scores, masks, list(range(followed)), torch.tensor(concepts), torch.tensor(of_followed)
    )
    ours = matched(detections > 0, scores, concepts, masks > 0, of_followed, RULES)
    assert (ours.new, ours.unconfirmed, ours.sure) == (new, unmatched, sure)
    assert {n: several for n, several in enumerate(ours.followed) if several} == {
        n: several for n, several in matches.items() if several
    }


def test_things_of_different_concepts_have_nothing_in_common():
    mask = torch.ones(1, 4, 4, dtype=torch.bool)
    ours = matched(mask, torch.tensor([0.9]), [1], mask, [2], RULES)
    assert (ours.new, ours.unconfirmed) == ([0], [0])
    assert matched(mask, torch.tensor([0.9]), [1], mask, [1], RULES).sure == {0: 0}


def test_at_first_everything_is_new_however_unsure():
    masks = torch.ones(2, 4, 4, dtype=torch.bool)
    assert matched(masks, torch.tensor([0.1, 0.9]), [1, 1], masks[:0], [], RULES).new == [0, 1]
    assert matched(masks[:1], torch.tensor([0.1]), [2], masks[:1], [1], RULES).new == []


# ------------------------------------------------------------------------- trial


@pytest.mark.parametrize("hides", [False, True])
@pytest.mark.parametrize("empty_dies", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_objects_are_judged_as_in_the_library(seed, empty_dies, hides):
    rng = np.random.default_rng(seed)
    rules = TrialRules(
        frames=5, unconfirmed=3, doubles=2, most_alive=4, least_alive=-1, empty_dies=empty_dies, hides=hides
    )
    oracle: Any = Library(
        hotstart_delay=5,
        hotstart_unmatch_thresh=3,
        hotstart_dup_thresh=2,
        init_trk_keep_alive=2,
        max_trk_keep_alive=4,
        min_trk_keep_alive=-1,
        decrease_trk_keep_alive_for_empty_masklets=empty_dies,
        suppress_unmatched_only_within_hotstart=not hides,
    )
    kept: dict[str, Any] = {
        "obj_first_frame_idx": {},
        "unmatched_frame_inds": defaultdict(list),
        "trk_keep_alive": {},
        "overlap_pair_to_frame_inds": defaultdict(list),
        "removed_obj_ids": set(),
        "suppressed_obj_ids": defaultdict(set),
    }
    standings: dict[int, Standing] = {}
    fallen, hidden = 0, 0
    for position in range(40):
        ids = list(standings)
        draws = {kind: [n for n in range(len(ids)) if rng.random() < 0.3] for kind in ("unconfirmed", "empty")}
        followed = [[n for n in range(len(ids)) if rng.random() < 0.15] for _ in range(3)]
        new = [1 + position] if rng.random() < 0.4 else []
        verdict = judged(standings, Matches([], followed, draws["unconfirmed"], {}), draws["empty"], position, rules)
        expected, kept = oracle._process_hotstart(
            None,
            position,
            False,
            {d: [ids[n] for n in several] for d, several in enumerate(followed)},
            new,
            [ids[n] for n in draws["empty"]],
            [ids[n] for n in draws["unconfirmed"]],
            kept,
        )
        assert set(verdict.fallen) == expected
        assert set(verdict.hidden) == kept["suppressed_obj_ids"][position] & set(standings)
        standings |= {n: Standing(1, position, 2) for n in new}
        for n in verdict.fallen:
            del standings[n]
        fallen, hidden = fallen + len(verdict.fallen), hidden + len(verdict.hidden)
    assert fallen
    assert bool(hidden) == hides


def test_what_is_counted_of_an_object_does_not_grow():
    rules = TrialRules(frames=3, unconfirmed=9, doubles=9, most_alive=4, least_alive=-1, empty_dies=False, hides=False)
    standings = {n: Standing(1, n, 2) for n in range(4)}
    for position in range(4, 30):
        judged(standings, Matches([], [[0, 1, 2, 3]], [], {}), [], position, rules)
    assert all(not standing.doubles for standing in standings.values())


def test_reasons_say_what_an_object_failed():
    rules = TrialRules(frames=9, unconfirmed=2, doubles=1, most_alive=4, least_alive=-1, empty_dies=False, hides=False)
    standings = {7: Standing(1, 0, 2), 8: Standing(1, 1, 2), 9: Standing(1, 1, 2, unconfirmed=1)}
    verdict = judged(standings, Matches([], [[0, 1]], [2], {}), [], 2, rules)
    assert verdict.fallen == {
        8: "it is object 7 once more",
        9: "on 2 of its first frames nothing was detected where it is",
    }


# -------------------------------------------------------------------- one or other


@pytest.mark.parametrize("seed", range(20))
def test_who_was_out_of_sight_gives_way_as_in_the_library(seed):
    rng = np.random.default_rng(seed)
    masks, hidden = blobs(6, seed, level=4.0) > 0, rng.integers(-1, 4, 6)
    oracle: Any = Library(suppress_overlapping_based_on_recent_occlusion_threshold=0.6)
    expected = oracle.suppressed(masks, torch.from_numpy(hidden), list(range(6)))
    standings = [Standing(1, 0, 1, hidden=int(n)) for n in hidden]
    assert hidden_by_others(masks, standings, 0.6) == expected.nonzero().flatten().tolist()
    assert not hidden_by_others(masks, standings, 0.0)


def test_things_of_different_concepts_do_not_give_way():
    masks = torch.ones(2, 4, 4, dtype=torch.bool)
    standings = [Standing(1, 0, 1, hidden=3), Standing(1, 0, 1, hidden=5)]
    assert hidden_by_others(masks, standings, 0.7) == [1]
    standings[1].concept = 2
    assert hidden_by_others(masks, standings, 0.7) == []


@pytest.mark.parametrize("seed", range(10))
def test_what_has_no_place_of_its_own_is_not_remembered_as_in_the_library(seed):
    masks, concepts = blobs(5, seed, level=3.0), [1, 2, 1, 1, 3]
    oracle: Any = Library()
    expected = oracle._suppress_object_pw_area_shrinkage(masks[:, None], concepts)[:, 0]
    assert torch.equal(as_remembered(masks, concepts), expected)


def test_some_masks_have_no_place_of_their_own():
    inside = torch.full((2, 4, 4), 5.0)
    inside[0] += 1
    assert as_remembered(inside, [1, 1])[1].max() == -10.0
    assert torch.equal(as_remembered(inside, [1, 2]), inside)


@pytest.mark.parametrize("seed", range(10))
def test_pixels_have_one_owner_of_a_concept_as_in_the_library(seed):
    masks, concepts = blobs(5, seed, level=2.0) > 0, [1, 2, 1, 2, 1]
    scores = torch.from_numpy(np.random.default_rng(seed).random(5).round(1)).float() + 0.05
    own = SimpleNamespace(
        _apply_non_overlapping_constraints=lambda m: PROCESSOR._apply_non_overlapping_constraints(None, m)
    )
    own._apply_object_wise_non_overlapping_constraints_impl = lambda *given: (
        PROCESSOR._apply_object_wise_non_overlapping_constraints_impl(own, *given)
    )
    expected = PROCESSOR._apply_object_wise_non_overlapping_constraints(
        own, masks[:, None], scores[:, None], background_value=0, prompt_ids=concepts
    )
    assert torch.equal(as_shown(masks.clone(), scores, concepts), expected[:, 0] > 0)
