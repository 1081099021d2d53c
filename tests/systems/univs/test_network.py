"""What queries see and answer (specification §6, 7 and 17)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from maskstream.mask2former.network import normalised
from maskstream.systems.univs.network import (
    Answers,
    ClipMaps,
    ProCA,
    Prompts,
    UniVSNetwork,
    read_univs,
    save_univs,
    unseen_queries,
)
from maskstream.systems.univs.prompts import Tokens, box_tokens
from maskstream.systems.univs.text import new_text
from maskstream.types import InputError

from .networks import CHANNELS, LEARNABLE, TEXT, clip_features, small_univs, without_time

FRAMES = torch.tensor([4, 9])
BOXES = torch.tensor([[0.0, 0.0, 0.5, 0.6], [0.4, 0.1, 0.9, 0.9], [0.2, 0.3, 0.8, 0.5]])


def maps_of(network: UniVSNetwork, frames_t: torch.Tensor = FRAMES) -> ClipMaps:
    return network.maps(clip_features(len(frames_t)), frames_t)


def visual(maps: ClipMaps) -> Prompts:
    """Three objects, each in its box on the first frame."""
    tokens = box_tokens(maps.prompt_map(0), BOXES, 6)
    return Prompts.visual([tokens] * len(maps.angles_t), [tokens])


def drawn(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def prompts_of(kind: str, network: UniVSNetwork, maps: ClipMaps) -> Prompts:
    if kind == "visual":
        return visual(maps)
    words = drawn(3, 5, TEXT, seed=2) if kind == "expression" else None
    return network.text_prompts(kind, drawn(3, TEXT), words, maps)  # type: ignore[arg-type]


def changed(prompts: Prompts, which: slice, frames: slice = slice(None)) -> Prompts:
    """Other content of some prompts, on some frames."""
    content = prompts.content_ptc.clone()
    content[which, frames] += 1
    return replace(prompts, content_ptc=content)


def other_tokens(prompts: Prompts, which: slice) -> Prompts:
    tokens = prompts.tokens_pslc.clone()
    tokens[which] += 1
    return replace(prompts, tokens_pslc=tokens)


@torch.no_grad()
def test_without_prompts_and_time_answers_are_those_of_mask2former() -> None:
    network = small_univs(fixed_time=True)
    frames = torch.randint(0, 256, (1, 1, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pixels = normalised(frames)[0]
    theirs = network.core(pixel_values=pixels, pixel_mask=torch.ones(1, 64, 96), output_auxiliary_logits=True)
    maps = without_time(network.maps(network.features(pixels), torch.tensor([0])))
    stages = network.decode(maps, every_stage=True)
    expected = [stage["masks_queries_logits"] for stage in theirs.auxiliary_logits] + [theirs.masks_queries_logits]
    assert len(stages) == len(expected) == 4
    for ours, masks in zip(stages, expected, strict=True):
        assert torch.allclose(ours.masks_qthw[:, 0], masks[0], atol=1e-5)
    (last,) = network.decode(maps)
    assert torch.allclose(last.masks_qthw[:, 0], expected[-1][0], atol=1e-5)
    assert torch.allclose(last.embeddings_qtc[:, 0], theirs.transformer_decoder_last_hidden_state[0], atol=1e-5)


@pytest.mark.parametrize("kind", ["visual", "category", "expression"])
@pytest.mark.parametrize("separation", ["sep", "sep-blocked", "sep-l2p"])
@torch.no_grad()
def test_prompts_change_nothing_for_learnable_queries(kind: str, separation: str) -> None:
    network = small_univs(separation=separation)
    maps = maps_of(network)
    prompts = prompts_of(kind, network, maps)
    before = network.decode(maps, prompts)[0]
    after = network.decode(maps, changed(prompts, slice(0, 3)))[0]
    assert torch.equal(before.masks_qthw[:LEARNABLE], after.masks_qthw[:LEARNABLE])
    assert torch.equal(before.embeddings_qtc[:LEARNABLE], after.embeddings_qtc[:LEARNABLE])
    assert (before.embeddings_qtc[LEARNABLE:] - after.embeddings_qtc[LEARNABLE:]).abs().amin(0).max() > 1e-3


@torch.no_grad()
def test_without_separation_prompts_change_all() -> None:
    network = small_univs(separation="none")
    maps = maps_of(network)
    before, after = (network.decode(maps, p)[0] for p in (visual(maps), changed(visual(maps), slice(0, 3))))
    assert (before.embeddings_qtc - after.embeddings_qtc).abs().amax((1, 2)).min() > 1e-5


@pytest.mark.parametrize(
    ("kind", "separation", "alone"),
    [
        pytest.param("visual", "sep-blocked", True, id="blocked"),
        pytest.param("visual", "sep", False, id="prompts see each other"),
        pytest.param("visual", "sep-l2p", False, id="and all else"),
        pytest.param("category", "sep", False, id="so do names of classes"),
        pytest.param("expression", "sep", True, id="expressions never"),
    ],
)
@pytest.mark.parametrize("change", [changed, other_tokens])
@torch.no_grad()
def test_who_changes_for_another_prompt(kind: str, separation: str, alone: bool, change) -> None:
    network = small_univs(separation=separation)
    maps = maps_of(network)
    prompts = prompts_of(kind, network, maps)
    before = network.decode(maps, prompts, average=False)[0][slice(LEARNABLE, None)]
    after = network.decode(maps, change(prompts, slice(0, 1)), average=False)[0][slice(LEARNABLE, None)]
    difference_p = (before.embeddings_qtc - after.embeddings_qtc).abs().amax((1, 2))
    assert difference_p[0] > 1e-3
    assert (difference_p[1:] == 0).all() if alone else (difference_p[1:] > 1e-6).all()


@torch.no_grad()
def test_the_frames_of_a_prompt_see_each_other() -> None:
    network = small_univs(separation="sep-blocked")
    maps = maps_of(network)
    before, after = (
        network.decode(maps, p)[0].embeddings_qtc[LEARNABLE:, 1]
        for p in (visual(maps), changed(visual(maps), slice(0, 1), slice(0, 1)))
    )
    assert (before[0] - after[0]).abs().max() > 1e-5
    assert torch.equal(before[1:], after[1:])


@pytest.mark.parametrize("frames", [(7, 7), (7, 90)], ids=["at once", "at other times"])
@torch.no_grad()
def test_frames_that_are_the_same_have_the_same_masks(frames: tuple[int, int]) -> None:
    """All places of a frame have the same code of time, so within a frame attention cannot tell when it is."""
    network = small_univs()
    one = clip_features(1)
    maps = network.maps(one.joined([one, one]), torch.tensor(frames))
    found = network.decode(maps, visual(maps))[0]
    assert torch.allclose(found.masks_qthw[:, 0], found.masks_qthw[:, 1], atol=1e-5)


@torch.no_grad()
def test_time_is_of_the_video_or_of_the_clip() -> None:
    frames = torch.tensor([0, 32, 64])
    assert torch.allclose(maps_of(small_univs(), frames).angles_t, torch.pi * torch.tensor([0, 0.5, 1]))
    assert torch.allclose(
        maps_of(small_univs(fixed_time=True), frames).angles_t, 2 * torch.pi * torch.tensor([1, 2, 3]) / 3
    )


# ProCA.


def proca(*, codes: bool, groups: int) -> tuple[ProCA, list[torch.Tensor | None]]:
    torch.manual_seed(0)
    layer = ProCA(CHANNELS, 4)
    inputs: list[torch.Tensor | None] = [torch.randn(3, 2, CHANNELS), torch.randn(3, 2, CHANNELS)]
    inputs.append(torch.randn(3, groups, 7, CHANNELS))
    inputs.append(torch.randn(3, groups, 7, CHANNELS) if codes else None)
    return layer, inputs


@pytest.mark.parametrize("groups", [1, 2], ids=["tokens of all frames", "of each frame"])
@pytest.mark.parametrize("codes", [True, False], ids=["visual", "text"])
@torch.no_grad()
def test_a_prompt_looks_at_itself_and_its_tokens(codes: bool, groups: int) -> None:
    """`nn.MultiheadAttention` for each prompt and frame alone."""
    layer, (queries, own_codes, tokens, token_codes) = proca(codes=codes, groups=groups)
    assert queries is not None and own_codes is not None and tokens is not None
    found = layer(queries, own_codes, tokens, token_codes)
    for p in range(3):
        for t in range(2):
            group = min(t, groups - 1)
            values = torch.cat([queries[p, t][None], tokens[p, group]])[None]
            keys, asked = values, queries[p, t][None, None]
            if token_codes is not None:
                keys = values + torch.cat([own_codes[p, t][None], token_codes[p, group]])[None]
                asked = asked + own_codes[p, t]
            seen = layer.attention(asked, keys, values)[0][0, 0]
            assert torch.allclose(found[p, t], layer.norm(queries[p, t] + seen), atol=1e-5)


@torch.no_grad()
def test_the_order_of_tokens_does_not_matter() -> None:
    layer, (queries, own_codes, tokens, token_codes) = proca(codes=True, groups=1)
    assert tokens is not None and token_codes is not None
    order = torch.randperm(7)
    before = layer(queries, own_codes, tokens, token_codes)
    assert torch.allclose(before, layer(queries, own_codes, tokens[:, :, order], token_codes[:, :, order]), atol=1e-5)


@torch.no_grad()
def test_tokens_that_are_there_twice_are_nobody_elses_matter() -> None:
    """Another prompt with twice the weight on some tokens leaves the rest as it was, exactly."""
    layer, (queries, own_codes, tokens, token_codes) = proca(codes=True, groups=1)
    assert tokens is not None and token_codes is not None
    twice = tokens.clone()
    twice[0, :, 3:] = tokens[0, :, :4]
    before, after = (layer(queries, own_codes, x, token_codes) for x in (tokens, twice))
    assert torch.equal(before[1:], after[1:])
    assert (before[0] - after[0]).abs().max() > 1e-3


# Answers.


@torch.no_grad()
def test_masks_of_expressions_are_averaged_with_those_of_the_query_most_like_them() -> None:
    network = small_univs()
    maps = maps_of(network)
    prompts = prompts_of("expression", network, maps)
    alone, both = (network.decode(maps, prompts, average=x, every_stage=True)[0] for x in (False, True))
    for n in range(LEARNABLE, LEARNABLE + 3):
        cosines = F.cosine_similarity(alone.embeddings_qtc[n], alone.embeddings_qtc[:LEARNABLE], dim=-1).mean(1)
        like = alone.masks_qthw[int(cosines.argmax())]
        assert torch.allclose(both.masks_qthw[n], (alone.masks_qthw[n] + like) / 2, atol=1e-5)
    for training in (False, True):
        network.train(training)
        usual, asked = (network.decode(maps, prompts, average=x)[0] for x in (None, not training))
        assert torch.equal(usual.masks_qthw, asked.masks_qthw)


@torch.no_grad()
def test_masks_can_be_made_with_queries_of_other_frames() -> None:
    network = small_univs()
    maps = maps_of(network)
    (first, *_) = network.decode(maps, visual(maps), order_t=torch.tensor([1, 0]), every_stage=True)
    embed = network.core.model.transformer_module.decoder.mask_predictor.mask_embedder
    for frame, other in ((0, 1), (1, 0)):
        expected = torch.einsum("qc,chw->qhw", embed(first.embeddings_qtc[:, other]), maps.mask_features_tchw[frame])
        assert torch.allclose(first.masks_qthw[:, frame], expected, atol=1e-5)


@torch.no_grad()
def test_logits_are_cosines_with_names_and_products_with_sentences() -> None:
    network = small_univs()
    said, names = drawn(5, 2, CHANNELS), drawn(4, TEXT, seed=3)
    answers = Answers(said, torch.zeros(5, 2, 1, 1))
    classes, sentences = network.class_logits(answers, names), network.sentence_logits(answers, names)
    for q in range(5):
        for k in range(4):
            projected = [network.prompting.to_text(said[q, t]) for t in range(2)]
            cosine = sum(F.cosine_similarity(x, names[k], dim=0) for x in projected) / 2
            assert torch.allclose(classes[q, k], cosine * network.prompting.log_scale.exp(), atol=1e-5)
            assert torch.allclose(sentences[q, k], sum(x @ names[k] for x in projected) / 2, atol=1e-5)


@pytest.mark.parametrize("separation", ["sep", "sep-blocked", "sep-l2p"])
def test_who_sees_whom(separation) -> None:
    learnable, prompts, frames = 2, 3, 2
    unseen = unseen_queries(learnable, prompts, frames, separation)
    assert unseen is not None and unseen.shape == (10, 10)
    for row in range(10):
        for column in range(10):
            one, other = row // frames, column // frames
            if one < learnable:
                sees = other < learnable
            elif other < learnable:
                sees = separation == "sep-l2p"
            else:
                sees = separation != "sep-blocked" or one == other
            assert bool(unseen[row, column]) == (not sees), (row, column)
    assert unseen_queries(2, 3, 2, "none") is None
    assert unseen_queries(2, 0, 2, separation) is None


@torch.no_grad()
def test_without_looking_at_the_picture_a_text_is_the_same_on_all_frames() -> None:
    blind = small_univs(text_to_image=False)
    prompts = prompts_of("category", blind, maps_of(blind))
    assert blind.prompting.look is None
    assert torch.equal(prompts.content_ptc[:, 0], prompts.content_ptc[:, 1])
    seeing = small_univs()
    prompts = prompts_of("category", seeing, maps_of(seeing))
    assert (prompts.content_ptc[:, 0] - prompts.content_ptc[:, 1]).abs().max() > 1e-4


def test_queries_of_prompts_begin_with_the_mean_of_what_is_there() -> None:
    content, codes = drawn(2, 4, 6), drawn(2, 4, 6, seed=2)
    content[0, 2:] = codes[0, 2:] = 0
    content[1] = codes[1] = 0
    mean, code = Tokens(content, codes).means()
    assert torch.allclose(mean[0], content[0, :2].mean(0)) and torch.allclose(code[0], codes[0, :2].mean(0))
    assert (mean[1] == 0).all() and (code[1] == 0).all()


# Folders.


@pytest.mark.parametrize("with_text", [True, False], ids=["text", "no text"])
@torch.no_grad()
def test_a_network_is_read_as_it_was_written(tmp_path, with_text: bool) -> None:
    network = small_univs(separation="sep-l2p", text_to_image=False)
    torch.manual_seed(0)
    text = new_text(["red square", "blue disc"], dim=TEXT, layers=1, heads=2) if with_text else None
    save_univs(network, text, tmp_path, short_side=64)
    read, read_text = read_univs(tmp_path)
    assert read.config == network.config
    maps = maps_of(network)
    theirs, ours = (n.decode(maps, visual(maps))[0] for n in (network, read))
    assert torch.allclose(theirs.masks_qthw, ours.masks_qthw, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in read.parameters())
    assert (read_text is None) == (text is None)
    if text is not None and read_text is not None:
        assert torch.allclose(read_text.names(["red disc"]), text.names(["red disc"]), atol=1e-5)
        assert read_text.templates == ("{}",)


def test_a_mask2former_without_prompts_is_said_so(tmp_path) -> None:
    small_univs().core.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="is a Mask2Former without prompts"):
        read_univs(tmp_path)
    with pytest.raises(InputError, match="is not there"):
        read_univs(tmp_path / "nothing")
