"""Masks of JSON files: every form that COCO knows, and damage that would take the process down."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from maskstream.formats.run_lengths import check_codes, frame_of, read_code
from maskstream.types import RLE, InputError, Segment, decode_rle

SIZE = (9, 13)
seeds = st.integers(0, 2**32 - 1)


def mask_of(seed: int, size_hw: tuple[int, int] = SIZE) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mask: np.ndarray = rng.random(size_hw) < rng.choice([0.0, 0.02, 0.5, 1.0])
    return mask


def code_of(mask: np.ndarray) -> RLE:
    code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return RLE(size=list(mask.shape), counts=code["counts"].decode())


def runs_of(counts: str) -> list[int]:
    """The runs of a code, character by character."""
    runs: list[int] = []
    value = place = 0
    for character in counts:
        bits = ord(character) - 48
        assert 0 <= bits < 64
        value |= (bits & 31) << (5 * place)
        place += 1
        if not bits & 32:
            value -= (bits & 16) and 1 << (5 * place)
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = place = 0
    assert place == 0
    return runs


def is_sound(code: RLE) -> bool:
    try:
        runs = runs_of(code["counts"])
    except AssertionError:
        return False
    return bool(runs) and min(runs) >= 0 and sum(runs) == code["size"][0] * code["size"][1]


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_every_form_gives_the_same_mask(seed):
    mask = mask_of(seed)
    code = code_of(mask)
    for plain in (
        {"size": list(SIZE), "counts": code["counts"]},
        {"size": list(SIZE), "counts": code["counts"].encode()},
        {"size": list(SIZE), "counts": runs_of(code["counts"])},
    ):
        found = read_code(plain, SIZE)
        assert found is not None
        check_codes([found])
        assert np.array_equal(decode_rle([found], SIZE)[0].numpy(), mask)


def test_polygons_of_one_object_are_one_mask():
    found = read_code([[1, 1, 5, 1, 5, 4, 1, 4], [8, 2, 12, 2, 12, 9, 8, 9]], SIZE)
    assert found is not None
    wanted = np.zeros(SIZE, bool)
    wanted[1:4, 1:5] = wanted[2:9, 8:12] = True
    assert np.array_equal(decode_rle([found], SIZE)[0].numpy(), wanted)


@pytest.mark.parametrize("plain", [None, []], ids=["null", "no polygon"])
def test_nothing_is_no_mask(plain):
    assert read_code(plain, SIZE) is None


@pytest.mark.parametrize(
    "plain, message",
    [
        ([[1, 2, 3, 4]], "a polygon is a list of three or more pairs"),
        ([1, 2, 3, 4, 5, 6], "a polygon is a list"),
        ({"size": [13, 9], "counts": "1"}, "a mask is 13×9, but the picture 9×13"),
        ({"size": list(SIZE), "counts": [100]}, "run lengths add up to 100, not to 9×13"),
        ({"size": list(SIZE), "counts": [130, -13]}, "run lengths add up"),
    ],
)
def test_what_is_no_mask_is_refused(plain, message):
    with pytest.raises(InputError, match=message):
        read_code(plain, SIZE)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(seeds, st.booleans()), min_size=1, max_size=5), st.data())
def test_codes_pass_when_their_runs_fill_the_picture_and_only_then(parts, data):
    codes = []
    size_hw = (parts[0][0] % 7 + 1, parts[0][0] % 11 + 1)
    for seed, is_touched in parts:
        code = code_of(mask_of(seed, size_hw))
        if is_touched:
            at = data.draw(st.integers(0, len(code["counts"]) - 1))
            other = data.draw(st.sampled_from("0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]_`abco~ /\u00e9"))
            keep = data.draw(st.booleans())
            code = RLE(size=code["size"], counts=code["counts"][:at] + other + code["counts"][at + 1 :] * keep)
        codes.append(code)
    if all(is_sound(code) for code in codes):
        check_codes(codes)
    else:
        with pytest.raises(InputError, match="a run-length code is damaged"):
            check_codes(codes)


def test_the_code_of_another_size_is_refused_among_many():
    codes = [code_of(mask_of(seed)) for seed in range(300)]
    check_codes(codes)
    codes[200] = RLE(size=[18, 26], counts=codes[200]["counts"])
    with pytest.raises(InputError, match="of different sizes"):
        check_codes(codes)


def test_a_frame_has_the_masks_of_its_codes():
    masks = [mask_of(2), mask_of(3)]
    segments = (Segment(4, 4), Segment(9, 9))
    frame = frame_of(3, SIZE, segments, [code_of(mask) for mask in masks])
    assert (frame.frame_index, frame.segments) == (3, segments)
    assert np.array_equal(frame.masks_nhw().numpy(), np.stack(masks))
    assert frame_of(0, SIZE, (), ()).masks_nhw().shape == (0, *SIZE)
