"""From one label space to another: every category of the first becomes one of the second, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from maskstream.types import OBJECT, CategorySet, FrameAnnotation, InputError, Segment, Track, VideoSample

from .json_files import read_json


@dataclass(frozen=True, slots=True)
class CategoryMap:
    """What categories become.

    Attributes:
        target: the label space they become part of.
        of: new id by old id; None drops the segments of a category.
        unknown: what a segment of unknown category becomes.
    """

    target: CategorySet
    of: Mapping[int, int | None]
    unknown: int | None = None

    def __post_init__(self) -> None:
        for old, new in self.of.items():
            if new is not None and new not in self.target.ids:
                raise InputError(f"category {old} is mapped to {new}, which {self.target.name} has not")


def one_class(source: CategorySet, *, stuff: bool = False) -> CategoryMap:
    """Everything becomes the one class ``object``.

    Args:
        source: the label space of what is to be mapped.
        stuff: keep stuff as objects too, instead of dropping it.
    """
    kept = {c.id: OBJECT.ids[0] if stuff or c.is_thing is not False else None for c in source.categories}
    return CategoryMap(OBJECT, kept, unknown=OBJECT.ids[0])


def read_category_map(path: Path, source: CategorySet) -> CategoryMap:
    """Read a map from a JSON file: ``{"name or id": "new name", "other": null, …}``.

    New categories are numbered from 1 in the order in which they are first named, and are things or stuff as the
    categories they come from; "*" stands for all that are not named.

    Raises:
        InputError: the file is no such map, names a category that the source has not, leaves one out, or gives one
            name to things and stuff.
    """
    plain = read_json(path, what="a map of categories")
    if not isinstance(plain, dict) or not all(isinstance(v, str) or v is None for v in plain.values()):
        raise InputError(f'{path} is no map of categories: it must be {{"old name": "new name", "other": null, …}}')
    by_name = {c.name: c for c in source.categories} | {str(c.id): c for c in source.categories}
    unknown = sorted(set(plain) - set(by_name) - {"*"})
    if unknown:
        raise InputError(f"{path} maps {unknown[0]!r}, which {source.name} has not: {', '.join(source.names[:8])} …")
    named = {by_name[key].id: value for key, value in plain.items() if key != "*"}
    left_out = [c.name for c in source.categories if c.id not in named]
    if left_out and "*" not in plain:
        raise InputError(f'{path} says nothing of {left_out[0]!r}: add it, or "*" for all that are not named')
    new_name_of = {c.id: named.get(c.id, plain.get("*")) for c in source.categories}
    names = list(dict.fromkeys(name for name in plain.values() if name is not None))
    kinds: dict[str, bool | None] = {}
    for category in source.categories:
        name = new_name_of[category.id]
        if name is not None and kinds.setdefault(name, category.is_thing) is not category.is_thing:
            raise InputError(f"{path} makes both things and stuff of {name!r}: give them two names")
    target = CategorySet.from_names(names, name=path.stem)
    target = replace(target, categories=tuple(replace(c, is_thing=kinds.get(c.name)) for c in target.categories))
    number = {c.name: c.id for c in target.categories}
    return CategoryMap(target, {old: None if name is None else number[name] for old, name in new_name_of.items()})


def mapped(video: VideoSample, categories: CategoryMap) -> VideoSample:
    """The video with other categories; segments whose category is dropped are nothing."""
    read, tracks = video.read_annotation, video.read_tracks
    return replace(
        video,
        read_annotation=None if read is None else lambda index: map_annotation(read(index), categories),
        read_tracks=None if tracks is None else lambda: [_map_track(track, categories) for track in tracks()],
    )


def map_annotation(annotation: FrameAnnotation, categories: CategoryMap) -> FrameAnnotation:
    """The frame with other categories."""
    segmentation = annotation.segmentation
    new = [_new(segment, categories) for segment in segmentation.segments]
    kept = [n for n, category in enumerate(new) if category is not None]
    segments = tuple(
        replace(segmentation.segments[n], category=new[n], is_thing=categories.target[new[n] or 0].is_thing)
        for n in kept
    )
    changed = segmentation.selected(kept, segments)
    ids = {segment.id for segment in segments}
    return replace(annotation, segmentation=changed, crowd_ids=annotation.crowd_ids & ids)


def _new(segment: Segment, categories: CategoryMap) -> int | None:
    return categories.unknown if segment.category is None else categories.of.get(segment.category)


def _map_track(track: Track, categories: CategoryMap) -> Track:
    scores: dict[int, float] = {}
    for old, score in track.category_scores.items():
        new = categories.of.get(old)
        if new is not None:
            scores[new] = max(score, scores.get(new, 0.0))
    return replace(track, category_scores=scores)
