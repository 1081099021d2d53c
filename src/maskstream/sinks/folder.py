"""The output folder of one run: whose it is, how far it got, and how it continues.

OUT/run.json         what was asked for; `complete` once everything else is there
    segments.jsonl   the journal
    events.jsonl     why objects appeared and went
    masks/           one label PNG a frame
    overlay.mp4      the picture people look at
    tracks.json      YouTube-VIS layout
    report.html
    scores/              probabilities, if asked for (see `maskstream.formats.soft_png`)
    .progress/       snapshot and overlay parts of a run under way; gone when it is complete
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias, Union

import torch

from maskstream.files import atomic_path, write_text_atomic
from maskstream.types import OutputError, StateDict

Json: TypeAlias = Union[bool, int, float, str, list["Json"], dict[str, "Json"], None]  # noqa: UP007 - recursive

SCORES = "scores"
SCHEMA = "maskstream/run"
VERSION = 1


class OwnedFolder:
    """A folder that belongs to one request, said in its ``run.json``. The same request finds it again.

    Args:
        path: the folder; created when it does not exist.
        request: everything that decides the result: source, options, seed, versions. Written to ``run.json``.
        overwrite: empty the folder first if it belongs to another run. Never empties a folder that is not ours.

    Raises:
        OutputError: the folder is not ours, belongs to another request, or cannot be written.
    """

    def __init__(self, path: Path, request: Mapping[str, object], *, overwrite: bool = False) -> None:
        self.path = path
        self._request = dict(request)
        earlier = self._earlier_request()
        if earlier is not None and overwrite:
            shutil.rmtree(path)
            earlier = None
        if earlier is not None:
            self._refuse_other(earlier)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if earlier is None:
                self._write_run(complete=False)
        except OSError as error:
            raise OutputError(f"cannot write the output folder {path}: {error.strerror}") from error

    @property
    def complete(self) -> bool:
        """Whether everything is there and nothing is left to do."""
        return bool(_read_run(self.path)["complete"])

    def finish(self) -> None:
        """Mark the run complete."""
        self._write_run(complete=True)

    def _write_run(self, *, complete: bool) -> None:
        run = {"schema": SCHEMA, "version": VERSION, "complete": complete, **self._request}
        write_text_atomic(self.path / "run.json", json.dumps(run, indent=2, ensure_ascii=False) + "\n")

    def _earlier_request(self) -> dict[str, Json] | None:
        if self.path.is_dir() and (self.path / "run.json").exists():
            run = _read_run(self.path)
            return {key: value for key, value in run.items() if key not in ("schema", "version", "complete")}
        if self.path.exists() and not self.path.is_dir():
            raise OutputError(f"{self.path} is a file: name a folder for the output")
        if self.path.is_dir() and any(not entry.name.startswith(".") for entry in self.path.iterdir()):
            raise OutputError(f"{self.path} holds files that maskstream did not write: choose another output folder")
        return None

    def _refuse_other(self, earlier: Mapping[str, Json]) -> None:
        wanted = json.loads(json.dumps(self._request))
        different = [key for key in {**wanted, **earlier} if wanted.get(key) != earlier.get(key)]
        if different:
            raise OutputError(
                f"{self.path} belongs to another run (its {', '.join(different)} differ): "
                "choose another folder, or --overwrite to start it anew"
            )


class RunFolder(OwnedFolder):
    """The folder of one video. Opening it again with the same request continues that run; see `OwnedFolder`."""

    def __init__(self, path: Path, request: Mapping[str, object], *, overwrite: bool = False) -> None:
        super().__init__(path, request, overwrite=overwrite)
        self.masks = path / "masks"
        self.scores = path / SCORES
        self.journal = path / "segments.jsonl"
        self.events = path / "events.jsonl"
        self.overlay = path / "overlay.mp4"
        self.tracks = path / "tracks.json"
        self.report = path / "report.html"
        self.progress = path / ".progress"
        try:
            self.masks.mkdir(exist_ok=True)
            if not self.complete:
                self.progress.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot write the output folder {path}: {error.strerror}") from error

    def snapshot(self) -> StateDict | None:
        """Where the run was when it was saved last, or None at the beginning."""
        path = self.progress / "state.pt"
        if not path.exists():
            return None
        state: StateDict = torch.load(path, map_location="cpu", weights_only=True)
        return state

    def save_snapshot(self, state: StateDict) -> None:
        """Save where the run is; everything the state speaks of must be durable already."""
        with atomic_path(self.progress / "state.pt") as temporary, temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())

    def finish(self) -> None:
        """Mark the run complete and remove what only an unfinished one needs."""
        super().finish()
        self.clear_progress()

    def clear_progress(self) -> None:
        """Remove what only an unfinished run needs."""
        shutil.rmtree(self.progress, ignore_errors=True)


def _read_run(path: Path) -> dict[str, Json]:
    try:
        run = json.loads((path / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(f"{path / 'run.json'} cannot be read: {error}") from error
    if not isinstance(run, dict) or run.get("schema") != SCHEMA or run.get("version") != VERSION:
        raise OutputError(f"{path} holds a run.json that is not of this program: choose another output folder")
    return run
