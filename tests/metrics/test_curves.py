import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskstream.metrics.curves import davis_statistics, decay, make_curve, mean, recall, without_ends
from maskstream.types import InputError

_values = st.lists(st.floats(0, 1), min_size=1, max_size=40)


def _literal_decay(values) -> float:
    last = len(values)
    # Python rounds halves to even, as NumPy does.
    edges = [round(1 + (last - 1) * n / 4 + 1e-10) - 1 for n in range(5)]
    first, fourth = (values[edges[n] : edges[n + 1] + 1] for n in (0, 3))
    return float(sum(first) / len(first) - sum(fourth) / len(fourth))


@settings(deadline=None)
@given(_values)
def test_statistics_equal_their_definitions(values):
    row = davis_statistics(make_curve(range(len(values)), values, values[::-1]))
    assert row["J-Mean"] == pytest.approx(sum(values) / len(values), abs=1e-12)
    assert row["J-Recall"] == pytest.approx(sum(value > 0.5 for value in values) / len(values), abs=1e-12)
    assert row["J-Decay"] == pytest.approx(_literal_decay(values), abs=1e-12)
    assert row["F-Decay"] == pytest.approx(_literal_decay(values[::-1]), abs=1e-12)


def test_a_value_of_one_half_is_not_recalled():
    assert recall(np.array([0.5, 0.5, 0.75, 0.25])) == 0.25


@pytest.mark.parametrize("frames", [256, 257, 300, 1000])
def test_decay_of_long_sequences_is_right_unless_the_official_overflow_is_asked_for(frames):
    values = np.linspace(1, 0, frames)
    assert decay(values) == pytest.approx(_literal_decay(values.tolist()), abs=1e-12)
    assert decay(values) == pytest.approx(0.75, abs=0.01)
    official = decay(values, davis_uint8_decay=True)
    if frames <= 256:
        assert official == decay(values)
    else:
        assert math.isnan(official) or abs(official - decay(values)) > 0.01


def test_the_mean_of_nothing_is_undefined():
    assert math.isnan(mean([]))
    assert math.isnan(recall(np.zeros(0)))
    assert math.isnan(decay(np.zeros(0)))


def test_a_sequence_needs_three_frames_to_lose_its_ends():
    assert without_ends("swan", 3) == slice(1, 2)
    with pytest.raises(InputError, match=r"swan: a sequence of 2 annotated frames"):
        without_ends("swan", 2)
