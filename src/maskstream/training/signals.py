"""Being asked to stop, and leaving."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import NoReturn

_PATIENCE = 3.0
"""Seconds in which another Ctrl-C is the same one: a launcher of processes passes on what they have heard already."""


class StopSignals:
    """Listens for SIGINT and SIGTERM while it is open. A SIGINT some seconds after the first interrupts at once."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._before: dict[int, object] = {}

    @property
    def asked(self) -> bool:
        """Whether there was one."""
        return self._since is not None

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._since is None:
            self._since = now
        elif number == signal.SIGINT and now - self._since > _PATIENCE:
            raise KeyboardInterrupt


def ignore_stop_signals() -> None:
    """For processes that read data: whoever started them is asked too, and ends them in time."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def leave(code: int) -> NoReturn:
    """End one of several processes that shared batches, once all it has to write is written.

    Nothing is torn down: threads of gloo that still run when the interpreter goes away abort it now and then
    (``terminate called without an active exception``), and the launcher takes that for a failure.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
