"""``maskstream synth`` as a command: the same bytes every time, and errors in one line."""

import json
from pathlib import Path

import pytest

from .conftest import Run, all_files

SMALL = ("--videos", 2, "--frames", 3, "--size", "32x56", "--seed", 4)


def test_the_same_seed_gives_the_same_bytes(run: Run, tmp_path: Path) -> None:
    for name in ("a", "b"):
        done = run("synth", tmp_path / name, "--task", "vps", "--level", "hard", *SMALL)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"done: {tmp_path / name}, data set for vps: 2 videos of 3 frames\n"
    files = all_files(tmp_path / "a")
    assert files == all_files(tmp_path / "b")
    assert sum(name.endswith(".jpg") for name in files) == 6
    assert (tmp_path / "a" / "val.txt").read_text() == "hard-4-0000\nhard-4-0001\n"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a", "b"]


def test_results_hold_no_pictures_and_answer_every_expression(run: Run, tmp_path: Path) -> None:
    run("synth", tmp_path / "truth", "--task", "refvos", "--quiet", *SMALL)
    done = run("synth", tmp_path / "results", "--task", "refvos", "--as-predictions", "--quiet", *SMALL)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    listing = tmp_path / "truth" / "meta_expressions" / "valid" / "meta_expressions.json"
    videos = json.loads(listing.read_text())["videos"]
    answers = set(all_files(tmp_path / "results"))
    assert answers == {
        f"Annotations/{video}/{expression}/{frame}.png"
        for video, one in videos.items()
        for expression in one["expressions"]
        for frame in one["frames"]
    }
    assert answers


@pytest.mark.parametrize(
    "options, message",
    [
        pytest.param((), "say either --task, or the --name of a frozen set", id="nothing asked for"),
        pytest.param(("--name", "synthetic-vos:v1"), "names no synthetic data set", id="name"),
        pytest.param(("--task", "cooking"), "unknown task 'cooking'; known: vss, vis", id="task"),
        pytest.param(
            ("--task", "vos", "--level", "brutal"), "there is no level 'brutal': choose one of easy", id="level"
        ),
        pytest.param(("--task", "vos", "--size", "big"), "--size is height x width in pixels, such as", id="size"),
        pytest.param(("--task", "vos", "--textures", "no.npz"), "no.npz", id="texture pack"),
        pytest.param(("--task", "vos"), "exists: remove it, or name another folder", id="folder"),
    ],
)
def test_an_error_is_one_line_and_leaves_everything_as_it_was(run: Run, tmp_path: Path, options, message) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    done = run("synth", tmp_path, *options, *SMALL[:4], "--quiet")
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.txt"]
