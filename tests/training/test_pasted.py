"""Clips of cut-outs: a function of chance alone, with objects that move."""

import numpy as np
import pytest
import torch

from maskstream.synthetic.cutouts import Cutouts
from maskstream.training.pasted import PastedClips
from maskstream.types import InputError


@pytest.fixture(scope="module")
def cutouts():
    rng = np.random.default_rng(0)
    objects = torch.from_numpy(rng.integers(0, 256, (3, 4, 160, 160), np.uint8))
    objects[:, 3] = 0
    objects[:, 3, 20:140, 30:130] = 255
    return Cutouts(objects, torch.from_numpy(rng.integers(0, 256, (2, 3, 256, 256), np.uint8)))


def test_a_clip_follows_from_chance_alone(cutouts):
    source = PastedClips(cutouts, frames=4, size=64)
    one, same, other = (source.clip(7, progress=0.0, rng=np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.frames_thw3.shape == (4, 64, 64, 3) and one.frames_thw3.dtype == np.uint8
    assert one.labels_thw.shape == (4, 64, 64) and one.labels_thw.dtype == np.int32
    assert one.number == 7
    assert np.array_equal(one.frames_thw3, same.frames_thw3) and np.array_equal(one.labels_thw, same.labels_thw)
    assert not np.array_equal(one.frames_thw3, other.frames_thw3)


def test_objects_are_seen_first_and_move(cutouts):
    source = PastedClips(cutouts, frames=5, size=64, steps=(5, 5), objects=(1, 1))
    moved = []
    for seed in range(12):
        labels = source.clip(seed, progress=0.0, rng=np.random.default_rng(seed)).labels_thw > 0
        assert labels[0].any()
        moved.append((labels[0] & labels[-1]).sum() / (labels[0] | labels[-1]).sum())
    assert np.mean(moved) < 0.7


@pytest.mark.parametrize("options", [{"frames": 0}, {"size": 0}, {"steps": (0, 2)}, {"steps": (3, 2)}], ids=str)
def test_numbers_out_of_range_are_refused(cutouts, options):
    with pytest.raises(InputError, match="1 or more"):
        PastedClips(cutouts, **{"frames": 2, "size": 32, **options})
