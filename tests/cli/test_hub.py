"""``--model sam2``, ``sam3`` and ``videomt``: the real commands on encoded video, and what they say of mistakes."""

import json

import pytest

from tests.systems.hub import sam_models, test_videomt

from .conftest import all_files, journal_lines

SMALL = ("--videos", "1", "--frames", "3", "--size", "48x80", "--level", "easy", "--seed", "3")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Networks that were never trained, as those of others are saved."""
    folder = tmp_path_factory.mktemp("weights")
    for model in ("sam2", "sam3"):
        (folder / model).mkdir()
    sam_models.save(sam_models.tiny("sam2_video"), folder / "sam2")
    sam_models.save_sam3(sam_models.tiny_sam3(6, score_threshold_detection=0.3), folder / "sam3")
    test_videomt.save(test_videomt.tiny(), folder / "videomt")
    return folder


def words(clip, output, weights, model, *others):
    fixed = ["--stop", "6", "--quiet", "--model", model, "--weights", weights / model]
    return ["segment", clip, "-o", output, *fixed, *others]


def test_sam2_follows_what_is_pointed_at(call, clip, weights, tmp_path):
    prompts = ["--point", "0:1:60,40", "--box", "2:7:10,10,60,60", "--remove", "4:1"]
    done = call(*words(clip, tmp_path / "out", weights, "sam2", *prompts))
    assert done.returncode == 0, done.stderr
    lines = journal_lines(tmp_path / "out")
    assert [line["frame"] for line in lines] == list(range(6))
    shown = [{segment["track_id"] for segment in line["segments"]} for line in lines]  # type: ignore[attr-defined]
    assert 1 in shown[0] and 7 in shown[2] and all(1 not in ids for ids in shown[4:])


@pytest.mark.parametrize("policy", ["recent", "fifo", "anchors", "tree"])
def test_sam2_remembers_what_the_policy_says(call, clip, weights, tmp_path, policy):
    done = call(*words(clip, tmp_path / "out", weights, "sam2", "--point", "0:1:60,40", "--policy", policy))
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "run.json").read_text())["options"]["policy"] == policy


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["--text", "cat"], id="words"),
        pytest.param(["--classes", "cat,dog"], id="classes"),
        pytest.param(["--classes", "dog", "--text", "cat", "--schedule", "online"], id="both, at once"),
        pytest.param(["--text", "cat", "--policy", "tree", "--max-objects", "2"], id="policy"),
    ],
)
def test_sam3_finds_all_that_words_name(call, clip, weights, tmp_path, options):
    done = call(*words(clip, tmp_path / "out", weights, "sam3", *options))
    assert done.returncode == 0, done.stderr
    lines = journal_lines(tmp_path / "out")
    assert [line["frame"] for line in lines] == list(range(6))
    assert all(line["segments"] for line in lines)
    tracks = json.loads((tmp_path / "out" / "tracks.json").read_text())
    assert "cat" in {category["name"] for category in tracks["categories"]}
    assert json.loads((tmp_path / "out" / "run.json").read_text())["options"]["task"] == "vis"


def test_sam3_runs_over_a_data_set(call, weights, tmp_path):
    assert call("synth", tmp_path / "world", "--task", "vis", "--quiet", *SMALL).returncode == 0
    words = ["predict", "ytvis-2021", "--root", tmp_path / "world", "-o", tmp_path / "out", "--quiet"]
    done = call(*words, "--model", "sam3", "--weights", weights / "sam3")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "results" / "results.json").read_text())


@pytest.mark.parametrize("task", ["vps", "vis", "vss"])
def test_videomt_segments_what_it_knows(call, clip, weights, tmp_path, task):
    done = call(*words(clip, tmp_path / "out", weights, "videomt", "--task", task))
    assert done.returncode == 0, done.stderr
    lines = journal_lines(tmp_path / "out")
    assert [line["frame"] for line in lines] == list(range(6))
    assert any(line["segments"] for line in lines)


@pytest.mark.parametrize(
    "model, prompt",
    [("sam2", ["--point", "0:1:60,40"]), ("sam3", ["--text", "cat"]), ("videomt", ["--task", "vps"])],
)
def test_the_same_command_gives_the_same_bytes(call, clip, weights, tmp_path, model, prompt):
    for name in ("one", "two"):
        assert call(*words(clip, tmp_path / name, weights, model, *prompt)).returncode == 0
    one, two = (all_files(tmp_path / name) for name in ("one", "two"))
    assert {name: data for name, data in one.items() if name != "run.json"} == {
        name: data for name, data in two.items() if name != "run.json"
    }


def test_sam2_runs_over_a_data_set_whatever_size_its_preset_has(call, weights, tmp_path):
    assert call("synth", tmp_path / "world", "--task", "vos", "--quiet", *SMALL).returncode == 0
    words = ["predict", "davis-2017", "--root", tmp_path / "world", "-o", tmp_path / "out", "--preset", "ref-ytvos"]
    done = call(*words, "--task", "vos", "--model", "sam2", "--weights", weights / "sam2", "--quiet")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out" / "results").rglob("*.png"))) == 3


@pytest.mark.parametrize(
    "model, options, message",
    [
        pytest.param("sam2", ["--size", "480"], "--size is for the model", id="size"),
        pytest.param("sam2", ["--task", "vps"], "cannot do 'vps'", id="task"),
        pytest.param("sam2", ["--text", "a fish"], "cannot do 'refvos'", id="words"),
        pytest.param("sam2", ["--point", "0:1:60,40", "--policy", "all"], "unknown memory policy 'all'", id="policy"),
        pytest.param("sam3", ["--point", "0:1:60,40"], "cannot do 'vos'", id="pointing"),
        pytest.param("sam3", [], "name classes, as in --classes cat,dog", id="nothing to look for"),
        pytest.param("sam3", ["--text", "cat", "--text", "cat"], "'cat' is looked for already", id="twice"),
        pytest.param("sam3", ["--text", "cat", "--both"], "goes forward only: leave out --both", id="backward"),
        pytest.param("videomt", ["--policy", "fifo"], "--policy is for the model sam2 and sam3", id="other policy"),
        pytest.param("videomt", ["--point", "0:1:60,40", "--task", "vps"], "takes no prompts", id="prompt"),
        pytest.param("videomt", ["--propagator", "flow"], "--propagator is for the model deva", id="part"),
    ],
)
def test_a_mistake_is_told_in_a_line(call, clip, weights, tmp_path, model, options, message):
    done = call(*words(clip, tmp_path / "out", weights, model, *options))
    assert done.returncode == 1
    said = done.stderr.strip().splitlines()
    assert message in said[-1] and said[-1].startswith("error: "), done.stderr


@pytest.mark.parametrize("model", ["sam2", "sam3", "videomt"])
def test_weights_have_to_be_named(call, clip, tmp_path, model):
    done = call("segment", clip, "-o", tmp_path / "out", "--model", model)
    assert done.returncode == 1 and "needs weights" in done.stderr
