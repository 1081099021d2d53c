"""Files that a browser sends, written as they come: never held in memory, and gone again when they are refused."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from maskstream.types import InputError, OutputError

_LARGEST_FIELD = 1024
"""Bytes of a value that is no file."""
_MOST_PARTS = 8
_OVERHEAD = 2**16
"""Bytes of headers and boundaries around the file."""
_BLOCK = 2**20
_PREFIX = ".upload-"


class TooLargeError(InputError):
    """More bytes than are taken."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that was sent.

    Attributes:
        path: where it is until it is moved; afterwards it is removed.
        name: that it had on the other side, without folders.
        fields: what else the form says.
    """

    path: Path
    name: str
    fields: Mapping[str, str]


@asynccontextmanager
async def received(request: Request, folder: Path, *, limit: int) -> AsyncIterator[Upload]:
    """Write the one file of a multipart form to a folder.

    Args:
        request: whose body it is.
        folder: for the file, under a hidden name; made if it is not there.
        limit: most bytes of the file.

    Yields:
        The file. It is removed at the end, unless it has been moved away.

    Raises:
        TooLargeError: it has more bytes than the limit.
        InputError: it is no form, has no file or several, or breaks off.
        OutputError: it cannot be written.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit + _OVERHEAD:
        raise _too_large(limit)
    form = _Form(_boundary(request))
    path = folder / f"{_PREFIX}{secrets.token_hex(8)}"
    try:
        try:
            await run_in_threadpool(folder.mkdir, parents=True, exist_ok=True)
            with path.open("xb") as file:
                await _write(request, form, file, limit)
        except OSError as error:
            raise OutputError(f"the upload cannot be written: {error.strerror or error}") from error
        yield Upload(path, form.file_name(), form.fields())
    finally:
        path.unlink(missing_ok=True)


def remove_leftovers(folder: Path, *, older_than: float = 0.0) -> None:
    """Remove what a server that was killed had received.

    Args:
        folder: as of `received`.
        older_than: seconds since it was written to; others may be receiving there.
    """
    for path in folder.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # it is gone, or somebody else's
            if time.time() - path.lstat().st_mtime >= older_than:
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()


async def _write(request: Request, form: _Form, file: BinaryIO, limit: int) -> None:
    """Parse the body and write what is in the file of it, block by block."""
    read, written = 0, 0
    try:
        async for chunk in request.stream():
            read += len(chunk)
            form.feed(chunk)
            if written + len(form.data) > limit or read > limit + _OVERHEAD:
                raise _too_large(limit)
            if len(form.data) >= _BLOCK:
                written += await run_in_threadpool(file.write, form.take())
        form.finish()
        await run_in_threadpool(file.write, form.take())
    except ClientDisconnect:
        raise InputError("the upload broke off") from None
    except FormParserError:
        raise InputError("this is no multipart form, or it is cut off: send the file as a form does") from None


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise InputError("send the file as multipart/form-data")
    return options[b"boundary"]


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(f"the file is too large: at most {limit / 2**20:.0f} MiB are taken")


@dataclass(slots=True)
class _Part:
    """One part of a form, as far as it has come."""

    name: str = ""
    file_name: str | None = None
    header: bytearray = field(default_factory=bytearray)
    value: bytearray = field(default_factory=bytearray)
    headers: dict[bytes, bytes] = field(default_factory=dict)
    text: bytearray = field(default_factory=bytearray)


class _Form:
    """A multipart form, read as it comes; ``data`` is what has come of the file and was not taken yet."""

    def __init__(self, boundary: bytes) -> None:
        self.data = bytearray()
        self._parts: list[_Part] = []
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._add_header_name,
                    "on_header_value": self._add_header_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._name_part,
                    "on_part_data": self._add_data,
                    "on_end": self._end,
                },
            )
        except FormParserError:
            raise InputError("this is no multipart form: its boundary is too long") from None

    def feed(self, chunk: bytes) -> None:
        """Read on."""
        self._parser.write(chunk)

    def finish(self) -> None:
        """Say that nothing comes any more.

        Raises:
            InputError: something should, or there is not exactly one file.
        """
        if not self._ended:
            raise InputError("the upload broke off")
        if sum(part.file_name is not None for part in self._parts) != 1:
            raise InputError("send one file, no more and no less")

    def take(self) -> bytes:
        """What has come of the file since."""
        taken = bytes(self.data)
        self.data.clear()
        return taken

    def file_name(self) -> str:
        """The name of the file on the other side, without folders."""
        given = next(part.file_name for part in self._parts if part.file_name is not None)
        return given.replace("\\", "/").rpartition("/")[2]

    def fields(self) -> dict[str, str]:
        """The values that are no files."""
        return {p.name: p.text.decode("utf-8", "replace") for p in self._parts if p.file_name is None}

    def _begin(self) -> None:
        if len(self._parts) >= _MOST_PARTS:
            raise InputError(f"the form has more than {_MOST_PARTS} parts")
        self._parts.append(_Part())

    def _add_header_name(self, data: bytes, start: int, end: int) -> None:
        self._parts[-1].header += data[start:end]

    def _add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._parts[-1].value += data[start:end]

    def _end_header(self) -> None:
        part = self._parts[-1]
        part.headers[bytes(part.header).lower()] = bytes(part.value)
        part.header.clear()
        part.value.clear()

    def _name_part(self) -> None:
        part = self._parts[-1]
        _, options = parse_options_header(part.headers.get(b"content-disposition", b""))
        part.name = options.get(b"name", b"").decode("utf-8", "replace")
        if b"filename" in options:
            part.file_name = options[b"filename"].decode("utf-8", "replace")

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        part = self._parts[-1]
        if part.file_name is not None:
            self.data += data[start:end]
            return
        part.text += data[start:end]
        if len(part.text) > _LARGEST_FIELD:
            raise InputError(f"{part.name or 'a field'} of the form has more than {_LARGEST_FIELD} bytes")

    def _end(self) -> None:
        self._ended = True
