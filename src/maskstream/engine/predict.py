"""A model through all videos of a data set: a journal a video, then the layout that the benchmark takes.

OUT/run.json         what was asked for; `complete` once everything else is there
    journals/        segments of each video, NAME.jsonl, and its tracks, NAME.tracks.json
    results/         the benchmark's own layout
    results.zip      the same, as its server takes it, if asked for
    .unfinished/     videos under way

A video is done when its journal has its name. A run that is killed continues with the videos that are not done. They
are done one after the other, or by the workers of a `Backend`.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from maskstream.api import OF_ONE_SIZE, load
from maskstream.datasets import Dataset, open_dataset
from maskstream.evaluation.benchmarks import protocol_for, task_of
from maskstream.evaluation.protocol import Options, Protocol
from maskstream.evaluation.referring import ReferringProtocol
from maskstream.files import whole_folder, write_text_atomic
from maskstream.formats.journal import Journal, JournalWriter, read_journal_video
from maskstream.formats.renumber import renumbered
from maskstream.mask2former.checkpoints import is_file_of_weights
from maskstream.sinks.folder import OwnedFolder
from maskstream.systems.deva import Deva, OfflineDeva
from maskstream.systems.deva.first_objects import taken_numbers
from maskstream.types import (
    FrameAnnotation,
    FrameSegmentation,
    InputError,
    LabelMap,
    OutputError,
    Segment,
    Session,
    Task,
    Track,
    VideoSample,
    VideoSegmenter,
)
from maskstream.video import SampleVideo, prefetch
from maskstream.video.source import DEFAULT_FPS

from .backend import Backend, Decoder, Job, Outcome, Worker, tried
from .offline import OfflineSession
from .presets import Preset, Schedule

TRUTH = "truth"
"""The model that answers with what is annotated, for looking at a data set, a layout or a metric."""

_ATTEMPTS = 2
"""How often a video is tried that is lost, with its worker for example."""

_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the same bytes whenever it is written


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be predicted, in words that another process understands.

    Attributes:
        dataset: its name.
        root: the folder it is in; None for synthetic data, which is rendered.
        split: which part.
        task: for data sets that are annotated for several.
        label_space: "own", or "object": a model that knows no categories finds things of any, and what it finds is
            written with the first category, to be scored in the label space ``object``.
        model: options of `load` that say which model it is; or ``{"model": "truth"}``.
        settings: how it is run.
        schedule: instead of that of the settings, which goes offline only where the model is made for it.
        compat: "paper" or "official", the authors' program, where these differ: how key frames are weighted, and which
            objects are the first (`OfflineDeva`, `first_objects`).
        seed: for models with random parts.
        videos: only these; all when empty.
        blind: answer every sentence with the object that is seen most, for models that cannot read.
    """

    dataset: str
    root: Path | None
    split: str
    task: Task
    label_space: str
    model: Mapping[str, Any]
    settings: Preset
    schedule: Schedule | None = None
    compat: Literal["paper", "official"] = "paper"
    seed: int = 0
    videos: tuple[str, ...] = ()
    blind: bool = False

    def plain(self) -> dict[str, object]:
        """What decides the result, for ``run.json``; where the data set lies does not."""
        return {**asdict(replace(self, root=None)), "task": self.task.value, "model": dict(self.model)}


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run came to: videos, frames that were processed, how many videos an earlier attempt had done, and on which
    schedule objects were found, if they were."""

    videos: int
    frames: int
    continued_from: int
    schedule: Schedule | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Opened:
    """A request, with everything at hand."""

    request: Request
    dataset: Dataset
    protocol: Protocol[Any]
    model: VideoSegmenter | None
    run_as: Task
    schedule: Schedule

    @property
    def videos(self) -> list[VideoSample]:
        """The videos that are wanted.

        Raises:
            InputError: one is not in the data set.
        """
        wanted = self.request.videos
        unknown = sorted(set(wanted) - {video.name for video in self.dataset.videos}) if wanted else []
        if unknown:
            raise InputError(f"{self.request.dataset}, {self.dataset.split}: there is no video {unknown[0]}")
        return [video for video in self.dataset.videos if not wanted or video.name in wanted]


def predict_to_folder(
    request: Request,
    folder: OwnedFolder,
    *,
    backend: Backend | None = None,
    archive: bool = False,
    on_frame: Callable[[int, int], None] = lambda done, total: None,
) -> Summary:
    """Run a model over a data set, or continue doing so.

    Args:
        request: which model, which videos.
        folder: where everything goes.
        backend: where videos are done; None for one after the other, in this process.
        archive: write ``results.zip`` too.
        on_frame: called with how many frames are done, and of how many.

    Raises:
        InputError: the model does not do this task, or something of the data set is missing.
        OutputError: a file could not be written. What is finished is kept in either case.
    """
    opened = _open(request)
    videos = opened.videos
    total = sum(len(_processed(video, request.settings.stride)) for video in videos)
    work, results = PredictWork(request, folder.path.absolute()), folder.path / "results"
    done = [video for video in videos if _journal(work.journals, video).exists()] if opened.model else []
    try:
        if opened.model is not None:
            before = sum(len(_processed(video, request.settings.stride)) for video in done)
            _run_videos(opened, videos, work, backend, lambda frames: on_frame(before + frames, total))
            shutil.rmtree(work.unfinished, ignore_errors=True)
        if not folder.complete:
            predictions: Iterator[VideoSample] = (
                opened.protocol.answers(video) if opened.model is None else _predicted(video, work.journals, request)
                for video in videos
            )
            shutil.rmtree(results, ignore_errors=True)  # of a run that was killed just before it was complete
            with whole_folder(results) as building:
                opened.protocol.write_results(building, predictions)
        if archive:
            write_zip(folder.path / "results.zip", results)
        folder.finish()
    except OSError as error:
        raise OutputError(
            f"cannot write to {folder.path}: {error.strerror or error}; finished videos are kept: "
            "free space or permission there, then run the same command again"
        ) from error
    finds = opened.model is not None and (opened.schedule == "offline" or not opened.run_as.is_prompted)
    return Summary(len(videos), total, len(done), opened.schedule if finds else None)


_OF_CATEGORIES = (Task.VIS, Task.VPS, Task.VSS)
"""Tasks of which a model has to know what the data set calls things."""


def _open(request: Request) -> _Opened:
    dataset = open_dataset(request.dataset, request.root, split=request.split)
    task = task_of(request.dataset, request.task)
    protocol = protocol_for(dataset, task, Options())
    settings = request.settings
    schedule = request.schedule or settings.schedule
    if request.model["model"] == TRUTH:
        return _Opened(request, dataset, protocol, None, request.task, schedule)
    weights = request.model.get("weights")
    model = load(
        **request.model,
        # Files of the authors do not say what their classes mean: those of the data set that they are measured on.
        label_space=dataset.categories if weights and is_file_of_weights(Path(weights)) else None,
        schedule="semi-online" if schedule == "offline" else schedule,
        voting_frames=settings.voting_frames,
        detection_every=settings.detection_every,
        max_missed=settings.max_missed,
        memory_every=settings.memory_every,
        size=None if request.model["model"] in OF_ONE_SIZE else settings.size,
        max_objects=settings.max_objects,
        task=task,
    )
    run_as = _run_as(request, model)
    return _Opened(request, dataset, protocol, model, run_as, _schedule(request, model, run_as))


def _schedule(request: Request, model: VideoSegmenter, run_as: Task) -> Schedule:
    """The schedule that is asked for, or that of the settings if the model is made for it.

    Raises:
        InputError: the task cannot be done on it.
    """
    schedule = request.schedule or request.settings.schedule
    if run_as is Task.REFVOS and request.schedule is None and not isinstance(model, Deva):
        return "online"  # what reads by itself takes sentences as frames come
    if run_as is Task.REFVOS and schedule != "offline":
        raise InputError(f"a sentence is looked for all over the video: with --schedule offline, not {schedule}")
    if run_as is Task.REFVOS or schedule != "offline":
        return schedule
    if request.schedule is None:  # offline is for what stands out then, and everything else has no need of it
        return "offline" if run_as is Task.UVOS and isinstance(model, Deva) and model.salient else "semi-online"
    if run_as is not Task.UVOS and not run_as.is_prompted:
        raise InputError(
            f"offline finds sentences, what is prompted, or one object that stands out; for {run_as.value} say "
            "--schedule online or semi-online"
        )
    return "offline"


def _run_as(request: Request, model: VideoSegmenter) -> Task:
    """The task the model is asked to do: a class-agnostic one where categories do not matter.

    Raises:
        InputError: it does neither.
    """
    reads = model.open_vocabulary and not request.blind
    if request.task in model.tasks or (request.task is Task.REFVOS and reads):
        return request.task
    known = ", ".join(sorted(task.value for task in model.tasks))
    name = request.model["model"]
    if request.task is Task.REFVOS and request.blind and Task.UVOS in model.tasks:
        return Task.UVOS
    if request.task is Task.REFVOS and Task.UVOS in model.tasks:
        raise InputError(
            f"the model {name} cannot read, so it does not do refvos, but {known}: with --blind it answers every "
            "sentence with the object it sees most of"
        )
    if request.task not in _OF_CATEGORIES or Task.OWVS not in model.tasks:
        raise InputError(f"the model {name} does not do {request.task.value}, but {known}")
    if request.label_space != "object":
        raise InputError(
            f"the model {name} knows no categories, so it does not do {request.task.value}, but {known}: "
            "with --label-space object it finds objects of any category"
        )
    return Task.OWVS


def _journal(journals: Path, video: VideoSample) -> Path:
    return journals / f"{video.name}.jsonl"


@dataclass(frozen=True, slots=True)
class PredictWork:
    """What is done to every video of a data set; see `Work`.

    Attributes:
        request: which model, which videos.
        output: the folder of the whole.
    """

    request: Request
    output: Path

    @property
    def journals(self) -> Path:
        """Where journals of finished videos are."""
        return self.output / "journals"

    @property
    def unfinished(self) -> Path:
        """Where videos are worked on."""
        return self.output / ".unfinished"

    def begin(self) -> Worker:
        """Load the model; see `Work.begin`."""
        opened = _open(self.request)
        return partial(_attempt, opened=opened, videos={video.name: video for video in opened.videos}, work=self)


def _attempt(
    job: Job,
    *,
    opened: _Opened,
    videos: Mapping[str, VideoSample],
    work: PredictWork,
    aside: Path,
    content: bytes | None = None,
    decoder: Decoder = lambda video: video,
    on_frame: Callable[[int], None] = lambda done: None,
) -> Outcome:
    """Do a video; see `Worker`. Its pictures are files of the data set, which are read where the model is."""
    del content, decoder

    def do() -> Outcome:
        _run_video(opened, videos[job.video], work, aside, on_frame)
        return Outcome(job.name)

    return tried(job.name, aside, do)


def _run_videos(
    opened: _Opened,
    videos: Sequence[VideoSample],
    work: PredictWork,
    backend: Backend | None,
    on_frame: Callable[[int], None],
) -> None:
    """Write the journals that are not there yet."""
    frames = 0
    todo = {video.name: video for video in videos if not _journal(work.journals, video).exists()}
    count_of = {name: len(_processed(video, opened.request.settings.stride)) for name, video in todo.items()}
    if backend is None:
        for name, video in todo.items():
            _run_video(opened, video, work, work.unfinished / name, partial(_plus, on_frame, frames))
            frames += count_of[name]
        return
    lost: dict[str, str] = {}
    for _ in range(_ATTEMPTS):
        jobs, lost = [Job(name) for name in (lost or todo)], {}
        for outcome in backend.run(work, jobs) if jobs else ():
            if outcome.reason is None:
                frames += count_of[outcome.name]
                on_frame(frames)
            elif not outcome.again:
                raise InputError(outcome.reason)
            else:
                lost[outcome.name] = outcome.reason
        if not lost:
            return
    name, reason = next(iter(lost.items()))
    raise InputError(f"{name}: {reason}; finished videos are kept: run the same command again")


def _plus(on_frame: Callable[[int], None], before: int, done: int) -> None:
    on_frame(before + done)


def _processed(video: VideoSample, stride: int) -> list[int]:
    """Positions of the frames that a model sees: every so many, and annotated ones."""
    return [n for n, frame in enumerate(video.frames) if n % stride == 0 or frame.annotated]


def _run_video(
    opened: _Opened, video: VideoSample, work: PredictWork, aside: Path, on_frame: Callable[[int], None]
) -> None:
    """One video through one session; its journal appears when it is whole."""
    path = _journal(work.journals, video)
    for folder in (path.parent, aside):
        folder.mkdir(parents=True, exist_ok=True)
    pictures = SampleVideo(video, indices=_processed(video, opened.request.settings.stride))
    session = _session(opened, pictures)
    if opened.run_as.is_prompted:
        session.prompt(video.prompts(opened.run_as))
    name = _namer(opened)
    unfinished = aside / path.name
    with JournalWriter(unfinished, size_hw=pictures.size_hw) as journal:
        done = 0

        def write(results: Sequence[FrameSegmentation]) -> None:
            nonlocal done
            for result in results:
                journal.write(name(result), result.frame_index / (pictures.fps or DEFAULT_FPS))
                done += 1
                on_frame(done)

        for frame in prefetch(pictures):
            write(session.step(frame))
        write(list(session.finish()))
        journal.sync()
    _write_tracks(path.with_suffix(".tracks.json"), session.tracks())
    unfinished.replace(path)
    shutil.rmtree(aside, ignore_errors=True)


def _session(opened: _Opened, pictures: SampleVideo) -> Session:
    """What the frames of a video go through."""
    assert opened.model is not None
    if opened.schedule == "offline":
        return _offline_session(opened, pictures)
    return opened.model.start(
        opened.run_as,
        size_hw=pictures.size_hw,
        fps=pictures.fps,
        categories=opened.dataset.categories if opened.run_as in (*_OF_CATEGORIES, *_of_regions(opened)) else None,
        seed=opened.request.seed,
    )


def _of_regions(opened: _Opened) -> tuple[Task, ...]:
    """Tasks of given regions of which a model wants to know what they are, too."""
    return () if isinstance(opened.model, Deva) else (Task.PVOS,)


def _offline_session(opened: _Opened, pictures: SampleVideo) -> OfflineSession:
    """Prompts, sentences, or what stands out, all over a video (DEVA, specification §11).

    Raises:
        InputError: the model sees frames only as they come.
    """
    if not isinstance(opened.model, Deva):
        raise InputError(f"the model {opened.request.model['model']} sees frames as they come: leave out --schedule")
    protocol = opened.protocol
    offline = OfflineDeva(
        opened.model,
        key_frames=opened.request.settings.key_frames,
        # Nothing is corrected afterwards, so objects may share passes; sentences do not, as published.
        joint=opened.run_as is not Task.REFVOS,
        compat=opened.request.compat == "official",
        group_of=(lambda text: protocol.reading(pictures.name, text.prompt_id))
        if isinstance(protocol, ReferringProtocol)
        else None,
    )
    if opened.run_as is Task.UVOS:
        return OfflineSession(lambda prompts: offline.saliency(pictures))
    return OfflineSession(partial(offline.run, pictures))


def _namer(opened: _Opened) -> Callable[[FrameSegmentation], FrameSegmentation]:
    """What a class-agnostic model finds, in the words of layouts that want categories.

    The first category of things stands for all of them, and the first of stuff for everything else, where every pixel
    must have one.
    """
    if opened.run_as is opened.request.task or opened.request.blind:
        return lambda result: result
    known = opened.dataset.categories.categories
    thing = next((c.id for c in known if c.is_thing is not False), None)
    rest = next((c.id for c in known if c.is_thing is False), None) if opened.request.task is Task.VSS else None
    if thing is None:
        raise InputError(f"{opened.request.dataset} has no category of things, so there is nothing to find")
    return partial(_named, thing=thing, rest=rest)


def _named(result: FrameSegmentation, *, thing: int, rest: int | None) -> FrameSegmentation:
    segments = tuple(replace(s, category=thing, is_thing=True) if s.category is None else s for s in result.segments)
    if rest is None:
        return replace(result, segments=segments)
    number = max((segment.track_id for segment in segments), default=0) + 1
    background = Segment(number, number, rest, is_thing=False)
    label_map = result.label_map()
    values = torch.where(label_map == 0, len(segments) + 1, label_map).to(torch.int32)
    return FrameSegmentation(result.frame_index, result.size_hw, (*segments, background), LabelMap(values))


def _write_tracks(path: Path, tracks: Sequence[Track]) -> None:
    write_text_atomic(path, json.dumps([asdict(track) for track in tracks], separators=(",", ":")) + "\n")


def _read_tracks(path: Path) -> list[Track]:
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [
        replace(Track(**row), category_scores={int(k): v for k, v in row["category_scores"].items()}) for row in rows
    ]


def _predicted(video: VideoSample, journals: Path, request: Request) -> VideoSample:
    """What was predicted for a video, as a labelled video."""
    path = _journal(journals, video)
    found = read_journal_video(Journal(path), video)
    if request.blind:
        return _answered_blindly(found)
    if request.settings.first_objects is not None:
        return renumbered(found, _first_objects(Journal(path), request.settings.first_objects, request.compat))
    return replace(found, read_tracks=partial(_read_tracks, path.with_suffix(".tracks.json")))


def _first_objects(journal: Journal, limit: int, compat: Literal["paper", "official"]) -> dict[int, int]:
    """The objects that count, by track, numbered from 1 as they are taken (specification §12).

    Who is taken does not depend on what comes later, so this is the rule of the paper though the video is over.
    """
    areas = ({seen.segment.track_id: seen.area for seen in frame.segments} for frame in journal)
    return taken_numbers(areas, limit=limit, compat=compat == "official")


def _answered_blindly(found: VideoSample) -> VideoSample:
    """Every sentence is answered with the track that covers most pixels: the baseline of those who cannot read."""
    areas: dict[int, int] = {}
    for index in range(len(found)):
        segmentation = found.annotation(index).segmentation
        for segment, area in zip(segmentation.segments, segmentation.areas().tolist(), strict=True):
            areas[segment.track_id] = areas.get(segment.track_id, 0) + area
    most = max(areas, key=lambda track: (areas[track], -track), default=None)
    numbers = tuple(found.expressions())

    def read(index: int) -> FrameAnnotation:
        segmentation = found.annotation(index).segmentation
        seen = [segment.track_id for segment in segmentation.segments]
        masks_nhw = segmentation.masks_nhw()[[seen.index(most)] * len(numbers) if most in seen else []]
        segments = (Segment(n, n, prompt_id=number) for n, number in enumerate(numbers, 1))
        return FrameAnnotation(FrameSegmentation.from_masks(index, tuple(segments) if most in seen else (), masks_nhw))

    return replace(found, read_annotation=read)


def write_zip(path: Path, folder: Path) -> None:
    """Pack a folder, what is in it at the root of the archive; the same files give the same bytes."""
    temporary = path.with_name(f".{path.name}.partial")
    with zipfile.ZipFile(temporary, "w") as archive:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            entry = zipfile.ZipInfo(file.relative_to(folder).as_posix(), _ZIP_TIME)
            # PNG does not become smaller by being compressed again.
            entry.compress_type = zipfile.ZIP_STORED if file.suffix == ".png" else zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            with file.open("rb") as source, archive.open(entry, "w") as target:
                shutil.copyfileobj(source, target)
    temporary.replace(path)
