"""`maskstream.load` with a trained network."""

import numpy as np
import pytest

import maskstream
from maskstream.propagation.advised import AdvisedPropagator
from maskstream.propagation.flow import FlowPropagator
from maskstream.propagation.network import save_pretrained
from maskstream.propagation.network_propagator import NetworkPropagator
from maskstream.synthetic import render_sample
from maskstream.systems.deva import Deva
from maskstream.types import InputError, MaskPrompt

from .golden import hashed_network
from .test_network import TINY

SIZE = (64, 96)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint."""
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    save_pretrained(hashed_network(TINY), folder)
    return folder


def test_a_folder_of_ours_is_a_propagator(folder):
    images = np.stack([frame.image for frame, _ in render_sample(frames=12, size_hw=SIZE, objects=2)])
    model = maskstream.load(propagator=str(folder), size=64)
    mask = np.zeros(SIZE, dtype=bool)
    mask[20:40, 30:60] = True
    results = list(maskstream.segment(images, model=model, prompts=[MaskPrompt(0, 4, mask)]))
    assert len(results) == 12
    assert np.array_equal(results[0].masks_nhw()[0].numpy(), mask)
    assert [segment.track_id for segment in results[-1].segments] == [4]


@pytest.mark.parametrize("options, mode", [({}, "fast"), ({"exact": True}, "exact")])
def test_it_is_fast_unless_it_has_to_be_exact(folder, options, mode):
    model = maskstream.load(propagator=str(folder), **options)
    assert isinstance(model, Deva)
    assert isinstance(model.propagator, NetworkPropagator)
    assert model.propagator.mode == mode


def test_a_network_of_the_package_advises_flow_unless_something_else_is_asked_for():
    model = maskstream.load()
    assert isinstance(model, Deva)
    assert isinstance(model.propagator, AdvisedPropagator)
    assert model.propagator.flow.size == 480 and model.propagator.network.size == 288
    alone = maskstream.load(propagator="flow")
    assert isinstance(alone, Deva) and isinstance(alone.propagator, FlowPropagator)


def test_a_network_after_flow_advises_it(folder):
    for size, looked_at in ((96, 96), (720, 480), (None, 480)):
        model = maskstream.load(propagator=f"flow+{folder}", size=size)
        assert isinstance(model, Deva)
        assert isinstance(model.propagator, AdvisedPropagator)
        assert model.propagator.flow.size == (size or 480)
        assert model.propagator.network.size == looked_at
    with pytest.raises(InputError, match="flip is for trained propagators alone"):
        maskstream.load(propagator=f"flow+{folder}", flip=True)


@pytest.mark.parametrize(
    "name, content, message",
    [
        pytest.param("nowhere.pth", None, "known: flow, .*or the path of weights", id="no such file"),
        pytest.param("weights.pth", b"not weights", "no PyTorch checkpoint", id="no checkpoint"),
    ],
)
def test_what_is_no_propagator_is_refused(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        maskstream.load(propagator=str(tmp_path / name))


def test_an_empty_folder_is_no_propagator(tmp_path):
    with pytest.raises(InputError, match="config"):
        maskstream.load(propagator=str(tmp_path))
