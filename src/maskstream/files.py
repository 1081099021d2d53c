"""Files: writing them so that a reader, or a later run, never meets half of one; and telling them apart."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maskstream.types import InputError, OutputError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Write to a temporary name beside ``path``; on success it takes the name, on failure it is removed.

    Yields:
        The temporary path, in the same folder and with the same suffix, hidden by a leading dot.
    """
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text_atomic(path: Path, text: str) -> None:
    """Write a whole text file, UTF-8 with Unix line ends, durable before it takes its name."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Build a folder under a temporary name; on success it takes the name, on failure it is removed.

    Args:
        path: the folder to make; it may exist if it is empty.

    Yields:
        An empty folder beside ``path``, hidden by a leading dot.

    Raises:
        OutputError: there is something at this place, or it cannot be written.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise OutputError(f"{path} exists: remove it, or name another folder")
    path = path.resolve()
    building = path.with_name(f".{path.name}.partial")
    try:
        if building.exists():  # left by a run that was killed
            shutil.rmtree(building)
        building.mkdir(parents=True)
        yield building
        if path.exists():
            path.rmdir()
        building.rename(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def cache_folder() -> Path:
    """Where things are kept that can be made again: what MASKSTREAM_CACHE names, else the cache of the platform.

    The folder need not exist.
    """
    chosen = os.environ.get("MASKSTREAM_CACHE")
    if chosen:
        return Path(chosen)
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "maskstream"
