"""Worker processes: what they leave, and what is lost when one is killed."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from maskstream.engine.backend import Job, Outcome
from maskstream.engine.batch import BatchFolder, jobs_of, request_of, run_batch
from maskstream.engine.batch_work import BatchWork
from maskstream.engine.local import LocalBackend, Progress
from maskstream.engine.sources import find_videos
from maskstream.types import InputError

from .batch_parts import QUICK, InProcess, all_files, write_clips

LONG = 130
"""Frames of a video during which a worker is killed: more than lie between two points to continue from."""


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, ["a.mp4", "b.mp4"])
    write_clips(folder, ["long.mp4"], frames=LONG)
    return folder


@pytest.fixture(scope="module")
def expected(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one process makes of the clips."""
    output = tmp_path_factory.mktemp("expected") / "out"
    run(clips, output, InProcess())
    return all_files(output / "videos")


def run(clips: Path, output: Path, backend: LocalBackend | InProcess) -> list[Outcome]:
    work = BatchWork(QUICK, {}, output.absolute())
    folder = BatchFolder(output, request_of(work, [str(clips)]))
    outcomes: list[Outcome] = []
    jobs = jobs_of(find_videos([str(clips)]), folder)
    assert run_batch(work, jobs, folder, backend, on_outcome=outcomes.append).failed == {}
    return outcomes


def kill_once(when: Callable[[Progress], bool]) -> Callable[[Progress], None]:
    """Kill the worker that reports this, the first time."""
    killed: list[int] = []

    def look(progress: Progress) -> None:
        if not killed and when(progress):
            (process,) = (p for p in multiprocessing.active_children() if p.name == f"maskstream-{progress.worker}")
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            killed.append(process.pid)

    return look


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_one_video_which_is_tried_again(clips, expected, tmp_path):
    look = kill_once(lambda progress: progress.video == "long" and progress.frames > 100)
    outcomes = run(clips, tmp_path / "out", LocalBackend(2, threads=1, on_progress=look))
    lost = [outcome for outcome in outcomes if outcome.reason is not None]
    assert [(outcome.name, outcome.reason) for outcome in lost] == [("long", "its worker was killed (SIGKILL)")]
    assert sorted(outcome.name for outcome in outcomes if outcome.reason is None) == ["a", "b", "long"]
    assert all_files(tmp_path / "out" / "videos") == expected
    assert multiprocessing.active_children() == []


def test_a_model_that_cannot_be_loaded_stops_everything(clips, tmp_path):
    (tmp_path / "out").mkdir()
    work = BatchWork(replace(QUICK, how={**QUICK.how, "propagator": "magic"}), {}, tmp_path / "out")
    with pytest.raises(InputError, match="'magic'"):
        list(LocalBackend(1, threads=1).run(work, [Job("a", str(clips / "a.mp4"))]))
    assert multiprocessing.active_children() == []


def test_who_stops_listening_stops_the_workers(clips, tmp_path):
    """As Ctrl-C does."""
    for name in ("videos", ".unfinished"):
        (tmp_path / "out" / name).mkdir(parents=True)
    work = BatchWork(QUICK, {}, tmp_path / "out")
    outcomes = LocalBackend(1, threads=1).run(
        work, [Job("a", str(clips / "a.mp4")), Job("long", str(clips / "long.mp4"))]
    )
    assert next(outcomes).name == "a"
    began = time.monotonic()
    outcomes.close()  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []
    assert time.monotonic() - began < 5
    assert [path.name for path in work.videos.iterdir()] == ["a"]


def test_threads_are_divided():
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    assert LocalBackend(cores, threads=None).threads == 1
    with pytest.raises(InputError, match="0 workers"):
        LocalBackend(0)
