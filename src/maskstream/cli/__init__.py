"""The command ``maskstream``: one file per subcommand, nothing but options, messages and progress in them."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from maskstream._version import __version__

from .batch import batch
from .console import exit_on_user_error
from .convert import convert
from .cutouts import cutouts
from .datasets import datasets
from .doctor import doctor
from .evaluate import evaluate
from .finetune import finetune
from .info import info
from .merge_scores import merge_scores
from .models import models
from .predict import predict
from .pull import pull
from .sample import sample
from .segment import segment
from .stabilize import stabilize
from .studio import studio
from .synth import synth
from .textures import textures
from .train import train

app = typer.Typer(
    name="maskstream",
    help="Video segmentation: one command, every task. Works offline, on any machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"maskstream {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before the subcommand."""


_COMMANDS = (
    segment,
    batch,
    stabilize,
    studio,
    merge_scores,
    predict,
    evaluate,
    train,
    finetune,
    convert,
    datasets,
    models,
    pull,
    info,
    sample,
    synth,
    textures,
    cutouts,
    doctor,
)
for _command in _COMMANDS:
    app.command()(_command)


def main() -> None:
    """Run the command line; the entry point of the ``maskstream`` script."""
    with exit_on_user_error(debug="--debug" in sys.argv):
        app()
