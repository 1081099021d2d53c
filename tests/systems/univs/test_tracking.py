"""Who is who and whose is which pixel: the rules of §9.1 by hand."""

import math

import pytest
import torch

from maskstream.mask2former.affinity import bi_softmax, mask_overlap
from maskstream.systems.univs.tracking import (
    ClipMasks,
    Identities,
    box_overlap,
    contested,
    quality,
    without_doubles,
)

CPU = torch.device("cpu")


def boxes(*columns, height=4, width=12):
    """Masks of one frame, each of columns x0 … x1 - 1."""
    masks = torch.zeros(len(columns), 1, height, width, dtype=torch.bool)
    for n, (x0, x1) in enumerate(columns):
        masks[n, 0, :, x0:x1] = True
    return masks


def test_the_only_candidate_need_not_be_the_only_target():
    known = Identities(3, channels=2, device=CPU)
    known.add(torch.tensor([[4.0, 0.0]]))
    other = torch.tensor([[[0.0, 4.0]]])
    assert float(known.affinity(other, rival=False)) == 1
    assert float(known.affinity(other)) == 0
    assert float(known.affinity(torch.tensor([[[4.0, 0.0]]]))) > 0.99


def test_later_clips_weigh_more_and_clips_without_the_object_do_not_count():
    known = Identities(3, channels=2, device=CPU)
    known.add(torch.tensor([[1.0, 0.0]]))
    nobody, somebody = torch.tensor([False]), torch.tensor([True])
    known.push(known.nobody(), nobody)
    new = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])  # in one frame like before, in the other not at all
    assert known.similarity(new).tolist() == pytest.approx([0.5])
    known.push(torch.tensor([[0.0, 2.0]]), somebody)
    # The new entry is the mean of what was known and what is new: (0.5, 1).
    weights = [math.exp(0), math.exp(10 / 3)]
    cosines = [0.0, 1 / math.hypot(0.5, 1)]
    expected = sum(w * c for w, c in zip(weights, cosines, strict=True)) / sum(weights)
    assert known.similarity(torch.tensor([[[0.0, 1.0]]])).tolist() == pytest.approx([expected])
    for _ in range(3):
        known.push(known.nobody(), nobody)
    assert not bool(known.known_n) and known.similarity(new).tolist() == [0]


def test_a_target_that_was_seen_once_is_compared_by_that_alone():
    known = Identities(4, channels=2, device=CPU)
    known.add(torch.tensor([[3.0, 0.0], [0.0, 3.0]]))
    known.push(known.nobody(), torch.tensor([False, False]))
    candidates = torch.tensor([[[3.0, 0.0]], [[0.0, 3.0]]])
    expected = bi_softmax(torch.tensor([[9.0, 0.0], [0.0, 9.0]]))
    assert torch.allclose(known.affinity(candidates, rival=False), expected)


def test_sharp_masks_are_those_whose_inside_is_clear():
    masks = torch.tensor([[2.0, 2.0, 0.0, -3.0], [0.5, 0.5, 0.5, 0.5], [-9.0, -9.0, -9.0, -9.0]])[:, None, None]
    assert quality(masks).tolist() == pytest.approx([2 / 3, 0, 0])


def test_every_pixel_is_of_one_target_at_most():
    logits = torch.where(boxes((0, 6), (4, 12), (4, 6)), 3.0, -3.0)
    won, share = contested(logits, torch.tensor([1.0, 0.9, 0.0]))
    assert won.sum(0).max() == 1
    assert share.tolist() == pytest.approx([1, 6 / 8, 0])


def test_overlaps_of_boxes_are_the_greatest_of_all_frames():
    apart, together = boxes((0, 4), (8, 12)), boxes((0, 4), (2, 6))
    assert float(box_overlap(torch.cat([apart, together], 1))[0, 1]) == pytest.approx(2 / 6)
    empty = torch.zeros(2, 2, 4, 12, dtype=torch.bool)
    assert box_overlap(empty).tolist() == [[0, 0], [0, 0]]
    assert float(mask_overlap(together, together)[0, 1]) == pytest.approx(2 / 6)


def test_what_doubles_a_double_goes_too():
    """Not greedily: the second goes for the first, and the third for the second (specification, T17)."""
    overlap = torch.tensor([[1.0, 0.9, 0.1], [0.9, 1.0, 0.9], [0.1, 0.9, 1.0]])
    assert without_doubles(overlap, 0.85) == [0]
    assert without_doubles(overlap, 0.95) == [0, 1, 2]
    assert without_doubles(torch.zeros(0, 0), 0.5) == []


def test_masks_of_overlapping_clips_add_up_and_go_with_their_frames():
    masks, like = ClipMasks(), torch.zeros(1, 1, 2, 2)
    masks.advance(0, 3, like)
    masks.add(1)
    masks.vote(torch.full((1, 3, 2, 2), 2.0), torch.tensor([[True, True, False]]))
    masks.advance(1, 3, like)
    masks.vote(torch.full((1, 3, 2, 2), -1.0), torch.tensor([[True, True, True]]))
    assert masks.sum_nthw[0, :, 0, 0].tolist() == [1, -1, -1]
    assert masks.votes_nt.tolist() == [[2, 1, 1]]
    masks.advance(4, 3, like)
    assert masks.votes_nt.tolist() == [[0, 0, 0]]
