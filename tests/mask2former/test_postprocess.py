"""From logits of clips to regions; of pictures, see also ``tests/segmenters/test_queries.py``."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from maskstream.mask2former import postprocess
from maskstream.mask2former.postprocess import FrameSizes, instances, panoptic, semantic

CLASSES = 4
STUFF = torch.tensor([False, False, True, True])
SIZES = FrameSizes(source_hw=(11, 14), content_hw=(12, 15), padded_hw=(16, 16))
QUARTER = FrameSizes((16, 16), (16, 16), (16, 16))


def some(seed, *, queries=7, frames=3, classes=CLASSES, size=(4, 4)):
    g = torch.Generator().manual_seed(seed)
    return (
        4 * torch.randn(queries, classes + 1, generator=g),
        4 * torch.randn(queries, frames, *size, generator=g),
    )


def at_source(masks_qthw, sizes):
    """Logits at the size of the source, one plane at a time."""
    height, width = sizes.content_hw
    planes = [
        F.interpolate(
            F.interpolate(plane[None, None], sizes.padded_hw, mode="bilinear")[..., :height, :width],
            sizes.source_hw,
            mode="bilinear",
        )[0, 0]
        for plane in masks_qthw.flatten(0, 1)
    ]
    return torch.stack(planes).view(*masks_qthw.shape[:2], *sizes.source_hw)


def painted(found):
    """``{query: mask}`` of a panoptic clip; of stuff, the surest query's."""
    return {q: found.segments_thw == n for n, q in enumerate(found.queries_s.tolist(), 1)}


# Panoptic.


def panoptic_by_hand(classes, masks, sizes, *, stuff, min_score, min_visible, sure_only):
    """Pixel by pixel: ``[(query, class, {(t, y, x)})]``, the surest first (Tube-Link, specification §6, VPS.3)."""
    scores, labels = classes.softmax(-1).max(-1)
    kept = [q for q in range(len(classes)) if labels[q] < classes.shape[1] - 1 and scores[q] > min_score]
    chances = at_source(masks, sizes).sigmoid()
    regions: dict[int, set[tuple[int, ...]]] = {q: set() for q in kept}
    for t in range(masks.shape[1]):
        won: dict[int, set[tuple[int, ...]]] = {q: set() for q in kept}
        for y in range(sizes.source_hw[0]):
            for x in range(sizes.source_hw[1]):
                if kept:
                    won[max(kept, key=lambda q: float(scores[q] * chances[q, t, y, x]))].add((t, y, x))
        for q in kept:
            original = int((chances[q, t] >= 0.5).sum())
            if len(won[q]) == 0 or original == 0 or len(won[q]) / original < min_visible:
                continue
            regions[q] |= {place for place in won[q] if not sure_only or chances[q][place] >= 0.5}
    segments: list[tuple[int, int, set[tuple[int, ...]]]] = []
    for q in sorted((q for q in kept if regions[q]), key=lambda q: -float(scores[q])):
        label = int(labels[q])
        same = [segment for segment in segments if segment[1] == label and stuff[label]]
        if same:
            same[0][2].update(regions[q])
        else:
            segments.append((q, label, set(regions[q])))
    return segments


@pytest.mark.parametrize("sure_only", [True, False], ids=["sure pixels only", "all that is won"])
@pytest.mark.parametrize("seed", range(6))
def test_panoptic_clips_are_fused_frame_by_frame(seed, sure_only):
    classes, masks = some(seed)
    options = {"min_score": 0.4, "min_visible": 0.5, "sure_only": sure_only}
    found = panoptic(classes, masks, SIZES, stuff_k=STUFF, **options)
    expected = panoptic_by_hand(classes, masks, SIZES, stuff=STUFF, **options)
    assert len(expected) >= 2
    assert list(zip(found.queries_s.tolist(), found.classes_s.tolist(), strict=True)) == [e[:2] for e in expected]
    for mask, (_, _, places) in zip(painted(found).values(), expected, strict=True):
        assert {tuple(place) for place in mask.nonzero().tolist()} == places
    assert torch.equal(found.scores_s, classes.softmax(-1).max(-1).values[found.queries_s])


def sure_of(label, score):
    """Class logits with a probability."""
    rest = (1 - score) / CLASSES
    return torch.tensor([score if k == label else rest for k in range(CLASSES + 1)]).log()


def block(top, bottom, *, frames=1):
    """A mask that is sure of all columns of some rows."""
    mask = torch.full((frames, 16, 16), -9.0)
    mask[:, top:bottom] = 9.0
    return mask


