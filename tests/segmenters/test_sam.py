"""SAM and SAM 2: with prompts beside the library's own code, without beside loops that do as the specification says."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil
from transformers.models.sam.processing_sam import SamProcessor

from maskstream.pretrained import Pixels
from maskstream.segmenters.sam import (
    SamSegmenter,
    clicks_of_stroke,
    grid_of_points,
    is_free,
    is_stable,
    load_sam,
    make_disjoint,
)
from maskstream.types import (
    BoxPrompt,
    CategorySet,
    Frame,
    InputError,
    MaskPrompt,
    ObjectPrompt,
    PointPrompt,
    ScribblePrompt,
)

from .tiny_models import save_grounding_dino, save_sam, save_sam2

SIZE = (48, 80)
KINDS = {"sam": save_sam, "sam2": save_sam2}
POINTS, SIGNS = ((12.0, 9.0), (70.5, 40.0)), (True, False)
BOX = (10.0, 8.0, 60.0, 40.0)


@pytest.fixture(scope="module", params=KINDS)
def segmenter(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    KINDS[request.param](folder)
    return load_sam(str(folder))


@pytest.fixture(scope="module")
def picture():
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    image[10:30, 20:50] = (200, 30, 30)
    return Frame(0, 0.0, image)


@pytest.fixture
def features(segmenter, picture):
    (encoded,) = segmenter.encode([picture])
    return encoded


def library(segmenter, picture, *, mask=None, points=None, labels=None, boxes=None):
    """The picture through the network as the library's processors prepare prompts and masks: best mask, quality."""
    network, kind = segmenter.network, segmenter.network.config.model_type
    height, width = SIZE
    seen = segmenter.pixels([picture])
    if kind == "sam":
        processor = SamProcessor(SamImageProcessorPil(size={"longest_edge": 64}, pad_size={"height": 64, "width": 64}))
        inputs = processor(
            picture.image,
            input_points=points and [[list(point) for point in points]],
            input_labels=labels and [list(labels)],
            input_boxes=boxes and [[list(boxes)]],
            return_tensors="pt",
        )
        given = {name: inputs[name] for name in ("input_points", "input_labels", "input_boxes") if name in inputs}
        given = {name: value.float() if value.is_floating_point() else value for name, value in given.items()}
    else:  # a picture is stretched to a square
        scale = torch.tensor([64 / width, 64 / height])
        given = {}
        if points:
            given["input_points"] = (torch.tensor(points) * scale)[None, None]
            given["input_labels"] = torch.tensor(labels).long()[None, None]
        if boxes:
            given["input_boxes"] = (torch.tensor(boxes) * scale.repeat(2))[None, None]
    if mask is not None:
        given["input_masks"] = mask
    with torch.no_grad():
        found = network(pixel_values=seen, multimask_output=True, **given)
    best = int(found.iou_scores[0, 0].argmax())
    if kind == "sam":
        masks = processor.post_process_masks(found.pred_masks, inputs["original_sizes"], inputs["reshaped_input_sizes"])
        return masks[0][0, best], float(found.iou_scores[0, 0, best])
    large = F.interpolate(found.pred_masks[0], SIZE, mode="bilinear", align_corners=False)
    return large[0, best] > 0, float(found.iou_scores[0, 0, best])


@pytest.mark.parametrize(
    ("prompts", "same"),
    [
        pytest.param([BoxPrompt(0, 4, BOX)], {"boxes": BOX}, id="box"),
        pytest.param([PointPrompt(0, 4, POINTS, SIGNS)], {"points": POINTS, "labels": SIGNS}, id="clicks on and off"),
        pytest.param(
            [BoxPrompt(0, 4, BOX), PointPrompt(0, 4, POINTS, SIGNS)],
            {"boxes": BOX, "points": POINTS, "labels": SIGNS},
            id="box and clicks",
        ),
        pytest.param(
            [PointPrompt(0, 4, POINTS[:1]), ScribblePrompt(0, 4, ((0, 0), (40, 0)), positive=False)],
            {
                "points": (*POINTS[:1], (0.0, 0.0), (10.0, 0.0), (20.0, 0.0), (30.0, 0.0), (40.0, 0.0)),
                "labels": (True, *(False,) * 5),
            },
            id="a stroke is clicks along it",
        ),
    ],
)
def test_prompts_give_the_mask_that_the_library_gives(segmenter, picture, features, prompts, same):
    found = segmenter.segment(features, prompts)
    mask, quality = library(segmenter, picture, **same)
    assert 0 < mask.sum() < mask.numel()
    assert torch.equal(found.masks_nhw[0], mask)
    assert found.scores[0] == pytest.approx(min(max(quality, 0), 1), abs=1e-5)


