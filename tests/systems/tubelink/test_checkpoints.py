"""Checkpoints of Tube-Link's authors: what their detector is called and of which shapes, and what becomes of it.

The list in ``names`` was read from their own detector for VIPSeg with ResNet-50 (commit 524ecd7).
"""

import json
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import Mask2FormerForUniversalSegmentation

from maskstream.datasets.classes import VIPSEG
from maskstream.mask2former.checkpoints import config_of, split_core
from maskstream.systems.tubelink import TubeLinkConfig, TubeLinkNetwork, load_tubelink
from maskstream.systems.tubelink.checkpoints import read_authors
from maskstream.types import Category, CategorySet, InputError, Task

from ...mask2former.published import published, small
from ...propagation.hashed import hashed, hashed_weights

FOLDER = Path(__file__).with_name("names")
GOLDEN = json.loads(Path(__file__).with_name("golden_association.json").read_text())
"""Of their detector with the same weights and queries: embeddings, and the link as they test and as they train it."""

CLASSES, STUFF = 124, 66
LINK = "attention_previous_track.attn.in_proj_weight"


def added() -> dict[str, Tensor]:
    """What their detector has beside Mask2Former."""
    shapes = published("vps-r50", FOLDER)
    return hashed_weights({k: v for k, v in shapes.items() if not k.startswith(("backbone.", "panoptic_head."))})


