"""``--model univs``: the real command on real encoded video, and what it says of mistakes."""

import json
from typing import Any

import pytest

from maskstream.synthetic.scene import WORLD
from maskstream.systems.univs import UniVSConfig, UniVSNetwork, save_univs
from maskstream.systems.univs.text import new_text, save_text
from tests.mask2former.networks import small_network

from .conftest import all_files, journal_lines


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A network that was never trained, with a text tower that knows the words of the synthetic world, and without."""
    folder = tmp_path_factory.mktemp("weights")
    core = small_network(3, classes=len(WORLD))
    core.config.id2label = dict(enumerate(WORLD.names))
    network = UniVSNetwork(core, UniVSConfig(text_dim=16, frames=3))
    text = new_text([*WORLD.names, "the red thing"], dim=16, layers=1, heads=2)
    save_univs(network, text, folder / "reads", short_side=64)
    save_univs(network, None, folder / "mute", short_side=64)
    return folder


def words(clip, output, weights, *others):
    fixed = ["--stop", "5", "--quiet", "--min-score", "0.001"]
    return ["segment", clip, "-o", output, "--model", "univs", "--weights", weights / "reads", *fixed, *others]


@pytest.mark.parametrize("task", ["vps", "vis", "vss"])
def test_a_video_is_segmented_in_clips(call, clip, weights, tmp_path, task):
    done = call(*words(clip, tmp_path / "out", weights, "--task", task))
    assert done.returncode == 0, done.stderr
    lines = journal_lines(tmp_path / "out")
    assert [line["frame"] for line in lines] == list(range(5))
    segments: list[dict[str, Any]] = [segment for line in lines for segment in line["segments"]]  # type: ignore[attr-defined]
    assert {segment["category"] for segment in segments} <= set(range(len(WORLD)))  # those of the network


def test_what_is_pointed_at_and_described_is_followed(call, clip, weights, tmp_path):
    prompts = ["--mask", f"0:{clip.parent / 'first.png'}", "--point", "2:7:60,40", "--box", "0:8:10,10,60,60"]
    prompts += ["--scribble", "0:9:10,10;20,20", "--text", "the red thing"]
    done = call(*words(clip, tmp_path / "out", weights, *prompts))
    assert done.returncode == 0, done.stderr
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["options"]["task"] == "refvos" and run["options"]["direction"] == "forward"
    assert any(name.startswith("weights/reads/text/") for name in run["weights"])
    first = journal_lines(tmp_path / "out")[0]
    assert {1, 2} <= {segment["track_id"] for segment in first["segments"]}  # type: ignore[attr-defined]


def test_the_same_command_gives_the_same_bytes(call, clip, weights, tmp_path):
    for name in ("one", "two"):
        assert call(*words(clip, tmp_path / name, weights, "--classes", ",".join(WORLD.names[:3]))).returncode == 0
    one, two = (all_files(tmp_path / name) for name in ("one", "two"))
    del one["report.html"], two["report.html"]  # has times
    assert one == two


@pytest.mark.parametrize("task", ["refvos", "vps"])
def test_it_runs_over_a_data_set(call, weights, tmp_path, task):
    small = ("--videos", 1, "--frames", 4, "--size", "72x128", "--seed", 3, "--level", "easy", "--quiet")
    assert call("synth", tmp_path / "data", "--task", task, *small).returncode == 0
    layout = {"refvos": "ref-ytvos", "vps": "vipseg"}[task]
    text = new_text([*_words(tmp_path / "data"), *WORLD.names], dim=16, layers=1, heads=2)
    save_text(text, tmp_path / "text")
    some = ["--weights", weights / "mute", "--text-encoder", tmp_path / "text", "--quiet", "--size", "64"]
    done = call(
        "predict",
        layout,
        "--root",
        tmp_path / "data",
        "--task",
        task,
        "-o",
        tmp_path / "out",
        "--model",
        "univs",
        *some,
    )
    assert done.returncode == 0, done.stderr
    assert any((tmp_path / "out" / "results").rglob("*.png"))


def _words(folder):
    """Every word of a folder's sentences."""
    texts = [file.read_text() for file in folder.rglob("*expressions*.json")]
    return [word for text in texts for word in text.split('"') if word.replace(" ", "").isalpha()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--weights", "nowhere"], "nowhere"),
        ([], "needs weights"),
        (["--weights", "READS", "--linking", "slots"], "--linking is for the model tubelink"),
        (["--weights", "READS", "--key-every", "3"], "--key-every is for the model mpvss"),
        (["--weights", "READS", "--tracking", "magic"], "unknown tracking 'magic'; known: prompt, similarity"),
        (["--weights", "READS", "--window", "2", "--overlap", "2"], "clips of 2 frames overlap by 0 to 1, not 2"),
        (["--weights", "READS", "--classes", "whale"], "has not learned the word 'whale'"),
        (["--weights", "READS", "--text", "the blue whale"], "has not learned the word 'blue'"),
        (["--weights", "MUTE", "--task", "vps"], "--text-encoder"),
        (["--weights", "MUTE", "--text", "the red thing"], "--text-encoder"),
        (["--weights", "READS", "--save-scores", "--task", "vps"], "no probabilities"),
        (["--weights", "READS", "--task", "vos"], "follows what is pointed at"),
        (["--weights", "READS", "--task", "pet", "--point", "0:1:5,5"], "cannot do 'pet'"),
        (["--weights", "READS", "--point", "0:1:500,5"], "is outside the video"),
        (["--weights", "READS", "--point", "0:1:5,5", "--backward"], "goes forward only"),
    ],
)
def test_a_mistake_is_told_in_a_line(call, clip, weights, tmp_path, options, message):
    folders = {"READS": str(weights / "reads"), "MUTE": str(weights / "mute")}
    options = [folders.get(option, option) for option in options]
    done = call("segment", clip, "-o", tmp_path / "out", "--model", "univs", "--stop", "4", "--quiet", *options)
    assert done.returncode != 0
    assert message in done.stderr and len(done.stderr.strip().splitlines()) <= 2
