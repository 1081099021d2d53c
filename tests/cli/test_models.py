"""``maskstream models``."""

import json
from pathlib import Path

import pytest

from maskstream.model_catalogue import known_models

DOCS = Path(__file__).parents[2] / "docs"
NAMES = [model.name for model in known_models()]


def test_what_there_is_is_listed_with_its_licence_and_what_it_has_seen(call):
    done = call("models")
    assert done.returncode == 0, done.stderr
    for model in known_models():
        line, facts = done.stdout.split(f"  {model.name} ", 1)[1].splitlines()[:2]
        assert all(task.value in line for task in model.tasks) and model.label_space in line
        assert model.licence in facts and "data: " in facts
    assert "no weights" in done.stdout and "not stated" in done.stdout


def test_as_json(call):
    models = json.loads(call("models", "--json").stdout)
    assert [model["name"] for model in models] == NAMES
    shipped = next(model for model in models if model["name"] == "core-tiny")
    assert shipped["on_this_machine"] and len(shipped["sha256"]) == 64 and shipped["nbytes"] > 1e6
    assert shipped["tasks"] == ["vss", "vis", "vps", "uvos", "owvs"] and shipped["seen"] == []
    edgetam = next(model for model in models if model["name"] == "yonigozlan/EdgeTAM-hf")
    assert edgetam["seen"] is None and edgetam["sha256"] is None and edgetam["place"] == "hub"


@pytest.mark.parametrize("name", ["core-tiny", "flow", "facebook/sam2.1-hiera-tiny"])
def test_one_is_told_about_in_full(call, name):
    done = call("models", name)
    (model,) = json.loads(call("models", name, "--json").stdout)
    for key in ("about", "label_space", "licence", "origin"):
        assert model[key] in done.stdout
    assert ("unchecked  " in done.stdout) == bool(model["unchecked"])
    assert ("sha256" in done.stdout) == (model["sha256"] is not None)
    assert ("is not on this machine" in done.stdout) == (not model["on_this_machine"])


def test_the_page_is_written(call):
    assert call("models", "--markdown").stdout == (DOCS / "models.md").read_text(encoding="utf-8")


def test_a_name_that_is_not_known_is_refused_in_one_line(call):
    done = call("models", "core-huge")
    assert done.returncode != 0
    assert done.stderr == "error: no model 'core-huge' is known here: see 'maskstream models'\n"
