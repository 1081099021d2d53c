"""``maskstream segment`` from end to end: what it writes, and what it says when something is wrong."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import jsonschema
import numpy as np
import pytest
import referencing

from maskstream.formats import read_label_png
from maskstream.formats.journal import Journal
from maskstream.types import decode_rle
from maskstream.video import open_video

from .conftest import SIZE, Run, all_files, blank_mask, journal_lines, write_clip
from .processes import started

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"


def schema(name: str) -> dict[str, object]:
    loaded: dict[str, object] = json.loads((SCHEMAS / name).read_text())
    return loaded


@pytest.fixture(scope="module")
def followed(run: Run, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clip, with the objects of its first frame followed."""
    output = tmp_path_factory.mktemp("followed") / "out"
    done = run("segment", clip, "-o", output, "--mask", f"0:{clip.with_name('first.png')}")
    assert done.returncode == 0, done.stderr
    return output


def test_a_run_leaves_everything_people_need(followed):
    names = {path.name for path in followed.iterdir()}
    assert names == {"overlay.mp4", "masks", "segments.jsonl", "events.jsonl", "tracks.json", "report.html", "run.json"}
    assert sorted(path.name for path in (followed / "masks").iterdir()) == [f"{n:05d}.png" for n in range(30)]


def test_the_first_frame_is_the_mask_that_was_given(followed, clip):
    given = read_label_png(clip.with_name("first.png"))
    assert np.array_equal(read_label_png(followed / "masks" / "00000.png"), given)


def test_masks_journal_and_tracks_tell_the_same(followed):
    tracks = json.loads((followed / "tracks.json").read_text())
    rle_of = {a["track_id"]: a["segmentations"] for a in tracks["annotations"]}
    for position, frame in enumerate(Journal(followed / "segments.jsonl")):
        labels = read_label_png(followed / "masks" / f"{frame.frame_index:05d}.png")
        assert {s.segment.id for s in frame.segments} == set(np.unique(labels)) - {0}
        for seen in frame.segments:
            assert np.array_equal(decode_rle([seen.rle], SIZE)[0].numpy(), labels == seen.segment.id)
            assert rle_of[seen.segment.track_id][position] == seen.rle


def test_objects_are_followed_and_not_left_behind(followed, clip):
    """The masks at the end must fit the objects there far better than the masks of the first frame do."""
    from maskstream.metrics import region_similarity
    from maskstream.synthetic import render_sample

    *_, (_, truth) = render_sample(frames=30, size_hw=SIZE, objects=2)
    true = truth.segmentation.panoptic_map().numpy()
    last, first = (read_label_png(followed / "masks" / f"{n:05d}.png") for n in (29, 0))
    visible = [int(i) for i in np.unique(true) if i and (first == i).any()]
    assert visible
    for track_id in visible:
        reached = region_similarity(last == track_id, true == track_id)
        assert reached > 0.6
        assert reached > region_similarity(first == track_id, true == track_id) + 0.1


def test_json_files_obey_their_schemas(followed):
    segments = schema("segments.json")
    registry = referencing.Registry().with_resource("segments.json", referencing.Resource.from_contents(segments))
    for line in journal_lines(followed):
        jsonschema.validate(line, segments)
    header = json.loads((followed / "segments.jsonl").read_text().splitlines()[0])
    jsonschema.validate(header, segments["$defs"]["header"])  # type: ignore[index]
    events = [json.loads(line) for line in (followed / "events.jsonl").read_text().splitlines()[1:]]
    assert {event["event"] for event in events} >= {"born"}
    for event in events:
        jsonschema.validate(event, schema("events.json"))
    tracks = json.loads((followed / "tracks.json").read_text())
    jsonschema.Draft202012Validator(schema("tracks.json"), registry=registry).validate(tracks)
    jsonschema.validate(json.loads((followed / "run.json").read_text()), schema("run.json"))


