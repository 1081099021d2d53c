"""Videos on a cluster of Ray (https://docs.ray.io): a pipeline of Ray Data.

jobs ──► bring: what lies on a network, by tasks without a core of their own ──► segment: actors with a model each,
         and a GPU or a part of one ──► outcomes

Ray Data holds the first stage back when the second is behind, lets the pool of actors grow as there is room, and starts
actors and tasks of nodes that died again elsewhere. The output folder, and sources that are paths, must be the same
place on every node. Decoding is a thread of the actor: see ``docs/scale.md`` for why.
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

from maskstream.types import InputError, MaskstreamError, VideoSegmenter

from .batch import Job, Outcome, Work, attempt
from .local import cores, prepare_process
from .sources import is_remote, local_copy

Row: TypeAlias = dict[str, bytes]

LARGEST_BROUGHT = 1 << 30
"""Videos of more bytes than this are brought by the actor that segments them."""

_BROUGHT_AHEAD = 2
_MOST_KILLED = 1


class RayBackend:
    """A cluster of Ray: the one this process is connected to, the one this machine is part of, or one of its own.

    Args:
        workers: most actors; None for as many as there is room for.
        gpus_per_worker: what each takes of a GPU.
        threads: cores that each takes.

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
        """Try every video once, and once more where a node or an actor died; see `Backend.run`."""
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
        of_cores = int(resources.get("CPU", 1) / self._threads)
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
            fn_constructor_args=(work, str(Path.cwd()), self._threads),
            # One video beside that an actor is on: Ray Data lets the pool grow only when something waits.
            compute=ray.data.ActorPoolStrategy(
                min_size=1, initial_size=room, max_size=self._workers, max_tasks_in_flight_per_actor=2
            ),
            num_cpus=self._threads,
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

    def __init__(self, work: Work, folder: str, threads: int) -> None:
        with suppress(OSError):
            os.chdir(folder)  # so that relative paths mean what they mean to who gave them
        prepare_process(0, threads)
        self._work = work
        self._system: VideoSegmenter | MaskstreamError
        try:
            self._system = work.options.load()
        except MaskstreamError as error:
            self._system = error

    def __call__(self, row: Row) -> dict[str, bytes]:
        """Do one video. What stops all of them comes back as an error."""
        return {"outcome": pickle.dumps(self._outcome(row))}

    def _outcome(self, row: Row) -> Outcome | MaskstreamError:
        if isinstance(self._system, MaskstreamError):
            return self._system
        job: Job = pickle.loads(row["job"])
        # Every attempt keeps to itself, as an earlier one may still be running on a node that is believed dead. What
        # the dead leave is counted: Ray would begin a video that kills every actor for ever.
        if len([*self._work.unfinished.glob(f"{escape(job.name)}.????????")]) > _MOST_KILLED:
            return Outcome(job.name, f"{_MOST_KILLED + 1} actors that worked on it died", again=True)
        aside = _aside(self._work, job)
        aside.mkdir()
        try:
            return attempt(job, self._work, self._system, aside=aside, content=row["content"] or None)
        except MaskstreamError as error:
            return error


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
