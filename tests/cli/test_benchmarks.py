"""``predict``, ``evaluate`` and ``datasets`` as commands, on small rendered data sets in every layout."""

import json
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

from maskstream.datasets import open_dataset
from maskstream.types import Task
from tests.segmenters.tiny_models import save_clipseg, save_segformer

from .conftest import Run, all_files

SMALL = ("--videos", 2, "--frames", 9, "--size", "72x128", "--seed", 3, "--level", "easy")
BENCHMARKS = {
    Task.VOS: "davis-2017",
    Task.UVOS: "davis-2017-unsupervised",
    Task.VIS: "ytvis-2021",
    Task.VPS: "vipseg",
    Task.VSS: "vspw",
    Task.REFVOS: "ref-ytvos",
    Task.PET: "burst",
    Task.OWVS: "burst",
    Task.PVOS: "viposeg",
}
UNDEFINED = {Task.PVOS: "thing_seen_iou"}
"""Where the headline needs classes that this world has not, what is looked at instead."""


@pytest.fixture(scope="session")
def rendered(call: Run, tmp_path_factory: pytest.TempPathFactory):
    """The folder of a small set of a task."""
    root = tmp_path_factory.mktemp("rendered")

    def folder(task: Task) -> Path:
        path: Path = root / task.value
        if not path.exists():
            done = call("synth", path, "--task", task.value, "--quiet", *SMALL)
            assert done.returncode == 0, done.stderr
        return path

    return folder


def how(task: Task, root: Path) -> list[object]:
    return [BENCHMARKS[task], "--root", root, "--task", task.value]


def score(path: Path, task: Task) -> float:
    plain = json.loads(path.read_text())
    metric = plain["headline"]["metric"]
    value = UNDEFINED.get(task, plain["headline"]["value"])
    return float(plain["reports"][metric]["values"][value])


@pytest.mark.parametrize("task", Task, ids=lambda task: task.value)
def test_truth_predicted_scores_one_hundred_in_every_layout(call: Run, rendered, tmp_path: Path, task: Task) -> None:
    root = rendered(task)
    done = call("predict", *how(task, root), "-o", tmp_path / "out", "--model", "truth")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"done: 2 videos, 18 frames; results in {tmp_path / 'out' / 'results'}\n"
    done = call("evaluate", *how(task, root), "--pred", tmp_path / "out", "--json", tmp_path / "e.json", "--quiet")
    assert done.returncode == 0, done.stderr
    assert score(tmp_path / "e.json", task) == pytest.approx(1, abs=1e-12)
    assert " 100.0" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("task", Task, ids=lambda task: task.value)
def test_the_default_model_runs_on_every_task(call: Run, rendered, tmp_path: Path, task: Task) -> None:
    root = rendered(task)
    agnostic = ["--label-space", "object"] if task in (Task.VIS, Task.VPS, Task.VSS) else []
    blind = ["--blind"] if task is Task.REFVOS else []
    done = call("predict", *how(task, root), "-o", tmp_path / "out", *agnostic, *blind)
    assert done.returncode == 0, done.stderr
    done = call("evaluate", *how(task, root), "--pred", tmp_path / "out", "--json", tmp_path / "e.json", *agnostic)
    assert done.returncode == 0, done.stderr
    assert 0 <= score(tmp_path / "e.json", task) <= 1
    if task in (Task.VOS, Task.PVOS):
        assert score(tmp_path / "e.json", task) > 0.7


