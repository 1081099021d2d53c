"""``--model sam2`` and ``--model videomt``: the real commands on real encoded video, and what they say of mistakes."""

import pytest

from tests.systems.hub import sam_models, test_videomt

from .conftest import all_files, journal_lines

SMALL = ("--videos", "1", "--frames", "3", "--size", "48x80", "--level", "easy", "--seed", "3")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Networks that were never trained, as those of others are saved."""
    folder = tmp_path_factory.mktemp("weights")
    (folder / "sam2").mkdir()
    sam_models.save(sam_models.tiny("sam2_video"), folder / "sam2")
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


@pytest.mark.parametrize("task", ["vps", "vis", "vss"])
def test_videomt_segments_what_it_knows(call, clip, weights, tmp_path, task):
    done = call(*words(clip, tmp_path / "out", weights, "videomt", "--task", task))
    assert done.returncode == 0, done.stderr
    lines = journal_lines(tmp_path / "out")
    assert [line["frame"] for line in lines] == list(range(6))
    assert any(line["segments"] for line in lines)


@pytest.mark.parametrize("model, prompt", [("sam2", ["--point", "0:1:60,40"]), ("videomt", ["--task", "vps"])])
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
        pytest.param("videomt", ["--point", "0:1:60,40", "--task", "vps"], "takes no prompts", id="prompt"),
        pytest.param("videomt", ["--propagator", "flow"], "--propagator is for the model deva", id="part"),
    ],
)
def test_a_mistake_is_told_in_a_line(call, clip, weights, tmp_path, model, options, message):
    done = call(*words(clip, tmp_path / "out", weights, model, *options))
    assert done.returncode == 1
    said = done.stderr.strip().splitlines()
    assert message in said[-1] and said[-1].startswith("error: "), done.stderr


@pytest.mark.parametrize("model", ["sam2", "videomt"])
def test_weights_have_to_be_named(call, clip, tmp_path, model):
    done = call("segment", clip, "-o", tmp_path / "out", "--model", model)
    assert done.returncode == 1 and "needs weights" in done.stderr