def test_of_three_queries_the_unsure_and_the_hidden_one_are_not_painted():
    """Tube-Link, specification §13.7."""
    classes = torch.stack([sure_of(0, 0.7), sure_of(1, 0.85), sure_of(0, 0.99)])
    masks = torch.stack([block(12, 16), block(4, 10), block(0, 7)])  # the second keeps half of itself
    found = panoptic(classes, masks, QUARTER, stuff_k=STUFF)
    assert found.queries_s.tolist() == [2]
    assert torch.equal(found.segments_thw, torch.where(block(0, 7) > 0, 1, 0).int())


@pytest.mark.parametrize(
    ("least", "queries"),
    [pytest.param(0.8, [], id="equal is not enough"), pytest.param(0.7999, [0], id="greater is")],
)
def test_scores_must_exceed_the_least(least, queries):
    classes = sure_of(1, 0.8)[None]
    score = float(classes.softmax(-1).max())
    least = score if least == 0.8 else least
    assert panoptic(classes, block(0, 9)[None], QUARTER, min_score=least).queries_s.tolist() == queries


@pytest.mark.parametrize(
    ("taken", "queries"),
    [pytest.param(2, [1, 0], id="four fifths are enough"), pytest.param(3, [1], id="less is not")],
)
def test_what_keeps_four_fifths_of_itself_is_painted(taken, queries):
    classes = torch.stack([sure_of(0, 0.9), sure_of(1, 0.95)])
    masks = torch.stack([block(0, 10), block(10 - taken, 16)])
    assert panoptic(classes, masks, QUARTER).queries_s.tolist() == queries


def test_what_is_hidden_in_one_frame_is_painted_in_the_others():
    classes = torch.stack([sure_of(0, 0.9), sure_of(1, 0.95)])
    masks = torch.stack([block(0, 8, frames=3), block(8, 16, frames=3)])
    masks[1, 1, 2:8] = 9.0
    found = painted(panoptic(classes, masks, QUARTER))
    assert found[0].flatten(1).any(1).tolist() == [True, False, True]
    assert found[1].flatten(1).any(1).tolist() == [True, True, True]


def test_stuff_of_one_class_is_one_segment_and_things_are_several():
    classes = torch.stack([sure_of(k, score) for k, score in ((2, 0.9), (0, 0.93), (2, 0.95), (0, 0.97))])
    masks = torch.stack([block(n, n + 4) for n in (0, 4, 8, 12)])
    found = panoptic(classes, masks, QUARTER, stuff_k=STUFF)
    assert (found.queries_s.tolist(), found.classes_s.tolist()) == ([3, 2, 1], [0, 2, 0])
    assert found.segments_thw[0, :, 0].tolist() == [2] * 4 + [3] * 4 + [2] * 4 + [1] * 4
    assert len(panoptic(classes, masks, QUARTER).queries_s) == 4  # where nothing is known to be stuff


def test_no_sure_query_leaves_the_clip_empty():
    found = panoptic(torch.zeros(2, CLASSES + 1), torch.zeros(2, 3, 4, 4), SIZES)
    assert found.segments_thw.shape == (3, 11, 14)
    assert not found.segments_thw.any()
    assert found.segments_thw.dtype == torch.int32
    assert (len(found.queries_s), len(found.classes_s), len(found.scores_s)) == (0, 0, 0)


# Instances.


def instances_by_hand(classes, masks, sizes, *, things, min_score, count):
    """``[(query, class, score, bool[T, H, W])]``, the surest first."""
    scores = classes.softmax(-1)[:, :-1]
    pairs = [(q, k) for q in range(len(classes)) for k in range(scores.shape[1])]
    best = sorted(pairs, key=lambda pair: -float(scores[pair]))[:count]
    logits = at_source(masks, sizes)
    found = []
    for q, k in best:
        mask = logits[q] > 0
        if things[k] and mask.any():
            score = float(scores[q, k] * logits[q].sigmoid()[mask].mean())
            if score >= min_score:
                found.append((q, k, score, mask))
    return sorted(found, key=lambda one: -one[2])


@pytest.mark.parametrize("count", [None, 12], ids=["as many as queries", "more"])
@pytest.mark.parametrize("seed", range(1, 6))
def test_instances_are_scored_over_the_whole_clip(seed, count):
    classes, masks = some(seed)
    classes = classes / 3  # no query is sure of one class
    found = instances(classes, masks, SIZES, things_k=~STUFF, min_score=0.1, count=count)
    expected = instances_by_hand(classes, masks, SIZES, things=~STUFF, min_score=0.1, count=count or len(classes))
    assert len(expected) >= 2
    assert found.queries_n.tolist() == [one[0] for one in expected]
    assert found.classes_n.tolist() == [one[1] for one in expected]
    assert found.scores_n.tolist() == pytest.approx([one[2] for one in expected], abs=1e-6)
    assert torch.equal(found.masks_nthw, torch.stack([one[3] for one in expected]))


