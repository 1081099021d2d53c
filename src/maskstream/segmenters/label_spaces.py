"""Label spaces of image-level models: which one their names are, what is a thing, what two of them share."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cache

from maskstream.types import Category, CategorySet, InputError

_COCO_THINGS = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, handbag,
tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard,
tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot,
hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop, mouse, remote, keyboard,
cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear, hair drier,
toothbrush
"""

_COCO_STUFF = """
banner, blanket, bridge, cardboard, counter, curtain, door-stuff, floor-wood, flower, fruit, gravel, house, light,
mirror-stuff, net, pillow, platform, playingfield, railroad, river, road, roof, sand, sea, shelf, snow, stairs, tent,
towel, wall-brick, wall-stone, wall-tile, wall-wood, water-other, window-blind, window-other, tree-merged,
fence-merged, ceiling-merged, sky-other-merged, cabinet-merged, table-merged, floor-other-merged, pavement-merged,
mountain-merged, grass-merged, dirt-merged, paper-merged, food-other-merged, building-other-merged, rock-merged,
wall-other-merged, rug-merged
"""

_AGREEMENT = 0.75
"""Share of the names that must be those of a known label space, each in its place: spellings differ between models."""


def label_space(
    names: Mapping[int, str] | Mapping[str, str] | None, *, things: Collection[int] | None = None
) -> CategorySet:
    """What a model's outputs mean; ids are the model's own.

    The name is "coco-panoptic", "coco", "ade20k", "cityscapes", "synthetic", or one of the last three with "-things",
    where the names are known, and "custom" otherwise.

    Args:
        names: of the model's configuration (``id2label``).
        things: ids of the things, where the model says so. None: from the label space, if it is a known one.
    """
    texts = dict(sorted((int(n), text.strip()) for n, text in (names or {}).items()))
    known = next((space for space in _known() if _agrees(list(texts.values()), space)), None)
    kinds = dict(zip(texts, (c.is_thing for c in known.categories), strict=True)) if known else {}
    if things is not None:
        kinds = {n: n in things for n in texts}
    repeated = {text for text in texts.values() if list(texts.values()).count(text) > 1}
    return CategorySet(
        known.name if known else "custom",
        tuple(Category(n, f"{text} ({n})" if text in repeated else text, kinds.get(n)) for n, text in texts.items()),
    )


def space_of(
    names: Mapping[int, str], space: CategorySet | None, *, classes: int, things: Collection[int] | None = None
) -> CategorySet:
    """What a network's classes mean: as somebody says, or as its names do; see `label_space`.

    Args:
        names: of its configuration.
        space: what somebody says, in the order of its classes; None: nobody does.
        classes: how many it tells.
        things: ids of the things among the names.

    Raises:
        InputError: they are not so many.
    """
    found = label_space(names, things=things) if space is None else space
    if len(found) != classes:
        raise InputError(
            f"the network tells {classes} classes, but {found.name} has {len(found)}: name the label space that it was "
            "trained on"
        )
    return found


def shared_categories(source: CategorySet, wanted: CategorySet) -> dict[int, Category]:
    """What categories of one label space are called in another, by their id in the first.

    Names are the same but for capitals and hyphens; of a name with synonyms ("sea, ocean") any will do.

    Raises:
        InputError: they share none.
    """
    by_name = {spelling: category for category in reversed(wanted.categories) for spelling in _spellings(category.name)}
    shared = {}
    for category in source.categories:
        found = next((by_name[spelling] for spelling in _spellings(category.name) if spelling in by_name), None)
        if found is not None:
            shared[category.id] = found
    if not shared:
        raise InputError(
            f"none of the {len(wanted)} categories of {wanted.name} is known to the segmenter, whose labels are "
            f"{', '.join(source.names[:5])}, … ({len(source)} of {source.name})"
        )
    return shared


def shown_categories(own: CategorySet, wanted: CategorySet | str | None) -> dict[int, Category]:
    """By class of a network, what is shown of it and what that is called.

    Args:
        own: what the network's classes mean, in their order.
        wanted: what is asked for, by name or as it is called elsewhere; None: all.

    Raises:
        InputError: it is another label space, or has nothing in common.
    """
    if isinstance(wanted, str) and wanted != own.name:
        raise InputError(f"unknown label space {wanted!r}; this model has: {own.name}")
    if wanted is None or isinstance(wanted, str):
        return dict(enumerate(own.categories))
    shared = shared_categories(own, wanted)
    shown: dict[int, Category] = {}
    for n, category in enumerate(own.categories):
        if (named := shared.get(category.id)) is not None:
            # Where the wanted label space does not say what is a thing, the network's does.
            shown[n] = replace(named, is_thing=category.is_thing) if named.is_thing is None else named
    return shown


def known_space(name: str) -> CategorySet:
    """A label space of a benchmark, or of the synthetic world, by its name.

    Raises:
        InputError: there is none of this name.
    """
    # Not at the top: they open every dataset's module, and the world.
    from maskstream.datasets import classes
    from maskstream.datasets.youtube_vis import OVIS, YTVIS_2019, YTVIS_2021
    from maskstream.synthetic.scene import WORLD

    benchmarks = (classes.VIPSEG, classes.VSPW, classes.CITYSCAPES, classes.CITYSCAPES_VPS, classes.KITTI_STEP)
    others = (classes.CAMVID, classes.ADE20K, YTVIS_2019, YTVIS_2021, OVIS, WORLD)
    spaces = {space.name: space for space in (*benchmarks, *others)}
    if name not in spaces:
        raise InputError(f"unknown label space {name!r}; known: {', '.join(spaces)}")
    return spaces[name]


@cache
def _known() -> tuple[CategorySet, ...]:
    # Not at the top: they open every dataset's module, and the world.
    from maskstream.datasets.classes import ADE20K, CITYSCAPES_VPS
    from maskstream.synthetic.scene import WORLD

    coco_things, coco_stuff = (
        [Category(n, text.strip(), is_thing) for n, text in enumerate(names.split(","))]
        for names, is_thing in ((_COCO_THINGS, True), (_COCO_STUFF, False))
    )
    coco = [Category(n, c.name, c.is_thing) for n, c in enumerate(coco_things + coco_stuff)]
    panoptic = (
        CategorySet("ade20k", ADE20K.categories),
        CategorySet("cityscapes", CITYSCAPES_VPS.categories),
        WORLD,
    )
    return (
        CategorySet("coco-panoptic", tuple(coco)),
        CategorySet("coco", tuple(coco_things)),
        *panoptic,
        *(CategorySet(f"{space.name}-things", tuple(c for c in space.categories if c.is_thing)) for space in panoptic),
    )


def _agrees(names: list[str], space: CategorySet) -> bool:
    if len(names) != len(space):
        return False
    same = [not _spellings(a).isdisjoint(_spellings(b)) for a, b in zip(names, space.names, strict=True)]
    return sum(same) >= _AGREEMENT * len(space)


def _spellings(name: str) -> set[str]:
    """Synonyms of a name."""
    plain = name.casefold().replace("-", " ").replace("_", " ")
    return {synonym.strip() for synonym in plain.split(",")}
