"""One video from words and options to its output folder: what ``maskstream segment`` does, and ``batch`` to each video.

words ──► `planned` ──► with a system and a source: `prepared` ──► with a folder: `Prepared.run`

Both commands come through here, so that a video gets the same files either way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from maskstream.api import default_task, load
from maskstream.concepts import Concepts
from maskstream.files import file_digest
from maskstream.prompt_words import parse_prompts, parse_removals
from maskstream.sinks.folder import RunFolder
from maskstream.systems.deva import Deva, OfflineDeva
from maskstream.systems.deva.offline import Direction
from maskstream.types import OBJECT, CategorySet, InputError, Prompt, Session, Task, TextPrompt, Video, VideoSegmenter
from maskstream.video import open_video

from .offline import OfflineSession
from .presets import Schedule
from .request import library_versions, source_identity
from .run import RunSummary, segment_to_folder


@dataclass(frozen=True, slots=True)
class PromptWords:
    """What to follow in one video, in the words of the command line; see `maskstream.prompt_words`.

    Attributes:
        mask: label pictures on frames.
        box: boxes.
        point: clicks.
        scribble: strokes.
        text: sentences.
        remove: objects to stop following.
    """

    mask: tuple[str, ...] = ()
    box: tuple[str, ...] = ()
    point: tuple[str, ...] = ()
    scribble: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()

    def identity(self) -> dict[str, list[str]]:
        """The words that are there. A mask stands for its content: another file under the same name is another request.

        Raises:
            InputError: a mask cannot be read.
        """
        given: dict[str, list[str]] = {kind: list(words) for kind, words in asdict(self).items() if words}
        if self.mask:
            given["mask"] = [f"{word} sha256:{file_digest(Path(word.partition(':')[2]))}" for word in self.mask]
        return given


@dataclass(frozen=True, slots=True)
class SegmentOptions:
    """How videos are segmented, in words that another process understands.

    Attributes:
        model: the name of the system.
        how: the other options of `load`.
        task: None for what prompts ask for, or else what the model finds.
        schedule: None for what the task needs.
        direction: which way prompts are followed; None for what the task needs.
        start: first frame.
        stop: frame to stop before.
        stride: take every so many frames.
        fps: frame rate of images.
        raw: how frames on standard input look.
        classes: names to look for, with commas between.
        save_scores: write probabilities, too.
        seed: for models with random parts.
    """

    model: str
    how: Mapping[str, Any]
    task: Task | None = None
    schedule: Schedule | None = None
    direction: Direction | None = None
    start: int = 0
    stop: int | None = None
    stride: int = 1
    fps: float | None = None
    raw: str | None = None
    classes: str | None = None
    save_scores: bool = False
    seed: int = 0

    def load(self) -> VideoSegmenter:
        """The system.

        Raises:
            InputError: there is none of this name, or it cannot be loaded.
        """
        return load(self.model, task=self.task, **self.how)

    def plain(self, task: Task, direction: Direction, *, offline: bool) -> dict[str, object]:
        """What decides the result, once it is known what the task is and how it is done."""
        return {
            "task": task.value,
            "direction": direction,
            "start": self.start,
            "stop": self.stop,
            "stride": self.stride,
            "fps": self.fps,
            "raw": self.raw,
            "model": self.model,
            **self.how,
            **({"schedule": "offline"} if offline else {}),
            "classes": self.classes,
            "save_scores": self.save_scores,
            "seed": self.seed,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What is to be done to a video, as far as it can be known without the model.

    Attributes:
        options: as given.
        words: as given.
        prompts: what the words say.
        removals: by frame, objects to stop following.
        direction: which way prompts are followed.
        offline: go over the whole video.
        salient: look for the one object that stands out.
    """

    options: SegmentOptions
    words: PromptWords
    prompts: tuple[Prompt, ...]
    removals: Mapping[int, Sequence[int]]
    direction: Direction
    offline: bool
    salient: bool

    def task(self, system: VideoSegmenter) -> Task:
        """The task that was asked for, or that prompts and model suggest.

        Raises:
            InputError: it is not one that can be done this way.
        """
        task = self.options.task or (Task.UVOS if self.salient else default_task(self.prompts, system))
        if self.salient and task is not Task.UVOS:
            raise InputError(f"--schedule offline without prompts finds one object: the task is uvos, not {task.value}")
        return task

    def categories(self, system: VideoSegmenter) -> CategorySet | None:
        """What results are labelled with: what a session is begun with, and concepts that prompts name.

        Raises:
            InputError: see `begun_with`; or something is named twice.
        """
        given, concepts = self.begun_with(system), self._concepts
        if not concepts:
            return given
        both = Concepts(given, reads=True)
        both.check(concepts, emitted=-1)
        both.add(concepts)
        return both.categories

    @property
    def _concepts(self) -> list[TextPrompt]:
        return [one for one in self.prompts if isinstance(one, TextPrompt) and one.kind == "concept"]

    def begun_with(self, system: VideoSegmenter) -> CategorySet | None:
        """What to look for: what is named, otherwise all that a model of known classes knows.

        Raises:
            InputError: the model does not know a class, or has to be told.
        """
        told = self.task(system).is_prompted or bool(self._concepts)  # prompts say what to look for
        classes = self.options.classes
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


