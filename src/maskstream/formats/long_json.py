"""Big JSON files: one long list read element by element, or kept by video (data sets specification B7)."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, TextIO

from maskstream.files import cache_folder
from maskstream.types import InputError, OutputError, VideoSample

from .json_files import Json

_IN_MEMORY = 32 * 2**20
"""Smaller files, in bytes, are simply held."""
_CHUNK = 2**20
_LONGEST_TOKEN = 16
"""No number or name of JSON is longer, so that an error further from the end of what was read is one."""
_EXPONENT = 3
"""Characters of "e-1": with so many more at hand it is sure where a number ends."""
_SPACE = re.compile(r"[ \t\r\n]*")
_POSITION_DIGITS = 20


def elements(path: Path, key: str | None = None, *, what: str = "JSON") -> Iterator[Json]:
    """The elements of one long list of a JSON file, one at a time; the list is never in memory as a whole.

    Args:
        path: the file.
        key: of the list in the object that the file is; None if the file is the list.
        what: what it should be, for messages: "the annotations of YouTube-VIS".

    Raises:
        InputError: the file is missing or no JSON, or has no such list.
    """
    rest: dict[str, Json] = {}
    yield from _walk(path, key, rest, what)
    if key is not None and key not in rest:
        raise InputError(f"{path} has no list {key!r}; it should be {what}")


class Shards:
    """The elements of one long list of a JSON file, by the video they belong to.

    A small file is held in memory. A big one is read once and laid out in the cache, from where the elements of one
    video are read at a time; changing the file makes that void.

    Args:
        path: the file.
        key: of the list; None if the file is the list.
        by: the fields of an element that name its video, joined with a slash.
        what: what the file should be, for messages.

    Attributes:
        rest: the other members of the file.
        has_list: whether the list is there.

    Raises:
        InputError: the file is missing or no JSON, or an element lacks a field of ``by``.
        OutputError: the cache cannot be written.
    """

    def __init__(self, path: Path, key: str | None, *, by: Sequence[str], what: str) -> None:
        self.path = path
        self._held: dict[str, list[Json]] = {}
        self._cached: Path | None = None
        self._positions: dict[str, list[int]] = {}

        def owners(rest: dict[str, Json]) -> Iterator[tuple[str, Json]]:
            for number, element in enumerate(_walk(path, key, rest, what)):
                with reading(path, f"entry {number} of {key or 'the list'}"):
                    owner = "/".join(str(element[field]) for field in by)
                yield owner, element

        try:
            status = path.stat()
        except OSError as error:
            raise InputError(f"there is no {path}, {what}") from error
        if status.st_size < _IN_MEMORY:
            self.rest: dict[str, Json] = {}
            for owner, element in owners(self.rest):
                self._held.setdefault(owner, []).append(element)
        else:
            identity = f"v1\0{path.resolve()}\0{key}\0{by}"
            stem = f"{path.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
            folder = cache_folder() / "json"
            self._cached = folder / f"{stem}-{status.st_size}-{status.st_mtime_ns}.jsonl"
            index = _read_index(self._cached)
            if index is None:
                _lay_out(self._cached, owners)
                _remove_others(self._cached, f"{stem}-*.jsonl")
                index = _read_index(self._cached)
                assert index is not None
            self.rest, self._positions = index["rest"], index["positions"]
        self.has_list = key is None or isinstance(self.rest.pop(key, None), int)

    def keys(self) -> list[str]:
        """The videos that have an element, in the order in which they first come."""
        return list(self._held or self._positions)

    def __getitem__(self, owner: str) -> list[Json]:
        """The elements of a video in the order of the file; none for a video that is not there."""
        if self._cached is None:
            return self._held.get(owner, [])
        with self._cached.open("rb") as file:
            return [_line_at(file, position) for position in self._positions.get(owner, [])]


class LazySamples(Mapping[str, VideoSample]):
    """Videos by name that are put together when they are asked for.

    Args:
        names: of the videos.
        make: gives the sample of a name. The last one is kept.
    """

    def __init__(self, names: Sequence[str], make: Callable[[str], VideoSample]) -> None:
        self._names = dict.fromkeys(names)
        self._make = lru_cache(maxsize=1)(make)

    def __getitem__(self, name: str) -> VideoSample:
        if name not in self._names:
            raise KeyError(name)
        return self._make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Say of a part of a JSON file what is wrong with it, whatever that is.

    Raises:
        InputError: a key is missing, a value is of the wrong kind, or there was an InputError of no file.
    """
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}, {what}: {error}") from error
    except KeyError as error:
        raise InputError(f"{path}, {what}: there is no {error.args[0]!r}") from error
    except (TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise InputError(f"{path}, {what}: this is not as it should be: {error}") from error


# The cache: a line an element, a line with the index, and where that one begins.


def _lay_out(path: Path, owners: Callable[[dict[str, Json]], Iterator[tuple[str, Json]]]) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.partial")
    rest: dict[str, Json] = {}
    positions: dict[str, list[int]] = {}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            position = 0
            for owner, element in owners(rest):
                positions.setdefault(owner, []).append(position)
                position += file.write(_line(element))
            file.write(_line({"rest": rest, "positions": positions}))
            file.write(f"{position:0{_POSITION_DIGITS}d}".encode())
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"cannot write {path}: {reason}; name another place with MASKSTREAM_CACHE") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _read_index(path: Path) -> Json | None:
    try:
        with path.open("rb") as file:
            file.seek(-_POSITION_DIGITS, os.SEEK_END)
            return _line_at(file, int(file.read()))
    except (OSError, ValueError):  # not there, or cut short by a crash
        return None


