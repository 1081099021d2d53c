"""Jobs on a cluster of Ray (https://docs.ray.io): a pipeline of Ray Data.

jobs ──► bring: what lies on a network, by tasks without a core of their own ──► segment: actors with a model each, and
         a GPU or a part of one ──► outcomes
                                                        frames ▲
         where there are GPUs, decode: a task with a core for each video under way, wherever there is one

Ray Data holds the first stage back when the second is behind, lets the pool of actors grow as there is room, and starts
actors and tasks of nodes that died again elsewhere. A decoder is held back when a few of its frames wait. Without GPUs,
cores are what is scarce: an actor has its own, and decodes in a thread. The output folder, and sources that are paths,
must be the same place on every node.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import pickle
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from glob import escape
from pathlib import Path
from typing import Any, TypeAlias

from maskstream.types import Frame, InputError, MaskstreamError, Video
from maskstream.video.notices import deliver, warn
from maskstream.video.source import Source

from .backend import Decoder, Job, Outcome, Work, Worker
from .local import cores, prepare_process
from .sources import is_remote, local_copy

Row: TypeAlias = dict[str, bytes]

LARGEST_BROUGHT = 1 << 30
"""Videos of more bytes than this are brought by the actor that segments them."""

_BROUGHT_AHEAD = 2
_DECODED_AHEAD = 8
_MOST_KILLED = 1


class RayBackend:
    """A cluster of Ray: the one this process is connected to, the one this machine is part of, or one of its own.

    Args:
        workers: most actors; None for as many as there is room for.
        gpus_per_worker: what each takes of a GPU.
        threads: of each actor; without a GPU it takes as many cores. With one, cores are for decoding, one a video.

    Raises:
        InputError: Ray is not installed.
    """

    def __init__(self, workers: int | None = None, *, gpus_per_worker: float = 0.0, threads: int = 1) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
        if importlib.util.find_spec("ray") is None or importlib.util.find_spec("pyarrow") is None:
            raise InputError('--engine ray needs Ray: pip install "ray[data]"')
        self._workers = workers
        self._gpus = gpus_per_worker
        self._threads = threads

    def run(self, work: Work, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """Try every job once, and once more where a node or an actor died; see `Backend.run`."""
        import ray

        cluster: Any = ray
        shutil.rmtree(work.unfinished, ignore_errors=True)
        work.unfinished.mkdir()
        with _connected(), _quietly():
            missing = {job.name for job in jobs}
            for row in self._pipeline(work, jobs, self._room(cluster.cluster_resources())):
                outcome = pickle.loads(row["outcome"])
                if isinstance(outcome, MaskstreamError):
                    raise outcome
                missing.discard(outcome.name)
                yield outcome
            for name in sorted(missing):
                yield Outcome(name, "the actors or nodes that worked on it died", again=True)

    def _room(self, resources: dict[str, float]) -> int:
        """How many actors there is room for now."""
        if self._workers is not None:
            return self._workers
        of_cores = int(resources.get("CPU", 1) / (1 if self._gpus else self._threads))
        of_gpus = int(resources.get("GPU", 0) / self._gpus) if self._gpus else of_cores
        return max(1, min(of_cores, of_gpus))

    def _pipeline(self, work: Work, jobs: Sequence[Job], room: int) -> Iterator[Row]:
        import ray.data

        rows: list[Row] = [{"job": pickle.dumps(job), "content": b""} for job in jobs]
        videos: Any = ray.data.from_items(rows, override_num_blocks=len(rows))
        if any(is_remote(job.source) for job in jobs):
            bring = partial(_bring, work)
            videos = videos.map(bring, num_cpus=0, concurrency=_BROUGHT_AHEAD * room)
        outcomes = videos.map(
            _Segment,
            fn_constructor_args=(work, str(Path.cwd()), self._threads, bool(self._gpus)),
            # One job beside that an actor is on: Ray Data lets the pool grow only when something waits.
            compute=ray.data.ActorPoolStrategy(
                min_size=1, initial_size=room, max_size=self._workers, max_tasks_in_flight_per_actor=2
            ),
            num_cpus=0 if self._gpus else self._threads,
            num_gpus=self._gpus or None,
        )
        return iter(outcomes.iter_rows())


def _bring(work: Work, row: Row) -> Row:
    """The bytes of a video that lies on a network. What goes wrong here goes wrong again where it is told."""
    job: Job = pickle.loads(row["job"])
    if is_remote(job.source):
        with suppress(Exception), local_copy(job.source, work.unfinished / f"{uuid.uuid4().hex}.brought") as path:
            if Path(path).stat().st_size <= LARGEST_BROUGHT:
                return {**row, "content": Path(path).read_bytes()}
    return row


class _Segment:
    """The model, on a worker."""

    def __init__(self, work: Work, folder: str, threads: int, decodes_elsewhere: bool = False) -> None:
        with suppress(OSError):
            os.chdir(folder)  # so that relative paths mean what they mean to who gave them
        prepare_process(0, threads)
        self._work = work
        self._decoder: Decoder = _DecodedElsewhere if decodes_elsewhere else lambda video: video
        self._worker: Worker | MaskstreamError
        try:
            self._worker = work.begin()
        except MaskstreamError as error:
            self._worker = error

    def __call__(self, row: Row) -> dict[str, bytes]:
        """Do one job. What stops all of them comes back as an error."""
        return {"outcome": pickle.dumps(self._outcome(row))}

    def _outcome(self, row: Row) -> Outcome | MaskstreamError:
        if isinstance(self._worker, MaskstreamError):
            return self._worker
        job: Job = pickle.loads(row["job"])
        # Every attempt keeps to itself, as an earlier one may still be running on a node that is believed dead. What
        # the dead leave is counted: Ray would begin a video that kills every actor for ever.
        if len([*self._work.unfinished.glob(f"{escape(job.name)}.????????")]) > _MOST_KILLED:
            return Outcome(job.name, f"{_MOST_KILLED + 1} actors that worked on it died", again=True)
        aside = _aside(self._work, job)
        aside.mkdir(parents=True)
        try:
            return self._worker(job, aside=aside, content=row["content"] or None, decoder=self._decoder)
        except MaskstreamError as error:
            return error


class _DecodedElsewhere(Source):
    """A video whose frames a task of the cluster decodes, on a core of its own, a few ahead of who takes them."""

    def __init__(self, video: Video) -> None:
        self.name, self.size_hw, self.fps, self.seekable = video.name, video.size_hw, video.fps, video.seekable
        self._video = video

    def indices(self) -> Sequence[int] | None:
        return self._video.indices() if isinstance(self._video, Source) else None

    def frames_from(self, index: int) -> Iterator[Frame]:
        import ray

        decode: Any = ray.remote(_decode)
        ahead = {"num_returns": "streaming", "_generator_backpressure_num_objects": _DECODED_AHEAD}
        coming = decode.options(num_cpus=1, **ahead).remote(self._video, index)
        try:
            for reference in coming:
                match ray.get(reference):
                    case str(text):
                        warn(text)
                    case MaskstreamError() as error:
                        raise error
                    case Frame() as frame:  # what Ray holds cannot be written to, and stays as long as anybody has it
                        yield Frame(frame.index, frame.timestamp, frame.image.copy())
        finally:
            ray.cancel(coming)

    def __getitem__(self, index: int) -> Frame:
        return self._video[index]


def _decode(video: Video, index: int) -> Iterator[Frame | MaskstreamError | str]:
    """Frames from ``index`` on, with the warnings that arise, and the error that ends them if one does."""
    told: list[str] = []
    deliver.set(told.append)
    # Ray sends into generators, and so into what they delegate to: it has to be a generator, not any iterator.
    try:
        yield from (frame for frame in video.frames_from(index))
    except MaskstreamError as error:
        yield error
    yield from (text for text in told)


def _aside(work: Work, job: Job) -> Path:
    return work.unfinished / f"{job.name}.{uuid.uuid4().hex[:8]}"


@contextmanager
def _connected() -> Iterator[None]:
    """A cluster: what is connected already stays so."""
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError:
        ray.init(num_cpus=cores(), include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _quietly() -> Iterator[None]:
    """Ray Data without bars and notes of its own. Lost blocks are videos that come again; a video may take hours."""
    from ray.data import DataContext

    context, logger = DataContext.get_current(), logging.getLogger("ray.data")
    ours = {"enable_progress_bars": False, "max_errored_blocks": -1, "execution_no_progress_timeout_s": -1}
    before, level = {name: getattr(context, name) for name in ours}, logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        for name, value in ours.items():
            setattr(context, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)
        logger.setLevel(level)
