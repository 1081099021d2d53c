from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from maskstream.formats.id_picture import IdPicture
from maskstream.types import Segment

IDS = [0, 1, 7, 300, 2**24 - 1]
PICTURES = st_numpy.arrays(
    np.int32, st.tuples(st.integers(1, 5), st.integers(1, 6)), elements=st.sampled_from(IDS), fill=st.just(7)
)


@settings(max_examples=200, deadline=None)
@given(PICTURES, st.dictionaries(st.sampled_from(IDS), st.integers(-3, 9)))
def test_ids_are_found_and_renamed_as_pixel_by_pixel(ids_hw, new):
    picture = IdPicture(ids_hw)
    assert picture.ids == sorted(set(ids_hw.ravel().tolist()))
    renamed = picture.renamed(new)
    assert renamed.dtype == np.int32
    assert renamed.shape == ids_hw.shape
    assert renamed.ravel().tolist() == [new.get(number, 0) for number in ids_hw.ravel().tolist()]


@settings(max_examples=50, deadline=None)
@given(PICTURES, st.lists(st.sampled_from(IDS), unique=True))
def test_where_some_ids_are_is_told_or_that_they_are_nowhere(ids_hw, ids):
    found = IdPicture(ids_hw).where(ids)
    expected = np.isin(ids_hw, ids)
    assert (found is None) == (not expected.any())
    assert found is None or np.array_equal(found.numpy(), expected)


def test_segments_keep_their_order_and_several_ids_may_be_one():
    wide, small = Segment(9, 9, 1), Segment(2, 2, 0)
    ids_hw = np.array([[5, 6, 0], [3, 8, 8]])
    found = IdPicture(ids_hw).segmentation(4, {5: wide, 3: small, 6: wide})
    assert (found.frame_index, found.size_hw, found.segments) == (4, (2, 3), (wide, small))
    assert torch.equal(found.label_map(), torch.tensor([[1, 1, 0], [2, 0, 0]], dtype=torch.int32))


def test_a_picture_that_is_cut_out_of_another_is_read_as_it_is_seen():
    whole = np.arange(24).reshape(4, 6)
    cut = whole[1:3, 2:5]
    assert IdPicture(cut).renamed({n: n for n in range(24)}).tolist() == cut.tolist()
