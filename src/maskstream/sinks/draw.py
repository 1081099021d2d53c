"""The picture people look at: segments coloured, outlined and named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from maskstream.formats import colour_of
from maskstream.types import CategorySet, FrameSegmentation, InputError, Segment

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_REFERENCE_HEIGHT = 480  # sizes below are pixels in a picture of this height
_FONT_SCALE = 0.45
_SMALLEST_NAMED = 80  # pixels of its box; the name of anything less would hide it


def draw_overlay(
    image: NDArray[np.uint8],
    segmentation: FrameSegmentation,
    *,
    alpha: float = 0.5,
    labels: bool = True,
    categories: CategorySet | None = None,
    colours: Mapping[int, tuple[int, int, int]] | None = None,
) -> NDArray[np.uint8]:
    """Draw segments over a frame. A track has one colour, whatever else is on the frame.

    Args:
        image: ``uint8[H, W, 3]``, RGB; not changed.
        segmentation: of this image. Where masks overlap, the one on top is drawn (`FrameSegmentation.label_map`).
        alpha: opacity of the colour, 0 to 1; outlines are opaque.
        labels: name each visible segment: track id, category, score in percent, as far as known.
        categories: gives the categories their names; without it they are not shown.
        colours: RGB by track id, where somebody chose them.

    Returns:
        ``uint8[H, W, 3]``, RGB, a new array.

    Raises:
        InputError: image and segmentation differ in size.
    """
    if image.shape[:2] != segmentation.size_hw:
        raise InputError(
            f"frame {segmentation.frame_index} is {image.shape[0]}×{image.shape[1]}, but its segmentation is "
            f"{segmentation.size_hw[0]}×{segmentation.size_hw[1]}"
        )
    if not segmentation.segments:
        untouched: NDArray[np.uint8] = image.copy()
        return untouched
    label_map: NDArray[np.int32] = segmentation.label_map().cpu().numpy()
    track_ids = [segment.track_id for segment in segmentation.segments]
    fills = display_colours(track_ids)
    for n, track_id in enumerate(track_ids):
        fills[n] = (colours or {}).get(track_id, fills[n])
    picture = _blend(image, label_map, fills, alpha)
    _outline(picture, label_map, fills)
    if labels:
        _write_names(picture, label_map, fills, segmentation.segments, categories)
    return picture


def display_colours(track_ids: Sequence[int]) -> NDArray[np.uint8]:
    """Colours to look at, ``uint8[N, 3]``: `colour_of`, lifted towards the light; half of the palette is too dark."""
    lifted = 255.0 * (colour_of(track_ids) / 255.0) ** 0.6
    colours: NDArray[np.uint8] = np.rint(lifted).astype(np.uint8)
    return colours


def _blend(
    image: NDArray[np.uint8], label_map: NDArray[np.int32], fills: NDArray[np.uint8], alpha: float
) -> NDArray[np.uint8]:
    tinted = cv2.addWeighted(image, 1.0 - alpha, _paint(label_map, fills), alpha, 0.0)
    picture: NDArray[np.uint8] = image.copy()
    cv2.copyTo(tinted, (label_map > 0).astype(np.uint8), picture)
    return picture


def _outline(picture: NDArray[np.uint8], label_map: NDArray[np.int32], fills: NDArray[np.uint8]) -> None:
    """Lines just inside every border, light enough to stand out from their fill."""
    radius = max(1, round(1.5 * picture.shape[0] / _REFERENCE_HEIGHT))
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), dtype=np.uint8)  # a rectangle is separable: fast at any size
    small = label_map.astype(np.uint16)
    border = cv2.morphologyEx(small, cv2.MORPH_GRADIENT, kernel)
    lines = (fills // 5 * 3 + 102).astype(np.uint8)  # two fifths white
    cv2.copyTo(_paint(label_map, lines), ((border > 0) & (small > 0)).astype(np.uint8), picture)


def _paint(label_map: NDArray[np.int32], colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``uint8[H, W, 3]``; one 32-bit look-up a pixel is three times as fast as a row of three bytes."""
    quads = np.zeros((len(colours) + 1, 4), dtype=np.uint8)
    quads[1:, :3] = colours
    painted = np.take(quads.view(np.uint32)[:, 0], label_map)
    three = cv2.cvtColor(painted.view(np.uint8).reshape(*label_map.shape, 4), cv2.COLOR_BGRA2BGR)
    colour_map: NDArray[np.uint8] = np.asarray(three, dtype=np.uint8)
    return colour_map


