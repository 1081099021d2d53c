import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from maskstream.formats.soft_png import merge_soft, read_soft, read_soft_png, write_soft, write_soft_png
from maskstream.types import FrameAnnotation, FrameRef, FrameSegmentation, InputError, LabelMap, Segment, VideoSample

SIZE = (4, 6)
SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "soft.json"

_soft = hnp.arrays(np.float32, (5, 7), elements=st.floats(0, 1, width=32))


def frame(index, probabilities, *ids, size_hw=SIZE):
    """A frame with ``float[1 + N, h, w]`` probabilities; the masks do not matter."""
    segments = tuple(Segment(i, i + 10, 2, 0.5, True, f"object {i}") for i in ids)
    labels = LabelMap(torch.zeros(size_hw, dtype=torch.int32))
    return FrameSegmentation(index, size_hw, segments, labels, probabilities=torch.as_tensor(probabilities).half())


def video(*frames, name="v"):
    stems = tuple(FrameRef(f"{index:05d}") for index in range(len(frames)))
    return VideoSample(name, stems, lambda index: FrameAnnotation(frames[index]))


def random_frame(seed, *ids, size_hw=SIZE):
    channels = np.random.default_rng(seed).random((1 + len(ids), *size_hw)).astype(np.float32)
    return channels / channels.sum(axis=0)


@pytest.mark.parametrize("bits", [8, 16])
@settings(deadline=None)
@given(soft=_soft)
def test_a_picture_is_off_by_half_a_step_at_most(tmp_path_factory, bits, soft):
    path = tmp_path_factory.mktemp("soft") / "x.png"
    write_soft_png(path, torch.from_numpy(soft), bits=bits)
    # The step is exact; float32 rounds once on either side.
    assert np.abs(read_soft_png(path) - soft).max() <= 0.5 / (2**bits - 1) + 2**-23
    with Image.open(path) as image:
        assert image.mode == {8: "L", 16: "I;16"}[bits]


@pytest.mark.parametrize("bits", [8, 16])
def test_a_video_gives_back_segments_and_probabilities(tmp_path, bits):
    channels = [random_frame(0, 3, 1), random_frame(1), random_frame(2, 1)]
    results = [frame(0, channels[0], 3, 1), frame(1, channels[1]), frame(2, channels[2], 1)]
    write_soft(tmp_path, [video(*results), video(results[0], name="other/w")], bits=bits)
    read = read_soft(tmp_path)
    assert sorted(read) == ["other/w", "v"]
    assert [f.stem for f in read["v"].frames] == ["00000", "00001", "00002"]
    for index, result in enumerate(results):
        found = read["v"].annotation(index).segmentation
        assert (found.frame_index, found.size_hw, found.segments) == (index, SIZE, result.segments)
        assert found.probabilities is not None and result.probabilities is not None
        assert found.probabilities.dtype == torch.float16
        # Half a step, and what float16 rounds.
        error = (found.probabilities.float() - result.probabilities.float()).abs().max()
        assert error <= 0.5 / (2**bits - 1) + 2**-12
        assert torch.equal(found.label_map(), found.probabilities.argmax(dim=0).int())


def test_masks_are_where_probabilities_say_at_the_size_of_the_frame(tmp_path):
    small = np.zeros((3, 2, 3), np.float32)
    small[0], small[1, :, :1], small[2, :, 2:] = 0.4, 0.6, 0.6
    small[0, :, :1], small[0, :, 2:] = 0, 0
    write_soft(tmp_path, [video(frame(0, small, 5, 8))])
    found = read_soft(tmp_path)["v"].annotation(0).segmentation
    assert found.panoptic_map().tolist() == [[5, 5, 0, 0, 8, 8]] * 4


def test_the_listing_follows_its_schema(tmp_path):
    write_soft(tmp_path, [video(frame(0, random_frame(0, 1), 1), frame(1, random_frame(0)))])
    plain = json.loads((tmp_path / "v" / "scores.json").read_text())
    jsonschema.validate(plain, json.loads(SCHEMA.read_text()))
    assert plain["frames"][0]["segments"][0]["score"] == 0.5