def core(classes: int = CLASSES) -> dict[str, Tensor]:
    """A small one, with STDC."""
    tells = {"panoptic_head.cls_embed.weight": (classes + 1, 256), "panoptic_head.cls_embed.bias": (classes + 1,)}
    return small() | hashed_weights({name: torch.Size(shape) for name, shape in tells.items()})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of files as the authors wrote them."""
    where = tmp_path_factory.mktemp("authors")
    meta = {"meta": {"epoch": 8, "CLASSES": ("a", "b")}}
    torch.save({**meta, "state_dict": core() | added()}, where / "vps.pth")
    torch.save({**meta, "state_dict": core(40)}, where / "vis.pth")
    return where


def test_their_detector_has_as_many_parameters_as_ours():
    shapes = published("vps-r50", FOLDER)
    theirs = {name: size for name, size in shapes.items() if not re.search("running_|num_batches", name)}
    assert sum(size.numel() for size in theirs.values()) == 45_153_661
    with torch.device("meta"):
        state = {name: torch.empty(size) for name, size in shapes.items()}
        network = TubeLinkNetwork(
            Mask2FormerForUniversalSegmentation(config_of(state)), TubeLinkConfig(stuff_slots=STUFF)
        )
    assert sum(parameter.numel() for parameter in network.parameters()) == 45_153_661
    assert network.association is not None
    assert sum(parameter.numel() for parameter in network.association.parameters()) == 1_118_976
    assert split_core(state)[1].keys() == added().keys()


@pytest.fixture(scope="module")
def network(folder):
    return read_authors(folder / "vps.pth")


def test_a_file_with_embeddings_is_for_panoptic_segmentation(network):
    assert network.config == TubeLinkConfig(stuff_slots=STUFF, association=True, link="slot", time_code=True)
    assert network.core.classes == CLASSES
    assert network.names[123] == "class 123"
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    found = network.core.network.class_predictor.weight
    assert torch.equal(found, core()["panoptic_head.cls_embed.weight"])


def test_a_file_without_embeddings_matches_all_its_queries(folder):
    network = read_authors(folder / "vis.pth", names=[f"animal {n}" for n in range(40)])
    assert network.config == TubeLinkConfig(stuff_slots=0, association=False, time_code=True)
    assert network.association is None
    assert network.names[39] == "animal 39"


@pytest.mark.parametrize("what", sorted(GOLDEN))
def test_answers_are_those_of_the_authors_own_modules(network, what):
    now, before = hashed("now", (100, 256), -2, 2)[None], hashed("before", (100, 256), -2, 2)[None]
    association = network.association
    found = association.embed(now) if what == "embedding" else association.link(now, before, mode=what)
    sampled = found.flatten()[torch.linspace(0, found.numel() - 1, 20).long()]
    assert torch.allclose(sampled, torch.tensor(GOLDEN[what]), atol=1e-4)


def test_slots_for_stuff_must_be_told_where_nobody_published_them(tmp_path):
    torch.save(core(19) | added(), tmp_path / "kitti.pth")
    with pytest.raises(InputError, match="how many of its 19 classes are stuff: give stuff_slots"):
        read_authors(tmp_path / "kitti.pth")
    assert read_authors(tmp_path / "kitti.pth", stuff_slots=17).config.stuff_slots == 17


def space(count: int, *, things: int) -> CategorySet:
    return CategorySet("zoo", tuple(Category(7 * n, f"kind {n}", n < things) for n in range(count)))


def test_a_file_of_the_authors_is_a_model(folder):
    model = load_tubelink(str(folder / "vps.pth"), space=space(CLASSES, things=58))
    assert model.label_space.name == "zoo"
    assert Task.VPS in model.tasks
    assert (model.pixels.shortest, model.pixels.divisor) == (720, 32)
    assert load_tubelink(str(folder / "vis.pth"), short_side=480).pixels.shortest == 480


def test_where_slots_are_stuff_things_come_first(folder):
    model = load_tubelink(str(folder / "vps.pth"), space=VIPSEG)
    kinds = [category.is_thing for category in model.label_space.categories]
    assert kinds == [True] * 58 + [False] * STUFF
    assert [category.id for category in model.label_space.categories][:4] == [2, 4, 8, 10]  # specification §8
    with pytest.raises(InputError, match="66 classes of the network are stuff, but 65 of zoo"):
        load_tubelink(str(folder / "vps.pth"), space=space(CLASSES, things=59))


# Mistakes.


def without(pattern: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in (core() | added()).items() if not re.search(pattern, name)}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        pytest.param(
            lambda: without("link_ffn|track_head.fc_embed"),
            r"8 of 23 entries of the link layer .* missing \(link_ffn_track.layers.0.0.weight, .*, …\): .* incomplete",
            id="a part of the association is missing",
        ),
        pytest.param(
            lambda: without("query_embed"), "queries_embedder.weight.* missing|missing.*queries_embedder", id="no codes"
        ),
        pytest.param(
            lambda: core() | added() | {"track_head.fcs.2.weight": torch.zeros(1)},
            r"1 entries are no part of the link layer and the embedding head \(track_head.fcs.2.weight\)",
            id="another tracking head",
        ),
        pytest.param(
            lambda: core() | added() | {LINK: torch.zeros(768, 128)},
            r"in_proj_weight is \[768, 128\] and not \[768, 256\]",
            id="another size",
        ),
        pytest.param(
            lambda: core() | added() | {LINK: torch.full((768, 256), torch.inf)},
            r"1 entries have NaN or infinite values \(attention_previous_track",
            id="training diverged",
        ),
        pytest.param(
            lambda: {"sem_seg_head.predictor.level_embed.weight": torch.zeros(3, 256)},
            "named as detectron2 does, and not as mmdet",
            id="detectron2",
        ),
        pytest.param(lambda: {"bbox_head.fc.weight": torch.zeros(1)}, "begin with bbox_head", id="another network"),
    ],
)
def test_a_file_that_does_not_fit_is_one_clear_line(tmp_path, state, message):
    torch.save({"state_dict": state()}, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=message) as raised:
        read_authors(tmp_path / "weights.pth")
    assert str(raised.value).startswith(str(tmp_path / "weights.pth"))
    assert "\n" not in str(raised.value)


def test_a_file_that_was_cut_is_said_so(folder, tmp_path):
    whole = (folder / "vis.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut\.pth .* is cut short"):
        load_tubelink(str(tmp_path / "cut.pth"))


def test_names_are_as_many_as_classes(folder):
    with pytest.raises(InputError, match="tells 40 classes, but 2 are named"):
        read_authors(folder / "vis.pth", names=["cat", "dog"])
