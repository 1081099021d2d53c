"""What several tests of training begin from."""

import pytest

from maskstream.mask2former.checkpoints import save_core
from maskstream.synthetic.scene import WORLD
from tests.mask2former.networks import small_network


@pytest.fixture(scope="session")
def core(tmp_path_factory):
    """The folder of a query core that knows the classes of the world, untrained."""
    folder = tmp_path_factory.mktemp("core")
    network = small_network(0, classes=len(WORLD))
    network.config.id2label = dict(enumerate(WORLD.names))
    save_core(network, folder, short_side=64)
    return str(folder)
