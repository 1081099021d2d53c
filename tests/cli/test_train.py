"""``maskstream train`` and ``finetune``, the real commands, in miniature."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from maskstream.propagation.network import NetworkConfig, load_checkpoint
from maskstream.training.curve import read_curve
from maskstream.training.strict import parse
from tests.training import trees
from tests.training.toy import run_twice

TINY = (
    "data.size=32",
    "train.batch=2",
    "task.frames=2",
    "train.workers=0",
    "validate.videos=1",
    "validate.frames=3",
    "validate.size=[48, 64]",
)


@pytest.fixture(autouse=True)
def _forget_precision():
    """Accelerate keeps the state of a process."""
    from accelerate.state import AcceleratorState

    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def trained(call, tmp_path_factory):
    """The output of two steps of the small recipe, and what the command printed."""
    output = tmp_path_factory.mktemp("train") / "out"
    done = call("train", "propagate-synthetic", "train.steps=2", *TINY, "-o", output, "--json")
    assert done.returncode == 0, done.stderr
    return output, json.loads(done.stdout)


def curve(output):
    return {name: values for name, values in read_curve(output / "curve.csv").items() if name != "seconds"}


def test_training_leaves_weights_curves_a_report_and_the_recipe(trained):
    output, said = trained
    network = load_checkpoint(output / "weights")
    assert network.config == NetworkConfig.small()
    assert curve(output)["iteration"] == [1, 2]
    assert read_curve(output / "validation.csv")["iteration"] == [2]
    assert (output / "report.html").exists()
    assert len(list((output / "pictures").glob("*.png"))) == 1
    assert parse((output / "recipe.yaml").read_text(), where="here")["train"]["steps"] == 2  # type: ignore[call-overload, index]
    assert (said["done"], said["steps"], said["stopped_by"]) == (2, 2, None)
    assert said["loss"] == pytest.approx(np.mean(curve(output)["loss"]))
    assert set(said["scores"]) == {"j_and_f", "copy_j_and_f"}
    assert json.loads((output / "run.json").read_text())["complete"]


def test_the_same_command_again_finds_its_work_done_and_more_steps_continue_it(call, trained):
    output, _ = trained
    before = curve(output)
    again = call("train", "propagate-synthetic", "train.steps=2", *TINY, "-o", output)
    assert "already complete: step 2 of 2" in again.stdout
    assert curve(output) == before
    more = call("train", "propagate-synthetic", "train.steps=3", "train.schedule=cosine", *TINY, "-o", output)
    assert "done: step 3 of 3" in more.stdout
    assert [row[:2] for row in curve(output).values()] == list(before.values())
    fewer = call("train", "propagate-synthetic", "train.steps=2", *TINY, "-o", output)
    assert fewer.returncode == 1
    assert "at iteration 3, and train.steps=2 is behind it" in fewer.stderr


def test_a_run_that_was_killed_before_its_weights_were_written_writes_them(call, tmp_path):
    command = ("train", "propagate-synthetic", "train.steps=1", *TINY, "-o", tmp_path / "out")
    assert call(*command).returncode == 0
    expected = (tmp_path / "out" / "weights" / "model.safetensors").read_bytes()
    shutil.rmtree(tmp_path / "out" / "weights")
    run = tmp_path / "out" / "run.json"
    run.write_text(run.read_text().replace('"complete": true', '"complete": false'))
    assert call(*command).returncode == 0
    assert (tmp_path / "out" / "weights" / "model.safetensors").read_bytes() == expected


def test_another_recipe_in_the_same_folder_is_refused(call, trained):
    output, _ = trained
    refused = call("train", "propagate-synthetic", "train.steps=2", "train.lr=1", *TINY, "-o", output)
    assert refused.returncode == 1
    assert "--overwrite" in refused.stderr


def test_slices_of_a_run_are_continued(call, tmp_path):
    command = ("train", "propagate-synthetic", "train.steps=2", "train.max_minutes=1e-9", *TINY, "-o", tmp_path / "out")
    first, second = call(*command), call(*command)
    assert "time is over: step 1 of 2" in first.stdout
    assert "the same command again continues" in first.stderr
    assert (tmp_path / "out" / "weights").is_dir()
    assert "done: step 2 of 2" in second.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["propagate"], "no recipe propagate", id="no recipe"),
        pytest.param(["propagate-synthetic", "train.stps=2"], "did you mean train.steps?", id="no setting"),
        pytest.param(["deva-video", "--data", "davis=/"], "takes davis-2017, ytvos-2019, ovis", id="no such source"),
        pytest.param(["deva-video", "--data", "/"], "write NAME=DIR", id="a folder without a name"),
        pytest.param(["propagate-synthetic", "--device", "tpu"], "--device is auto or cpu", id="no such device"),
        pytest.param(["propagate-synthetic", "--from", "missing"], "there is no", id="no weights"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(call, tmp_path, words, message):
    failed = call("train", *words, "-o", tmp_path / "out")
    assert failed.returncode == 1
    assert message in failed.stderr
    assert failed.stderr.count("\n") == 1


def test_a_data_set_that_nobody_placed_is_asked_for(call, tmp_path):
    failed = call("train", "deva-video", "model.size=small", *TINY, "-o", tmp_path / "out", "--quiet")
    assert failed.returncode == 1
    assert "say where it is with --data davis-2017=DIR" in failed.stderr


def test_a_recipe_is_shown_with_every_setting(call):
    shown = call("train", "deva-video", "train.steps=7", "--data", "ovis=/x", "--from", "w", "--show")
    recipe = parse(shown.stdout, where="here")
    assert isinstance(recipe, dict)
    assert (recipe["train"]["steps"], recipe["roots"], recipe["model"]["init"]) == (7, {"ovis": "/x"}, "w")  # type: ignore[call-overload, index]


@pytest.mark.parametrize("name", ["deva-static", "deva-video"])
def test_a_published_stage_takes_two_steps_on_miniatures_of_its_data(call, tmp_path, name):
    makers = {"davis-2017": trees.davis, "ytvos-2019": trees.ytvos, "ovis": trees.ovis}
    if name == "deva-static":
        makers = dict.fromkeys(("fss-1000", "duts-tr", "duts-te", "ecssd", "big", "hrsod"), trees.saliency)
    data = [word for key, make in makers.items() for word in ("--data", f"{key}={make(tmp_path / key)}")]
    settings = (
        ("model.size=small", "train.steps=2", "train.milestones=[1]")
        if name == "deva-video"
        else ("model.size=small", "train.steps=2")
    )
    done = call("train", name, *settings, *TINY, *data, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert np.isfinite(curve(tmp_path / "out")["loss"]).all()


@pytest.mark.parametrize("layout", ["davis", "ytvis", "coco"])
def test_finetuning_goes_on_from_weights_on_data_of_ones_own(call, tmp_path, trained, layout):
    weights, data, output = trained[0] / "weights", tmp_path / "own", tmp_path / "out"
    (trees.davis if layout == "davis" else trees.converted(layout))(data)
    words = ("train.steps=1", "train.lr=1e-12", "train.ema=null", *TINY, "--quiet")
    done = call("finetune", "--data", data, "--from", weights, "-o", output, *words)
    assert done.returncode == 0, done.stderr
    before, after = (load_checkpoint(folder).state_dict() for folder in (weights, output / "weights"))
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)


def test_two_processes_train_like_one(call, tmp_path):
    words = ["train.steps=2", "task.objects=1", "model.frozen_normalisation=true", "validate.videos=0", "--quiet"]
    command = ["train", "propagate-synthetic", *TINY, *words, "-o"]
    assert call(*command, tmp_path / "one").returncode == 0
    run_twice("maskstream", *command, str(tmp_path / "two"))
    one, two = curve(tmp_path / "one"), curve(tmp_path / "two")
    assert one.keys() == two.keys()
    assert all(np.allclose(one[name], two[name], rtol=1e-6) for name in one)


def test_finetuning_refuses_tasks_it_cannot_train(call, tmp_path):
    refused = call("finetune", "--data", tmp_path, "--from", tmp_path, "-o", tmp_path / "out", "--task", "vis")
    assert "--task vis is not possible" in refused.stderr


def test_training_needs_no_video_reader():
    program = (
        "import sys\n"
        "class NoVideo:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'av': raise ImportError(name)\n"
        "sys.meta_path.insert(0, NoVideo())\n"
        "import maskstream.training.run\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
