"""Tracking by detection, the baselines of Table 6: segments of adjacent frames are associated."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskstream.systems.deva import AssociationSession
from maskstream.systems.deva.association import Association
from maskstream.types import CategorySet, FrameSegmentation, InputError, MaskPrompt, Proposals, Session

from .parts import (
    LEFT,
    RIGHT,
    SIZE,
    TOP,
    WIDE,
    ScriptedDetector,
    ShiftingPropagator,
    StillPropagator,
    described,
    found,
    frame,
    region,
    same,
    step,
    visible,
    watch,
    wide,
)


def associating(
    detector: ScriptedDetector | dict[int, Proposals],
    association: Association = "mask-iou",
    *,
    propagator: ShiftingPropagator | None = None,
    size_hw: tuple[int, int] | None = None,
    **options: object,
) -> AssociationSession:
    propagator = propagator or StillPropagator()
    return AssociationSession(
        propagator,
        detector if isinstance(detector, ScriptedDetector) else ScriptedDetector(detector),
        size_hw=size_hw or propagator.size,
        association=association,
        **options,  # type: ignore[arg-type]
    )


def embedded(*pairs: tuple[torch.Tensor, tuple[float, ...]]) -> Proposals:
    return found(*(mask for mask, _ in pairs), embeddings_nc=torch.tensor([list(vector) for _, vector in pairs]))


# ----------------------------------------------------------------- overlap


def test_what_overlaps_keeps_its_id_and_what_does_not_is_new():
    session = associating(
        {0: found(LEFT, RIGHT), 1: found(TOP, region(5, 1, 8, 6), LEFT), 2: found(region(0, 1, 2, 5), TOP)}
    )
    assert same(step(session, 0), {1: LEFT, 2: RIGHT})
    assert same(step(session, 1), {3: TOP, 2: region(5, 1, 8, 6), 1: LEFT})
    assert same(step(session, 2), {1: region(0, 1, 2, 5), 3: TOP})
    assert list(session.finish()) == []
    assert [(t.track_id, t.first, t.last) for t in session.tracks()] == [(1, 0, 2), (2, 0, 1), (3, 1, 2)]


@pytest.mark.parametrize(("columns", "same_object"), [((1, 4), False), ((1, 5), True)])
def test_an_overlap_of_one_half_is_not_enough(columns, same_object):
    before, after = wide(0, columns[1] - 1), wide(*columns)  # IoU 2/4 and 3/5
    session = associating({0: found(before), 1: found(after)}, propagator=StillPropagator(WIDE))
    assert [list(visible(result)) for result in watch(session, 2, WIDE)] == [[1], [1] if same_object else [2]]


def test_an_id_is_never_used_again():
    session = associating({0: found(LEFT), 2: found(LEFT), 3: found(RIGHT), 5: found(LEFT, RIGHT)})
    assert [list(step(session, index)) for index in range(6)] == [[1], [], [2], [3], [], [4, 5]]


def test_things_and_stuff_are_not_one_object():
    session = associating({0: found(LEFT, is_thing=(True,)), 1: found(LEFT, is_thing=(False,))})
    assert [list(step(session, index)) for index in range(2)] == [[1], [2]]


@pytest.mark.parametrize(("association", "expected"), [("mask-iou", [1, 2, 3]), ("mask-iou-flow", [1, 1, 1])])
def test_flow_associates_what_has_moved_out_of_its_own_outline(association, expected):
    script = {i: found(wide(4 * i, 4 * i + 4)) for i in range(3)}
    session = associating(script, association, propagator=ShiftingPropagator(4, WIDE))
    results = watch(session, 3, WIDE)
    assert [list(visible(result)) for result in results] == [[track_id] for track_id in expected]
    for n, (result, track_id) in enumerate(zip(results, expected, strict=True)):
        assert visible(result)[track_id].equal(wide(4 * n, 4 * n + 4))


def test_results_are_of_the_size_of_the_video():
    session = associating({0: found(LEFT)}, propagator=StillPropagator((3, 4)), size_hw=SIZE)
    (result,) = session.step(frame(0))
    assert result.size_hw == SIZE
    assert list(visible(result)) == [1]


# ------------------------------------------------------------- resemblance


def test_queries_tell_objects_that_change_places_apart():
    one, other = (1.0, 0.1), (-0.2, 1.0)
    session = associating({0: embedded((LEFT, one), (RIGHT, other)), 1: embedded((LEFT, other), (RIGHT, one))}, "query")
    assert same(step(session, 0), {1: LEFT, 2: RIGHT})
    assert same(step(session, 1), {1: RIGHT, 2: LEFT})


@pytest.mark.parametrize(
    ("cosine", "same_object"),
    [pytest.param(0.4, False, id="less than half"), pytest.param(0.6, True, id="more"), pytest.param(-1.0, False)],
)
def test_queries_that_do_not_resemble_are_of_two_objects(cosine, same_object):
    after = (2 * cosine, 2 * (1 - cosine**2) ** 0.5)  # the length of an embedding says nothing
    session = associating({0: embedded((LEFT, (3.0, 0.0))), 1: embedded((LEFT, after))}, "query")
    assert [list(step(session, index)) for index in range(2)] == [[1], [1 if same_object else 2]]


def test_two_poor_resemblances_do_not_outweigh_a_good_one():
    before = embedded((LEFT, (1.0, 0.0, 0.0)), (RIGHT, (0.49, 0.0, 0.87)))
    after = embedded((LEFT, (0.9, 0.43, 0.0)), (RIGHT, (0.49, -0.87, 0.0)))
    session = associating({0: before, 1: after}, "query")
    assert list(step(session, 0)) == [1, 2]
    assert same(step(session, 1), {1: LEFT, 3: RIGHT})


def test_query_association_needs_embeddings():
    session = associating({1: found(LEFT)}, "query")
    assert step(session, 0) == {}  # nothing found, nothing missing
    with pytest.raises(InputError, match="needs a detector that gives embeddings; this one gives none"):
        session.step(frame(1))


# --------------------------------------------------------------- detections


def test_detections_below_the_score_are_ignored():
    session = associating({0: found(LEFT, RIGHT, TOP, scores=(0.3, None, 0.5))}, min_score=0.5)
    assert same(step(session, 0), {1: RIGHT, 2: TOP})


def test_a_proposal_without_a_visible_pixel_is_no_object():
    session = associating({0: found(torch.zeros(SIZE, dtype=torch.bool), LEFT, LEFT.clone())})
    (result,) = session.step(frame(0))
    assert len(result.segments) == 1
    assert same(visible(result), {1: LEFT})


def test_every_frame_is_segmented_and_the_detector_sees_those_before():
    categories = CategorySet.from_names(["cat", "dog"])
    detector = ScriptedDetector({}, context=2)
    session = associating(detector, categories=categories)
    assert session.latency == 0
    for index in range(4):
        assert len(session.step(frame(index), force_key=index == 1)) == 1
    assert detector.asked == [(0, []), (1, [0]), (2, [0, 1]), (3, [1, 2])]
    assert detector.categories == [categories] * 4


def test_votes_decide_the_category_and_a_change_of_it_the_written_id():
    script = {i: found(LEFT, categories=(c,), scores=(0.2 * i,)) for i, c in enumerate((3, 5, 5))}
    results = watch(associating(script), 3)
    assert [(s.id, s.track_id, s.category) for r in results for s in r.segments] == [(1, 1, 3), (1, 1, 3), (2, 1, 5)]
    assert results[-1].segments[0].score == pytest.approx(0.2)
    assert [event.kind for event in results[-1].events] == ["matched", "renamed"]


def test_regions_of_one_kind_of_stuff_are_one_segment():
    (result,) = watch(associating({0: found(LEFT, TOP, RIGHT, categories=(9, 4, 9), is_thing=(False,) * 3)}), 1)
    assert [(segment.id, segment.category) for segment in result.segments] == [(1, 9), (2, 4)]
    assert torch.equal(result.masks_nhw()[0], LEFT | RIGHT)


def test_a_detector_that_wants_no_context_gets_none():
    detector = ScriptedDetector({})
    watch(associating(detector), 3)
    assert detector.asked == [(0, []), (1, []), (2, [])]


# -------------------------------------------------------- prompts, removals


def test_prompts_are_refused():
    session = associating({})
    session.prompt([])
    with pytest.raises(InputError, match="takes no prompts"):
        session.prompt([MaskPrompt(0, 1, LEFT)])


def test_a_removed_object_that_is_found_again_is_a_new_one():
    session = associating({i: found(LEFT, RIGHT) for i in range(3)})
    step(session, 0)
    session.remove([1, 1])
    (result,) = session.step(frame(1))
    assert [segment.track_id for segment in result.segments] == [3, 2]
    assert [(event.kind, event.track_id) for event in result.events] == [("removed", 1), ("born", 3), ("matched", 2)]
    with pytest.raises(InputError, match=r"object 1 cannot be removed: it is not followed \(followed: 2, 3\)"):
        session.remove([1])
    assert list(step(session, 2)) == [3, 2]


def test_frames_must_be_of_one_size_and_in_order():
    session = associating({})
    session.step(frame(3))
    with pytest.raises(InputError, match="5×8 but the video began at 6×8"):
        session.step(frame(4, (5, 8)))
    with pytest.raises(InputError, match="frame 3 came after frame 3"):
        session.step(frame(3))


def test_the_events_of_a_small_story():
    session = associating({0: found(LEFT), 1: found(LEFT, TOP), 3: found(TOP)})
    events = [[(event.kind, event.track_id, event.reason) for event in result.events] for result in watch(session, 4)]
    assert events == [
        [("born", 1, "detected, continues no object")],
        [("matched", 1, "mask-iou"), ("born", 2, "detected, continues no object")],
        [("deleted", 1, "no detection continues it"), ("deleted", 2, "no detection continues it")],
        [("born", 3, "detected, continues no object")],
    ]


# ------------------------------------------------------------------- state


@st.composite
def _proposals(draw):
    count = draw(st.integers(0, 3))
    if not count:
        return Proposals.none(WIDE)
    starts = draw(st.lists(st.integers(0, 30), min_size=count, max_size=count))
    vectors = draw(st.lists(st.tuples(*[st.sampled_from([-1.0, 0.5, 1.0])] * 2), min_size=count, max_size=count))
    categories = draw(st.lists(st.sampled_from([None, 1, 2]), min_size=count, max_size=count))
    things = draw(st.lists(st.sampled_from([None, False, True]), min_size=count, max_size=count))
    return found(
        *(wide(x, x + 6) for x in starts),
        categories=tuple(categories),
        is_thing=tuple(things),
        embeddings_nc=torch.tensor(vectors),
    )


@pytest.mark.parametrize("association", ["mask-iou", "mask-iou-flow", "query"])
@settings(max_examples=12, deadline=None)
@given(st.lists(_proposals(), min_size=6, max_size=6), st.sets(st.integers(1, 6)))
def test_a_session_cut_anywhere_continues_as_if_nothing_had_happened(
    association, tmp_path_factory, proposals, removed_before
):
    def fresh() -> AssociationSession:
        detector = ScriptedDetector(dict(enumerate(proposals)), context=1)
        return associating(detector, association, propagator=ShiftingPropagator(1, WIDE))

    def go(session: AssociationSession, first: int, last: int) -> list[FrameSegmentation]:
        results = []
        for index in range(first, last):
            results += session.step(frame(index, WIDE))
            if index + 1 in removed_before and results[-1].segments:
                session.remove([results[-1].segments[0].track_id])
        return results

    whole = fresh()
    expected = go(whole, 0, 6)
    born = [event.track_id for result in expected for event in result.events if event.kind == "born"]
    assert born == list(dict.fromkeys(born))
    path = tmp_path_factory.mktemp("state") / "state.pt"
    for cut in range(7):
        first, second = fresh(), fresh()
        before = go(first, 0, cut)
        torch.save(first.state_dict(), path)
        second.load_state_dict(torch.load(path, weights_only=True))
        assert [described(r) for r in (*before, *go(second, cut, 6))] == [described(r) for r in expected]
        assert second.tracks() == whole.tracks()


def test_it_is_a_session():
    """Checked by mypy; here only that the assignment runs."""
    session: Session = associating({})
    assert session.latency == 0
