"""Joining encoded parts, and the sound of the source, without encoding again."""

from __future__ import annotations

import heapq
import io
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from maskstream.types import InputError, VideoError

from .decoding import Damage, decode_pictures, opened, read_packets
from .mp4 import TICKS_PER_SECOND, new_mp4
from .notices import warn

AnyPacket: TypeAlias = "Packet[VideoStream] | Packet[AudioStream]"


def join_videos(parts: Sequence[Path], output: Path, *, audio_from: Path | None = None, start: float = 0.0) -> None:
    """Join parts that a `VideoWriter` wrote, in order, and add the sound of the source.

    Nothing is encoded again, and every frame keeps its time. The file appears under its name when it is complete.
    Same parts, same bytes.

    Args:
        parts: files of one frame size and quality, each later than the one before.
        output: the MP4 file to write.
        audio_from: the video whose sound to copy, or None. Without sound in it there is none; sound that MP4 cannot
            hold is left out with a warning.
        start: seconds in the source that become second 0; usually the time of the first frame.

    Raises:
        InputError: there are no parts, or they do not fit together.
        VideoError: a part cannot be read.
        OutputError: the file cannot be written.
    """
    if not parts:
        raise InputError(f"there is nothing to join into {output}")
    begin, end = _span(parts)
    with ExitStack() as resources:
        sound = None if audio_from is None else _open_sound(audio_from, resources)
        container = resources.enter_context(new_mp4(Path(output)))
        _, template = resources.enter_context(opened(f"file:{parts[0]}", name=str(parts[0])))
        stream = container.add_stream_from_template(template, opaque=True)
        packets = [_video_packets(parts, stream, template.codec_context.extradata, start)]
        if sound is not None:
            audio = container.add_stream_from_template(sound.stream, opaque=True)
            packets.append(_sound_packets(sound, audio, begin=begin, end=end, start=start))
        for packet in heapq.merge(*packets, key=_seconds):
            container.mux(packet)


@dataclass(frozen=True, slots=True)
class _Sound:
    """The sound of a video; ``zero`` is the time of its first picture, in seconds of the container's clock."""

    container: InputContainer
    stream: AudioStream
    zero: Fraction


def _open_sound(path: Path, resources: ExitStack) -> _Sound | None:
    if not path.is_file():  # a folder of images, a camera: silent
        return None
    try:
        with opened(f"file:{path}", name=str(path), decoder="repeatable") as (container, stream):
            first = next(decode_pictures(container, stream, Damage()), None)
            zero = Fraction(0) if first is None or first.pts is None else first.pts * Fraction(stream.time_base or 0)
        with opened(f"file:{path}", name=str(path)) as (container, _):
            if not container.streams.audio:
                return None
            audio = container.streams.audio[0]
            if not _fits_mp4(container, audio):
                codec = "its coding" if audio.codec_context is None else audio.codec_context.name
                warn(f"the sound of {path} was left out: MP4 cannot hold {codec}")
                return None
        container, _ = resources.enter_context(opened(f"file:{path}", name=str(path)))
    except VideoError as error:
        warn(f"the sound was left out: {error}")
        return None
    return _Sound(container, container.streams.audio[0], zero)


def _fits_mp4(container: InputContainer, stream: AudioStream) -> bool:
    """Whether MP4 can hold this sound. Its muxer says so only when it finishes a file, so one packet is tried."""
    trial = av.open(io.BytesIO(), "w", format="mp4")
    try:
        copy = trial.add_stream_from_template(stream, opaque=True)
        for packet in islice(read_packets(container, stream, Damage()), 1):
            packet.stream = copy
            trial.mux(packet)
        trial.close()
    except (ValueError, av.error.FFmpegError):
        return False
    return True


def _video_packets(
    parts: Sequence[Path], stream: VideoStream, settings: bytes | None, start: float
) -> Iterator[AnyPacket]:
    shift, last = round(start * TICKS_PER_SECOND), None
    for part in parts:
        with opened(f"file:{part}", name=str(part)) as (container, part_stream):
            if part_stream.codec_context.extradata != settings:
                raise InputError(f"{part} was encoded with other settings than {parts[0]}: encode all parts alike")
            for packet in _readable(container, part_stream, part):
                if packet.pts is None or packet.dts is None or (last is not None and packet.dts <= last):
                    raise InputError(f"{part} is not later than the part before it: give the parts in order")
                last = packet.dts
                packet.pts -= shift
                packet.dts -= shift
                packet.stream = stream
                yield packet


def _readable(container: InputContainer, stream: VideoStream, part: Path) -> Iterator[AnyPacket]:
    damage = Damage()
    yield from read_packets(container, stream, damage)
    if damage.errors:
        raise VideoError(f"{part} is damaged: encode it again")


def _sound_packets(
    sound: _Sound, stream: AudioStream, *, begin: Fraction, end: Fraction, start: float
) -> Iterator[AnyPacket]:
    """The packets heard between ``begin`` and ``end`` (seconds from the first picture), moved to our clock."""
    last = None
    for packet in read_packets(sound.container, sound.stream, Damage()):
        if packet.pts is None or packet.dts is None or (last is not None and packet.dts <= last):
            continue
        last = packet.dts
        time = packet.pts * packet.time_base - sound.zero
        if time >= end:
            return
        if time + (packet.duration or 0) * packet.time_base <= begin:
            continue
        shift = round((sound.zero + Fraction(start)) / packet.time_base)
        packet.pts -= shift
        packet.dts -= shift
        packet.stream = stream
        yield packet


def _span(parts: Sequence[Path]) -> tuple[Fraction, Fraction]:
    """Time of the first frame and end of the last one, in seconds of the source."""
    times = []
    for part in (parts[0], parts[-1]):
        with opened(f"file:{part}", name=str(part)) as (container, stream):
            for packet in read_packets(container, stream, Damage()):
                if packet.pts is not None:
                    times += [packet.pts * packet.time_base, (packet.pts + (packet.duration or 0)) * packet.time_base]
    if not times:
        raise VideoError(f"{parts[0]} holds no frame: encode it again")
    return min(times), max(times)


def _seconds(packet: AnyPacket) -> Fraction:
    return (packet.dts or 0) * packet.time_base
