"""``maskstream models``: what there is to find, follow and click objects with."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from .options import AsJson, Debug


def models(as_json: AsJson = False, debug: Debug = False) -> None:
    """List the networks in the package, and what works without weights."""
    del debug
    from maskstream.shipped import WEIGHTLESS, shipped

    found = shipped()
    if as_json:
        typer.echo(json.dumps([{**asdict(model), "folder": str(model.folder)} for model in found]))
        return
    for kind, weightless in WEIGHTLESS.items():
        if not weightless and kind not in {model.kind for model in found}:
            continue
        typer.echo(f"--{kind}")
        for model in found:
            if model.kind == kind:
                seen = ", ".join(model.seen) or "none"
                typer.echo(f"  {model.name:16} {model.about}")
                typer.echo(f"  {'':16} {model.nbytes / 1e6:.1f} MB, {model.licence}, benchmark data seen: {seen}")
        for name, about in weightless.items():
            typer.echo(f"  {name:16} {about}\n  {'':16} no weights")
    typer.echo("Each option takes the path of trained weights, too.")
