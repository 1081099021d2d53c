"""Weights of Mask2Former under others' names: what the authors' own modules are called, and what they answer."""

import collections
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F
from transformers import (
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    ResNetConfig,
    SwinBackbone,
    SwinConfig,
)

from maskstream.mask2former.checkpoints import config_of, load_core, split_core, to_transformers
from maskstream.mask2former.stdc import StdcConfig
from maskstream.types import InputError

from ..propagation.hashed import hashed
from .published import CLASSES, FOLDER, published, small, with_values, without_values

GOLDEN = json.loads(Path(__file__).with_name("golden_published.json").read_text())
TOLERANCE = 1e-3
"""Of logits. On one machine differences are far smaller; on another, a mask may be just across its threshold."""

ENCODER, DECODER, QUERIES = (
    "model.pixel_level_module.encoder.",
    "model.pixel_level_module.decoder.",
    "model.transformer_module.",
)
ALL = sorted(path.stem for path in FOLDER.glob("*.txt"))
SWIN_NORM = f"{ENCODER}swin.layernorm."


def blank(config: Mask2FormerConfig) -> Mask2FormerForUniversalSegmentation:
    with torch.device("meta"):
        return Mask2FormerForUniversalSegmentation(config)


# Published checkpoints.


@pytest.mark.parametrize("name", ALL)
def test_every_entry_of_a_published_checkpoint_finds_its_place(name):
    converted = to_transformers(without_values(name))
    numbers = sum(size.numel() for entry, size in published(name).items() if not entry.endswith("position_index"))
    made = sum(
        tensor.numel()
        for entry, tensor in converted.items()
        if entry.startswith(SWIN_NORM) or entry == "criterion.empty_weight"
    )
    counts = sum(entry.endswith("batches_tracked") for entry in converted) if name.startswith("detectron2") else 0
    assert sum(tensor.numel() for tensor in converted.values()) == numbers + made + counts


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_logits_are_those_of_the_authors_own_modules(name):
    state = with_values(name)
    network = Mask2FormerForUniversalSegmentation(config_of(state)).eval()
    network.load_state_dict(to_transformers(state))
    with torch.inference_mode():
        found = network(hashed("image", (1, 3, 64, 96), -2, 2))
    for part, logits in (("classes", found.class_queries_logits), ("masks", found.masks_queries_logits)):
        sampled = logits.flatten()[torch.linspace(0, logits.numel() - 1, 40).long()]
        assert torch.allclose(sampled, torch.tensor(GOLDEN[name][part]), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    "name, backbone, expected",
    [
        pytest.param(
            "detectron2-r50",
            ResNetConfig,
            {"depths": [3, 4, 6, 3], "hidden_sizes": [256, 512, 1024, 2048], "layer_type": "bottleneck"},
            id="ResNet-50",
        ),
        pytest.param(
            "detectron2-swin-tiny",
            SwinConfig,
            {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24], "window_size": 7},
            id="Swin-T",
        ),
        pytest.param(
            "mmdet-swin-large",
            SwinConfig,
            {"embed_dim": 192, "depths": [2, 2, 18, 2], "num_heads": [6, 12, 24, 48], "window_size": 12},
            id="Swin-L",
        ),
        pytest.param("mmdet-stdc1", StdcConfig, {"depths": [2, 2, 2], "embedding_size": 64}, id="STDC1"),
        pytest.param("mmdet-stdc2", StdcConfig, {"depths": [4, 5, 3], "embedding_size": 64}, id="STDC2"),
    ],
)
def test_the_backbone_is_known_from_shapes(name, backbone, expected):
    config = config_of(without_values(name)).backbone_config
    assert isinstance(config, backbone)
    assert {key: getattr(config, key) for key in expected} == expected
    assert config.out_features == ["stage1", "stage2", "stage3", "stage4"]


@pytest.mark.parametrize(
    "name, queries", [pytest.param("mmdet-r50", 100, id="100"), pytest.param("mmdet-swin-large", 200, id="200")]
)
def test_queries_classes_and_layers_are_known_from_shapes(name, queries):
    config = config_of(without_values(name))
    usual = Mask2FormerConfig()
    assert (config.num_queries, config.num_labels) == (queries, CLASSES)
    for size in ("feature_size", "mask_feature_size", "hidden_dim", "encoder_feedforward_dim", "dim_feedforward"):
        assert getattr(config, size) == getattr(usual, size)
    assert (config.encoder_layers, config.decoder_layers, config.num_attention_heads) == (6, 10, 8)


