"""``maskstream models``: all that segments, finds, follows and carries, and what is known of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from .options import AsJson, Debug

if TYPE_CHECKING:
    from maskstream.model_catalogue import KnownModel


def models(
    name: Annotated[str | None, typer.Argument(help="Tell all about this one.", show_default=False)] = None,
    as_json: AsJson = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Write docs/models.md to standard output.")] = False,
    debug: Debug = False,
) -> None:
    """List the models that are known here, in the package and of the hub, or say all about one."""
    del debug
    from maskstream.model_catalogue import find_model, known_models
    from maskstream.model_page import models_page

    if markdown:
        typer.echo(models_page(), nl=False)
        return
    shown = known_models() if name is None else [find_model(name)]
    if as_json:
        typer.echo(json.dumps([_plain(model) for model in shown]))
        return
    if name is not None:
        _tell(shown[0])
        return
    width = max(len(model.name) for model in shown)
    for place, title in (("package", "in the package"), ("hub", "of the hub: maskstream pull NAME")):
        typer.echo(title)
        for model in shown:
            if model.place == place:
                _list(model, width)
    typer.echo("Each option takes the path of trained weights, too.")


def _list(model: KnownModel, width: int) -> None:
    """Two lines."""
    from maskstream.model_page import data_of, size_of

    tasks = " ".join(task.value for task in model.tasks)
    here = "" if model.place == "package" else "here" if model.folders is not None else "not here"
    typer.echo(f"  {model.name:{width}}  {tasks:26}  {model.label_space:13}  {here}".rstrip())
    typer.echo(f"    {model.about}; {size_of(model)}, {model.licence}; data: {data_of(model)}")


def _tell(model: KnownModel) -> None:
    from maskstream.model_page import data_of, size_of

    folders, nbytes = model.folders, model.nbytes
    where = "is not on this machine" if folders is None else ", ".join(map(str, folders)) or "needs no files"
    typer.echo(f"{model.name}: {model.about}")
    typer.echo(f"tasks      {', '.join(task.value for task in model.tasks)}")
    typer.echo(f"labels     {model.label_space}")
    typer.echo(f"licence    {model.licence}")
    typer.echo(f"size       {size_of(model)}" + (f", {nbytes / 1e6:.1f} MB" if nbytes else ""))
    typer.echo(f"data       {data_of(model)}")
    typer.echo(f"origin     {model.origin}")
    if model.unchecked:
        typer.echo(f"unchecked  {', '.join(model.unchecked)}: not seen on a page of those who publish it")
    typer.echo(f"used as    {', '.join(model.options)}")
    typer.echo(f"where      {where}")
    if (digest := model.sha256) is not None:
        typer.echo(f"sha256     {digest}")


def _plain(model: KnownModel) -> dict[str, object]:
    folders = model.folders
    return {
        "name": model.name,
        "about": model.about,
        "options": list(model.options),
        "tasks": [task.value for task in model.tasks],
        "label_space": model.label_space,
        "licence": model.licence,
        "parameters_in_millions": model.parameters,
        "seen": None if model.seen is None else list(model.seen),
        "origin": model.origin,
        "unchecked": list(model.unchecked),
        "place": model.place,
        "on_this_machine": folders is not None,
        "folders": [str(folder) for folder in folders or ()],
        "nbytes": model.nbytes,
        "sha256": model.sha256,
    }
