from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from maskstream.datasets.referring import read_ref_ytvos
from maskstream.formats.referring import (
    as_answers,
    read_expression_results,
    read_ref_davis_results,
    write_expression_results,
    write_ref_davis_results,
    write_ref_youtube_vos,
    write_ref_youtube_vos_results,
)
from maskstream.types import (
    OBJECT,
    Expression,
    FrameAnnotation,
    FrameRef,
    FrameSegmentation,
    InputError,
    Segment,
    VideoSample,
)

SIZE = (6, 9)
NOTHING = np.zeros(SIZE, bool)


def box(top, bottom, left, right):
    mask = np.zeros(SIZE, bool)
    mask[top:bottom, left:right] = True
    return mask


def sample(frames, *, stems=None, expressions=None, name="v"):
    """A video from lists of (segment, mask), one a frame."""

    def read(index):
        segments = tuple(segment for segment, _ in frames[index])
        masks = np.stack([mask for _, mask in frames[index]]) if segments else np.zeros((0, *SIZE), bool)
        return FrameAnnotation(FrameSegmentation.from_masks(index, segments, torch.from_numpy(masks)))

    stems = stems or [f"{n:05d}" for n in range(len(frames))]
    return VideoSample(
        name,
        tuple(map(FrameRef, stems)),
        read,
        read_image=lambda index: np.full((*SIZE, 3), 40 * index, np.uint8),
        read_expressions=lambda: expressions or {},
    )


def thing(number, **fields):
    return Segment(number, number, category=1, is_thing=True, **fields)


def union_of(video, index):
    return video.annotation(index).segmentation.masks_nhw().any(dim=0).numpy()


# Predictions.


@given(hnp.arrays(bool, (2, 3, *SIZE)), st.lists(st.sets(st.integers(1, 3)), min_size=1, max_size=4))
def test_truth_as_a_prediction_answers_every_expression_with_the_union_of_what_it_means(masks, meant):
    expressions = {str(n): Expression(f"no. {n}", tuple(sorted(tracks))) for n, tracks in enumerate(meant)}
    frames = [[(thing(n), mask) for n, mask in enumerate(frame, 1)] for frame in masks]
    video = as_answers(sample(frames, expressions=expressions))
    for index, frame in enumerate(masks):
        result = video.annotation(index).segmentation
        assert [segment.prompt_id for segment in result.segments] == list(expressions)
        for tracks, mask in zip(meant, result.masks_nhw().numpy(), strict=True):
            assert np.array_equal(mask, np.any([frame[n - 1] for n in tracks] or [NOTHING], axis=0))


def test_truth_as_a_prediction_leaves_out_frames_that_nobody_labelled():
    video = sample([[], [(thing(1), box(0, 2, 0, 2))]], expressions={"0": Expression("it", (1,))})
    video = replace(video, frames=(replace(video.frames[0], annotated=False), video.frames[1]))
    answers = as_answers(video)
    assert [frame.stem for frame in answers.frames] == ["00001"]
    assert np.array_equal(union_of(answers, 0), box(0, 2, 0, 2))


# Results.


@pytest.mark.parametrize("write", [write_expression_results, write_ref_youtube_vos_results])
def test_all_segments_with_the_number_of_an_expression_are_its_answer(tmp_path, write):
    first, second, other = box(0, 2, 0, 4), box(1, 4, 3, 6), box(4, 6, 0, 9)
    frames = [
        [(thing(1, prompt_id="0"), first), (thing(2, prompt_id="7"), other), (thing(3, prompt_id="0"), second)],
        [(thing(4), first)],  # asked for by nobody
    ]
    expressions = {"0": Expression("two"), "7": Expression("one"), "8": Expression("none")}
    write(tmp_path, [sample(frames, stems=["00003", "00008"], expressions=expressions)], OBJECT)
    results = read_expression_results(tmp_path)
    assert sorted(results) == ["v/0", "v/7", "v/8"]
    expected = {"v/0": (first | second, NOTHING), "v/7": (other, NOTHING), "v/8": (NOTHING, NOTHING)}
    for sequence, masks in expected.items():
        assert [frame.stem for frame in results[sequence].frames] == ["00003", "00008"]
        for index, mask in enumerate(masks):
            assert np.array_equal(union_of(results[sequence], index), mask)
    path = next(tmp_path.rglob("7/00003.png"))
    with Image.open(path) as image:
        assert (image.mode, sorted(set(image.tobytes()))) == ("L", [0, 255])


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB"])
def test_whatever_is_not_black_is_the_answer(tmp_path, mode):
    mask = box(1, 3, 2, 5)
    (tmp_path / "v" / "0").mkdir(parents=True)
    Image.fromarray(mask.astype(np.uint8) * 255).convert(mode).save(tmp_path / "v" / "0" / "00000.png")
    assert np.array_equal(union_of(read_expression_results(tmp_path)["v/0"], 0), mask)


