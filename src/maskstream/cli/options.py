"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast, get_args

import typer

if TYPE_CHECKING:
    from maskstream.engine.backend import Backend
    from maskstream.engine.local import Progress
    from maskstream.engine.presets import Schedule as AnyScheduleName
    from maskstream.shipped import Kind
    from maskstream.types import Task

_MODEL, _VIDEO, _WHERE = "How", "Which frames", "Where"

_DEVA, _OTHERS = ("deva",), ("tubelink", "mpvss", "univs", "tarvis", "sam2", "sam3", "videomt")
MODELS_OF: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("segmenter", "propagator", "exact", "dtype", "alignment", "flip"), _DEVA),
    **dict.fromkeys(("max_objects", "schedule"), ("deva", "sam3")),
    "prompter": ("deva", "tarvis"),
    **dict.fromkeys(("voting_frames", "detection_every", "max_missed", "key_frames"), _DEVA),
    **dict.fromkeys(("window", "overlap"), ("tubelink", "univs", "tarvis")),
    "linking": ("tubelink",),
    **dict.fromkeys(("tracking", "detect_every", "text_encoder"), ("univs",)),
    **dict.fromkeys(("key_every", "adaptive", "carrying"), ("mpvss",)),
    "policy": ("sam2", "sam3"),
    "weights": _OTHERS,
    "min_score": ("deva", "tubelink", "univs", "tarvis", "videomt"),
    "size": ("deva", "tubelink", "mpvss", "univs", "tarvis"),
}
"""Options that not all systems have, and those that do."""

_OF_LOAD = (
    *("segmenter", "propagator", "prompter", "exact", "dtype", "alignment", "size", "max_objects", "min_score", "flip"),
    *("weights", "window", "overlap", "linking", "label_space", "key_every", "adaptive", "carrying", "tracking"),
    *("detect_every", "text_encoder", "policy"),
)
"""Options that `load` takes as people give them."""

