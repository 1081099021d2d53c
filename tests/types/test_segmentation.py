import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from maskstream.types import FrameAnnotation, FrameSegmentation, InputError, LabelMap, PackedMasks, Segment, decode_rle

SEGMENTS = (Segment(3, 3, category=7), Segment(9, 9), Segment(4, 8, category=0, is_thing=False))
LABELS = torch.tensor([[0, 1, 1, 0], [2, 2, 1, 0], [2, 0, 0, 3]], dtype=torch.int32)


@pytest.fixture
def disjoint():
    return FrameSegmentation(5, (3, 4), SEGMENTS, LabelMap(LABELS))


@pytest.fixture
def packed():
    return FrameSegmentation.from_masks(5, SEGMENTS, torch.arange(1, 4)[:, None, None] == LABELS)


@pytest.mark.parametrize("kind", ["disjoint", "packed"])
def test_views_show_the_same_picture_however_masks_are_held(kind, request):
    frame = request.getfixturevalue(kind)
    assert frame.disjoint == (kind == "disjoint")
    assert torch.equal(frame.label_map(), LABELS)
    assert frame.panoptic_map().tolist() == [[0, 3, 3, 0], [9, 9, 3, 0], [9, 0, 0, 4]]
    assert frame.semantic_map(255).tolist() == [[255, 7, 7, 255], [255, 255, 7, 255], [255, 255, 255, 0]]
    assert frame.areas().tolist() == [3, 3, 1]
    assert frame.boxes().tolist() == [[1, 0, 3, 2], [0, 1, 2, 3], [3, 2, 4, 3]]
    assert torch.equal(decode_rle(frame.to_rle(), (3, 4)), frame.masks_nhw())


@given(hnp.arrays(np.bool_, st.tuples(st.just(3), st.integers(1, 7), st.integers(1, 19))))
def test_overlapping_masks_survive_packing(masks):
    frame = FrameSegmentation.from_masks(0, SEGMENTS, torch.from_numpy(masks))
    assert torch.equal(frame.masks_nhw(), torch.from_numpy(masks))
    assert frame.areas().tolist() == masks.sum((1, 2)).tolist()
    for box, mask in zip(frame.boxes().tolist(), masks, strict=True):
        rows, columns = np.nonzero(mask)
        expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else [0, 0, 0, 0]
        assert box == expected


@pytest.mark.parametrize(
    ("scores", "top"),
    [
        pytest.param((0.2, 0.9), 2, id="the higher score is on top"),
        pytest.param((0.9, 0.2), 1, id="even if it is larger"),
        pytest.param((None, None), 2, id="without scores the smaller one is on top"),
    ],
)
def test_where_masks_overlap_one_is_on_top(scores, top):
    masks = torch.zeros((2, 2, 3), dtype=torch.bool)
    masks[0] = True
    masks[1, 0, 0] = True
    segments = tuple(Segment(n + 1, n + 1, score=score) for n, score in enumerate(scores))
    assert FrameSegmentation.from_masks(0, segments, masks).label_map()[0, 0] == top


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"size_hw": (4, 4)}, "masks of frame 5", id="masks of another size"),
        pytest.param({"segments": (Segment(1, 1), Segment(1, 2))}, "twice", id="an id used twice"),
        pytest.param({"probabilities": torch.zeros((2, 3, 4))}, "probability channels", id="too few channels"),
        pytest.param(
            {"masks": PackedMasks(torch.zeros((1, 3, 1), dtype=torch.uint8), 4)}, "1 masks", id="too few masks"
        ),
    ],
)
def test_a_segmentation_that_does_not_fit_together_is_refused(change, message):
    good = {"frame_index": 5, "size_hw": (3, 4), "segments": SEGMENTS, "masks": LabelMap(LABELS)}
    with pytest.raises(InputError, match=message):
        FrameSegmentation(**(good | change))


def test_is_thing_has_three_values():
    assert [Segment(1, 1, is_thing=value).is_thing for value in (None, False, True)] == [None, False, True]
    with pytest.raises(InputError, match="is_thing"):
        Segment(1, 1, is_thing="yes")  # type: ignore[arg-type]


def test_ids_are_counted_from_one():
    with pytest.raises(InputError, match="counted from 1"):
        Segment(0, 1)


def test_a_crowd_id_must_be_on_the_frame(disjoint):
    assert FrameAnnotation(disjoint, crowd_ids=frozenset({9})).annotated
    with pytest.raises(InputError, match=r"\[2\] crowd"):
        FrameAnnotation(disjoint, crowd_ids=frozenset({2}))


def test_a_void_mask_must_have_the_size_of_the_frame(disjoint):
    with pytest.raises(InputError, match="void"):
        FrameAnnotation(disjoint, void=torch.zeros((2, 2), dtype=torch.bool))
