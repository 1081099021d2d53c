from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from maskstream.formats.step_png import read_step_png, read_step_results, write_kitti_step, write_step_results
from maskstream.types import InputError, VideoSample

from .per_pixel import CAR, PERSON, ROAD, SKY, TOWN, annotation, as_seen, video

FRAME = annotation([[1, 1, 7, 700], [-1, 2, 9, 0]], {7: CAR, 1: SKY, 2: ROAD, 700: CAR, 9: CAR}, crowd=[9], void=-1)


def code(category: int, instance: int) -> int:
    return (category + 1) * 65536 + instance


def test_colours_say_class_and_instance(tmp_path):
    write_step_results(tmp_path, [video("0002", FRAME)], TOWN)
    with Image.open(tmp_path / "0002" / "00000003.png") as image:
        colours = np.asarray(image).tolist()
    assert colours[0] == [[SKY, 0, 0], [SKY, 0, 0], [CAR, 0, 7], [CAR, 2, 188]]
    # void, stuff, crowd, nothing
    assert colours[1] == [[255, 0, 0], [ROAD, 0, 0], [CAR, 0, 0], [255, 0, 0]]


def test_what_is_read_is_what_was_written(tmp_path):
    write_step_results(tmp_path, [video("0002", FRAME)], TOWN)
    sky, road, crowd = (code(SKY, 0), SKY), (code(ROAD, 0), ROAD), (code(CAR, 0), CAR)
    expected = [[sky, sky, (code(CAR, 7), CAR), (code(CAR, 700), CAR)], [None, road, crowd, None]]
    truth = read_step_png(tmp_path / "0002" / "00000003.png", 5, TOWN)
    assert as_seen(truth) == expected
    assert truth.crowd_ids == {code(CAR, 0)}
    assert truth.void is not None and truth.void.tolist() == [[False] * 4, [True, False, False, True]]
    assert [s.id for s in truth.segmentation.segments] == sorted(s.id for s in truth.segmentation.segments)
    prediction = read_step_results(tmp_path, TOWN)["0002"].annotation(0)
    assert as_seen(prediction) == expected
    assert (prediction.void, prediction.crowd_ids) == (None, frozenset())


def test_truth_that_was_read_is_written_to_the_same_pixels(tmp_path):
    write_kitti_step(tmp_path / "first", [video("0002", FRAME)], TOWN)
    path = tmp_path / "first" / "panoptic_maps" / "val" / "0002" / "00000003.png"
    again = VideoSample("0002", video("0002", FRAME).frames, lambda index: read_step_png(path, index, TOWN))
    write_kitti_step(tmp_path / "second", [again], TOWN)
    assert (tmp_path / "second" / path.relative_to(tmp_path / "first")).read_bytes() == path.read_bytes()


def test_ids_that_do_not_fit_get_the_next_free_number_for_the_whole_video(tmp_path):
    first = annotation([[7, 7 + 65536, 2 * 65536, 8]], {7: CAR, 7 + 65536: CAR, 2 * 65536: CAR, 8: PERSON})
    second = annotation([[2 * 65536, 7 + 65536, 7, 1]], {1: CAR, 2 * 65536: CAR, 7: CAR, 7 + 65536: CAR})
    write_step_results(tmp_path, [video("a", first, second)], TOWN)
    found = read_step_results(tmp_path, TOWN)["a"]
    instances = [[pixel[0] % 65536 if pixel else None for pixel in as_seen(found.annotation(n))[0]] for n in (0, 1)]
    assert instances == [[7, 1, 2, 8], [2, 1, 7, 3]]


def test_frames_that_nobody_labelled_are_left_out(tmp_path):
    write_step_results(tmp_path, [video("a", FRAME, FRAME, labelled=[1])], TOWN)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["00000004.png"]


def test_categories_that_cannot_be_written_are_told(tmp_path):
    with pytest.raises(InputError, match="segment 4 has the category 77, which town has not"):
        frame = annotation([[4]], {4: None})
        (segment,) = frame.segmentation.segments
        object.__setattr__(segment, "category", 77)
        write_step_results(tmp_path, [video("a", frame)], TOWN)


def test_segments_of_unknown_category_are_void(tmp_path):
    write_step_results(tmp_path, [video("a", annotation([[4]], {4: None}))], TOWN)
    assert as_seen(read_step_results(tmp_path, TOWN)["a"].annotation(0)) == [[None]]
