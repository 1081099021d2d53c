"""Which protocol scores which data set for which task."""

from __future__ import annotations

from typing import Any

from maskstream.datasets import Dataset, find_dataset
from maskstream.types import InputError, Task

from . import burst, instances, mots, panoptic, referring, saliency, semantic, vos
from .protocol import Options, Protocol

PROTOCOLS: dict[tuple[str, Task], type[Protocol[Any]]] = {
    **panoptic.PROTOCOLS,
    **semantic.PROTOCOLS,
    **instances.PROTOCOLS,
    **burst.PROTOCOLS,
    **mots.PROTOCOLS,
    **vos.PROTOCOLS,
    **referring.PROTOCOLS,
    **saliency.PROTOCOLS,
}
"""By data set and task."""


def task_of(dataset: str, task: Task | None) -> Task:
    """The task that is meant: the one named, or the first that the data set is annotated for.

    Raises:
        InputError: the data set is not annotated for it.
    """
    info = find_dataset(dataset)
    if task is not None and task not in info.tasks:
        raise InputError(
            f"{dataset} is not annotated for {task.value}, but for {', '.join(t.value for t in info.tasks)}"
        )
    return task or info.tasks[0]


def protocol_for(dataset: Dataset, task: Task, options: Options) -> Protocol[Any]:
    """How this data set is scored for this task.

    Raises:
        InputError: nobody has agreed on how.
    """
    protocol = PROTOCOLS.get((dataset.name, task))
    if protocol is None:
        scored = sorted({name for name, _ in PROTOCOLS})
        raise InputError(
            f"there is no agreed way to score {dataset.name} for {task.value}; data sets with one: {', '.join(scored)}"
        )
    return protocol(dataset, task, options)
