"""Weights of the propagation network in and out: the authors' files, our folders, and what is wrong with others."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import torch

from maskstream.propagation.network import (
    NetworkConfig,
    from_authors,
    from_pretrained,
    load_checkpoint,
    save_pretrained,
)
from maskstream.types import InputError

from .golden import Inputs, hashed_network, outputs, xmem_name
from .test_network import TINY
from .test_network import TINY_XMEM as XMEM

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "schemas" / "propagation-network.json").read_text())


@pytest.fixture
def weights():
    """A small state dict as DEVA's authors publish theirs."""
    return dict(hashed_network(TINY).state_dict())


@pytest.fixture
def xmem_weights():
    """A small state dict as XMem's authors publish theirs."""
    return {xmem_name(name): tensor for name, tensor in hashed_network(XMEM).state_dict().items()}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pth"


def saved(path, content):
    torch.save(content, path)
    return path


def assert_same(network, expected):
    found, wanted = network.state_dict(), expected.state_dict()
    assert list(found) == list(wanted)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert not network.training


# The authors' files.


def test_a_published_checkpoint_of_deva_is_loaded(path, weights):
    assert_same(from_authors(saved(path, weights), config=TINY), hashed_network(TINY))


def test_a_published_checkpoint_of_xmem_is_loaded(path, xmem_weights):
    assert_same(from_authors(saved(path, xmem_weights), config=XMEM), hashed_network(XMEM))


def test_without_a_config_the_published_network_of_deva_is_expected(path, weights):
    with pytest.raises(InputError, match=r"lacks .* of the 420 entries of this network"):
        from_authors(saved(path, weights))


def test_half_precision_becomes_float32(path, weights):
    halves = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    assert from_authors(saved(path, halves), config=TINY).dtype == torch.float32


def test_a_loaded_network_can_be_trained(path, weights):
    network = from_authors(saved(path, weights), config=TINY)
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in network.parameters())


def without(name):
    return lambda weights: weights.pop(name)


def with_entry(name, value):
    return lambda weights: weights.update({name: value})


def spoil(name, value):
    def change(weights):
        weights[name].flatten()[0] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            without("mask_decoder.pred.bias"),
            r"lacks 1 of the \d+ entries of this network \(mask_decoder.pred.bias\): it is incomplete",
            id="an entry is missing",
        ),
        pytest.param(
            with_entry("mask_decoder.more.bias", torch.zeros(3)),
            r"has 1 entries that this network lacks \(mask_decoder.more.bias\)",
            id="an entry is superfluous",
        ),
        pytest.param(
            with_entry("mask_encoder.conv1.weight", torch.zeros(8, 5, 7, 7)),
            "mask_encoder.conv1.weight in .* is 8×5×7×7, and this network needs 8×4×7×7",
            id="another shape",
        ),
        pytest.param(
            spoil("key_proj.d_proj.weight", float("nan")),
            r"has NaN or infinite values in 1 entries \(key_proj.d_proj.weight\): training diverged",
            id="not a number",
        ),
        pytest.param(
            spoil("pixel_encoder.bn1.running_var", float("inf")),
            r"has NaN or infinite values in 1 entries \(pixel_encoder.bn1.running_var\)",
            id="infinite",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(path, weights, change, message):
    change(weights)
    with pytest.raises(InputError, match=message):
        from_authors(saved(path, weights), config=TINY)


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        pytest.param(
            lambda weights: {"it": 7, "network": weights, "optimizer": {}},
            r"wraps its weights: they are under 'network', beside it, optimizer\. Save them alone: "
            r"torch\.save\(torch\.load\(PATH, weights_only=True\)\['network'\], NEW\)",
            id="a training checkpoint",
        ),
        pytest.param(
            lambda weights: {f"module.{name}": tensor for name, tensor in weights.items()},
            "names in .* begin with 'module.', from distributed training: save model.module.state_dict",
            id="distributed training",
        ),
        pytest.param(
            lambda weights: {**weights, "epoch": 3},
            r"holds more than tensors \(epoch\): save its weights alone",
            id="a number beside the weights",
        ),
        pytest.param(lambda _: [1, 2], "holds a list: give a state dict, tensors by name", id="a list"),
        pytest.param(lambda _: {}, "holds an empty mapping: give a state dict", id="nothing"),
        pytest.param(
            lambda _: {"backbone.weight": torch.zeros(1)},
            r"neither of DEVA nor of XMem \(its names begin with backbone\): give DEVA-propagation.pth",
            id="another network",
        ),
        pytest.param(
            lambda weights: {xmem_name(name): tensor for name, tensor in weights.items()},
            r"is an XMem checkpoint .*: load it with config=NetworkConfig.xmem\(\)",
            id="XMem",
        ),
    ],
)
def test_a_file_that_is_no_checkpoint_of_deva_is_named(path, weights, wrap, message):
    with pytest.raises(InputError, match=message):
        from_authors(saved(path, wrap(weights)), config=TINY)


