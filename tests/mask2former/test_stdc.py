"""STDC: sizes and names as published, and its place among the backbones of `transformers`."""

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoBackbone, AutoConfig, Mask2FormerConfig, Mask2FormerForUniversalSegmentation

from maskstream.mask2former.stdc import STDC1, STDC2, StdcBackbone, StdcConfig
from maskstream.types import InputError

from ..propagation.hashed import hashed, hashed_weights
from .published import published

STAGES = ["stage1", "stage2", "stage3", "stage4"]


def config_with(**options):
    """All stages come out."""
    return StdcConfig(**{"out_features": STAGES, **options})


def backbone(**options):
    """With weights made from names."""
    network = StdcBackbone(config_with(**options)).eval()
    network.load_state_dict(hashed_weights({name: tensor.shape for name, tensor in network.state_dict().items()}))
    return network


@pytest.mark.parametrize(
    "depths, published_as, parameters",
    [
        pytest.param(STDC1, "mmdet-stdc1", 5_318_304, id="STDC1"),
        pytest.param(STDC2, "mmdet-stdc2", 9_348_768, id="STDC2"),
    ],
)
def test_names_and_sizes_are_those_of_the_authors(depths, published_as, parameters):
    with torch.device("meta"):
        network = StdcBackbone(StdcConfig(depths=depths))
    theirs = {name: size for name, size in published(published_as).items() if name.startswith("backbone.")}
    assert {f"backbone.{name}": tensor.shape for name, tensor in network.state_dict().items()} == theirs
    assert network.num_parameters() == parameters


def test_stages_are_at_strides_4_to_32():
    network = backbone(embedding_size=16)
    maps = network(torch.zeros(2, 3, 64, 96)).feature_maps
    assert network.channels == [16, 64, 128, 256]
    assert [tuple(x.shape) for x in maps] == [(2, 16, 16, 24), (2, 64, 8, 12), (2, 128, 4, 6), (2, 256, 2, 3)]


def test_only_stages_asked_for_come_out():
    network = backbone(embedding_size=16, out_features=["stem", "stage3"])
    found = network(torch.zeros(1, 3, 32, 32), output_hidden_states=True)
    assert network.channels == [8, 128]
    assert [x.shape[1] for x in found.feature_maps] == [8, 128]
    assert [x.shape[1] for x in found.hidden_states] == [8, 16, 64, 128, 256]


def test_sides_that_are_no_multiples_of_32_are_rounded_up():
    maps = backbone(embedding_size=16)(torch.zeros(1, 3, 50, 37)).feature_maps
    assert [tuple(x.shape[2:]) for x in maps] == [(13, 10), (7, 5), (4, 3), (2, 2)]


@pytest.mark.parametrize("n, stride", [pytest.param(2, 2, id="first of a stage"), pytest.param(3, 1, id="another")])
def test_a_block_joins_what_its_four_convolutions_saw(n, stride):
    network = backbone(embedding_size=16)
    state = network.state_dict()
    x = hashed("x", (1, 16 if n == 2 else 64, 7, 9))

    def normed(x, name):
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        return F.batch_norm(x, mean, var, state[f"{name}.weight"], state[f"{name}.bias"])

    def conv(x, k):
        part = f"x8.0.{n}.conv_list.{k}"
        return normed(F.conv2d(x, state[f"{part}.conv.weight"], padding=1 if k else 0), f"{part}.bn").relu()

    a = conv(x, 0)
    deeper = a
    if stride == 2:
        shrunk = F.conv2d(a, state[f"x8.0.{n}.avd_layer.0.weight"], stride=2, padding=1, groups=32)
        deeper = normed(shrunk, f"x8.0.{n}.avd_layer.1")
        a = F.conv2d(a, torch.full((32, 1, 3, 3), 1 / 9), stride=2, padding=1, groups=32)
    b = conv(deeper, 1)
    c = conv(b, 2)
    wanted = torch.cat([a, b, c, conv(c, 3)], dim=1)
    assert torch.allclose(network.get_submodule(f"x8.0.{n}")(x), wanted, atol=1e-6)


def test_it_is_a_backbone_of_mask2former_that_is_saved_and_loaded(tmp_path):
    config = Mask2FormerConfig(
        backbone_config=config_with(embedding_size=16, depths=STDC2),
        encoder_layers=1,
        decoder_layers=2,
        num_queries=5,
    )
    network = Mask2FormerForUniversalSegmentation(config).eval()
    network.save_pretrained(tmp_path)
    again = Mask2FormerForUniversalSegmentation.from_pretrained(tmp_path, local_files_only=True).eval()
    backbone = again.config.backbone_config
    assert (backbone.depths, backbone.embedding_size, backbone.out_features) == ([4, 5, 3], 16, STAGES)
    x = hashed("picture", (1, 3, 64, 64))
    assert torch.equal(network(x).masks_queries_logits, again(x).masks_queries_logits)


def test_it_is_known_by_its_kind():
    config = AutoConfig.for_model("stdc", depths=STDC2, embedding_size=16)
    assert isinstance(config, StdcConfig)
    assert isinstance(AutoBackbone.from_config(config), StdcBackbone)


def test_new_weights_keep_the_scale_of_a_picture():
    torch.manual_seed(0)
    network = StdcBackbone(config_with()).train()
    scales = [float(x.detach().std()) for x in network(torch.randn(2, 3, 64, 64)).feature_maps]
    assert all(0.2 < scale < 2 for scale in scales)


@pytest.mark.parametrize(
    "options, message",
    [
        pytest.param({"depths": [2, 2]}, "depths", id="two stages"),
        pytest.param({"depths": [2, 0, 2]}, "depths", id="an empty stage"),
        pytest.param({"embedding_size": 9}, "embedding_size .* is 9", id="an odd width"),
    ],
)
def test_sizes_that_do_not_exist_are_one_clear_line(options, message):
    with pytest.raises(InputError, match=message):
        StdcConfig(**options)
