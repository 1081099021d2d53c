"""One set of weights, targets as queries: what TarViS and its parts are worth on videos of the synthetic world.

    python benchmarks/tarvis.py --runs runs/tarvis [--seeds 0 1 2] [--steps 1200] [--videos 8] [--level medium]
    python benchmarks/tarvis.py --runs runs/tarvis --only default --tasks vos    # one variant, one task: a first look
    python benchmarks/tarvis.py --runs runs/tarvis --weights WEIGHTS             # of weights that are there

Every variant of the recipe ``tarvis-tiny`` is trained, each with several seeds, into a folder of its own under
``--runs``; what is complete there is not trained again, and what was interrupted goes on. Then each is measured, task
by task, on the same videos, which none was trained on; what was measured already is kept in
benchmarks/results/tarvis.jsonl and not done again, nor trained for; ``--scores`` names another file.
Numbers are percent: mean over seeds ± half of the 95 % interval (Student's t). vis: AP, vss: mIoU, vps: VPQ of windows
1, 2, 4 and 6; vos and pet: mean of J and F over objects and frames, but those on which a mask or point was given.
Tables of how one asks are of the first seed.

Baselines. Of categories: the same weights frame by frame (clips of one frame), objects linked by the overlap of their
masks with those of the frame before. Of masks: optical flow. Of points: GrabCut around the point, then optical flow.

Tables go to the terminal and to benchmarks/results/tarvis.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from maskstream.propagation import FlowPropagator
from maskstream.segmenters import GrabCutSegmenter
from maskstream.systems.deva import Deva
from maskstream.systems.tarvis import TarViSSettings, load_tarvis
from maskstream.types import Task
from tasks import (
    Known,
    Row,
    Study,
    Variant,
    given_masks,
    given_points,
    linked,
    of_categories,
    of_prompts,
    row,
    segmented,
)

CATEGORIES, PROMPTS = ("vis", "vps", "vss"), ("vos", "pet")
TASKS = (*CATEGORIES, *PROMPTS)

TRAINED: dict[str, Variant] = {
    "default": Variant(),
    "no background": Variant(("task.grid=false",)),
    "one query": Variant(("task.object_queries=1",)),
}
"""By name."""

TABLES: dict[str, list[Row]] = {
    "One set of weights": [
        row("TarViS", *TASKS),
        row("the same frame by frame, linked by overlap", *CATEGORIES, how="frames"),
        row("optical flow; of points from GrabCut", *PROMPTS, trained="", how="flow"),
    ],
    "Queries of objects (supplement)": [
        row("none of the background", "vos", "pet", trained="no background", paper=78.0),
        row("one of an object", "vos", "pet", trained="one query", paper=80.6),
        row("four of an object, and of the background", "vos", "pet", paper=81.5),
    ],
    "Clips": [
        row(
            f"{frames} frames, {overlap} of them shared",
            "vis",
            "vps",
            *PROMPTS,
            frames=frames,
            overlap=overlap,
            seeds=1,
        )
        for frames, overlap in ((1, 0), (3, 1), (6, 0), (6, 3), (6, 5), (12, 6))
    ],
    "What carries objects to the next clip": [
        row("queries", "vos", "pet", carry="queries", seeds=1),
        row("masks, encoded anew (as published)", "vos", "pet", carry="masks", seeds=1),
        row("both", "vos", "pet", carry="both", seeds=1),
    ],
    "What two clips see": [
        row("of instances the first clip's masks, as published", "vis", "vps", seeds=1),
        row("means", "vis", "vps", average=True, seeds=1),
    ],
}


def measure(weights: Path | None, one: Row, task: str, count: Sequence[Known]) -> dict[str, float]:
    """Its score on a task, a fraction."""
    given = given_points if task == "pet" else given_masks
    if one.how == "flow":
        return of_prompts(Deva(FlowPropagator(), prompter=GrabCutSegmenter()), count, Task.VOS, given)
    settings = TarViSSettings(**dict(one.settings))  # type: ignore[arg-type]
    if one.how == "frames":
        settings = replace(settings, frames=1, overlap=0)
    system = load_tarvis(str(weights), settings=settings)
    if task in PROMPTS:
        return of_prompts(system, count, Task.VOS, given)
    return of_categories(system, count, Task(task), linked if one.how == "frames" else segmented)


STUDY = Study(
    about=__doc__,
    title="TarViS on the synthetic world",
    recipe="tarvis-tiny",
    variants=TRAINED,
    tables=TABLES,
    measure=measure,
    results=Path(__file__).parent / "results" / "tarvis.md",
    note="Numbers of the paper are J&F of DAVIS, from its supplement.",
)

if __name__ == "__main__":
    STUDY.main()
