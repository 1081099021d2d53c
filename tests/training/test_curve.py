"""Curves grow by rows, and lose those of work that was lost."""

import numpy as np
import pytest

from maskstream.training.curve import Curve, Record, read_curve
from maskstream.training.report import smoothed, write_report
from maskstream.types import InputError
from tests.training.toy import toy_recipe


def write(path, numbers, *, after=0):
    curve = Curve(path, after=after)
    for number in numbers:
        curve.add(number, {"loss": number / 3, "lr": 1e-5})
    curve.close()


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "curve.csv"
    write(path, [1, 2])
    assert path.read_text() == "iteration,loss,lr\n1,0.333333333,1e-05\n2,0.666666667,1e-05\n"
    assert read_curve(path) == {"iteration": [1, 2], "loss": [0.333333333, 0.666666667], "lr": [1e-5, 1e-5]}


def test_nine_digits_tell_every_float32_from_its_neighbours(tmp_path):
    values = np.random.default_rng(0).normal(size=300).astype(np.float32)
    curve = Curve(tmp_path / "curve.csv", after=0)
    for number, value in enumerate(values):
        curve.add(number, {"loss": float(value)})
    curve.close()
    assert np.array_equal(np.array(read_curve(tmp_path / "curve.csv")["loss"], np.float32), values)


@pytest.mark.parametrize("left", ["", "6", "6,0.1", "6,0.1,1e-"], ids=["whole", "no comma", "a column short", "cut"])
def test_a_run_that_continues_cuts_the_curve_back(tmp_path, left):
    path = tmp_path / "curve.csv"
    write(path, [1, 2, 3, 4, 5])
    path.write_text(path.read_text() + left)
    write(path, [4, 5, 6], after=3)
    assert read_curve(path)["iteration"] == [1, 2, 3, 4, 5, 6]


def test_a_row_that_is_damaged_in_the_middle_is_told(tmp_path):
    path = tmp_path / "curve.csv"
    write(path, [1, 2, 3])
    path.write_text(path.read_text().replace("2,", "2;"))
    with pytest.raises(InputError, match="is damaged: remove it"):
        read_curve(path)


def test_a_run_that_continues_without_its_curve_begins_another(tmp_path):
    write(tmp_path / "curve.csv", [8, 9], after=7)
    assert read_curve(tmp_path / "curve.csv")["iteration"] == [8, 9]


def test_rows_of_other_columns_are_refused(tmp_path):
    curve = Curve(tmp_path / "curve.csv", after=0)
    curve.add(1, {"loss": 1.0})
    with pytest.raises(ValueError, match="ce"):
        curve.add(2, {"ce": 1.0})
    curve.close()


def test_a_file_that_is_no_curve_is_not_touched(tmp_path):
    path = tmp_path / "curve.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="is no curve"):
        Curve(path, after=0)
    assert path.read_text() == "a,b\n1,2\n"


def test_smoothing_takes_means_of_stretches():
    assert smoothed([1, 3, 5, 7], 2).tolist() == [2, 6]
    assert smoothed([1, 2], 5).tolist() == [1, 2]


def record(folder, after=0, *, board=False):
    with Record(folder, after, board=board) as kept:
        for number in range(after + 1, after + 4):
            kept.add(number, {"loss": float("inf") if number == 2 else 1 / number, "seconds": 0.1})
        kept.add_validation(after + 3, {"j_and_f": 0.5}, np.full((8, 16, 3), 90, np.uint8))


def test_the_report_shows_curves_the_last_picture_and_the_recipe(tmp_path):
    folder = tmp_path / "my run"
    folder.mkdir()
    record(folder)
    record(folder, after=3)
    write_report(folder, toy_recipe())
    page = (folder / "report.html").read_text()
    assert page.count("<polyline") == 2
    assert "j_and_f 50.0" in page
    assert "iteration 6 of 12" in page
    assert "at iteration 6" in page
    assert page.count("data:image") == 1
    assert "data.sources.synthetic.level" in page


def test_the_report_of_a_run_without_validation_is_written_all_the_same(tmp_path):
    write(tmp_path / "curve.csv", [1])
    write_report(tmp_path, toy_recipe())
    assert "<polyline" in (tmp_path / "report.html").read_text()


def test_tensorboard_gets_the_same_numbers(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    record(tmp_path, board=True)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3]
    assert events.Scalars("validation/j_and_f")[0].value == 0.5
