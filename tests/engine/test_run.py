"""The engine with a session that answers late, so that frames wait while a snapshot is taken."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from maskstream.engine import RunSummary, segment_to_folder
from maskstream.formats import read_label_png
from maskstream.formats.journal import Journal
from maskstream.sinks.folder import RunFolder
from maskstream.types import (
    Frame,
    FrameSegmentation,
    InputError,
    LabelMap,
    OutputError,
    Prompt,
    Segment,
    Session,
    StateDict,
    Track,
    Video,
    VideoError,
)
from maskstream.video import VideoWriter, open_video

SIZE = (64, 96)


class LateSession:
    """Answers every frame two frames later: object 1 covers as many columns as the frame has grey levels."""

    latency = 2

    def __init__(self, *, stop_at: int | None = None) -> None:
        self.waiting: list[tuple[int, int]] = []
        self.removed: list[tuple[int, int]] = []
        self.stop_at = stop_at
        self.last = -1

    def prompt(self, prompts: Sequence[Prompt]) -> None:
        raise InputError("takes no prompts")

    def remove(self, object_ids: Sequence[int]) -> None:
        self.removed += [(self.last + 1, object_id) for object_id in object_ids]

    def step(self, frame: Frame, *, force_key: bool = False) -> list[FrameSegmentation]:
        if frame.index == self.stop_at:
            raise InputError("stopped here")
        self.last = frame.index
        self.waiting.append((frame.index, int(frame.image.mean() / 255 * SIZE[1])))
        return [self.answer()] if len(self.waiting) > 2 else []

    def finish(self) -> Iterator[FrameSegmentation]:
        while self.waiting:
            yield self.answer()

    def answer(self) -> FrameSegmentation:
        index, columns = self.waiting.pop(0)
        labels = torch.zeros(SIZE, dtype=torch.int32)
        labels[:, :columns] = 1
        return FrameSegmentation(index, SIZE, (Segment(1, 1),), LabelMap(labels))

    def tracks(self) -> list[Track]:
        return []

    def state_dict(self) -> StateDict:
        return {"waiting": [list(pair) for pair in self.waiting], "last": self.last}

    def load_state_dict(self, state: StateDict) -> None:
        self.waiting = [(index, columns) for index, columns in state["waiting"]]
        self.last = state["last"]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Forty frames that grow brighter."""
    with VideoWriter(tmp_path / "clip.mp4", size_hw=SIZE) as writer:
        for index in range(40):
            writer.write(np.full((*SIZE, 3), 6 * index + 10, dtype=np.uint8), index / 20)
    return tmp_path / "clip.mp4"


def run(video: Video, session: Session, output: Path, **options: object) -> RunSummary:
    return segment_to_folder(video, session, RunFolder(output, {"a": 1}), checkpoint_every=10, **options)  # type: ignore[arg-type]


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_results_that_come_late_are_written_under_their_own_frame(clip, tmp_path):
    done: list[int] = []
    summary = run(open_video(clip), LateSession(), tmp_path / "out", on_frame=done.append)
    assert summary == RunSummary(frames=40, continued_from=0, tracks=1)
    assert done == list(range(1, 41))
    for frame, shown in zip(open_video(clip), Journal(tmp_path / "out" / "segments.jsonl"), strict=True):
        columns = int(frame.image.mean() / 255 * SIZE[1])
        assert shown.frame_index == frame.index
        assert shown.timestamp == frame.timestamp
        assert shown.segments[0].area == columns * SIZE[0]
        assert (read_label_png(tmp_path / "out" / "masks" / f"{frame.index:05d}.png") == 1).sum() == columns * SIZE[0]


@pytest.mark.parametrize("stop_at", [3, 12, 13, 25, 39])
def test_frames_that_waited_at_a_snapshot_are_not_lost(clip, tmp_path, stop_at):
    run(open_video(clip), LateSession(), tmp_path / "whole")
    with pytest.raises(InputError, match="stopped here"):
        run(open_video(clip), LateSession(stop_at=stop_at), tmp_path / "out")
    assert not (tmp_path / "out" / "report.html").exists()
    summary = run(open_video(clip), LateSession(), tmp_path / "out")
    assert summary.continued_from == max(stop_at - 2, 0) // 10 * 10
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_what_was_finished_before_an_error_is_on_disk(clip, tmp_path):
    with pytest.raises(InputError):
        run(open_video(clip), LateSession(stop_at=17), tmp_path / "out")
    finished = [frame.frame_index for frame in Journal(tmp_path / "out" / "segments.jsonl")]
    assert finished == list(range(15))
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 15


def test_objects_are_removed_before_their_frame(clip, tmp_path):
    session = LateSession()
    run(open_video(clip), session, tmp_path / "out", removals={5: [1], 9: [2, 3]})
    assert session.removed == [(5, 1), (9, 2), (9, 3)]


def test_a_stream_cannot_be_continued(clip, tmp_path):
    def stream(stop_at: int | None) -> Iterator[Frame]:
        yield from open_video(clip)

    with pytest.raises(InputError):
        run(open_video(stream(None)), LateSession(stop_at=20), tmp_path / "out")
    with pytest.raises(VideoError, match="cannot be read twice"):
        run(open_video(stream(None)), LateSession(), tmp_path / "out")


def test_a_sink_that_cannot_write_stops_the_run_and_names_the_place(clip, tmp_path):
    folder = RunFolder(tmp_path / "out", {"a": 1})
    (tmp_path / "out" / "masks").rmdir()
    (tmp_path / "out" / "masks").write_text("in the way")
    with pytest.raises(OutputError, match=r"out.*same command again"):
        segment_to_folder(open_video(clip), LateSession(), folder)
