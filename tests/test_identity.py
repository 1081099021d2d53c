import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskstream.identity import ObjectRecord, ObjectTable
from maskstream.types import InputError


@pytest.mark.parametrize(
    ("votes", "category"),
    [
        pytest.param([3, 3, 5, 5, 5], 5, id="the most frequent"),
        pytest.param([2, 7], 2, id="a tie: the smallest id"),
        pytest.param([0], 0, id="category 0 is a category"),
        pytest.param([None, 4, None], 4, id="unknown does not vote"),
        pytest.param([None], None, id="nobody knows"),
    ],
)
def test_the_category_is_what_most_votes_say(votes, category):
    record = ObjectRecord(1)
    for vote in votes:
        record.vote(vote, None)
    assert record.category == category


def test_the_score_is_the_mean_of_all_scores():
    record = ObjectRecord(1)
    assert record.score is None
    for score in (0.25, None, 0.75):
        record.vote(None, score)
    assert record.score == 0.5


def test_ids_are_never_used_again():
    table = ObjectTable()
    assert [table.add().track_id for _ in range(3)] == [1, 2, 3]
    table.remove([3])
    assert table.add().track_id == 4
    with pytest.raises(InputError, match="used before"):
        table.add(3)
    assert table.ids == (1, 2, 4)


def test_removing_an_unknown_object_removes_nothing():
    table = ObjectTable()
    table.add(5)
    with pytest.raises(InputError, match=r"object 6 .* \(followed: 5\)"):
        table.remove([5, 6])
    assert table.ids == (5,)


def test_tracks_are_the_objects_that_were_seen():
    table = ObjectTable()
    for track_id in (1, 2):
        table.add(track_id, prompt_id=f"object-{track_id}")
    for frame in (4, 5, 9):
        table[2].seen(frame)
    table[2].vote(8, None)
    table[2].vote(8, None)
    table[2].vote(6, None)
    table.remove([2])
    (track,) = table.tracks()
    assert (track.track_id, track.first, track.last, track.prompt_id) == (2, 4, 9, "object-2")
    assert track.category_scores == {8: pytest.approx(2 / 3), 6: pytest.approx(1 / 3)}


def test_a_table_survives_its_state():
    table, copy = ObjectTable(), ObjectTable()
    table.add(3, is_thing=True).vote(0, 0.5)
    table.add(7, prompt_id="x").seen(2)
    table.remove([3])
    copy.load_state_dict(table.state_dict())
    assert copy.state_dict() == table.state_dict()
    assert copy.was_removed(3)
    assert copy.add().track_id == 8


def test_removing_an_object_twice_at_once_is_removing_it():
    table = ObjectTable()
    table.add(5)
    table.remove([5, 5])
    assert table.ids == ()


# ------------------------------------------------------------- written ids


def written(table: ObjectTable) -> list[int]:
    """The segment of every object, by its written id."""
    segments, label_of, _ = table.segments(table.ids)
    return [segments[label - 1].id for label in label_of[1:]]


def test_a_prompted_id_that_is_written_for_another_object_is_written_as_a_third():
    table = ObjectTable()
    table.add().vote(3, None)
    assert written(table) == [1]
    table[1].vote(2, None)
    assert written(table) == [2]  # object 1, of another category now
    table.add(2)
    assert written(table) == [2, 3]
    table[2].vote(5, None)
    assert written(table) == [2, 3]


def test_stuff_without_a_category_joins_its_kind_when_it_learns_it():
    table = ObjectTable()
    for _ in range(3):
        table.add(is_thing=False)
    assert written(table) == [1, 2, 3]
    table[2].vote(8, None)
    assert written(table) == [1, 2, 3]
    table[1].vote(8, None)
    assert written(table) == [2, 2, 3]
    table[3].vote(7, None)
    assert written(table) == [2, 2, 3]
    segments, label_of, renamed = table.segments(table.ids)
    assert [(segment.id, segment.track_id) for segment in segments] == [(2, 1), (3, 3)]
    assert (label_of, renamed) == ([0, 1, 1, 2], [])


def test_stuff_keeps_its_written_id_when_its_objects_are_gone():
    table = ObjectTable()
    table.add(is_thing=False).vote(8, None)
    table.add()
    assert written(table) == [1, 2]
    table.remove([1])
    table.add(is_thing=False).vote(8, None)
    assert written(table) == [2, 1]


_steps = st.one_of(
    st.tuples(st.just("add"), st.one_of(st.none(), st.integers(1, 12)), st.sampled_from([None, False, True])),
    st.tuples(st.just("vote"), st.integers(0, 5), st.one_of(st.none(), st.integers(0, 2))),
    st.tuples(st.just("remove"), st.integers(0, 5), st.none()),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(_steps, max_size=30))
def test_a_written_id_is_for_ever_of_one_object_and_category_or_of_one_kind_of_stuff(steps):
    table = ObjectTable()
    owner_of: dict[int, tuple[int | str, int]] = {}
    id_of: dict[tuple[int | str, int], int] = {}
    for kind, number, detail in steps:
        live = table.ids
        if kind == "add" and (number is None or (number not in live and not table.was_removed(number))):
            record = table.add(number, is_thing=detail)
            assert number is not None or record.track_id not in owner_of  # never an id that was written already
        elif kind == "vote" and live:
            table[live[number % len(live)]].vote(detail, None)
        elif kind == "remove" and live:
            table.remove([live[number % len(live)]])
        copy = ObjectTable()
        copy.load_state_dict(table.state_dict())
        segments, label_of, renamed = table.segments(table.ids)
        assert copy.segments(copy.ids) == (segments, label_of, renamed)
        for track_id, label in zip(table.ids, label_of[1:], strict=True):
            record, segment = table[track_id], segments[label - 1]
            assert segment.category == record.category
            if segment.track_id != track_id:  # one segment for two objects
                assert record.category is not None
                assert record.is_thing is table[segment.track_id].is_thing is False
            if record.category is None:
                continue  # it may yet become anything: the id goes with it
            owner = ("stuff" if record.is_thing is False else track_id, record.category)
            assert owner_of.setdefault(segment.id, owner) == owner
            assert id_of.setdefault(owner, segment.id) == segment.id
