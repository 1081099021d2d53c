"""Videos in pieces: where they are cut, who is who in two pieces, and that they become one video again."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from torch import Tensor

from maskstream.engine.backend import Job, Outcome, Work
from maskstream.engine.batch import BatchFolder, BatchSummary, jobs_of, request_of, run_batch
from maskstream.engine.batch_work import BatchWork, attempt
from maskstream.engine.segment import PromptWords, SegmentOptions, planned, prepared
from maskstream.engine.sources import find_videos
from maskstream.engine.split import OVERLAP, Piece, Split, check_split, cut_up, joined, parse_split
from maskstream.engine.stabilize import open_masks
from maskstream.formats import read_label_png, write_label_png
from maskstream.formats.events import read_events
from maskstream.formats.journal import Journal, JournalFrame, journal_line, parse_line
from maskstream.propagation import FlowPropagator
from maskstream.sinks.folder import RunFolder
from maskstream.synthetic import render_sample
from maskstream.systems.deva import Deva
from maskstream.types import FrameSegmentation, InputError, Segment, VideoSegmenter, decode_rle
from maskstream.video import VideoWriter, open_video

from .batch_parts import QUICK, SIZE, InProcess, all_files

SCENE = 36
"""Frames of each of the two scenes of the film."""


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes, one after the other."""
    path = tmp_path_factory.mktemp("films") / "film.mp4"
    images = [f.image for seed in (0, 3) for f, _ in render_sample(frames=SCENE, size_hw=SIZE, objects=2, seed=seed)]
    with VideoWriter(path, size_hw=SIZE) as writer:
        for n, image in enumerate(images):
            writer.write(image, n / 24)
    return path


def done(
    source: Path, output: Path, split: Split | None, backend: InProcess | None = None, words: PromptWords | None = None
) -> tuple[BatchSummary, list[Outcome]]:
    work = BatchWork(QUICK, {}, output.absolute(), split)
    folder = BatchFolder(output, request_of(work, [str(source)]))
    outcomes: list[Outcome] = []
    jobs = jobs_of(find_videos([str(source)]), folder, {source.stem: words} if words else None)
    return run_batch(work, jobs, folder, backend or InProcess(), on_outcome=outcomes.append), outcomes


def segmented(source: Path, output: Path, options: SegmentOptions = QUICK, words: PromptWords | None = None) -> Path:
    """As ``maskstream segment`` does it."""
    ready = prepared(planned(options, words or PromptWords()), options.load(), str(source), weights={})
    ready.run(RunFolder(output, ready.request))
    return output


# ------------------------------------------------------------ scenes


