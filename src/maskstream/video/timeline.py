"""When every frame of a file is shown, read from its packets without decoding them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from .decoding import Damage, frames_per_second, read_packets

_MAX_REORDER = 32
"""No codec shows a picture later than this many that were decoded after it."""


@dataclass(frozen=True, slots=True)
class KeyPacket:
    """Where decoding can begin: decoding time, and the byte in the file."""

    dts: int
    place: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """The frames of a file, in the order of presentation.

    Attributes:
        count: how many frames there are.
        pts_n: ``int64[count]``, strictly increasing; empty when the file does not say when every frame is shown.
        key_pts_k: ``int64[K]``, increasing; where decoding can begin.
        key_packets: where those are, by their time.
        reorder: how many places ahead of a picture, as shown, lies the farthest one that is decoded before it.
        missing: how many more frames the file announces than it holds.
        end: when the last frame ends, in the unit of ``pts_n``.
    """

    count: int
    pts_n: NDArray[np.int64] = field(repr=False)
    key_pts_k: NDArray[np.int64] = field(repr=False)
    key_packets: Mapping[int, KeyPacket] = field(repr=False)
    reorder: int = 0
    missing: int = 0
    end: int = 0

    @property
    def timed(self) -> bool:
        """Whether frames can be told apart by their time; else only by counting from the beginning."""
        return len(self.pts_n) > 0

    def index_of(self, pts: int | None) -> int | None:
        """Index of the frame shown at ``pts``, or None when there is none."""
        if pts is None:
            return None
        index = int(np.searchsorted(self.pts_n, pts))
        return index if index < len(self.pts_n) and self.pts_n[index] == pts else None

    def key_before(self, index: int, *, nth: int = 1) -> int | None:
        """Time of the last (or ``nth`` to last) key frame at or before a frame, or None."""
        if not self.timed:
            return None
        position = int(np.searchsorted(self.key_pts_k, self.pts_n[index], side="right")) - nth
        return int(self.key_pts_k[position]) if position >= 0 else None


def read_timeline(container: InputContainer, stream: VideoStream, *, first_pts: int | None) -> Timeline:
    """Read all packets of a video.

    Args:
        container: opened, at its beginning.
        stream: of the container.
        first_pts: time of the first picture that can be decoded. Packets shown earlier (the rest of a group of
            pictures that was cut off) are no frames; frame 0 is that picture.
    """
    pts: list[int | None] = []
    keys: dict[int, KeyPacket] = {}
    end = packets = 0
    for packet in read_packets(container, stream, Damage()):
        packets += 1
        if packet.is_keyframe and packet.pts is not None:
            keys[packet.pts] = KeyPacket(packet.pts if packet.dts is None else packet.dts, packet.pos)
        if packet.is_discard or not packet.size:
            continue
        pts.append(packet.pts)
        if packet.pts is not None:
            end = max(end, packet.pts + (packet.duration or 0))
    pts_n, reorder = _presentation(pts, first_pts)
    return Timeline(
        count=len(pts) if pts_n is None else len(pts_n),
        pts_n=np.zeros(0, np.int64) if pts_n is None else pts_n,
        key_pts_k=np.array(sorted(keys), np.int64),
        key_packets=keys,
        reorder=reorder,
        missing=_missing(container, stream, end, packets=packets),
        end=end,
    )


def _presentation(pts: list[int | None], first_pts: int | None) -> tuple[NDArray[np.int64] | None, int]:
    """Times from ``first_pts`` on, in order, and how far ahead, in that order, lies a picture that is decoded earlier.

    None when times are absent or repeated, or when the clock is set back somewhere, as where broadcasts were joined.
    """
    if first_pts is None or None in pts or len(set(pts)) < len(pts):
        return None, 0
    decoded_n = np.array(pts, np.int64)
    rank_n = decoded_n.argsort().argsort()
    reorder = int((np.maximum.accumulate(rank_n) - rank_n).max(initial=0))
    if reorder > _MAX_REORDER:
        return None, 0
    return np.sort(decoded_n[decoded_n >= first_pts]), reorder


def _missing(container: InputContainer, stream: VideoStream, end: int, *, packets: int) -> int:
    """Frames that the header of a file promises beyond the last packet it holds; 0 when it promises nothing."""
    may_hide_frames = "mov" in container.format.name  # by an edit list
    if stream.frames and not may_hide_frames:
        return max(0, stream.frames - packets)
    rate = frames_per_second(stream)
    promised_end = _promised_end(container, stream)
    if rate is None or promised_end is None or stream.time_base is None:
        return 0
    frames_short = (promised_end - float(end * stream.time_base)) * rate
    if stream.frames:
        return max(0, stream.frames - packets) if frames_short > 0.5 else 0
    return round(frames_short) if frames_short > 1.5 else 0


def _promised_end(container: InputContainer, stream: VideoStream) -> float | None:
    """Seconds at which the stream should end, or None."""
    tag = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))  # Matroska
    if tag is not None:
        return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])
    if stream.duration is not None and stream.time_base is not None:
        return float((stream.duration + (stream.start_time or 0)) * stream.time_base)
    if container.duration is not None and len(container.streams) == 1:
        return (container.duration + max(container.start_time or 0, 0)) / 1e6
    return None