@dataclass(frozen=True, slots=True)
class _Tag:
    """A name in a box; pixels, ends exclusive."""

    text: str
    x0: int
    y0: int
    x1: int
    y1: int

    def overlaps(self, other: _Tag) -> bool:
        return self.x0 < other.x1 and other.x0 < self.x1 and self.y0 < other.y1 and other.y0 < self.y1


def _write_names(
    picture: NDArray[np.uint8],
    label_map: NDArray[np.int32],
    fills: NDArray[np.uint8],
    segments: tuple[Segment, ...],
    categories: CategorySet | None,
) -> None:
    scale = max(0.35, _FONT_SCALE * picture.shape[0] / _REFERENCE_HEIGHT)
    thickness = max(1, round(scale / 0.6))
    pad = max(2, round(6 * scale))
    tags: list[_Tag] = []
    smallest = _SMALLEST_NAMED * (picture.shape[0] / _REFERENCE_HEIGHT) ** 2
    extents = _extents(label_map, len(segments), step=max(1, picture.shape[0] // 240))
    for segment, extent, fill in zip(segments, extents, fills, strict=True):
        if extent is None or _box_area(extent) < smallest:
            continue
        text = _name(segment, categories)
        (width, height), baseline = cv2.getTextSize(text, _FONT, scale, thickness)
        tag = _place(text, extent, (height + baseline + pad, width + 2 * pad), label_map.shape, tags)
        tags.append(tag)
        colour = tuple(int(channel) for channel in fill)
        cv2.rectangle(picture, (tag.x0, tag.y0), (tag.x1 - 1, tag.y1 - 1), colour, cv2.FILLED)
        # Rec. 601 luma: black on light tags, white on dark ones.
        ink = (16, 16, 16) if fill @ np.array([299, 587, 114]) > 140_000 else (255, 255, 255)
        foot = (tag.x0 + pad, tag.y1 - baseline - pad // 2)
        cv2.putText(picture, text, foot, _FONT, scale, ink, thickness, cv2.LINE_AA)


def _extents(label_map: NDArray[np.int32], count: int, *, step: int) -> list[tuple[slice, slice] | None]:
    """The box of each label, to ``step`` pixels: names need no more, and looking at fewer pixels is faster."""
    coarse = ndimage.find_objects(np.ascontiguousarray(label_map[::step, ::step]), max_label=count)
    return [
        None
        if box is None
        else (slice(box[0].start * step, box[0].stop * step), slice(box[1].start * step, box[1].stop * step))
        for box in coarse
    ]


def _box_area(extent: tuple[slice, slice]) -> int:
    rows, columns = extent
    return int((rows.stop - rows.start) * (columns.stop - columns.start))


def _name(segment: Segment, categories: CategorySet | None) -> str:
    parts = [str(segment.track_id)]
    if categories is not None and segment.category is not None:
        parts.append(categories[segment.category].name)
    if segment.score is not None:
        parts.append(f"{100 * segment.score:.0f}%")
    return " ".join(parts)


def _place(
    text: str, extent: tuple[slice, slice], tag_hw: tuple[int, int], size_hw: tuple[int, ...], taken: list[_Tag]
) -> _Tag:
    """Above the segment, inside the picture; below earlier names it would cover, as long as there is room."""
    rows, columns = extent
    x = min(max(0, (columns.start + columns.stop - tag_hw[1]) // 2), max(0, size_hw[1] - tag_hw[1]))
    y = max(0, rows.start - tag_hw[0])
    tag = _Tag(text, x, y, x + tag_hw[1], y + tag_hw[0])
    while (other := next((other for other in taken if tag.overlaps(other)), None)) is not None:
        if other.y1 + tag_hw[0] > size_hw[0]:
            break
        tag = _Tag(text, x, other.y1, x + tag_hw[1], other.y1 + tag_hw[0])
    return tag
