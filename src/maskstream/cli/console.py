"""What every subcommand says, and how: errors in one line, progress with rate and time left."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells expect."""


@contextmanager
def on_interrupt(message: str) -> Iterator[None]:
    """Say this when Ctrl-C ends the work, and leave with its exit code."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"stopped{message}", err=True)
        raise typer.Exit(INTERRUPTED) from None


FRAMES_KEPT = ": finished frames are kept; the same command again continues"


def say_where(path: Path, *, frames: int, tracks: int, already: bool) -> None:
    """What a run over a video came to, and where to look."""
    typer.echo(
        f"{'already complete' if already else 'done'}: {frames} frames, {tracks} objects; "
        f"look at {path / 'overlay.mp4'}, {path / 'report.html'}; masks in {path / 'masks'}"
    )


@contextmanager
def exit_on_user_error(*, debug: bool) -> Iterator[None]:
    """Turn what a user can mend into one line on standard error and exit code 1; the traceback only when asked for."""
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            yield
        except Exception as error:
            # Imported here because the vocabulary needs torch, which `--help` must not wait for.
            from maskstream.types import MaskstreamError

            if debug or not isinstance(error, MaskstreamError):
                raise
            typer.echo(f"error: {error}", err=True)
            sys.exit(1)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """One line for our own warnings; those of libraries are for developers, who see them in tests."""
    if category.__module__.startswith("maskstream."):
        typer.echo(f"warning: {message}", err=True)


class _Rate(ProgressColumn):
    """Frames, or whatever is counted, a second over this run."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self._what = what

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} {self._what}s/s", style="progress.data.speed")


class FrameProgress:
    """Progress over frames: a bar on a terminal, a plain line every few seconds elsewhere, or nothing.

    Args:
        label: what is going on.
        total: frames to come, or None when unknown.
        quiet: show nothing.
        what: is counted, instead of frames.
    """

    _SECONDS_BETWEEN_LINES = 5.0

    def __init__(self, label: str, *, total: int | None, quiet: bool, what: str = "frame") -> None:
        self._label = label
        self._what = what
        self._total = total
        self._quiet = quiet
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._began = self._last_line = time.monotonic()
        self._first: int | None = None
        self._last_done: int | None = None

    def __enter__(self) -> FrameProgress:
        if not self._quiet and self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                _Rate(self._what),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._bar.start()
            self._bar.add_task(self._label, total=self._total)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, total: int | None = None, *, note: str = "") -> None:
        """Say that so many frames are finished, how many there are once that is known, and something else."""
        self._total = self._total if total is None else total
        if self._bar is not None:
            label = f"{self._label} {note}".rstrip()
            self._bar.update(self._bar.task_ids[0], completed=done, total=self._total, description=label)
            return
        if done == self._last_done:
            return
        now, self._last_done = time.monotonic(), done
        if self._first is None:
            self._first, self._began = done, now
        if self._quiet or (now - self._last_line < self._SECONDS_BETWEEN_LINES and done != self._total):
            return
        self._last_line = now
        rate = (done - self._first) / max(now - self._began, 1e-9)
        of_total = f" of {self._total}" if self._total else ""
        left = f", {(self._total - done) / rate:.0f} s left" if self._total and rate and done < self._total else ""
        said = f", {note}" if note else ""
        typer.echo(f"{self._label}: {self._what} {done}{of_total}{said}, {rate:.1f} {self._what}s/s{left}", err=True)


def render_if_needed(dataset: str, *, quiet: bool) -> None:
    """Show progress while a synthetic data set that nobody asked for before is rendered into the cache.

    Raises:
        InputError: it is meant to be the name of one, but is none.
    """
    from maskstream.datasets.synthetic import cached_folder, is_synthetic, rendered_folder
    from maskstream.synthetic.named import FRAMES, VIDEOS

    if is_synthetic(dataset) and not cached_folder(dataset).exists():
        with FrameProgress(f"rendering {dataset}", total=VIDEOS * FRAMES, quiet=quiet) as progress:
            rendered_folder(dataset, on_frame=progress.update)
