"""Masks that another program made frame by frame, as proposals: what a person has who ran a model of their own.

==========================================  =======================================================================
layout                                      what
==========================================  =======================================================================
``MASKS/00000.png``                         ids: palette, grey, or R + 256 G + 65536 B
  beside it ``MASKS/00000.json``            ``[{"id", "category_id"?, "isthing"?, "score"?}, …]``, or for all frames
  or ``MASKS/pred.json``, also above it     ``{"annotations": [{"file_name", "segments_info": […]}, …]}``
``MASKS/OBJECT/00000.png``                  probabilities in 8 bits, and ``scores.csv``: ``frame.png,object,score``
``MASKS/scores.json`` and its folders       soft results of this package (see `soft_png`)
``masks.json``                              COCO annotations or results, YouTube-VIS annotations or results
==========================================  =======================================================================

Ids tell the regions of a frame apart and nothing else: no one promises that they mean the same on the next frame.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import torch

from maskstream.types import (
    RLE,
    Category,
    CategorySet,
    FrameAnnotation,
    FrameSegmentation,
    InputError,
    Proposals,
    Segment,
    VideoSample,
)
from maskstream.video.images import natural_key

from .coco import CocoFile
from .id_picture import IdPicture
from .indexed_png import mask_files
from .json_files import Json, read_json, well_formed
from .long_json import Shards, elements, reading
from .panoptic import read_categories
from .pictures import VOID, Ids
from .png import read_label_png
from .run_lengths import frame_of, read_code
from .soft_png import LISTING, read_soft, read_soft_png
from .youtube_vis import VideoEntry, YoutubeVisFile, YoutubeVisResults

GLOBAL_LISTING = "pred.json"
SCORES = "scores.csv"
PICTURE_FOLDERS = ("Annotations", "pan_pred")
"""Where pictures are beside a `GLOBAL_LISTING`."""

MOST_IDS = 1000
"""A picture of more values is no picture of ids."""
_FEW_PIXELS, _SOME_IDS = 8, 8

_WHAT = "masks of COCO or YouTube-VIS"


@dataclass(frozen=True, slots=True, eq=False)
class FrameMasks:
    """Proposals for the frames of one video.

    Attributes:
        path: where they are.
        names: of the files or entries, without suffix, in natural order.
        read: gives the proposals of an entry by its position; those without a pixel are left out.
        categories: what their categories mean; None if they have none.
    """

    path: Path
    names: tuple[str, ...]
    read: Callable[[int], Proposals] = field(repr=False)
    categories: CategorySet | None = None

    def name(self, position: int) -> str:
        """An entry, for messages."""
        return f"{self.path}, {self.names[position]}"


def read_frame_masks(path: Path) -> FrameMasks:
    """Find out what is there, and make it readable; masks are read when they are asked for.

    Args:
        path: a folder or a JSON file.

    Raises:
        InputError: it is missing, or none of the layouts of this module.
    """
    if path.is_file():
        return _of_json(path)
    if not path.is_dir():
        raise InputError(f"there are no masks {path}")
    pictures = next((path / name for name in PICTURE_FOLDERS if mask_files(path / name)), path)
    if mask_files(pictures):
        return _of_pictures(pictures)
    if next(path.rglob(LISTING), None) is not None:
        videos = read_soft(path)
        return _of_sample(path, videos[_only(path, list(videos))])
    objects = {folder.name: mask_files(folder) for folder in sorted(path.iterdir()) if folder.is_dir()}
    if any(objects.values()):
        return _of_objects(path, {name: files for name, files in objects.items() if files})
    listings = sorted(path.glob("*.json"))
    if len(listings) == 1:
        return _of_json(listings[0])
    raise InputError(
        f"{path} holds no masks: put a PNG of ids for each frame there, or a folder of PNG for each object, "
        "or name a JSON file of COCO or YouTube-VIS"
    )


def proposals_of(annotation: FrameAnnotation) -> Proposals:
    """What is on a frame, without ids; soft where there are probabilities. Crowds and empty masks are left out."""
    segmentation = annotation.segmentation
    soft = segmentation.probabilities
    masks_nhw = segmentation.masks_nhw() if soft is None else soft[1:].float()
    segments = segmentation.segments
    visible = (masks_nhw >= 0.5).flatten(1).any(dim=1).tolist() if len(segments) else []
    return Proposals(
        masks_nhw,
        tuple(segment.category for segment in segments),
        tuple(segment.score for segment in segments),
        tuple(segment.is_thing for segment in segments),
    ).keep([seen and s.id not in annotation.crowd_ids for seen, s in zip(visible, segments, strict=True)])


# Pictures of ids.


@dataclass(frozen=True, slots=True)
class _Listed:
    """The segments that a JSON file lists for a frame, by id; None where it does not speak of the frame."""

    source: Path
    segments: Mapping[int, Segment] | None


def _of_pictures(folder: Path) -> FrameMasks:
    files = _in_natural_order(mask_files(folder))
    listed, categories = _listings(folder, [path.stem for path in files])

    def read(position: int) -> Proposals:
        path = files[position]
        of_frame = listed.get(path.stem) if listed else None
        picture = IdPicture(_ids(path, are_listed=of_frame is not None))
        if of_frame is None:
            return _unlisted(path, picture)
        segments = of_frame.segments
        unlisted = [number for number in picture.ids if number and number not in (segments or {})]
        if unlisted and segments is None:
            raise InputError(f"{of_frame.source} lists nothing for {path.name}: add it, or remove the JSON")
        if unlisted:
            raise InputError(f"{path} has the id {unlisted[0]}, which {of_frame.source} does not list: add it there")
        return proposals_of(FrameAnnotation(picture.segmentation(position, segments or {})))

    return FrameMasks(folder, tuple(path.stem for path in files), read, categories)


def _ids(path: Path, *, are_listed: bool) -> Ids:
    """Ids of a picture. A colour picture holds ids as colours; ours and re-saved palette pictures are told by `auto`.

    As ids need only differ within a picture, any colours will do, as long as they are those of regions.
    """
    if are_listed:
        return read_label_png(path, encoding="rgb")
    try:
        return read_label_png(path)
    except InputError:
        return read_label_png(path, encoding="rgb")


def _unlisted(path: Path, picture: IdPicture) -> Proposals:
    """Every value of a picture is a region, but 0, and 255 beside others, which is void."""
    numbers = [number for number in picture.ids if number]
    numbers = [number for number in numbers if number != VOID or numbers == [VOID]]
    message = (
        f"{path} encodes no ids: it has {len(numbers)} values, as photographs and smoothed edges have; "
        "save masks as palette, grey or RGB-encoded ids, resized without interpolation"
    )
    if len(numbers) > MOST_IDS:
        raise InputError(message)
    segmentation = picture.segmentation(0, {number: Segment(number, number) for number in numbers})
    small = sum(area < _FEW_PIXELS for area in segmentation.areas().tolist())
    if len(numbers) >= _SOME_IDS and 2 * small > len(numbers):
        raise InputError(message)
    return proposals_of(FrameAnnotation(segmentation))


def _listings(folder: Path, stems: Sequence[str]) -> tuple[dict[str, _Listed], CategorySet | None]:
    """What JSON says of the pictures, by stem; nothing if there is none."""
    above = [folder.parent / GLOBAL_LISTING] if folder.name in PICTURE_FOLDERS else []
    whole = next((path for path in (folder / GLOBAL_LISTING, *above) if path.is_file()), None)
    if whole is not None:
        return _global_listing(whole, stems)
    sources = {stem: folder / f"{stem}.json" for stem in stems}
    present = {stem: path for stem, path in sources.items() if path.is_file()}
    if not present:
        return {}, None
    rows_of = {stem: read_json(path, what="a list of segments") for stem, path in present.items()}
    listed = {stem: _Listed(path, None) for stem, path in sources.items()}
    listed |= {stem: _Listed(present[stem], _segments(present[stem], rows, {})) for stem, rows in rows_of.items()}
    return listed, _space(listed.values())


def _global_listing(path: Path, stems: Sequence[str]) -> tuple[dict[str, _Listed], CategorySet | None]:
    plain = read_json(path, what="a list of frames with their segments")
    with well_formed(path, "a list of frames with their segments"):
        rows = plain["annotations"]
        if rows and "annotations" in rows[0]:  # VIPSeg: video by video
            of_video = {str(row["video_id"]): row["annotations"] for row in rows}
            rows = of_video[_only(path, list(of_video))]
        by_stem = {PurePosixPath(str(row["file_name"])).stem: row["segments_info"] for row in rows}
    given = read_categories(plain["categories"], path, name=path.parent.name) if plain.get("categories") else None
    kinds = {category.id: category.is_thing for category in given.categories} if given else {}
    listed = {stem: _Listed(path, None) for stem in stems}
    listed |= {stem: _Listed(path, _segments(path, rows, kinds)) for stem, rows in by_stem.items()}
    return listed, _space(listed.values(), given)


def _segments(path: Path, rows: Json, kinds: Mapping[int, bool | None]) -> dict[int, Segment]:
    """Segments by id; whether one is a thing is what the row says, or else its category."""
    segments = {}
    with well_formed(path, "a list of segments"):
        for row in rows:
            number, category = int(row["id"]), row.get("category_id")
            category = None if category is None else int(category)
            is_thing = row.get("isthing")
            is_thing = (kinds.get(category) if category is not None else None) if is_thing is None else bool(is_thing)
            score = None if row.get("score") is None else float(row["score"])
            segments[number] = Segment(number, number, category, score, is_thing)
    return segments


def _space(listed: Iterable[_Listed], given: CategorySet | None = None) -> CategorySet | None:
    """The label space that a file names, or one of numbers; None where nothing has a category.

    Raises:
        InputError: a category is used that is not named.
    """
    used = {s.category: one.source for one in listed for s in (one.segments or {}).values() if s.category is not None}
    if given is None:
        return _numbered(used)
    for category, source in used.items():
        if category not in given.ids:
            raise InputError(f"{source} uses the category {category}, which it does not list: add it to its categories")
    return given


def _numbered(used: Iterable[int]) -> CategorySet | None:
    categories = tuple(Category(number, f"category {number}") for number in sorted(set(used)))
    return CategorySet("numbers", categories) if categories else None


# Probabilities.


def _of_objects(folder: Path, objects: Mapping[str, Mapping[str, Path]]) -> FrameMasks:
    """A folder of soft masks for each object, and scores where there are any."""
    first = {stem: path for files in objects.values() for stem, path in files.items()}
    stems = [path.stem for path in _in_natural_order(first)]
    scores = _scores(folder / SCORES)

    def read(position: int) -> Proposals:
        stem = stems[position]
        here = {name: files[stem] for name, files in objects.items() if stem in files}
        masks = [torch.from_numpy(read_soft_png(path)) for path in here.values()]
        for mask, path in zip(masks, here.values(), strict=True):
            if mask.shape != masks[0].shape:
                given, other = ("×".join(map(str, one.shape)) for one in (mask, masks[0]))
                raise InputError(f"{path} is {given}, but {next(iter(here.values()))} is {other}: resize it")
        masks_nhw = torch.stack(masks)
        found = Proposals(masks_nhw, scores=tuple(scores.get((stem, name)) for name in here))
        return found.keep((masks_nhw >= 0.5).flatten(1).any(dim=1).tolist())

    return FrameMasks(folder, tuple(stems), read)


def _scores(path: Path) -> dict[tuple[str, str], float]:
    """Scores by stem of the frame and name of the object; none without a file (DEVA specification §11)."""
    if not path.is_file():
        return {}
    scores = {}
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.reader(file), 1):
            if not row or (number == 1 and row[-1].strip() == "score"):
                continue
            try:
                frame, name, score = row
                scores[PurePosixPath(frame.strip()).stem, name.strip()] = float(score)
            except ValueError as error:
                raise InputError(f"{path}, line {number}: {','.join(row)!r} is not frame.png,object,score") from error
    return scores


# JSON.


def _of_json(path: Path) -> FrameMasks:
    """COCO or YouTube-VIS, annotations or results, by what the first entry has."""
    try:
        with path.open(encoding="utf-8") as file:
            is_list = file.read(256).lstrip().startswith("[")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as {_WHAT}: {error}") from error
    first: Json = next(elements(path, None if is_list else "annotations", what=_WHAT), {})
    keys = set(first) if isinstance(first, dict) else set()
    if "segments_info" in keys or "annotations" in keys:
        return read_frame_masks(path.parent)
    if "segmentations" in keys:
        return _of_tube_results(path) if is_list else _of_tubes(path)
    if not is_list:
        return _of_images(path)
    if "image_id" in keys:
        return _of_image_results(path)
    raise InputError(f"{path} is a list without masks: its entries need image_id and segmentation, or segmentations")


def _of_tubes(path: Path) -> FrameMasks:
    source = YoutubeVisFile(path)
    names = {entry.name: video_id for video_id, entry in source.videos.items()}
    sample = source.sample(names[_only(path, list(names))], path.parent)
    listed = tuple(Category(number, name, is_thing=True) for number, name in source.category_names.items())
    return _of_sample(path, sample, CategorySet(path.stem, listed) if listed else None)


def _of_tube_results(path: Path) -> FrameMasks:
    """A list of tubes; each frame of one is a proposal, and that they are one object is forgotten."""
    records = Shards(path, None, by=("video_id",), what=_WHAT)
    owner = _only(path, records.keys())
    with reading(path, f"predictions of video {owner}"):
        rows = records[owner]
        lengths = {len(row["segmentations"]) for row in rows}
        if len(lengths) > 1:
            raise InputError(f"tubes have {min(lengths)} to {max(lengths)} frames: each needs a mask or null for all")
        codes = [code for row in rows for code in row["segmentations"] if code]
        height, width = map(int, codes[0]["size"]) if codes else (0, 0)
        files = tuple(f"{index:05d}.png" for index in range(max(lengths)))
        entry = VideoEntry(int(owner), owner, (height, width), files)
        space = _numbered(int(row["category_id"]) for row in rows)
    sample = YoutubeVisResults(path, {entry.id: entry}, None)[owner]
    return _of_sample(path, sample, space)


def _of_images(path: Path) -> FrameMasks:
    """COCO's file of images: those of one video, or all of them in natural order."""
    source = CocoFile(path)
    samples = [source.sample(name, path.parent) for name in source.names]
    categories = source.categories if len(source.categories) else None
    if len(samples) == 1:
        return _of_sample(path, samples[0], categories)
    if any(len(sample) > 1 for sample in samples):
        _only(path, source.names)
    samples.sort(key=lambda sample: natural_key(Path(sample.frames[0].stem)))
    return FrameMasks(
        path,
        tuple(sample.frames[0].stem for sample in samples),
        lambda position: proposals_of(samples[position].annotation(0)),
        categories,
    )


