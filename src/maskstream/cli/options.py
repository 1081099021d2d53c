"""Options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias, cast, get_args

import typer

if TYPE_CHECKING:
    from maskstream.engine.presets import Schedule as AnyScheduleName
    from maskstream.types import Task

_MODEL = "How"

Model: TypeAlias = Annotated[str, typer.Option("--model", help="The system.", rich_help_panel=_MODEL)]
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
        help="What carries masks onward: a name, or the path of a trained network (DEVA-propagation.pth, or a folder).",
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
Seed: TypeAlias = Annotated[int, typer.Option("--seed", help="For models with random parts.", rich_help_panel=_MODEL)]
Overwrite: TypeAlias = Annotated[bool, typer.Option("--overwrite", help="Start a run in this folder anew.")]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")]
Debug: TypeAlias = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]


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
