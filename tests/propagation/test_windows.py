"""Fast mode: windows are where the objects are, and in them is what the network makes of them."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskstream.propagation import windows
from maskstream.propagation.network_propagator import NetworkPropagator
from maskstream.propagation.windows import MARGIN, windows_around
from maskstream.types import InputError

from .clips import Clip
from .golden import hashed_network
from .hashed import hashed
from .test_network import TINY
from .test_network_propagator import OFTEN, SIZE, XMEM, followed

WIDE = (160, 320)
"""A frame on which windows are less than the whole: 10 × 20 places."""


def mask(*box, size_hw=WIDE, value=1.0):
    """``[1, H, W]`` with a rectangle: top, bottom, left, right in pixels."""
    top, bottom, left, right = box
    drawn = torch.zeros(1, *size_hw)
    drawn[:, top:bottom, left:right] = value
    return drawn


@pytest.mark.parametrize(
    "drawn, expected",
    [
        # one place at (5, 10), three around it on all sides, rounded up to 8 × 8
        pytest.param(mask(80, 96, 160, 176), (1, 6, 8, 8), id="around an object"),
        pytest.param(mask(80, 81, 160, 161), (1, 6, 8, 8), id="a pixel makes its place occupied"),
        pytest.param(mask(0, 16, 0, 16), (0, 0, 8, 8), id="moved inside at the corner"),
        pytest.param(mask(144, 160, 304, 320), (2, 12, 8, 8), id="at the other corner"),
        pytest.param(mask(80, 96, 160, 176, value=0.04), (0, 0, 10, 20), id="not seen: the whole frame"),
        pytest.param(mask(0, 160, 0, 200), (0, 0, 10, 20), id="large: the whole frame"),
        pytest.param(mask(80, 96, 100, 180), (1, 3, 8, 12), id="wide"),
    ],
)
def test_a_window_is_around_where_an_object_was(drawn, expected):
    assert windows_around(drawn) == windows.Windows((10, 20), (expected,))


def test_a_window_reaches_to_where_memory_says_the_object_is():
    presence = torch.zeros(1, 10, 20)
    presence[0, 5, 9] = 0.5
    assert windows_around(mask(80, 96, 80, 96), presence).boxes == ((1, 1, 8, 12),)
    assert windows_around(mask(0, 1, 0, 1, value=0.0), presence).boxes == ((1, 5, 8, 8),), "even if it was lost"


@settings(max_examples=60, deadline=None)
@given(st.tuples(*(st.integers(0, 20) for _ in range(2)), *(st.integers(1, 21) for _ in range(2))), st.integers(1, 21))
def test_all_of_an_object_and_its_margin_are_in_its_window(box, height):
    top, left, tall, wide = box
    top = min(top, height - 1)
    drawn = torch.zeros(1, 16 * height, 16 * 21)
    drawn[:, 16 * top : 16 * (top + tall), 16 * left : 16 * (left + wide)] = 1
    ((y, x, h, w),) = windows_around(drawn).boxes
    assert min(y, x) >= 0 and y + h <= height and x + w <= 21
    assert y <= max(top - MARGIN, 0) and y + h >= min(top + tall + MARGIN, height)
    assert x <= max(left - MARGIN, 0) and x + w >= min(left + wide + MARGIN, 21)


@pytest.fixture(scope="module")
def inputs():
    """Network, features and what belongs to five objects: three have small windows, one is lost, one is large."""
    network = hashed_network(TINY)
    config = network.config
    image = hashed("image", (1, 3, *WIDE))
    masks = torch.cat(
        [
            mask(80, 96, 160, 176),
            mask(10, 50, 20, 90),
            mask(0, 0, 0, 0),
            mask(0, 150, 0, 300),
            mask(16, 32, 0, 16),
        ]
    )
    readout = hashed("readout", (5, config.value_dim, 10, 20))
    sensory = hashed("sensory", (5, config.sensory_dim, 10, 20))
    return network, image, network.encode_image(image), masks, readout, sensory


def cut(x, box, factor):
    top, left, height, width = (factor * side for side in box)
    return x[..., top : top + height, left : left + width]


def cut_features(features, box):
    f16, f8, f4 = (
        cut(f, box, factor) for f, factor in ((features.f16_bchw, 1), (features.f8_bchw, 2), (features.f4_bchw, 4))
    )
    return replace(features, f16_bchw=f16, f8_bchw=f8, f4_bchw=f4)


@pytest.mark.parametrize("places", [1, 130, 10_000], ids=["one at a time", "two small ones", "all at once"])
def test_decoding_in_windows_is_decoding_each_object_in_its_own(inputs, places):
    network, _, features, masks, readout, sensory = inputs
    around = windows_around(masks)
    assert len(set(around.boxes)) == 4 and (0, 0, 10, 20) in around.boxes
    with torch.inference_mode():
        logits, updated = windows.decode(
            network, features, readout, sensory, masks, around, update_sensory=True, places=places
        )
        for n, box in enumerate(around.boxes):
            expected, moved_on = network.decode(
                cut_features(features, box),
                cut(readout[None, n : n + 1], box, 1),
                cut(sensory[None, n : n + 1], box, 1),
                cut(masks[None, n : n + 1], box, 16),
                update_sensory=True,
            )
            outside = torch.full_like(logits[n], windows.ABSENT)
            cut(outside, box, 4).copy_(expected[0, 0])
            torch.testing.assert_close(logits[n], outside, rtol=0, atol=1e-5)
            stays = sensory[n].clone()
            cut(stays, box, 1).copy_(moved_on[0, 0])
            torch.testing.assert_close(updated[n], stays, rtol=0, atol=1e-5)


@pytest.mark.parametrize("places", [1, 10_000], ids=["one at a time", "all at once"])
def test_outside_of_windows_the_value_is_that_of_an_empty_mask(inputs, places):
    network, image, features, masks, _, sensory = inputs
    around = windows_around(masks)
    with torch.inference_mode():
        values, updated = windows.encode_masks(network, image, features, masks, sensory, around, places=places)
        empty, _ = network.encode_masks(image, features, torch.zeros(1, 1, *WIDE), sensory[None, :1], deep_update=False)
        for n, box in enumerate(around.boxes):
            inside, moved_on = network.encode_masks(
                cut(image, box, 16),
                cut_features(features, box),
                cut(masks[None, n : n + 1], box, 16),
                cut(sensory[None, n : n + 1], box, 1),
                deep_update=True,
            )
            expected, stays = empty[0, 0].clone(), sensory[n].clone()
            cut(expected, box, 1).copy_(inside[0, 0])
            cut(stays, box, 1).copy_(moved_on[0, 0])
            torch.testing.assert_close(values[n], expected, rtol=0, atol=1e-5)
            torch.testing.assert_close(updated[n], stays, rtol=0, atol=1e-5)


@pytest.mark.parametrize("config", [pytest.param(TINY, id="deva"), pytest.param(XMEM, id="xmem")])
def test_where_every_window_is_the_whole_frame_fast_is_exact(config):
    network = hashed_network(config)
    exact, fast = (NetworkPropagator(network, mode=mode, policy=OFTEN, size=None) for mode in ("exact", "fast"))
    expected, found = (followed(propagator, 9)[1] for propagator in (exact, fast))
    assert windows_around(torch.ones(1, 48, 80)).boxes == ((0, 0, 3, 5),)
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("config", [pytest.param(TINY, id="deva"), pytest.param(XMEM, id="xmem")])
def test_an_object_is_nowhere_outside_of_its_window(config, monkeypatch):
    scene = Clip(WIDE, 9, OFTEN)
    propagator = NetworkPropagator(hashed_network(config), policy=OFTEN, size=None)
    around = windows.Windows((10, 20), ((0, 0, 8, 8), (2, 12, 8, 8), (0, 8, 4, 4)))
    monkeypatch.setattr(windows, "windows_around", lambda *_: around)
    features = propagator.encode(scene.frame(0))
    masks = torch.cat([mask(0, 100, 0, 100), mask(60, 160, 220, 320), mask(10, 40, 140, 170)])
    state = propagator.write(propagator.start(), features, masks, (1, 2, 3))
    for index in range(1, 7):
        state, probabilities = propagator.read(state, propagator.encode(scene.frame(index)))
        torch.testing.assert_close(probabilities.sum(0), torch.ones(WIDE))
        assert probabilities[1, 132:].max() < 1e-5 and probabilities[1, :, 132:].max() < 1e-5
        assert probabilities[2, :28].max() < 1e-5 and probabilities[2, :, :188].max() < 1e-5
        assert probabilities[1, :120, :120].max() > 0.01 and probabilities[2, 40:, 200:].max() > 0.01


def test_presence_is_remembered_where_the_mask_was(inputs):
    propagator = NetworkPropagator(hashed_network(TINY), policy=OFTEN, size=None)
    scene, masks = Clip(WIDE, 9, OFTEN), mask(80, 96, 160, 168)
    state = propagator.write(propagator.start(), propagator.encode(scene.frame(0)), masks, (1,))
    state, _ = propagator.read(state, propagator.encode(scene.frame(1)))
    presence = state.memory.buckets[0].frames[0].value_ntc[0, :, -1].view(10, 20)
    assert presence[5, 10].item() == pytest.approx(0.5, abs=1e-5)
    assert presence.sum().item() == pytest.approx(0.5, abs=1e-4)


def test_a_state_of_another_mode_is_refused():
    exact, fast = (
        NetworkPropagator(hashed_network(TINY), mode=mode, policy=OFTEN, size=None) for mode in ("exact", "fast")
    )
    state = exact.state_dict(followed(exact, 2)[0])
    with pytest.raises(InputError, match="another network or mode"):
        fast.load_state_dict(state)


def test_the_budget_counts_presence():
    exact, fast = (
        NetworkPropagator(hashed_network(TINY), mode=mode, policy=OFTEN, size=None) for mode in ("exact", "fast")
    )
    assert fast.state_bytes(SIZE, objects=3) > exact.state_bytes(SIZE, objects=3)
