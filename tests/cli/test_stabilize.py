"""``maskstream stabilize`` from end to end."""

import csv
import json
import re
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from maskstream.formats import read_label_png, write_label_png
from maskstream.formats.pictures import write_indices
from maskstream.synthetic import render_sample

from .conftest import SIZE, Run, all_files

FRAMES = 12
SMALL = ("--size", 96)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> tuple[Path, Path]:
    """A folder of pictures, and one of masks beside it: other ids on every frame, nothing at all on every fourth."""
    root = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    (root / "masks").mkdir()
    for frame, truth in render_sample(frames=FRAMES, size_hw=SIZE, objects=2):
        labels = truth.segmentation.panoptic_map().numpy()
        ids = np.concatenate([[0], rng.permutation(np.arange(1, 90))])
        labels = np.where(frame.index % 4 == 3, 0, ids[labels]).astype(np.int32)
        write_picture(root / "video" / f"f{frame.index}.png", frame.image)
        write_label_png(root / "masks" / f"f{frame.index}.png", labels)
    return root / "video", root / "masks"


def write_picture(path: Path, image: NDArray[np.uint8]) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(image).save(path)


@pytest.fixture(scope="module")
def done(call: Run, inputs, tmp_path_factory):
    output = tmp_path_factory.mktemp("done") / "out"
    return call("stabilize", *inputs, "-o", output, *SMALL, "--quiet"), output


def test_a_run_leaves_what_segment_leaves_and_the_flicker(done):
    result, output = done
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    names = {path.name for path in output.iterdir()}
    of_segment = {"overlay.mp4", "masks", "segments.jsonl", "events.jsonl", "tracks.json", "report.html", "run.json"}
    assert names == of_segment | {"flicker.csv"}
    schema = json.loads((Path(__file__).parents[2] / "docs" / "schemas" / "run.json").read_text())
    jsonschema.validate(json.loads((output / "run.json").read_text()), schema)


def test_objects_keep_their_ids_and_are_there_on_every_frame(done):
    shown = [set(np.unique(read_label_png(done[1] / "masks" / f"{index:05d}.png"))) for index in range(FRAMES)]
    assert all(ids == shown[0] for ids in shown)
    assert len(shown[0] - {0}) == 2


def test_the_same_again_has_nothing_to_do_and_says_how_much_it_flickers(call, inputs, done):
    output = done[1]
    before = all_files(output)
    again = call("stabilize", *inputs, "-o", output, *SMALL)
    assert again.returncode == 0, again.stderr
    assert all_files(output) == before
    assert "already complete: 12 frames, 2 objects" in again.stdout
    said = re.fullmatch(r"flicker: before (0\.\d{3}), after (0\.\d{3})", again.stdout.splitlines()[-1])
    assert said is not None
    with (output / "flicker.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["frame"]) for row in rows] == list(range(1, FRAMES))
    for name, mean in zip(("before", "after"), said.groups(), strict=True):
        assert float(mean) == pytest.approx(np.mean([float(row[name]) for row in rows if row[name]]), abs=6e-4)
    assert float(said[2]) < float(said[1]) / 2


def test_a_run_that_ended_before_flicker_was_measured_measures_it(call, inputs, done):
    output = done[1]
    before = all_files(output)
    (output / "flicker.csv").unlink()
    assert call("stabilize", *inputs, "-o", output, *SMALL, "--quiet").returncode == 0
    assert all_files(output) == before


def test_other_masks_are_another_run(call, inputs, done, tmp_path):
    video, masks = inputs
    for path in masks.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    write_indices(tmp_path / "f5.png", np.zeros(SIZE, np.int32))
    refused = call("stabilize", video, tmp_path, "-o", done[1], *SMALL)
    assert refused.returncode == 1
    assert "belongs to another run (its prompts differ)" in refused.stderr


def test_the_outcome_as_json(call, inputs, tmp_path):
    video, _ = inputs
    write_label_png(tmp_path / "f0.png", np.zeros(SIZE, np.int32))
    result = call("stabilize", video, tmp_path, "-o", tmp_path / "out", *SMALL, "--json", "--quiet")
    outcome = json.loads(result.stdout)
    assert (outcome["frames"], outcome["tracks"]) == (FRAMES, 0)
    assert (outcome["flicker_before"], outcome["flicker_after"]) == (None, None)


@pytest.mark.parametrize(
    ("file", "labels", "message"),
    [
        pytest.param("f0.png", np.ones((10, 10), np.int32), "the mask is 10×10, but frame 0 is 96×128", id="size"),
        pytest.param("x0.png", np.ones(SIZE, np.int32), None, id="by number"),
        pytest.param("x77.png", np.ones(SIZE, np.int32), "masks for 1 frames, but the video has 12", id="beyond"),
    ],
)
def test_masks_that_do_not_fit_are_one_line(call, inputs, tmp_path, file, labels, message):
    (tmp_path / "masks").mkdir()
    write_label_png(tmp_path / "masks" / file, labels)
    result = call("stabilize", inputs[0], tmp_path / "masks", "-o", tmp_path / "out", *SMALL, "--quiet")
    assert (result.returncode == 0) == (message is None)
    if message is not None:
        assert message in result.stderr
        assert result.stderr.count("error: ") == 1
