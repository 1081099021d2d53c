"""``maskstream synth``: synthetic video with its whole truth, laid out as the benchmark of a task."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import FrameProgress
from .options import Debug, Quiet, parse_task

if TYPE_CHECKING:
    from maskstream.synthetic.world import Level


def synth(
    output: Annotated[Path, typer.Argument(help="The folder to make.", show_default=False)],
    task: Annotated[
        str | None, typer.Option(help="vos, uvos, vis, vps, vss, refvos, pet, owvs or pvos.", show_default=False)
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="A frozen set instead, as synthetic-vos:v1-medium-seed0.", show_default=False),
    ] = None,
    videos: Annotated[int, typer.Option(min=1, help="How many videos.")] = 10,
    frames: Annotated[int, typer.Option(min=1, help="How many frames each has.")] = 60,
    size: Annotated[str, typer.Option(metavar="HxW", help="Height and width of the pictures.")] = "480x854",
    level: Annotated[str, typer.Option(help="easy, medium or hard.")] = "medium",
    seed: Annotated[int, typer.Option(help="Another number, other videos.")] = 0,
    textures: Annotated[
        Path | None, typer.Option(help="A texture pack to paint with, from 'textures'.", show_default=False)
    ] = None,
    as_predictions: Annotated[
        bool, typer.Option("--as-predictions", help="Write the truth as results: what a perfect system hands in.")
    ] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Render a data set with its whole truth, in the layout of the benchmark of a task.

    DAVIS-2017 for vos and uvos, YouTube-VIS for vis, VIPSeg for vps, VSPW for vss, Ref-YouTube-VOS for refvos, BURST
    for pet and owvs, VIPOSeg for pvos. The same seed gives the same videos, for every task, on every machine.
    """
    del debug
    from maskstream.synthetic.layouts import write_dataset
    from maskstream.synthetic.named import FRAMES, VIDEOS, named_set
    from maskstream.synthetic.textures_pack import load_textures
    from maskstream.synthetic.videos import synthetic_videos
    from maskstream.types import InputError

    if (task is None) == (name is None):
        raise InputError("say either --task, or the --name of a frozen set, which has its task in it")
    named = None if name is None else named_set(name)
    wanted = parse_task(task or "") if named is None else named.task
    if named is not None:
        videos, frames = VIDEOS, FRAMES
    total = videos * frames
    with FrameProgress(output.name, total=total, quiet=quiet) as progress:
        rendered = (
            named.videos(on_frame=progress.update)
            if named is not None
            else synthetic_videos(
                level=_level(level),
                seed=seed,
                videos=videos,
                frames=frames,
                size_hw=_size(size),
                photos=None if textures is None else load_textures(textures),
                on_frame=progress.update,
            )
        )
        write_dataset(output, wanted, rendered, as_predictions=as_predictions)
    if not quiet:
        what = "results" if as_predictions else "data set"
        typer.echo(f"done: {output}, {what} for {wanted.value}: {videos} videos of {frames} frames")


def _level(text: str) -> Level:
    from maskstream.synthetic.world import LEVELS
    from maskstream.types import InputError

    for level in LEVELS:
        if level == text:
            return level
    raise InputError(f"there is no level {text!r}: choose one of {', '.join(LEVELS)}")


def _size(text: str) -> tuple[int, int]:
    from maskstream.types import InputError

    match = re.fullmatch(r"(\d+)[x×](\d+)", text)
    if match is None:
        raise InputError(f"--size is height x width in pixels, such as 480x854, not {text!r}")
    return int(match[1]), int(match[2])
