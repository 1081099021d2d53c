"""Where the result of every frame goes while a run is under way: journal, masks, overlay.

A sink writes in order, can be made durable at any frame, and can continue from there. Each works in a thread of its
own behind a short queue, so that encoding and compression overlap with segmentation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from maskstream.formats import write_label_png
from maskstream.formats.events import EventWriter
from maskstream.formats.journal import JournalWriter
from maskstream.formats.soft_png import write_soft_frame, write_soft_listing
from maskstream.types import CategorySet, Frame, FrameSegmentation, StateDict
from maskstream.video import VideoWriter, join_videos

from .draw import draw_overlay
from .folder import RunFolder


class FrameSink(Protocol):
    """Takes results in frame order. ``checkpoint`` makes them durable and says how to continue behind them."""

    def write(self, frame: Frame, segmentation: FrameSegmentation) -> None:
        """Take one result."""

    def checkpoint(self) -> StateDict:
        """Make everything written so far durable; return what the constructor needs to continue."""

    def close(self) -> None:
        """Release files. What was written stays."""


class LineSink:
    """``segments.jsonl`` or ``events.jsonl``, a line or several a frame.

    Args:
        writer: of the file.
    """

    def __init__(self, writer: JournalWriter | EventWriter) -> None:
        self._writer = writer

    def write(self, frame: Frame, segmentation: FrameSegmentation) -> None:
        """Append what there is to say of the frame."""
        self._writer.write(segmentation, frame.timestamp)

    def checkpoint(self) -> StateDict:
        """Sync the file."""
        return {"position": self._writer.sync()}

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


class MaskSink:
    """``masks/00000.png``: segment ids of each frame, named by its index in the source."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder.masks

    def write(self, frame: Frame, segmentation: FrameSegmentation) -> None:
        """Write one PNG."""
        write_label_png(self._folder / f"{frame.index:05d}.png", segmentation.panoptic_map().cpu().numpy())

    def checkpoint(self) -> StateDict:
        """Every file is complete already."""
        return {}

    def close(self) -> None:
        """Nothing is open."""


class ScoreSink:
    """``scores/VIDEO/ID/00000.png``: how likely each object is at each pixel; their listing is written at the end.

    Args:
        folder: of the run.
        name: of the video.
        state: of a run that is continued.
    """

    def __init__(self, folder: RunFolder, name: str, state: StateDict | None) -> None:
        self._folder = folder.scores / name
        self._entries: list[dict[str, object]] = list(state["entries"]) if state else []

    def write(self, frame: Frame, segmentation: FrameSegmentation) -> None:
        """Write a picture for each object and the background."""
        self._entries.append(write_soft_frame(self._folder, f"{frame.index:05d}", segmentation))

    def checkpoint(self) -> StateDict:
        """Every picture is complete already."""
        return {"entries": list(self._entries)}

    def close(self) -> None:
        """Nothing is open."""

    def write_listing(self, size_hw: tuple[int, int]) -> None:
        """Write the listing of a video of this height and width."""
        write_soft_listing(self._folder, size_hw, self._entries)


class OverlaySink:
    """``overlay.mp4``, encoded in closed parts: one ends at every checkpoint, `join` makes the video of them."""

    def __init__(
        self,
        folder: RunFolder,
        size_hw: tuple[int, int],
        state: StateDict | None,
        *,
        fps: float | None,
        categories: CategorySet | None,
    ) -> None:
        self._folder = folder.progress / "overlay"
        self._folder.mkdir(exist_ok=True)
        self._output = folder.overlay
        self._size_hw = size_hw
        self._fps = fps
        self._categories = categories
        self._parts: int = state["parts"] if state else 0
        self._writer: VideoWriter | None = None

    def write(self, frame: Frame, segmentation: FrameSegmentation) -> None:
        """Draw and encode one frame."""
        if self._writer is None:
            self._writer = VideoWriter(self._part(self._parts), size_hw=self._size_hw, fps_hint=self._fps)
        self._writer.write(draw_overlay(frame.image, segmentation, categories=self._categories), frame.timestamp)

    def checkpoint(self) -> StateDict:
        """End the part."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            self._parts += 1
        return {"parts": self._parts}

    def close(self) -> None:
        """Give up a part that was not ended; it is made again when the run continues."""
        if self._writer is not None:
            self._writer.discard()
            self._writer = None

    def join(self, *, audio_from: Path | None, start: float) -> None:
        """Make the video of its parts, with the sound of a file; it begins at ``start`` seconds of the source."""
        parts = [self._part(number) for number in range(self._parts)]
        if parts:
            join_videos(parts, self._output, audio_from=audio_from, start=start)

    def _part(self, number: int) -> Path:
        return self._folder / f"{number:05d}.mp4"


class SinkThreads:
    """Feeds sinks, each in a thread of its own; an error in one is raised at the next call.

    Args:
        sinks: by the name their state is kept under.
        depth: most results that wait for a sink.
    """

    def __init__(self, sinks: dict[str, FrameSink], *, depth: int = 8) -> None:
        self._sinks = sinks
        self._depth = depth
        self._threads = {name: ThreadPoolExecutor(1, thread_name_prefix=f"sink-{name}") for name in sinks}
        self._waiting: deque[list[Future[None]]] = deque()

    def write(self, frame: Frame, segmentation: FrameSegmentation) -> None:
        """Hand a result to every sink; waits when the slowest is ``depth`` behind."""
        self._waiting.append(
            [self._threads[name].submit(sink.write, frame, segmentation) for name, sink in self._sinks.items()]
        )
        while len(self._waiting) > self._depth:
            _raise_errors(self._waiting.popleft())

    def checkpoint(self) -> StateDict:
        """Wait until everything is written and durable; return the state of every sink by name."""
        while self._waiting:
            _raise_errors(self._waiting.popleft())
        return {name: self._threads[name].submit(sink.checkpoint).result() for name, sink in self._sinks.items()}

    def close(self) -> None:
        """Write what waits and release the sinks. Errors are not raised here: `checkpoint` first to see them."""
        for thread in self._threads.values():
            thread.shutdown(wait=True)
        for sink in self._sinks.values():
            sink.close()


def _raise_errors(futures: Sequence[Future[None]]) -> None:
    for future in futures:
        future.result()
