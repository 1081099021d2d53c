"""Frames and masks as pictures for a browser, quickly enough to scrub.

::

    asked for ──► cache ──► there: at once
                    │
                    └─────► not there: a thread decodes it, and then onward, ahead of where somebody looks

Frames are JPEG, masks are PNG of ids. What was made is kept, up to a number of bytes.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Generator, Hashable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TypeAlias, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from maskstream.types import Frame, InputError, VideoError
from maskstream.video.notices import deliver
from maskstream.video.source import Source

BUDGET = 256 * 2**20
"""Bytes of pictures that are kept."""
THUMBNAIL_HEIGHT = 72
SMALLEST_HEIGHT = 16
_AHEAD = 48
"""Frames that are decoded before somebody asks: two seconds."""
_BEHIND = 24
"""Frames that are made at once when somebody steps backward, because a file is decoded forward only."""
_NEAR = 64
"""Frames that are decoded and dropped rather than sought past."""
_MOST_WAITING = 12
"""Wishes that wait at once; of more the oldest are given up: whoever scrubs has left them behind."""
_PATIENCE = 60.0
"""Seconds that a wish waits."""
_QUALITY = 85
"""Of JPEG: edges look sharp on a screen, at a third of the bytes that a data set would spend."""

_Key: TypeAlias = tuple[int, int]
"""Frame and height."""


class ByteCache:
    """Pictures by key; those that nobody asked for the longest go first. For any number of threads.

    Args:
        budget: most bytes that are kept.
    """

    def __init__(self, budget: int = BUDGET) -> None:
        self.budget = budget
        self._entries: OrderedDict[Hashable, bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes that are kept now."""
        return self._size

    def __contains__(self, key: Hashable) -> bool:
        return key in self._entries

    def get(self, key: Hashable) -> bytes | None:
        """The picture, or None."""
        with self._lock:
            found = self._entries.get(key)
            if found is not None:
                self._entries.move_to_end(key)
            return found

    def put(self, key: Hashable, value: bytes) -> None:
        """Keep a picture; one that is larger than the budget is not kept."""
        with self._lock:
            self._size -= len(self._entries.pop(key, b""))
            self._entries[key] = value
            self._size += len(value)
            while self._size > self.budget:
                self._size -= len(self._entries.popitem(last=False)[1])


class FramePictures:
    """The frames of a video as JPEG, for any number of threads.

    Args:
        video: that can be sought in.
        cache: where they are kept; nobody else uses it.
        ahead: frames that are made before they are asked for.
    """

    def __init__(self, video: Source, cache: ByteCache, *, ahead: int = _AHEAD) -> None:
        self._video = video
        self._cache = cache
        self._ahead = ahead
        self._count = video.frame_count or 0
        self._changed = threading.Condition()
        self._wanted: dict[_Key, Future[bytes]] = {}
        self._unreadable: set[int] = set()
        self._head: _Key | None = None  # what was asked for last
        self._begin = 0  # where to begin reading when it has to be sought
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="studio-pictures", daemon=True)
        self._thread.start()

    def jpeg(self, index: int, height: int | None = None) -> bytes:
        """One frame.

        Args:
            index: ``Frame.index``.
            height: of the picture; never more than that of the video, and that of the video if None.

        Raises:
            InputError: there is no such frame, or it is no longer wanted: many others have been asked for since.
            VideoError: it cannot be decoded.
        """
        if not 0 <= index < self._count:
            raise InputError(f"{self._video.name} has {self._count} frames, so there is no frame {index}")
        key = index, shown_height(height, self._video.size_hw)
        with self._changed:
            if self._closed:
                raise InputError(f"{self._video.name} has been closed")
            last, self._head = self._head, key
            self._changed.notify()
            if (found := self._cache.get(key)) is not None:
                return found
            if index in self._unreadable:
                raise self._damaged(index)
            backward = last is not None and 0 < last[0] - index <= _BEHIND
            self._begin = max(index - _BEHIND, 0) if backward and self._ahead else index
            wish = self._wanted.setdefault(key, Future())
            while len(self._wanted) > _MOST_WAITING:
                oldest = next(iter(self._wanted))
                self._wanted.pop(oldest).set_exception(InputError(f"frame {oldest[0]} is no longer wanted"))
        try:
            return wish.result(_PATIENCE)
        except FutureTimeoutError:
            raise VideoError(f"frame {index} of {self._video.name} was not decoded in {_PATIENCE:.0f} s") from None

    def close(self) -> None:
        """Stop decoding. Whoever waits is told so."""
        with self._changed:
            self._closed = True
            for wish in self._wanted.values():
                wish.set_exception(InputError(f"{self._video.name} has been closed"))
            self._wanted.clear()
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        """Read frame after frame, as long as one of them is wanted."""
        deliver.set(lambda message: None)  # what is damaged is said when a video is opened
        frames: Iterator[Frame] = iter(())
        position = self._count  # of the next frame: none
        while (target := self._next(position)) is not None:
            if not position <= target <= position + _NEAR:
                _close(frames)
                position = self._begin if self._begin <= target <= self._begin + _NEAR else target
                frames = self._video.frames_from(position)
            position = self._read(frames, position, target)
        _close(frames)

    def _read(self, frames: Iterator[Frame], position: int, target: int) -> int:
        """Read one frame on the way to another; returns the position of the next."""
        try:
            frame = next(frames, None)
            if frame is None or frame.index > target:
                self._give_up(range(position, self._count if frame is None else frame.index))
            if frame is None:
                return self._count
            self._make(frame)
        except Exception as error:  # whoever waits for the frame is told; the thread goes on with others
            self._give_up(range(target, target + 1), error)
            return self._count
        return frame.index + 1

    def _next(self, position: int) -> int | None:
        """The frame to come to next, when there is one; None when closed."""
        with self._changed:
            while not self._closed:
                target = self._target(position)
                if target is not None:
                    return target
                self._changed.wait()
        return None

    def _target(self, position: int) -> int | None:
        """The wish that is reached first by reading on, else the newest, else a frame ahead of the last one seen."""
        near = [index for index, _ in self._wanted if position <= index <= position + _NEAR]
        if near:
            return min(near)
        if self._wanted:
            return next(reversed(self._wanted))[0]
        if self._head is None:
            return None
        index, height = self._head
        ahead = range(index + 1, min(index + 1 + self._ahead, self._count))
        missing = (n for n in ahead if n not in self._unreadable and (n, height) not in self._cache)
        target = next(missing, None)
        if target is not None:
            self._begin = target
        return target

    def _make(self, frame: Frame) -> None:
        """Make the pictures of this frame that somebody waits for, or soon will."""
        with self._changed:
            heights = {height for index, height in self._wanted if index == frame.index}
            if self._head is not None:
                index, height = self._head
                if -_BEHIND <= frame.index - index <= self._ahead and self._ahead:
                    heights.add(height)
        for height in heights:
            key = frame.index, height
            made = self._cache.get(key) or jpeg(frame.image, height)
            self._cache.put(key, made)
            with self._changed:
                wish = self._wanted.pop(key, None)
                if wish is not None:
                    wish.set_result(made)

    def _give_up(self, indices: range, error: Exception | None = None) -> None:
        """Say of frames that they cannot be decoded."""
        with self._changed:
            self._unreadable.update(indices)
            for key in [key for key in self._wanted if key[0] in indices]:
                self._wanted.pop(key).set_exception(error or self._damaged(key[0]))

    def _damaged(self, index: int) -> VideoError:
        return VideoError(f"frame {index} of {self._video.name} cannot be decoded: the file is damaged there")


