"""Which videos are meant: files, folders, patterns, lists of them, here or on a network; and what each is called.

A source is                             and means
a folder                                every video file in it, however deep; a folder of images alone is one video
a pattern (``*``, ``?``, ``[…]``)       what it matches, each as if it was given
a list: ``.txt``, ``.csv``, ``.parquet`` a video a line or row; columns ``path``, and if wanted ``id`` and ``prompts``
``s3://…``, ``gs://…``, ``https://…``   the same on a network, through fsspec
anything else                           a video, as `open_video` takes it
"""

from __future__ import annotations

import csv
import glob
import hashlib
import io
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from maskstream.types import InputError, VideoError
from maskstream.video.images import is_image

from .segment import PromptWords

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

# fmt: off
VIDEO_SUFFIXES = frozenset({
    ".3gp", ".asf", ".avi", ".divx", ".flv", ".gif", ".h264", ".h265", ".hevc", ".m2ts", ".m4v", ".mkv", ".mov",
    ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m",
})
# fmt: on
"""Names of video files in folders; a file that is named itself may be called anything."""

LIST_SUFFIXES = frozenset({".csv", ".parquet", ".txt"})

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_LIVE = ("camera", "mms", "rtmp", "rtmps", "rtp", "rtsp", "rtsps", "srt", "tcp", "udp")
_INSTALL = {"gcs": "gcsfs", "gs": "gcsfs", "http": "aiohttp", "https": "aiohttp", "s3": "s3fs", "abfs": "adlfs"}
_LONGEST_NAME = 100


@dataclass(frozen=True, slots=True)
class Listed:
    """A video that was found.

    Attributes:
        where: its path or address.
        name: what it is to be called, where somebody says so.
        words: prompts that stand beside it in a list.
    """

    where: str
    name: str | None = None
    words: PromptWords | None = None


def find_videos(sources: Sequence[str]) -> list[Listed]:
    """Everything that sources mean, each video once, in the order of the sources and by name within one.

    Raises:
        InputError: a source means no video, a list cannot be read, or what reads from a network is not installed.
    """
    found: dict[str, Listed] = {}
    for source in sources:
        meant = list(_meant(source))
        if not meant:
            raise InputError(f"{source}: there is no video here")
        for listed in meant:
            found.setdefault(listed.where, listed)
    return list(found.values())


def _meant(source: str) -> Iterator[Listed]:
    scheme = _scheme(source)
    if source == "-" or scheme in _LIVE or source.startswith("camera:"):
        raise InputError(f"{source} passes by once, so it cannot be tried again: 'maskstream segment' takes it")
    if Path(source).suffix.lower() in LIST_SUFFIXES:
        yield from _read_list(source)
    elif scheme:
        yield from map(Listed, _remote_videos(source))
    elif Path(source).is_dir():
        yield from map(Listed, _videos_in(Path(source)))
    elif not Path(source).exists() and glob.has_magic(source):
        matches = sorted(glob.glob(source, recursive=True))  # noqa: PTH207 - the pattern may be absolute
        if matches and all(is_image(Path(match)) for match in matches):
            yield Listed(source)  # images of one video
            return
        for match in matches:
            yield from map(Listed, _videos_in(Path(match)) if Path(match).is_dir() else [match])
    else:
        yield Listed(source)


def _videos_in(folder: Path) -> Iterator[str]:
    """Video files and folders of images. Folders that this program wrote hold results, and are passed over."""
    for root, folders, files in os.walk(folder):
        path = Path(root)
        if "run.json" in files:
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        shown = sorted(name for name in files if not name.startswith("."))
        videos = [name for name in shown if Path(name).suffix.lower() in VIDEO_SUFFIXES]
        if not videos and any(is_image(path / name) for name in shown):
            yield str(path)
        yield from (str(path / name) for name in videos)


# Lists.


