"""Many videos into one folder: what is done, what is left, what went wrong.

OUT/run.json         what was asked for; `complete` once every video is there
    videos/NAME/     what ``maskstream segment`` writes for it; it has this name when it is whole
    videos.csv       which video is called what
    journal.jsonl    a line for every attempt at a video, with its tracks
    failed.csv       videos that could not be done, and why
    summary.csv      a row a track; summary.parquet is the same
    .unfinished/     videos under way

A video is the unit: it is worked on aside, and renamed when it is finished. The same command again does what has no
name yet. Where the work happens is a `Backend`'s business: it tries every video once, and what is lost comes again.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import json
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from maskstream.files import atomic_path
from maskstream.formats.journal import Journal
from maskstream.formats.lines import LineWriter, read_header, read_lines
from maskstream.formats.tracks import index_journal
from maskstream.sinks.folder import OwnedFolder, RunFolder
from maskstream.types import CategorySet, InputError, MaskstreamError, MaskstreamWarning, OutputError, VideoSegmenter

from .request import library_versions
from .segment import PromptWords, SegmentOptions, planned, prepared
from .sources import Listed, local_copy, names_of

SCHEMA = "maskstream/batch"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Job:
    """A video that is to be done.

    Attributes:
        name: of its output.
        source: its path or address.
        words: prompts.
    """

    name: str
    source: str
    words: PromptWords = field(default_factory=PromptWords)


@dataclass(frozen=True, slots=True)
class Work:
    """What is done to every video, in words that another process understands.

    Attributes:
        options: how videos are segmented.
        weights: digests of the files of weights.
        output: the folder of the whole.
    """

    options: SegmentOptions
    weights: Mapping[str, str]
    output: Path

    @property
    def videos(self) -> Path:
        """Where finished videos are."""
        return self.output / "videos"

    @property
    def unfinished(self) -> Path:
        """Where videos are worked on."""
        return self.output / ".unfinished"


@dataclass(frozen=True, slots=True)
class TrackRow:
    """A track of a video, for the summary.

    Attributes:
        video: the name of the video.
        track_id: the track.
        category: what it is, empty where that is not known.
        category_id: its number, or None.
        score: how sure that is, or None.
        prompt_id: the prompt that asked for it, or None.
        first: first frame it is visible on,
        last: and last.
        frames: how many there are on which it is visible.
        mean_area: pixels on them, on average,
        mean_share: and of the picture, from 0 to 1.
    """

    video: str
    track_id: int
    category: str
    category_id: int | None
    score: float | None
    prompt_id: str | None
    first: int
    last: int
    frames: int
    mean_area: float
    mean_share: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an attempt at a video.

    Attributes:
        name: of the video.
        reason: why it is not finished; None when it is.
        again: whether another attempt may do better. What cannot be read today cannot be read in a minute.
        frames: how many it has.
        seconds: how long it took.
        warnings: what is odd about it.
        tracks: what was found.
    """

    name: str
    reason: str | None = None
    again: bool = False
    frames: int = 0
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    tracks: tuple[TrackRow, ...] = ()


