"""Maps of pixels, against loops over pixels, a triangle filter written out, and SciPy's thin-plate spline."""

import math

import numpy as np
import pytest
from scipy.interpolate import RBFInterpolator

from maskstream.training.warps import (
    FILL,
    TENT,
    Box,
    Warp,
    affine,
    mirrored,
    random_box,
    resized_crop,
    scaled,
    shifted,
    thin_plate,
)

HEIGHT, WIDTH = 22, 30
LABELS = np.arange(1, HEIGHT * WIDTH + 1, dtype=np.int32).reshape(HEIGHT, WIDTH)  # every pixel tells where it was


def smooth_picture() -> np.ndarray:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    channels = 4 * rows + 3 * columns, 200 - 5 * rows, 90 + 40 * np.sin(columns / 5)
    return np.stack(channels, axis=-1).astype(np.uint8)


def source_position(matrix: np.ndarray, row: int, column: int) -> tuple[float, float]:
    """Row and column in the source, where whole numbers are centres of pixels."""
    x, y, _ = np.linalg.solve(matrix, [column + 0.5, row + 0.5, 1])
    return y - 0.5, x - 0.5


def bilinear(picture: np.ndarray, y: float, x: float) -> np.ndarray:
    total = np.zeros(3)
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            inside = 0 <= row < HEIGHT and 0 <= column < WIDTH
            weight = (1 - abs(y - row)) * (1 - abs(x - column))
            total += weight * (picture[row, column] if inside else np.array(FILL))
    return total


WARPS = [
    pytest.param(affine((HEIGHT, WIDTH), degrees=23), id="turned"),
    pytest.param(affine((HEIGHT, WIDTH), shear=-17, scale=1.4), id="sheared, larger"),
    pytest.param(
        affine((HEIGHT, WIDTH), degrees=-11, shear=19, scale=1.3) @ mirrored(WIDTH), id="mirrored, then turned"
    ),
    pytest.param(resized_crop(Box(3, 5, 13, 17), 24) @ affine((HEIGHT, WIDTH), degrees=8), id="turned, then cut"),
    pytest.param(scaled(1.7, 1.1) @ shifted(2.3, -1.6), id="shifted by broken pixels, then stretched"),
]


@pytest.mark.parametrize("matrix", WARPS)
def test_a_picture_is_sampled_as_a_loop_over_pixels_samples_it(matrix):
    picture, size_hw = smooth_picture(), (25, 28)
    expected = np.array(
        [[bilinear(picture, *source_position(matrix, row, column)) for column in range(28)] for row in range(25)]
    )
    warp = Warp.of(matrix, size_hw)
    plain = Warp(warp.positions_hw2, (1.0, 1.0))  # no blur: the loop has none
    # OpenCV knows positions to 1/32 of a pixel; at the border two neighbours differ by up to 150.
    assert np.abs(plain.picture(picture) - expected).max() <= 150 / 32


@pytest.mark.parametrize("matrix", WARPS)
def test_labels_are_the_nearest_of_a_loop_over_pixels(matrix):
    ids = Warp.of(matrix, (25, 28)).labels(LABELS)
    for row in range(25):
        for column in range(28):
            y, x = source_position(matrix, row, column)
            if min(abs(y % 1 - 0.5), abs(x % 1 - 0.5)) < 1e-3:
                continue  # as near to two pixels
            inside = 0 <= round(y) < HEIGHT and 0 <= round(x) < WIDTH
            assert ids[row, column] == (LABELS[round(y), round(x)] if inside else 0)


@pytest.mark.parametrize(
    "matrix, expected",
    [
        pytest.param(np.eye(3), LABELS, id="as it was"),
        pytest.param(mirrored(WIDTH), LABELS[:, ::-1], id="left is right"),
        pytest.param(shifted(4, 0), np.pad(LABELS, ((0, 0), (4, 0)))[:, :WIDTH], id="four to the right"),
        pytest.param(shifted(0, -3), np.pad(LABELS, ((0, 3), (0, 0)))[3:], id="three up"),
    ],
)
def test_whole_pixels_move_without_loss(matrix, expected):
    warp = Warp.of(matrix, (HEIGHT, WIDTH))
    np.testing.assert_array_equal(warp.labels(LABELS), expected)
    picture = smooth_picture()
    colours = np.vstack([[FILL], picture.reshape(-1, 3)])
    np.testing.assert_array_equal(warp.picture(picture), colours[expected])


def test_positive_degrees_turn_clockwise():
    square = LABELS[:, :HEIGHT]
    turned = Warp.of(affine((HEIGHT, HEIGHT), degrees=90), (HEIGHT, HEIGHT)).labels(square)
    np.testing.assert_array_equal(turned, np.rot90(square, -1))


def test_a_shear_leans_columns_by_its_degrees_and_keeps_rows():
    matrix = affine((HEIGHT, WIDTH), shear=20)
    foot, head = matrix @ [10, 20, 1], matrix @ [10, 5, 1]
    np.testing.assert_allclose([foot[1], head[1]], [20, 5])
    assert math.degrees(math.atan2(head[0] - foot[0], 15)) == pytest.approx(20)


def test_the_centre_stays_where_it_is():
    centre = [WIDTH / 2, HEIGHT / 2, 1]
    np.testing.assert_allclose(affine((HEIGHT, WIDTH), degrees=31, scale=1.7, shear=12) @ centre, centre)


