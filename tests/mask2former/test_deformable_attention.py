"""Deformable attention: every way of computing it against a loop over points, and against `transformers`."""

import copy
import errno
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from math import floor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers.models.deformable_detr.modeling_deformable_detr import MultiScaleDeformableAttention

from maskstream.mask2former import _deformable_kernel, deformable_attention, use_fast_attention
from maskstream.mask2former.deformable_attention import _by_grids, _by_rows, deformable_points
from maskstream.mask2former.transformers_attention import FastAttention, FastCore

from ..segmenters.test_oneformer import build as build_oneformer
from ..segmenters.tiny_models import save_grounding_dino
from .networks import small_network

LEVELS = [(5, 7), (1, 1), (2, 9), (1, 4)]


def by_kernel(*inputs):
    pytest.importorskip("numba")
    return _deformable_kernel.attend(*inputs)


def theirs(value, shapes, locations, weights):
    return MultiScaleDeformableAttention()(value, None, shapes, None, locations, weights, 64)


def one_by_one(value, shapes, locations, weights):
    """Of every query, head, level and point, the four positions around it."""
    batch, queries, heads, levels, points, _ = locations.shape
    out = torch.zeros(batch, queries, heads, value.shape[3])
    for b, q, h, n, p in torch.cartesian_prod(*map(torch.arange, (batch, queries, heads, levels, points))).tolist():
        height, width = shapes[n]
        start = sum(rows * columns for rows, columns in shapes[:n])
        x, y = (locations[b, q, h, n, p] * torch.tensor([width, height]) - 0.5).tolist()
        for row in (floor(y), floor(y) + 1):
            for column in (floor(x), floor(x) + 1):
                if 0 <= row < height and 0 <= column < width:
                    share = (1 - abs(x - column)) * (1 - abs(y - row))
                    out[b, q, h] += weights[b, q, h, n, p] * share * value[b, start + row * width + column, h]
    return out.flatten(2)


def random_inputs(shapes, *, batch=2, queries=6, heads=2, points=3, channels=4, seed=0, spread=1.6):
    """Some points lie outside, by less than a position and by much more."""
    draw = torch.Generator().manual_seed(seed)
    value = torch.randn(batch, sum(h * w for h, w in shapes), heads, channels, generator=draw)
    locations = torch.rand(batch, queries, heads, len(shapes), points, 2, generator=draw) * spread - (spread - 1) / 2
    weights = torch.rand(batch, queries, heads, len(shapes), points, generator=draw)
    return value, shapes, locations, weights


WAYS = pytest.mark.parametrize(
    "way",
    [
        pytest.param(by_kernel, id="kernel"),
        pytest.param(_by_rows, id="rows"),
        pytest.param(_by_grids, id="grids"),
        pytest.param(deformable_attention, id="as called"),
    ],
)


@WAYS
@settings(max_examples=25, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=3),
    batch=st.integers(1, 2),
    queries=st.integers(1, 5),
    heads=st.integers(1, 3),
    points=st.integers(1, 3),
    channels=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_every_way_comes_to_what_a_loop_over_points_does(way, shapes, seed, **sizes):
    inputs = random_inputs(shapes, seed=seed, **sizes)
    torch.testing.assert_close(way(*inputs), one_by_one(*inputs), atol=1e-5, rtol=0)


@WAYS
@pytest.mark.parametrize("channels", [8, 32, 33])
def test_every_way_comes_to_what_transformers_does(way, channels):
    inputs = random_inputs(LEVELS, queries=40, channels=channels)
    torch.testing.assert_close(way(*inputs), theirs(*inputs), atol=1e-5, rtol=0)


@WAYS
@pytest.mark.parametrize("edge", [0.0, 1.0, 0.5])
def test_points_on_edges_and_between_positions_are_the_same_as_those_of_transformers(way, edge):
    value, shapes, locations, weights = random_inputs(LEVELS)
    inputs = value, shapes, torch.full_like(locations, edge), weights
    torch.testing.assert_close(way(*inputs), theirs(*inputs), atol=1e-5, rtol=0)


@WAYS
@pytest.mark.parametrize("far", [-2.0, 3.0, 1e9, -1e30])
def test_what_is_far_outside_counts_nothing(way, far):
    value, shapes, locations, weights = random_inputs(LEVELS)
    assert torch.equal(
        way(value, shapes, torch.full_like(locations, far), weights), torch.zeros(2, 6, value.shape[2] * value.shape[3])
    )


@WAYS
def test_a_location_that_is_no_number_spoils_only_its_own_query_and_head(way):
    value, shapes, locations, weights = random_inputs(LEVELS)
    locations[1, 2, 1, 3, 0, 0] = float("nan")
    spoilt = way(value, shapes, locations, weights).isnan().nonzero()
    assert {(b, q) for b, q, _ in spoilt.tolist()} == {(1, 2)}
    assert {c for _, _, c in spoilt.tolist()} == set(range(4, 8))


