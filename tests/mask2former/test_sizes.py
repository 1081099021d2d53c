"""Query cores to train."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoBackbone, Mask2FormerForUniversalSegmentation, ResNetConfig

from maskstream.mask2former.network import ClipMask2Former
from maskstream.mask2former.sizes import CORE_SIZES, load_backbone, new_network, tiny
from maskstream.types import InputError

from .networks import small_network
from .test_network import pixels


def test_the_tiny_core_is_small_and_saved_as_transformers_do(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = new_network(tiny(["cat", "dog"])).eval()
    assert sum(weight.numel() for weight in network.parameters()) * 2 < 16e6  # bytes of float16
    network.save_pretrained(tmp_path)
    again = Mask2FormerForUniversalSegmentation.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        one, other = (ClipMask2Former(some, time_code=False)(pixels(1))[-1] for some in (network, again))
    torch.testing.assert_close(one.masks_bqthw, other.masks_bqthw)


@pytest.mark.parametrize("size", CORE_SIZES)
def test_all_sizes_name_their_classes(size: str) -> None:
    config = CORE_SIZES[size](["cat", "dog"])
    assert config.id2label == {0: "cat", 1: "dog"}
    assert config.num_labels == 2


def test_a_backbone_trained_elsewhere_is_taken_over(tmp_path: Path) -> None:
    other = small_network(1).model.pixel_level_module.encoder
    other.save_pretrained(tmp_path)
    network = small_network(0)
    load_backbone(network, str(tmp_path))
    for name, weight in network.model.pixel_level_module.encoder.state_dict().items():
        torch.testing.assert_close(weight, other.state_dict()[name])


def test_a_backbone_of_another_size_is_refused(tmp_path: Path) -> None:
    config = ResNetConfig(embedding_size=4, hidden_sizes=[4, 4, 4, 4], depths=[1, 1, 1, 1], layer_type="basic")
    AutoBackbone.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="is no resnet of the size of this network"):
        load_backbone(small_network(), str(tmp_path))


def test_another_kind_of_backbone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "swin"}')
    with pytest.raises(InputError, match="is a swin, but the backbone of this network is a resnet"):
        load_backbone(small_network(), str(tmp_path))
