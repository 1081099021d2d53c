import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from maskstream.formats import colour_of
from maskstream.sinks.draw import display_colours, draw_overlay
from maskstream.types import CategorySet, FrameSegmentation, InputError, LabelMap, Segment, pack_masks

SIZE = (96, 160)


def grey(size_hw: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    return np.full((*size_hw, 3), 100, dtype=np.uint8)


def boxes(
    *rows: tuple[int, int, int, int, int], size_hw: tuple[int, int] = SIZE, score: float | None = None
) -> FrameSegmentation:
    """A segment for each (track id, y0, y1, x0, x1)."""
    label_map = torch.zeros(size_hw, dtype=torch.int32)
    for position, (_, y0, y1, x0, x1) in enumerate(rows, 1):
        label_map[y0:y1, x0:x1] = position
    segments = tuple(Segment(100 + n, row[0], category=1, score=score) for n, row in enumerate(rows))
    return FrameSegmentation(0, size_hw, segments, LabelMap(label_map))


def test_inside_a_segment_image_and_colour_are_mixed_and_outside_nothing_changes():
    overlay = draw_overlay(grey(), boxes((3, 20, 70, 30, 90)), alpha=0.25, labels=False)
    expected = np.rint(0.75 * 100 + 0.25 * display_colours([3])[0])
    assert np.abs(overlay[40, 60] - expected).max() <= 1
    outside = np.ones(SIZE, dtype=bool)
    outside[20:70, 30:90] = False
    assert (overlay[outside] == 100).all()


def test_the_outline_runs_along_the_inside_of_the_border_all_the_way_round():
    overlay = draw_overlay(grey(), boxes((3, 20, 70, 30, 90)), labels=False)
    line = overlay[20, 30]
    assert (line > overlay[40, 60]).all()
    for side in (overlay[20, 30:90], overlay[69, 30:90], overlay[20:70, 30], overlay[20:70, 89]):
        assert (side == line).all()


def test_neighbours_are_kept_apart_by_an_outline_each():
    overlay = draw_overlay(grey(), boxes((1, 20, 70, 30, 60), (2, 20, 70, 60, 90)), labels=False)
    assert (overlay[45, 59] != overlay[45, 50]).any()
    assert (overlay[45, 60] != overlay[45, 70]).any()
    assert (overlay[45, 59] != overlay[45, 60]).any()


def test_a_track_keeps_its_colour_in_any_company_position_and_class():
    alone = draw_overlay(grey(), boxes((7, 20, 70, 30, 90)), labels=False)
    third = draw_overlay(grey(), boxes((1, 0, 9, 0, 9), (2, 80, 90, 0, 9), (7, 20, 70, 30, 90)), labels=False)
    np.testing.assert_array_equal(alone[20:70, 30:90], third[20:70, 30:90])


def test_a_colour_that_was_chosen_is_the_colour_of_its_track_alone():
    both = boxes((1, 20, 70, 30, 60), (2, 20, 70, 90, 120))
    overlay = draw_overlay(grey(), both, alpha=1.0, labels=False, colours={2: (10, 20, 30), 9: (0, 0, 0)})
    assert overlay[45, 105].tolist() == [10, 20, 30]
    assert (overlay[45, 45] == display_colours([1])[0]).all()


@pytest.mark.parametrize("labels", [True, False])
def test_the_input_is_never_changed_and_the_result_is_a_new_array(labels):
    image = grey()
    for segmentation in (boxes((1, 20, 70, 30, 90)), boxes()):
        before = segmentation.label_map().clone()
        overlay = draw_overlay(image, segmentation, labels=labels)
        overlay[:] = 0
        assert (image == 100).all()
        assert torch.equal(segmentation.label_map(), before)


def test_read_only_and_mirrored_images_can_be_drawn_on():
    image = np.arange(np.prod((*SIZE, 3)), dtype=np.uint32).astype(np.uint8).reshape(*SIZE, 3)
    image.flags.writeable = False
    segmentation = boxes((1, 20, 70, 30, 90))
    mirrored = image[:, ::-1]
    np.testing.assert_array_equal(draw_overlay(mirrored, segmentation), draw_overlay(mirrored.copy(), segmentation))


def test_packed_masks_look_like_the_label_map_of_what_is_on_top():
    disjoint = boxes((1, 20, 70, 30, 60), (2, 20, 70, 60, 90))
    packed = FrameSegmentation(0, SIZE, disjoint.segments, pack_masks(disjoint.masks_nhw()))
    np.testing.assert_array_equal(draw_overlay(grey(), packed), draw_overlay(grey(), disjoint))


def test_of_two_overlapping_masks_the_one_with_the_higher_score_is_seen():
    masks = torch.zeros((2, *SIZE), dtype=torch.bool)
    masks[:, 20:70, 30:90] = True
    segments = (Segment(1, 1, score=0.9), Segment(2, 2, score=0.3))
    overlay = draw_overlay(grey(), FrameSegmentation.from_masks(0, segments, masks), labels=False)
    expected = draw_overlay(grey(), boxes((1, 20, 70, 30, 90)), labels=False)
    np.testing.assert_array_equal(overlay, expected)


def test_a_name_stands_above_its_segment_in_the_colour_of_the_track():
    segmentation = boxes((2, 40, 80, 30, 90))
    named, plain = draw_overlay(grey(), segmentation), draw_overlay(grey(), segmentation, labels=False)
    changed = (named != plain).any(axis=-1)
    rows, columns = np.nonzero(changed)
    assert rows.min() >= 20 and rows.max() < 42
    assert columns.min() >= 30 and columns.max() < 90
    assert (named[changed] == display_colours([2])[0]).all(axis=-1).mean() > 0.4


def test_names_say_more_the_more_is_known():
    categories = CategorySet.from_names(["giraffe"])
    big = (240, 400)
    row = (2, 100, 200, 100, 300)
    widths = []
    for segmentation, names in (
        (boxes(row, size_hw=big), None),
        (boxes(row, size_hw=big, score=0.5), None),
        (boxes(row, size_hw=big, score=0.5), categories),
    ):
        plain = draw_overlay(grey(big), segmentation, labels=False)
        changed = (draw_overlay(grey(big), segmentation, categories=names) != plain).any(axis=(0, 2))
        widths.append(int(changed.sum()))
    assert widths == sorted(set(widths))


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([(1, 0, 30, 0, 30)], id="in the upper left corner"),
        pytest.param([(1, 66, 96, 130, 160)], id="in the lower right corner"),
        pytest.param([(1, 0, 96, 0, 160)], id="over the whole picture"),
        pytest.param([(99999, 30, 60, 0, 20)], id="with a name wider than itself"),
        pytest.param([(n + 1, 40, 60, 16 * n, 16 * n + 16) for n in range(10)], id="many side by side"),
        pytest.param([(1, 40, 41, 40, 41)], id="a single pixel"),
        pytest.param([(1, 20, 20, 30, 30)], id="an empty one"),
    ],
)
def test_segments_anywhere_can_be_named(rows):
    overlay = draw_overlay(grey(), boxes(*rows))
    assert overlay.shape == (*SIZE, 3) and overlay.dtype == np.uint8


