"""How saliency in still images is scored: J of the foreground, averaged over images."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from maskstream.datasets import Dataset
from maskstream.datasets.saliency import read_salient
from maskstream.formats.referring import write_answer
from maskstream.metrics import ForegroundJ, paired_names
from maskstream.types import FrameAnnotation, FrameRef, Task, VideoSample

from .protocol import Metrics, Protocol, Results


class SaliencyProtocol(Protocol[Dataset]):
    """One mask an image, whatever the objects in it."""

    headline = ("foreground", "J")

    def metrics(self) -> Metrics:
        """J of the foreground."""
        return {"foreground": ForegroundJ()}

    def read_results(self, path: Path) -> Results:
        """``NAME.png``."""
        found = {p.relative_to(path).with_suffix("").as_posix(): p for p in sorted(path.rglob("*.png"))}
        results = {name: _result(name, p) for name, p in found.items() if not p.name.startswith(".")}
        truth = dict.fromkeys(video.name for video in self.dataset.videos)
        paired_names(truth, results, what="image", where=str(path), allow_missing=True)
        return results

    def write_results(self, path: Path, videos: Iterable[VideoSample]) -> None:
        """``NAME.png``, 0 and 255."""
        for video in videos:
            write_answer(path / f"{video.name}.png", video.annotation(0).segmentation)


def _result(name: str, path: Path) -> VideoSample:
    read: partial[FrameAnnotation] = partial(read_salient, path)
    return VideoSample(name, (FrameRef(path.stem),), read)


PROTOCOLS: dict[tuple[str, Task], type[Protocol[Any]]] = {("saliency", Task.UVOS): SaliencyProtocol}
