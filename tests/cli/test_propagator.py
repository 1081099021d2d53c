"""``maskstream segment`` with a trained propagation network."""

import json
from hashlib import sha256

import numpy as np
import pytest

from maskstream.formats import read_label_png
from maskstream.propagation.network import save_pretrained
from tests.propagation.golden import hashed_network
from tests.propagation.test_network import TINY


def command(clip, folder, output, *words):
    mask = f"0:{clip.with_name('first.png')}"
    return ["segment", clip, "-o", output, "--propagator", folder, "--size", "64", "--mask", mask, "--quiet", *words]


@pytest.mark.parametrize("task", ["vos", "pvos"])
def test_masks_are_followed_and_the_weights_noted(call, clip, tmp_path, task):
    folder, output = tmp_path / "checkpoint", tmp_path / "out"
    save_pretrained(hashed_network(TINY), folder)
    done = call(*command(clip, folder, output, "--task", task, "--model", "deva"))
    assert done.returncode == 0, done.stderr
    given = read_label_png(clip.with_name("first.png"))
    assert np.array_equal(read_label_png(output / "masks" / "00000.png"), given)
    assert len(list((output / "masks").iterdir())) == 30
    weights = json.loads((output / "run.json").read_text())["weights"]
    names = ("config.json", "model.safetensors")
    of_propagator = {name: digest for name, digest in weights.items() if name.startswith("propagator/")}
    assert of_propagator == {f"propagator/{name}": sha256((folder / name).read_bytes()).hexdigest() for name in names}
    others = {name.split("/")[0] for name in weights.keys() - of_propagator.keys()}
    assert others == {"prompter", "segmenter"}  # which are in the package


def test_a_network_that_advises_optical_flow_is_noted_too(call, clip, tmp_path):
    folder, output = tmp_path / "checkpoint", tmp_path / "out"
    save_pretrained(hashed_network(TINY), folder)
    done = call(*command(clip, f"flow+{folder}", output))
    assert done.returncode == 0, done.stderr
    assert len(list((output / "masks").iterdir())) == 30
    weights = json.loads((output / "run.json").read_text())["weights"]
    assert weights["propagator/model.safetensors"] == sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    refused = call(*command(clip, "flow+nothing", tmp_path / "other"))
    assert refused.returncode != 0
    assert "unknown propagator 'nothing'; known: flow, " in refused.stderr
    assert "Traceback" not in refused.stderr


def test_it_runs_as_published_when_asked_to(call, clip, tmp_path):
    folder, output = tmp_path / "checkpoint", tmp_path / "out"
    save_pretrained(hashed_network(TINY), folder)
    done = call(*command(clip, folder, output, "--exact", "--dtype", "fp32"))
    assert done.returncode == 0, done.stderr
    options = json.loads((output / "run.json").read_text())["options"]
    assert (options["exact"], options["dtype"]) == (True, "fp32")
    other = call(*command(clip, folder, output, "--dtype", "fp32"))
    assert other.returncode != 0
    assert "--overwrite" in other.stderr


def test_other_weights_under_the_same_name_are_another_command(call, clip, tmp_path):
    folder, output = tmp_path / "checkpoint", tmp_path / "out"
    network = hashed_network(TINY)
    save_pretrained(network, folder)
    assert call(*command(clip, folder, output)).returncode == 0
    assert call(*command(clip, folder, output)).returncode == 0
    network.get_parameter("mask_decoder.pred.bias").data += 1
    save_pretrained(network, folder)
    refused = call(*command(clip, folder, output))
    assert refused.returncode != 0
    assert "--overwrite" in refused.stderr
