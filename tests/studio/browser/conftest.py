"""A real server, in a process of its own, and a real browser without a window."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from maskstream.synthetic import render_sample
from maskstream.video import VideoWriter

from .screen import Screen

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FRAMES = 20


@dataclass(frozen=True)
class Clip:
    """A clip and where its objects are: 1 is a fish, 2 a turtle."""

    path: Path
    truth: list[NDArray[np.int32]]


class Server:
    """``maskstream studio``, that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.videos, self.projects = folder / "videos", folder / "projects"
        self.videos.mkdir()
        self.address = ""
        self._process: subprocess.Popen[str] | None = None

    def start(self, *words: object) -> str:
        """Start it with these words, such as a video; returns its address once it answers."""
        command = [sys.executable, "-m", "maskstream", "studio", *map(str, words), "--no-browser", "--port", "0"]
        folders = ["--root", str(self.videos), "--project", str(self.projects)]
        self._process = subprocess.Popen([*command, *folders], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        found = re.search(r"http://\S+", self._process.stdout.readline())
        assert found, "the studio does not start"
        self.address = found.group()
        return self.address

    def kill(self) -> None:
        """At once, as when the power fails."""
        assert self._process is not None
        self._process.kill()
        self._process.communicate()

    def stop(self) -> None:
        """As a person stops it."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.communicate(timeout=60)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser is installed: none of {', '.join(BROWSERS)} is on the PATH")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", size_hw=(240, 428))


def write_clip(path: Path, *, size_hw: tuple[int, int], frames: int = FRAMES) -> Clip:
    truth = []
    with VideoWriter(path, size_hw=size_hw) as writer:
        for frame, annotation in render_sample(frames=frames, size_hw=size_hw, objects=2):
            writer.write(frame.image, frame.timestamp)
            truth.append(annotation.segmentation.panoptic_map().numpy())
    return Clip(path, truth)


@pytest.fixture(scope="session")
def shared_server(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("shared"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def server(browser: Browser, tmp_path: Path) -> Iterator[Server]:
    """One of its own, not started yet."""
    server = Server(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def screen(browser: Browser, shared_server: Server, clip: Clip, request: pytest.FixtureRequest) -> Iterator[Screen]:
    """The page with the clip in a project of its own; no script may fail on it."""
    with opened(browser, shared_server, clip, request.node.name) as screen:
        yield screen


@contextmanager
def opened(browser: Browser, server: Server, clip: Clip, name: str) -> Iterator[Screen]:
    """The page with a clip, as a video of this name."""
    video = server.videos / f"{name}.mp4"
    shutil.copy(clip.path, video)
    with Screen.on(browser, server.address) as screen:
        screen.request("POST", "/api/open", {"path": str(video)})
        screen.page.reload()
        screen.wait_for_frame(0)
        yield screen
