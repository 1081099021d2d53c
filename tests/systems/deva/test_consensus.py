import importlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from maskstream.systems.deva import Consensus, consensus, pairwise_iou
from maskstream.systems.deva.consensus import ENUMERATED, enumerated, greedy, integer_program
from maskstream.types import InputError, LabelMap, PackedMasks, pack_masks

THING, STUFF, UNKNOWN = True, False, None


def row(text: str) -> LabelMap:
    """One line of pixels, a digit each: 0 for nothing, n on the n-th proposal."""
    return LabelMap(torch.tensor([[int(c) for c in text]], dtype=torch.int32))


def vote(*rows: str, groups: str = "") -> str:
    """What frames of one line of pixels agree on, each as ``frame.digit``, and in brackets who supports it.

    Args:
        rows: the frames.
        groups: of all proposals, t for thing, s for stuff, u for unknown; without it all are unknown.
    """
    counts = [max(map(int, text)) for text in rows]
    names = [f"{frame}.{n}" for frame, count in enumerate(counts) for n in range(1, count + 1)]
    iou_pp, areas_p = pairwise_iou([row(text) for text in rows], counts)
    choice = consensus(
        iou_pp,
        [int(name[0]) for name in names],
        [{"t": THING, "s": STUFF, "u": UNKNOWN}[group] for group in groups or "u" * len(names)],
        areas_p=areas_p,
    )
    chosen = zip(choice.selected, choice.supporters, strict=True)
    return ", ".join(f"{names[p]} ({' '.join(names[q] for q in by)})" for p, by in chosen)


@pytest.mark.parametrize(
    ("rows", "groups", "expected"),
    [
        pytest.param(
            ["1111000", "1111100", "1111110"], "", "1.1 (0.1 2.1)", id="three agree: the one that agrees most is chosen"
        ),
        pytest.param(["1110000", "1110000", "1110020"], "", "0.1 (1.1 2.1)", id="a lone proposal is noise"),
        pytest.param(["0000000", "0111100", "0011110"], "", "1.1 (2.1)", id="two of three agree: the earlier frame"),
        pytest.param(["0111100", "0011110", "0000000"], "", "0.1 (1.1)", id="two of three, the other two"),
        pytest.param(["1111000", "0111100", "0011110"], "", "1.1 (0.1 2.1)", id="a chain: the one in the middle"),
        pytest.param(["1110222", "1110222"], "", "0.1 (1.1), 0.2 (1.2)", id="two things, each on its own"),
        pytest.param(["0111000", "0011100"], "", "", id="IoU of exactly 0.5 is no support"),
        pytest.param(["1110000", "1110000"], "ts", "", id="thing and stuff do not support each other"),
        pytest.param(["1110000", "1110000"], "tu", "", id="nor do thing and unknown"),
        pytest.param(
            ["1110000", "1110000", "1110000", "1110000"],
            "tsts",
            "0.1 (2.1), 1.1 (3.1)",
            id="nor do they exclude each other",
        ),
        pytest.param(["1110000"], "", "", id="one frame has nothing to agree with"),
        pytest.param(["0000000", "0000000"], "", "", id="nothing was proposed"),
    ],
)
def test_consensus_keeps_what_the_clip_agrees_on(rows, groups, expected):
    assert vote(*rows, groups=groups) == expected


def symmetric(count: int, ious: dict[tuple[int, int], float]) -> np.ndarray:
    iou_pp = np.zeros((count, count))
    for (a, b), iou in ious.items():
        iou_pp[a, b] = iou_pp[b, a] = iou
    return iou_pp


