"""JSON and text files of data sets, read with errors that name the file, written entry by entry."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from maskstream.types import InputError

Json: TypeAlias = Any
"""What a JSON file says; whoever reads it checks it."""


def read_json(path: Path, *, what: str) -> Json:
    """A whole JSON file.

    Args:
        path: the file.
        what: what it should be, for messages: "the annotations of YouTube-VIS".

    Raises:
        InputError: it is missing, or no JSON.
    """
    try:
        with path.open("rb") as file:
            return json.load(file)
    except FileNotFoundError as error:
        raise InputError(f"there is no {path}, {what}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as {what}: {error}") from error


def read_lines(path: Path, *, what: str) -> list[str]:
    """The lines of a text file that hold something, stripped.

    Raises:
        InputError: it is missing or no text.
    """
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError as error:
        raise InputError(f"there is no {path}, {what}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as {what}: {error}") from error


@contextmanager
def well_formed(path: Path, what: str) -> Iterator[None]:
    """Turn what goes wrong with a JSON file of another kind into an error that names it.

    Raises:
        InputError: something is missing from the file, or of another type.
    """
    try:
        yield
    except KeyError as error:
        raise InputError(f"{path} is not {what}: an entry lacks {error}") from error
    except (TypeError, AttributeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not {what}: {error}") from error


@contextmanager
def json_list(
    path: Path, key: str | None = None, rest: Mapping[str, object] | None = None
) -> Iterator[Callable[[object], None]]:
    """A JSON file whose one long list is written entry by entry; ``rest`` follows, as it is at the end.

    Args:
        path: the file; its folder is made.
        key: of the list; None if the file is the list.
        rest: the other keys.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write("[" if key is None else f"{{{json_text(key)}:[")
        count = 0

        def add(entry: object) -> None:
            nonlocal count
            file.write(("\n" if count == 0 else ",\n") + json_text(entry))
            count += 1

        yield add
        tail = "".join(f",\n{json_text(name)}:{json_text(value)}" for name, value in (rest or {}).items())
        file.write("\n]" + ("\n" if key is None else f"{tail}}}\n"))


@contextmanager
def json_map(path: Path) -> Iterator[Callable[[str, object], None]]:
    """A JSON file ``{"videos": {name: …}}``, written video by video; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write('{"videos":{')
        count = 0

        def add(name: str, entry: object) -> None:
            nonlocal count
            file.write(("\n" if count == 0 else ",\n") + f"{json_text(name)}:{json_text(entry)}")
            count += 1

        yield add
        file.write("\n}}\n")


def write_json(path: Path, value: object) -> None:
    """Write a JSON file and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json_text(value) + "\n", encoding="utf-8", newline="\n")


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Write a text file and its folder, a line end after every line, the last one too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def json_text(value: object) -> str:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
