"""How unsure a frame is: hand-computed cases, and brute force."""

import numpy as np
import pytest

from maskstream.studio.doubt import DOUBTFUL, NEIGHBOURS, REASONS, TINY, agreement, blur, doubts, jumps


def u8(*rows: list[int]) -> np.ndarray:
    return np.array(rows, np.uint8)


@pytest.mark.parametrize(
    ("map_hw", "expected"),
    [
        pytest.param(u8([0, 255], [255, 0]), 0, id="sure"),
        pytest.param(u8([0, 0], [0, 0]), 0, id="sure that it is nowhere"),
        pytest.param(u8([5, 12], [0, 0]), 0, id="almost sure of that"),
        pytest.param(u8([128, 127], [127, 128]), 1, id="any guess"),
        # 0.2 log 5 + 0.8 log 1.25 = 0.72193 bits of one pixel, beside a sure one
        pytest.param(u8([204, 255], [0, 0]), 0.72193 / 2, id="four to one, and sure"),
        pytest.param(u8([51, 51], [0, 0]), 0.72193, id="one to four"),
    ],
)
def test_blur_is_the_entropy_where_an_object_may_be(map_hw, expected):
    assert blur(map_hw) == pytest.approx(expected, abs=1e-4)


def test_the_size_of_the_picture_does_not_matter():
    small = np.random.default_rng(0).integers(100, 256, (5, 5), dtype=np.uint8)
    assert blur(np.pad(small, 40)) == blur(small)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([255, 255, 0, 0], [0, 255, 255, 0], 1 / 3),
        ([128, 0, 0, 0], [255, 127, 0, 0], 1),
        ([127, 0, 0, 0], [0, 0, 0, 0], 1),
        ([255, 0, 0, 0], [0, 0, 0, 0], 0),
    ],
)
def test_agreement_is_intersection_over_union(first, second, expected):
    assert agreement(u8(first), u8(second)) == pytest.approx(expected)
    assert agreement(u8(second), u8(first)) == pytest.approx(expected)


def brute_force_jumps(areas: np.ndarray) -> np.ndarray:
    found = np.full(len(areas), np.nan)
    for t, area in enumerate(areas):
        around = [areas[n] for n in range(max(t - NEIGHBOURS, 0), min(t + NEIGHBOURS + 1, len(areas))) if n != t]
        known = [value for value in around if not np.isnan(value)]
        if known and not np.isnan(area):
            found[t] = min(abs(np.log2((area + TINY) / (np.median(known) + TINY))), 1)
    return found


@pytest.mark.parametrize("seed", range(8))
def test_jumps_agree_with_brute_force(seed):
    rng = np.random.default_rng(seed)
    areas = rng.uniform(0, 0.1, int(rng.integers(1, 30))).astype(np.float32)
    areas[rng.random(len(areas)) < 0.3] = np.nan
    areas[rng.random(len(areas)) < 0.2] = 0
    assert np.allclose(jumps(areas), brute_force_jumps(areas), atol=1e-4, equal_nan=True)


def test_an_area_that_halves_or_doubles_jumps_all_the_way():
    areas = np.full(20, 0.1, np.float32)
    areas[8], areas[15] = 0.2, 0.05
    found = jumps(areas)
    assert found[[8, 15]].tolist() == pytest.approx([1, 1], abs=0.01)
    assert found[[0, 7, 9, 14, 16]].tolist() == pytest.approx([0] * 5, abs=1e-6)


def test_an_object_that_goes_is_doubtful_where_it_goes_and_not_once_it_is_gone():
    areas = np.array([0.1] * 10 + [0.0] * 10, np.float32)
    doubtful = np.flatnonzero(jumps(areas) >= DOUBTFUL).tolist()
    assert doubtful == [9, 10]


def test_one_that_grows_slowly_does_not_jump():
    assert jumps((0.01 * 1.05 ** np.arange(40)).astype(np.float32)).max() < 0.25


def test_the_largest_sign_counts_and_gives_the_reason():
    nothing = float("nan")
    areas = np.array([0.1, 0.1, 0.1, 0.1, nothing], np.float32)
    blurred = np.array([0.6, 0.1, nothing, nothing, 0.1], np.float32)
    agreed = np.array([0.9, 0.3, nothing, 1.0, 0.95], np.float32)
    doubt, why = doubts(areas, blurred, agreed)
    assert doubt.tolist() == pytest.approx([0.75, 0.7, 0, 0, 0.125])
    assert [REASONS[n] for n in why[:2]] == ["its outline is unclear", "forward and backward disagree"]
    areas[2] = 0.25
    doubt, why = doubts(areas, blurred, agreed)
    assert (doubt[2], REASONS[why[2]]) == (1, "its size changes suddenly")


def test_a_lone_frame_has_no_neighbours_to_differ_from():
    one, unknown = np.full(1, 0.1, np.float32), np.full(1, np.nan, np.float32)
    assert doubts(one, unknown, unknown)[0].tolist() == [0]
