"""``--model tarvis``: the real command on real encoded video, and what it says of mistakes."""

import json
from typing import Any

import pytest

from maskstream.synthetic.scene import WORLD
from maskstream.systems.tarvis import TarViSConfig, TarViSNetwork, save_tarvis
from maskstream.systems.tarvis.label_spaces import marked
from tests.mask2former.networks import small_network

from .conftest import all_files, journal_lines


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Networks that were never trained: one knows the synthetic world, the other a street as well."""
    folder = tmp_path_factory.mktemp("weights")
    small: dict[str, Any] = {"object_layers": 1, "object_hidden": 32, "neck_hidden": 32, "frames": 4}
    names = marked(WORLD)
    one = TarViSConfig(label_spaces=(WORLD.name,), classes=(len(WORLD),), names=names, **small)
    streets = (*names, "car*", "road")
    two = TarViSConfig(label_spaces=(WORLD.name, "street"), classes=(len(WORLD), 2), names=streets, **small)
    for name, config in (("one", one), ("two", two)):
        save_tarvis(TarViSNetwork(small_network(3), config), folder / name, short_side=64)
    return folder


def words(clip, output, weights, *others):
    fixed = ["--stop", "6", "--quiet", "--min-score", "0.001"]
    return ["segment", clip, "-o", output, "--model", "tarvis", "--weights", weights / "one", *fixed, *others]


@pytest.mark.parametrize("task", ["vps", "vis", "vss"])
def test_a_video_is_segmented_in_clips(call, clip, weights, tmp_path, task):
    done = call(*words(clip, tmp_path / "out", weights, "--task", task))
    assert done.returncode == 0, done.stderr
    lines = journal_lines(tmp_path / "out")
    assert [line["frame"] for line in lines] == list(range(6))
    segments: list[dict[str, Any]] = [segment for line in lines for segment in line["segments"]]  # type: ignore[attr-defined]
    assert segments and {segment["category"] for segment in segments} <= {c.id for c in WORLD.categories}


@pytest.mark.parametrize("task", [[], ["--task", "pet"]])
def test_what_is_pointed_at_is_followed(call, clip, weights, tmp_path, task):
    prompts = ["--mask", f"0:{clip.parent / 'first.png'}", "--point", "2:7:60,40"]
    prompts += ["--scribble", "0:9:10,10;20,20", "--box", "0:8:10,10,60,60"]
    done = call(*words(clip, tmp_path / "out", weights, *prompts, *task))
    assert done.returncode == 0, done.stderr
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["options"]["task"] == (task[-1] if task else "vos")
    first = journal_lines(tmp_path / "out")[0]
    assert {1, 2} <= {segment["track_id"] for segment in first["segments"]}  # type: ignore[attr-defined]


def test_the_same_command_gives_the_same_bytes(call, clip, weights, tmp_path):
    for name in ("one", "two"):
        assert call(*words(clip, tmp_path / name, weights, "--window", "3", "--overlap", "2")).returncode == 0
    one, two = (all_files(tmp_path / name) for name in ("one", "two"))
    del one["report.html"], two["report.html"]  # has times
    assert one == two


@pytest.mark.parametrize("task", ["vps", "vos"])
def test_it_runs_over_a_data_set(call, weights, tmp_path, task):
    small = ("--videos", 1, "--frames", 6, "--size", "72x128", "--seed", 3, "--level", "easy", "--quiet")
    assert call("synth", tmp_path / "data", "--task", task, *small).returncode == 0
    layout = {"vos": "davis-2017", "vps": "vipseg"}[task]
    some = ["--root", tmp_path / "data", "--task", task, "-o", tmp_path / "out", "--quiet"]
    done = call("predict", layout, *some, "--model", "tarvis", "--weights", weights / "two", "--compat", "official")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out" / "results").rglob("*.png"))) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--weights", "nowhere"], "nowhere"),
        ([], "needs weights: a folder that training wrote"),
        (["--weights", "ONE", "--linking", "slots"], "--linking is for the model tubelink"),
        (["--weights", "ONE", "--window", "2", "--overlap", "2"], "clips of 2 frames overlap by 0 to 1, not 2"),
        (["--weights", "ONE", "--classes", "whale"], "does not know whale"),
        (["--weights", "ONE", "--label-space", "street"], "unknown label space 'street'; this TarViS knows: synthetic"),
        (["--weights", "TWO", "--task", "vps"], "this model knows synthetic, street: say which with --label-space"),
        (["--weights", "ONE", "--text", "the red thing"], "cannot do 'refvos'"),
        (["--weights", "ONE", "--save-scores", "--task", "vps"], "no probabilities"),
        (["--weights", "ONE", "--task", "vos"], "follows what is pointed at"),
        (["--weights", "ONE", "--point", "0:1:500,5"], "is outside the video"),
        (["--weights", "ONE", "--point", "0:1:5,5", "--backward"], "goes forward only"),
    ],
)
def test_a_mistake_is_told_in_a_line(call, clip, weights, tmp_path, options, message):
    folders = {"ONE": str(weights / "one"), "TWO": str(weights / "two")}
    options = [folders.get(option, option) for option in options]
    done = call("segment", clip, "-o", tmp_path / "out", "--model", "tarvis", "--stop", "4", "--quiet", *options)
    assert done.returncode != 0
    assert message in done.stderr and len(done.stderr.strip().splitlines()) <= 2
