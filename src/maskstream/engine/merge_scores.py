"""Several soft runs over the same videos as one: multi-scale and flipped inference (DEVA specification §3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from maskstream.files import whole_folder
from maskstream.formats.indexed_png import write_mask_folders
from maskstream.formats.soft_png import merge_soft, read_soft
from maskstream.sinks.folder import SCORES
from maskstream.types import FrameAnnotation, InputError, VideoSample


@dataclass(frozen=True, slots=True)
class MergeSummary:
    """What was merged: runs, videos of each, and frames of all of these."""

    runs: int
    videos: int
    frames: int


def merge_runs(
    runs: Sequence[Path], output: Path, *, on_frame: Callable[[int], None] = lambda done: None
) -> MergeSummary:
    """Merge runs that followed the same objects.

    Args:
        runs: folders of runs with scores, or of scores alone.
        output: a folder to make: ``VIDEO/00000.png`` with the id of the likeliest object at each pixel.
        on_frame: called with the number of finished frames.

    Raises:
        InputError: there are less than two runs, one has no scores, or they differ in videos, frames, sizes or ids.
        OutputError: the folder is there already, or cannot be written.
    """
    if len(runs) < 2:
        raise InputError("there is nothing to merge: name two runs or more")
    opened = {path: read_soft(path / SCORES if (path / SCORES).is_dir() else path) for path in runs}
    if len(opened) < len(runs):
        raise InputError("a run is named twice: name each once")
    first, *others = opened
    for other in others:
        for name in sorted(opened[first].keys() ^ opened[other].keys()):
            has, lacks = (first, other) if name in opened[first] else (other, first)
            raise InputError(f"{has} has the video {name}, which {lacks} has not: runs to merge need the same videos")
    merged = [_merged({path: videos[name] for path, videos in opened.items()}) for name in opened[first]]
    done = 0

    def counted(video: VideoSample) -> VideoSample:
        def read(index: int) -> FrameAnnotation:
            nonlocal done
            annotation = video.annotation(index)
            done += 1
            on_frame(done)
            return annotation

        return replace(video, read_annotation=read)

    with whole_folder(output) as building:
        write_mask_folders(building, map(counted, merged), large_ids=True)
    return MergeSummary(len(runs), len(merged), sum(map(len, merged)))


def _merged(runs: Mapping[Path, VideoSample]) -> VideoSample:
    """One video of all runs.

    Raises:
        InputError: they differ in frames; and when a frame is read, in its size or ids.
    """
    (first, reference), *others = runs.items()
    for path, run in others:
        missing = {frame.stem for frame in reference.frames} ^ {frame.stem for frame in run.frames}
        if missing:
            raise InputError(
                f"{path} and {first} differ in frames of {run.name}, such as {min(missing)}: "
                "runs to merge must be of the same frames"
            )
    frame_of: dict[int, tuple[Path, tuple[int, int], set[int]]] = {}
    return merge_soft([_agreeing(path, run, frame_of) for path, run in runs.items()])


def _agreeing(path: Path, run: VideoSample, frame_of: dict[int, tuple[Path, tuple[int, int], set[int]]]) -> VideoSample:
    """A run that refuses to be read where it differs from what was read first of a frame."""

    def read(index: int) -> FrameAnnotation:
        annotation = run.annotation(index)
        result = annotation.segmentation
        ids = {segment.id for segment in result.segments}
        first, size_hw, wanted = frame_of.setdefault(index, (path, result.size_hw, ids))
        where = f"{path} and {first} differ on frame {run.frames[index].stem} of {run.name}"
        if size_hw != result.size_hw:
            sizes = " and ".join(f"{height}×{width}" for height, width in (result.size_hw, size_hw))
            raise InputError(f"{where}: {sizes} pixels; runs to merge must be of one video")
        if ids != wanted:
            raise InputError(
                f"{where}: {sorted(ids)} and {sorted(wanted)} are the objects; runs to merge must follow the same "
                "prompts"
            )
        return annotation

    return replace(run, read_annotation=read)
