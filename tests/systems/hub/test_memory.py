"""What is remembered: every policy against memories counted by hand."""

import math
from dataclasses import replace

import pytest
import torch

from maskstream.systems.hub.memory import (
    POLICIES,
    Branch,
    DistractorAware,
    HypothesisTree,
    Kind,
    Memory,
    Pathway,
    RecentFrames,
    agreements,
    fit,
    memory_bytes,
    policy_named,
)
from maskstream.types import InputError

FEATURES, POINTER = 4 * 8 * 2, 16 * 4
"""Bytes of one memory's features and of its pointer."""


def memory(position, kind=Kind.RECENT, **known):
    return Memory(position, kind, torch.zeros(16), torch.zeros(4, 8, dtype=torch.bfloat16), **known)


def played(policy, frames, kinds=None, known=None):
    """What is kept after so many frames, the first of which was prompted."""
    kept = ()
    for position in range(frames):
        kind = (kinds or {0: Kind.PROMPTED}).get(position, Kind.RECENT)
        kept = policy.keep(kept, memory(position, kind, **(known or {}).get(position, {})))
    return kept


def full(kept):
    return [m.position for m in kept if m.features_tc is not None]


def slots(policy, kept, position):
    return {m.position: slot for slot, m in policy.read(kept, position).spatial}


def test_recent_frames_keep_the_prompt_and_the_last_ones():
    policy = RecentFrames(recent=2, pointers=4)
    kept = played(policy, 10)
    assert full(kept) == [0, 8, 9]
    assert [m.position for m in kept] == [0, 7, 8, 9]
    assert slots(policy, kept, 10) == {0: 0, 8: 2, 9: 1}
    assert {m.position: age for age, m in policy.read(kept, 10).pointers} == {0: 10, 7: 3, 8: 2, 9: 1}


def test_of_many_prompted_frames_the_latest_stay_and_others_age():
    prompts = dict.fromkeys((0, 1, 5, 8), Kind.PROMPTED)
    kept = played(RecentFrames(recent=3, prompted=2, pointers=6), 9, prompts)
    assert [(m.position, m.kind) for m in kept if m.features_tc is not None] == [
        (5, Kind.PROMPTED),
        (6, Kind.RECENT),
        (7, Kind.RECENT),
        (8, Kind.PROMPTED),
    ]
    assert [m.position for m in kept if m.features_tc is None] == [4]  # 0 and 1 are forgotten like others


def test_first_in_first_out_forgets_the_prompt():
    policy = RecentFrames.fifo(3)
    assert full(played(policy, 3)) == [0, 1, 2]
    assert full(played(policy, 4)) == [1, 2, 3]


def test_a_prompted_frame_of_first_in_first_out_has_a_place_in_time():
    policy = RecentFrames.fifo(3)
    assert slots(policy, played(policy, 2), 2) == {0: 2, 1: 1}


@pytest.mark.parametrize(
    "policy",
    [
        RecentFrames(recent=2, prompted=1, pointers=4),
        RecentFrames.fifo(3),
        DistractorAware(recent=2, anchors=2, every=3, prompted=1, pointers=4),
        HypothesisTree(recent=2, prompted=1, pointers=4),
    ],
    ids=["recent", "fifo", "distractor-aware", "tree"],
)
def test_what_is_kept_does_not_grow(policy):
    known = {n: {"quality": 0.9, "agreement": 0.1 if n % 7 == 0 else 1.0} for n in range(60)}
    prompts = dict.fromkeys(range(0, 60, 11), Kind.PROMPTED)
    sizes = [len(played(policy, frames, prompts, known)) for frames in range(30, 60)]
    assert max(sizes) <= policy.most
    assert len(full(played(policy, 60, prompts, known))) >= 1


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        pytest.param({}, {0: 0, 5: 2, 7: 1}, id="every fifth frame and the last"),
        pytest.param({7: {"presence": -1.0}}, {0: 0, 5: 2, 6: 1}, id="where the object is gone, nothing is learned"),
        pytest.param(
            {3: {"quality": 0.9, "agreement": 0.2}}, {0: 0, 3: 0, 5: 2, 7: 1}, id="told from a distractor: an anchor"
        ),
        pytest.param({3: {"quality": 0.5, "agreement": 0.2}}, {0: 0, 5: 2, 7: 1}, id="not surely told: none"),
        pytest.param(
            {n: {"quality": 0.9, "agreement": 0.2} for n in (2, 3, 7)},
            {0: 0, 2: 0, 5: 2, 6: 1, 7: 0},
            id="anchors lie apart",
        ),
    ],
)
def test_distractor_aware_memory(known, expected):
    policy = DistractorAware(recent=2, anchors=3, every=5)
    known = {n: {"quality": 0.9} for n in range(8)} | known
    assert slots(policy, played(policy, 8, known=known), 8) == expected


def test_the_oldest_anchor_goes():
    policy = DistractorAware(anchors=2, every=1, recent=1)
    known = {n: {"quality": 0.9, "agreement": 0.2} for n in (1, 2, 3)}
    kept = played(policy, 5, known=known)
    assert [m.position for m in kept if m.kind is Kind.ANCHOR] == [2, 3]


