"""``maskstream evaluate``: the official numbers of a folder of results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import FrameProgress, render_if_needed
from .options import Debug, parse_task

if TYPE_CHECKING:
    from maskstream.evaluation.run import Evaluation, Request
    from maskstream.metrics import Report


def evaluate(
    dataset: Annotated[str, typer.Argument(help="Its name; 'maskstream datasets' lists them.", show_default=False)],
    pred: Annotated[
        Path, typer.Option(help="The results: a folder or file, or what 'predict' wrote.", show_default=False)
    ],
    root: Annotated[
        Path | None, typer.Option(help="Where the data set is. Synthetic ones need none.", show_default=False)
    ] = None,
    split: Annotated[str | None, typer.Option(help="Which part.  [default: its first]", show_default=False)] = None,
    task: Annotated[
        str | None, typer.Option(help="For data sets with several.  [default: its first]", show_default=False)
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all numbers here.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with the worst videos in pictures here.")] = None,
    compat: Annotated[
        str, typer.Option(help="Where they differ: what the program does, or its paper says.")
    ] = "official",
    label_space: Annotated[
        str, typer.Option(help="Score as they are (own), or everything as one class (object).")
    ] = "own",
    map_file: Annotated[
        Path | None, typer.Option("--map", help="JSON from the data set's categories to others.", show_default=False)
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Count missing predictions as empty, and say how many.")
    ] = False,
    intervals: Annotated[bool, typer.Option("--intervals", help="Bootstrap intervals over videos too.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but the numbers and errors.")] = False,
    debug: Debug = False,
) -> None:
    """Score results against a data set, with the numbers of its official program. Needs annotations, never images."""
    del debug
    from maskstream.evaluation.run import Request, evaluate, open_request
    from maskstream.files import write_text_atomic
    from maskstream.types import InputError

    if compat not in ("official", "paper"):
        raise InputError(f"--compat is official or paper, not {compat!r}")
    if map_file is not None and label_space != "own":
        raise InputError("--map is a label space of its own: leave --label-space out")
    if map_file is None and label_space not in ("own", "object"):
        raise InputError(f"--label-space is own or object, not {label_space!r}; for another one write a --map")
    request = Request(
        dataset,
        root,
        pred,
        split,
        None if task is None else parse_task(task),
        "paper" if compat == "paper" else "official",
        label_space if map_file is None else str(map_file),
        allow_missing,
    )
    if root is None:
        render_if_needed(dataset, quiet=quiet)
    with FrameProgress(dataset, total=None, quiet=quiet, what="video") as progress:
        evaluation = evaluate(request, workers=workers, intervals=intervals, on_video=progress.update)
    if json_file is not None:
        write_text_atomic(json_file, evaluation.to_json())
    if html is not None:
        from maskstream.evaluation.report import write_evaluation

        write_evaluation(html, evaluation, open_request(request), facts=_facts(request))
    _say(evaluation)


def _say(evaluation: Evaluation) -> None:
    """The values of every metric, in percent."""
    from maskstream.evaluation.report import percent

    videos = len(evaluation.video_scores)
    typer.echo(f"{evaluation.dataset}, {evaluation.split}, {evaluation.task.value}: {videos} videos")
    for name, report in evaluation.reports.items():
        typer.echo(f"\n{name}")
        width = max(map(len, report.values), default=0)
        for value, score in report.values.items():
            typer.echo(f"  {value:{width}}  {percent(score):>6}{_interval(report, value)}")
        for note in report.notes:
            typer.echo(f"  {note}")


def _interval(report: Report, value: str) -> str:
    from maskstream.evaluation.report import percent

    low_high = report.intervals.get(value)
    return "" if low_high is None else f"  [{percent(low_high[0])}, {percent(low_high[1])}]"


def _facts(request: Request) -> Mapping[str, str]:
    """The request as lines for the page."""
    plain: dict[str, object] = {
        "data set": request.dataset,
        "results": request.results.resolve().name,
        "compat": request.compat,
        "label space": request.label_space,
        "missing predictions": "count as empty" if request.allow_missing else "are refused",
    }
    return {name: str(value) for name, value in plain.items()}
