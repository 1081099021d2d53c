"""Boxes."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskstream.segmenters.boxes import box_nms, chosen, finished


def painted(box):
    canvas = np.zeros((12, 12), bool)
    left, top, right, bottom = (int(side) for side in box)
    canvas[top:bottom, left:right] = True
    return canvas


@given(st.integers(0, 2**32 - 1), st.integers(0, 8), st.sampled_from([0.0, 0.3, 0.5, 0.8, 1.0]))
@settings(max_examples=80, deadline=None)
def test_of_boxes_that_overlap_much_the_highest_score_stays(seed, count, max_iou):
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.integers(0, 7, (count, 2, 2)), axis=1)
    corners[:, 1] += rng.integers(1, 6, (count, 2))
    boxes, scores = corners.reshape(count, 4).astype(np.float32), rng.integers(0, 4, count) / 4
    kept: list[int] = []
    for n in sorted(range(count), key=lambda n: -scores[n]):
        pictures = [(painted(boxes[n]), painted(boxes[k])) for k in kept]
        if all((a & b).sum() / (a | b).sum() <= max_iou for a, b in pictures):
            kept.append(n)
    assert box_nms(torch.from_numpy(boxes), torch.from_numpy(scores), max_iou).tolist() == kept


def test_boxes_outside_of_the_picture_are_dropped():
    inside, corner, edge = (1.0, 1.0, 4.0, 4.0), (8.0, 8.0, 8.0, 8.0), (2.0, 8.0, 5.0, 8.0)
    found = chosen(torch.tensor([edge, corner, inside]), torch.tensor([0.9, 0.8, 0.7]), torch.arange(3), max_iou=0.5)
    assert found.xyxy_n4.tolist() == [list(inside)] and found.phrases_n.tolist() == [2]
    assert len(chosen(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long(), max_iou=0.5)) == 0


def test_boxes_are_cut_to_the_picture():
    centred = torch.tensor([[0.5, 0.5, 0.5, 1.0], [0.0, 0.5, 0.5, 0.5]])
    found = finished(centred, (40, 20), (18, 40))
    assert found.tolist() == [[10, 0, 30, 18], [0, 5, 10, 15]]
