"""Masks of another program as proposals: every layout they come in, and which frame they belong to."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from maskstream.formats import write_label_png
from maskstream.formats.frame_masks import FrameMasks, read_frame_masks
from maskstream.formats.pictures import write_indices, write_rgb_ids
from maskstream.formats.soft_png import write_soft, write_soft_png
from maskstream.segmenters.precomputed import NotedFrame, PrecomputedSegmenter, matched_frames
from maskstream.types import (
    BoxPrompt,
    Frame,
    FrameAnnotation,
    FrameRef,
    FrameSegmentation,
    InputError,
    LabelMap,
    Proposals,
    Segment,
    VideoSample,
    encode_rle,
)

SIZE = (12, 16)


def picture(*ids: int) -> NDArray[np.int32]:
    """One square after the other."""
    labels = np.zeros(SIZE, np.int32)
    for n, number in enumerate(ids):
        labels[2:8, 1 + 5 * n : 5 + 5 * n] = number
    return labels


def square(n: int) -> Tensor:
    return torch.from_numpy(picture(*range(1, n + 2)) == n + 1)


def segmenter(path: Path, frames: int = 3, *, min_score: float = 0.0, stems: list[str] | None = None):
    masks = read_frame_masks(path)
    return PrecomputedSegmenter(masks, matched_frames(masks, frame_count=frames, stems=stems), min_score=min_score)


def found(of: PrecomputedSegmenter, index: int, size_hw: tuple[int, int] = SIZE) -> Proposals:
    (features,) = of.encode([Frame(index, index / 24, np.zeros((*size_hw, 3), np.uint8))])
    assert features == NotedFrame(index, size_hw)
    return of.segment(features)


def shows(proposals: Proposals, *squares: int) -> bool:
    """Whether these squares were found, and nothing else, in any order."""
    masks = {mask.numpy().tobytes() for mask in proposals.masks_nhw >= 0.5}
    return len(proposals) == len(squares) and masks == {square(n).numpy().tobytes() for n in squares}


# ----------------------------------------------------------------- layouts


def write_grey(path: Path, labels: NDArray[np.int32]) -> None:
    write_indices(path, labels, grey=True)


def write_colours(path: Path, labels: NDArray[np.int32]) -> None:
    """What drawing programs make: any colour a region, background black."""
    colours = np.random.default_rng(3).integers(1, 255, (256, 3)).astype(np.uint8)
    colours[0] = 0
    Image.fromarray(colours[labels]).save(path)


@pytest.mark.parametrize(
    "write", [write_label_png, write_grey, write_rgb_ids, write_colours], ids=["palette", "grey", "rgb", "colours"]
)
def test_pictures_of_ids_are_proposals_of_their_frames(tmp_path, write: Callable[[Path, NDArray[np.int32]], None]):
    for index, ids in enumerate([(4, 9), (7,), ()]):
        write(tmp_path / f"{index:05d}.png", picture(*ids))
    read = segmenter(tmp_path)
    assert shows(found(read, 0), 0, 1)
    assert shows(found(read, 1), 0)
    assert len(found(read, 2)) == 0
    assert read.label_space is None


def test_255_is_an_object_alone_and_void_beside_others(tmp_path):
    write_indices(tmp_path / "0.png", picture(255), grey=True)
    write_indices(tmp_path / "1.png", picture(255, 3), grey=True)
    read = segmenter(tmp_path, 2)
    assert shows(found(read, 0), 0)
    assert shows(found(read, 1), 1)


ROWS = [
    {"id": 300, "category_id": 7, "isthing": False, "score": 0.25},
    {"id": 5, "category_id": 2, "isthing": True, "score": 0.75},
    {"id": 6},
    {"id": 99, "category_id": 1},
]


def write_beside(folder: Path) -> None:
    write_rgb_ids(folder / "00000.png", picture(300, 5, 6))
    (folder / "00000.json").write_text(json.dumps(ROWS))


def write_global(folder: Path) -> None:
    write_rgb_ids(folder / "00000.png", picture(300, 5, 6))
    plain = {"annotations": [{"file_name": "00000.jpg", "segments_info": ROWS}]}
    (folder / "pred.json").write_text(json.dumps(plain))


def write_as_deva_does(folder: Path) -> None:
    (folder / "Annotations").mkdir()
    write_global(folder / "Annotations")
    (folder / "Annotations" / "pred.json").rename(folder / "pred.json")


@pytest.mark.parametrize(
    "write", [write_beside, write_global, write_as_deva_does], ids=["per frame", "global", "above"]
)
def test_json_beside_pictures_says_category_score_and_kind(tmp_path, write):
    write(tmp_path)
    read = segmenter(tmp_path, 1)
    proposals = found(read, 0)
    assert shows(proposals, 0, 1, 2)
    assert (proposals.categories, proposals.scores) == ((7, 2, None), (0.25, 0.75, None))
    assert proposals.is_thing == (False, True, None)
    assert read.label_space is not None
    assert read.label_space.ids == (1, 2, 7)


def test_categories_that_are_named_are_the_label_space_and_say_what_is_a_thing(tmp_path):
    write_rgb_ids(tmp_path / "00000.png", picture(300))
    plain = {
        "annotations": [{"file_name": "00000.jpg", "segments_info": [{"id": 300, "category_id": 7}]}],
        "categories": [{"id": 7, "name": "road", "isthing": 0}],
    }
    (tmp_path / "pred.json").write_text(json.dumps(plain))
    read = segmenter(tmp_path, 1)
    assert found(read, 0).is_thing == (False,)
    assert read.label_space is not None
    assert read.label_space.names == ("road",)


def code(n: int) -> object:
    return encode_rle(square(n)[None])[0]


COCO = {
    "images": [{"id": n + 40, "file_name": f"{n:05d}.jpg", "height": 12, "width": 16} for n in (0, 1, 2)],
    "categories": [{"id": 3, "name": "cat"}],
    "annotations": [
        {"id": 1, "image_id": 40, "category_id": 3, "segmentation": code(0), "score": 0.5},
        {"id": 2, "image_id": 40, "category_id": 3, "segmentation": code(1), "score": 0.9},
        {"id": 3, "image_id": 42, "category_id": 3, "segmentation": code(2), "iscrowd": 0},
        {"id": 4, "image_id": 42, "category_id": 3, "segmentation": code(1), "iscrowd": 1},
    ],
}
COCO_RESULTS = [
    {"image_id": 0, "category_id": 3, "segmentation": code(0), "score": 0.5},
    {"image_id": 0, "category_id": 3, "segmentation": code(1), "score": 0.9},
    {"image_id": 2, "category_id": 3, "segmentation": code(2), "score": 1},
]
TUBES = [
    {"video_id": 9, "category_id": 3, "score": 0.5, "segmentations": [code(0), None, code(2)]},
    {"video_id": 9, "category_id": 3, "score": 0.9, "segmentations": [code(1), None, None]},
]
YOUTUBE_VIS = {
    "videos": [{"id": 9, "height": 12, "width": 16, "file_names": ["v/a.jpg", "v/b.jpg", "v/c.jpg"]}],
    "categories": [{"id": 3, "name": "cat"}],
    "annotations": [{"id": n, **tube} for n, tube in enumerate(TUBES, 1)],
}


@pytest.mark.parametrize(
    "plain",
    [COCO, COCO_RESULTS, TUBES, YOUTUBE_VIS],
    ids=["COCO", "COCO results", "YouTube-VIS results", "YouTube-VIS"],
)
def test_json_of_run_lengths_is_read_frame_by_frame(tmp_path, plain):
    (tmp_path / "masks.json").write_text(json.dumps(plain))
    read = segmenter(tmp_path / "masks.json")
    assert shows(found(read, 0), 0, 1)
    assert len(found(read, 1)) == 0
    assert shows(found(read, 2), 2)
    assert found(read, 0).categories == (3, 3)
    assert read.label_space is not None
    assert read.label_space.ids == (3,)


def test_a_low_score_is_ignored_and_an_unknown_one_is_not(tmp_path):
    (tmp_path / "masks.json").write_text(json.dumps(COCO))
    read = segmenter(tmp_path / "masks.json", min_score=0.8)
    assert shows(found(read, 0), 1)
    assert shows(found(read, 2), 2)


def write_object_folders(folder: Path) -> None:
    for name, n in (("cat", 0), ("dog", 2)):
        write_soft_png(folder / name / "00000.png", 0.3 + 0.5 * square(n).float())
    write_soft_png(folder / "dog" / "00002.png", 0.2 * torch.ones(SIZE))
    (folder / "scores.csv").write_text("frame,object,score\n00000.png,dog,0.25\n")


def write_our_own(folder: Path) -> None:
    soft = torch.stack([square(0) * 0.8, square(2) * 0.8])
    probabilities = torch.cat([1 - soft.sum(0, keepdim=True), soft]).half()
    segments = (Segment(1, 1), Segment(2, 2, score=0.25))
    labels = LabelMap(probabilities.argmax(0).int())
    one = FrameSegmentation(0, SIZE, segments, labels, probabilities)
    write_soft(folder, [VideoSample("v", (FrameRef("00000"),), lambda _: FrameAnnotation(one))])


@pytest.mark.parametrize("write", [write_object_folders, write_our_own], ids=["a folder an object", "with a listing"])
def test_probabilities_stay_soft(tmp_path, write):
    write(tmp_path)
    read = segmenter(tmp_path, 3)
    proposals = found(read, 0)
    assert proposals.masks_nhw.dtype == torch.float32
    assert shows(proposals, 0, 2)
    assert float(proposals.masks_nhw.max()) == pytest.approx(0.8, abs=0.01)
    assert proposals.scores == (None, 0.25)
    assert len(found(read, 2)) == 0


# ---------------------------------------------------------------- matching


def masks_named(*names: str) -> FrameMasks:
    return FrameMasks(Path("masks"), names, lambda _: Proposals.none(SIZE))


@pytest.mark.parametrize(
    ("names", "frame_count", "stems", "expected"),
    [
        pytest.param(("x", "y", "z"), 3, None, {0: 0, 1: 1, 2: 2}, id="as many as frames: in order"),
        pytest.param(("00004", "00005"), 2, None, {0: 0, 1: 1}, id="as many as frames, whatever their numbers"),
        pytest.param(("f0", "f2"), 4, None, {0: 0, 2: 1}, id="fewer: by number"),
        pytest.param(("1", "4"), 4, None, {0: 0, 3: 1}, id="the last has the number of frames: from 1"),
        pytest.param(("3", "7"), None, None, {3: 0, 7: 1}, id="number of frames unknown: by number"),
        pytest.param(("b",), 3, ["a", "b", "c"], {1: 0}, id="frames have names: by name"),
        pytest.param(("0", "1"), 2, ["a", "b"], {0: 0, 1: 1}, id="other names: in order"),
        pytest.param((), 5, None, {}, id="nothing found at all"),
    ],
)
def test_masks_are_matched_to_frames(names, frame_count, stems, expected):
    assert matched_frames(masks_named(*names), frame_count=frame_count, stems=stems) == expected


@pytest.mark.parametrize(
    ("names", "frame_count", "stems", "message"),
    [
        pytest.param(("x", "y"), 3, None, "masks for 2 frames, but the video has 3 frames: name files", id="no number"),
        pytest.param(("0", "9"), 5, None, "masks for 2 frames, but the video has 5", id="a number beyond the end"),
        pytest.param(("a1", "b1"), 5, None, "masks for 2 frames", id="a number twice"),
        pytest.param(("a", "q"), 2, ["a", "b"], "masks for q, but the video has no such frame", id="an unknown name"),
    ],
)
def test_masks_that_fit_no_frame_are_refused(names, frame_count, stems, message):
    with pytest.raises(InputError, match=message):
        matched_frames(masks_named(*names), frame_count=frame_count, stems=stems)


def test_files_are_in_natural_order(tmp_path):
    for number in (10, 9, 8):
        write_label_png(tmp_path / f"frame{number}.png", picture(*range(1, number - 6)))
    read = segmenter(tmp_path)
    assert [len(found(read, index)) for index in range(3)] == [1, 2, 3]


def test_a_frame_without_a_file_is_one_where_nothing_was_found(tmp_path):
    write_label_png(tmp_path / "00001.png", picture(1))
    read = segmenter(tmp_path, 4)
    assert [len(found(read, index)) for index in range(4)] == [0, 1, 0, 0]


# --------------------------------------------------------------- bad input


def photograph(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)).save(path)


def smoothed(path: Path) -> None:
    labels = np.zeros(SIZE, np.uint8)
    labels[3:9, 3:9] = 200
    for n, value in enumerate(range(20, 200, 17)):
        labels[2, n] = value
    Image.fromarray(labels).save(path)


def transparent(path: Path) -> None:
    Image.fromarray(np.zeros((*SIZE, 4), np.uint8)).save(path)


def unlisted(path: Path) -> None:
    write_label_png(path, picture(8))
    path.with_suffix(".json").write_text('[{"id": 9}]')


def unlisted_frame(path: Path) -> None:
    write_label_png(path, picture(8))
    path.with_name("pred.json").write_text('{"annotations": []}')


@pytest.mark.parametrize(
    ("write", "message"),
    [
        pytest.param(photograph, "00000.png encodes no ids: it has", id="a photograph"),
        pytest.param(smoothed, "00000.png encodes no ids: it has 12 values", id="smoothed edges"),
        pytest.param(transparent, "00000.png is a PNG of mode RGBA, not a mask: save it as", id="transparency"),
        pytest.param(lambda path: path.write_bytes(b"GIF89a"), "00000.png is not a PNG picture", id="no PNG"),
        pytest.param(
            lambda path: write_label_png(path, np.ones((6, 8), np.int32)),
            "00000: the mask is 6×8, but frame 0 is 12×16: resize masks",
            id="another size",
        ),
        pytest.param(unlisted, "00000.png has the id 8, which .*00000.json does not list: add it", id="an unlisted id"),
        pytest.param(unlisted_frame, "pred.json lists nothing for 00000.png", id="an unlisted frame"),
    ],
)
def test_a_bad_picture_is_named_in_one_line(tmp_path, write, message):
    write(tmp_path / "00000.png")
    with pytest.raises(InputError, match=message) as refusal:
        found(segmenter(tmp_path, 1), 0)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("[{}]", "is a list without masks", id="a list of something else"),
        pytest.param("{", "masks.json", id="cut off"),
        pytest.param(json.dumps([*TUBES, {**TUBES[0], "video_id": 8}]), "holds 2 videos", id="several videos"),
        pytest.param(json.dumps([{**TUBES[0], "segmentations": [None]}, TUBES[1]]), "have 1 to 3 frames", id="lengths"),
        pytest.param(
            json.dumps([{"image_id": 0, "segmentation": [[0, 0, 1, 1, 2, 2]]}]), "not polygons", id="polygons"
        ),
        pytest.param(json.dumps([{"image_id": 0, "score": 1}]), "segmentation", id="no mask"),
    ],
)
def test_bad_json_is_named_in_one_line(tmp_path, text, message):
    (tmp_path / "masks.json").write_text(text)
    with pytest.raises(InputError, match=message) as refusal:
        found(segmenter(tmp_path / "masks.json", 3), 0)
    assert "masks.json" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_folder_without_masks_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no masks: put a PNG of ids"):
        read_frame_masks(tmp_path)
    with pytest.raises(InputError, match="there are no masks"):
        read_frame_masks(tmp_path / "nowhere")


def test_prompts_are_refused(tmp_path):
    write_label_png(tmp_path / "0.png", picture(1))
    with pytest.raises(InputError, match="cannot answer boxes"):
        segmenter(tmp_path, 1).segment(NotedFrame(0, SIZE), [BoxPrompt(0, 1, (1, 1, 5, 5))])
