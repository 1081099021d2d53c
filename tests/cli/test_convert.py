"""``maskstream convert`` as a command: what it says, and that it does what was asked."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from maskstream.cli.convert import convert
from maskstream.conversion import FORMATS
from maskstream.types import InputError, MaskstreamError

from ..formats.clips import ANIMALS, box, clip

app = typer.Typer()
app.command()(convert)


def invoke(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    """One video of two frames with a cat and a dog."""
    video = clip([{1: box(0, 0, 3, 3), 2: box(5, 5, 8, 8)}] * 2, categories={1: 1, 2: 2}, pictures=tmp_path / "in")
    write = FORMATS["yolo"].write
    assert write is not None
    write(tmp_path / "yolo", [video], ANIMALS)
    return tmp_path / "yolo"


def test_it_says_what_it_wrote(tmp_path, yolo):
    done = invoke(yolo, tmp_path / "coco", "--from", "yolo", "--to", "coco")
    assert done.exit_code == 0, done.output
    assert done.stdout == f"done: {tmp_path / 'coco'}, COCO: 1 videos of 2 frames in all\n"
    assert (tmp_path / "coco" / "annotations" / "instances_val.json").exists()
    assert len(list((tmp_path / "coco").rglob("*.jpg"))) == 2


def test_quiet_says_nothing(tmp_path, yolo):
    done = invoke(yolo, tmp_path / "out", "--from", "yolo", "--to", "coco", "--images", "none", "--quiet")
    assert (done.exit_code, done.output) == (0, "")
    assert not list((tmp_path / "out").rglob("*.jpg"))


def test_what_is_lost_is_refused_and_then_told(tmp_path, yolo):
    words = (yolo, tmp_path / "out", "--from", "yolo", "--to", "davis")
    refused = invoke(*words)
    assert isinstance(refused.exception, InputError)
    sentence = "1 of 1 videos: objects have categories: these are left out"
    assert f"{sentence}. To convert it so, say --lossy" in str(refused.exception)
    assert not (tmp_path / "out").exists()
    done = invoke(*words, "--lossy")
    assert done.exit_code == 0
    assert f"lost: {sentence}\n" in done.stderr


def test_a_map_and_a_file_can_be_named(tmp_path, yolo):
    (tmp_path / "map.json").write_text('{"cat": "animal", "*": null}')
    done = invoke(yolo, tmp_path / "a.json", "--from", "yolo", "--to", "ytvis", "--map", tmp_path / "map.json")
    assert done.exit_code == 0, done.exception
    assert FORMATS["ytvis"].read(tmp_path / "a.json", None)[0].names == ("animal",)


@pytest.mark.parametrize(
    "options, message",
    [
        pytest.param(("--from", "yolo", "--to", "paper"), "there is no layout 'paper'; known: davis", id="layout"),
        pytest.param(("--from", "coco", "--to", "davis"), "has no annotations/instances_val", id="other source"),
        pytest.param(
            ("--from", "yolo", "--to", "coco", "--images", "link"), "--images is copy or none, not 'link'", id="images"
        ),
        pytest.param(("--from", "yolo", "--to", "coco", "--split", "val"), "has no splits, so no 'val'", id="split"),
    ],
)
def test_an_error_is_one_line_and_leaves_nothing(tmp_path, yolo, options, message):
    refused = invoke(yolo, tmp_path / "out", *options)
    assert isinstance(refused.exception, MaskstreamError)
    assert message in str(refused.exception)
    assert "\n" not in str(refused.exception)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "yolo"]


def test_the_help_names_every_layout():
    text = " ".join(invoke("--help").output.split())
    missing = [name for name in FORMATS if name not in text.replace("│", "").replace("- ", "-")]
    assert not missing
