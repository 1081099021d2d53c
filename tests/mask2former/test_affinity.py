"""Who is who, by hand."""

import math

import pytest
import torch

from maskstream.mask2former.affinity import assigned, bi_softmax, mask_overlap


def test_targets_and_candidates_are_matched_by_hand():
    """Three targets, four candidates (check 7): who is below the threshold is nobody's before anyone is matched."""
    similarity = torch.tensor([[9.0, 0, 0, 0], [0, 0, 9, 0], [0, 3, 0, 3]])
    affinity = bi_softmax(similarity)
    assert float(affinity[0, 0]) == pytest.approx(
        (math.exp(9) / (math.exp(9) + 3) + math.exp(9) / (math.exp(9) + 2)) / 2
    )
    assert assigned(affinity, 0.1) == {0: 0, 2: 1, 1: 2}  # of equal ones the first
    assert assigned(affinity, 0.9) == {0: 0, 2: 1}
    assert assigned(torch.zeros(0, 4), 0.1) == assigned(torch.zeros(3, 0), 0.1) == {}


def test_an_affinity_below_the_threshold_does_not_take_a_place():
    # Without the threshold the Hungarian method would give 0 to 1 and 1 to 0, for that is 0.8 together, not 0.65.
    affinity = torch.tensor([[0.6, 0.4], [0.4, 0.05]])
    assert assigned(affinity, 0.5) == {0: 0}


def test_overlap_is_that_of_all_frames_together():
    first = torch.zeros(2, 2, 1, 4, dtype=torch.bool)
    first[0, 0, 0, :3] = True  # 3 pixels on the first frame; the other is empty
    second = torch.zeros(2, 2, 1, 4, dtype=torch.bool)
    second[0, 0, 0, 1:] = True
    second[0, 1, 0, 0] = True  # 3 on the first, 1 on the second frame; the other is empty
    assert mask_overlap(first, second).tolist() == [[pytest.approx(2 / 5), 0], [0, 0]]
