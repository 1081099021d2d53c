import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from maskstream.systems.deva import Merge, merge
from maskstream.types import InputError

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
        pytest.param("0111000", [UNKNOWN], "0011100", [UNKNOWN], "0111200", id="IoU exactly 0.5 is no match"),
        pytest.param("1111000", [UNKNOWN], "0011000", [UNKNOWN], "1122000", id="nor within an object twice as large"),
        pytest.param("0111100", [UNKNOWN], "0222110", [UNKNOWN] * 2, "0111220", id="only one of two matches"),
        pytest.param("0111100", [THING], "0011110", [STUFF], "0111120", id="another group never matches; thing on top"),
        pytest.param("1111100", [THING], "0011000", [STUFF], "1111100", id="thing over stuff whatever the area"),
        pytest.param("1111100", [UNKNOWN], "0011000", [STUFF], "1122100", id="stuff over unknown"),
        pytest.param("1111100", [THING], "0001100", [THING], "1112200", id="smaller over larger"),
        pytest.param("0001100", [THING], "1111100", [THING], "2221100", id="smaller over larger, the other way"),
        pytest.param("0000000", [], "0110220", [THING, THING], "0110220", id="nothing followed: all are new"),
        pytest.param("0110220", [THING, THING], "0000000", [], "0110220", id="nothing detected: all stay"),
        pytest.param("0000000", [THING], "0110000", [THING], "0220000", id="an object without a pixel matches nothing"),
        pytest.param("0110000", [THING], "0000000", [THING], "0110000", id="a proposal without a pixel is ignored"),
        pytest.param("0011100", [STUFF], "1111000", [STUFF], "2211100", id="smaller over larger among stuff too"),
        pytest.param("0011110", [THING], "1111000", [THING], "2211110", id="as large: an object stays on top"),
        pytest.param(
            "0011110",
            [THING],
            "1111011",
            [THING],
            "2211112",
            id="larger than what it hides: below",
        ),
    ],
)
def test_merging_two_rows_of_pixels(objects, object_groups, proposals, proposal_groups, expected):
    assert picture(merge(row(objects), object_groups, row(proposals), proposal_groups)) == expected


def test_the_sizes_that_count_are_those_of_the_unions():
    # 1 has 4 pixels, fewer than the 5 of 2, but with its proposal it has 6: 2 is painted over it.
    merged = merge(row("111122222"), [THING, THING], row("111111000"), [THING])
    assert picture(merged) == "111122222"


def test_what_matched_what_is_told():
    merged = merge(row("1110222"), [THING] * 2, row("3330112"), [THING] * 3)
    assert merged.object_of_proposal == (1, None, 0)
    assert merged.iou_of_proposal == (2 / 3, 0.0, 1.0)
    assert merged.new == (1,)
    assert picture(merged) == "1110223"


def test_the_room_for_new_objects_never_refuses_a_match():
    """Specification §20, C6: existing objects keep matching at the limit."""
    merged = merge(row("1110000"), [THING], row("1110222"), [THING, THING], room=0)
    assert merged.object_of_proposal == (0, None)
    assert merged.new == ()
    assert merged.refused == (1,)
    assert picture(merged) == "1110000"


def test_nothing_merged_with_nothing_is_nothing():
    merged = merge(row("0000"), [], row("0000"), [])
    assert (picture(merged), merged.new, merged.refused) == ("0000", (), ())


def test_maps_of_different_size_are_not_merged():
    with pytest.raises(InputError, match="differ in size"):
        merge(row("010"), [THING], row("0100"), [THING])


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


@pytest.mark.parametrize(
    ("objects", "proposals", "expected"),
    [
        pytest.param("0111100", "0011100", "0011100", id="a match is drawn as it was detected"),
        pytest.param("0111100", "0011110", "0011110", id="on both sides"),
        pytest.param("0111100", "0000111", "0111222", id="what does not match stays"),
        pytest.param("1111100", "0011000", "1111100", id="a part alone draws nothing anew"),
    ],
)
def test_an_object_may_become_what_was_detected(objects, proposals, expected):
    merged = merge(row(objects), [THING], row(proposals), [THING], part_threshold=0.7, fused="detection")
    assert picture(merged) == expected


