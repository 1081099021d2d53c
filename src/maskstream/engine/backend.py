"""Where many videos are worked on: what a back end is told, what it answers, and what it can rely on.

A back end has workers, here or on other machines. Each begins the work once, which loads the model, and then does one
job after another; see `Work.begin`. ``batch`` and ``predict`` both come through here.
"""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeAlias

from maskstream.types import MaskstreamError, MaskstreamWarning, OutputError, Video

from .segment import PromptWords
from .split import Piece

Decoder: TypeAlias = Callable[[Video], Video]
"""Takes a video, and gives the same frames, decoded where the back end wants them to be."""


@dataclass(frozen=True, slots=True)
class Job:
    """A video, or a piece of one, that is to be done.

    Attributes:
        video: the name of the video.
        source: its path or address.
        words: prompts.
        piece: which frames; None for all.
    """

    video: str
    source: str = ""
    words: PromptWords = field(default_factory=PromptWords)
    piece: Piece | None = None

    @property
    def name(self) -> str:
        """What tells it from all other jobs."""
        return self.video if self.piece is None else f"{self.video}#{self.piece.number:05d}"


@dataclass(frozen=True, slots=True)
class TrackRow:
    """A track of a video, for the summary.

    Attributes:
        video: the name of the video.
        track_id: the track.
        category: what it is, empty where that is not known.
        category_id: its number, or None.
        score: how sure that is, or None.
        prompt_id: the prompt that asked for it, or None.
        first: first frame it is visible on,
        last: and last.
        frames: how many there are on which it is visible.
        mean_area: pixels on them, on average,
        mean_share: and of the picture, from 0 to 1.
    """

    video: str
    track_id: int
    category: str
    category_id: int | None
    score: float | None
    prompt_id: str | None
    first: int
    last: int
    frames: int
    mean_area: float
    mean_share: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an attempt at a job.

    Attributes:
        name: of the job.
        reason: why it is not finished; None when it is.
        again: whether another attempt may do better. What cannot be read today cannot be read in a minute.
        frames: how many it has.
        seconds: how long it took.
        warnings: what is odd about it.
        tracks: what was found.
        pieces: what has to be done first, before the video can be put together.
    """

    name: str
    reason: str | None = None
    again: bool = False
    frames: int = 0
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    tracks: tuple[TrackRow, ...] = ()
    pieces: tuple[Piece, ...] = ()


class Worker(Protocol):
    """What does jobs, with everything at hand."""

    def __call__(
        self,
        job: Job,
        *,
        aside: Path,
        content: bytes | None = None,
        decoder: Decoder = lambda video: video,
        on_frame: Callable[[int], None] = lambda done: None,
    ) -> Outcome:
        """Do a job, or go on with it where an earlier attempt stopped.

        Args:
            job: what to do.
            aside: the folder to work in until it is finished; nobody else uses it. Left behind when the process is
                killed, to be continued.
            content: the bytes of a video that lies on a network, where somebody has brought them.
            decoder: says where frames are decoded.
            on_frame: called with the number of finished frames.

        Returns:
            What became of it. What is there already is finished.

        Raises:
            OutputError: nothing can be written.
        """


class Work(Protocol):
    """What is done to every video, in words that another process understands."""

    @property
    def unfinished(self) -> Path:
        """The folder in which jobs are worked on."""

    def begin(self) -> Worker:
        """Load the model, in the process that uses it.

        Raises:
            MaskstreamError: it cannot be loaded, so that not one job can be done.
        """


class Backend(Protocol):
    """Where jobs are done."""

    def run(self, work: Work, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """Try every job once; outcomes come in any order.

        Raises:
            MaskstreamError: none of the jobs can be done: the model cannot be loaded, or the disk is full.
        """


def tried(name: str, aside: Path, do: Callable[[], Outcome]) -> Outcome:
    """Make an attempt, and say what became of it, whatever that is: other videos are not to suffer.

    Args:
        name: of the job.
        aside: what lies here goes when the attempt comes to nothing.
        do: the attempt.

    Raises:
        OutputError: nothing can be written.
    """
    began = time.monotonic()
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always", MaskstreamWarning)
        try:
            outcome = do()
        except OutputError:
            raise
        except MaskstreamError as error:
            outcome = Outcome(name, str(error))
        except Exception as error:
            outcome = Outcome(name, f"{type(error).__name__}: {error}".splitlines()[0], again=True)
    if outcome.reason is not None:
        shutil.rmtree(aside, ignore_errors=True)
    told = tuple(dict.fromkeys(str(one.message) for one in noted if issubclass(one.category, MaskstreamWarning)))
    return replace(outcome, seconds=time.monotonic() - began, warnings=told)
