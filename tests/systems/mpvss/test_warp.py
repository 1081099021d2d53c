"""Backward warping of masks: the numbers of the specification (§3.6), and brute force."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from maskstream.systems.mpvss.warp import warp


def flow_of(x: float, y: float, height: int, width: int) -> Tensor:
    """The same everywhere, ``[1, 1, 2, height, width]``."""
    return torch.tensor([x, y])[None, None, :, None, None].expand(1, 1, 2, height, width)


ROW = torch.arange(8.0).expand(1, 1, 4, 8)
COLUMN = torch.arange(4.0)[:, None].expand(1, 1, 4, 8)


def test_columns_are_read_as_the_authors_read_them():
    still = warp(ROW, flow_of(0, 0, 2, 4))
    assert torch.allclose(still, torch.tensor([0, 0.875, 1.75, 2.625, 3.5, 4.375, 5.25, 6.125]))
    moved = warp(ROW, flow_of(1, 0, 2, 4))  # two pixels at the size of the values
    assert torch.allclose(moved, torch.tensor([1.75, 2.625, 3.5, 4.375, 5.25, 6.125, 7, 7]))


def test_rows_are_read_as_the_authors_read_them():
    assert torch.allclose(warp(COLUMN, flow_of(0, 0, 2, 4))[0, 0, :, 0], torch.tensor([0, 0.75, 1.5, 2.25]))
    assert torch.allclose(warp(COLUMN, flow_of(0, 1, 2, 4))[0, 0, :, 0], torch.tensor([1.5, 2.25, 3, 3]))


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


seeds = st.integers(0, 2**20)
sides = st.integers(1, 6)


@given(seed=seeds, height=sides, width=sides, consistent=st.booleans())
def test_every_pixel_is_that_of_the_key_frame_where_its_own_flow_points(seed, height, width, consistent):
    values = drawn(seed, 2, 3, height, width)
    flow = 3 * drawn(seed + 1, 2, 3, 2, height, width)
    found = warp(values, flow, consistent=consistent)
    shrink_x, shrink_y = (1.0, 1.0) if consistent else ((width - 1) / width, (height - 1) / height)
    for b, q, row, column in torch.cartesian_prod(*(torch.arange(n) for n in values.shape)).tolist():
        x, y = ((column + flow[b, q, 0, row, column]) * shrink_x, (row + flow[b, q, 1, row, column]) * shrink_y)
        expected = bilinear(values[b, q].tolist(), float(x), float(y))
        assert abs(float(found[b, q, row, column]) - expected) < 1e-4


def bilinear(values_hw: list[list[float]], x: float, y: float) -> float:
    """The value at a point; outside, that of the border."""
    last_y, last_x = len(values_hw) - 1, len(values_hw[0]) - 1
    x, y = min(max(x, 0), last_x), min(max(y, 0), last_y)
    left, top = int(x), int(y)
    found = 0.0
    for row, down in ((top, 1 - (y - top)), (min(top + 1, last_y), y - top)):
        for column, right in ((left, 1 - (x - left)), (min(left + 1, last_x), x - left)):
            found += down * right * values_hw[row][column]
    return found


@given(seed=seeds, consistent=st.booleans())
def test_what_is_the_same_everywhere_stays(seed, consistent):
    values = torch.full((1, 2, 8, 12), 3.25)
    assert torch.allclose(warp(values, 20 * drawn(seed, 1, 2, 2, 4, 6), consistent=consistent), values)


def test_flow_has_a_gradient():
    flow = torch.zeros(1, 2, 2, 4, 6, requires_grad=True)
    warp(drawn(0, 1, 2, 8, 12), flow).square().sum().backward()
    assert flow.grad is not None
    assert (flow.grad.abs().amax(dim=(0, 3, 4)) > 0).all()  # of x and of y, for each query


def test_consistent_warping_without_flow_changes_nothing():
    values = drawn(0, 1, 3, 9, 14)
    assert torch.allclose(warp(values, torch.zeros(1, 3, 2, 5, 7), consistent=True), values, atol=1e-5)
    assert not torch.allclose(warp(values, torch.zeros(1, 3, 2, 5, 7)), values, atol=0.1)


@given(x=st.integers(-4, 4), y=st.integers(-4, 4))
def test_consistent_warping_by_whole_pixels_is_shifting(x, y):
    values = drawn(0, 1, 1, 8, 12)
    rows, columns = ((torch.arange(n) + 2 * by).clamp(0, n - 1) for n, by in ((8, y), (12, x)))
    found = warp(values, flow_of(x, y, 4, 6), consistent=True)  # twice as many at the size of the values
    assert torch.allclose(found, values[:, :, rows][..., columns], atol=1e-5)


def test_one_flow_moves_all_queries_alike():
    values, flow = drawn(0, 2, 5, 8, 12), 2 * drawn(1, 2, 1, 2, 4, 6)
    assert torch.allclose(warp(values, flow), warp(values, flow.expand(-1, 5, -1, -1, -1)), atol=1e-6)


def test_half_precision_finds_pixels_beyond_1024_columns():
    values = drawn(0, 1, 1, 2, 3000).half()
    found = warp(values, flow_of(0.5, 0, 1, 1500).half(), consistent=True)
    assert found.dtype == torch.float16
    assert torch.allclose(found[..., :-1].float(), values[..., 1:].float(), atol=5e-3)
