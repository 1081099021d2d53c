"""``maskstream finetune``: a trained model, on labelled videos of one's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from .options import AsJson, Debug, Overwrite, Quiet, parse_task
from .train import Board, Device, run

RECIPE = "finetune-propagation"


def finetune(
    data: Annotated[Path, typer.Option("--data", help="Labelled videos: a folder or JSON file.", show_default=False)],
    weights: Annotated[Path, typer.Option("--from", help="Weights to begin with.", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", help="Output folder.", show_default=False)],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Changes of the recipe finetune-propagation.")
    ] = None,
    task: Annotated[str, typer.Option(help="What it is to do.")] = "vos",
    split: Annotated[
        str | None, typer.Option(help="Which part of the data.  [default: train, where there is one]")
    ] = None,
    device: Device = "auto",
    board: Board = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Train a propagation network further, on your own videos.

    Takes folders of masks as DAVIS has them, and JSON as YouTube-VIS or COCO with video_id and track_id; 'maskstream
    convert' makes these from other layouts.
    """
    del debug
    from maskstream.training.own_data import recognised
    from maskstream.training.recipe import load_recipe
    from maskstream.types import InputError, Task

    if parse_task(task) not in (Task.VOS, Task.PVOS):
        raise InputError(f"finetune --task {task} is not possible: it is vos or pvos")
    recipe = load_recipe(RECIPE, settings or ())
    layout, part = recognised(data, split)
    sources = tuple(
        replace(source, name=layout, split=part) if source.key == "own" else source for source in recipe.data.sources
    )
    recipe = replace(
        recipe,
        data=replace(recipe.data, sources=sources),
        roots={**recipe.roots, "own": str(data)},
        model=replace(recipe.model, init=str(weights)),
    )
    run(
        recipe,
        output,
        data.stem,
        device=device,
        board=board,
        overwrite=overwrite,
        quiet=quiet,
        as_json=as_json,
    )
