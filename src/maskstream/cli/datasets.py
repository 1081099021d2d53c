"""``maskstream datasets``: which there are, what each is, and what of it was found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Debug

if TYPE_CHECKING:
    from maskstream.datasets import DatasetInfo


def datasets(
    name: Annotated[str | None, typer.Argument(help="Tell all about this one.", show_default=False)] = None,
    root: Annotated[
        Path | None, typer.Option(help="Look for it here, and say what is there.", show_default=False)
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Write docs/datasets.md to standard output.")] = False,
    debug: Debug = False,
) -> None:
    """List the data sets, or say of one what it is, how it must be laid out, and what was found of it."""
    del debug
    from maskstream.datasets import DATASETS, find_dataset
    from maskstream.types import InputError

    if markdown:
        from maskstream.datasets.document import catalogue_page

        typer.echo(catalogue_page(), nl=False)
        return
    if name is None:
        if root is not None:
            raise InputError(f"say which data set {root} is: maskstream datasets NAME --root {root}")
        width = max(map(len, DATASETS))
        for info in DATASETS.values():
            tasks = " ".join(task.value for task in info.tasks)
            typer.echo(f"{info.name:{width}}  {tasks:16}  {info.title}")
        typer.echo("synthetic-TASK:v1-LEVEL-seedS for every task: rendered here, needs no folder")
        return
    info = find_dataset(name)
    typer.echo(f"{info.name}: {info.title}\n{info.about}")
    typer.echo(f"tasks    {', '.join(task.value for task in info.tasks)}")
    typer.echo(f"splits   {', '.join(info.splits)}")
    typer.echo(f"home     {info.home}\nlicence  {info.licence}")
    typer.echo(f"\nlayout\n{_indented(info.layout)}\n\nresults\n{_indented(info.results)}")
    if info.notes:
        typer.echo("\n" + "\n".join(f"- {note}" for note in info.notes))
    if root is not None:
        typer.echo(f"\nfound in {root}")
        for split in info.splits:
            typer.echo(f"  {split}: {_found(info, root, split)}")


def _found(info: DatasetInfo, root: Path, split: str) -> str:
    from maskstream.types import InputError

    try:
        found = info.open(root, split)
    except InputError as error:
        return str(error)
    return f"{len(found.videos)} videos, {len(found.categories)} categories"


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.strip().splitlines())
