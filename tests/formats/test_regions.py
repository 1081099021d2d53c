import numpy as np
import pytest
import torch
from hypothesis import given

from maskstream.formats.regions import joined, outline, polygon_mask
from maskstream.types import Segment

from .clips import box, masks


@given(masks())
def test_the_outline_of_a_mask_gives_the_mask_back(mask):
    assert np.array_equal(polygon_mask(outline(mask).astype(float), mask.shape).numpy(), mask)


def test_the_outline_of_a_rectangle_is_its_corners():
    corners = {(2, 3), (6, 3), (6, 5), (2, 5)}
    assert {tuple(point) for point in outline(box(2, 3, 6, 5)).tolist()} == corners


def test_the_outline_of_nothing_is_nothing():
    assert outline(box(0, 0, 0, 0)).shape == (0, 2)


@pytest.mark.parametrize(
    "points, pixels",
    [
        pytest.param([(1, 1), (3, 1), (3, 2), (1, 2)], {(1, 1), (1, 2)}, id="a rectangle"),
        pytest.param([(-4, 0), (1, 0), (1, 1), (-4, 1)], {(0, 0)}, id="cut off at the border"),
        pytest.param([(1, 1), (3, 1)], set(), id="two points are no polygon"),
    ],
)
def test_a_polygon_is_the_pixels_inside(points, pixels):
    mask = polygon_mask(np.array(points, float), (4, 5))
    assert {tuple(pixel) for pixel in mask.nonzero().tolist()} == pixels


def test_pieces_of_one_object_are_joined_and_the_first_describes_it():
    pieces = [
        (Segment(2, 2, category=5), torch.from_numpy(box(0, 0, 1, 1))),
        (Segment(1, 1), torch.from_numpy(box(3, 3, 4, 4))),
        (Segment(2, 2, category=6), torch.from_numpy(box(2, 0, 3, 1))),
    ]
    frame = joined(7, (9, 13), pieces).segmentation
    assert frame.frame_index == 7
    assert frame.segments == (Segment(2, 2, category=5), Segment(1, 1))
    assert frame.masks_nhw()[0].nonzero().tolist() == [[0, 0], [0, 2]]
    assert joined(0, (9, 13), []).segmentation.masks_nhw().shape == (0, 9, 13)
