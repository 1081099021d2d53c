"""Grounding DINO beside the library's own post-processing, and whose each box is."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.grounding_dino.processing_grounding_dino import GroundingDinoProcessor

from maskstream.segmenters.grounding_dino import load_grounding_dino, phrase_of_boxes
from maskstream.types import Frame, InputError

from .tiny_models import save_grounding_dino, save_sam


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("grounding-dino")
    save_grounding_dino(path)
    return path


@pytest.fixture
def detector(folder):
    return load_grounding_dino(str(folder))


@pytest.fixture(scope="module")
def picture():
    image = np.random.default_rng(0).integers(0, 256, (48, 80, 3), np.uint8)
    image[10:30, 20:50] = (200, 30, 30)
    return Frame(0, 0.0, image)


def test_boxes_and_scores_are_those_of_the_library(detector, picture):
    detector.max_iou = 1.0
    found = detector.detect(picture, ["Cat", "remote control"])
    text = detector.tokenizer("cat. remote control.", return_tensors="pt", return_token_type_ids=True)
    with torch.no_grad():
        outputs = detector.network(pixel_values=detector.pixels([picture]), **text)
    processor: Any = SimpleNamespace(batch_decode=detector.tokenizer.batch_decode)
    (expected,) = GroundingDinoProcessor.post_process_grounded_object_detection(
        processor,
        outputs,
        text["input_ids"],
        threshold=0.35,
        text_threshold=0.35,
        target_sizes=[(48, 80)],
    )
    limits = torch.tensor([80, 48, 80, 48])
    boxes = expected["boxes"].clamp_min(0).minimum(limits)
    inside = (boxes[:, 2:] > boxes[:, :2]).all(1)
    order = expected["scores"][inside].argsort(descending=True, stable=True)
    assert len(order) > 2
    torch.testing.assert_close(found.scores_n, expected["scores"][inside][order])
    torch.testing.assert_close(found.xyxy_n4, boxes[inside][order])


def test_every_phrase_owns_its_words_and_no_mark(detector):
    ids, tokens = detector.text_of(["Red car", "remote  control", "st. dog?"])
    words = detector.tokenizer.convert_ids_to_tokens(ids.tolist())
    owned = [[word for word, mine in zip(words, row, strict=True) if mine] for row in tokens.tolist()]
    assert owned == [["red", "car"], ["re", "##mote", "control"], ["[UNK]", "dog"]]
    assert words == ["[CLS]", "red", "car", ".", "re", "##mote", "control", ".", "[UNK]", "dog", ".", "[SEP]"]


@pytest.mark.parametrize(
    ("probabilities", "phrase"),
    [
        # tokens: [CLS] red car . car . remote control .
        pytest.param([0, 0.9, 0.8, 0, 0.6, 0, 0, 0, 0], 0, id="the words that go best"),
        pytest.param([0, 0.1, 0.8, 0, 0.7, 0, 0, 0, 0], 1, id="half a phrase is less than a whole one"),
        pytest.param([0, 0.9, 0.9, 0, 0, 0, 0.1, 0.4, 0], 0, id="better on average"),
        pytest.param([0, 0.3, 0.3, 0, 0, 0, 0.0, 0.4, 0], 2, id="a word that is named counts more than the average"),
        pytest.param([0.9, 0.01, 0.02, 0.9, 0.01, 0.9, 0.05, 0, 0.9], 2, id="only marks fit: the best phrase anyway"),
    ],
)
def test_a_box_is_of_the_phrase_whose_words_go_best_with_it(probabilities, phrase):
    tokens = torch.zeros(3, 9, dtype=torch.bool)
    tokens[0, 1:3] = tokens[1, 4] = tokens[2, 6:8] = True
    assert phrase_of_boxes(torch.tensor([probabilities]), tokens, 0.35).tolist() == [phrase]


def test_phrases_that_do_not_fit_are_looked_for_in_turns(detector, picture):
    detector.max_iou, detector.min_score = 1.0, 0.0
    phrases = ["cat", "red car", "remote control", "person on the left", "dog", "blue car"]
    parts = detector._texts(phrases)
    assert [phrase for _, part in parts for phrase in part] == phrases
    assert [start for start, _ in parts] == [0, 4]
    assert all(len(detector.text_of(part)[0]) <= 16 for _, part in parts)
    found = detector.detect(picture, phrases)
    alone = [detector.detect(picture, part) for _, part in parts]
    assert len(found) == sum(map(len, alone))
    for (start, _), part in zip(parts, alone, strict=True):
        for box, score, phrase in zip(part.xyxy_n4, part.scores_n, part.phrases_n, strict=True):
            same = (found.xyxy_n4 == box).all(1) & (found.scores_n == score)
            assert (found.phrases_n[same] == start + phrase).any()


def test_boxes_of_one_thing_are_one_whatever_their_phrase(detector, picture):
    detector.min_score = 0.0
    detector.max_iou = 1.0
    several = detector.detect(picture, ["cat", "dog"])
    detector.max_iou = 0.0
    few = detector.detect(picture, ["cat", "dog"])
    assert 0 < len(few) < len(several)
    left, top, right, bottom = few.xyxy_n4.T
    for n in range(len(few)):
        for m in range(n):
            apart = left[n] >= right[m] or left[m] >= right[n] or top[n] >= bottom[m] or top[m] >= bottom[n]
            assert apart


@pytest.mark.parametrize(
    ("phrases", "says"),
    [
        pytest.param(["cat", " . "], "nothing to look for in the phrase ' . '", id="no words"),
        pytest.param(["cat " * 20], "more than the 16 tokens", id="too many words"),
    ],
)
def test_phrases_must_have_words_but_not_too_many(detector, picture, phrases, says):
    with pytest.raises(InputError, match=says):
        detector.detect(picture, phrases)


def test_another_model_and_a_missing_tokenizer_are_named_in_one_line(tmp_path):
    save_sam(tmp_path)
    with pytest.raises(InputError, match="kind sam, not grounding-dino: the usual one is IDEA-Research"):
        load_grounding_dino(str(tmp_path))
    other = tmp_path / "other"
    other.mkdir()
    save_grounding_dino(other)
    (other / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match="holds no tokenizer that can be read") as raised:
        load_grounding_dino(str(other))
    assert "\n" not in str(raised.value)
    (other / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"tokenizer\.json is not in it") as raised:
        load_grounding_dino(str(other))
    assert "\n" not in str(raised.value)