def planned(options: SegmentOptions, words: PromptWords) -> Plan:
    """Read the words, and see that they go with the options.

    Raises:
        InputError: they do not, or one cannot be read.
    """
    # DEVA looks for a sentence all over the video, and follows it from where it is found.
    whole = (bool(words.text) and options.model == "deva") or options.schedule == "offline"
    direction = options.direction or ("both" if whole else "forward")
    offline = whole or direction != "forward"
    if offline and options.schedule not in (None, "offline"):
        raise InputError(
            f"--schedule {options.schedule} takes frames as they come, onward: leave it out, or say offline"
        )
    prompts = parse_prompts(masks=words.mask, boxes=words.box, points=words.point, scribbles=words.scribble)
    # SAM 3 finds all that words name; others read a sentence, and look for what it describes.
    kind: Literal["concept", "expression"] = "concept" if options.model == "sam3" else "expression"
    prompts += [TextPrompt(text, kind) for text in words.text]
    salient = options.schedule == "offline" and direction == "both" and not prompts
    return Plan(options, words, tuple(prompts), parse_removals(words.remove), direction, offline, salient)


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A video with everything at hand.

    Attributes:
        video: the frames.
        session: with its prompts queued.
        categories: the label space.
        request: what decides the result, for the folder.
        facts: the same, for the report.
        audio_from: the file whose sound goes under the overlay.
        removals: by frame, objects to stop following.
        save_scores: write probabilities, too.
    """

    video: Video
    session: Session
    categories: CategorySet
    request: Mapping[str, object]
    facts: Mapping[str, str]
    audio_from: Path | None
    removals: Mapping[int, Sequence[int]]
    save_scores: bool

    def run(
        self, folder: RunFolder, *, pictures: bool = True, on_frame: Callable[[int], None] = lambda done: None
    ) -> RunSummary:
        """Segment it, or continue doing so; see `segment_to_folder`."""
        return segment_to_folder(
            self.video,
            self.session,
            folder,
            categories=self.categories,
            audio_from=self.audio_from,
            facts=self.facts,
            removals=self.removals,
            save_scores=self.save_scores,
            pictures=pictures,
            on_frame=on_frame,
        )


def prepared(plan: Plan, system: VideoSegmenter, source: str, *, weights: Mapping[str, str]) -> Prepared:
    """Open a video and begin its session.

    Args:
        plan: what to do.
        system: of the plan's options.
        source: the video, as `open_video` takes it.
        weights: digests of the files of weights; see `weight_digests`.

    Raises:
        InputError: prompts do not fit the video or the system.
        VideoError: the video cannot be read.
    """
    options = plan.options
    task, categories = plan.task(system), plan.categories(system)
    video = open_video(
        source, start=options.start, stop=options.stop, stride=options.stride, fps=options.fps, raw=options.raw
    )
    session: Session
    if plan.offline:
        session = _offline_session(plan, system, video)
    else:
        session = system.start(
            task,
            size_hw=video.size_hw,
            fps=video.fps,
            categories=plan.begun_with(system),
            soft=options.save_scores,
            seed=options.seed,
        )
    if task.is_prompted and not plan.prompts:
        raise InputError(f"task {task.value} follows what is pointed at: give a --mask, --box, --point or --scribble")
    _check_frames_exist(video, plan.prompts, start=options.start, stride=options.stride)
    session.prompt(plan.prompts)
    request: dict[str, Mapping[str, object]] = {
        "source": source_identity(source),
        "options": options.plain(task, plan.direction, offline=plan.offline),
        "prompts": plan.words.identity(),
        "versions": library_versions(),
        "weights": weights,
    }
    return Prepared(
        video,
        session,
        categories or OBJECT,
        {"command": "segment", **request},
        _facts(request),
        Path(source) if Path(source).is_file() else None,
        plan.removals,
        options.save_scores,
    )


def _offline_session(plan: Plan, system: VideoSegmenter, video: Video) -> Session:
    """A session that goes over the whole video, for prompts or for what stands out."""
    if not isinstance(system, Deva):
        raise InputError(f"this model goes forward only: leave out --{plan.direction}")
    if not plan.prompts and not plan.salient:
        raise InputError(f"--{plan.direction} follows what is pointed at: give a --mask, --box, --point or --scribble")
    if plan.removals:
        raise InputError(f"--remove is for videos that are followed forward: leave it out, or --{plan.direction}")
    # Nothing is corrected afterwards, so objects may share passes.
    offline = OfflineDeva(system, joint=True, soft=plan.options.save_scores)
    if plan.salient:
        return OfflineSession(lambda prompts: offline.saliency(video))
    return OfflineSession(partial(offline.run, video, direction=plan.direction))


def _check_frames_exist(video: Video, prompts: Sequence[Prompt], *, start: int, stride: int) -> None:
    """Refuse a prompt on a frame that will not come, before hours of work rather than after."""
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
