"""Masks that another program made, in the place of an image-level model (DEVA specification §10.3)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from maskstream.formats.frame_masks import FrameMasks
from maskstream.types import CategorySet, Frame, InputError, ObjectPrompt, Proposals

_NUMBER = re.compile(r"(\d+)$")


@dataclass(frozen=True, slots=True)
class NotedFrame:
    """Which frame it is, and its height and width."""

    index: int
    size_hw: tuple[int, int]


class PrecomputedSegmenter:
    """An `ImageSegmenter` that looks up what was found on a frame before.

    Args:
        masks: what was found.
        position_of: the entry of ``masks`` for each ``Frame.index``, see `matched_frames`; a frame without one is a
            frame on which nothing was found.
        min_score: proposals below this score are ignored; those without a score are not.
    """

    context = 0

    def __init__(self, masks: FrameMasks, position_of: Mapping[int, int], *, min_score: float = 0.0) -> None:
        self._masks = masks
        self._position_of = dict(position_of)
        self._min_score = min_score

    @property
    def label_space(self) -> CategorySet | None:
        """What the categories of the proposals mean; None if they have none."""
        return self._masks.categories

    def encode(self, frames: Sequence[Frame]) -> list[NotedFrame]:
        """Note which frames these are; their pixels are not looked at."""
        return [NotedFrame(frame.index, frame.size_hw) for frame in frames]

    def segment(
        self,
        features: NotedFrame,
        prompts: Sequence[ObjectPrompt] = (),
        *,
        context: Sequence[NotedFrame] = (),
        categories: CategorySet | None = None,
        exclude: Tensor | None = None,
    ) -> Proposals:
        """What was found on a frame, all of it: ``categories`` and ``exclude`` change nothing.

        Raises:
            InputError: there are prompts, or a mask is damaged or of another size than the frame.
        """
        if prompts:
            raise InputError("masks that were made before cannot answer boxes, clicks or scribbles")
        position = self._position_of.get(features.index)
        if position is None:
            return Proposals.none(features.size_hw)
        proposals = self._masks.read(position)
        if not len(proposals):
            return Proposals.none(features.size_hw)
        if tuple(proposals.masks_nhw.shape[1:]) != features.size_hw:
            given, wanted = ("×".join(map(str, size)) for size in (proposals.masks_nhw.shape[1:], features.size_hw))
            raise InputError(
                f"{self._masks.name(position)}: the mask is {given}, but frame {features.index} is {wanted}: "
                "resize masks to the video, without interpolation"
            )
        return proposals.keep([score is None or score >= self._min_score for score in proposals.scores])


def matched_frames(masks: FrameMasks, *, frame_count: int | None, stems: Sequence[str] | None = None) -> dict[int, int]:
    """Which entry belongs to which frame.

    By name where the frames have names and all entries bear them; else in natural order where there are as many entries
    as frames; else by the number their names end in, counted from 0, or from 1 where the last has the number of frames.

    Args:
        masks: what was found.
        frame_count: of the video, if known.
        stems: names of the frames, without suffix, by index, where the video is a folder of images.

    Returns:
        Position of an entry by ``Frame.index``.

    Raises:
        InputError: it cannot be told, or there are entries for frames that are not there.
    """
    names = masks.names
    if stems is not None and set(names) & set(stems):
        index_of = {stem: index for index, stem in enumerate(stems)}
        strangers = [name for name in names if name not in index_of]
        if strangers:
            raise InputError(f"{masks.path} has masks for {strangers[0]}, but the video has no such frame: remove them")
        return {index_of[name]: position for position, name in enumerate(names)}
    if len(names) == frame_count:
        return {position: position for position in range(len(names))}
    found = [_NUMBER.search(name) for name in names]
    numbers = [int(match[1]) for match in found if match]
    distinct = len(set(numbers)) == len(names)
    if distinct and (frame_count is None or max(numbers, default=0) < frame_count):
        return {number: position for position, number in enumerate(numbers)}
    if distinct and max(numbers) == frame_count and min(numbers) > 0:
        return {number - 1: position for position, number in enumerate(numbers)}
    raise InputError(
        f"{masks.path} has masks for {len(names)} frames, but the video has {frame_count or 'an unknown number of'} "
        "frames: name files by the number of their frame, from 0"
    )
