import pytest

from maskstream.metrics import paired_names
from maskstream.types import InputError

TRUTH = {"b": 2, "a": 1, "c": 3}


def test_pairs_are_by_name_and_in_order():
    assert list(paired_names(TRUTH, {"c": 30, "a": 10, "b": 20})) == [("a", 1, 10), ("b", 2, 20), ("c", 3, 30)]


@pytest.mark.parametrize(
    "predicted, options, message",
    [
        pytest.param({"b": 0}, {}, r"no prediction for the video a \(and 1 more\): add it, or allow", id="missing"),
        pytest.param({}, {}, r"no prediction for the video a \(and 2 more\)", id="no prediction at all"),
        pytest.param(
            {"a": 0, "c": 0}, {"what": "frame", "where": "bear"}, "bear: no prediction for the frame b: add", id="where"
        ),
        pytest.param(
            {**TRUTH, "z": 0}, {"where": "results"}, "results: the ground truth has no video z: remove it", id="extra"
        ),
        pytest.param({**TRUTH, "z": 0}, {"allow_missing": True}, "the ground truth has no video z", id="still extra"),
    ],
)
def test_names_that_do_not_match_are_refused(predicted, options, message):
    with pytest.raises(InputError, match=f"^{message}"):
        paired_names(TRUTH, predicted, **options)


def test_what_is_missing_or_extra_may_be_allowed():
    pairs = paired_names(TRUTH, {"b": 20, "z": 0}, allow_missing=True, allow_extra=True)
    assert list(pairs) == [("a", 1, None), ("b", 2, 20), ("c", 3, None)]
