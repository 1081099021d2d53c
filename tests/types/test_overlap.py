import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from maskstream.types import InputError, LabelMap, mask_overlaps, pack_masks
from maskstream.types.overlap import Overlaps, tight_boxes


def row(text: str) -> LabelMap:
    """One line of pixels, a digit each: 0 for nothing, n on the n-th mask."""
    return LabelMap(torch.tensor([[int(c) for c in text]], dtype=torch.int32))


def test_two_rows_of_pixels_share_what_they_share():
    overlaps = mask_overlaps(row("0111220"), 2, row("0011122"), 2)
    assert overlaps.areas_g.tolist() == [3, 2]
    assert overlaps.areas_p.tolist() == [3, 2]
    assert overlaps.shared_gp.tolist() == [[2, 0], [1, 1]]
    assert overlaps.iou_gp().tolist() == [[2 / 4, 0], [1 / 4, 1 / 3]]


def check_pixel_by_pixel(overlaps: Overlaps, masks_ghw: np.ndarray, masks_phw: np.ndarray) -> None:
    assert overlaps.areas_g.tolist() == [mask.sum() for mask in masks_ghw]
    assert overlaps.areas_p.tolist() == [mask.sum() for mask in masks_phw]
    shared = [[(g & p).sum() for p in masks_phw] for g in masks_ghw]
    either = [[(g | p).sum() for p in masks_phw] for g in masks_ghw]
    shape = (len(masks_ghw), len(masks_phw))
    assert overlaps.shared_gp.shape == overlaps.iou_gp().shape == shape
    assert np.array_equal(overlaps.shared_gp, np.array(shared, dtype=np.int64).reshape(shape))
    expected = [[s / e if e else 0.0 for s, e in zip(*rows, strict=True)] for rows in zip(shared, either, strict=True)]
    assert np.array_equal(overlaps.iou_gp(), np.array(expected, dtype=np.float64).reshape(shape))


_sizes = st.tuples(st.integers(1, 5), st.integers(1, 20))
_two_label_maps = _sizes.flatmap(lambda hw: hnp.arrays(np.int32, (2, *hw), elements=st.integers(0, 3)))
_two_stacks = st.tuples(_sizes, st.integers(0, 3), st.integers(0, 3)).flatmap(
    lambda drawn: st.tuples(*(hnp.arrays(np.bool_, (count, *drawn[0])) for count in drawn[1:]))
)


@given(_two_label_maps)
def test_disjoint_masks_overlap_as_their_pixels_do_however_they_are_held(labels):
    masks = [labels_hw == np.arange(1, 4)[:, None, None] for labels_hw in labels]
    maps = [LabelMap(torch.from_numpy(labels_hw)) for labels_hw in labels]
    bits = [pack_masks(torch.from_numpy(masks_nhw)) for masks_nhw in masks]
    for first in (maps[0], bits[0]):
        for second in (maps[1], bits[1]):
            check_pixel_by_pixel(mask_overlaps(first, 3, second, 3), *masks)


@given(_two_stacks)
def test_overlapping_masks_overlap_as_their_pixels_do(stacks):
    bits = [pack_masks(torch.from_numpy(masks_nhw)) for masks_nhw in stacks]
    check_pixel_by_pixel(mask_overlaps(bits[0], len(stacks[0]), bits[1], len(stacks[1])), *stacks)


@given(_two_stacks)
def test_boxes_are_those_of_the_pixels(stacks):
    masks_nhw = np.concatenate(stacks)
    boxes = tight_boxes(pack_masks(torch.from_numpy(masks_nhw)), len(masks_nhw))
    assert boxes.shape == (len(masks_nhw), 4)
    for mask, box in zip(masks_nhw, boxes.tolist(), strict=True):
        rows, columns = np.nonzero(mask)
        assert box == ([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else [0, 0, 0, 0])


def test_boxes_of_a_label_map_are_those_of_its_masks():
    assert tight_boxes(row("0112220000"), 3).tolist() == [[1, 0, 3, 1], [3, 0, 6, 1], [0, 0, 0, 0]]


def test_masks_without_a_pixel_have_no_iou():
    assert mask_overlaps(row("000"), 1, row("000"), 1).iou_gp().tolist() == [[0]]


@pytest.mark.parametrize(
    ("truths", "predictions"),
    [
        pytest.param([True, False, True], [False, True], id="by flags"),
        pytest.param([0, 2], [1], id="by positions"),
    ],
)
def test_selecting_leaves_the_rows_and_columns_asked_for(truths, predictions):
    whole = mask_overlaps(row("1122330"), 3, row("0112222"), 2)
    some = whole.select(np.array(truths), np.array(predictions))
    assert some.shared_gp.tolist() == [[0], [2]]
    assert some.areas_g.tolist() == [2, 2]
    assert some.areas_p.tolist() == [4]


@pytest.mark.parametrize("packed", [False, True], ids=["label maps", "packed"])
def test_masks_of_different_size_do_not_overlap(packed):
    first, second = row("0110"), row("01100")
    with pytest.raises(InputError, match=r"\[1, 4\] and \[1, 5\]"):
        mask_overlaps(pack_masks(first.masks_nhw(1)) if packed else first, 1, second, 1)
