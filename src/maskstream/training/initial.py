"""ImageNet weights to begin from: ResNets as torchvision names them, in the encoders of the propagation network."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from maskstream.propagation.network import PropagationNetwork
from maskstream.types import InputError

_UNUSED = ("layer4.", "fc.")
"""Of a ResNet: the encoders end at stride 16."""


def load_image_backbone(network: PropagationNetwork, path: Path) -> None:
    """Begin the pixel encoder from a ResNet-50.

    Raises:
        InputError: the file cannot be read, or is of another backbone.
    """
    weights = {
        f"res2.{name.removeprefix('layer1.')}" if name.startswith("layer1.") else name: tensor
        for name, tensor in _read(path).items()
    }
    _fill(network.pixel_encoder, weights, path)


def load_mask_backbone(network: PropagationNetwork, path: Path) -> None:
    """Begin the mask encoder from a ResNet-18. What its first convolution sees of masks is orthogonal.

    Raises:
        InputError: the file cannot be read, or is of another backbone.
    """
    weights, own = _read(path), network.mask_encoder.conv1.weight
    if "conv1.weight" in weights:
        of_masks = nn.init.orthogonal_(torch.empty(own.shape[0], own.shape[1] - 3, *own.shape[2:]))
        weights["conv1.weight"] = torch.cat([weights["conv1.weight"], of_masks], dim=1)
    _fill(network.mask_encoder, weights, path)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            weights = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read as the weights of a ResNet: {error}") from error
    if not isinstance(weights, Mapping) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise InputError(f"{path} holds something else than the weights of a ResNet")
    return {name: tensor.float() for name, tensor in weights.items() if not name.startswith(_UNUSED)}


def _fill(encoder: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Give an encoder the weights of its stem and stages; it has more parts than those."""
    known = encoder.state_dict()
    begins = ("conv1.", "bn1.", "res2.", "layer")
    wanted = {name for name in known if name.startswith(begins) and not name.endswith("num_batches_tracked")}
    fits = wanted <= weights.keys() <= known.keys()
    if not fits or any(known[name].shape != tensor.shape for name, tensor in weights.items()):
        raise InputError(f"{path} holds another backbone than the network has: give the ResNet that it is made of")
    encoder.load_state_dict(weights, strict=False)
