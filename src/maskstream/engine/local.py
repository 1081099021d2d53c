"""Jobs on this machine: a few worker processes, each with a model of its own and one job at a time.

A worker that ends, whatever kills it, loses the job it was on and no other; another takes its place. Workers end with
the process that began them.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

import cv2
import torch

from maskstream.types import InputError, MaskstreamError

from .backend import Job, Outcome, Work

_SECONDS_BETWEEN_REPORTS = 0.5
_PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a worker is.

    Attributes:
        worker: its number.
        video: what it works on.
        frames: how many of its frames are finished.
    """

    worker: int
    video: str
    frames: int


@dataclass(frozen=True, slots=True)
class _Ready:
    """A worker has its model."""


@dataclass(frozen=True, slots=True)
class _Impossible:
    """A worker met what stops all videos."""

    error: MaskstreamError


class LocalBackend:
    """Worker processes of this machine.

    Args:
        workers: how many.
        threads: of each, for arithmetic; decoding and writing have theirs besides. None for what OMP_NUM_THREADS says,
            or a share of the cores.
        on_progress: called with how far workers are, a few times a second.

    Raises:
        InputError: less than one worker or thread.
    """

    def __init__(
        self,
        workers: int,
        *,
        threads: int | None = None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        if workers < 1 or (threads is not None and threads < 1):
            raise InputError(f"{workers} workers of {threads} threads do nothing: there must be one of each")
        self.workers = workers
        self.threads = threads or int(os.environ.get("OMP_NUM_THREADS") or max(1, cores() // workers))
        self._on_progress = on_progress

    def run(self, work: Work, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """Try every job once; see `Backend.run`."""
        waiting = deque(jobs)
        busy: dict[Connection[object, object], _Worker] = {}
        leaving: list[_Worker] = []
        try:
            for number in range(min(self.workers, len(jobs))):
                self._begin(busy, work, number)
            while busy:
                for connection in wait(list(busy)):
                    assert isinstance(connection, Connection)
                    worker = busy[connection]
                    try:
                        message = connection.recv()
                    except (EOFError, OSError):
                        del busy[connection]
                        yield from worker.lost()
                        if waiting:
                            self._begin(busy, work, worker.number)
                        continue
                    match message:
                        case Progress():
                            self._on_progress(message)
                            continue
                        case _Impossible():
                            raise message.error
                        case Outcome():
                            worker.job = None
                            yield message
                        case _:
                            worker.is_ready = True
                    if waiting:
                        worker.give(waiting.popleft())
                    else:
                        leaving.append(busy.pop(connection))
                        worker.dismiss()
        finally:
            for worker in busy.values():
                worker.process.terminate()
            for worker in (*busy.values(), *leaving):
                worker.process.join(_PATIENCE)
                worker.connection.close()

    def _begin(self, busy: dict[Connection[object, object], _Worker], work: Work, number: int) -> None:
        context = multiprocessing.get_context("spawn")  # forking a process that has used torch's threads may hang
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_serve, args=(theirs, work, number, self.threads), name=f"maskstream-{number}", daemon=True
        )
        with _environment(self.threads):
            process.start()
        theirs.close()  # so that ours ends when the worker does
        busy[ours] = _Worker(number, process, ours)


@dataclass(slots=True)
class _Worker:
    """A worker process, seen from outside."""

    number: int
    process: SpawnProcess
    connection: Connection[object, object]
    job: Job | None = None
    is_ready: bool = False

    def give(self, job: Job) -> None:
        """Let it do a job; if it is no more, that is met when it is listened to."""
        self.job = job
        with suppress(OSError):
            self.connection.send(job)

    def dismiss(self) -> None:
        """There is nothing left to do."""
        with suppress(OSError):
            self.connection.send(None)

    def lost(self) -> Iterator[Outcome]:
        """What it was on, when it is no more.

        Raises:
            InputError: it ended before it could do anything.
        """
        self.process.join(_PATIENCE)
        self.connection.close()
        how = _ending(self.process.exitcode)
        if not self.is_ready:
            raise InputError(f"a worker {how} before it had loaded the model: there may be too little memory for it")
        if self.job is not None:
            yield Outcome(self.job.name, f"its worker {how}", again=True)


def _ending(code: int | None) -> str:
    """How a process ended, in words."""
    if code is not None and code < 0:
        with suppress(ValueError):
            return f"was killed ({signal.Signals(-code).name})"
    return f"ended with code {code}"


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


@contextmanager
def _environment(threads: int) -> Iterator[None]:
    """What a process that is begun meanwhile reads before it imports anything."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


# In the worker.


def _serve(connection: Connection[object, object], work: Work, number: int, threads: int) -> None:
    """Do one job after the other."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who began us decides what is stopped
    threading.Thread(target=_end_with_parent, daemon=True).start()
    prepare_process(number, threads)
    try:
        worker = work.begin()
        connection.send(_Ready())
        while isinstance(job := connection.recv(), Job):
            report = partial(_report, connection, number, job.name, [0.0])
            connection.send(worker(job, aside=work.unfinished / job.name, on_frame=report))
    except MaskstreamError as error:
        connection.send(_Impossible(error))
    connection.close()
    os._exit(0)  # everything is on the disk; taking the interpreter apart would take seconds


def prepare_process(number: int, threads: int) -> None:
    """Give a worker its share of cores, and its GPU where there are some."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    gpus = torch.cuda.device_count()
    if gpus:
        torch.cuda.set_device(number % gpus)


def _report(connection: Connection[object, object], number: int, video: str, last: list[float], frames: int) -> None:
    """Say how far a video is, now and then."""
    now = time.monotonic()
    if now - last[0] >= _SECONDS_BETWEEN_REPORTS:
        last[0] = now
        connection.send(Progress(number, video, frames))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
