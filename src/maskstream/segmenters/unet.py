"""The small network of our segmenters: a U-Net (Ronneberger et al., MICCAI 2015); and its folder on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from maskstream.files import atomic_path, write_text_atomic
from maskstream.formats.json_files import read_json
from maskstream.types import InputError

VERSION = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"

Network = TypeVar("Network", bound=nn.Module)
Config = TypeVar("Config")


class _Block(nn.Sequential):
    """Two convolutions with normalisation."""

    def __init__(self, in_dim: int, out_dim: int, *, stride: int = 1) -> None:
        layers: list[nn.Module] = []
        for number, (i, o) in enumerate(((in_dim, out_dim), (out_dim, out_dim))):
            layers.append(nn.Conv2d(i, o, 3, stride=stride if number == 0 else 1, padding=1, bias=False))
            layers += [nn.BatchNorm2d(o), nn.ReLU(inplace=True)]
        super().__init__(*layers)


class UNet(nn.Module):
    """Pictures of any size to a logit for each pixel.

    Args:
        in_dim: channels of the input.
        widths: channels at strides 2, 4, 8 …
    """

    def __init__(self, in_dim: int, widths: Sequence[int]) -> None:
        super().__init__()
        before = (in_dim, *widths[:-1])
        self.down = nn.ModuleList(_Block(i, o, stride=2) for i, o in zip(before, widths, strict=True))
        pairs = zip(widths[:0:-1], widths[-2::-1], strict=True)
        self.up = nn.ModuleList(_Block(deep + shallow, shallow) for deep, shallow in pairs)
        self.head = nn.Conv2d(widths[0], 1, 3, padding=1)

    def forward(self, x_bchw: Tensor) -> Tensor:
        """``float32[b, in_dim, h, w]`` to ``float32[b, h, w]``, found at stride 2."""
        height, width = x_bchw.shape[2:]
        deepest = 2 ** len(self.down)
        x = F.pad(x_bchw, (0, -width % deepest, 0, -height % deepest))
        scales = []
        for down in self.down:
            x = down(x)
            scales.append(x)
        for up, skip in zip(self.up, scales[-2::-1], strict=True):
            x = F.interpolate(x, size=skip.shape[2:], mode="bilinear", align_corners=False)
            x = up(torch.cat([x, skip], dim=1))
        large = F.interpolate(self.head(x), scale_factor=2, mode="bilinear", align_corners=False)
        return large[:, 0, :height, :width]


def save_folder(network: nn.Module, config: Mapping[str, Any], folder: Path, *, schema: str) -> None:
    """Write ``config.json`` and ``model.safetensors``; the same network gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary)
    write_text_atomic(folder / CONFIG, json.dumps({"schema": schema, "version": VERSION, **config}, indent=2) + "\n")


def read_config(folder: Path, config: type[Config], *, schema: str) -> Config:
    """The config of a folder; lists of numbers are tuples.

    Raises:
        InputError: it is missing, or of another network or release.
    """
    path = folder / CONFIG
    plain = read_json(path, what="the config of a network")
    if not isinstance(plain, dict) or plain.pop("schema", None) != schema or plain.pop("version", None) != VERSION:
        raise InputError(f"{path} is not the config of a network of this kind ({schema}, version {VERSION})")
    try:
        return config(**{name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()})
    except TypeError as error:
        raise InputError(f"{path} has fields that are not known, or lacks some: {error}") from error


def filled(network: Network, folder: Path) -> Network:
    """A network with the weights of a folder, for evaluation.

    Raises:
        InputError: they are missing, damaged, or of another network.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        raise InputError(f"there is no {path}, the weights that belong to {CONFIG}")
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is cut short or damaged ({error}): copy or download it again") from error
    except RuntimeError as error:
        raise InputError(f"{path} is of another network: {str(error).splitlines()[-1].strip()}") from error
    return network.eval()
