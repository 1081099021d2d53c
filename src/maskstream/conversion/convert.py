"""Writing labelled videos in another layout, or saying what would be lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, TypeAlias

from maskstream.files import atomic_path, whole_folder
from maskstream.formats.category_map import CategoryMap, mapped, read_category_map
from maskstream.formats.renumber import renumbered
from maskstream.types import (
    OBJECT,
    CategorySet,
    FrameAnnotation,
    InputError,
    OutputError,
    VideoSample,
)

from .content import Content, Feature, has_picture, survey
from .formats import FORMATS, Format, with_frames

Images: TypeAlias = Literal["copy", "none"]
"""Whether pictures go along with their labels."""


def losses(content: Content, target: Format, *, images: Images = "copy") -> list[str]:
    """What of some content a layout has no place for, a sentence each, and what becomes of it.

    Args:
        content: from `survey`.
        target: the layout.
        images: whether pictures go along.
    """
    holds = _held(content, target, images)
    having = content.having + Counter({Feature.NAMES: content.videos - content.digits[target.digits]})
    found = [(having[feature], feature.value) for feature in Feature if having[feature] and feature not in holds]
    renumbered = len(_too_large(content, target))
    if renumbered:
        found.append((renumbered, f"objects have numbers beyond {target.largest_id}: they are numbered anew"))
    return [f"{count} of {content.videos} videos: {what}" for count, what in found]


def _held(content: Content, target: Format, images: Images) -> frozenset[Feature]:
    pictured = images == "copy" and not content.having[Feature.NO_PICTURE]
    return target.holds | (target.with_pictures if pictured else frozenset())


def _too_large(content: Content, target: Format) -> list[str]:
    """Names of the videos with an object whose number the target cannot hold."""
    largest = target.largest_id
    return [] if largest is None else [name for name, ids in content.ids.items() if max(ids, default=0) > largest]


def convert(
    source: Path,
    target: Path,
    *,
    read_as: str,
    write_as: str,
    split: str | None = None,
    lossy: bool = False,
    category_map: Path | None = None,
    images: Images = "copy",
    on_frame: Callable[[int, int], None] = lambda done, total: None,
) -> Content:
    """Write labelled videos in another layout.

    Label spaces are kept where the target takes any, and become ``object`` where it has none.

    Args:
        source: folder or file.
        target: the folder to make, or for some layouts a file. It appears whole or not at all.
        read_as: layout of the source, one of `FORMATS`.
        write_as: layout of the target.
        split: which part of the source; its first one if None.
        lossy: write also what the target has no place for, as far as it goes.
        category_map: a JSON file that says what categories become (`maskstream.formats.category_map`).
        images: "copy" takes pictures along where they are there.
        on_frame: called with the number of frames read, of both passes, and how many that will be.

    Returns:
        What was in the source.

    Raises:
        InputError: a layout is unknown, the source is not in it, the target has no place for something and ``lossy`` is
            not given, or its label space is another and there is no map.
        OutputError: there is something at the target, or it cannot be written.
    """
    reading, writing = _format(read_as), _format(write_as)
    if writing.write is None:
        writable = ", ".join(name for name, one in FORMATS.items() if one.write)
        raise InputError(f"{writing.title} is read, but not written here: choose one of {writable}")
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise OutputError(f"{target} exists: remove it, or name another place")
    to_file = writing.suffix is not None and target.suffix == writing.suffix
    if to_file:
        images = "none"
    if not source.exists():
        raise InputError(f"there is no {source}")
    categories, found = reading.read(source, split)
    mapping = _mapping(categories, writing, write_as, category_map)
    videos = [video if images == "copy" else _without_pictures(video) for video in found]
    total, done = 2 * sum(map(len, videos)), 0

    def step() -> None:
        nonlocal done
        done = min(done + 1, total)
        on_frame(done, total)

    content = survey(videos, categories, mapping=mapping, on_frame=step)
    lost = losses(content, writing, images=images)
    if lost and not lossy:
        raise InputError(
            f"{writing.title} has no place for all of it. {'; '.join(lost)}. To convert it so, say --lossy"
        )
    too_large, holds = set(_too_large(content, writing)), _held(content, writing, images)
    name_of = {name: name if Feature.NESTED in holds else name.replace("/", "-") for name in content.ids}
    if len(set(name_of.values())) < len(videos):
        raise InputError(f"{source} has two videos of one name, as {writing.title} would call them: rename one")

    def prepared() -> Iterator[VideoSample]:
        written = 0
        for video in videos:
            kept = [
                index
                for index, frame in enumerate(video.frames)
                if (frame.annotated or Feature.UNANNOTATED in holds)
                and (Feature.NO_PICTURE in holds or has_picture(video, frame))
            ]
            if not kept or (not content.ids[video.name] and Feature.EMPTY not in holds):
                continue
            changed = with_frames(video, kept)
            if mapping is not None:
                changed = mapped(changed, mapping)
            if video.name in too_large:
                changed = _renumbered(changed, sorted(content.ids[video.name]), writing)
            # Tracks repeat what segments say.
            yield _counted(replace(changed, name=name_of[video.name], read_tracks=None), step)
            written += 1
        if not written:
            raise InputError(f"nothing of {source} would be left{''.join(f'; {sentence}' for sentence in lost)}")

    space = categories if mapping is None else mapping.target
    if to_file:
        _write_file(target, writing, prepared(), space)
    else:
        with whole_folder(target) as folder:
            writing.write(folder, prepared(), space)
    on_frame(total, total)
    return content


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise InputError(f"there is no layout {name!r}; known: {', '.join(FORMATS)}")
    return FORMATS[name]


def _mapping(categories: CategorySet, target: Format, name: str, path: Path | None) -> CategoryMap | None:
    """What becomes of categories; None where nothing does."""
    if path is not None:
        mapping = read_category_map(path, categories)
    elif Feature.CATEGORIES in target.holds:
        unknown = categories.ids[0] if categories.names == OBJECT.names else None
        mapping = CategoryMap(categories, {number: number for number in categories.ids}, unknown=unknown)
    else:
        return None
    space = mapping.target
    if target.label_space is not None:
        numbers = {c.name: c.id for c in target.label_space.categories}
        foreign = [name for name in space.names if name not in numbers]
        if foreign:
            raise InputError(
                f"{name} has the categories {', '.join(list(numbers)[:4])} … and no others, so not {foreign[0]!r}: "
                "say with --map what becomes of each"
            )
        of = {old: None if new is None else numbers[space[new].name] for old, new in mapping.of.items()}
        unknown = None if mapping.unknown is None else numbers[space[mapping.unknown].name]
        return CategoryMap(target.label_space, of, unknown=unknown)
    if Feature.KINDS in target.holds:
        # Every category is a thing or stuff there; what people draw one by one are things.
        told = tuple(replace(c, is_thing=c.is_thing is not False) for c in space.categories)
        mapping = replace(mapping, target=replace(space, categories=told))
    return mapping


def _without_pictures(video: VideoSample) -> VideoSample:
    return replace(video, read_image=None, frames=tuple(replace(frame, image=None) for frame in video.frames))


def _counted(video: VideoSample, step: Callable[[], None]) -> VideoSample:
    """The video, calling ``step`` for each frame that is read."""
    read = video.read_annotation

    def read_annotation(index: int) -> FrameAnnotation:
        step()
        return video.annotation(index)

    return replace(video, read_annotation=None if read is None else read_annotation)


def _renumbered(video: VideoSample, ids: Sequence[int], target: Format) -> VideoSample:
    """The video with its objects numbered from 1.

    Raises:
        InputError: there are too many for the target.
    """
    if target.largest_id is not None and len(ids) > target.largest_id:
        raise InputError(f"{video.name} has {len(ids)} objects: {target.title} ends at {target.largest_id}")
    return renumbered(video, {old: new for new, old in enumerate(ids, 1)})


def _write_file(target: Path, writing: Format, videos: Iterable[VideoSample], categories: CategorySet) -> None:
    assert writing.write is not None
    try:
        with atomic_path(target) as temporary, TemporaryDirectory(dir=target.parent, prefix=".convert-") as folder:
            writing.write(Path(folder), videos, categories)
            written = list(Path(folder).rglob(f"*{writing.suffix}"))
            if len(written) != 1:
                raise InputError(f"{target.name} cannot hold {len(written)} videos: name a folder instead")
            written[0].replace(temporary)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
