import numpy as np
import pytest

from maskstream.datasets.refcoco import read_refcoco
from maskstream.datasets.referring import read_mevis, read_ref_davis, read_ref_ytvos
from maskstream.evaluation.protocol import Options
from maskstream.evaluation.referring import (
    PROTOCOLS,
    MevisProtocol,
    RefCocoProtocol,
    RefDavisProtocol,
    RefYoutubeVosProtocol,
)
from maskstream.types import InputError, Task

from ..datasets import trees_referring as trees
from ..metrics.fixtures_vos import flatten, golden, needs_fixtures, root

OPENED = {
    "ref-davis": lambda folder: RefDavisProtocol(
        read_ref_davis(trees.ref_davis(folder), "val"), Task.REFVOS, Options()
    ),
    "ref-ytvos": lambda folder: RefYoutubeVosProtocol(
        read_ref_ytvos(trees.ref_ytvos(folder), "train"), Task.REFVOS, Options()
    ),
    "mevis": lambda folder: MevisProtocol(read_mevis(trees.mevis(folder), "valid_u"), Task.REFVOS, Options()),
    "refcoco": lambda folder: RefCocoProtocol(read_refcoco(trees.refcoco(folder), "val"), Task.REFVOS, Options()),
    "refcoco, flat": lambda folder: RefCocoProtocol(
        read_refcoco(trees.refcoco_flat(folder), "val"), Task.REFVOS, Options()
    ),
}
"""A protocol over a miniature tree."""


def report(protocol, path):
    """The report of all videos against a folder of results."""
    metrics, results = protocol.metrics(), protocol.read_results(path)
    for video in protocol.dataset.videos:
        protocol.score(video, results, metrics)
    (metric,) = metrics.values()
    assert protocol.headline[1] in metric.result().values
    return metric.result()


@pytest.fixture(params=OPENED)
def protocol(request, tmp_path):
    (tmp_path / "truth").mkdir()
    return OPENED[request.param](tmp_path / "truth")


def write_truth(protocol, path):
    protocol.write_results(path, map(protocol.answers, protocol.dataset.videos))


def test_every_data_set_has_its_protocol():
    assert {name for name, task in PROTOCOLS if task is Task.REFVOS} == {"ref-davis", "ref-ytvos", "mevis", "refcoco"}


def test_truth_handed_in_as_results_scores_perfectly(protocol, tmp_path):
    write_truth(protocol, tmp_path / "results")
    values = {
        name: value for name, value in report(protocol, tmp_path / "results").values.items() if "Decay" not in name
    }
    assert values == dict.fromkeys(values, 1.0)


def test_wrong_answers_cost(protocol, tmp_path):
    write_truth(protocol, tmp_path / "results")
    for path in sorted((tmp_path / "results").rglob("*.png"))[::2]:
        trees.picture(path, np.zeros(trees.SIZE))
    values = report(protocol, tmp_path / "results").values
    assert 0 < values[protocol.headline[1]] < 1


def test_results_of_an_unknown_video_or_expression_are_refused(protocol, tmp_path):
    write_truth(protocol, tmp_path / "results")
    path = next((tmp_path / "results").rglob("*.png"))
    trees.picture(path.parents[1] / "9999" / "00000.png", np.zeros(trees.SIZE))
    with pytest.raises(InputError, match=r"results: the ground truth has no .*/9999: remove it") as refusal:
        protocol.read_results(tmp_path / "results")
    assert "\n" not in str(refusal.value)


def test_a_missing_frame_is_refused_unless_it_may_be_missing(tmp_path):
    protocol = OPENED["ref-ytvos"](tmp_path / "truth")
    write_truth(protocol, tmp_path / "results")
    (tmp_path / "results" / "Annotations" / "b2" / "1" / "00005.png").unlink()
    with pytest.raises(InputError, match="b2/1, frame 1: there is no prediction"):
        report(protocol, tmp_path / "results")
    protocol.options = Options(allow_missing=True)
    scored = report(protocol, tmp_path / "results")
    assert scored.values["J"] == pytest.approx(11 / 12)
    assert scored.notes == ("1 frames of 1 videos had no prediction and count as empty, first b2/1",)


