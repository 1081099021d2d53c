import json
import subprocess
import sys
from pathlib import Path

from maskstream import __version__
from maskstream.formats import read_label_png
from maskstream.video import open_video

from .conftest import Run


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, maskstream.cli; print([m for m in ('torch', 'cv2', 'av', 'numpy', 'PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_names_every_command(run: Run) -> None:
    shown = run("--help").stdout
    assert all(name in shown for name in ("segment", "info", "sample", "doctor"))


def test_the_version_is_printed(run: Run) -> None:
    assert run("--version").stdout.strip() == f"maskstream {__version__}"


def test_info_says_what_a_video_is(run: Run, clip: Path) -> None:
    facts = json.loads(run("info", clip, "--json").stdout)
    assert facts["codec"] == "h264"
    assert facts["frame_count"] == 30
    assert "h264" in run("info", clip).stdout


def test_info_on_a_missing_file_is_one_line(run: Run) -> None:
    done = run("info", "missing.mp4")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "missing.mp4" in done.stderr


def test_doctor_finds_this_machine_able(run: Run) -> None:
    done = run("doctor", "--json")
    assert done.returncode == 0, done.stdout
    findings = json.loads(done.stdout)
    assert {"what": "pipeline", "state": "ok", "detail": "encoded, decoded and segmented 4 frames"} in findings


def test_sample_is_the_same_every_time_and_has_its_truth_beside_it(run: Run, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        done = run("sample", tmp_path / name / "s.mp4", "--frames", 3, "--quiet")
        assert done.returncode == 0, done.stderr
    one, two = ({p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*.*")} for n in ("a", "b"))
    assert one == two
    assert len(list(open_video(tmp_path / "a" / "s.mp4"))) == 3
    (truth,) = (tmp_path / "a").rglob("00002.png")
    assert "Annotations" in truth.parts
    assert read_label_png(truth).max() >= 1