Model: TypeAlias = Annotated[
    str,
    typer.Option(
        "--model",
        help="The system: deva, tubelink, mpvss, univs, tarvis, sam2, sam3 or videomt.",
        rich_help_panel=_MODEL,
    ),
]
Weights: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--weights",
        help="Of all but deva: a folder or file; of tubelink and mpvss any Mask2Former, too; see 'maskstream models'.",
        show_default=False,
        rich_help_panel=_MODEL,
    ),
]
Window: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--window",
        min=1,
        help="Frames of a tube or clip.  [default: the network's]",
        show_default=False,
        rich_help_panel=_MODEL,
    ),
]
Overlap: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--overlap",
        min=0,
        help="Frames that a tube or clip sees again.  [default: none; tarvis: half; univs: all but one, but for vss]",
        show_default=False,
        rich_help_panel=_MODEL,
    ),
]
Linking: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--linking",
        help="How tubelink follows objects: embedding, query, boxes, naive, slots or overlap.  [default: what it can]",
        show_default=False,
        rich_help_panel=_MODEL,
    ),
]
Segmenter: TypeAlias = Annotated[
    str,
    typer.Option(
        "--segmenter",
        help="What finds objects by itself: a name ('maskstream models') or path.",
        rich_help_panel=_MODEL,
    ),
]
Propagator: TypeAlias = Annotated[
    str,
    typer.Option(
        "--propagator",
        help="What carries masks onward: flow (optical flow), a trained network by name or path "
        "(DEVA-propagation.pth, or a folder), or flow+NETWORK, which then advises flow.",
        rich_help_panel=_MODEL,
    ),
]
Prompter: TypeAlias = Annotated[
    str,
    typer.Option("--prompter", help="What turns boxes, clicks and scribbles into masks.", rich_help_panel=_MODEL),
]
Exact: TypeAlias = Annotated[
    bool,
    typer.Option("--exact", help="Run a trained propagator as published: slower.", rich_help_panel=_MODEL),
]
Dtype: TypeAlias = Annotated[
    str,
    typer.Option("--dtype", help="Precision of networks: auto, fp32, bf16 or fp16.", rich_help_panel=_MODEL),
]
Schedule: TypeAlias = Annotated[
    str,
    typer.Option(
        "--schedule", help="Believe what frames agree on (semi-online) or at once (online).", rich_help_panel=_MODEL
    ),
]
AnySchedule: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--schedule",
        help="Believe what frames agree on (semi-online), or at once (online); or go over the whole video (offline), "
        "for sentences, prompts in both directions, and what stands out.  [default: what the task needs]",
        show_default=False,
        rich_help_panel=_MODEL,
    ),
]
Alignment: TypeAlias = Annotated[
    str,
    typer.Option(
        "--alignment",
        help="How frames are compared before they agree: network, flow, none, or auto (flow on a CPU).",
        rich_help_panel=_MODEL,
    ),
]
MinScore: TypeAlias = Annotated[
    float,
    typer.Option("--min-score", min=0.0, max=1.0, help="Ignore found objects below it.", rich_help_panel=_MODEL),
]
KeyEvery: TypeAlias = Annotated[
    int,
    typer.Option(
        "--key-every", min=1, help="mpvss segments one frame in so many, and carries its masks.", rich_help_panel=_MODEL
    ),
]
Adaptive: TypeAlias = Annotated[
    bool,
    typer.Option("--adaptive", help="mpvss takes a key frame earlier where much changes.", rich_help_panel=_MODEL),
]
Carrying: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--carrying",
        help="How mpvss carries masks: motion, flow, copy, bidirectional, dff or accel.  [default: what it can]",
        show_default=False,
        rich_help_panel=_MODEL,
    ),
]
Tracking: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--tracking",
        help="How univs follows what it finds: prompt or similarity.  [default: prompt]",
        show_default=False,
        rich_help_panel=_MODEL,
    ),
]
DetectEvery: TypeAlias = Annotated[
    int,
    typer.Option(
        "--detect-every", min=1, help="univs looks for new objects every so many frames.", rich_help_panel=_MODEL
    ),
]
TextEncoder: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--text-encoder",
        help="Of univs: the folder of a text tower.  [default: that of the weights]",
        show_default=False,
        rich_help_panel=_MODEL,
    ),
]
Policy: TypeAlias = Annotated[
    str,
    typer.Option(
        "--policy",
        help="What sam2 and sam3 remember: recent frames and prompted ones, fifo, anchors that tell an object from "
        "what resembles it, or a tree of hypotheses.",
        rich_help_panel=_MODEL,
    ),
]
Size: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--size",
        min=64,
        help="Short side masks are carried at.  [default: 480, or the network's]",
        rich_help_panel=_MODEL,
    ),
]
MaxObjects: TypeAlias = Annotated[
    int | None, typer.Option("--max-objects", min=1, help="Most objects found by itself.", rich_help_panel=_MODEL)
]
Classes: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--classes",
        help="Only these, with commas between; for segmenters that are told what to look for.",
        show_default=False,
        rich_help_panel=_MODEL,
    ),
]
Flip: TypeAlias = Annotated[
    bool, typer.Option("--flip", help="A trained propagator sees the video mirrored.", rich_help_panel=_MODEL)
]
LabelSpace: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--label-space",
        help="What classes mean where weights do not say, or which of those that tarvis knows: vipseg, vspw …",
        show_default=False,
        rich_help_panel=_MODEL,
    ),
]
Start: TypeAlias = Annotated[int, typer.Option("--start", min=0, help="First frame.", rich_help_panel=_VIDEO)]
Stop: TypeAlias = Annotated[
    int | None, typer.Option("--stop", min=1, help="Frame to stop before.", rich_help_panel=_VIDEO)
]
Stride: TypeAlias = Annotated[
    int, typer.Option("--stride", min=1, help="Take every so many frames.", rich_help_panel=_VIDEO)
]
Seed: TypeAlias = Annotated[int, typer.Option("--seed", help="For models with random parts.", rich_help_panel=_MODEL)]
Engine: TypeAlias = Annotated[
    str,
    typer.Option("--engine", help="local: processes of this machine; ray: a cluster of Ray.", rich_help_panel=_WHERE),
]
GpusPerWorker: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--gpus-per-worker",
        min=0.0,
        help="Part of a GPU that a worker takes.  [default: 1 if there are any]",
        show_default=False,
        rich_help_panel=_WHERE,
    ),
]
Threads: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        help="Of each worker.  [default: its share of cores]",
        show_default=False,
        rich_help_panel=_WHERE,
    ),
]
Overwrite: TypeAlias = Annotated[bool, typer.Option("--overwrite", help="Start a run in this folder anew.")]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")]
Debug: TypeAlias = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]


