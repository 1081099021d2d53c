"""Clicks, learned: what the network sees, and the segmenter around it."""

import numpy as np
import pytest
import torch

from maskstream.segmenters.click import (
    CHANNELS,
    ClickConfig,
    ClickNetwork,
    ClickSegmenter,
    click_inputs,
    clicked_mask,
    load_click_network,
    save_click_network,
)
from maskstream.segmenters.grabcut import grab_cut
from maskstream.segmenters.prompted import Hints
from maskstream.types import BoxPrompt, Frame, InputError, MaskPrompt, ObjectPrompt, PointPrompt, ScribblePrompt

SIZE = (48, 64)


class Left(ClickNetwork):
    """Finds the left half, whatever is shown, with a given probability, and keeps what it was shown."""

    def __init__(self, probability=0.99):
        super().__init__(ClickConfig(widths=(4, 4)))
        self.logit = float(torch.logit(torch.tensor(probability)))

    def forward(self, x_bchw):
        self.seen = x_bchw
        logits = torch.full((1, *x_bchw.shape[2:]), -self.logit)
        logits[..., : x_bchw.shape[3] // 2] = self.logit
        return logits


@pytest.fixture
def picture():
    return Frame(0, 0.0, np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8))


def test_every_hint_has_its_channel():
    image = np.zeros((*SIZE, 3), np.uint8)
    on, off, box, mask = (np.zeros(SIZE, bool) for _ in range(4))
    on[10, 20], off[30, 40], box[5:9, 5:9], mask[20:30, 20:30] = True, True, True, True
    found = click_inputs(image, Hints(on, off, box, mask))
    assert found.shape == (CHANNELS, *SIZE) and (found[:3] == -1).all()
    assert found[3, 10, 20] == found[4, 30, 40] == 1 and 20 < found[3].sum() < 49
    np.testing.assert_array_equal(found[5], mask)
    np.testing.assert_array_equal(found[6], box)
    assert not click_inputs(image, Hints(on, off))[5:].any()


@pytest.fixture
def square():
    """A bright square in the middle, and a click on it."""
    image = np.full((*SIZE, 3), 40, np.uint8)
    image[16:32, 24:40] = 200
    on = np.zeros(SIZE, bool)
    on[23:25, 31:33] = True
    return image, Hints(on, np.zeros(SIZE, bool))


@pytest.mark.parametrize("probability", [0.6, 0.99])
def test_the_network_mends_the_first_cut_of_grabcut(square, probability):
    image, hints = square
    network = Left(probability)
    found = clicked_mask(network, image, hints)
    np.testing.assert_array_equal(network.seen[0, 5], grab_cut(image, hints))
    assert hints.mask is None
    np.testing.assert_array_equal(found, (np.arange(64) < 32) | hints.object)


@pytest.mark.parametrize(
    ("probability", "believed"),
    [
        pytest.param(0.8, "cut", id="the network is not sure"),
        pytest.param(0.9, "network", id="the network is sure"),
    ],
)
def test_a_network_that_contradicts_a_later_cut_must_be_sure(square, probability, believed):
    image, hints = square
    hints.mask = np.zeros(SIZE, bool)
    hints.mask[16:32, 24:30] = True
    network = Left(probability)
    found = clicked_mask(network, image, hints)
    np.testing.assert_array_equal(network.seen[0, 5], hints.mask)
    expected = {"cut": grab_cut(image, hints), "network": (np.arange(64) < 32) | hints.object}[believed]
    np.testing.assert_array_equal(found, np.broadcast_to(expected, SIZE))


def test_prompts_of_an_object_are_seen_together(picture):
    network = Left()
    segmenter = ClickSegmenter(network, size=48)
    (features,) = segmenter.encode([picture])
    before = torch.zeros(SIZE, dtype=torch.bool)
    before[:10, :10] = True
    prompts: list[ObjectPrompt] = [
        MaskPrompt(0, 7, before),
        PointPrompt(0, 7, ((50, 10), (5, 40)), (True, False), add=True),
        ScribblePrompt(0, 7, ((2, 2), (20, 2))),
        BoxPrompt(0, 7, (1, 1, 40, 40), category=3),
    ]
    found = segmenter.segment(features, prompts)
    assert found.masks_nhw.shape == (1, *SIZE) and found.categories == (3,)
    mask = found.masks_nhw[0]
    assert mask[10, 50] and not mask[40, 5]  # clicks are taken at their word
    assert mask[20:35, 5:30].all() and not mask[20:, 40:].any()
    assert all(network.seen[0, channel].any() for channel in (3, 4, 5, 6))


def test_a_mask_alone_is_taken_as_it_is_and_nothing_asked_is_nothing_found(picture):
    segmenter = ClickSegmenter(Left())
    (features,) = segmenter.encode([picture])
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[3:9] = True
    assert torch.equal(segmenter.segment(features, [MaskPrompt(0, 1, mask)]).masks_nhw[0], mask)
    assert len(segmenter.segment(features)) == 0


def test_a_click_outside_of_the_picture_is_an_error(picture):
    segmenter = ClickSegmenter(Left())
    (features,) = segmenter.encode([picture])
    with pytest.raises(InputError, match="is outside the picture"):
        segmenter.segment(features, [PointPrompt(0, 1, ((64, 3),))])


def test_large_pictures_are_worked_on_small():
    segmenter = ClickSegmenter(Left(), size=32)
    (features,) = segmenter.encode([Frame(0, 0.0, np.zeros((128, 160, 3), np.uint8))])
    assert features.image_hwc.shape == (32, 40, 3)
    assert segmenter.segment(features, [PointPrompt(0, 1, ((3, 4),))]).masks_nhw.shape == (1, 128, 160)


def test_what_was_saved_is_loaded(tmp_path):
    network = ClickNetwork(ClickConfig(widths=(4, 6))).eval()
    save_click_network(network, tmp_path)
    x = torch.rand(1, CHANNELS, 20, 30)
    with torch.no_grad():
        assert torch.equal(network(x), load_click_network(tmp_path)(x))
