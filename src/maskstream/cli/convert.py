"""``maskstream convert``: labelled videos from one layout to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import FrameProgress
from .options import Debug, Quiet


def convert(
    source: Annotated[Path, typer.Argument(help="The folder or file to read.", show_default=False)],
    target: Annotated[Path, typer.Argument(help="The folder to make, or file.", show_default=False)],
    read_as: Annotated[str, typer.Option("--from", help="The layout it has.", show_default=False)],
    write_as: Annotated[str, typer.Option("--to", help="The layout it gets.", show_default=False)],
    split: Annotated[
        str | None, typer.Option(help="Which part to read.  [default: the first there]", show_default=False)
    ] = None,
    category_map: Annotated[
        Path | None,
        typer.Option("--map", help="JSON from old category names to new ones, or null.", show_default=False),
    ] = None,
    lossy: Annotated[bool, typer.Option("--lossy", help="Leave out what the new layout has no place for.")] = False,
    images: Annotated[str, typer.Option(help="Take pictures along (copy), or labels alone (none).")] = "copy",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write labels in another layout, or say what would be lost and write nothing.

    Layouts: davis, ytvos, sav, vos, ytvis, coco, vipseg, kitti-step, vspw, burst, mots, soft, cvat, yolo, label-studio,
    alpha and alpha-video; to read only: cityscapes-vps and maskstream, the output of 'segment'. For ytvis and coco the
    target may be a .json file, for cvat and one video an .xml file, without pictures.
    """
    del debug
    from maskstream.conversion import FORMATS, losses
    from maskstream.conversion import convert as convert_videos
    from maskstream.types import InputError

    if images not in ("copy", "none"):
        raise InputError(f"--images is copy or none, not {images!r}")
    with FrameProgress(target.name, total=None, quiet=quiet) as progress:
        content = convert_videos(
            source,
            target,
            read_as=read_as,
            write_as=write_as,
            split=split,
            lossy=lossy,
            category_map=category_map,
            images="copy" if images == "copy" else "none",
            on_frame=progress.update,
        )
    if quiet:
        return
    for sentence in losses(content, FORMATS[write_as], images="copy" if images == "copy" else "none"):
        typer.echo(f"lost: {sentence}", err=True)
    typer.echo(f"done: {target}, {FORMATS[write_as].title}: {content.videos} videos of {content.frames} frames in all")
