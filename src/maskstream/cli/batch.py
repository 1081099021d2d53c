"""``maskstream batch``: thousands of videos in, a folder of results for each out."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .console import on_interrupt
from .options import (
    MODELS_OF,
    Adaptive,
    Alignment,
    AnySchedule,
    AsJson,
    Carrying,
    Classes,
    Debug,
    DetectEvery,
    Dtype,
    Engine,
    Exact,
    Flip,
    GpusPerWorker,
    KeyEvery,
    LabelSpace,
    Linking,
    MaxObjects,
    MinScore,
    Model,
    Overlap,
    Overwrite,
    Policy,
    Prompter,
    Propagator,
    Quiet,
    Seed,
    Segmenter,
    Size,
    Start,
    Stop,
    Stride,
    TextEncoder,
    Threads,
    Tracking,
    Weights,
    Window,
    backend_of,
    check_options,
    digests_of,
    how_of,
    parse_schedule,
    parse_task,
)
from .segment import direction_of

if TYPE_CHECKING:
    from maskstream.engine.backend import Job, Outcome
    from maskstream.engine.batch import BatchSummary
    from maskstream.engine.batch_work import BatchWork
    from maskstream.engine.local import Progress

_VIDEO, _WHERE = "Which frames", "Where"
_MOST_NAMED = 20


def batch(
    context: typer.Context,
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Videos, folders of them, 'patterns*', lists (.txt, .csv, .parquet), s3://…, gs://…, https://…",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Output folder.", show_default=False)],
    task: Annotated[
        str | None,
        typer.Option(
            help="vos, uvos, owvs, pvos, pet, vps, vis or vss.  [default: vos with prompts, else what the model finds]",
            show_default=False,
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(help='JSON: {"VIDEO": {"box": ["0:1:9,9,50,50"], "text": […], …}, …}', show_default=False),
    ] = None,
    backward: Annotated[bool, typer.Option("--backward", help="Follow prompts back in time instead.")] = False,
    both: Annotated[bool, typer.Option("--both", help="Follow prompts both ways.")] = False,
    engine: Engine = "local",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Videos at a time.  [default: one a GPU, or one a core]",
            show_default=False,
            rich_help_panel=_WHERE,
        ),
    ] = None,
    gpus_per_worker: GpusPerWorker = None,
    threads: Threads = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Do long videos in pieces: cut at scene changes (cuts), or about so long (60s, or 1500 frames).",
            show_default=False,
            rich_help_panel=_WHERE,
        ),
    ] = None,
    retries: Annotated[
        int, typer.Option(min=0, help="Try a video again that was lost, so often.", rich_help_panel=_WHERE)
    ] = 1,
    start: Start = 0,
    stop: Stop = None,
    stride: Stride = 1,
    fps: Annotated[
        float | None, typer.Option(min=0.01, help="Frame rate of folders of images.", rich_help_panel=_VIDEO)
    ] = None,
    model: Model = "deva",
    segmenter: Segmenter = "motion-small",
    propagator: Propagator = "flow+propagate-small",
    prompter: Prompter = "click-small",
    exact: Exact = False,
    dtype: Dtype = "auto",
    schedule: AnySchedule = None,
    alignment: Alignment = "auto",
    size: Size = None,
    max_objects: MaxObjects = None,
    min_score: MinScore = 0.0,
    classes: Classes = None,
    flip: Flip = False,
    weights: Weights = None,
    window: Window = None,
    overlap: Overlap = None,
    linking: Linking = None,
    key_every: KeyEvery = 5,
    adaptive: Adaptive = False,
    carrying: Carrying = None,
    tracking: Tracking = None,
    detect_every: DetectEvery = 1,
    text_encoder: TextEncoder = None,
    policy: Policy = "recent",
    label_space: LabelSpace = None,
    save_scores: Annotated[bool, typer.Option("--save-scores", help="Write probabilities to scores/, too.")] = False,
    seed: Seed = 0,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what there is to do, and about how long it takes and how large it is."),
    ] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Segment many videos, each as segment does: what is lost is tried again, what is broken is named.

    Writes videos/NAME/ for each, summary.csv with a row a track, journal.jsonl, and failed.csv where some could not be
    done. The same command again does only what is missing.
    """
    del debug
    from maskstream.engine.batch import BatchFolder, can_write_parquet, jobs_of, request_of, run_batch
    from maskstream.engine.batch_work import BatchWork
    from maskstream.engine.segment import PromptWords, SegmentOptions, planned
    from maskstream.engine.sources import find_videos, read_prompts
    from maskstream.engine.split import check_split, parse_split

    check_options(context, model)
    asked_schedule = parse_schedule(schedule)
    how = how_of(context, model)
    if model in MODELS_OF["schedule"]:
        how["schedule"] = "online" if asked_schedule == "online" else "semi-online"
    options = SegmentOptions(
        model,
        how,
        task=parse_task(task) if task else None,
        schedule=asked_schedule,
        direction=direction_of(forward=False, backward=backward, both=both),
        start=start,
        stop=stop,
        stride=stride,
        fps=fps,
        classes=classes,
        save_scores=save_scores,
        seed=seed,
    )
    planned(options, PromptWords())  # complains of options that contradict each other
    videos = find_videos(sources)
    given = read_prompts(prompts) if prompts else None
    pieces = parse_split(split) if split else None
    if pieces is not None:
        check_split(pieces, options, {job.video: job.words for job in jobs_of(videos, None, given)})
    work = BatchWork(options, digests_of(how), output.absolute(), pieces)
    with BatchProgress(quiet=quiet) as progress:
        backend, count = backend_of(engine, workers, gpus_per_worker, threads, on_progress=progress.frames)
        if dry_run:
            _say_estimate(work, jobs_of(videos, None, given), count, as_json=as_json)
            return
        folder = BatchFolder(output, request_of(work, sources), overwrite=overwrite)
        jobs = jobs_of(videos, folder, given)
        with on_interrupt(": finished videos are kept; the same command again continues"):
            summary = run_batch(
                work, jobs, folder, backend, retries=retries, on_begin=progress.begin, on_outcome=progress.outcome
            )
    _say(summary, output, quiet=quiet, as_json=as_json)
    if not can_write_parquet() and not quiet:
        typer.echo("for summary.parquet beside summary.csv: pip install pyarrow, then the same command", err=True)
    if summary.failed:
        raise typer.Exit(1)


