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
those of the frame before. Of masks that are given: optical flow. Of sentences: any thing of the category that is meant.

Tables go to the terminal and to benchmarks/results/univs.md.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from maskstream.metrics import Accumulator, SemanticQuality, VideoInstanceAP, VideoPanopticQuality, boundary_f
from maskstream.metrics.jf import region_similarity
from maskstream.propagation import FlowPropagator
from maskstream.synthetic.scene import WORLD
from maskstream.synthetic.videos import synthetic_videos
from maskstream.synthetic.world import LEVELS, Level
from maskstream.systems.deva import Deva
from maskstream.systems.univs import UniVS, UniVSSettings, load_univs
from maskstream.types import (
    Expression,
    Frame,
    FrameAnnotation,
    FrameSegmentation,
    MaskPrompt,
    Prompt,
    Task,
    TextPrompt,
    VideoSegmenter,
)
from study import Journal, Scores, trained, with_interval

SEED = 4_000_037
"""Of the first video; neither training nor its validation has it."""

SIZE, FRAMES = (128, 224), 24
LEAST_PIXELS = 16
"""What is smaller is not given as a mask."""

WINDOWS = (1, 2, 4, 6)
RESULTS = Path(__file__).parent / "results" / "univs.md"
SCORES = RESULTS.with_suffix(".jsonl")
CATEGORIES, MASKS = (Task.VIS, Task.VSS, Task.VPS), (Task.VOS, Task.PVOS)
TASKS = (*CATEGORIES, *MASKS, Task.REFVOS)

TRAINED: dict[str, tuple[str, ...]] = {
    "default": (),
    "no prompts": ("task.prompting=false",),
    "no ProCA": ("task.proca=false",),
    "sep-blocked": ("task.separation=sep-blocked",),
    "sep-l2p": ("task.separation=sep-l2p",),
    "none": ("task.separation=none",),
}
"""By name, what is changed in the recipe."""

