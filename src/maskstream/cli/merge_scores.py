"""``maskstream merge-scores``: several soft runs in, one set of masks out."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from .console import FrameProgress
from .options import AsJson, Debug, Quiet


def merge_scores(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Folders of runs with --save-scores, or of their scores.", show_default=False),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Output folder; not there yet.", show_default=False)],
    quiet: Quiet = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Fuse several runs over one video, such as at several sizes or flipped: the mean of what they hold for likely.

    Writes VIDEO/00000.png, a palette picture for each frame, as DAVIS has them.
    """
    del debug
    from maskstream.engine.merge_scores import merge_runs

    with FrameProgress("merging", total=None, quiet=quiet) as progress:
        summary = merge_runs(runs, output, on_frame=progress.update)
    if as_json:
        typer.echo(json.dumps({"output": str(output), **asdict(summary)}))
    elif not quiet:
        typer.echo(f"done: {summary.runs} runs merged, {summary.frames} frames; masks in {output}")
