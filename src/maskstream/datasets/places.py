"""Finding the parts of a data set in a folder, and saying what is missing where."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from maskstream.types import FrameRef, InputError
from maskstream.video.images import is_image

_SHOWN = 8


def find(root: Path, *candidates: str, what: str) -> Path:
    """The first of some places that exists.

    Args:
        root: a folder.
        candidates: paths below it, the usual one first; each may be a glob pattern, whose first match is taken.
        what: what is there, for the message.

    Raises:
        InputError: there is none; the message says what was looked for and what is there.
    """
    for candidate in candidates:
        found = sorted(root.glob(candidate)) if any(c in candidate for c in "*?[") else [root / candidate]
        if found and found[0].exists():
            return found[0]
    wanted = " or ".join(candidates)
    raise InputError(f"{root} has no {wanted}, {what}; {contents(root)}")


def contents(folder: Path) -> str:
    """What is in a folder, for a message."""
    if not folder.is_dir():
        return "it is a file" if folder.exists() else "it does not exist"
    names = sorted(p.name + "/" * p.is_dir() for p in folder.iterdir() if not p.name.startswith("."))
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"it has {', '.join(names[:_SHOWN])}{more}" if names else "it is empty"


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted; hidden ones are left out.

    Raises:
        InputError: it does not exist.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}")
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def pictures(folder: Path) -> dict[str, Path]:
    """The pictures in a folder by stem, sorted; hidden files, empty ones and other kinds are left out.

    Empty, because some archives carry files without a byte (datasets specification B5).
    """
    if not folder.is_dir():
        return {}
    found = (path for path in folder.iterdir() if is_image(path))
    return {path.stem: path for path in sorted(found) if path.stat().st_size}


def frames_of(
    stems: Iterable[str], *, images: Path | None, suffix: str = ".jpg", annotated: Iterable[str] | None = None
) -> tuple[FrameRef, ...]:
    """Frames by name.

    Args:
        stems: of the frames, in any order; they are sorted.
        images: the folder where their pictures are or should be.
        suffix: of the pictures.
        annotated: the stems of those that somebody labelled; all of them when None.
    """
    labelled = None if annotated is None else set(annotated)
    return tuple(
        FrameRef(stem, None if images is None else images / f"{stem}{suffix}", labelled is None or stem in labelled)
        for stem in sorted(stems)
    )