How: TypeAlias = Literal["univs", "frames", "flow", "anyone"]
"""By whom: the system; the same weights frame by frame; optical flow; or any thing of the category."""


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
        label: what it says.
        trained: which network; empty: none.
        tasks: that are measured.
        settings: of inference, for `UniVSSettings`.
        how: by whom.
        paper: what the paper has, for the first task.
    """

    label: str
    trained: str
    tasks: tuple[Task, ...]
    settings: tuple[tuple[str, object], ...] = ()
    how: How = "univs"
    paper: float | None = None


def row(
    label: str,
    *tasks: Task,
    trained: str = "default",
    how: How = "univs",
    paper: float | None = None,
    **settings: object,
) -> Row:
    """A line."""
    return Row(label, trained, tasks, tuple(sorted(settings.items())), how, paper)


TABLES: dict[str, list[Row]] = {
    "One set of weights, six tasks": [
        row("UniVS", *TASKS),
        row("the same frame by frame, linked by overlap", *CATEGORIES, how="frames"),
        row("optical flow", *MASKS, trained="", how="flow"),
        row("anyone of the category", Task.REFVOS, trained="", how="anyone"),
    ],
    "Table 3a: prompts as queries, ProCA": [
        row("learnable queries alone", *CATEGORIES, trained="no prompts", paper=45.9, tracking="similarity"),
        row("+ prompts as queries", *TASKS, trained="no ProCA", paper=39.9),
        row("+ ProCA", *TASKS, paper=52.7),
    ],
    "Table 3b: tracking": [
        row("by similarity", Task.VIS, Task.VPS, paper=50.7, tracking="similarity"),
        row("by prompts", Task.VIS, Task.VPS, paper=52.7),
    ],
    "Table 8: who sees whom": [
        row("a1: prompts see prompts", Task.PVOS, Task.VOS, paper=61.8),
        row("a2: a prompt sees itself", Task.PVOS, Task.VOS, trained="sep-blocked", paper=57.9),
        row("a3: prompts see everything", Task.PVOS, Task.VOS, trained="sep-l2p", paper=48.5),
        row("all see all", Task.PVOS, Task.VOS, trained="none"),
    ],
    "Frames from one look for new objects to the next": [
        row(str(n), Task.VIS, Task.VPS, paper=paper, detect_every=n)
        for n, paper in ((1, 54.8), (3, 54.6), (5, 54.6), (7, 53.0))
    ],
    "Frames of a clip": [row(str(n), *TASKS, frames=n) for n in (1, 3, 5)],
}


@dataclass(frozen=True, eq=False)
class Known:
    """A video with all that is known of it."""

    name: str
    frames: list[Frame]
    truth: list[FrameAnnotation]
    said: list[Expression]

    def ids(self, index: int) -> np.ndarray[Any, np.dtype[np.int32]]:
        """``int32[H, W]``, whose each pixel is."""
        found: np.ndarray[Any, np.dtype[np.int32]] = self.truth[index].segmentation.panoptic_map().numpy()
        return found


@cache
def videos(count: int, level: Level, frames: int) -> list[Known]:
    """The videos that all are measured on."""
    found = []
    for video in synthetic_videos(level=level, seed=SEED, videos=count, frames=frames, size_hw=SIZE):
        read = video.read_image
        assert read is not None
        pictures = [Frame(n, n / 24, read(n)) for n in range(frames)]
        truth = [video.annotation(n) for n in range(frames)]
        found.append(Known(video.name, pictures, truth, list(video.expressions().values())))
    return found


def segmented(
    system: VideoSegmenter, video: Known, task: Task, prompts: Sequence[Prompt] = ()
) -> list[FrameSegmentation]:
    """What a system finds, frame by frame."""
    session = system.start(task, size_hw=SIZE, categories=None if task.is_prompted else WORLD)
    results = []
    for frame in video.frames:
        now = [prompt for prompt in prompts if prompt.frame_index == frame.index]
        if now:
            session.prompt(now)
        results += session.step(frame)
    return [*results, *session.finish()]


def linked(system: VideoSegmenter, video: Known, task: Task) -> list[FrameSegmentation]:
    """What a system finds on each frame alone; objects are those of the frame before that they overlap most."""
    results: list[FrameSegmentation] = []
    last: list[tuple[int, int | None, torch.Tensor]] = []
    born = 0
    for frame in video.frames:
        alone = segmented(system, Known(video.name, [replace(frame, index=0)], [], []), task)[0]
        masks_nhw, segments = alone.masks_nhw(), []
        iou_nm = np.zeros((len(masks_nhw), len(last)))
        for n, (mask_hw, segment) in enumerate(zip(masks_nhw, alone.segments, strict=True)):
            for m, (_, category, before_hw) in enumerate(last):
                if category == segment.category:
                    iou_nm[n, m] = float((mask_hw & before_hw).sum() / (mask_hw | before_hw).sum().clamp(min=1))
        same = {n: last[m][0] for n, m in zip(*linear_sum_assignment(-iou_nm), strict=True) if iou_nm[n, m] > 0.1}
        for n, segment in enumerate(alone.segments):
            if n not in same:
                born += 1
                same[n] = born
            segments.append(replace(segment, id=same[n], track_id=same[n]))
        last = [(one.track_id, one.category, mask_hw) for one, mask_hw in zip(segments, masks_nhw, strict=True)]
        results.append(replace(alone, frame_index=frame.index, segments=tuple(segments)))
    return results


def given_masks(video: Known, task: Task) -> dict[int, MaskPrompt]:
    """Of each object, its mask on the frame on which it is first seen."""
    found: dict[int, MaskPrompt] = {}
    for index, annotation in enumerate(video.truth):
        ids_hw = video.ids(index)
        for segment in annotation.segmentation.segments:
            mask_hw = ids_hw == segment.id
            wanted = segment.is_thing or task is Task.PVOS
            if wanted and segment.id not in found and mask_hw.sum() >= LEAST_PIXELS:
                found[segment.id] = MaskPrompt(
                    index, segment.id, mask_hw, category=segment.category, is_thing=segment.is_thing
                )
    return found


def j_and_f(found: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> float:
    """Mean of region similarity and boundary accuracy."""
    return (region_similarity(found, truth) + boundary_f(found, truth)) / 2


def of_masks(system: VideoSegmenter, count: Sequence[Known], task: Task) -> dict[str, float]:
    """J&F of objects whose first mask is given."""
    values = []
    for video in count:
        given = given_masks(video, task)
        for index, result in enumerate(segmented(system, video, task, list(given.values()))):
            masks = dict(zip([s.track_id for s in result.segments], result.masks_nhw().numpy(), strict=True))
            ids_hw, nothing = video.ids(index), np.zeros(SIZE, np.bool_)
            values += [
                j_and_f(masks.get(number, nothing), ids_hw == number)
                for number, prompt in given.items()
                if index > prompt.frame_index
            ]
    return {"J&F": float(np.mean(values))}


def of_sentences(system: VideoSegmenter | None, count: Sequence[Known]) -> dict[str, float]:
    """J&F of what sentences mean; without a system, of any thing of that category."""
    values, rng = [], np.random.default_rng(SEED)
    for video in count:
        kinds = {s.id: s.category for truth in video.truth for s in truth.segmentation.segments}
        if system is None:
            chosen = [
                int(rng.choice([n for n, kind in kinds.items() if kind == kinds[one.track_ids[0]]]))
                for one in video.said
            ]
            found = [[video.ids(index) == number for number in chosen] for index in range(len(video.frames))]
        else:
            prompts = [TextPrompt(one.text, "expression", str(n)) for n, one in enumerate(video.said)]
            found = []
            for result in segmented(system, video, Task.REFVOS, prompts) if prompts else ():
                by_prompt = dict(zip([s.prompt_id for s in result.segments], result.masks_nhw().numpy(), strict=True))
                found.append([by_prompt.get(str(n), np.zeros(SIZE, np.bool_)) for n in range(len(prompts))])
        for index, masks in enumerate(found):
            ids_hw = video.ids(index)
            values += [j_and_f(mask, ids_hw == one.track_ids[0]) for mask, one in zip(masks, video.said, strict=True)]
    return {"J&F": float(np.mean(values))}


def of_categories(
    system: VideoSegmenter, count: Sequence[Known], task: Task, run: Callable[..., list[FrameSegmentation]]
) -> dict[str, float]:
    """AP, mIoU or VPQ."""
    metrics: dict[Task, tuple[str, str, Accumulator[Any, Any, Any]]] = {
        Task.VIS: ("AP", "AP", VideoInstanceAP(WORLD)),
        Task.VSS: ("mIoU", "mIoU", SemanticQuality(WORLD)),
        Task.VPS: ("VPQ", "VPQ_1246", VideoPanopticQuality(WORLD, windows=WINDOWS)),
    }
    name, key, metric = metrics[task]
    for video in count:
        for index, result in enumerate(run(system, video, task)):
            metric.update(video.name, index, video.truth[index], result)
        metric.end_sequence(video.name)
    return {name: float(metric.result().values[key])}


def measure(weights: Path | None, one: Row, task: Task, count: Sequence[Known]) -> dict[str, float]:
    """Its score on a task, a fraction, and ``ms`` a frame."""
    began = time.perf_counter()
    if one.how == "anyone":
        found = of_sentences(None, count)
    elif one.how == "flow":
        found = of_masks(Deva(FlowPropagator()), count, task)
    else:
        settings = UniVSSettings(**dict(one.settings))  # type: ignore[arg-type]
        if one.how == "frames":
            settings = replace(settings, frames=1)
        system: UniVS = load_univs(str(weights), settings=settings)
        if task in MASKS:
            found = of_masks(system, count, task)
        elif task is Task.REFVOS:
            found = of_sentences(system, count)
        else:
            found = of_categories(system, count, task, linked if one.how == "frames" else segmented)
    frames = sum(len(video.frames) for video in count)
    return {**found, "ms": 1000 * (time.perf_counter() - began) / frames}


Cell: TypeAlias = dict[Task, list[Scores]]
"""Scores of each seed, by task."""


def scores_of(options: argparse.Namespace, weights: Callable[[str, int], Path]) -> Iterator[tuple[str, Row, Cell]]:
    """Table, row, and scores."""
    journal = Journal(options.scores)
    place = (options.videos, options.level, options.frames)
    for table, rows in TABLES.items():
        for one in rows:
            if options.only and one.trained and one.trained not in options.only:
                continue
            cell: Cell = {}
            for task in one.tasks:
                if options.tasks and task.value not in options.tasks:
                    continue
                for seed in options.seeds if one.trained else options.seeds[:1]:
                    made = (one.trained, seed, str(options.weights or options.steps)) if one.trained else ()

                    def measured(one: Row = one, task: Task = task, seed: int = seed) -> Scores:
                        network = weights(one.trained, seed) if one.trained else None
                        return measure(network, one, task, videos(*place))

                    key = (made, one.how, one.settings, task.value, *place)
                    cell.setdefault(task, []).append(journal.scores(key, measured))
            if cell:
                yield table, one, cell


def lines_of(table: str, rows: Sequence[tuple[Row, Cell]]) -> list[str]:
    """A table."""
    tasks = [task for task in TASKS if any(task in cell for _, cell in rows)]
    names = {
        task: next(name for _, cell in rows if task in cell for name in cell[task][0] if name != "ms") for task in tasks
    }
    head = [f"{task.value}, {names[task]}" for task in tasks]
    found = [f"## {table}", "", f"| | {' | '.join(head)} | paper | ms |", "|---" * (len(tasks) + 3) + "|"]
    for one, cell in rows:
        cells = [with_interval([score[names[t]] for score in cell[t]]) if t in cell else "" for t in tasks]
        paper = "" if one.paper is None else f"{one.paper:.1f} ({one.tasks[0].value})"
        ms = np.median([score["ms"] for scores in cell.values() for score in scores])
        found.append(f"| {one.label} | {' | '.join(cells)} | {paper} | {ms:.0f} |")
    return [*found, ""]


def main() -> None:
    """Train, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="folder of runs")
    parser.add_argument("--core", default="core-tiny", help="weights that all begin from")
    parser.add_argument("--weights", type=Path, help="of the default network, instead of training any")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--videos", type=int, default=8)
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--level", default="medium", choices=LEVELS)
    parser.add_argument("--only", nargs="+", choices=list(TRAINED), help="variants that are trained and measured")
    parser.add_argument("--tasks", nargs="+", choices=[task.value for task in TASKS])
    parser.add_argument("--scores", type=Path, help="what was measured before; of --weights: scores.jsonl of the runs")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.weights is not None:
        options.only, options.seeds = ["default"], [0]
    options.scores = options.scores or (SCORES if options.weights is None else options.runs / "scores.jsonl")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    options.runs.mkdir(parents=True, exist_ok=True)

    @cache
    def weights(name: str, seed: int) -> Path:
        if options.weights is not None:
            return Path(options.weights)
        ema = 0.98 if options.steps < 1000 else 0.995
        settings = (f"train.ema={ema}", f"model.init={options.core}", *TRAINED[name])
        return trained("univs-tiny", settings, options.runs, name=name, seed=seed, steps=options.steps)

    tables: dict[str, list[tuple[Row, Cell]]] = {}
    for table, one, cell in scores_of(options, weights):
        tables.setdefault(table, []).append((one, cell))
        said = (f"{t.value} {np.mean([next(iter(s.values())) for s in scores]):.3f}" for t, scores in cell.items())
        print(f"{table} | {one.label} | " + ", ".join(said), flush=True)
    begun = options.weights or f"{options.steps} steps from {Path(options.core).name}, seeds: {len(options.seeds)}"
    lines = [
        "# UniVS on the synthetic world",
        "",
        f"`python benchmarks/univs.py`: {options.videos} videos of {options.frames} frames, {SIZE[0]}×{SIZE[1]}, level "
        f"{options.level}; {begun}. Percent; ms a frame with one thread of whatever machine it was. Numbers of the "
        "paper are of other videos: R50, YouTube-VIS 2021 for vis, VIPOSeg for pvos.",
        "",
    ]
    text = "\n".join([*lines, *(line for table, rows in tables.items() for line in lines_of(table, rows))])
    options.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
