"""Objects as queries (specification §8 and 17)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from maskstream.systems.tarvis.targets import (
    EncoderLayer,
    ObjectEncoder,
    PointTargets,
    at_points,
    background_cells,
    largest_of_each,
    mask_parts,
    middle_points,
    padded_points,
    place_codes,
    region_memory,
)
from maskstream.types import InputError

from .networks import CHANNELS, drawn

FEATURES = drawn(2, CHANNELS, 8, 16)


def rectangle(top: int, left: int, bottom: int, right: int, frames: slice = slice(None)) -> Tensor:
    """``bool[1, 2, 32, 64]``."""
    mask = torch.zeros(1, 2, 32, 64, dtype=torch.bool)
    mask[:, frames, top:bottom, left:right] = True
    return mask


MASKS = torch.cat([rectangle(2, 3, 20, 31), rectangle(16, 40, 30, 60, slice(1, 2))])


def encoder(seed: int = 0) -> ObjectEncoder:
    torch.manual_seed(seed)
    made = ObjectEncoder(CHANNELS, heads=4, hidden=48, layers=2)
    made.train(False)
    return made


def points(count: int = 2) -> PointTargets:
    maps = tuple(drawn(count, CHANNELS, 8 // s, 16 // s, seed=s) for s in (8, 4, 2, 1))
    return PointTargets(torch.tensor([[0.1, 0.9], [0.6, 0.3]])[:count], maps)


# Masks.


@pytest.mark.parametrize(
    ("pixels", "parts", "sizes"),
    [
        pytest.param(10, 4, [3, 3, 2, 2], id="nearly as many"),
        pytest.param(3, 8, [2, 1, 1, 1, 1, 1, 1, 1], id="too few are repeated"),
        pytest.param(1, 4, [1, 1, 1, 1], id="one is in all"),
    ],
)
def test_parts_have_nearly_as_many_pixels(pixels: int, parts: int, sizes: list[int]) -> None:
    mask = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    mask.view(-1)[:pixels] = True
    assert mask_parts(mask, parts).flatten(1).sum(1).tolist() == sizes


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 9))
def test_parts_are_runs_in_the_order_of_frames_and_rows(seed: int, parts: int) -> None:
    mask = torch.rand(1, 2, 5, 4, generator=torch.Generator().manual_seed(seed)) > 0.7
    mask[0, 0, 0, 0] = True
    order = [(t, y, x) for t in range(2) for y in range(5) for x in range(4) if mask[0, t, y, x]]
    while len(order) < parts:
        order = order + [(t, y, x) for t in range(2) for y in range(5) for x in range(4) if mask[0, t, y, x]]
    for n, part in enumerate(mask_parts(mask, parts)):
        small, more = divmod(len(order), parts)
        begin = n * small + min(n, more)
        assert {tuple(place) for place in part.nonzero().tolist()} == set(order[begin : begin + small + (n < more)])


def test_the_background_is_a_grid_without_objects() -> None:
    nothing = torch.zeros(0, 1, 64, 64, dtype=torch.bool)
    assert background_cells(nothing).flatten(1).sum(1).tolist() == [256] * 16
    cells = background_cells(MASKS)
    assert torch.equal(cells.sum(0) + MASKS.any(0).int(), torch.ones(2, 32, 64, dtype=torch.int64))
    for row in range(4):
        for column in range(4):
            inside = cells[4 * row + column, :, 8 * row : 8 * row + 8, 16 * column : 16 * column + 16]
            assert inside.sum() == cells[4 * row + column].sum()


def test_a_pixel_is_the_feature_of_its_place() -> None:
    memory = region_memory(FEATURES, MASKS, most=10_000)
    codes = place_codes(FEATURES)
    for n, mask in enumerate(MASKS):
        places = mask.nonzero().tolist()
        assert memory.length_q[n] == len(places)
        for k, (t, y, x) in enumerate(places[::17]):
            assert torch.equal(memory.content_qlc[n, 17 * k], FEATURES[t, :, y // 4, x // 4])
            assert torch.equal(memory.codes_qlc[n, 17 * k], codes[:, y // 4, x // 4])
        assert (memory.content_qlc[n, len(places) :] == 0).all()
    assert torch.allclose(memory.means()[0], memory.content_qlc[0, : memory.length_q[0]].mean(0), atol=1e-5)


def test_places_are_counted_from_one() -> None:
    codes = place_codes(FEATURES)
    assert torch.allclose(codes[0, :, 0], torch.arange(1.0, 9).sin(), atol=1e-6)
    assert torch.allclose(codes[CHANNELS // 2, 0], torch.arange(1.0, 17).sin(), atol=1e-6)


def test_of_many_pixels_those_far_apart_are_read() -> None:
    memory = region_memory(FEATURES, MASKS, most=100)
    assert memory.length_q.tolist() == [100, 100]
    places = MASKS[0].nonzero()
    for k in range(0, 100, 9):
        t, y, x = places[k * len(places) // 100].tolist()
        assert torch.equal(memory.content_qlc[0, k], FEATURES[t, :, y // 4, x // 4])


def test_nothing_is_a_single_feature_of_zeros() -> None:
    memory = region_memory(FEATURES, torch.zeros_like(MASKS), most=100)
    assert memory.length_q.tolist() == [1, 1]
    assert (memory.content_qlc == 0).all() and (memory.codes_qlc == 0).all()
    assert (memory.means() == 0).all()


# Points.


def test_the_middle_of_a_mask_is_its_deepest_pixel() -> None:
    corner = torch.zeros(1, 20, 20, dtype=torch.bool)
    corner[0, 2:17, 2:9] = corner[0, 10:17, 2:17] = True
    deepest, depth = [], -1.0
    inside = corner[0].nonzero()
    outside = (~corner[0]).nonzero()
    for place in inside:
        distance = float((outside - place).float().norm(dim=1).min())
        if distance > depth + 1e-6:
            deepest, depth = [place], distance
        elif distance > depth - 1e-6:
            deepest.append(place)
    best = min(deepest, key=lambda place: float((place - inside.float().mean(0)).abs().sum()))
    assert torch.allclose(middle_points(corner)[0], (best + 0.5) / 20)


def test_points_are_fractions_of_the_padded_picture() -> None:
    found = padded_points(torch.tensor([[0.5, 1.0], [0.0, 0.25]]), (120, 100), (128, 192))
    assert torch.allclose(found, torch.tensor([[60 / 128, 100 / 192], [0.0, 25 / 192]]))
    with pytest.raises(InputError, match="a point lies outside the picture"):
        padded_points(torch.tensor([[0.5, 1.2]]), (120, 100), (128, 192))


def test_a_point_is_the_nearest_feature() -> None:
    where = torch.tensor([[0.1, 0.9], [0.6, 0.3]])
    found = at_points(FEATURES, where)
    for n, (y, x) in enumerate(where.tolist()):
        assert torch.equal(found[n], FEATURES[n, :, int(y * 8), int(x * 16)])


# The encoder.


@torch.no_grad()
def test_queries_are_refined_as_two_kinds_of_attention_say() -> None:
    """`nn.MultiheadAttention` for each query alone."""
    made, parts = encoder(), 3
    found = made(FEATURES, MASKS, points(), parts=parts)
    assert found.counts == (3, 3, 1, 1)
    regions = torch.cat([background_cells(MASKS), mask_parts(MASKS, parts)])
    codes = place_codes(FEATURES)
    places = [region.nonzero() for region in regions]
    keys = [torch.stack([FEATURES[t, :, y // 4, x // 4] for t, y, x in p.tolist()]) for p in places]
    where = [torch.stack([codes[:, y // 4, x // 4] for _, y, x in p.tolist()]) for p in places]
    begun = [x.mean(0) for x in keys]
    kinds = [made.kinds["background"]] * 16 + [made.kinds["mask"]] * 6 + [made.kinds["point"]] * 2
    given = points()
    for n, (y, x) in enumerate(given.points_p2.tolist()):
        features = [level[n, :, int(y * level.shape[2]), int(x * level.shape[3])] for level in given.maps_pchw]
        begun.append(made.begin(torch.cat(features)))
        keys.append(torch.stack([scale(f) for scale, f in zip(made.scales, features, strict=True)]))
        where.append(codes[:, int(y * 8), int(x * 16)].expand(4, -1))
    queries, kind = torch.stack(begun), torch.stack(kinds)
    for layer in made.layers:
        assert isinstance(layer, EncoderLayer)
        placed = (queries + kind)[None]
        queries = layer.self_norm(queries + layer.self_attention(placed, placed, queries[None])[0][0])
        seen = [
            layer.attention((queries[n] + kind[n])[None, None], (keys[n] + where[n])[None], keys[n][None])[0][0, 0]
            for n in range(len(queries))
        ]
        queries = layer.attention_norm(queries + torch.stack(seen))
        queries = layer.norm(queries + layer.contract(layer.expand(queries).relu()))
    assert torch.allclose(torch.cat([found.background_gc, found.objects_qc]), queries, atol=1e-4)


@torch.no_grad()
def test_a_query_looks_only_at_its_own_features() -> None:
    made = encoder()
    regions = torch.cat([background_cells(MASKS), mask_parts(MASKS, 2)])
    queries, kind = drawn(20, CHANNELS), torch.zeros(20, CHANNELS)
    layer = made.layers[0]
    assert isinstance(layer, EncoderLayer)
    layer.self_attention.out_proj.weight.zero_()
    other = FEATURES.clone()
    other[1, :, 4:7, 10:15] += 1  # where the second object is, and no pixel of the first
    before, after = (layer(queries, kind, region_memory(x, regions, most=10_000)) for x in (FEATURES, other))
    change_q = (before - after).abs().amax(1)
    assert (change_q[16:18] == 0).all()
    assert (change_q[18:] > 1e-4).all()


@pytest.mark.parametrize("training", [True, False])
def test_masks_send_no_gradient_to_features_but_points_do(training: bool) -> None:
    made = encoder().train(training)
    features, given = FEATURES.clone().requires_grad_(), points()
    maps = tuple(level.clone().requires_grad_() for level in given.maps_pchw)
    made(features, MASKS, PointTargets(given.points_p2, maps), parts=2).objects_qc.square().sum().backward()
    assert features.grad is None
    assert all(level.grad is not None and level.grad.abs().sum() > 0 for level in maps)


@torch.no_grad()
def test_without_objects_there_is_background_alone() -> None:
    found = encoder()(FEATURES, MASKS[:0], parts=4)
    assert found.background_gc.shape == (16, CHANNELS)
    assert found.objects_qc.shape == (0, CHANNELS) and found.counts == ()


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        pytest.param(MASKS[:, :1], r"masks are \[1, 32, 64\] .* features are of \[2, 32, 64\]: pad", id="frames"),
        pytest.param(MASKS[..., :32], r"masks are \[2, 32, 32\]", id="size"),
        pytest.param(torch.cat([MASKS, rectangle(0, 0, 0, 0)]), "mask 2 is empty on all frames", id="empty"),
    ],
)
def test_masks_that_do_not_fit_are_one_clear_line(masks: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        encoder()(FEATURES, masks, parts=2)


def test_an_object_is_wherever_one_of_its_queries_is() -> None:
    masks = drawn(2, 5, 1, 3, 4)
    found = largest_of_each(masks, (3, 1, 1))
    assert torch.equal(found[:, 0], masks[:, :3].max(1).values)
    assert torch.equal(found[:, 1:], masks[:, 3:])