def test_a_mask_is_what_clicks_refine(segmenter, picture, features):
    mask = torch.zeros(SIZE)
    mask[:, :40] = 1
    found = segmenter.segment(features, [MaskPrompt(0, 1, mask), PointPrompt(0, 1, POINTS[:1], add=True)])
    low_side = 32 if segmenter.network.config.model_type == "sam" else 16
    low = torch.full((1, 1, low_side, low_side), -10.0)
    low[..., : low_side // 2] = 10  # the left half of the square, as the picture is as wide as it ...
    if segmenter.network.config.model_type == "sam":
        low[..., 19, : low_side // 2] = 10 * (2 * 0.25 - 1)  # ... and down to 38 of 64 rows, softened by averaging
        low[..., 20:, :] = -10
    given = segmenter._hints(features, [MaskPrompt(0, 1, mask)]).mask_1hw
    assert ((given > 0) != (low[0] > 0)).float().mean() < 0.02
    expected, _ = library(segmenter, picture, mask=given[None], points=POINTS[:1], labels=(True,))
    assert torch.equal(found.masks_nhw[0], expected)
    without = segmenter.segment(features, [PointPrompt(0, 1, POINTS[:1])])
    assert not torch.equal(found.masks_nhw, without.masks_nhw)


def test_objects_prompted_together_come_out_as_one_by_one(segmenter, features):
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[5:20, 5:20] = True
    prompts: list[ObjectPrompt] = [
        PointPrompt(0, 7, POINTS, SIGNS, category=3),
        BoxPrompt(0, 2, BOX, is_thing=True),
        MaskPrompt(0, 9, mask, category=5),
        PointPrompt(0, 5, ((30, 30),)),
        BoxPrompt(0, 7, BOX),
        MaskPrompt(0, 5, mask),
        BoxPrompt(0, 8, (1, 1, 20, 30)),
    ]
    together = segmenter.segment(features, prompts)
    assert together.categories == (3, None, 5, None, None)
    assert together.is_thing == (None, True, None, None, None)
    for n, object_id in enumerate((7, 2, 9, 5, 8)):
        alone = segmenter.segment(features, [prompt for prompt in prompts if prompt.object_id == object_id])
        assert torch.equal(together.masks_nhw[n], alone.masks_nhw[0])
        assert together.scores[n] == pytest.approx(alone.scores[0], abs=1e-5)
    assert torch.equal(together.masks_nhw[2], mask) and together.scores[2] is None


def test_frames_encoded_together_come_out_as_one_by_one(segmenter, picture):
    other = Frame(1, 0.1, picture.image[::-1].copy())
    smaller = Frame(2, 0.2, picture.image[:40, :40].copy())
    together = segmenter.encode([picture, other, smaller])
    for frame, features in zip((picture, other, smaller), together, strict=True):
        (alone,) = segmenter.encode([frame])
        assert (features.size_hw, features.content_hw) == (alone.size_hw, alone.content_hw)
        for first, second in zip(features.levels, alone.levels, strict=True):
            torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-4)
    assert segmenter.encode([]) == []


def test_boxes_of_a_detector_are_prompts(segmenter, features):
    boxes = torch.tensor([BOX, (1.0, 1.0, 20.0, 30.0)])
    prompts = [BoxPrompt(0, n, tuple(box)) for n, box in enumerate(boxes.tolist(), 1)]
    assert torch.equal(segmenter.masks_in_boxes(features, boxes), segmenter.segment(features, prompts).masks_nhw)
    assert segmenter.masks_in_boxes(features, boxes[:0]).shape == (0, *SIZE)


def test_a_click_outside_of_the_picture_is_an_error(segmenter, features):
    with pytest.raises(InputError, match="is outside the picture"):
        segmenter.segment(features, [PointPrompt(0, 1, ((80, 3),))])


# ----------------------------------------------------------------- everything


class Discs(nn.Module):
    """Finds a disc around every click, and a larger and a smaller one; keeps the clicks. Pictures are 64 × 64.

    Args:
        qualities: of the three.
        hardness: how steep the edges are.
    """

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, qualities=(0.95, 0.95, 0.95), hardness=100.0):
        super().__init__()
        self.qualities, self.hardness = torch.tensor(qualities), hardness
        self.clicks = []

    def get_image_embeddings(self, pixels):
        return torch.zeros(len(pixels), 1, 16, 16)

    def forward(self, *, input_points, input_labels, input_boxes, input_masks, image_embeddings, multimask_output):
        assert multimask_output and input_boxes is None and input_masks is None and bool((input_labels == 1).all())
        assert input_points.shape[1:] == (1, 1, 2) and len(image_embeddings) == len(input_points)
        self.clicks += input_points.reshape(-1, 2).tolist()
        centre = torch.arange(64) + 0.5
        away = torch.stack(
            [((centre[:, None] - y) ** 2 + (centre - x) ** 2).sqrt() for x, y in input_points.reshape(-1, 2)]
        )
        masks = self.hardness * (torch.tensor([6.0, 10.0, 3.0])[:, None, None] - away[:, None])
        return SimpleNamespace(
            pred_masks=masks[:, None], iou_scores=self.qualities.expand(len(masks), 1, 3) - away[:, None, :1, 0] / 1e4
        )


