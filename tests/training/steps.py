"""A batch of small clips that is the same on every machine."""

import torch

from maskstream.training.clips import ClipBatch
from tests.propagation.hashed import hashed

SIDE = 64


def step_batch(*, frames=4, samples=2):
    """Patches that move over noise: three objects in the first sample, two in the second, and so on."""
    pictures = hashed("frames", (samples, frames, 3, SIDE, SIDE), 0, 256).to(torch.uint8)
    labels = torch.zeros(samples, frames, SIDE, SIDE, dtype=torch.int64)
    for b in range(samples):
        for t in range(frames):
            for n in range(3 - b):
                top, left = 4 + 18 * n + t, 6 + 14 * (n + b) + 2 * t
                labels[b, t, top : top + 16, left : left + 18] = n + 1
    return ClipBatch(pictures, labels, torch.arange(samples))