@pytest.mark.parametrize(
    "name, classes, parameters",
    [
        pytest.param("mmdet-r50", 40, 44_013_097, id="Tube-Link, YouTube-VIS, ResNet-50"),
        pytest.param("mmdet-r50", 25, 44_009_242, id="Tube-Link, OVIS, ResNet-50"),
        pytest.param("mmdet-r50", 124, 44_034_685, id="Tube-Link, VSPW, ResNet-50; MPVSS, 44.03 million"),
        pytest.param("mmdet-swin-large", 124, 215_533_297, id="Tube-Link, VSPW, Swin-L"),
        pytest.param("detectron2-swin-tiny", 124, 47_432_951, id="MPVSS, Swin-T, 47.43 million"),
    ],
)
def test_systems_have_as_many_parameters_as_published(name, classes, parameters):
    part = "panoptic_head.cls_embed" if name.startswith("mmdet") else "sem_seg_head.predictor.class_embed"
    state = without_values(name, **{f"{part}.weight": (classes + 1, 256), f"{part}.bias": (classes + 1,)})
    network = blank(config_of(state))
    unused = (tensor.numel() for entry, tensor in network.named_parameters() if entry.startswith(SWIN_NORM))
    assert network.num_parameters() - sum(unused) == parameters


# What becomes of an entry.


def converted(**entries: torch.Tensor) -> dict[str, torch.Tensor]:
    """Single entries, by their family."""
    core, rest = split_core(entries)
    assert not rest
    return core


MMDET = {"panoptic_head.level_embed.weight": torch.zeros(3, 256)}
DETECTRON2 = {"sem_seg_head.predictor.level_embed.weight": torch.zeros(3, 256)}


@pytest.mark.parametrize(
    "family, theirs, ours",
    [
        pytest.param(
            DETECTRON2,
            "sem_seg_head.predictor.transformer_self_attention_layers.4.self_attn.in_proj_bias",
            f"{QUERIES}decoder.layers.4.self_attn.{{}}_proj.bias",
            id="queries, detectron2",
        ),
        pytest.param(
            MMDET,
            "panoptic_head.transformer_decoder.layers.4.attentions.1.attn.in_proj_bias",
            f"{QUERIES}decoder.layers.4.self_attn.{{}}_proj.bias",
            id="queries, mmdet",
        ),
        pytest.param(
            DETECTRON2,
            "backbone.layers.2.blocks.5.attn.qkv.bias",
            f"{ENCODER}swin.encoder.layers.2.blocks.5.attention.{{}}_proj.bias",
            id="Swin, detectron2",
        ),
        pytest.param(
            MMDET,
            "backbone.stages.2.blocks.5.attn.w_msa.qkv.bias",
            f"{ENCODER}swin.encoder.layers.2.blocks.5.attention.{{}}_proj.bias",
            id="Swin, mmdet",
        ),
    ],
)
def test_packed_attention_is_q_then_k_then_v(family, theirs, ours):
    core = converted(**family, **{theirs: torch.arange(12)})
    assert [core[ours.format(part)].tolist() for part in "qkv"] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_attention_to_pictures_stays_packed():
    packed = torch.arange(12)
    core = converted(**MMDET, **{"panoptic_head.transformer_decoder.layers.4.attentions.0.attn.in_proj_bias": packed})
    assert torch.equal(core[f"{QUERIES}decoder.layers.4.cross_attn.in_proj_bias"], packed)


@pytest.mark.parametrize(
    "family, theirs, ours",
    [
        pytest.param(DETECTRON2, "res4.2.conv3.norm", "stages.2.layers.2.layer.2.normalization", id="detectron2"),
        pytest.param(DETECTRON2, "res2.0.shortcut.norm", "stages.0.layers.0.shortcut.normalization", id="its shortcut"),
        pytest.param(MMDET, "layer3.2.bn3", "stages.2.layers.2.layer.2.normalization", id="mmdet"),
        pytest.param(
            MMDET, "layer1.0.downsample.1", "stages.0.layers.0.shortcut.normalization", id="its shortcut, mmdet"
        ),
    ],
)
def test_statistics_of_a_resnet_come_along(family, theirs, ours):
    parts = ("weight", "bias", "running_mean", "running_var")
    values = {f"backbone.{theirs}.{part}": hashed(part, (4,)) for part in parts}
    core = converted(**family, **values)
    assert all(torch.equal(core[f"{ENCODER}encoder.{ours}.{part}"], hashed(part, (4,))) for part in parts)