@pytest.mark.parametrize("batch, queries", [(0, 3), (2, 0)])
def test_nothing_comes_of_nothing(batch, queries):
    assert deformable_attention(*random_inputs(LEVELS, batch=batch, queries=queries)).shape == (batch, queries, 8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("trained", [False, True])
def test_types_of_16_bits_are_computed_in_32(dtype, trained):
    value, shapes, locations, weights = random_inputs(LEVELS)
    value, locations, weights = (x.to(dtype) for x in (value, locations, weights))
    expected = theirs(value.float(), shapes, locations.float(), weights.float()).to(dtype)
    found = deformable_attention(value.requires_grad_(trained), shapes, locations, weights)
    assert found.dtype == dtype
    torch.testing.assert_close(found.detach(), expected, atol=0.02, rtol=0.01)


@pytest.mark.parametrize("way", [_by_rows, _by_grids], ids=["rows", "grids"])
def test_gradients_are_those_of_transformers(way):
    shapes = [(5, 7), (1, 1), (2, 9)]
    value, _, locations, weights = random_inputs(shapes)
    inputs = [x.requires_grad_() for x in (value, locations, weights)]
    ours, expected = way(value, shapes, locations, weights), theirs(value, shapes, locations, weights)
    wanted = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1))
    for found, reference in zip(
        torch.autograd.grad(ours, inputs, wanted), torch.autograd.grad(expected, inputs, wanted), strict=True
    ):
        torch.testing.assert_close(found, reference, atol=1e-4, rtol=1e-5)


def test_gradients_are_those_of_differences():
    shapes = [(3, 4), (1, 2)]
    value, _, locations, weights = random_inputs(shapes, batch=1, queries=2, points=2)
    inputs = [x.double().requires_grad_() for x in (value, locations, weights)]
    assert torch.autograd.gradcheck(lambda v, x, w: deformable_attention(v, shapes, x, w), inputs)


def test_it_has_gradients_when_asked_for_and_only_then():
    value, shapes, locations, weights = random_inputs(LEVELS)
    locations.requires_grad_()
    assert deformable_attention(value, shapes, locations, weights).requires_grad
    with torch.no_grad():
        assert not deformable_attention(value, shapes, locations, weights).requires_grad


