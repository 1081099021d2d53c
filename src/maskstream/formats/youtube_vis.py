"""YouTube-VIS: objects as tubes, a mask or null for every frame; also OVIS and UVO (C5 to C7).

================  ================================================================================================
truth             one JSON of ``videos``, ``categories`` and ``annotations``; ``JPEGImages/VIDEO/00000.jpg``
results           ``results.json``, a list of {video_id, category_id, score, segmentations}
================  ================================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath

from maskstream.types import (
    RLE,
    CategorySet,
    FrameAnnotation,
    FrameRef,
    InputError,
    Segment,
    Track,
    VideoSample,
    rle_area,
    rle_box_xywh,
)

from .json_files import Json, json_list
from .long_json import LazySamples, Shards, reading
from .pictures import visible, write_picture
from .run_lengths import check_codes, frame_of, read_code

MOST_PREDICTIONS = 100
"""Of one category in one video; servers read no more."""
_SCORE_DIGITS = 5
_WHAT = "the annotations of YouTube-VIS or a data set like it"


@dataclass(frozen=True, slots=True, eq=False)
class Tube:
    """An object of a video.

    Attributes:
        id: of its segments.
        category: category id, or None when unknown.
        masks: one a frame, None where it is not seen.
        score: of a prediction.
        crowd: stands for an uncounted group.
        areas: pixels on every frame as the file states them, or None where it does not.
    """

    id: int
    category: int | None
    masks: tuple[RLE | None, ...] = field(repr=False)
    score: float | None = None
    crowd: bool = False
    areas: tuple[float | None, ...] | None = None


@dataclass(frozen=True, slots=True)
class VideoEntry:
    """What a file says of a video; ``files`` are its pictures, below the folder of all pictures."""

    id: int
    name: str
    size_hw: tuple[int, int]
    files: tuple[str, ...]

    def frames(self, images: Path | None = None) -> tuple[FrameRef, ...]:
        """Its frames; ``images`` is the folder of all pictures."""
        return tuple(
            FrameRef(PurePosixPath(file).stem, None if images is None else images / file) for file in self.files
        )


class YoutubeVisFile:
    """A file of annotations; the masks of one video are held at a time.

    Attributes:
        path: of the file.
        videos: by id.
        category_names: by id; empty where the file does not say.
        shows_labels: whether it has annotations.

    Raises:
        InputError: it is no such file, or something in it is named twice or missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._annotations = Shards(path, "annotations", by=("video_id",), what=_WHAT)
        self.shows_labels = self._annotations.has_list
        with reading(path, _WHAT):
            videos = self._annotations.rest["videos"]
        self.videos = {entry.id: entry for entry in _entries(path, videos)}
        with reading(path, "categories"):
            listed = self._annotations.rest.get("categories") or []
            self.category_names = {int(entry["id"]): str(entry["name"]) for entry in listed}
            if len(self.category_names) < len(listed):
                raise InputError("an id is used twice")
        _check_known(path, self._annotations.keys(), self.videos, "annotations")
        self.tubes = lru_cache(maxsize=1)(self._tubes)

    def _tubes(self, video_id: int) -> tuple[Tube, ...]:
        """The objects of a video in the order of the file.

        Raises:
            InputError: one has not a mask for every frame, or an id is used twice.
        """
        entry, tubes = self.videos[video_id], list[Tube]()
        records = self._annotations[str(video_id)]
        # Ids of segments count from 1.
        offset = int(any(record.get("track_id", record.get("id")) == 0 for record in records))
        for record in records:
            with reading(self.path, f"annotation {record.get('id')} of {entry.name}"):
                number = int(record.get("track_id", record["id"])) + offset
                if any(number == tube.id for tube in tubes):
                    raise InputError("this id is used twice")
                areas = record.get("areas")
                tubes.append(
                    Tube(
                        number,
                        _category(record, self.category_names or None),
                        _masks(record, entry),
                        crowd=bool(record.get("iscrowd", 0)),
                        areas=None if areas is None else _per_frame(areas, entry, "areas"),
                    )
                )
        return tuple(tubes)

    def sample(self, video_id: int, images: Path) -> VideoSample:
        """A video; ``images`` is the folder of all pictures."""
        entry = self.videos[video_id]
        return _sample(entry, entry.frames(images), self if self.shows_labels else None)


class YoutubeVisResults(LazySamples):
    """``results.json`` by ``str(video_id)``; the masks of one video are held at a time.

    Args:
        path: of the file.
        videos: of the data set, by id.
        categories: ids that may be predicted; None takes any.

    Raises:
        InputError: it is no such file, or predicts for a video that the data set has not.
    """

    def __init__(self, path: Path, videos: Mapping[int, VideoEntry], categories: Collection[int] | None) -> None:
        self.path = path
        self._predictions = Shards(path, None, by=("video_id",), what="results of YouTube-VIS, a list of predictions")
        _check_known(path, self._predictions.keys(), videos, "predictions")
        self._videos = videos
        self._categories = categories
        self.tubes = lru_cache(maxsize=1)(self._tubes)
        super().__init__(self._predictions.keys(), self._result)

    def _result(self, sequence: str) -> VideoSample:
        entry = self._videos[int(sequence)]
        return _sample(entry, entry.frames(), self)

    def _tubes(self, video_id: int) -> tuple[Tube, ...]:
        """The predictions of a video in the order of the file.

        Raises:
            InputError: one has not a mask for every frame, is of an unknown category, or has no score.
        """
        entry, tubes = self._videos[video_id], []
        for number, record in enumerate(self._predictions[str(video_id)], 1):
            with reading(self.path, f"prediction {number} of video {video_id}"):
                score = float(record["score"])
                if not math.isfinite(score):
                    raise InputError(f"the score is {score}")
                tubes.append(Tube(number, _category(record, self._categories), _masks(record, entry), score))
        return tuple(tubes)


