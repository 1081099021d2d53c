"""Consensus with known association: which frames are asked, how much each counts, and what comes of it."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from maskstream.metrics import region_similarity
from maskstream.propagation import FlowPropagator
from maskstream.synthetic import render_sample
from maskstream.systems.deva import Deva, DevaSettings, OfflineDeva
from maskstream.systems.deva.key_frame import (
    Sighting,
    chosen_positions,
    frame_weights,
    key_masks,
    key_position,
    sighting_of_expressions,
    sighting_of_salient,
)
from maskstream.types import (
    CategorySet,
    Frame,
    FrameSegmentation,
    InputError,
    MaskPrompt,
    Prompt,
    Proposals,
    TextPrompt,
)
from maskstream.video import open_video

from .parts import LEFT, SIZE, Oracle, ShiftingPropagator, StillPropagator, found, frame, region, visible

DOT, NONE = region(3, 2, 4, 3), region(0, 0, 0, 0)


def sighting(index: int, *masks: Tensor, scores: tuple[float, ...] | None = None) -> Sighting:
    return Sighting(frame(index), torch.stack(masks).float(), scores)


# ------------------------------------------------------------ pure functions


@pytest.mark.parametrize(
    ("count", "wanted", "expected"),
    [
        pytest.param(100, 10, [5, 15, 25, 35, 45, 55, 65, 75, 85, 95], id="evenly"),
        pytest.param(25, 10, [1, 3, 6, 8, 11, 13, 16, 18, 21, 23], id="i·25/10 rounded down, and 1"),
        pytest.param(7, 3, [1, 3, 5], id="7: 0, 2, 4 and 1"),
        pytest.param(10, 10, list(range(10)), id="as many as there are"),
        pytest.param(3, 10, [0, 1, 2], id="fewer than wanted: all"),
        pytest.param(1, 10, [0], id="one"),
    ],
)
def test_frames_are_chosen_evenly(count, wanted, expected):
    assert chosen_positions(count, wanted) == expected


def test_frames_count_by_the_softmax_of_their_scores_or_twice_them_as_released():
    scores = [0.9, 0.4, 0.1]
    total = math.exp(0.9) + math.exp(0.4) + math.exp(0.1)
    assert frame_weights(scores, 3) == pytest.approx([math.exp(s) / total for s in scores])
    doubled = math.exp(1.8) + math.exp(0.8) + math.exp(0.2)
    assert frame_weights(scores, 3, compat=True) == pytest.approx([math.exp(2 * s) / doubled for s in scores])
    assert frame_weights(None, 4) == [0.25] * 4


def test_the_key_frame_has_the_best_score_or_the_largest_sure_part():
    masks = [LEFT.float() * 0.7, DOT.float(), LEFT.float() * 0.81]
    assert key_position([0.2, 0.5, 0.5], masks) == 1  # the first of two that tie
    assert key_position(None, masks) == 2  # frame 0 is larger than frame 1, but sure nowhere


def test_masks_are_brought_to_the_key_frame_and_averaged():
    sightings = [sighting(0, DOT, scores=(0.1,)), sighting(2, DOT, scores=(0.8,)), sighting(3, DOT, scores=(0.2,))]
    (key,) = key_masks(sightings, ShiftingPropagator(), [[0]])
    weights = frame_weights([0.1, 0.8, 0.2], 3)
    expected = torch.zeros(SIZE)
    for x, weight in zip((5, 3, 2), weights, strict=True):  # one pixel a frame, from frames 0, 2 and 3 to frame 2
        expected[2, x] = weight
    assert key.frame_index == 2
    assert torch.allclose(key.mask_hw, expected)


def test_sentences_have_a_key_frame_each_or_one_together():
    sightings = [sighting(0, LEFT, DOT, scores=(0.9, 0.0)), sighting(1, LEFT, DOT, scores=(0.2, 0.8))]
    assert [key.frame_index for key in key_masks(sightings, StillPropagator(), [[0], [1]])] == [0, 1]
    # means 0.45 and 0.5
    assert [key.frame_index for key in key_masks(sightings, StillPropagator(), [[0, 1]])] == [1, 1]


@pytest.mark.parametrize(
    ("answers", "scores", "masks"),
    [
        pytest.param([found(DOT, LEFT, scores=(0.3, 0.6)), Proposals.none(SIZE)], (0.6, 0.0), [LEFT, NONE], id="best"),
        pytest.param([found(DOT, scores=(0.5,)), found(LEFT)], (0.5, 0.0), [DOT, LEFT], id="one without a score"),
        pytest.param([found(DOT), found(LEFT)], None, [DOT, LEFT], id="no scores"),
        pytest.param([Proposals.none(SIZE)], (0.0,), [NONE], id="nothing found"),
    ],
)
def test_a_sentence_takes_its_best_proposal_and_counts_nothing_without_one(answers, scores, masks):
    seen = sighting_of_expressions(frame(0), answers)
    assert seen.scores == scores
    assert torch.equal(seen.masks_nhw, torch.stack(masks))


def test_what_is_salient_is_one_object_whose_score_is_its_mean_probability():
    proposals = Proposals(torch.stack([LEFT * 0.5, DOT * 1.0]))
    seen = sighting_of_salient(frame(0), proposals)
    assert torch.equal(seen.masks_nhw, torch.maximum(LEFT * 0.5, DOT * 1.0)[None])
    assert seen.scores == pytest.approx(((12 * 0.5 + 1) / 48,))
    assert sighting_of_salient(frame(0), proposals, compat=True).scores is None


# ---------------------------------------------------------------- whole videos

SAMPLE = (96, 128)
SENTENCES = ("the fish in front", "the one behind")
FRAMES = 20


class NoisyReader(Oracle):
    """Knows the truth, and blurs it, shifts it on frames it is unsure of, and takes one object for the other on some.

    Attributes:
        asked: the frames it was asked about, with what.
    """

    def __init__(self, truth: Sequence[FrameSegmentation], *, scored: bool = True) -> None:
        self.truth = truth
        self.scored = scored
        self.asked: list[tuple[int, tuple[str, ...]]] = []

    def at(self, index: int, categories: CategorySet | None) -> Proposals:
        wanted = SENTENCES if categories is None else categories.names
        self.asked.append((index, () if categories is None else categories.names))
        unsure = index % 4 == 1
        masks, scores = [], []
        for object_id in (1 + SENTENCES.index(name) for name in wanted):
            seen = 3 - object_id if unsure else object_id
            mask = torch.nn.functional.avg_pool2d(true_mask(self.truth[index], seen)[None].float(), 3, 1, 1)[0]
            masks.append(torch.roll(mask, 6, dims=1) * 0.6 if unsure else mask)
            scores.append(0.1 if unsure else 0.9)
        return Proposals(torch.stack(masks), scores=tuple(scores) if self.scored else ())


def sample() -> tuple[list[Frame], list[FrameSegmentation]]:
    rendered = list(render_sample(frames=FRAMES, size_hw=SAMPLE, objects=2))
    return [shown for shown, _ in rendered], [truth.segmentation for _, truth in rendered]


def true_mask(truth: FrameSegmentation, object_id: int) -> Tensor:
    return visible(truth).get(object_id, torch.zeros(SAMPLE, dtype=torch.bool))


def offline(reader: NoisyReader, **options: Any) -> OfflineDeva:
    deva = Deva(FlowPropagator(size=96), detector=reader, open_vocabulary=True)
    return OfflineDeva(deva, **options)


def mean_j(found: Sequence[Tensor], true: Sequence[Tensor]) -> float:
    return float(np.mean([region_similarity(f.numpy(), t.numpy()) for f, t in zip(found, true, strict=True)]))


def expressions() -> list[Prompt]:
    return [TextPrompt(text, kind="expression") for text in SENTENCES]


@pytest.mark.parametrize("compat", [False, True], ids=["as in the paper", "as released"])
def test_sentences_are_followed_through_the_video(compat):
    """The segmenter itself and copies of its key frame must both fail where this passes."""
    frames, truth = sample()
    reader = NoisyReader(truth)
    results = list(offline(reader, compat=compat).run(open_video(frames), expressions()))
    assert reader.asked == [(t, (sentence,)) for t in range(1, 20, 2) for sentence in SENTENCES]
    assert [result.frame_index for result in results] == list(range(FRAMES))
    assert [segment.prompt_id for segment in results[0].segments] == list(SENTENCES)
    for k in (1, 2):
        true = [true_mask(each, k) for each in truth]
        key = next(r.frame_index for r in results if any(e.track_id == k for e in r.events))
        followed = mean_j([visible(result).get(k, torch.zeros_like(true[0])) for result in results], true)
        copied = mean_j([visible(results[key])[k]] * FRAMES, true)
        alone = mean_j([reader.segment(t).masks_nhw[k - 1] > 0.5 for t in range(FRAMES)], true)
        assert followed > 0.8, (followed, copied, alone)
        assert copied < 0.7, copied
        assert alone < followed - 0.05, (followed, alone)


def shown(result: FrameSegmentation) -> dict[str | None, Tensor]:
    return {s.prompt_id: mask for s, mask in zip(result.segments, result.masks_nhw(), strict=True)}


@pytest.mark.parametrize("compat", [False, True], ids=["as in the paper", "as released"])
def test_sentences_of_different_groups_may_mean_the_same_object(compat):
    """Two people describe both objects, the second one object in the very same words."""
    frames, truth = sample()
    said = {"a1": SENTENCES[0], "a2": SENTENCES[1], "b1": SENTENCES[0]}
    prompts: list[Prompt] = [TextPrompt(text, "expression", prompt_id=name) for name, text in said.items()]

    def answers(prompts: list[Prompt], **options: Any) -> list[dict[str | None, Tensor]]:
        system = offline(NoisyReader(truth), compat=compat, **options)
        return list(map(shown, system.run(open_video(frames), prompts)))

    together = answers(prompts, group_of=lambda prompt: prompt.prompt_id[0])
    for group in (prompts[:2], prompts[2:]):
        alone = answers(group)
        for result, expected in zip(together, alone, strict=True):
            assert all(torch.equal(result[name], mask) for name, mask in expected.items())
    for result, true in zip(together, truth, strict=True):
        assert region_similarity(result["b1"].numpy(), true_mask(true, 1).numpy()) > 0.6
    mixed = answers(prompts)
    assert not any((result["a1"] & result["b1"]).any() for result in mixed)  # all compete


def test_masks_that_may_overlap_have_no_probabilities():
    with pytest.raises(InputError, match="leave out soft or group_of"):
        offline(NoisyReader([]), soft=True, group_of=lambda prompt: prompt.prompt_id)


def test_a_sentence_can_be_corrected_with_a_mask():
    frames, truth = sample()
    run = offline(NoisyReader(truth)).begin(open_video(frames))
    first = {result.frame_index: result for result in run.prompt(expressions())}
    key = next(t for t, result in first.items() if any(event.track_id == 1 for event in result.events))
    changed = list(run.prompt([MaskPrompt(18, 1, true_mask(truth[18], 1))]))
    assert [result.frame_index for result in changed] == list(range(key + 1, FRAMES))
    assert torch.equal(visible(changed[-2])[1], true_mask(truth[18], 1))


@pytest.mark.parametrize("compat", [False, True], ids=["as in the paper", "as released"])
def test_what_is_salient_is_followed_as_one_object(compat):
    frames, truth = sample()
    results = list(offline(NoisyReader(truth), compat=compat).saliency(open_video(frames)))
    true = [each.label_map() > 0 for each in truth]
    found = [visible(result)[1] for result in results]
    key = next(result.frame_index for result in results if result.events)
    assert mean_j(found, true) > 0.75
    assert mean_j([found[key]] * FRAMES, true) < 0.7
    assert {segment.prompt_id for result in results for segment in result.segments} == {"salient"}


def test_a_segmenter_that_looks_back_sees_the_frames_just_before():
    seen: list[tuple[int, list[int]]] = []

    class LooksBack(NoisyReader):
        context = 2

        def segment(self, features: int, *args: object, context: Sequence[int] = (), **more: object) -> Proposals:
            seen.append((features, list(context)))
            return Proposals(DOT[None].float())

    deva = Deva(StillPropagator(), detector=LooksBack([]))
    list(OfflineDeva(deva, key_frames=2).saliency(open_video([frame(t) for t in range(8)])))
    assert seen == [(2, [0, 1]), (6, [4, 5])]


def test_an_object_that_no_frame_shows_is_nowhere():
    class Blind(NoisyReader):
        def at(self, index: int, categories: CategorySet | None) -> Proposals:
            return Proposals.none(SAMPLE)

    frames, _ = sample()
    for result in offline(Blind([])).run(open_video(frames[:4]), expressions()):
        assert visible(result) == {}
        assert len(result.segments) == 2


def test_the_way_masks_are_aligned_is_that_of_the_settings():
    def first_mask(alignment: str) -> Tensor:
        settings = DevaSettings(alignment=alignment)  # type: ignore[arg-type]
        sightings = [sighting(0, DOT, scores=(0.0,)), sighting(2, DOT, scores=(0.9,))]
        (key,) = key_masks(sightings, ShiftingPropagator(), [[0]], alignment=settings.alignment)
        return key.mask_hw > 0

    assert torch.equal(first_mask("none"), DOT)
    assert torch.equal(first_mask("network"), DOT | region(5, 2, 6, 3))


@pytest.mark.parametrize(
    ("prompts", "words"),
    [
        pytest.param(lambda: [TextPrompt("a dog")], 'kind="expression"', id="any number of dogs"),
        pytest.param(lambda: [*expressions(), MaskPrompt(0, 1, LEFT)], "at once", id="a mask beside"),
        pytest.param(lambda: [*expressions(), *expressions()], "twice", id="a sentence twice"),
    ],
)
def test_sentences_that_do_not_fit_are_refused_at_once(prompts: Callable[[], list[Prompt]], words):
    with pytest.raises(InputError, match=words):
        offline(NoisyReader([])).run(open_video([frame(0)]), prompts())


def test_sentences_after_objects_are_refused():
    run = offline(NoisyReader([])).begin(open_video([frame(0)]))
    list(run.prompt([MaskPrompt(0, 1, LEFT)]))
    for ask in (lambda: run.prompt(expressions()), run.salient):
        with pytest.raises(InputError, match="already"):
            ask()


def test_a_segmenter_that_does_not_read_is_refused():
    deva = Deva(StillPropagator(), detector=NoisyReader([]))
    with pytest.raises(InputError, match="reads text"):
        OfflineDeva(deva).run(open_video([frame(0)]), expressions())