@pytest.mark.parametrize("family", [pytest.param(DETECTRON2, id="detectron2"), pytest.param(MMDET, id="mmdet")])
def test_merging_of_patches_is_that_of_its_family(family):
    """mmdet cuts patches out with channels outermost; detectron2 has Swin's order, which `transformers` has too."""
    channels, mmdet = 8, family is MMDET
    name = f"backbone.{'stages' if mmdet else 'layers'}.0.downsample"
    weights = {
        f"{name}.norm.weight": hashed("weight", (4 * channels,), 0.5, 1),
        f"{name}.norm.bias": hashed("bias", (4 * channels,)),
        f"{name}.reduction.weight": hashed("reduction", (2 * channels, 4 * channels)),
    }
    config = SwinConfig(embed_dim=channels, depths=[1] * 4, num_heads=[1] * 4)
    merging = SwinBackbone(config).get_submodule("swin.encoder.layers.0.downsample")
    core = converted(**family, **weights)
    begin = f"{ENCODER}swin.encoder.layers.0.downsample."
    merging.load_state_dict({k.removeprefix(begin): v for k, v in core.items() if k.startswith(begin)})

    x = hashed("x", (1, channels, 4, 6))
    wanted = []
    for row in range(0, 4, 2):
        for column in range(0, 6, 2):
            patch = x[0, :, row : row + 2, column : column + 2]  # channels, row, column
            inputs = patch.flatten() if mmdet else patch.permute(2, 1, 0).flatten()  # Swin: rows within columns
            normed = F.layer_norm(inputs, (4 * channels,), weights[f"{name}.norm.weight"], weights[f"{name}.norm.bias"])
            wanted.append(weights[f"{name}.reduction.weight"] @ normed)
    found = merging(x.flatten(2).transpose(1, 2), (4, 6))
    assert torch.allclose(found[0], torch.stack(wanted), atol=1e-6)


def test_classes_weigh_1_in_the_loss_and_nothing_a_tenth_unless_told():
    state, entry = without_values("detectron2-r50"), "criterion.empty_weight"
    assert to_transformers(state)[entry].tolist() == pytest.approx([1.0] * CLASSES + [0.1])
    told = torch.full((CLASSES + 1,), 0.5)
    assert torch.equal(to_transformers(state | {entry: told})[entry], told)


def test_first_files_of_detectron2_are_read():
    state = without_values("detectron2-r50")
    old = {
        name.replace(".pixel_decoder.", ".").replace("query_feat", "static_query"): tensor
        for name, tensor in state.items()
    }
    assert old.keys() != state.keys()
    assert to_transformers(old).keys() == to_transformers(state).keys()


def test_what_a_system_adds_is_left_to_it():
    own = {"motion.encoder.conv1.weight": torch.ones(2), "sem_seg_head.predictor.text_norm.bias": torch.zeros(2)}
    core, rest = split_core(without_values("detectron2-r50") | own)
    assert rest == own
    assert core.keys() == split_core(without_values("detectron2-r50"))[0].keys()


def test_without_what_tells_classes_sizes_are_known_still():
    state = {k: v for k, v in without_values("detectron2-swin-tiny").items() if "class_embed" not in k}
    assert config_of(state).num_queries == 100
    with pytest.raises(InputError, match=r"2 of .* missing; here they are called class_predictor.weight"):
        to_transformers(state)


# Mistakes.


def lacking(name: str, pattern: str) -> dict[str, torch.Tensor]:
    return {entry: tensor for entry, tensor in without_values(name).items() if not re.search(pattern, entry)}


LEVELS = "panoptic_head.level_embed.weight"


