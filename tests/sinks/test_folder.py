import json

import pytest
import torch

from maskstream.sinks.folder import RunFolder
from maskstream.types import OutputError

REQUEST = {"command": "segment", "options": {"start": 0, "stop": None}, "prompts": {"box": ("0:1:1,1,2,2",)}}


def test_a_new_folder_says_whose_it_is_and_that_it_is_not_finished(tmp_path):
    folder = RunFolder(tmp_path / "a" / "b", REQUEST)
    run = json.loads((folder.path / "run.json").read_text())
    assert (run["schema"], run["complete"], run["command"]) == ("maskstream/run", False, "segment")
    assert folder.snapshot() is None


def test_the_same_request_finds_its_snapshot(tmp_path):
    RunFolder(tmp_path, REQUEST).save_snapshot({"done": 3, "masks": torch.arange(4)})
    state = RunFolder(tmp_path, REQUEST).snapshot()
    assert state is not None
    assert state["done"] == 3
    assert state["masks"].tolist() == [0, 1, 2, 3]


def test_a_finished_folder_keeps_nothing_of_the_way_there(tmp_path):
    folder = RunFolder(tmp_path, REQUEST)
    folder.save_snapshot({"done": 3})
    folder.finish()
    assert folder.complete
    assert {path.name for path in tmp_path.iterdir()} == {"run.json", "masks"}


def test_what_differs_from_the_earlier_request_is_named(tmp_path):
    RunFolder(tmp_path, REQUEST)
    with pytest.raises(OutputError, match=r"its options differ.*--overwrite"):
        RunFolder(tmp_path, REQUEST | {"options": {"start": 1, "stop": None}})
    with pytest.raises(OutputError, match=r"its seed differ"):
        RunFolder(tmp_path, REQUEST | {"seed": 1})


def test_overwriting_starts_anew(tmp_path):
    folder = RunFolder(tmp_path, REQUEST)
    folder.save_snapshot({"done": 3})
    (folder.masks / "00000.png").write_bytes(b"old")
    again = RunFolder(tmp_path, REQUEST | {"seed": 1}, overwrite=True)
    assert again.snapshot() is None
    assert list(again.masks.iterdir()) == []


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("photo.jpg", b"precious", id="no run.json at all"),
        pytest.param("run.json", b'{"distance": 10}', id="a run.json about jogging"),
        pytest.param("run.json", b"\xff\x00", id="a run.json that is no text"),
        pytest.param("run.json", b"[]", id="a run.json that is a list"),
    ],
)
def test_a_folder_of_somebody_else_is_never_touched(tmp_path, name, content, overwrite):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(OutputError):
        RunFolder(tmp_path, REQUEST, overwrite=overwrite)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {name: content}


def test_an_empty_folder_may_be_used(tmp_path):
    assert not RunFolder(tmp_path, REQUEST).complete


def test_a_snapshot_that_was_not_finished_leaves_the_earlier_one(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path, REQUEST)
    folder.save_snapshot({"done": 1})

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", crash)
    with pytest.raises(KeyboardInterrupt):
        folder.save_snapshot({"done": 2})
    assert folder.snapshot() == {"done": 1}
    assert [path.name for path in folder.progress.iterdir()] == ["state.pt"]
