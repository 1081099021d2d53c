"""``maskstream predict``: a model over a data set, in the layout its server takes."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from .console import FrameProgress, on_interrupt, render_if_needed
from .options import (
    Adaptive,
    Alignment,
    AnySchedule,
    AsJson,
    Carrying,
    Debug,
    DetectEvery,
    Dtype,
    Engine,
    Exact,
    GpusPerWorker,
    KeyEvery,
    Linking,
    MinScore,
    Model,
    Overlap,
    Overwrite,
    Policy,
    Prompter,
    Propagator,
    Quiet,
    Seed,
    Segmenter,
    TextEncoder,
    Threads,
    Tracking,
    Weights,
    Window,
    backend_of,
    check_options,
    digests_of,
    how_of,
    parse_schedule,
    parse_task,
)

_HOW = "How"


def predict(
    context: typer.Context,
    dataset: Annotated[str, typer.Argument(help="Its name; 'maskstream datasets' lists them.", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", help="Output folder.", show_default=False)],
    root: Annotated[
        Path | None, typer.Option(help="Where the data set is. Synthetic ones need none.", show_default=False)
    ] = None,
    split: Annotated[str | None, typer.Option(help="Which part.  [default: its first]", show_default=False)] = None,
    task: Annotated[
        str | None, typer.Option(help="For data sets with several.  [default: its first]", show_default=False)
    ] = None,
    videos: Annotated[str | None, typer.Option(help="Only these, with commas between.", show_default=False)] = None,
    preset: Annotated[
        str | None, typer.Option(help="Settings of another benchmark.  [default: its own]", show_default=False)
    ] = None,
    model: Model = "deva",
    segmenter: Segmenter = "motion-small",
    propagator: Propagator = "flow+propagate-small",
    prompter: Prompter = "click-small",
    exact: Exact = False,
    dtype: Dtype = "auto",
    schedule: AnySchedule = None,
    alignment: Alignment = "auto",
    voting_frames: Annotated[
        int | None,
        typer.Option(min=1, help="Frames that vote, semi-online.  [default: the preset's]", rich_help_panel=_HOW),
    ] = None,
    detection_every: Annotated[
        int | None,
        typer.Option(min=1, help="Find objects every so many frames.  [default: the preset's]", rich_help_panel=_HOW),
    ] = None,
    max_missed: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Drop an object that more votes in a row did not confirm.  [default: what suits the segmenter]",
            rich_help_panel=_HOW,
        ),
    ] = None,
    key_frames: Annotated[
        int | None,
        typer.Option(min=1, help="Frames to look for it on, offline.  [default: the preset's]", rich_help_panel=_HOW),
    ] = None,
    compat: Annotated[
        str,
        typer.Option(
            help="Where the paper of a system and its authors' program differ: paper or official.", rich_help_panel=_HOW
        ),
    ] = "paper",
    weights: Weights = None,
    window: Window = None,
    overlap: Overlap = None,
    linking: Linking = None,
    key_every: KeyEvery = 5,
    adaptive: Adaptive = False,
    carrying: Carrying = None,
    tracking: Tracking = None,
    detect_every: DetectEvery = 1,
    text_encoder: TextEncoder = None,
    policy: Policy = "recent",
    size: Annotated[
        int | None,
        typer.Option(min=64, help="Short side masks are carried at.  [default: the preset's]", show_default=False),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(min=1, help="Take every so many frames, and annotated ones.  [default: the preset's]"),
    ] = None,
    max_objects: Annotated[
        int | None, typer.Option(min=1, help="Most objects found by itself.  [default: the preset's]")
    ] = None,
    min_score: MinScore = 0.0,
    label_space: Annotated[
        str, typer.Option(help="The data set's (own), or any object as one class (object).")
    ] = "own",
    blind: Annotated[
        bool, typer.Option("--blind", help="Answer every sentence with the object seen most, for models without text.")
    ] = False,
    seed: Seed = 0,
    engine: Engine = "local",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Videos at a time.  [default: one, in this process; with ray as many as there is room for]",
            show_default=False,
            rich_help_panel="Where",
        ),
    ] = None,
    gpus_per_worker: GpusPerWorker = None,
    threads: Threads = None,
    archive: Annotated[bool, typer.Option("--zip", help="Write results.zip too, as servers take it.")] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Run a model over a data set and write results as its benchmark takes them.

    Writes journals/ (a file a video) and results/. The same command again continues a run that was interrupted. The
    model "truth" answers with the annotation itself.
    """
    del debug
    from maskstream.datasets import find_dataset
    from maskstream.engine import library_versions
    from maskstream.engine.predict import TRUTH, Request, predict_to_folder
    from maskstream.engine.presets import preset_of
    from maskstream.evaluation.benchmarks import task_of
    from maskstream.sinks.folder import OwnedFolder
    from maskstream.types import InputError

    check_options(context, model)
    asked_schedule = parse_schedule(schedule)
    if compat not in ("paper", "official"):
        raise InputError(f"--compat is paper or official, not {compat!r}")
    if label_space not in ("own", "object"):
        raise InputError(f"--label-space is own or object, not {label_space!r}")
    info = find_dataset(dataset)
    given: dict[str, Any] = {
        "size": size,
        "stride": stride,
        "voting_frames": voting_frames,
        "detection_every": detection_every,
        "max_missed": max_missed,
        "max_objects": max_objects,
        "key_frames": key_frames,
    }
    settings = replace(preset_of(preset or dataset), **{name: n for name, n in given.items() if n is not None})
    how = how_of(context, model, leave=("size", "max_objects", "label_space"))
    if model in ("tubelink", "univs", "tarvis"):
        how["compat"] = compat == "official"
    request = Request(
        dataset,
        root,
        split or info.splits[0],
        task_of(dataset, None if task is None else parse_task(task)),
        label_space,
        {"model": TRUTH} if model == TRUTH else {"model": model, **how},
        settings,
        asked_schedule,
        "official" if compat == "official" else "paper",
        seed,
        tuple(name.strip() for name in videos.split(",")) if videos else (),
        blind,
    )
    run = {
        "command": "predict",
        **request.plain(),
        "versions": library_versions(),
        "weights": {} if model == TRUTH else digests_of(how),
    }
    backend = None
    if (engine, workers or 1, gpus_per_worker, threads) != ("local", 1, None, None):
        count = workers or (None if engine == "ray" else 1)
        backend, _ = backend_of(engine, count, gpus_per_worker, threads)
    folder = OwnedFolder(output, run, overwrite=overwrite)
    if root is None:
        render_if_needed(dataset, quiet=quiet)
    already = folder.complete
    with (
        on_interrupt(": finished videos are kept; the same command again continues"),
        FrameProgress(dataset, total=None, quiet=quiet or already) as progress,
    ):
        summary = predict_to_folder(request, folder, backend=backend, archive=archive, on_frame=progress.update)
    if as_json:
        typer.echo(json.dumps({"output": str(output), **asdict(summary)}))
    elif not quiet:
        state = "already complete" if already else "done"
        schedule_used = f", {summary.schedule}" if summary.schedule else ""
        typer.echo(
            f"{state}: {summary.videos} videos, {summary.frames} frames{schedule_used}; results in {output / 'results'}"
        )
