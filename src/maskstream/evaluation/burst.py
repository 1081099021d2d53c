"""How BURST is scored: after exemplars, by classes, or in an open world (metrics specification §9)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Literal

from maskstream.datasets.burst import BurstDataset
from maskstream.formats.burst import (
    read_burst_results,
    write_burst_class_results,
    write_burst_exemplar_results,
    write_burst_open_world_results,
)
from maskstream.metrics import BurstGuided, BurstOpenWorld, BurstSequence
from maskstream.metrics.burst import COMMON
from maskstream.types import InputError, Task, VideoSample

from .instances import results_file
from .protocol import Metrics, Protocol, Results


class _Burst(Protocol[BurstDataset]):
    """What the tasks share. Frames that nobody annotated, and predictions on them, do not count."""

    file: ClassVar[str]

    @property
    def similarity(self) -> Literal["box", "mask"]:
        """Published numbers are of boxes, though the paper speaks of masks."""
        return "box" if self.options.compat == "official" else "mask"

    @property
    def common(self) -> frozenset[int]:
        """The categories of the group "common"."""
        return COMMON if self.dataset.common is None else self.dataset.common

    def metrics(self) -> Metrics:
        """New accumulators.

        Raises:
            InputError: another label space is asked for.
        """
        if self.options.categories is not None:
            raise InputError(
                "BURST is scored in its own categories, because its groups and its lists of what is not annotated are "
                "of these; for one class of everything take the task owvs"
            )
        return self.accumulators()

    @abstractmethod
    def accumulators(self) -> Metrics:
        """Those of the task."""

    def read_results(self, path: Path) -> Results:
        """The file of the task, or the folder it is in.

        Raises:
            InputError: it has a sequence that the data set has not.
        """
        file = results_file(path, self.file)
        results = read_burst_results(file)
        known = set(self.dataset.file.names)
        unknown = [name for name in results if name not in known]
        if unknown:
            raise InputError(f"{file} has the sequence {unknown[0]}, which BURST {self.dataset.split} has not")
        return results

    def score(self, video: VideoSample, results: Results, metrics: Metrics) -> None:
        """As always, once it is sure that frames have the names of the data set."""
        found = results.get(video.name)
        if found is not None and len(found):
            wanted = [frame.stem for frame in video.frames if frame.annotated]
            if wanted and not {frame.stem for frame in found.frames} & set(wanted):
                raise InputError(
                    f"{video.name}: no annotated_image_paths of the results is one of the data set; they have "
                    f"{found.frames[0].stem!r} where the data set has {wanted[0]!r}"
                )
        super().score(video, results, metrics)

    def meta(self, video: VideoSample, index: int) -> BurstSequence:
        """What the sequence says of its own annotation."""
        record = self.dataset.record(video.name)
        return BurstSequence(record.negative, record.not_exhaustive)


class ExemplarProtocol(_Burst):
    """Tracking after an exemplar, be it a point, a box or a mask."""

    headline = ("BURST", "HOTA_all")
    file = "exemplar_guided.json"

    def accumulators(self) -> Metrics:
        """HOTA and track AP."""
        return {
            "BURST": BurstGuided("exemplar", similarity=self.similarity, common=self.common, compat=self.options.compat)
        }

    def write_results(self, path: Path, videos: Iterable[VideoSample]) -> None:
        """``exemplar_guided.json``."""
        write_burst_exemplar_results(path, videos, self.dataset.categories)


class ClassProtocol(_Burst):
    """Tracking of known classes with a long tail."""

    headline = ("BURST", "HOTA_all")
    file = "class_guided.json"

    def accumulators(self) -> Metrics:
        """HOTA and track AP."""
        return {"BURST": BurstGuided("class", similarity=self.similarity, common=self.common)}

    def write_results(self, path: Path, videos: Iterable[VideoSample]) -> None:
        """``class_guided.json``."""
        write_burst_class_results(path, videos, self.dataset.categories)


class OpenWorldProtocol(_Burst):
    """Tracking of everything."""

    headline = ("BURST", "OWTA_all")
    file = "open_world.json"

    def accumulators(self) -> Metrics:
        """OWTA."""
        return {"BURST": BurstOpenWorld(similarity=self.similarity, common=self.common)}

    def write_results(self, path: Path, videos: Iterable[VideoSample]) -> None:
        """``open_world.json``."""
        write_burst_open_world_results(path, videos, self.dataset.categories)


PROTOCOLS: dict[tuple[str, Task], type[Protocol[Any]]] = {
    ("burst", Task.PET): ExemplarProtocol,
    ("burst", Task.VOS): ExemplarProtocol,
    ("burst", Task.OWVS): OpenWorldProtocol,
    ("burst", Task.VIS): ClassProtocol,
}
