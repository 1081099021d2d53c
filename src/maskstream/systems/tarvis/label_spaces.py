"""What the classes of a TarViS mean: it knows several label spaces, and a task is asked in one of them."""

from __future__ import annotations

from collections.abc import Mapping

from maskstream.segmenters.label_spaces import known_space, shared_categories
from maskstream.types import Category, CategorySet, InputError

from .network import TarViSConfig

_THING = "*"
"""Stands behind names of things."""


def marked(space: CategorySet) -> tuple[str, ...]:
    """Names as settings of a network have them."""
    return tuple(category.name + (_THING if category.is_thing else "") for category in space.categories)


def spaces_of(config: TarViSConfig) -> dict[str, CategorySet]:
    """What classes mean, by label space; of files of the authors those that are known by their names.

    Args:
        config: of a network.
    """
    spaces: dict[str, CategorySet] = {}
    before = 0
    for name, count in zip(config.label_spaces, config.classes, strict=True):
        if config.names:
            own = config.names[before : (before := before + count)]
            categories = (Category(n, x.removesuffix(_THING), x.endswith(_THING)) for n, x in enumerate(own))
            spaces[name] = CategorySet(name, tuple(categories))
        elif (known := _known(name)) is not None and len(known) == count:
            spaces[name] = known
    return spaces


def chosen(
    config: TarViSConfig, spaces: Mapping[str, CategorySet], wanted: CategorySet | str | None
) -> tuple[str, CategorySet]:
    """The label space to ask in, and what its classes mean.

    Args:
        config: of the network.
        spaces: what its label spaces mean, of those that may be chosen.
        wanted: a label space by name; or categories, whose label space is the one of that name, or the one that has
            most of them. None: the only one.

    Raises:
        InputError: it is unknown, or it is not said which of several.
    """
    if isinstance(wanted, CategorySet) and wanted.name in spaces:
        return wanted.name, spaces[wanted.name]
    if isinstance(wanted, CategorySet) and wanted.name in config.label_spaces:
        if (count := config.classes[config.label_spaces.index(wanted.name)]) != len(wanted):
            raise InputError(f"{wanted.name} has {len(wanted)} categories, but the network tells {count} of it")
        return wanted.name, wanted
    if isinstance(wanted, CategorySet):
        return _nearest(spaces, wanted)
    if wanted is None:
        if len(spaces) != 1:
            raise InputError(f"this TarViS knows {', '.join(config.label_spaces)}: say which with --label-space")
        (wanted,) = spaces
    if wanted not in config.label_spaces:
        known = ", ".join(config.label_spaces) or "none"
        raise InputError(f"unknown label space {wanted!r}; this TarViS knows: {known}")
    if wanted not in spaces:
        raise InputError(f"nobody says what the classes of {wanted} are called: give its categories")
    return wanted, spaces[wanted]


def _nearest(spaces: Mapping[str, CategorySet], wanted: CategorySet) -> tuple[str, CategorySet]:
    """The label space that shares most categories; of equal ones the first."""
    shared = {name: count for name, space in spaces.items() if (count := _shared(space, wanted))}
    if not shared:
        raise InputError(
            f"none of the {len(wanted)} categories of {wanted.name} is known to this TarViS, which knows "
            f"{', '.join(spaces) or 'no label space by name'}"
        )
    name = max(shared, key=lambda x: shared[x])
    return name, spaces[name]


def _shared(space: CategorySet, wanted: CategorySet) -> int:
    try:
        return len(shared_categories(space, wanted))
    except InputError:  # they share none
        return 0


def _known(name: str) -> CategorySet | None:
    try:
        return known_space(name)
    except InputError:
        return None
