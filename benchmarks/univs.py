"""One set of weights for six tasks: what UniVS and its parts are worth on videos of the synthetic world.

    python benchmarks/univs.py --runs runs/univs [--seeds 0 1 2] [--steps 1200] [--videos 8] [--level medium]
    python benchmarks/univs.py --runs runs/univs --only default --tasks vos    # one variant, one task: a first look
    python benchmarks/univs.py --runs runs/univs --weights WEIGHTS             # of weights that are there

Every variant of the recipe ``univs-tiny`` is trained, each with several seeds, into a folder of its own under
``--runs``; what is complete there is not trained again, and what was interrupted goes on. Then each is measured, task
by task, on the same videos, which none was trained on; what was measured already is kept in
benchmarks/results/univs.jsonl and not done again, nor trained for; ``--scores`` names another file.
Numbers are percent: mean over seeds ± half of the 95 % interval (Student's t). vis: AP, vss: mIoU, vps: VPQ of windows
1, 2, 4 and 6; vos, pvos and refvos: mean of J and F over objects and frames, but those on which a mask was given.

Baselines. Of the categories: the same weights frame by frame (T = 1), objects linked by the overlap of their masks with
those of the frame before. Of masks that are given: optical flow. Of sentences: any object that the same weights find
and that is what the sentence names (the mean of all such).
Frames of a clip are of the first seed.

Tables go to the terminal and to benchmarks/results/univs.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from maskstream.propagation import FlowPropagator
from maskstream.synthetic.expressions import ANIMALS, VEHICLES
from maskstream.synthetic.scene import WORLD
from maskstream.systems.deva import Deva
from maskstream.systems.univs import UniVS, UniVSSettings, load_univs
from maskstream.types import Task, TextPrompt, VideoSegmenter
from tasks import SIZE, Known, Row, Study, Variant, j_and_f, linked, of_categories, of_prompts, row, segmented

CATEGORIES, MASKS = ("vis", "vss", "vps"), ("vos", "pvos")
TASKS = (*CATEGORIES, *MASKS, "refvos")
SOME = ("vis", "vps", "vos", "refvos")

STAGE_3 = (
    "model.frozen=pixels", "task.frames=5", "task.tubes=2", "task.overlap=1", "task.window=3", "train.lr=1e-4",
    "train.warmup=10",
)  # fmt: skip
"""Clips that follow each other (§4.1)."""

TRAINED: dict[str, Variant] = {
    "default": Variant(),
    "short": Variant(part=0.25),
    "no prompts": Variant(("task.prompting=false",), part=0.25),
    "no ProCA": Variant(("task.proca=false",), part=0.25),
    "sep-blocked": Variant(("task.separation=sep-blocked",), part=0.25),
    "sep-l2p": Variant(("task.separation=sep-l2p",), part=0.25),
    "stage 3": Variant(STAGE_3, part=0.125, goes_on=True),
}
"""By name. Parts of the method are left out of networks that are trained a quarter as long."""

TABLES: dict[str, list[Row]] = {
    "One set of weights, six tasks": [
        row("UniVS", *TASKS),
        row("the same frame by frame, linked by overlap", *CATEGORIES, how="frames"),
        row("optical flow", *MASKS, trained="", how="flow"),
        row("any object that is found and has that noun", "refvos", how="anyone"),
    ],
    "Table 3a: prompts as queries, ProCA": [
        row("learnable queries alone", "vis", "vps", trained="no prompts", paper=45.9, tracking="similarity"),
        row("+ prompts as queries", *SOME, trained="no ProCA", paper=39.9),
        row("+ ProCA", *SOME, trained="short", paper=52.7),
    ],
    "Table 3b: tracking": [
        row("by similarity", "vis", "vps", paper=50.7, tracking="similarity"),
        row("by prompts", "vis", "vps", paper=52.7),
    ],
    "Table 8: who sees whom": [
        row("a1: prompts see prompts", "pvos", trained="short", paper=61.8),
        row("a2: a prompt sees itself", "pvos", trained="sep-blocked", paper=57.9),
        row("a3: prompts see everything", "pvos", trained="sep-l2p", paper=48.5),
    ],
    "Table 7: stage 3, of two clips that follow each other": [
        row("two stages", *SOME, paper=52.7),
        row("+ the third", *SOME, trained="stage 3", paper=54.7),
    ],
    "Frames from one look for new objects to the next": [
        row("1", "vis", "vps", paper=54.8),
        *(row(str(n), "vis", "vps", paper=paper, detect_every=n) for n, paper in ((3, 54.6), (5, 54.6), (7, 53.0))),
    ],
    "Frames of a clip": [
        row("1", *SOME, frames=1, seeds=1),
        row("3, as in training", *SOME, seeds=1),
        row("5", *SOME, frames=5, seeds=1),
    ],
}


def named(text: str) -> set[int]:
    """Categories that the noun of a sentence may mean; its first noun is that of what is meant."""
    nouns = {name: frozenset({name}) for name in WORLD.names}
    nouns |= {
        "animal": ANIMALS,
        "vehicle": VEHICLES,
        "thing": frozenset(one.name for one in WORLD.categories if one.is_thing),
    }
    noun = next(nouns[word] for word in text.split() if word in nouns)
    return {one.id for one in WORLD.categories if one.name in noun}


def of_sentences(system: VideoSegmenter, count: Sequence[Known], *, anyone: bool = False) -> dict[str, float]:
    """J&F of what sentences mean; with ``anyone``, the mean of all objects that are found and are what they name."""
    values = []
    for video in filter(lambda video: video.said, count):
        if anyone:
            results = segmented(system, video, Task.VPS)
            tracks = sorted({(s.track_id, s.category or 0) for result in results for s in result.segments})
            meant = [[t for t, category in tracks if category in named(one.text)] for one in video.said]
            places = [{s.track_id: n for n, s in enumerate(result.segments)} for result in results]
        else:
            prompts = [TextPrompt(one.text, "expression", str(n)) for n, one in enumerate(video.said)]
            results = segmented(system, video, Task.REFVOS, prompts)
            meant = [[n] for n in range(len(prompts))]
            places = [{int(s.prompt_id or 0): n for n, s in enumerate(result.segments)} for result in results]
        for index, (result, place) in enumerate(zip(results, places, strict=True)):
            masks_nhw, ids_hw, nothing = result.masks_nhw().numpy(), video.ids(index), np.zeros(SIZE, np.bool_)
            for keys, one in zip(meant, video.said, strict=True):
                found = [masks_nhw[place[key]] if key in place else nothing for key in keys] or [nothing]
                values.append(np.mean([j_and_f(mask_hw, ids_hw == one.track_ids[0]) for mask_hw in found]))
    return {"J&F": float(np.mean(values))}


def measure(weights: Path | None, one: Row, task: str, count: Sequence[Known]) -> dict[str, float]:
    """Its score on a task, a fraction."""
    if one.how == "flow":
        return of_prompts(Deva(FlowPropagator()), count, Task(task))
    settings = UniVSSettings(**dict(one.settings))  # type: ignore[arg-type]
    if one.how == "frames":
        settings = replace(settings, frames=1)
    system: UniVS = load_univs(str(weights), settings=settings)
    if task in MASKS:
        return of_prompts(system, count, Task(task))
    if task == "refvos":
        return of_sentences(system, count, anyone=one.how == "anyone")
    return of_categories(system, count, Task(task), linked if one.how == "frames" else segmented)


STUDY = Study(
    about=__doc__,
    title="UniVS on the synthetic world",
    recipe="univs-tiny",
    variants=TRAINED,
    tables=TABLES,
    measure=measure,
    results=Path(__file__).parent / "results" / "univs.md",
    note="Networks of Tables 3a and 8 are trained a quarter as long, the third stage an eighth. Numbers of the paper "
    "are of other videos: R50, YouTube-VIS 2021 for vis, VIPOSeg for pvos.",
)

if __name__ == "__main__":
    STUDY.main()
