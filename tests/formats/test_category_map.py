import json
from pathlib import Path

import pytest
import torch

from maskstream.formats.category_map import CategoryMap, map_annotation, mapped, one_class, read_category_map
from maskstream.types import (
    OBJECT,
    Category,
    CategorySet,
    FrameAnnotation,
    FrameRef,
    FrameSegmentation,
    InputError,
    LabelMap,
    Segment,
    Track,
    VideoSample,
)

ZOO = CategorySet(
    "zoo",
    (
        Category(3, "ape", is_thing=True),
        Category(5, "bear", is_thing=True),
        Category(0, "sky", is_thing=False),
        Category(9, "what", is_thing=None),
    ),
)


def annotation(*, packed: bool = False) -> FrameAnnotation:
    """An ape, a bear that is a crowd, the sky, and something unknown, a column each."""
    segments = (
        Segment(11, 11, 3, 0.5, True),
        Segment(12, 12, 5, None, True),
        Segment(13, 13, 0, None, False),
        Segment(14, 14, None),
    )
    values = torch.tensor([[1, 2, 3, 4, 0]], dtype=torch.int32)
    frame = FrameSegmentation(7, (1, 5), segments, LabelMap(values))
    if packed:
        frame = FrameSegmentation.from_masks(7, segments, frame.masks_nhw())
    return FrameAnnotation(frame, crowd_ids=frozenset({12, 13}))


@pytest.mark.parametrize("packed", [False, True], ids=["label map", "packed"])
def test_stuff_is_dropped_and_everything_else_becomes_an_object(packed):
    found = map_annotation(annotation(packed=packed), one_class(ZOO))
    segments = found.segmentation.segments
    assert [(s.id, s.category, s.is_thing, s.score) for s in segments] == [
        (11, 1, True, 0.5),
        (12, 1, True, None),
        (14, 1, True, None),
    ]
    assert found.segmentation.panoptic_map().tolist() == [[11, 12, 0, 14, 0]]
    assert found.crowd_ids == {12}
    assert found.segmentation.frame_index == 7


def test_stuff_may_be_kept():
    segments = map_annotation(annotation(), one_class(ZOO, stuff=True)).segmentation.segments
    assert [s.id for s in segments] == [11, 12, 13, 14]


def test_a_file_maps_by_name_or_id_and_numbers_new_names_as_they_come(tmp_path):
    path = tmp_path / "animals.json"
    path.write_text(json.dumps({"bear": "beast", "3": "primate", "*": None}))
    mapping = read_category_map(path, ZOO)
    assert mapping.target.name == "animals"
    assert [(c.id, c.name, c.is_thing) for c in mapping.target.categories] == [(1, "beast", True), (2, "primate", True)]
    assert mapping.of == {3: 2, 5: 1, 0: None, 9: None}


@pytest.mark.parametrize(
    "plain, message",
    [
        pytest.param({"ape": "a"}, "says nothing of 'bear': add it", id="one left out"),
        pytest.param({"yeti": "a", "*": None}, "maps 'yeti', which zoo has not", id="one unknown"),
        pytest.param({"ape": "x", "sky": "x", "*": None}, "both things and stuff of 'x'", id="things and stuff"),
        pytest.param({"ape": 3}, "is no map of categories", id="a number"),
        pytest.param(["ape"], "is no map of categories", id="a list"),
    ],
)
def test_a_map_that_cannot_be_followed_is_refused_by_name(tmp_path, plain, message):
    path = tmp_path / "map.json"
    path.write_text(json.dumps(plain))
    with pytest.raises(InputError, match=message) as caught:
        read_category_map(path, ZOO)
    assert str(path) in str(caught.value)


def test_a_map_that_is_missing_is_named():
    with pytest.raises(InputError, match=r"there is no nowhere\.json, a map of categories"):
        read_category_map(Path("nowhere.json"), ZOO)


def test_a_category_that_the_target_has_not_is_refused():
    with pytest.raises(InputError, match="category 3 is mapped to 8, which object has not"):
        CategoryMap(OBJECT, {3: 8})


def test_a_video_is_mapped_as_it_is_read_and_tracks_keep_the_best_score():
    video = VideoSample(
        "v",
        (FrameRef("0"),),
        read_annotation=lambda index: annotation(),
        read_tracks=lambda: [Track(11, {3: 0.4, 5: 0.9, 0: 1.0}, None, 0, 0)],
    )
    found = mapped(video, one_class(ZOO))
    assert [s.category for s in found.annotation(0).segmentation.segments] == [1, 1, 1]
    assert found.tracks()[0].category_scores == {1: 0.9}