class Backend(Protocol):
    """Where videos are worked on."""

    def run(self, work: Work, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """Try every video once; outcomes come in any order.

        Raises:
            MaskstreamError: none of the videos can be done: the model cannot be loaded, or the disk is full.
        """


# One video.


def attempt(
    job: Job,
    work: Work,
    system: VideoSegmenter,
    *,
    aside: Path,
    content: bytes | None = None,
    on_frame: Callable[[int], None] = lambda done: None,
) -> Outcome:
    """Do a video, or go on with it where an earlier attempt stopped.

    Args:
        job: the video.
        work: what is done to it.
        system: that of the work.
        aside: the folder to work in until it is finished; nobody else uses it. Left behind when the process is killed,
            to be continued.
        content: the bytes of a video that lies on a network, where somebody has brought them.
        on_frame: called with the number of finished frames.

    Returns:
        What became of it. A video that is there already is finished.

    Raises:
        OutputError: nothing can be written.
    """
    began = time.monotonic()
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always", MaskstreamWarning)
        try:
            plan = planned(work.options, job.words)
            final = work.videos / job.name
            if not final.exists():
                with local_copy(job.source, aside.with_name(f"{aside.name}.source"), content=content) as path:
                    ready = prepared(plan, system, path, weights=work.weights)
                    ready.run(_own(aside, ready.request), on_frame=on_frame)
                _move(aside, final)
            frames, tracks = summarised(final, job.name, plan.categories(system))
        except OutputError:
            raise
        except MaskstreamError as error:
            shutil.rmtree(aside, ignore_errors=True)
            return Outcome(job.name, str(error), seconds=time.monotonic() - began)
        except Exception as error:  # whatever it is, the other videos are not to suffer
            shutil.rmtree(aside, ignore_errors=True)
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            return Outcome(job.name, reason, again=True, seconds=time.monotonic() - began)
    told = tuple(dict.fromkeys(str(one.message) for one in noted if issubclass(one.category, MaskstreamWarning)))
    return Outcome(job.name, None, False, frames, time.monotonic() - began, told, tracks)


def _own(aside: Path, request: Mapping[str, object]) -> RunFolder:
    """The folder to work in; what another request left there, as the video was another then, makes room."""
    try:
        return RunFolder(aside, request)
    except OutputError:
        shutil.rmtree(aside, ignore_errors=True)
        return RunFolder(aside, request)


def _move(aside: Path, final: Path) -> None:
    """Give a finished video its name, unless another attempt was quicker."""
    try:
        final.parent.mkdir(exist_ok=True)
        aside.rename(final)
    except OSError as error:
        if not final.exists():
            raise OutputError(f"cannot write {final}: {error.strerror or error}") from error
        shutil.rmtree(aside, ignore_errors=True)


def summarised(folder: Path, name: str, categories: CategorySet | None) -> tuple[int, tuple[TrackRow, ...]]:
    """How many frames a finished video has, and its tracks."""
    journal = Journal(folder / "segments.jsonl")
    index = index_journal(journal)
    picture = journal.size_hw[0] * journal.size_hw[1]
    rows = []
    for track_id, track in index.tracks.items():
        seen = track.segment
        area = sum(track.areas) / len(track.areas)
        rows.append(
            TrackRow(
                name,
                track_id,
                categories[seen.category].name if categories and seen.category is not None else "",
                seen.category,
                seen.score,
                seen.prompt_id,
                index.frame_indices[track.frames[0]],
                index.frame_indices[track.frames[-1]],
                len(track.frames),
                round(area, 2),
                round(area / picture, 6),
            )
        )
    return len(index.frame_indices), tuple(rows)


# All of them.


class BatchFolder(OwnedFolder):
    """The folder of many videos; see `OwnedFolder`. One process at a time writes it."""

    def __init__(self, path: Path, request: Mapping[str, object], *, overwrite: bool = False) -> None:
        super().__init__(path, request, overwrite=overwrite)
        self.videos = path / "videos"
        self.unfinished = path / ".unfinished"
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


def request_of(work: Work, sources: Sequence[str]) -> dict[str, object]:
    """What decides the results, for ``run.json``: not which videos there are, so that a folder of them may grow."""
    options = asdict(work.options)
    task, how = work.options.task, options.pop("how")
    return {
        "command": "batch",
        "source": {"name": Path(sources[0].rstrip("/")).name, "sources": list(sources)},
        "options": {**options, "task": task.value if task else None, **how},
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
    work: Work,
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
            finished = _finished(folder, jobs)
            todo = [job for job in jobs if job.name not in finished]
            on_begin(len(todo))
            folder.write_names({job.source: job.name for job in jobs})
            failed: dict[str, tuple[str, int]] = {}
            if todo:
                folder.reopen()
                failed = _run_rounds(work, todo, folder, backend, retries, on_outcome)
            _write_failed(folder.failed, todo, failed)
            frames, tracks = write_summary(folder, {job.name for job in jobs} - set(failed))
            if not failed:
                shutil.rmtree(folder.unfinished, ignore_errors=True)
                folder.finish()
        except OSError as error:
            raise OutputError(
                f"cannot write to {folder.path}: {error.strerror or error}; finished videos are kept: "
                "free space or permission there, then run the same command again"
            ) from error
    reasons = {name: reason for name, (reason, _) in failed.items()}
    return BatchSummary(len(jobs), len(jobs) - len(todo), frames, tracks, reasons)


def _finished(folder: BatchFolder, jobs: Sequence[Job]) -> set[str]:
    """Names of the videos that are there and noted."""
    noted = {entry["video"]: entry["prompts"] for _, entry in folder.finished()}
    there = {path.name for path in folder.videos.iterdir()} if folder.videos.exists() else set()
    for job in jobs:
        if job.name in there and job.name in noted and noted[job.name] != _digest(job.words):
            raise OutputError(
                f"{folder.path}: the prompts of {job.name} are others than when it was finished: remove "
                f"{folder.videos / job.name} to have it done anew, or choose another folder"
            )
    return there & set(noted)


def _digest(words: PromptWords) -> str | None:
    """What tells prompts from others; None without any."""
    given = words.identity()
    return hashlib.sha256(json.dumps(given).encode()).hexdigest() if given else None


def _run_rounds(
    work: Work,
    todo: Sequence[Job],
    folder: BatchFolder,
    backend: Backend,
    retries: int,
    on_outcome: Callable[[Outcome], None],
) -> dict[str, tuple[str, int]]:
    """Try all, then again what was lost; return what stays undone, why, and after how many attempts."""
    failed: dict[str, tuple[str, int]] = {}
    job_of = {job.name: job for job in todo}
    for directory in (folder.videos, folder.unfinished):
        directory.mkdir(exist_ok=True)
    with _Log(folder.journal) as log:
        log.write("begun", videos=len(todo))
        for number in range(1, retries + 2):
            again = []
            for outcome in backend.run(work, todo):
                job = job_of[outcome.name]
                if outcome.reason is None:
                    failed.pop(job.name, None)
                    log.finished(job, outcome, number)
                else:
                    failed[job.name] = outcome.reason, number
                    log.failed(job, outcome, number)
                    if outcome.again:
                        again.append(job)
                on_outcome(outcome)
            todo = again
            if not todo:
                break
        log.write("ended", failed=len(failed))
    return failed


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
            video=job.name,
            source=job.source,
            attempt=number,
            frames=outcome.frames,
            seconds=round(outcome.seconds, 3),
            warnings=outcome.warnings,
            prompts=_digest(job.words),
            tracks=[asdict(row) for row in outcome.tracks],
        )

    def failed(self, job: Job, outcome: Outcome, number: int) -> None:
        """An attempt came to nothing."""
        self.write("failed", video=job.name, source=job.source, attempt=number, reason=outcome.reason)


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
        rows = ((job.name, job.source, failed[job.name][1], failed[job.name][0]) for job in jobs if job.name in failed)
        _write_csv(path, ("video", "source", "attempts", "reason"), rows)


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(columns)
        table.writerows(rows)