def _say_estimate(work: BatchWork, jobs: Sequence[Job], workers: int, *, as_json: bool) -> None:
    from maskstream.engine.estimate import estimate

    done = {path.name for path in work.videos.iterdir()} if work.videos.exists() else set()
    left = [job for job in jobs if job.name not in done]
    if not left:
        typer.echo(json.dumps({"videos": 0}) if as_json else "nothing to do: all videos are there")
        return
    found = estimate(work, left, workers=workers)
    if as_json:
        typer.echo(json.dumps({**asdict(found), "workers": workers}))
        return
    typer.echo(f"{found.videos} videos to do, about {found.frames} frames; {len(jobs) - len(left)} are there already")
    for name in found.unreadable[:_MOST_NAMED]:
        typer.echo(f"cannot be read: {name}")
    typer.echo(
        f"measured: {found.frames_per_second:.1f} frames/s on {found.measured_frames} frames of {found.measured}"
    )
    together = "one worker" if workers == 1 else f"{workers} workers that do not hold each other up"
    typer.echo(f"estimate: {_duration(found.seconds)} with {together}, {_size(found.bytes)} on the disk")
    place = next(path for path in (work.output, *work.output.parents) if path.exists())
    free = shutil.disk_usage(place).free
    if free < found.bytes:
        typer.echo(f"warning: {place} has only {_size(free)} left", err=True)


def _say(summary: BatchSummary, path: Path, *, quiet: bool, as_json: bool) -> None:
    """What the run came to, and where to look."""
    if as_json:
        typer.echo(json.dumps({"output": str(path), **asdict(summary)}))
    elif not quiet:
        finished = summary.videos - len(summary.failed)
        earlier = f", {summary.earlier} of them earlier" if summary.earlier else ""
        typer.echo(
            f"done: {finished} of {summary.videos} videos{earlier}, {summary.frames} frames, {summary.tracks} objects; "
            f"look at {path / 'summary.csv'}; results in {path / 'videos'}"
        )
    for name, reason in list(summary.failed.items())[:_MOST_NAMED]:
        typer.echo(f"error: {name}: {reason}", err=True)
    if summary.failed:
        which = f"{len(summary.failed)} of {summary.videos} videos"
        typer.echo(f"error: {which} could not be done; see {path / 'failed.csv'}", err=True)