@pytest.mark.parametrize(
    ("ious", "selected", "supporters", "objective"),
    [
        # Support 1.7, 1.6 and 1.5.
        pytest.param({(0, 1): 0.9, (0, 2): 0.8, (1, 2): 0.7}, (0,), ((1, 2),), 1.2, id="the best supported of three"),
        pytest.param({(0, 1): 0.7, (1, 2): 0.8}, (1,), ((0, 2),), 1.0, id="chain 0–1–2"),
        pytest.param({(0, 2): 0.9}, (0,), ((2,),), 0.4, id="1 is alone and dropped"),
        pytest.param({(1, 2): 0.9}, (1,), ((2,),), 0.4, id="0 is alone; of 1 and 2 the earlier"),
        pytest.param({}, (), (), 0.0, id="all are alone"),
    ],
)
def test_the_acceptance_cases_of_three_frames(ious, selected, supporters, objective):
    choice = consensus(symmetric(3, ious), [0, 1, 2], [None] * 3)  # specification §20, C1 and C3
    assert (choice.selected, choice.supporters, choice.exact) == (selected, supporters, True)
    assert choice.objective == pytest.approx(objective)


def test_a_tie_goes_to_the_earliest_frame_wherever_it_is_listed():
    assert consensus(symmetric(2, {(0, 1): 0.9}), [1, 0], [None] * 2).selected == (1,)


def test_a_tie_within_a_frame_goes_to_the_larger():
    # 0 and 1 are of one frame, overlap each other, and are supported alike.
    iou_pp = symmetric(4, {(0, 1): 0.6, (0, 2): 0.8, (1, 2): 0.8, (0, 3): 0.7, (1, 3): 0.7})
    frames, groups = [0, 0, 1, 2], [None] * 4
    assert consensus(iou_pp, frames, groups, areas_p=[10, 20, 15, 15]).selected == (1,)
    assert consensus(iou_pp, frames, groups, areas_p=[20, 10, 15, 15]).selected == (0,)
    assert consensus(iou_pp, frames, groups).selected == (0,)


def test_two_of_one_frame_exclude_each_other_but_give_no_support():
    alone = consensus(symmetric(2, {(0, 1): 0.9}), [0, 0], [None] * 2)
    assert alone.selected == ()
    ious = {(0, 1): 0.9, (0, 2): 0.7, (1, 2): 0.8, (2, 3): 0.6}
    seconded = consensus(symmetric(4, ious), [0, 0, 1, 2], [None] * 4)
    assert seconded.selected == (2,)
    assert seconded.supporters == ((0, 1, 3),)
    assert seconded.objective == pytest.approx(0.8 + 0.6 - 0.5)  # by frame 0 once, by the better of its two


def test_a_negative_alpha_keeps_lone_proposals():
    assert consensus(symmetric(3, {(0, 1): 0.9}), [0, 1, 1], [None] * 3, alpha=-0.1).selected == (0, 2)


def test_nothing_in_nothing_out():
    iou_pp, areas_p = pairwise_iou([], [])
    assert iou_pp.shape == (0, 0)
    assert areas_p.shape == (0,)
    assert consensus(iou_pp, [], []) == Consensus((), (), 0.0, True)


def test_a_bad_size_is_named():
    with pytest.raises(InputError, match=r"3 proposals need IoUs of \[3, 3\] and 3 groups, not \[2, 2\] and 3"):
        consensus(np.zeros((2, 2)), [0, 1, 2], [None] * 3)
    with pytest.raises(InputError, match="masks of 1 frames but 2 counts"):
        pairwise_iou([row("010")], [1, 1])
    with pytest.raises(InputError, match="differ in size"):
        pairwise_iou([row("010"), row("0100")], [1, 1])


# IoU of every two.


def literal_iou(first, second) -> float:
    return float((first & second).sum() / max((first | second).sum(), 1))


def literal_ious(masks_phw) -> list[list[float]]:
    count = range(len(masks_phw))
    return [[0.0 if a == b else literal_iou(masks_phw[a], masks_phw[b]) for b in count] for a in count]


def separate(labels: np.ndarray, count: int) -> torch.Tensor:
    return torch.from_numpy(labels == np.arange(1, count + 1)[:, None, None])


_clips = st.integers(1, 4).flatmap(lambda t: hnp.arrays(np.int32, (t, 3, 11), elements=st.integers(0, 3)))


