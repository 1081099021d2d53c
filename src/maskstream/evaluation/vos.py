"""How video object segmentation is scored: DAVIS, YouTube-VOS, MOSE, LVOS, SA-V, VIPOSeg and any folder of masks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from maskstream.datasets.lvos import LvosDataset
from maskstream.datasets.mask_folders import IMAGES, MASKS, MaskDataset
from maskstream.datasets.mose import MoseDataset
from maskstream.datasets.places import pictures
from maskstream.datasets.sav import SavDataset
from maskstream.datasets.viposeg import ViposegDataset
from maskstream.datasets.ytvos import YoutubeVosDataset
from maskstream.formats.davis import write_proposals
from maskstream.formats.indexed_png import (
    object_files,
    read_foreground,
    read_mask_folders,
    read_masks,
    read_object_folders,
    write_foreground_folders,
    write_mask_folders,
    write_object_folders,
)
from maskstream.metrics import (
    Davis2016,
    DavisSemiSupervised,
    DavisUnsupervised,
    GenericVos,
    Lvos,
    LvosObject,
    MoseV2,
    SaV,
    Viposeg,
    ViposegObject,
    YoutubeObject,
    YoutubeVos,
)
from maskstream.types import FrameAnnotation, FrameRef, InputError, Task, VideoSample

from .protocol import Metrics, Protocol, Results
from .results import known_videos, results_folder

MaskDatasetT = TypeVar("MaskDatasetT", bound=MaskDataset)


class MaskFolders(Protocol[MaskDatasetT]):
    """Results are ``VIDEO/00000.png`` or as said; folders around them, such as ``Annotations``, are passed."""

    def read_results(self, path: Path) -> Results:
        """A folder of masks a video.

        Raises:
            InputError: no folder is named like a video of the data set, or one like none.
        """
        names = self.dataset.videos.names
        return known_videos(path, names, read_mask_folders(results_folder(path, names), read=self.read_mask))

    def read_mask(self, path: Path, frame_index: int) -> FrameAnnotation:
        """A picture of results; 255 is an id like others."""
        return read_masks(path, frame_index)

    def write_results(self, path: Path, videos: Iterable[VideoSample]) -> None:
        """``VIDEO/00000.png``, palette."""
        write_mask_folders(path, videos)

    def answers(self, video: VideoSample) -> VideoSample:
        """The frames that have labels."""
        return only_frames(video, lambda frame: frame.annotated)

    def score(self, video: VideoSample, results: Results, metrics: Metrics) -> None:
        """Give a video to the metrics, and end it.

        Raises:
            InputError: truth or prediction is missing or does not fit; the message names video and frame.
        """
        if video.read_annotation is None:
            raise InputError(
                f"{self.dataset.name} {self.dataset.split} has only the masks that are given, as in {video.name}: its "
                "labels are hidden, and its results are scored by the server of the benchmark"
            )
        super().score(video, results, metrics)


class NumberedFrames(MaskFolders[MaskDatasetT]):
    """The metric knows frames by the numbers in their names."""

    def frame_index(self, video: VideoSample, index: int) -> int:
        """The number in the name."""
        return number_of(video.frames[index].stem, video.name)


class DavisProtocol(MaskFolders[MaskDataset]):
    """DAVIS-2017 semi-supervised."""

    headline = (DavisSemiSupervised.name, "J&F-Mean")

    def metrics(self) -> Metrics:
        """J and F of the objects of the first frame."""
        return {DavisSemiSupervised.name: DavisSemiSupervised()}


class DavisUnsupervisedProtocol(MaskFolders[MaskDataset]):
    """DAVIS-2017 unsupervised."""

    headline = (DavisUnsupervised.name, "J&F-Mean")

    def metrics(self) -> Metrics:
        """J and F of the proposals that fit best."""
        return {DavisUnsupervised.name: DavisUnsupervised()}

    def write_results(self, path: Path, videos: Iterable[VideoSample]) -> None:
        """``VIDEO/00000.png`` with the 20 tracks that cover most pixels, numbered from 1."""
        write_proposals(path, videos)


class Davis2016Protocol(MaskFolders[MaskDataset]):
    """DAVIS-2016, with and without a given mask."""

    headline = (Davis2016.name, "J&F-Mean")

    def metrics(self) -> Metrics:
        """J and F of the foreground."""
        return {Davis2016.name: Davis2016()}

    def read_mask(self, path: Path, frame_index: int) -> FrameAnnotation:
        """0 and anything else, or a saliency map."""
        return read_foreground(path, frame_index)

    def write_results(self, path: Path, videos: Iterable[VideoSample]) -> None:
        """``VIDEO/00000.png``, grey, 0 and 255."""
        write_foreground_folders(path, videos)


class FolderProtocol(MaskFolders[MaskDataset]):
    """Any folder of masks."""

    headline = (GenericVos.name, "J&F")

    def metrics(self) -> Metrics:
        """J and F of every object since it was first seen."""
        return {GenericVos.name: GenericVos()}

    def write_results(self, path: Path, videos: Iterable[VideoSample]) -> None:
        """``VIDEO/00000.png``, palette, or RGB where ids are beyond 254."""
        write_mask_folders(path, videos, large_ids=True)


class MoseProtocol(MaskFolders[MoseDataset]):
    """MOSE as both versions score it; the second needs to be told who the objects are."""

    headline = ("MOSE v1", "J&F")

    def metrics(self) -> Metrics:
        """Version 1, and version 2 where there is a meta file."""
        v1: Metrics = {"MOSE v1": GenericVos()}
        return v1 | {MoseV2.name: MoseV2(self.dataset.objects)} if self.dataset.objects else v1


class YoutubeVosProtocol(NumberedFrames[YoutubeVosDataset]):
    """YouTube-VOS."""

    headline = (YoutubeVos.name, "G")

    def metrics(self) -> Metrics:
        """J and F of objects of seen and unseen categories."""
        objects, seen = self._known
        return {YoutubeVos.name: YoutubeVos(objects, seen_categories=seen)}

    @cached_property
    def _known(self) -> tuple[Mapping[str, Mapping[int, YoutubeObject]], Sequence[str]]:
        objects = {
            video: {
                o: YoutubeObject(one.category, tuple(number_of(stem, video) for stem in one.stems))
                for o, one in known.items()
            }
            for video, known in self.dataset.objects.items()
        }
        return objects, self.dataset.seen_categories()

    def write_results(self, path: Path, videos: Iterable[VideoSample]) -> None:
        """``Annotations/VIDEO/00000.png``, every fifth frame: those that have a picture in the folder of the split."""
        write_mask_folders(path / MASKS, map(self._submitted, videos))

    def _submitted(self, video: VideoSample) -> VideoSample:
        wanted = pictures(self.dataset.folder / IMAGES / video.name)
        return only_frames(video, lambda frame: frame.stem in wanted) if wanted else video


class LvosProtocol(NumberedFrames[LvosDataset]):
    """LVOS semi-supervised."""

    headline = (Lvos.name, "J&F-Mean")

    def metrics(self) -> Metrics:
        """J, F and stability of objects of seen and unseen videos."""
        return {Lvos.name: Lvos(self._objects, unseen_videos=self.dataset.unseen_videos)}

    @cached_property
    def _objects(self) -> Mapping[str, Mapping[int, LvosObject]]:
        ranges = self.dataset.ranges
        return {video: {o: LvosObject(*ends) for o, ends in known.items()} for video, known in ranges.items()}

    def write_results(self, path: Path, videos: Iterable[VideoSample]) -> None:
        """``VIDEO/00000001.png``; inside ``Annotations`` for the test server."""
        write_mask_folders(path / MASKS if self.dataset.split == "test" else path, videos)


class SavProtocol(MaskFolders[SavDataset]):
    """SA-V, whose results have a folder for each object."""

    headline = (SaV.name, "J&F")

    def metrics(self) -> Metrics:
        """J and F of every object on its own."""
        return {SaV.name: SaV()}

    def read_results(self, path: Path) -> Results:
        """``VIDEO/000/00000.png``.

        Raises:
            InputError: no folder is named like a video of the data set, or one like none; or a mask of an object is
                missing on an annotated frame.
        """
        names = self.dataset.videos.names
        folder = results_folder(path, names)
        found = known_videos(path, names, read_object_folders(folder))
        if not self.options.allow_missing:
            for name in found:
                self._check_masks(name, folder / name)
        return found

    def _check_masks(self, name: str, folder: Path) -> None:
        """Another object of the frame may have a mask, so the metric cannot see that one is missing."""
        found = object_files(folder)
        for o, truth in object_files(self.dataset.masks / name).items():
            for stem in sorted(truth.keys() - found.get(o, {}).keys()):
                missing = folder / f"{o - 1:03d}" / f"{stem}.png"
                raise InputError(
                    f"there is no mask {missing}: add it, empty where the object is not, or allow missing ones"
                )

    def write_results(self, path: Path, videos: Iterable[VideoSample]) -> None:
        """``VIDEO/000/00000.png``, every object on every annotated frame."""
        write_object_folders(
            path, map(self.answers, videos), objects=lambda name: object_files(self.dataset.masks / name)
        )


class ViposegProtocol(NumberedFrames[ViposegDataset]):
    """VIPOSeg."""

    headline = (Viposeg.name, "overall_iou")

    def metrics(self) -> Metrics:
        """IoUs of masks and boundaries of things and stuff, seen and unseen."""
        return {Viposeg.name: Viposeg(self._objects)}

    @cached_property
    def _objects(self) -> Mapping[str, Mapping[int, ViposegObject]]:
        class_of = self.dataset.class_of
        objects: dict[str, dict[int, ViposegObject]] = {}
        for video, given in self.dataset.given().items():
            unknown = sorted(given.keys() - class_of.get(video, {}).keys())
            if unknown:
                raise InputError(
                    f"{self.dataset.folder / 'obj_class.json'} has no class for object {unknown[0]} of {video}"
                )
            objects[video] = {o: ViposegObject(class_of[video][o], number_of(stem, video)) for o, stem in given.items()}
        return objects


def only_frames(video: VideoSample, wanted: Callable[[FrameRef], bool]) -> VideoSample:
    """Some frames of a video, for writing their labels."""
    kept = [index for index, frame in enumerate(video.frames) if wanted(frame)]
    frames = tuple(video.frames[index] for index in kept)
    return replace(video, frames=frames, read_annotation=lambda index: video.annotation(kept[index]), read_image=None)


def number_of(stem: str, video: str) -> int:
    """The number that a frame is named by.

    Raises:
        InputError: it is none.
    """
    if not stem.isdecimal():
        raise InputError(f"{video}: the frame {stem} is not named by a number")
    return int(stem)


PROTOCOLS: dict[tuple[str, Task], type[Protocol[Any]]] = {
    ("davis-2017", Task.VOS): DavisProtocol,
    ("davis-2017-unsupervised", Task.UVOS): DavisUnsupervisedProtocol,
    ("davis-2016", Task.VOS): Davis2016Protocol,
    ("davis-2016", Task.UVOS): Davis2016Protocol,
    ("ytvos-2018", Task.VOS): YoutubeVosProtocol,
    ("ytvos-2019", Task.VOS): YoutubeVosProtocol,
    ("mose", Task.VOS): MoseProtocol,
    ("lvos", Task.VOS): LvosProtocol,
    ("sav", Task.VOS): SavProtocol,
    ("viposeg", Task.PVOS): ViposegProtocol,
    ("vos", Task.VOS): FolderProtocol,
}
"""How these data sets are scored, by name and task."""
