"""CLIPSeg beside the library's own forward."""

import numpy as np
import pytest
import torch

from maskstream.segmenters.clipseg import load_clipseg
from maskstream.types import BoxPrompt, Category, CategorySet, Frame, InputError

from .tiny_models import save_clipseg, save_sam

ASKED = CategorySet(
    "asked", (Category(7, "cat"), Category(3, "red car", is_thing=True), Category(5, "dog on the left"))
)


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clipseg")
    save_clipseg(folder)
    return load_clipseg(str(folder), min_score=0.0)


@pytest.fixture(scope="module")
def picture():
    return Frame(0, 0.0, np.random.default_rng(0).integers(0, 256, (48, 80, 3), np.uint8))


def expected(segmenter, picture):
    text = segmenter.tokenizer(list(ASKED.names), padding=True, return_tensors="pt")
    pixels = segmenter.pixels([picture] * 3)
    with torch.no_grad():
        logits = segmenter.network(
            input_ids=text["input_ids"], attention_mask=text["attention_mask"], pixel_values=pixels
        ).logits
    return logits.sigmoid()


def test_every_category_has_the_map_of_the_library(segmenter, picture):
    (features,) = segmenter.encode([picture])
    found = segmenter.segment(features, categories=ASKED)
    torch.testing.assert_close(found.masks_nhw, expected(segmenter, picture), atol=1e-5, rtol=1e-5)
    assert found.categories == (7, 3, 5) and found.is_thing == (None,) * 3
    assert found.scores == pytest.approx(found.masks_nhw.amax((1, 2)).tolist())
    assert len({round(score, 4) for score in found.scores}) == 3


def test_categories_that_are_nowhere_are_not_proposed(segmenter, picture, monkeypatch):
    (features,) = segmenter.encode([picture])
    highest = expected(segmenter, picture).amax((1, 2))
    monkeypatch.setattr(segmenter, "min_score", float(highest.median()) - 1e-4)
    found = segmenter.segment(features, categories=ASKED)
    lowest = int(highest.argmin())
    assert found.categories == tuple(id for n, id in enumerate(ASKED.ids) if n != lowest)


def test_one_category_alone_is_one_map(segmenter, picture):
    (features,) = segmenter.encode([picture])
    cat = CategorySet.from_names(["cat"])
    assert segmenter.segment(features, categories=cat).masks_nhw.shape == (1, 64, 64)


def test_it_is_told_what_to_look_for_in_words(segmenter, picture):
    (features,) = segmenter.encode([picture])
    with pytest.raises(InputError, match="name classes"):
        segmenter.segment(features)
    with pytest.raises(InputError, match="in words"):
        segmenter.segment(features, [BoxPrompt(0, 1, (1, 1, 9, 9))], categories=ASKED)


def test_another_model_is_named(tmp_path):
    save_sam(tmp_path)
    with pytest.raises(InputError, match="kind sam, not clipseg: the usual one is CIDAS/clipseg-rd64-refined"):
        load_clipseg(str(tmp_path))
