"""The studio as a browser meets it."""

import io
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image
from starlette.websockets import WebSocketDisconnect

from maskstream.studio.app import create_app
from maskstream.studio.models import Models
from maskstream.studio.project import Project
from maskstream.studio.requests import MOST_POINTS
from maskstream.studio.security import LARGEST_BODY
from maskstream.studio.studio import Settings, Studio
from maskstream.types import PointPrompt, Proposals

from .scenes import FRAMES, SIZE, new_project, square, write_video

EVENTS = "ws://localhost/api/events"


class Bright:
    """A prompter: whatever is brighter than 200, at once."""

    context = 0

    def encode(self, frames):
        return [frame.image for frame in frames]

    def segment(self, features, prompts=(), **options):
        assert any(isinstance(prompt, PointPrompt) for prompt in prompts)
        masks = torch.from_numpy(features.min(axis=2) > 200)[None]
        return Proposals(masks)


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("source") / "clip.mp4")


@pytest.fixture
def root(tmp_path: Path, video: Path) -> Path:
    """A root with a clip in it, a secret beside it, and a link from one to the other."""
    folder = tmp_path / "root"
    folder.mkdir()
    (folder / "clip.mp4").write_bytes(video.read_bytes())
    (tmp_path / "secret.mp4").write_bytes(video.read_bytes())
    (folder / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    return folder


@pytest.fixture
def studio(root: Path, monkeypatch) -> Iterator[Studio]:
    monkeypatch.setattr(Models, "prompter", lambda self: Bright())
    made = Studio(Settings((root,), root / "studio"))
    yield made
    made.close()


@pytest.fixture
def page(studio: Studio) -> Iterator[TestClient]:
    """A tab with nothing open."""
    with TestClient(create_app(studio), base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def tab(page: TestClient) -> TestClient:
    """A tab with the clip open."""
    assert page.post("/api/open", json={"path": "clip.mp4"}).status_code == 200
    return page


@pytest.fixture
def masked(studio: Studio, root: Path, page: TestClient) -> TestClient:
    """A tab with a project that has masks."""
    new_project(root / "masked", root / "clip.mp4").close()
    assert page.post("/api/open", json={"path": "masked"}).status_code == 200
    return page


def click(client: TestClient, frame: int = 0, object_id: int | None = None, **changes: object):
    point = {"kind": "point", "x": 10, "y": 20.5, "positive": True}
    return client.post("/api/prompt", json={"frame": frame, "object": object_id, "prompts": [point], **changes})


def shown(client: TestClient, frame: int, height: int = SIZE[0]) -> np.ndarray:
    answer = client.get(f"/api/masks/{frame}.png", params={"height": height})
    assert answer.headers["content-type"] == "image/png"
    return np.asarray(Image.open(BytesIO(answer.content)), dtype=np.int64) @ [1, 256, 65536]


def wait_for_end(client: TestClient, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while client.get("/api/state").json()["job"] is not None:
        assert time.monotonic() < end
        time.sleep(0.02)


def is_one_line(answer) -> bool:
    return set(answer.json()) == {"error"} and "\n" not in answer.json()["error"] and "Traceback" not in answer.text


# The page.


def test_the_page_and_its_scripts_are_served_as_what_they_are(page: TestClient):
    answer = page.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    script = page.get("/static/api.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert script.headers["cache-control"] == "no-cache"
    assert script.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e%2f%2e%2e%2f%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/static/..%5capp.py",
        "/static//etc/passwd",
        "/static/%00",
        "/static/api.js%00.png",
        "/static/",
        "/docs",
        "/openapi.json",
        "/api/nothing",
        "/etc/passwd",
    ],
)
def test_nothing_but_the_page_is_served_as_a_file(page: TestClient, path: str):
    answer = page.get(path)
    assert answer.status_code in (400, 404)
    assert is_one_line(answer)


# The state.


def test_without_a_video_the_state_says_so_and_what_can_be_done(page: TestClient):
    state = page.get("/api/state").json()
    assert (state["project"], state["video"], state["objects"], state["job"]) == (None, None, [], None)
    assert state["can"] == {
        "text": False,
        "find": True,
        "prompter": "click-small",
        "propagator": "flow+propagate-small",
        "segmenter": "motion-small",
    }
    formats = {one["name"]: one for one in state["formats"]}
    assert formats["davis"] == {"name": "davis", "title": "DAVIS-2017", "writes": True, "reads": True}
    assert formats["overlay"] == {"name": "overlay", "title": "overlay video", "writes": True, "reads": False}
    assert not formats["cityscapes-vps"]["writes"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/frames/0.jpg", None),
        ("GET", "/api/masks/0.png", None),
        ("GET", "/api/given/0", None),
        ("POST", "/api/undo", None),
        ("POST", "/api/stop", None),
        ("POST", "/api/export", {"format": "davis"}),
        ("DELETE", "/api/objects/1", None),
    ],
)
def test_without_a_video_nothing_else_is_answered(page: TestClient, method: str, path: str, body):
    answer = page.request(method, path, json=body)
    assert answer.status_code == 409
    assert answer.json() == {"error": "no video is open: open one first"}


def test_the_state_of_a_video(tab: TestClient, root: Path):
    state = tab.get("/api/state").json()
    assert state["project"] == {"name": "clip", "folder": str(root / "studio" / "clip")}
    video = state["video"]
    assert (video["name"], video["frames"], video["height"], video["width"]) == ("clip.mp4", FRAMES, *SIZE)
    assert video["key"]


# Pictures.


def test_frames_are_kept_by_the_browser_if_it_names_the_video(tab: TestClient):
    key = tab.get("/api/state").json()["video"]["key"]
    answer = tab.get("/api/frames/2.jpg", params={"height": 24, "v": key})
    assert answer.headers["content-type"] == "image/jpeg"
    assert "immutable" in answer.headers["cache-control"]
    assert Image.open(BytesIO(answer.content)).size == (32, 24)
    assert tab.get("/api/frames/2.jpg", params={"v": "another"}).headers["cache-control"] == "no-store"
    small = tab.get("/api/thumbnails/2.jpg", params={"v": key})
    assert Image.open(BytesIO(small.content)).size == SIZE[::-1]  # never enlarged
    assert "immutable" in small.headers["cache-control"]


def test_masks_are_those_of_now(tab: TestClient):
    assert not shown(tab, 0).any()
    assert click(tab).status_code == 200
    assert np.array_equal(shown(tab, 0), square(0))
    assert shown(tab, 0, 24).shape == (24, 32)
    assert not shown(tab, 1).any()
    tab.post("/api/undo")
    assert not shown(tab, 0).any()


@pytest.mark.parametrize("frame", [str(FRAMES), "-1", "x", "1.5", "9" * 30, "9" * 5000, "", "%00", "../0"])
@pytest.mark.parametrize("what", ["frames/{}.jpg", "thumbnails/{}.jpg", "masks/{}.png", "given/{}"])
def test_frames_that_are_not_there_are_not_found(tab: TestClient, what: str, frame: str):
    answer = tab.get(f"/api/{what.format(frame)}")
    assert answer.status_code in (400, 404, 422)
    assert is_one_line(answer)


@pytest.mark.parametrize("height", ["0", "-5", "x", "9" * 40, "1e3", "nan"])
def test_heights_that_are_none_are_refused(tab: TestClient, height: str):
    for what in ("frames/0.jpg", "masks/0.png"):
        answer = tab.get(f"/api/{what}", params={"height": height})
        assert answer.status_code == 422
        assert answer.json()["error"].startswith("height: ")


# Editing.


def test_a_click_is_a_mask_and_everything_is_undone_and_done_again(tab: TestClient):
    change = click(tab).json()
    assert (change["frames"], change["object"]) == ([0], 1)
    assert tab.get("/api/given/0").json() == [
        {"object": 1, "prompts": [{"kind": "point", "x": 10.0, "y": 20.5, "positive": True}]}
    ]
    stroke = {"frame": 0, "object": 1, "stroke": [[50, 40], [55.5, 40]], "radius": 2.5, "erase": False}
    assert tab.post("/api/brush", json=stroke).status_code == 200
    assert shown(tab, 0)[40, 52] == 1
    described = tab.patch("/api/objects/1", json={"name": "box", "colour": "#FF0080", "visible": False})
    assert described.status_code == 200
    (it,) = tab.get("/api/state").json()["objects"]
    assert (it["name"], it["colour"], it["visible"], it["category"], it["given"]) == ("box", "#ff0080", False, "", [0])
    assert click(tab, 1).json()["object"] == 2
    assert tab.post("/api/merge", json={"into": 1, "from": [2]}).status_code == 200
    assert tab.post("/api/split", json={"object": 1, "frame": 1, "how": "time"}).json()["object"] == 3
    assert tab.post("/api/clear", json={"frame": 1, "object": 3}).status_code == 200
    assert tab.delete("/api/objects/3").status_code == 200
    assert [one["id"] for one in tab.get("/api/state").json()["objects"]] == [1]
    labels = []
    while tab.get("/api/state").json()["undo"] is not None:
        labels.append(tab.post("/api/undo").json()["label"])
    assert len(labels) == 8
    assert tab.get("/api/state").json()["objects"] == []
    answer = tab.post("/api/undo")
    assert (answer.status_code, answer.json()) == (400, {"error": "there is nothing to undo"})
    for label in reversed(labels):
        assert tab.post("/api/redo").json()["label"] == label
    assert [one["id"] for one in tab.get("/api/state").json()["objects"]] == [1]


POINT = {"kind": "point", "x": 1, "y": 1, "positive": True}
STROKE = {"frame": 0, "object": None, "stroke": [[1, 1]], "radius": 3, "erase": False}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("prompt", {}, id="nothing"),
        pytest.param("prompt", {"frame": 0, "prompts": [POINT]}, id="no object"),
        pytest.param("prompt", {"frame": 0, "object": None, "prompts": []}, id="no prompt"),
        pytest.param("prompt", {"frame": 0, "object": None, "prompts": [POINT], "more": 1}, id="a field too many"),
        pytest.param("prompt", {"frame": 0, "object": None, "prompts": [{**POINT, "z": 1}]}, id="and within"),
        pytest.param("prompt", {"frame": "0", "object": None, "prompts": [POINT]}, id="a number as text"),
        pytest.param("prompt", {"frame": 0.5, "object": None, "prompts": [POINT]}, id="half a frame"),
        pytest.param("prompt", {"frame": True, "object": None, "prompts": [POINT]}, id="true is no number"),
        pytest.param("prompt", {"frame": -1, "object": None, "prompts": [POINT]}, id="frame -1"),
        pytest.param("prompt", {"frame": 10**30, "object": None, "prompts": [POINT]}, id="an enormous frame"),
        pytest.param("prompt", {"frame": 0, "object": 0, "prompts": [POINT]}, id="object 0"),
        pytest.param("prompt", {"frame": 0, "object": None, "prompts": [{"kind": "circle"}]}, id="another kind"),
        pytest.param("prompt", {"frame": 0, "object": None, "prompts": [{**POINT, "x": 1e30}]}, id="far away"),
        pytest.param("prompt", {"frame": 0, "object": None, "prompts": [{**POINT, "positive": 1}]}, id="1 is no sign"),
        pytest.param("prompt", {"frame": 0, "object": None, "prompts": [POINT] * 201}, id="too many prompts"),
        pytest.param(
            "prompt", {"frame": 0, "object": None, "prompts": [{"kind": "box", "box": [1, 2, 3]}]}, id="three sides"
        ),
        pytest.param("brush", {**STROKE, "stroke": []}, id="no stroke"),
        pytest.param("brush", {**STROKE, "stroke": [[1, 1]] * (MOST_POINTS + 1)}, id="a stroke too long"),
        pytest.param("brush", {**STROKE, "stroke": [[1, 1, 1]]}, id="three coordinates"),
        pytest.param("brush", {**STROKE, "stroke": [["1", 1]]}, id="a coordinate as text"),
        pytest.param("brush", {**STROKE, "stroke": {"0": [1, 1]}}, id="a stroke that is no list"),
        pytest.param("brush", {**STROKE, "radius": 0}, id="no radius"),
        pytest.param("brush", {**STROKE, "radius": 1001}, id="a radius too large"),
        pytest.param("merge", {"into": 1, "from": []}, id="merge nothing"),
        pytest.param("merge", {"into": 1, "others": [2]}, id="the name that it has inside"),
        pytest.param("split", {"object": 1, "frame": 0, "how": "luck"}, id="another way to split"),
        pytest.param("propagate", {"objects": [], "first": 0, "last": 1, "direction": "both"}, id="no objects"),
        pytest.param("propagate", {"objects": None, "first": 0, "last": 1, "direction": "up"}, id="another direction"),
        pytest.param("find", {"first": 0, "last": 1, "text": "x" * 201}, id="a long text"),
        pytest.param("export", {"format": 7}, id="a number for a name"),
        pytest.param("import", {"path": "", "format": "davis"}, id="no path"),
        pytest.param("open", {"path": "x" * 5000}, id="a long path"),
        pytest.param("open", ["clip.mp4"], id="a list"),
        pytest.param("open", None, id="null"),
    ],
)
def test_what_is_malformed_is_refused_and_changes_nothing(tab: TestClient, path: str, body):
    before = tab.get("/api/state").json()["revision"]
    answer = tab.post(f"/api/{path}", content=json.dumps(body), headers={"content-type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert is_one_line(answer)
    assert tab.get("/api/state").json()["revision"] == before


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="cut off"),
        pytest.param(b"\xff\xfe{}", id="no UTF-8"),
        pytest.param(b'{"frame":0,"object":null,"stroke":[[NaN,1]],"radius":3,"erase":false}', id="NaN"),
        pytest.param(b'{"frame":0,"object":null,"stroke":[[1,1]],"radius":Infinity,"erase":false}', id="infinity"),
        pytest.param(b'{"frame":' + b"9" * 10000 + b"}", id="ten thousand digits"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b'{"a":' * 50_000 + b"1" + b"}" * 50_000, id="deep, and whole"),
    ],
)
def test_what_is_no_json_is_refused(tab: TestClient, content: bytes):
    answer = tab.post("/api/brush", content=content, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    assert is_one_line(answer)


def test_a_form_of_another_page_is_no_request(tab: TestClient):
    body = json.dumps(STROKE)
    answer = tab.post("/api/brush", content=body, headers={"content-type": "text/plain"})
    assert answer.status_code in (400, 415, 422)
    assert tab.post("/api/undo", headers={"origin": "http://evil.example"}).status_code == 403


def test_a_long_stroke_is_taken_and_a_body_beyond_all_strokes_is_not(tab: TestClient):
    points = [[round(10 + n / 1000, 12), 20.123456789] for n in range(MOST_POINTS)]
    assert tab.post("/api/brush", json={**STROKE, "stroke": points}).status_code == 200
    answer = tab.post("/api/brush", json={**STROKE, "stroke": [[1.123456789, 2]] * (LARGEST_BODY // 10)})
    assert answer.status_code == 413
    assert is_one_line(answer)


@pytest.mark.parametrize(
    ("method", "path", "body", "says"),
    [
        ("POST", "prompt", {"frame": FRAMES, "object": None, "prompts": [POINT]}, "there is no frame 6"),
        ("POST", "prompt", {"frame": 0, "object": 7, "prompts": [POINT]}, "there is no object 7"),
        ("POST", "clear", {"frame": 0, "object": 7}, "there is no object 7"),
        ("PATCH", "objects/7", {"name": "x"}, "there is no object 7"),
        ("DELETE", "objects/7", None, "there is no object 7"),
        ("POST", "merge", {"into": 7, "from": [8]}, "there is no object 7"),
        ("POST", "propagate", {"objects": None, "first": 0, "last": 1, "direction": "both"}, "no object is given"),
        ("POST", "find", {"first": 3, "last": 1}, "ends before it begins"),
        ("POST", "export", {"format": "davis"}, "nothing to export yet"),
        ("POST", "export", {"format": "nonsense"}, "there is no layout 'nonsense' to write"),
        ("POST", "export", {"format": "davis", "objects": [7]}, "there is no object 7"),
        ("POST", "import", {"path": ".", "format": "overlay"}, "there is no layout 'overlay' to read"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(tab: TestClient, method: str, path: str, body, says: str):
    answer = tab.request(method, f"/api/{path}", json=body)
    assert answer.status_code == 400
    assert says in answer.json()["error"]
    assert is_one_line(answer)


def test_a_mistake_of_ours_is_one_line_too(tab: TestClient, monkeypatch):
    def fail(*_: object) -> None:
        raise RuntimeError("a mistake\nin two lines")

    monkeypatch.setattr(Project, "prompts", fail)
    answer = tab.get("/api/given/0")
    assert answer.status_code == 500
    assert answer.json() == {"error": "something went wrong in the studio: its terminal says what"}


# Opening.


def test_browsing_shows_what_can_be_opened(masked: TestClient, root: Path):
    Image.new("RGB", (8, 8)).save(root / "x.png")
    (root / "frames").mkdir()
    Image.new("RGB", (8, 8)).save(root / "frames" / "0.png")
    (root / ".hidden").mkdir()
    (root / "deep").mkdir()
    (root / "away").symlink_to(root.parent)
    listing = masked.get("/api/browse").json()
    assert (listing["path"], listing["parent"]) == (str(root), None)
    assert {entry["name"]: entry["kind"] for entry in listing["entries"]} == {
        "clip.mp4": "video",
        "deep": "folder",
        "frames": "images",
        "masked": "project",
        "studio (projects)": "folder",
    }
    deep = masked.get("/api/browse", params={"path": str(root / "deep")}).json()
    assert deep == {"path": str(root / "deep"), "parent": str(root), "entries": []}


def test_several_roots_are_listed(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    studio = Studio(Settings((tmp_path / "a",), tmp_path / "b"))
    listing = studio.browse("")
    assert listing["path"] == "" and listing["parent"] is None
    assert [entry["path"] for entry in listing["entries"]] == [str(tmp_path / "a"), str(tmp_path / "b")]
    assert studio.browse(str(tmp_path / "a"))["parent"] == ""


ELSEWHERE = [
    "..",
    "../secret.mp4",
    "link.mp4",
    "/etc/passwd",
    "/etc",
    "clip.mp4\0",
    "..\\secret.mp4",
    "%2e%2e/secret.mp4",
    "file:///etc/passwd",
    "http://example.org/x.mp4",
    "camera:0",
    "-",
    "*.mp4",
]


@pytest.mark.parametrize("path", ELSEWHERE)
def test_nothing_outside_is_opened_browsed_or_imported(tab: TestClient, path: str):
    for answer in (
        tab.post("/api/open", json={"path": path}),
        tab.get("/api/browse", params={"path": path}),
        tab.post("/api/import", json={"path": path, "format": "davis"}),
    ):
        assert answer.status_code == 400
        assert "in the folders that this studio may open" in answer.json()["error"]
        assert is_one_line(answer)
    assert tab.get("/api/state").json()["project"]["name"] == "clip"


def test_a_project_whose_video_is_outside_is_not_opened(page: TestClient, root: Path):
    Project.create(root / "trap", root.parent / "secret.mp4").close()
    answer = page.post("/api/open", json={"path": "trap"})
    assert answer.status_code == 400
    assert "link to somewhere else" in answer.json()["error"]
    assert page.get("/api/state").json()["project"] is None


@pytest.mark.parametrize("name", ["studio.sqlite", "exports"])
def test_a_project_with_a_link_out_is_not_opened(page: TestClient, root: Path, name: str):
    new_project(root / "trap", root / "clip.mp4").close()
    (root / "trap" / "exports").mkdir()
    (root / "trap" / name).rename(root.parent / name)
    (root / "trap" / name).symlink_to(root.parent / name)
    answer = page.post("/api/open", json={"path": "trap"})
    assert answer.status_code == 400
    assert answer.json()["error"] == f"{name} in trap is a link to somewhere else: it is not opened"


def test_what_is_left_of_a_project_that_was_never_made_is_no_hindrance(page: TestClient, root: Path):
    (root / "studio" / "clip").mkdir()
    (root / "studio" / "clip" / "studio.sqlite").touch()
    assert page.post("/api/open", json={"path": "clip.mp4"}).json()["project"]["name"] == "clip-2"


def test_whoever_runs_the_studio_may_name_such_a_project(studio: Studio, root: Path):
    Project.create(root / "named", root.parent / "secret.mp4").close()
    studio.open(root / "named", trusted=True)
    with studio.using() as opened:
        assert opened.project.name == "named"


def test_a_folder_of_pictures_with_a_link_out_is_not_opened(page: TestClient, root: Path):
    (root / "frames").mkdir()
    Image.new("RGB", (8, 8)).save(root.parent / "secret.png")
    (root / "frames" / "0.png").symlink_to(root.parent / "secret.png")
    answer = page.post("/api/open", json={"path": "frames"})
    assert answer.status_code == 400
    assert "0.png in frames is a link to somewhere else" in answer.json()["error"]


def test_the_same_video_again_is_the_same_project_and_another_of_its_name_is_not(tab: TestClient, root: Path):
    click(tab)
    assert tab.post("/api/open", json={"path": "clip.mp4"}).json()["revision"] == 1
    (root / "other").mkdir()
    write_video(root / "other" / "clip.mp4", frames=3)
    other = tab.post("/api/open", json={"path": "other/clip.mp4"}).json()
    assert (other["project"]["name"], other["video"]["frames"], other["revision"]) == ("clip-2", 3, 0)
    again = tab.post("/api/open", json={"path": str(root / "clip.mp4")}).json()
    assert (again["project"]["name"], len(again["objects"])) == ("clip", 1)


def test_a_project_that_is_open_elsewhere_stays_there_and_ours_stays_open(tab: TestClient, root: Path):
    other = new_project(root / "busy", root / "clip.mp4")
    answer = tab.post("/api/open", json={"path": "busy"})
    assert answer.status_code == 400
    assert "is open in another maskstream studio" in answer.json()["error"]
    assert tab.get("/api/state").json()["project"]["name"] == "clip"
    other.close()
    assert tab.post("/api/open", json={"path": "busy"}).status_code == 200


def test_closing_the_server_closes_the_project(studio: Studio, root: Path):
    with TestClient(create_app(studio), base_url="http://localhost") as client:
        client.post("/api/open", json={"path": "clip.mp4"})
    Project.open(root / "studio" / "clip").close()


def test_while_one_is_used_another_can_be_opened_and_nobody_notices(tab: TestClient, root: Path):
    write_video(root / "second.mp4", frames=4)
    stop = threading.Event()
    wrong: list[int] = []

    def look() -> None:
        while not stop.is_set():
            for path in ("/api/state", "/api/frames/1.jpg", "/api/masks/1.png"):
                status = tab.get(path).status_code
                if status != 200:
                    wrong.append(status)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(6):
        assert tab.post("/api/open", json={"path": ("second.mp4", "clip.mp4")[n % 2]}).status_code == 200
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []


# Uploads.


def leftovers(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "studio").iterdir())


def test_a_video_that_is_sent_becomes_a_project_with_the_video_in_it(page: TestClient, root: Path, video: Path):
    answer = page.post("/api/upload", files={"file": ("..\\..\\My Film.MP4", video.read_bytes())})
    assert answer.status_code == 200
    assert answer.json()["project"] == {"name": "My-Film", "folder": str(root / "studio" / "My-Film")}
    assert (root / "studio" / "My-Film" / "video.mp4").read_bytes() == video.read_bytes()
    again = page.post("/api/upload", files={"file": ("My Film.mp4", video.read_bytes())})
    assert again.json()["project"]["name"] == "My-Film-2"
    assert leftovers(root) == ["My-Film", "My-Film-2"]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"<html>" * 1000, id="a page"),
        pytest.param(b"ffconcat version 1.0\nfile '/etc/passwd'\n", id="a list of files"),
        pytest.param(b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/x.ts\n#EXT-X-ENDLIST\n", id="a list of addresses"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + b"\0" * 100, id="half a picture"),
    ],
)
def test_what_is_no_video_is_refused_and_removed(tab: TestClient, root: Path, content: bytes):
    answer = tab.post("/api/upload", files={"file": ("x.mp4", content)})
    assert answer.status_code == 400
    assert is_one_line(answer)
    assert leftovers(root) == ["clip"]
    assert tab.get("/api/state").json()["project"]["name"] == "clip"


@pytest.mark.parametrize("announced", [True, False])
def test_an_upload_that_is_too_large_is_refused_and_removed(studio: Studio, page: TestClient, root: Path, announced):
    studio.settings = replace(studio.settings, largest_upload=2**20)
    head = b'--b\r\ncontent-disposition: form-data; name="file"; filename="x.mp4"\r\n\r\n'
    chunks = [head, *[b"\0" * 2**16] * 40, b"\r\n--b--\r\n"]
    answer = page.post(
        "/api/upload",
        content=b"".join(chunks) if announced else iter(chunks),
        headers={"content-type": "multipart/form-data; boundary=b"},
    )
    assert answer.status_code == 413
    assert answer.json() == {"error": "the file is too large: at most 1 MiB are taken"}
    assert leftovers(root) == []


PART = b'--b\r\ncontent-disposition: form-data; name="file"; filename="x.mp4"\r\n\r\nx\r\n'
FIELD = b'--b\r\ncontent-disposition: form-data; name="a"\r\n\r\n%s\r\n'


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        pytest.param("multipart/form-data; boundary=b", b"", id="nothing"),
        pytest.param("multipart/form-data; boundary=b", PART, id="cut off"),
        pytest.param("multipart/form-data; boundary=b", b"garbage" * 100, id="no form"),
        pytest.param("multipart/form-data; boundary=b", PART + PART + b"--b--\r\n", id="two files"),
        pytest.param("multipart/form-data; boundary=b", FIELD % b"x" + b"--b--\r\n", id="no file"),
        pytest.param("multipart/form-data; boundary=b", FIELD % (b"x" * 2000) + PART + b"--b--\r\n", id="a long field"),
        pytest.param("multipart/form-data; boundary=b", FIELD % b"x" * 20 + PART + b"--b--\r\n", id="many fields"),
        pytest.param("multipart/form-data", PART + b"--b--\r\n", id="no boundary"),
        pytest.param("multipart/form-data; boundary=" + "b" * 300, PART, id="a long boundary"),
        pytest.param("video/mp4", b"\0" * 100, id="the file alone"),
        pytest.param("application/json", b"{}", id="JSON"),
    ],
)
@pytest.mark.parametrize("path", ["/api/upload", "/api/import-file"])
def test_forms_that_are_malformed_are_refused(tab: TestClient, root: Path, path: str, kind: str, content: bytes):
    answer = tab.post(path, content=content, headers={"content-type": kind})
    assert answer.status_code == 400, answer.text
    assert is_one_line(answer)
    assert leftovers(root) == ["clip"]
    assert not list((root / "studio" / "clip").glob(".upload*"))


def test_what_a_killed_server_had_received_is_removed(root: Path):
    projects = root / "studio"
    projects.mkdir()
    for name in (".upload-old", ".upload-new"):
        (projects / name).write_bytes(b"half")
    os.utime(projects / ".upload-old", (0, 0))
    studio = Studio(Settings((root,), projects))
    assert leftovers(root) == [".upload-new"]
    new_project(projects / "clip", root / "clip.mp4").close()
    (projects / "clip" / ".upload-1.files").mkdir()
    (projects / "clip" / ".upload-1.files" / "mask.png").write_bytes(b"half")
    studio.open(projects / "clip")
    assert not list((projects / "clip").glob(".upload*"))
    studio.close()


# Jobs, exports and imports.


def test_an_export_is_a_job_whose_end_says_where_the_file_is(masked: TestClient):
    with masked.websocket_connect(EVENTS) as socket:
        started = masked.post("/api/export", json={"format": "vos", "objects": [1]})
        assert started.status_code == 202
        events: list[dict[str, Any]] = []
        while not events or events[-1]["type"] != "ended":
            events.append(socket.receive_json())
    ended = events[-1]
    assert (ended["id"], ended["outcome"]) == (started.json()["job"], "done")
    assert ended["download"] == "/api/exports/masked-vos.zip"
    assert ended["message"].startswith("masked-vos.zip is ready")
    answer = masked.get(ended["download"])
    assert answer.headers["content-disposition"] == 'attachment; filename="masked-vos.zip"'
    with ZipFile(io.BytesIO(answer.content)) as archive:
        assert "Annotations/masked/00000.png" in archive.namelist()


def test_only_one_job_runs_and_it_can_be_stopped(masked: TestClient, monkeypatch):
    going, go = threading.Event(), threading.Event()
    label_map = Project.label_map

    def slow(self: Project, frame: int) -> np.ndarray:
        if threading.current_thread().name.startswith("maskstream-job"):
            going.set()
            go.wait(10)
        return label_map(self, frame)

    monkeypatch.setattr(Project, "label_map", slow)
    with masked.websocket_connect(EVENTS) as socket:
        job = masked.post("/api/export", json={"format": "davis"}).json()["job"]
        going.wait(10)
        assert masked.get("/api/state").json()["job"]["id"] == job
        second = masked.post("/api/export", json={"format": "davis"})
        assert second.status_code == 409
        assert is_one_line(second)
        assert masked.post("/api/stop").status_code == 200
        go.set()
        while (event := socket.receive_json())["type"] != "ended":
            pass
    assert (event["id"], event["outcome"]) == (job, "stopped")
    assert masked.get("/api/exports/masked-davis.zip").status_code == 404


@pytest.mark.parametrize(
    "name", ["nothing.zip", "..%2fstudio.sqlite", "studio.sqlite", ".hidden.zip", "link.zip", "a%00.zip", "..%5cx.zip"]
)
def test_only_exports_are_downloaded(masked: TestClient, root: Path, name: str):
    exports = root / "masked" / "exports"
    exports.mkdir()
    (exports / "link.zip").symlink_to(root.parent / "secret.mp4")
    (exports / ".hidden.zip").write_text("hidden")
    answer = masked.get(f"/api/exports/{name}")
    assert answer.status_code == 404
    assert is_one_line(answer)


def exported(client: TestClient, name: str) -> bytes:
    assert client.post("/api/export", json={"format": name}).status_code == 202
    wait_for_end(client)
    return client.get(f"/api/exports/masked-{name}.zip").content


@pytest.mark.parametrize("name", ["vos", "coco", "alpha-video", "ytvos"])
def test_what_was_exported_is_imported_as_new_objects_and_undone_at_once(masked: TestClient, root: Path, name: str):
    masked.patch("/api/objects/1", json={"category": "box"})
    masked.patch("/api/objects/2", json={"category": "bar"})
    content = exported(masked, name)
    before = shown(masked, 3)
    ZipFile(io.BytesIO(content)).extractall(root / "in")
    for ask in (
        lambda: masked.post("/api/import", json={"path": "in", "format": name}),
        lambda: masked.post("/api/import-file", data={"format": name}, files={"file": ("in.zip", content)}),
    ):
        change = ask()
        assert change.status_code == 200, change.text
        assert change.json()["frames"] == list(range(FRAMES - 1))
        objects = masked.get("/api/state").json()["objects"]
        assert len(objects) == 4
        if name in ("coco", "ytvos"):
            assert sorted(it["category"] for it in objects) == ["bar", "bar", "box", "box"]
        assert np.array_equal(shown(masked, 3) > 0, before > 0)
        assert set(np.unique(shown(masked, 3))) == {0, *(it["id"] for it in objects[2:])}
        masked.post("/api/undo")
        assert np.array_equal(shown(masked, 3), before)
    assert not list((root / "masked").glob(".upload*"))


def test_an_archive_of_a_folder_and_a_single_file_are_imported_too(masked: TestClient):
    content = exported(masked, "coco")
    packed = io.BytesIO()
    with ZipFile(io.BytesIO(content)) as source, ZipFile(packed, "w") as target:
        for name in source.namelist():
            target.writestr(f"my masks/{name}", source.read(name))
        (listing,) = (source.read(name) for name in source.namelist() if name.endswith(".json"))
    for name, sent in (("folder.zip", packed.getvalue()), ("masks.json", listing)):
        answer = masked.post("/api/import-file", data={"format": "coco"}, files={"file": (name, sent)})
        assert answer.status_code == 200, answer.text
    refused = masked.post("/api/import-file", data={"format": "coco"}, files={"file": ("masks.rar", b"x")})
    assert "neither a .zip" in refused.json()["error"]


def test_lists_and_links_in_what_is_imported_lead_nowhere(masked: TestClient, root: Path):
    victim = root.parent / "outside" / "mask" / "00000.png"
    victim.parent.mkdir(parents=True)
    Image.fromarray(np.ones(SIZE, np.uint8)).save(victim)
    (root / "list" / "data").mkdir(parents=True)
    (root / "list" / "val.txt").write_text("../../../outside\n")
    (root / "link" / "Annotations" / "clip").mkdir(parents=True)
    (root / "link" / "Annotations" / "clip" / "00000.png").symlink_to(victim)
    packed = io.BytesIO()
    with ZipFile(packed, "w") as archive:
        archive.writestr("data/x", b"")
        archive.writestr("val.txt", f"{'../' * 20}{victim.parents[1].relative_to('/')}\n")
    for answer in (
        masked.post("/api/import", json={"path": "list", "format": "vspw"}),
        masked.post("/api/import", json={"path": "link", "format": "vos"}),
        masked.post("/api/import-file", data={"format": "vspw"}, files={"file": ("a.zip", packed.getvalue())}),
    ):
        assert answer.status_code == 400
        assert "00000.png is outside the folders that this studio may open" in answer.json()["error"]
    assert len(masked.get("/api/state").json()["objects"]) == 2


def test_videos_of_mattes_that_lead_elsewhere_are_not_imported(masked: TestClient, root: Path):
    (root / "mattes" / "clip").mkdir(parents=True)
    (root / "mattes" / "clip" / "1.mkv").symlink_to(root.parent / "secret.mp4")
    answer = masked.post("/api/import", json={"path": "mattes", "format": "alpha-video"})
    assert answer.status_code == 400
    assert "1.mkv is a link to somewhere else" in answer.json()["error"]
    packed = io.BytesIO()
    with ZipFile(packed, "w") as archive:
        archive.writestr("clip/1.mkv", "ffconcat version 1.0\nfile /etc/passwd\n")
    sent = masked.post("/api/import-file", data={"format": "alpha-video"}, files={"file": ("a.zip", packed.getvalue())})
    assert sent.status_code == 400
    assert "1.mkv cannot be opened as a video" in sent.json()["error"]


# Events.


def test_every_tab_is_told_what_another_does(tab: TestClient):
    with tab.websocket_connect(EVENTS) as one, tab.websocket_connect(EVENTS) as two:
        click(tab, 2)
        for socket in (one, two):
            assert socket.receive_json() == {"type": "masks", "revision": 1, "frames": [2]}
            assert socket.receive_json() == {"type": "state", "revision": 1}
        tab.patch("/api/objects/1", json={"visible": False})
        assert one.receive_json() == {"type": "state", "revision": 2}


def test_what_a_tab_says_is_ignored(tab: TestClient):
    with tab.websocket_connect(EVENTS) as socket:
        socket.send_text("hello")
        socket.send_bytes(b"\0" * 100)
        click(tab)
        assert socket.receive_json()["type"] == "masks"


def test_too_many_tabs_are_told_so(page: TestClient, monkeypatch):
    monkeypatch.setattr("maskstream.studio.events.MOST_TABS", 1)
    with page.websocket_connect(EVENTS), pytest.raises(WebSocketDisconnect), page.websocket_connect(EVENTS):
        pass
    with page.websocket_connect(EVENTS):
        pass
