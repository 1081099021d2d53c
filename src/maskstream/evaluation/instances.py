"""How video instance segmentation is scored: AP of tubes, with or without categories (metrics specification §4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from maskstream.datasets.youtube_vis import TubeDataset
from maskstream.formats.category_map import mapped, one_class
from maskstream.formats.youtube_vis import Tube, YoutubeVisResults, check_tubes, tubes_of, write_youtube_vis_results
from maskstream.metrics import PredictedTube, TrueTube, VideoInstanceAP
from maskstream.types import OBJECT, InputError, Task, VideoSample

from .protocol import Metrics, Protocol, Results


class InstanceProtocol(Protocol[TubeDataset]):
    """YouTube-VIS and OVIS. Whole tubes are compared, with the areas that the file of annotations states.

    Sequences are named by the number of their video: that is what results know, and what decides between equal scores.
    """

    headline = ("AP", "AP")

    @property
    def class_agnostic(self) -> bool:
        """Whether all categories are pooled."""
        return self.options.categories is not None and self.options.categories.target == OBJECT

    def metrics(self) -> Metrics:
        """AP.

        Raises:
            InputError: the labels of this part are hidden.
        """
        if not self.dataset.file.shows_labels:
            raise InputError(
                f"{self.dataset.file.path} has no annotations: the labels of {self.dataset.name} {self.dataset.split} "
                "are hidden, and its server scores results.json"
            )
        return {"AP": VideoInstanceAP(self.categories, class_agnostic=self.class_agnostic)}

    def read_results(self, path: Path) -> YoutubeVisResults:
        """``results.json``, or the folder it is in."""
        known = None if self.class_agnostic and self.options.categories is None else self.dataset.categories.ids
        return YoutubeVisResults(results_file(path, "results.json"), self.dataset.file.videos, known)

    def write_results(self, path: Path, videos: Iterable[VideoSample]) -> None:
        """``results.json``."""
        write_youtube_vis_results(path, videos, self.dataset.categories)

    def sequences(self, video: VideoSample) -> list[str]:
        """The number of the video."""
        return [str(video.video_id)]

    def score(self, video: VideoSample, results: Results, metrics: Metrics) -> None:
        """Compare the tubes of a video.

        Raises:
            InputError: a tube is damaged, or does not fit the video.
        """
        (sequence,) = self.sequences(video)
        predicted: Sequence[Tube] = ()
        if sequence in results:
            if isinstance(results, YoutubeVisResults):
                predicted = results.tubes(int(sequence))
            else:
                predicted = tubes_of(results[sequence])
        truth = [
            TrueTube(tube.masks, category, tube.crowd, tube.areas)
            for tube, category in self._with_categories(self.dataset.tubes(video))
        ]
        found = [
            PredictedTube(tube.masks, category, 1.0 if tube.score is None else tube.score)
            for tube, category in self._with_categories(predicted)
        ]
        for metric in metrics.values():
            assert isinstance(metric, VideoInstanceAP)
            try:
                metric.update_video(sequence, truth, found, length=len(video))
            except InputError:
                # A damaged mask: say in which file it is.
                check_tubes(self.dataset.file, int(sequence))
                if isinstance(results, YoutubeVisResults):
                    check_tubes(results, int(sequence))
                raise

    def _with_categories(self, tubes: Iterable[Tube]) -> list[tuple[Tube, int]]:
        """Tubes that are scored, with the category that they are scored in."""
        mapping, kept = self.options.categories, []
        for tube in tubes:
            category = tube.category
            if mapping is not None:
                category = mapping.unknown if category is None else mapping.of.get(category)
                if category is None:
                    continue
            if self.class_agnostic:
                # The categories of the file still decide which of two equal truths is matched.
                category = OBJECT.ids[0] if tube.category is None else tube.category
            if category is None:
                raise InputError(f"track {tube.id} has no category: name one, or score with the label space 'object'")
            kept.append((tube, category))
        return kept


class UvoProtocol(InstanceProtocol):
    """UVO: no categories, and average recall."""

    headline = ("AP", "AR100")

    @property
    def class_agnostic(self) -> bool:
        """Always."""
        return True

    def write_results(self, path: Path, videos: Iterable[VideoSample]) -> None:
        """``results.json``, all of category 1."""
        everything = one_class(self.dataset.categories, stuff=True)
        write_youtube_vis_results(path, (mapped(video, everything) for video in videos), OBJECT)


def results_file(path: Path, name: str) -> Path:
    """The file of results that is named, or the one of this name in the folder that is.

    Raises:
        InputError: there is none.
    """
    file = path / name if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"there is no {file}: name {name} or the folder it is in")
    return file


PROTOCOLS: dict[tuple[str, Task], type[Protocol[Any]]] = {
    **{(name, Task.VIS): InstanceProtocol for name in ("ytvis-2019", "ytvis-2021", "ytvis-2022", "ovis")},
    **{("uvo", task): UvoProtocol for task in (Task.OWVS, Task.VIS)},
}
