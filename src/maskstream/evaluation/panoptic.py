"""How panoptic segmentation is scored: VPQ and STQ with the settings of each benchmark (metrics specification §1-2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from maskstream.datasets import Dataset
from maskstream.datasets.ade20k import Ade20k
from maskstream.datasets.vipseg import PanopticDataset
from maskstream.formats.panoptic import (
    read_image_results,
    read_vipseg_results,
    write_image_results,
    write_vipseg_results,
)
from maskstream.formats.step_png import read_step_results, write_step_results
from maskstream.metrics import (
    CITYSCAPES_VPS_WINDOWS,
    DEVA_WINDOWS,
    VIPSEG_WINDOWS,
    SegmentationTrackingQuality,
    VideoPanopticQuality,
)
from maskstream.types import FrameAnnotation, Task, VideoSample

from .protocol import Metrics, Results
from .results import known_videos, results_folder
from .shown import ShownLabels


class VipsegProtocol(ShownLabels[PanopticDataset]):
    """VIPSeg: VPQ as its own program has it, VPQ as DEVA's has it, and STQ."""

    headline = ("VPQ", "VPQ_1246")

    def metrics(self) -> Metrics:
        """The programs differ in windows and in what becomes of short videos.

        The official STQ takes the first segment of a video for a crowd. In another label space nothing is official, and
        there is no crowd.
        """
        compat = self.options.compat
        as_published = compat == "official" and self.options.categories is None
        return {
            "VPQ": VideoPanopticQuality(self.categories, windows=VIPSEG_WINDOWS, short_clips="skip", compat=compat),
            "VPQ (DEVA)": VideoPanopticQuality(self.categories, windows=DEVA_WINDOWS, compat=compat),
            "STQ": SegmentationTrackingQuality(
                self.categories, crowd="first" if as_published else "none", compat=compat
            ),
        }

    def read_results(self, path: Path) -> Results:
        """``pred.json`` and ``pan_pred``."""
        return known_videos(path, self.names, read_vipseg_results(path, self.dataset.categories))

    def write_results(self, path: Path, videos: Iterable[VideoSample]) -> None:
        """``pred.json`` and ``pan_pred``."""
        write_vipseg_results(path, videos, self.dataset.categories)

    def meta(self, video: VideoSample, index: int) -> Mapping[int, int] | None:
        """The areas that the annotation lists."""
        return self.dataset.areas(video, index)


class CityscapesVpsProtocol(ShownLabels[PanopticDataset]):
    """Cityscapes-VPS: VPQ over labelled frames, and STQ."""

    headline = ("VPQ", "VPQ_1234")

    def metrics(self) -> Metrics:
        """Windows of 1 to 4 labelled frames, which its program calls 0, 5, 10 and 15."""
        compat = self.options.compat
        return {
            "VPQ": VideoPanopticQuality(
                self.categories, windows=CITYSCAPES_VPS_WINDOWS, short_clips="skip", compat=compat
            ),
            "STQ": SegmentationTrackingQuality(self.categories, compat=compat),
        }

    def read_results(self, path: Path) -> Results:
        """``pred.json`` and ``pan_pred``; entries without a name are in the order of the annotation."""
        names = [stem for frames in self.dataset.listed.values() for stem in frames]
        found = read_image_results(
            path, self.dataset.categories, video_of=lambda stem: stem.split("_", maxsplit=1)[0], names=names
        )
        return known_videos(path, self.names, found)

    def write_results(self, path: Path, videos: Iterable[VideoSample]) -> None:
        """``pred.json`` and ``pan_pred``, the labelled frames."""
        write_image_results(path, videos, self.dataset.categories)

    def meta(self, video: VideoSample, index: int) -> Mapping[int, int] | None:
        """The areas that the annotation lists."""
        return self.dataset.areas(video, index)


class KittiStepProtocol(ShownLabels[Dataset]):
    """KITTI-STEP: STQ, and VPQ over windows of 1 to 4 frames."""

    headline = ("STQ", "STQ")

    def metrics(self) -> Metrics:
        """Things without an instance are crowd."""
        compat = self.options.compat
        return {
            "STQ": SegmentationTrackingQuality(self.categories, compat=compat),
            "VPQ": VideoPanopticQuality(
                self.categories, windows=CITYSCAPES_VPS_WINDOWS, short_clips="skip", compat=compat
            ),
        }

    def read_results(self, path: Path) -> Results:
        """``SEQUENCE/FRAME.png``."""
        folder = results_folder(path, self.names)
        return known_videos(path, self.names, read_step_results(folder, self.dataset.categories))

    def write_results(self, path: Path, videos: Iterable[VideoSample]) -> None:
        """``SEQUENCE/FRAME.png``."""
        write_step_results(path, videos, self.dataset.categories)


class ImagePanopticProtocol(ShownLabels[Dataset]):
    """Pictures: PQ, which is VPQ of single frames (metrics specification §11)."""

    headline = ("PQ", "VPQ_1")

    def metrics(self) -> Metrics:
        """PQ, SQ and RQ."""
        return {"PQ": VideoPanopticQuality(self.categories, windows=(1,), compat=self.options.compat)}

    def truth(self, video: VideoSample, sequence: str, index: int) -> FrameAnnotation:
        """The picture with its instances."""
        if isinstance(self.dataset, Ade20k):
            return self.dataset.panoptic(video.name)
        return super().truth(video, sequence, index)

    def read_results(self, path: Path) -> Results:
        """A JSON file and the folder of its pictures."""
        return known_videos(path, self.names, read_image_results(path, self.dataset.categories))

    def write_results(self, path: Path, videos: Iterable[VideoSample]) -> None:
        """``pred.json`` and ``pan_pred``."""
        write_image_results(path, videos, self.dataset.categories)


PROTOCOLS: dict[tuple[str, Task], type[ShownLabels[Any]]] = {
    ("vipseg", Task.VPS): VipsegProtocol,
    ("cityscapes-vps", Task.VPS): CityscapesVpsProtocol,
    ("kitti-step", Task.VPS): KittiStepProtocol,
    ("cityscapes", Task.VPS): ImagePanopticProtocol,
    ("ade20k", Task.VPS): ImagePanopticProtocol,
    ("mapillary", Task.VPS): ImagePanopticProtocol,
    ("mapillary-2.0", Task.VPS): ImagePanopticProtocol,
}
"""What scores which data set."""
