"""Small videos, and a way to do them in this process."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from maskstream.engine.backend import Job, Outcome, Work
from maskstream.engine.segment import SegmentOptions
from maskstream.synthetic import render_sample
from maskstream.video import VideoWriter

SIZE = (64, 96)
QUICK = SegmentOptions("deva", {"segmenter": "motion", "propagator": "flow", "size": 64})


def write_clips(folder: Path, names: Sequence[str], *, frames: int = 9) -> list[Path]:
    """Different stretches of the sample, under these names."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = [frame for frame, _ in render_sample(frames=frames + 2 * len(names), size_hw=SIZE, objects=2)]
    paths = [folder / name for name in names]
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        with VideoWriter(path, size_hw=SIZE) as writer:
            for n, frame in enumerate(shown[2 * number : 2 * number + frames]):
                writer.write(frame.image, n / 24)
    return paths


def all_files(folder: Path) -> dict[str, bytes]:
    """Every file of a folder and its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


class InProcess:
    """A backend without processes, in which videos can be made to be lost.

    Attributes:
        lose: how often each video is still to be lost.
        tried: names, in the order in which they were tried.
    """

    def __init__(self, lose: dict[str, int] | None = None) -> None:
        self.lose = lose or {}
        self.tried: list[str] = []

    def run(self, work: Work, jobs: Sequence[Job]) -> Iterator[Outcome]:
        worker = work.begin()
        for job in jobs:
            self.tried.append(job.name)
            if self.lose.get(job.name, 0):
                self.lose[job.name] -= 1
                yield Outcome(job.name, "its worker was killed (SIGKILL)", again=True)
            else:
                yield worker(job, aside=work.unfinished / job.name)
