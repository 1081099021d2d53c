"""Video files."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from maskstream.types import Frame, VideoError

from .decoding import (
    Damage,
    Decoder,
    Orientation,
    PictureConverter,
    decode_pictures,
    frames_per_second,
    opened,
    read_packets,
)
from .notices import warn
from .source import DEFAULT_FPS, Source
from .timeline import Timeline, read_timeline

Pictures: TypeAlias = Generator[tuple[int, VideoFrame], None, None]


_WARM_UP = 32
"""Frames that must have been decoded without a fault before damage is met; more than any decoder keeps."""


class FileVideo(Source):
    """A video file, decoded as it is read.

    A frame's index is the rank of its presentation time among all packets of the file, so it is the same however one
    gets there and stays the same when frames before it cannot be decoded. Files without such times (raw H.264, some
    AVI) are counted from the beginning instead.
    """

    seekable = True

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise VideoError(f"{path} does not exist")
        self.name = path.name
        self._path = path
        with self._opened() as (container, stream):
            first = next(decode_pictures(container, stream, Damage()), None)
            if first is None:
                raise VideoError(f"{path} has a video stream, but not one frame of it can be decoded")
            self._coded_hw = height, width = first.height, first.width
            self._orientation = Orientation.of(first)
            self._first_pts = first.pts
            self._seconds_per_tick = stream.time_base
            self.size_hw = (width, height) if self._orientation.transpose else (height, width)
            self.fps = frames_per_second(stream)

    @cached_property
    def timeline(self) -> Timeline:
        """When every frame is shown; read once, from all packets of the file."""
        with self._opened() as (container, stream):
            return read_timeline(container, stream, first_pts=self._first_pts)

    @property
    def rotation(self) -> int:
        """Degrees clockwise by which the file asks to be turned."""
        return self._orientation.degrees

    def indices(self) -> range:
        """Every ``Frame.index``."""
        return range(self.timeline.count)

    def __getitem__(self, index: int) -> Frame:
        if not 0 <= index < self.timeline.count:
            raise IndexError(f"{self.name} has {self.timeline.count} frames, so there is no frame {index}")
        frame = next(self.frames_from(index), None)
        if frame is None or frame.index != index:
            raise VideoError(f"frame {index} of {self.name} cannot be decoded: the file is damaged there")
        return frame

    def frames_from(self, index: int) -> Iterator[Frame]:
        """Yield frame ``index`` and those after it, as reading from the beginning does.

        Only damage that the decoder itself does not notice (wrong bits in VP8, say) can still make a difference.
        """
        index = max(index, 0)
        if index >= self.timeline.count:
            return
        convert = PictureConverter(self._coded_hw, self._orientation)
        damage, count = Damage(), 0
        with closing(self._pictures_from(index, damage)) as pictures:
            for position, picture in pictures:
                count += 1
                yield Frame(position, self._timestamp(position), convert(picture, damage))
        self._report(index, count, damage)

    def _pictures_from(self, index: int, damage: Damage) -> Pictures:
        """Pictures with their ``Frame.index``: decoded fast while there is no fault, and from there on with care."""
        following = index
        if self.timeline.timed:
            for position, picture in self._faultless(index):
                yield position, picture
                following = position + 1
        if following < self.timeline.count:
            yield from self._careful(following, damage)

    def _faultless(self, index: int) -> Pictures:
        """Pictures from ``index`` on, with threads, up to the first that a fault in the file could have touched.

        A picture leans on others that are shown up to ``timeline.reorder`` places later, so it waits for those.
        """
        damage, waiting = Damage(), deque[tuple[int, VideoFrame]]()
        key_pts = self.timeline.key_before(index) if index > 0 else None
        with self._opened_at(key_pts, decoder="strict") as (container, stream, first):
            expected = first
            for position, picture in self._numbered(container, stream, damage):
                if position < expected:  # shown before the key frame: may lean on pictures we did not decode
                    continue
                if position == 0:
                    damage.errors = 0  # of what precedes the first picture
                if position > expected or picture.is_corrupt or damage.errors:
                    return
                expected += 1
                if position >= index:
                    waiting.append((position, picture))
                while waiting and waiting[0][0] + self.timeline.reorder <= position:
                    yield waiting.popleft()
            if expected == self.timeline.count:
                yield from waiting

    def _careful(self, index: int, damage: Damage) -> Pictures:
        """Pictures from ``index`` on, whatever is wrong with them, the same in every run.

        What a decoder makes up for damaged data depends on its threads and on what it decoded before. So there is one
        thread, and it starts where the state no longer depends on the past: a faultless stretch with a key frame on its
        way ahead of ``index``, or else at the beginning of the file.
        """
        for key_pts in (self.timeline.key_before(max(0, index - _WARM_UP), nth=2), None):
            with self._opened_at(key_pts, decoder="repeatable") as (container, stream, expected):
                pictures = self._numbered(container, stream, damage)
                if expected == 0 or self._runs_to(index, pictures, expected, damage):
                    yield from ((position, picture) for position, picture in pictures if position >= index)
                    return

    @staticmethod
    def _runs_to(index: int, pictures: Pictures, expected: int, damage: Damage) -> bool:
        """Whether everything from ``expected`` up to ``index`` decodes without a fault."""
        while expected < index:
            position, picture = next(pictures, (index, None))
            if position < expected:
                continue
            if picture is None or position > expected or picture.is_corrupt or damage.errors:
                damage.errors = 0  # it will be met again
                return False
            expected += 1
        return True

    @contextmanager
    def _opened_at(self, key_pts: int | None, *, decoder: Decoder) -> Iterator[tuple[InputContainer, VideoStream, int]]:
        """The file at a key frame, with its index; at the beginning without one, or when the file cannot seek to it."""
        if key_pts is not None:
            with self._opened(decoder) as (container, stream):
                if self._seek(container, stream, key_pts):
                    yield container, stream, int(self.timeline.pts_n.searchsorted(key_pts))
                    return
        with self._opened(decoder) as (container, stream):
            yield container, stream, 0

    def _seek(self, container: InputContainer, stream: VideoStream, key_pts: int) -> bool:
        """Go to a key frame or an earlier one; False when it is not found there."""
        try:
            for target in (key_pts, self.timeline.key_packets[key_pts].dts):  # containers differ in which they seek to
                container.seek(target, stream=stream)
                if self._is_at_known_key(container, stream, key_pts):
                    container.seek(target, stream=stream)
                    return True
        except av.error.FFmpegError:
            return False
        return False

    def _is_at_known_key(self, container: InputContainer, stream: VideoStream, key_pts: int) -> bool:
        """Whether the next key frame is early enough, and has the time it had when all packets were read.

        Some containers count packets to tell the time and, when packets are damaged, count otherwise after a seek.
        """
        for packet in read_packets(container, stream, Damage()):
            if packet.is_keyframe and packet.pts is not None:
                key = self.timeline.key_packets.get(packet.pts)
                return key is not None and key.place == packet.pos and packet.pts <= key_pts
        return False

    def _numbered(self, container: InputContainer, stream: VideoStream, damage: Damage) -> Pictures:
        """Decoded pictures with their ``Frame.index``, which increases."""
        last = -1
        for picture in decode_pictures(container, stream, damage):
            position = self.timeline.index_of(picture.pts) if self.timeline.timed else last + 1
            if position is not None and position > last:
                last = position
                yield position, picture

    def _timestamp(self, index: int) -> float:
        pts_n = self.timeline.pts_n
        if not self.timeline.timed or self._seconds_per_tick is None:
            return index / (self.fps or DEFAULT_FPS)
        return float(int(pts_n[index] - pts_n[0]) * self._seconds_per_tick)

    def _report(self, first: int, count: int, damage: Damage) -> None:
        """Warn once, at the end, when the file did not give everything it should have."""
        expected = self.timeline.count + self.timeline.missing - first
        # a file that does not time its frames may hold packets that are no frames
        short = count < expected if self.timeline.timed else bool(damage.errors or self.timeline.missing)
        parts = []
        if short:
            where = f" from frame {first} on" if first else ""
            parts.append(f"read {count} of {expected} frames{where}: the file is damaged or ends early")
        if damage.concealed:
            parts.append(f"parts of {damage.concealed} frames are damaged and were made up by the decoder")
        if damage.resized:
            parts.append(f"{damage.resized} frames have another size and were scaled to that of the first")
        if parts:
            warn(f"{self.name}: {'; '.join(parts)}")

    def _opened(self, decoder: Decoder = "repeatable") -> AbstractContextManager[tuple[InputContainer, VideoStream]]:
        # "file:" keeps FFmpeg from reading a name such as "a:b.mp4" as a protocol
        return opened(f"file:{self._path}", name=str(self._path), decoder=decoder)