@given(_clips, st.lists(st.booleans(), min_size=4, max_size=4))
def test_label_maps_and_packed_masks_have_the_ious_of_their_pixels(labels_thw, packed):
    masks_phw = np.concatenate([separate(labels, 3).numpy() for labels in labels_thw])
    expected = literal_ious(masks_phw)
    counts = [3] * len(labels_thw)
    maps = [LabelMap(torch.from_numpy(labels)) for labels in labels_thw]
    bits = [pack_masks(separate(labels, 3)) for labels in labels_thw]
    mixed = [b if is_packed else m for m, b, is_packed in zip(maps, bits, packed, strict=False)]
    for masks in (maps, bits, mixed):
        iou_pp, areas_p = pairwise_iou(masks, counts)
        assert np.allclose(iou_pp, expected, rtol=0, atol=1e-12)
        assert areas_p.tolist() == masks_phw.sum(axis=(1, 2)).tolist()


@given(hnp.arrays(np.bool_, (5, 2, 9)))
def test_overlapping_masks_have_the_ious_of_their_pixels(masks_phw):
    iou_pp, areas_p = pairwise_iou(
        [pack_masks(torch.from_numpy(masks)) for masks in (masks_phw[:2], masks_phw[2:2], masks_phw[2:])], [2, 0, 3]
    )
    expected = literal_ious(masks_phw)
    assert np.allclose(iou_pp, expected, rtol=0, atol=1e-12)
    assert areas_p.tolist() == masks_phw.sum(axis=(1, 2)).tolist()


def test_a_frame_without_proposals_takes_part():
    iou_pp, areas_p = pairwise_iou([row("0110"), row("0000"), row("0111")], [1, 0, 1])
    assert iou_pp.tolist() == [[0, 2 / 3], [2 / 3, 0]]
    assert areas_p.tolist() == [2, 3]


# The program, against all subsets.


def literal_support(p, iou_pp, frames, groups, threshold) -> float:
    """Sum over the other frames of the best IoU above the threshold with one of the same group."""
    total = 0.0
    for frame in set(frames) - {frames[p]}:
        total += max(
            (
                iou_pp[p, q]
                for q in range(len(frames))
                if frames[q] == frame and groups[q] is groups[p] and iou_pp[p, q] > threshold
            ),
            default=0.0,
        )
    return total


def best_subset(worth, excludes, order) -> tuple[float, list[int]]:
    """The greatest worth of all 2^N subsets, and of those that reach it the one that comes first in ``order``."""
    flags = (np.arange(2 ** len(worth))[:, None] >> np.arange(len(worth))) & 1
    allowed = flags[((flags @ excludes) * flags).sum(axis=1) == 0]
    totals = allowed @ worth
    first = max(tuple(flag[order]) for flag in allowed[totals > totals.max() - 1e-9])
    return totals.max(), sorted(order[n] for n, flag in enumerate(first) if flag)


def check_against_all_subsets(iou_pp, frames, groups, areas, alpha, threshold):
    count = len(frames)
    choice = consensus(iou_pp, frames, groups, areas_p=areas, alpha=alpha, iou_threshold=threshold)
    worth = np.array([literal_support(p, iou_pp, frames, groups, threshold) - alpha for p in range(count)])
    excludes = np.array(
        [[p != q and groups[p] is groups[q] and iou_pp[p, q] > threshold for q in range(count)] for p in range(count)]
    ).reshape(count, count)
    order = sorted(range(count), key=lambda p: (frames[p], -areas[p], p))
    objective, selected = best_subset(worth, excludes.astype(int), order)
    assert choice.objective == pytest.approx(objective, abs=1e-9)
    assert list(choice.selected) == selected
    assert not excludes[np.ix_(selected, selected)].any()
    assert choice.supporters == tuple(
        tuple(q for q in range(count) if excludes[p, q] and frames[p] != frames[q]) for p in selected
    )
    assert choice.exact


_alphas = st.sampled_from([0.5, 0.5, 0.5, -0.23, 0.72, 1.01])  # never exactly a support: worth nothing is not chosen