def test_the_score_is_a_mean_of_pixels_not_of_frames():
    masks = block(0, 16, frames=2)
    masks[1, 1:] = -9.0
    masks[1, 0] = 1.0
    found = instances(sure_of(0, 0.9)[None], masks[None], QUARTER, count=1)
    nine, one = torch.tensor([9.0, 1.0]).sigmoid().tolist()
    assert found.scores_n.tolist() == pytest.approx([0.9 * (16 * nine + one) / 17])


def test_what_is_nowhere_in_the_clip_is_no_instance():
    masks = torch.full((2, 3, 4, 4), -1.0)
    masks[1, 2, 0, 0] = 9.0  # in one frame only
    found = instances(torch.stack([sure_of(0, 0.9)] * 2), masks, SIZES, count=2)
    assert found.queries_n.tolist() == [1]
    assert found.masks_nthw.flatten(2).any(2).tolist() == [[False, False, True]]


def test_there_may_be_no_instance():
    classes, masks = some(0)
    found = instances(classes, masks, SIZES, min_score=1.1)
    assert found.masks_nthw.shape == (0, 3, 11, 14)
    assert found.masks_nthw.dtype == torch.bool
    assert len(found.scores_n) == 0


# Semantic.


@pytest.mark.parametrize("classes", [3, 40], ids=["few classes", "more than are resized at a time"])
@pytest.mark.parametrize("seed", range(3))
def test_pixels_get_the_class_that_all_queries_are_surest_of(seed, classes):
    classes_qc, masks = some(seed, classes=classes, queries=20)
    labels, values = semantic(classes_qc, masks, SIZES)
    for t in range(3):
        chances = F.interpolate(masks[:, t][None], SIZES.padded_hw, mode="bilinear")[0].sigmoid()
        sums = (classes_qc.softmax(-1)[:, :-1, None, None] * chances[:, None]).sum(0)
        sums = F.interpolate(sums[None, :, :12, :15], SIZES.source_hw, mode="bilinear")[0]
        assert torch.equal(labels[t], sums.argmax(0))
        torch.testing.assert_close(values[t], sums.amax(0))


# All of them.


def everything(classes, masks, sizes):
    segments = panoptic(classes, masks, sizes, stuff_k=STUFF, min_score=0.3, min_visible=0.5)
    found = instances(classes, masks, sizes, min_score=0.1)
    return [
        *(segments.segments_thw, segments.queries_s, segments.scores_s),
        *(found.masks_nthw, found.queries_n, found.classes_n, found.scores_n),
        *semantic(classes, masks, sizes),
    ]


@settings(max_examples=20)
@given(st.integers(0, 2**31), st.integers(1, 5))
def test_how_many_masks_are_brought_to_full_size_at_a_time_changes_nothing(seed, at_once):
    classes, masks = some(seed, queries=9)
    usual = everything(classes, masks, SIZES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postprocess, "AT_ONCE", at_once)
        for one, other in zip(everything(classes, masks, SIZES), usual, strict=True):
            torch.testing.assert_close(one, other)


def test_what_is_padded_does_not_matter():
    classes, masks = some(1, size=(16, 16))
    changed = masks.clone()
    changed[:, :, 12:], changed[:, :, :, 15:] = 50.0, -50.0
    for one, other in zip(everything(classes, masks, SIZES), everything(classes, changed, SIZES), strict=True):
        assert torch.equal(one, other)


def test_a_frame_alone_is_segmented_as_in_its_clip():
    classes, masks = some(2)
    together = panoptic(classes, masks, SIZES, min_score=0.3, min_visible=0.5)
    labels, _ = semantic(classes, masks, SIZES)
    for t in range(3):
        alone = panoptic(classes, masks[:, t : t + 1], SIZES, min_score=0.3, min_visible=0.5)
        seen = {q: mask[0] for q, mask in painted(alone).items()}
        of_clip = {q: mask[t] for q, mask in painted(together).items() if mask[t].any()}
        assert seen.keys() == of_clip.keys()
        assert all(torch.equal(mask, of_clip[q]) for q, mask in seen.items())
        assert torch.equal(semantic(classes, masks[:, t : t + 1], SIZES)[0][0], labels[t])


def test_half_precision_is_read_as_float32():
    classes, masks = (x.bfloat16() for x in some(3))
    for one, other in zip(
        everything(classes, masks, SIZES), everything(classes.float(), masks.float(), SIZES), strict=True
    ):
        assert torch.equal(one, other)
