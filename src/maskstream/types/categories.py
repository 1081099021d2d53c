"""Label spaces: what the numbers in ``Segment.category`` mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .errors import InputError


@dataclass(frozen=True, slots=True)
class Category:
    """One category of a label space; colour is RGB, or None to let the reader of a file choose."""

    id: int
    name: str
    is_thing: bool | None = None
    colour: tuple[int, int, int] | None = None


@dataclass(frozen=True, slots=True)
class CategorySet:
    """A named label space, in a fixed order."""

    name: str
    categories: tuple[Category, ...]

    def __post_init__(self) -> None:
        for values, what in ((self.ids, "id"), (self.names, "name")):
            repeated = sorted({str(value) for value in values if values.count(value) > 1})
            if repeated:
                raise InputError(f"label space {self.name!r} uses the {what} {', '.join(repeated)} twice")

    @classmethod
    def from_names(cls, names: Sequence[str], *, name: str = "custom", is_thing: bool | None = None) -> CategorySet:
        """Categories numbered from 1 in the order given, as COCO does."""
        return cls(name, tuple(Category(n, text.strip(), is_thing) for n, text in enumerate(names, 1)))

    @property
    def ids(self) -> tuple[int, ...]:
        """Category ids, in order."""
        return tuple(category.id for category in self.categories)

    @property
    def names(self) -> tuple[str, ...]:
        """Category names, in order."""
        return tuple(category.name for category in self.categories)

    def things_first(self) -> CategorySet:
        """The same categories with stuff last, each kind in its order: that of classes in networks that know both."""
        return replace(self, categories=tuple(sorted(self.categories, key=lambda one: one.is_thing is False)))

    def __getitem__(self, category_id: int) -> Category:
        for category in self.categories:
            if category.id == category_id:
                return category
        raise InputError(f"label space {self.name!r} has no category {category_id}; it has {list(self.ids)}")

    def __len__(self) -> int:
        return len(self.categories)


OBJECT = CategorySet("object", (Category(1, "object", is_thing=True),))
"""The one-class label space of class-agnostic results."""