@settings(max_examples=300)
@given(st.data())
def test_the_choice_is_the_first_of_the_best_subsets(data):
    """Arbitrary symmetric IoUs, so that proposals of a frame overlap, and ties are frequent."""
    count = data.draw(st.integers(0, 10))
    several = lambda values: data.draw(st.lists(values, min_size=count, max_size=count))  # noqa: E731
    upper = np.triu(data.draw(hnp.arrays(np.int64, (count, count), elements=st.integers(0, 20))), 1)
    check_against_all_subsets(
        (upper + upper.T) / 20,
        several(st.integers(0, 3)),
        several(st.sampled_from([None, False, True])),
        several(st.integers(1, 3)),
        data.draw(_alphas),
        data.draw(st.sampled_from([0.5, 0.5, 0.7])),
    )


@settings(max_examples=200)
@given(
    st.integers(2, 5).flatmap(lambda t: hnp.arrays(np.int32, (t, 1, 8), elements=st.integers(0, 2))),
    st.lists(st.sampled_from([None, True]), min_size=10, max_size=10),
)
def test_the_choice_among_disjoint_proposals_is_the_first_of_the_best_subsets(labels_thw, groups):
    counts = [2] * len(labels_thw)
    iou_pp, areas_p = pairwise_iou([LabelMap(torch.from_numpy(labels)) for labels in labels_thw], counts)
    frames = np.repeat(range(len(counts)), counts).tolist()
    check_against_all_subsets(iou_pp, frames, groups[: len(frames)], areas_p.tolist(), 0.5, 0.5)


# The three solvers of a component. Members come in the order in which ties are broken.


def random_graph(seed: int, count: int, *, neighbours: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.random((count, count)) < neighbours / count, 1)
    return rng.uniform(0.05, 2, count), upper | upper.T


