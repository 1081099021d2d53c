"""Small real videos, made on the fly. Every frame carries its number in its pixels."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

BITS, BLOCK = 8, 16
HEIGHT, WIDTH = 48, BITS * BLOCK
TICKS = 90_000


def picture(number: int, *, size_hw: tuple[int, int] = (HEIGHT, WIDTH)) -> NDArray[np.uint8]:
    """A moving texture under the bits of ``number``, one block each, least significant first."""
    height, width = size_hw
    y, x = np.mgrid[:height, :width]
    waves = [np.sin((x + 3 * number) / 7 + c) * np.cos((y + number) / 5) for c in range(3)]
    image = (127 + 90 * np.stack(waves, axis=-1)).astype(np.uint8)
    for bit in range(BITS):
        image[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 235 if number >> bit & 1 else 20
    return image


def number_of(image: NDArray[np.uint8]) -> int:
    """The number in a picture that went through a lossy codec."""
    blocks = [image[4 : BLOCK - 4, bit * BLOCK + 4 : (bit + 1) * BLOCK - 4].mean() for bit in range(BITS)]
    return sum((mean > 127) << bit for bit, mean in enumerate(blocks))


def encode(
    path: Path,
    codec: str = "libx264",
    *,
    count: int = 40,
    times: Sequence[float] | None = None,
    numbers: Sequence[int] | None = None,
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    group: int = 12,
    b_frames: int = 2,
    container_options: dict[str, str] | None = None,
    format: str | None = None,
    tone: str | None = None,
) -> Path:
    """Encode numbered pictures at 25 frames a second, or at ``times`` (seconds); ``tone`` adds sound in that codec."""
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg cannot encode {codec}")
    numbers = range(count) if numbers is None else numbers
    times = [n / 25 for n in range(len(numbers))] if times is None else times
    with av.open(str(path), "w", format=format, options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, pixel_format
        if times[1:] and any(abs(t * 25 - round(t * 25)) > 1e-9 for t in times):
            stream.codec_context.time_base = Fraction(1, TICKS)
        stream.codec_context.gop_size = group
        stream.codec_context.max_b_frames = b_frames
        audio = container.add_stream(tone, rate=48000) if tone else None
        for number, time in zip(numbers, times, strict=True):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame = frame.reformat(format=pixel_format)
            frame.pts, frame.time_base = round(time * TICKS), Fraction(1, TICKS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio is not None:
            container.mux(p for p in sound_packets(audio, seconds=times[-1] + 0.04))
    return path


def sound_packets(stream, *, seconds: float):
    """A 440 Hz tone, encoded."""
    resampler = av.AudioResampler(
        format=stream.format, layout=stream.layout, rate=48000, frame_size=stream.codec_context.frame_size or 1024
    )
    wave = (0.3 * np.sin(np.arange(round(seconds * 48000)) * 440 * 2 * np.pi / 48000)).astype(np.float32)
    block = av.AudioFrame.from_ndarray(wave[None], format="flt", layout="mono")
    block.sample_rate, block.pts, block.time_base = 48000, 0, Fraction(1, 48000)
    for part in resampler.resample(block):
        yield from stream.encode(part)
    yield from stream.encode(None)


def turned(source: Path, path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Copy an MP4 with ``a, b, c, d`` of the display matrix in its track header."""
    data = bytearray(source.read_bytes())
    place = data.index(b"tkhd") + 4 + 40  # after version and flags, times, ids, duration, layer and volume
    for offset, value in zip((0, 4, 12, 16), matrix, strict=True):
        data[place + offset : place + offset + 4] = (value * 65536).to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    return path


def same(left, right) -> bool:
    """Whether two frames are the same, pixel for pixel."""
    return left.index == right.index and left.timestamp == right.timestamp and bool((left.image == right.image).all())
