"""OWLv2 beside the library's own post-processing."""

import numpy as np
import pytest
import torch
from transformers.models.owlv2.image_processing_pil_owlv2 import Owlv2ImageProcessorPil

from maskstream.segmenters.owlv2 import load_owlv2
from maskstream.types import Frame, InputError

from .tiny_models import save_owlv2, save_sam


@pytest.fixture
def detector(tmp_path):
    save_owlv2(tmp_path)
    return load_owlv2(str(tmp_path))


@pytest.fixture(params=[(48, 80), (80, 48), (64, 64)], ids=["wide", "high", "square"])
def picture(request):
    image = np.random.default_rng(0).integers(0, 256, (*request.param, 3), np.uint8)
    image[10:30, 20:40] = (200, 30, 30)
    return Frame(0, 0.0, image)


def test_boxes_scores_and_phrases_are_those_of_the_library(detector, picture):
    phrases = ["cat", "red car", "person on the left"]
    detector.max_iou = 1.0
    found = detector.detect(picture, phrases)
    height, width = picture.size_hw
    side = max(height, width)
    square = np.zeros((side, side, 3), np.uint8)
    square[:height, :width] = picture.image
    text = detector.tokenizer(phrases, padding="max_length", max_length=8, return_tensors="pt")
    with torch.no_grad():
        outputs = detector.network(
            pixel_values=detector.pixels([Frame(0, 0.0, square)]),
            input_ids=text["input_ids"],
            attention_mask=text["attention_mask"],
        )
    (expected,) = Owlv2ImageProcessorPil().post_process_object_detection(
        outputs, threshold=0.1, target_sizes=[picture.size_hw]
    )
    boxes = expected["boxes"].clamp_min(0).minimum(torch.tensor([width, height, width, height]))
    inside = (boxes[:, 2:] > boxes[:, :2]).all(1)
    order = expected["scores"][inside].argsort(descending=True, stable=True)
    assert len(order) > 2 and len(set(found.phrases_n.tolist())) > 1
    torch.testing.assert_close(found.scores_n, expected["scores"][inside][order])
    torch.testing.assert_close(found.xyxy_n4, boxes[inside][order])
    assert torch.equal(found.phrases_n, expected["labels"][inside][order])


def test_the_picture_is_padded_before_it_is_resized(detector, picture):
    """The library's own preparation; it smooths with another filter, so only nearly the same."""
    image = np.full((*picture.size_hw, 3), 180, np.uint8)
    seen = []
    detector.network.register_forward_pre_hook(
        lambda module, args, given: seen.append(given["pixel_values"]), with_kwargs=True
    )
    detector.detect(Frame(0, 0.0, image), ["cat"])
    processor = Owlv2ImageProcessorPil(
        size={"height": 64, "width": 64}, image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.25, 0.3]
    )
    expected = processor(image, return_tensors="pt")["pixel_values"]
    assert ((seen[0] - expected).abs() < 0.02).float().mean() > 0.9


def test_phrases_have_words(detector, picture):
    with pytest.raises(InputError, match="nothing to look for in the phrase ' '"):
        detector.detect(picture, ["cat", " "])


def test_phrases_that_are_too_long_are_cut(detector, picture):
    long, cut = (detector.detect(picture, ["cat " * times]) for times in (20, 6))
    assert torch.equal(long.scores_n, cut.scores_n)


def test_another_model_is_named(tmp_path):
    save_sam(tmp_path)
    with pytest.raises(InputError, match="kind sam, not owlv2: the usual one is google/owlv2-base"):
        load_owlv2(str(tmp_path))
