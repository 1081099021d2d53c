"""``maskstream segment``: a video in, a folder of results out."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskstream.prompt_words import BOX_HELP, MASK_HELP, POINT_HELP, SCRIBBLE_HELP

from .console import FRAMES_KEPT, FrameProgress, on_interrupt, say_where
from .options import (
    MODELS_OF,
    Adaptive,
    Alignment,
    AnySchedule,
    AsJson,
    Carrying,
    Classes,
    Debug,
    DetectEvery,
    Dtype,
    Exact,
    Flip,
    KeyEvery,
    LabelSpace,
    Linking,
    MaxObjects,
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
    Size,
    Start,
    Stop,
    Stride,
    TextEncoder,
    Tracking,
    Weights,
    Window,
    check_options,
    digests_of,
    how_of,
    parse_schedule,
    parse_task,
)

if TYPE_CHECKING:
    from maskstream.engine import RunSummary
    from maskstream.systems.deva.offline import Direction

_PROMPTS = "What to follow"
_VIDEO = "Which frames"


def segment(
    context: typer.Context,
    video: Annotated[
        str,
        typer.Argument(
            help="A video file, a folder or glob of images, camera:0, rtsp://…, or - for standard input.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Output folder.  [default: out/NAME]", show_default=False)
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="vos, uvos, owvs, pvos, pet, vps, vis or vss.  [default: vos with prompts, else what the model finds]",
            show_default=False,
        ),
    ] = None,
    mask: Annotated[list[str] | None, typer.Option(help=MASK_HELP, rich_help_panel=_PROMPTS)] = None,
    box: Annotated[list[str] | None, typer.Option(help=BOX_HELP, rich_help_panel=_PROMPTS)] = None,
    point: Annotated[list[str] | None, typer.Option(help=POINT_HELP, rich_help_panel=_PROMPTS)] = None,
    scribble: Annotated[list[str] | None, typer.Option(help=SCRIBBLE_HELP, rich_help_panel=_PROMPTS)] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            help="A sentence that describes an object; needs univs, or a --segmenter that reads. Of sam3: words for "
            "all objects to find.",
            rich_help_panel=_PROMPTS,
        ),
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option(help="FRAME:ID, stop following object ID there.", rich_help_panel=_PROMPTS)
    ] = None,
    forward: Annotated[
        bool, typer.Option("--forward", help="Follow onward, as frames come (default).", rich_help_panel=_PROMPTS)
    ] = False,
    backward: Annotated[
        bool, typer.Option("--backward", help="Follow back in time instead.", rich_help_panel=_PROMPTS)
    ] = False,
    both: Annotated[
        bool, typer.Option("--both", help="Follow both ways from every prompted frame.", rich_help_panel=_PROMPTS)
    ] = False,
    start: Start = 0,
    stop: Stop = None,
    stride: Stride = 1,
    fps: Annotated[
        float | None, typer.Option(min=0.01, help="Frame rate of a folder of images.", rich_help_panel=_VIDEO)
    ] = None,
    raw: Annotated[
        str | None,
        typer.Option(metavar="WxH@FPS", help="Standard input is raw RGB frames.", rich_help_panel=_VIDEO),
    ] = None,
    model: Model = "deva",
    segmenter: Segmenter = "motion-small",
    propagator: Propagator = "flow+propagate-small",
    prompter: Prompter = "click-small",
    exact: Exact = False,
    dtype: Dtype = "auto",
    schedule: AnySchedule = None,
    alignment: Alignment = "auto",
    size: Size = None,
    max_objects: MaxObjects = None,
    min_score: MinScore = 0.0,
    classes: Classes = None,
    flip: Flip = False,
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
    label_space: LabelSpace = None,
    save_scores: Annotated[
        bool,
        typer.Option("--save-scores", help="Write probabilities to scores/, too, for merge-scores."),
    ] = False,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Segment a video: follow what you point at, or everything that moves.

    Writes overlay.mp4, masks/, segments.jsonl, events.jsonl, tracks.json and report.html. The same command again
    continues a run that was interrupted.
    """
    del debug  # read by the entry point, which decides how errors are shown
    from maskstream.engine.segment import PromptWords, SegmentOptions, planned, prepared
    from maskstream.sinks.folder import RunFolder

    check_options(context, model)
    asked_schedule = parse_schedule(schedule)
    given_task = parse_task(task) if task else None
    how = how_of(context, model)
    if model in MODELS_OF["schedule"]:
        how["schedule"] = "online" if asked_schedule == "online" else "semi-online"
    options = SegmentOptions(
        model,
        how,
        task=given_task,
        schedule=asked_schedule,
        direction=direction_of(forward=forward, backward=backward, both=both),
        start=start,
        stop=stop,
        stride=stride,
        fps=fps,
        raw=raw,
        classes=classes,
        save_scores=save_scores,
        seed=seed,
    )
    given = {"mask": mask, "box": box, "point": point, "scribble": scribble, "text": text, "remove": remove}
    plan = planned(options, PromptWords(**{kind: tuple(words or ()) for kind, words in given.items()}))
    system = options.load()
    ready = prepared(plan, system, video, weights=digests_of(how))
    path = output or Path("out") / (Path(ready.video.name).stem or "video")
    folder = RunFolder(path, ready.request, overwrite=overwrite)
    already = folder.complete
    with (
        on_interrupt(FRAMES_KEPT),
        FrameProgress(ready.video.name, total=ready.video.frame_count, quiet=quiet or already) as progress,
    ):
        summary = ready.run(folder, on_frame=progress.update)
    _say(summary, path, already=already, quiet=quiet, as_json=as_json)


def direction_of(*, forward: bool, backward: bool, both: bool) -> Direction | None:
    """Which way prompts are followed, by the flags that were given; None for what the task needs.

    Raises:
        InputError: more than one was.
    """
    from maskstream.types import InputError

    flags: dict[Direction, bool] = {"forward": forward, "backward": backward, "both": both}
    given = [direction for direction, flag in flags.items() if flag]
    if len(given) > 1:
        raise InputError(f"{' and '.join(f'--{each}' for each in given)} contradict each other: give one")
    return given[0] if given else None


def _say(summary: RunSummary, path: Path, *, already: bool, quiet: bool, as_json: bool) -> None:
    """What the run came to, and where to look."""
    if as_json:
        typer.echo(json.dumps({"output": str(path), **asdict(summary)}))
    elif not quiet:
        say_where(path, frames=summary.frames, tracks=summary.tracks, already=already)
