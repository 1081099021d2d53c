"""Masks brought from one frame to another."""

from typing import Any

import cv2
import numpy as np
import pytest
import torch

from maskstream.propagation import FlowPropagator
from maskstream.systems.deva import DevaSettings, align
from maskstream.types import Frame, InputError

SIZE = (96, 128)
SHIFT = 5


@pytest.fixture(scope="module")
def frames():
    """A textured square that moves to the right over a textured ground, and where it is."""
    rng = np.random.default_rng(3)
    ground = cv2.GaussianBlur(rng.integers(0, 256, (*SIZE, 3)).astype(np.float32), (0, 0), 2)
    square = cv2.GaussianBlur(rng.integers(0, 256, (40, 40, 3)).astype(np.float32), (0, 0), 2)
    made = []
    for t in range(2):
        image, mask = ground * 3 - 256, torch.zeros(SIZE)
        left = 40 + SHIFT * t
        image[30:70, left : left + 40] = square * 3 - 200
        mask[30:70, left : left + 40] = 1
        made.append((Frame(t, t / 24, np.clip(image, 0, 255).astype(np.uint8)), mask))
    return made


class Aligner:
    """A propagator that does nothing but align, on some device."""

    def __init__(self, device="cpu"):
        self.device = torch.device(device)

    def size_hw(self, features):
        return SIZE

    def align(self, source, masks_nhw, target):
        assert (source, target) == ("a", "b")
        return torch.full((1 + len(masks_nhw), *SIZE), 0.5)


def carried(how, frames, propagator: Any = None):
    (source, mask), (target, _) = frames
    chosen: Any = propagator or Aligner()
    return align(how, chosen, (source, "a"), mask[None], (target, "b"))


def iou(a, b):
    return float((a & b).sum() / (a | b).sum())


def test_flow_follows_what_moved_whatever_the_propagator(frames):
    found = carried("flow", frames)
    torch.testing.assert_close(found.sum(0), torch.ones(SIZE))
    truth = frames[1][1] > 0
    assert iou(found[1] > 0.5, truth) > 0.93
    assert iou(carried("none", frames)[1] > 0.5, truth) < 0.8


def test_none_leaves_masks_where_they_are(frames):
    found = carried("none", frames)
    torch.testing.assert_close(found[1], frames[0][1])
    torch.testing.assert_close(found[0], 1 - frames[0][1])


def test_the_network_aligns_as_it_likes(frames):
    assert (carried("network", frames) == 0.5).all()


@pytest.mark.parametrize(("device", "same_as"), [("cpu", "flow"), ("meta", "network")])
def test_by_default_flow_is_used_where_networks_are_slow(frames, device, same_as):
    torch.testing.assert_close(carried("auto", frames, Aligner(device)), carried(same_as, frames, Aligner(device)))


def test_flow_is_that_of_the_flow_propagator(frames):
    propagator = FlowPropagator(size=min(SIZE))
    (source, mask), (target, _) = frames
    seen = [propagator.encode(frame) for frame in (source, target)]
    own = propagator.align(seen[0], mask[None], seen[1])
    torch.testing.assert_close(align("flow", propagator, (source, seen[0]), mask[None], (target, seen[1])), own)


@pytest.mark.parametrize("how", ["flow", "none"])
def test_no_mask_leaves_background(frames, how):
    (source, _), (target, _) = frames
    aligner: Any = Aligner()
    found = align(how, aligner, (source, "a"), torch.zeros(0, *SIZE), (target, "b"))
    torch.testing.assert_close(found, torch.ones(1, *SIZE))


def test_a_wrong_word_is_refused():
    with pytest.raises(InputError, match=r"alignment is one of auto, network, flow, none, not 'magic'"):
        DevaSettings(alignment="magic")  # type: ignore[arg-type]
