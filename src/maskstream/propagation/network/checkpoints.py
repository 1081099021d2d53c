"""Weights in and out: the authors' files, and our own folders.

    DEVA-propagation.pth ──► from_authors ────► PropagationNetwork ──► save_pretrained ──► folder/config.json
    XMem.pth             ──► (config=xmem()) ──┘        ▲                                  folder/model.safetensors
                                                        └──────────── from_pretrained ◄────────────┘

The published files are bare state dicts in float32. DEVA's names are ours; XMem's are translated (`XMEM_NAMES`). Every
way in checks names, shapes and values, and says what is wrong and what to do. Nothing but tensors is ever unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from maskstream.files import atomic_path, write_text_atomic
from maskstream.formats.json_files import Json, read_json
from maskstream.types import InputError
from maskstream.weight_files import read_safetensors, read_torch, some

from .backbones import BackboneConfig
from .network import NetworkConfig, PropagationNetwork

SCHEMA, VERSION = "maskstream/propagation-network", 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"

XMEM_NAMES = (
    ("key_encoder.", "pixel_encoder."),
    ("value_encoder.hidden_reinforce.", "mask_encoder.sensory_update."),
    ("value_encoder.", "mask_encoder."),
    ("decoder.hidden_update.", "mask_decoder.sensory_update."),
    ("decoder.up_16_8.skip_conv.", "mask_decoder.decoder_feat_proc.transforms.0."),
    ("decoder.up_8_4.skip_conv.", "mask_decoder.decoder_feat_proc.transforms.1."),
    ("decoder.", "mask_decoder."),
)
"""How names in XMem's checkpoint begin, and how the same parts are called here. The first that fits counts."""


def from_authors(path: Path | str, *, config: NetworkConfig | None = None) -> PropagationNetwork:
    """Load what the authors published.

    Args:
        path: ``DEVA-propagation.pth``; or XMem's weights, together with the config of XMem.
        config: of the network that the file holds; DEVA's if None.

    Returns:
        The network in float32 on the CPU, in evaluation mode.

    Raises:
        InputError: the file cannot be read, holds another network or is wrapped, an entry is missing, superfluous, of
            another shape or not finite. The message says which, and what to do.
    """
    path = Path(path)
    return _from_tensors(path, _bare(path, read_torch(path)), config or NetworkConfig.deva())


def load_checkpoint(path: Path | str) -> PropagationNetwork:
    """Load whatever it is: a folder of ours, DEVA's published file, or XMem's.

    Raises:
        InputError: as `from_pretrained` and `from_authors` do.
    """
    path = Path(path)
    if path.is_dir():
        return from_pretrained(path)
    given = _bare(path, read_torch(path))
    return _from_tensors(path, given, NetworkConfig.xmem() if _kind(given) == "XMem" else NetworkConfig.deva())


def _from_tensors(path: Path, given: Mapping[str, Tensor], config: NetworkConfig) -> PropagationNetwork:
    network = _blank(config)
    xmem = config.other_masks
    found = _kind(given)
    if found != ("XMem" if xmem else "DEVA"):
        raise InputError(f"{path} {_wrong_kind(found, given, xmem=xmem)}")
    _fill(network, {_our_name(name): tensor for name, tensor in given.items()} if xmem else given, path)
    return network


def save_pretrained(network: PropagationNetwork, folder: Path | str, *, dtype: torch.dtype | None = None) -> None:
    """Write ``config.json`` and ``model.safetensors``; the same network gives the same bytes.

    Args:
        network: what to write.
        folder: made if it does not exist.
        dtype: of the floating-point tensors in the file; as they are if None.

    Raises:
        ValueError: normalisation of the network is folded.
    """
    if network.folded:
        raise ValueError("a network with folded normalisation cannot be saved: save it before it is folded")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: _stored(tensor, dtype) for name, tensor in network.state_dict().items()}
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary)
    plain = {"schema": SCHEMA, "version": VERSION, **asdict(network.config)}
    write_text_atomic(folder / CONFIG, json.dumps(plain, indent=2) + "\n")


def from_pretrained(folder: Path | str) -> PropagationNetwork:
    """Load what `save_pretrained` wrote.

    Returns:
        The network in float32 on the CPU, in evaluation mode.

    Raises:
        InputError: a file is missing, damaged, or does not belong to the other.
    """
    folder = Path(folder)
    network = _blank(_read_config(folder / CONFIG))
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise InputError(f"there is no {weights}, the weights that belong to {CONFIG}")
    _fill(network, read_safetensors(weights), weights)
    return network


# Building and filling.


def _blank(config: NetworkConfig) -> PropagationNetwork:
    """The network without memory for its weights, which come from a file."""
    with torch.device("meta"), _NothingDrawn():
        return PropagationNetwork(config).eval()


class _NothingDrawn(TorchFunctionMode):
    """Weights without memory are not drawn at random: PyTorch would load its compiler, for a second, to do nothing."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return args[0] if func is Tensor.normal_ else func(*args, **(kwargs or {}))


def _fill(network: PropagationNetwork, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Give the network its weights, once they are known to be exactly what it needs."""
    wanted = {name: tensor.shape for name, tensor in network.state_dict().items()}
    if missing := [name for name in wanted if name not in tensors]:
        raise InputError(
            f"{path} lacks {len(missing)} of the {len(wanted)} entries of this network ({some(missing)}): "
            "it is incomplete, or of another network"
        )
    if superfluous := [name for name in tensors if name not in wanted]:
        raise InputError(
            f"{path} has {len(superfluous)} entries that this network lacks ({some(superfluous)}): "
            "it is of another network"
        )
    for name, shape in wanted.items():
        if tensors[name].shape != shape:
            raise InputError(
                f"{name} in {path} is {_shape(tensors[name].shape)}, and this network needs {_shape(shape)}: "
                "it is of another network, or of other widths"
            )
    if spoilt := [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]:
        raise InputError(
            f"{path} has NaN or infinite values in {len(spoilt)} entries ({some(spoilt)}): "
            "training diverged or the file is damaged; use an earlier checkpoint"
        )
    network.load_state_dict({name: _plain(tensor) for name, tensor in tensors.items()}, assign=True)


