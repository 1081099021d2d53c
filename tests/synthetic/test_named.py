import numpy as np
import pytest

from maskstream.synthetic.named import FRAMES, SIZE, VIDEOS, NamedSet, named_set
from maskstream.synthetic.videos import synthetic_videos
from maskstream.types import InputError, Task


def test_a_name_says_what_it_stands_for_and_back():
    named = named_set("synthetic-vos:v1-medium-seed7")
    assert named == NamedSet(Task.VOS, "medium", 7)
    assert named.name == "synthetic-vos:v1-medium-seed7"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("davis-2017", "names no synthetic data set", id="another data set"),
        pytest.param("synthetic-vos:v1-medium", "synthetic-TASK:v1-LEVEL-seedS", id="no seed"),
        pytest.param("synthetic-vos:v1-huge-seed0", "a level of easy, medium, hard", id="no such level"),
        pytest.param("synthetic-xyz:v1-easy-seed0", "a task of vss, vis", id="no such task"),
        pytest.param("synthetic-vos:v2-easy-seed0", "version 2 of the world, but this one draws v1", id="version"),
    ],
)
def test_a_name_that_stands_for_nothing_is_refused(name, message):
    with pytest.raises(InputError, match=message):
        named_set(name)


def test_a_named_set_is_drawn_as_the_command_draws_it():
    first = next(named_set("synthetic-vis:v1-easy-seed3").videos())
    same = next(synthetic_videos(level="easy", seed=3, videos=VIDEOS, frames=FRAMES, size_hw=SIZE))
    images = [video.read_image(0) for video in (first, same) if video.read_image]
    assert images[0].shape == (*SIZE, 3)
    np.testing.assert_array_equal(images[0], images[1])
