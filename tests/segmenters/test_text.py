"""Words to masks."""

import numpy as np
import pytest
import torch

from maskstream.segmenters.boxes import Boxes
from maskstream.segmenters.sam import load_sam
from maskstream.segmenters.text import TextSegmenter
from maskstream.types import BoxPrompt, Category, CategorySet, Frame, InputError, PointPrompt

from .tiny_models import save_sam, save_sam2

BOXES = ((10.0, 8.0, 60.0, 40.0), (1.0, 1.0, 20.0, 30.0), (30.0, 20.0, 79.0, 47.0))
ANIMALS = CategorySet("animals", (Category(7, "cat"), Category(3, "dog", is_thing=True)))


class Found:
    """Finds the same boxes in every picture; keeps what it was asked."""

    def detect(self, frame, phrases):
        self.asked = frame, tuple(phrases)
        return Boxes(torch.tensor(BOXES), torch.tensor([0.9, 0.75, 0.5]), torch.tensor([1, 0, 1]))


@pytest.fixture(scope="module", params=[save_sam, save_sam2], ids=["sam", "sam2"])
def segmenter(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sam")
    request.param(folder)
    return TextSegmenter(Found(), load_sam(str(folder)))


@pytest.fixture(scope="module")
def picture():
    return Frame(0, 0.0, np.random.default_rng(0).integers(0, 256, (48, 80, 3), np.uint8))


def test_every_box_becomes_the_mask_that_sam_finds_in_it(segmenter, picture):
    (features,) = segmenter.encode([picture])
    found = segmenter.segment(features, categories=ANIMALS)
    prompts = [BoxPrompt(0, n, box) for n, box in enumerate(BOXES, 1)]
    assert torch.equal(found.masks_nhw, segmenter.sam.segment(features.sam, prompts).masks_nhw)
    assert found.categories == (3, 7, 3)
    assert found.scores == (pytest.approx(0.9), 0.75, 0.5)
    assert found.is_thing == (None, None, None)
    frame, phrases = segmenter.detector.asked
    assert phrases == ("cat", "dog") and np.array_equal(frame.image, picture.image)


def test_empty_masks_are_dropped_with_their_scores(segmenter, picture, monkeypatch):
    masks = torch.zeros(3, 48, 80, dtype=torch.bool)
    masks[0, 3, 3] = masks[2, 4, 4] = True
    monkeypatch.setattr(segmenter.sam, "masks_in_boxes", lambda features, boxes: masks)
    (features,) = segmenter.encode([picture])
    found = segmenter.segment(features, categories=ANIMALS)
    assert torch.equal(found.masks_nhw, masks[[0, 2]])
    assert found.scores == (pytest.approx(0.9), 0.5) and found.categories == (3, 3)


def test_with_prompts_it_is_sam(segmenter, picture):
    (features,) = segmenter.encode([picture])
    prompts = [PointPrompt(0, 1, ((30, 20),))]
    expected = segmenter.sam.segment(features.sam, prompts)
    assert torch.equal(segmenter.segment(features, prompts).masks_nhw, expected.masks_nhw)


@pytest.mark.parametrize("categories", [None, CategorySet("none", ())], ids=["not given", "none"])
def test_it_must_be_said_what_to_look_for(segmenter, picture, categories):
    (features,) = segmenter.encode([picture])
    with pytest.raises(InputError, match="name classes, as in --classes cat,dog"):
        segmenter.segment(features, categories=categories)
