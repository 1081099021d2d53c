"""``maskstream cutouts``: moving objects of one's own videos, to train with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import FrameProgress
from .options import Debug, Quiet


def cutouts(
    videos: Annotated[list[Path], typer.Argument(help="Videos.", show_default=False, metavar="VIDEOS")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")] = Path("cutouts"),
    every: Annotated[int, typer.Option(min=1, help="Cut objects out of every so many-th frame.")] = 10,
    size: Annotated[int, typer.Option(min=64, help="Short side of the pictures.")] = 480,
    shapes: Annotated[int, typer.Option(min=0, help="Cut so many random shapes out of these frames, too.")] = 0,
    clipart: Annotated[
        Path | None, typer.Option(help="Paste the objects of this folder of transparent PNGs on these frames, too.")
    ] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Cut what moves out of your own videos, as a source of training clips. No labels are needed."""
    del debug
    from maskstream.engine.cutouts import write_cutouts

    with FrameProgress("cutting out", total=None, quiet=quiet) as progress:
        pairs = write_cutouts(
            videos, output, every=every, size=size, shapes=shapes, clipart=clipart, on_frame=progress.update
        )
    if not quiet:
        typer.echo(f"done: {output}, {pairs} objects")
