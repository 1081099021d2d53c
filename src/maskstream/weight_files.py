"""Reading files of weights that others published. Nothing but tensors, arrays and plain data is ever unpickled."""

from __future__ import annotations

import codecs
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from maskstream.types import InputError

_DAMAGED = (pickle.UnpicklingError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError, MemoryError)
"""All that unpickling raises, depending on where the damage is."""


def read_torch(path: Path) -> object:
    """What `torch.save` wrote, if it is no more than tensors and plain data.

    Raises:
        InputError: there is no such file, it is damaged, or holds more.
    """
    _must_be_there(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} is no PyTorch checkpoint, or holds more than tensors, which is not loaded: give a plain state dict"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise InputError(f"{path} ({_size(path)}) is cut short or no PyTorch checkpoint: download it again") from error


def read_arrays(path: Path) -> object:
    """A pickle of numpy's arrays and plain data, as detectron2's model zoo has them.

    Raises:
        InputError: there is no such file, it is damaged, or holds more.
    """
    _must_be_there(path)
    try:
        with path.open("rb") as file:
            return _Arrays(file, encoding="latin-1").load()  # some were written by Python 2
    except _DAMAGED as error:
        raise InputError(f"{path} ({_size(path)}) is no pickle of arrays alone ({error}): give another file") from error


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of safetensors.

    Raises:
        InputError: there is no such file, or it is damaged.
    """
    _must_be_there(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is cut short or damaged ({error}): copy or download it again") from error


def read_state(path: Path) -> dict[str, Tensor]:
    """The weights of a file: ``.safetensors``, ``.pkl`` with arrays, or what `torch.save` wrote.

    They may lie under ``model`` (detectron2) or ``state_dict`` (mmdet), beside other things, which are left.

    Raises:
        InputError: there is no such file, it is damaged, or holds no weights.
    """
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    loaded = read_arrays(path) if path.suffix == ".pkl" else read_torch(path)
    if isinstance(loaded, Mapping):
        loaded = next((loaded[key] for key in ("model", "state_dict") if isinstance(loaded.get(key), Mapping)), loaded)
    if not isinstance(loaded, Mapping) or not loaded:
        raise InputError(f"{path} holds no weights by name: give the checkpoint that the authors published")
    state = {str(name): _tensor(value) for name, value in loaded.items()}
    if others := [name for name, value in state.items() if value is None]:
        raise InputError(f"{path} holds more than tensors by name ({some(others)}): give a plain state dict")
    return {name: value for name, value in state.items() if value is not None}


def check_fits(state: Mapping[str, Tensor], wanted: Mapping[str, torch.Size], *, what: str) -> None:
    """See that entries of a checkpoint are exactly those of a module, and numbers.

    Args:
        state: the entries.
        wanted: what they are to be called there, and their shapes.
        what: the module, for messages: "the motion module".

    Raises:
        InputError: one is unknown, missing, of another shape, or not finite.
    """
    if unknown := [name for name in state if name not in wanted]:
        raise InputError(
            f"{len(unknown)} entries are no part of {what} ({some(unknown)}): the checkpoint is of another network"
        )
    if missing := [name for name in wanted if name not in state]:
        raise InputError(
            f"{len(missing)} of {len(wanted)} entries of {what} are missing ({some(missing)}): the checkpoint is "
            "incomplete"
        )
    for name, shape in wanted.items():
        if state[name].shape != shape:
            raise InputError(
                f"{name} is {list(state[name].shape)} and not {list(shape)}: the checkpoint is of another network"
            )
    if spoilt := [name for name, tensor in state.items() if not tensor.isfinite().all()]:
        raise InputError(
            f"{len(spoilt)} entries have NaN or infinite values ({some(spoilt)}): training diverged or the file is "
            "damaged; use an earlier checkpoint"
        )


def some(names: Sequence[object]) -> str:
    """The first names of many, for a message."""
    shown = ", ".join(str(name) for name in names[:3])
    return f"{shown}, …" if len(names) > 3 else shown or "nothing"


class _Arrays(pickle.Unpickler):
    """Reads numbers, texts, lists, dictionaries and arrays, and nothing that could run."""

    def find_class(self, module: str, name: str) -> Callable[..., object]:
        """Refuse every class and function but those of which arrays are made."""
        known: dict[str, Callable[..., object]] = {
            "numpy.ndarray": np.ndarray,
            "numpy.dtype": np.dtype,
            "multiarray._reconstruct": np.zeros(1).__reduce__()[0],  # type: ignore[dict-item]
            "multiarray.scalar": np.float32(0).__reduce__()[0],
            "collections.OrderedDict": OrderedDict,
            "_codecs.encode": codecs.encode,
        }
        # In numpy 1, `numpy.core`.
        short = f"{module.removeprefix('numpy.core.').removeprefix('numpy._core.')}.{name}"
        if short not in known:
            raise pickle.UnpicklingError(f"it wants {module}.{name}")
        return known[short]


def _tensor(value: object) -> Tensor | None:
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return torch.from_numpy(np.array(value))
    return value if isinstance(value, Tensor) else None


def _must_be_there(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"there is no file {path}: give the checkpoint that the authors published")


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"
