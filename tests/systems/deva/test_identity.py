import pytest

from maskstream.systems.deva import ObjectRecord, ObjectTable
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