def _plain(tensor: Tensor) -> Tensor:
    """As the network wants it: float32, and of convolutions channels last, with which they are faster by a fifth."""
    tensor = tensor.float() if tensor.is_floating_point() else tensor
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def _stored(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    tensor = tensor.detach().cpu()
    return (tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor).contiguous()


# The authors' files.


def _bare(path: Path, loaded: object) -> dict[str, Tensor]:
    """The state dict itself, if that is what was loaded."""
    if not isinstance(loaded, Mapping) or not loaded:
        raise InputError(f"{path} holds {_a(loaded)}: give a state dict, tensors by name")
    for key, value in loaded.items():
        if isinstance(value, Mapping) and any(isinstance(inner, Tensor) for inner in value.values()):
            raise InputError(
                f"{path} wraps its weights: they are under {key!r}, beside {some([k for k in loaded if k != key])}. "
                f"Save them alone: torch.save(torch.load(PATH, weights_only=True)[{key!r}], NEW)"
            )
    weights = {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
    if len(weights) < len(loaded):
        raise InputError(
            f"{path} holds more than tensors ({some([k for k in loaded if k not in weights])}): save its weights alone"
        )
    if all(name.startswith("module.") for name in weights):
        raise InputError(
            f"names in {path} begin with 'module.', from distributed training: save model.module.state_dict() instead"
        )
    return weights


def _kind(names: Iterable[str]) -> str | None:
    """Whose checkpoint it is, by how the names begin."""
    begins = {name.split(".", 1)[0] for name in names}
    if begins & {"pixel_encoder", "mask_encoder", "mask_decoder"}:
        return "DEVA"
    return "XMem" if begins & {"key_encoder", "value_encoder", "decoder"} else None


def _wrong_kind(found: str | None, names: Iterable[str], *, xmem: bool) -> str:
    if found == "XMem":
        return (
            "is an XMem checkpoint (its names begin with key_encoder, value_encoder, decoder), and DEVA's network is "
            "another: load it with config=NetworkConfig.xmem()"
        )
    if found == "DEVA":
        return "is a DEVA checkpoint (its names begin with pixel_encoder): load it without the config of XMem"
    begins = sorted({name.split(".", 1)[0] for name in names})
    return f"is neither of DEVA nor of XMem (its names begin with {some(begins)}): give {_wanted_file(xmem)}"


def _wanted_file(xmem: bool) -> str:
    return "XMem.pth" if xmem else "DEVA-propagation.pth"


def _our_name(name: str) -> str:
    for theirs, ours in XMEM_NAMES:
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


# The config.


def _read_config(path: Path) -> NetworkConfig:
    values = read_json(path, what="the config of a propagation network")
    if not isinstance(values, dict) or values.get("schema") != SCHEMA:
        raise InputError(f"{path} is not the config of a propagation network: its schema is not {SCHEMA}")
    if values.get("version") != VERSION:
        raise InputError(f"{path} is of version {values.get('version')}, and this release reads {VERSION}: update one")
    del values["schema"], values["version"]
    default = NetworkConfig()
    _check_fields(path, values, [field.name for field in fields(default)])
    return NetworkConfig(**{name: _value(path, name, value, getattr(default, name)) for name, value in values.items()})


def _value(path: Path, name: str, value: Json, default: object) -> Json:
    """A value of the config, if it is of the default's kind."""
    if isinstance(default, BackboneConfig) and isinstance(value, dict):
        _check_fields(path, value, [field.name for field in fields(default)])
        parts = {part: _value(path, f"{name}.{part}", value[part], getattr(default, part)) for part in value}
        if parts["block"] in ("basic", "bottleneck"):
            return BackboneConfig(**parts)
    elif isinstance(default, tuple) and isinstance(value, list):
        if len(value) == len(default) and all(_positive(item) for item in value):
            return tuple(value)
    elif isinstance(default, int) and not isinstance(default, bool):
        if _positive(value) or (name == "pixel_dim" and value is None) or (name == "guide_dim" and value == 0):
            return value
    elif type(value) is type(default):
        return value
    raise InputError(f"{name} in {path} is {json.dumps(value)}, which is no such value: for example {default}")


def _positive(value: object) -> bool:
    return type(value) is int and value > 0


def _check_fields(path: Path, values: Mapping[str, object], wanted: Sequence[str]) -> None:
    if set(values) != set(wanted):
        raise InputError(
            f"{path} lacks {some([name for name in wanted if name not in values])} and has, superfluously, "
            f"{some([name for name in values if name not in wanted])}: it is damaged, or of another release"
        )


# Words.


def _shape(shape: torch.Size) -> str:
    return "×".join(str(size) for size in shape) or "a number"


def _a(value: object) -> str:
    return "an empty mapping" if isinstance(value, Mapping) else f"a {type(value).__name__}"
