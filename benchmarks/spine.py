"""What the spine costs: everything between a video file and an output folder except propagator and segmenter.

    python benchmarks/spine.py [--frames 120] [--objects 10]

Renders a 480p clip, then runs the real engine with a propagator and a detector that know the truth and cost next to
nothing (their time is measured and subtracted). Prints milliseconds a frame for every stage on its own, and for the
whole run, where decoding and sinks overlap in threads. The target is 20 ms a frame on 2 cores.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from maskstream.engine import segment_to_folder
from maskstream.formats import write_label_png
from maskstream.formats.journal import journal_line
from maskstream.sinks.draw import draw_overlay
from maskstream.sinks.folder import RunFolder
from maskstream.synthetic import render_sample
from maskstream.systems.deva import DevaSession, merge, render_proposals
from maskstream.types import CategorySet, Frame, FrameSegmentation, ObjectPrompt, Proposals, StateDict
from maskstream.video import VideoWriter, open_video

SIZE = (480, 854)


class Stopwatch:
    """Sums the time spent inside ``with`` blocks."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time until the block ends."""
        began = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - began


class TruePropagator:
    """Knows where every object is; its state is the ids it follows."""

    def __init__(self, truth_thw: Tensor, watch: Stopwatch) -> None:
        self._truth_thw = truth_thw
        self._watch = watch

    def start(self) -> tuple[int, ...]:
        """Follow nothing."""
        return ()

    def object_ids(self, state: tuple[int, ...]) -> tuple[int, ...]:
        """The ids."""
        return state

    def encode(self, frame: Frame) -> int:
        """Only the place in the video."""
        return frame.index

    def size_hw(self, features: int) -> tuple[int, int]:
        """That of the truth."""
        return SIZE

    def read(self, state: tuple[int, ...], features: int, *, advance: bool = True) -> tuple[tuple[int, ...], Tensor]:
        """The truth, one-hot."""
        with self._watch.running():
            channels = torch.tensor([0, *state], dtype=torch.int32)
            return state, (self._truth_thw[features] == channels[:, None, None]).float()

    def write(
        self, state: tuple[int, ...], features: int, masks_nhw: Tensor, object_ids: Sequence[int]
    ) -> tuple[int, ...]:
        """Note the ids."""
        return tuple(dict.fromkeys([*state, *object_ids]))

    def align(self, source: int, masks_nhw: Tensor, target: int) -> Tensor:
        """The truth of the target."""
        return self.read(tuple(range(1, len(masks_nhw) + 1)), target)[1]

    def remove(self, state: tuple[int, ...], object_ids: Sequence[int]) -> tuple[int, ...]:
        """Drop the ids."""
        return tuple(i for i in state if i not in object_ids)

    def state_dict(self, state: tuple[int, ...]) -> StateDict:
        """The ids."""
        return {"ids": list(state)}

    def load_state_dict(self, plain: StateDict) -> tuple[int, ...]:
        """The ids."""
        return tuple(plain["ids"])


class TrueDetector:
    """Proposes the true masks."""

    context = 0

    def __init__(self, truth_thw: Tensor, objects: int, watch: Stopwatch) -> None:
        self._truth_thw = truth_thw
        self._objects = torch.arange(1, objects + 1, dtype=torch.int32)
        self._watch = watch

    def encode(self, frames: Sequence[Frame]) -> list[int]:
        """Only the place in the video."""
        return [frame.index for frame in frames]

    def segment(
        self,
        features: int,
        prompts: Sequence[ObjectPrompt] = (),
        *,
        context: Sequence[int] = (),
        categories: CategorySet | None = None,
        exclude: Tensor | None = None,
    ) -> Proposals:
        """The truth, one mask an object."""
        with self._watch.running():
            return Proposals(self._truth_thw[features] == self._objects[:, None, None])


def milliseconds(work: Callable[[], object], *, count: int) -> float:
    """Time a frame takes, of work that goes through ``count`` of them."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) / count * 1000


def stages(clip: Path, truth_thw: Tensor, objects: int, folder: Path) -> dict[str, float]:
    """Every stage on its own, one after the other, in milliseconds a frame."""
    count = len(truth_thw)
    frames = list(open_video(clip))
    session = new_session(truth_thw, objects, Stopwatch())
    results: list[FrameSegmentation] = [result for frame in frames for result in session.step(frame)]
    pairs = list(zip(frames, results, strict=True))
    pictures = [draw_overlay(frame.image, result) for frame, result in pairs]
    proposals = Proposals(truth_thw[0] == torch.arange(1, objects + 1, dtype=torch.int32)[:, None, None])
    groups = [None] * objects

    def encode_overlay() -> None:
        with VideoWriter(folder / "stage.mp4", size_hw=SIZE) as writer:
            for frame, picture in zip(frames, pictures, strict=True):
                writer.write(picture, frame.timestamp)

    def write_masks() -> None:
        for result in results:
            write_label_png(folder / "stage.png", result.panoptic_map().numpy())

    propagator = Stopwatch()
    alone = new_session(truth_thw, objects, propagator)
    step = milliseconds(lambda: [alone.step(frame) for frame in frames], count=count)
    return {
        "decode": milliseconds(lambda: sum(1 for _ in open_video(clip)), count=count),
        "session (merge every 5th frame, argmax)": step - propagator.seconds / count * 1000,
        "one merge of 10 with 10": milliseconds(
            lambda: [merge(truth_thw[0], groups, render_proposals(proposals, SIZE), groups) for _ in range(20)],
            count=20,
        ),
        "journal line": milliseconds(lambda: [journal_line(r, 0.0) for r in results], count=count),
        "mask PNG": milliseconds(write_masks, count=count),
        "overlay drawing": milliseconds(lambda: [draw_overlay(f.image, r) for f, r in pairs], count=count),
        "overlay encoding": milliseconds(encode_overlay, count=count),
    }


def new_session(truth_thw: Tensor, objects: int, watch: Stopwatch) -> DevaSession:
    """A session whose models know the truth."""
    return DevaSession(TruePropagator(truth_thw, watch), size_hw=SIZE, detector=TrueDetector(truth_thw, objects, watch))


def main() -> None:
    """Render, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--objects", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3, help="whole runs; the fastest counts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        truth = []
        with VideoWriter(folder / "clip.mp4", size_hw=SIZE) as writer:
            for frame, annotation in render_sample(frames=options.frames, size_hw=SIZE, objects=options.objects):
                writer.write(frame.image, frame.timestamp)
                truth.append(annotation.segmentation.panoptic_map())
        truth_thw = torch.stack(truth)
        print(
            f"480p, {options.frames} frames, {options.objects} objects, {torch.get_num_threads()} threads; ms a frame"
        )
        for stage, ms in stages(folder / "clip.mp4", truth_thw, options.objects, folder).items():
            print(f"  {stage:42} {ms:6.2f}")
        whole = []
        for repeat in range(options.repeats):
            watch = Stopwatch()
            began = time.perf_counter()
            segment_to_folder(
                open_video(folder / "clip.mp4"),
                new_session(truth_thw, options.objects, watch),
                RunFolder(folder / f"out{repeat}", {"repeat": repeat}),
            )
            whole.append((time.perf_counter() - began - watch.seconds) / options.frames * 1000)
        print(f"  {'the whole run, end of file included':42} {min(whole):6.2f}   (target 20)")


if __name__ == "__main__":
    main()
