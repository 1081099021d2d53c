"""Where and when: codes against the golden values of the Tube-Link specification, §2, and against `transformers`."""

from __future__ import annotations

import math

import pytest
import torch
from transformers.models.mask2former.modeling_mask2former import Mask2FormerSinePositionEmbedding

from maskstream.mask2former.positions import clip_angles, position_codes


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ((0, 0, 0, 0), 0.866027),
        ((1, 0, 0, 0), 0.866023),
        ((0, 1, 2, 3), 0.0),
        ((1, 128, 1, 2), -0.937209),
        ((0, 255, 2, 3), 2.0),
    ],
)
def test_codes_are_those_of_the_specification(place: tuple[int, ...], value: float) -> None:
    codes = position_codes((3, 4), 256, angles_t=clip_angles(2))
    assert codes.shape == (2, 256, 3, 4)
    assert codes[place].item() == pytest.approx(value, abs=1e-5)


def test_codes_of_the_specification_sum_up() -> None:
    assert position_codes((3, 4), 256, angles_t=clip_angles(2)).sum().item() == pytest.approx(5901.44, abs=0.01)


@pytest.mark.parametrize("size_hw", [(1, 1), (3, 4), (15, 27)])
def test_a_picture_has_the_codes_of_transformers(size_hw: tuple[int, int]) -> None:
    theirs = Mask2FormerSinePositionEmbedding(num_position_features=16, normalize=True)
    expected = theirs(torch.Size((1, 32, *size_hw)), torch.device("cpu"), torch.float32)
    torch.testing.assert_close(position_codes(size_hw, 32), expected, atol=1e-6, rtol=0)


def test_time_is_added_alike_everywhere_in_a_frame() -> None:
    timed, untimed = position_codes((3, 5), 16, angles_t=clip_angles(4)), position_codes((3, 5), 16)
    added = timed - untimed
    torch.testing.assert_close(added, added[:, :, :1, :1].expand_as(added))
    assert not torch.allclose(added[0], added[1])


def test_angles_go_once_around_over_a_clip() -> None:
    torch.testing.assert_close(clip_angles(4), torch.tensor([0.5, 1.0, 1.5, 2.0]) * math.pi)
