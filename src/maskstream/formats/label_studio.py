"""Label Studio: ``tasks.json``, a task a frame, with brush regions (labelstud.io/tags/brushlabels, /guide/task_format).

Label Studio has boxes for videos, but brush regions for images alone, so each frame is a task; ``video`` and ``frame``
in its data say which. A region is named by the object, ``track-7``, and says so in its note, "track 7", which
annotators can change; regions that say nothing are objects of their own. Objects with scores are written as
predictions (labelstud.io/guide/predictions), others as annotations; of several annotations the last one is read. A
task without either is a frame that nobody labelled.

``labels.xml`` is the labeling configuration that the project needs. Pictures are in ``images``, and tasks point to
them as local files (labelstud.io/guide/storage): the folder that has ``tasks.json`` is the document root.

A brush is the bytes of an RGBA picture in the run-length code of @thi.ng/rle-pack (github.com/thi-ng/umbrella); only
alpha is read, from 128 on. There is no place for things and stuff, crowds, or void.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstream.types import (
    Category,
    CategorySet,
    FrameAnnotation,
    FrameRef,
    InputError,
    MaskstreamWarning,
    Segment,
    VideoSample,
    decode_rle,
)
from maskstream.video.images import image_size

from .json_files import Json, json_list, read_json
from .pictures import visible, write_picture
from .regions import joined, polygon_mask

FILE, CONFIGURATION = "tasks.json", "labels.xml"
_CLASS_BITS = (3, 4, 8, 16)
"""How many bits hold the length of a run less 1, by its class."""
_WORD = 8
_OPAQUE = 128


# The run-length code of @thi.ng/rle-pack.


def encode_brush(mask: NDArray[np.bool_]) -> list[int]:
    """A mask as an RGBA picture, white where it is, in bytes of run-length code.

    32 bits hold the number of words, 5 the bits of a word less 1, and 4 each the bits of the four classes of lengths
    less 1. Each run is a 1, its class (2 bits), its length less 1, and the word. A pixel is four words, so no run is
    single.

    Args:
        mask: ``bool[H, W]``.
    """
    pixels = mask.ravel()
    edges = np.flatnonzero(np.diff(pixels, prepend=~pixels[:1], append=~pixels[-1:]))
    lengths, inside = np.diff(edges) * 4, pixels[edges[:-1]]
    longest = 1 << _CLASS_BITS[-1]
    pieces = -(-lengths // longest)  # runs that are too long are cut
    inside, last = np.repeat(inside, pieces), np.cumsum(pieces) - 1
    less_one = np.full(len(inside), longest - 1, np.int64)
    less_one[last] = (lengths - 1) % longest
    kind = np.searchsorted([1 << bits for bits in _CLASS_BITS], less_one, side="right")
    bits = np.array(_CLASS_BITS)[kind]
    code = (((4 | kind) << bits | less_one) << _WORD) | np.where(inside, 255, 0)
    places = np.arange(3 + _CLASS_BITS[-1] + _WORD)[::-1]
    head = f"{pixels.size * 4:032b}{_WORD - 1:05b}" + "".join(f"{size - 1:04b}" for size in _CLASS_BITS)
    body = (code[:, None] >> places & 1)[places < (3 + bits + _WORD)[:, None]]
    stream: list[int] = np.packbits(np.concatenate([np.array(list(head), np.uint8), body.astype(np.uint8)])).tolist()
    return stream


def decode_brush(code: Sequence[int]) -> NDArray[np.uint8]:
    """The words of run-length code: one run after the other, of one word repeated (1) or of single words (0).

    Raises:
        InputError: it is no bytes, its words have not 8 bits, or it ends early.
    """
    try:
        data = bytes(code)
    except (TypeError, ValueError) as error:
        raise InputError("the brush is not run-length code, a list of bytes") from error
    bits = _Bits(data)
    words = np.zeros(bits.take(32), np.uint8)
    if bits.take(5) + 1 != _WORD:
        raise InputError("the run-length code of the brush has other words than bytes")
    class_bits = [bits.take(4) + 1 for _ in range(4)]
    done = 0
    while done < len(words):
        repeated = bits.take(1)
        end = done + 1 + bits.take(class_bits[bits.take(2)])
        words[done:end] = bits.take(_WORD) if repeated else bits.take_bytes(min(end, len(words)) - done)
        done = end
    return words


class _Bits:
    """A stream of bits, the highest of each byte first."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    def take(self, count: int) -> int:
        """The number in the next bits, 32 at most."""
        first = self._advance(count)
        window = int.from_bytes(self._data[first // 8 : first // 8 + 5].ljust(5, b"\0"), "big")
        return window >> (40 - first % 8 - count) & ((1 << count) - 1)

    def take_bytes(self, count: int) -> NDArray[np.uint8]:
        """The next bytes, wherever they begin."""
        first = self._advance(8 * count)
        octets = np.frombuffer(self._data[first // 8 : first // 8 + count + 1], np.uint8)
        return np.packbits(np.unpackbits(octets)[first % 8 : first % 8 + 8 * count])

    def _advance(self, count: int) -> int:
        first = self._place
        self._place += count
        if self._place > 8 * len(self._data):
            raise InputError("the run-length code of the brush ends early")
        return first


# Writing.


def write_label_studio(root: Path, videos: Iterable[VideoSample], categories: CategorySet) -> None:
    """Write ``tasks.json``, ``labels.xml``, and ``images/VIDEO`` where there are pictures.

    Raises:
        InputError: an object has no category, or one that the label space has not.
    """
    root.mkdir(parents=True, exist_ok=True)
    (root / CONFIGURATION).write_text(_configuration(categories), encoding="utf-8", newline="\n")
    with json_list(root / FILE) as add:
        for video in videos:
            for index, frame in enumerate(video.frames):
                picture = f"images/{video.name}/{frame.stem}.jpg"
                write_picture(root / picture, video, index)
                task = (
                    _task(video, index, picture, categories)
                    if frame.annotated
                    else {"data": _data(video, index, picture)}
                )
                add(task)


def _configuration(categories: CategorySet) -> str:
    labels = "".join(
        f"    <Label value={quoteattr(category.name)}"
        + ("" if category.colour is None else ' background="#{:02x}{:02x}{:02x}"'.format(*category.colour))
        + " />\n"
        for category in categories.categories
    )
    brushes = f'  <BrushLabels name="label" toName="image">\n{labels}  </BrushLabels>\n'
    return f'<View>\n  <Image name="image" value="$image" />\n{brushes}</View>\n'


def _task(video: VideoSample, index: int, picture: str, categories: CategorySet) -> dict[str, object]:
    annotation = video.annotation(index)
    height, width = annotation.segmentation.size_hw
    regions: list[dict[str, object]] = []
    scored = False
    for segment, code in visible(annotation):
        if segment.category is None:
            raise InputError(f"object {segment.track_id} of {video.name} has no category, which Label Studio needs")
        region: dict[str, object] = {
            "id": f"track-{segment.track_id}",
            "type": "brushlabels",
            "from_name": "label",
            "to_name": "image",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {
                "format": "rle",
                "rle": encode_brush(decode_rle([code], (height, width))[0].numpy()),
                "brushlabels": [categories[segment.category].name],
            },
            "meta": {"text": [f"track {segment.track_id}"]},
        }
        if segment.score is not None:
            region["score"], scored = segment.score, True
        regions.append(region)
    data = _data(video, index, picture) | {"width": width, "height": height}
    if scored:
        return {"data": data, "predictions": [{"model_version": "maskstream", "result": regions}]}
    return {"data": data, "annotations": [{"result": regions}]}


def _data(video: VideoSample, index: int, picture: str) -> dict[str, object]:
    stem = video.frames[index].stem
    return {"image": f"/data/local-files/?d={quote(picture)}", "video": video.name, "frame": stem}


# Reading.


@dataclass(slots=True, eq=False)
class _Region:
    """What a person drew: run-length code of a brush, or the corners of a polygon in percent of the picture."""

    track_id: int | None
    label: str | None
    score: float | None
    shape: bytes | NDArray[np.float64]

    def pixels(self, size_hw: tuple[int, int]) -> Tensor:
        """``bool[H, W]``."""
        if not isinstance(self.shape, bytes):
            return polygon_mask(self.shape * (size_hw[1] / 100, size_hw[0] / 100), size_hw)
        words = decode_brush(self.shape)
        if words.size != 4 * size_hw[0] * size_hw[1]:
            raise InputError(f"a brush of {words.size // 4} pixels does not fit a picture of {size_hw[0]}×{size_hw[1]}")
        return torch.from_numpy(words.reshape(*size_hw, 4)[..., 3] >= _OPAQUE)


@dataclass(slots=True, eq=False)
class _Task:
    """A frame of a video, and what was drawn on it; its size if the task says it."""

    video: str
    frame: FrameRef
    size_hw: tuple[int, int] | None = None
    regions: list[_Region] = field(default_factory=list)
    left_out: int = 0


def read_label_studio(path: Path) -> tuple[CategorySet, list[VideoSample]]:
    """Read a file of tasks, or a folder with ``tasks.json``.

    Returns:
        The labels, numbered from 1, in the order of ``labels.xml`` if it is there; and the videos. Their frames are
        in the order of their names.

    Raises:
        InputError: it is no export of tasks, damaged, or has a frame twice.
    """
    file = path / FILE if path.is_dir() else path
    plain = read_json(file, what="tasks of Label Studio")
    if not isinstance(plain, list) or not all(isinstance(t, dict) and isinstance(t.get("data"), dict) for t in plain):
        raise InputError(f"{file} is no list of tasks: export the project from Label Studio as JSON, not as JSON-MIN")
    colours = _configured_labels(file.with_name(CONFIGURATION))
    videos: dict[str, dict[str, _Task]] = {}
    left_out = 0
    for number, one in enumerate(plain):
        try:
            task = _read_task(one, file)
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise InputError(f"{file}: task {number} is not as Label Studio writes it: {error!r}") from error
        stem = task.frame.stem
        if stem in videos.setdefault(task.video, {}):
            raise InputError(f"{file} has two tasks for frame {stem} of {task.video}: remove one")
        videos[task.video][stem] = task
        colours |= {region.label: None for region in task.regions if region.label and region.label not in colours}
        left_out += task.left_out
    if left_out:
        message = f"{file}: {left_out} results that are no brush and no polygon are left out"
        warnings.warn(message, MaskstreamWarning, stacklevel=2)
    number_of = {name: n for n, name in enumerate(colours, 1)}
    categories = CategorySet(
        "label-studio", tuple(Category(n, name, colour=colours[name]) for name, n in number_of.items())
    )
    return categories, [_video(file, [tasks[s] for s in sorted(tasks)], number_of) for tasks in videos.values()]


def _configured_labels(path: Path) -> dict[str, tuple[int, int, int] | None]:
    """Colours by name, from a labeling configuration if there is one."""
    if not path.exists():
        return {}
    try:
        labels = list(ElementTree.parse(path).iter("Label"))
    except (ElementTree.ParseError, OSError) as error:
        raise InputError(f"{path} cannot be read as XML: {error}") from error
    return {label.get("value", ""): _rgb(label.get("background", "")) for label in labels}


def _rgb(text: str) -> tuple[int, int, int] | None:
    match = re.fullmatch(r"#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})", text)
    return None if match is None else (int(match[1], 16), int(match[2], 16), int(match[3], 16))


def _read_task(plain: Json, file: Path) -> _Task:
    data = plain["data"]
    link = str(data.get("image") or next((value for value in data.values() if isinstance(value, str)), ""))
    if not link:
        raise KeyError("image")
    parts = urlsplit(link)
    local = parse_qs(parts.query).get("d")
    picture = PurePosixPath(local[0] if local else unquote(parts.path))
    # What is uploaded gets a prefix of its own.
    stem = data.get("frame") or re.sub(r"^[0-9a-f]{8}-", "", picture.stem)
    task = _Task(
        str(data.get("video") or (picture.parent.name if local else file.stem)),
        FrameRef(str(stem), file.parent / picture if local else None),
        (int(data["height"]), int(data["width"])) if "height" in data and "width" in data else None,
    )
    written = [a for a in plain.get("annotations") or [] if not a.get("was_cancelled")] or plain.get("predictions")
    if not written:
        task.frame = replace(task.frame, annotated=False)
    by_region: dict[str, list[Json]] = {}
    for result in written[-1]["result"] if written else []:
        by_region.setdefault(str(result.get("id", len(by_region))), []).append(result)
    for name, results in by_region.items():
        _read_region(name, results, task)
    return task


def _read_region(name: str, results: Sequence[Json], task: _Task) -> None:
    """Add a region to its task: what several tags say of it is in several results with one id."""
    value = {key: found for result in results for key, found in (result.get("value") or {}).items()}
    if "rle" in value:
        shape: bytes | NDArray[np.float64] = bytes(value["rle"])
    elif "points" in value:
        shape = np.array(value["points"], np.float64).reshape(-1, 2)
    else:
        task.left_out += 1
        return
    first = results[0]
    note = " ".join((first.get("meta") or {}).get("text") or [])
    found = re.search(r"track (\d+)", note) or re.fullmatch(r"track-(\d+)", name)
    names = next((value[key] for key in ("brushlabels", "polygonlabels", "labels") if value.get(key)), [None])
    score = None if first.get("score") is None else float(first["score"])
    task.regions.append(_Region(int(found[1]) if found else None, names[0], score, shape))
    task.size_hw = int(first["original_height"]), int(first["original_width"])


def _video(file: Path, tasks: Sequence[_Task], number: Mapping[str, int]) -> VideoSample:
    """The video of some tasks, in order; ``number`` is the category of each label."""
    regions = [region for task in tasks for region in task.regions]
    free = count(max((region.track_id or 0 for region in regions), default=0) + 1)
    for region in regions:
        if region.track_id is None:
            region.track_id = next(free)
    first_size = next((task.size_hw for task in tasks if task.size_hw), None)

    def pieces(task: _Task, size_hw: tuple[int, int]) -> Iterator[tuple[Segment, Tensor]]:
        for region in task.regions:
            assert region.track_id is not None
            category = None if region.label is None else number[region.label]
            try:
                yield Segment(region.track_id, region.track_id, category, region.score), region.pixels(size_hw)
            except InputError as error:
                raise InputError(f"{file}, frame {task.frame.stem} of {task.video}: {error}") from error

    def read_annotation(index: int) -> FrameAnnotation:
        size_hw = tasks[index].size_hw or first_size or _picture_size(tasks[index], file)
        return joined(index, size_hw, pieces(tasks[index], size_hw))

    return VideoSample(tasks[0].video, tuple(task.frame for task in tasks), read_annotation)


def _picture_size(task: _Task, file: Path) -> tuple[int, int]:
    if task.frame.image is None or not task.frame.image.exists():
        raise InputError(f"{file} does not say how large frame {task.frame.stem} of {task.video} is, nor is it there")
    return image_size(task.frame.image)
