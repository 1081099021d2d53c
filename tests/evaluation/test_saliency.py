import numpy as np
import pytest

from maskstream.datasets.saliency import read_saliency
from maskstream.evaluation.protocol import Options
from maskstream.evaluation.saliency import SaliencyProtocol
from maskstream.types import InputError, Task

from ..datasets.trees_referring import SIZE, picture, write

LEFT = np.arange(SIZE[1])[None].repeat(SIZE[0], 0) < 10


@pytest.fixture
def protocol(tmp_path):
    """Two pairs, and one whose mask is empty."""
    for name, mask in (("cat/1", LEFT), ("cat/2", ~LEFT), ("dog/1", LEFT & False)):
        picture(tmp_path / "truth" / f"{name}.png", mask * 255, mode="L")
        write(tmp_path / "truth" / f"{name}.jpg", "")
    return SaliencyProtocol(read_saliency(tmp_path / "truth", "all"), Task.UVOS, Options())


def report(protocol, path):
    metrics, results = protocol.metrics(), protocol.read_results(path)
    for video in protocol.dataset.videos:
        protocol.score(video, results, metrics)
    return metrics["foreground"].result()


def test_truth_handed_in_as_results_scores_perfectly(protocol, tmp_path):
    protocol.write_results(tmp_path / "results", protocol.dataset.videos)
    assert report(protocol, tmp_path / "results").values == {"J": 1.0}


def test_soft_results_are_cut_at_one_half_and_unlabelled_images_do_not_count(protocol, tmp_path):
    soft = np.where(LEFT, 128, 127)
    soft[:, :5] = 127
    for name in ("cat/1", "cat/2"):
        picture(tmp_path / "results" / f"{name}.png", soft, mode="L")
    scored = report(protocol, tmp_path / "results")
    assert scored.values["J"] == pytest.approx((5 / 10 + 0) / 2)


def test_results_of_unknown_images_are_refused_and_missing_ones_too(protocol, tmp_path):
    picture(tmp_path / "results" / "cat" / "1.png", LEFT)
    with pytest.raises(InputError, match="cat/2, frame 0: there is no prediction"):
        report(protocol, tmp_path / "results")
    picture(tmp_path / "results" / "3.png", LEFT)
    with pytest.raises(InputError, match="results: the ground truth has no image 3: remove it"):
        protocol.read_results(tmp_path / "results")
