"""Files of one JSON object a line that are written as results leave, and continued behind their last good line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, TypeVar

from maskstream.types import InputError

WriterT = TypeVar("WriterT", bound="LineWriter")


class LineWriter:
    """Appends lines to a file.

    Args:
        path: the file; created with its header unless ``position`` is given.
        header: the first line, with ``schema`` and ``version``.
        position: continue here, in bytes, and drop what stands behind.
    """

    def __init__(self, path: Path, header: Mapping[str, object], *, position: int | None = None) -> None:
        if position is None:
            self._file: BinaryIO = path.open("wb")
            self.write_line(header)
            return
        self._file = path.open("r+b")
        self._file.truncate(position)
        self._file.seek(position)

    def write_line(self, plain: Mapping[str, object]) -> None:
        """Append one object."""
        self._file.write(json_line(plain).encode())

    def sync(self) -> int:
        """Make everything durable; return the position to continue from."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Finish the file."""
        self._file.close()

    def __enter__(self: WriterT) -> WriterT:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def json_line(plain: Mapping[str, object]) -> str:
    """Compact JSON, line end included."""
    return json.dumps(plain, separators=(",", ":"), ensure_ascii=False) + "\n"


def read_header(path: Path, schema: str, version: int, *, what: str) -> dict[str, object]:
    """The first line of a file, once it is known to be of this schema.

    Raises:
        InputError: the file is missing or is of another kind.
    """
    try:
        with path.open("rb") as file:
            header: dict[str, object] = json.loads(file.readline())
        if header["schema"] != schema or header["version"] != version:
            raise InputError(f"{path} is {header['schema']} version {header['version']}, not {schema} {version}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not {what}: {error}") from error
    return header


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Every line behind the header, with its place in the file."""
    with path.open("rb") as file:
        position = len(file.readline())
        for line in file:
            yield position, line
            position += len(line)
