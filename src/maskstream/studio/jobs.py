"""Work that takes long: one job at a time, in a thread, that can be watched and stopped."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeAlias

from maskstream.types import InputError, MaskstreamError

from .records import Json

Event: TypeAlias = dict[str, Json]
"""Something that happened, as plain data: ``type`` is "job", "masks" or "ended"."""
Work: TypeAlias = "Callable[[Job], Mapping[str, Json] | None]"
"""What a job does, in its thread; it returns what is to be said at the end."""

_LOG = logging.getLogger(__name__)


class BusyError(InputError):
    """A job is under way already."""


class JobStoppedError(Exception):
    """Somebody stopped the job; raised in its thread by `Job.advance`, and caught by `Jobs`."""


class Job:
    """Work under way.

    Attributes:
        id: number, from 1.
        what: it is, for people.
        done: how much of it is done.
        total: how much it is; 0 while nobody knows.
    """

    def __init__(self, number: int, what: str, tell: Callable[[Event], None]) -> None:
        self.id = number
        self.what = what
        self.done = 0
        self.total = 0
        self._began = time.monotonic()
        self._tell = tell
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def stopping(self) -> bool:
        """Whether somebody asked it to stop."""
        return self._stop.is_set()

    def advance(self, done: int, total: int) -> None:
        """Say how far it is.

        Raises:
            JobStoppedError: it is to stop.
        """
        if not self.total:
            self._began = time.monotonic()  # what came before was getting ready
        self.done, self.total = done, total
        self._tell({"type": "job", **self.to_plain()})
        self.check()

    def check(self) -> None:
        """Go on, or not.

        Raises:
            JobStoppedError: it is to stop.
        """
        if self.stopping:
            raise JobStoppedError

    def masks(self, revision: int, frames: list[int]) -> None:
        """Say that the masks of some frames are new."""
        self._tell({"type": "masks", "revision": revision, "frames": frames})

    def to_plain(self) -> Event:
        """How far it is: ``rate`` a second, and ``left`` seconds; None while nobody knows."""
        seconds = time.monotonic() - self._began
        rate = self.done / seconds if self.done and seconds > 0 else None
        left = None if rate is None else round((self.total - self.done) / rate, 1)
        about = {"id": self.id, "what": self.what, "done": self.done, "total": self.total}
        return {**about, "rate": None if rate is None else round(rate, 2), "left": left}

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for its end; returns whether it has come. In the thread of the job itself nobody can wait for it."""
        if self._thread is None or self._thread is threading.current_thread():
            return False
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run_in_thread(self, run: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=run, name=f"maskstream-job-{self.id}", daemon=True)
        self._thread.start()


class Jobs:
    """Runs jobs. Listeners are called in their threads, with nothing locked; they neither raise nor wait for a job."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: list[Callable[[Event], None]] = []
        self._current: Job | None = None
        self._started = 0

    @property
    def current(self) -> Job | None:
        """The job under way."""
        return self._current

    def start(self, what: str, work: Work) -> Job:
        """Begin a job.

        Its end is an event of type "ended" with ``id``, ``what``, ``outcome`` ("done", "stopped" or "failed"), a
        ``message`` for people, and what the work returned.

        Args:
            what: it is, for people.
            work: called in a thread, with the job.

        Raises:
            BusyError: another is under way.
        """
        with self._lock:
            if self._current is not None:
                raise BusyError(f"{self._current.what} is under way: wait, or stop it")
            self._started += 1
            job = self._current = Job(self._started, what, self.tell)
        job._run_in_thread(lambda: self._run(job, work))
        return job

    def stop(self, *, wait: bool = True) -> None:
        """Stop the job that is under way, if there is one. What it has done stays.

        Args:
            wait: until it has ended.
        """
        job = self._current
        if job is not None:
            job._stop.set()
            if wait:
                job.wait()

    def listen(self, callback: Callable[[Event], None]) -> Callable[[], None]:
        """Call this with every event from now on; returns what ends that."""
        with self._lock:
            self._listeners.append(callback)

        def unsubscribe() -> None:
            with self._lock:
                if callback in self._listeners:
                    self._listeners.remove(callback)

        return unsubscribe

    def tell(self, event: Event) -> None:
        """Tell everybody who listens."""
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener(event)

    def _run(self, job: Job, work: Work) -> None:
        outcome, message, more = "done", "", {}
        try:
            more = dict(work(job) or {})
        except JobStoppedError:
            outcome = "stopped"
        except MaskstreamError as error:
            outcome, message = "failed", str(error)
        except Exception as error:
            _LOG.exception("%s failed", job.what)
            outcome, message = "failed", f"{job.what} failed: {str(error) or type(error).__name__}"
        with self._lock:
            self._current = None
        self.tell({"type": "ended", "id": job.id, "what": job.what, "outcome": outcome, "message": message, **more})
