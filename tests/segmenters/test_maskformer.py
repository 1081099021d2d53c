"""MaskFormer from a folder, against the network of `transformers` itself."""

from typing import Any

import pytest
import torch
from transformers import DetrConfig, MaskFormerConfig, MaskFormerForInstanceSegmentation, ResNetConfig
from transformers.models.maskformer.image_processing_pil_maskformer import MaskFormerImageProcessorPil

from maskstream.segmenters.mask2former import load_mask2former
from maskstream.segmenters.maskformer import load_maskformer
from maskstream.types import InputError

from .query_models import LABELS, at_source, frame, limit, same, save, swin, theirs


def resnet():
    sizes: dict[str, Any] = {
        "embedding_size": 8,
        "hidden_sizes": [8, 8, 8, 16],
        "depths": [1, 1, 1, 1],
        "layer_type": "basic",
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    }
    return ResNetConfig(**sizes)


def build(backbone):
    decoder = DetrConfig(
        backbone_config=resnet(),
        d_model=16,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_queries=12,
    )
    config = MaskFormerConfig(
        backbone_config=backbone(),
        decoder_config=decoder,
        fpn_feature_size=32,
        mask_feature_size=32,
        id2label=LABELS,
    )
    return MaskFormerForInstanceSegmentation(config)


@pytest.fixture(scope="module", params=[swin, resnet], ids=["Swin", "ResNet"])
def saved(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("maskformer")
    processor = {"size": 64, "max_size": 128, "size_divisor": 32}
    return folder, save(lambda: build(request.param), folder, processor)


@pytest.mark.parametrize("task", ["panoptic", "instance", "semantic"])
def test_proposals_are_what_transformers_makes_of_its_own_forward(saved, task):
    folder, network = saved
    picture = frame(64, 96, seed=5)
    segmenter = load_maskformer(str(folder), task=task)
    pixels = segmenter.pixels([picture])
    theirs_of_it = MaskFormerImageProcessorPil.from_pretrained(folder)(picture.image, return_tensors="pt").pixel_values
    assert torch.equal(pixels, theirs_of_it)
    with torch.no_grad():
        answers = network(pixels)
    segmenter.min_score = limit(task, answers.class_queries_logits[0])
    logits_qhw = at_source(answers.masks_queries_logits[0], (64, 96), (64, 96), (64, 96))
    expected = theirs(task, answers.class_queries_logits[0], logits_qhw, threshold=segmenter.min_score)
    assert expected
    found = segmenter.segment(segmenter.encode([picture])[0])
    same(found, expected, scores=task != "semantic")


def test_embeddings_are_the_decoder_s_last_queries(saved):
    folder, network = saved
    segmenter = load_maskformer(str(folder))
    (seen,) = segmenter.encode([frame(47, 64)])
    assert (seen.content_hw, seen.window_hw) == ((64, 87), (64, 96))
    logits = network.class_predictor(seen.embeddings_wqd)
    torch.testing.assert_close(logits, seen.classes_wqc, atol=1e-4, rtol=1e-4)


def test_a_model_of_another_kind_is_refused(saved):
    with pytest.raises(InputError, match="is a model of kind maskformer, not mask2former: the usual one is facebook/"):
        load_mask2former(str(saved[0]))


def test_a_folder_without_a_model_names_one_that_can_be_had(tmp_path):
    with pytest.raises(InputError, match=r"config.json is not in it; .*facebook/maskformer-.*CC BY-NC") as raised:
        load_maskformer(str(tmp_path))
    assert "\n" not in str(raised.value)