@pytest.mark.parametrize("strange", ["value", "locations", "weights"])
def test_tensors_need_not_be_contiguous(strange):
    inputs = dict(zip(("value", "shapes", "locations", "weights"), random_inputs(LEVELS), strict=True))
    expected = deformable_attention(**inputs)
    inputs[strange] = inputs[strange].transpose(1, 2).contiguous().transpose(1, 2)
    torch.testing.assert_close(deformable_attention(**inputs), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "change, message",
    [
        pytest.param(lambda v, s, x, w: (v[:, :-1], s, x, w), "do not make the", id="positions"),
        pytest.param(lambda v, s, x, w: (v, s[:-1], x, w), "do not go with value", id="levels"),
        pytest.param(lambda v, s, x, w: (v, s, x, w[:, :-1]), "do not go with value", id="queries"),
        pytest.param(lambda v, s, x, w: (v[:1], s, x, w), "do not go with value", id="batch"),
        pytest.param(lambda v, s, x, w: (v, s, x[..., 0], w), "locations .B, Q", id="axes"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        deformable_attention(*change(*random_inputs(LEVELS)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_what_was_traced_follows_its_input():
    inputs, others = random_inputs(LEVELS, seed=1), random_inputs(LEVELS, seed=2)
    traced = torch.jit.trace(lambda v, x, w: deformable_attention(v, LEVELS, x, w), (inputs[0], *inputs[2:]))
    torch.testing.assert_close(traced(others[0], *others[2:]), theirs(*others), atol=1e-5, rtol=0)


# Points.


@pytest.mark.parametrize("size", [1.0, 100.0])
def test_the_kernel_makes_the_points_that_plain_torch_makes(size):
    pytest.importorskip("numba")
    draw = torch.Generator().manual_seed(0)
    reference = torch.rand(2, 300, 4, 2, generator=draw)
    offsets = torch.randn(2, 300, 2, 4, 3, 2, generator=draw)
    logits = size * torch.randn(2, 300, 2, 4, 3, generator=draw)
    before = offsets.clone(), logits.clone()
    expected = deformable_points(LEVELS, reference, offsets.requires_grad_(), logits)
    with torch.no_grad():
        found = deformable_points(LEVELS, reference, offsets, logits)
    for ours, plain in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, plain.detach(), atol=1e-6, rtol=1e-6)
    assert torch.equal(offsets, before[0])
    assert torch.equal(logits, before[1])


# The kernel: threads, and where it is kept.


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_the_number_of_threads_does_not_change_a_bit(threads):
    pytest.importorskip("numba")
    inputs = random_inputs(LEVELS, batch=3, queries=401)
    found = []
    for number in (1, 2, 5):
        threads(number)
        found.append(deformable_attention(*inputs))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    torch.testing.assert_close(found[0], theirs(*inputs), atol=1e-5, rtol=0)


def test_several_threads_may_call_it_at_once(threads):
    pytest.importorskip("numba")
    threads(2)
    inputs = [random_inputs(LEVELS, queries=300, seed=seed) for seed in range(8)]
    expected = [deformable_attention(*one) for one in inputs]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda one: deformable_attention(*one), inputs))
    assert all(map(torch.equal, found, expected))


def no_folder(monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "read-only")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)


def full_disk(monkeypatch):
    from numba.core import caching

    def refuse(*_):
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(caching.IndexDataCacheFile, "load", lambda *_: None)
    monkeypatch.setattr(caching.IndexDataCacheFile, "save", refuse)


@pytest.mark.parametrize("trouble", [no_folder, full_disk])
def test_it_works_where_it_cannot_be_kept(monkeypatch, trouble):
    pytest.importorskip("numba")
    trouble(monkeypatch)
    kernels = _deformable_kernel.load_kernels.__wrapped__()
    monkeypatch.setattr(_deformable_kernel, "load_kernels", lambda: kernels)
    inputs = random_inputs(LEVELS)
    torch.testing.assert_close(deformable_attention(*inputs), theirs(*inputs), atol=1e-5, rtol=0)


def test_without_numba_plain_torch_does_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    assert _deformable_kernel.load_kernels.__wrapped__() is None
    monkeypatch.setattr(_deformable_kernel, "load_kernels", lambda: None)
    inputs = random_inputs(LEVELS)
    assert torch.equal(deformable_attention(*inputs), _by_rows(*inputs))
    with pytest.raises(ModuleNotFoundError, match="numba is not installed"):
        _deformable_kernel.attend(*inputs)


# Networks of transformers.


def classes_and_masks(found):
    return found.class_queries_logits, found.masks_queries_logits


def mask2former(_):
    network = small_network()
    pixels = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    return network, lambda net: classes_and_masks(net(pixels))


def oneformer(_):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_oneformer(is_training=False).eval()
    pixels = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    task = torch.ones(2, network.config.task_seq_len, dtype=torch.long)
    return network, lambda net: classes_and_masks(net(pixels, task))


def grounding_dino(folder):
    network = save_grounding_dino(folder)
    pixels = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    text = torch.tensor([[2, 5, 6, 3]]).expand(2, -1)

    def answers(net):
        found = net(pixels, text)
        return found.logits[..., :4], found.pred_boxes

    return network, answers


NETWORKS = pytest.mark.parametrize("build", [mask2former, oneformer, grounding_dino])


def shaken(network):
    """With offsets that differ between queries: as they come, all look at the same places."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.endswith(("sampling_offsets.weight", "attention_weights.weight")):
                weight.normal_(0, 0.2, generator=draw)
    return network


@NETWORKS
@torch.no_grad()
def test_networks_answer_as_before(build, tmp_path):
    network, answers = build(tmp_path)
    shaken(network)
    fast = use_fast_attention(copy.deepcopy(network))
    assert any(isinstance(module, FastAttention | FastCore) for module in fast.modules())
    for ours, expected in zip(answers(fast), answers(network), strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


@NETWORKS
def test_weights_keep_their_names(build, tmp_path):
    network, _ = build(tmp_path)
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    after = use_fast_attention(network).state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


@NETWORKS
def test_a_second_time_changes_nothing(build, tmp_path):
    network, _ = build(tmp_path)
    modules = list(use_fast_attention(network).modules())
    assert list(use_fast_attention(network).modules()) == modules


@NETWORKS
def test_networks_can_still_be_trained(build, tmp_path):
    network, answers = build(tmp_path)
    shaken(network)
    fast = use_fast_attention(copy.deepcopy(network))
    gradients = []
    for one in (network, fast):
        one.requires_grad_()
        sum(answer.square().mean() for answer in answers(one)).backward()
        gradients.append({name: p.grad for name, p in one.named_parameters() if p.grad is not None})
    names = [name for name in gradients[0] if "sampling_offsets" in name or "value_proj" in name]
    assert names
    for name in names:
        torch.testing.assert_close(gradients[1][name], gradients[0][name], atol=1e-5, rtol=1e-3)


@torch.no_grad()
def test_positions_outside_of_the_picture_are_hidden():
    network = shaken(small_network())
    original = network.model.pixel_level_module.decoder.encoder.layers[0].self_attn
    fast = FastAttention(copy.deepcopy(original))
    shapes, draw = [(2, 3), (4, 6), (8, 12)], torch.Generator().manual_seed(0)
    states = torch.randn(2, 126, 32, generator=draw)
    options = {
        "hidden_states": states,
        "encoder_hidden_states": states,
        "reference_points": torch.rand(2, 126, 3, 2, generator=draw),
        "spatial_shapes_list": shapes,
        "attention_mask": torch.rand(2, 126, generator=draw) < 0.3,
        "position_embeddings": torch.randn(2, 126, 32, generator=draw),
    }
    for ours, expected in zip(fast(**options), original(**options), strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


def test_what_has_no_deformable_attention_is_left_alone():
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    assert [type(module) for module in use_fast_attention(network)] == [nn.Linear, nn.ReLU]
