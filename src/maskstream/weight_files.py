"""Reading files of weights that others published. Nothing but tensors, arrays and plain data is ever unpickled."""

from __future__ import annotations

import codecs
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from maskstream.types import InputError

_DAMAGED = (pickle.UnpicklingError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError, MemoryError)
"""All that unpickling raises, depending on where the damage is."""


def read_torch(path: Path, *, leave: bool = False) -> object:
    """What `torch.save` wrote, if it is no more than tensors and plain data.

    Args:
        path: of the file.
        leave: whether objects of other classes, such as the state of somebody's training, are left out rather than a
            reason to refuse the file. Their code is never run.

    Raises:
        InputError: there is no such file, it is damaged, or holds more.
    """
    _must_be_there(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if leave and (found := _without_others(path)) is not None:
            return found
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
    loaded = read_arrays(path) if path.suffix == ".pkl" else read_torch(path, leave=True)
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


class _Left:
    """Stands for an object that was not loaded; whatever is done to it while a file is read does nothing."""

    def __new__(cls, *_: object, **__: object) -> _Left:
        return super().__new__(cls)

    def __setstate__(self, _: object) -> None: ...

    def __setitem__(self, _: object, __: object) -> None: ...

    def append(self, _: object) -> None: ...

    def extend(self, _: object) -> None: ...

    def add(self, _: object) -> None: ...

    def __call__(self, *_: object, **__: object) -> _Left:
        return self

    def __hash__(self) -> int:
        return id(self)


class _Tensors(pickle.Unpickler):
    """Reads tensors and plain data; everything else is `_Left`."""

    def find_class(self, module: str, name: str) -> Callable[..., object]:
        """Only what tensors are made of is found."""
        storages = module == "torch" and name.endswith("Storage")
        if storages or f"{module}.{name}" in _OF_TENSORS:
            return cast("Callable[..., object]", super().find_class(module, name))
        return _Left


_OF_TENSORS = {
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "torch.Size",
    "torch.device",
}


def _without_others(path: Path) -> object | None:
    """What is in a file of `torch.save` but for objects of other classes; None if it is no such file."""
    module = SimpleNamespace(
        __name__="pickle", Unpickler=_Tensors, load=lambda file, **how: _Tensors(file, **how).load()
    )
    try:
        found: object = torch.load(path, map_location="cpu", weights_only=False, pickle_module=module)
    except (*_DAMAGED, RuntimeError):
        return None
    return found


def _tensor(value: object) -> Tensor | None:
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return torch.from_numpy(np.array(value))
    return value if isinstance(value, Tensor) else None


def _must_be_there(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"there is no file {path}: give the checkpoint that the authors published")


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"
