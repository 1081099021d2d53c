"""How KITTI-MOTS is scored (metrics specification §10)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from maskstream.datasets import Dataset
from maskstream.formats.mots import read_mots_results, write_mots_results
from maskstream.metrics import Mots
from maskstream.types import InputError, Task, VideoSample

from .protocol import Metrics, Protocol, Results


class MotsProtocol(Protocol[Dataset]):
    """HOTA, sMOTSA and the like of each class."""

    @property
    def headline(self) -> tuple[str, str]:  # type: ignore[override]
        """HOTA of the first class: there is no mean over classes."""
        return "MOTS", f"{self.categories.names[0]}/HOTA"

    def metrics(self) -> Metrics:
        """One accumulator of all.

        Raises:
            InputError: the labels of this part are hidden.
        """
        if self.dataset.split == "test":
            raise InputError("the labels of KITTI-MOTS test are hidden: its server scores them")
        return {"MOTS": Mots(self.categories)}

    def read_results(self, path: Path) -> Results:
        """``VIDEO.txt``.

        Raises:
            InputError: there is none, or one of a sequence that the data set has not.
        """
        results = read_mots_results(path, classes=self.dataset.categories.ids)
        known = {video.name for video in self.dataset.videos}
        unknown = [name for name in results if name not in known]
        if unknown:
            raise InputError(f"{path} has the sequence {unknown[0]}, which KITTI-MOTS {self.dataset.split} has not")
        return results

    def write_results(self, path: Path, videos: Iterable[VideoSample]) -> None:
        """``VIDEO.txt``."""
        write_mots_results(path, videos, self.dataset.categories)


PROTOCOLS: dict[tuple[str, Task], type[Protocol[Any]]] = {("kitti-mots", Task.VIS): MotsProtocol}
