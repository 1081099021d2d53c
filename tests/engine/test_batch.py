"""What is done, what is left, what went wrong: with videos done in this process."""

import csv
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from maskstream.engine.backend import Job, Outcome, TrackRow, Work
from maskstream.engine.batch import BatchFolder, BatchSummary, jobs_of, request_of, run_batch
from maskstream.engine.batch_work import BatchWork, attempt
from maskstream.engine.segment import PromptWords, planned, prepared
from maskstream.engine.sources import Listed, find_videos
from maskstream.formats.journal import Journal
from maskstream.sinks.folder import RunFolder
from maskstream.types import InputError, OutputError

from .batch_parts import QUICK, InProcess, all_files, write_clips


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos, one that ends before its first frame, and one that is none."""
    folder = tmp_path_factory.mktemp("clips")
    *_, whole = write_clips(folder, ["a.mp4", "b.mp4", "c.mp4", "whole.mp4"])
    content = whole.read_bytes()
    whole.unlink()
    (folder / "early.mp4").write_bytes(content[:300])
    (folder / "text.mp4").write_bytes(b"this is not a video\n" * 20)
    return folder


def done(
    clips: Path, output: Path, backend: InProcess | None = None, words: dict[str, PromptWords] | None = None
) -> tuple[BatchSummary, list[Outcome]]:
    """The whole folder of clips, as the command does it."""
    work = BatchWork(QUICK, {}, output.absolute())
    folder = BatchFolder(output, request_of(work, [str(clips)]))
    jobs = jobs_of(find_videos([str(clips)]), folder, words)
    outcomes: list[Outcome] = []
    summary = run_batch(work, jobs, folder, backend or InProcess(), on_outcome=outcomes.append)
    return summary, outcomes


@pytest.fixture(scope="module")
def finished(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("finished") / "out"
    done(clips, output)
    return output


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """The same, to be played with."""
    shutil.copytree(finished, tmp_path / "out")
    return tmp_path / "out"


def lines(output: Path, event: str) -> list[dict[str, object]]:
    told = [json.loads(line) for line in (output / "journal.jsonl").read_text().splitlines()[1:]]
    return [line for line in told if line["event"] == event]


def test_every_video_that_can_be_read_is_done_and_the_others_are_named(finished):
    assert sorted(path.name for path in (finished / "videos").iterdir()) == ["a", "b", "c"]
    with (finished / "failed.csv").open() as file:
        failed = {row["video"]: row for row in csv.DictReader(file)}
    assert set(failed) == {"early", "text"}
    assert "text.mp4" in failed["text"]["reason"]
    assert failed["text"]["attempts"] == "1", "what cannot be read now cannot be read in a minute"
    assert json.loads((finished / "run.json").read_text())["complete"] is False


def test_a_video_gets_what_segment_writes_for_it(finished, clips, tmp_path):
    system = QUICK.load()
    for name in ("a", "b", "c"):
        ready = prepared(planned(QUICK, PromptWords()), system, str(clips / f"{name}.mp4"), weights={})
        ready.run(RunFolder(tmp_path / name, ready.request))
        assert all_files(finished / "videos" / name) == all_files(tmp_path / name)


def test_the_summary_has_a_row_for_each_track(finished):
    with (finished / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["video"] for row in rows} <= {"a", "b", "c"}
    for row in rows:
        areas = {
            frame.frame_index: seen.area
            for frame in Journal(finished / "videos" / row["video"] / "segments.jsonl")
            for seen in frame.segments
            if seen.segment.track_id == int(row["track_id"])
        }
        assert (int(row["first"]), int(row["last"]), int(row["frames"])) == (min(areas), max(areas), len(areas))
        assert float(row["mean_area"]) == pytest.approx(sum(areas.values()) / len(areas), abs=0.01)
        assert float(row["mean_share"]) == pytest.approx(float(row["mean_area"]) / (64 * 96), abs=1e-5)
    assert rows


def test_json_files_obey_their_schemas(finished):
    schemas = Path(__file__).parents[2] / "docs" / "schemas"
    schema = json.loads((schemas / "batch.json").read_text())
    header, *told = (json.loads(line) for line in (finished / "journal.jsonl").read_text().splitlines())
    jsonschema.validate(header, schema["$defs"]["header"])
    assert {line["event"] for line in told} == {"begun", "finished", "failed", "ended"}
    for line in told:
        jsonschema.validate(line, schema)
    jsonschema.validate(json.loads((finished / "run.json").read_text()), json.loads((schemas / "run.json").read_text()))


def test_the_summary_is_there_as_parquet_too(finished):
    parquet = pytest.importorskip("pyarrow.parquet", reason="Parquet needs pyarrow")
    table = parquet.read_table(finished / "summary.parquet")
    with (finished / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert table.column_names == list(rows[0])
    assert [str(value) for value in table["mean_area"].to_pylist()] == [row["mean_area"] for row in rows]


def test_the_same_again_does_only_what_is_missing(clips, copied):
    before = all_files(copied / "videos")
    shutil.rmtree(copied / "videos" / "b")
    backend = InProcess()
    summary, _ = done(clips, copied, backend)
    assert sorted(backend.tried) == ["b", "early", "text"]
    assert (summary.videos, summary.earlier, set(summary.failed)) == (5, 2, {"early", "text"})
    assert all_files(copied / "videos") == before


def test_what_was_finished_but_not_noted_is_noted_and_not_done_again(clips, copied):
    """The machine died between the two: the last line of the journal is cut short."""
    told = (copied / "journal.jsonl").read_bytes().splitlines(keepends=True)
    last = max(n for n, line in enumerate(told) if b'"finished"' in line)
    (copied / "journal.jsonl").write_bytes(b"".join(told[:last]) + told[last][:30])
    before = {path: path.stat().st_mtime_ns for path in (copied / "videos").rglob("*")}
    table = (copied / "summary.csv").read_bytes()
    done(clips, copied)
    assert {path: path.stat().st_mtime_ns for path in (copied / "videos").rglob("*")} == before
    assert {line["video"] for line in lines(copied, "finished")} == {"a", "b", "c"}
    assert (copied / "summary.csv").read_bytes() == table


def test_a_folder_may_grow(clips, copied, tmp_path):
    more = tmp_path / "clips"
    shutil.copytree(clips, more)
    work = BatchWork(QUICK, {}, copied)
    write_clips(more, ["a-first.mp4", "d.mp4"])
    backend = InProcess()
    folder = BatchFolder(copied, request_of(work, [str(clips)]))
    earlier = {str(clips / f"{name}.mp4"): name for name in "abc"}
    listed = [Listed(place) for place in earlier] + [Listed(str(more / "d.mp4")), Listed(str(more / "a.mp4"))]
    summary = run_batch(work, jobs_of(listed, folder), folder, backend)
    assert len(backend.tried) == 2
    assert backend.tried[0] == "d"
    assert backend.tried[1].startswith("a-"), "the name was taken by another video"
    assert not summary.failed
    assert not (copied / "failed.csv").exists()
    assert folder.complete


def test_a_video_that_was_lost_is_tried_again(clips, finished, tmp_path):
    backend = InProcess({"b": 1})
    summary, outcomes = done(clips, tmp_path / "out", backend)
    assert backend.tried.count("b") == 2
    assert backend.tried[-1] == "b"
    assert "b" not in summary.failed
    assert [line["reason"] for line in lines(tmp_path / "out", "failed") if line["video"] == "b"] == [
        "its worker was killed (SIGKILL)"
    ]
    assert [line["attempt"] for line in lines(tmp_path / "out", "finished") if line["video"] == "b"] == [2]
    assert sum(outcome.name == "b" for outcome in outcomes) == 2
    assert all_files(tmp_path / "out" / "videos") == all_files(finished / "videos")


def test_a_video_that_is_lost_every_time_is_named_with_its_reason(clips, tmp_path):
    backend = InProcess({"b": 9})
    summary, _ = done(clips, tmp_path / "out", backend)
    assert backend.tried.count("b") == 2
    assert summary.failed["b"] == "its worker was killed (SIGKILL)"


def test_another_request_is_refused(clips, copied):
    work = BatchWork(replace(QUICK, stride=2), {}, copied)
    with pytest.raises(OutputError, match="belongs to another run"):
        BatchFolder(copied, request_of(work, [str(clips)]))


def test_two_at_a_time_are_refused(clips, copied):
    work = BatchWork(QUICK, {}, copied)
    folder = BatchFolder(copied, request_of(work, [str(clips)]))
    with folder.alone(), pytest.raises(OutputError, match="another maskstream"):
        done(clips, copied)


def test_other_prompts_for_a_finished_video_are_refused(clips, tmp_path):
    output, box = tmp_path / "out", {"a": PromptWords(box=("0:1:5,5,40,40",))}
    done(clips, output, words=box)
    done(clips, output, words=box)
    with pytest.raises(OutputError, match=r"prompts of a .* remove"):
        done(clips, output, words={"a": PromptWords(box=("0:1:5,5,41,41",))})


def test_prompts_that_do_not_fit_fail_that_video_alone(clips, tmp_path):
    words = {"a": PromptWords(box=("0:1:5,5,400,400",)), "b": PromptWords(box=("nonsense",))}
    summary, _ = done(clips, tmp_path / "out", words=words)
    assert "box 5,5,400,400" in summary.failed["a"]
    assert "--box nonsense" in summary.failed["b"]
    assert "c" not in summary.failed


def test_prompts_for_a_video_that_is_not_there_are_refused(clips):
    with pytest.raises(InputError, match="prompts for z"):
        jobs_of(find_videos([str(clips)]), None, {"z": PromptWords()})


# One attempt.


@pytest.fixture
def work(tmp_path: Path) -> BatchWork:
    (tmp_path / "out").mkdir()
    return BatchWork(QUICK, {}, tmp_path / "out")


def test_what_is_unforeseen_leaves_nothing_behind_and_may_be_tried_again(clips, work, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise MemoryError("no more of it")

    monkeypatch.setattr("maskstream.engine.run.prefetch", fail)
    outcome = attempt(Job("a", str(clips / "a.mp4")), work=work, system=QUICK.load(), aside=work.unfinished / "a")
    assert outcome.again
    assert outcome.reason == "MemoryError: no more of it"
    assert not work.videos.exists()
    assert not any(work.unfinished.rglob("*"))


def test_what_was_begun_on_another_video_makes_room(clips, work):
    """The file was replaced while nobody looked."""
    system = QUICK.load()
    ready = prepared(planned(QUICK, PromptWords()), system, str(clips / "b.mp4"), weights={})
    RunFolder(work.unfinished / "a", ready.request)
    outcome = attempt(Job("a", str(clips / "a.mp4")), work=work, system=system, aside=work.unfinished / "a")
    assert outcome.reason is None
    assert json.loads((work.videos / "a" / "run.json").read_text())["source"]["name"] == "a.mp4"


def test_of_two_attempts_at_a_video_one_counts(clips, work):
    """As on a cluster that believed a worker dead which was not."""
    system, job = QUICK.load(), Job("a", str(clips / "a.mp4"))
    raced: list[Outcome] = []

    def other(done: int) -> None:
        if done == 3:
            raced.append(attempt(job, work=work, system=system, aside=work.unfinished / "a.2"))

    outcome = attempt(job, work=work, system=system, aside=work.unfinished / "a.1", on_frame=other)
    assert (outcome.reason, raced[0].reason) == (None, None)
    assert outcome.tracks == raced[0].tracks
    assert list(work.unfinished.iterdir()) == []


def test_a_disk_that_is_full_stops_everything(clips, work, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("maskstream.sinks.frames.write_label_png", full)
    with pytest.raises(OutputError, match="No space left"):
        attempt(Job("a", str(clips / "a.mp4")), work=work, system=QUICK.load(), aside=work.unfinished / "a")


def test_a_video_from_a_network_is_brought_and_taken_away(clips, work):
    outcome = attempt(
        Job("a", f"file://{clips / 'a.mp4'}"), work=work, system=QUICK.load(), aside=work.unfinished / "a"
    )
    assert outcome.reason is None
    assert list(work.unfinished.iterdir()) == []
    assert json.loads((work.videos / "a" / "run.json").read_text())["source"]["name"] == "a.mp4"


def test_a_warning_about_a_video_is_noted(tmp_path, work):
    (whole,) = write_clips(tmp_path, ["whole.mp4"], frames=40)
    content = whole.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(content[: int(len(content) * 0.6)])
    outcome = attempt(Job("cut", str(cut)), work=work, system=QUICK.load(), aside=work.unfinished / "cut")
    assert any("ends early" in said for said in outcome.warnings)


class Many:
    """A backend that says of every video that it is finished, with two tracks."""

    def run(self, work: Work, jobs: Sequence[Job]) -> Iterator[Outcome]:
        for job in jobs:
            assert isinstance(work, BatchWork)
            (work.videos / job.name).mkdir()
            rows = tuple(TrackRow(job.name, n, "cat", 3, 0.5, None, 0, 9, 10, 25.0, 0.1) for n in (1, 2))
            yield Outcome(job.name, frames=10, tracks=rows)


def test_thousands_of_videos_are_summed_up(tmp_path):
    work = BatchWork(QUICK, {}, tmp_path / "out")
    folder = BatchFolder(work.output, request_of(work, ["x"]))
    jobs = [Job(f"v{n:04d}", f"{n}.mp4") for n in range(3000)]
    summary = run_batch(work, jobs, folder, Many())
    assert (summary.videos, summary.frames, summary.tracks, summary.failed) == (3000, 30_000, 6000, {})
    with folder.summary.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["video"] for row in rows[::2]] == [job.name for job in jobs]
