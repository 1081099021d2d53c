"""From class logits and mask logits to proposals."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.eomt.image_processing_pil_eomt import EomtImageProcessorPil

from maskstream.pretrained import Pixels
from maskstream.segmenters.queries import (
    Answers,
    QueryFeatures,
    QuerySegmenter,
    instance_proposals,
    panoptic_proposals,
    pyramid_pixels,
    semantic_proposals,
)
from maskstream.types import Category, CategorySet, InputError, PointPrompt

from .query_models import at_source, frame, same, theirs

CLASSES, QUERIES = 20, 40
SPACE = CategorySet("test", tuple(Category(n + 100, f"name-{n}", is_thing=n % 3 > 0) for n in range(CLASSES)))
UNKNOWN = CategorySet("test", tuple(Category(n, f"name {n}") for n in range(CLASSES)))
STUFF = [n for n in range(CLASSES) if n % 3 == 0]
SIZE = (37, 53)


def features(seed, *, sure=2.0, window_hw=(32, 64), content_hw=(32, 45), size_hw=SIZE):
    generator = torch.Generator().manual_seed(seed)
    masks = 2 * torch.randn(1, QUERIES, 8, 16, generator=generator) - 5
    for mask in masks[0]:
        top, left = (int(torch.randint(0, limit, (1,), generator=generator)) for limit in (7, 12))
        mask[top : top + 2, left : left + 2] += 10
    classes = sure * torch.randn(1, QUERIES, CLASSES + 1, generator=generator)
    classes[..., -1] += sure
    return QueryFeatures(
        classes,
        masks,
        torch.randn(1, QUERIES, 7, generator=generator),
        window_hw,
        (0,),
        content_hw,
        size_hw,
    )


def features_of(classes_qc, masks_qhw):
    """Logits for a picture of the size of its masks."""
    size = (masks_qhw.shape[1], masks_qhw.shape[2])
    embeddings = torch.arange(len(masks_qhw), dtype=torch.float32)[None, :, None]
    return QueryFeatures(classes_qc[None], masks_qhw[None], embeddings, size, (0,), size, size)


def answer(label, *, strength=9.0, count=3):
    """Logits of a query that is sure of a class; the last is nothing."""
    logits = torch.zeros(count + 1)
    logits[label] = strength
    return logits


def half(*, left, sure=9.0):
    mask = torch.full((8, 12), -sure)
    mask[:, : 6 if left else None] = sure
    if not left:
        mask[:, :6] = -sure
    return mask


class Fixed(QuerySegmenter):
    """Knows the label space of the tests."""

    def _answers(self, pixels_b3hw: torch.Tensor) -> Answers:
        batch = len(pixels_b3hw)
        return Answers(
            torch.zeros(batch, 2, CLASSES + 1),
            pixels_b3hw[:, :2, ::4, ::4],
            torch.arange(2.0 * batch).reshape(batch, 2, 1),
        )


def segmenter(**options):
    return Fixed(Pixels(shortest=32), SPACE, **options)


def model_ids(space, expected):
    return [(space.ids[label], mask, score) for label, mask, score in expected]


@pytest.mark.parametrize("seed", range(5))
def test_panoptic_proposals_are_those_of_transformers(seed):
    seen = features(seed)
    logits_qhw = at_source(seen.masks_wqhw[0], (32, 64), (32, 45), SIZE)
    expected = theirs("panoptic", seen.classes_wqc[0], logits_qhw, threshold=0.3, stuff=STUFF)
    found = panoptic_proposals(seen, SPACE, 0.3)
    assert len(found) > 3
    assert int(found.masks_nhw.sum(0).max()) == 1
    scores = [score or 0.0 for score in found.scores]
    assert scores == sorted(scores, reverse=True)
    # where stuff was joined theirs has the score of the first part and ours of the surest: compare things' scores only
    same(found, model_ids(SPACE, expected), scores=False)
    things = [SPACE[int(c or 0)].is_thing is True for c in found.categories]
    same(found.keep(things), model_ids(SPACE, [e for e in expected if e[0] not in STUFF]))


@pytest.mark.parametrize("seed", range(3))
def test_instance_proposals_are_those_of_transformers(seed):
    seen = features(seed, sure=4.0)
    logits_qhw = at_source(seen.masks_wqhw[0], (32, 64), (32, 45), SIZE)
    expected = theirs("instance", seen.classes_wqc[0], logits_qhw, threshold=0.5)
    assert len(expected) > 5
    same(instance_proposals(seen, UNKNOWN, 0.5), expected)
    things = [e for e in expected if e[0] not in STUFF]
    same(instance_proposals(seen, SPACE, 0.5), model_ids(SPACE, things))


def test_unsure_queries_stand_for_several_instances():
    seen = features(0, sure=0.5)
    probabilities = seen.classes_wqc[0].softmax(-1)[:, :-1]
    logits_qhw = at_source(seen.masks_wqhw[0], (32, 64), (32, 45), SIZE)
    ranked = sorted((-float(probabilities[q, c]), q, c) for q in range(QUERIES) for c in range(CLASSES))[:QUERIES]
    expected = []
    for score, q, c in ranked:
        mask = logits_qhw[q] > 0
        if mask.any():
            expected.append((c, mask, -score * float(logits_qhw[q].sigmoid()[mask].mean())))
    found = instance_proposals(seen, UNKNOWN, 0.0)
    assert len(found) > len({q for _, q, _ in ranked}) - sum(not (m > 0).any() for m in logits_qhw)
    same(found, expected)


@pytest.mark.parametrize("seed", range(3))
def test_semantic_proposals_are_those_of_transformers(seed):
    seen = features(seed, window_hw=(32, 64), content_hw=(32, 64), size_hw=(37, 74))
    # Theirs sums over the queries at the size that the network saw, as ours.
    shown = at_source(seen.masks_wqhw[0], (32, 64), (32, 64), (32, 64))
    outputs = SimpleNamespace(
        class_queries_logits=seen.classes_wqc, masks_queries_logits=shown[None], patch_offsets=None
    )
    labels_hw = EomtImageProcessorPil().post_process_semantic_segmentation(
        outputs, target_sizes=[(37, 74)], size={"shortest_edge": 32, "longest_edge": 64}
    )[0]
    found = semantic_proposals(seen, SPACE, 0.0)
    assert len(found) > 3
    assert found.masks_nhw.sum(0).eq(1).all()
    same(found, [(int(n) + 100, labels_hw == n, None) for n in labels_hw.unique()], scores=False)
    assert found.embeddings_nc is None


def test_the_score_of_a_semantic_region_is_its_mean_value():
    classes = torch.stack([answer(0), answer(1, strength=1.0)])
    seen = features_of(classes, torch.stack([half(left=True), half(left=False)]))
    found = semantic_proposals(seen, UNKNOWN_OF_3, 0.0)
    sure, unsure = classes.softmax(-1)[0, 0], classes.softmax(-1)[1, 1]
    assert found.categories == (0, 1)
    np.testing.assert_allclose(np.array(found.scores, float), [float(sure), float(unsure)], atol=2e-3)
    assert semantic_proposals(seen, UNKNOWN_OF_3, 0.6).categories == (0,)


UNKNOWN_OF_3 = CategorySet("three", tuple(Category(n, str(n)) for n in range(3)))
STUFF_OF_3 = CategorySet("three", tuple(Category(n, str(n), is_thing=False) for n in range(3)))


@pytest.mark.parametrize("space, count", [(STUFF_OF_3, 1), (UNKNOWN_OF_3, 2)], ids=["stuff", "kind unknown"])
def test_stuff_of_one_class_is_one_region(space, count):
    classes = torch.stack([answer(1, strength=5.0), answer(1, strength=9.0)])
    seen = features_of(classes, torch.stack([half(left=True), half(left=False)]))
    found = panoptic_proposals(seen, space, 0.8)
    assert len(found) == count
    assert found.masks_nhw.sum(0).eq(1).all()
    assert found.embeddings_nc is not None
    assert found.embeddings_nc[0].item() == 1  # of the surest
    assert found.scores[0] == pytest.approx(float(classes.softmax(-1)[1, 1]))


def test_a_query_that_lost_most_of_its_mask_is_dropped():
    small = torch.full((8, 12), -9.0)
    small[:, 4:8] = 9.0
    masks = torch.stack([half(left=True), small])
    by_first = panoptic_proposals(
        features_of(torch.stack([answer(0, strength=9.0), answer(1, strength=5.0)]), masks), UNKNOWN_OF_3, 0.8
    )
    assert by_first.categories == (0,)  # half of the second mask is the first one's
    by_second = panoptic_proposals(
        features_of(torch.stack([answer(0, strength=5.0), answer(1, strength=9.0)]), masks), UNKNOWN_OF_3, 0.8
    )
    assert by_second.categories == (1,)  # and two of six columns are more than a fifth


def test_a_pixel_that_no_mask_claims_is_nobodys():
    mask = half(left=True)
    found = panoptic_proposals(features_of(answer(0)[None], mask[None]), UNKNOWN_OF_3, 0.8)
    assert torch.equal(found.masks_nhw[0], mask > 0)


@pytest.mark.parametrize("propose", [panoptic_proposals, instance_proposals])
def test_what_is_only_in_the_padding_is_not_proposed(propose):
    below = torch.full((1, 1, 8, 8), -9.0)
    below[:, :, 6:] = 9.0
    seen = QueryFeatures(answer(0)[None, None], below, torch.zeros(1, 1, 2), (32, 32), (0,), (20, 32), (40, 64))
    found = propose(seen, UNKNOWN_OF_3, 0.5)
    assert len(found) == 0
    assert found.masks_nhw.shape == (0, 40, 64)
    assert len(propose(replace(seen, content_hw=(32, 32)), UNKNOWN_OF_3, 0.5)) == 1


@pytest.mark.parametrize("propose", [panoptic_proposals, instance_proposals, semantic_proposals])
def test_nothing_is_found_where_no_query_is_sure(propose):
    found = propose(features(0, sure=0.0), SPACE, 0.95)
    assert len(found) == 0
    assert found.masks_nhw.shape == (0, *SIZE)


@pytest.mark.parametrize("task", ["panoptic", "instance"])
def test_embeddings_are_those_of_the_queries(task):
    seen = features(1, sure=4.0)
    found = segmenter(task=task, min_score=0.5).segment(seen)
    labels = [SPACE.ids.index(int(c or 0)) for c in found.categories]
    assert found.embeddings_nc is not None
    rows = [int((seen.embeddings_wqd[0] == e).all(-1).nonzero()[0, 0]) for e in found.embeddings_nc]
    assert len(rows) > 2
    assert [int(seen.classes_wqc[0, row].argmax()) for row in rows] == labels


def test_categories_restrict_and_rename():
    seen = features(0)
    everything = segmenter(min_score=0.3).segment(seen)
    one, other = sorted(set(everything.categories))[:2]
    known = Category(7, f"Name_{one - 100}"), Category(9, f"name {other - 100}", is_thing=False)
    wanted = CategorySet("mine", (known[0], Category(8, "unicorn"), known[1]))
    found = segmenter(min_score=0.3).segment(seen, categories=wanted)
    kept = everything.keep([c in (one, other) for c in everything.categories])
    assert len(everything) > len(found) == len(kept) > 1
    assert torch.equal(found.masks_nhw, kept.masks_nhw)
    assert found.categories == tuple({one: 7, other: 9}[c] for c in kept.categories)
    assert found.is_thing == tuple(SPACE[one].is_thing if c == one else False for c in kept.categories)
    assert found.embeddings_nc is not None
    assert kept.embeddings_nc is not None
    assert torch.equal(found.embeddings_nc, kept.embeddings_nc)


def test_categories_that_the_model_does_not_know_are_refused():
    with pytest.raises(InputError, match=r"none of the 1 categories of mine is known .* name-0, name-1") as raised:
        segmenter().segment(features(0), categories=CategorySet.from_names(["unicorn"], name="mine"))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("scale", [1, 2], ids=["full size", "half size"])
def test_what_is_mostly_excluded_is_not_proposed(scale):
    masks = torch.full((3, 8, 12), -9.0)
    masks[0, :, :4], masks[1, :, 4:8], masks[2, :, 8:] = 9, 9, 9
    seen = features_of(torch.stack([answer(n, count=CLASSES) for n in (1, 2, 4)]), masks)
    exclude = torch.zeros(8 // scale, 12 // scale, dtype=torch.bool)
    exclude[:, 6 // scale :] = True  # half of the second, all of the third
    assert sorted(segmenter().segment(seen, exclude=exclude).categories) == [101, 102]
    assert sorted(segmenter().segment(seen, exclude=~exclude).categories) == [102, 104]
    assert len(segmenter().segment(seen, exclude=torch.ones_like(exclude))) == 0


def test_overlapping_windows_are_averaged_as_by_transformers():
    generator = torch.Generator().manual_seed(0)
    size, starts = (32, 75), (0, 21, 43)
    classes = 2 * torch.randn(3, QUERIES, CLASSES + 1, generator=generator)
    classes[..., -1] += 9  # so that regions are worth less than 1, which is where scores end
    masks = 5 * torch.randn(3, QUERIES, 8, 8, generator=generator)
    seen = QueryFeatures(classes, masks, torch.zeros(3, QUERIES, 1), (32, 32), starts, size, size)
    outputs = SimpleNamespace(
        class_queries_logits=classes,
        masks_queries_logits=masks,
        patch_offsets=[(0, start, start + 32) for start in starts],
    )
    sizes: dict[str, Any] = {"target_sizes": [size], "size": {"shortest_edge": 32, "longest_edge": None}}
    found: Any = EomtImageProcessorPil().post_process_semantic_segmentation(
        outputs, **sizes, return_segmentation_scores=True
    )[0]
    labels_hw, values_chw = found.segmentation, found.segmentation_scores
    expected = [(int(n), labels_hw == n, float(values_chw[n][labels_hw == n].mean())) for n in labels_hw.unique()]
    assert max(score for *_, score in expected) < 1
    same(semantic_proposals(seen, UNKNOWN, 0.0), expected)


def test_frames_go_through_the_network_together_and_come_out_one_by_one():
    frames = [frame(45, 64, seed=n, index=n) for n in range(3)]
    together = segmenter().encode(frames)
    for one, both in zip(frames, together, strict=True):
        (alone,) = segmenter().encode([one])
        assert torch.equal(alone.masks_wqhw, both.masks_wqhw)
        assert both.size_hw == (45, 64)
        assert both.content_hw == both.window_hw == (32, 46)
    assert [f.embeddings_wqd.flatten().tolist() for f in together] == [[0, 1], [2, 3], [4, 5]]
    assert segmenter().encode([]) == []


def test_what_cannot_be_done_is_refused():
    with pytest.raises(InputError, match=r"frames of 32×40 and 32×64 came together"):
        segmenter().encode([frame(32, 64), frame(32, 40)])
    with pytest.raises(InputError, match="takes no prompts"):
        segmenter().segment(features(0), [PointPrompt(0, 1, ((1.0, 1.0),))])
    with pytest.raises(InputError, match="task is one of panoptic, instance, semantic, not 'depth'"):
        segmenter(task="depth")
    with pytest.raises(InputError, match="short_side is at least 32 pixels, not 5"):
        pyramid_pixels(Pixels(), 5)


def test_a_short_side_of_ones_own_replaces_what_the_folder_says():
    square = Pixels(exact_hw=(384, 384))
    assert pyramid_pixels(square, None).resized_hw((480, 854)) == (384, 384)
    assert pyramid_pixels(square, 800).resized_hw((480, 640)) == (800, 1067)
    assert pyramid_pixels(square, 800).resized_hw((480, 1200)) == (533, 1333)
    assert pyramid_pixels(Pixels(shortest=40), None)([frame(40, 50)]).shape == (1, 3, 64, 64)