def _read_list(source: str) -> Iterator[Listed]:
    """The rows of a list. What is relative in it is so to its folder."""
    content = _content(source)
    suffix = Path(source).suffix.lower()
    if suffix == ".parquet":
        rows = _parquet_rows(source, content)
    else:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(f"{source} is not a list of videos: {error}") from error
        if suffix == ".csv":
            reader = csv.DictReader(io.StringIO(text))
            rows = [{key: value or "" for key, value in row.items() if key} for row in reader]
        else:
            lines = (line.strip() for line in text.splitlines())
            rows = [{"path": line} for line in lines if line and not line.startswith("#")]
    for number, row in enumerate(rows, start=1):
        path = row.get("path", "").strip()
        if not path:
            raise InputError(f"{source}: row {number} has no path; a list has the columns path, id and prompts")
        prompts = row.get("prompts", "").strip()
        yield Listed(
            _beside(source, path),
            row.get("id", "").strip() or None,
            read_words(Path(_beside(source, prompts))) if prompts else None,
        )


def _parquet_rows(source: str, content: bytes) -> list[dict[str, str]]:
    try:
        from pyarrow import ArrowException, BufferReader, parquet
    except ImportError as error:
        raise InputError(f"{source}: to read Parquet, pip install pyarrow, or write the list as .csv") from error
    try:
        rows = parquet.read_table(BufferReader(content)).to_pylist()
    except ArrowException as error:
        raise InputError(f"{source} is not a list of videos: {error}") from error
    return [{key: "" if value is None else str(value) for key, value in row.items()} for row in rows]


def _content(source: str) -> bytes:
    try:
        if _scheme(source):
            filesystem, path = _remote(source)
            content: bytes = filesystem.cat_file(path)
            return content
        return Path(source).read_bytes()
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error.strerror or error}") from error


def _beside(listing: str, path: str) -> str:
    if _scheme(path) or Path(path).is_absolute():
        return path
    if _scheme(listing):
        return f"{listing.rpartition('/')[0]}/{path}"
    return str(Path(listing).parent / path)


# Prompts.


def read_prompts(path: Path) -> dict[str, PromptWords]:
    """Read a file of prompts: by video, what is given to ``maskstream segment``.

        {"clip": {"box": ["0:1:10,10,60,60"], "mask": ["0:first.png"]}, …}

    Masks are named relative to the folder of the file.

    Raises:
        InputError: it is not such a file.
    """
    plain = _json_object(path)
    return {video: _words(path, words, f"{path}, {video}") for video, words in plain.items()}


def read_words(path: Path) -> PromptWords:
    """Read the prompts of one video: the inner part of a file of `read_prompts`.

    Raises:
        InputError: it is not such a file.
    """
    return _words(path, _json_object(path), str(path))


def _json_object(path: Path) -> dict[str, object]:
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if not isinstance(plain, dict):
        raise InputError(f"{path} is not a file of prompts: it must be an object of JSON")
    return plain


def _words(path: Path, plain: object, where: str) -> PromptWords:
    kinds = [field.name for field in fields(PromptWords)]
    given = plain.items() if isinstance(plain, dict) else [("", None)]
    words: dict[str, tuple[str, ...]] = {}
    for kind, texts in given:
        listed = [texts] if isinstance(texts, str) else texts
        if kind not in kinds or not isinstance(listed, list) or not all(isinstance(text, str) for text in listed):
            raise InputError(f"{where}: prompts are lists of texts under {', '.join(kinds)}")
        words[kind] = tuple(_absolute(path, text) if kind == "mask" else text for text in listed)
    return PromptWords(**words)


def _absolute(path: Path, mask: str) -> str:
    """A mask, by a path that means the same wherever a worker runs."""
    frame, colon, name = mask.partition(":")
    return f"{frame}:{path.parent.absolute() / name}" if colon else mask


# Names.