def shown_height(height: int | None, size_hw: tuple[int, int]) -> int:
    """The height of a picture of a frame of this size: what is asked for, but neither tiny nor enlarged."""
    return size_hw[0] if height is None else min(max(height, SMALLEST_HEIGHT), size_hw[0])


def shown_size(height: int, size_hw: tuple[int, int]) -> tuple[int, int]:
    """Height and width of a picture of this height."""
    return height, max(round(size_hw[1] * height / size_hw[0]), 1)


def jpeg(image: NDArray[np.uint8], height: int) -> bytes:
    """A frame as JPEG.

    Args:
        image: ``uint8[H, W, 3]``, RGB.
        height: of the picture, at most H.

    Returns:
        The bytes of the file.
    """
    rows, columns = shown_size(height, (image.shape[0], image.shape[1]))
    if rows != image.shape[0]:
        image = np.asarray(cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)
    done, coded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    assert done  # in memory, of three bytes a pixel: there is nothing to fail
    return coded.tobytes()


def ids_png(ids: NDArray[np.int32], height: int) -> bytes:
    """Ids as PNG: red + 256 green + 65536 blue, the id of the pixel nearest to the centre of each.

    Args:
        ids: ``int32[H, W]``.
        height: of the picture, at most H.

    Returns:
        The bytes of the file.
    """
    rows, columns = shown_size(height, (ids.shape[0], ids.shape[1]))
    if rows != ids.shape[0]:
        ids = ids[_nearest(ids.shape[0], rows)[:, None], _nearest(ids.shape[1], columns)]
    octets = np.ascontiguousarray(ids, dtype="<i4").view(np.uint8).reshape(*ids.shape, 4)
    how = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    done, coded = cv2.imencode(".png", cv2.cvtColor(octets, cv2.COLOR_RGBA2BGR), how)
    assert done  # in memory, of three bytes a pixel: there is nothing to fail
    return coded.tobytes()


def _nearest(length: int, shown: int) -> NDArray[np.int64]:
    """For each of ``shown`` pixels, which of ``length`` has the nearest centre."""
    return ((np.arange(shown) + 0.5) * length / shown).astype(np.int64)


def _close(frames: Iterator[Frame]) -> None:
    """Stop a decoder at once."""
    if isinstance(frames, Generator):
        cast("Generator[Frame, None, None]", frames).close()
