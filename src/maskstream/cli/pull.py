"""``maskstream pull``: a model of the hub onto this machine."""

from __future__ import annotations

import importlib
import json
from dataclasses import asdict
from typing import Annotated

import typer

from .options import AsJson, Debug, Quiet


def pull(
    name: Annotated[str, typer.Argument(help="OWNER/MODEL, or a pair of them with a plus: see 'maskstream models'.")],
    quiet: Quiet = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Fetch a model of the hub, and see that it arrived whole; it works offline from then on."""
    del debug
    from maskstream.model_catalogue import known_models
    from maskstream.pretrained import fetch_pretrained, is_pretrained, parts_of
    from maskstream.types import InputError

    if any(model.name == name and model.place == "package" for model in known_models()):
        typer.echo(json.dumps([]) if as_json else f"{name} is in the package: there is nothing to fetch")
        return
    if not is_pretrained(name):
        raise InputError(f"unknown model {name!r}: 'maskstream models' lists those known, and others are OWNER/MODEL")
    if quiet or as_json:
        importlib.import_module("huggingface_hub.utils").disable_progress_bars()
    fetched = {part: fetch_pretrained(part) for part in parts_of(name)}
    if as_json:
        typer.echo(
            json.dumps([{"name": part, **asdict(one), "folder": str(one.folder)} for part, one in fetched.items()])
        )
        return
    for part, one in fetched.items():
        checked = "as the hub says they are" if one.is_checked else "not compared with the hub, which cannot be reached"
        typer.echo(f"{part}: {one.files} files, {one.nbytes / 1e6:.1f} MB, {checked}; in {one.folder}")