def test_a_tree_remembers_only_what_it_is_sure_of():
    policy = HypothesisTree(recent=2, sure=0.5)
    known = {2: {"quality": 0.9}, 3: {"quality": 0.4}, 4: {"quality": 0.9, "presence": -1.0}, 5: {"quality": 0.2}}
    kept = played(policy, 6, known=known)
    assert slots(policy, kept, 6) == {0: 0, 1: 2, 2: 1}


def test_a_tree_keeps_the_best_histories_of_all():
    policy = HypothesisTree(most_pathways=3)
    branches = policy.branches([math.log(0.9), math.log(0.5)], [[0.2, 0.8, 0.6], [0.9, 0.1, 0.95]])
    assert [(b.pathway, b.mask) for b in branches] == [(0, 1), (0, 2), (1, 2)]
    assert [math.exp(b.score) for b in branches] == pytest.approx([0.72, 0.54, 0.475])


def test_a_tree_of_one_answer_goes_on_with_what_it_has():
    assert HypothesisTree().branches([0.0], [[0.0]])[0].mask == 0


@pytest.mark.parametrize("policy", [RecentFrames(), DistractorAware()], ids=["recent", "distractor-aware"])
def test_without_a_tree_the_first_best_answer_counts(policy):
    assert policy.branches([0.0], [[0.3, 0.7, 0.7]]) == [Branch(0, 1, 0.0)]


def test_agreements_are_shares_of_boxes():
    logits = torch.full((1, 3, 10, 10), -1.0)
    logits[0, 0, 2:6, 2:6] = 1  # 16 pixels
    logits[0, 1, 2:6, 2:4] = 1  # a part of it
    logits[0, 2, 2:6, 8:10] = 1  # something else: the box around both is 4×8
    values = agreements(logits)[0].tolist()
    assert values == pytest.approx([16 / 32, 8 / 32, 8 / 32])


@pytest.mark.parametrize(
    ("filled", "expected"),
    [
        pytest.param([], [1.0, 1.0], id="nothing anywhere"),
        pytest.param([0], [1.0, 0.0], id="the other is empty"),
        pytest.param([0, 1], [1.0, 1.0], id="the same"),
    ],
)
def test_agreement_with_empty_answers(filled, expected):
    logits = torch.full((1, 2, 6, 6), -1.0)
    logits[0, filled, 1:3, 1:3] = 1
    assert agreements(logits)[0].tolist() == expected


def test_one_answer_agrees_with_itself():
    assert agreements(torch.ones(2, 1, 4, 4)).tolist() == [[1.0], [1.0]]


def test_pathways_share_what_they_have_in_common():
    common, own = memory(0), memory(1)
    objects = {1: [Pathway((common, own)), Pathway((replace(common, kind=Kind.RECENT), memory(1)))]}
    assert memory_bytes(objects) == 3 * (FEATURES + POINTER)


def test_recent_frames_go_first_and_the_oldest_of_them():
    one = [Pathway((memory(0, Kind.PROMPTED), memory(3, Kind.ANCHOR), memory(5), memory(6)))]
    other = [Pathway((memory(2, Kind.PROMPTED), memory(4)))]
    objects = {1: one, 2: other}
    everything = memory_bytes(objects)
    left = fit(objects, everything - 2 * FEATURES)
    assert full(left[1][0].memories) == [0, 3, 6]
    assert full(left[2][0].memories) == [2]
    assert [m.position for m in left[1][0].memories] == [0, 3, 5, 6]  # pointers stay
    assert full(fit(objects, everything - 3 * FEATURES)[1][0].memories) == [0, 3]
    assert full(fit(objects, everything - 4 * FEATURES)[1][0].memories) == [0]


def test_what_fits_is_left_alone():
    objects = {1: [Pathway((memory(0, Kind.PROMPTED), memory(1)))]}
    assert fit(objects, memory_bytes(objects)) == objects


def test_every_pathway_keeps_its_last_resort():
    objects = {1: [Pathway((memory(0, Kind.PROMPTED), memory(1, Kind.PROMPTED), memory(2)))]}
    assert full(fit(objects, 1)[1][0].memories) == [1]


def test_policies_have_names():
    assert {name: type(policy_named(name)) for name in POLICIES} == {
        "recent": RecentFrames,
        "fifo": RecentFrames,
        "anchors": DistractorAware,
        "tree": HypothesisTree,
    }
    assert policy_named("fifo") == RecentFrames.fifo()
    with pytest.raises(InputError, match="unknown memory policy 'all'; known: recent, fifo, anchors, tree"):
        policy_named("all")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RecentFrames(recent=0), "recent of a memory policy is at least 1, not 0"),
        (lambda: RecentFrames(pointers=0), "pointers"),
        (lambda: DistractorAware(prompted=0), "prompted of a memory policy is at least 1"),
        (lambda: HypothesisTree(most_pathways=0), "most_pathways"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