def test_the_overlay_plays_in_browsers_with_the_timing_of_the_source(followed, clip):
    with av.open(str(followed / "overlay.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
    source, overlay = list(open_video(clip)), list(open_video(followed / "overlay.mp4"))
    assert [frame.timestamp for frame in overlay] == pytest.approx([frame.timestamp for frame in source], abs=1e-3)


def test_the_report_needs_nothing_beside_it(followed):
    report = (followed / "report.html").read_text()
    assert "data:image/jpeg;base64," in report
    assert "http://" not in report.replace("http://www.w3.org/", "")
    assert "https://" not in report


def test_the_same_command_again_has_nothing_to_do(run, followed, clip):
    before = all_files(followed)
    done = run("segment", clip, "-o", followed, "--mask", f"0:{clip.with_name('first.png')}")
    assert done.returncode == 0
    assert "already complete: 30 frames" in done.stdout
    assert all_files(followed) == before


def test_without_prompts_what_moves_is_found(run, clip, tmp_path):
    done = run("segment", clip, "-o", tmp_path / "out", "--json", "--quiet")
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert outcome["frames"] == 30
    assert outcome["tracks"] >= 1
    assert done.stderr == ""


def test_the_same_input_gives_the_same_bytes(run, clip, tmp_path):
    for name in ("a", "b"):
        assert run("segment", clip, "-o", tmp_path / name, "--stop", 12).returncode == 0
    assert all_files(tmp_path / "a") == all_files(tmp_path / "b")


def test_boxes_points_scribbles_and_removal_work_together(run, clip, tmp_path):
    output = tmp_path / "out"
    done = run(
        "segment", clip, "-o", output, "--start", 4, "--stop", 16, "--stride", 2,
        "--box", "4:3:10,10,60,60", "--point", "6:5:90,70", "--point", "6:5:5,5,-",
        "--scribble", "8:7:64,40;70,44", "--remove", "10:3",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = journal_lines(output)
    assert [line["frame"] for line in lines] == [4, 6, 8, 10, 12, 14]
    ids = [{segment["id"] for segment in line["segments"]} for line in lines]  # type: ignore[attr-defined]
    assert 3 in ids[0]
    assert 5 in ids[1]
    assert 7 in ids[2]
    assert all(3 not in later for later in ids[3:])


def test_progress_is_plain_lines_when_not_on_a_terminal(run, clip, tmp_path):
    done = run("segment", clip, "-o", tmp_path / "out", "--stop", 5)
    assert "frame 5 of 5" in done.stderr
    assert "frames/s" in done.stderr
    assert "\x1b" not in done.stderr


# ---------------------------------------------------------------- bad input


def fails(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """One line on standard error, with these words in it, and exit code 1."""
    assert done.returncode == 1, (done.returncode, done.stderr)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    for word in words:
        assert word in errors[0]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(["--box", "0:1:100,10,400,60"], ["box 100,10,400,60", "128 wide and 96 high"], id="box outside"),
        pytest.param(["--point", "0:1:5,96"], ["point 5,96"], id="point outside"),
        pytest.param(["--box", "30:1:1,1,9,9"], ["frame 30", "0 to 29"], id="a frame that does not exist"),
        pytest.param(["--start", "5", "--box", "4:1:1,1,9,9"], ["frame 4", "5 to 29"], id="a frame before the start"),
        pytest.param(["--stride", "4", "--box", "6:1:1,1,9,9"], ["frame 6", "every 4"], id="a frame that is skipped"),
        pytest.param(["--box", "0:1:1,1,9"], ["--box 0:1:1,1,9", "FRAME:ID:X0,Y0,X1,Y1"], id="a box that is no box"),
        pytest.param(["--point", "0:0:5,5"], ["object 0"], id="object 0"),
        pytest.param(["--mask", "0:/nowhere.png"], ["/nowhere.png"], id="no such mask file"),
        pytest.param(["--mask", "nowhere.png"], ["--mask nowhere.png", "FRAME:PATH"], id="a mask without frame"),
        pytest.param(["--task", "fly"], ["'fly'", "vos"], id="unknown task"),
        pytest.param(["--task", "vis"], ["'vis'", "it can do"], id="a task this model cannot do"),
        pytest.param(["--task", "vos"], ["--mask"], id="vos without a prompt"),
        pytest.param(["--propagator", "magic"], ["'magic'", "flow"], id="unknown propagator"),
        pytest.param(["--start", "99"], ["99"], id="start beyond the end"),
        pytest.param(["--box", "3:1:1,1,50,50", "--remove", "2:1"], ["object 1 cannot be removed"], id="remove early"),
    ],
)
def test_a_wrong_word_is_answered_with_one_clear_line(run, clip, tmp_path, words, expected):
    fails(run("segment", clip, "-o", tmp_path / "out", *words), *expected)


def test_a_mask_of_another_size_is_named(run, clip, tmp_path):
    mask = blank_mask(tmp_path / "m.png", (48, 64), box=(1, 1, 20, 20))
    fails(run("segment", clip, "-o", tmp_path / "out", "--mask", f"2:{mask}"), "48×64", "96×128", "frame 2")


def test_a_mask_without_an_object_is_named(run, clip, tmp_path):
    mask = blank_mask(tmp_path / "m.png", SIZE)
    fails(run("segment", clip, "-o", tmp_path / "out", "--mask", f"0:{mask}"), "m.png", "no object")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("missing.mp4", None, id="missing"),
        pytest.param("text.mp4", b"this is not a video, it is a sentence\n" * 20, id="text named .mp4"),
        pytest.param("empty.mp4", b"", id="empty"),
    ],
)
def test_a_file_that_is_no_video_is_named(run, tmp_path, name, content):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    fails(run("segment", path, "-o", tmp_path / "out"), name)


