"""``maskstream textures``: a texture pack from one's own pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def textures(
    sources: Annotated[
        list[Path], typer.Argument(help="Images, folders of images, and videos.", show_default=False, metavar="SOURCES")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The pack to write, such as mine.npz.")] = Path(
        "textures.npz"
    ),
    tiles: Annotated[int, typer.Option(min=1, max=2000, help="How many tiles at most.")] = 500,
    seed: Annotated[int, typer.Option(help="Another number, other places of the pictures.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Cut a texture pack from your own photos and videos, to paint synthetic video with."""
    del debug
    from maskstream.synthetic.textures_pack import make_textures

    found = make_textures(sources, output, tiles=tiles, seed=seed)
    if not quiet:
        fewer = "" if found == tiles else f" of {tiles}: give more or richer pictures for more"
        typer.echo(f"done: {output}, {found} tiles{fewer}")
