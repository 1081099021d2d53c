"""The loop against `transformers`' own, frames under each other, and what its hooks do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers.models.mask2former.modeling_mask2former import Mask2FormerMaskedAttentionDecoder

from maskstream.mask2former.decoder import Level, Stage, attend, decode
from maskstream.mask2former.positions import clip_angles, position_codes

from .networks import small_network

SIZES = ((1, 2), (2, 4), (4, 8))
CHANNELS, QUERIES = 32, 12


def clip(frames: int, *, batch: int = 2, seed: int = 0) -> tuple[list[Level], Tensor, Tensor, Tensor]:
    """Levels, mask features, queries and their codes."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    levels = [
        Level.of(
            drawn(batch, frames, CHANNELS, *size_hw),
            position_codes(size_hw, CHANNELS, angles_t=clip_angles(frames)),
        )
        for size_hw in SIZES
    ]
    features = drawn(batch, frames, CHANNELS, 8, 16)
    return levels, features, drawn(batch, QUERIES, CHANNELS), drawn(batch, QUERIES, CHANNELS)


def decoder() -> Mask2FormerMaskedAttentionDecoder:
    found: Mask2FormerMaskedAttentionDecoder = small_network().model.transformer_module.decoder
    return found


@torch.no_grad()
def decoded(frames: int, **options: object) -> list[Stage]:
    levels, features, queries, codes = clip(frames)
    return decode(decoder(), queries, codes, levels, features, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("frames", [1, 2, 3, 6])
@torch.no_grad()
def test_all_stages_are_those_of_transformers_with_frames_under_each_other(frames: int) -> None:
    levels, features, queries, codes = clip(frames)
    network = decoder()
    theirs = network(
        inputs_embeds=queries.transpose(0, 1),
        multi_stage_positional_embeddings=[
            level.code_bkc.expand_as(level.content_bkc).transpose(0, 1) for level in levels
        ],
        pixel_embeddings=features.transpose(1, 2).flatten(2, 3),
        encoder_hidden_states=[level.content_bkc.transpose(0, 1) for level in levels],
        query_position_embeddings=codes.transpose(0, 1),
        feature_size_list=[(frames * height, width) for height, width in SIZES],
        return_dict=True,
    )
    ours = decode(network, queries, codes, levels, features)
    assert len(ours) == len(theirs.masks_queries_logits) == 5
    for stage, masks, normed in zip(ours, theirs.masks_queries_logits, theirs.intermediate_hidden_states, strict=True):
        assert stage.masks_bqthw is not None
        torch.testing.assert_close(stage.masks_bqthw.flatten(2, 3), masks, atol=5e-6, rtol=0)
        torch.testing.assert_close(stage.normed_bqc, normed.transpose(0, 1), atol=5e-6, rtol=0)
    torch.testing.assert_close(ours[-1].queries_bqc, theirs.last_hidden_state, atol=5e-6, rtol=0)


def test_masks_of_the_last_stage_alone_are_the_same() -> None:
    every, last = decoded(3), decoded(3, every_stage=False)
    assert [stage.masks_bqthw is None for stage in last] == [True] * 4 + [False]
    torch.testing.assert_close(last[-1].masks_bqthw, every[-1].masks_bqthw, atol=1e-4, rtol=1e-4)


def test_a_query_does_not_see_what_is_hidden_from_it() -> None:
    """Queries 0 … 5 do not see 6 … 11: whatever these are, those stay the same; and the other way round they do not."""
    levels, features, queries, codes = clip(2)
    hidden = torch.zeros(QUERIES, QUERIES, dtype=torch.bool)
    hidden[:6, 6:] = True
    changed = queries.clone()
    changed[:, 6:] += 1
    with torch.no_grad():
        before, after = (
            decode(decoder(), some, codes, levels, features, unseen=lambda _: hidden)[-1].queries_bqc
            for some in (queries, changed)
        )
        unhidden = decode(decoder(), changed, codes, levels, features)[-1].queries_bqc
    torch.testing.assert_close(before[:, :6], after[:, :6])
    assert not torch.allclose(before[:, 6:], after[:, 6:])
    assert not torch.allclose(before[:, :6], unhidden[:, :6])


def test_layers_are_asked_one_by_one_who_sees_whom() -> None:
    asked: list[int] = []
    decoded(1, unseen=asked.append)
    assert asked == [0, 1, 2, 3]


def test_queries_of_frames_attend_to_each_other_across_a_clip() -> None:
    """Two clips of three frames: without hiding, a change on frame 0 reaches frame 2 of its clip, and no other clip."""
    levels, features, queries, codes = clip(1, batch=6)
    changed = queries.clone()
    changed[0] += 1
    with torch.no_grad():
        before, after = (
            decode(decoder(), some, codes, levels, features, frames_together=3)[-1].queries_bqc
            for some in (queries, changed)
        )
    assert not torch.allclose(before[2], after[2])
    torch.testing.assert_close(before[3:], after[3:])


def test_queries_of_frames_are_side_by_side_in_what_hides_them() -> None:
    """Frames of a query are neighbours: hiding all but one's own frame is decoding frames alone."""
    levels, features, queries, codes = clip(1, batch=6)
    frame_of = torch.arange(3).repeat(QUERIES)
    with torch.no_grad():
        apart = decode(decoder(), queries, codes, levels, features)[-1].queries_bqc
        hidden = decode(
            decoder(),
            queries,
            codes,
            levels,
            features,
            frames_together=3,
            unseen=lambda _: frame_of[:, None] != frame_of[None],
        )[-1].queries_bqc
    torch.testing.assert_close(hidden, apart, atol=1e-5, rtol=0)


def test_queries_and_codes_may_change_between_layers() -> None:
    """What a layer begins with is what the hook made of it: here, zeros from the second layer on."""
    levels, features, queries, codes = clip(2)
    seen: list[tuple[int, Tensor]] = []

    def begin_anew(layer: int, queries_bqc: Tensor, codes_bqc: Tensor) -> tuple[Tensor, Tensor]:
        seen.append((layer, queries_bqc))
        return (queries_bqc, codes_bqc) if layer == 0 else (torch.zeros_like(queries_bqc), torch.zeros_like(codes_bqc))

    with torch.no_grad():
        stages = decode(decoder(), queries, codes, levels, features, before_layer=begin_anew)
    assert [layer for layer, _ in seen] == [0, 1, 2, 3]
    for (_, given), stage in zip(seen, stages, strict=False):
        torch.testing.assert_close(given, stage.queries_bqc)
    # Queries of the last layer that begin alike differ only by where their masks of the stage before are.
    assert not torch.allclose(stages[-1].queries_bqc[:, 0], decoded(2)[-1].queries_bqc[:, 0])


def test_masks_are_embedded_as_the_caller_says() -> None:
    """Empty masks everywhere: nobody may look anywhere, so everybody looks everywhere."""
    stages = decoded(2, embed_masks=torch.zeros_like)
    for stage in stages:
        assert stage.masks_bqthw is not None
        assert not stage.masks_bqthw.any()


def test_a_mask_that_is_nowhere_looks_everywhere() -> None:
    """Masks far below zero everywhere decode as masks far above zero everywhere."""
    levels, features, queries, codes = clip(2)
    network, constant = decoder(), features.abs() + 1
    with torch.no_grad():
        high = decode(network, queries, codes, levels, constant, embed_masks=torch.ones_like)[-1].queries_bqc
        low = decode(network, queries, codes, levels, -constant, embed_masks=torch.ones_like)[-1].queries_bqc
    torch.testing.assert_close(low, high)


def test_what_is_in_one_frame_only_is_looked_for_in_that_frame() -> None:
    """A mask on frame 0 alone: what frame 1 holds makes no difference, what frame 0 holds does."""
    levels, features, queries, codes = clip(2)
    features = features.abs() + 0.1
    features[:, 1] *= -1

    def last(levels: list[Level]) -> Tensor:
        with torch.no_grad():
            return decode(decoder(), queries, codes, levels, features, embed_masks=torch.ones_like)[-1].queries_bqc

    def changed(frame: int) -> list[Level]:
        some = []
        for level in levels:
            content = level.content_bkc.clone()
            places = level.size_thw[1] * level.size_thw[2]
            content[:, frame * places : (frame + 1) * places] += 1
            some.append(Level(content, level.code_bkc, level.size_thw))
        return some

    torch.testing.assert_close(last(changed(1)), last(levels))
    assert not torch.allclose(last(changed(0)), last(levels))


@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_that_of_torch(masked: bool) -> None:
    torch.manual_seed(0)
    attention = torch.nn.MultiheadAttention(16, 4, batch_first=True).eval()
    queries, keys, values = torch.randn(2, 3, 16), torch.randn(2, 5, 16), torch.randn(2, 5, 16)
    unseen = torch.rand(3, 5) < 0.4 if masked else None
    expected, _ = attention(queries, keys, values, attn_mask=unseen)
    torch.testing.assert_close(attend(attention, queries, keys, values, unseen=unseen), expected)


def test_gradients_reach_everything() -> None:
    levels, features, queries, codes = clip(2)
    network = decoder()
    features.requires_grad_()
    queries.requires_grad_()
    stages = decode(network, queries, codes, levels, features)
    sum(stage.masks_bqthw.square().mean() for stage in stages if stage.masks_bqthw is not None).backward()  # type: ignore[union-attr]
    missing = [name for name, weight in network.named_parameters() if weight.grad is None]
    assert missing == []
    assert features.grad is not None
    assert queries.grad is not None
