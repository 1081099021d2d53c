import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from maskstream.systems.deva import Detections, agreed, consensus, pairwise_iou, render_proposals
from maskstream.types import LabelMap, Proposals

THING, STUFF, UNKNOWN = True, False, None


def row(text: str, *, groups: tuple[bool | None, ...] | None = None) -> Detections:
    """One line of pixels, a digit each; every proposal votes for the category that spells it: pixel value and line."""
    label_map = torch.tensor([[int(c) for c in text]], dtype=torch.int32)
    count = int(label_map.max())
    groups = (UNKNOWN,) * count if groups is None else groups
    return Detections(label_map, groups, tuple(((int(f"{n}{text}"), n / 10),) for n in range(1, len(groups) + 1)))


def picture(detections: Detections) -> str:
    return "".join(map(str, detections.label_map[0].tolist()))


@pytest.mark.parametrize(
    ("clip", "expected"),
    [
        pytest.param(["0111000", "0111000", "0111022"], "0111000", id="a lone proposal is noise"),
        pytest.param(["1111000", "1111100", "1111110"], "1111100", id="the one that agrees most, as it is"),
        pytest.param(["0111100", "0011110", "0000000"], "0111100", id="two of three: the earlier frame"),
        pytest.param(["1110022", "2220111"], "1110022", id="numbers of a frame mean nothing to another"),
        pytest.param(["0000000", "0220011", "0110022"], "0220011", id="the key frame may have missed it"),
        pytest.param(["0111110"], "0000000", id="one frame agrees with nobody"),
        pytest.param(["0000000", "0000000"], "0000000", id="nothing was proposed"),
    ],
)
def test_what_rows_of_pixels_agree_on(clip, expected):
    detections, exact = agreed([row(text) for text in clip])
    assert picture(detections) == expected
    assert exact


def test_the_smaller_is_painted_over_the_larger():
    """Chosen ones overlap when they are of different frames. Here a large one is of frame 1, a small one of frame 0."""
    clip = ["0011000", "1111110", "1111100", "0022000"]
    #        small      large      large      small
    assert picture(agreed([row(text) for text in clip])[0]) == "2211220"
    # Whichever is first.
    assert picture(agreed([row(clip[n]) for n in (1, 0, 3, 2)])[0]) == "1122110"


def test_a_group_agrees_with_itself_only():
    thing, stuff = row("0111000", groups=(THING,)), row("0111000", groups=(STUFF,))
    assert len(agreed([thing, stuff])[0]) == 0
    assert agreed([thing, stuff, stuff, thing])[0].groups == (THING, STUFF)


def test_a_chosen_region_inherits_the_votes_of_its_direct_supporters():
    # A chain 0–1–2–3; proposals 0 and 2, and 1 and 3, agree by exactly one half at most.
    chain = ["11111100000", "01111111000", "00011111110", "00000111111"]
    clip = [row(text) for text in chain]
    iou_pp, _ = pairwise_iou([LabelMap(detections.label_map) for detections in clip], [1] * 4)
    assert np.array_equal(iou_pp > 0.5, np.eye(4, k=1, dtype=bool) | np.eye(4, k=-1, dtype=bool))

    detections, _ = agreed(clip[:3])
    assert detections.votes == (tuple(clip[n].votes[0][0] for n in (1, 0, 2)),)
    detections, _ = agreed(clip)
    assert detections.votes == (
        tuple(clip[n].votes[0][0] for n in (0, 1)),
        tuple(clip[n].votes[0][0] for n in (2, 1, 3)),
    )


def test_votes_already_gathered_are_inherited_whole():
    gathered = Detections(row("0111").label_map, (UNKNOWN,), (((3, 0.5), (5, None)),))
    detections, _ = agreed([gathered, row("0111")])
    assert detections.votes == (((3, 0.5), (5, None), (10111, 0.1)),)


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [
        pytest.param(0.5, "0000000", id="as published"),
        pytest.param(-1.0, "0110022", id="lone ones stay"),
    ],
)
def test_alpha_decides_about_lone_proposals(alpha, expected):
    detections, _ = agreed([row("0110022")], alpha=alpha)
    assert picture(detections) == expected


def test_a_proposal_without_a_pixel_is_dropped():
    clip = [row("0110000", groups=(UNKNOWN, UNKNOWN, UNKNOWN))]
    detections, _ = agreed(clip, alpha=-1.0)
    assert len(detections) == len(detections.votes) == 1
    assert picture(detections) == "0110000"


@given(
    st.integers(1, 4).flatmap(lambda t: hnp.arrays(np.int32, (t, 2, 6), elements=st.integers(0, 3))),
    st.sampled_from([0.5, -0.3]),
)
def test_a_pixel_belongs_to_the_smallest_chosen_region_that_covers_it(labels_thw, alpha):
    clip = [Detections(torch.from_numpy(labels), (UNKNOWN,) * 3, (((1, None),),) * 3) for labels in labels_thw]
    iou_pp, areas_p = pairwise_iou([LabelMap(detections.label_map) for detections in clip], [3] * len(clip))
    choice = consensus(iou_pp, np.repeat(range(len(clip)), 3), [UNKNOWN] * 3 * len(clip), areas_p=areas_p, alpha=alpha)
    chosen = [p for p in choice.selected if areas_p[p]]

    detections, _ = agreed(clip, alpha=alpha)
    for (y, x), label in np.ndenumerate(detections.label_map.numpy()):
        covering = [(-areas_p[p], p) for p in chosen if labels_thw[p // 3, y, x] == p % 3 + 1]
        assert label == (1 + chosen.index(max(covering)[1]) if covering else 0)


def test_the_score_of_a_region_is_the_mean_of_those_known():
    votes = (((1, 0.5), (1, None), (2, 1.0)), ((3, None),), ())
    assert Detections(torch.zeros((1, 1), dtype=torch.int32), (UNKNOWN,) * 3, votes).scores == [0.75, 0.0, 0.0]


def test_the_detections_of_a_frame_are_its_proposals():
    masks = torch.tensor([[[True, True, False]], [[False, False, True]]])
    proposals = Proposals(masks, categories=(7, None), scores=(0.5, 0.25), is_thing=(THING, None))
    detections = Detections.of_frame(proposals, (1, 3))
    assert picture(detections) == "112"
    assert detections.groups == (THING, UNKNOWN)
    assert detections.votes == (((7, 0.5),), ((None, 0.25),))


def test_overlapping_proposals_are_painted_smaller_on_top():
    masks = torch.zeros((2, 1, 6), dtype=torch.bool)
    masks[0, 0, 2:4] = True
    masks[1, 0, 1:6] = True
    assert render_proposals(Proposals(masks), (1, 6)).tolist() == [[0, 2, 1, 1, 2, 2]]


def test_soft_proposals_are_cut_at_one_half_after_resizing():
    soft = torch.tensor([[[0.0, 0.4, 0.6, 1.0]]])
    assert render_proposals(Proposals(soft), (1, 4)).tolist() == [[0, 0, 1, 1]]
    assert render_proposals(Proposals(soft), (2, 8)).shape == (2, 8)
