"""Optical flow that hears a network."""

import io

import pytest
import torch

from maskstream.propagation.advised import AdvisedPropagator
from maskstream.propagation.flow import FlowPropagator
from maskstream.propagation.network_propagator import NetworkPropagator
from maskstream.types import InputError, resize_masks

from .clips import Clip
from .golden import hashed_network
from .test_averaged import run
from .test_network import TINY, TINY_GUIDED
from .test_network_propagator import OFTEN

SIZE = (48, 80)
SCENE = Clip(SIZE, 9, OFTEN)


@pytest.fixture(scope="module", params=[TINY, TINY_GUIDED], ids=["deva", "guided"])
def parts(request):
    network = NetworkPropagator(hashed_network(request.param), size=32, policy=OFTEN)
    return FlowPropagator(size=48), network


def test_flow_hears_what_the_network_finds_and_the_network_goes_on_from_what_flow_finds(parts):
    flow, network = parts
    state, (first,) = run(AdvisedPropagator(*parts), 1)
    features = flow.encode(SCENE.frame(0)), network.encode(SCENE.frame(0))
    masks = SCENE.masks(0, (3, 1)).float()
    alone = [
        part.write(part.start(), seen, resize_masks(masks, part.size_hw(seen)), (3, 1))
        for part, seen in zip(parts, features, strict=True)
    ]
    seen, pixels = flow.encode(SCENE.frame(1)), network.encode(SCENE.frame(1))
    _, advice = network.read(alone[1], pixels)
    _, expected = flow.read(alone[0], seen, advice=resize_masks(advice, flow.size_hw(seen)))
    torch.testing.assert_close(first, expected)
    carried = network._outside(state[1].last_masks_nhw, pixels)
    torch.testing.assert_close(carried, resize_masks(first[1:], network.size_hw(pixels)))


def test_reading_without_advancing_leaves_both_states_alone(parts):
    advised = AdvisedPropagator(*parts)
    state, _ = run(advised, 2)
    features = advised.encode(SCENE.frame(3))
    same, found = advised.read(state, features, advance=False)
    assert all(a is b for a, b in zip(same, state, strict=True))
    _, expected = advised.read(state, features)
    torch.testing.assert_close(found, expected)


def test_without_objects_everything_is_background(parts):
    advised = AdvisedPropagator(*parts)
    state, found = advised.read(advised.start(), advised.encode(SCENE.frame(0)))
    assert torch.equal(found, torch.ones(1, *SIZE)) and advised.object_ids(state) == ()


def test_aligned_masks_are_advised_too(parts):
    flow, network = parts
    advised, masks = AdvisedPropagator(*parts), SCENE.masks(0, (1, 2)).float()
    source, target = (advised.encode(SCENE.frame(index)) for index in (0, 3))
    pixels, pixels_there = source.network.result(), target.network.result()
    advice = network.align(pixels, resize_masks(masks, network.size_hw(pixels)), pixels_there)
    expected = flow.align(source.flow, masks, target.flow, advice=resize_masks(advice, SIZE))
    torch.testing.assert_close(advised.align(source, masks, target), expected)


def test_objects_are_removed_from_both_and_a_snapshot_continues_the_same(parts):
    advised = AdvisedPropagator(*parts)
    state, _ = run(advised)
    state = advised.remove(state, [3])
    file = io.BytesIO()
    torch.save(advised.state_dict(state), file)
    file.seek(0)
    again = advised.load_state_dict(torch.load(file, weights_only=True))
    _, expected = run(advised, 3, state=state, start=6)
    _, found = run(advised, 3, state=again, start=6)
    assert advised.object_ids(again) == (1,)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_masks_that_correct_a_network_are_of_its_objects(parts):
    _, network = parts
    state, (found,) = run(network, 1)
    with pytest.raises(InputError, match="2 masks of 32×53 are needed"):
        network.corrected(state, found[1:2])
    corrected = network.corrected(state, torch.zeros_like(found[1:]))
    assert not corrected.last_masks_nhw.any() and corrected.object_ids == state.object_ids


def test_what_goes_wrong_beside_flow_is_told_by_whoever_asks(parts):
    flow, network = parts
    advised = AdvisedPropagator(flow, NetworkPropagator(network.network, size=32, policy=OFTEN))
    state, _ = run(advised, 1)
    other = advised.encode(Clip((80, 48), 3, OFTEN).frame(0))
    with pytest.raises(InputError, match="frames must be of one size"):
        advised.read(state, other)
    _, (found,) = run(advised, 1, state=state, start=2)
    _, (expected,) = run(AdvisedPropagator(*parts), 1, state=state, start=2)
    assert torch.equal(found, expected)
