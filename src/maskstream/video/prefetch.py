"""Decoding ahead, in a thread."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Generator, Iterable
from contextvars import copy_context
from dataclasses import dataclass
from queue import Empty, Queue

from maskstream.types import Frame, InputError, MaskstreamWarning

from .notices import deliver
from .source import closing_frames

_PATIENCE = 5.0
"""Seconds to wait for the thread to end; one that hangs on a silent pipe or camera ends with the process."""


@dataclass(frozen=True, slots=True)
class _Notice:
    message: str


@dataclass(frozen=True, slots=True)
class _End:
    error: BaseException | None


def prefetch(frames: Iterable[Frame], depth: int = 4) -> Generator[Frame, None, None]:
    """Read frames in a background thread, at most ``depth`` ahead.

    The thread starts with the first frame asked for. It ends with the frames, or when the returned generator is closed,
    as soon as the frame being read has come. Errors and warnings reach the consumer where the frame they concern would
    have been.

    Args:
        frames: a `Video` or any iterable of frames; read in the thread.
        depth: how many frames may wait, at least 1.
    """
    if depth < 1:
        raise InputError(f"depth of the queue must be at least 1, not {depth}")
    return _consume(frames, depth)


def _consume(frames: Iterable[Frame], depth: int) -> Generator[Frame, None, None]:
    queue: Queue[Frame | _Notice | _End] = Queue(depth)
    stop = threading.Event()
    thread = threading.Thread(
        target=copy_context().run, args=(_produce, frames, queue, stop), name="maskstream-prefetch", daemon=True
    )
    thread.start()
    try:
        while not isinstance(item := queue.get(), _End):
            if isinstance(item, _Notice):
                # issued here: the consumer's filters apply, and code that silences warnings for a moment in another
                # thread cannot swallow it
                warnings.warn(item.message, MaskstreamWarning, stacklevel=2)
            else:
                yield item
        if item.error is not None:
            raise item.error
    finally:
        stop.set()
        _drain(queue)  # wakes the thread if it waits for room; it puts at most one more item
        thread.join(_PATIENCE)


def _produce(frames: Iterable[Frame], queue: Queue[Frame | _Notice | _End], stop: threading.Event) -> None:
    def put_notice(message: str) -> None:
        if not stop.is_set():
            queue.put(_Notice(message))

    deliver.set(put_notice)
    error: BaseException | None = None
    try:
        with closing_frames(frames) as iterator:
            for frame in iterator:
                if stop.is_set():
                    break
                queue.put(frame)
    except BaseException as caught:  # raised again where it can be handled
        error = caught
    if not stop.is_set():
        queue.put(_End(error))


def _drain(queue: Queue[Frame | _Notice | _End]) -> None:
    try:
        while True:
            queue.get_nowait()
    except Empty:
        pass
