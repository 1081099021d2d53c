"""Checkpoints of UniVS's authors: what they are called and of which shapes, and what becomes of them.

The list in ``names`` was read from their own network with ResNet-50 (commit 7415d31).
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import Mask2FormerForUniversalSegmentation

from maskstream.mask2former.checkpoints import config_of, core_in, split_core
from maskstream.mask2former.network import ClipFeatures
from maskstream.systems.univs.checkpoints import read_authors
from maskstream.systems.univs.network import Prompts, UniVSConfig, UniVSNetwork
from maskstream.systems.univs.prompts import mask_tokens
from maskstream.types import InputError

from ...mask2former.published import published
from ...propagation.hashed import hashed, hashed_weights

FOLDER = Path(__file__).with_name("names")
GOLDEN = json.loads(Path(__file__).with_name("golden_decoder.json").read_text())
"""Of their decoder with three layers, the same weights and inputs: masks, embeddings and logits of the last 20 queries.

Names of 40 classes are asked for, or what two sentences say.
"""

HEAD = "sem_seg_head.predictor."
PROCA = f"{HEAD}transformer_prompt_self_attention_layers.2.multihead_attn.in_proj_weight"
MORE = re.compile(r"backbone\.res\d\.[1-9]|encoder\.layers\.[1-5]\.|predictor\.\w+_layers\.[3-8]\.")
"""What is left out of a network with one block or layer of each kind, and three in the decoder."""

FRAMES = torch.tensor([3, 8])


def small() -> dict[str, Tensor]:
    return hashed_weights({name: size for name, size in published("r50", FOLDER).items() if not MORE.search(name)})


def without(pattern: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in small().items() if not re.search(pattern, name)}


def teacher() -> dict[str, Tensor]:
    """The moving average: everything a bit greater."""
    return {name.replace(".", "_t.", 1): tensor + 0.01 for name, tensor in small().items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("authors")
    torch.save({"model": small(), "iteration": 1}, where / "stage2.pth")
    return where


@pytest.fixture(scope="module")
def network(folder):
    return read_authors(folder / "stage2.pth")


def test_their_network_has_as_many_parameters_as_ours() -> None:
    """But for the factor of frozen normalisations, which they do not count, and a number they never use."""
    shapes = published("r50", FOLDER)
    theirs = {name: size for name, size in shapes.items() if not re.search(r"backbone.*norm\.", name)}
    assert sum(size.numel() for size in theirs.values()) == 46_968_066
    assert sum(size.numel() for name, size in shapes.items() if name.startswith(HEAD)) == 17_477_250
    with torch.device("meta"):
        state = {name: torch.empty(size) for name, size in shapes.items()}
        ours = UniVSNetwork(Mask2FormerForUniversalSegmentation(config_of(state)), UniVSConfig())
    normalised = sum(
        size.numel() for name, size in shapes.items() if re.search(r"norm\.(weight|bias)", name) and name not in theirs
    )
    classes = sum(parameter.numel() for parameter in ours.core.class_predictor.parameters())
    count = sum(parameter.numel() for parameter in ours.parameters())
    assert count - normalised - classes == 46_968_066 - shapes[f"{HEAD}reid_temp.weight"].numel()
    assert {name.removeprefix(HEAD).split(".")[0] for name in split_core(state)[1]} == {
        "transformer_prompt_self_attention_layers",
        "lang2vision_cross_attention_layer",
        "vis2text_projection",
        "text2vis_projection",
        "text_norm",
        "cls_temp",
        "reid_temp",
        "prompt_detection",
        "prompt_sot",
        "prompt_grounding",
    }


def test_a_file_of_theirs_is_a_network(network) -> None:
    assert network.config == UniVSConfig()
    assert network.queries == 200
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    state = small()
    assert torch.equal(network.prompting.kinds["category"], state[f"{HEAD}prompt_detection.weight"][0])
    assert network.prompting.log_scale == state[f"{HEAD}cls_temp.weight"][0, 0]


def test_where_texts_do_not_look_at_pictures_they_do_not(tmp_path) -> None:
    torch.save({"model": without("lang2vision")}, tmp_path / "blind.pth")
    network = read_authors(tmp_path / "blind.pth")
    assert not network.config.text_to_image
    assert network.prompting.look is None


def test_the_moving_average_is_read_if_asked_for(folder, tmp_path) -> None:
    file = tmp_path / "stage3.pth"
    torch.save({"model": small() | teacher()}, file)
    student, average = read_authors(file), read_authors(file, weights="ema")
    for name in ("text_norm.weight", "kinds.visual", "proca.1.norm.bias"):
        ours, greater = student.prompting.state_dict()[name], average.prompting.state_dict()[name]
        assert torch.allclose(ours + 0.01, greater)
    ours, greater = (n.core.model.transformer_module.queries_features.weight for n in (student, average))
    assert torch.allclose(ours + 0.01, greater)
    with pytest.raises(InputError, match=r"stage2\.pth: there is no moving average .*: ask for the student's"):
        read_authors(folder / "stage2.pth", weights="ema")


@pytest.mark.parametrize("kind", sorted(GOLDEN))
@torch.no_grad()
def test_answers_are_those_of_the_authors_own_decoder(network, kind: str) -> None:
    frames, height, width = len(FRAMES), 8, 12
    levels = tuple(
        hashed(f"level {n}", (frames, 256, height // k, width // k), -2, 2)[None] for n, k in enumerate((4, 2, 1))
    )
    features = ClipFeatures(levels, hashed("mask features", (frames, 256, 2 * height, 2 * width), -0.5, 0.5)[None])
    maps = network.maps(features, FRAMES)
    sentences = hashed("sentences", (2, 640))
    prompts = None
    if kind == "visual":  # two objects and one that is not there; the first frame again for each that is remembered
        masks = torch.zeros(3, 64, 96)
        masks[0, 8:32, 16:48] = masks[1, 40:64, 64:80] = 1
        tokens = mask_tokens(maps.prompt_map(0), masks, 32)
        prompts = Prompts.visual([tokens] * frames, [tokens] * (1 + frames))
    elif kind == "category":
        prompts = network.text_prompts("category", hashed("names", (40, 640)), None, maps)
    elif kind == "expression":
        prompts = network.text_prompts("expression", sentences, hashed("words", (2, 77, 640)), maps)
    answers = network.decode(maps, prompts)[0][slice(-20, None)]
    logits = (
        network.sentence_logits(answers, sentences)
        if kind == "expression"
        else network.class_logits(answers, hashed("names", (40, 640)))
    )
    found = {"masks": answers.masks_qthw, "embeddings": answers.embeddings_qtc, "logits": logits}
    for what, expected in GOLDEN[kind].items():
        sampled = found[what].flatten()[torch.linspace(0, found[what].numel() - 1, 20).long()]
        assert torch.allclose(sampled, torch.tensor(expected), atol=1e-4), what


# Mistakes.


@pytest.mark.parametrize(
    ("state", "message"),
    [
        pytest.param(
            lambda: without("prompt_sot|text_norm"),
            r"3 of \d+ entries of what prompts need are missing \(.*text_norm.weight, .*\): .* incomplete",
            id="a part of the prompts is missing",
        ),
        pytest.param(
            lambda: without("vis2text"),
            "vis2text_projection.weight is missing: this is a Mask2Former without prompts",
            id="no prompts",
        ),
        pytest.param(
            lambda: without("query_embed"), "queries_embedder.weight: the checkpoint is incomplete", id="no codes"
        ),
        pytest.param(
            lambda: small() | {f"{HEAD}prompt_new.weight": torch.zeros(1, 256)},
            r"1 entries are no part of what prompts need \(.*prompt_new.weight\)",
            id="more than is known",
        ),
        pytest.param(
            lambda: small() | {PROCA: torch.zeros(768, 128)},
            r"in_proj_weight is \[768, 128\] and not \[768, 256\]",
            id="another size",
        ),
        pytest.param(
            lambda: small() | {PROCA: torch.full((768, 256), torch.nan)},
            r"1 entries have NaN or infinite values \(.*prompt_self_attention",
            id="training diverged",
        ),
        pytest.param(
            lambda: {"panoptic_head.level_embed.weight": torch.zeros(3, 256)},
            "named as mmdet does, and not as detectron2",
            id="mmdet",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_one_clear_line(tmp_path, state, message: str) -> None:
    torch.save({"model": state()}, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=message) as raised:
        read_authors(tmp_path / "weights.pth")
    assert str(raised.value).startswith(str(tmp_path / "weights.pth"))
    assert "\n" not in str(raised.value)


def test_where_classes_are_told_their_part_must_be_there() -> None:
    with pytest.raises(InputError, match=r"class_predictor\.weight"):
        core_in(small(), family="detectron2")
