"""Other numbers for the objects of a video."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from maskstream.types import FrameAnnotation, VideoSample


def renumbered(video: VideoSample, number_of: Mapping[int, int]) -> VideoSample:
    """The video with other numbers for its objects; those that get none are left out.

    Args:
        video: what to number anew.
        number_of: the new id of each track that is kept.
    """

    def read(index: int) -> FrameAnnotation:
        annotation = video.annotation(index)
        segments = annotation.segmentation.segments
        kept = [n for n, segment in enumerate(segments) if segment.track_id in number_of]
        renamed = tuple(
            replace(segments[n], id=number_of[segments[n].track_id], track_id=number_of[segments[n].track_id])
            for n in kept
        )
        crowd = {new.id for new, n in zip(renamed, kept, strict=True) if segments[n].id in annotation.crowd_ids}
        segmentation = annotation.segmentation.selected(kept, renamed)
        return replace(annotation, segmentation=segmentation, crowd_ids=frozenset(crowd))

    return replace(video, read_annotation=None if video.read_annotation is None else read)
