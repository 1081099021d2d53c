"""Words to masks: a detector finds boxes, SAM the object in each (DEVA with text prompts; specification §10.1).

picture, phrases ─► detector ─► boxes ─┐
picture ─► SAM's image encoder ────────┴─► masks
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from maskstream.types import CategorySet, Frame, InputError, ObjectPrompt, Proposals

from .boxes import Detector
from .sam import SamFeatures, SamSegmenter


@dataclass(frozen=True, slots=True, eq=False)
class TextFeatures:
    """A picture to look for things in.

    Attributes:
        image_hwc: ``uint8[H, W, 3]``, RGB, for the detector.
        sam: for SAM.
    """

    image_hwc: Tensor = field(repr=False)
    sam: SamFeatures


class TextSegmenter:
    """An `ImageSegmenter` that finds whatever the names of the categories say. With prompts it is SAM.

    Args:
        detector: finds the boxes.
        sam: finds the masks.
    """

    context = 0
    open_vocabulary = True

    def __init__(self, detector: Detector, sam: SamSegmenter) -> None:
        self.detector = detector
        self.sam = sam

    def encode(self, frames: Sequence[Frame]) -> list[TextFeatures]:
        """The pictures, and what SAM's image encoder says of them."""
        images = [torch.from_numpy(frame.image) for frame in frames]
        return [TextFeatures(*each) for each in zip(images, self.sam.encode(frames), strict=True)]

    def segment(
        self,
        features: TextFeatures,
        prompts: Sequence[ObjectPrompt] = (),
        *,
        context: Sequence[TextFeatures] = (),
        categories: CategorySet | None = None,
        exclude: Tensor | None = None,
    ) -> Proposals:
        """Find everything of some categories.

        Args:
            features: of the picture.
            prompts: objects to segment instead; see `SamSegmenter`.
            context: not used.
            categories: what to look for; their names are the phrases. They have to be given, unless prompts are.
            exclude: not used.

        Returns:
            ``bool`` masks at the size of the source, which may overlap, the surest first. Scores are those of boxes;
            thing or stuff is left open, as words do not tell.

        Raises:
            InputError: it is not said what to look for.
        """
        if prompts:
            return self.sam.segment(features.sam, prompts)
        phrases = wanted(categories)
        boxes = self.detector.detect(Frame(0, 0.0, features.image_hwc.numpy()), phrases.names)
        masks_nhw = self.sam.masks_in_boxes(features.sam, boxes.xyxy_n4)
        proposals = Proposals(
            masks_nhw,
            categories=tuple(phrases.ids[phrase] for phrase in boxes.phrases_n.tolist()),
            scores=tuple(boxes.scores_n.tolist()),
        )
        return proposals.keep(masks_nhw.flatten(1).any(1).tolist())


def wanted(categories: CategorySet | None) -> CategorySet:
    """The categories that are asked for.

    Raises:
        InputError: there are none.
    """
    if categories is None or not len(categories):
        raise InputError("a segmenter that looks for words was not told which: name classes, as in --classes cat,dog")
    return categories
