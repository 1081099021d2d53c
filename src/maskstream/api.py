"""The verbs of the library: load a model, segment a video, step several videos at once, score results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from maskstream.shipped import ADVISED, shipped, weights_of
from maskstream.types import (
    OBJECT,
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
    from maskstream.segmenters.queries import QueryTask
    from maskstream.systems.deva import Alignment, DevaSettings
    from maskstream.systems.deva.session import Schedule
    from maskstream.video import VideoSource

_LEAST_MOTION, _SURE_MOTION = 0.3, 0.5
"""Evidence of motion from which something that is known is still there, and from which something is an object."""

DEFAULT_SIZE = 480
"""Short side, in pixels, at which masks are propagated; results are at the size of the source whatever it is. Networks
of the package have sizes of their own (`maskstream.shipped.Shipped.size`)."""

OF_ONE_SIZE = ("sam2", "sam3", "videomt")
"""Models whose networks see pictures of one size, their own."""


def load(
    model: str = "deva",
    *,
    segmenter: str = "motion-small",
    propagator: str = "flow+propagate-small",
    prompter: str = "click-small",
    exact: bool = False,
    dtype: str = "auto",
    schedule: str = "semi-online",
    alignment: str = "auto",
    voting_frames: int = 3,
    detection_every: int = 5,
    max_missed: int | None = None,
    memory_every: int = 5,
    size: int | None = None,
    max_objects: int | None = None,
    min_score: float = 0.0,
    flip: bool = False,
    weights: str | None = None,
    window: int | None = None,
    overlap: int | None = None,
    linking: str | None = None,
    label_space: CategorySet | str | None = None,
    key_every: int = 5,
    adaptive: bool = False,
    carrying: str | None = None,
    tracking: str | None = None,
    detect_every: int = 1,
    text_encoder: str | None = None,
    policy: str = "recent",
    compat: bool = False,
    task: Task | str | None = None,
) -> VideoSegmenter:
    """Load a system by name.

    Args:
        model: "deva", "mpvss", "tarvis", "tubelink" or "univs"; or one of others: "sam2" (also EdgeTAM and the tracker
            of SAM 3), "sam3" (what words name) or "videomt".
        segmenter: what finds objects by itself: "motion-small" (independently moving objects; in the package), "motion"
            (the same without weights), the folder of a trained motion network, or a model of `transformers`; see
            `segmenters.loading.load_segmenter`.
        propagator: what carries masks between frames: "flow" (optical flow; no weights), or a trained network:
            "propagate-small" (in the package), the authors' file, ``DEVA-propagation.pth``, XMem's, ``XMem.pth``, or a
            folder of ours; or "flow+" and a network, which then advises optical flow: outlines are flow's.
        prompter: what turns boxes, clicks and scribbles into masks: "click-small" (in the package), "grabcut" (no
            weights), the folder of a trained click network, or SAM or SAM 2, a folder or a name on the hub.
        exact: run a trained propagator as published; otherwise it looks only around where objects are, which is faster.
        dtype: precision of networks; "auto" is bf16 where the device has units for it.
        schedule: when found objects are believed: "semi-online" when neighbouring frames agree on them, and results
            leave two frames late; "online" at once.
        alignment: how neighbouring frames are compared: by the propagator ("network", as published), by optical "flow",
            not at all ("none"), or "auto", which is flow on a CPU and the propagator elsewhere.
        voting_frames: frames that vote, semi-online; results leave one frame less late.
        detection_every: found objects are taken in on one frame in so many.
        max_missed: an object found by itself is dropped when more votes in a row did not confirm it; None: what suits
            the segmenter.
        memory_every: a trained propagator memorises one frame in so many.
        size: short side at which masks are propagated; None: what suits the propagator.
        max_objects: most objects found by itself and followed at once; None: what suits the segmenter.
        min_score: found objects below this confidence are ignored.
        flip: let a trained propagator see the video mirrored, to be fused with a run that does not.
        weights: of Tube-Link and MPVSS: a folder that training wrote, a file of the authors, or any Mask2Former, a
            folder or a name on the hub; of UniVS and TarViS, one of the first two. Of the options above ``size``, what
            the network sees, is for them, too, ``min_score`` for all but MPVSS, and ``prompter`` for boxes of TarViS;
            the rest are for DEVA.
        window: of Tube-Link, UniVS and TarViS, as the next: frames of a tube or clip; None: what the network is meant
            for, or as published.
        overlap: frames that a tube or clip sees again; None: none, of TarViS half of them, and of UniVS all but one,
            but for classes of pixels.
        linking: of Tube-Link: how objects of two tubes are told to be the same; None: by embeddings where the network
            has them.
        label_space: what classes mean where weights do not say, as in files of the authors; things come first there,
            where the network counts them. Of TarViS, too: which of those that it knows.
        key_every: of MPVSS, as the next two: frames from one key frame to the next.
        adaptive: take a key frame earlier where much changes.
        carrying: how masks get to the others; None: by the motion module where there is one, else by optical flow. All
            but "bidirectional" answer every frame at once.
        tracking: of UniVS, as the next two: how what is found is followed, by "prompt" or "similarity"; None: by
            prompt.
        detect_every: new objects are looked for every so many frames.
        text_encoder: the folder of a text tower, where the weights have none; or the authors' file of names.
        policy: of SAM 2 and SAM 3: what is remembered of objects: "recent" frames and prompted ones, "fifo", "anchors"
            that tell an object from what resembles it, or a "tree" of hypotheses. Of SAM 3, too: ``schedule``, as
            objects are on trial for some frames unless it is "online", and ``max_objects``.
        compat: as the authors' program does where it is wrong and published numbers depend on it.
        task: what the model is for, where the segmenter answers in several ways: "vis" with instances, "vss" with
            semantic regions, otherwise with panoptic ones.

    Raises:
        InputError: a name is unknown, and the message lists the known ones; or a checkpoint cannot be loaded.
    """
    for what, name, known in (
        ("model", model, ["deva", "mpvss", "sam2", "sam3", "tarvis", "tubelink", "univs", "videomt"]),
        ("dtype", dtype, ["auto", "bf16", "fp16", "fp32"]),
        ("schedule", schedule, ["online", "semi-online"]),
        ("alignment", alignment, ["auto", "flow", "network", "none"]),
    ):
        if name not in known:
            raise InputError(f"unknown {what} {name!r}; known: {', '.join(known)}")
    if model == "tubelink":
        return _tubelink(
            weights, window, overlap or 0, linking, label_space, size=size, min_score=min_score, compat=compat
        )
    if model == "mpvss":
        return _mpvss(weights, carrying, label_space, key_every=key_every, adaptive=adaptive, size=size)
    if model == "univs":
        return _univs(
            weights,
            label_space,
            text_encoder,
            window=window,
            overlap=overlap,
            tracking=tracking,
            detect_every=detect_every,
            size=size,
            min_score=min_score,
            compat=compat,
        )
    if model == "tarvis":
        return _tarvis(
            weights,
            label_space,
            prompter,
            window=window,
            overlap=overlap,
            size=size,
            min_score=min_score,
            compat=compat,
        )
    if model in OF_ONE_SIZE and size is not None:
        raise InputError(f"networks of {model} see pictures of one size, their own: leave out the size")
    if model == "videomt":
        return _videomt(weights, label_space, min_score=min_score)
    if model == "sam2":
        return _sam2(weights, label_space, policy)
    if model == "sam3":
        return _sam3(weights, label_space, policy, at_once=schedule == "online", max_objects=max_objects)
    if weights is not None:
        raise InputError("deva is made of parts: name them as segmenter, propagator and prompter, not as weights")
    if label_space is not None:
        raise InputError("segmenters of deva say themselves what their classes mean: leave out the label space")
    from maskstream.systems.deva import Deva

    detector = _detector(segmenter, None if task is None else Task(task), min_score)
    usual = _settings_for(detector)
    settings = replace(
        usual,
        schedule=cast("Schedule", schedule),
        alignment=cast("Alignment", alignment),
        voting_frames=voting_frames,
        detection_every=detection_every,
        max_missed=usual.max_missed if max_missed is None else max_missed,
        max_objects=usual.max_objects if max_objects is None else max_objects,
        min_score=min_score,
    )
    return Deva(
        load_propagator(propagator, size=size, exact=exact, dtype=dtype, memory_every=memory_every, flip=flip),
        prompter=load_prompter(prompter),
        detector=detector,
        label_space=getattr(detector, "label_space", OBJECT),
        open_vocabulary=getattr(detector, "open_vocabulary", False),
        salient=getattr(detector, "salient", False),
        settings=settings,
    )


def _tubelink(
    weights: str | None,
    window: int | None,
    overlap: int,
    linking: str | None,
    label_space: CategorySet | str | None,
    *,
    size: int | None,
    min_score: float,
    compat: bool,
) -> VideoSegmenter:
    from maskstream.systems.tubelink import Linking, TubeLinkSettings, load_tubelink

    if linking is not None and linking not in get_args(Linking):
        raise InputError(f"unknown linking {linking!r}; known: {', '.join(get_args(Linking))}")
    settings = TubeLinkSettings(
        window=window,
        overlap=overlap,
        linking=cast("Linking | None", linking),
        min_score=min_score or None,
        compat=compat,
    )
    path, space = _system_weights("tubelink", weights), _space(label_space)
    return load_tubelink(path, settings=settings, space=space, short_side=size, device=_device())


def _mpvss(
    weights: str | None,
    carrying: str | None,
    label_space: CategorySet | str | None,
    *,
    key_every: int,
    adaptive: bool,
    size: int | None,
) -> VideoSegmenter:
    from maskstream.systems.mpvss import Carrying, KeySettings, MpvssSettings, load_mpvss

    if carrying is not None and carrying not in get_args(Carrying):
        raise InputError(f"unknown carrying {carrying!r}; known: {', '.join(get_args(Carrying))}")
    keys = KeySettings(interval=key_every, adaptive=adaptive)
    settings = MpvssSettings(keys=keys, carrying=cast("Carrying | None", carrying))
    path, space = _system_weights("mpvss", weights), _space(label_space)
    return load_mpvss(path, settings=settings, space=space, short_side=size, device=_device())


def _univs(
    weights: str | None,
    label_space: CategorySet | str | None,
    text_encoder: str | None,
    *,
    window: int | None,
    overlap: int | None,
    tracking: str | None,
    detect_every: int,
    size: int | None,
    min_score: float,
    compat: bool,
) -> VideoSegmenter:
    from maskstream.systems.univs import Tracking, UniVSSettings, load_univs

    if tracking is not None and tracking not in get_args(Tracking):
        raise InputError(f"unknown tracking {tracking!r}; known: {', '.join(get_args(Tracking))}")
    settings = UniVSSettings(
        frames=window,
        overlap=overlap,
        tracking=cast("Tracking", tracking or "prompt"),
        detect_every=detect_every,
        min_score=min_score or None,
        rival=not compat,
        compat=compat,
    )
    path, space = _system_weights("univs", weights), _space(label_space)
    return load_univs(path, settings=settings, space=space, text=text_encoder, short_side=size, device=_device())


def _tarvis(
    weights: str | None,
    label_space: CategorySet | str | None,
    prompter: str,
    *,
    window: int | None,
    overlap: int | None,
    size: int | None,
    min_score: float,
    compat: bool,
) -> VideoSegmenter:
    from maskstream.systems.tarvis import TarViSSettings, load_tarvis

    settings = TarViSSettings(frames=window, overlap=overlap, min_score=min_score or None, compat=compat)
    path = _system_weights("tarvis", weights)
    return load_tarvis(
        path,
        settings=settings,
        space=label_space,
        prompter=load_prompter(prompter),
        short_side=size,
        device=_device(),
    )


def _videomt(weights: str | None, label_space: CategorySet | str | None, *, min_score: float) -> VideoSegmenter:
    from maskstream.systems.hub import VideomtSettings, load_videomt

    path, settings = _system_weights("videomt", weights), VideomtSettings(min_score=min_score or None)
    return load_videomt(path, settings=settings, space=_space(label_space), device=_device())


def _sam2(weights: str | None, label_space: CategorySet | str | None, policy: str) -> VideoSegmenter:
    from maskstream.systems.hub import SamVideoSettings, load_sam_video, policy_named

    if label_space is not None:
        raise InputError("sam2 follows what is pointed at, whatever it is: leave out the label space")
    settings = SamVideoSettings(policy=policy_named(policy))
    return load_sam_video(_system_weights("sam2", weights), settings=settings, device=_device())


def _sam3(
    weights: str | None,
    label_space: CategorySet | str | None,
    policy: str,
    *,
    at_once: bool,
    max_objects: int | None,
) -> VideoSegmenter:
    from maskstream.systems.hub import Sam3Settings, SamVideoSettings, load_sam3, policy_named

    settings = Sam3Settings(at_once=at_once, following=SamVideoSettings(policy=policy_named(policy)))
    settings = settings if max_objects is None else replace(settings, max_objects=max_objects)
    path = _system_weights("sam3", weights)
    return load_sam3(path, settings=settings, space=_space(label_space) or OBJECT, device=_device())


def _space(label_space: CategorySet | str | None) -> CategorySet | None:
    """A label space that is given, or named."""
    if not isinstance(label_space, str):
        return label_space
    from maskstream.segmenters.label_spaces import known_space

    return known_space(label_space)


def _system_weights(model: str, weights: str | None) -> str:
    """Where the weights of a system are: in the package, on this machine, or on the hub."""
    from maskstream.pretrained import is_pretrained

    if weights is None:
        usual = {
            "sam2": "facebook/sam2.1-hiera-tiny, for instance",
            "sam3": "facebook/sam3, which the hub gives on request",
            "videomt": "tue-mps/videomt-dinov2-small-ytvis2019, for instance",
            **dict.fromkeys(("tubelink", "mpvss"), "a folder that training wrote, or a Mask2Former"),
        }
        raise InputError(f"the model {model} needs weights: {usual.get(model, 'a folder that training wrote')}")
    return weights if is_pretrained(weights) else str(weights_of(weights, "weights"))


def _settings_for(detector: ImageSegmenter[Any]) -> DevaSettings:
    """How what a segmenter finds is taken in, where the caller does not say."""
    from maskstream.segmenters import MotionSegmenter
    from maskstream.segmenters.sam import SamSegmenter
    from maskstream.segmenters.text import TextSegmenter
    from maskstream.systems.deva import DevaSettings

    if isinstance(detector, MotionSegmenter):
        # Motion finds parts as readily as wholes, so an arm that swings is not another object. It draws outlines better
        # than flow carries them, so what it finds replaces what was carried. And it finds what moves all the time, so
        # what is not found again has stopped or leaked, and is better begun anew; what moves a little is still there.
        # On the first frames nothing has moved yet.
        return DevaSettings(
            max_missed=2, part_threshold=0.7, fused="detection", sure_score=_SURE_MOTION, look_ahead=True
        )
    if isinstance(detector, SamSegmenter):  # specification §10.2: it looks only where nothing is tracked
        return DevaSettings(incremental=True, max_objects=200)
    if isinstance(detector, TextSegmenter):  # §10.1
        return DevaSettings(max_missed=10)
    return DevaSettings()


def load_prompter(name: str) -> ImageSegmenter[Any]:
    """What turns boxes, clicks and scribbles into masks, by name; see `load`.

    Raises:
        InputError: there is no such prompter.
    """
    from maskstream.segmenters import GrabCutSegmenter

    if name == "grabcut":
        return GrabCutSegmenter()
    from maskstream.pretrained import is_pretrained

    if is_pretrained(name):
        from maskstream.segmenters.sam import load_sam

        return load_sam(name, device=_device())
    from maskstream.segmenters.click import ClickSegmenter, load_click_network

    return ClickSegmenter(load_click_network(weights_of(name, "prompter")))


def _detector(name: str, task: Task | None, min_score: float) -> ImageSegmenter[Any]:
    from maskstream.pretrained import is_pretrained
    from maskstream.segmenters import LearnedMotionSegmenter, MotionSegmenter
    from maskstream.segmenters.loading import load_segmenter
    from maskstream.segmenters.motion_network import load_motion_network

    if name == "motion":
        return MotionSegmenter(min_score=_LEAST_MOTION)
    path = name if is_pretrained(name) else str(weights_of(name, "segmenter"))
    if is_pretrained(path):
        answers: dict[Task | None, QueryTask] = {Task.VIS: "instance", Task.VSS: "semantic"}
        wanted = answers.get(task, "panoptic")
        return load_segmenter(path, task=wanted, min_score=min_score or None, device=_device())
    return LearnedMotionSegmenter(load_motion_network(Path(path)), min_score=_LEAST_MOTION)


def _device() -> str:
    """Where networks of `transformers` run."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def load_propagator(
    name: str,
    *,
    size: int | None = None,
    exact: bool = False,
    dtype: str = "auto",
    memory_every: int = 5,
    flip: bool = False,
) -> Propagator[Any, Any]:
    """What carries masks between frames, by name; see `load`.

    Raises:
        InputError: there is no such propagator, its weights cannot be loaded, or ``flip`` is asked of optical flow.
    """
    from maskstream.propagation import FlowPropagator

    advised = name.startswith(ADVISED)
    if flip and (advised or name == "flow"):
        raise InputError("flip is for trained propagators alone: name one, or leave it out")
    if name == "flow":
        return FlowPropagator(size=size or DEFAULT_SIZE)
    path = weights_of(name, "propagator")
    from maskstream.propagation import AdvisedPropagator
    from maskstream.propagation.memory_policy import MemoryPolicy
    from maskstream.propagation.network import load_checkpoint
    from maskstream.propagation.network_propagator import NetworkPropagator, Precision

    own_size = next((model.size for model in shipped() if model.folder == path and model.size), DEFAULT_SIZE)
    network = NetworkPropagator(
        load_checkpoint(path),
        mode="exact" if exact else "fast",
        policy=MemoryPolicy(every=memory_every),
        size=min(own_size, size or own_size) if advised else size or own_size,
        precision=cast("Precision", dtype),
        mirror=flip,
    )
    return AdvisedPropagator(FlowPropagator(size=size or DEFAULT_SIZE), network) if advised else network


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
    system = model or load()
    session = system.start(
        default_task(prompts, system) if task is None else Task(task),
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


def default_task(prompts: Sequence[Prompt], model: VideoSegmenter | None = None) -> Task:
    """What someone means who names no task: follow what is prompted, or find what moves, or all that has a name.

    Concepts are names of what to find; a sentence describes what to follow.

    Args:
        prompts: of the video.
        model: that is to do it; the default one finds what moves.
    """
    texts = [prompt for prompt in prompts if isinstance(prompt, TextPrompt)]
    if any(text.kind == "expression" for text in texts):
        return Task.REFVOS
    if prompts and not texts:
        return Task.VOS
    able = frozenset({Task.UVOS}) if model is None else model.tasks
    return next((task for task in (Task.VPS, Task.UVOS, Task.VSS, Task.VIS) if task in able), Task.UVOS)


def step_many(sessions: Sequence[Session], frames: Iterable[Frame]) -> list[list[FrameSegmentation]]:
    """Step several videos, one frame each; systems that can will share a batch."""
    return [session.step(frame) for session, frame in zip(sessions, frames, strict=True)]
