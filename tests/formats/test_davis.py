import json

import numpy as np
import pytest
import torch
from PIL import Image

from maskstream.formats import davis, viposeg
from maskstream.formats.indexed_png import labelled_frame
from maskstream.types import (
    Category,
    CategorySet,
    FrameAnnotation,
    FrameRef,
    FrameSegmentation,
    InputError,
    LabelMap,
    Segment,
    VideoSample,
)

SIZE = (8, 40)
CATEGORIES = CategorySet("garden", (Category(3, "bee", True), Category(5, "grass", False), Category(9, "ant", True)))
CATEGORY = {2: 5, 4: 3, 6: 9, 9: 3}
"""The grass, 2, is on every frame; 4 and 6 are there from the first frame on, 9 from the second."""


def ids_of_frame(index: int) -> np.ndarray:
    ids = np.zeros(SIZE, np.int32)
    ids[4:] = 2
    ids[0:3, index : index + 5] = 4
    ids[0:2, 20 + index : 24 + index] = 6
    if index:
        ids[1:4, 10:13] = 9
    return ids


def annotation(index: int) -> FrameAnnotation:
    ids = ids_of_frame(index)
    frame = labelled_frame(ids, index, describe=lambda o: Segment(o, o, CATEGORY[o], is_thing=CATEGORY[o] != 5))
    void = np.zeros(SIZE, bool)
    void[0, 39] = True
    return FrameAnnotation(frame.segmentation, torch.from_numpy(void))


def video(*, unlabelled: int | None = None) -> VideoSample:
    refs = tuple(FrameRef(f"frame-{n}", annotated=n != unlabelled) for n in range(3))
    return VideoSample("v", refs, annotation, lambda index: np.full((*SIZE, 3), 50 * index, np.uint8))


def png(path):
    with Image.open(path) as image:
        assert image.mode == "P"
        return np.asarray(image).astype(np.int32)


def files(root) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def expected(index, *, other):
    """Objects 1 and 2; the third thing and the void are ``other``, the grass is nothing."""
    ids = ids_of_frame(index)
    new = (ids == 4) * 1 + (ids == 6) * 2 + (ids == 9) * other
    new[0, 39] = other
    return new


def test_davis_has_pictures_masks_and_a_list(tmp_path):
    davis.write_davis(tmp_path, [video()], CATEGORIES)
    stems = ["00000", "00001", "00002"]
    assert files(tmp_path) == [
        *(f"Annotations/480p/v/{stem}.png" for stem in stems),
        "ImageSets/2017/val.txt",
        *(f"JPEGImages/480p/v/{stem}.jpg" for stem in stems),
    ]
    assert (tmp_path / "ImageSets/2017/val.txt").read_text() == "v\n"
    for index, stem in enumerate(stems):
        assert np.array_equal(png(tmp_path / f"Annotations/480p/v/{stem}.png"), expected(index, other=0))


def test_unsupervised_davis_has_void_where_there_is_void_or_another_thing(tmp_path):
    davis.write_davis_unsupervised(tmp_path, [video()], CATEGORIES)
    for index in range(3):
        name = f"480p/v/{index:05d}.png"
        assert np.array_equal(png(tmp_path / "Annotations_unsupervised" / name), expected(index, other=255))
        assert np.array_equal(png(tmp_path / "Annotations" / name), expected(index, other=0))


@pytest.mark.parametrize("write", [davis.write_davis_results, davis.write_davis_unsupervised_results])
def test_results_of_davis_have_the_ids_of_the_truth(tmp_path, write):
    write(tmp_path, [video()], CATEGORIES)
    for index in range(3):
        assert np.array_equal(png(tmp_path / f"v/{index:05d}.png"), expected(index, other=0))


@pytest.mark.parametrize("write", [davis.write_davis, viposeg.write_viposeg])
def test_a_frame_that_nobody_labelled_has_a_picture_only(tmp_path, write):
    write(tmp_path, [video(unlabelled=1)], CATEGORIES)
    written = [name for name in files(tmp_path) if "00001." in name]
    assert [name.rpartition(".")[2] for name in written] == ["jpg"]


def test_only_so_many_objects_are_taken_the_largest_ones_in_the_order_of_their_ids():
    areas = {7: 5, 3: 9, 5: 9, 1: 1}
    labels = np.zeros((1, 24), np.int32)
    labels[0] = np.repeat([1, 2, 3, 4], list(areas.values()))
    segments = tuple(Segment(track, track) for track in areas)
    frame = FrameAnnotation(FrameSegmentation(0, (1, 24), segments, LabelMap(torch.from_numpy(labels))))
    assert davis.first_frame_objects(frame, most=3) == {3: 1, 5: 2, 7: 3}


def test_vi_p_o_seg_gives_what_is_new_and_says_of_what_class_it_is(tmp_path):
    viposeg.write_viposeg(tmp_path, [video()], CATEGORIES)
    valid = tmp_path / "valid"
    given = {path.stem: png(path) for path in sorted((valid / "Annotations/v").iterdir())}
    assert list(given) == ["00000000", "00000001"]
    assert np.array_equal(given["00000000"], ids_of_frame(0))
    assert np.array_equal(given["00000001"], np.where(ids_of_frame(1) == 9, 9, 0))
    for index in range(3):
        assert np.array_equal(png(valid / f"Annotations_gt/v/{index:08d}.png"), ids_of_frame(index))
    assert json.loads((valid / "obj_class.json").read_text()) == {"v": {"2": "1", "4": "0", "6": "2", "9": "0"}}
    objects = json.loads((valid / "meta.json").read_text())["videos"]["v"]["objects"]
    assert objects["9"] == {"frames": ["00000001", "00000002"]}
    entries = json.loads((tmp_path / "panoVIPSeg_categories.json").read_text())
    assert [(entry["id"], entry["name"], entry["isthing"]) for entry in entries] == [
        (0, "bee", 1),
        (1, "grass", 0),
        (2, "ant", 1),
    ]


def test_results_of_vi_p_o_seg_have_the_ids_of_the_truth(tmp_path):
    viposeg.write_viposeg_results(tmp_path, [video()], CATEGORIES)
    assert files(tmp_path) == [f"v/{index:08d}.png" for index in range(3)]
    assert np.array_equal(png(tmp_path / "v/00000002.png"), ids_of_frame(2))


def test_a_category_of_another_label_space_is_refused(tmp_path):
    with pytest.raises(InputError, match="segment 2 has category 5, which custom has not"):
        viposeg.write_viposeg(tmp_path, [video()], CategorySet.from_names(["cat"]))
