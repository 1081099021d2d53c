import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from maskstream.metrics import boundary_f, boundary_radius, region_similarity, sequence_mean
from maskstream.types import InputError

from .literal_jf import literal_contour, literal_f, literal_j


def square(size_hw, top, left, side):
    mask = np.zeros(size_hw, dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


NOTHING, EVERYTHING = np.zeros((20, 30), dtype=bool), np.ones((20, 30), dtype=bool)
SQUARE = square((20, 30), 5, 5, 8)

SIZES = st.tuples(st.integers(1, 12), st.integers(1, 12))
PAIRS = SIZES.flatmap(lambda size: st.tuples(arrays(bool, size), arrays(bool, size), arrays(bool, size)))


@pytest.mark.parametrize(
    ("pred", "truth", "j", "f"),
    [
        pytest.param(NOTHING, NOTHING, 1, 1, id="both empty: nothing is wrong"),
        pytest.param(SQUARE, NOTHING, 0, 0, id="predicted, but not there"),
        pytest.param(NOTHING, SQUARE, 0, 0, id="there, but not predicted"),
        pytest.param(SQUARE, SQUARE, 1, 1, id="perfect"),
        pytest.param(NOTHING, EVERYTHING, 0, 1, id="a mask of the whole picture has no contour"),
        pytest.param(SQUARE, EVERYTHING, 64 / 600, 0, id="one contour against none"),
        pytest.param(square((20, 30), 5, 5, 4), square((20, 30), 5, 7, 4), 8 / 24, None, id="half beside: 8 of 24"),
        pytest.param(square((20, 30), 0, 0, 4), square((20, 30), 14, 24, 4), 0, 0, id="far apart"),
    ],
)
def test_known_cases(pred, truth, j, f):
    assert region_similarity(pred, truth) == pytest.approx(j)
    if f is not None:
        assert boundary_f(pred, truth) == f


@given(PAIRS)
def test_both_equal_their_definitions(masks):
    pred, truth, _ = masks
    assert region_similarity(pred, truth) == literal_j(pred, truth)
    assert boundary_f(pred, truth) == pytest.approx(literal_f(pred, truth), abs=1e-15)


@given(PAIRS, st.integers(0, 6))
def test_the_tolerance_is_a_disk(masks, radius):
    pred, truth, _ = masks
    expected = literal_f(pred, truth, near=lambda dy, dx: dy * dy + dx * dx <= radius * radius)
    assert boundary_f(pred, truth, radius=radius) == pytest.approx(expected, abs=1e-15)


@given(PAIRS)
def test_void_pixels_are_background_in_both_masks(masks):
    pred, truth, void = masks
    assert region_similarity(pred, truth, void) == region_similarity(pred & ~void, truth & ~void)
    assert boundary_f(pred, truth, void) == boundary_f(pred & ~void, truth & ~void)


def test_a_contour_pixel_differs_from_a_neighbour_to_the_east_south_or_south_east():
    assert literal_contour(square((4, 4), 1, 1, 2)) == {(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (1, 2), (2, 2), (2, 1)}


def test_only_the_tolerated_shift_is_forgiven():
    truth = square((480, 854), 100, 200, 150)
    assert boundary_f(square((480, 854), 100, 208, 150), truth) == 1
    assert boundary_f(square((480, 854), 100, 209, 150), truth) < 1


@pytest.mark.parametrize(("size_hw", "radius"), [((480, 854), 8), ((720, 1280), 12), ((1, 1), 1)])
def test_the_tolerance_follows_the_diagonal(size_hw, radius):
    assert boundary_radius(size_hw) == radius


def test_the_first_and_last_frame_of_a_sequence_do_not_count():
    assert sequence_mean([1.0, 0.5, 0.25, 0.0]) == 0.375
    assert sequence_mean([1.0, 0.0], skip_first_last=False) == 0.5
    with pytest.raises(InputError, match="2 frames has none to score"):
        sequence_mean([1.0, 1.0])


def test_masks_of_different_sizes_are_refused():
    with pytest.raises(InputError, match=r"the prediction is \[3, 4\] but the annotation is \[4, 3\]"):
        region_similarity(np.zeros((3, 4), dtype=bool), np.zeros((4, 3), dtype=bool))
    with pytest.raises(InputError, match="void mask"):
        boundary_f(SQUARE, SQUARE, np.zeros((3, 4), dtype=bool))