def _duration(seconds: float) -> str:
    """A time that people read."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _size(count: int) -> str:
    """Bytes that people read."""
    size, units = float(count), ["bytes", "KB", "MB", "GB"]
    while size >= 1000 and len(units) > 1:
        size, _ = size / 1000, units.pop(0)
    return f"{size:.0f} {units[0]}" if size < 1000 else f"{size / 1000:.1f} TB"


class BatchProgress:
    """Progress over videos: a table on a terminal, a plain line every few seconds elsewhere, or nothing.

    Args:
        quiet: show nothing.
    """

    _SECONDS_BETWEEN_LINES = 5.0
    _MOST_WORKERS = 16

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._console = Console(stderr=True)
        self._live: Live | None = None
        self._total = self._finished = self._frames = self._pieces = self._pieces_finished = 0
        self._cut: set[str] = set()
        self._failed: set[str] = set()
        self._at: dict[int, tuple[str, int]] = {}
        self._began = self._last_line = time.monotonic()

    def begin(self, left: int) -> None:
        """So many videos are left to do."""
        self._total, self._began = left, time.monotonic()
        if not self._quiet and self._console.is_terminal:
            self._live = Live(get_renderable=self._table, console=self._console, refresh_per_second=4, transient=True)
            self._live.start()

    def __enter__(self) -> BatchProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def frames(self, progress: Progress) -> None:
        """A worker is so far."""
        self._at[progress.worker] = progress.video, progress.frames

    def outcome(self, outcome: Outcome) -> None:
        """An attempt at a video, or a piece of one, has ended."""
        self._at = {worker: at for worker, at in self._at.items() if at[0] != outcome.name}
        video = outcome.name.partition("#")[0]
        if outcome.pieces:
            self._cut.add(video)
            self._pieces += len(outcome.pieces)
        elif outcome.reason is not None:
            self._failed |= set() if outcome.again else {video}
        elif outcome.name in self._cut:  # its frames were counted with its pieces
            self._finished += 1
        else:
            self._frames += outcome.frames
            self._finished += video == outcome.name
            self._pieces_finished += video != outcome.name
        if self._quiet:
            return
        for said in outcome.warnings:
            self._console.print(f"warning: {outcome.name}: {said}", highlight=False, markup=False, soft_wrap=True)
        if outcome.reason is not None:
            kind = "lost" if outcome.again else "failed"
            self._console.print(
                f"{kind}: {outcome.name}: {outcome.reason}", highlight=False, markup=False, soft_wrap=True
            )
        now = time.monotonic()
        if self._live is None and now - self._last_line >= self._SECONDS_BETWEEN_LINES:
            self._last_line = now
            typer.echo(self._line(), err=True)

    def _line(self) -> str:
        seconds = max(time.monotonic() - self._began, 1e-9)
        frames = self._frames + sum(frames for _, frames in self._at.values())
        left = self._total - self._finished - len(self._failed)
        time_left = f", {_duration(left * seconds / self._finished)} left" if self._finished and left else ""
        failed = f", {len(self._failed)} failed" if self._failed else ""
        pieces = f", piece {self._pieces_finished} of {self._pieces}" if self._pieces else ""
        rate = f"{self._finished / seconds * 60:.1f} videos/min, {frames / seconds:.1f} frames/s"
        return f"video {self._finished} of {self._total}{pieces}{failed}, {rate}{time_left}"

    def _table(self) -> Group:
        table = Table(box=None, pad_edge=False, show_header=False)
        for worker, (video, frames) in sorted(self._at.items())[: self._MOST_WORKERS]:
            table.add_row(Text(f"worker {worker}", style="dim"), Text(video), Text(f"frame {frames}", style="cyan"))
        bar = Table.grid()
        bar.add_row(ProgressBar(total=max(self._total, 1), completed=self._finished + len(self._failed), width=60))
        return Group(table, bar, Text(self._line()))
