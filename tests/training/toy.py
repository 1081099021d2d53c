"""A model that is trained in no time: a line through points, with chance and statistics in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from maskstream.training.loop import Progress, accelerator_for, train
from maskstream.training.recipe import CheckpointRecipe, DataRecipe, Recipe, SourceRecipe, TrainRecipe, ValidateRecipe
from maskstream.training.signals import leave

ROOT = Path(__file__).parents[2]
WIDTH = 6


class ToyLearner(nn.Module):
    """Dropout and batch normalisation between two linear maps."""

    def __init__(self, *, chance: float = 0.2, statistics: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.into = nn.Linear(WIDTH, 16)
        self.norm = nn.BatchNorm1d(16) if statistics else nn.Identity()
        self.drop = nn.Dropout(chance)
        self.out = nn.Linear(16, 1)
        self.unused = nn.Linear(2, 2)
        self.validations = 0

    def forward(self, batch: Tensor, *, iteration: int, seed: int) -> Mapping[str, Tensor]:
        error = self.out(self.drop(torch.relu(self.norm(self.into(batch))))) - batch.sum(1, keepdim=True)
        square = error.square().mean()
        return {"loss": square + 1e-4 * iteration, "absolute": error.abs().mean().detach()}

    def validate(self) -> Mapping[str, float]:
        assert not self.training
        torch.rand(3)  # as a careless model does
        return {"score": float(self.out.weight.mean())}

    def strip(self, batch: Tensor) -> NDArray[np.uint8]:
        return np.zeros((4, len(batch), 3), np.uint8)

    def save(self, folder: Path) -> None:
        torch.save(self.state_dict(), folder)


def samples(numbers: list[int], seed: int) -> Tensor:
    return torch.stack(
        [torch.from_numpy(np.random.default_rng([seed, number]).normal(size=WIDTH)) for number in numbers]
    ).float()


def toy_batches(recipe: Recipe, *, process: int = 0, processes: int = 1) -> Callable[[int], Iterator[Tensor]]:
    plan = recipe.train
    size = plan.batch // processes // plan.accumulate

    def batches(start: int) -> Iterator[Tensor]:
        for iteration in range(start, plan.steps):
            first = iteration * plan.batch + process * size * plan.accumulate
            for part in range(plan.accumulate):
                yield samples([first + part * size + n for n in range(size)], plan.seed)

    return batches


def toy_recipe(**settings: object) -> Recipe:
    train_settings = TrainRecipe(steps=12, batch=4, lr=0.01, schedule="cosine", warmup=2, seed=5)
    return Recipe(
        about="a toy",
        data=DataRecipe(sources=(SourceRecipe(name="synthetic"),)),
        train=replace(train_settings, **settings),  # type: ignore[arg-type]
        checkpoint=CheckpointRecipe(every=4),
        validate=ValidateRecipe(every=3),
    )


def toy_run(
    recipe: Recipe,
    folder: Path,
    *,
    learner: ToyLearner | None = None,
    on_step: Callable[[Progress], None] = lambda _: None,
    board: bool = False,
) -> tuple[ToyLearner, Progress]:
    accelerator = accelerator_for(recipe.train, cpu=True)
    batches = toy_batches(recipe, process=accelerator.process_index, processes=accelerator.num_processes)
    best, progress = train(
        learner or ToyLearner(), batches, recipe, folder, accelerator=accelerator, on_step=on_step, board=board
    )
    assert isinstance(best, ToyLearner)
    return best, progress


def run_twice(*words: str) -> None:
    """Run a module in two processes that share their batches, on the CPU of this machine."""
    launch = ["torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", "2"]
    loopback = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    subprocess.run(
        [sys.executable, "-m", *launch, "-m", *words],
        cwd=ROOT,
        env={**os.environ, **loopback, "ACCELERATE_USE_CPU": "true"},
        check=True,
        timeout=240,
    )


if __name__ == "__main__":  # a run of its own, that another process kills or launches twice
    folder, settings, statistics = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3] == "statistics"
    chance = 0.2 if statistics else 0.0
    learner = ToyLearner(chance=chance, statistics=statistics)

    def report(progress: Progress) -> None:
        print(progress.done, flush=True)  # noqa: T201

    toy_run(toy_recipe(**settings), folder, learner=learner, on_step=report)
    leave(0)
