"""What every data set is: a name, a split, a label space and videos."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, overload

from maskstream.types import CategorySet, InputError, Task, VideoSample


class LazyVideos(Sequence[VideoSample]):
    """Videos that are put together when they are asked for: a list of names, and how to make a sample of one.

    Args:
        names: of the videos, in order.
        make: gives the sample of a name; called each time it is asked for.
    """

    def __init__(self, names: Sequence[str], make: Callable[[str], VideoSample]) -> None:
        self.names = names
        self._make = make

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> VideoSample: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[VideoSample]: ...

    def __getitem__(self, index: int | slice) -> VideoSample | Sequence[VideoSample]:
        if isinstance(index, slice):
            return LazyVideos(self.names[index], self._make)
        return self._make(self.names[index])

    def __iter__(self) -> Iterator[VideoSample]:
        return map(self._make, self.names)


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """A split of a data set. Families with more to say about a video than a `VideoSample` holds derive from it.

    Attributes:
        name: of the data set, such as "davis-2017".
        split: which part.
        root: the folder it was found in, or the annotation file.
        categories: the label space of its annotations.
        videos: in the order of the split's list.
    """

    name: str
    split: str
    root: Path
    categories: CategorySet
    videos: Sequence[VideoSample] = field(repr=False)


Reader: TypeAlias = Callable[[Path, str], Dataset]
"""Opens the split of a data set in a folder; raises InputError, saying what was looked for where."""


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """What people need to know of a data set.

    Attributes:
        name: as in commands.
        title: as in papers.
        tasks: what it is annotated for; the first is what commands take without ``--task``.
        splits: its parts; the first is what commands take without ``--split``.
        home: the page where it is published.
        licence: what it may be used for, in a few words.
        about: how much there is of what, in a sentence or two.
        layout: the folders and files that are read, one a line, below the root.
        results: the layout of results, one a line.
        read: opens it.
        notes: traps, a sentence each.
        open_splits: splits are lists in the folder, and any other list there is one too.
    """

    name: str
    title: str
    tasks: tuple[Task, ...]
    splits: tuple[str, ...]
    home: str
    licence: str
    about: str
    layout: str
    results: str
    read: Reader = field(repr=False)
    notes: tuple[str, ...] = ()
    open_splits: bool = False

    def open(self, root: Path, split: str | None = None) -> Dataset:
        """Open a split; the first one if none is named.

        Raises:
            InputError: there is no such split, or it is not found in this folder.
        """
        if split is not None and split not in self.splits and not self.open_splits:
            raise InputError(f"{self.name} has no split {split!r}; it has {', '.join(self.splits)}")
        if not root.exists():
            raise InputError(f"there is no {root}: name the folder that holds {self.title}")
        return self.read(root, split or self.splits[0])
