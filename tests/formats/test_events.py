import pytest
import torch

from maskstream.formats.events import EventWriter, read_events
from maskstream.types import Event, FrameSegmentation, InputError, LabelMap

SIZE = (4, 6)
BORN, MISSED = Event("born", 1, "detected on 2 frames, matches no object"), Event("missed", 1, "für 1 Mal")
REFUSED = Event("refused", None, "3 objects are followed already")


def result(index: int, *events: Event) -> FrameSegmentation:
    return FrameSegmentation(index, SIZE, (), LabelMap(torch.zeros(SIZE, dtype=torch.int32)), events=events)


def test_events_are_read_as_they_were_written(tmp_path):
    with EventWriter(tmp_path / "events.jsonl") as writer:
        writer.write(result(0, BORN), 0.0)
        writer.write(result(1), 0.04)
        writer.write(result(5, MISSED, REFUSED), 0.2)
    read = list(read_events(tmp_path / "events.jsonl"))
    assert [(e.frame_index, e.timestamp, e.event) for e in read] == [
        (0, 0.0, BORN),
        (5, 0.2, MISSED),
        (5, 0.2, REFUSED),
    ]


def test_continuing_drops_what_stands_behind_the_last_good_point(tmp_path):
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path)
    writer.write(result(0, BORN), 0.0)
    position = writer.sync()
    writer.write(result(1, MISSED), 0.1)
    writer.close()
    with EventWriter(path, position=position) as again:
        again.write(result(1, REFUSED), 0.1)
    assert [e.event for e in read_events(path)] == [BORN, REFUSED]


def test_a_file_that_holds_no_events_is_refused(tmp_path):
    (tmp_path / "events.jsonl").write_text('{"schema": "maskstream/segments", "version": 1}\n')
    with pytest.raises(InputError, match="not maskstream/events 1"):
        list(read_events(tmp_path / "events.jsonl"))