@pytest.mark.slow
def test_an_interrupted_run_continues_with_the_videos_that_are_not_done(run: Run, rendered, tmp_path: Path) -> None:
    words = ["predict", *how(Task.VOS, rendered(Task.VOS)), "--zip"]
    assert run(*words, "-o", tmp_path / "whole").returncode == 0
    command = [sys.executable, "-m", "maskstream", *map(str, words), "-o", str(tmp_path / "cut")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        began = time.monotonic()
        while not list((tmp_path / "cut" / "journals").glob("*.jsonl")):
            assert process.poll() is None and time.monotonic() - began < 120
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    done = run("evaluate", *how(Task.VOS, rendered(Task.VOS)), "--pred", tmp_path / "cut")
    assert (done.returncode, done.stdout) == (1, "")
    assert "is a run of predict that has not finished: run the same command again" in done.stderr
    assert run(*words, "-o", tmp_path / "cut").returncode == 0
    assert all_files(tmp_path / "cut") == all_files(tmp_path / "whole")


@pytest.mark.slow
def test_two_workers_and_a_second_time_give_the_same_bytes(call: Run, rendered, tmp_path: Path) -> None:
    root = rendered(Task.PVOS)
    words = ["predict", *how(Task.PVOS, root)]
    for name, workers in (("one", 1), ("two", 2)):
        assert call(*words, "-o", tmp_path / name, "--workers", workers).returncode == 0
    assert all_files(tmp_path / "one") == all_files(tmp_path / "two")
    done = call(*words, "-o", tmp_path / "one")
    assert done.stdout.startswith("already complete: 2 videos")
    done = call(*words, "-o", tmp_path / "one", "--size", 240)
    assert done.returncode == 1
    assert "belongs to another run (its settings differ)" in done.stderr
    evaluated = [
        call("evaluate", *how(Task.PVOS, root), "--pred", tmp_path / "one", "--json", out, "--workers", n)
        for n, out in ((1, tmp_path / "a.json"), (2, tmp_path / "b.json"))
    ]
    assert [done.returncode for done in evaluated] == [0, 0]
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_a_zip_has_the_results_at_its_root(call: Run, rendered, tmp_path: Path) -> None:
    words = ["predict", *how(Task.VIS, rendered(Task.VIS)), "--model", "truth", "-o", tmp_path / "out"]
    assert call(*words, "--zip").returncode == 0
    with zipfile.ZipFile(tmp_path / "out" / "results.zip") as archive:
        assert archive.namelist() == ["results.json"]
        assert json.loads(archive.read("results.json"))
    assert call(*words, "--zip", "--videos", "easy-3-0000", "--overwrite").returncode == 0
    results = json.loads((tmp_path / "out" / "results" / "results.json").read_text())
    assert {entry["video_id"] for entry in results} == {1}


def test_the_report_is_one_page_with_the_worst_videos_and_the_json_keeps_its_schema(
    call: Run, rendered, tmp_path: Path
) -> None:
    root = rendered(Task.UVOS)
    call("predict", *how(Task.UVOS, root), "-o", tmp_path / "out", "--model", "truth")
    for path in (tmp_path / "out" / "results" / "easy-3-0001").glob("*.png"):
        with Image.open(path) as image:
            values = np.zeros_like(np.asarray(image))
        Image.fromarray(values).save(path)
    files = ["--json", tmp_path / "e.json", "--html", tmp_path / "e.html"]
    done = call("evaluate", *how(Task.UVOS, root), "--pred", tmp_path / "out", *files, "--intervals")
    assert done.returncode == 0, done.stderr
    plain = json.loads((tmp_path / "e.json").read_text())
    schema = Path(__file__).parents[2] / "docs" / "schemas" / "evaluation.json"
    jsonschema.validate(plain, json.loads(schema.read_text()))
    assert list(plain["video_scores"]) == ["easy-3-0001", "easy-3-0000"]
    assert plain["video_scores"]["easy-3-0001"] < 0.1
    page = (tmp_path / "e.html").read_text()
    assert page.index("easy-3-0001<small>") < page.index("easy-3-0000<small>")
    assert page.count("data:image/jpeg") == 2 * 2 * 6
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")
    assert "[" in done.stdout  # intervals


def test_evaluation_never_opens_a_picture(call: Run, rendered, tmp_path: Path) -> None:
    words = ["synth", tmp_path / "bare", "--task", "vis", "--quiet", *SMALL]
    assert call(*words).returncode == 0
    pictures = list((tmp_path / "bare" / "valid" / "JPEGImages").rglob("*.jpg"))
    assert len(pictures) == 18
    for path in pictures:
        path.write_bytes(b"no picture")
    assert call("synth", tmp_path / "results", "--task", "vis", "--quiet", "--as-predictions", *SMALL).returncode == 0
    done = call("evaluate", "ytvis-2021", "--root", tmp_path / "bare", "--pred", tmp_path / "results")
    assert (done.returncode, "100.0" in done.stdout) == (0, True), done.stderr
    done = call("predict", "ytvis-2021", "--root", tmp_path / "bare", "-o", tmp_path / "out", "--label-space", "object")
    assert done.returncode == 1
    assert "00000.jpg cannot be read as an image" in done.stderr


@pytest.mark.parametrize("task", [Task.VIS, Task.VSS], ids=lambda task: task.value)
def test_a_model_of_words_is_asked_for_the_categories_of_the_data_set(
    call: Run, rendered, tmp_path: Path, task: Task
) -> None:
    root = rendered(task)
    (tmp_path / "clipseg").mkdir()
    save_clipseg(tmp_path / "clipseg")
    done = call("predict", *how(task, root), "-o", tmp_path / "out", "--segmenter", tmp_path / "clipseg", "--size", 64)
    assert done.returncode == 0, done.stderr
    journals = [path for path in (tmp_path / "out" / "journals").iterdir() if path.suffix == ".jsonl"]
    lines = [json.loads(line) for path in journals for line in path.read_text().splitlines()[1:]]
    found = {segment["category"] for line in lines for segment in line["segments"]}
    assert found <= set(open_dataset(BENCHMARKS[task], root).categories.ids)
    assert found - {None}
    done = call("evaluate", *how(task, root), "--pred", tmp_path / "out", "--quiet")
    assert done.returncode == 0, done.stderr


def test_sentences_are_answered_by_a_model_that_reads(call: Run, rendered, tmp_path: Path) -> None:
    """And by the preset, offline; the same command again is nothing to do."""
    root = rendered(Task.REFVOS)
    (tmp_path / "clipseg").mkdir()
    save_clipseg(tmp_path / "clipseg")
    words = ["predict", *how(Task.REFVOS, root), "-o", tmp_path / "out", "--segmenter", tmp_path / "clipseg"]
    words += ["--size", 64, "--key-frames", 3]
    done = call(*words)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"done: 2 videos, 18 frames, offline; results in {tmp_path / 'out' / 'results'}\n"
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    settings = ("schedule", "key_frames", "size", "detection_every")
    assert [run["settings"][name] for name in settings] == ["offline", 3, 64, 5]
    assert (run["schedule"], run["compat"]) == (None, "paper")
    done = call("evaluate", *how(Task.REFVOS, root), "--pred", tmp_path / "out", "--quiet")
    assert done.returncode == 0, done.stderr
    assert call(*words).stdout.startswith("already complete: 2 videos, 18 frames, offline")
    assert "its compat differ" in call(*words, "--compat", "official").stderr
    online = call(*words, "--overwrite", "--schedule", "online")
    assert (online.returncode, "with --schedule offline, not online" in online.stderr) == (1, True)


def test_what_stands_out_is_found_by_a_network_of_one_class(call: Run, rendered, tmp_path: Path) -> None:
    root = tmp_path / "davis-2016"
    shutil.copytree(rendered(Task.VOS), root)
    (root / "ImageSets" / "2017").rename(root / "ImageSets" / "2016")
    (tmp_path / "net").mkdir()
    save_segformer(tmp_path / "net", classes=1)
    words = ["davis-2016", "--root", root, "--task", "uvos"]
    how_to = ["--segmenter", tmp_path / "net", "--size", 64, "--key-frames", 2]
    done = call("predict", *words, "-o", tmp_path / "out", *how_to)
    assert done.returncode == 0, done.stderr
    assert "18 frames, offline; " in done.stdout
    done = call("evaluate", *words, "--pred", tmp_path / "out", "--quiet")
    assert done.returncode == 0, done.stderr
    done = call("predict", *words, "-o", tmp_path / "other", "--size", 64, "--videos", "easy-3-0000")
    assert "9 frames, semi-online; " in done.stdout, done.stderr  # motion finds several objects


def test_missing_predictions_are_refused_by_name_or_counted(call: Run, rendered, tmp_path: Path) -> None:
    root = rendered(Task.VSS)
    call("predict", *how(Task.VSS, root), "-o", tmp_path / "out", "--model", "truth")
    gone = sorted((tmp_path / "out" / "results" / "easy-3-0000").iterdir())[4]
    gone.unlink()
    done = call("evaluate", *how(Task.VSS, root), "--pred", tmp_path / "out")
    assert done.returncode == 1
    assert "error: easy-3-0000, frame 4: there is no prediction" in done.stderr
    done = call("evaluate", *how(Task.VSS, root), "--pred", tmp_path / "out", "--allow-missing")
    assert done.returncode == 0
    assert "1 frames of 1 videos had no prediction" in done.stdout


@pytest.mark.parametrize(
    "words, message",
    [
        pytest.param(["evaluate", "davis-2018", "--pred", "x"], "no data set 'davis-2018'; known: ", id="name"),
        pytest.param(["evaluate", "davis-2017", "--pred", "x"], "say where davis-2017 is", id="no root"),
        pytest.param(["evaluate", "davis-2017", "--root", "nowhere", "--pred", "x"], "there is no nowhere", id="root"),
        pytest.param(["evaluate", "davis-2017", "--root", "{root}", "--pred", "x"], "are no results x", id="pred"),
        pytest.param(
            ["evaluate", "davis-2017", "--root", "{root}", "--pred", "x", "--task", "vps"],
            "davis-2017 is not annotated for vps, but for vos",
            id="task",
        ),
        pytest.param(
            ["evaluate", "coco", "--root", "{root}", "--pred", "x", "--compat", "mine"], "not 'mine'", id="compat"
        ),
        pytest.param(
            ["predict", "vipseg", "--root", "{root}", "-o", "o"], "has no panoptic_gt_VIPSeg_val.json", id="other set"
        ),
        pytest.param(
            ["predict", "davis-2017", "--root", "{root}", "-o", "o", "--videos", "cat"], "no video cat", id="video"
        ),
        pytest.param(
            ["predict", "davis-2017", "--root", "{root}", "-o", "o", "--model", "sam"],
            "unknown model 'sam'",
            id="model",
        ),
        pytest.param(
            ["predict", "davis-2017", "--root", "{root}", "-o", "o", "--schedule", "late"],
            "unknown schedule 'late'; known: online, semi-online, offline",
            id="schedule",
        ),
        pytest.param(
            ["predict", "davis-2017", "--root", "{root}", "-o", "o", "--compat", "mine"],
            "not 'mine'",
            id="predict compat",
        ),
        pytest.param(["datasets", "davis"], "there is no data set 'davis'", id="datasets"),
        pytest.param(
            ["evaluate", "synthetic-vos:v7-easy-seed0", "--pred", "x"], "version 7 of the world", id="synthetic"
        ),
    ],
)
def test_a_mistake_is_one_line(call: Run, rendered, tmp_path: Path, monkeypatch, words, message) -> None:
    root = rendered(Task.VOS)
    monkeypatch.chdir(tmp_path)
    done = call(*(word.format(root=root) for word in words))
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_model_that_knows_no_categories_says_what_to_do(call: Run, rendered, tmp_path: Path) -> None:
    done = call("predict", *how(Task.VPS, rendered(Task.VPS)), "-o", tmp_path / "out")
    assert (done.returncode, "with --label-space object it finds objects of any category" in done.stderr) == (1, True)
    done = call("predict", *how(Task.REFVOS, rendered(Task.REFVOS)), "-o", tmp_path / "out2")
    assert (done.returncode, "with --blind it answers every sentence" in done.stderr) == (1, True)


def test_datasets_tells_what_was_found(call: Run, rendered) -> None:
    done = call("datasets")
    assert done.returncode == 0
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert {"davis-2017", "vipseg", "burst", "coco", "synthetic-TASK:v1-LEVEL-seedS"} <= set(names)
    done = call("datasets", "davis-2017", "--root", rendered(Task.VOS))
    assert done.returncode == 0
    assert "  val: 2 videos, 1 categories" in done.stdout
    assert "  train: " in done.stdout and "train.txt" in done.stdout


def test_a_synthetic_set_needs_no_root(call: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "synthetic-vos:v1-easy-seed5"
    cached = tmp_path / "cache" / "synthetic" / name.replace(":", "-")
    assert call("synth", cached, "--task", "vos", "--quiet", *SMALL).returncode == 0  # a small one in its place
    monkeypatch.setenv("MASKSTREAM_CACHE", str(tmp_path / "cache"))
    assert call("predict", name, "-o", tmp_path / "out", "--model", "truth").returncode == 0
    done = call("evaluate", name, "--pred", tmp_path / "out")
    assert done.stdout.startswith(f"{name}, val, vos: 2 videos\n")


def test_a_synthetic_set_is_rendered_once_with_progress(call: Run, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MASKSTREAM_CACHE", str(tmp_path / "cache"))
    for name, value in (("VIDEOS", 1), ("FRAMES", 3), ("SIZE", (32, 56))):
        monkeypatch.setattr(f"maskstream.synthetic.named.{name}", value)
    words = ["predict", "synthetic-vss:v1-easy-seed5", "--model", "truth", "-o"]
    first, second = (call(*words, tmp_path / name) for name in ("a", "b"))
    assert (first.returncode, second.returncode) == (0, 0)
    assert "rendering synthetic-vss:v1-easy-seed5: frame 3 of 3" in first.stderr
    assert "rendering" not in second.stderr
    assert all_files(tmp_path / "a" / "results") == all_files(tmp_path / "b" / "results")
