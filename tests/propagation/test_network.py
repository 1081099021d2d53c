"""The propagation network: equal to the authors', of the published size, and the same however it is called."""

import json
from dataclasses import replace
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from maskstream.propagation.network import BackboneConfig, NetworkConfig, PropagationNetwork, aggregate
from maskstream.propagation.network.blocks import CBAM, Fuser, GatedUpdate, convolve_joined

from .golden import GOLDEN, HEIGHT, TOLERANCE, WIDTH, Inputs, hashed_network, outputs, samples
from .hashed import hashed, hashed_weights

TINY = NetworkConfig(
    image_backbone=BackboneConfig(block="bottleneck", stem=8, widths=(8, 8, 16), depths=(1, 2, 1)),
    mask_backbone=BackboneConfig(stem=8, widths=(8, 16, 24), depths=(2, 1, 1)),
    pixel_dim=24,
    key_dim=8,
    value_dim=32,
    sensory_dim=16,
    decoder_dims=(48, 16, 8),
    update_dim=24,
)
"""Of DEVA's form, and different widths everywhere, so that none can be mistaken for another."""

TINY_XMEM = replace(
    TINY,
    pixel_dim=None,
    skip_kernel=3,
    shortcut_kernel=3,
    compress_sensory=False,
    other_masks=True,
    auxiliary=False,
    upsample_first=True,
)
"""Of XMem's form."""

TINY_GUIDED = replace(TINY, guide_dim=12)
"""Of DEVA's form, with a guide of flow and colour."""

FORMS = [
    pytest.param(TINY, id="deva"),
    pytest.param(TINY_XMEM, id="xmem"),
    pytest.param(TINY_GUIDED, id="guided"),
]


@pytest.fixture(scope="module")
def networks():
    """Networks by config, each made once; for tests that leave them as they are."""
    return cache(hashed_network)


@pytest.fixture(scope="module")
def deva():
    return hashed_network(NetworkConfig.deva())


# Equal to the authors'.


def assert_golden(name, network):
    golden = json.loads(GOLDEN.read_text())[name]
    found = outputs(network, Inputs.hashed(network.config))
    assert set(golden["samples"]) == set(found)
    for key, numbers in golden["samples"].items():
        assert golden["largest_difference"][key] <= TOLERANCE
        assert (samples(key, found[key]) - torch.tensor(numbers)).abs().max() <= TOLERANCE, key


def test_every_output_equals_that_of_devas_authors(deva):
    assert_golden("deva", deva)


def test_every_output_equals_that_of_xmems_authors():
    assert_golden("xmem", hashed_network(NetworkConfig.xmem()))


def test_the_golden_network_is_not_saturated():
    golden = json.loads(GOLDEN.read_text())
    for name in ("deva", "xmem"):
        logits = torch.tensor(golden[name]["samples"]["logits"])
        assert 0.3 < logits.std() < 3
        assert logits.abs().max() < 6


# Of the published form.


