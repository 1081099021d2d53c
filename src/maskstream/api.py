"""The verbs of the library: load a model, segment a video, step several videos at once, score results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from maskstream.shipped import shipped, weights_of
from maskstream.types import (
    CategorySet,
    Frame,
    FrameSegmentation,
    ImageSegmenter,
    InputError,
    Prompt,
    Propagator,
    Session,
    Task,
    TextPrompt,
    VideoSegmenter,
)

if TYPE_CHECKING:
    from maskstream.evaluation.run import Evaluation
    from maskstream.systems.deva import Alignment
    from maskstream.video import VideoSource

DEFAULT_SIZE = 480
"""Short side, in pixels, at which masks are propagated; results are at the size of the source whatever it is. Networks
of the package have sizes of their own (`maskstream.shipped.Shipped.size`)."""


def load(
    model: str = "deva",
    *,
    segmenter: str = "motion",
    propagator: str = "flow",
    prompter: str = "grabcut",
    exact: bool = False,
    dtype: str = "auto",
    schedule: str = "semi-online",
    alignment: str = "auto",
    size: int | None = None,
    max_objects: int | None = None,
    min_score: float = 0.0,
) -> VideoSegmenter:
    """Load a system by name.

    Args:
        model: "deva".
        segmenter: what finds objects by itself: "motion" (independently moving objects; no weights), or the folder of a
            trained motion network.
        propagator: what carries masks between frames: "flow" (optical flow; no weights), or the path of a trained
            network: the authors' file, ``DEVA-propagation.pth``, XMem's, ``XMem.pth``, or a folder of ours.
        prompter: what turns boxes, clicks and scribbles into masks: "grabcut" (no weights).
        exact: run a trained propagator as published; otherwise it looks only around where objects are, which is faster.
        dtype: precision of networks; "auto" is bf16 where the device has units for it.
        schedule: when found objects are believed: "semi-online" when neighbouring frames agree on them, and results
            leave two frames late; "online" at once.
        alignment: how neighbouring frames are compared: by the propagator ("network", as published), by optical "flow",
            not at all ("none"), or "auto", which is flow on a CPU and the propagator elsewhere.
        size: short side at which masks are propagated; None: what suits the propagator.
        max_objects: most objects found by itself and followed at once.
        min_score: found objects below this confidence are ignored.

    Raises:
        InputError: a name is unknown, and the message lists the known ones; or a checkpoint cannot be loaded.
    """
    for what, name, known in (
        ("model", model, ["deva"]),
        ("dtype", dtype, ["auto", "bf16", "fp16", "fp32"]),
        ("schedule", schedule, ["online", "semi-online"]),
        ("alignment", alignment, ["auto", "flow", "network", "none"]),
    ):
        if name not in known:
            raise InputError(f"unknown {what} {name!r}; known: {', '.join(known)}")
    from maskstream.systems.deva import Deva, DevaSettings

    return Deva(
        load_propagator(propagator, size=size, exact=exact, dtype=dtype),
        prompter=load_prompter(prompter),
        detector=_detector(segmenter),
        # Motion finds parts as readily as wholes, so an arm that swings is not another object. It draws outlines better
        # than flow carries them, so what it finds replaces what was carried. And it finds what moves all the time, so
        # what is not found again has stopped or leaked, and is better begun anew.
        settings=DevaSettings(
            schedule="online" if schedule == "online" else "semi-online",
            alignment=cast("Alignment", alignment),
            max_missed=2,
            part_threshold=0.7,
            fused="detection",
            max_objects=max_objects,
            min_score=min_score,
        ),
    )


def load_prompter(name: str) -> ImageSegmenter[Any]:
    """What turns boxes, clicks and scribbles into masks, by name; see `load`.

    Raises:
        InputError: there is no such prompter.
    """
    from maskstream.segmenters import GrabCutSegmenter

    if name == "grabcut":
        return GrabCutSegmenter()
    from maskstream.segmenters.click import ClickSegmenter, load_click_network

    return ClickSegmenter(load_click_network(weights_of(name, "prompter")))


def _detector(name: str) -> ImageSegmenter[Any]:
    from maskstream.segmenters import LearnedMotionSegmenter, MotionSegmenter
    from maskstream.segmenters.motion_network import load_motion_network

    if name == "motion":
        return MotionSegmenter()
    return LearnedMotionSegmenter(load_motion_network(weights_of(name, "segmenter")))


def load_propagator(
    name: str, *, size: int | None = None, exact: bool = False, dtype: str = "auto"
) -> Propagator[Any, Any]:
    """What carries masks between frames, by name; see `load`.

    Raises:
        InputError: there is no such propagator, or its weights cannot be loaded.
    """
    from maskstream.propagation import FlowPropagator

    if size is None:
        size = next((model.size for model in shipped() if model.name == name and model.size), DEFAULT_SIZE)
    if name == "flow":
        return FlowPropagator(size=size)
    path = weights_of(name, "propagator")
    from maskstream.propagation.network import load_checkpoint
    from maskstream.propagation.network_propagator import NetworkPropagator, Precision

    return NetworkPropagator(
        load_checkpoint(path), mode="exact" if exact else "fast", size=size, precision=cast("Precision", dtype)
    )


def segment(
    video: VideoSource,
    *,
    model: VideoSegmenter | None = None,
    task: Task | str | None = None,
    prompts: Sequence[Prompt] = (),
    categories: CategorySet | str | None = None,
    soft: bool = False,
    seed: int = 0,
) -> Iterator[FrameSegmentation]:
    """Segment a video, frame by frame as it is decoded.

    Args:
        video: anything `open_video` takes.
        model: from `load`; the default needs no weights.
        task: by default "vos" (follow what is prompted) with prompts and "uvos" (find what moves) without.
        prompts: masks, boxes, points or scribbles on any frame.
        categories: a label space the model knows.
        soft: probabilities beside masks.
        seed: for models with random parts.

    Yields:
        One result a frame, in order, at the size of the video.

    Raises:
        InputError, VideoError: as the parts do; raised at the first ``next``.
    """
    from maskstream.video import open_video, prefetch

    opened = open_video(video)
    session = (model or load()).start(
        default_task(prompts) if task is None else Task(task),
        size_hw=opened.size_hw,
        fps=opened.fps,
        categories=categories,
        soft=soft,
        seed=seed,
    )
    session.prompt(prompts)
    for frame in prefetch(opened):
        yield from session.step(frame)
    yield from session.finish()


def evaluate(
    dataset: str,
    results: str | Path,
    *,
    root: str | Path | None = None,
    split: str | None = None,
    task: Task | str | None = None,
    compat: Literal["official", "paper"] = "official",
    label_space: str = "own",
    allow_missing: bool = False,
    workers: int = 1,
    intervals: bool = False,
) -> Evaluation:
    """Score results against a data set, with the numbers of its official program.

    Args:
        dataset: its name, as "davis-2017".
        results: the folder or file of results, or the output folder of ``maskstream predict``.
        root: the folder the data set is in; not needed for synthetic ones.
        split: which part; its first when None.
        task: for data sets that are annotated for several.
        compat: where they differ, what the official program does or what its paper says.
        label_space: "own", "object" for everything as one class, or the path of a map of categories.
        allow_missing: count missing predictions as empty.
        workers: processes.
        intervals: find bootstrap intervals too.

    Raises:
        InputError: something is missing or does not fit; the message names the file, or video and frame.
    """
    from maskstream.evaluation.run import Request
    from maskstream.evaluation.run import evaluate as run

    request = Request(
        dataset,
        None if root is None else Path(root),
        Path(results),
        split,
        None if task is None else Task(task),
        compat,
        label_space,
        allow_missing,
    )
    return run(request, workers=workers, intervals=intervals)


def default_task(prompts: Sequence[Prompt]) -> Task:
    """What someone means who names no task: follow what is prompted, or find what moves."""
    if any(isinstance(prompt, TextPrompt) for prompt in prompts):
        return Task.REFVOS
    return Task.VOS if prompts else Task.UVOS


def step_many(sessions: Sequence[Session], frames: Iterable[Frame]) -> list[list[FrameSegmentation]]:
    """Step several videos, one frame each; systems that can will share a batch."""
    return [session.step(frame) for session, frame in zip(sessions, frames, strict=True)]
