import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from maskstream.types import (
    InputError,
    LabelMap,
    PackedMasks,
    decode_rle,
    encode_label_rle,
    encode_rle,
    joint_histogram,
    mask_boxes,
    pack_masks,
    resize_masks,
    rle_area,
    rle_box_xywh,
    unpack_masks,
)
from maskstream.types.masks import pack_bits, unpack_bits

_sizes = st.tuples(st.integers(0, 4), st.integers(1, 12), st.integers(1, 21))
_masks = _sizes.flatmap(lambda shape: hnp.arrays(np.bool_, shape))
_label_maps = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: hnp.arrays(np.int32, shape, elements=st.integers(0, 4))
)


@given(_masks)
def test_unpacking_undoes_packing(masks):
    masks_nhw = torch.from_numpy(masks)
    packed = pack_masks(masks_nhw)
    assert torch.equal(unpack_masks(packed), masks_nhw)
    assert packed.bits.nbytes == masks.shape[0] * masks.shape[1] * -(-masks.shape[2] // 8)


@given(_masks)
def test_packing_on_other_devices_is_the_same(masks):
    masks_nhw = torch.from_numpy(masks)
    packed = pack_masks(masks_nhw)
    assert torch.equal(pack_bits(masks_nhw), packed.bits)
    assert torch.equal(unpack_bits(packed.bits, packed.width), masks_nhw)


@given(_masks)
def test_run_length_codes_are_lossless(masks):
    masks_nhw = torch.from_numpy(masks)
    assert torch.equal(decode_rle(encode_rle(masks_nhw), masks.shape[1:]), masks_nhw)


@given(_label_maps)
def test_codes_of_a_label_map_equal_those_of_its_masks(labels):
    one_pass = encode_label_rle(LabelMap(torch.from_numpy(labels)), 4)
    assert one_pass == encode_rle(torch.from_numpy(labels == np.arange(1, 5)[:, None, None]))


@given(_label_maps)
def test_area_and_box_are_those_of_the_pixels(labels):
    for position, code in enumerate(encode_label_rle(LabelMap(torch.from_numpy(labels)), 4), start=1):
        rows, columns = np.nonzero(labels == position)
        assert rle_area(code) == len(rows)
        x, y, width, height = rle_box_xywh(code)
        expected = (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1) if len(rows) else (0, 0, 0, 0)
        assert (x, y, width, height) == expected


@given(_label_maps)
def test_the_joint_histogram_counts_every_pair_of_labels(labels):
    others = np.roll(labels, 1, axis=1) % 3
    joint = joint_histogram(torch.from_numpy(labels), 4, torch.from_numpy(others), 2)
    for (a, b), count in np.ndenumerate(joint.numpy()):
        assert count == ((labels == a) & (others == b)).sum()


def test_label_maps_of_different_size_have_no_joint_histogram():
    with pytest.raises(InputError, match="differ in size"):
        joint_histogram(torch.zeros((2, 2), dtype=torch.int32), 1, torch.zeros((2, 3), dtype=torch.int32), 1)


def test_codes_are_those_that_pycocotools_reads():
    mask = np.zeros((5, 7), dtype=np.uint8)
    mask[1:4, 2:6] = 1
    (code,) = encode_label_rle(LabelMap(torch.from_numpy(mask.astype(np.int32))), 1)
    assert np.array_equal(coco_mask.decode(code), mask)


def test_a_code_of_another_size_is_refused():
    (code,) = encode_rle(torch.ones((1, 3, 4), dtype=torch.bool))
    with pytest.raises(InputError, match="3×4, but the frame is 4×4"):
        decode_rle([code], (4, 4))


def test_a_label_map_must_be_int32():
    with pytest.raises(InputError, match="int32"):
        LabelMap(torch.zeros((2, 2), dtype=torch.int64))


def test_packed_masks_must_fit_their_width():
    with pytest.raises(InputError, match=r"uint8\[N, H, 2\]"):
        PackedMasks(torch.zeros((1, 4, 1), dtype=torch.uint8), width=9)


@pytest.mark.parametrize("count", [0, 2])
def test_resizing_to_the_same_size_changes_nothing(count):
    masks = torch.rand((count, 6, 8))
    assert torch.equal(resize_masks(masks, (6, 8)), masks)


def test_shrinking_averages_the_pixels_that_become_one():
    checkers = (torch.arange(64).view(1, 8, 8) // 8 + torch.arange(64).view(1, 8, 8)) % 2
    shrunk = resize_masks(checkers, (2, 2))
    assert shrunk.shape == (1, 2, 2)
    assert torch.allclose(shrunk, torch.tensor(0.5), atol=0.02)


def test_resizing_no_masks_gives_no_masks():
    assert resize_masks(torch.zeros((0, 4, 4)), (2, 3)).shape == (0, 2, 3)


@pytest.mark.parametrize("seed", range(5))
def test_a_box_around_a_mask_holds_all_of_it_and_no_more(seed):
    masks = torch.from_numpy(np.random.default_rng(seed).random((4, 9, 7)) < 0.05)
    masks[:, seed, 3] = True
    for mask, (left, top, right, bottom) in zip(masks, mask_boxes(masks).tolist(), strict=True):
        assert mask[top:bottom, left:right].sum() == mask.sum()
        assert mask[top].any() and mask[bottom - 1].any() and mask[:, left].any() and mask[:, right - 1].any()