# Merging.


def test_merged_runs_have_the_mean_of_their_probabilities():
    channels = [random_frame(0, 1, 2), random_frame(1, 2)]
    merged = merge_soft([video(frame(0, channels[0], 1, 2)), video(frame(0, channels[1], 2))])
    found = merged.annotation(0).segmentation
    expected = channels[0].copy()
    expected[[0, 2]] += channels[1]
    assert [segment.id for segment in found.segments] == [1, 2]
    assert found.probabilities is not None
    assert np.allclose(found.probabilities.float().numpy(), expected / 2, atol=2**-11)
    assert np.array_equal(found.label_map().numpy(), expected.argmax(axis=0))


def test_a_run_merged_with_itself_is_that_run():
    once = frame(0, random_frame(5, 4, 9), 4, 9)
    twice = merge_soft([video(once), video(once)]).annotation(0).segmentation
    assert twice.segments == once.segments
    assert twice.probabilities is not None and once.probabilities is not None
    assert torch.equal(twice.probabilities, once.probabilities)


def test_runs_at_several_scales_are_merged_at_the_size_of_the_frame():
    coarse = np.zeros((2, 2, 3), np.float32)
    coarse[1] = 0.5
    fine = np.zeros((2, *SIZE), np.float32)
    fine[0] = 0.4
    fine[0, :, :2] = 0.6
    found = merge_soft([video(frame(0, coarse, 1)), video(frame(0, fine, 1))]).annotation(0).segmentation
    assert found.panoptic_map().tolist() == [[0, 0, 1, 1, 1, 1]] * 4


# What does not fit.


def test_results_without_probabilities_are_refused(tmp_path):
    hard = FrameSegmentation(0, SIZE, (), LabelMap(torch.zeros(SIZE, dtype=torch.int32)))
    with pytest.raises(InputError, match="v, frame 00000: it has no probabilities; ask for soft results"):
        write_soft(tmp_path, [video(hard)])
    with pytest.raises(InputError, match="v, frame 00000: to merge runs, all need probabilities and one size"):
        merge_soft([video(hard), video(hard)]).annotation(0)


def test_frames_of_another_size_are_refused(tmp_path):
    frames = frame(0, random_frame(0)), frame(1, random_frame(0), size_hw=(4, 7))
    with pytest.raises(InputError, match="v, frame 00001: it is 4×7, but the first frame is 4×6"):
        write_soft(tmp_path, [video(*frames)])
    with pytest.raises(InputError, match="v, frame 00000: to merge runs, all need probabilities and one size"):
        merge_soft([video(frames[0]), video(frames[1])]).annotation(0)


def test_runs_of_other_frames_are_refused():
    one = frame(0, random_frame(0))
    with pytest.raises(InputError, match="v: runs have different frames, 1 and 2"):
        merge_soft([video(one), video(one, one)])


@pytest.mark.parametrize(
    "spoil, message",
    [
        pytest.param(
            lambda f: (f / "scores.json").unlink(), r"holds no soft masks: there is no VIDEO/scores", id="none"
        ),
        pytest.param(lambda f: (f / "scores.json").write_text("{"), r"scores.json cannot be read", id="cut off"),
        pytest.param(
            lambda f: (f / "scores.json").write_text('{"schema": "maskstream/run", "version": 1}'),
            r"scores.json, the listing: it is maskstream/run 1, not maskstream/soft 1",
            id="another listing",
        ),
        pytest.param(lambda f: (f / "1" / "00000.png").unlink(), r"there is no mask .*1/00000.png", id="no picture"),
        pytest.param(
            lambda f: write_soft_png(f / "1" / "00000.png", torch.zeros(2, 2)),
            r"1/00000.png is 2×2, but .*0/00000.png is 4×6",
            id="another size",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line_that_names_the_file(tmp_path, spoil, message):
    write_soft(tmp_path, [video(frame(0, random_frame(0, 1), 1))])
    spoil(tmp_path / "v")
    with pytest.raises(InputError, match=message) as refusal:
        read_soft(tmp_path)["v"].annotation(0)
    assert "\n" not in str(refusal.value)
