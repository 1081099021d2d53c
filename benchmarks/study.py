"""What studies of several variants and seeds share: training each once, measuring each once, means with intervals."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from scipy import stats

from maskstream.training.recipe import load_recipe
from maskstream.training.run import run_recipe

Scores: TypeAlias = dict[str, float]
"""By metric; fractions, but for times and costs."""


class Journal:
    """Scores that were measured before, and those that are measured now.

    A study's own journal is kept in the repository, beside its tables: so one machine goes on where another stopped,
    without what that one trained.

    Args:
        path: of a file of JSON lines.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self._known: dict[str, Scores] = {one["key"]: one["scores"] for one in map(json.loads, lines)}

    def scores(self, key: object, measured: Callable[[], Scores]) -> Scores:
        """Of a measurement.

        Args:
            key: says what is measured, in all that matters.
            measured: measures it; not called for what is known.
        """
        name = repr(key)
        if name not in self._known:
            self._known[name] = measured()
            with self._path.open("a") as file:
                file.write(json.dumps({"key": name, "scores": self._known[name]}) + "\n")
        return self._known[name]


def trained(recipe: str, settings: Iterable[str], runs: Path, *, name: str, seed: int, steps: int) -> Path:
    """The weights of a variant; trained now if they are not there.

    Args:
        recipe: that is varied.
        settings: as for ``maskstream train``.
        runs: folder of all runs.
        name: of the variant.
        seed: of its run.
        steps: of its run.
    """
    folder = runs / f"{name.replace(' ', '-').replace(',', '')}-{steps}-{seed}"
    given = (f"train.steps={steps}", f"train.seed={seed}", "validate.videos=0", *settings)
    began = time.perf_counter()
    if run_recipe(load_recipe(recipe, given), folder, cpu=True).stopped_by:
        raise SystemExit(f"{folder} is not complete: the same command goes on")
    print(f"{name}, seed {seed}: trained ({time.perf_counter() - began:.0f} s)", flush=True)
    return folder / "weights"


def with_interval(values: Sequence[float]) -> str:
    """Mean ± half of the 95 % interval (Student's t), in percent."""
    mean = 100 * np.mean(values)
    if len(values) < 2:
        return f"{mean:.1f}"
    half = 100 * stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{mean:.1f} ± {half:.1f}"


def gaps(first: Sequence[Scores], second: Sequence[Scores], metric: str) -> list[float]:
    """Second minus first, by seed; what has no seeds is the same for all."""
    count = max(len(first), len(second))
    one, two = (values if len(values) == count else [*values] * count for values in (first, second))
    return [b[metric] - a[metric] for a, b in zip(one, two, strict=True)]


def judged(differences: Sequence[float], published: float) -> str:
    """Whether differences of seeds go the way of the paper's: clearly, by more than two standard deviations."""
    gap = float(np.mean(differences))
    if len(differences) < 2:
        return "one seed: not judged"
    if abs(gap) <= 2 * float(np.std(differences, ddof=1)):
        return "within noise"
    return "as in the paper" if (gap > 0) == (published > 0) else "the other way round"
