"""What a video file or a folder of images is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from .decoding import opened
from .file import FileVideo
from .open import open_video
from .timeline import Timeline


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """Facts about a video; every field is plain data.

    Attributes:
        name: of the file or folder.
        container: FFmpeg's name of the file format, or ``images``.
        codec: FFmpeg's name of the coding, or the suffix of the images.
        pixel_format: FFmpeg's name, or None.
        height: in pixels, upright.
        width: in pixels, upright.
        rotation: degrees clockwise by which decoded pictures are turned to be upright.
        fps: average frames per second, or None.
        variable_frame_rate: whether frames are shown for different lengths of time; None when the file does not say.
        frame_count: frames in the file, or None.
        missing_frames: how many more frames the file announces than it holds: it was cut off.
        duration: seconds from the first frame to the end of the last, or None.
        has_audio: whether there is sound.
        seekable: whether any frame can be had without reading all before it.
    """

    name: str
    container: str
    codec: str
    pixel_format: str | None
    height: int
    width: int
    rotation: int
    fps: float | None
    variable_frame_rate: bool | None
    frame_count: int | None
    missing_frames: int
    duration: float | None
    has_audio: bool
    seekable: bool

    def to_json(self) -> dict[str, str | int | float | bool | None]:
        """The fields by name."""
        return asdict(self)

    def __str__(self) -> str:
        def known(value: object, form: str) -> str:
            return "unknown" if value is None else format(value, form)

        rate = {True: "variable", False: "constant", None: "of unknown regularity"}[self.variable_frame_rate]
        missing = f", {self.missing_frames} more announced but missing" if self.missing_frames else ""
        return "\n".join(
            (
                f"{self.name}",
                f"  format      {self.container}, {self.codec}, {self.pixel_format or 'unknown pixel format'}",
                f"  size        {self.width}×{self.height}" + (f", turned {self.rotation}°" * bool(self.rotation)),
                f"  frame rate  {known(self.fps, '.3f')} frames/s, {rate}",
                f"  frames      {known(self.frame_count, 'd')}{missing}",
                f"  duration    {known(self.duration, '.3f')} s",
                f"  sound       {'yes' if self.has_audio else 'no'}",
                f"  seeking     {'exact' if self.seekable else 'by reading from the beginning'}",
            )
        )


def probe(path: str | Path) -> VideoInfo:
    """Look into a video file or a folder of images. Reads all packets but decodes only the first frame.

    Raises:
        VideoError: it is no video.
    """
    video = open_video(path)
    height, width = video.size_hw
    if not isinstance(video, FileVideo):
        count = video.frame_count
        return VideoInfo(
            name=video.name,
            container="images" if video.seekable else "stream",
            codec=Path(path).suffix.lstrip(".") or "images",
            pixel_format=None,
            height=height,
            width=width,
            rotation=0,
            fps=video.fps,
            variable_frame_rate=None,
            frame_count=count,
            missing_frames=0,
            duration=count / video.fps if count and video.fps else None,
            has_audio=False,
            seekable=video.seekable,
        )
    timeline = video.timeline
    with opened(f"file:{path}", name=str(path)) as (container, stream):
        tick = float(stream.time_base or 0)
        return VideoInfo(
            name=video.name,
            container=container.format.name,
            codec=stream.codec_context.codec.canonical_name,
            pixel_format=stream.codec_context.pix_fmt,
            height=height,
            width=width,
            rotation=video.rotation,
            fps=_average_rate(timeline, tick) or video.fps,
            variable_frame_rate=_is_variable(timeline, tick),
            frame_count=timeline.count,
            missing_frames=timeline.missing,
            duration=_duration(timeline, tick, video.fps),
            has_audio=bool(container.streams.audio),
            seekable=timeline.timed,
        )


def _average_rate(timeline: Timeline, tick: float) -> float | None:
    if len(timeline.pts_n) < 2:
        return None
    return (len(timeline.pts_n) - 1) / (float(timeline.pts_n[-1] - timeline.pts_n[0]) * tick)


def _is_variable(timeline: Timeline, tick: float) -> bool | None:
    """Whether steps in time differ by more than the rounding of a container that counts milliseconds."""
    if len(timeline.pts_n) < 3:
        return None
    steps = np.diff(timeline.pts_n) * tick
    return bool(steps.max() - steps.min() > max(0.0021, 2.1 * tick))


def _duration(timeline: Timeline, tick: float, fps: float | None) -> float | None:
    if timeline.timed:
        return float(timeline.end - timeline.pts_n[0]) * tick
    return timeline.count / fps if fps else None
