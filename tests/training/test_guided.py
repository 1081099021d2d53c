"""The guide of training clips is the one that is made frame by frame."""

import numpy as np
import pytest
import torch

from maskstream.propagation import NetworkConfig, PropagationNetwork
from maskstream.propagation.guide import begin, look
from maskstream.propagation.references import FlowFeatures
from maskstream.training.guided import ClipGuide
from maskstream.training.propagation import PropagationLearner
from maskstream.training.rendered import RenderedClips


@pytest.fixture(scope="module")
def batch():
    return RenderedClips(level="easy", frames=4, size=64, objects=2, seed=3).batch([0, 1])


def test_it_is_what_is_seen_frame_by_frame(batch):
    first_bnhw = (batch.labels_bthw[:, :1] == torch.arange(1, 3)[:, None, None]).float()
    guide = ClipGuide.of(batch, first_bnhw)
    for row in range(2):
        features = [FlowFeatures.of(frame.permute(1, 2, 0).numpy(), (64, 64)) for frame in batch.frames_bt3hw[row]]
        state, masks = begin(features[0], first_bnhw[row]), first_bnhw
        for t in range(1, 4):
            state, expected = look(state, features[t], masks[row])
            found = guide.at(t, masks)
            torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-5)
            masks = found[:, :, 0]


def test_a_guided_network_learns_to_do_better_than_its_guide(batch):
    torch.manual_seed(0)
    learner = PropagationLearner(PropagationNetwork(NetworkConfig.small()), frozen_normalisation=False)
    optimiser = torch.optim.AdamW(learner.parameters(), lr=1e-3)
    losses = []
    for iteration in range(8):
        loss = learner(batch, iteration=iteration, seed=0)["loss"]
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-2:]) < 0.8 * losses[0]
    assert all(p.grad is None or p.grad.isfinite().all() for p in learner.parameters())