def _of_image_results(path: Path) -> FrameMasks:
    """COCO's list of results: images by number, which is that of the frame, or by name."""
    records = Shards(path, None, by=("image_id",), what=_WHAT)
    owners = sorted(records.keys(), key=lambda owner: natural_key(Path(owner)))
    with reading(path, "predictions"):
        space = _numbered(int(row["category_id"]) for o in owners for row in records[o] if "category_id" in row)

    def read(position: int) -> Proposals:
        owner = owners[position]
        with reading(path, f"predictions of image {owner}"):
            return proposals_of(FrameAnnotation(_results_of(records[owner], position)))

    return FrameMasks(path, tuple(PurePosixPath(owner).stem for owner in owners), read, space)


def _results_of(rows: Sequence[Json], position: int) -> FrameSegmentation:
    codes, segments = list[RLE](), list[Segment]()
    for number, row in enumerate(rows, 1):
        plain = row["segmentation"]
        if not isinstance(plain, dict):
            raise InputError("results need run lengths with their size, not polygons")
        code = read_code(plain, (int(plain["size"][0]), int(plain["size"][1])))
        category, score = row.get("category_id"), row.get("score")
        if code is not None:
            codes.append(code)
            segments.append(
                Segment(
                    number,
                    number,
                    None if category is None else int(category),
                    None if score is None else float(score),
                )
            )
    size = codes[0]["size"] if codes else [0, 0]
    return frame_of(position, (size[0], size[1]), segments, codes)


def _of_sample(path: Path, sample: VideoSample, categories: CategorySet | None = None) -> FrameMasks:
    return FrameMasks(
        path,
        tuple(frame.stem for frame in sample.frames),
        lambda position: proposals_of(sample.annotation(position)),
        categories,
    )


def _only(path: Path, names: Sequence[str]) -> str:
    """The one video there is.

    Raises:
        InputError: there is none, or several.
    """
    if len(names) == 1:
        return names[0]
    listed = f"{len(names)} videos ({', '.join(names[:3])}{' …' if len(names) > 3 else ''})" if names else "nothing"
    raise InputError(f"{path} holds {listed}: give the masks of one video")


def _in_natural_order(files: Mapping[str, Path]) -> list[Path]:
    return sorted(files.values(), key=natural_key)
