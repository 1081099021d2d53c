"""Which label space the names of a model are, and what two label spaces share."""

import pytest

from maskstream.datasets.classes import ADE20K, CITYSCAPES_VPS, VIPSEG
from maskstream.segmenters.label_spaces import (
    _known,
    known_space,
    label_space,
    shared_categories,
    shown_categories,
    space_of,
)
from maskstream.types import Category, CategorySet, InputError

KNOWN = {space.name: space for space in _known()}


def named(names):
    return dict(enumerate(names))


def test_known_label_spaces_have_their_published_sizes():
    things = {name: sum(c.is_thing is True for c in space.categories) for name, space in KNOWN.items()}
    assert {name: (len(space), things[name]) for name, space in KNOWN.items()} == {
        "coco-panoptic": (133, 80),
        "coco": (80, 80),
        "ade20k": (150, 100),
        "cityscapes": (19, 8),
        "synthetic": (22, 14),
        "ade20k-things": (100, 100),
        "cityscapes-things": (8, 8),
        "synthetic-things": (14, 14),
    }


@pytest.mark.parametrize("name", KNOWN)
def test_names_of_a_known_label_space_are_recognised(name):
    space = label_space(named(KNOWN[name].names))
    assert space.name == name
    assert space.ids == tuple(range(len(space)))
    assert [c.is_thing for c in space.categories] == [c.is_thing for c in KNOWN[name].categories]


def test_some_other_spellings_do_not_matter():
    names = [f"{name.upper()} , something else" if n % 2 else name for n, name in enumerate(ADE20K.names)]
    names[100:130] = ["?" + name for name in names[100:130]]
    space = label_space(named(names))
    assert space.name == "ade20k"
    assert space.names[1] == "BUILDING , something else"
    assert space[7].is_thing is True  # a bed
    names[:30] = ["?" + name for name in names[:30]]
    assert label_space(named(names)).name == "custom"


def test_the_order_of_the_names_matters():
    assert label_space(named(CITYSCAPES_VPS.names[::-1])).name == "custom"


def test_what_is_a_thing_is_not_known_of_other_names():
    space = label_space({"1": "cell", "0": "nucleus"})
    assert (space.name, space.ids, space.names) == ("custom", (0, 1), ("nucleus", "cell"))
    assert [c.is_thing for c in space.categories] == [None, None]
    assert [c.is_thing for c in label_space({0: "nucleus", 1: "cell"}, things=[1]).categories] == [False, True]
    assert len(label_space(None)) == 0


def test_repeated_names_are_told_apart():
    assert label_space({0: "door ", 1: "wall", 2: "door"}).names == ("door (0)", "wall", "door (2)")


def test_shared_categories_are_found_by_any_synonym():
    source = label_space({0: "sea, ocean", 1: "traffic light", 2: "wall-brick", 3: "dog"})
    wanted = CategorySet.from_names(["Ocean", "cat", "wall brick", "traffic_light"])
    assert {n: c.id for n, c in shared_categories(source, wanted).items()} == {0: 1, 1: 4, 2: 3}
    with pytest.raises(InputError, match="none of the 1 categories of custom is known"):
        shared_categories(source, CategorySet.from_names(["unicorn"]))


FARM = CategorySet("farm", (Category(7, "hen", True), Category(8, "grass", False)))


def test_what_is_shown_is_called_as_it_is_wanted():
    assert shown_categories(FARM, None) == dict(enumerate(FARM.categories)) == shown_categories(FARM, "farm")
    wanted = CategorySet.from_names(["Grass", "sky"])
    assert shown_categories(FARM, wanted) == {1: Category(1, "Grass", False)}  # what is stuff the network knows
    with pytest.raises(InputError, match="this model has: farm"):
        shown_categories(FARM, "city")


def test_what_somebody_says_of_classes_must_be_of_so_many():
    assert space_of({0: "a", 1: "b"}, None, classes=2).names == ("a", "b")
    assert space_of({0: "a", 1: "b"}, FARM, classes=2) is FARM
    with pytest.raises(InputError, match="tells 3 classes, but farm has 2"):
        space_of({}, FARM, classes=3)


def test_label_spaces_of_benchmarks_have_names():
    assert known_space("vipseg") is VIPSEG
    with pytest.raises(InputError, match="unknown label space 'vip'; known: vipseg, vspw"):
        known_space("vip")


def test_things_come_first_and_keep_their_order():
    kinds = {"a": False, "b": True, "c": None, "d": False, "e": True}
    space = CategorySet("mixed", tuple(Category(n, name, kind) for n, (name, kind) in enumerate(kinds.items())))
    assert space.things_first().names == ("b", "c", "e", "a", "d")
