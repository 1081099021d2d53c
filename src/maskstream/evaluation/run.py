"""Scoring a folder of results: video by video, over as many processes as wanted, with the same bits in the end."""

from __future__ import annotations

import json
import math
import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from maskstream.datasets import Dataset, open_dataset
from maskstream.formats.category_map import CategoryMap, one_class, read_category_map
from maskstream.formats.json_files import read_json
from maskstream.metrics import Report, Scores
from maskstream.types import InputError, StateDict, Task, VideoSample

from .benchmarks import protocol_for, task_of
from .protocol import Options, Protocol, Results

SCHEMA = "maskstream/evaluation"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be scored, in words that another process understands.

    Attributes:
        dataset: its name.
        root: the folder it is in; None for synthetic data, which is rendered.
        results: the folder or file of results, or the output folder of ``predict``.
        split: which part; the data set's first when None.
        task: for data sets that are annotated for several.
        compat: see `Options`.
        label_space: "own", "object" for everything as one class, or the path of a map of categories.
        allow_missing: count missing predictions as empty.
    """

    dataset: str
    root: Path | None
    results: Path
    split: str | None = None
    task: Task | None = None
    compat: Literal["official", "paper"] = "official"
    label_space: str = "own"
    allow_missing: bool = False


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came out.

    Attributes:
        dataset: its name.
        split: which part.
        task: which task.
        headline: the metric and the value that sum it up.
        reports: by metric.
        video_scores: the headline value of each video, the worst first; nan where undefined.
    """

    dataset: str
    split: str
    task: Task
    headline: tuple[str, str]
    reports: Mapping[str, Report]
    video_scores: Mapping[str, float]

    @property
    def score(self) -> float:
        """The headline value."""
        metric, value = self.headline
        return self.reports[metric].values[value]

    def to_json(self) -> str:
        """Schema ``docs/schemas/evaluation.json``; undefined values are null."""
        plain = {
            "schema": SCHEMA,
            "version": VERSION,
            "dataset": self.dataset,
            "split": self.split,
            "task": self.task.value,
            "headline": {"metric": self.headline[0], "value": self.headline[1], "score": _null(self.score)},
            "reports": {name: json.loads(report.to_json()) for name, report in self.reports.items()},
            "video_scores": {name: _null(score) for name, score in self.video_scores.items()},
        }
        return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A request, with its data set, protocol and results at hand."""

    dataset: Dataset
    task: Task
    protocol: Protocol[Any]
    results: Results

    def score(self, video: VideoSample) -> StateDict:
        """Score one video: the states of new metrics that saw nothing else."""
        metrics = self.protocol.metrics()
        self.protocol.score(video, self.results, metrics)
        return {name: metric.state_dict() for name, metric in metrics.items()}


def open_request(request: Request) -> Opened:
    """Find everything a request names.

    Raises:
        InputError: something is missing, unknown, or in another layout.
    """
    dataset = open_dataset(request.dataset, request.root, split=request.split)
    task = task_of(request.dataset, request.task)
    options = Options(request.compat, _categories(request.label_space, dataset), request.allow_missing)
    protocol = protocol_for(dataset, task, options)
    if not len(dataset.videos):
        raise InputError(f"{request.dataset}, split {dataset.split}: there is no video in {dataset.root}")
    return Opened(dataset, task, protocol, protocol.read_results(results_of(request.results)))


def results_of(path: Path) -> Path:
    """The results in an output folder of ``predict``; any other path as it is.

    Raises:
        InputError: there is nothing, or a run of ``predict`` that has not finished.
    """
    if not path.exists():
        raise InputError(f"there are no results {path}")
    run = path / "run.json"
    if run.exists() and read_json(run, what="the request of a run").get("command") == "predict":
        if not (path / "results").exists():
            raise InputError(f"{path} is a run of predict that has not finished: run the same command again")
        return path / "results"
    return path


def evaluate(
    request: Request,
    *,
    workers: int = 1,
    intervals: bool = False,
    on_video: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Score results. One worker and many give the same bits.

    Args:
        request: what to score.
        workers: processes, each with one video at a time.
        intervals: find bootstrap intervals too.
        on_video: called after every video with how many are done, and of how many.

    Raises:
        InputError: something is missing or does not fit; the message names the file, or video and frame.
    """
    opened = open_request(request)
    metrics = opened.protocol.metrics()
    for done, states in enumerate(_scored(request, opened, workers), 1):
        for name, other in opened.protocol.metrics().items():
            other.load_state_dict(states[name])
            metrics[name].merge(other)
        on_video(done, len(opened.dataset.videos))
    reports = {name: metric.result() for name, metric in metrics.items()}
    if intervals:
        reports = {name: replace(report, intervals=metrics[name].bootstrap()) for name, report in reports.items()}
    headline = opened.protocol.headline
    by_video = _video_scores(reports[headline[0]], headline[1], opened)
    return Evaluation(
        request.dataset, opened.dataset.split, opened.task, headline, reports, dict(_worst_first(by_video))
    )


def _scored(request: Request, opened: Opened, workers: int) -> Iterator[StateDict]:
    """The states of every video, in any order."""
    count = len(opened.dataset.videos)
    if workers == 1 or count == 1:
        yield from map(opened.score, opened.dataset.videos)
        return
    # Forking a process that has used torch's threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(workers, count), mp_context=context, initializer=_open_in_worker, initargs=(request,)
    ) as pool:
        futures = [pool.submit(_score_in_worker, number) for number in range(count)]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_opened: Opened | None = None
"""What a worker process works on."""


def _open_in_worker(request: Request) -> None:
    import cv2
    import torch

    global _opened  # noqa: PLW0603 - the state of a process
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    _opened = open_request(request)


def _score_in_worker(number: int) -> StateDict:
    assert _opened is not None
    return _opened.score(_opened.dataset.videos[number])


def _categories(label_space: str, dataset: Dataset) -> CategoryMap | None:
    if label_space == "own":
        return None
    if label_space == "object":
        return one_class(dataset.categories)
    return read_category_map(Path(label_space), dataset.categories)


def _video_scores(report: Report, value: str, opened: Opened) -> dict[str, float]:
    """For each video the mean over its rows: those of its sequences, or of their objects."""
    video_of = {name: video.name for video in opened.dataset.videos for name in opened.protocol.sequences(video)}
    scores: dict[str, list[float]] = {name: [] for name in video_of.values()}
    for name, row in report.per_video.items():
        sequence = name if name in video_of else name.rpartition("/")[0]
        score = _row_score(row, value)
        if sequence in video_of and not math.isnan(score):
            scores[video_of[sequence]].append(score)
    return {name: math.fsum(found) / len(found) if found else math.nan for name, found in scores.items()}


def _row_score(row: Scores, value: str) -> float:
    """The value of a row; rows of objects have J and F instead of means of both."""
    if value in row:
        return row[value]
    return (row["J"] + row["F"]) / 2 if {"J", "F"} <= row.keys() else next(iter(row.values()), math.nan)


def _worst_first(scores: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(scores.items(), key=lambda item: (math.isnan(item[1]), item[1], item[0]))


def _null(value: float) -> float | None:
    return None if math.isnan(value) else value
