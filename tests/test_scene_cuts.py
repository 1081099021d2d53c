"""Where scenes end: a hard cut is found, movement is not taken for one."""

import numpy as np
import pytest
from numpy.typing import NDArray

from maskstream.scene_cuts import change, find_cuts, small
from maskstream.synthetic import render_sample
from maskstream.types import Frame


def images(seed: int, *, frames: int) -> list[NDArray[np.uint8]]:
    return [frame.image for frame, _ in render_sample(frames=frames, size_hw=(96, 160), seed=seed)]


def test_change_is_told_by_what_flow_does_not_explain_and_by_how_far_it_goes():
    (wide,), (strange,) = images(0, frames=1), images(3, frames=1)
    before, moved, other = (small(np.ascontiguousarray(x[:, 32:128])) for x in (wide, np.roll(wide, 4, 1), strange))
    error, motion = change(before, moved)
    assert error < change(before, other)[0] / 2
    assert 96 * motion == pytest.approx(4, abs=1)
    assert change(before, before) == pytest.approx((0, 0), abs=1e-3)


def test_scenes_end_at_cuts_alone():
    first, second = images(0, frames=8), images(3, frames=8)
    shown = [*first, *second, *second[::-1], *first[:1]]
    frames = [Frame(10 + 2 * n, n / 24, image) for n, image in enumerate(shown)]
    assert list(find_cuts(frames)) == [10 + 2 * 8, 10 + 2 * 24]
    assert list(find_cuts(frames[:1])) == []