SQUARE = Pixels(exact_hw=(64, 64))


def over(network, pixels=SQUARE, **options):
    return SamSegmenter(network, pixels, **options)


def everything(network, *, exclude=None, size_hw=(64, 64), **options):
    segmenter = over(network, points_per_side=4, batch=5, **options)
    (features,) = segmenter.encode([Frame(0, 0.0, np.zeros((*size_hw, 3), np.uint8))])
    return segmenter.segment(features, exclude=exclude)


def test_without_prompts_a_grid_is_clicked():
    network = Discs()
    found = everything(network)
    assert network.clicks == [[x, y] for y in (8, 24, 40, 56) for x in (8, 24, 40, 56)]
    assert found.masks_nhw.dtype == torch.bool and found.categories == (None,) * len(found)
    assert int(found.masks_nhw.sum(0).max()) == 1  # disjoint
    assert all(found.masks_nhw[:, y, x].any() for y in (8, 24, 40, 56) for x in (8, 24, 40, 56))


@pytest.mark.parametrize(
    ("network", "count"),
    [
        pytest.param(Discs((0.95, 0.5, 0.5)), 16, id="one good mask a click"),
        pytest.param(Discs((0.5, 0.5, 0.5)), 0, id="no good mask"),
        pytest.param(Discs((0.95, 0.5, 0.5), hardness=0.5), 0, id="good but unstable"),
        pytest.param(Discs((0.95, 0.5, 0.95)), 32, id="a disc in a disc is another thing"),
    ],
)
def test_only_good_and_stable_masks_are_proposed(network, count):
    found = everything(network)
    assert len(found) == len(found.scores) == count
    assert list(found.scores) == sorted(found.scores, reverse=True)


def test_of_masks_with_nearly_one_box_the_best_is_proposed():
    segmenter = over(Discs((0.95, 0.5, 0.5)), points_per_side=32)
    (features,) = segmenter.encode([Frame(0, 0.0, np.zeros((64, 64, 3), np.uint8))])
    few, all_of_them = len(segmenter.segment(features)), 32 * 32
    segmenter.max_box_iou = 1.0
    assert few < all_of_them / 2
    assert len(segmenter.segment(features)) > few


def test_large_pictures_are_proposed_for_at_a_smaller_size():
    assert everything(Discs(), size_hw=(128, 192), size=32).masks_nhw.shape[1:] == (32, 48)
    assert everything(Discs((0, 0, 0)), size_hw=(128, 192), size=32).masks_nhw.shape == (0, 32, 48)


def slow_exclusion(exclude, coarse_hw, points):
    """Average with a triangle as wide as two coarse pixels, then between the four coarse pixels around a point."""
    array = exclude.numpy().astype(float)
    for axis, count in enumerate(coarse_hw):
        stride = array.shape[axis] / count
        weights = np.zeros((count, array.shape[axis]))
        for i in range(count):
            for j in range(array.shape[axis]):
                weights[i, j] = max(0.0, 1 - abs(j + 0.5 - (i + 0.5) * stride) / stride)
        weights /= weights.sum(1, keepdims=True)
        array = np.moveaxis(np.tensordot(weights, array, (1, axis)), 0, axis)
    values = []
    for x, y in points.tolist():
        column = np.clip(x * coarse_hw[1] - 0.5, 0, coarse_hw[1] - 1)
        row = np.clip(y * coarse_hw[0] - 0.5, 0, coarse_hw[0] - 1)
        value = 0.0
        for i in range(coarse_hw[0]):
            for j in range(coarse_hw[1]):
                value += array[i, j] * max(0.0, 1 - abs(i - row)) * max(0.0, 1 - abs(j - column))
        values.append(value)
    return np.array(values)