def check_tubes(source: YoutubeVisFile | YoutubeVisResults, video_id: int) -> None:
    """Refuse masks that are damaged, which `frame_of` does too, naming the file and the tube.

    Raises:
        InputError: there is one in this video.
    """
    for tube in source.tubes(video_id):
        with reading(source.path, f"annotation or prediction {tube.id} of video {video_id}"):
            check_codes([code for code in tube.masks if code is not None])


def tubes_of(video: VideoSample) -> list[Tube]:
    """The things of a video as tubes, read frame by frame.

    A track that has several categories becomes a tube for each, all with the same id. One of which only segments are
    known has the category and score that it was last seen with.

    Raises:
        InputError: a frame shows a track twice.
    """
    growing = _GrowingTubes(video.name)
    for index in range(len(video)):
        growing.add(video.annotation(index))
    return growing.tubes(video.tracks())


@dataclass(slots=True)
class _GrowingTubes:
    """Tubes of a video that is still being read: codes by frame, and the segment that was seen last, by track."""

    name: str
    codes: list[dict[int, RLE]] = field(default_factory=list)
    segments: dict[int, Segment] = field(default_factory=dict)
    crowds: set[int] = field(default_factory=set)

    def add(self, annotation: FrameAnnotation) -> None:
        """Take the next frame."""
        codes: dict[int, RLE] = {}
        for segment, code in visible(annotation):
            if segment.is_thing is not False:
                track = segment.track_id
                if track in codes:
                    raise InputError(f"{self.name}, frame {len(self.codes)}: track {track} has two segments")
                codes[track], self.segments[track] = code, segment
                self.crowds.update({track} if segment.id in annotation.crowd_ids else ())
        self.codes.append(codes)

    def tubes(self, tracks: Sequence[Track]) -> list[Tube]:
        """By id; ``tracks`` are those of the video, where they are known."""
        scores = {track.track_id: track.category_scores for track in tracks if track.category_scores}
        return [
            Tube(track, category, tuple(codes.get(track) for codes in self.codes), score, track in self.crowds)
            for track, segment in sorted(self.segments.items())
            for category, score in scores.get(track, {segment.category: segment.score}).items()
        ]


# Writing.


def write_youtube_vis(
    root: Path, videos: Iterable[VideoSample], categories: CategorySet, *, keep_ids: bool = False
) -> None:
    """``valid/instances.json`` with annotations, and ``valid/JPEGImages``. Things on annotated frames only.

    Ids of annotations count over all videos. With ``keep_ids`` an extra field, ``track_id``, keeps those of the tracks.
    """
    listed: list[dict[str, object]] = []
    things = [{"id": c.id, "name": c.name} for c in categories.categories if c.is_thing is not False]
    rest = {"videos": listed, "categories": things}
    images, number = root / "valid" / "JPEGImages", 0
    with json_list(root / "valid" / "instances.json", "annotations", rest) as add:
        for position, video in enumerate(videos, 1):
            shown = [index for index, frame in enumerate(video.frames) if frame.annotated]
            if not shown:
                raise InputError(f"{video.name}: there is no annotated frame")
            growing = _GrowingTubes(video.name)
            for index in shown:
                write_picture(images / video.name / f"{video.frames[index].stem}.jpg", video, index)
                annotation = video.annotation(index)
                growing.add(annotation)
            files = tuple(f"{video.name}/{video.frames[index].stem}.jpg" for index in shown)
            entry = VideoEntry(_number(video, position), video.name, annotation.segmentation.size_hw, files)
            for tube in growing.tubes(video.tracks()):
                number += 1
                category = known_category(tube.category, categories, f"{video.name}: track {tube.id}")
                plain = _annotation(number, entry, category, tube)
                add(plain | {"track_id": tube.id} if keep_ids else plain)
            height, width = entry.size_hw
            listed.append({"id": entry.id, "width": width, "height": height, "length": len(files), "file_names": files})


def write_youtube_vis_results(root: Path, videos: Iterable[VideoSample], categories: CategorySet) -> None:
    """``results.json``: things with category and score, 1 where there is none; the best of each category."""
    with json_list(root / "results.json") as add:
        for position, video in enumerate(videos, 1):
            written: dict[int, int] = {}
            for tube in sorted(tubes_of(video), key=_loss):
                category = known_category(tube.category, categories, f"{video.name}: track {tube.id}")
                written[category] = written.get(category, 0) + 1
                if written[category] <= MOST_PREDICTIONS:
                    add(
                        {
                            "video_id": _number(video, position),
                            "category_id": category,
                            "score": round(-_loss(tube), _SCORE_DIGITS),
                            "segmentations": tube.masks,
                        }
                    )


