"""The real command, run in a process of its own on real encoded video."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from maskstream.cli import app
from maskstream.formats import write_label_png
from maskstream.synthetic import render_sample
from maskstream.types import MaskstreamError
from maskstream.video import VideoWriter

SIZE = (96, 128)

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def run() -> Run:
    """Run ``maskstream`` with these words; fails the test on a traceback, whatever the outcome."""

    def run_command(*words: object, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "maskstream", *map(str, words)]
        done: subprocess.CompletedProcess[str] = subprocess.run(
            command, capture_output=True, text=True, timeout=300, check=False, **options
        )  # type: ignore[call-overload]
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run_command


@pytest.fixture(scope="session")
def call() -> Run:
    """As ``run``, but in this process: much faster, for commands that start no other and are not killed."""

    def call_command(*words: object) -> subprocess.CompletedProcess[str]:
        command = [str(word) for word in words]
        done = CliRunner().invoke(app, command)
        code, message = done.exit_code, done.stderr
        if isinstance(done.exception, MaskstreamError):
            message += f"error: {done.exception}\n"
        elif done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return subprocess.CompletedProcess(command, code, done.stdout, message)

    return call_command


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty frames, 96×128, and the true masks of the first frame beside it as ``first.png``."""
    folder = tmp_path_factory.mktemp("clip")
    return write_clip(folder / "clip.mp4", frames=30)


def write_clip(path: Path, *, frames: int) -> Path:
    with VideoWriter(path, size_hw=SIZE) as writer:
        for frame, truth in render_sample(frames=frames, size_hw=SIZE, objects=2):
            writer.write(frame.image, frame.timestamp)
            if frame.index == 0:
                write_label_png(path.with_name("first.png"), truth.segmentation.panoptic_map().numpy())
    return path


def journal_lines(output: Path) -> list[dict[str, object]]:
    """The frames of a run, without the header."""
    return [json.loads(line) for line in (output / "segments.jsonl").read_text().splitlines()[1:]]


def all_files(output: Path) -> dict[str, bytes]:
    """Every file of a folder and its bytes."""
    return {str(p.relative_to(output)): p.read_bytes() for p in sorted(output.rglob("*")) if p.is_file()}


def blank_mask(path: Path, size_hw: tuple[int, int], *, box: tuple[int, int, int, int] | None = None) -> Path:
    """A label PNG with one object in a box, or none."""
    labels = np.zeros(size_hw, dtype=np.int32)
    if box is not None:
        labels[box[1] : box[3], box[0] : box[2]] = 1
    write_label_png(path, labels)
    return path