def literal_merge(objects, object_groups, proposals, proposal_groups, priorities, room):
    """Specification §8.1, set by set, for small pictures. New objects are chosen by priority, area and place.

    Returns:
        Of every pixel of a region, the region; and the proposals that became new objects.
    """
    pixels = lambda picture, label: {(y, x) for y, x in np.argwhere(picture == label)}  # noqa: E731
    regions, unmatched, matched = {}, [], set()
    for group in (None, False, True):
        for p, p_group in enumerate(proposal_groups):
            candidate = pixels(proposals, p + 1)
            if p_group is not group or not candidate:
                continue
            for o, o_group in enumerate(object_groups):
                known = pixels(objects, o + 1)
                if o_group is group and o not in matched and len(known & candidate) > 0.5 * len(known | candidate):
                    regions["object", o] = (group, known | candidate, p)
                    matched.add(o)
                    break
            else:
                unmatched.append((-priorities[p], -len(candidate), p))
    new = {p for _, _, p in sorted(unmatched)[:room]}
    for p in new:
        regions["new", p] = (proposal_groups[p], pixels(proposals, p + 1), p)
    for o, o_group in enumerate(object_groups):
        if o not in matched:
            regions["object", o] = (o_group, pixels(objects, o + 1), len(proposal_groups) + o)
    canvas = {}
    for group in (None, False, True):
        # Of the same size: in the order of the proposals, then the objects without one.
        painted = [(-len(region), place, name, region) for name, (g, region, place) in regions.items() if g is group]
        for _, _, name, region in sorted(painted):
            canvas.update(dict.fromkeys(region, name))
    return canvas, new


_pictures = st.integers(1, 4).flatmap(lambda top: hnp.arrays(np.int32, (3, 5), elements=st.integers(0, top)))
_groups = st.sampled_from([(None, False, True), (True,)]).flatmap(
    lambda known: st.lists(st.sampled_from(known), min_size=4, max_size=4)
)


def check_literally(objects, object_groups, proposals, proposal_groups, *, priorities=(), room=None):
    merged = merge(
        torch.from_numpy(objects),
        object_groups,
        torch.from_numpy(proposals),
        proposal_groups,
        priorities=priorities,
        room=room,
    )
    canvas, new = literal_merge(objects, object_groups, proposals, proposal_groups, priorities or [0.0] * 4, room)
    assert set(merged.new) == new
    names = [*(("object", o) for o in range(4)), *(("new", p) for p in merged.new)]
    for (y, x), label in np.ndenumerate(merged.label_map.numpy()):
        assert canvas.get((y, x)) == (names[label - 1] if label else None)
    seen = {p for p in range(4) if (proposals == p + 1).any()}
    matched = {p for p, o in enumerate(merged.object_of_proposal) if o is not None}
    assert set(merged.refused) == seen - matched - new
    assert all((iou > 0.5) == (p in matched) for p, iou in enumerate(merged.iou_of_proposal))


@settings(max_examples=200)
@given(_pictures, _groups, _pictures, _groups)
def test_merging_agrees_with_the_specification_read_literally(objects, object_groups, proposals, proposal_groups):
    check_literally(objects, object_groups, proposals, proposal_groups)


@settings(max_examples=200)
@given(_pictures, _groups, st.data())
def test_merging_agrees_with_it_where_proposals_are_objects_that_moved_a_little(objects, groups, data):
    """Most proposals match, so that unions are painted over each other."""
    changed = data.draw(hnp.arrays(np.bool_, objects.shape, elements=st.sampled_from([True, False, False, False])))
    proposals = np.where(changed, data.draw(_pictures), objects).astype(np.int32)
    check_literally(objects, groups, proposals, groups)


@settings(max_examples=200)
@given(
    _pictures,
    _groups,
    _pictures,
    _groups,
    st.one_of(st.just(()), st.lists(st.sampled_from([0.2, 0.7]), min_size=4, max_size=4)),
    st.integers(0, 3),
)
def test_merging_agrees_with_it_when_room_is_short(
    objects, object_groups, proposals, proposal_groups, priorities, room
):
    check_literally(objects, object_groups, proposals, proposal_groups, priorities=priorities, room=room)
