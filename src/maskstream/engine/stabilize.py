"""Flickering per-frame masks become tracks, and how much they flicker before and after.

Masks that were made frame by frame take the place of DEVA's image-level model: what several frames agree on is
believed, carried on, and gets an id that stays (DEVA, §3; specification §9, §10.3).

OUT/…               what every run writes
    flicker.csv     a row a frame: before, after
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from maskstream.files import atomic_path, file_digest
from maskstream.formats.frame_masks import read_frame_masks
from maskstream.formats.journal import Journal, segmentation_of
from maskstream.formats.tracks import index_journal
from maskstream.metrics.flicker import came_from
from maskstream.optical_flow import dense_flow
from maskstream.segmenters.precomputed import PrecomputedSegmenter, matched_frames
from maskstream.sinks.folder import RunFolder
from maskstream.systems.deva import Deva, render_proposals
from maskstream.types import OBJECT, Frame, FrameSegmentation, InputError, Task, Video, joint_histogram
from maskstream.video import prefetch
from maskstream.video.images import ImagesVideo

from .run import RunSummary, segment_to_folder, write_run_report

Labels: TypeAlias = NDArray[np.int32]

FLOW_SIZE = 480
"""Short side of the pictures between which flow is found, unless they are smaller."""

OUTSIDE = -1
"""Label of a pixel that came from outside the picture."""

TABLE = "flicker.csv"
_COLUMNS = ("frame", "before", "after")


@dataclass(frozen=True, slots=True)
class FlickerRow:
    """How much masks flicker from the frame before to this one, see `disagreement`; nan where nothing is there."""

    frame_index: int
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class StabilizeSummary:
    """What a run came to: as `RunSummary`, and the mean flicker before and after; nan where nothing was ever found."""

    frames: int
    continued_from: int
    tracks: int
    flicker_before: float
    flicker_after: float


def stabilize_to_folder(
    video: Video,
    detector: PrecomputedSegmenter,
    model: Deva,
    folder: RunFolder,
    *,
    facts: Mapping[str, str] | None = None,
    audio_from: Path | None = None,
    on_frame: Callable[[int], None] = lambda done: None,
) -> StabilizeSummary:
    """Make tracks of masks, or continue doing so, and measure flicker.

    Args:
        video: the frames; read twice.
        detector: the masks.
        model: DEVA with this detector.
        folder: where everything goes.
        facts: lines for the report.
        audio_from: the file whose sound goes under the overlay, or None.
        on_frame: called with the number of finished frames.

    Raises:
        InputError: the video can be read only once, or a mask does not fit.
        OutputError: a file could not be written; everything finished is kept and the run can be continued.
    """
    if not video.seekable:
        raise InputError(f"{video.name} can be read only once: save it to a file first")
    categories = detector.label_space or OBJECT
    session = model.start(Task.OWVS, size_hw=video.size_hw, fps=video.fps)
    run = segment_to_folder(
        video, session, folder, categories=categories, audio_from=audio_from, facts=facts, on_frame=on_frame
    )
    table = folder.path / TABLE
    if not table.exists():
        rows = list(flicker_rows(video, detector, Journal(folder.journal)))
        before, after = mean_flicker(rows)
        measured = {"flicker before": f"{before:.3f}", "flicker after": f"{after:.3f}"}
        write_run_report(
            folder,
            video,
            index_journal(Journal(folder.journal)),
            categories,
            {**(facts or {}), **measured},
            charts=[flicker_chart(rows)],
        )
        write_flicker(table, rows)
    return _summary(run, read_flicker(table))


def _summary(run: RunSummary, rows: list[FlickerRow]) -> StabilizeSummary:
    before, after = mean_flicker(rows)
    return StabilizeSummary(run.frames, run.continued_from, run.tracks, before, after)


def open_masks(path: Path, video: Video, *, min_score: float = 0.0) -> PrecomputedSegmenter:
    """Masks of a video, matched to its frames, see `matched_frames`.

    Args:
        path: see `read_frame_masks`.
        video: whose masks they are.
        min_score: masks below this score are ignored.

    Raises:
        InputError: there are none, or it cannot be told which belongs to which frame.
    """
    masks = read_frame_masks(path)
    stems = [image.stem for image in video.paths] if isinstance(video, ImagesVideo) else None
    positions = matched_frames(masks, frame_count=video.frame_count, stems=stems)
    return PrecomputedSegmenter(masks, positions, min_score=min_score)


def masks_identity(path: Path) -> str:
    """SHA-256 of all files of masks, by name and content: another content is another request."""
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    listing = [(str(each.relative_to(path)), file_digest(each)) for each in files]
    return hashlib.sha256(repr(listing).encode()).hexdigest()


# The measure.


def disagreement(before_hw: Labels, after_hw: Labels) -> float:
    """Of the pixels that are an object on either of two frames, the fraction that are not the same one on both.

    Args:
        before_hw: ``int32[H, W]``, labels of the frame before where its pixels are now; `OUTSIDE` is left out.
        after_hw: ``int32[H, W]``, labels of this frame; 0 is no object.

    Returns:
        From 0, nothing changed but by motion, to 1; nan where neither has an object.
    """
    counts = (before_hw != OUTSIDE) & ((before_hw > 0) | (after_hw > 0))
    return float((before_hw != after_hw)[counts].mean()) if counts.any() else math.nan


def carried(labels_hw: Labels, flow_hw2: NDArray[np.float32]) -> Labels:
    """Labels of a frame where its pixels are on the next.

    Args:
        labels_hw: ``int32[H, W]`` of a frame.
        flow_hw2: ``float32[H, W, 2]``, from each pixel of the next frame to its place on this one: column, row.

    Returns:
        ``int32[H, W]``; `OUTSIDE` where a pixel of the next frame was not in the picture.
    """
    rows, columns, inside = came_from(flow_hw2)
    found: Labels = np.where(inside, labels_hw[rows, columns], np.int32(OUTSIDE))
    return found


def renamed_alike(before_hw: Labels, after_hw: Labels) -> Labels:
    """Regions of the frame before with the labels of this frame's regions that they overlap best, one to one.

    This is for masks without ids, of which it cannot be asked that they keep them.

    Args:
        before_hw: ``int32[H, W]``, 1…N, 0 and `OUTSIDE`.
        after_hw: ``int32[H, W]``, 1…M and 0.

    Returns:
        ``int32[H, W]``; regions without a partner get labels beyond M.
    """
    known = before_hw != OUTSIDE
    n, m = int(before_hw.max(initial=0)), int(after_hw.max(initial=0))
    pair = [torch.from_numpy(labels[known]) for labels in (before_hw, after_hw)]
    shared = joint_histogram(pair[0], n, pair[1], m).numpy()
    areas_n, areas_m = shared.sum(axis=1)[1:], shared.sum(axis=0)[1:]
    shared_nm = shared[1:, 1:]
    iou_nm = shared_nm / np.maximum(areas_n[:, None] + areas_m - shared_nm, 1)
    name = np.arange(n + 1, dtype=np.int32) + m
    name[0] = 0
    for row, column in zip(*linear_sum_assignment(iou_nm, maximize=True), strict=True):
        if iou_nm[row, column] > 0:
            name[row + 1] = column + 1
    renamed: Labels = np.where(known, name[np.maximum(before_hw, 0)], np.int32(OUTSIDE))
    return renamed


def flicker_rows(video: Video, detector: PrecomputedSegmenter, journal: Journal) -> Iterator[FlickerRow]:
    """Flicker of the masks that went in, and of the tracks that came out, for every frame but the first.

    Tracks are compared by their ids. What went in has none, so that its regions are matched by overlap first: it is not
    blamed for names, only for what appears, vanishes and changes its outline.

    Args:
        video: the frames.
        detector: what went in.
        journal: what came out, frame by frame as the video.
    """
    earlier: tuple[NDArray[np.uint8], Labels, Labels] | None = None
    for frame, line in zip(prefetch(video), journal, strict=True):
        (noted,) = detector.encode([frame])
        grey = _grey(frame)
        before = _shrunk(render_proposals(detector.segment(noted), frame.size_hw).numpy(), grey.shape)
        after = _shrunk(_tracks(segmentation_of(line, frame.size_hw, frame_index=frame.index)), grey.shape)
        if earlier is not None:
            flow = dense_flow(grey, earlier[0])
            came_in = renamed_alike(carried(earlier[1], flow), before)
            yield FlickerRow(frame.index, disagreement(came_in, before), disagreement(carried(earlier[2], flow), after))
        earlier = grey, before, after


def _grey(frame: Frame) -> NDArray[np.uint8]:
    grey = np.asarray(cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY), np.uint8)
    scale = FLOW_SIZE / min(grey.shape)
    if scale >= 1:
        return grey
    size_wh = round(grey.shape[1] * scale), round(grey.shape[0] * scale)
    return np.asarray(cv2.resize(grey, size_wh, interpolation=cv2.INTER_AREA), np.uint8)


def _shrunk(labels_hw: Labels, size_hw: tuple[int, ...]) -> Labels:
    if labels_hw.shape == size_hw:
        return labels_hw
    return np.asarray(cv2.resize(labels_hw, size_hw[::-1], interpolation=cv2.INTER_NEAREST_EXACT), np.int32)


def _tracks(segmentation: FrameSegmentation) -> Labels:
    ids = np.array([0, *(segment.track_id for segment in segmentation.segments)], np.int32)
    tracks: Labels = ids[segmentation.label_map().numpy()]
    return tracks


# What is written.


def mean_flicker(rows: list[FlickerRow]) -> tuple[float, float]:
    """Means before and after over the frames on which something is there; nan if there is none."""
    sides = ([row.before for row in rows], [row.after for row in rows])
    known = [[value for value in side if not math.isnan(value)] for side in sides]
    before, after = (fmean(side) if side else math.nan for side in known)
    return before, after


def write_flicker(path: Path, rows: list[FlickerRow]) -> None:
    """Write ``flicker.csv``; a cell is empty where nothing is there."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(_COLUMNS)
        for row in rows:
            cells = ("" if math.isnan(value) else f"{value:.6f}" for value in (row.before, row.after))
            table.writerow([row.frame_index, *cells])


