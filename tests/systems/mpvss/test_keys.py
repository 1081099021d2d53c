"""Key frames: every so many, when somebody wants it, or when what is seen has changed."""

import numpy as np
import pytest

from maskstream.systems.mpvss.keys import KeyPolicy, KeySettings
from maskstream.types import InputError


def picture(seed, *, shift=0, size=(72, 96)):
    """Smooth noise, which optical flow can follow, moved to the right."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (size[0] // 6, (size[1] + 60) // 6))
    fine = np.kron(coarse, np.ones((6, 6)))
    blurred = np.mean([np.roll(fine, (y, x), (0, 1)) for y in range(-2, 3) for x in range(-2, 3)], axis=0)
    grey = blurred[:, 30 - shift : 30 - shift + size[1]].astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def keys(policy, pictures, forced=()):
    return [n for n, image in enumerate(pictures) if policy.is_key(image, forced=n in forced)]


@pytest.mark.parametrize(("interval", "expected"), [(1, [0, 1, 2, 3, 4, 5, 6]), (3, [0, 3, 6]), (9, [0])])
def test_one_frame_in_so_many_is_a_key_frame(interval, expected):
    assert keys(KeyPolicy(KeySettings(interval=interval)), [picture(0)] * 7) == expected


def test_a_frame_that_is_forced_is_one_and_counting_begins_anew():
    assert keys(KeyPolicy(KeySettings(interval=4)), [picture(0)] * 10, forced={2}) == [0, 2, 6]


def test_a_cut_is_seen_and_a_still_picture_is_carried_to_the_cap():
    pictures = [picture(0)] * 4 + [picture(1)] * 9
    assert keys(KeyPolicy(KeySettings(interval=8, adaptive=True)), pictures) == [0, 4, 12]


def test_what_moves_far_is_a_key_frame_sooner():
    slow, fast = ([picture(0, shift=step * n) for n in range(9)] for step in (0, 3))
    settings = KeySettings(interval=9, adaptive=True)
    assert keys(KeyPolicy(settings), slow) == [0]
    assert len(keys(KeyPolicy(settings), fast)) > 1


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_policy_goes_on_from_its_state(adaptive):
    pictures = [picture(n // 3) for n in range(12)]
    settings = KeySettings(interval=5, adaptive=adaptive)
    whole = keys(KeyPolicy(settings), pictures)
    first, second = KeyPolicy(settings), KeyPolicy(settings)
    begun = keys(first, pictures[:4])
    second.load_state_dict(first.state_dict())
    assert begun + [4 + n for n in keys(second, pictures[4:])] == whole


def test_there_is_a_key_frame_at_last():
    with pytest.raises(InputError, match="every 0"):
        KeySettings(interval=0)
