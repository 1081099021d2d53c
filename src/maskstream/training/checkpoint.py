"""Checkpoints of a run: small files that fit anywhere, written whole or not at all, and checked when they are read.

    checkpoints/00001500/state.json                  iteration, numbers, digest of every shard
                         shard-00000.safetensors     tensors; those larger than a shard are cut
                         shard-00001.safetensors …

What is in it: weights and buffers (``model/…``), those of the average (``ema/…``), the optimiser's moments
(``optimiser/…``), and numbers. Samples and everything random are functions of the iteration, so it is all there is.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Protocol, TypeAlias, Union

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from maskstream.files import whole_folder
from maskstream.formats.json_files import read_json
from maskstream.types import InputError

Json: TypeAlias = Union[bool, int, float, str, list["Json"], dict[str, "Json"], None]  # noqa: UP007 - recursive

SCHEMA, VERSION = "maskstream/training-checkpoint", 1
STATE = "state.json"
_HEADER = 150
"""Bytes that a tensor takes in the header of its file, at most, beside its name."""


class Scaler(Protocol):
    """Of losses in fp16, as `torch.amp.GradScaler`."""

    def state_dict(self) -> dict[str, Json]:
        """Its numbers."""
        ...

    def load_state_dict(self, state_dict: dict[str, Json]) -> None:
        """Take them over."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """Where a run is.

    Attributes:
        iteration: how many are done.
        tensors: by name.
        numbers: by name.
    """

    iteration: int
    tensors: Mapping[str, Tensor]
    numbers: Mapping[str, Json]


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """All that changes while training.

    Attributes:
        model: its weights and buffers.
        optimiser: of its parameters.
        ema: the average of its weights, if there is one.
        scaler: of fp16, if there is one.
    """

    model: nn.Module
    optimiser: Optimizer
    ema: AveragedModel | None = None
    scaler: Scaler | None = None

    def checkpoint(self, iteration: int, *, moments: torch.dtype = torch.float32) -> Checkpoint:
        """Where the run is now. Tensors are those in use, not copies, unless they are of another precision.

        Args:
            iteration: how many are done.
            moments: precision of the optimiser's moments. Training goes on with what is saved, so that a run that is
                continued here does the same.
        """
        tensors = {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        if self.ema is not None:
            tensors |= {f"ema/{name}": tensor for name, tensor in self.ema.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            for key, tensor in self.optimiser.state.get(parameter, {}).items():
                is_moment = tensor.shape == parameter.shape and key != "step"
                tensors[f"optimiser/{name}/{key}"] = _rounded_(tensor, moments) if is_moment else tensor
        scaler = {} if self.scaler is None else self.scaler.state_dict()
        return Checkpoint(iteration, {k: v.detach() for k, v in tensors.items()}, {"scaler": scaler})

    def restore(self, checkpoint: Checkpoint, *, where: Path) -> None:
        """Go back to where a run was.

        Raises:
            InputError: the checkpoint is of another model or of other settings.
        """
        try:
            self.model.load_state_dict(_under("model/", checkpoint.tensors))
            if self.ema is not None:
                self.ema.load_state_dict(_under("ema/", checkpoint.tensors))
        except RuntimeError as error:
            raise InputError(f"{where} is of another model: {' '.join(str(error).split())}") from error
        state = self.optimiser.state_dict()
        state["state"] = {}
        name_of = {parameter: name for name, parameter in self.model.named_parameters()}
        optimised = (parameter for group in self.optimiser.param_groups for parameter in group["params"])
        for number, parameter in enumerate(optimised):
            if kept := _under(f"optimiser/{name_of[parameter]}/", checkpoint.tensors):
                state["state"][number] = kept
        self.optimiser.load_state_dict(state)
        scaler = checkpoint.numbers.get("scaler")
        if self.scaler is not None and isinstance(scaler, dict):
            self.scaler.load_state_dict(scaler)


def _rounded_(moment: Tensor, precision: torch.dtype) -> Tensor:
    """The moment in another precision; it is rounded itself too."""
    if moment.dtype == precision:
        return moment
    rounded = moment.to(precision)
    moment.copy_(rounded)
    return rounded


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def newest(folder: Path) -> Path | None:
    """The checkpoint of the highest iteration, or None."""
    return max(_checkpoints(folder), default=None, key=lambda path: int(path.name))


def _checkpoints(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.isdigit()] if folder.is_dir() else []


def write_checkpoint(folder: Path, checkpoint: Checkpoint, *, shard_bytes: int, keep: int) -> Path:
    """Write a checkpoint, and remove all but the last ones.

    Args:
        folder: of all checkpoints.
        checkpoint: where the run is.
        shard_bytes: of a file at most; a few hundred are needed for one number.
        keep: how many checkpoints.

    Returns:
        Its own folder. One that is there already is left as it is.

    Raises:
        OutputError: it cannot be written.
    """
    path = folder / f"{checkpoint.iteration:08d}"
    if not path.exists():
        with whole_folder(path) as building:
            digests: dict[str, str] = {}
            cut: dict[str, list[int]] = {}
            for tensors in _shards(checkpoint.tensors, shard_bytes, cut):
                name = f"shard-{len(digests):05d}.safetensors"
                data = save(tensors)
                (building / name).write_bytes(data)
                digests[name] = sha256(data).hexdigest()
            state = {
                "schema": SCHEMA,
                "version": VERSION,
                "iteration": checkpoint.iteration,
                "numbers": checkpoint.numbers,
                "cut": cut,
                "shards": digests,
            }
            (building / STATE).write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
    for old in sorted(_checkpoints(folder), key=lambda path: int(path.name))[:-keep]:
        shutil.rmtree(old)
    return path


def _shards(tensors: Mapping[str, Tensor], most: int, cut: dict[str, list[int]]) -> Iterator[dict[str, Tensor]]:
    """Tensors in groups of at most so many bytes. Larger ones are flattened and cut; ``cut`` gets their shapes."""
    shard: dict[str, Tensor] = {}
    size = 0
    for name, tensor in _pieces(tensors, most, cut):
        cost = tensor.nbytes + len(name) + _HEADER
        if shard and size + cost > most:
            yield shard
            shard, size = {}, 0
        shard[name] = tensor.to("cpu", copy=True).contiguous()  # safetensors refuses tensors that share memory
        size += cost
    yield shard


def _pieces(tensors: Mapping[str, Tensor], most: int, cut: dict[str, list[int]]) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors.items():
        room = most - len(name) - _HEADER - 10  # digits of the piece's number
        if tensor.nbytes <= room:
            yield name, tensor
            continue
        cut[name] = list(tensor.shape)
        for number, piece in enumerate(torch.split(tensor.flatten(), max(1, room // tensor.itemsize))):
            yield f"{name}#{number}", piece


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, on the CPU.

    Raises:
        InputError: a file of it is missing, damaged, or of another version of this program.
    """
    remedy = f"copy it again, or remove {path} to continue from the checkpoint before"
    state = read_json(path / STATE, what="the state of a checkpoint")
    if not isinstance(state, dict) or state.get("schema") != SCHEMA or state.get("version") != VERSION:
        raise InputError(f"{path / STATE} is not of a checkpoint that this release reads: {remedy}")
    tensors: dict[str, Tensor] = {}
    for name, digest in state["shards"].items():
        tensors |= _read_shard(path / name, digest, remedy)
    for name, shape in state["cut"].items():
        numbers = (f"{name}#{number}" for number in count())
        pieces = []
        while (piece := next(numbers)) in tensors:
            pieces.append(tensors.pop(piece))
        tensors[name] = torch.cat(pieces).view(shape)
    return Checkpoint(state["iteration"], tensors, state["numbers"])


def _read_shard(path: Path, digest: str, remedy: str) -> dict[str, Tensor]:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"the checkpoint lacks {path}: {remedy}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): {remedy}") from error
    if sha256(data).hexdigest() != digest:
        raise InputError(f"{path} is damaged, its content is not what was written: {remedy}")
    try:
        return load(data)
    except SafetensorError as error:
        raise InputError(f"{path} is no file of tensors ({error}): {remedy}") from error
