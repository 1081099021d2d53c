"""What the golden numbers of the propagation network are made from: hashed inputs, and where outputs are sampled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from maskstream.propagation.guide import CHANNELS
from maskstream.propagation.network import NetworkConfig, PropagationNetwork

from .hashed import hashed, hashed_weights

GOLDEN = Path(__file__).with_name("golden_network.json")
TOLERANCE = 1e-4
SAMPLES = 200
"""Numbers kept of each output."""

HEIGHT, WIDTH = 96, 160
OBJECTS = 3


@dataclass(frozen=True)
class Inputs:
    """A frame and three objects."""

    image_b3hw: Tensor
    masks_bnhw: Tensor
    sensory_bnchw: Tensor
    readout_bnchw: Tensor
    selector_bn: Tensor
    guide_bnchw: Tensor | None

    @classmethod
    def hashed(cls, config: NetworkConfig, *, batch: int = 1, objects: int = OBJECTS) -> Inputs:
        """For a network of these widths."""
        grid = (HEIGHT // 16, WIDTH // 16)
        return cls(
            hashed("image", (batch, 3, HEIGHT, WIDTH), -2, 2),
            hashed("masks", (batch, objects, HEIGHT, WIDTH), 0, 1),
            hashed("sensory", (batch, objects, config.sensory_dim, *grid)),
            hashed("readout", (batch, objects, config.value_dim, *grid)),
            (hashed("selector", (batch, objects)) > -0.5).float(),
            hashed("guide", (batch, objects, CHANNELS, HEIGHT, WIDTH), 0, 1) if config.guide_dim else None,
        )


@torch.inference_mode()
def outputs(network: PropagationNetwork, given: Inputs) -> dict[str, Tensor]:
    """Everything the network puts out, by name; each part is given inputs that do not depend on another part."""
    features = network.encode_image(given.image_b3hw)
    value, deep = network.encode_masks(
        given.image_b3hw, features, given.masks_bnhw, given.sensory_bnchw, deep_update=True
    )
    logits, sensory = network.decode(
        features,
        given.readout_bnchw,
        given.sensory_bnchw,
        given.masks_bnhw,
        update_sensory=True,
        guide_bnchw=given.guide_bnchw,
    )
    found = {
        "f16": features.f16_bchw,
        "f8": features.f8_bchw,
        "f4": features.f4_bchw,
        "key": features.key_bchw,
        "shrinkage": features.shrinkage_b1hw,
        "selection": features.selection_bchw,
        "value": value,
        "sensory, deep": deep,
        "sensory": sensory,
        "logits": logits,
        "log-odds": network.log_odds(logits),
        "probabilities": network.probabilities(logits),
        "probabilities, selected": network.probabilities(logits, given.selector_bn),
    }
    if network.config.auxiliary:
        auxiliary = network.auxiliary(features, given.sensory_bnchw)
        found["auxiliary"] = auxiliary
        found["auxiliary probabilities"] = network.probabilities(auxiliary, given.selector_bn, stride=16)
    return found


def samples(name: str, output: Tensor) -> Tensor:
    """`SAMPLES` numbers of an output, from places that a hash of its name chooses."""
    places = hashed(f"where to look at {name}", (SAMPLES,), 0, output.numel()).long().clamp(max=output.numel() - 1)
    return output.flatten()[places]


def hashed_network(config: NetworkConfig) -> PropagationNetwork:
    """A network whose weights are hashed from the names that its authors' checkpoint gives them."""
    published = xmem_name if config.other_masks else str
    with torch.device("meta"):
        network = PropagationNetwork(config).eval()
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    weights = hashed_weights({published(name): shape for name, shape in shapes.items()})
    network.load_state_dict({name: weights[published(name)] for name in shapes}, assign=True)
    return network


def xmem_name(name: str) -> str:
    """What an entry of the network is called in XMem's checkpoint."""
    for ours, theirs in (
        ("pixel_encoder.", "key_encoder."),
        ("mask_encoder.sensory_update.", "value_encoder.hidden_reinforce."),
        ("mask_encoder.", "value_encoder."),
        ("mask_decoder.sensory_update.", "decoder.hidden_update."),
        ("mask_decoder.decoder_feat_proc.transforms.0.", "decoder.up_16_8.skip_conv."),
        ("mask_decoder.decoder_feat_proc.transforms.1.", "decoder.up_8_4.skip_conv."),
        ("mask_decoder.", "decoder."),
    ):
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name
