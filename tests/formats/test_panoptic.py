from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskstream.formats.json_files import Json
from maskstream.formats.panoptic import (
    PanopticIds,
    category_entries,
    read_categories,
    read_image_results,
    read_vipseg_results,
    write_coco_panoptic,
    write_image_results,
    write_vipseg,
    write_vipseg_results,
)
from maskstream.types import Category, CategorySet, InputError, Segment

from .per_pixel import CAR, PERSON, ROAD, SKY, TOWN, annotation, as_seen, video

FRAME = annotation([[1, 1, 7, 7], [-1, 2, 2, 7]], {7: CAR, 1: SKY, 2: ROAD}, void=-1)
LATER = annotation([[1, 1, 1, 7], [8, 2, 2, 2]], {1: SKY, 2: ROAD, 7: CAR, 8: PERSON}, crowd=[8], frame_index=1)
EMPTY = annotation([[0, 0, 0, 0], [0, 0, 0, 0]], {}, frame_index=2)
COUNTED = CategorySet("town", tuple(replace(c, id=n) for n, c in enumerate(TOWN.categories)))
"""The categories as they are read back from files that count them."""


def rgb_ids(path: Path) -> list[list[int]]:
    with Image.open(path) as image:
        assert image.mode == "RGB"
        red, green, blue = np.moveaxis(np.asarray(image).astype(int), -1, 0)
    ids: list[list[int]] = (red + 256 * green + 65536 * blue).tolist()
    return ids


def load(path: Path) -> Json:
    return json.loads(path.read_text())


def test_results_of_vipseg_are_read_as_they_were_written(tmp_path):
    write_vipseg_results(tmp_path, [video("a", FRAME, LATER, EMPTY), video("b", LATER)], TOWN)
    found = read_vipseg_results(tmp_path, COUNTED)
    assert list(found) == ["a", "b"]
    assert [frame.stem for frame in found["a"].frames] == ["00000003", "00000004", "00000005"]
    # 1000 times the position of the category, plus the id
    assert as_seen(found["a"].annotation(0)) == [
        [(1, 0), (1, 0), (1007, 1), (1007, 1)],
        [None, (2002, 2), (2002, 2), (1007, 1)],
    ]
    assert [s.id for s in found["b"].annotation(0).segmentation.segments] == [1, 2002, 1007, 3008]
    assert found["a"].annotation(2).segmentation.segments == ()
    assert found["a"].annotation(0).void is None


def test_results_of_vipseg_are_what_its_program_asks_for(tmp_path):
    write_vipseg_results(tmp_path, [video("a", FRAME, EMPTY)], TOWN)
    (listed,) = load(tmp_path / "pred.json")["annotations"]
    assert listed["video_id"] == "a"
    assert [(row["image_id"], row["file_name"]) for row in listed["annotations"]] == [
        ("00000003", "00000003.png"),
        ("00000004", "00000004.png"),
    ]
    row = listed["annotations"][0]
    assert {s["id"] for s in row["segments_info"]} == {
        n for r in rgb_ids(tmp_path / "pan_pred/a/00000003.png") for n in r
    } - {0}
    assert row["segments_info"][0] == {
        "id": 1007, "category_id": 1, "isthing": 1, "iscrowd": 0, "area": 3, "bbox": [2, 0, 2, 2],
    }  # fmt: skip
    assert listed["annotations"][1]["segments_info"] == []


def test_truth_of_vipseg_keeps_the_order_of_segments(tmp_path):
    write_vipseg(tmp_path, [video("a", FRAME, LATER, stems=["x", "y"])], TOWN)
    plain = load(tmp_path / "panoptic_gt_VIPSeg_val.json")
    rows = plain["annotations"][0]["annotations"]
    assert [[s["id"] for s in row["segments_info"]] for row in rows] == [[1007, 1, 2002], [1, 2002, 1007, 3008]]
    assert [s["iscrowd"] for s in rows[1]["segments_info"]] == [0, 0, 0, 1]
    assert plain["videos"] == [
        {"video_id": "a", "images": [{"id": s, "file_name": f"{s}.jpg", "width": 4, "height": 2} for s in ("x", "y")]}
    ]
    assert (tmp_path / "val.txt").read_text() == "a\n"
    categories = read_categories(plain["categories"], tmp_path, name="town")
    assert [(c.id, c.name, c.is_thing) for c in categories.categories] == [
        (0, "sky", False), (1, "car", True), (2, "road", False), (3, "person", True),
    ]  # fmt: skip