def _remove_others(kept: Path, pattern: str) -> None:
    for other in kept.parent.glob(pattern):
        if other != kept:
            with suppress(OSError):  # another process reads it
                other.unlink()


def _line(value: Json) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"


def _line_at(file: BinaryIO, position: int) -> Json:
    file.seek(position)
    return json.loads(file.readline())


# Reading.


def _walk(path: Path, key: str | None, rest: dict[str, Json], what: str) -> Iterator[Json]:
    """The elements of a list; the other members of the file go to ``rest``, and there, too, the length of the list."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = _Text(file)
            if key is None:
                for _ in text.members("[", "]"):
                    yield text.value()
                return
            for _ in text.members("{", "}"):
                name = text.value()
                text.take(":")
                if name == key and text.peek() == "[":
                    rest[name] = 0
                    for _ in text.members("[", "]"):
                        yield text.value()
                        rest[name] += 1
                else:
                    rest[name] = text.value()
    except FileNotFoundError as error:
        raise InputError(f"there is no {path}, {what}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as {what}: {error}") from error


class _Text:
    """The text of a file, of which only what is being read is held."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._text = ""
        self._at = 0
        self._passed = 0
        self._decode = json.JSONDecoder().raw_decode

    def _grow(self) -> bool:
        """Read on, more the longer the value is that is being read; whether there was more."""
        more = self._file.read(max(_CHUNK, len(self._text) - self._at))
        if more:
            self._passed += self._at
            self._text, self._at = self._text[self._at :] + more, 0
        return bool(more)

    def peek(self) -> str:
        """The next character that is no space; nothing at the end."""
        while True:
            match = _SPACE.match(self._text, self._at)
            assert match is not None
            self._at = match.end()
            if self._at < len(self._text) or not self._grow():
                return self._text[self._at : self._at + 1]

    def take(self, expected: str) -> str:
        """The next character, which must be one of these."""
        found = self.peek()
        if not found or found not in expected:
            raise ValueError(f"{' or '.join(expected)} expected at character {self._passed + self._at}")
        self._at += 1
        return found

    def members(self, opening: str, closing: str) -> Iterator[None]:
        """Go to the beginning of every member of a list or object."""
        self.take(opening)
        if self.peek() == closing:
            self.take(closing)
            return
        while True:
            yield
            if self.take("," + closing) == closing:
                return

    def value(self) -> Json:
        """The next value."""
        self.peek()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
                if end + _EXPONENT <= len(self._text) or not self._grow():
                    self._at = end
                    return value
            except json.JSONDecodeError as error:  # noqa: PERF203 - once for each megabyte
                was_cut = error.pos + _LONGEST_TOKEN > len(self._text) or error.msg.startswith("Unterminated string")
                if not (was_cut and self._grow()):
                    raise ValueError(f"{error.msg} at character {self._passed + error.pos}") from error
