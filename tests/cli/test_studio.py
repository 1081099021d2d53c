"""``maskstream studio`` as a process: started, asked, stopped and killed."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from maskstream.cli.studio import _show, address_of

from .processes import started

_ADDRESS = re.compile(r"the studio is at (http://\S+)")


class Server:
    """A studio in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process = process
        self.address = address
        self.base, _, query = address.partition("?")
        self.token = query.removeprefix("token=")

    def ask(self, path: str, body: object = None, **headers: str) -> tuple[int, bytes]:
        """Status and answer."""
        data = None if body is None else json.dumps(body).encode()
        said = {"content-type": "application/json", **headers}
        if self.token:
            said.setdefault("authorization", f"Bearer {self.token}")
        request = urllib.request.Request(f"{self.base}{path}", data, said)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def state(self) -> dict[str, Any]:
        plain: dict[str, Any] = json.loads(self.ask("api/state")[1])
        return plain

    def stop(self, how: signal.Signals = signal.SIGINT) -> tuple[int, str]:
        """Exit code, and what it said on standard error."""
        self.process.send_signal(how)
        _, error = self.process.communicate(timeout=30)
        return self.process.returncode, error


@contextmanager
def serving(folder: Path, *words: object, host: str = "127.0.0.1") -> Iterator[Server]:
    command = [sys.executable, "-m", "maskstream", "studio", *map(str, words), "--port", "0", "--host", host]
    environment = {**os.environ, "DISPLAY": "", "WAYLAND_DISPLAY": "", "PYTHONUNBUFFERED": "1"}
    process = started(command, cwd=folder, env=environment)
    patience = threading.Timer(120, process.kill)
    patience.start()
    try:
        assert process.stdout is not None
        found = _ADDRESS.match(process.stdout.readline())
        assert found is not None, process.communicate()[1]
        yield Server(process, found[1].replace(socket.gethostname(), "localhost"))
    finally:
        patience.cancel()
        if process.poll() is None:
            process.kill()
            process.communicate()


STROKE = {"object": None, "stroke": [[20, 20], [60, 40]], "radius": 6, "erase": False}


def test_it_opens_a_video_saves_everything_and_survives_a_kill(tmp_path: Path, clip: Path):
    with serving(tmp_path, clip) as server:
        assert server.address == server.base
        state = server.state()
        assert state["project"] == {"name": "clip", "folder": str(tmp_path / "studio" / "clip")}
        assert server.ask("")[0] == 200
        assert server.ask("api/frames/3.jpg?height=96")[1][:2] == b"\xff\xd8"
        for frame in (0, 7):
            assert server.ask("api/brush", {**STROKE, "frame": frame})[0] == 200
        before, masks = server.state(), server.ask("api/masks/7.png")[1]
        server.stop(signal.SIGKILL)
    with serving(tmp_path, tmp_path / "studio" / "clip", "--no-browser") as server:  # its video lies outside the root
        assert server.state() == before
        assert server.ask("api/masks/7.png")[1] == masks
        code, error = server.stop()
        assert (code, error) == (130, "stopped: everything is saved; the same command again goes on\n")


def test_it_is_killed_while_masks_are_followed_and_what_was_found_is_there(tmp_path: Path, clip: Path):
    wanted = {"objects": None, "first": 0, "last": 29, "direction": "forward"}
    with serving(tmp_path, clip) as server:
        assert server.ask("api/brush", {**STROKE, "frame": 0})[0] == 200
        assert server.ask("api/propagate", wanted)[0] == 202
        end = time.monotonic() + 60
        while not (found := server.state()["objects"][0]["found"]):
            assert time.monotonic() < end
            time.sleep(0.02)
        server.stop(signal.SIGKILL)
    with serving(tmp_path, clip) as server:
        state = server.state()
        (it,) = state["objects"]
        assert it["found"][0][1] >= found[0][1]
        assert state["undo"] == "propagate forward"
        assert state["job"] is None
        server.stop(signal.SIGTERM)


def test_beyond_this_machine_a_token_is_made_and_printed(tmp_path: Path):
    with serving(tmp_path, host="0.0.0.0") as server:
        assert len(server.token) >= 24
        assert server.ask("api/state")[0] == 200
        status, answer = server.ask("api/state", authorization="Bearer wrong")
        assert status == 401
        assert "token" in json.loads(answer)["error"]
        assert server.ask("", authorization="none")[0] == 401
        assert server.ask(f"?token={server.token}", authorization="none")[0] == 200


def test_on_loopback_other_hosts_and_pages_are_refused(tmp_path: Path):
    with serving(tmp_path) as server:
        assert server.token == ""
        assert server.ask("api/state", host="evil.example")[0] == 403
        assert server.ask("api/undo", {}, origin="http://evil.example")[0] == 403


def test_a_port_that_is_taken_is_said_in_one_line(call, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = call("studio", "--port", port)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: cannot listen at 127.0.0.1, port {port}: ")
    assert done.stderr.endswith("name another --port, 0 for any\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["missing.mp4"], "missing.mp4"),
        (["--prompter", "nonsense"], "nonsense"),
        (["--propagator", "nonsense"], "nonsense"),
        (["--segmenter", "nonsense"], "nonsense"),
        (["--root", "missing"], "there is no folder missing"),
        (["--host", "no.such.host.invalid"], "cannot listen at no.such.host.invalid"),
        (["--token", "short"], "a token of 5 characters is guessed"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(call, tmp_path: Path, monkeypatch, words: list[str], says: str):
    monkeypatch.chdir(tmp_path)
    done = call("studio", *words, "--port", 0, "--no-browser")
    assert done.returncode == 1
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_project_that_is_open_already_is_said(tmp_path: Path, clip: Path, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with serving(tmp_path, clip):
        done = call("studio", clip, "--port", 0, "--no-browser")
    assert done.returncode == 1
    assert "is open in another maskstream studio" in done.stderr


@pytest.mark.parametrize("missing", ["fastapi", "websockets"])
def test_without_the_extra_it_says_what_to_install(tmp_path: Path, missing: str):
    code = f"import sys; sys.modules[{missing!r}] = None; from maskstream.cli import main; main()"
    command = [sys.executable, "-c", code, "studio", "--port", "0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert re.fullmatch(rf"error: the studio needs {missing}.*: pip install 'maskstream\[studio\]'\n", done.stderr)


@pytest.mark.parametrize(
    ("host", "token", "address"),
    [
        ("127.0.0.1", None, "http://127.0.0.1:8765/"),
        ("localhost", None, "http://localhost:8765/"),
        ("::1", None, "http://[::1]:8765/"),
        ("10.0.0.5", "a b&c", "http://10.0.0.5:8765/?token=a%20b%26c"),
        ("0.0.0.0", "secret-token", f"http://{socket.gethostname()}:8765/?token=secret-token"),
    ],
)
def test_the_address_is_one_that_a_browser_takes(host: str, token: str | None, address: str):
    assert address_of(host, 8765, token) == address


def test_a_browser_in_the_terminal_is_never_opened(monkeypatch):
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    _show("http://localhost:1/")
    assert opened == []
    monkeypatch.setenv("DISPLAY", ":0")
    _show("http://localhost:2/")
    for thread in threading.enumerate():
        if thread.name == "studio-browser":
            thread.join(10)
    assert opened == ["http://localhost:2/"]
