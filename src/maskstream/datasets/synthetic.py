"""Synthetic data sets by name: rendered once, kept in the cache, and read like the benchmark whose layout they have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from maskstream.files import cache_folder
from maskstream.types import Task

from .dataset import DatasetInfo

BENCHMARK_OF: dict[Task, str] = {
    Task.VOS: "davis-2017",
    Task.UVOS: "davis-2017-unsupervised",
    Task.VIS: "ytvis-2021",
    Task.VPS: "vipseg",
    Task.VSS: "vspw",
    Task.REFVOS: "ref-ytvos",
    Task.PET: "burst",
    Task.OWVS: "burst",
    Task.PVOS: "viposeg",
}
"""The benchmark whose layout and metric the synthetic set of a task has."""


def is_synthetic(name: str) -> bool:
    """Whether this is meant to be the name of a synthetic data set."""
    return name.startswith("synthetic-")


def layout_of(name: str) -> str:
    """The benchmark whose layout and metric a data set has: its own, but for synthetic ones.

    Raises:
        InputError: it is meant to be synthetic, but is no such name.
    """
    if not is_synthetic(name):
        return name
    from maskstream.synthetic.named import named_set

    return BENCHMARK_OF[named_set(name).task]


def synthetic_info(name: str, benchmarks: dict[str, DatasetInfo]) -> DatasetInfo:
    """What is known of a synthetic data set.

    Args:
        name: such as "synthetic-vos:v1-medium-seed0".
        benchmarks: the data sets by name.

    Raises:
        InputError: it is no such name, or of another version of the world.
    """
    from maskstream.synthetic.named import FRAMES, SIZE, VIDEOS, named_set

    task = named_set(name).task
    model = benchmarks[BENCHMARK_OF[task]]
    return replace(
        model,
        name=name,
        title=f"synthetic video for {task.value}",
        tasks=(task,),
        splits=model.splits[:1],
        home="docs/synthetic.md",
        licence="Apache-2.0, as the program that renders it",
        about=f"{VIDEOS} rendered videos of {FRAMES} frames of {SIZE[0]}×{SIZE[1]}, every frame annotated.",
        notes=(f"Laid out and scored as {model.name}; without a root it is rendered once and kept in the cache.",),
    )


def cached_folder(name: str) -> Path:
    """Where the cache has a synthetic data set, or will have it."""
    return cache_folder() / "synthetic" / name.replace(":", "-")


def rendered_folder(name: str, *, on_frame: Callable[[int], None] | None = None) -> Path:
    """The folder of a synthetic data set in the cache; it is rendered if it is not there.

    Args:
        name: such as "synthetic-vos:v1-medium-seed0".
        on_frame: called after every frame that is rendered with how many there are.

    Raises:
        InputError: it is no such name.
        OutputError: the cache cannot be written.
    """
    from maskstream.synthetic.layouts import write_dataset
    from maskstream.synthetic.named import named_set

    wanted = named_set(name)
    folder = cached_folder(name)
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_dataset(folder, wanted.task, wanted.videos(on_frame=on_frame))
    return folder