def chain(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Proposals of three frames in turn, each supporting the next: shuffled, as ties are broken by frame and area.

    With an even number, every other one from the first and every other one from the second tie exactly: either way
    each IoU counts once.
    """
    rng = np.random.default_rng(seed)
    iou_pp = np.zeros((count, count))
    place = rng.permutation(count)
    iou_pp[place[1:], place[:-1]] = rng.integers(600, 1024, count - 1) / 1024  # sums are exact
    iou_pp += iou_pp.T
    return iou_pp.sum(axis=1) - 0.5, iou_pp > 0


@settings(max_examples=200)
@given(
    st.integers(0, 10).flatmap(
        lambda n: st.tuples(hnp.arrays(np.int64, n, elements=st.integers(1, 6)), hnp.arrays(np.bool_, (n, n)))
    )
)
def test_enumerating_finds_the_first_of_the_best_subsets(graph):
    worth_n, drawn = graph
    excludes_nn = np.triu(drawn, 1) | np.triu(drawn, 1).T
    _, expected = best_subset(worth_n / 8, excludes_nn.astype(int), list(range(len(worth_n))))
    assert enumerated(worth_n / 8, excludes_nn) == expected


@pytest.mark.parametrize("neighbours", [1.5, 3, 6])
@pytest.mark.parametrize("seed", range(5))
def test_all_exact_solvers_choose_the_best_subset(seed, neighbours):
    worth_n, excludes_nn = random_graph(seed, 12, neighbours=neighbours)
    _, expected = best_subset(worth_n, excludes_nn.astype(int), list(range(12)))
    assert enumerated(worth_n, excludes_nn) == expected
    assert integer_program(worth_n, excludes_nn, time_limit=60) == expected


@pytest.mark.parametrize(
    ("worth_n", "excludes_nn"),
    [
        pytest.param(*random_graph(1, ENUMERATED, neighbours=2), id="sparse"),
        pytest.param(*random_graph(2, ENUMERATED, neighbours=5), id="the most steps"),
        pytest.param(*random_graph(3, ENUMERATED, neighbours=20), id="dense"),
        pytest.param(*chain(ENUMERATED, 1), id="a chain: two choices tie"),
        pytest.param(*chain(ENUMERATED + 1, 2), id="a chain: one choice is best"),
        pytest.param(*chain(120, 3), id="a long chain: two choices tie"),
        pytest.param(*chain(120, 4), id="another long chain"),
        pytest.param(*chain(121, 5), id="a long chain: one choice is best"),
    ],
)
def test_both_exact_solvers_choose_the_same_on_large_components(worth_n, excludes_nn):
    chosen = enumerated(worth_n, excludes_nn)
    assert integer_program(worth_n, excludes_nn, time_limit=60) == chosen
    assert not excludes_nn[np.ix_(chosen, chosen)].any()
    assert worth_n[chosen].sum() >= worth_n[greedy(worth_n, excludes_nn)].sum()


def chain_of_proposals(count: int, seed: int = 0) -> tuple[np.ndarray, list[int], list[int]]:
    """Proposals of three frames in turn, each supporting the next; IoUs, frames and areas."""
    rng = np.random.default_rng(seed)
    iou_pp = np.zeros((count, count))
    iou_pp[np.arange(count - 1), np.arange(1, count)] = rng.uniform(0.6, 1, count - 1)
    return iou_pp + iou_pp.T, [p % 3 for p in range(count)], rng.permutation(count).tolist()


@pytest.mark.parametrize("count", [4, 10, ENUMERATED, ENUMERATED + 2, 100])
@pytest.mark.parametrize("seed", range(6))
def test_in_an_even_chain_every_other_proposal_is_chosen_with_the_largest_of_the_earliest_frame(count, seed):
    """Either half counts each IoU once: an exact tie, though the sums are rounded differently."""
    iou_pp, frames, areas = chain_of_proposals(count, seed)
    choice = consensus(iou_pp, frames, [None] * count, areas_p=areas)
    largest = max(range(0, count, 3), key=lambda p: areas[p])
    assert choice.selected == tuple(range(largest % 2, count, 2))
    assert choice.exact


def test_what_is_not_solved_in_time_is_chosen_greedily(monkeypatch):
    solver = importlib.import_module("maskstream.systems.deva.consensus")
    monkeypatch.setattr(solver, "integer_program", lambda worth_n, excludes_nn, *, time_limit: None)
    count = ENUMERATED + 2
    iou_pp, frames, _ = chain_of_proposals(count + 2)
    iou_pp[count - 1, count] = iou_pp[count, count - 1] = 0  # the last two are a component of their own, solved exactly
    choice = consensus(iou_pp, frames, [None] * (count + 2))
    assert not choice.exact
    selected = np.array(choice.selected)
    assert not iou_pp[np.ix_(selected, selected)].any()
    assert count in selected
    # No proposal could be added: each left out is excluded by a chosen one.
    assert all(p in selected or iou_pp[p, selected].any() for p in range(count + 2))


def test_a_program_without_time_is_not_solved():
    worth_n, excludes_nn = random_graph(0, 100, neighbours=10)
    assert integer_program(worth_n, excludes_nn, time_limit=0) is None


def test_greed_takes_the_worthiest_first():
    # A star: the middle is worth most, but less than the others together.
    excludes_nn = np.zeros((4, 4), dtype=bool)
    excludes_nn[0, 1:] = excludes_nn[1:, 0] = True
    assert greedy(np.array([2.0, 1.0, 1.0, 1.0]), excludes_nn) == [0]
    assert enumerated(np.array([2.0, 1.0, 1.0, 1.0]), excludes_nn) == [1, 2, 3]


def test_packed_proposals_of_a_frame_may_overlap():
    """Two frames propose a whole and its larger part; one of the two survives, as they overlap by more than half."""
    masks = torch.zeros((2, 1, 10), dtype=torch.bool)
    masks[0, 0, :9] = masks[1, 0, :7] = True
    frame: PackedMasks = pack_masks(masks)
    iou_pp, areas_p = pairwise_iou([frame, frame], [2, 2])
    choice = consensus(iou_pp, [0, 0, 1, 1], [None] * 4, areas_p=areas_p)
    assert choice.selected == (0,)
    assert choice.supporters == ((2, 3),)
    assert choice.objective == pytest.approx(0.5)
