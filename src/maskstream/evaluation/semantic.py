"""How semantic segmentation is scored: IoU of classes, and for VSPW consistency (metrics specification §3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from maskstream.datasets import Dataset
from maskstream.datasets.ade20k import Ade20k
from maskstream.datasets.camvid import CAMVID_VOID
from maskstream.datasets.cityscapes import image_name
from maskstream.datasets.mapillary import Mapillary
from maskstream.formats.semantic_png import (
    counted_from_zero,
    read_flat_results,
    read_label_results,
    write_flat_results,
    write_label_results,
    write_vspw_results,
)
from maskstream.metrics import ForegroundJ, SemanticQuality, VideoConsistency
from maskstream.types import OBJECT, FrameAnnotation, InputError, Task, VideoSample

from .protocol import DatasetT, Metrics, Results
from .results import known_videos, results_folder
from .shown import ShownLabels

_LABEL_IDS = 34
"""labelIds of Cityscapes, evaluated or not."""


class SemanticProtocol(ShownLabels[DatasetT]):
    """mIoU over the classes of the ground truth."""

    headline = ("mIoU", "mIoU")

    def metrics(self) -> Metrics:
        """IoU and accuracy; of objects as one class also the J of all of them against everything else."""
        found: Metrics = {"mIoU": SemanticQuality(self.categories)}
        if self.categories == OBJECT:
            found["foreground"] = ForegroundJ(foreground=OBJECT.ids)
        return found


class VspwProtocol(SemanticProtocol[Dataset]):
    """VSPW: IoU and mVC."""

    def metrics(self) -> Metrics:
        """IoU, weighted IoU, accuracy, and consistency over 8 and 16 frames."""
        return super().metrics() | {"mVC": VideoConsistency(compat=self.options.compat)}

    def read_results(self, path: Path) -> Results:
        """``VIDEO/FRAME.png``, classes counted from 0."""
        folder = results_folder(path, self.names)
        return known_videos(path, self.names, read_label_results(folder, self.dataset.categories))

    def write_results(self, path: Path, videos: Iterable[VideoSample]) -> None:
        """``VIDEO/FRAME.png``; the first class where nothing is predicted, for which there is no value."""
        write_vspw_results(path, videos, self.dataset.categories)


class CamvidProtocol(SemanticProtocol[Dataset]):
    """CamVid."""

    def read_results(self, path: Path) -> Results:
        """``DRIVE/FRAME.png``, classes counted from 0; 11 is nothing."""
        categories = self.dataset.categories
        meaning = counted_from_zero(categories) | {CAMVID_VOID: None}
        folder = results_folder(path, self.names)
        return known_videos(path, self.names, read_label_results(folder, categories, meaning))

    def write_results(self, path: Path, videos: Iterable[VideoSample]) -> None:
        """``DRIVE/FRAME.png``; 11 where nothing is predicted."""
        write_label_results(path, videos, self.dataset.categories, nothing=CAMVID_VOID)


class CityscapesProtocol(SemanticProtocol[Dataset]):
    """Cityscapes: the labelled frame of each snippet."""

    def read_results(self, path: Path) -> Results:
        """Pictures with labelIds whose names begin like those of the truth, also in folders of cities.

        Raises:
            InputError: one belongs to no drive of the split. Other frames of a snippet are passed over.
        """
        categories = self.dataset.categories
        meaning = {label: label if label in categories.ids else None for label in range(_LABEL_IDS)}
        found = read_flat_results(path, categories, meaning, name_of=image_name)
        drives = {name.rsplit("_", maxsplit=1)[0] for name in self.names}
        strangers = [name for name in found if name.rsplit("_", maxsplit=1)[0] not in drives]
        if strangers:
            raise InputError(f"{path} has {strangers[0]}, which belongs to no drive of Cityscapes {self.dataset.split}")
        return found

    def write_results(self, path: Path, videos: Iterable[VideoSample]) -> None:
        """``CITY_SEQUENCE_FRAME.png``, labelIds; 0, unlabelled, where nothing is predicted."""
        write_flat_results(path, videos, {label: label for label in self.dataset.categories.ids}, nothing=0)


class Ade20kProtocol(SemanticProtocol[Ade20k]):
    """ADE20K."""

    def truth(self, video: VideoSample, sequence: str, index: int) -> FrameAnnotation:
        """Classes as annotated, without what instances cover."""
        return self.dataset.semantic(video.name)

    def answers(self, video: VideoSample) -> VideoSample:
        """The same."""
        return VideoSample(video.name, video.frames, lambda index: self.dataset.semantic(video.name))

    def read_results(self, path: Path) -> Results:
        """``IMAGE.png``, classes 1 to 150, 0 for nothing."""
        categories = self.dataset.categories
        meaning: dict[int, int | None] = {0: None, **{number: number for number in categories.ids}}
        return known_videos(path, self.names, read_flat_results(path, categories, meaning))

    def write_results(self, path: Path, videos: Iterable[VideoSample]) -> None:
        """``IMAGE.png``, classes 1 to 150, 0 for nothing."""
        write_flat_results(path, videos, {number: number for number in self.dataset.categories.ids}, nothing=0)


class MapillaryProtocol(SemanticProtocol[Mapillary]):
    """Mapillary Vistas."""

    def read_results(self, path: Path) -> Results:
        """``IMAGE.png``, labels as in the annotation; those that are not evaluated are nothing."""
        found = read_flat_results(path, self.dataset.categories, self.dataset.category_of)
        return known_videos(path, self.names, found)

    def write_results(self, path: Path, videos: Iterable[VideoSample]) -> None:
        """``IMAGE.png``; where nothing is predicted, the label that is not evaluated."""
        value_of: Mapping[int, int] = {c: label for label, c in self.dataset.category_of.items() if c is not None}
        nothing = next((label for label, c in self.dataset.category_of.items() if c is None), 0)
        write_flat_results(path, videos, value_of, nothing=nothing)


PROTOCOLS: dict[tuple[str, Task], type[ShownLabels[Any]]] = {
    ("vspw", Task.VSS): VspwProtocol,
    ("camvid", Task.VSS): CamvidProtocol,
    ("cityscapes", Task.VSS): CityscapesProtocol,
    ("ade20k", Task.VSS): Ade20kProtocol,
    ("mapillary", Task.VSS): MapillaryProtocol,
    ("mapillary-2.0", Task.VSS): MapillaryProtocol,
}
"""What scores which data set."""
