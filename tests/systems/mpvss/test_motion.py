"""The motion module: sizes, cost, and probes of its parts (specification §3 and §12)."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from maskstream.mask2former.positions import position_codes
from maskstream.systems.mpvss.motion import Motion, MotionConfig, MotionEncoder
from maskstream.systems.mpvss.warp import warp

from ...mask2former.published import published
from ...propagation.hashed import hashed, hashed_weights

FOLDER = Path(__file__).with_name("names")
GOLDEN = json.loads(Path(__file__).with_name("golden_motion.json").read_text())
"""Of their module with these weights, pictures and queries; and of masks that mmtracking's function warps with it."""

SMALL: dict[str, Any] = {
    "dim": 16,
    "queries": 5,
    "widths": (4, 6, 8, 10, 10, 12),
    "heads": 2,
    "feedforward": 20,
    "motion_dim": 7,
    "decoder_widths": (6, 5, 4, 3),
}


def module(**changed):
    """A small one, with numbers made from names; what starts as a constant is not."""
    motion = Motion(MotionConfig(**{**SMALL, **changed}))
    motion.load_state_dict(hashed_weights({name: tensor.shape for name, tensor in motion.state_dict().items()}))
    return motion.eval()


def fresh(**changed):
    with torch.device("meta"):
        return Motion(MotionConfig(**changed))


