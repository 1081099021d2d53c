"""Query cores to train: how large they are, and what their backbones begin from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from maskstream.pretrained import pretrained_folder, read_config
from maskstream.types import InputError

if TYPE_CHECKING:
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, PreTrainedConfig

_STAGES = ["stage1", "stage2", "stage3", "stage4"]


def new_network(config: Mask2FormerConfig) -> Mask2FormerForUniversalSegmentation:
    """A network with random weights."""
    from transformers import Mask2FormerForUniversalSegmentation

    return Mask2FormerForUniversalSegmentation(config)


def tiny(names: Sequence[str]) -> Mask2FormerConfig:
    """``core-tiny``: 5 million parameters, for a processor.

    Args:
        names: of the classes.
    """
    from transformers import ResNetConfig

    backbone = ResNetConfig(
        embedding_size=32,
        hidden_sizes=[32, 64, 128, 256],
        depths=[2, 2, 2, 2],
        layer_type="basic",
        out_features=_STAGES,  # type: ignore[call-arg]  # of all backbones
    )
    return _config(
        names,
        backbone,
        feature_size=128,
        mask_feature_size=128,
        hidden_dim=128,
        encoder_feedforward_dim=256,
        encoder_layers=3,
        decoder_layers=7,
        dim_feedforward=512,
        num_queries=40,
    )


def resnet50(names: Sequence[str]) -> Mask2FormerConfig:
    """As published, with ResNet-50.

    Args:
        names: of the classes.
    """
    from transformers import ResNetConfig

    return _config(names, ResNetConfig(out_features=_STAGES))  # type: ignore[call-arg]  # of all backbones


def swin_tiny(names: Sequence[str]) -> Mask2FormerConfig:
    """As published, with Swin-T.

    Args:
        names: of the classes.
    """
    from transformers import SwinConfig

    return _config(names, SwinConfig(drop_path_rate=0.3, out_features=_STAGES))  # type: ignore[call-arg]


CORE_SIZES: Mapping[str, Callable[[Sequence[str]], Mask2FormerConfig]] = {
    "tiny": tiny,
    "r50": resnet50,
    "swin-t": swin_tiny,
}


def load_backbone(network: Mask2FormerForUniversalSegmentation, name: str) -> None:
    """Let a network begin from the weights of a backbone that was trained on pictures.

    Args:
        network: is changed.
        name: a folder as `save_pretrained` leaves it, or a model of the hub.

    Raises:
        InputError: there is no such model, or it is another kind of backbone.
    """
    own = network.model.pixel_level_module.encoder
    folder = pretrained_folder(name)
    kind = read_config(folder).get("model_type")
    if kind != own.config.model_type:
        raise InputError(f"{name} is a {kind}, but the backbone of this network is a {own.config.model_type}")
    found = type(own).from_pretrained(folder, out_features=_STAGES)
    try:
        own.load_state_dict(found.state_dict())
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{name} is no {kind} of the size of this network: {reason}") from error


def _config(names: Sequence[str], backbone: PreTrainedConfig, **sizes: Any) -> Mask2FormerConfig:
    from transformers import Mask2FormerConfig

    return Mask2FormerConfig(
        backbone_config=backbone,
        id2label=dict(enumerate(names)),
        label2id={name: n for n, name in enumerate(names)},
        **sizes,
    )
