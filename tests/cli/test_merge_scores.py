"""``maskstream segment --save-scores`` and ``maskstream merge-scores``."""

import json
from pathlib import Path

import numpy as np
import pytest

from maskstream.formats import read_label_png
from maskstream.formats.soft_png import read_soft
from maskstream.propagation.network import save_pretrained
from maskstream.types import resize_masks
from tests.propagation.golden import hashed_network
from tests.propagation.test_network import TINY

from .conftest import SIZE, Run


@pytest.fixture(scope="module")
def runs(call: Run, clip: Path, tmp_path_factory) -> list[Path]:
    """The clip at two sizes."""
    root = tmp_path_factory.mktemp("runs")
    for size in (64, 96):
        done = call(
            "segment", clip, "-o", root / str(size), "--mask", f"0:{clip.with_name('first.png')}",
            "--stop", 6, "--size", size, "--save-scores", "--quiet",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    return [root / "64", root / "96"]


def test_runs_at_two_sizes_are_merged(call, runs, tmp_path):
    done = call("merge-scores", *runs, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert f"done: 2 runs merged, 6 frames; masks in {tmp_path / 'out'}" in done.stdout
    videos = [read_soft(run / "scores")["clip"] for run in runs]
    for index in range(6):
        results = [video.annotation(index).segmentation for video in videos]
        total = sum(resize_masks(r.probabilities, SIZE) for r in results if r.probabilities is not None)
        ids = np.array([0, *(segment.id for segment in results[0].segments)])
        merged = read_label_png(tmp_path / "out" / "clip" / f"{index:05d}.png")
        assert np.array_equal(merged, ids[total.argmax(0).numpy()])  # type: ignore[union-attr]
        assert set(np.unique(merged)) > {0}


def test_scores_are_of_what_the_masks_show(runs):
    found = read_soft(runs[1] / "scores")["clip"].annotation(5).segmentation.panoptic_map().numpy()
    masks = read_label_png(runs[1] / "masks" / "00005.png")
    assert (found == masks).mean() > 0.995


def test_without_being_asked_no_scores_are_written(call, clip, tmp_path):
    done = call("segment", clip, "-o", tmp_path / "out", "--stop", 2, "--size", 64, "--quiet")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "out" / "scores").exists()
    refused = call("merge-scores", tmp_path / "out", tmp_path, "-o", tmp_path / "merged")
    assert refused.returncode == 1
    assert "holds no soft masks" in refused.stderr


def test_a_network_that_sees_the_video_mirrored_finds_something_else_and_merges_with_one_that_does_not(
    call, clip, tmp_path
):
    save_pretrained(hashed_network(TINY), tmp_path / "network")
    for name, words in (("plain", ()), ("flipped", ("--flip",))):
        done = call(
            "segment", clip, "-o", tmp_path / name, "--mask", f"0:{clip.with_name('first.png')}", "--stop", 3,
            "--size", 64, "--propagator", tmp_path / "network", "--save-scores", "--quiet", *words,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    pictures = [(tmp_path / name / "scores" / "clip" / "1" / "00002.png").read_bytes() for name in ("plain", "flipped")]
    assert pictures[0] != pictures[1]
    done = call("merge-scores", tmp_path / "plain", tmp_path / "flipped", "-o", tmp_path / "out", "--json", "--quiet")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"output": str(tmp_path / "out"), "runs": 2, "videos": 1, "frames": 3}


def test_flow_is_not_flipped(call, clip, tmp_path):
    refused = call("segment", clip, "-o", tmp_path / "out", "--flip")
    assert refused.returncode == 1
    assert "flip is for trained propagators" in refused.stderr
