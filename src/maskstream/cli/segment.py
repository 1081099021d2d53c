"""``maskstream segment``: a video in, a folder of results out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import FRAMES_KEPT, FrameProgress, on_interrupt, say_where
from .options import (
    Adaptive,
    Alignment,
    AnySchedule,
    AsJson,
    Carrying,
    Debug,
    DetectEvery,
    Dtype,
    Exact,
    KeyEvery,
    Linking,
    MinScore,
    Model,
    Overlap,
    Overwrite,
    Prompter,
    Propagator,
    Quiet,
    Seed,
    Segmenter,
    TextEncoder,
    Tracking,
    Weights,
    Window,
    check_options,
    digests_of,
    owned,
    parse_schedule,
    parse_task,
)
from .prompts import BOX_HELP, MASK_HELP, POINT_HELP, SCRIBBLE_HELP, parse_prompts, parse_removals

if TYPE_CHECKING:
    from maskstream.engine import RunSummary
    from maskstream.systems.deva.offline import Direction
    from maskstream.types import CategorySet, Prompt, Session, Video, VideoSegmenter

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
            help="A sentence that describes an object; needs univs, or a --segmenter that reads.",
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
    start: Annotated[int, typer.Option(min=0, help="First frame.", rich_help_panel=_VIDEO)] = 0,
    stop: Annotated[int | None, typer.Option(min=1, help="Frame to stop before.", rich_help_panel=_VIDEO)] = None,
    stride: Annotated[int, typer.Option(min=1, help="Take every so many frames.", rich_help_panel=_VIDEO)] = 1,
    fps: Annotated[
        float | None, typer.Option(min=0.01, help="Frame rate of a folder of images.", rich_help_panel=_VIDEO)
    ] = None,
    raw: Annotated[
        str | None,
        typer.Option(metavar="WxH@FPS", help="Standard input is raw RGB frames.", rich_help_panel=_VIDEO),
    ] = None,
    model: Model = "deva",
    segmenter: Segmenter = "motion",
    propagator: Propagator = "flow",
    prompter: Prompter = "click-small",
    exact: Exact = False,
    dtype: Dtype = "auto",
    schedule: AnySchedule = None,
    alignment: Alignment = "auto",
    size: Annotated[
        int | None,
        typer.Option(
            min=64, help="Short side masks are carried at.  [default: 480, or the network's]", rich_help_panel="How"
        ),
    ] = None,
    max_objects: Annotated[
        int | None, typer.Option(min=1, help="Most objects found by itself.", rich_help_panel="How")
    ] = None,
    min_score: MinScore = 0.0,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Only these, with commas between; for segmenters that are told what to look for.",
            show_default=False,
            rich_help_panel="How",
        ),
    ] = None,
    flip: Annotated[
        bool, typer.Option("--flip", help="A trained propagator sees the video mirrored.", rich_help_panel="How")
    ] = False,
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
    label_space: Annotated[
        str | None,
        typer.Option(
            help="What classes mean where weights do not say, or which of those that tarvis knows: vipseg, vspw …",
            show_default=False,
            rich_help_panel="How",
        ),
    ] = None,
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
    from maskstream.api import default_task, load
    from maskstream.engine import file_digest, library_versions, segment_to_folder, source_identity
    from maskstream.sinks.folder import RunFolder
    from maskstream.types import OBJECT, InputError, Task, TextPrompt
    from maskstream.video import open_video

    check_options(context, model)
    asked_schedule = parse_schedule(schedule)
    # DEVA looks for a sentence all over the video, and follows it from where it is found.
    whole = (bool(text) and model == "deva") or asked_schedule == "offline"
    direction = _direction(forward=forward, backward=backward, both=both, default="both" if whole else "forward")
    offline = whole or direction != "forward"
    if offline and asked_schedule not in (None, "offline"):
        raise InputError(f"--schedule {schedule} takes frames as they come, onward: leave it out, or say offline")
    prompts = parse_prompts(masks=mask or [], boxes=box or [], points=point or [], scribbles=scribble or [])
    prompts += [TextPrompt(words, kind="expression") for words in text or []]
    removals = parse_removals(remove or [])
    given_task = parse_task(task) if task else None
    how = owned(
        model,
        {
            "segmenter": segmenter,
            "propagator": propagator,
            "prompter": prompter,
            "exact": exact,
            "dtype": dtype,
            "schedule": "online" if asked_schedule == "online" else "semi-online",
            "alignment": alignment,
            "size": size,
            "max_objects": max_objects,
            "min_score": min_score,
            "flip": flip,
            "weights": weights,
            "window": window,
            "overlap": overlap,
            "linking": linking,
            "label_space": label_space,
            "key_every": key_every,
            "adaptive": adaptive,
            "carrying": carrying,
            "tracking": tracking,
            "detect_every": detect_every,
            "text_encoder": text_encoder,
        },
    )
    system = load(model, task=given_task, **how)
    stands_out = asked_schedule == "offline" and direction == "both" and not prompts
    wanted = given_task or (Task.UVOS if stands_out else default_task(prompts, system))
    if stands_out and wanted is not Task.UVOS:
        raise InputError(f"--schedule offline without prompts finds one object: the task is uvos, not {wanted.value}")
    categories = _categories(classes, system, told=wanted.is_prompted)
    opened = open_video(video, start=start, stop=stop, stride=stride, fps=fps, raw=raw)
    session: Session
    if offline:
        session = _offline_session(
            system, opened, prompts, direction, salient=stands_out, removes=bool(removals), soft=save_scores
        )
    else:
        session = system.start(
            wanted, size_hw=opened.size_hw, fps=opened.fps, categories=categories, soft=save_scores, seed=seed
        )
    if wanted.is_prompted and not prompts:
        raise InputError(f"task {wanted.value} follows what is pointed at: give a --mask, --box, --point or --scribble")
    _check_frames_exist(opened, prompts, start=start, stride=stride)
    session.prompt(prompts)

    options: dict[str, object] = {
        "task": wanted.value,
        "direction": direction,
        "start": start,
        "stop": stop,
        "stride": stride,
        "fps": fps,
        "raw": raw,
        "model": model,
        **how,
        **({"schedule": "offline"} if offline else {}),
        "classes": classes,
        "save_scores": save_scores,
        "seed": seed,
    }
    # A mask stands for its content: another file under the same name is another request.
    masks = [f"{text} sha256:{file_digest(Path(text.partition(':')[2]))}" for text in mask or []]
    given = {"mask": masks, "box": box, "point": point, "scribble": scribble, "text": text, "remove": remove}
    request: dict[str, Mapping[str, object]] = {
        "source": source_identity(video),
        "options": options,
        "prompts": {kind: texts for kind, texts in given.items() if texts},
        "versions": library_versions(),
        "weights": digests_of(how),
    }
    path = output or Path("out") / (Path(opened.name).stem or "video")
    folder = RunFolder(path, {"command": "segment", **request}, overwrite=overwrite)
    already = folder.complete
    with (
        on_interrupt(FRAMES_KEPT),
        FrameProgress(opened.name, total=opened.frame_count, quiet=quiet or already) as progress,
    ):
        summary = segment_to_folder(
            opened,
            session,
            folder,
            categories=categories or OBJECT,
            audio_from=Path(video) if Path(video).is_file() else None,
            facts=_facts(request),
            removals=removals,
            save_scores=save_scores,
            on_frame=progress.update,
        )
    _say(summary, path, already=already, quiet=quiet, as_json=as_json)


def _categories(classes: str | None, system: VideoSegmenter, *, told: bool) -> CategorySet | None:
    """What to look for: what is named, otherwise all that a model of known classes knows.

    ``told`` is whether prompts say what to look for.
    """
    from maskstream.types import OBJECT, CategorySet, InputError

    if len(system.label_spaces) > 1 and not told:
        raise InputError(f"this model knows {', '.join(system.label_spaces)}: say which with --label-space")
    known = next(iter(system.label_spaces.values()), OBJECT)
    if classes is None and system.open_vocabulary and not told and known == OBJECT:
        raise InputError("this model finds what it is told to look for: name classes, as in --classes cat,dog")
    if classes is None:
        return None if known == OBJECT or (system.open_vocabulary and told) else known
    names = [name.strip() for name in classes.split(",") if name.strip()]
    unknown = sorted(set(names) - set(known.names))
    if system.open_vocabulary and unknown:
        return CategorySet.from_names(names)
    if unknown:
        raise InputError(f"this model does not know {', '.join(unknown)}; it knows {', '.join(known.names)}")
    return CategorySet(known.name, tuple(category for category in known.categories if category.name in names))


def _direction(*, forward: bool, backward: bool, both: bool, default: Direction) -> Direction:
    from maskstream.types import InputError

    flags: dict[Direction, bool] = {"forward": forward, "backward": backward, "both": both}
    given = [direction for direction, flag in flags.items() if flag]
    if len(given) > 1:
        raise InputError(f"{' and '.join(f'--{each}' for each in given)} contradict each other: give one")
    return given[0] if given else default


def _offline_session(
    system: VideoSegmenter,
    video: Video,
    prompts: Sequence[Prompt],
    direction: Direction,
    *,
    salient: bool,
    removes: bool,
    soft: bool,
) -> Session:
    """A session that goes over the whole video, for prompts or for what stands out."""
    from maskstream.engine import OfflineSession
    from maskstream.systems.deva import Deva, OfflineDeva
    from maskstream.types import InputError

    if not isinstance(system, Deva):
        raise InputError(f"this model goes forward only: leave out --{direction}")
    if not prompts and not salient:
        raise InputError(f"--{direction} follows what is pointed at: give a --mask, --box, --point or --scribble")
    if removes:
        raise InputError(f"--remove is for videos that are followed forward: leave it out, or --{direction}")
    # Nothing is corrected afterwards, so objects may share passes.
    offline = OfflineDeva(system, joint=True, soft=soft)
    if salient:
        return OfflineSession(lambda prompts: offline.saliency(video))
    return OfflineSession(partial(offline.run, video, direction=direction))


def _say(summary: RunSummary, path: Path, *, already: bool, quiet: bool, as_json: bool) -> None:
    """What the run came to, and where to look."""
    if as_json:
        typer.echo(json.dumps({"output": str(path), **asdict(summary)}))
    elif not quiet:
        say_where(path, frames=summary.frames, tracks=summary.tracks, already=already)


def _check_frames_exist(video: Video, prompts: list[Prompt], *, start: int, stride: int) -> None:
    """Refuse a prompt on a frame that will not come, before hours of work rather than after."""
    from maskstream.types import InputError, TextPrompt

    for prompt in (prompt for prompt in prompts if not isinstance(prompt, TextPrompt)):
        beyond = video.frame_count is not None and prompt.frame_index >= start + video.frame_count * stride
        if beyond or prompt.frame_index < start or (prompt.frame_index - start) % stride:
            last = "" if video.frame_count is None else f" to {start + (video.frame_count - 1) * stride}"
            every = f", every {stride}" if stride > 1 else ""
            raise InputError(f"a prompt is on frame {prompt.frame_index}, but the frames are {start}{last}{every}")


def _facts(request: Mapping[str, Mapping[str, object]]) -> dict[str, str]:
    """The request as lines for the report."""
    facts = {"source": str(request["source"]["name"])}
    facts |= {key: str(value) for key, value in request["options"].items() if value is not None}
    facts |= {kind: ", ".join(texts) for kind, texts in request["prompts"].items() if isinstance(texts, list)}
    return facts | {key: str(value) for key, value in request["versions"].items()}
