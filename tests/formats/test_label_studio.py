import json
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskstream.formats.label_studio import decode_brush, encode_brush, read_label_studio, write_label_studio
from maskstream.types import CategorySet, InputError, MaskstreamWarning

from .clips import ANIMALS, box, clip, content, labels, masks, videos

CAT = CategorySet.from_names(["cat"])

HEAD = [0, 0, 0, 4, 0b00111_001, 0b0_0011_011, 0b1_1111_000]
"""4 words of 8 bits (7), lengths of 3, 4, 8 and 16 bits (2, 3, 7, 15); the last three bits begin the first run."""


@pytest.mark.parametrize(
    "words, code",
    [
        # Run (1), class 0 (00), 4 words (011), 255: the three bits of the head's last byte are 100.
        pytest.param([255] * 4, [*HEAD[:6], 0b1_1111_100, 0b011_11111, 0b111_00000], id="a run"),
        # Single words (0), class 0 (00), 4 of them (011), 1 2 3 4.
        pytest.param(
            [1, 2, 3, 4],
            [*HEAD[:6], 0b1_1111_000, 0b011_00000, 0b001_00000, 0b010_00000, 0b011_00000, 0b100_00000],
            id="single words",
        ),
        # Two runs of two: 1 00 001 7, 1 00 001 8.
        pytest.param(
            [7, 7, 8, 8],
            [*HEAD[:6], 0b1_1111_100, 0b001_00000, 0b111_10000, 0b1_0000100, 0b0_0000000],
            id="two runs",
        ),
    ],
)
def test_code_worked_out_by_hand_is_read(words, code):
    assert decode_brush(code).tolist() == words


@pytest.mark.parametrize(
    "width, inside, body",
    [
        pytest.param(1, True, "1 00 011 11111111", id="4 words, class 0"),
        pytest.param(2, False, "1 00 111 00000000", id="8 words are class 0 still"),
        pytest.param(3, True, "1 01 1011 11111111", id="12 words, class 1"),
        pytest.param(4, True, "1 01 1111 11111111", id="16 words are class 1 still"),
        pytest.param(64, True, "1 10 11111111 11111111", id="256 words, class 2"),
        pytest.param(65, True, "1 11 0000000100000011 11111111", id="260 words, class 3"),
        pytest.param(
            16384 + 1, True, "1 11 1111111111111111 11111111 1 00 011 11111111", id="65540 words are two runs"
        ),
    ],
)
def test_a_pixel_is_four_words_and_runs_take_the_smallest_class(width, inside, body):
    bits = f"{4 * width:032b} 00111 0010 0011 0111 1111 {body}".replace(" ", "")
    bits += "0" * (-len(bits) % 8)
    expected = [int(bits[n : n + 8], 2) for n in range(0, len(bits), 8)]
    assert encode_brush(np.full((1, width), inside)) == expected


@given(masks())
def test_a_mask_comes_back_from_its_code(mask):
    assert np.array_equal(decode_brush(encode_brush(mask)), np.repeat(mask.ravel() * 255, 4))


@given(st.binary(max_size=40))
def test_damaged_code_is_refused_or_read_but_never_breaks(data):
    try:
        assert decode_brush(bytes([0, 0]) + data).dtype == np.uint8
    except InputError as error:
        assert "brush" in str(error)


@pytest.mark.parametrize(
    "code, message",
    [
        pytest.param([300], "is not run-length code, a list of bytes", id="no bytes"),
        pytest.param(HEAD[:6], "ends early", id="head cut off"),
        pytest.param([*HEAD[:4], 0, *HEAD[5:]], "has other words than bytes", id="words of one bit"),
    ],
)
def test_code_that_cannot_be_read_is_refused(code, message):
    with pytest.raises(InputError, match=message):
        decode_brush(code)


@given(frames=videos())
def test_masks_ids_and_names_of_frames_come_back(tmp_path_factory, frames):
    folder = tmp_path_factory.mktemp("label-studio")
    video = clip(frames, stems=[f"{5 * n:05d}" for n in range(len(frames))])
    write_label_studio(folder, [video], CAT)
    _, (read,) = read_label_studio(folder)
    assert content(read) == content(video)
    assert [frame.stem for frame in read.frames] == [frame.stem for frame in video.frames]


def test_labels_scores_and_pictures_come_back(tmp_path):
    frames = [{4: box(0, 0, 2, 2), 7: box(1, 1, 5, 5)}]
    scored = clip(frames, categories={4: 2, 7: 1}, scores={4: 0.25, 7: 1.0}, pictures=tmp_path / "in", name="a b")
    write_label_studio(tmp_path / "out", [scored, clip(frames, name="other")], ANIMALS)
    categories, (first, second) = read_label_studio(tmp_path / "out")
    assert [(c.id, c.name) for c in categories.categories] == [(c.id, c.name) for c in ANIMALS.categories]
    assert labels(first, categories) == {4: 'a "big" dog & co', 7: "cat"}
    assert [s.score for s in first.annotation(0).segmentation.segments] == [0.25, 1.0]
    assert first.frames[0].image == tmp_path / "out" / "images" / "a b" / "00000.jpg"
    assert (tmp_path / "out" / "images" / "a b" / "00000.jpg").exists()
    # Label Studio shows predictions to annotators, and takes annotations for finished work.
    tasks = json.loads((tmp_path / "out" / "tasks.json").read_text())
    assert [sorted(task) for task in tasks] == [["data", "predictions"], ["annotations", "data"]]
    assert content(second) == content(clip(frames))


