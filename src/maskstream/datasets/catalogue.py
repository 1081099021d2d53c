"""Every data set by name."""

from __future__ import annotations

from pathlib import Path

from maskstream.types import InputError

from .dataset import Dataset, DatasetInfo

_FAMILIES: tuple[tuple[DatasetInfo, ...], ...] = ()

DATASETS: dict[str, DatasetInfo] = {info.name: info for family in _FAMILIES for info in family}
"""Every data set by name, family by family."""


def find_dataset(name: str) -> DatasetInfo:
    """What is known of a data set.

    Raises:
        InputError: there is none of this name; the message lists them.
    """
    if name not in DATASETS:
        raise InputError(f"there is no data set {name!r}; known: {', '.join(DATASETS)}")
    return DATASETS[name]


def open_dataset(name: str, root: Path, *, split: str | None = None) -> Dataset:
    """Open a split of a data set.

    Args:
        name: one of `DATASETS`.
        root: the folder it is in, or its annotation file where it has one.
        split: which part; the first of the data set when None.

    Raises:
        InputError: the name or the split is unknown, or something is missing.
    """
    return find_dataset(name).open(root, split)
