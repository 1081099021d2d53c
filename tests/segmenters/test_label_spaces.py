"""Which label space the names of a model are, and what two label spaces share."""

import pytest

from maskstream.datasets.classes import ADE20K, CITYSCAPES_VPS
from maskstream.segmenters.label_spaces import _known, label_space, shared_categories
from maskstream.types import CategorySet, InputError

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