def read_flicker(path: Path) -> list[FlickerRow]:
    """Undo `write_flicker`."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    return [FlickerRow(int(frame), float(before or "nan"), float(after or "nan")) for frame, before, after in rows]


def flicker_chart(rows: list[FlickerRow]) -> str:
    """Both curves over time as a section of HTML, 0 to 1; nothing without rows."""
    if not rows:
        return ""
    before, after = mean_flicker(rows)
    across = np.linspace(0, 1000, len(rows)) if len(rows) > 1 else np.array([0.0])
    lines = []
    for colour, values in (("#c2703d", [row.before for row in rows]), ("#4f7cac", [row.after for row in rows])):
        points = " ".join(
            f"{x:.1f},{100 - 100 * y:.1f}" for x, y in zip(across, values, strict=True) if not math.isnan(y)
        )
        lines.append(f'<polyline points="{points}" stroke="{colour}" vector-effect="non-scaling-stroke"/>')
    drawing = "".join(lines)
    return (
        "<section>\n<h2>Flicker</h2>\n"
        '<svg viewBox="0 -2 1000 104" preserveAspectRatio="none" role="img" fill="none" stroke-width="1.5" '
        f'style="height:120px"><title>flicker of every frame, before and after</title>{drawing}</svg>\n'
        f'<p><span style="color:#c2703d">before {before:.3f}</span> · '
        f'<span style="color:#4f7cac">after {after:.3f}</span></p>\n</section>'
    )