def test_a_video_without_frames_is_named(run, tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    fails(run("segment", path, "-o", tmp_path / "out"), "sound.mp4")


def test_a_truncated_video_gives_every_frame_it_has_and_a_warning(run, tmp_path):
    whole = write_clip(tmp_path / "whole.mp4", frames=40)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.6)])
    done = run("segment", cut, "-o", tmp_path / "out", "--size", 96)
    assert done.returncode == 0, done.stderr
    assert sum(line.startswith("warning: ") for line in done.stderr.splitlines()) == 1
    frames = len(journal_lines(tmp_path / "out"))
    assert 5 < frames < 40
    assert len(list(open_video(tmp_path / "out" / "overlay.mp4"))) == frames


def test_a_foreign_folder_is_left_alone_even_with_overwrite(run, clip, tmp_path):
    output = tmp_path / "holiday"
    output.mkdir()
    (output / "photo.jpg").write_bytes(b"precious")
    for words in ([], ["--overwrite"]):
        fails(run("segment", clip, "-o", output, *words), "holiday", "choose another output folder")
    assert all_files(output) == {"photo.jpg": b"precious"}


def test_another_command_needs_overwrite(run, clip, tmp_path):
    output = tmp_path / "out"
    assert run("segment", clip, "-o", output, "--stop", 3).returncode == 0
    fails(run("segment", clip, "-o", output, "--stop", 4), "belongs to another run", "options", "--overwrite")
    assert len(journal_lines(output)) == 3
    assert run("segment", clip, "-o", output, "--stop", 4, "--overwrite").returncode == 0
    assert len(journal_lines(output)) == 4


def test_an_output_that_cannot_be_made_is_named(run, clip, tmp_path):
    (tmp_path / "file").write_text("I am a file")
    fails(run("segment", clip, "-o", tmp_path / "file" / "out"), "file/out")
    fails(run("segment", clip, "-o", tmp_path / "file"), "is a file")


def test_a_full_disk_is_one_line_and_finished_frames_are_kept(run, clip, tmp_path):
    """A limit on the size of a file stops the journal as a full disk does; without it the same command finishes."""
    output = tmp_path / "out"
    words = ("segment", clip, "-o", output, "--size", 96, "--mask", f"0:{clip.with_name('first.png')}")

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))

    fails(run(*words, preexec_fn=small_files), str(output), "same command again")
    assert list((output / "masks").glob("*.png"))
    assert run(*words).returncode == 0
    assert len(journal_lines(output)) == 30


# ------------------------------------------------------- stopped and resumed

LONG = 230
"""Frames of the clip that is interrupted: two snapshots, at 100 and 200."""


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("long") / "long.mp4", frames=LONG)


