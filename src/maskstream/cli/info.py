"""``maskstream info``: what a video file is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def info(
    video: Annotated[Path, typer.Argument(help="A video file.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Say what a video file is: codec, size, frames, timing, rotation, sound."""
    del debug
    from maskstream.video import probe

    found = probe(video)
    typer.echo(json.dumps(found.to_json()) if as_json else str(found))
