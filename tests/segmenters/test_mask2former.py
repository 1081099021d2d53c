"""Mask2Former from a folder, against the network of `transformers` itself."""

import pytest
import torch
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation
from transformers.models.mask2former.image_processing_pil_mask2former import Mask2FormerImageProcessorPil

from maskstream.segmenters.mask2former import load_mask2former
from maskstream.types import InputError

from .query_models import LABELS, at_source, frame, limit, same, save, swin, theirs


def build():
    config = Mask2FormerConfig(
        backbone_config=swin(),
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=16,
        dim_feedforward=16,
        num_attention_heads=2,
        encoder_layers=1,
        decoder_layers=2,
        num_queries=12,
        id2label=LABELS,
    )
    return Mask2FormerForUniversalSegmentation(config)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mask2former")
    return folder, save(build, folder, {"size": {"shortest_edge": 64, "longest_edge": 128}, "size_divisor": 32})


@pytest.mark.parametrize("task", ["panoptic", "instance", "semantic"])
def test_proposals_are_what_transformers_makes_of_its_own_forward(saved, task):
    folder, network = saved
    picture = frame(64, 96, seed=2)  # as the network sees it: nothing is resized or padded
    segmenter = load_mask2former(str(folder), task=task)
    pixels = segmenter.pixels([picture])
    theirs_of_it = Mask2FormerImageProcessorPil.from_pretrained(folder)(picture.image, return_tensors="pt").pixel_values
    assert torch.equal(pixels, theirs_of_it)
    with torch.no_grad():
        answers = network(pixels)
    segmenter.min_score = limit(task, answers.class_queries_logits[0])
    logits_qhw = at_source(answers.masks_queries_logits[0], (64, 96), (64, 96), (64, 96))
    expected = theirs(task, answers.class_queries_logits[0], logits_qhw, threshold=segmenter.min_score)
    assert expected
    found = segmenter.segment(segmenter.encode([picture])[0])
    same(found, expected, scores=task != "semantic")


def test_padding_is_cut_off_before_masks_are_brought_to_the_size_of_the_source(saved):
    folder, network = saved
    picture = frame(71, 117, seed=2)
    segmenter = load_mask2former(str(folder))
    (seen,) = segmenter.encode([picture])
    assert (seen.content_hw, seen.window_hw, seen.size_hw) == ((64, 105), (64, 128), (71, 117))
    pixels = segmenter.pixels([picture])
    assert pixels[..., 105:].eq(0).all()
    with torch.no_grad():
        answers = network(pixels)
    logits_qhw = at_source(answers.masks_queries_logits[0], (64, 128), (64, 105), (71, 117))
    segmenter.min_score = limit("panoptic", answers.class_queries_logits[0])
    expected = theirs("panoptic", answers.class_queries_logits[0], logits_qhw, threshold=segmenter.min_score)
    assert expected
    same(segmenter.segment(seen), expected)


def test_embeddings_are_the_decoder_s_last_queries(saved):
    folder, network = saved
    segmenter = load_mask2former(str(folder), task="instance", min_score=0.0)
    (seen,) = segmenter.encode([frame(64, 96)])
    logits = network.class_predictor(seen.embeddings_wqd)
    torch.testing.assert_close(logits, seen.classes_wqc, atol=1e-4, rtol=1e-4)


def test_labels_of_the_folder_are_those_of_the_segmenter(saved):
    segmenter = load_mask2former(str(saved[0]))
    assert segmenter.context == 0
    assert segmenter.label_space.names == tuple(LABELS.values())
    assert segmenter.label_space.ids == tuple(LABELS)


def test_a_short_side_of_ones_own_is_what_the_network_sees(saved):
    segmenter = load_mask2former(str(saved[0]), short_side=96)
    (seen,) = segmenter.encode([frame(48, 64)])
    assert (seen.content_hw, seen.window_hw) == ((96, 128), (96, 128))


def test_a_folder_without_a_model_names_one_that_can_be_had(tmp_path):
    with pytest.raises(InputError, match=r"config.json is not in it; .*facebook/mask2former-.*MIT") as raised:
        load_mask2former(str(tmp_path))
    assert "\n" not in str(raised.value)


def test_a_folder_without_weights_is_refused(saved, tmp_path):
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((saved[0] / name).read_bytes())
    with pytest.raises(InputError, match="holds no weights for Mask2FormerForUniversalSegmentation") as raised:
        load_mask2former(str(tmp_path))
    assert "\n" not in str(raised.value)


def test_weights_of_the_loss_may_be_missing(saved, tmp_path):
    folder, network = saved
    weights = {name: weight for name, weight in network.state_dict().items() if not name.startswith("criterion.")}
    assert len(weights) < len(network.state_dict())
    network.save_pretrained(tmp_path, state_dict=weights)
    (tmp_path / "preprocessor_config.json").write_bytes((folder / "preprocessor_config.json").read_bytes())
    assert load_mask2former(str(tmp_path)).encode([frame(64, 96)])