def names_of(videos: Sequence[Listed], earlier: Mapping[str, str]) -> dict[str, str]:
    """What each video's output is called.

    That is the name of its file. Where several have the same, a digest of the path is added, so that a name does not
    depend on the order. Names that were given out earlier stay.

    Args:
        videos: all.
        earlier: names by path or address.

    Returns:
        A name by path or address. No two are the same, also where upper and lower case are one.

    Raises:
        InputError: two are called the same by a list.
    """
    names = {listed.where: earlier[listed.where] for listed in videos if listed.where in earlier}
    new = [listed for listed in videos if listed.where not in earlier]
    wanted = {listed.where: clean_name(listed.name or _stem(listed.where)) for listed in new}
    taken = {name.casefold() for name in earlier.values()}
    count = Counter(name.casefold() for name in wanted.values())
    for listed in new:
        name = wanted[listed.where]
        if name.casefold() in taken or count[name.casefold()] > 1:
            if listed.name is not None:
                raise InputError(f"{listed.where}: another video is called {listed.name}, too: give it another id")
            name = f"{name}-{hashlib.sha256(listed.where.encode()).hexdigest()[:8]}"
        names[listed.where] = name
    return names


def clean_name(name: str) -> str:
    """A name that every file system takes: letters, digits, ``.``, ``-`` and ``_``."""
    return re.sub(r"[^\w.-]+", "_", name).lstrip(".")[:_LONGEST_NAME] or "video"


def _stem(where: str) -> str:
    path = where.partition("?")[0] if _scheme(where) else where
    name = Path(path.rstrip("/")).name or Path(path).resolve().name
    return name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in VIDEO_SUFFIXES else name


# What lies on a network.


def is_remote(where: str) -> bool:
    """Whether a video has to be brought here first."""
    return _scheme(where) is not None


def _scheme(source: str) -> str | None:
    match = _ADDRESS.match(source)
    return match[1].lower() if match else None


def _remote(address: str) -> tuple[AbstractFileSystem, str]:
    """The file system of an address, and the path in it."""
    scheme = _scheme(address) or ""
    try:
        from fsspec.core import url_to_fs

        filesystem, path = url_to_fs(address)
    except ImportError as error:
        raise InputError(f"{address}: to read {scheme}://, pip install {_INSTALL.get(scheme, 'fsspec')}") from error
    except ValueError as error:
        raise InputError(f"{address} cannot be read: {error}") from error
    return filesystem, str(path)


def _remote_videos(address: str) -> list[str]:
    if Path(address.partition("?")[0]).suffix.lower() in VIDEO_SUFFIXES and "*" not in address:
        _remote(address)  # complains
        return [address]
    filesystem, path = _remote(address)
    try:
        found = filesystem.glob(path) if "*" in path else filesystem.find(path)
    except (OSError, NotImplementedError) as error:
        raise InputError(f"{address} cannot be listed: {error}") from error
    wanted = (each for each in found if "*" in path or Path(each).suffix.lower() in VIDEO_SUFFIXES)
    return sorted(str(filesystem.unstrip_protocol(each)) for each in wanted)


@contextmanager
def local_copy(where: str, folder: Path, *, content: bytes | None = None) -> Iterator[str]:
    """A video as a file of this machine, for as long as it is needed.

    Args:
        where: its path or address.
        folder: what lies on a network is brought here, under its own name.
        content: its bytes, where somebody has brought them already.

    Yields:
        Its path.

    Raises:
        VideoError: there is nothing at this address.
    """
    if _scheme(where) is None:
        yield where
        return
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
        copy = folder / (clean_name(Path(where.partition("?")[0]).name))
        if content is not None:
            copy.write_bytes(content)
        else:
            _bring(where, copy)
        yield str(copy)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _bring(address: str, copy: Path) -> None:
    filesystem, path = _remote(address)
    try:
        filesystem.get_file(path, str(copy))
    except FileNotFoundError as error:
        raise VideoError(f"{address} does not exist") from error
