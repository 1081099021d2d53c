"""EoMT from a folder, against the network and the processor of `transformers` itself."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import EomtConfig, EomtDinov3Config, EomtDinov3ForUniversalSegmentation, EomtForUniversalSegmentation
from transformers.models.eomt.image_processing_pil_eomt import EomtImageProcessorPil

from maskstream.segmenters.eomt import load_eomt, window_starts
from maskstream.types import InputError

from .query_models import LABELS, frame, limit, same, save

SIDE = 64
SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": 16,
    "num_blocks": 2,
    "num_queries": 12,
    "num_register_tokens": 1,
    "num_upscale_blocks": 1,
    "id2label": LABELS,
}
WHOLE = {"size": {"shortest_edge": SIDE, "longest_edge": SIDE}, "do_pad": True, "do_split_image": False}
SPLIT = {"size": {"shortest_edge": SIDE, "longest_edge": None}, "do_pad": False, "do_split_image": True}


def build():
    return EomtForUniversalSegmentation(EomtConfig(mlp_ratio=2, **SIZES))


def build_over_dinov3():
    return EomtDinov3ForUniversalSegmentation(EomtDinov3Config(intermediate_size=32, **SIZES))


@pytest.fixture(scope="module", params=[build, build_over_dinov3], ids=["DINOv2", "DINOv3"])
def saved(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("eomt")
    return folder, save(request.param, folder, WHOLE)


@pytest.fixture(scope="module")
def saved_semantic(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eomt-semantic")
    return folder, save(build, folder, SPLIT)


def outputs_of(network, folder, picture):
    """Processor and answers of `transformers`."""
    processor = EomtImageProcessorPil.from_pretrained(folder)
    inputs = processor([picture.image], return_tensors="pt")
    with torch.no_grad():
        outputs = network(inputs.pixel_values)
    outputs.patch_offsets = [tuple(offset.tolist()) for offset in inputs.patch_offsets]
    return processor, inputs.pixel_values, outputs


@pytest.mark.parametrize("size_hw", [(64, 64), (40, 64), (64, 41)])
def test_panoptic_proposals_are_those_of_transformers(saved, size_hw):
    folder, network = saved
    picture = frame(*size_hw)  # as the network sees it, but for the padding
    segmenter = load_eomt(str(folder))
    (seen,) = segmenter.encode([picture])
    assert (seen.content_hw, seen.window_hw) == (size_hw, (SIDE, SIDE))
    processor, _, outputs = outputs_of(network, folder, picture)
    torch.testing.assert_close(seen.masks_wqhw, outputs.masks_queries_logits, atol=1e-4, rtol=1e-4)
    segmenter.min_score = limit("panoptic", outputs.class_queries_logits[0])
    found = processor.post_process_panoptic_segmentation(outputs, [size_hw], threshold=segmenter.min_score)[0]
    ids_hw = found["segmentation"]
    expected = [(s["label_id"], ids_hw == s["id"], s["score"]) for s in found["segments_info"]]
    assert expected
    same(segmenter.segment(seen), expected)


def test_pictures_are_resized_and_padded_with_black_as_by_transformers(saved):
    folder, network = saved
    picture = frame(75, 113)
    (seen,) = load_eomt(str(folder)).encode([picture])
    assert seen.content_hw == (42, 64)
    _, pixels, _ = outputs_of(network, folder, picture)
    segmenter = load_eomt(str(folder))
    ours = segmenter._square(segmenter.pixels([picture]))
    level = 1 / 256 / 0.25
    assert (ours - pixels).abs().max() <= level * 1.01
    torch.testing.assert_close(ours[:, :, 42:], pixels[:, :, 42:])
    assert len(pixels[0, :, 42:].flatten(1).unique(dim=1).T) == 1


@pytest.mark.parametrize("size_hw", [(64, 150), (150, 64), (64, 64)])
def test_semantic_proposals_of_windows_are_those_of_transformers(saved_semantic, size_hw):
    folder, network = saved_semantic
    picture = frame(*size_hw)
    segmenter = load_eomt(str(folder), task="semantic")
    (seen,) = segmenter.encode([picture])
    processor, _, outputs = outputs_of(network, folder, picture)
    assert seen.starts == tuple(offset[1] for offset in outputs.patch_offsets)
    labels_hw = processor.post_process_semantic_segmentation(outputs, [size_hw])[0]
    same(segmenter.segment(seen), [(int(n), labels_hw == n, None) for n in labels_hw.unique()], scores=False)


def test_windows_of_several_frames_are_not_mixed_up(saved_semantic):
    segmenter = load_eomt(str(saved_semantic[0]), task="semantic")
    pictures = [frame(40, 90, seed=n) for n in range(3)]
    for picture, both in zip(pictures, segmenter.encode(pictures), strict=True):
        (alone,) = segmenter.encode([picture])
        assert (both.starts, both.content_hw, both.size_hw) == ((0, 40, 80), (64, 144), (40, 90))
        torch.testing.assert_close(both.masks_wqhw, alone.masks_wqhw, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("length", range(64, 400, 7))
def test_the_fewest_windows_cover_a_length_from_end_to_end(length):
    starts = window_starts(length, 64)
    assert len(starts) == int(np.ceil(length / 64))
    assert (starts[0], starts[-1] + 64) == (0, length)
    covered = np.zeros(length, bool)
    for start in starts:
        covered[start : start + 64] = True
    assert covered.all()


def test_embeddings_are_the_last_queries(saved):
    folder, network = saved
    (seen,) = load_eomt(str(folder)).encode([frame(64, 64)])
    torch.testing.assert_close(network.class_predictor(seen.embeddings_wqd), seen.classes_wqc)


def test_a_model_of_windows_does_semantic_segmentation_only(saved_semantic):
    with pytest.raises(InputError, match="for semantic segmentation, not panoptic: give task=semantic"):
        load_eomt(str(saved_semantic[0]))


def test_a_folder_without_a_model_names_one_that_can_be_had(tmp_path):
    with pytest.raises(InputError, match=r"config.json is not in it; .*tue-mps/coco_panoptic_eomt.*MIT") as raised:
        load_eomt(str(tmp_path))
    assert "\n" not in str(raised.value)
