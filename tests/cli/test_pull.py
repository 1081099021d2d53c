"""``maskstream pull``: with a hub that is not there, and with one that is made up."""

import json
import os

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from maskstream import pretrained
from maskstream.pretrained import Fetched


def test_offline_the_real_command_says_what_to_do_in_one_line(run, tmp_path):
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path / "hub")}
    done = run("pull", "facebook/sam2.1-hiera-tiny", env=offline)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(
        "error: facebook/sam2.1-hiera-tiny is not on this machine and the hub cannot be reached"
    )
    assert "hf download facebook/sam2.1-hiera-tiny" in done.stderr


@pytest.mark.parametrize("name", ["core-tiny", "flow"])
def test_what_is_in_the_package_needs_no_fetching(call, monkeypatch, name):
    monkeypatch.setattr(pretrained, "fetch_pretrained", None)  # whoever calls it fails
    done = call("pull", name)
    assert done.returncode == 0 and done.stdout == f"{name} is in the package: there is nothing to fetch\n"
    assert json.loads(call("pull", name, "--json").stdout) == []


@pytest.fixture
def fetched(monkeypatch, tmp_path):
    """Names that were fetched; the first is checked, others are not."""
    names: list[str] = []

    def fetch_pretrained(name):
        names.append(name)
        return Fetched(tmp_path / name, 3, 1_500_000, is_checked=len(names) == 1)

    monkeypatch.setattr(pretrained, "fetch_pretrained", fetch_pretrained)
    return names


def test_a_pair_is_fetched_one_after_the_other(call, fetched, tmp_path):
    done = call("pull", "owner/dino+owner/sam", "--quiet")
    assert done.returncode == 0 and fetched == ["owner/dino", "owner/sam"]
    assert done.stdout.splitlines() == [
        f"owner/dino: 3 files, 1.5 MB, as the hub says they are; in {tmp_path / 'owner/dino'}",
        f"owner/sam: 3 files, 1.5 MB, not compared with the hub, which cannot be reached; in {tmp_path / 'owner/sam'}",
    ]


def test_as_json(call, fetched, tmp_path):
    (one,) = json.loads(call("pull", "owner/model", "--json").stdout)
    assert one == {
        "name": "owner/model",
        "folder": str(tmp_path / "owner/model"),
        "files": 3,
        "nbytes": 1_500_000,
        "is_checked": True,
    }


@pytest.mark.parametrize("name", ["sam", "a/b/c"])
def test_what_is_no_name_is_refused(call, name):
    done = call("pull", name)
    assert done.returncode != 0 and done.stderr.startswith(f"error: unknown model {name!r}: 'maskstream models' lists")


def test_a_model_on_request_is_refused_with_a_hint(call, monkeypatch):
    def snapshot_download(*_, local_files_only=False, **__):
        if local_files_only:
            raise LocalEntryNotFoundError("not here")
        raise huggingface_hub.errors.GatedRepoError.__new__(huggingface_hub.errors.GatedRepoError)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    done = call("pull", "facebook/sam3", "--quiet")
    assert done.returncode != 0
    assert done.stderr == (
        "error: the hub knows no model facebook/sam3 that is open to all: see its page for how to get it\n"
    )
