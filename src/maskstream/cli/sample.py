"""``maskstream sample``: a clip to try things on, with its ground truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import FrameProgress


def sample(
    output: Annotated[Path, typer.Argument(help="The clip to write, such as sample.mp4.", show_default=False)],
    frames: Annotated[int, typer.Option(min=1, help="How many frames.")] = 90,
    objects: Annotated[int, typer.Option(min=1, max=16, help="How many objects.")] = 4,
    seed: Annotated[int, typer.Option(help="Another number, another clip.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Render a clip of moving objects, the same on every machine, with its ground truth in DAVIS layout beside it."""
    del debug
    from maskstream.synthetic import write_sample

    with FrameProgress(output.name, total=frames, quiet=quiet) as progress:
        truth = write_sample(output, frames=frames, objects=objects, seed=seed, on_frame=progress.update)
    if not quiet:
        typer.echo(f"done: {output}, ground truth in {truth}")
