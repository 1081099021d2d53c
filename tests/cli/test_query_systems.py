"""``--model tubelink`` and ``--model mpvss``: the real command on real encoded video, and what it says of mistakes."""

import json
from typing import Any

import pytest

from maskstream.mask2former.checkpoints import save_core
from maskstream.synthetic.scene import WORLD
from maskstream.systems.tubelink import TubeLinkConfig, TubeLinkNetwork, save_tubelink
from tests.mask2former.networks import small_network

from .conftest import all_files, journal_lines


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A network for tubes, and one for pictures, untrained; they know the classes of the synthetic world."""
    folder = tmp_path_factory.mktemp("weights")
    for name in ("tubes", "pictures"):
        core = small_network(3, classes=len(WORLD))
        core.config.id2label = dict(enumerate(WORLD.names))
        if name == "pictures":
            save_core(core, folder / name, short_side=64)
        else:
            save_tubelink(TubeLinkNetwork(core, TubeLinkConfig(stuff_slots=8)), folder / name, short_side=64)
    return folder


def words(clip, output, weights, *others):
    fixed = ["--stop", "7", "--quiet", "--min-score", "0.01"]
    return ["segment", clip, "-o", output, "--model", "tubelink", "--weights", weights, *fixed, *others]


@pytest.mark.parametrize("kind", ["tubes", "pictures"])
@pytest.mark.parametrize("task", ["vps", "vis", "vss"])
def test_a_video_is_segmented_in_tubes(call, clip, weights, tmp_path, kind, task):
    done = call(*words(clip, tmp_path / "out", weights / kind, "--task", task, "--window", "3", "--overlap", "1"))
    assert done.returncode == 0, done.stderr
    lines = journal_lines(tmp_path / "out")
    assert [line["frame"] for line in lines] == list(range(7))
    segments: list[dict[str, Any]] = [segment for line in lines for segment in line["segments"]]  # type: ignore[attr-defined]
    categories = {segment["category"] for segment in segments}
    assert categories and categories <= set(WORLD.ids) | {0}


def test_the_same_command_gives_the_same_bytes_and_goes_on(call, clip, weights, tmp_path):
    for name in ("one", "two"):
        assert call(*words(clip, tmp_path / name, weights / "tubes")).returncode == 0
    assert call(*words(clip, tmp_path / "one", weights / "tubes")).returncode == 0
    one, two = (all_files(tmp_path / name) for name in ("one", "two"))
    del one["report.html"], two["report.html"]  # has times
    assert one == two


def test_it_runs_over_a_data_set(call, weights, tmp_path):
    small = ("--videos", 1, "--frames", 9, "--size", "72x128", "--seed", 3, "--level", "easy", "--quiet")
    assert call("synth", tmp_path / "data", "--task", "vps", *small).returncode == 0
    some = ["--model", "tubelink", "--weights", weights / "tubes", "--min-score", "0.01", "--quiet", "--size", "64"]
    done = call("predict", "vipseg", "--root", tmp_path / "data", "--task", "vps", "-o", tmp_path / "out", *some)
    assert done.returncode == 0, done.stderr
    assert any((tmp_path / "out" / "results").rglob("*.png"))


def test_key_frames_are_carried(call, clip, weights, tmp_path):
    some = ["--stop", "7", "--quiet", "--key-every", "3", "--adaptive"]
    words = ["segment", clip, "-o", tmp_path / "out", "--model", "mpvss", "--weights", weights / "pictures", *some]
    done = call(*words)
    assert done.returncode == 0, done.stderr
    assert [line["frame"] for line in journal_lines(tmp_path / "out")] == list(range(7))
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["options"]["task"] == "vss" and run["options"]["key_every"] == 3
    assert not run["options"].keys() & {"segmenter", "propagator", "prompter", "schedule", "tracking", "linking"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "tubelink"], "needs weights"),
        (["--model", "tubelink", "--weights", "nowhere"], "nowhere"),
        (["--model", "tubelink", "--weights", "x", "--propagator", "flow"], "--propagator is for the model deva"),
        (["--weights", "x"], "--weights is for the model tubelink, mpvss, univs, tarvis, sam2, sam3 and videomt"),
        (
            ["--model", "mpvss", "--weights", "WEIGHTS", "--min-score", "0.5"],
            "--min-score is for the model deva, tubelink, univs, tarvis and videomt",
        ),
        (["--model", "mpvss"], "mpvss needs weights"),
        (["--model", "mpvss", "--weights", "WEIGHTS", "--window", "3"], "--window is for the model tubelink"),
        (["--model", "mpvss", "--weights", "WEIGHTS", "--carrying", "motion"], "no motion module"),
        (["--model", "tubelink", "--weights", "WEIGHTS", "--adaptive"], "--adaptive is for the model mpvss"),
        (
            ["--model", "tubes"],
            "unknown model 'tubes'; known: deva, mpvss, sam2, sam3, tarvis, tubelink, univs, videomt",
        ),
        (["--model", "tubelink", "--weights", "WEIGHTS", "--linking", "magic"], "unknown linking 'magic'"),
        (["--model", "tubelink", "--weights", "WEIGHTS", "--window", "2", "--overlap", "2"], "overlap by 0 to 1"),
        (["--model", "tubelink", "--weights", "WEIGHTS", "--task", "vos"], "cannot do 'vos'"),
        (["--model", "tubelink", "--weights", "WEIGHTS", "--classes", "whale"], "does not know whale"),
        (["--model", "tubelink", "--weights", "WEIGHTS", "--save-scores"], "no probabilities"),
        (["--model", "tubelink", "--weights", "WEIGHTS", "--point", "0:1:5,5"], "cannot do 'vos'"),
    ],
)
def test_a_mistake_is_told_in_a_line(call, clip, weights, tmp_path, options, message):
    options = [str(weights / "tubes") if option == "WEIGHTS" else option for option in options]
    done = call("segment", clip, "-o", tmp_path / "out", "--stop", "4", "--quiet", *options)
    assert done.returncode != 0
    assert message in done.stderr and len(done.stderr.strip().splitlines()) <= 2
