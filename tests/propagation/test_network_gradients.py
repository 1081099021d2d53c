"""Gradients of the network's parts, which change tensors in place: equal to differences of what comes out."""

import pytest
import torch
from torch import nn

from maskstream.propagation.network import BackboneConfig
from maskstream.propagation.network.backbones import BasicBlock, Bottleneck
from maskstream.propagation.network.blocks import CBAM, Fuser, ResidualBlock, add_shared_, convolve_joined
from maskstream.propagation.network.decoder import DecoderUpdate, UpsampleBlock
from maskstream.propagation.network.key_encoder import PixelEncoder
from maskstream.propagation.network.mask_encoder import MaskEncoder

from .hashed import hashed

TINY = BackboneConfig(stem=2, widths=(2, 3, 4), depths=(1, 1, 1))
IMAGE, OBJECTS = (2, 3, 4, 4), (4, 2, 4, 4)


def inputs(*shapes):
    return tuple(hashed(f"input {n}", shape).double().requires_grad_() for n, shape in enumerate(shapes))


def assert_gradients(function, module, *shapes):
    """Of inputs and of weights."""
    given = inputs(*shapes)
    weights = tuple(module.parameters())

    def values(*tensors):
        return function(*tensors[: len(given)])

    assert torch.autograd.gradcheck(values, (*given, *weights), fast_mode=True)


def double(module, *, training=False):
    """With weights that are of no special value, as after some training."""
    for name, parameter in module.named_parameters():
        parameter.data = hashed(name, tuple(parameter.shape), -0.7, 0.8)
    return module.double().train(training)


@pytest.mark.parametrize("training", [False, True], ids=["frozen normalisation", "trained normalisation"])
@pytest.mark.parametrize(
    "block",
    [
        pytest.param(lambda: BasicBlock(3, 3), id="basic, same size"),
        pytest.param(lambda: BasicBlock(3, 4, stride=2), id="basic, smaller"),
        pytest.param(lambda: Bottleneck(8, 2), id="bottleneck, same size"),
        pytest.param(lambda: Bottleneck(3, 2, stride=2), id="bottleneck, smaller"),
    ],
)
def test_blocks_of_the_encoders(block, training):
    module = double(block(), training=training)
    assert_gradients(module, module, (2, module.conv1.in_channels, 4, 4))


@pytest.mark.parametrize("training", [False, True], ids=["frozen normalisation", "trained normalisation"])
def test_the_pixel_encoder(training):
    module = double(PixelEncoder(TINY, 3), training=training)
    assert_gradients(module, module, (2, 3, 32, 32))


@pytest.mark.parametrize("training", [False, True], ids=["frozen normalisation", "trained normalisation"])
def test_the_mask_encoder(training):
    module = double(
        MaskEncoder(TINY, image_dim=3, value_dim=16, sensory_dim=2, other_masks=False, shortcut_kernel=1),
        training=training,
    )

    def values(image, f16, masks, sensory):
        return module(image, f16, module.inputs(masks), sensory, deep_update=False)[0]

    assert_gradients(values, module, (2, 3, 32, 32), (2, 3, 2, 2), (2, 2, 32, 32), (2, 2, 2, 2, 2))


@pytest.mark.parametrize("dims", [(5, 5), (5, 4)], ids=["widths are equal", "widths differ"])
def test_residual_blocks(dims):
    module = double(ResidualBlock(*dims))
    assert_gradients(module, module, (2, 5, 4, 4))
    assert_gradients(module.joined, module, IMAGE, OBJECTS)


def test_convolutions_of_joined_channels():
    conv = double(nn.Conv2d(5, 4, 3, stride=2, padding=1))
    assert_gradients(lambda image, objects: convolve_joined(conv, image, objects), conv, IMAGE, OBJECTS)


def test_what_objects_share():
    assert_gradients(lambda x, shared: add_shared_(x * 1, shared), nn.Module(), (4, 3, 4, 4), IMAGE)


def test_a_fuser():
    module = double(Fuser(3, 2, 16))
    assert_gradients(module, module, IMAGE, OBJECTS)


def test_cbam():
    module = double(CBAM(16))
    assert_gradients(module, module, (2, 16, 3, 3))


def test_upsampling():
    module = double(UpsampleBlock(3, 2, shortcut_kernel=1))
    assert_gradients(module, module, (4, 3, 2, 2), IMAGE)


def test_scales_of_the_sensory_update():
    module = double(DecoderUpdate((3, 2, 2), 4, 2))
    assert_gradients(module.scales, module.g16_conv, (2, 3, 2, 2), (2, 2, 4, 4), (2, 2, 8, 8), (2, 1, 8, 8))
