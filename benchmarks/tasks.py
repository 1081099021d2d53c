"""What studies of one network for many tasks share: videos, baselines, and what is measured of each task."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from scipy.optimize import linear_sum_assignment

from maskstream.metrics import Accumulator, SemanticQuality, VideoInstanceAP, VideoPanopticQuality, boundary_f
from maskstream.metrics.jf import region_similarity
from maskstream.synthetic.scene import WORLD
from maskstream.synthetic.videos import synthetic_videos
from maskstream.synthetic.world import LEVELS, Level
from maskstream.types import (
    Expression,
    Frame,
    FrameAnnotation,
    FrameSegmentation,
    MaskPrompt,
    ObjectPrompt,
    PointPrompt,
    Prompt,
    Task,
    VideoSegmenter,
)
from study import Journal, Scores, trained, with_interval

SEED = 4_000_037
"""Of the first video; neither training nor its validation has it."""

SIZE = (128, 224)
LEAST_PIXELS = 16
"""What is smaller is not given."""

WINDOWS = (1, 2, 4, 6)


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
                    index, segment.id, torch.from_numpy(mask_hw), category=segment.category, is_thing=segment.is_thing
                )
    return found


Given: TypeAlias = Callable[[Known, Task], Mapping[int, ObjectPrompt]]
"""How objects are pointed out, by number."""


def j_and_f(found: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> float:
    """Mean of region similarity and boundary accuracy."""
    return (region_similarity(found, truth) + boundary_f(found, truth)) / 2


def given_points(video: Known, task: Task) -> dict[int, PointPrompt]:
    """Of each object, the point deepest inside it on the frame on which it is first seen."""
    found = {}
    for number, prompt in given_masks(video, task).items():
        depth_hw = distance_transform_edt(np.pad(prompt.mask.numpy(), 1))[1:-1, 1:-1]
        y, x = np.unravel_index(int(depth_hw.argmax()), depth_hw.shape)
        found[number] = PointPrompt(prompt.frame_index, number, ((float(x), float(y)),))
    return found


def of_prompts(
    system: VideoSegmenter, count: Sequence[Known], task: Task, given_in: Given = given_masks
) -> dict[str, float]:
    """J&F of objects that are given on their first frame, on the frames after it."""
    values = []
    for video in count:
        given = given_in(video, task)
        for index, result in enumerate(segmented(system, video, task, list(given.values()))):
            masks = dict(zip([s.track_id for s in result.segments], result.masks_nhw().numpy(), strict=True))
            ids_hw, nothing = video.ids(index), np.zeros(SIZE, np.bool_)
            values += [
                j_and_f(masks.get(number, nothing), ids_hw == number)
                for number, prompt in given.items()
                if index > prompt.frame_index
            ]
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


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
        label: what it says.
        trained: which network; empty: none.
        tasks: that are measured.
        settings: of inference.
        how: by whom: by the system (empty), or by what a study compares it with.
        paper: what the paper has, for the first task.
        seeds: at most so many are measured.
    """

    label: str
    trained: str
    tasks: tuple[str, ...]
    settings: tuple[tuple[str, object], ...] = ()
    how: str = ""
    paper: float | None = None
    seeds: int | None = None


def row(
    label: str,
    *tasks: str,
    trained: str = "default",
    how: str = "",
    paper: float | None = None,
    seeds: int | None = None,
    **settings: object,
) -> Row:
    """A line; what is not trained has one seed."""
    return Row(label, trained, tasks, tuple(sorted(settings.items())), how, paper, seeds if trained else 1)


@dataclass(frozen=True)
class Variant:
    """A network that is trained.

    Attributes:
        changes: in the recipe.
        part: of the steps of the study.
        goes_on: from the weights of "default", trained with the same seed.
    """

    changes: tuple[str, ...] = ()
    part: float = 1.0
    goes_on: bool = False


Cell: TypeAlias = dict[str, list[Scores]]
"""Scores of each seed, by task."""


