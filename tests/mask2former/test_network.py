"""Pictures and clips through the whole network, against `transformers`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from maskstream.mask2former.network import (
    DEVIATION,
    MEAN,
    ClipMask2Former,
    normalised,
    with_classes,
)
from maskstream.types import InputError

from .networks import CLASSES, small_network


def pixels(frames: int, *, batch: int = 2, size_hw: tuple[int, int] = (64, 96), seed: int = 0) -> Tensor:
    return torch.randn(batch, frames, 3, *size_hw, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("seed", "size_hw"), [(0, (64, 96)), (1, (96, 64)), (2, (70, 101))])
@torch.no_grad()
def test_one_frame_is_answered_as_transformers_do(seed: int, size_hw: tuple[int, int]) -> None:
    network, pixels_b13hw = small_network(seed), pixels(1, seed=seed, size_hw=size_hw)
    theirs = network(pixels_b13hw[:, 0], output_auxiliary_logits=True)
    clips = ClipMask2Former(network, time_code=False)
    (ours,) = clips(pixels_b13hw)
    torch.testing.assert_close(ours.classes_bqc, theirs.class_queries_logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.masks_bqthw[:, :, 0], theirs.masks_queries_logits, atol=1e-5, rtol=0)
    stages = clips.decode(clips.features(pixels_b13hw), every_stage=True)
    for stage, expected in zip(stages, theirs.auxiliary_logits, strict=False):
        torch.testing.assert_close(stage.classes_bqc, expected["class_queries_logits"], atol=1e-5, rtol=0)
        torch.testing.assert_close(stage.masks_bqthw[:, :, 0], expected["masks_queries_logits"], atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_clip_has_one_class_for_each_query_and_a_mask_for_each_frame() -> None:
    (found,) = ClipMask2Former(small_network())(pixels(3))
    assert found.classes_bqc.shape == (2, 12, CLASSES + 1)
    assert found.masks_bqthw.shape == (2, 12, 3, 16, 24)
    assert found.queries_bqc.shape == (2, 12, 32)


@torch.no_grad()
def test_without_a_time_code_the_order_of_frames_does_not_matter() -> None:
    clips, forwards = ClipMask2Former(small_network(), time_code=False), pixels(3)
    one, other = clips(forwards)[-1], clips(forwards.flip(1))[-1]
    torch.testing.assert_close(one.classes_bqc, other.classes_bqc, atol=1e-5, rtol=0)
    torch.testing.assert_close(one.masks_bqthw.flip(2), other.masks_bqthw, atol=1e-4, rtol=0)


@torch.no_grad()
def test_with_a_time_code_it_does() -> None:
    clips, forwards = ClipMask2Former(small_network()), pixels(3)
    one, other = clips(forwards)[-1], clips(forwards.flip(1))[-1]
    assert not torch.allclose(one.classes_bqc, other.classes_bqc, atol=1e-3)


def test_training_answers_after_every_layer() -> None:
    clips = ClipMask2Former(small_network()).train()
    assert len(clips(pixels(2))) == 5
    assert len(clips.eval()(pixels(2))) == 1


def test_features_of_frames_can_be_joined_to_other_clips() -> None:
    """Frames do not see each other before queries do, so windows can share them."""
    clips, whole = ClipMask2Former(small_network()).eval(), pixels(3, batch=1)
    with torch.no_grad():
        features, of_two = clips.features(whole), clips.features(whole[:, 1:])
    torch.testing.assert_close(features.mask_features_btchw[:, 1:], of_two.mask_features_btchw, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(1, 0, 3, 64, 64), (0, 2, 3, 64, 64)], ids=["no frame", "no clip"])
def test_what_has_no_frame_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="the clip has no frame"):
        ClipMask2Former(small_network())(torch.zeros(shape))


def test_networks_that_nobody_published_are_refused() -> None:
    network = small_network()
    network.config.pre_norm = True
    with pytest.raises(InputError, match="pre_norm"):
        ClipMask2Former(network)


def test_pictures_are_normalised_and_padded_with_zeros() -> None:
    frames = torch.full((1, 1, 3, 33, 64), 10, dtype=torch.uint8)
    found = normalised(frames)
    assert found.shape == (1, 1, 3, 64, 64)
    expected = torch.tensor([(10 - mean) / deviation for mean, deviation in zip(MEAN, DEVIATION, strict=True)])
    torch.testing.assert_close(found[0, 0, :, 32, 63], expected)
    assert not found[..., 33:, :].any()


def test_other_classes_keep_all_but_what_tells_them() -> None:
    network = small_network()
    queries = network.model.transformer_module.queries_features.weight.clone()
    other = with_classes(network, ["cat", "dog"])
    assert other.class_predictor.out_features == 3
    assert other.config.id2label == {0: "cat", 1: "dog"}
    assert ClipMask2Former(other).classes == 2
    torch.testing.assert_close(other.model.transformer_module.queries_features.weight, queries)
    with pytest.raises(InputError, match="at least one class"):
        with_classes(network, [])


def test_as_many_classes_as_before_keep_their_weights() -> None:
    network = small_network()
    weights = network.class_predictor.weight.clone()
    with_classes(network, [f"class {n}" for n in range(CLASSES)])
    torch.testing.assert_close(network.class_predictor.weight, weights)