def test_hidden_files_and_folders_are_no_results(tmp_path):
    write_expression_results(tmp_path, [sample([[]], expressions={"0": Expression("it")})], OBJECT)
    (tmp_path / ".cache" / "0").mkdir(parents=True)
    (tmp_path / "v" / ".DS_Store").write_text("")
    (tmp_path / "v" / "0" / "._00000.png").write_text("")
    results = read_expression_results(tmp_path)
    assert list(results) == ["v/0"]
    assert [frame.stem for frame in results["v/0"].frames] == ["00000"]


def test_folders_of_results_are_listed_when_they_are_asked_for(tmp_path):
    (tmp_path / "v" / "0").mkdir(parents=True)
    results = read_expression_results(tmp_path)
    (tmp_path / "v" / "0" / "00000.png").write_text("no picture")
    with pytest.raises(InputError, match=r"00000.png is not a PNG picture"):
        results["v/0"].annotation(0)


@pytest.mark.parametrize("read", [read_expression_results, read_ref_davis_results])
@pytest.mark.parametrize("place", ["", "nowhere"])
def test_a_folder_without_results_is_refused(tmp_path, read, place):
    (tmp_path / "00000.png").write_text("")
    with pytest.raises(InputError, match=r"holds no results: they must lie there as \S+/\S+/FRAME.png"):
        read(tmp_path / place)


def test_ref_davis_has_a_label_picture_of_every_annotator(tmp_path):
    one, other = box(0, 4, 0, 4), box(2, 6, 2, 6)
    expressions = {str(n): Expression(f"{n}") for n in range(8)}
    frames = [
        [
            (thing(1, prompt_id="0", score=0.4), one),  # object 1 for annotator 0
            (thing(2, prompt_id="4", score=0.6), other),  # object 2 for annotator 0, more likely than object 1
            (thing(3, prompt_id="7"), other),  # object 2 for annotator 3
        ]
    ]
    write_ref_davis_results(tmp_path, [sample(frames, expressions=expressions)], OBJECT)
    results = read_ref_davis_results(tmp_path)
    assert sorted(results) == [f"anno_{a}/v" for a in range(4)]
    expected = {0: np.where(other, 2, one * 1), 1: NOTHING * 1, 2: NOTHING * 1, 3: other * 2}
    for annotator, ids in expected.items():
        annotation = results[f"anno_{annotator}/v"].annotation(0)
        assert np.array_equal(annotation.segmentation.panoptic_map().numpy(), ids)
        with Image.open(tmp_path / f"anno_{annotator}" / "v" / "00000.png") as image:
            assert image.mode == "P"


def test_ref_davis_needs_numbered_expressions(tmp_path):
    with pytest.raises(InputError, match="v: expressions of Ref-DAVIS17 are 0, 1, 2 and so on, not 'the car'"):
        write_ref_davis_results(tmp_path, [sample([[]], expressions={"the car": Expression("x")})], OBJECT)


# Truth.


def test_ref_youtube_vos_gives_back_what_was_written(tmp_path):
    masks = [{1: box(0, 2, 0, 4), 4: box(3, 6, 2, 8)}, {4: box(2, 5, 2, 8)}]
    stuff = Segment(9, 9, category=1, is_thing=False)
    frames = [[(thing(n), mask) for n, mask in shown.items()] + [(stuff, box(5, 6, 8, 9))] for shown in masks]
    expressions = {"0": Expression("the first", (1,)), "5": Expression("das große", (4,)), "6": Expression("whoever")}
    written = sample(frames, stems=["00000", "00005"], expressions=expressions)
    write_ref_youtube_vos(tmp_path, [written, replace(written, name="w")], OBJECT)
    assert (tmp_path / "valid" / "meta.json").read_text() == (
        '{"videos":{\n'
        '"v":{"objects":{"1":{"category":"object","frames":["00000"]},'
        '"4":{"category":"object","frames":["00000","00005"]}}},\n'
        '"w":{"objects":{"1":{"category":"object","frames":["00000"]},'
        '"4":{"category":"object","frames":["00000","00005"]}}}\n'
        "}}\n"
    )
    dataset = read_ref_ytvos(tmp_path, "valid")
    assert [video.name for video in dataset.videos] == ["v", "w"]
    for video in dataset.videos:
        assert video.expressions() == expressions
        for index, shown in enumerate(masks):
            segmentation = video.annotation(index).segmentation
            assert [segment.track_id for segment in segmentation.segments] == sorted(shown)
            assert np.array_equal(segmentation.masks_nhw().numpy(), list(shown.values()))
            assert video.frames[index].image == tmp_path / "valid" / "JPEGImages" / video.name / f"0000{5 * index}.jpg"
    assert len(list(tmp_path.rglob("*.jpg"))) == 4


def test_ref_youtube_vos_cannot_say_that_an_expression_means_several_objects(tmp_path):
    video = sample([[(thing(1), box(0, 1, 0, 1))]], expressions={"0": Expression("both", (1, 2))})
    with pytest.raises(InputError, match="v: expression 0 means 2 objects, but Ref-YouTube-VOS has one an expression"):
        write_ref_youtube_vos(tmp_path, [video], OBJECT)
