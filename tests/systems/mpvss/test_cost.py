"""What frames cost is what the paper says (Tables 1 and 2; specification §6)."""

import pytest
import torch

from maskstream.mask2former.sizes import CORE_SIZES, new_network
from maskstream.systems.mpvss.cost import Cost, cost
from maskstream.systems.mpvss.motion import Motion
from maskstream.systems.mpvss.network import MpvssNetwork, motion_config
from tests.mask2former.networks import small_network


@pytest.mark.parametrize(
    ("classes", "size_hw", "published"), [(124, (480, 853), 21.0), (19, (1024, 2048), 84.0)], ids=["VSPW", "Cityscapes"]
)
def test_a_frame_between_key_frames_costs_what_the_paper_says(classes, size_hw, published):
    core = new_network(CORE_SIZES["r50"]([f"class {n}" for n in range(classes)]))
    found = cost(MpvssNetwork(core, Motion(motion_config(core))), size_hw)
    assert found.between / 1e9 == pytest.approx(published, rel=0.01)
    assert 4 < found.key / found.between < 7


def test_pixel_flow_costs_what_the_paper_says_in_one_direction_and_about_that_in_both():
    """Table H: 47.3 and 89.6; ours tells classes of both key frames' masks before it takes their mean, 4 more."""
    with torch.device("meta"):
        core = new_network(CORE_SIZES["r50"]([f"class {n}" for n in range(19)]))
        motion = Motion(motion_config(core, flow="pixel", decoder_widths=(512, 256, 128, 64)))
    network = MpvssNetwork(core, motion)
    one, both = (cost(network, (1024, 2048), carrying=way).between for way in ("motion", "bidirectional"))
    assert one / 1e9 == pytest.approx(47.3, rel=0.01)
    assert both == 2 * one


def test_every_way_is_counted():
    core = small_network(0)
    plain = MpvssNetwork(core, None)
    learned = MpvssNetwork(core, Motion(motion_config(core, widths=(4, 4, 4, 4, 4, 4), flow="pixel")))
    found = {way: cost(plain, (64, 96), carrying=way) for way in ("copy", "flow", "bidirectional", "dff", "accel")}
    assert len({one.key for one in found.values()}) == 1
    between = {way: one.between for way, one in found.items()}
    assert between["copy"] < between["flow"] < between["bidirectional"] == 2 * between["flow"]
    assert between["flow"] < between["dff"] < between["accel"] < found["dff"].key + between["flow"]
    assert cost(learned, (64, 96), carrying="dff").between > between["dff"]
    assert cost(plain, (64, 96)) == found["copy"]


def test_the_average_is_over_an_interval():
    assert Cost(10.0, 2.0).average(1) == 10
    assert Cost(10.0, 2.0).average(5) == pytest.approx(3.6)
