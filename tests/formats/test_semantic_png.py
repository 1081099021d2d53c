from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskstream.formats.semantic_png import (
    read_flat_results,
    read_label_results,
    read_semantic_png,
    write_flat_results,
    write_label_results,
    write_vspw,
    write_vspw_results,
)
from maskstream.types import InputError

from .per_pixel import CAR, PERSON, ROAD, SKY, TOWN, annotation, as_seen, video

# Two cars are one class; something has no class; a pixel is void, and one is nothing.
FRAME = annotation([[1, 1, 7, 8], [-1, 2, 4, 0]], {7: CAR, 1: SKY, 8: CAR, 2: ROAD, 4: None}, void=-1)
VALUES = {CAR: 5, SKY: 0, ROAD: 200, PERSON: 9}


def pixels(path: Path, mode: str) -> list[list[int]]:
    with Image.open(path) as image:
        assert image.mode == mode
        values: list[list[int]] = np.asarray(image).tolist()
    return values


def test_results_count_classes_from_zero_in_the_order_of_the_label_space(tmp_path):
    write_label_results(tmp_path, [video("a", FRAME)], TOWN, nothing=77)
    assert pixels(tmp_path / "a" / "00000003.png", "L") == [[0, 0, 1, 1], [77, 2, 77, 77]]


def test_results_are_read_as_they_were_written(tmp_path):
    write_vspw_results(tmp_path, [video("a", FRAME, FRAME, labelled=[1])], TOWN)
    found = read_label_results(tmp_path, TOWN)
    assert [frame.stem for frame in found["a"].frames] == ["00000004"]
    sky, car, road = (1, SKY), (2, CAR), (3, ROAD)
    # Where nothing is predicted is the first class.
    assert as_seen(found["a"].annotation(0)) == [[sky, sky, car, car], [sky, road, sky, sky]]


def test_truth_of_vspw_tells_void_from_other_classes(tmp_path):
    write_vspw(tmp_path, [video("a", FRAME), video("b", FRAME)], TOWN)
    assert pixels(tmp_path / "data" / "a" / "mask" / "00000003.png", "P") == [[1, 1, 2, 2], [255, 3, 0, 0]]
    assert (tmp_path / "val.txt").read_text() == "a\nb\n"
    labels = json.loads((tmp_path / "label_num_dic_final.json").read_text())
    assert labels == {"others": 0, "sky": 1, "car": 2, "road": 3, "person": 4}


def test_results_of_images_lie_in_one_folder(tmp_path):
    write_flat_results(tmp_path, [video("p", FRAME, stems=["p"])], VALUES, nothing=3)
    assert pixels(tmp_path / "p.png", "L") == [[0, 0, 5, 5], [3, 200, 3, 3]]
    meaning: dict[int, int | None] = {0: SKY, 5: CAR, 200: ROAD, 3: None}
    found = read_flat_results(tmp_path, TOWN, meaning)["p"].annotation(0)
    assert as_seen(found) == [[(1, SKY), (1, SKY), (2, CAR), (2, CAR)], [None, (3, ROAD), None, None]]


def test_void_values_are_void_and_others_nothing(tmp_path):
    Image.fromarray(np.array([[0, 5, 9, 200]], np.uint8)).save(tmp_path / "x.png")
    found = read_semantic_png(tmp_path / "x.png", 3, TOWN, {0: SKY, 5: None, 200: CAR}, void=(9, 10))
    assert as_seen(found) == [[(1, SKY), None, None, (2, CAR)]]
    assert found.void is not None and found.void.tolist() == [[False, False, True, False]]
    assert found.segmentation.frame_index == 3


def test_a_value_that_means_nothing_is_told(tmp_path):
    Image.fromarray(np.array([[0, 6]], np.uint8)).save(tmp_path / "x.png")
    with pytest.raises(InputError, match=r"x.png has the value 6, which is no class of town: 2 values from 0 to 5 are"):
        read_semantic_png(tmp_path / "x.png", 0, TOWN, {0: SKY, 5: CAR})


def test_a_category_without_a_value_is_told(tmp_path):
    with pytest.raises(InputError, match="segment 7 has the category 1, which the label space has not"):
        write_flat_results(tmp_path, [video("p", FRAME)], {SKY: 1}, nothing=0)
