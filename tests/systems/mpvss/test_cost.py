"""What frames cost is what the paper says (Tables 1 and 2; specification §6)."""

import pytest

from maskstream.mask2former.sizes import CORE_SIZES, new_network
from maskstream.systems.mpvss.cost import Cost, cost
from maskstream.systems.mpvss.motion import Motion
from maskstream.systems.mpvss.network import MpvssNetwork, motion_config


@pytest.mark.parametrize(
    ("classes", "size_hw", "published"), [(124, (480, 853), 21.0), (19, (1024, 2048), 84.0)], ids=["VSPW", "Cityscapes"]
)
def test_a_frame_between_key_frames_costs_what_the_paper_says(classes, size_hw, published):
    core = new_network(CORE_SIZES["r50"]([f"class {n}" for n in range(classes)]))
    found = cost(MpvssNetwork(core, Motion(motion_config(core))), size_hw)
    assert found.between / 1e9 == pytest.approx(published, rel=0.01)
    assert 4 < found.key / found.between < 7


def test_the_average_is_over_an_interval():
    assert Cost(10.0, 2.0).average(1) == 10
    assert Cost(10.0, 2.0).average(5) == pytest.approx(3.6)