@pytest.fixture(scope="module")
def at_cuts(film: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The film, done scene by scene."""
    output = tmp_path_factory.mktemp("cuts") / "out"
    summary, outcomes = done(film, output, Split())
    assert [outcome.name for outcome in outcomes] == ["film", "film#00000", "film#00001", "film"]
    assert (summary.videos, summary.frames, summary.failed) == (1, 2 * SCENE, {})
    return output


def test_scenes_are_done_as_videos_of_their_own_and_no_object_goes_over(film, at_cuts, tmp_path):
    whole = at_cuts / "videos" / "film"
    apart = [
        segmented(film, tmp_path / "a", replace(QUICK, stop=SCENE)),
        segmented(film, tmp_path / "b", replace(QUICK, start=SCENE)),
    ]
    found = list(Journal(whole / "segments.jsonl"))
    expected = [frame for folder in apart for frame in Journal(folder / "segments.jsonl")]
    number_of: dict[tuple[bool, int], int] = {}
    for frame, other in zip(found, expected, strict=True):
        assert frame.frame_index == other.frame_index
        assert frame.timestamp == other.timestamp
        second = frame.frame_index >= SCENE
        for mine, theirs in zip(frame.segments, other.segments, strict=True):
            track_id = number_of.setdefault((second, theirs.segment.track_id), mine.segment.track_id)
            assert mine == replace(theirs, segment=replace(theirs.segment, id=track_id, track_id=track_id))
    assert all(any(second == which for second, _ in number_of) for which in (False, True))
    assert sorted(number_of.values()) == list(range(1, len(number_of) + 1)), "none twice, and none left out"

    told = [(e.frame_index, e.event.kind, e.event.track_id) for e in read_events(whole / "events.jsonl")]
    assert told == [
        (e.frame_index, e.event.kind, number_of[e.frame_index >= SCENE, e.event.track_id or 0])
        for folder in apart
        for e in read_events(folder / "events.jsonl")
    ]
    for index in range(2 * SCENE):
        name = f"masks/{index:05d}.png"
        theirs_hw = read_label_png(apart[index >= SCENE] / name)
        lookup = np.zeros(99, np.int32)
        for (second, track_id), number in number_of.items():
            if second == (index >= SCENE):
                lookup[track_id] = number
        assert np.array_equal(read_label_png(whole / name), lookup[theirs_hw])


def test_the_video_has_all_files_and_says_how_it_was_done(at_cuts):
    whole = at_cuts / "videos" / "film"
    assert {path.name for path in whole.iterdir()} == {
        *("run.json", "segments.jsonl", "events.jsonl", "masks", "overlay.mp4", "tracks.json", "report.html")
    }
    assert sum(1 for _ in open_video(whole / "overlay.mp4")) == 2 * SCENE
    assert json.loads((whole / "run.json").read_text())["options"]["split"] == {"seconds": None, "frames": None}
    assert f"0, {SCENE}" in (whole / "report.html").read_text()
    assert not (at_cuts / ".pieces").exists()
    schema = json.loads((Path(__file__).parents[2] / "docs" / "schemas" / "batch.json").read_text())
    told = [json.loads(line) for line in (at_cuts / "journal.jsonl").read_text().splitlines()[1:]]
    assert [line["event"] for line in told] == ["begun", "cut", "piece", "piece", "finished", "ended"]
    for line in told:
        jsonschema.validate(line, schema)


def test_a_video_of_one_scene_is_done_as_ever(film, tmp_path):
    one = tmp_path / "one.mp4"
    with VideoWriter(one, size_hw=SIZE) as writer:
        for frame in open_video(film, stop=20):
            writer.write(frame.image, frame.timestamp)
    _, outcomes = done(one, tmp_path / "out", Split())
    assert [outcome.name for outcome in outcomes] == ["one"]
    assert all_files(tmp_path / "out" / "videos" / "one") == all_files(segmented(one, tmp_path / "alone"))


def test_prompts_stay_in_their_scene_and_give_objects_their_numbers(film, tmp_path):
    box = f"{SCENE + 2}:7:5,5,60,50"
    _, outcomes = done(film, tmp_path / "out", Split(), words=PromptWords(box=(box,)))
    assert [outcome.name for outcome in outcomes] == ["film", "film#00001", "film"], "nothing to follow in the first"
    alone = segmented(film, tmp_path / "b", replace(QUICK, start=SCENE), PromptWords(box=(box,)))
    found = list(Journal(tmp_path / "out" / "videos" / "film" / "segments.jsonl"))
    assert [frame.frame_index for frame in found] == list(range(2 * SCENE))
    assert not any(frame.segments for frame in found[:SCENE])
    assert found[SCENE:] == list(Journal(alone / "segments.jsonl"))
    assert {seen.segment.track_id for frame in found for seen in frame.segments} == {7}


# ------------------------------------------------------------ equal lengths


LONG, LENGTH, LARGER = 64, 32, (120, 200)


class OfSystem(InProcess):
    """Videos done in this process, by a system that has no name."""

    def __init__(self, system: VideoSegmenter) -> None:
        super().__init__()
        self._system = system

    def run(self, work: Work, jobs: Sequence[Job]) -> Iterator[Outcome]:
        assert isinstance(work, BatchWork)
        worker = partial(attempt, work=work, system=self._system)
        for job in jobs:
            yield worker(job, aside=work.unfinished / job.name)


def test_objects_keep_their_numbers_over_pieces_of_equal_length(tmp_path):
    """They are found in another order in the second piece, so that each is another one there."""
    (tmp_path / "truth").mkdir()
    video = tmp_path / "long.mp4"
    with VideoWriter(video, size_hw=LARGER) as writer:
        for frame, truth in render_sample(frames=LONG, size_hw=LARGER, objects=2):
            writer.write(frame.image, frame.timestamp)
            labels = truth.segmentation.panoptic_map().numpy()
            swapped = np.where(labels == 0, 0, 3 - labels)
            shown = labels if frame.index < LENGTH - OVERLAP else swapped
            write_label_png(tmp_path / "truth" / f"{frame.index:05d}.png", shown)
    system = Deva(FlowPropagator(size=120), detector=open_masks(tmp_path / "truth", open_video(video)))
    found = []
    for name, split in (("whole", None), ("pieces", Split(frames=LENGTH))):
        summary, outcomes = done(video, tmp_path / name, split, OfSystem(system))
        assert summary.failed == {}
        found.append(list(Journal(tmp_path / name / "videos" / "long" / "segments.jsonl")))
    assert [outcome.name for outcome in outcomes] == ["long", "long#00000", "long#00001", "long"]
    ious = []
    for frames in zip(*found, strict=True):
        masks = [{s.segment.track_id: decode_rle([s.rle], LARGER)[0] for s in frame.segments} for frame in frames]
        assert masks[0].keys() == masks[1].keys() == {1, 2}
        ious += [iou(masks[0][track_id], masks[1][track_id]) for track_id in (1, 2)]
    assert min(ious) > 0.8
    events = read_events(tmp_path / "pieces" / "videos" / "long" / "events.jsonl")
    assert [e.event.track_id for e in events if e.event.kind == "born"] == [1, 2]


def iou(a: Tensor, b: Tensor) -> float:
    return float((a & b).sum() / (a | b).sum())


# ------------------------------------------------------------ what can go wrong


class Dies(InProcess):
    """Ends after so many outcomes, as a machine does."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def run(self, work: Work, jobs: Sequence[Job]) -> Iterator[Outcome]:
        for outcome in super().run(work, jobs):
            if self.after == 0:
                raise KeyboardInterrupt
            self.after -= 1
            yield outcome


@pytest.mark.parametrize("after", [1, 2, 3])
def test_what_was_done_of_a_video_is_not_done_again(film, at_cuts, tmp_path, after):
    """It died after so many outcomes were noted, when one more was there that nobody noted."""
    with pytest.raises(KeyboardInterrupt):
        done(film, tmp_path / "out", Split(), Dies(after))
    backend = InProcess()
    summary, _ = done(film, tmp_path / "out", Split(), backend)
    assert backend.tried == [["film", "film#00001", "film"], ["film"], ["film"]][after - 1]
    assert summary.failed == {}
    assert all_files(tmp_path / "out" / "videos") == all_files(at_cuts / "videos")


def test_a_piece_that_is_lost_is_tried_again(film, at_cuts, tmp_path):
    backend = InProcess({"film#00001": 1})
    summary, outcomes = done(film, tmp_path / "out", Split(), backend)
    assert summary.failed == {}
    assert backend.tried == ["film", "film#00000", "film#00001", "film#00001", "film"]
    (lost,) = (outcome.reason for outcome in outcomes if outcome.reason)
    assert lost == f"frames {SCENE} to {2 * SCENE - 1}: its worker was killed (SIGKILL)"
    assert all_files(tmp_path / "out" / "videos") == all_files(at_cuts / "videos")


def test_a_piece_that_cannot_be_done_is_named_and_the_others_are_kept(film, tmp_path):
    summary, _ = done(film, tmp_path / "out", Split(), InProcess({"film#00001": 9}))
    reason = f"frames {SCENE} to {2 * SCENE - 1}: its worker was killed (SIGKILL)"
    assert summary.failed == {"film": reason}
    assert reason in (tmp_path / "out" / "failed.csv").read_text()
    kept = (path for path in (tmp_path / "out" / ".pieces" / "film" / "00000").rglob("*") if path.is_file())
    assert {path.name for path in kept} == {"run.json", "segments.jsonl", "events.jsonl"}
    backend = InProcess()
    assert done(film, tmp_path / "out", Split(), backend)[0].failed == {}
    assert backend.tried == ["film", "film#00001", "film"]


def test_pieces_of_another_video_of_the_same_name_make_room(film, at_cuts, tmp_path):
    """The file was replaced between two attempts."""
    source = tmp_path / "films" / "film.mp4"
    source.parent.mkdir()
    with VideoWriter(source, size_hw=SIZE) as writer:
        for frame in open_video(film, start=10):
            writer.write(frame.image, frame.timestamp)
    done(source, tmp_path / "out", Split(), InProcess({"film#00001": 9}))
    source.write_bytes(film.read_bytes())
    assert done(source, tmp_path / "out", Split())[0].failed == {}
    assert all_files(tmp_path / "out" / "videos") == all_files(at_cuts / "videos")


# ------------------------------------------------------------ where it is cut


def test_pieces_of_equal_length_share_frames(film):
    pieces = cut_up(Split(frames=32), str(film), replace(QUICK, stop=70))
    assert pieces == [Piece(0, 0, 0, 35), Piece(1, 35 - OVERLAP, 35, 70)]
    assert cut_up(Split(seconds=35 / 24), str(film), replace(QUICK, stop=70)) == pieces


def test_a_piece_is_long_enough_to_share_frames(film):
    assert len(cut_up(Split(frames=1), str(film), QUICK)) == 2
    assert cut_up(Split(seconds=60), str(film), QUICK) == [Piece(0, 0, 0, 2 * SCENE)]


def test_a_scene_begins_on_the_next_frame_that_is_taken(film):
    assert cut_up(Split(), str(film), replace(QUICK, start=3, stride=5)) == [Piece(0, 3, 3, 34), Piece(1, 38, 38, 69)]


@pytest.mark.parametrize(
    ("text", "split"),
    [("cuts", Split()), ("60s", Split(seconds=60)), ("1.5s", Split(seconds=1.5)), ("1500", Split(frames=1500))],
)
def test_where_to_cut_is_said_in_a_word(text, split):
    assert parse_split(text) == split


@pytest.mark.parametrize("text", ["", "scenes", "1.5", "0", "0s", "-3", "10m"])
def test_another_word_is_refused(text):
    with pytest.raises(InputError, match="cuts, seconds as in 60s, or frames"):
        parse_split(text)


@pytest.mark.parametrize(
    ("split", "options", "words", "said"),
    [
        (Split(), replace(QUICK, save_scores=True), PromptWords(), "--save-scores needs whole videos"),
        (Split(), replace(QUICK, direction="both"), PromptWords(), "cannot be done in pieces"),
        (Split(), QUICK, PromptWords(text=("a dog",)), "film: sentences and removals need whole videos"),
        (
            Split(frames=99),
            QUICK,
            PromptWords(box=("0:1:5,5,9,9",)),
            "film: prompts need whole videos, or whole scenes",
        ),
    ],
)
def test_what_needs_whole_videos_is_refused(split, options, words, said):
    check_split(Split(), QUICK, {"film": PromptWords(box=("0:1:5,5,9,9",))})
    with pytest.raises(InputError, match=said):
        check_split(split, options, {"film": words})


# ------------------------------------------------------------ who is who


def line(index: int, *seen: tuple[int, int | None, slice]) -> JournalFrame:
    """A frame of 8×8 with these tracks, of these categories, in these columns."""
    masks = torch.zeros((len(seen), 8, 8), dtype=torch.bool)
    for n, (_, _, columns) in enumerate(seen):
        masks[n, :, columns] = True
    segments = tuple(Segment(track_id, track_id, category) for track_id, category, _ in seen)
    return parse_line(journal_line(FrameSegmentation.from_masks(index, segments, masks), index / 24))


LEFT, MORE, RIGHT = slice(0, 4), slice(0, 5), slice(4, 8)


@pytest.mark.parametrize(
    ("earlier", "later", "expected"),
    [
        pytest.param([line(5, (3, None, LEFT), (9, None, RIGHT))], [line(5, (1, None, RIGHT))], {1: 9}, id="by place"),
        pytest.param([line(5, (3, 2, LEFT))], [line(5, (1, 4, LEFT))], {}, id="never of another category"),
        pytest.param(
            [line(5, (3, 2, LEFT), (4, 2, MORE))], [line(5, (1, 2, MORE), (2, 2, LEFT))], {1: 4, 2: 3}, id="the best"
        ),
        pytest.param(
            [line(5, (3, None, LEFT)), line(6, (3, None, LEFT))], [line(5), line(6, (1, None, LEFT))], {1: 3}, id="late"
        ),
        pytest.param([line(5, (3, None, LEFT)), line(6)], [line(5), line(6, (1, None, LEFT))], {}, id="never both"),
        pytest.param([line(5, (3, None, LEFT))], [line(5, (1, None, slice(2, 6)))], {}, id="too little in common"),
        pytest.param([], [line(5, (1, None, LEFT))], {}, id="nothing before"),
    ],
)
def test_who_covers_the_same_pixels_is_the_same(earlier, later, expected):
    assert joined(earlier, later, (8, 8)) == expected
