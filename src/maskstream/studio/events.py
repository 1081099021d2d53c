"""Telling every tab what happens, from any thread, without ever waiting for one.

What a tab has not been told yet is put together instead of queued: which frames have other masks, how far the job is,
what has ended, and the revision. So a tab that is slow, or asleep, is told less often, and costs no memory.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TypeAlias

from maskstream.types import InputError

Event: TypeAlias = Mapping[str, object]
"""``type`` is "masks", "ended", "job" or "state"."""

_MOST_ENDED = 8
MOST_TABS = 32


class Tab:
    """What one tab has not been told yet; from `Broadcast.tab`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._news = asyncio.Event()
        self._lock = threading.Lock()
        self._frames: set[int] = set()
        self._masks: Event | None = None
        self._ended: deque[Event] = deque(maxlen=_MOST_ENDED)
        self._job: Event | None = None
        self._state: Event | None = None
        self._told = True

    def add(self, event: Event) -> None:
        """Put an event together with those that wait; for any thread."""
        with self._lock:
            kind = event["type"]
            if kind == "masks":
                frames = event["frames"]
                assert isinstance(frames, (list, tuple))
                self._frames.update(frames)
                self._masks = event
            elif kind == "ended":
                self._ended.append(event)
                if self._job is not None and self._job["id"] == event["id"]:
                    self._job = None
            elif kind == "job":
                self._job = event
            else:
                self._state = event
            wake, self._told = self._told, False
        if wake:
            with suppress(RuntimeError):  # the server has ended
                self._loop.call_soon_threadsafe(self._news.set)

    async def take(self) -> list[Event]:
        """Wait for news; all that wait, and none of them again."""
        await self._news.wait()
        with self._lock:
            self._news.clear()
            self._told = True
            masks = None if self._masks is None else {**self._masks, "frames": sorted(self._frames)}
            waiting = [masks, *self._ended, self._job, self._state]
            self._frames, self._masks, self._job, self._state = set(), None, None, None
            self._ended.clear()
        return [event for event in waiting if event is not None]


class Broadcast:
    """Events for every tab that listens. At most `MOST_TABS` do."""

    def __init__(self) -> None:
        self._tabs: set[Tab] = set()
        self._lock = threading.Lock()

    def publish(self, event: Event) -> None:
        """Tell all tabs; for any thread, and returns at once."""
        with self._lock:
            tabs = tuple(self._tabs)
        for tab in tabs:
            tab.add(event)

    @contextmanager
    def tab(self) -> Iterator[Tab]:
        """Events from now on, for one tab. In the event loop.

        Raises:
            InputError: too many tabs listen.
        """
        tab = Tab(asyncio.get_running_loop())
        with self._lock:
            if len(self._tabs) >= MOST_TABS:
                raise InputError(f"{MOST_TABS} tabs are open: close one")
            self._tabs.add(tab)
        try:
            yield tab
        finally:
            with self._lock:
                self._tabs.discard(tab)