def published_shapes():
    """Specification §1.1, written out."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name, out, of, kernel, *, bias=True):
        shapes[f"{name}.weight"] = (out, of, kernel, kernel)
        if bias:
            shapes[f"{name}.bias"] = (out,)

    def norm(name, width):
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = (width,)
        shapes[f"{name}.num_batches_tracked"] = ()

    def stem(name, of):
        conv(f"{name}.conv1", 64, of, 7, bias=False)
        norm(f"{name}.bn1", 64)

    def stage(name, of, width, out, depth, kernels):
        for i in range(depth):
            dims = [of if i == 0 else out, *[width] * (len(kernels) - 1), out]
            for k, kernel in enumerate(kernels, 1):
                conv(f"{name}.{i}.conv{k}", dims[k], dims[k - 1], kernel, bias=False)
                norm(f"{name}.{i}.bn{k}", dims[k])
        if name != "mask_encoder.layer1":
            conv(f"{name}.0.downsample.0", out, of, 1, bias=False)
            norm(f"{name}.0.downsample.1", out)

    def fuser(name, of):
        conv(f"{name}.block1.downsample", 512, of, 1)
        conv(f"{name}.block1.conv1", 512, of, 3)
        for block in ("block1.conv2", "block2.conv1", "block2.conv2"):
            conv(f"{name}.{block}", 512, 512, 3)
        for layer, shape in ((1, (32, 512)), (3, (512, 32))):
            shapes[f"{name}.attention.ChannelGate.mlp.{layer}.weight"] = shape
            shapes[f"{name}.attention.ChannelGate.mlp.{layer}.bias"] = shape[:1]
        conv(f"{name}.attention.SpatialGate.spatial.conv", 1, 2, 7)

    stem("pixel_encoder", 3)
    stage("pixel_encoder.res2", 64, 64, 256, 3, (1, 3, 1))
    stage("pixel_encoder.layer2", 256, 128, 512, 4, (1, 3, 1))
    stage("pixel_encoder.layer3", 512, 256, 1024, 6, (1, 3, 1))
    conv("pixel_encoder.proj1", 512, 1024, 1)
    conv("pixel_encoder.proj2", 512, 1024, 1)
    stem("mask_encoder", 4)
    for layer, of, width in ((1, 64, 64), (2, 64, 128), (3, 128, 256)):
        stage(f"mask_encoder.layer{layer}", of, width, width, 2, (3, 3))
    fuser("mask_encoder.fuser", 768)
    conv("mask_encoder.sensory_update.transform", 1536, 1024, 3)
    for name, width in (("key_proj", 64), ("d_proj", 1), ("e_proj", 64)):
        conv(f"key_proj.{name}", width, 512, 3)
    fuser("mask_decoder.fuser", 1024)
    conv("mask_decoder.sensory_compress", 512, 513, 1)
    for name, of in (("g16_conv", 512), ("g8_conv", 256), ("g4_conv", 257)):
        conv(f"mask_decoder.sensory_update.{name}", 512, of, 1)
    conv("mask_decoder.sensory_update.transform", 1536, 1024, 3)
    conv("mask_decoder.decoder_feat_proc.transforms.0", 512, 512, 1)
    conv("mask_decoder.decoder_feat_proc.transforms.1", 256, 256, 1)
    conv("mask_decoder.up_16_8.out_conv.downsample", 256, 512, 1)
    conv("mask_decoder.up_16_8.out_conv.conv1", 256, 512, 3)
    for name in ("up_16_8.out_conv.conv2", "up_8_4.out_conv.conv1", "up_8_4.out_conv.conv2"):
        conv(f"mask_decoder.{name}", 256, 256, 3)
    conv("mask_decoder.pred", 1, 256, 3)
    conv("mask_decoder.sensory_linear_pred.projection", 513, 512, 1)
    return shapes


def blank(config):
    with torch.device("meta"):
        return PropagationNetwork(config)


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_deva_has_the_published_names_and_shapes():
    found = {name: tuple(tensor.shape) for name, tensor in blank(NetworkConfig.deva()).state_dict().items()}
    assert found == published_shapes()
    assert len(found) == 420


@pytest.mark.parametrize(
    ("part", "entries", "count"),
    [
        ("pixel_encoder", 262, 9_592_896),
        ("mask_encoder", 108, 27_989_251),
        ("key_proj", 6, 594_561),
        ("mask_decoder", 44, 30_978_949),
        ("mask_decoder.sensory_linear_pred", 2, 263_169),
        ("", 420, 69_155_657),
    ],
)
def test_parts_of_deva_have_the_published_sizes(part, entries, count):
    module = blank(NetworkConfig.deva()).get_submodule(part)
    assert (len(module.state_dict()), parameters(module)) == (entries, count)


def test_xmem_has_the_published_size():
    network = blank(NetworkConfig.xmem())
    assert (len(network.state_dict()), parameters(network)) == (412, 62_185_224)


def test_the_small_network_has_at_most_eight_million_parameters():
    network = blank(NetworkConfig.small())
    assert parameters(network) <= 8_000_000
    assert 2 * sum(tensor.numel() for tensor in network.state_dict().values()) < 16_000_000


def test_the_small_decoder_works_an_eighth_as_much_as_devas(deva, networks):
    work = []
    for network in (deva, networks(NetworkConfig.small())):
        given = Inputs.hashed(network.config, objects=1)
        with torch.no_grad():
            features = network.encode_image(given.image_b3hw)
            with FlopCounterMode(display=False) as counter:
                network.decode(
                    features,
                    given.readout_bnchw,
                    given.sensory_bnchw,
                    given.masks_bnhw,
                    update_sensory=True,
                    guide_bnchw=given.guide_bnchw,
                )
        work.append(counter.get_total_flops())
    assert 8 * work[1] < work[0]


@pytest.mark.parametrize("config", FORMS)
def test_outputs_have_the_documented_shapes(networks, config):
    network, given = networks(config), Inputs.hashed(config, batch=2)
    found = {name: tuple(output.shape) for name, output in outputs(network, given).items()}
    h, w = HEIGHT // 16, WIDTH // 16
    f16_dim, _, _ = config.image_dims
    expected = {
        "f16": (2, f16_dim, h, w),
        "f8": (2, 48, 2 * h, 2 * w),
        "f4": (2, 16, 4 * h, 4 * w),
        "key": (2, 8, h, w),
        "shrinkage": (2, 1, h, w),
        "selection": (2, 8, h, w),
        "value": (2, 3, 32, h, w),
        "sensory, deep": (2, 3, 16, h, w),
        "sensory": (2, 3, 16, h, w),
        "logits": (2, 3, 4 * h, 4 * w),
        "log-odds": (2, 4, HEIGHT, WIDTH),
        "probabilities": (2, 4, HEIGHT, WIDTH),
        "probabilities, selected": (2, 4, HEIGHT, WIDTH),
    }
    if config.auxiliary:
        expected |= {"auxiliary": (2, 3, h, w), "auxiliary probabilities": (2, 4, HEIGHT, WIDTH)}
    assert found == expected


# The same however it is called.


def close(found, expected, tolerance=1e-5):
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


@torch.inference_mode()
def parts(network, given, features=None, **options):
    """What depends on objects: value, deep sensory, logits, sensory."""
    features = features or network.encode_image(given.image_b3hw)
    return (
        *network.encode_masks(
            given.image_b3hw, features, given.masks_bnhw, given.sensory_bnchw, deep_update=True, **options
        ),
        *network.decode(
            features,
            given.readout_bnchw,
            given.sensory_bnchw,
            given.masks_bnhw,
            update_sensory=True,
            guide_bnchw=given.guide_bnchw,
            **options,
        ),
    )


def of(given, images=slice(None), objects=slice(None)):
    """Some images and objects of the inputs."""
    return Inputs(
        given.image_b3hw[images],
        given.masks_bnhw[images, objects],
        given.sensory_bnchw[images, objects],
        given.readout_bnchw[images, objects],
        given.selector_bn[images, objects],
        None if given.guide_bnchw is None else given.guide_bnchw[images, objects],
    )


def test_objects_together_are_as_one_by_one(networks):
    network, given = networks(TINY), Inputs.hashed(TINY, objects=4)
    together = parts(network, given)
    for n in range(4):
        alone = parts(network, of(given, objects=slice(n, n + 1)))
        for many, one in zip(together, alone, strict=True):
            close(many[:, n : n + 1], one)


@pytest.mark.parametrize("config", FORMS)
def test_images_together_are_as_one_by_one(networks, config):
    network, given = networks(config), Inputs.hashed(config, batch=3, objects=2)
    together = parts(network, given)
    for b in range(3):
        alone = parts(network, of(given, images=slice(b, b + 1)))
        for many, one in zip(together, alone, strict=True):
            close(many[b : b + 1], one)


@pytest.mark.parametrize("config", FORMS)
@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 100])
def test_objects_in_chunks_are_as_all_at_once(networks, config, chunk):
    network, given = networks(config), Inputs.hashed(config, batch=2, objects=5)
    for found, expected in zip(parts(network, given, chunk=chunk), parts(network, given), strict=True):
        close(found, expected)


def test_channels_last_gives_the_same(networks):
    network, given = networks(TINY), Inputs.hashed(TINY, batch=2)
    other = hashed_network(TINY)
    for parameter in other.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    for name, expected in outputs(network, given).items():
        close(outputs(other, given)[name], expected)


def test_without_objects_there_is_only_background(networks):
    network, given = networks(TINY), Inputs.hashed(TINY, objects=0)
    value, deep, logits, sensory = parts(network, given)
    h, w = HEIGHT // 16, WIDTH // 16
    assert value.shape == (1, 0, 32, h, w)
    assert deep.shape == sensory.shape == (1, 0, 16, h, w)
    assert logits.shape == (1, 0, 4 * h, 4 * w)
    probabilities = network.probabilities(logits)
    assert probabilities.shape == (1, 1, HEIGHT, WIDTH)
    assert (probabilities == 1).all()


def test_the_smallest_frame_is_one_place(networks):
    network = networks(TINY)
    image, masks, sensory = torch.zeros(1, 3, 16, 16), torch.zeros(1, 2, 16, 16), torch.zeros(1, 2, 16, 1, 1)
    features = network.encode_image(image)
    value, sensory = network.encode_masks(image, features, masks, sensory, deep_update=True)
    logits, sensory = network.decode(features, value, sensory, masks, update_sensory=True)
    assert network.probabilities(logits).shape == (1, 3, 16, 16)
    assert sensory.shape == (1, 2, 16, 1, 1)


def test_sensory_memory_comes_back_as_it_was_unless_updated(networks):
    network, given = networks(TINY), Inputs.hashed(TINY)
    features = network.encode_image(given.image_b3hw)
    sensory = given.sensory_bnchw
    _, deep = network.encode_masks(given.image_b3hw, features, given.masks_bnhw, sensory, deep_update=False)
    _, next_frame = network.decode(features, given.readout_bnchw, sensory, given.masks_bnhw, update_sensory=False)
    assert torch.equal(deep, sensory)
    assert torch.equal(next_frame, sensory)


@pytest.mark.parametrize("config", FORMS)
def test_an_unselected_object_is_background(networks, config):
    logits = hashed("logits", (1, 3, 8, 8), -4, 4)
    selected = networks(config).probabilities(logits, torch.tensor([[1, 0, 1]]))
    without = networks(config).probabilities(logits[:, [0, 2]])
    close(selected[:, 2], torch.zeros(1, 32, 32), 1e-6)
    close(selected[:, [0, 1, 3]], without, 1e-6)


def test_folded_normalisation_gives_the_same(networks):
    given = Inputs.hashed(TINY)
    folded = hashed_network(TINY).fold_normalisation_()
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    for name, expected in outputs(networks(TINY), given).items():
        close(outputs(folded, given)[name], expected, 1e-4)


# Lower precision.

ISLANDS = ("shrinkage", "sensory", "sensory, deep", "logits", "log-odds", "probabilities")


def relative_error(found, expected):
    return float((found.float() - expected).norm() / expected.norm())


@pytest.mark.parametrize("config", FORMS)
def test_islands_stay_in_float32_under_autocast(networks, config):
    network, given = networks(config), Inputs.hashed(config)
    with torch.autocast("cpu", torch.bfloat16):
        lower = outputs(network, given)
    assert all(lower[name].dtype == torch.float32 for name in ISLANDS)
    assert all(lower[name].dtype == torch.bfloat16 for name in ("f16", "key", "value"))
    for name in ISLANDS:  # computed in float32, not converted to it at the end
        assert (lower[name] != lower[name].bfloat16()).any()
    for name, expected in outputs(network, given).items():
        assert relative_error(lower[name], expected) < 0.03, name


def test_a_network_cast_as_a_whole_keeps_its_islands():
    given = Inputs.hashed(TINY)
    network = hashed_network(TINY)
    expected = outputs(network, given)
    found = outputs(network.bfloat16(), given)
    assert all(found[name].dtype == torch.float32 for name in ISLANDS)
    for name in expected:
        assert relative_error(found[name], expected[name]) < 0.03, name


# Training.


@pytest.mark.parametrize("config", FORMS)
def test_every_parameter_gets_a_gradient(config):
    network, given = hashed_network(config), Inputs.hashed(config, batch=2)
    first = network.encode_image(given.image_b3hw)
    value, sensory = network.encode_masks(
        given.image_b3hw, first, given.masks_bnhw, given.sensory_bnchw, deep_update=True
    )
    logits, sensory = network.decode(
        first, value, sensory, given.masks_bnhw, update_sensory=True, guide_bnchw=given.guide_bnchw
    )
    loss = network.probabilities(logits, given.selector_bn).square().mean() + sensory.square().mean()
    for term in (first.key_bchw, first.shrinkage_b1hw, first.selection_bchw):
        loss = loss + term.square().mean()
    if config.auxiliary:
        loss = loss + network.auxiliary(first, sensory).square().mean()
    loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


# Parts.


def test_a_gated_update_of_nothing_keeps_a_quarter():
    update = GatedUpdate(3, 2)
    for parameter in update.parameters():
        torch.nn.init.zeros_(parameter)
    state = hashed("state", (1, 2, 4, 4))
    close(update(torch.zeros(1, 3, 4, 4), state), 0.25 * state)


def test_the_share_of_the_image_is_as_if_channels_were_joined():
    conv = torch.nn.Conv2d(5, 4, 3, stride=2, padding=1)
    image, objects = hashed("image", (2, 3, 8, 8)), hashed("objects", (6, 2, 8, 8))
    joined = torch.cat([image.repeat_interleave(3, 0), objects], dim=1)
    close(convolve_joined(conv, image, objects), conv(joined))


@pytest.mark.parametrize("out_dim", [48, 32], ids=["widths differ", "widths are equal"])
def test_a_fuser_is_as_if_channels_were_joined(out_dim):
    fuser = Fuser(20, 12, out_dim)
    fuser.load_state_dict(hashed_weights({name: tensor.shape for name, tensor in fuser.state_dict().items()}))
    image, objects = hashed("image", (2, 20, 6, 6)), hashed("objects", (4, 12, 6, 6))
    x = fuser.block1(torch.cat([image.repeat_interleave(2, 0), objects], dim=1))
    close(fuser(image, objects), fuser.block2(x + fuser.attention(x)))


def test_cbam_gates_channels_then_places():
    cbam = CBAM(32)
    x = hashed("x", (1, 32, 5, 7))
    mlp, spatial = cbam.ChannelGate.mlp, cbam.SpatialGate.spatial
    channels = torch.sigmoid(mlp(F.avg_pool2d(x, (5, 7))) + mlp(F.max_pool2d(x, (5, 7))))
    y = x * channels[:, :, None, None]
    places = torch.sigmoid(spatial(torch.cat([y.max(1, keepdim=True).values, y.mean(1, keepdim=True)], 1)))
    close(cbam(x), y * places)


def test_aggregation_has_the_published_extremes():
    found = aggregate(torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)).flatten()
    close(found, torch.tensor([-16.1181, 15.9424, -16.1181]), 1e-3)


@pytest.mark.parametrize("chosen", [0, 1, 2, 3], ids=["background", "first", "second", "third"])
def test_aggregating_a_hard_mask_returns_it(chosen):
    one_hot = F.one_hot(torch.tensor(chosen), 4).float()
    odds = aggregate(one_hot[1:].view(1, 3, 1, 1))
    close(odds.softmax(dim=1).flatten(), one_hot, 1e-6)


# What does not fit.


def test_an_image_that_is_not_padded_is_refused(networks):
    with pytest.raises(ValueError, match="the image is 96×150: pad both to multiples of 16"):
        networks(TINY).encode_image(torch.zeros(1, 3, 96, 150))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masks_bnhw": torch.zeros(1, 3, 48, 80)}, "masks are 48×80 but the image is 96×160"),
        ({"masks_bnhw": torch.zeros(1, 2, 96, 160)}, "batch × objects differ .*: 1×2, 1×3"),
    ],
    ids=["size", "number of objects"],
)
def test_masks_that_do_not_fit_are_refused(networks, change, message):
    network, given = networks(TINY), replace(Inputs.hashed(TINY), **change)
    features = network.encode_image(given.image_b3hw)
    with pytest.raises(ValueError, match=message):
        network.encode_masks(given.image_b3hw, features, given.masks_bnhw, given.sensory_bnchw, deep_update=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masks_bnhw": torch.zeros(1, 3, 48, 80)}, "last masks are 48×80; this read-out needs 96×160"),
        ({"readout_bnchw": torch.zeros(1, 2, 32, 6, 10)}, "batch × objects differ .*: 1×2, 1×3, 1×3"),
    ],
    ids=["size", "number of objects"],
)
def test_a_read_out_that_does_not_fit_is_refused(networks, change, message):
    network, given = networks(TINY), replace(Inputs.hashed(TINY), **change)
    features = network.encode_image(given.image_b3hw)
    with pytest.raises(ValueError, match=message):
        network.decode(features, given.readout_bnchw, given.sensory_bnchw, given.masks_bnhw, update_sensory=True)


def test_chunks_of_no_objects_are_refused(networks):
    with pytest.raises(ValueError, match="chunk is 0: at least one object"):
        parts(networks(TINY), Inputs.hashed(TINY), chunk=0)


def test_a_network_without_an_auxiliary_head_says_so(networks):
    network = networks(TINY_XMEM)
    given = Inputs.hashed(network.config)
    with pytest.raises(ValueError, match="no auxiliary head"):
        network.auxiliary(network.encode_image(given.image_b3hw), given.sensory_bnchw)
