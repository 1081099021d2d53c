"""Tokens of masks, boxes and points against one object at a time, in loops (specification §5)."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from maskstream.mask2former.positions import point_codes, position_codes
from maskstream.systems.univs.prompts import (
    PromptMap,
    Tokens,
    at_random,
    box_tokens,
    evenly,
    joined,
    mask_tokens,
    point_tokens,
)

CHANNELS, HEIGHT, WIDTH = 8, 4, 6
STRIDE = 8


def prompt_map(angle: float = 1.5) -> PromptMap:
    generator = torch.Generator().manual_seed(0)
    content = torch.randn(CHANNELS, HEIGHT, WIDTH, generator=generator)
    when = torch.tensor(angle)
    return PromptMap(content, position_codes((HEIGHT, WIDTH), CHANNELS, angles_t=when[None])[0], when)


WHERE = prompt_map()


def first(places: int, wanted: int) -> Tensor:
    return torch.arange(wanted)


def expected(places: list[tuple[int, int]], count: int) -> tuple[Tensor, Tensor]:
    """Tokens at places, by row and column, repeated from the first on."""
    chosen = [places[n % len(places)] for n in range(count)]
    return tuple(
        torch.stack([x[:, row, column] for row, column in chosen]) for x in (WHERE.content_chw, WHERE.code_chw)
    )  # type: ignore[return-value]


def assert_tokens(found: Tokens, n: int, content: Tensor, code: Tensor) -> None:
    assert torch.allclose(found.content_nrc[n], content, atol=1e-5)
    assert torch.allclose(found.code_nrc[n], code, atol=1e-5)


def at(x: float, y: float) -> tuple[Tensor, Tensor]:
    """Content between four places, zero outside of the map, and the code of a point."""
    column, row = x * WIDTH - 0.5, y * HEIGHT - 0.5
    content = torch.zeros(CHANNELS)
    for r in (math.floor(row), math.floor(row) + 1):
        for c in (math.floor(column), math.floor(column) + 1):
            if 0 <= r < HEIGHT and 0 <= c < WIDTH:
                content += (1 - abs(row - r)) * (1 - abs(column - c)) * WHERE.content_chw[:, r, c]
    return content, point_codes(torch.tensor([[x, y]]), CHANNELS, WHERE.angle)[0]


small_masks = st.lists(
    st.lists(st.booleans(), min_size=HEIGHT * WIDTH, max_size=HEIGHT * WIDTH), min_size=1, max_size=3
)


@settings(max_examples=40, deadline=None)
@given(small=small_masks, count=st.integers(1, 30), extremes=st.booleans())
def test_tokens_of_a_mask_are_the_places_it_covers(small: list[list[bool]], count: int, extremes: bool) -> None:
    small_nhw = torch.tensor(small).view(-1, HEIGHT, WIDTH)
    masks = small_nhw.repeat_interleave(STRIDE, 1).repeat_interleave(STRIDE, 2)
    found = mask_tokens(WHERE, masks, count, choose=first, extremes=extremes)
    assert found.content_nrc.shape == found.code_nrc.shape == (len(small), count, CHANNELS)
    for n, small_hw in enumerate(small_nhw):
        places = [(row, column) for row in range(HEIGHT) for column in range(WIDTH) if small_hw[row, column]]
        if not places:
            assert not found.content_nrc[n].any() and not found.code_nrc[n].any()
            continue
        if extremes and len(places) >= count:
            left, up = (min(places, key=lambda place: place[axis]) for axis in (1, 0))
            right, down = (max(places, key=lambda place: place[axis]) for axis in (1, 0))
            places = [left, up, right, down, *places[4:]]
        assert_tokens(found, n, *expected(places, count))


def test_a_mask_that_is_nowhere_sure_is_not_there() -> None:
    masks = torch.full((2, 32, 48), 0.4)
    masks[1, 0, 0] = 0.6
    found = mask_tokens(WHERE, masks, 3)
    assert not found.content_nrc[0].any()
    assert found.content_nrc[1].any()


@pytest.mark.parametrize(
    ("rows", "columns", "x", "y"),
    [
        pytest.param((11, 13), (20, 23), 21.5 / 48, 12 / 32, id="a speck"),
        pytest.param((3, 4), (0, 48), 0.5, 3.5 / 32, id="a line"),
        pytest.param((1, 32), (47, 48), 47.5 / 48, 16.5 / 32, id="at the border"),
    ],
)
def test_a_mask_between_places_is_the_feature_in_its_middle(rows, columns, x: float, y: float) -> None:
    masks = torch.zeros(2, 32, 48, dtype=torch.bool)
    masks[0, slice(*rows), slice(*columns)] = True
    masks[1, 8:16, 8:16] = True
    found = mask_tokens(WHERE, masks, 5)
    content, code = at(x, y)
    assert_tokens(found, 0, content.expand(5, -1), code.expand(5, -1))
    assert_tokens(found, 1, *expected([(1, 1)], 5))


sides = st.floats(0, 1, allow_nan=False, width=32)


@settings(max_examples=100, deadline=None)
@given(boxes=st.lists(st.tuples(sides, sides, sides, sides), min_size=1, max_size=4), count=st.integers(1, 30))
def test_tokens_of_a_box_are_the_places_after_its_first_row_and_column(boxes, count: int) -> None:
    boxes_n4 = torch.tensor(boxes)
    found = box_tokens(WHERE, boxes_n4, count, choose=first)
    for n, (left, top, right, bottom) in enumerate(boxes_n4):
        places = [
            (row, column)
            for row in range(HEIGHT)
            for column in range(WIDTH)
            if torch.floor(top * HEIGHT) < row <= torch.ceil(bottom * HEIGHT)
            and torch.floor(left * WIDTH) < column <= torch.ceil(right * WIDTH)
        ]
        if left >= right or top >= bottom:
            content = code = torch.zeros(count, CHANNELS)
        elif places:
            content, code = expected(places, count)
        else:
            middle = at(float(left + right) / 2, float(top + bottom) / 2)
            content, code = (x.expand(count, -1) for x in middle)
        assert_tokens(found, n, content, code)


@settings(max_examples=50, deadline=None)
@given(points=st.lists(st.tuples(*[st.floats(-0.25, 1.25, width=32)] * 2), min_size=1, max_size=4))
def test_tokens_of_a_point_are_the_feature_there(points) -> None:
    found = point_tokens(WHERE, torch.tensor(points), 3)
    for n, (x, y) in enumerate(points):
        content, code = at(x, y) if 0 <= x <= 1 and 0 <= y <= 1 else (torch.zeros(CHANNELS),) * 2
        assert_tokens(found, n, content.expand(3, -1), code.expand(3, -1))


def test_a_point_in_the_middle_of_a_place_is_that_place() -> None:
    found = point_tokens(WHERE, torch.tensor([[2.5 / WIDTH, 1.5 / HEIGHT]]), 1)
    assert torch.allclose(found.content_nrc[0, 0], WHERE.content_chw[:, 1, 2], atol=1e-6)


@given(places=st.integers(2, 500), data=st.data())
def test_even_places_are_as_far_apart_as_can_be(places: int, data) -> None:
    wanted = data.draw(st.integers(1, places - 1))
    steps = evenly(places, wanted).diff()
    assert set(steps.tolist()) <= {places // wanted, places // wanted + 1}
    assert evenly(places, wanted)[0] == 0 and evenly(places, wanted)[-1] < places


def test_places_by_chance_are_other_ones_with_each_draw_and_the_same_with_a_seed() -> None:
    masks = torch.ones(2, 32, 48)
    drawn = mask_tokens(WHERE, masks, 10, choose=at_random(torch.Generator().manual_seed(0)))
    again = mask_tokens(WHERE, masks, 10, choose=at_random(torch.Generator().manual_seed(0)))
    assert torch.equal(drawn.content_nrc, again.content_nrc)
    assert not torch.equal(drawn.content_nrc[0], drawn.content_nrc[1])
    assert len({tuple(token) for token in drawn.content_nrc[0].tolist()}) == 10


def test_no_prompts_are_none_of_the_same_number_of_tokens() -> None:
    none = [
        mask_tokens(WHERE, torch.zeros(0, 32, 48), 5, extremes=True),
        box_tokens(WHERE, torch.zeros(0, 4), 5),
        point_tokens(WHERE, torch.zeros(0, 2), 5),
    ]
    some = box_tokens(WHERE, torch.tensor([[0.0, 0.0, 1.0, 1.0]]), 5)
    found = joined([*none, some])
    assert torch.equal(found.content_nrc, some.content_nrc) and torch.equal(found.code_nrc, some.code_nrc)


def test_codes_of_tokens_say_when_they_are() -> None:
    mask = F.pad(torch.ones(1, 8, 8), (8, 32, 8, 16))
    now, later = (mask_tokens(prompt_map(angle), mask, 1) for angle in (0.0, 2.0))
    assert torch.equal(now.content_nrc, later.content_nrc)
    assert (now.code_nrc - later.code_nrc).abs().max() > 0.1
