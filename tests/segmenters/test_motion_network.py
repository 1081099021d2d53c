"""What moves, learned: its inputs, and the segmenter around the network."""

import numpy as np
import pytest
import torch

from maskstream.segmenters import LearnedMotionSegmenter
from maskstream.segmenters.camera_motion import residual_motion
from maskstream.segmenters.motion_network import (
    CHANNELS_OF_GAP,
    MotionConfig,
    MotionNetwork,
    motion_inputs,
)
from maskstream.types import Frame, InputError, PointPrompt

from .test_motion import BACKGROUND, HEIGHT, WIDTH, texture


def wall(shift=0):
    return np.ascontiguousarray(BACKGROUND[200 : 200 + HEIGHT, 300 + shift : 300 + shift + WIDTH])


class FromTruth(MotionNetwork):
    """Says what is true of a picture."""

    def __init__(self, ids_hw):
        super().__init__(MotionConfig(gaps=(1, 6), widths=(4, 4)))
        self.logits = torch.from_numpy(np.where(ids_hw > 0, 9.0, -9.0).astype(np.float32))[None]

    def forward(self, x_bchw):
        return self.logits


def squares(*squares, size_hw=(HEIGHT, WIDTH)):
    ids = np.zeros(size_hw, np.int32)
    for number, (top, left, side) in enumerate(squares, start=1):
        ids[top : top + side, left : left + side] = number
    return ids


def test_inputs_are_picture_and_flow_of_each_gap():
    image, past = wall(), wall(4)
    residual = residual_motion(image, past)
    assert residual is not None
    found = motion_inputs(image, {6: residual}, (1, 6))
    assert found.shape == (3 + 2 * CHANNELS_OF_GAP, HEIGHT, WIDTH)
    np.testing.assert_allclose(found[:3], image.transpose(2, 0, 1) / 128.0 - 1, atol=1e-6)
    assert not found[3 : 3 + CHANNELS_OF_GAP].any()  # the gap of one frame is missing
    of_gap = found[3 + CHANNELS_OF_GAP :]
    np.testing.assert_allclose(np.sinh(2 * of_gap[0]) * residual.tolerance, residual.flow[..., 0], atol=1e-4)
    assert np.abs(np.median(of_gap[2])) < 0.1
    np.testing.assert_array_equal(of_gap[4], residual.consistent)


def filmed(*squares, length=7):
    """Pictures of squares that come from the left before a still wall, and where they are on the last one."""
    patch = texture(7, (HEIGHT, WIDTH), (200, 90, 60))
    pictures = []
    for t in range(length):
        image = wall().copy()
        for top, left, side in squares:
            start = left - 4 * (length - 1 - t)
            image[top : top + side, start : start + side] = patch[top : top + side, left : left + side]
        pictures.append(Frame(t, t / 25, image))
    return pictures, (*squares,)


def test_the_segmenter_proposes_what_both_find():
    pictures, where = filmed((30, 60, 50), (90, 200, 40))
    ids = squares(*where)
    segmenter = LearnedMotionSegmenter(FromTruth(ids), size=HEIGHT)
    assert segmenter.context == 6
    features = segmenter.encode(pictures)
    found = segmenter.segment(features[-1], context=features[:-1])
    assert len(found) == 2
    union = found.masks_nhw.float().amax(0).numpy() > 0.5
    assert (union & (ids > 0)).sum() / (union | (ids > 0)).sum() > 0.8

    one = LearnedMotionSegmenter(FromTruth(squares(where[0])), size=HEIGHT)
    (mask,) = one.segment(features[-1], context=features[:-1]).masks_nhw
    assert (mask.numpy() & (ids == 1)).sum() > 10 * (mask.numpy() & (ids == 2)).sum()

    exclude = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    exclude[:, 150:] = True
    assert len(segmenter.segment(features[-1], context=features[:-1], exclude=exclude)) == 1
    assert len(segmenter.segment(features[-1])) == 0  # nothing to compare with
    with pytest.raises(InputError, match="takes no prompts"):
        segmenter.segment(features[-1], [PointPrompt(0, 1, ((3, 4),))])


def test_the_same_picture_gives_the_same():
    torch.manual_seed(0)
    segmenter = LearnedMotionSegmenter(MotionNetwork(MotionConfig(widths=(8, 8))), size=96)
    features = segmenter.encode([Frame(t, t / 25, wall(3 * t)) for t in range(11)])
    one, two = (segmenter.segment(features[-1], context=features[:-1]) for _ in range(2))
    assert torch.equal(one.masks_nhw, two.masks_nhw) and one.scores == two.scores
