import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from maskstream.systems.deva import Merge, merge, render_proposals
from maskstream.types import Proposals

THING, STUFF, UNKNOWN = True, False, None


def row(text: str) -> torch.Tensor:
    """One line of pixels, a digit each."""
    return torch.tensor([[int(c) for c in text]], dtype=torch.int32)


def picture(merged: Merge) -> str:
    return "".join(map(str, merged.label_map[0].tolist()))


@pytest.mark.parametrize(
    ("objects", "object_groups", "proposals", "proposal_groups", "expected"),
    [
        pytest.param("0111100", [UNKNOWN], "0011110", [UNKNOWN], "0111110", id="IoU 0.6: the union"),
        pytest.param("0111000", [UNKNOWN], "0011100", [UNKNOWN], "0122200", id="IoU exactly 0.5 is no match"),
        pytest.param("0111100", [THING], "0011110", [STUFF], "0111120", id="another group never matches; thing on top"),
        pytest.param("1111100", [THING], "0011000", [STUFF], "1111100", id="thing over stuff whatever the area"),
        pytest.param("1111100", [UNKNOWN], "0011000", [STUFF], "1122100", id="stuff over unknown"),
        pytest.param("1111100", [THING], "0001100", [THING], "1112200", id="smaller over larger"),
        pytest.param("0001100", [THING], "1111100", [THING], "2221100", id="smaller over larger, the other way"),
        pytest.param("0000000", [], "0110220", [THING, THING], "0110220", id="nothing followed: all are new"),
        pytest.param("0110220", [THING, THING], "0000000", [], "0110220", id="nothing detected: all stay"),
        pytest.param("0000000", [THING], "0110000", [THING], "0220000", id="an object without a pixel matches nothing"),
        pytest.param("0110000", [THING], "0000000", [THING], "0110000", id="a proposal without a pixel is ignored"),
    ],
)
def test_merging_two_rows_of_pixels(objects, object_groups, proposals, proposal_groups, expected):
    assert picture(merge(row(objects), object_groups, row(proposals), proposal_groups)) == expected


def test_the_room_for_new_objects_never_refuses_a_match():
    merged = merge(
        row("1110000"), [THING], row("1110222"), [THING, THING], room=0
    )  # specification §20, C6: existing objects keep matching at the limit
    assert merged.object_of_proposal == (0, None)
    assert merged.new == ()
    assert picture(merged) == "1110000"


@pytest.mark.parametrize(
    ("priorities", "chosen"),
    [
        pytest.param((), (1,), id="the larger"),
        pytest.param((0.9, 0.1), (0,), id="the more confident"),
        pytest.param((0.5, 0.5), (1,), id="the larger of two equally confident"),
    ],
)
def test_when_room_is_short_the_better_proposal_is_new(priorities, chosen):
    merged = merge(row("0000000"), [], row("1102222"), [THING, THING], priorities=priorities, room=1)
    assert merged.new == chosen


@pytest.mark.parametrize(
    ("part_threshold", "expected", "matches"),
    [
        pytest.param(None, "1122330", (None, None), id="as published: parts are objects of their own"),
        pytest.param(0.5, "1111220", (0, None), id="wholly within is a part; exactly half is not"),
    ],
)
def test_a_part_of_an_object_may_be_told_from_another_object(part_threshold, expected, matches):
    merged = merge(row("1111100"), [THING], row("0011220"), [THING, THING], part_threshold=part_threshold)
    assert merged.object_of_proposal == matches
    assert picture(merged) == expected


def literal_merge(objects, object_groups, proposals, proposal_groups):
    """Specification §8.1, set by set, for small pictures."""
    pixels = lambda picture, label: {(y, x) for y, x in np.argwhere(picture == label)}  # noqa: E731
    regions, matched = {}, set()
    for group in (None, False, True):
        for p, p_group in enumerate(proposal_groups):
            candidate = pixels(proposals, p + 1)
            if p_group is not group or not candidate:
                continue
            for o, o_group in enumerate(object_groups):
                known = pixels(objects, o + 1)
                if o_group is group and o not in matched and len(known & candidate) > 0.5 * len(known | candidate):
                    regions["object", o] = (group, known | candidate)
                    matched.add(o)
                    break
            else:
                regions["new", p] = (group, candidate)
        for o, o_group in enumerate(object_groups):
            if o_group is group and o not in matched:
                regions["object", o] = (group, pixels(objects, o + 1))
    canvas = {}
    for group in (None, False, True):
        # A new object is painted after an existing one of the same size.
        painted = [(name, region) for name, (g, region) in regions.items() if g is group]
        for name, region in sorted(painted, key=lambda item: (-len(item[1]), item[0][0] == "new", item[0][1])):
            canvas.update(dict.fromkeys(region, name))
    return canvas


_pictures = hnp.arrays(np.int32, (3, 5), elements=st.integers(0, 3))
_groups = st.lists(st.sampled_from([None, False, True]), min_size=3, max_size=3)


@settings(max_examples=200)
@given(_pictures, _groups, _pictures, _groups)
def test_merging_agrees_with_the_specification_read_literally(objects, object_groups, proposals, proposal_groups):
    merged = merge(torch.from_numpy(objects), object_groups, torch.from_numpy(proposals), proposal_groups)
    names = [("object", 0), ("object", 1), ("object", 2), *(("new", p) for p in merged.new)]
    canvas = literal_merge(objects, object_groups, proposals, proposal_groups)
    for (y, x), label in np.ndenumerate(merged.label_map.numpy()):
        assert canvas.get((y, x)) == (names[label - 1] if label else None)


def test_overlapping_proposals_are_painted_smaller_on_top():
    masks = torch.zeros((2, 1, 6), dtype=torch.bool)
    masks[0, 0, 2:4] = True
    masks[1, 0, 1:6] = True
    assert render_proposals(Proposals(masks), (1, 6)).tolist() == [[0, 2, 1, 1, 2, 2]]


def test_soft_proposals_are_cut_at_one_half_after_resizing():
    soft = torch.tensor([[[0.0, 0.4, 0.6, 1.0]]])
    assert render_proposals(Proposals(soft), (1, 4)).tolist() == [[0, 0, 1, 1]]
    assert render_proposals(Proposals(soft), (2, 8)).shape == (2, 8)
