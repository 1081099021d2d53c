"""Folders of systems that add something to a query core.

FOLDER/config.json, model.safetensors     the core, as `transformers` takes it
       NAME.json, NAME.safetensors        what the system adds: its settings, its weights
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from safetensors.torch import save_file
from torch import nn

from maskstream.files import atomic_path, write_text_atomic
from maskstream.formats.json_files import read_json
from maskstream.types import InputError
from maskstream.weight_files import read_safetensors

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_VERSION = 1

ConfigT = TypeVar("ConfigT", bound="DataclassInstance")


def write_part(folder: Path, name: str, config: DataclassInstance, module: nn.Module | None) -> None:
    """Write what a system adds to a core; the same gives the same bytes.

    Args:
        folder: of the core.
        name: of the files.
        config: settings.
        module: weights; None: there are none.
    """
    if module is not None:
        state = {key: tensor.detach().cpu().contiguous() for key, tensor in module.state_dict().items()}
        with atomic_path(folder / f"{name}.safetensors") as temporary:
            save_file(state, temporary)
    plain = {"schema": f"maskstream/{name}", "version": _VERSION, **asdict(config)}
    write_text_atomic(folder / f"{name}.json", json.dumps(plain, indent=2) + "\n")


def read_settings(folder: Path, name: str, config: type[ConfigT]) -> ConfigT | None:
    """The settings that a folder has; None if it is of a core alone.

    Raises:
        InputError: they are damaged, or of another version.
    """
    path = folder / f"{name}.json"
    if not path.is_file():
        return None
    plain: Any = read_json(path, what=f"settings of {name}")
    try:
        known = {
            key: tuple(v) if isinstance(v, list) else v for key, v in plain.items() if key not in ("schema", "version")
        }
        if (plain["schema"], plain["version"]) != (f"maskstream/{name}", _VERSION):
            raise InputError(f"{path} is of another kind or version: use the maskstream that wrote it")
        return config(**known)
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}): copy it again") from None


def fill(module: nn.Module, folder: Path, name: str) -> None:
    """Put the weights that a folder has into what a system adds.

    Raises:
        InputError: they are missing, damaged, or of another network.
    """
    path = folder / f"{name}.safetensors"
    state = read_safetensors(path)
    try:
        module.load_state_dict(state)
    except RuntimeError:
        raise InputError(f"{path} is of another network than {name}.json says: copy both again") from None
