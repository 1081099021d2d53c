"""``maskstream stabilize``: flickering per-frame masks in, tracks out."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from .console import FRAMES_KEPT, FrameProgress, on_interrupt, say_where
from .options import (
    Alignment,
    AsJson,
    Debug,
    Dtype,
    Exact,
    MinScore,
    Overwrite,
    Propagator,
    Quiet,
    Schedule,
)

if TYPE_CHECKING:
    from maskstream.engine.stabilize import StabilizeSummary

_HOW = "How"


def stabilize(
    video: Annotated[str, typer.Argument(help="A video file, or a folder or glob of images.", show_default=False)],
    masks: Annotated[
        Path,
        typer.Argument(
            help="Masks of its frames: a folder of PNG, or a JSON file of COCO or YouTube-VIS.", show_default=False
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Output folder.  [default: out/NAME]", show_default=False)
    ] = None,
    fps: Annotated[float | None, typer.Option(min=0.01, help="Frame rate of a folder of images.")] = None,
    propagator: Propagator = "flow+propagate-small",
    exact: Exact = False,
    dtype: Dtype = "auto",
    schedule: Schedule = "semi-online",
    alignment: Alignment = "auto",
    detection_every: Annotated[
        int, typer.Option(min=1, help="Look at the masks of every so many-th frame.", rich_help_panel=_HOW)
    ] = 5,
    voting_frames: Annotated[
        int, typer.Option(min=1, help="So many frames from there on vote on what is real.", rich_help_panel=_HOW)
    ] = 3,
    max_missed: Annotated[
        int,
        typer.Option(min=0, help="Drop an object that more votes in a row did not confirm.", rich_help_panel=_HOW),
    ] = 5,
    size: Annotated[
        int | None,
        typer.Option(
            min=64, help="Short side masks are carried at.  [default: 480, or the network's]", rich_help_panel=_HOW
        ),
    ] = None,
    max_objects: Annotated[
        int | None, typer.Option(min=1, help="Most objects followed at once.", rich_help_panel=_HOW)
    ] = None,
    min_score: MinScore = 0.0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Turn masks that a model of yours made frame by frame into tracks that do not flicker.

    What neighbouring frames agree on is believed, carried on by optical flow or a network, and keeps its id. Writes
    what segment writes, and flicker.csv: how much masks flicker before and after. The same command again continues.
    """
    del debug  # read by the entry point, which decides how errors are shown
    from maskstream.api import load_propagator
    from maskstream.engine import library_versions, source_identity, weight_digests
    from maskstream.engine.stabilize import masks_identity, open_masks, stabilize_to_folder
    from maskstream.sinks.folder import RunFolder
    from maskstream.systems.deva import Alignment as DevaAlignment
    from maskstream.systems.deva import Deva, DevaSettings
    from maskstream.systems.deva.session import Schedule as DevaSchedule
    from maskstream.types import OBJECT
    from maskstream.video import open_video

    opened = open_video(video, fps=fps)
    detector = open_masks(masks, opened, min_score=min_score)
    settings = DevaSettings(
        schedule=cast(DevaSchedule, schedule),
        detection_every=detection_every,
        voting_frames=voting_frames,
        alignment=cast(DevaAlignment, alignment),
        max_missed=max_missed,
        max_objects=max_objects,
    )
    system = Deva(
        load_propagator(propagator, size=size, exact=exact, dtype=dtype),
        detector=detector,
        label_space=detector.label_space or OBJECT,
        settings=settings,
    )
    options: dict[str, object] = {
        "fps": fps,
        "propagator": propagator,
        "exact": exact,
        "dtype": dtype,
        "schedule": schedule,
        "alignment": alignment,
        "detection_every": detection_every,
        "voting_frames": voting_frames,
        "max_missed": max_missed,
        "size": size,
        "max_objects": max_objects,
        "min_score": min_score,
    }
    request: dict[str, Mapping[str, object]] = {
        "source": source_identity(video),
        "options": options,
        "prompts": {"masks": [f"{masks.name} sha256:{masks_identity(masks)}"]},
        "versions": library_versions(),
        "weights": weight_digests({"propagator": propagator}),
    }
    path = output or Path("out") / (Path(opened.name).stem or "video")
    folder = RunFolder(path, {"command": "stabilize", **request}, overwrite=overwrite)
    already = folder.complete
    with (
        on_interrupt(FRAMES_KEPT),
        FrameProgress(opened.name, total=opened.frame_count, quiet=quiet or already) as progress,
    ):
        summary = stabilize_to_folder(
            opened,
            detector,
            system,
            folder,
            facts=_facts(opened.name, masks, options, request["versions"]),
            audio_from=Path(video) if Path(video).is_file() else None,
            on_frame=progress.update,
        )
    _say(summary, path, already=already, quiet=quiet, as_json=as_json)


def _facts(name: str, masks: Path, options: Mapping[str, object], versions: Mapping[str, object]) -> dict[str, str]:
    """The request as lines for the report."""
    facts = {"source": name, "masks": masks.name}
    facts |= {key: str(value) for key, value in options.items() if value is not None}
    return facts | {key: str(value) for key, value in versions.items()}


def _say(summary: StabilizeSummary, path: Path, *, already: bool, quiet: bool, as_json: bool) -> None:
    """What the run came to, and where to look."""
    if as_json:
        plain = {
            key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in asdict(summary).items()
        }
        typer.echo(json.dumps({"output": str(path), **plain}))
        return
    if quiet:
        return
    say_where(path, frames=summary.frames, tracks=summary.tracks, already=already)
    if math.isnan(summary.flicker_before):
        typer.echo("flicker: the masks show nothing on two frames in a row")
    else:
        typer.echo(f"flicker: before {summary.flicker_before:.3f}, after {summary.flicker_after:.3f}")
