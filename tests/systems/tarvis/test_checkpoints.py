"""Checkpoints of TarViS's authors: what they are called and of which shapes, and what becomes of them.

The list in ``names`` was read from their own modules with ResNet-50, as configured for fine-tuning (commit 8d5022a);
names of the backbone are those of detectron2.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from maskstream.mask2former.network import ClipFeatures
from maskstream.systems.tarvis.checkpoints import read_authors
from maskstream.systems.tarvis.neck import neck_features
from maskstream.systems.tarvis.network import TarViSNetwork
from maskstream.systems.tarvis.targets import PointTargets, padded_points
from maskstream.types import InputError

from ...mask2former.published import published
from ...propagation.hashed import hashed, hashed_weights

FOLDER = Path(__file__).with_name("names")
GOLDEN = json.loads(Path(__file__).with_name("golden_network.json").read_text())
"""Of their modules with one layer in the neck, three in the decoder and two in the object encoder, the same weights and
inputs: sampled values."""

MORE = re.compile(
    r"backbone\.res\d\.[1-9]|encoder\.(temporal_)?layers\.[1-5]\.|transformer_\w+_layers\.[3-8]\."
    r"|vos_query_extractor\.\w+_layers\.[23]\."
)
"""What is left out of a network with one block of each kind."""

CLASSES = {"YOUTUBE_VIS": 40, "OVIS": 25, "KITTI_STEP": 19, "CITYSCAPES_VPS": 19, "VIPSEG": 124}
SETTINGS: dict[str, Any] = {
    "MODEL": {"NUM_VOS_QUERIES_PER_OBJECT": 4},
    "TRAINING": {"DATASET_LIST": [*CLASSES, "BURST", "DAVIS"]},
    "DATASETS": {name: {"TYPE": "panoptic_seg", "NUM_CLASSES": count} for name, count in CLASSES.items()}
    | {"BURST": {"TYPE": "vos"}, "DAVIS": {"TYPE": "vos"}},
}
FRAMES, HEIGHT, WIDTH = 3, 128, 192
QUERIES = "embedding_container._semantic_queries"
FFN = "vos_query_extractor.ffn_layers.0.mlp.0.weight"


def small() -> dict[str, Tensor]:
    return hashed_weights({name: size for name, size in published("r50", FOLDER).items() if not MORE.search(name)})


def without(pattern: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in small().items() if not re.search(pattern, name)}


def written(folder: Path, state: dict[str, Tensor], settings: object = SETTINGS) -> Path:
    torch.save({"model": state}, folder / "weights.pth")
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder / "weights.pth"


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> TarViSNetwork:
    return read_authors(written(tmp_path_factory.mktemp("authors"), small()))


@pytest.fixture(scope="module")
@torch.no_grad()
def clip(network) -> ClipFeatures:
    sizes = enumerate(((256, 4), (512, 8), (1024, 16), (2048, 32)), 2)
    maps = [hashed(f"res{n}", (FRAMES, c, HEIGHT // s, WIDTH // s), -2, 2) for n, (c, s) in sizes]
    return neck_features(network.core.model.pixel_level_module.decoder, network.targets.neck, maps, frames=FRAMES)


def test_their_network_has_as_many_parameters_as_the_specification_says() -> None:
    shapes = published("r50", FOLDER)

    def count(pattern: str) -> int:
        return sum(size.numel() for name, size in shapes.items() if re.match(pattern, name))

    assert count(r"backbone\.fpn\.") == 10_775_232
    assert count(r"backbone\.fpn\.transformer\.encoder\.temporal_layers\.") == 4_738_560
    assert count(r"decoder\.transformer_") == 14_208_768
    assert count(r"decoder\.(?!transformer_)") == 1_514_496
    assert count(r"embedding_container\.") == 92_672
    assert count(r"vos_query_extractor\.(?!bg_grid_size)") == 6_972_928


def test_a_file_of_theirs_is_a_network(network) -> None:
    assert network.config.label_spaces == ("cityscapes-vps", "kitti-step", "ovis", "vipseg", "ytvis-2021")
    assert network.config.classes == (19, 19, 25, 124, 40)
    assert (network.config.object_queries, network.queries_of_object, network.config.background) == (4, 8, 1)
    assert not network.training and not any(parameter.requires_grad for parameter in network.parameters())
    state = small()
    assert torch.equal(network.targets.semantic["ovis"], state[QUERIES][39:64])
    assert torch.equal(network.targets.codes["semantic"], state[QUERIES][0])
    instances = state["embedding_container._instance_queries"]
    assert torch.equal(network.core.model.transformer_module.queries_features.weight, instances[1:])
    assert torch.equal(network.targets.codes["instance"], instances[0])
    assert torch.equal(network.targets.codes["object"], state["embedding_container._vos_queries"][0])


def sampled(found: Tensor) -> Tensor:
    return found.flatten()[torch.linspace(0, found.numel() - 1, 20).long()]


def assert_golden(case: str, found: dict[str, Tensor]) -> None:
    assert found.keys() == GOLDEN[case].keys()
    for what, tensor in found.items():
        assert torch.allclose(sampled(tensor), torch.tensor(GOLDEN[case][what]), atol=1e-4), what


def test_features_are_those_of_the_authors_own_neck(clip) -> None:
    levels = {"coarsest": clip.levels[0], "finest": clip.levels[2]}
    assert_golden("neck", levels | {"mask features": clip.mask_features_btchw})


@torch.no_grad()
def test_categories_are_those_of_the_authors_own_decoder(network, clip) -> None:
    (answer,) = network.categories(clip, "ovis")
    found = {"masks": answer.instances.masks_bqthw, "semantic": answer.semantic_bkthw}
    assert_golden("categories", found | {"background": answer.background_bthw, "classes": answer.instances.classes_bqc})


@pytest.mark.parametrize("case", ["masks", "masks and points", "points"])
@torch.no_grad()
def test_objects_are_those_of_the_authors_own_encoder_and_decoder(network, clip, case: str) -> None:
    masks = torch.zeros(3, FRAMES, HEIGHT, WIDTH, dtype=torch.bool)
    masks[0, :, 10:70, 20:97] = masks[1, 0, 100:103, 150] = masks[1, 0, 100, 151] = masks[2, 1:, 64:128, 96:192] = True
    on_frames = torch.tensor([0, 2])
    points = PointTargets(
        padded_points(torch.tensor([[0.2, 0.7], [0.9, 0.31]]), (120, 170), (HEIGHT, WIDTH)),
        tuple(x[0, on_frames] for x in (*clip.levels, clip.mask_features_btchw)),
    )
    queries = network.encode(
        clip.mask_features_btchw[0], masks[:0] if case == "points" else masks, None if case == "masks" else points
    )
    (answer,) = network.objects(clip, [queries])
    found = {"objects": queries.objects_qc, "background": queries.background_gc, "masks": answer.masks_bnthw}
    assert_golden(case, found)


# Mistakes.


@pytest.mark.parametrize(
    ("state", "message"),
    [
        pytest.param(
            lambda: without("temporal_layers|level_embed_3d"),
            r"13 of \d+ entries of what targets need are missing \(.*level_embed_3d, .*incomplete",
            id="no temporal layers",
        ),
        pytest.param(lambda: without("_semantic"), "no table .*_semantic_queries: this is no TarViS", id="no classes"),
        pytest.param(lambda: without("_instance"), "no table .*_instance_queries: this is no TarViS", id="no queries"),
        pytest.param(lambda: without("decoder_norm"), "the checkpoint is incomplete", id="a part of the core"),
        pytest.param(
            lambda: small() | {"decoder.novelty": torch.zeros(2)},
            r"1 entries are no part of what targets need \(decoder.novelty\)",
            id="more than is known",
        ),
        pytest.param(
            lambda: small() | {FFN: torch.zeros(1024, 256)}, r"is \[1024, 256\] and not \[2048, 256\]", id="a size"
        ),
        pytest.param(
            lambda: small() | {FFN: torch.full((2048, 256), torch.nan)},
            "1 entries have NaN or infinite values",
            id="training diverged",
        ),
        pytest.param(
            lambda: small() | {QUERIES: torch.zeros(384, 256)},
            r"queries of 383 classes, but config.yaml says 227 \(19 of cityscapes-vps, .*\): give the config.yaml",
            id="settings of another checkpoint",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_one_clear_line(tmp_path, state, message: str) -> None:
    file = written(tmp_path, state())
    with pytest.raises(InputError, match=message) as raised:
        read_authors(file)
    assert str(raised.value).startswith(str(file))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"MODEL": 3}, id="another file"),
        pytest.param(None, id="empty"),
        pytest.param(SETTINGS | {"DATASETS": {}}, id="no data sets"),
    ],
)
def test_settings_that_do_not_fit_are_one_clear_line(tmp_path, settings) -> None:
    with pytest.raises(
        InputError, match=r"config\.yaml is no settings file of TarViS .*: give the one of the checkpoint"
    ):
        read_authors(written(tmp_path, {"a": torch.zeros(1)}, settings))


def test_settings_have_to_be_there(tmp_path) -> None:
    file = written(tmp_path, {"a": torch.zeros(1)})
    (tmp_path / "config.yaml").rename(tmp_path / "other.yaml")
    with pytest.raises(InputError, match=r"config\.yaml is not there: it comes with the checkpoint"):
        read_authors(file)
    with pytest.raises(InputError, match="no table"):
        read_authors(file, tmp_path / "other.yaml")