def test_frames_that_nobody_labelled_are_left_out(tmp_path):
    sample = video("a", FRAME, LATER, EMPTY, labelled=[1])
    write_vipseg(tmp_path, [sample], TOWN)
    write_vipseg_results(tmp_path, [sample], TOWN)
    write_image_results(tmp_path / "flat", [sample], TOWN)
    masks = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    assert masks == ["flat/pan_pred/00000004.png", "pan_pred/a/00000004.png", "panomasksRGB/a/00000004.png"]


def test_results_of_images_keep_the_ids_of_categories(tmp_path):
    write_image_results(tmp_path, [video("p", FRAME, stems=["p"]), video("q", LATER, stems=["q"])], TOWN)
    found = read_image_results(tmp_path, TOWN)
    assert list(found) == ["p", "q"]
    assert as_seen(found["p"].annotation(0))[0] == [(3001, SKY), (3001, SKY), (1007, CAR), (1007, CAR)]
    assert [row["image_id"] for row in load(tmp_path / "pred.json")["annotations"]] == ["p", "q"]


def test_images_with_a_number_are_known_by_it(tmp_path):
    write_image_results(tmp_path, [replace(video("p", FRAME, stems=["000139"]), video_id=139)], TOWN)
    (row,) = load(tmp_path / "pred.json")["annotations"]
    assert (row["image_id"], row["file_name"]) == (139, "000139.png")
    assert list(read_image_results(tmp_path, TOWN)) == ["139"]
    assert as_seen(read_image_results(tmp_path, TOWN)["139"].annotation(0))[0][0] == (3001, SKY)


def test_truth_as_coco_has_it_lists_images_and_categories(tmp_path):
    write_coco_panoptic(tmp_path, [video("p", FRAME), video("q", FRAME, LATER)], TOWN)
    plain = load(tmp_path / "annotations" / "panoptic_val.json")
    assert [image["id"] for image in plain["images"]] == ["p", "q_00000003", "q_00000004"]
    assert [row["file_name"] for row in plain["annotations"]] == ["p.png", "q_00000003.png", "q_00000004.png"]
    assert [c["id"] for c in plain["categories"]] == [3, 1, 10, 0]
    assert rgb_ids(tmp_path / "panoptic_val" / "p.png") == [[3001, 3001, 1007, 1007], [0, 10002, 10002, 1007]]


def test_large_ids_and_changes_of_category_get_ids_of_their_own():
    ids = PanopticIds({5: 0, 6: 1})
    first = ids.of(Segment(16_000_000, 1, 6))
    assert first == 2000 == ids.of(Segment(16_000_000, 1, 6))
    numbers = [ids.of(Segment(n, n, category)) for n in (1, 999, 1000, 1001) for category in (5, 6)]
    assert len(set(numbers)) == len(numbers)
    assert max(numbers) < 2010
    assert ids.of(Segment(1, 1)) == 0
    with pytest.raises(InputError, match="segment 1 has the category 7, which the label space has not"):
        ids.of(Segment(1, 1, 7))


def test_a_segment_that_is_covered_or_of_unknown_category_is_not_listed(tmp_path):
    covered = annotation([[1, 1], [4, 1]], {1: SKY, 2: CAR, 4: None})
    write_vipseg_results(tmp_path, [video("a", covered)], TOWN)
    (listed,) = load(tmp_path / "pred.json")["annotations"]
    assert [s["id"] for s in listed["annotations"][0]["segments_info"]] == [1]
    assert rgb_ids(tmp_path / "pan_pred/a/00000003.png") == [[1, 1], [0, 1]]


def test_colours_of_categories_are_kept_or_dealt():
    categories = CategorySet("two", (Category(1, "a", colour=(1, 2, 3)), Category(2, "b", is_thing=True)))
    entries = category_entries(categories, from_zero=False)
    assert entries[0] == {"id": 1, "name": "a", "isthing": 0, "color": [1, 2, 3]}
    assert read_categories(entries, Path("x.json"), name="two").categories[1].colour == (0, 128, 0)


def test_a_file_of_another_kind_is_named(tmp_path):
    (tmp_path / "pred.json").write_text('[{"video_id": 1, "segmentations": []}]')
    for read in (read_vipseg_results, read_image_results):
        with pytest.raises(InputError, match=r'pred.json is not panoptic results .*: it has no list "annotations"'):
            read(tmp_path, TOWN)
    (tmp_path / "pred.json").write_text('{"annotations": [3]}')
    for read in (read_vipseg_results, read_image_results):
        with pytest.raises(InputError, match=r"pred.json is not a list of"):
            read(tmp_path, TOWN)