def pictures(height: int = 64, width: int = 96, batch: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """A frame, a key frame, and queries for `module`."""
    frame, key = (hashed(name, (batch, 3, height, width), 0, 255) for name in ("frame", "key"))
    return frame, key, hashed("queries", (batch, 5, 16), -2, 2)


def count(part: nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())


# As published.


def test_it_has_as_many_parameters_as_the_authors_module():
    motion = fresh()
    assert (count(motion.encoder), count(motion.decoder), count(motion)) == (24_050_752, 16_034_394, 40_085_146)


def test_entries_are_those_of_the_authors_module():
    expected = published("motion", FOLDER)
    assert {f"motion.{name}": tensor.shape for name, tensor in fresh().state_dict().items()} == expected


@pytest.fixture(scope="module")
def theirs():
    """With 40 million numbers made from names."""
    motion = Motion(MotionConfig())
    weights = hashed_weights(published("motion", FOLDER))
    motion.load_state_dict({name.removeprefix("motion."): tensor for name, tensor in weights.items()})
    return motion.eval()


@pytest.mark.parametrize("size", sorted(GOLDEN))
@torch.inference_mode()
def test_answers_are_those_of_the_authors_own_module(theirs, size):
    height, width = map(int, size.split("x"))
    flow = theirs(*pictures(height, width)[:2], hashed("queries", (1, 100, 256), -2, 2))
    masks = warp(hashed("masks", (1, 100, 2 * flow.shape[-2], 2 * flow.shape[-1]), -10, 10), flow)
    for what, found, tolerance in (("flow", flow, 1e-4), ("masks", masks, 1e-2)):
        sampled = found.flatten()[torch.linspace(0, found.numel() - 1, 40).long()]
        assert torch.allclose(sampled, torch.tensor(GOLDEN[size][what]), rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    "size, encoder, decoder",
    [
        pytest.param((480, 864), 6.456, 9.238, id="VSPW"),
        pytest.param((1024, 2048), 32.195, 46.673, id="Cityscapes"),
    ],
)
def test_it_costs_what_the_paper_says(size, encoder, decoder):
    """In billions of multiplications with an addition; nothing is computed."""
    motion = fresh()
    picture = torch.empty(1, 3, *size, device="meta")
    with sdpa_kernel(SDPBackend.MATH):  # the others are not counted on every device
        with FlopCounterMode(display=False) as first:
            maps = motion.encoder(picture, picture)
        with FlopCounterMode(display=False) as second:
            flow = motion.decoder(maps, torch.empty(1, 100, 256, device="meta"))
    assert flow.shape == (1, 100, 2, size[0] // 8, size[1] // 8)
    assert first.get_total_flops() / 2e9 == pytest.approx(encoder, rel=0.005)
    assert second.get_total_flops() / 2e9 == pytest.approx(decoder, rel=0.005)


def test_where_nothing_moves_at_first_both_flows_learn_from_the_first_step_on():
    torch.manual_seed(0)
    motion = Motion(MotionConfig(**SMALL, consistent=True))
    motion(*pictures()).sum().backward()
    for part in (motion.decoder.get_submodule("predict_flow"), motion.decoder.output_head.layers[-1]):
        assert all(weight.grad is not None and weight.grad.any() for weight in part.parameters())


@pytest.mark.parametrize(
    "consistent, expected", [pytest.param(False, 1.0, id="as published"), pytest.param(True, 0.0, id="consistent")]
)
def test_flow_of_an_untrained_module_is_the_same_everywhere(consistent, expected):
    torch.manual_seed(0)
    flow = Motion(MotionConfig(**SMALL, consistent=consistent))(*pictures())
    assert torch.equal(flow, torch.full((1, 5, 2, 8, 12), expected))


# Encoder.


@pytest.mark.parametrize("size", [pytest.param((480, 864), id="padded"), pytest.param((479, 853), id="not yet padded")])
def test_maps_of_odd_sizes_are_rounded_up(size):
    with torch.device("meta"):
        maps = MotionEncoder(MotionConfig().widths)(torch.empty(1, 3, *size), torch.empty(1, 3, *size))
    assert [tuple(one.shape[1:]) for one in maps] == [
        (128, 60, 108),
        (256, 30, 54),
        (512, 15, 27),
        (512, 8, 14),
        (1024, 4, 7),
    ]


def test_pictures_are_padded_with_the_mean():
    motion = module()
    frame, key, queries = pictures(50, 75)
    mean = 255 * torch.tensor([0.411, 0.432, 0.450])[:, None, None]
    padded = [mean.expand(1, 3, 64, 96).clone() for _ in range(2)]
    for whole, part in zip(padded, (frame, key), strict=True):
        whole[..., :50, :75] = part
    found = motion(frame, key, queries)
    assert found.shape == (1, 5, 2, 8, 12)
    assert torch.allclose(found, motion(*padded, queries), atol=1e-5)


def test_the_frame_comes_before_the_key_frame():
    encoder = module().encoder
    frame, key, _ = pictures()
    with torch.no_grad():
        encoder.conv1[0].conv.weight[:, 3:] = 0
    assert torch.equal(encoder(frame, key)[0], encoder(frame, frame)[0])
    assert not torch.equal(encoder(frame, key)[0], encoder(key, key)[0])


@pytest.mark.parametrize(
    "size", [pytest.param(size, id="{}x{}".format(*size)) for size in ((1, 1), (33, 31), (97, 160))]
)
def test_flow_has_an_eighth_of_the_padded_size(size):
    flow = module()(*pictures(*size))
    assert flow.shape == (1, 5, 2, *(-(-side // 32) * 4 for side in size))
    assert flow.isfinite().all()


def test_pairs_of_a_batch_do_not_know_each_other():
    motion = module()
    together = pictures(40, 70, batch=2)
    flow = motion(*together)
    for n in range(2):
        assert torch.allclose(motion(*(one[n : n + 1] for one in together)), flow[n : n + 1], atol=1e-5)


# Decoder.


def with_fusion(**taps):
    """A module whose flow is made of single channels, such as ``x2`` of the third for x."""
    motion = module()
    fuse = motion.decoder.fuse_layer.conv
    nn.init.zeros_(fuse.weight)
    nn.init.zeros_(fuse.bias)
    with torch.no_grad():
        for tap, weight in taps.items():
            fuse.weight["xy".index(tap[0]), int(tap[1]), 1, 1] = weight
    return motion


@torch.no_grad()
def test_the_first_half_of_what_is_fused_is_the_same_for_all_queries():
    flow = with_fusion(x0=1, y1=1)(*pictures())
    assert flow.std() > 0.01
    assert torch.allclose(flow, flow[:, :1].expand_as(flow))
    assert torch.allclose(flow, module(flow="refined")(*pictures()).expand_as(flow), atol=1e-6)


@torch.no_grad()
def test_the_second_half_of_what_is_fused_is_of_each_query():
    flow = with_fusion(x2=1, y3=1)(*pictures())
    assert (flow[0, 0] - flow[0, 1]).abs().max() > 0.01
    assert torch.allclose(flow, module(flow="query")(*pictures()), atol=1e-6)


@torch.no_grad()
def test_x_is_of_the_second_half_of_the_motion_map():
    motion = module(flow="query")
    maps = motion.encoder(*pictures()[:2])
    queries: list[Tensor] = []
    motion.decoder.decoder_norm.register_forward_hook(lambda norm, given, found: queries.append(found))
    flow = motion.decoder(maps, pictures()[2])
    moves = motion.decoder.scale_layer(maps[0][0, :, 3, 4])  # of one place
    vector = motion.decoder.output_head(queries[0])[0, 2]  # of one query
    assert torch.allclose(flow[0, 2, :, 3, 4], torch.stack([vector @ moves[7:], vector @ moves[:7]]), atol=1e-5)


@pytest.mark.parametrize("stages", [1, 2])
@torch.no_grad()
def test_codes_are_added_to_what_goes_on_in_each_block(stages):
    """Where attention and feed-forward networks say nothing, normalised sums are left."""
    motion = module(levels=1, stages=stages)
    decoder = motion.decoder
    for name, parameter in decoder.named_parameters():
        if "out_proj" in name or "linear2" in name:
            nn.init.zeros_(parameter)
    seen: dict[str, Tensor] = {}
    decoder.decoder_norm.register_forward_hook(lambda norm, given, found: seen.update(queries=given[0]))
    decoder.predict_flow6.register_forward_hook(lambda conv, given, found: seen.update(coarsest=given[0]))
    frame, key, queries = pictures(200, 300)
    maps = motion.encoder(frame, key)
    decoder(maps, queries)
    places = decoder.input_proj[0](maps[-1]) + decoder.level_embed.weight[0][:, None, None]
    for attention, network in zip(
        decoder.transformer_self_attention_layers, decoder.transformer_ffn_layers, strict=True
    ):
        queries = network.norm(attention.norm(queries + decoder.query_embed.weight))
        coded = places + position_codes(places.shape[2:], 16)
        places = network.norm(attention.norm(coded.movedim(1, -1))).movedim(-1, 1)
    assert torch.allclose(seen["queries"], queries, atol=1e-5)
    assert torch.allclose(seen["coarsest"], places, atol=1e-5)


@torch.no_grad()
def test_blocks_look_at_the_coarsest_map_first():
    motion = module()
    seen: list[int] = []
    for block in motion.decoder.transformer_ffn_layers:
        block.register_forward_hook(lambda block, given, found: seen.append(found.shape[1] - 5))
    motion(*pictures(128, 256))
    assert seen == 3 * [1 * 2, 2 * 4, 4 * 8]


# Variants of the paper's tables.


@pytest.mark.parametrize(
    "flow, queries, looks",
    [
        pytest.param("fused", 5, True, id="the method"),
        pytest.param("query", 5, True, id="of queries alone"),
        pytest.param("refined", 1, True, id="of pixels, refined by queries"),
        pytest.param("pixel", 1, False, id="of pixels alone"),
    ],
)
@torch.no_grad()
def test_flow_is_of_queries_or_for_all(flow, queries, looks):
    motion = module(flow=flow)
    frame, key, ours = pictures(50, 75)
    found = motion(frame, key, ours)
    assert found.shape == (1, queries, 2, 8, 12)
    assert torch.equal(motion(frame, key, ours.flip(1)), found) != looks
    assert not torch.equal(motion(frame, frame, ours), found)


@pytest.mark.parametrize("query, trained", [("key", None), ("learned", True), ("random", False)])
def test_queries_are_the_key_frames_or_its_own(query, trained):
    motion = module(query=query)
    frame, key, ours = pictures()
    assert torch.equal(motion(frame, key, ours), motion(frame, key, ours + 1)) == (trained is not None)
    names = {name for name, _ in motion.named_parameters()}
    assert ("decoder.query_feat.weight" in names) == (trained is not None)
    if trained is not None:
        motion(frame, key, ours).square().sum().backward()
        assert motion.decoder.query_feat.weight.requires_grad == trained
        assert (motion.decoder.query_feat.weight.grad is not None) == trained


def test_every_parameter_is_trained():
    motion = module()
    motion(*pictures(64, 128)).square().sum().backward()
    still = [name for name, one in motion.named_parameters() if one.grad is None or not one.grad.any()]
    assert still == []


FLOWNET = {
    **{f"predict_flow{n or ''}": (2, width, 3, 3) for n, width in ((6, 1024), (5, 1026), (4, 770), (3, 386), (0, 194))},
    **{f"deconv{n}": shape for n, shape in ((5, (1024, 512, 4, 4)), (4, (1026, 256, 4, 4)), (3, (770, 128, 4, 4)))},
    "deconv2": (386, 64, 4, 4),
    **{f"upsample_flow{n}": (2, 2, 4, 4) for n in (5, 4, 3, 2)},
}
"""The expanding part of FlowNetS, as mmtracking calls it."""


def test_flow_of_pixels_alone_is_flownet_under_mmtrackings_names():
    motion = fresh(flow="pixel", decoder_widths=(512, 256, 128, 64))
    assert {name: tuple(tensor.shape) for name, tensor in motion.decoder.state_dict().items()} == {
        f"{name}.conv.weight": shape for name, shape in FLOWNET.items()
    }
    assert count(motion) == 38_675_536  # 38.68 M in the paper's tables


def test_flow_of_queries_alone_is_as_large_as_in_the_papers_tables():
    assert count(fresh(flow="query")) == 37_555_264  # 37.56 M


def test_normalisation_is_that_of_the_authors():
    seen: list[Tensor] = []
    encoder: Any = MotionEncoder((1, 1, 1, 1, 1, 1))
    encoder.conv1.register_forward_pre_hook(lambda conv, given: seen.append(given[0]))
    encoder(torch.full((1, 3, 32, 64), 255.0), torch.zeros(1, 3, 32, 64))
    expected = torch.tensor([0.589, 0.568, 0.55, -0.411, -0.432, -0.45])[None, :, None, None]
    assert torch.allclose(seen[0], expected.expand(1, 6, 16, 32))
