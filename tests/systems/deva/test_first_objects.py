"""The rule of 20 objects."""

import pytest
import torch
from torch import Tensor

from maskstream.systems.deva import first_objects, renumbered_first_objects
from maskstream.systems.deva.first_objects import taken_numbers


def id_map(**area_of_id: int) -> Tensor:
    """One row; ``o7=3`` is three pixels of object 7."""
    values = [int(name[1:]) for name, area in area_of_id.items() for _ in range(area)]
    return torch.tensor([values + [0] * (12 - len(values))])


def ids(maps: list[Tensor]) -> list[set[int]]:
    return [set(each.unique().tolist()) - {0} for each in maps]


def test_objects_are_taken_as_they_appear_and_the_larger_first():
    maps = [id_map(o5=1, o9=3), id_map(o2=2, o4=4, o5=1), id_map(o7=8, o2=1)]
    assert ids(list(first_objects(maps, limit=3))) == [{5, 9}, {4, 5}, set()]
    assert taken_numbers([{5: 1, 9: 3}, {2: 2, 4: 4, 5: 1}, {7: 8, 2: 1}], limit=3) == {9: 1, 5: 2, 4: 3}


def test_an_object_that_is_taken_stays_so_when_it_comes_back():
    maps = [id_map(o1=1), id_map(o2=5), id_map(o1=1, o2=5, o3=6)]
    assert ids(list(first_objects(maps, limit=2))) == [{1}, {2}, {1, 2}]


def test_what_is_kept_keeps_its_pixels():
    (kept,) = first_objects([id_map(o3=2, o8=4, o1=1)], limit=2)
    assert kept.tolist() == [[3, 3, 8, 8, 8, 8, 0, 0, 0, 0, 0, 0]]


def test_of_two_as_large_the_smaller_id_is_taken():
    assert taken_numbers([{8: 4, 6: 4, 7: 4}], limit=2) == {6: 1, 7: 2}


FIVE_THEN_SIX = [{n: 10 - n for n in range(1, 6)}] * 4 + [{n: 10 - n for n in range(1, 7)}]


def test_the_released_rule_takes_the_sixth_object_of_the_fifth_frame_once_counting_is_mended():
    assert taken_numbers(FIVE_THEN_SIX) == {n: n for n in range(1, 7)}


def test_the_released_rule_as_it_is_counts_again_on_every_frame():
    """Specification §12: five objects fill 20 places in four frames, are numbered 16 to 20, and the sixth is lost."""
    assert taken_numbers(FIVE_THEN_SIX, compat=True) == {n: n + 15 for n in range(1, 6)}


@pytest.mark.parametrize(("compat", "expected"), [(False, [{1, 2}, {1, 2, 3}]), (True, [{3, 4}, {3, 4}])])
def test_maps_are_renumbered(compat, expected):
    maps = [id_map(o7=4, o5=3), id_map(o7=4, o5=3, o9=2)]
    assert ids(list(renumbered_first_objects(maps, limit=4, compat=compat))) == expected