@pytest.mark.parametrize(
    "state, message",
    [
        pytest.param(
            lambda: lacking("mmdet-r50", r"bn2\.running_var"),
            r"16 of \d+ entries, named as mmdet does, are missing; .*layer\.1\.normalization\.running_var, .*, …",
            id="entries are missing",
        ),
        pytest.param(
            lambda: lacking("mmdet-r50", "query_feat"),
            r"queries_features.weight, as it is called here, is missing among entries named as mmdet does",
            id="queries are missing",
        ),
        pytest.param(
            lambda: without_values("mmdet-r50") | {"track_head.fcs.0.weight": torch.zeros(1)},
            r"1 of 611 entries, named as mmdet does, are no part .*\(track_head.fcs.0.weight\)",
            id="an entry is of another system",
        ),
        pytest.param(
            lambda: without_values("detectron2-r50") | {"backbone.res6.0.conv1.weight": torch.zeros(1)},
            r"1 entries, named as detectron2 does, fit to nothing; .* .*stages.4.layers.0.layer.0.convolution.weight",
            id="a stage too many",
        ),
        pytest.param(
            lambda: (
                without_values("detectron2-r50") | {"sem_seg_head.predictor.static_query.weight": torch.zeros(100, 256)}
            ),
            r"static_query.weight, named as detectron2 does, means what another entry does already",
            id="queries are there twice",
        ),
        pytest.param(
            lambda: without_values("mmdet-r50") | {LEVELS: torch.zeros(4, 256)},
            r"level_embed.weight, named as mmdet does, is \[4, 256\] and not \[3, 256\]",
            id="a shape does not fit",
        ),
        pytest.param(
            lambda: without_values("mmdet-r50") | {LEVELS: torch.full((3, 256), torch.nan)},
            r"1 entries, named as mmdet does, have NaN or infinite values; .*level_embed",
            id="training diverged",
        ),
        pytest.param(
            lambda: lacking("mmdet-r50", "backbone"),
            "there is no backbone that is known here",
            id="no backbone",
        ),
        pytest.param(
            lambda: {"panoptic_head.transformer_decoder.layers.0.cross_attn.attn.in_proj_weight": torch.zeros(1)},
            "entries are named as mmdet 3 does",
            id="mmdet 3",
        ),
        pytest.param(
            lambda: {f"{DECODER}level_embed": torch.zeros(1)}, "named as transformers does: give the folder", id="ours"
        ),
        pytest.param(lambda: {"layer1.0.conv1.weight": torch.zeros(1)}, "begin with layer1", id="a ResNet alone"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_one_clear_line(state, message):
    with pytest.raises(InputError, match=message) as raised:
        to_transformers(state())
    assert "\n" not in str(raised.value)


# Files.


@pytest.fixture(scope="module")
def state():
    """A small checkpoint of Tube-Link."""
    return small()


def assert_holds(network: Mask2FormerForUniversalSegmentation, state: dict[str, torch.Tensor]) -> None:
    wanted, found = to_transformers(state), network.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
    assert not network.training
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda state: state, id="bare"),
        pytest.param(lambda state: {"model": state, "iteration": 7}, id="detectron2's training"),
        pytest.param(lambda state: {"meta": {"CLASSES": ("a", "b")}, "state_dict": state}, id="mmdet's training"),
    ],
)
def test_a_file_of_pytorch_is_loaded(tmp_path, state, wrap):
    torch.save(wrap(state), tmp_path / "weights.pth")
    assert_holds(load_core(tmp_path / "weights.pth"), state)


def test_a_pickle_of_arrays_is_loaded(tmp_path, state):
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    (tmp_path / "zoo.pkl").write_bytes(pickle.dumps({"model": arrays, "__author__": "somebody", "lr": np.float64(1)}))
    assert_holds(load_core(tmp_path / "zoo.pkl"), state)


def test_a_file_of_safetensors_in_half_precision_is_loaded_as_float32(tmp_path, state):
    halves = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    save_file(halves, tmp_path / "half.safetensors")
    rounded = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in halves.items()}
    assert_holds(load_core(tmp_path / "half.safetensors"), rounded)


def test_a_folder_of_transformers_is_loaded_also_with_stdc(tmp_path, state):
    torch.save(state, tmp_path / "weights.pth")
    load_core(tmp_path / "weights.pth").save_pretrained(tmp_path / "folder")
    assert_holds(load_core(tmp_path / "folder"), state)


class _Trap:
    def __reduce__(self):
        return Path.mkdir, (Path("sprung"),)


@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
def test_nothing_in_a_file_is_run(tmp_path, monkeypatch, suffix):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"trap{suffix}"
    path.write_bytes(pickle.dumps({"model": _Trap()}, protocol=2))
    with pytest.raises(InputError, match=r"trap\.p"):
        load_core(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "name, content, message",
    [
        pytest.param("cut.pkl", pickle.dumps({"model": np.zeros(99)})[:-60], "no pickle of arrays", id="a cut pickle"),
        pytest.param("cut.pth", b"PK\3\4 and no more", "cut short or no PyTorch", id="a cut file of PyTorch"),
        pytest.param("cut.safetensors", b"\0", "cut short or damaged", id="a cut file of safetensors"),
        pytest.param("list.pkl", pickle.dumps([1]), "holds no weights by name", id="a list"),
        pytest.param("text.pkl", pickle.dumps({"model": {"a": "b"}}), r"more than tensors by name \(a\)", id="text"),
        pytest.param(
            "other.pkl",
            pickle.dumps(collections.OrderedDict(stem=np.zeros(2))),
            r"other\.pkl: entries are named neither .* begin with stem",
            id="another network",
        ),
    ],
)
def test_a_file_of_something_else_is_one_clear_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as raised:
        load_core(tmp_path / name)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_is_said_so(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        load_core(tmp_path / "weights.pth")
