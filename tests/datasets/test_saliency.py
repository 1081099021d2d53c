import numpy as np
import pytest

from maskstream.datasets.saliency import read_saliency
from maskstream.types import InputError

from .trees_referring import SIZE, picture, write

SOFT = np.linspace(0, 255, SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.uint8)


def only_mask(video):
    return video.annotation(0).segmentation.masks_nhw().any(dim=0).numpy()


def test_pairs_lie_side_by_side_by_stem(tmp_path):
    for stem in ("b", "a"):
        picture(tmp_path / f"{stem}.png", SOFT > 200)
        write(tmp_path / f"{stem}.jpg", "")
    picture(tmp_path / "alone.png", SOFT > 200)
    write(tmp_path / "unlabelled.jpg", "")
    picture(tmp_path / "._a.png", SOFT > 0)  # B5
    dataset = read_saliency(tmp_path, "all")
    assert [video.name for video in dataset.videos] == ["a", "b"]
    assert dataset.videos[0].frames[0].image == tmp_path / "a.jpg"
    assert np.array_equal(only_mask(dataset.videos[0]), SOFT > 200)


@pytest.mark.parametrize("folders", [("DUTS-TE-Image", "DUTS-TE-Mask"), ("images", "ground_truth_mask")])
def test_pairs_lie_in_two_folders(tmp_path, folders):
    picture(tmp_path / folders[1] / "x.png", SOFT, mode="L")
    picture(tmp_path / folders[1] / "y.png", SOFT, mode="L")
    (tmp_path / folders[0]).mkdir()
    (tmp_path / folders[0] / "x.jpeg").write_bytes(b"a picture")
    x, y = read_saliency(tmp_path, "all").videos
    assert x.frames[0].image == tmp_path / folders[0] / "x.jpeg"
    assert y.frames[0].image == tmp_path / folders[0] / "y.jpg"  # where it should be


def test_subfolders_are_classes(tmp_path):
    for name in ("cat/1", "dog/1"):
        picture(tmp_path / f"{name}.png", SOFT > 200, mode="L")
        write(tmp_path / f"{name}.jpg", "")
    videos = read_saliency(tmp_path, "all").videos
    assert [(video.name, video.frames[0].stem) for video in videos] == [("cat/1", "1"), ("dog/1", "1")]


@pytest.mark.parametrize(
    "values, mode, expected",
    [
        pytest.param(SOFT, "L", SOFT >= 128, id="grey, at least 128"),
        pytest.param(SOFT, "RGB", SOFT >= 128, id="grey in colour"),
        pytest.param(SOFT.astype(int) * 257, "I;16", SOFT >= 128, id="16 bit"),
        pytest.param(SOFT // 100, "P", SOFT >= 100, id="palette, whatever is not 0"),
    ],
)
def test_half_of_the_brightest_is_salient(tmp_path, values, mode, expected):
    picture(tmp_path / "x.png", values, mode=mode)
    write(tmp_path / "x.jpg", "")
    (video,) = read_saliency(tmp_path, "all").videos
    assert np.array_equal(only_mask(video), expected)


def test_an_empty_mask_is_no_annotation(tmp_path):
    picture(tmp_path / "x.png", np.zeros(SIZE), mode="L")
    write(tmp_path / "x.jpg", "")
    (video,) = read_saliency(tmp_path, "all").videos
    assert not video.annotation(0).annotated


@pytest.mark.parametrize(
    "files, message",
    [
        pytest.param((), r"has no pairs of image and mask, .*; it is empty", id="empty"),
        pytest.param(("x.jpg",), r"has no pairs of image and mask, .*; it has x.jpg", id="no mask"),
        pytest.param(("x.jpg", "x.png"), r"x.png is not a PNG picture", id="damaged mask"),
    ],
)
def test_bad_input_is_refused_in_one_line_that_names_the_file(tmp_path, files, message):
    for name in files:
        write(tmp_path / name, "")
    with pytest.raises(InputError, match=message) as refusal:
        read_saliency(tmp_path, "all").videos[0].annotation(0)
    assert "\n" not in str(refusal.value)