def _annotation(number: int, entry: VideoEntry, category: int, tube: Tube) -> dict[str, object]:
    return {
        "id": number,
        "video_id": entry.id,
        "category_id": category,
        "iscrowd": int(tube.crowd),
        "width": entry.size_hw[1],
        "height": entry.size_hw[0],
        "areas": [code and rle_area(code) for code in tube.masks],
        "bboxes": [code and rle_box_xywh(code) for code in tube.masks],
        "segmentations": tube.masks,
    }


def _number(video: VideoSample, position: int) -> int:
    return position if video.video_id is None else video.video_id


def _loss(tube: Tube) -> float:
    return -1.0 if tube.score is None else -tube.score


def known_category(category: int | None, categories: CategorySet, where: str) -> int:
    """A category that can be written; one that is unknown is the only one, where there is only one.

    Raises:
        InputError: the label space has no such category.
    """
    if category is None and len(categories) == 1:
        return categories.ids[0]
    if category is None or category not in categories.ids:
        raise InputError(f"{where} has category {category}, which {categories.name} has not: map categories")
    return category


# Pieces of the files.


def _entries(path: Path, listed: Json) -> Iterator[VideoEntry]:
    """Videos by the folder of their pictures; where two have one folder the id is added."""
    entries: list[VideoEntry] = []
    for number, plain in enumerate(listed):
        with reading(path, f"video {number}"):
            files = plain.get("file_names") or [
                f"{plain['ytid']}/{plain['start_idx'] + index}.png" for index in range(plain["length"])
            ]
            if "length" in plain and plain["length"] != len(files):
                raise InputError(f"its length is {plain['length']}, but it has {len(files)} file names")
            name = plain.get("ytid") or str(PurePosixPath(files[0]).parent).strip(".")
            size_hw = (int(plain["height"]), int(plain["width"]))
            entries.append(VideoEntry(int(plain["id"]), name or str(plain["id"]), size_hw, tuple(files)))
    names, ids = [entry.name for entry in entries], {entry.id for entry in entries}
    if len(ids) < len(entries):
        raise InputError(f"{path}: an id of a video is used twice")
    often = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    for entry in entries:
        name = f"{entry.name}-{entry.id}" if entry.name in often else entry.name
        yield VideoEntry(entry.id, name, entry.size_hw, entry.files)


def _check_known(path: Path, owners: Iterable[str], videos: Mapping[int, VideoEntry], what: str) -> None:
    known = {str(video_id) for video_id in videos}
    unknown = [owner for owner in owners if owner not in known]
    if unknown:
        listed = f"{min(videos)} to {max(videos)}" if videos else "none"
        raise InputError(f"{path} has {what} for video {unknown[0]}, which is not listed; the ids are {listed}")


def _category(record: Json, known: Collection[int] | None) -> int:
    category = int(record["category_id"])
    if known is not None and category not in known:
        raise InputError(f"category {category} is none of {', '.join(map(str, sorted(known)))}")
    return category


def _per_frame(values: Json, entry: VideoEntry, what: str) -> tuple[Json, ...]:
    if len(values) != len(entry.files):
        raise InputError(f"there are {len(values)} {what}, but {entry.name} has {len(entry.files)} frames")
    return tuple(values)


def _masks(record: Json, entry: VideoEntry) -> tuple[RLE | None, ...]:
    plain = _per_frame(record["segmentations"], entry, "segmentations (a mask or null for each frame)")
    return tuple(read_code(one, entry.size_hw) for one in plain)


def _sample(
    entry: VideoEntry, frames: tuple[FrameRef, ...], source: YoutubeVisFile | YoutubeVisResults | None
) -> VideoSample:
    if source is None:
        return VideoSample(entry.name, frames, video_id=entry.id)

    def annotation(index: int) -> FrameAnnotation:
        seen = [(tube, code) for tube in source.tubes(entry.id) if (code := tube.masks[index]) is not None]
        segments = [Segment(tube.id, tube.id, tube.category, tube.score, is_thing=True) for tube, _ in seen]
        with reading(source.path, f"{entry.name}, frame {frames[index].stem}"):
            segmentation = frame_of(index, entry.size_hw, segments, [code for _, code in seen])
        return FrameAnnotation(segmentation, crowd_ids=frozenset(tube.id for tube, _ in seen if tube.crowd))

    return VideoSample(
        entry.name,
        frames,
        annotation,
        read_tracks=lambda: [_track(tube) for tube in source.tubes(entry.id)],
        video_id=entry.id,
    )


def _track(tube: Tube) -> Track:
    shown: Sequence[int] = [index for index, code in enumerate(tube.masks) if code is not None] or [0]
    score = 1.0 if tube.score is None else tube.score
    scores = {} if tube.category is None else {tube.category: score}
    return Track(tube.id, scores, None, first=shown[0], last=shown[-1])
