import cv2
import numpy as np
import pytest
import torch

from maskstream.segmenters import GrabCutSegmenter
from maskstream.types import BoxPrompt, Frame, InputError, MaskPrompt, PointPrompt, ScribblePrompt

HEIGHT, WIDTH = 120, 180


def picture():
    """A red disk and a green one on a blue wall, with noise; and their masks."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    disks = [(rows - 50) ** 2 + (columns - 55) ** 2 < 24**2, (rows - 70) ** 2 + (columns - 130) ** 2 < 30**2]
    image = np.full((HEIGHT, WIDTH, 3), (60, 80, 170), dtype=np.float32)
    for disk, colour in zip(disks, ((190, 50, 40), (50, 160, 60)), strict=True):
        image[disk] = colour
    image += np.random.default_rng(0).normal(0, 8, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), disks


def segment(*prompts, image=None, size=480):
    segmenter = GrabCutSegmenter(size=size)
    (features,) = segmenter.encode([Frame(0, 0.0, picture()[0] if image is None else image)])
    return segmenter.segment(features, prompts)


def overlap(found, expected):
    found, expected = np.asarray(found), np.asarray(expected)
    return (found & expected).sum() / (found | expected).sum()


def test_without_prompts_nothing_is_proposed():
    proposals = segment()
    assert len(proposals) == 0
    assert proposals.masks_nhw.shape == (0, HEIGHT, WIDTH)


@pytest.mark.parametrize(
    "prompts",
    [
        pytest.param([BoxPrompt(0, 1, (28.0, 23.0, 84.0, 78.0))], id="a box"),
        pytest.param([PointPrompt(0, 1, ((55.0, 50.0),))], id="one click"),
        pytest.param([PointPrompt(0, 1, ((40.0, 50.0), (70.0, 50.0)))], id="two clicks"),
        pytest.param([PointPrompt(0, 1, ((55.0, 50.0), (55.0, 10.0)), (True, False))], id="a click on, a click off"),
        pytest.param([ScribblePrompt(0, 1, ((45.0, 45.0), (60.0, 60.0), (65.0, 45.0)))], id="a scribble"),
        pytest.param(
            [BoxPrompt(0, 1, (20.0, 15.0, 100.0, 90.0)), PointPrompt(0, 1, ((55.0, 50.0),), add=True)],
            id="a loose box and a click",
        ),
    ],
)
@pytest.mark.parametrize("size", [60, 480])
def test_an_object_is_found(prompts, size):
    proposals = segment(*prompts, size=size)
    assert proposals.masks_nhw.dtype == torch.bool
    assert proposals.masks_nhw.shape == (1, HEIGHT, WIDTH)
    assert overlap(proposals.masks_nhw[0], picture()[1][0]) > (0.9 if size == 480 else 0.8)


def test_objects_are_found_each_on_its_own_in_order_of_first_mention():
    proposals = segment(
        PointPrompt(0, 7, ((130.0, 70.0),), category=3, is_thing=True),
        BoxPrompt(0, 2, (28.0, 23.0, 84.0, 78.0)),
        PointPrompt(0, 7, ((120.0, 80.0),), add=True),
    )
    assert overlap(proposals.masks_nhw[0], picture()[1][1]) > 0.9
    assert overlap(proposals.masks_nhw[1], picture()[1][0]) > 0.9
    assert proposals.categories == (3, None)
    assert proposals.is_thing == (True, None)


def test_a_mask_alone_is_returned_as_it_is():
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[10:31, 7:50] = True
    void = np.zeros_like(mask)
    void[10, :] = True
    found = segment(MaskPrompt(0, 1, mask, void=void), size=60).masks_nhw[0]
    assert np.array_equal(found, mask & ~void)


def test_a_positive_click_adds_what_is_missing_and_leaves_the_rest():
    red, _ = picture()[1]
    half = red & (np.arange(WIDTH) < 55)
    found = segment(MaskPrompt(0, 1, half), PointPrompt(0, 1, ((67.0, 50.0),), add=True)).masks_nhw[0].numpy()
    assert overlap(half, red) < 0.6
    assert overlap(found, red) > 0.85
    assert found[half].all()


def test_a_negative_click_cuts_out_what_is_wrong_and_leaves_the_rest():
    red, green = picture()[1]
    click = PointPrompt(0, 1, ((130.0, 70.0),), (False,), add=True)
    found = segment(MaskPrompt(0, 1, red | green), click).masks_nhw[0].numpy()
    assert overlap(found, red) > 0.9
    assert found[red].all()


@pytest.mark.filterwarnings("error")
def test_a_click_off_what_fills_the_picture_leaves_nothing():
    mask = np.ones((HEIGHT, WIDTH), dtype=bool)
    found = segment(MaskPrompt(0, 1, mask), PointPrompt(0, 1, ((130.0, 70.0),), (False,), add=True)).masks_nhw[0]
    assert not found.any()


def test_clicks_are_always_obeyed():
    on, off = (3.0, 3.0), (55.0, 50.0)
    found = segment(BoxPrompt(0, 1, (28.0, 23.0, 84.0, 78.0)), PointPrompt(0, 1, (on, off), (True, False))).masks_nhw[0]
    assert found[3, 3]
    assert not found[50, 55]


def test_results_do_not_depend_on_what_ran_before():
    prompts = [BoxPrompt(0, 1, (20.0, 15.0, 100.0, 90.0))]
    first = segment(*prompts).masks_nhw
    cv2.setRNGSeed(12345)
    segment(PointPrompt(0, 1, ((130.0, 70.0),)))
    assert torch.equal(segment(*prompts).masks_nhw, first)


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 40), (7, 5), (16, 16)])
@pytest.mark.parametrize(
    "prompts",
    [
        pytest.param([PointPrompt(0, 1, ((0.0, 0.0),))], id="click"),
        pytest.param([PointPrompt(0, 1, ((0.0, 0.0), (0.0, 0.0)), (True, False))], id="on and off at one place"),
        pytest.param([BoxPrompt(0, 1, (0.0, 0.0, 1.0, 1.0))], id="smallest box"),
        pytest.param([BoxPrompt(0, 1, (-1.0, -1.0, 1.0, 1.0))], id="box over the border"),
    ],
)
def test_tiny_and_plain_pictures_are_no_trouble(size_hw, prompts):
    found = segment(*prompts, image=np.full((*size_hw, 3), 99, dtype=np.uint8)).masks_nhw
    assert found.shape == (1, *size_hw)


def test_a_box_around_the_whole_picture_is_the_whole_picture():
    assert segment(BoxPrompt(0, 1, (0.0, 0.0, float(WIDTH), float(HEIGHT)))).masks_nhw.all()


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        pytest.param(
            PointPrompt(4, 2, ((180.0, 5.0),)), r"point 180,5 of object 2 on frame 4 .* 180 wide and 120 high"
        ),
        pytest.param(ScribblePrompt(0, 1, ((5.0, 5.0), (5.0, -3.0))), r"point 5,-3 of object 1 on frame 0"),
        pytest.param(BoxPrompt(0, 3, (170.0, 5.0, 190.0, 9.0)), r"box 170,5,190,9 of object 3 .* outside the picture"),
        pytest.param(BoxPrompt(0, 3, (180.0, 5.0, 181.0, 9.0)), r"box 180,5,181,9 of object 3 .* outside the picture"),
        pytest.param(
            MaskPrompt(0, 1, np.ones((9, 9))), r"mask of object 1 on frame 0 is 9×9, .* 180 wide and 120 high"
        ),
    ],
)
def test_what_is_outside_the_picture_is_named(prompt, message):
    with pytest.raises(InputError, match=message):
        segment(prompt)


def test_a_picture_is_never_enlarged_and_its_masks_fit_the_source():
    image = np.zeros((300, 200, 3), dtype=np.uint8)
    assert GrabCutSegmenter(size=100).encode([Frame(0, 0.0, image)])[0].image_hwc.shape == (150, 100, 3)
    assert GrabCutSegmenter(size=480).encode([Frame(0, 0.0, image)])[0].image_hwc.shape == (300, 200, 3)
    with pytest.raises(InputError, match="at least 16 pixels"):
        GrabCutSegmenter(size=4)
