"""ImageNet weights find their places in the encoders."""

import pytest
import torch
from safetensors.torch import save_file

from maskstream.propagation.network import PropagationNetwork
from maskstream.training.initial import load_image_backbone, load_mask_backbone
from maskstream.types import InputError
from tests.propagation.test_network import TINY


def resnet(encoder):
    """The stem and stages of an encoder as torchvision has them, with what comes after."""
    generator = torch.Generator().manual_seed(1)
    weights = {
        name.replace("res2.", "layer1."): torch.rand(tensor.shape, generator=generator)
        for name, tensor in encoder.state_dict().items()
        if name.startswith(("conv1", "bn1", "res2", "layer")) and not name.endswith("num_batches_tracked")
    }
    weights["conv1.weight"] = weights["conv1.weight"][:, :3].contiguous()
    return {**weights, "layer4.0.conv1.weight": torch.zeros(2), "fc.weight": torch.zeros(2), "fc.bias": torch.zeros(2)}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_the_pixel_encoder_begins_as_the_file_says(tmp_path, suffix):
    network, path = PropagationNetwork(TINY), tmp_path / f"resnet{suffix}"
    weights = resnet(network.pixel_encoder)
    torch.save(weights, path) if suffix == ".pth" else save_file(weights, path)
    load_image_backbone(network, path)
    found = network.pixel_encoder.state_dict()
    for name, tensor in weights.items():
        if not name.startswith(("layer4", "fc")):
            assert torch.equal(found[name.replace("layer1.", "res2.")], tensor), name


def test_what_the_mask_encoder_sees_of_masks_is_orthogonal(tmp_path):
    network, path = PropagationNetwork(TINY), tmp_path / "resnet.pth"
    weights = resnet(network.mask_encoder)
    torch.save(weights, path)
    load_mask_backbone(network, path)
    first = network.mask_encoder.conv1.weight.detach()
    assert torch.equal(first[:, :3], weights["conv1.weight"])
    rows = first[:, 3:].flatten(1)
    products = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
    assert torch.allclose(products, torch.eye(len(products)), atol=1e-5)
    assert torch.equal(network.get_parameter("mask_encoder.layer1.0.conv1.weight"), weights["layer1.0.conv1.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda w: w.pop("layer2.0.conv1.weight"), "another backbone", id="a layer missing"),
        pytest.param(lambda w: w.update({"layer1.9.conv1.weight": torch.ones(2)}), "another backbone", id="deeper"),
        pytest.param(lambda w: w.update({"bn1.bias": torch.ones(999)}), "another backbone", id="wider"),
        pytest.param(lambda w: w.update({"epoch": 3}), "something else", id="more than tensors"),
    ],
)
def test_weights_of_another_backbone_are_refused(tmp_path, change, message):
    network, path = PropagationNetwork(TINY), tmp_path / "resnet.pth"
    weights = resnet(network.pixel_encoder)
    change(weights)
    torch.save(weights, path)
    with pytest.raises(InputError, match=message):
        load_image_backbone(network, path)


@pytest.mark.parametrize("content", [None, b"", b"not weights"], ids=["missing", "empty", "junk"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "resnet.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"resnet\.pth cannot be read"):
        load_image_backbone(PropagationNetwork(TINY), path)