def check_options(context: typer.Context, model: str) -> None:
    """See that nobody sets what the system does not have.

    Raises:
        InputError: somebody does.
    """
    from maskstream.types import InputError

    if model not in {owner for owners in MODELS_OF.values() for owner in owners}:
        return  # who loads it complains, or it is none: "truth"
    for name, owners in MODELS_OF.items():
        source = context.get_parameter_source(name)
        if model not in owners and source is not None and source.name == "COMMANDLINE":
            theirs = " and ".join(filter(None, (", ".join(owners[:-1]), owners[-1])))
            raise InputError(f"--{name.replace('_', '-')} is for the model {theirs}, and this is {model}: leave it out")


def how_of(context: typer.Context, model: str, *, leave: Collection[str] = ()) -> dict[str, Any]:
    """The options of `load` that were given to a command, those that the system has.

    Args:
        context: of the command.
        model: the system.
        leave: those that mean something else there.
    """
    names = [name for name in _OF_LOAD if name in context.params and name not in leave]
    return {name: context.params[name] for name in names if model in MODELS_OF.get(name, (model,))}


def digests_of(options: Mapping[str, object]) -> dict[str, str]:
    """Digests of the files of all weights that options of `load` name; see `weight_digests`.

    Raises:
        InputError: a file cannot be read.
    """
    from maskstream.engine import weight_digests

    kinds: tuple[Kind, ...] = ("segmenter", "propagator", "prompter", "weights")
    digests = weight_digests({kind: str(options[kind]) for kind in kinds if options.get(kind) is not None})
    tower = options.get("text_encoder")
    return digests if tower is None else digests | weight_digests({"weights": str(tower)})


def parse_schedule(text: str | None) -> AnyScheduleName | None:
    """A schedule by its name.

    Raises:
        InputError: there is none of this name.
    """
    from maskstream.engine.presets import Schedule
    from maskstream.types import InputError

    if text is not None and text not in get_args(Schedule):
        raise InputError(f"unknown schedule {text!r}; known: {', '.join(get_args(Schedule))}")
    return cast("AnyScheduleName | None", text)


def parse_task(text: str) -> Task:
    """A task by its name.

    Raises:
        InputError: there is none of this name.
    """
    from maskstream.types import InputError, Task

    try:
        return Task(text)
    except ValueError:
        raise InputError(f"unknown task {text!r}; known: {', '.join(t.value for t in Task)}") from None


def backend_of(
    engine: str,
    workers: int | None,
    gpus_per_worker: float | None,
    threads: int | None,
    *,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> tuple[Backend, int]:
    """Where videos are worked on, and how many at a time, as far as that is known.

    Args:
        engine: local or ray.
        workers: how many; None for one a GPU, or one a core.
        gpus_per_worker: part of a GPU that each takes; None for one, if there are any.
        threads: of each; None for its share of cores.
        on_progress: called with how far workers are, where that is known.

    Raises:
        InputError: there is no such engine, or it is not installed.
    """
    import torch

    from maskstream.engine.local import LocalBackend, cores
    from maskstream.types import InputError

    gpus = torch.cuda.device_count()
    share = (1.0 if gpus else 0.0) if gpus_per_worker is None else gpus_per_worker
    if engine == "ray":
        from maskstream.engine.ray_engine import RayBackend

        return RayBackend(workers, gpus_per_worker=share, threads=threads or 1), workers or 1
    if engine != "local":
        raise InputError(f"--engine is local or ray, not {engine!r}")
    count = workers or (max(1, int(gpus / share)) if gpus and share else cores())
    return LocalBackend(count, threads=threads, on_progress=on_progress), count