def test_names_of_neighbours_do_not_cover_each_other():
    first, second = (1, 60, 76, 40, 70), (2, 64, 90, 42, 72)
    alone, both = draw_overlay(grey(), boxes(first)), draw_overlay(grey(), boxes(first, second))
    inked = [(picture == display_colours([track])[0]).all(axis=-1) for picture, track in ((alone, 1), (both, 1))]
    np.testing.assert_array_equal(*inked)
    assert inked[0].any()
    assert (both == display_colours([2])[0]).all(axis=-1).any()


def test_lines_grow_with_the_picture():
    def line_width(factor: int) -> int:
        size = (96 * factor, 160 * factor)
        segmentation = boxes((3, 20 * factor, 70 * factor, 30 * factor, 90 * factor), size_hw=size)
        column = draw_overlay(grey(size), segmentation, labels=False)[:, 60 * factor]
        return int((column == column[20 * factor]).all(axis=-1).sum()) // 2

    assert line_width(1) == 1
    assert line_width(5) == 2
    assert line_width(15) == 4


def test_more_segments_than_a_byte_counts_each_have_their_colour():
    rows = [(n + 1, 8 * (n // 20), 8 * (n // 20) + 8, 8 * (n % 20), 8 * (n % 20) + 8) for n in range(300)]
    overlay = draw_overlay(grey((120, 160)), boxes(*rows, size_hw=(120, 160)), alpha=1.0, labels=False)
    centres = overlay[4::8, 4::8].reshape(-1, 3)
    np.testing.assert_array_equal(centres, display_colours(range(1, 301)))


def test_display_colours_are_lighter_than_the_palette_and_keep_their_order():
    colours, lifted = colour_of(range(1, 255)).astype(int), display_colours(range(1, 255)).astype(int)
    assert (lifted >= colours).all()
    assert len(np.unique(lifted, axis=0)) == 254


def test_an_image_of_another_size_is_refused():
    with pytest.raises(InputError, match="96×160, but its segmentation is 10×10"):
        draw_overlay(grey(), boxes(size_hw=(10, 10)))
