"""``maskstream segment`` in both directions."""

import json
from pathlib import Path

import numpy as np
import pytest

from maskstream.formats import read_label_png, write_label_png
from maskstream.synthetic import render_sample
from tests.segmenters.tiny_models import save_segformer

from .conftest import SIZE, Run, all_files, journal_lines

FRAMES = 30


@pytest.fixture(scope="module")
def middle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The true masks of frame 15."""
    path = tmp_path_factory.mktemp("masks") / "middle.png"
    truth = [annotation.segmentation for _, annotation in render_sample(frames=16, size_hw=SIZE, objects=2)]
    write_label_png(path, truth[15].panoptic_map().numpy())
    return path


@pytest.mark.parametrize(
    ("words", "frames"),
    [
        (["--both"], range(FRAMES)),
        (["--backward"], range(16)),
        (["--forward"], range(15, FRAMES)),
        ([], range(15, FRAMES)),
    ],
    ids=["both", "backward", "forward", "forward by default"],
)
def test_an_object_is_followed_the_way_that_is_asked(call: Run, clip, middle, tmp_path, words, frames):
    output = tmp_path / "out"
    done = call("segment", clip, "-o", output, "--mask", f"15:{middle}", "--size", 96, *words)
    assert done.returncode == 0, done.stderr
    lines = journal_lines(output)
    assert [line["frame"] for line in lines] == list(range(FRAMES))
    assert [line["frame"] for line in lines if line["segments"]] == list(frames)
    assert np.array_equal(read_label_png(output / "masks" / "00015.png"), read_label_png(middle))


def test_both_directions_again_is_nothing_to_do(call: Run, clip, middle, tmp_path):
    words = ("segment", clip, "-o", tmp_path / "out", "--mask", f"5:{middle}", "--size", 96, "--both", "--stop", 8)
    assert call(*words).returncode == 0
    before = all_files(tmp_path / "out")
    assert "already complete: 8 frames" in call(*words).stdout
    assert all_files(tmp_path / "out") == before


def test_what_stands_out_is_found_all_over_the_video(call: Run, clip, tmp_path):
    (tmp_path / "net").mkdir()
    save_segformer(tmp_path / "net", classes=1)
    words = ("segment", clip, "-o", tmp_path / "out", "--segmenter", tmp_path / "net", "--size", 64, "--stop", 8)
    done = call(*words, "--schedule", "offline")
    assert done.returncode == 0, done.stderr
    lines = journal_lines(tmp_path / "out")
    assert [line["frame"] for line in lines] == list(range(8))
    assert {each["track_id"] for line in lines for each in line["segments"]} == {1}  # type: ignore[attr-defined]
    written = json.loads((tmp_path / "out" / "run.json").read_text())["options"]
    assert (written["schedule"], written["direction"], written["task"]) == ("offline", "both", "uvos")


def test_offline_goes_both_ways(call: Run, clip, middle, tmp_path):
    words = ("--mask", f"5:{middle}", "--size", 96, "--stop", 8)
    for name, how in (("both", "--both"), ("offline", "--schedule=offline")):
        assert call("segment", clip, "-o", tmp_path / name, *words, how).returncode == 0
    assert all_files(tmp_path / "both") == all_files(tmp_path / "offline")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(["--schedule", "late"], "unknown schedule 'late'", id="no schedule"),
        pytest.param(["--schedule", "online", "--both"], "takes frames as they come", id="a schedule that goes onward"),
        pytest.param(["--schedule", "semi-online", "--text", "a fish"], "as they come", id="a sentence as frames come"),
        pytest.param(["--schedule", "offline", "--task", "vos"], "the task is uvos, not vos", id="another task"),
        pytest.param(["--both", "--backward", "--box", "0:1:1,1,9,9"], "contradict", id="two directions"),
        pytest.param(["--both"], "--both follows what is pointed at", id="nothing to follow"),
        pytest.param(["--both", "--box", "3:1:1,1,9,9", "--remove", "5:1"], "--remove", id="removal"),
        pytest.param(["--backward", "--box", "30:1:1,1,9,9"], "frame 30", id="a frame that does not exist"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(call: Run, clip, tmp_path, words, expected):
    done = call("segment", clip, "-o", tmp_path / "out", *words)
    assert done.returncode == 1
    assert expected in done.stderr
