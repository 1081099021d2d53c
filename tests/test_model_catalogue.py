"""The table of models: complete, true where that can be told from here, and the page that is made of it."""

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from transformers import (
    EomtConfig,
    EomtForUniversalSegmentation,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Sam2VideoConfig,
    Sam2VideoModel,
    SamConfig,
    SamModel,
    SwinConfig,
    VideomtConfig,
    VideomtForUniversalSegmentation,
)

from maskstream.api import load
from maskstream.files import file_digest
from maskstream.model_catalogue import ANY_WORDS, HUB, ONE_CLASS, find_model, known_models
from maskstream.model_page import models_page
from maskstream.pretrained import is_pretrained, parts_of
from maskstream.segmenters import label_spaces
from maskstream.segmenters.label_spaces import known_space
from maskstream.shipped import WEIGHTLESS, WEIGHTS, shipped
from maskstream.types import InputError, Task

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
NAMES_OF_NETWORKS = {space.name for space in label_spaces._known()}
"""Of label spaces, as those of networks are recognised."""


def test_the_page_of_models_is_the_table():
    assert PAGE.read_text(encoding="utf-8") == models_page(), "run: maskstream models --markdown > docs/models.md"


def test_every_model_of_the_package_is_there_once():
    names = [model.name for model in known_models()]
    assert len(set(names)) == len(names)
    methods = {name for of_kind in WEIGHTLESS.values() for name in of_kind}
    assert {model.name for model in known_models() if model.place == "package"} == methods | {
        model.name for model in shipped()
    }


@pytest.mark.parametrize("model", shipped(), ids=lambda model: model.name)
def test_what_is_said_of_the_package_is_what_is_in_it(model):
    known = find_model(model.name)
    assert known.folders == (model.folder,)
    assert known.nbytes == model.nbytes == (model.folder / WEIGHTS).stat().st_size
    assert known.sha256 == file_digest(model.folder / WEIGHTS)
    assert known.seen == model.seen and known.licence == model.licence
    # They are stored in two bytes each, and a header.
    assert known.parameters is not None
    assert known.parameters * 2e6 == pytest.approx(model.nbytes, rel=0.02)


def test_core_tiny_knows_the_synthetic_world():
    assert find_model("core-tiny").label_space == "synthetic"
    assert load(segmenter="core-tiny").tasks >= set(find_model("core-tiny").tasks)


def test_a_method_has_no_weights():
    flow = find_model("flow")
    assert (flow.parameters, flow.folders, flow.nbytes, flow.sha256) == (0, (), 0, None)


@pytest.mark.parametrize("model", HUB, ids=lambda model: model.name)
def test_models_of_the_hub_are_named_as_commands_take_them(model):
    assert all(is_pretrained(part) and len(part.split("/")) == 2 for part in parts_of(model.name))
    assert model.tasks == tuple(sorted(model.tasks, key=list(Task).index))
    assert model.label_space in {ANY_WORDS, ONE_CLASS, *NAMES_OF_NETWORKS} or known_space(model.label_space)
    assert model.about and model.licence and model.origin and model.options
    assert "|" not in f"{model.about}{model.licence}{model.origin}"


OWL: dict[str, Any] = {"image_size": 960, "patch_size": 16}


def classes(count) -> dict[str, Any]:
    return {"num_labels": count}


def swin(size):
    settings: dict[str, Any] = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
    embed_dim, depths, heads, window = {
        "tiny": (96, [2, 2, 6, 2], [3, 6, 12, 24], 7),
        "large": (192, [2, 2, 18, 2], [6, 12, 24, 48], 12),
    }[size]
    return SwinConfig(embed_dim=embed_dim, depths=depths, num_heads=heads, window_size=window, **settings)


@pytest.mark.parametrize(
    "name, build",
    [
        ("facebook/sam-vit-base", lambda: SamModel(SamConfig())),
        ("facebook/sam2.1-hiera-tiny", lambda: Sam2VideoModel(Sam2VideoConfig())),
        (
            "tue-mps/videomt-dinov2-small-ytvis2019",
            lambda: VideomtForUniversalSegmentation(
                VideomtConfig(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, num_blocks=3, **classes(40))
            ),
        ),
        (
            "tue-mps/videomt-dinov2-large-vipseg",
            lambda: VideomtForUniversalSegmentation(VideomtConfig(image_size=1280, **classes(124))),
        ),
        (
            "facebook/mask2former-swin-tiny-coco-panoptic",
            lambda: Mask2FormerForUniversalSegmentation(
                Mask2FormerConfig(backbone_config=swin("tiny"), **classes(133))
            ),
        ),
        (
            "facebook/mask2former-swin-large-coco-instance",
            lambda: Mask2FormerForUniversalSegmentation(
                Mask2FormerConfig(backbone_config=swin("large"), num_queries=200, **classes(80))
            ),
        ),
        ("google/owlv2-base-patch16-ensemble", lambda: Owlv2ForObjectDetection(Owlv2Config(vision_config=OWL))),
        ("tue-mps/coco_panoptic_eomt_large_640", lambda: EomtForUniversalSegmentation(EomtConfig(**classes(133)))),
    ],
)
def test_sizes_are_those_of_networks_of_these_settings(name, build):
    with torch.device("meta"):
        network = build()
    millions = sum(weight.numel() for weight in network.parameters()) / 1e6
    assert find_model(name).parameters == pytest.approx(millions, abs=0.1)


def test_what_is_on_this_machine_is_told(monkeypatch, tmp_path):
    there = {"facebook/sam-vit-base": tmp_path / "sam", "IDEA-Research/grounding-dino-tiny": tmp_path / "dino"}

    def snapshot_download(name, *, allow_patterns, local_files_only):
        assert local_files_only
        if name not in there:
            raise LocalEntryNotFoundError("not here")
        return str(there[name])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    pair = find_model("IDEA-Research/grounding-dino-tiny+facebook/sam-vit-base")
    for n, folder in enumerate(there.values(), 1):
        assert pair.folders is None and pair.nbytes is None
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(bytes(n))
    assert pair.folders == (there["IDEA-Research/grounding-dino-tiny"], there["facebook/sam-vit-base"])
    assert pair.nbytes == 3 and pair.sha256 is None
    assert find_model("facebook/sam-vit-base").nbytes == 1
    assert find_model("facebook/sam-vit-huge").folders is None


def test_what_was_not_checked_is_marked():
    sam2, ours = find_model("facebook/sam2.1-hiera-tiny"), find_model("core-tiny")
    assert (sam2.unchecked, ours.unchecked) == (("data",), ())
    lines = {line.split("`")[1]: line for line in models_page().splitlines() if line.startswith("| `")}
    marked = {name for name, line in lines.items() if "¹" in line}
    assert marked == {model.name for model in known_models() if model.unchecked}
    assert f"{', '.join(sam2.seen or ())} ¹ |" in lines[sam2.name]


def test_a_name_that_is_not_known_is_refused():
    with pytest.raises(InputError, match="no model 'facebook/sam-9' is known here: see 'maskstream models'"):
        find_model("facebook/sam-9")
