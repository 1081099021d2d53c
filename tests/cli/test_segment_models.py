"""``maskstream segment`` with image-level models of `transformers`."""

import json
from pathlib import Path
from typing import Any

import pytest

from maskstream.formats import read_label_png
from tests.segmenters.tiny_models import save_clipseg, save_grounding_dino, save_sam

from .conftest import journal_lines


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name, save in (("clipseg", save_clipseg), ("dino", save_grounding_dino), ("sam", save_sam)):
        (folder / name).mkdir()
        save(folder / name)
    return folder


def words(clip, output, *others):
    return ["segment", clip, "-o", output, "--stop", "6", "--size", "64", "--quiet", *others]


@pytest.mark.parametrize("name", ["clipseg", "dino+sam"])
def test_what_is_named_is_found_and_keeps_its_name(call, clip, models, tmp_path, name):
    name = "+".join(str(models / part) for part in name.split("+"))
    done = call(*words(clip, tmp_path / "out", "--segmenter", name, "--classes", "cat, dog"))
    assert done.returncode == 0, done.stderr
    lines: list[dict[str, Any]] = journal_lines(tmp_path / "out")
    segments = [segment for line in lines for segment in line["segments"]]
    assert segments
    assert {segment["category"] for segment in segments} <= {1, 2}
    tracks = json.loads((tmp_path / "out" / "tracks.json").read_text())
    assert [category["name"] for category in tracks["categories"]] == ["cat", "dog"]
    written = json.loads((tmp_path / "out" / "run.json").read_text())
    assert written["options"]["task"] == "vps"
    assert {key.split("/")[0] for key in written["weights"]} == {"segmenter", "propagator", "prompter"}
    for part in name.split("+"):
        digests = {key.rpartition("/")[2] for key in written["weights"] if f"/{Path(part).name}/" in key}
        assert digests == {file.name for file in Path(part).iterdir() if file.suffix in (".json", ".safetensors")}


def test_a_model_of_words_has_to_be_told_some(call, clip, models, tmp_path):
    done = call(*words(clip, tmp_path / "out", "--segmenter", models / "clipseg"))
    assert done.returncode != 0
    assert "--classes cat,dog" in done.stderr
    assert not (tmp_path / "out").exists()


def test_boxes_without_masks_are_refused(call, clip, models, tmp_path):
    done = call(*words(clip, tmp_path / "out", "--segmenter", models / "dino", "--classes", "cat"))
    assert done.returncode != 0
    assert "finds boxes, not masks: give a SAM for them too" in done.stderr


@pytest.mark.parametrize(
    ("pair", "message"),
    [("sam+sam", "what finds boxes of words is grounding-dino or owlv2"), ("dino+clipseg", "not sam or sam2")],
)
def test_pairs_that_do_not_fit_are_refused(call, clip, models, tmp_path, pair, message):
    pair = "+".join(str(models / part) for part in pair.split("+"))
    done = call(*words(clip, tmp_path / "out", "--segmenter", pair, "--classes", "cat"))
    assert done.returncode != 0
    assert message in done.stderr


def test_sam_turns_a_box_into_a_mask(call, clip, models, tmp_path):
    done = call(*words(clip, tmp_path / "out", "--prompter", models / "sam", "--box", "0:1:20,20,80,80"))
    assert done.returncode == 0, done.stderr
    assert (read_label_png(tmp_path / "out" / "masks" / "00000.png") == 1).any()


def test_a_folder_that_is_no_model_is_told_of(call, clip, tmp_path):
    (tmp_path / "empty").mkdir()
    done = call(*words(clip, tmp_path / "out", "--segmenter", tmp_path / "empty"))
    assert done.returncode != 0
    assert "config.json" in done.stderr


@pytest.mark.parametrize("name", ["clipseg", "dino+sam"])
def test_sentences_are_objects_in_the_order_given(call, clip, models, tmp_path, name):
    name = "+".join(str(models / part) for part in name.split("+"))
    sentences = ["--text", "the red car", "--text", "person on the left"]
    done = call(*words(clip, tmp_path / "out", "--segmenter", name, *sentences))
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "out" / "run.json").read_text())
    assert written["prompts"] == {"text": ["the red car", "person on the left"]}
    assert (written["options"]["task"], written["options"]["direction"]) == ("refvos", "both")
    lines: list[dict[str, Any]] = journal_lines(tmp_path / "out")
    assert len(lines) == 6
    of_id = {segment["track_id"]: segment["prompt_id"] for line in lines for segment in line["segments"]}
    assert of_id.items() <= {1: "the red car", 2: "person on the left"}.items()
    assert of_id


def test_a_model_that_does_not_read_takes_no_sentence(call, clip, tmp_path):
    done = call(*words(clip, tmp_path / "out", "--text", "the red car"))
    assert done.returncode != 0
    assert "needs a segmenter that reads text" in done.stderr
    assert not (tmp_path / "out").exists()