def tent_resize(picture: np.ndarray, size: int) -> np.ndarray:
    """The antialiased bilinear resize of a square, from its definition."""
    side = len(picture)
    reduction = side / size
    centres = (np.arange(size) + 0.5) * reduction - 0.5
    weights = np.maximum(1 - np.abs(centres[:, None] - np.arange(side)) / reduction, 0)
    weights /= weights.sum(1, keepdims=True)
    return np.asarray(np.einsum("ia,abc,jb->ijc", weights, picture, weights))


@pytest.mark.parametrize("size", [70, 50, 31, 14])
def test_a_picture_that_shrinks_is_an_antialiased_resize(size):
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 256, (100, 100, 3), dtype=np.uint8)  # noise: all that can alias does
    expected = tent_resize(picture, size)
    warp = Warp.of(scaled(size / 100, size / 100), (size, size))
    inner = (slice(2, -2), slice(2, -2))  # at the border a resize has no pixels beyond, and this has FILL
    wrong = (warp.picture(picture) - expected)[inner].std()
    careless = (Warp(warp.positions_hw2, (1.0, 1.0)).picture(picture) - expected)[inner].std()
    assert wrong < careless / 2


def test_softness_is_the_variance_of_a_blur():
    picture = np.zeros((21, 21, 3), dtype=np.uint8)
    picture[10, 10] = 255
    blurred = Warp.of(np.eye(3), (21, 21)).picture(picture, softness=TENT)[..., 0] / 255
    across = blurred.sum(0) / blurred.sum()
    assert (across * (np.arange(21) - 10) ** 2).sum() == pytest.approx(TENT, abs=0.01)


@pytest.mark.parametrize(
    "size_hw, expected",
    [
        pytest.param((480, 854), Box(0, 107, 480, 640), id="wide: 4:3 of it"),
        pytest.param((640, 300), Box(120, 0, 400, 300), id="tall: 3:4 of it"),
        pytest.param((300, 350), Box(0, 0, 300, 350), id="neither: all of it"),
    ],
)
def test_a_crop_too_large_is_the_centre(size_hw, expected):
    assert random_box(size_hw, area=(2.0, 3.0), rng=np.random.default_rng(0)) == expected


def test_crops_are_even_in_area_and_in_the_logarithm_of_their_aspect():
    rng = np.random.default_rng(0)
    boxes = [random_box((400, 400), area=(0.2, 0.5), rng=rng) for _ in range(3000)]
    areas = np.array([box.height * box.width / 400**2 for box in boxes])
    aspects = np.log([box.width / box.height for box in boxes])
    assert areas.min() > 0.195
    assert areas.max() < 0.505
    assert np.abs(aspects).max() < math.log(4 / 3) + 0.01
    np.testing.assert_allclose(np.quantile(areas, [0.25, 0.5, 0.75]), [0.275, 0.35, 0.425], atol=0.015)
    np.testing.assert_allclose(
        np.quantile(aspects, [0.25, 0.5, 0.75]), np.log(4 / 3) * np.array([-0.5, 0, 0.5]), atol=0.02
    )
    assert all(box.top + box.height <= 400 and box.left + box.width <= 400 for box in boxes)
    assert min(box.top for box in boxes) < 10
    assert max(box.top + box.height for box in boxes) == 400


def test_a_thin_plate_is_the_one_of_scipy():
    rng, size = np.random.default_rng(3), 33
    begin = rng.random((12, 2))
    end = begin + rng.normal(scale=0.05, size=begin.shape)
    rows, columns = np.mgrid[:size, :size]
    centres = np.stack([columns, rows], axis=-1).reshape(-1, 2) / size + 0.5 / size
    spline = RBFInterpolator(end, begin - end, kernel="thin_plate_spline", degree=1)
    expected = spline(centres).reshape(size, size, 2).transpose(2, 0, 1) * size
    np.testing.assert_allclose(thin_plate(begin, end, size), expected, atol=1e-3)


def test_a_point_of_a_thin_plate_arrives_where_it_is_sent():
    size = 40
    pixels = np.array([[3, 5], [30, 8], [12, 33], [35, 35], [20, 18]])  # column, row
    labels = np.arange(1, size * size + 1, dtype=np.int32).reshape(size, size)
    moved = pixels + np.array([[2, -1], [0, 3], [-2, 0], [1, 1], [-3, 2]])
    bend = thin_plate((pixels + 0.5) / size, (moved + 0.5) / size, size)
    bent = Warp.of(np.eye(3), (size, size), bend_2hw=bend).labels(labels)
    np.testing.assert_array_equal(bent[moved[:, 1], moved[:, 0]], labels[pixels[:, 1], pixels[:, 0]])


def test_a_bend_comes_after_the_matrix():
    """One warp of both samples what a warp and then a bend of its result would."""
    size = HEIGHT
    bend = np.zeros((2, size, size), dtype=np.float32)
    bend[0], bend[1] = 3, -2
    matrix = affine((HEIGHT, WIDTH), degrees=90)
    turned = Warp.of(matrix, (size, size)).labels(LABELS)
    both = Warp.of(matrix, (size, size), bend_2hw=bend).labels(LABELS)
    np.testing.assert_array_equal(both[2:, :-3], turned[:-2, 3:])
