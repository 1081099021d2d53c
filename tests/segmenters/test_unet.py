"""The U-Net and its folder."""

import json

import pytest
import torch

from maskstream.segmenters.motion_network import (
    MotionConfig,
    MotionNetwork,
    load_motion_network,
    save_motion_network,
)
from maskstream.segmenters.unet import UNet
from maskstream.types import InputError

SMALL = MotionConfig(gaps=(1, 3), widths=(4, 6, 8))


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    save_motion_network(MotionNetwork(SMALL), tmp_path)
    return tmp_path


@pytest.mark.parametrize("size_hw", [(16, 16), (17, 30), (33, 9)], ids=str)
def test_any_size_goes_in_and_comes_out(size_hw):
    with torch.no_grad():
        assert UNet(3, (4, 6, 8)).eval()(torch.rand(2, 3, *size_hw)).shape == (2, *size_hw)


def test_what_was_saved_is_loaded(folder):
    network, again = MotionNetwork(SMALL).eval(), load_motion_network(folder)
    assert again.config == SMALL and not again.training
    network.load_state_dict(again.state_dict())
    x = torch.rand(1, SMALL.in_dim, 16, 24)
    with torch.no_grad():
        assert torch.equal(network(x), again(x))


def test_the_same_network_gives_the_same_bytes(folder, tmp_path):
    save_motion_network(load_motion_network(folder), tmp_path / "again")
    for name in ("config.json", "model.safetensors"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_a_damaged_folder_is_told_in_a_line(folder):
    weights, config = folder / "model.safetensors", folder / "config.json"
    kept = weights.read_bytes()
    weights.write_bytes(kept[: len(kept) // 2])
    with pytest.raises(InputError, match="cut short or damaged"):
        load_motion_network(folder)
    weights.unlink()
    with pytest.raises(InputError, match=r"there is no .*model\.safetensors"):
        load_motion_network(folder)
    plain = json.loads(config.read_text())
    config.write_text(json.dumps(plain | {"widths": [4, 6, 10]}))
    weights.write_bytes(kept)
    with pytest.raises(InputError, match="of another network"):
        load_motion_network(folder)
    config.write_text(json.dumps(plain | {"colour": 1}))
    with pytest.raises(InputError, match="not known"):
        load_motion_network(folder)
    config.write_text(json.dumps(plain | {"schema": "maskstream/click-network"}))
    with pytest.raises(InputError, match="not the config of a network of this kind"):
        load_motion_network(folder)
    config.unlink()
    with pytest.raises(InputError, match=r"config\.json"):
        load_motion_network(folder)