def test_a_checkpoint_is_known_by_what_is_in_it(tmp_path, weights, xmem_weights, monkeypatch):
    monkeypatch.setattr(NetworkConfig, "deva", classmethod(lambda cls: TINY))
    monkeypatch.setattr(NetworkConfig, "xmem", classmethod(lambda cls: XMEM))
    save_pretrained(hashed_network(XMEM), tmp_path / "ours")
    assert_same(load_checkpoint(saved(tmp_path / "a.pth", weights)), hashed_network(TINY))
    assert_same(load_checkpoint(saved(tmp_path / "b.pth", xmem_weights)), hashed_network(XMEM))
    assert_same(load_checkpoint(tmp_path / "ours"), hashed_network(XMEM))
    with pytest.raises(InputError, match="neither of DEVA nor of XMem"):
        load_checkpoint(saved(tmp_path / "c.pth", {"backbone.weight": torch.zeros(1)}))


def test_a_checkpoint_of_deva_is_not_taken_for_xmem(path, weights):
    with pytest.raises(InputError, match=r"is a DEVA checkpoint .*: load it without the config of XMem"):
        from_authors(saved(path, weights), config=XMEM)


def test_what_is_missing_from_xmem_is_said(path, xmem_weights):
    del xmem_weights["decoder.hidden_update.transform.bias"]
    with pytest.raises(InputError, match=r"lacks 1 of .* \(mask_decoder.sensory_update.transform.bias\)"):
        from_authors(saved(path, xmem_weights), config=XMEM)


def test_a_missing_file_is_named(path):
    with pytest.raises(InputError, match=r"there is no file .*weights.pth: give the checkpoint"):
        from_authors(path)


@pytest.mark.parametrize("kept", [0, 100, 100_000, -1], ids=["nothing", "100 bytes", "100 kB", "all but a byte"])
def test_a_truncated_file_is_named(path, weights, kept):
    whole = saved(path, weights).read_bytes()
    path.write_bytes(whole[:kept])
    with pytest.raises(InputError, match=r"MB\) is cut short or no PyTorch checkpoint: download it again"):
        from_authors(path, config=TINY)


def test_a_page_saved_instead_of_a_checkpoint_is_named(path):
    path.write_text("<html>not found</html>")
    with pytest.raises(InputError, match="is no PyTorch checkpoint, or holds more than tensors"):
        from_authors(path)


def test_objects_are_never_unpickled(path):
    saved(path, {"pixel_encoder.conv1.weight": Path("anything")})
    with pytest.raises(InputError, match="holds more than tensors, which is not loaded: give a plain state dict"):
        from_authors(path)


# Our folders.


@pytest.mark.parametrize("dtype", [None, torch.float16], ids=["float32", "float16"])
@pytest.mark.parametrize("config", [TINY, XMEM], ids=["deva", "xmem"])
def test_saving_what_was_loaded_gives_the_same_bytes(tmp_path, config, dtype):
    save_pretrained(hashed_network(config), tmp_path / "first", dtype=dtype)
    loaded = from_pretrained(tmp_path / "first")
    save_pretrained(loaded, tmp_path / "second", dtype=dtype)
    assert loaded.config == config
    files = sorted(file.name for file in (tmp_path / "first").iterdir())
    assert files == ["config.json", "model.safetensors"]
    for file in files:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


