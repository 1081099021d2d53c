"""What stands out: a function, or a network of the library."""

import numpy as np
import pytest
import torch

from maskstream.segmenters.saliency import SoftSegmenter, load_saliency
from maskstream.types import BoxPrompt, Frame, InputError

from .tiny_models import save_sam, save_segformer


@pytest.fixture(scope="module")
def picture():
    return Frame(0, 0.0, np.random.default_rng(0).integers(0, 256, (48, 80, 3), np.uint8))


def test_a_function_of_a_picture_is_a_segmenter(picture):
    segmenter = SoftSegmenter(lambda image: image[..., 0] / 255)
    (features,) = segmenter.encode([picture])
    found = segmenter.segment(features)
    np.testing.assert_allclose(found.masks_nhw[0], picture.image[..., 0] / 255, rtol=1e-6)
    assert found.masks_nhw.dtype == torch.float32
    assert found.scores == (float(found.masks_nhw.max()),) and found.categories == found.is_thing == (None,)


def test_where_nothing_stands_out_nothing_is_proposed(picture):
    (features,) = (segmenter := SoftSegmenter(lambda image: np.full((3, 4), 0.5))).encode([picture])
    assert len(segmenter.segment(features)) == 0


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        pytest.param(np.zeros((4, 5, 3)), r"float64\[4, 5, 3\]", id="three axes"),
        pytest.param(np.zeros((4, 5), np.uint8), r"uint8\[4, 5\]", id="bytes"),
        pytest.param(np.zeros((0, 5)), r"float64\[0, 5\]", id="empty"),
        pytest.param(np.full((4, 5), 255.0), "255 to 255", id="up to 255"),
        pytest.param(np.full((4, 5), -0.1), "-0.1 to -0.1", id="negative"),
        pytest.param(np.full((4, 5), np.nan), "nan to nan", id="not a number"),
    ],
)
def test_what_is_no_soft_mask_is_an_error(picture, mask, says):
    with pytest.raises(InputError, match=says):
        SoftSegmenter(lambda image: mask).encode([picture])


def test_a_network_with_one_class_is_a_function(picture, tmp_path):
    network = save_segformer(tmp_path, classes=1)
    segmenter = load_saliency(str(tmp_path), min_score=0.0)
    (features,) = segmenter.encode([picture])
    found = segmenter.segment(features)
    pixels = torch.nn.functional.interpolate(
        torch.from_numpy(picture.image).permute(2, 0, 1)[None], (64, 64), mode="bilinear", antialias=True
    )
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])
    with torch.no_grad():
        logits = network((pixels / 255 - mean[:, None, None]) / std[:, None, None]).logits
    torch.testing.assert_close(found.masks_nhw, logits[0].sigmoid(), atol=1e-5, rtol=1e-5)
    assert found.masks_nhw.std() > 0.01


def test_what_was_padded_is_cut_off(picture, tmp_path):
    network = save_segformer(tmp_path, classes=1)
    name = tmp_path / "preprocessor_config.json"
    name.write_text(
        name.read_text()
        .replace('"height": 64, "width": 64', '"longest_edge": 64')
        .replace('"size"', '"pad_size": {"height": 64, "width": 64}, "size"')
    )
    segmenter = load_saliency(str(tmp_path), min_score=0.0)
    (features,) = segmenter.encode([picture])
    assert features.mask_hw.shape == (10, 16)  # 38.4 of 64 rows, at a quarter
    assert network.config.num_labels == 1


def test_prompts_are_an_error(picture):
    (features,) = (segmenter := SoftSegmenter(lambda image: image[..., 0] / 255)).encode([picture])
    with pytest.raises(InputError, match="takes no boxes"):
        segmenter.segment(features, [BoxPrompt(0, 1, (1, 1, 9, 9))])


def test_a_network_of_another_kind_is_named(tmp_path):
    save_segformer(tmp_path, classes=3)
    with pytest.raises(InputError, match="tells 3 classes apart"):
        load_saliency(str(tmp_path))
    other = tmp_path / "other"
    other.mkdir()
    save_sam(other)
    with pytest.raises(InputError, match=r"kind sam, not one .* SoftSegmenter") as raised:
        load_saliency(str(other))
    assert "\n" not in str(raised.value)