@settings(max_examples=20, deadline=None)
@given(st.tuples(*[st.integers(0, 95)] * 4), st.sampled_from([(96, 96), (96, 64)]))
def test_only_points_away_from_what_is_tracked_are_free(corners, size_hw):
    exclude = torch.zeros(size_hw, dtype=torch.bool)
    exclude[min(corners[:2]) : max(corners[:2]), min(corners[2:]) : max(corners[2:])] = True
    points = grid_of_points(7)
    values = slow_exclusion(exclude, (size_hw[0] // 16, size_hw[1] // 16), points)
    sure = abs(values - 0.01) > 1e-5
    np.testing.assert_array_equal(is_free(points, exclude, size_hw).numpy()[sure], (values < 0.01)[sure])


def test_only_where_nothing_is_tracked_is_clicked():
    network, exclude = Discs(), torch.zeros(32, 32, dtype=torch.bool)
    exclude[:, :8] = True  # the left quarter, at another resolution than the picture's
    everything(network, exclude=exclude)
    values = slow_exclusion(exclude, (4, 4), grid_of_points(4))
    expected = [
        [x * 64, y * 64] for (x, y), value in zip(grid_of_points(4).tolist(), values, strict=True) if value < 0.01
    ]
    assert 0 < len(expected) < 16
    assert network.clicks == expected


def test_where_everything_is_tracked_nothing_is_looked_for():
    network = Discs()
    assert len(everything(network, exclude=torch.ones(64, 64, dtype=torch.bool))) == 0
    assert network.clicks == []


def test_without_prompts_the_networks_are_asked_point_by_point(segmenter, features):
    """The real decoders: what a loop over clicks keeps is what is proposed."""
    wanted = SamSegmenter(
        segmenter.network,
        segmenter.pixels,
        points_per_side=3,
        batch=4,
        min_quality=-0.5,
        min_stability=0.8,
        max_box_iou=0.9,
    )
    kept = []
    for x, y in grid_of_points(3).tolist():
        prompt = [PointPrompt(0, 1, ((x * SIZE[1], y * SIZE[0]),))]
        hints = segmenter._hints(features, prompt)
        logits, qualities = segmenter._decode(features, [hints])
        for mask, quality in zip(segmenter._upsampled(features, logits[0], SIZE), qualities[0], strict=True):
            inner, outer = int((mask > 1).sum()), int((mask > -1).sum())
            if quality > -0.5 and inner > 0 and inner / outer >= 0.8:
                kept.append((float(quality), mask > 0))
    kept.sort(key=lambda each: -each[0])
    apart: list[tuple[float, torch.Tensor]] = []
    for quality, mask in kept:
        if all(box_iou_of(mask, other) <= 0.9 for _, other in apart):
            apart.append((quality, mask))
    assert apart
    visible = make_disjoint(torch.stack([mask for _, mask in apart]))
    seen = [n for n in range(len(apart)) if visible[n].any()]
    found = wanted.segment(features)
    assert torch.equal(found.masks_nhw, visible[seen])
    assert found.scores == pytest.approx([min(max(apart[n][0], 0), 1) for n in seen], abs=1e-5)


def box_iou_of(first, second):
    """Of two masks, by painting their boxes."""
    boxes = []
    for mask in (first, second):
        rows, columns = mask.nonzero().unbind(1)
        box = torch.zeros_like(mask)
        box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
        boxes.append(box)
    return float((boxes[0] & boxes[1]).sum() / (boxes[0] | boxes[1]).sum())


# ----------------------------------------------------------- made disjoint


def slow_disjoint(masks, large_wins):
    """Pixel by pixel: the highest weight wins, the earlier of two."""
    areas = masks.sum((1, 2)).tolist()
    visible = torch.zeros_like(masks)
    for y in range(masks.shape[1]):
        for x in range(masks.shape[2]):
            weights = [areas[k] if large_wins else 2 * max(areas) - areas[k] for k in range(len(areas))]
            here = [k for k in range(len(areas)) if masks[k, y, x]]
            if here:
                visible[max(here, key=lambda k: (weights[k], -k)), y, x] = True
    if large_wins:
        for k, area in enumerate(areas):
            if visible[k].sum() < 0.8 * area:
                visible[k] = False
    return visible


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_pixel_goes_to_one_mask(seed, count, large_wins):
    rng = np.random.default_rng(seed)
    masks = torch.zeros((count, 5, 6), dtype=torch.bool)
    for mask in masks:
        (top, bottom), (left, right) = np.sort(rng.integers(0, 6, 2)), np.sort(rng.integers(0, 7, 2))
        mask[top:bottom, left:right] = True
    found = make_disjoint(masks, suppress_small_objects=large_wins)
    assert torch.equal(found, slow_disjoint(masks, large_wins))


def test_a_fully_hidden_mask_leaves_the_others_their_scores():
    """Two halves hide a whole; their scores must stay theirs."""

    class Halves(Discs):
        def forward(self, **given):
            count = len(given["input_points"])
            masks = torch.full((count, 1, 3, 64, 64), -20.0)
            masks[:, :, 0, :, :30], masks[:, :, 1], masks[:, :, 2, :, 30:] = 20, 20, 20
            return SimpleNamespace(pred_masks=masks, iou_scores=torch.tensor([0.9, 0.95, 0.99]).expand(count, 1, 3))

    found = everything(Halves())
    assert found.scores == pytest.approx((0.99, 0.9))
    assert found.masks_nhw[0, :, 30:].all() and not found.masks_nhw[0, :, :30].any()
    assert found.masks_nhw[1, :, :30].all() and not found.masks_nhw[1, :, 30:].any()
    large = everything(Halves(), suppress_small_objects=True)
    assert large.scores == pytest.approx((0.95,)) and large.masks_nhw.all()


def test_a_mask_is_stable_if_thresholds_hardly_change_it():
    logits = torch.full((3, 10, 10), -5.0)
    logits[0, :, :5], logits[1, :, :5] = 5, 5
    logits[1, :, 5] = 0.5  # on at -1, off at 1
    assert is_stable(logits, 0.95).tolist() == [True, False, False]
    assert is_stable(logits, 0.8).tolist() == [True, True, False]


def test_clicks_of_a_stroke_lie_evenly_along_it():
    assert clicks_of_stroke([(3, 4)]) == [(3, 4)]
    assert clicks_of_stroke([(3, 4), (3, 4)]) == [(3, 4)]
    assert clicks_of_stroke([(0, 0), (10, 0), (10, 30)]) == [(0, 0), (10, 0), (10, 10), (10, 20), (10, 30)]


# ------------------------------------------------------------------ loading


def test_checkpoints_for_video_are_read_too(tmp_path, picture):
    """SAM 2 is published as a video model, whose memory is not needed here."""
    save_sam2(tmp_path)
    (features,) = load_sam(str(tmp_path)).encode([picture])
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"model_type": "sam2"', '"model_type": "sam2_video"'))
    weights = load_file(tmp_path / "model.safetensors")
    save_file(weights | {"memory_encoder.scale": torch.ones(2)}, tmp_path / "model.safetensors", {"format": "pt"})
    segmenter = load_sam(str(tmp_path))
    assert type(segmenter.network).__name__ == "Sam2Model"
    (again,) = segmenter.encode([picture])
    assert all(torch.equal(first, second) for first, second in zip(features.levels, again.levels, strict=True))


def test_another_model_is_named_in_one_line(tmp_path):
    save_grounding_dino(tmp_path)
    with pytest.raises(InputError, match=r"kind grounding-dino, not sam .* facebook/sam-vit-base") as raised:
        load_sam(str(tmp_path))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        pytest.param("config.json", "config.json is not in it; the usual one is facebook/sam-vit-base", id="config"),
        pytest.param("model.safetensors", "holds no weights for SamModel", id="weights"),
        pytest.param("preprocessor_config.json", "does not say how pictures are prepared", id="processor"),
    ],
)
def test_a_missing_file_is_an_error_in_one_line(tmp_path, missing, says):
    save_sam(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(InputError, match=says) as raised:
        load_sam(str(tmp_path))
    assert "\n" not in str(raised.value)


def test_pictures_must_be_square_to_the_network():
    with pytest.raises(InputError, match="squares"):
        over(Discs(), Pixels(shortest=64))
    with pytest.raises(InputError, match="at least 1"):
        over(Discs(), batch=0)


def test_categories_are_not_needed(segmenter, features):
    asked = segmenter.segment(features, [BoxPrompt(0, 1, BOX)], categories=CategorySet.from_names(["cat"]))
    assert asked.categories == (None,)
