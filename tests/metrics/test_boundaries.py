import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from maskstream.metrics.boundaries import (
    Region,
    boundary_iou,
    boundary_iou_width,
    boundary_radius,
    disk,
    frame_regions,
    pairwise_jf,
    region_f,
    region_j,
    union_region,
)
from maskstream.types import FrameSegmentation, LabelMap, Segment

from .fixtures_vos import frame_of_labels, frame_of_masks
from .literal_jf import literal_boundary_iou, literal_contour, literal_f, literal_j, whole_picture_f

_sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))
_mask_pairs = _sizes.flatmap(lambda size: hnp.arrays(np.bool_, (2, *size)))
_labels = _sizes.flatmap(lambda size: hnp.arrays(np.int32, (2, *size), elements=st.integers(0, 3)))


def _ellipse(size_hw, centre_yx, radii_yx):
    y, x = np.ogrid[: size_hw[0], : size_hw[1]]
    return ((y - centre_yx[0]) / radii_yx[0]) ** 2 + ((x - centre_yx[1]) / radii_yx[1]) ** 2 <= 1


@settings(deadline=None)
@given(_mask_pairs)
def test_region_scores_equal_the_definitions(masks):
    pred, truth = (Region.of_mask(mask) for mask in masks)
    radius = boundary_radius(masks.shape[1:])
    assert region_j(pred, truth) == literal_j(*masks)
    assert region_f(pred, truth, radius=radius) == literal_f(*masks)


@settings(deadline=None)
@given(_mask_pairs)
def test_contour_length_counts_the_literal_contour(masks):
    assert Region.of_mask(masks[0]).contour_length == len(literal_contour(masks[0]))


@settings(deadline=None)
@given(_mask_pairs, st.integers(1, 4))
def test_boundary_iou_equals_the_definition(masks, width):
    pred, truth = (Region.of_mask(mask) for mask in masks)
    assert boundary_iou(pred, truth, width=width) == literal_boundary_iou(masks[0], masks[1], width)


@settings(deadline=None)
@given(_mask_pairs, st.floats(1.0, 4.0))
def test_fractional_disks_reach_as_the_shifted_grid_says(masks, radius):
    grid = np.arange(-radius, radius + 1)
    anchor = len(grid) // 2

    def near(dy, dx):
        # A pixel is reached from (dy, dx) before it when the cell that far behind the anchor belongs to the disk.
        row, column = anchor - dy, anchor - dx
        inside = min(row, column) >= 0 and max(row, column) < len(grid)
        return inside and grid[row] ** 2 + grid[column] ** 2 <= radius**2

    pred, truth = (Region.of_mask(mask) for mask in masks)
    assert region_f(pred, truth, radius=radius) == literal_f(masks[0], masks[1], near)


@pytest.mark.parametrize(
    "centre, radii",
    [
        pytest.param((60, 80), (30, 40), id="inside the picture"),
        pytest.param((0, 0), (40, 50), id="cut off by a corner"),
        pytest.param((119, 80), (200, 30), id="from edge to edge"),
        pytest.param((60, 80), (500, 500), id="covering the picture"),
        pytest.param((60, 159), (3, 3), id="a few pixels at the edge"),
    ],
)
@pytest.mark.parametrize("size_hw", [(120, 160), (480, 854)])
def test_regions_on_boxes_equal_whole_pictures(centre, radii, size_hw):
    truth = _ellipse(size_hw, centre, radii)
    pred = _ellipse(size_hw, (centre[0] + 3, centre[1] - 4), (radii[0] + 2, radii[1] - 1))
    regions = Region.of_mask(pred), Region.of_mask(truth)
    assert region_j(*regions) == (pred & truth).sum() / (pred | truth).sum()
    assert region_f(*regions, radius=boundary_radius(size_hw)) == whole_picture_f(pred, truth)


def test_disk_of_a_whole_radius_is_centred_and_of_a_fraction_is_shifted():
    assert disk(1.0).tolist() == [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    shifted = disk(1.5)
    assert shifted.shape == (4, 4)
    assert shifted.tolist() == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


@settings(deadline=None)
@given(_labels)
def test_label_maps_and_overlapping_masks_give_the_same_regions(labels):
    label_map, void = labels[0], labels[1] == 1
    disjoint = frame_of_labels(label_map, ids=(1, 2, 3, 9))
    masks = {o: label_map == o for o in (1, 2, 3, 9)}
    packed = frame_of_masks(masks, size_hw=label_map.shape)
    for taken_out in (None, void):
        regions, others = (frame_regions(frame, void=taken_out) for frame in (disjoint, packed))
        kept = {o: mask if taken_out is None else mask & ~taken_out for o, mask in masks.items()}
        assert set(regions) == set(others) == {o for o, mask in kept.items() if mask.any()}
        for o in regions:
            whole = Region.of_mask(kept[o])
            assert regions[o].area == others[o].area == kept[o].sum()
            assert region_j(regions[o], others[o]) == region_j(regions[o], whole) == 1
        unions = [union_region(frame, void=taken_out) for frame in (disjoint, packed)]
        assert region_j(*unions) == 1
        assert unions[0].area == sum(mask.sum() for mask in kept.values())


@settings(deadline=None)
@given(_labels)
def test_pairwise_scores_equal_pairs_one_by_one(labels):
    size_hw = labels.shape[1:]
    preds, truths = ([*frame_regions(frame_of_labels(side)).values(), Region.empty(size_hw)] for side in labels)
    radius = boundary_radius(size_hw)
    j, f = pairwise_jf(preds, truths, radius=radius)
    assert j.tolist() == [[region_j(p, g) for g in truths] for p in preds]
    assert f.tolist() == [[region_f(p, g, radius=radius) for g in truths] for p in preds]
    assert pairwise_jf(preds, [], radius=radius)[0].shape == (len(preds), 0)


@settings(deadline=None)
@given(_mask_pairs)
def test_region_and_boundary_iou_do_not_change_in_a_mirror(masks):
    plain, mirrored = ([Region.of_mask(mask) for mask in side] for side in (masks, masks[:, :, ::-1]))
    assert region_j(*plain) == region_j(*mirrored)
    assert boundary_iou(*plain, width=2) == boundary_iou(*mirrored, width=2)


def test_a_mask_over_the_whole_picture_has_no_contour():
    full, empty = Region.of_mask(np.ones((5, 6), bool)), Region.empty((5, 6))
    assert full.contour_length == 0
    assert (region_j(empty, full), region_f(empty, full, radius=1)) == (0, 1)


def test_areas_beyond_sixteen_bits_are_exact():
    full = Region.of_mask(np.ones((300, 400), bool))
    assert full.area == full.shared_area(full) == 120_000


def test_boundary_width_is_two_percent_of_the_diagonal_and_at_least_one():
    assert boundary_iou_width((480, 854)) == 20
    assert boundary_iou_width((4, 4)) == 1


def test_regions_of_a_frame_without_segments_are_none():
    blank = FrameSegmentation(0, (4, 5), (), LabelMap(torch.zeros((4, 5), dtype=torch.int32)))
    assert frame_regions(blank) == {}
    assert union_region(blank).area == 0
    absent = FrameSegmentation(0, (4, 5), (Segment(3, 3),), LabelMap(torch.zeros((4, 5), dtype=torch.int32)))
    assert frame_regions(absent) == {}
