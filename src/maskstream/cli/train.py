"""``maskstream train``: a recipe, from the beginning or from where it was."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from .console import INTERRUPTED, FrameProgress, on_interrupt
from .options import AsJson, Debug, Overwrite, Quiet

if TYPE_CHECKING:
    from maskstream.training.recipe import Recipe

Device: TypeAlias = Annotated[str, typer.Option("--device", help="auto, or cpu to leave GPUs alone.")]
Board: TypeAlias = Annotated[bool, typer.Option("--tensorboard", help="Write files for TensorBoard, too.")]


def train(
    recipe: Annotated[str, typer.Argument(help="Its name, or a FILE.yaml.", show_default=False)],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Changes of it, such as train.steps=200.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Output folder.  [default: runs/RECIPE]", show_default=False)
    ] = None,
    data: Annotated[
        list[str] | None, typer.Option("--data", metavar="NAME=DIR", help="Where a data set of the recipe is.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option("--from", help="Weights to begin with: a folder or file.", show_default=False)
    ] = None,
    device: Device = "auto",
    show: Annotated[bool, typer.Option("--show", help="Print the recipe with every setting, and stop.")] = False,
    board: Board = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Train a model as a recipe says.

    Recipes: propagate-synthetic (rendered scenes, no data needed); propagate-small, motion-small and click-small (from
    videos without labels); deva-static and deva-video (as published); finetune-propagation. The same command again
    continues a run that was stopped; a larger train.steps continues one that was complete. Several GPUs or machines:
    accelerate launch -m maskstream train RECIPE ...
    """
    del debug
    from maskstream.training.recipe import load_recipe, recipe_text

    chosen = load_recipe(recipe, settings or ())
    chosen = replace(chosen, roots={**chosen.roots, **_roots(data or (), chosen)})
    if weights is not None:
        chosen = replace(chosen, model=replace(chosen.model, init=weights))
    if show:
        typer.echo(recipe_text(chosen), nl=False)
        return
    name = Path(recipe).stem
    run(
        chosen,
        output or Path("runs") / name,
        name,
        device=device,
        board=board,
        overwrite=overwrite,
        quiet=quiet,
        as_json=as_json,
    )


def run(
    recipe: Recipe,
    output: Path,
    name: str,
    *,
    device: str,
    board: bool,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train into a folder, show progress, and say how it ended.

    Raises:
        MaskstreamError: as `maskstream.training.run.run_recipe` does.
    """
    from maskstream.training.loop import Progress
    from maskstream.training.run import run_recipe
    from maskstream.training.signals import leave
    from maskstream.types import InputError

    if device not in ("auto", "cpu"):
        raise InputError(f"--device is auto or cpu, not {device!r}; CUDA_VISIBLE_DEVICES chooses among GPUs")
    trained = 0
    with FrameProgress(name, total=recipe.train.steps, quiet=quiet, what="step") as progress:

        def on_step(now: Progress) -> None:
            nonlocal trained
            trained += 1
            progress.update(now.done, now.steps, note=f"loss {now.values['loss']:.3f}")

        with on_interrupt(" at once: the same command again continues from the newest checkpoint"):
            summary = run_recipe(recipe, output, overwrite=overwrite, cpu=device == "cpu", board=board, on_step=on_step)
    if as_json and summary.leads:
        values = {key: value for key, value in asdict(summary).items() if key not in ("leads", "processes")}
        loss = None if math.isnan(summary.loss) else summary.loss
        typer.echo(json.dumps({"output": str(output), **values, "loss": loss}))
    elif not quiet and summary.leads:
        scores = "".join(f", {key} {100 * value:.1f}" for key, value in summary.scores.items())
        how = {"signal": "stopped", "time": "time is over"}.get(summary.stopped_by or "", "done")
        how = how if trained or summary.stopped_by else "already complete"
        typer.echo(f"{how}: step {summary.done} of {summary.steps}, loss {summary.loss:.3f}{scores}; {output}")
    if summary.stopped_by and not quiet and summary.leads:
        typer.echo("the same command again continues", err=True)
    code = INTERRUPTED if summary.stopped_by == "signal" else 0
    if summary.processes > 1:
        leave(code)
    raise typer.Exit(code)


def _roots(pairs: Iterable[str], recipe: Recipe) -> dict[str, str]:
    """Folders of data sets by the names that the recipe gives them.

    Raises:
        InputError: the recipe has no such source, or there is no folder.
    """
    from maskstream.types import InputError

    keys = [source.key for source in recipe.data.sources]
    roots = {}
    for pair in pairs:
        name, equals, folder = pair.partition("=")
        if not equals or name not in keys:
            raise InputError(f"--data {pair}: write NAME=DIR; this recipe takes {', '.join(keys)}")
        roots[name] = folder
    return roots
