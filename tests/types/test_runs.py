"""Runs of run-length codes: against the codec of pycocotools, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from maskstream.types import InputError, RunLengthError, Runs, decode_runs, encode_rle

seeds = st.integers(0, 2**32 - 1)


def code_of(counts: Sequence[int]) -> str:
    """The code of background and foreground counts in turn, as pycocotools writes it."""
    size = [1, sum(counts)]
    text: str = coco_mask.frPyObjects({"size": size, "counts": list(counts)}, *size)["counts"].decode("ascii")
    return text


def painted(runs: Runs, length: int) -> NDArray[np.bool_]:
    """Each mask alone on the axis."""
    masks = np.zeros((len(runs.areas_n), length), bool)
    for n, mask in enumerate(masks):
        for start, stop in runs.edges_r2[runs.first_n[n] : runs.first_n[n + 1]].tolist():
            assert 0 <= start <= stop
            assert not mask[start:].any(), "runs do not overlap, and ascend"
            mask[start:stop] = True
    return masks


def decoded(*counts: Sequence[int]) -> Runs:
    return decode_runs([code_of(one) for one in counts], np.zeros(len(counts), np.int64), pixels=sum(counts[0]))


@given(seeds)
def test_masks_come_back_where_they_were_put(seed):
    rng = np.random.default_rng(seed)
    number, height, width = rng.integers(1, [6, 9, 40])
    masks_nhw = rng.random((number, height, width)) < rng.choice([0, 0.02, 0.5, 0.98, 1], (number, 1, 1))
    codes = [code["counts"] for code in encode_rle(torch.from_numpy(masks_nhw))]
    missing_n = rng.random(number) < 0.2
    origins_n = rng.integers(0, 300, number)
    runs = decode_runs(
        [None if missing else code for missing, code in zip(missing_n, codes, strict=True)],
        origins_n,
        pixels=int(height * width),
    )
    masks_nhw[missing_n] = False
    for n, mask in enumerate(painted(runs, 1000)):
        expected = np.zeros(1000, bool)
        expected[origins_n[n] : origins_n[n] + height * width] = masks_nhw[n].T.ravel()
        assert (mask == expected).all()
    assert runs.areas_n.tolist() == masks_nhw.sum(axis=(1, 2)).tolist()


@given(
    st.lists(st.lists(st.integers(0, 40) | st.integers(0, 100_000), min_size=1, max_size=12), min_size=1, max_size=5)
)
def test_counts_of_any_length_are_read_and_none_may_be_empty(counts):
    largest = max(map(sum, counts))
    # A last background run gives all the same number of pixels.
    counts = [[*one, *([0] * (len(one) % 2)), largest - sum(one)] for one in counts]
    runs = decoded(*counts)
    for n, one in enumerate(counts):
        ends = np.cumsum(one).tolist()
        expected = [(ends[i] - one[i], ends[i]) for i in range(1, len(one), 2) if one[i]]
        edges = runs.edges_r2[runs.first_n[n] : runs.first_n[n + 1]].tolist()
        assert [(start, stop) for start, stop in edges if start < stop] == expected
    assert runs.areas_n.tolist() == [sum(one[1::2]) for one in counts]


@pytest.mark.parametrize(
    "counts, expected_runs",
    [
        pytest.param([12], [], id="empty"),
        pytest.param([0, 12], [[0, 12]], id="full"),
        pytest.param([5, 1, 6], [[5, 6]], id="one pixel"),
        pytest.param([0, 1, 11], [[0, 1]], id="the first pixel"),
        pytest.param([11, 1], [[11, 12]], id="the last pixel"),
        pytest.param([0, 2, 8, 2], [[0, 2], [10, 12]], id="both ends"),
        pytest.param([2, 3, 0, 4, 3], [[2, 5], [5, 9]], id="no background between two runs"),
        pytest.param([2, 0, 3, 4, 3], [[5, 9]], id="no foreground between two runs"),
    ],
)
def test_a_run_is_its_first_pixel_and_the_one_after_its_last(counts, expected_runs):
    for others in ([], [[1, 2, 9]], [[0, 12]]):
        edges = decoded(counts, *others).edges_r2[: decoded(counts, *others).first_n[1]].tolist()
        assert [run for run in edges if run[0] < run[1]] == expected_runs


def test_positions_beyond_two_billion_are_exact():
    huge = [2 * 10**9, 10**9 + 1, 10**9]
    runs = decoded(huge, [0, sum(huge)])
    assert runs.areas_n.tolist() == [10**9 + 1, sum(huge)]
    assert runs.edges_r2[0].tolist() == [2 * 10**9, 3 * 10**9 + 1]
    far = decode_runs([code_of([3, 4, 5])], np.array([2**31 - 6]), pixels=12)
    assert far.edges_r2[0].tolist() == [2**31 - 3, 2**31 + 1]


def test_no_code_has_no_run():
    runs = decode_runs([], np.zeros(0, np.int64), pixels=12)
    assert (len(runs.edges_r2), runs.first_n.tolist(), len(runs.areas_n)) == (0, [0], 0)


WRONG_PIXELS = "its runs do not make the 12 pixels of the mask"


@pytest.mark.parametrize(
    "code, message",
    [
        pytest.param(code_of([3, 4, 4]), WRONG_PIXELS, id="a pixel is missing"),
        pytest.param(code_of([3, 4, 6]), WRONG_PIXELS, id="a pixel too many"),
        pytest.param("", WRONG_PIXELS, id="nothing"),
        pytest.param("3", WRONG_PIXELS, id="cut after the first count"),
        pytest.param("5N9", WRONG_PIXELS, id="a negative count"),
        pytest.param("55" + "0o" * 3 + "04", WRONG_PIXELS, id="a count that becomes negative"),
        pytest.param(code_of([6, 2**31 - 1, 2**31 - 1, 2, 6]), WRONG_PIXELS, id="as many pixels, modulo 2³²"),
        pytest.param(code_of([3, 4, 5]) + "P", "it ends within a number", id="cut within a count"),
        pytest.param("34~", "it holds '~'", id="a character that no code has"),
        pytest.param("34 5", "it holds ' '", id="a blank"),
        pytest.param("34é", "it holds 'é'", id="a letter beyond ASCII"),
        pytest.param("34猫", "it holds '猫'", id="a letter far beyond ASCII"),
        pytest.param(b"345", "it is of type bytes, but a compressed one is a string", id="bytes"),
        pytest.param([3, 4, 5], "it is of type list, but a compressed one is a string", id="counts as numbers"),
    ],
)
@pytest.mark.parametrize(
    "before, after",
    [
        pytest.param([], [], id="alone"),
        pytest.param(["345", None], ["345"], id="between others"),
        pytest.param([None], ["345", ""], id="before another damaged one"),
    ],
)
def test_a_damaged_code_is_refused_and_named(code, message, before, after):
    codes = [*before, code, *after]
    with pytest.raises(RunLengthError, match=f"a run-length code is damaged: {message}") as raised:
        decode_runs(codes, np.arange(len(codes)) * 12, pixels=12)
    assert raised.value.position == len(before)
    assert isinstance(raised.value, InputError)
