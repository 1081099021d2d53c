"""Points of the tall plane, and masks read there."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskstream.mask2former.points import sample_logits, sample_masks, uncertain_points, uniform_points


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


def read(plane, x, y):
    """A bilinear plane at a place in [0, 1]², 0 beyond it, written down."""
    rows, columns = plane.shape
    row, column = y * rows - 0.5, x * columns - 0.5
    total = 0.0
    for i in (math.floor(row), math.floor(row) + 1):
        for j in (math.floor(column), math.floor(column) + 1):
            if 0 <= i < rows and 0 <= j < columns:
                total += (1 - abs(row - i)) * (1 - abs(column - j)) * float(plane[i, j])
    return total


def test_points_are_anywhere_in_the_plane():
    points = uniform_points(10_000, masks=2, generator=chance())
    assert points.shape == (2, 10_000, 2)
    assert ((points >= 0) & (points < 1)).all()
    assert points.mean((0, 1)).tolist() == pytest.approx([0.5, 0.5], abs=0.01)
    assert not torch.equal(points[0], points[1])


def test_the_same_chance_draws_the_same_points():
    first, second = (uniform_points(5, generator=chance(3)) for _ in range(2))
    assert torch.equal(first, second)


def test_frames_lie_under_each_other():
    masks = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]], [[5.0, 6.0]]])[None]  # three frames of 1×2
    middles = torch.tensor([[(x, y) for y in (1 / 6, 3 / 6, 5 / 6) for x in (0.25, 0.75)]])
    assert sample_logits(masks, middles)[0].tolist() == pytest.approx([1, 2, 3, 4, 5, 6])


def test_a_point_between_two_frames_sees_both():
    masks = torch.tensor([[[1.0]], [[3.0]]])[None]
    assert sample_logits(masks, torch.tensor([[[0.5, 0.5]]])).item() == pytest.approx(2)


@pytest.mark.parametrize("shared", [True, False], ids=["points of all", "points of each"])
def test_logits_are_read_as_written_down(shared):
    logits = torch.randn(3, 2, 3, 4, generator=chance(1))
    points = uniform_points(50, masks=1 if shared else 3, generator=chance(2))
    found = sample_logits(logits, points)
    for n, plane in enumerate(logits.flatten(1, 2)):
        expected = [read(plane, *point) for point in points[0 if shared else n].tolist()]
        assert found[n].tolist() == pytest.approx(expected, abs=1e-5)


@given(st.integers(0, 3), st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.booleans(), st.integers(0, 2**31))
def test_masks_are_read_as_logits_are(masks, frames, height, width, shared, seed):
    masks_nthw = torch.rand(masks, frames, height, width, generator=chance(seed)) > 0.5
    points = uniform_points(20, masks=1 if shared else masks, generator=chance(seed))
    points[:, :4] = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    found = sample_masks(masks_nthw, points)
    assert found.shape == (masks, 20)
    torch.testing.assert_close(found, sample_logits(masks_nthw, points), atol=1e-5, rtol=0)


def test_rows_can_be_about_any_mask():
    masks = torch.rand(3, 2, 4, 5, generator=chance()) > 0.5
    points, objects = uniform_points(30, masks=4, generator=chance()), torch.tensor([2, 0, 2, 1])
    assert torch.equal(sample_masks(masks, points, objects), sample_masks(masks[objects], points))


def test_gradients_reach_the_masks():
    logits = torch.zeros(1, 2, 2, 2, requires_grad=True)
    sample_logits(logits, torch.tensor([[[0.25, 0.125], [0.25, 0.125]]])).sum().backward()
    assert logits.grad is not None
    assert logits.grad.flatten().tolist() == [2, 0, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("importance", [0.0, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("oversample", [1.0, 3.0])
def test_the_least_sure_of_many_points_are_taken_and_the_others_are_new(importance, oversample):
    count, logits = 40, torch.randn(3, 2, 6, 5, generator=chance(4))
    points = uncertain_points(logits, count, oversample=oversample, importance=importance, generator=chance(5))
    assert points.shape == (3, count, 2)
    drawn = chance(5)
    candidates = torch.rand(3, int(count * oversample), 2, generator=drawn)
    others = torch.rand(3, count - int(count * importance), 2, generator=drawn)
    for n, plane in enumerate(logits.flatten(1, 2)):
        sure = sorted(candidates[n].tolist(), key=lambda point: abs(read(plane, *point)))
        chosen = int(count * importance)
        assert sorted(points[n, :chosen].tolist()) == sorted(sure[:chosen])
        assert torch.equal(points[n, chosen:], others[n])


def test_no_mask_has_no_points():
    assert uncertain_points(torch.zeros(0, 1, 4, 4), 8).shape == (0, 8, 2)
