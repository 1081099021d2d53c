"""Many videos into one folder: what is done, what is left, what went wrong.

OUT/run.json         what was asked for; `complete` once every video is there
    videos/NAME/     what ``maskstream segment`` writes for it; it has this name when it is whole
    videos.csv       which video is called what
    journal.jsonl    a line for every attempt at a video, with its tracks
    failed.csv       videos that could not be done, and why
    summary.csv      a row a track; summary.parquet is the same
    .unfinished/     videos and pieces under way
    .pieces/         finished pieces of long videos (see `split`) until these are whole

A video is the unit: it is worked on aside, and renamed when it is finished. The same command again does what has no
name yet. Where the work happens is a `Backend`'s business: it tries every job once, and what is lost comes again.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any

from maskstream.files import atomic_path
from maskstream.formats.lines import LineWriter, read_header, read_lines
from maskstream.sinks.folder import OwnedFolder
from maskstream.types import InputError, OutputError

from .backend import Backend, Job, Outcome, TrackRow
from .batch_work import BatchWork
from .request import library_versions
from .segment import PromptWords
from .sources import Listed, names_of

SCHEMA = "maskstream/batch"
VERSION = 1


class BatchFolder(OwnedFolder):
    """The folder of many videos; see `OwnedFolder`. One process at a time writes it."""

    def __init__(self, path: Path, request: Mapping[str, object], *, overwrite: bool = False) -> None:
        super().__init__(path, request, overwrite=overwrite)
        self.journal = path / "journal.jsonl"
        self.names = path / "videos.csv"
        self.failed = path / "failed.csv"
        self.summary = path / "summary.csv"

    def reopen(self) -> None:
        """There is something to do again."""
        if self.complete:
            self._write_run(complete=False)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else writes here meanwhile; it ends with the process, however that ends.

        Raises:
            OutputError: somebody else does.
        """
        with (self.path / ".lock").open("w") as file:
            if sys.platform != "win32":
                import fcntl

                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise OutputError(f"{self.path} is being written by another maskstream: wait, or stop it") from None
                except OSError:  # a file system without locks
                    pass
            yield

    def earlier_names(self) -> dict[str, str]:
        """Names that were given out, by path or address."""
        if not self.names.exists():
            return {}
        with self.names.open(encoding="utf-8", newline="") as file:
            return {row["source"]: row["name"] for row in csv.DictReader(file)}

    def write_names(self, names: Mapping[str, str]) -> None:
        """Note which video is called what; those of earlier runs stay."""
        _write_csv(self.names, ("name", "source"), ((n, s) for s, n in {**self.earlier_names(), **names}.items()))

    def finished(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Lines of the journal that say that a video is finished, with their places in the file."""
        if self.journal.exists():
            read_header(self.journal, SCHEMA, VERSION, what="a journal of many videos")
            for place, line in read_lines(self.journal):
                # The last one was cut short if the machine died.
                if line.endswith(b"\n") and (entry := json.loads(line))["event"] == "finished":
                    yield place, entry


def request_of(work: BatchWork, sources: Sequence[str]) -> dict[str, object]:
    """What decides the results, for ``run.json``: not which videos there are, so that a folder of them may grow."""
    options = asdict(work.options)
    task, how = work.options.task, options.pop("how")
    return {
        "command": "batch",
        "source": {"name": Path(sources[0].rstrip("/")).name, "sources": list(sources)},
        "options": {
            **options,
            "task": task.value if task else None,
            **how,
            **({"split": asdict(work.split)} if work.split else {}),
        },
        "prompts": {},
        "versions": library_versions(),
        "weights": dict(work.weights),
    }


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """What a run came to.

    Attributes:
        videos: how many there are.
        earlier: how many of them an earlier run had finished.
        frames: of all that are finished,
        tracks: and objects in them.
        failed: the videos that are not finished, and why.
    """

    videos: int
    earlier: int
    frames: int
    tracks: int
    failed: Mapping[str, str]


def jobs_of(
    videos: Sequence[Listed], folder: BatchFolder | None, prompts: Mapping[str, PromptWords] | None = None
) -> list[Job]:
    """What is to be done with videos.

    Args:
        videos: that were found.
        folder: where they go, if anything went there before.
        prompts: by the name of a video, or its path or address.

    Raises:
        InputError: two videos are called the same by a list, or there are prompts for a video that is not there.
    """
    names = names_of(videos, folder.earlier_names() if folder else {})
    given = prompts or {}
    unknown = sorted(set(given) - set(names) - set(names.values()))
    if unknown:
        raise InputError(
            f"there are prompts for {unknown[0]}, but no such video; these are {', '.join(islice(names.values(), 5))} …"
        )
    return [
        Job(names[v.where], v.where, v.words or given.get(names[v.where]) or given.get(v.where) or PromptWords())
        for v in videos
    ]


def run_batch(
    work: BatchWork,
    jobs: Sequence[Job],
    folder: BatchFolder,
    backend: Backend,
    *,
    retries: int = 1,
    on_begin: Callable[[int], None] = lambda left: None,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
) -> BatchSummary:
    """Do all videos that are not done yet.

    Args:
        work: what is done to each.
        jobs: all videos, the finished ones, too.
        folder: where everything goes.
        backend: where it is done.
        retries: how often a video is tried again that was lost, with its worker for example.
        on_begin: called with how many videos are left to do.
        on_outcome: called with the outcome of every attempt.

    Returns:
        What the whole came to, earlier runs included.

    Raises:
        InputError: the model cannot be loaded.
        OutputError: the folder cannot be written, somebody else writes it, or prompts of a finished video have changed.
            What is finished is kept in each case.
    """
    with folder.alone():
        try:
            finished = _finished(work, folder, jobs)
            todo = [job for job in jobs if job.video not in finished]
            on_begin(len(todo))
            folder.write_names({job.source: job.video for job in jobs})
            failed: dict[str, tuple[str, int]] = {}
            if todo:
                folder.reopen()
                failed = _run_rounds(work, todo, folder, backend, retries, on_outcome)
            _write_failed(folder.failed, todo, failed)
            frames, tracks = write_summary(folder, {job.video for job in jobs} - set(failed))
            if not failed:
                for directory in (work.unfinished, work.pieces):
                    shutil.rmtree(directory, ignore_errors=True)
                folder.finish()
        except OSError as error:
            raise OutputError(
                f"cannot write to {folder.path}: {error.strerror or error}; finished videos are kept: "
                "free space or permission there, then run the same command again"
            ) from error
    reasons = {name: reason for name, (reason, _) in failed.items()}
    return BatchSummary(len(jobs), len(jobs) - len(todo), frames, tracks, reasons)


def _finished(work: BatchWork, folder: BatchFolder, jobs: Sequence[Job]) -> set[str]:
    """Names of the videos that are there and noted."""
    noted = {entry["video"]: entry["prompts"] for _, entry in folder.finished()}
    there = {path.name for path in work.videos.iterdir()} if work.videos.exists() else set()
    for job in jobs:
        if job.video in there and job.video in noted and noted[job.video] != _digest(job.words):
            raise OutputError(
                f"{folder.path}: the prompts of {job.video} are others than when it was finished: remove "
                f"{work.videos / job.video} to have it done anew, or choose another folder"
            )
    return there & set(noted)


def _digest(words: PromptWords) -> str | None:
    """What tells prompts from others; None without any."""
    given = words.identity()
    return hashlib.sha256(json.dumps(given).encode()).hexdigest() if given else None


def _run_rounds(
    work: BatchWork,
    todo: Sequence[Job],
    folder: BatchFolder,
    backend: Backend,
    retries: int,
    on_outcome: Callable[[Outcome], None],
) -> dict[str, tuple[str, int]]:
    """Try all, then what was lost, what videos were cut into, and those whose pieces are all there.

    Returns:
        By video that stays undone: why, and after how many attempts.
    """
    job_of = {job.name: job for job in todo}
    attempts: Counter[str] = Counter()
    missing: Counter[str] = Counter()
    failed: dict[str, tuple[str, int]] = {}
    for directory in (work.videos, work.unfinished):
        directory.mkdir(exist_ok=True)
    with _Log(folder.journal) as log:
        log.write("begun", videos=len(todo))
        while todo:
            following: list[Job] = []
            for outcome in backend.run(work, todo):
                job = job_of[outcome.name]
                attempts[job.name] += 1
                number = attempts[job.name]
                if outcome.reason is not None:
                    reason = outcome.reason if job.piece is None else f"{job.piece}: {outcome.reason}"
                    failed[job.name] = reason, number
                    log.write("failed", video=job.video, source=job.source, attempt=number, reason=reason)
                    if outcome.again and number <= retries:
                        following.append(job)
                    on_outcome(replace(outcome, reason=reason))
                    continue
                failed.pop(job.name, None)
                if outcome.pieces:
                    attempts[job.name] = 0
                    missing[job.video] = len(outcome.pieces)
                    pieces = [replace(job, piece=piece) for piece in outcome.pieces]
                    job_of |= {piece.name: piece for piece in pieces}
                    following += pieces
                    log.write("cut", video=job.video, source=job.source, pieces=len(pieces))
                elif job.piece is not None:
                    missing[job.video] -= 1
                    if not missing[job.video]:
                        following.append(job_of[job.video])
                    log.piece(job, outcome, number)
                else:
                    log.finished(job, outcome, number)
                on_outcome(outcome)
            todo = following
        undone = {job_of[name].video: why for name, why in reversed(failed.items())}
        log.write("ended", failed=len(undone))
    return undone


class _Log(LineWriter):
    """``journal.jsonl``, appended to; a line that was cut short is dropped."""

    def __init__(self, path: Path) -> None:
        position = 0
        if path.exists():
            with path.open("rb") as file:
                position = sum(len(line) for line in file if line.endswith(b"\n"))
        super().__init__(path, {"schema": SCHEMA, "version": VERSION}, position=position or None)

    def write(self, event: str, **facts: object) -> None:
        """Append a line. One that is lost with the machine is made again from the folder of the video."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self.write_line({"event": event, "time": now, **facts})
        self._file.flush()

    def finished(self, job: Job, outcome: Outcome, number: int) -> None:
        """A video is there."""
        self.write(
            "finished",
            video=job.video,
            source=job.source,
            attempt=number,
            frames=outcome.frames,
            seconds=round(outcome.seconds, 3),
            warnings=outcome.warnings,
            prompts=_digest(job.words),
            tracks=[asdict(row) for row in outcome.tracks],
        )

    def piece(self, job: Job, outcome: Outcome, number: int) -> None:
        """A piece of a video is there."""
        assert job.piece is not None
        self.write(
            "piece",
            video=job.video,
            source=job.source,
            first=job.piece.first,
            stop=job.piece.stop,
            attempt=number,
            frames=outcome.frames,
            seconds=round(outcome.seconds, 3),
            warnings=outcome.warnings,
        )


# Tables.


def write_summary(folder: BatchFolder, videos: Set[str]) -> tuple[int, int]:
    """Write ``summary.csv``, and ``summary.parquet`` where pyarrow is installed: a row for each track of these videos.

    Returns:
        How many frames the videos have, and how many tracks.
    """
    place_of = {entry["video"]: place for place, entry in folder.finished() if entry["video"] in videos}
    places = [place_of[video] for video in sorted(place_of)]
    counted = [0, 0]

    def rows() -> Iterator[dict[str, object]]:
        with folder.journal.open("rb") as file:
            for place in places:
                file.seek(place)
                entry = json.loads(file.readline())
                counted[0] += entry["frames"]
                counted[1] += len(entry["tracks"])
                yield from entry["tracks"]

    columns = [column.name for column in fields(TrackRow)]
    _write_csv(folder.summary, columns, ([row[name] for name in columns] for row in rows()) if places else ())
    frames, tracks = counted
    if can_write_parquet():
        _write_parquet(folder.summary.with_suffix(".parquet"), rows() if places else iter(()))
    return frames, tracks


def can_write_parquet() -> bool:
    """Whether pyarrow is installed."""
    return importlib.util.find_spec("pyarrow") is not None


_ROWS_AT_ONCE = 10_000


def _write_parquet(path: Path, rows: Iterator[dict[str, object]]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    types = {"str": pa.string(), "int": pa.int64(), "float": pa.float64()}
    schema = pa.schema([(column.name, types[str(column.type).partition(" ")[0]]) for column in fields(TrackRow)])
    with atomic_path(path) as temporary, parquet.ParquetWriter(temporary, schema) as writer:
        while some := list(islice(rows, _ROWS_AT_ONCE)):
            writer.write_table(pa.Table.from_pylist(some, schema))


def _write_failed(path: Path, jobs: Sequence[Job], failed: Mapping[str, tuple[str, int]]) -> None:
    """Name what could not be done; there is no such file when nothing is to be said."""
    path.unlink(missing_ok=True)
    if failed:
        rows = ((job.video, job.source, *reversed(failed[job.video])) for job in jobs if job.video in failed)
        _write_csv(path, ("video", "source", "attempts", "reason"), rows)


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(columns)
        table.writerows(rows)
