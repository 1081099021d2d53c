"""Averaging over propagators: mirrored, and of several sizes."""

import io

import pytest
import torch

from maskstream.propagation.averaged import AveragedPropagator
from maskstream.propagation.network_propagator import NetworkPropagator
from maskstream.types import InputError, resize_masks

from .clips import Clip
from .golden import hashed_network
from .test_network import TINY
from .test_network_propagator import OFTEN

SIZE = (48, 80)
SCENE = Clip(SIZE, 9, OFTEN)


@pytest.fixture(scope="module")
def parts():
    network = hashed_network(TINY)
    options = ({"size": None}, {"size": None, "mirror": True}, {"size": 64})
    return [NetworkPropagator(network, policy=OFTEN, **option) for option in options]


def run(propagator, frames=5, *, state=None, start=1):
    if state is None:
        features = propagator.encode(SCENE.frame(0))
        masks = resize_masks(SCENE.masks(0, (3, 1)), propagator.size_hw(features))
        state = propagator.write(propagator.start(), features, masks, (3, 1))
    found = []
    for index in range(start, start + frames):
        state, probabilities = propagator.read(state, propagator.encode(SCENE.frame(index)))
        found.append(probabilities)
    return state, found


def test_what_is_found_is_the_mean_of_what_each_finds_alone(parts):
    state, found = run(AveragedPropagator(parts))
    alone = [run(part)[1] for part in parts]
    for n, probabilities in enumerate(found):
        expected = sum(resize_masks(each[n], SIZE) for each in alone) / 3
        torch.testing.assert_close(probabilities, expected)
        torch.testing.assert_close(probabilities.sum(dim=0), torch.ones(SIZE), rtol=0, atol=1e-5)
    assert AveragedPropagator(parts).object_ids(state) == (3, 1)


def test_masks_are_aligned_by_all(parts):
    averaged, masks = AveragedPropagator(parts), SCENE.masks(0, (1, 2)).float()
    source, target = (averaged.encode(SCENE.frame(index)) for index in (0, 3))
    alone = [
        part.align(s, resize_masks(masks, part.size_hw(s)), t) for part, s, t in zip(parts, source, target, strict=True)
    ]
    expected = sum(resize_masks(each, SIZE) for each in alone) / 3
    torch.testing.assert_close(averaged.align(source, masks, target), expected)


def test_objects_are_removed_from_all_and_a_snapshot_continues_the_same(parts):
    averaged = AveragedPropagator(parts)
    state, _ = run(averaged)
    state = averaged.remove(state, [3])
    file = io.BytesIO()
    torch.save(averaged.state_dict(state), file)
    file.seek(0)
    again = averaged.load_state_dict(torch.load(file, weights_only=True))
    _, expected = run(averaged, 3, state=state, start=6)
    _, found = run(averaged, 3, state=again, start=6)
    assert averaged.object_ids(again) == (1,)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_nothing_cannot_be_averaged():
    with pytest.raises(InputError, match="at least one"):
        AveragedPropagator([])