def test_an_expression_of_mevis_without_any_result_scores_0(tmp_path):
    protocol = OPENED["mevis"](tmp_path / "truth")
    write_truth(protocol, tmp_path / "results")
    for path in (tmp_path / "results" / "m2").rglob("*.png"):
        path.unlink()
    assert report(protocol, tmp_path / "results").values["J"] == pytest.approx(2 / 3)


def test_expressions_of_mevis_are_scored_on_the_union_of_their_targets(tmp_path):
    protocol = OPENED["mevis"](tmp_path / "truth")
    masks = trees.mevis_masks()
    for video, numbers in protocol.dataset.numbers.items():
        for number in numbers:
            for index in range(3):
                answer = masks[4][index] if video == "m2" else masks[3][index]
                trees.picture(tmp_path / "results" / video / number / f"{index:05d}.png", answer * 255, mode="L")
    rows = report(protocol, tmp_path / "results").per_video
    for number, target in (("0", masks[3] | masks[11]), ("1", masks[11])):
        expected = [(masks[3][t] & target[t]).sum() / (masks[3][t] | target[t]).sum() for t in range(3)]
        assert rows[f"m1/{number}"]["J"] == pytest.approx(np.mean(expected))
    assert rows["m2/0"]["J"] == 1


@pytest.mark.parametrize(
    "protocol_class, read, tree, split, message",
    [
        pytest.param(
            RefYoutubeVosProtocol, read_ref_ytvos, trees.ref_ytvos, "valid", "202 validation videos", id="ref-ytvos"
        ),
        pytest.param(MevisProtocol, read_mevis, trees.mevis, "valid", "140 videos with 2,236 expressions", id="mevis"),
    ],
)
def test_hidden_labels_are_refused_with_the_reason_but_results_are_written(
    tmp_path, protocol_class, read, tree, split, message
):
    protocol = protocol_class(read(tree(tmp_path / "truth"), split), Task.REFVOS, Options())
    with pytest.raises(InputError, match=f"validation are not public: {message}|valid are not public: {message}"):
        protocol.metrics()
    assert protocol.sequences(protocol.dataset.videos[0])


def test_an_expression_of_which_nobody_says_whom_it_means_is_refused(tmp_path):
    trees.mevis(tmp_path / "truth")
    meta = tmp_path / "truth" / "valid_u" / "meta_expressions.json"
    meta.write_text(meta.read_text().replace('"anno_id": [4]', '"anno_id": []'))
    protocol = MevisProtocol(read_mevis(tmp_path / "truth", "valid_u"), Task.REFVOS, Options())
    with pytest.raises(InputError, match="m2: the data set does not say whom expression 0 means"):
        protocol.truth(protocol.dataset.videos[1], "m2/0", 0)


# Golden values of the official programs.


def assert_golden(folder, nested):
    measured = flatten(nested)
    assert golden(folder)
    for path, expected in golden(folder).items():
        assert measured[path] == pytest.approx(expected, rel=0, abs=1e-9), path


@needs_fixtures
def test_the_fixture_of_ref_davis_has_its_golden_values():
    folder = root() / "ref_davis"
    scored = report(RefDavisProtocol(read_ref_davis(folder, "val"), Task.REFVOS, Options()), folder / "results")
    runs = {f"anno_{a}": scored.per_video[f"anno_{a}"] for a in range(4)}
    assert_golden("ref_davis", {"annotators": runs, "mean": scored.values})


@needs_fixtures
def test_the_fixture_of_mevis_has_its_golden_values():
    folder = root() / "mevis"
    scored = report(MevisProtocol(read_mevis(folder, "valid_u"), Task.REFVOS, Options()), folder / "results")
    rows = {name.replace("/", "_"): {"J": row["J"], "F": row["F"]} for name, row in scored.per_video.items()}
    assert_golden("mevis", {"global": scored.values, "per_expression": rows})
