"""``maskstream batch`` from end to end."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from maskstream.synthetic import render_sample
from maskstream.video import VideoWriter
from tests.engine.batch_parts import SIZE as SIZE_HW
from tests.engine.batch_parts import all_files, write_clips

from .conftest import Run
from .processes import started

QUICK = ("--size", 64, "--propagator", "flow")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos, and one that is none."""
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, ["a.mp4", "b.mp4", "deep/c.mp4"])
    (folder / "text.mp4").write_bytes(b"this is not a video\n" * 20)
    return folder


@pytest.fixture(scope="module")
def finished(run: Run, clips: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """Two workers did all that can be done: the folder, and what was said."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "prompts.json").write_text(json.dumps({"a": {"box": ["0:1:5,5,60,50"]}}))
    done = run("batch", clips, "-o", folder / "out", "--workers", 2, *QUICK, "--prompts", folder / "prompts.json")
    assert done.returncode == 1
    return folder / "out", done.stdout, done.stderr


def test_broken_videos_are_named_and_all_others_are_done(finished):
    output, said, complained = finished
    assert "done: 3 of 4 videos" in said
    assert "text.mp4 cannot be opened as a video" in complained
    assert "1 of 4 videos could not be done" in complained
    with (output / "failed.csv").open() as file:
        assert [row["video"] for row in csv.DictReader(file)] == ["text"]


def test_progress_is_plain_lines_when_not_on_a_terminal(finished):
    assert "\x1b" not in finished[2]
    assert "failed: text: " in finished[2]


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_every_video_gets_what_segment_writes_for_it(call, finished, clips, tmp_path, name):
    (path,) = clips.rglob(f"{name}.mp4")
    words = ["--box", "0:1:5,5,60,50"] if name == "a" else []
    assert call("segment", path, "-o", tmp_path / "out", *QUICK, *words, "--quiet").returncode == 0
    assert all_files(finished[0] / "videos" / name) == all_files(tmp_path / "out")


def test_a_dry_run_estimates_and_writes_nothing(call, clips, tmp_path):
    done = call("batch", clips, "-o", tmp_path / "out", *QUICK, "--dry-run", "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert "4 videos to do, about 27 frames" in done.stdout
    assert "cannot be read: text" in done.stdout
    assert "2 workers" in done.stdout
    assert not (tmp_path / "out").exists()
    told = json.loads(call("batch", clips, "-o", tmp_path / "out", *QUICK, "--dry-run", "--json").stdout)
    assert told["videos"] == 4
    assert told["frames"] == 27
    assert told["unreadable"] == ["text"]
    assert told["bytes"] > 1000
    assert told["seconds"] > 0


def fails(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 1, (done.returncode, done.stderr)
    assert all(word in done.stderr for word in words), done.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(["--engine", "steam"], ["local or ray", "'steam'"], id="an unknown engine"),
        pytest.param(["--task", "fly"], ["'fly'"], id="an unknown task"),
        pytest.param(["--schedule", "never"], ["'never'"], id="an unknown schedule"),
        pytest.param(["--linking", "query"], ["--linking is for the model tubelink"], id="an option of another model"),
        pytest.param(["--prompts", "nowhere.json"], ["nowhere.json"], id="no such prompts"),
        pytest.param(["--split", "twice"], ["cuts, seconds as in 60s", "'twice'"], id="an unknown way to cut"),
        pytest.param(["--split", "cuts", "--both"], ["leave out --split"], id="both ways in pieces"),
    ],
)
def test_a_wrong_word_is_answered_with_one_clear_line(call, clips, tmp_path, words, expected):
    fails(call("batch", clips, "-o", tmp_path / "out", *words), *expected)
    assert not (tmp_path / "out").exists()


def test_a_folder_without_videos_is_named(call, tmp_path):
    (tmp_path / "empty").mkdir()
    fails(call("batch", tmp_path / "empty", "-o", tmp_path / "out"), "empty", "no video")


def test_another_command_into_the_folder_is_refused(call, finished, clips):
    output, _, _ = finished
    fails(call("batch", clips, "-o", output, "--size", 96), "belongs to another run", "--overwrite")
    fails(call("segment", clips / "a.mp4", "-o", output), "belongs to another run")


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_finished_and_the_same_command_does_the_rest(run, call, clips, tmp_path):
    many = tmp_path / "clips"
    write_clips(many, [f"v{n}.mp4" for n in range(8)], frames=20)
    words = [str(word) for word in ("batch", many, "-o", tmp_path / "out", "--workers", 1, *QUICK)]
    process = started([sys.executable, "-m", "maskstream", *words])
    waited = time.monotonic()
    journal = tmp_path / "out" / "journal.jsonl"
    while not (journal.exists() and '"finished"' in journal.read_text()) and process.poll() is None:
        assert time.monotonic() - waited < 200
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, complained = process.communicate(timeout=60)
    assert process.returncode == 130, complained
    assert "Traceback" not in complained
    assert "same command again continues" in complained
    noted = journal.read_text().count('"finished"')
    assert 0 < noted < 8
    done = run(*words, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["videos"], told["earlier"], told["failed"]) == (8, noted, {})
    assert call("segment", many / "v5.mp4", "-o", tmp_path / "alone", *QUICK, "--quiet").returncode == 0
    assert all_files(tmp_path / "out" / "videos" / "v5") == all_files(tmp_path / "alone")


@pytest.mark.slow
def test_kill_9_of_the_command_ends_its_workers_and_the_same_command_does_the_rest(run, clips, tmp_path):
    psutil = pytest.importorskip("psutil")
    many = tmp_path / "clips"
    write_clips(many, [f"v{n}.mp4" for n in range(4)], frames=30)
    words = [str(word) for word in ("batch", many, "-o", tmp_path / "out", "--workers", 2, *QUICK)]
    process = subprocess.Popen([sys.executable, "-m", "maskstream", *words], stderr=subprocess.DEVNULL)
    waited = time.monotonic()
    while not list((tmp_path / "out" / "videos").glob("v*")):
        assert process.poll() is None
        assert time.monotonic() - waited < 200
        time.sleep(0.01)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    gone, alive = psutil.wait_procs(workers, timeout=10)
    assert gone
    assert not alive
    done = run(*words, "--json")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "out" / "videos").iterdir()) == ["v0", "v1", "v2", "v3"]
    assert not (tmp_path / "out" / ".unfinished").exists()


@pytest.mark.slow
def test_a_film_in_pieces_goes_on_after_kill_9_in_the_middle_of_one(run, tmp_path):
    films = tmp_path / "films"
    films.mkdir()
    with VideoWriter(films / "film.mp4", size_hw=SIZE_HW) as writer:
        for seed in (0, 3):
            for frame, _ in render_sample(frames=120, size_hw=SIZE_HW, objects=2, seed=seed):
                writer.write(frame.image, frame.timestamp + 5 * (seed > 0))
    words = ["batch", films, "--split", "cuts", "--workers", 2, *QUICK]
    whole = run(*words, "-o", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    command = [sys.executable, "-m", "maskstream", *map(str, words), "-o", str(tmp_path / "cut")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    waited = time.monotonic()
    while not list((tmp_path / "cut" / ".unfinished").glob("film#*/.progress/state.pt")):
        assert process.poll() is None
        assert time.monotonic() - waited < 200
        time.sleep(0.01)
    process.kill()
    process.wait()
    done = run(*words, "-o", tmp_path / "cut", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["frames"] == 240
    assert all_files(tmp_path / "cut" / "videos") == all_files(tmp_path / "whole" / "videos")
    assert not (tmp_path / "cut" / ".pieces").exists()
