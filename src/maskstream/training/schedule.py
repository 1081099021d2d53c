"""Numbers that follow from the iteration: the learning rate, and the state of what is random."""

from __future__ import annotations

import math

import numpy as np

from .recipe import TrainRecipe

_POWER = 0.9


def learning_rate(train: TrainRecipe, iteration: int) -> float:
    """Of an iteration, from 0: linear warm-up, then the schedule; see `TrainRecipe`."""
    rate = train.lr * min(1.0, (iteration + 1) / (train.warmup + 1))
    if train.schedule == "step":
        rate *= train.gamma ** sum(iteration >= milestone for milestone in train.milestones)
    elif train.schedule == "cosine":
        after = max(0, iteration - train.warmup) / max(1, train.steps - train.warmup)
        rate *= (1 + math.cos(math.pi * min(1.0, after))) / 2
    elif train.schedule == "poly":
        rate *= max(0.0, 1 - iteration / train.steps) ** _POWER
    return rate


def mixed(seed: int, number: int) -> int:
    """A seed of 63 bits for each number: of an iteration, for torch."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0] >> np.uint64(1))