def test_a_loaded_network_is_the_saved_one(tmp_path):
    network = hashed_network(TINY)
    save_pretrained(network, tmp_path)
    loaded = from_pretrained(tmp_path)
    assert_same(loaded, network)
    given = Inputs.hashed(TINY)
    for name, expected in outputs(network, given).items():
        torch.testing.assert_close(outputs(loaded, given)[name], expected, rtol=0, atol=1e-4)


def test_the_config_obeys_its_schema(tmp_path):
    for name, config in (("deva", TINY), ("xmem", XMEM)):
        save_pretrained(hashed_network(config), tmp_path / name)
        jsonschema.validate(json.loads((tmp_path / name / "config.json").read_text()), SCHEMA)


def test_the_small_network_takes_less_than_16_megabytes(tmp_path):
    save_pretrained(hashed_network(NetworkConfig.small()), tmp_path, dtype=torch.float16)
    assert (tmp_path / "model.safetensors").stat().st_size < 16_000_000


def test_a_folded_network_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="folded normalisation cannot be saved"):
        save_pretrained(hashed_network(TINY).fold_normalisation_(), tmp_path)


def test_weights_of_another_config_are_refused(tmp_path):
    save_pretrained(hashed_network(TINY), tmp_path)
    edit_config(tmp_path, lambda config: config.update(key_dim=16))
    with pytest.raises(
        InputError, match=r"key_proj.key_proj.weight in .* is 8×24×3×3, and this network needs 16×24×3×3"
    ):
        from_pretrained(tmp_path)


def test_truncated_weights_are_named(tmp_path):
    save_pretrained(hashed_network(TINY), tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"model.safetensors is cut short or damaged"):
        from_pretrained(tmp_path)


def test_missing_weights_are_named(tmp_path):
    save_pretrained(hashed_network(TINY), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"there is no .*model.safetensors, the weights"):
        from_pretrained(tmp_path)


def test_a_missing_config_is_named(tmp_path):
    with pytest.raises(InputError, match=r"there is no .*config.json, the config of a propagation network"):
        from_pretrained(tmp_path)


def edit_config(folder, change):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"schema": "other"}, "is not the config of a propagation network", id="schema"),
        pytest.param({"version": 2}, "is of version 2, and this release reads 1: update one", id="version"),
        pytest.param({"more": 1}, "lacks nothing and has, superfluously, more", id="superfluous"),
        pytest.param({"key_dim": 0}, "key_dim in .* is 0, which is no such value: for example 64", id="zero"),
        pytest.param({"key_dim": "64"}, 'key_dim in .* is "64", which is no such value', id="text"),
        pytest.param({"key_dim": None}, "key_dim in .* is null, which is no such value", id="null"),
        pytest.param({"auxiliary": 1}, "auxiliary in .* is 1, which is no such value: for example True", id="number"),
        pytest.param(
            {"decoder_dims": [8, 8]}, r"decoder_dims in .* is \[8, 8\], which is no such", id="two, not three"
        ),
        pytest.param({"mask_backbone": {}}, "lacks block, stem, widths, …", id="an empty backbone"),
        pytest.param(
            {"mask_backbone": {"block": "dense", "stem": 8, "widths": [8, 8, 8], "depths": [1, 1, 1]}},
            "mask_backbone in .* is .*dense.*, which is no such value",
            id="another block",
        ),
    ],
)
def test_a_config_that_makes_no_sense_is_named(tmp_path, change, message):
    save_pretrained(hashed_network(TINY), tmp_path)
    edit_config(tmp_path, lambda config: config.update(change))
    with pytest.raises(InputError, match=message):
        from_pretrained(tmp_path)


def test_a_network_is_loaded_without_the_compiler_of_pytorch(tmp_path):
    save_pretrained(hashed_network(TINY), tmp_path)
    code = (
        "import sys; from maskstream.propagation.network import load_checkpoint; "
        f"load_checkpoint({str(tmp_path)!r}); print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "False\n", "PyTorch loads its compiler: a second that a command waits for"