@dataclass(frozen=True)
class Study:
    """One network for many tasks, its variants, and what they are compared with.

    Attributes:
        about: what the command says of itself.
        title: of the tables.
        recipe: that is varied.
        variants: by name; "default" is first.
        tables: what is measured.
        measure: of weights (None: there are none), a line and a task, on videos: its score, a fraction.
        results: file of the tables; that of scores lies beside it.
        note: what else is to be said of the numbers.
        steps: of a run.
        frames: of a video.
    """

    about: str
    title: str
    recipe: str
    variants: Mapping[str, Variant]
    tables: Mapping[str, Sequence[Row]]
    measure: Callable[[Path | None, Row, str, Sequence[Known]], dict[str, float]]
    results: Path
    note: str
    steps: int = 1200
    frames: int = 24

    def main(self) -> None:
        """Train, measure and write."""
        tasks = list(dict.fromkeys(task for rows in self.tables.values() for one in rows for task in one.tasks))
        parser = argparse.ArgumentParser(description=self.about, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--runs", type=Path, required=True, help="folder of runs")
        parser.add_argument("--core", default="core-tiny", help="weights that all begin from")
        parser.add_argument("--weights", type=Path, help="of the default network, instead of training any")
        parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
        parser.add_argument("--steps", type=int, default=self.steps)
        parser.add_argument("--videos", type=int, default=8)
        parser.add_argument("--frames", type=int, default=self.frames)
        parser.add_argument("--level", default="medium", choices=LEVELS)
        parser.add_argument("--only", nargs="+", choices=list(self.variants), help="variants that are measured")
        parser.add_argument("--tasks", nargs="+", choices=tasks)
        parser.add_argument("--scores", type=Path, help="what was measured before; of --weights those of the runs")
        parser.add_argument("--output", type=Path, default=self.results)
        options = parser.parse_args()
        if options.weights is not None:
            options.only, options.seeds = ["default"], [0]
            options.scores = options.scores or options.runs / "scores.jsonl"
        options.scores = options.scores or self.results.with_suffix(".jsonl")
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        options.runs.mkdir(parents=True, exist_ok=True)
        tables: dict[str, list[tuple[Row, Cell]]] = {}
        for table, one, cell in self._cells(options):
            tables.setdefault(table, []).append((one, cell))
            said = (f"{task} {np.mean([next(iter(s.values())) for s in scores]):.3f}" for task, scores in cell.items())
            print(f"{table} | {one.label} | " + ", ".join(said), flush=True)
        begun = options.weights or f"{options.steps} steps from {Path(options.core).name}, seeds: {len(options.seeds)}"
        lines = [
            f"# {self.title}",
            "",
            f"`python benchmarks/{self.results.stem}.py`: {options.videos} videos of {options.frames} frames, "
            f"{SIZE[0]}×{SIZE[1]}, level {options.level}; {begun}. Percent; ms a frame with one thread of whatever "
            f"machine it was. {self.note}",
            "",
            *(line for table, rows in tables.items() for line in _lines(table, rows, tasks)),
        ]
        text = "\n".join(lines)
        options.output.write_text(text)
        print(text)

    def _cells(self, options: argparse.Namespace) -> Iterator[tuple[str, Row, Cell]]:
        """Table, line, and scores."""
        journal = Journal(options.scores)
        place = (options.videos, options.level, options.frames)

        @cache
        def weights(name: str, seed: int) -> Path:
            if options.weights is not None:
                return Path(options.weights)
            variant = self.variants[name]
            steps = round(variant.part * options.steps)
            begins_from = weights("default", seed) if variant.goes_on else options.core
            settings = (f"train.ema={0.98 if steps < 1000 else 0.995}", f"model.init={begins_from}", *variant.changes)
            return trained(self.recipe, settings, options.runs, name=name, seed=seed, steps=steps)

        for table, rows in self.tables.items():
            for one in rows:
                if options.only and one.trained and one.trained not in options.only:
                    continue
                cell: Cell = {}
                for task in one.tasks:
                    if options.tasks and task not in options.tasks:
                        continue
                    for seed in options.seeds[: one.seeds]:
                        made = (one.trained, seed, str(options.weights or options.steps)) if one.trained else ()

                        def measured(one: Row = one, task: str = task, seed: int = seed) -> Scores:
                            network = weights(one.trained, seed) if one.trained else None
                            began, films = time.perf_counter(), videos(*place)
                            found = self.measure(network, one, task, films)
                            seconds = time.perf_counter() - began
                            return {**found, "ms": 1000 * seconds / sum(len(film.frames) for film in films)}

                        key = (made, one.how, one.settings, task, *place)
                        cell.setdefault(task, []).append(journal.scores(key, measured))
                if cell:
                    yield table, one, cell


def _lines(table: str, rows: Sequence[tuple[Row, Cell]], order: Sequence[str]) -> list[str]:
    """A table."""
    tasks = [task for task in order if any(task in cell for _, cell in rows)]
    names = {
        task: next(name for _, cell in rows if task in cell for name in cell[task][0] if name != "ms") for task in tasks
    }
    head = [f"{task}, {names[task]}" for task in tasks]
    found = [f"## {table}", "", f"| | {' | '.join(head)} | paper | ms |", "|---" * (len(tasks) + 3) + "|"]
    for one, cell in rows:
        cells = [with_interval([score[names[t]] for score in cell[t]]) if t in cell else "" for t in tasks]
        paper = "" if one.paper is None else f"{one.paper:.1f} ({one.tasks[0]})"
        ms = np.median([score["ms"] for scores in cell.values() for score in scores])
        found.append(f"| {one.label} | {' | '.join(cells)} | {paper} | {ms:.0f} |")
    return [*found, ""]
