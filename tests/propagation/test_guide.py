"""The guide of flow and colour: what it carries is where the object is, and what it remembers is saved."""

import io

import numpy as np
import pytest
import torch

from maskstream.propagation.guide import (
    CHANNELS,
    View,
    assembled,
    begin,
    carried,
    given_to,
    guide_bytes,
    look,
)
from maskstream.propagation.references import FlowFeatures

from .worlds import scene

SIZE = (192, 320)
"""Enlarged, for objects of these worlds are small."""
LAST, GIVEN, LAST_ALIKE, GIVEN_ALIKE, COLOUR = range(CHANNELS)
RED, BLUE = (220, 60, 60), (60, 60, 220)


def seen(*objects, **world):
    image, masks = scene(*objects, **world)
    return FlowFeatures.of(image, SIZE), torch.from_numpy(masks).float().repeat_interleave(2, 1).repeat_interleave(2, 2)


def iou(probabilities, mask):
    found = probabilities > 0.5
    return ((found & (mask > 0.5)).sum() / (found | (mask > 0.5)).sum()).item()


def test_masks_are_carried_to_where_their_object_has_moved():
    first, masks = seen((1, RED, 40, 30, 40))
    state = begin(first, masks)
    for step in range(1, 4):
        features, truth = seen((1, RED, 40 + 4 * step, 30 + 2 * step, 40))
        state, guide = look(state, features, masks)
        assert guide.shape == (1, CHANNELS, *SIZE)
        assert iou(guide[0, LAST], truth[0]) > 0.9 and iou(guide[0, GIVEN], truth[0]) > 0.75
        masks = truth


def test_on_the_same_picture_everything_stays_and_looks_the_same():
    first, masks = seen((1, RED, 40, 30, 40), (2, BLUE, 100, 40, 30))
    _, guide = look(begin(first, masks), first, masks)
    torch.testing.assert_close(guide[:, LAST], masks, rtol=0, atol=1e-2)
    torch.testing.assert_close(guide[:, GIVEN], masks, rtol=0, atol=1e-2)
    assert guide[:, [LAST_ALIKE, GIVEN_ALIKE]].min() > 0.99


def test_what_is_uncovered_looks_like_nothing_before():
    first, masks = seen((1, RED, 40, 20, 50))
    away, _ = seen((1, RED, 90, 20, 50))
    _, guide = look(begin(first, masks), away, masks)
    assert guide[0, LAST_ALIKE, 60:120, 100:160].mean() < guide[0, LAST_ALIKE, 60:120, 10:50].mean() - 0.2


def test_colours_tell_an_object_from_what_was_around_it():
    first, masks = seen((1, RED, 40, 30, 40))
    state = begin(first, masks)
    moved, truth = seen((1, RED, 90, 20, 40))
    _, guide = look(state, moved, masks)
    inside, outside = guide[0, COLOUR][truth[0] > 0], guide[0, COLOUR][truth[0] == 0]
    assert inside.mean() > 0.5 > -0.3 > outside.mean()
    assert guide[0, COLOUR].abs().max() <= 1


def test_masks_are_sampled_bilinearly_and_are_zero_outside():
    masks = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
    sampling = torch.tensor([[[[0.5, 0.0], [1.0, 1.0]], [[-1.0, 0.0], [3.0, 0.0]]]])
    torch.testing.assert_close(carried(masks, sampling), torch.tensor([[[[0.5, 1.0], [0.0, 0.0]]]]))


def test_channels_are_in_their_order():
    grid = torch.stack(torch.meshgrid(torch.arange(3.0), torch.arange(2.0), indexing="xy"), dim=-1)[None]
    last, given = torch.rand(1, 2, 2, 3), torch.rand(1, 2, 2, 3)
    views = [View(grid, torch.full((1, 2, 3), value)) for value in (0.25, 0.75)]
    found = assembled(last, views[0], given, views[1], torch.full((1, 2, 2, 3), -1.0))
    torch.testing.assert_close(found[:, :, LAST], last)
    torch.testing.assert_close(found[:, :, GIVEN], given)
    assert (found[:, :, LAST_ALIKE] == 0.25).all() and (found[:, :, GIVEN_ALIKE] == 0.75).all()
    assert (found[:, :, COLOUR] == -1).all()


def test_new_masks_leave_the_colours_of_objects_that_are_known():
    first, masks = seen((1, RED, 40, 30, 40))
    state = begin(first, masks)
    blue, both = seen((1, BLUE, 40, 30, 40), (2, RED, 100, 40, 30))
    later = given_to(state, blue, both, [7], [7, 9], [9])
    assert torch.equal(later.colours[0], state.colours[0])
    again = given_to(state, blue, both, [7], [7, 9], [7, 9])
    assert not torch.equal(again.colours[0], state.colours[0])
    assert torch.equal(later.colours[1], again.colours[1])
    assert torch.equal(later.only([1]).colours[0], later.colours[1])


def test_an_object_that_cannot_be_seen_has_no_colours():
    first, masks = seen((1, RED, 40, 30, 40))
    _, guide = look(begin(first, torch.zeros_like(masks)), first, torch.zeros_like(masks))
    assert (guide[0, [LAST, GIVEN, COLOUR]] == 0).all()


def test_a_state_survives_being_saved():
    first, masks = seen((1, RED, 40, 30, 40), (2, BLUE, 100, 40, 30))
    second, truth = seen((1, RED, 44, 32, 40), (2, BLUE, 97, 40, 30))
    state, _ = look(begin(first, masks), second, masks)
    file = io.BytesIO()
    torch.save(state.to_plain(), file)
    file.seek(0)
    again = type(state).from_plain(torch.load(file, weights_only=True))
    third, _ = seen((1, RED, 48, 34, 40), (2, BLUE, 94, 40, 30))
    assert torch.equal(look(state, third, truth)[1], look(again, third, truth)[1])
    assert state.nbytes == guide_bytes(SIZE, objects=2)


def test_pictures_smaller_than_a_patch_are_looked_at_without_flow():
    features = FlowFeatures.of(np.full((5, 7, 3), 90, np.uint8), (5, 7))
    masks = torch.ones(1, 5, 7)
    _, guide = look(begin(features, masks), features, masks)
    assert guide.shape == (1, CHANNELS, 5, 7) and (guide[0, LAST] == 1).all()


def test_pictures_are_resized():
    image = np.random.default_rng(0).integers(0, 256, (96, 160, 3), np.uint8)
    assert FlowFeatures.of(image, (48, 80)).size_hw == (48, 80)
    assert FlowFeatures.of(image, (96, 160)).lab_hwc.dtype == torch.uint8


@pytest.mark.parametrize("objects", [1, 3])
def test_bytes_are_foretold(objects):
    first, _ = seen((1, RED, 40, 30, 40))
    state = begin(first, torch.zeros(objects, *SIZE))
    assert state.nbytes == guide_bytes(SIZE, objects=objects)