@pytest.fixture(scope="module")
def uninterrupted(run: Run, long_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    output = tmp_path_factory.mktemp("whole") / "out"
    done = run(*command(long_clip, output))
    assert done.returncode == 0, done.stderr
    return all_files(output)


def command(clip: Path, output: Path) -> list[object]:
    """Prompts at both ends of the first snapshot, so that queued prompts must survive it; found objects beside."""
    first = f"0:{clip.with_name('first.png')}"
    return [
        "segment",
        clip,
        "-o",
        output,
        "--task",
        "uvos",
        "--size",
        96,
        "--mask",
        first,
        "--box",
        "150:9:20,20,60,60",
        "--propagator",
        "flow",
    ]


KILL_AT = """
import os, signal, sys
from pathlib import Path
moment, count = sys.argv[1].split(":")
seen = 0
def kill_at(*_):
    global seen
    seen += 1
    if seen == int(count):
        os.kill(os.getpid(), signal.SIGKILL)
def before(module, name):
    original = getattr(module, name)
    def wrapped(*args, **kwargs):
        kill_at()
        return original(*args, **kwargs)
    setattr(module, name, wrapped)
import maskstream.engine.run as run
import maskstream.sinks.frames as frames
import maskstream.sinks.folder as folder
if moment == "mask":
    before(frames, "write_label_png")
elif moment == "snapshot":
    before(folder.os, "fsync")
elif moment == "join":
    before(frames, "join_videos")
elif moment == "tracks":
    before(run, "write_tracks")
elif moment == "finish":
    before(folder.shutil, "rmtree")
from maskstream.cli import main
sys.argv = ["maskstream", *sys.argv[2:]]
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("mask:40", id="before the first snapshot"),
        pytest.param("snapshot:2", id="while the first snapshot is written"),
        pytest.param("mask:170", id="between two snapshots"),
        pytest.param("mask:229", id="just before the end"),
        pytest.param("join:1", id="before the overlay is joined"),
        pytest.param("tracks:1", id="before the tracks are written"),
        pytest.param("finish:1", id="complete, but not tidied up"),
    ],
)
def test_kill_9_and_the_same_command_end_in_the_same_bytes(run, long_clip, uninterrupted, tmp_path, moment):
    output = tmp_path / "out"
    words = command(long_clip, output)
    killed = subprocess.run(
        [sys.executable, "-c", KILL_AT, moment, *map(str, words)], capture_output=True, check=False, timeout=300
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    again = run(*words, "--json")
    assert again.returncode == 0, again.stderr
    if moment in ("mask:170", "mask:229"):
        assert json.loads(again.stdout)["continued_from"] in (100, 200)
    assert all_files(output) == uninterrupted


def test_ctrl_c_is_one_line_and_the_same_command_continues(run, long_clip, uninterrupted, tmp_path):
    output = tmp_path / "out"
    words = [sys.executable, "-m", "maskstream", *map(str, command(long_clip, output))]
    process = started(words)
    waited = time.monotonic()
    while len(list((output / "masks").glob("*.png"))) < 110 and process.poll() is None:
        assert time.monotonic() - waited < 200
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert "same command again continues" in stderr
    assert run(*command(long_clip, output)).returncode == 0
    assert all_files(output) == uninterrupted


def test_a_snapshot_does_not_depend_on_where_the_folder_is(run, clip, tmp_path):
    """A finished folder may be moved, and is still recognised."""
    output = tmp_path / "out"
    assert run("segment", clip, "-o", output, "--stop", 3).returncode == 0
    shutil.move(output, tmp_path / "moved")
    done = run("segment", clip, "-o", tmp_path / "moved", "--stop", 3)
    assert "already complete" in done.stdout


def test_standard_input_is_read_once_and_cannot_be_continued(run, clip, tmp_path):
    with clip.open("rb") as file:
        done = run("segment", "-", "-o", tmp_path / "out", "--size", 96, stdin=file)
    assert done.returncode == 0, done.stderr
    assert len(journal_lines(tmp_path / "out")) == 30


def test_raw_frames_on_standard_input_are_read(run, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (4, *SIZE, 3), dtype=np.uint8).tobytes()
    (tmp_path / "raw").write_bytes(pixels)
    with (tmp_path / "raw").open("rb") as file:
        done = run("segment", "-", "--raw", f"{SIZE[1]}x{SIZE[0]}@30", "-o", tmp_path / "out", stdin=file)
    assert done.returncode == 0, done.stderr
    assert len(journal_lines(tmp_path / "out")) == 4


def test_debug_shows_the_traceback(tmp_path):
    words = [sys.executable, "-m", "maskstream", "segment", "missing.mp4", "-o", str(tmp_path / "o"), "--debug"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path, env=dict(os.environ))
    assert done.returncode != 0
    assert "Traceback" in done.stderr