def test_the_configuration_has_every_label(tmp_path):
    write_label_studio(tmp_path, [], ANIMALS)
    tree = ElementTree.parse(tmp_path / "labels.xml")
    assert [label.get("value") for label in tree.iter("Label")] == list(ANIMALS.names)
    tag = tree.find("BrushLabels")
    assert tag is not None
    assert tag.get("toName") == "image"


def result(**fields):
    """A region as Label Studio exports it: 2×2 pixels, the upper row."""
    value = {"format": "rle", "rle": encode_brush(np.array([[1, 1], [0, 0]], bool)), "brushlabels": ["car"]}
    plain = {"id": "Dx_aB91ISN", "type": "brushlabels", "original_width": 2, "original_height": 2, "value": value}
    return plain | fields


def exported(folder, *tasks):
    path = folder / "project-1.json"
    path.write_text(json.dumps(tasks))
    return path


def test_what_label_studio_exports_is_read(tmp_path):
    corners = {"points": [[0, 50], [50, 50], [50, 100], [0, 100]], "polygonlabels": ["road"], "closed": True}
    path = exported(
        tmp_path,
        {
            "data": {"image": "/data/upload/1/0a1b2c3d-00002.jpg"},
            "annotations": [
                {"was_cancelled": True, "result": [result(id="skipped")]},
                {"result": [result(), result(id="k2", type="polygonlabels", value=corners)]},
            ],
        },
        {
            "data": {"image": "/data/upload/1/4e5f6071-00001.jpg"},
            "annotations": [{"result": [result(meta={"text": ["track 8"]}), result(id="track-8")]}],
        },
    )
    categories, (video,) = read_label_studio(path)
    assert (video.name, [frame.stem for frame in video.frames]) == ("project-1", ["00001", "00002"])
    assert categories.names == ("car", "road")
    # The two pieces of object 8 are one; regions that name no object get new numbers.
    assert content(video) == [{8: [(0, 0), (0, 1)]}, {9: [(0, 0), (0, 1)], 10: [(1, 0)]}]


def test_a_frame_without_regions_has_the_size_of_the_others(tmp_path):
    other = {"data": {"image": "b.jpg"}, "annotations": []}
    path = exported(tmp_path, {"data": {"image": "a.jpg"}, "annotations": [{"result": [result()]}]}, other)
    _, (video,) = read_label_studio(path)
    assert video.annotation(1).segmentation.size_hw == (2, 2)
    _, (alone,) = read_label_studio(exported(tmp_path, other))
    with pytest.raises(InputError, match=r"project-1\.json does not say how large frame b of project-1 is"):
        alone.annotation(0)


def test_a_brush_and_its_label_may_be_two_results(tmp_path):
    brush = result(id="r", type="brush", value={"format": "rle", "rle": result()["value"]["rle"]})
    label = result(id="r", type="labels", value={"labels": ["truck"]})
    path = exported(tmp_path, {"data": {"image": "a.jpg"}, "annotations": [{"result": [brush, label]}]})
    categories, (video,) = read_label_studio(path)
    assert labels(video, categories) == {1: "truck"}


def test_boxes_are_left_out_aloud(tmp_path):
    rectangle = result(type="rectanglelabels", value={"x": 0, "y": 0, "width": 50, "height": 50})
    path = exported(tmp_path, {"data": {"image": "a.jpg"}, "annotations": [{"result": [rectangle]}]})
    with pytest.warns(MaskstreamWarning, match="1 results that are no brush and no polygon are left out"):
        read_label_studio(path)


TASK = {"data": {"image": "a.jpg"}, "annotations": [{"result": [result()]}]}


@pytest.mark.parametrize(
    "tasks, message",
    [
        pytest.param([{"image": "a.jpg", "tag": []}], "is no list of tasks: export the project", id="JSON-MIN"),
        pytest.param([TASK, TASK], "has two tasks for frame a of project-1: remove one", id="a frame twice"),
        pytest.param([{"data": {}}], "task 0 is not as Label Studio writes it", id="no picture"),
        pytest.param(
            [{"data": {"image": "a.jpg"}, "annotations": [{"result": [result(value={"rle": [1, 999]})]}]}],
            "task 0 is not as Label Studio writes it: ValueError('bytes must be in range(0, 256)')",
            id="no bytes",
        ),
    ],
)
def test_a_damaged_file_is_one_clear_line(tmp_path, tasks, message):
    with pytest.raises(InputError, match=r"project-1\.json") as caught:
        read_label_studio(exported(tmp_path, *tasks))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_brush_of_another_size_names_its_frame(tmp_path):
    wrong = {"data": {"image": "a.jpg"}, "annotations": [{"result": [result(original_width=3)]}]}
    _, (video,) = read_label_studio(exported(tmp_path, wrong))
    with pytest.raises(InputError, match="frame a of project-1: a brush of 4 pixels does not fit a picture of 2×3"):
        video.annotation(0)


def test_an_object_without_category_is_refused(tmp_path):
    with pytest.raises(InputError, match="object 3 of clip has no category, which Label Studio needs"):
        write_label_studio(tmp_path, [clip([{3: box(0, 0, 1, 1)}], categories={3: None})], CAT)
