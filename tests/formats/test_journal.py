import json

import numpy as np
import pytest
import torch

from maskstream.formats.journal import Journal, JournalWriter, journal_line, parse_line, read_journal_video
from maskstream.formats.tracks import index_journal, write_tracks
from maskstream.types import (
    CategorySet,
    FrameRef,
    FrameSegmentation,
    InputError,
    LabelMap,
    Segment,
    VideoSample,
    decode_rle,
)

SIZE = (4, 6)


def segmentation(index, *ids, **fields):
    """Segment n owns column n; its area is the height of the picture."""
    labels = torch.zeros(SIZE, dtype=torch.int32)
    for position, track_id in enumerate(ids):
        labels[:, track_id] = position + 1
    return FrameSegmentation(index, SIZE, tuple(Segment(i, i, **fields) for i in ids), LabelMap(labels))


@pytest.fixture
def journal(tmp_path):
    """Five frames; track 2 is there on the first, third and fourth, track 5 on the last."""
    with JournalWriter(tmp_path / "segments.jsonl", size_hw=SIZE) as writer:
        for index, ids in zip((0, 2, 4, 6, 8), ((2,), (), (2,), (2,), (5,)), strict=True):
            writer.write(segmentation(index, *ids, score=0.5), index / 25)
    return Journal(tmp_path / "segments.jsonl")


def test_a_line_gives_back_what_was_written():
    frame = segmentation(7, 1, 3, category=0, score=0.25, is_thing=True, prompt_id="schön: ein Ball")
    read = parse_line(journal_line(frame, 0.28))
    assert (read.frame_index, read.timestamp, read.revision) == (7, 0.28, 0)
    assert tuple(s.segment for s in read.segments) == frame.segments
    assert torch.equal(decode_rle([s.rle for s in read.segments], SIZE), frame.masks_nhw())
    assert [s.box_xywh for s in read.segments] == [(1, 0, 1, 4), (3, 0, 1, 4)]
    assert [s.area for s in read.segments] == [4, 4]


def test_segments_without_a_pixel_are_not_written():
    empty = FrameSegmentation(0, SIZE, (Segment(1, 1),), LabelMap(torch.zeros(SIZE, dtype=torch.int32)))
    assert parse_line(journal_line(empty, 0.0)).segments == ()


def test_a_journal_is_read_from_front_to_back_and_at_any_place(journal):
    assert journal.size_hw == SIZE
    assert [frame.frame_index for frame in journal] == [0, 2, 4, 6, 8]
    places = [position for position, _ in journal.with_positions()]
    assert [frame.frame_index for frame in journal.read_at(iter([places[3], places[0]]))] == [6, 0]


def test_continuing_drops_what_stands_behind_the_last_good_point(tmp_path):
    path = tmp_path / "segments.jsonl"
    whole = JournalWriter(path, size_hw=SIZE)
    whole.write(segmentation(0, 1), 0.0)
    position = whole.sync()
    whole.write(segmentation(1, 1), 0.1)
    whole.close()
    expected = path.read_bytes()
    with path.open("ab") as file:
        file.write(b'{"frame": 2, "torn li')
    with JournalWriter(path, size_hw=SIZE, position=position) as again:
        again.write(segmentation(1, 1), 0.1)
    assert path.read_bytes() == expected


@pytest.mark.parametrize("content", ["", "hello\n", "[]\n", '{"schema": "other/thing", "version": 1}\n'])
def test_a_file_that_is_no_journal_is_refused(tmp_path, content):
    path = tmp_path / "segments.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=r"segments\.jsonl"):
        Journal(path)


def test_a_missing_journal_is_named(tmp_path):
    with pytest.raises(InputError, match=r"segments\.jsonl"):
        Journal(tmp_path / "segments.jsonl")


def test_tracks_are_written_in_the_layout_of_youtube_vis(journal, tmp_path):
    write_tracks(tmp_path / "tracks.json", index_journal(journal), video_name="clip")
    tracks = json.loads((tmp_path / "tracks.json").read_text())
    (video,) = tracks["videos"]
    assert (video["length"], video["height"], video["width"]) == (5, 4, 6)
    assert video["frame_indices"] == [0, 2, 4, 6, 8]
    assert video["file_names"][1] == "clip/00002.jpg"
    assert [a["track_id"] for a in tracks["annotations"]] == [2, 5]
    first, last = tracks["annotations"]
    assert first["areas"] == [4, None, 4, 4, None]
    assert first["bboxes"] == [[2, 0, 1, 4], None, [2, 0, 1, 4], [2, 0, 1, 4], None]
    assert [code is None for code in last["segmentations"]] == [True] * 4 + [False]
    assert last["category_id"] == 1
    assert tracks["categories"] == [{"id": 1, "name": "object", "isthing": True}]
    decoded = decode_rle([first["segmentations"][3]], SIZE)[0].numpy()
    assert np.array_equal(decoded, np.arange(6)[None, :].repeat(4, 0) == 2)


def test_a_track_has_the_category_it_ended_with(tmp_path):
    with JournalWriter(tmp_path / "segments.jsonl", size_hw=SIZE) as writer:
        writer.write(segmentation(0, 1, category=None), 0.0)
        writer.write(segmentation(1, 1, category=2), 0.1)
    index = index_journal(Journal(tmp_path / "segments.jsonl"))
    write_tracks(tmp_path / "t.json", index, video_name="v", categories=CategorySet.from_names(["cat", "dog"]))
    assert json.loads((tmp_path / "t.json").read_text())["annotations"][0]["category_id"] == 2


def test_a_video_without_objects_has_no_annotations(tmp_path):
    with JournalWriter(tmp_path / "segments.jsonl", size_hw=SIZE) as writer:
        writer.write(segmentation(0), 0.0)
    write_tracks(tmp_path / "t.json", index_journal(Journal(tmp_path / "segments.jsonl")), video_name="v")
    assert json.loads((tmp_path / "t.json").read_text())["annotations"] == []


def test_a_journal_is_read_as_a_labelled_video_of_the_frames_that_were_segmented(tmp_path):
    video = VideoSample("clip", tuple(FrameRef(f"{5 * n:05d}") for n in range(4)), video_id=9)
    masks = torch.tensor([[[1, 1, 0]], [[0, 1, 1]]], dtype=torch.bool)
    with JournalWriter(tmp_path / "j.jsonl", size_hw=(1, 3)) as writer:
        for index in (0, 3):
            segments = (Segment(4, 40, 2, 0.5, True, "a"), Segment(6 + index, 60, None))
            writer.write(FrameSegmentation.from_masks(index, segments, masks), 0.0)
    found = read_journal_video(Journal(tmp_path / "j.jsonl"), video)
    assert [frame.stem for frame in found.frames] == ["00000", "00015"]
    assert (found.name, found.video_id) == ("clip", 9)
    last = found.annotation(1).segmentation
    assert last.frame_index == 1
    assert last.segments == (Segment(4, 40, 2, 0.5, True, "a"), Segment(9, 60, None))
    assert torch.equal(last.masks_nhw(), masks)


def test_a_journal_of_another_video_is_refused(tmp_path):
    with JournalWriter(tmp_path / "j.jsonl", size_hw=(1, 3)) as writer:
        writer.write(FrameSegmentation.from_masks(2, (), torch.zeros((0, 1, 3), dtype=torch.bool)), 0.0)
    with pytest.raises(InputError, match="speaks of frame 2, but clip has 1"):
        read_journal_video(Journal(tmp_path / "j.jsonl"), VideoSample("clip", (FrameRef("0"),)))
