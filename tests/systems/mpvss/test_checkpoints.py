"""Checkpoints of MPVSS's authors and of FlowNetS. What their modules are called is tested with the motion module."""

import re
from dataclasses import replace
from functools import cache

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from maskstream.systems.mpvss import load_mpvss
from maskstream.systems.mpvss.checkpoints import read_authors, read_flownet
from maskstream.systems.mpvss.motion import Motion, MotionConfig
from maskstream.types import CategorySet, InputError

from ...mask2former.published import published
from ...propagation.hashed import hashed_weights
from .test_motion import FLOWNET

CLASSES = 133
CONFIG = MotionConfig(
    dim=32, widths=(4, 6, 8, 10, 12, 14), stages=2, feedforward=20, motion_dim=7, decoder_widths=(6, 5, 4, 3)
)
EXPANDING = {f"{name}.conv.weight": torch.zeros(shape) for name, shape in FLOWNET.items()}
LINEAR = "motion.decoder.transformer_ffn_layers.5.linear1.weight"
FIRST = "motion.encoder.conv1.0.conv.weight"


@cache
def core() -> dict[str, Tensor]:
    """Theirs with ResNet, one layer of each kind, and an eighth of the channels where heads and queries let it."""
    eighths = (64, 128, 256, 512, 768, 1024, 2048)
    return hashed_weights(
        {
            name: torch.Size(size // 8 if size in eighths else size for size in shape)
            for name, shape in published("detectron2-r50").items()
            if not re.search(r"\.res\d\.[1-9]|_layers\.[1-8]|encoder\.layers\.[1-8]", name)
        }
    )


@cache
def added(config: MotionConfig = CONFIG) -> dict[str, Tensor]:
    """Their motion module with fewer channels."""
    return hashed_weights({f"motion.{name}": tensor.shape for name, tensor in Motion(config).state_dict().items()})


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """As their program wrote it."""
    path = tmp_path_factory.mktemp("authors") / "model_final.pth"
    torch.save({"model": core() | added(), "iteration": 90_000}, path)
    return path


def test_a_file_of_the_authors_is_a_core_and_a_motion_module(file):
    network, motion = read_authors(file)
    assert motion.config == CONFIG
    assert not motion.training
    assert not network.training
    assert {f"motion.{name}" for name in motion.state_dict()} == added().keys()
    assert all(torch.equal(tensor, added()[f"motion.{name}"]) for name, tensor in motion.state_dict().items())
    assert torch.equal(network.class_predictor.weight, core()["sem_seg_head.predictor.class_embed.weight"])
    assert list((network.config.id2label or {}).values()) == [f"class {n}" for n in range(CLASSES)]


def test_a_file_of_the_authors_is_a_model(file):
    model = load_mpvss(str(file), space=CategorySet.from_names([f"kind {n}" for n in range(CLASSES)], name="zoo"))
    assert model.network.motion is not None and model.settings.carrying is None
    assert model.label_space.name == "zoo"
    assert (model.pixels.shortest, model.pixels.divisor) == (480, 32)
    with pytest.raises(InputError, match="tells 133 classes, but zoo has 2"):
        load_mpvss(str(file), space=CategorySet.from_names(["a", "b"], name="zoo"))


def test_classes_are_called_as_is_said(file):
    names = [f"kind {n}" for n in range(CLASSES)]
    assert list((read_authors(file, names=names)[0].config.id2label or {}).values()) == names
    with pytest.raises(InputError, match="tells 133 classes, but 2 are named"):
        read_authors(file, names=["cat", "dog"])


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
def test_numbers_of_half_precision_are_read(tmp_path, name):
    halves = {
        key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in (core() | added()).items()
    }
    path = tmp_path / name
    save_file(halves, path) if path.suffix == ".safetensors" else torch.save(halves, path)
    _, motion = read_authors(path)
    assert {tensor.dtype for tensor in motion.state_dict().values()} == {torch.float32}
    assert torch.equal(motion.state_dict()[FIRST.removeprefix("motion.")], added()[FIRST].half().float())


def without(pattern: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in (core() | added()).items() if not re.search(pattern, name)}


@pytest.mark.parametrize(
    "state, message",
    [
        pytest.param(core, "is a Mask2Former without a motion module", id="no motion module"),
        pytest.param(
            lambda: without(r"motion.*(fuse_layer|layers\.3\.norm)"),
            r"6 of \d+ entries of the motion module are missing \(.*, …\): the checkpoint is incomplete",
            id="a part of the motion module is missing",
        ),
        pytest.param(lambda: without("conv6.0"), "conv6.0.conv.weight is missing", id="what tells a size is missing"),
        pytest.param(
            lambda: without("motion.*attention_layers"),
            r"36 of 129 entries .* are missing \(.*attention",
            id="no attention",
        ),
        pytest.param(lambda: without("level_embed"), "level_embed.* missing", id="a part of the core is missing"),
        pytest.param(
            lambda: core() | added() | {"motion.decoder.gate.weight": torch.zeros(1)},
            r"1 entries are no part of the motion module \(motion.decoder.gate.weight\)",
            id="more in the motion module",
        ),
        pytest.param(
            lambda: core() | added() | {"tracker.weight": torch.zeros(1)},
            r"1 entries are no part of the motion module \(tracker.weight\)",
            id="more beside it",
        ),
        pytest.param(
            lambda: core() | added() | {LINEAR: torch.zeros(21, 32)},
            r"5.linear1.weight is \[21, 32\] and not \[20, 32\]",
            id="blocks of different sizes",
        ),
        pytest.param(
            lambda: core() | added() | {FIRST: torch.tensor(1.0)}, r"conv1.0.conv.weight is \[\]", id="no axes at all"
        ),
        pytest.param(
            lambda: core() | added(replace(CONFIG, queries=50)),
            r"query_embed.weight is \[50, 32\] and not \[100, 32\]",
            id="other queries than the core",
        ),
        pytest.param(
            lambda: core() | added() | {LINEAR: torch.full((20, 32), torch.nan)},
            r"1 entries have NaN or infinite values \(motion.*linear1",
            id="training diverged",
        ),
        pytest.param(
            lambda: {"panoptic_head.query_feat.weight": torch.zeros(100, 32)},
            "named as mmdet does, and not as detectron2",
            id="mmdet",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_one_clear_line(tmp_path, state, message):
    path = tmp_path / "weights.pth"
    torch.save({"model": state()}, path)
    with pytest.raises(InputError, match=message) as raised:
        read_authors(path)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_is_said_so(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        read_authors(tmp_path / "weights.pth")


# FlowNetS.


def contracting(begin: str = "") -> dict[str, Tensor]:
    return {
        f"{begin}{name.removeprefix('motion.encoder.')}": tensor + 1
        for name, tensor in added().items()
        if name.startswith("motion.encoder.")
    }


@pytest.mark.parametrize(
    "wrapped",
    [
        pytest.param(lambda: contracting() | EXPANDING, id="by itself"),
        pytest.param(
            lambda: {"state_dict": contracting() | EXPANDING, "meta": {"epoch": 1}}, id="as mmtracking has it"
        ),
        pytest.param(
            lambda: {"state_dict": contracting("motion.") | {"detector.backbone.conv1.weight": torch.zeros(1)}},
            id="in a detector of videos",
        ),
        pytest.param(lambda: {"model": core() | added() | contracting("motion.encoder.")}, id="in MPVSS"),
        pytest.param(lambda: contracting("encoder."), id="in a motion module"),
    ],
)
def test_flownet_is_found_wherever_it_is(tmp_path, wrapped):
    torch.save(wrapped(), tmp_path / "flownet.pth")
    motion = Motion(CONFIG)
    decoder = {name: tensor.clone() for name, tensor in motion.decoder.state_dict().items()}
    read_flownet(tmp_path / "flownet.pth", motion)
    found = motion.encoder.state_dict()
    assert found.keys() == contracting().keys()
    assert all(torch.equal(tensor, contracting()[name]) for name, tensor in found.items())
    assert all(torch.equal(tensor, decoder[name]) for name, tensor in motion.decoder.state_dict().items())
    assert all(parameter.requires_grad for parameter in motion.parameters())


CONV = "conv3.1.conv.weight"


@pytest.mark.parametrize(
    "state, message",
    [
        pytest.param(
            lambda: {"conv1.0.weight": torch.zeros(1)},
            r"has 0 entries called conv1.0.conv.weight \(conv1.0.weight\): give .* flownet_simple.pth",
            id="names of others",
        ),
        pytest.param(lambda: contracting("a.") | contracting("b."), r"has 2 entries called .* \(a., b.\)", id="two"),
        pytest.param(
            lambda: {name: tensor for name, tensor in contracting().items() if "conv6" not in name},
            r"4 of 20 entries .* are missing \(conv6.0.conv.weight",
            id="incomplete",
        ),
        pytest.param(
            lambda: contracting() | {"conv3_1.conv.weight": torch.zeros(1)},
            r"no part of the motion module \(conv3_1.conv.weight\)",
            id="FlowNetC",
        ),
        pytest.param(
            lambda: contracting() | {CONV: torch.zeros(8, 8, 5, 5)},
            r"conv3.1.conv.weight is \[8, 8, 5, 5\] and not \[8, 8, 3, 3\]",
            id="another kernel",
        ),
        pytest.param(
            lambda: contracting() | {CONV: torch.full((8, 8, 3, 3), torch.inf)},
            "1 entries have NaN or infinite values",
            id="not finite",
        ),
    ],
)
def test_flownet_that_does_not_fit_is_one_clear_line_and_changes_nothing(tmp_path, state, message):
    path = tmp_path / "flownet.pth"
    torch.save(state(), path)
    motion = Motion(CONFIG)
    before = {name: tensor.clone() for name, tensor in motion.state_dict().items()}
    with pytest.raises(InputError, match=message) as raised:
        read_flownet(path, motion)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in motion.state_dict().items())
