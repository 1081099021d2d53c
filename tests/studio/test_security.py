"""Who may ask the studio for what."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI, Request, WebSocket
from fastapi.testclient import TestClient
from PIL import Image
from starlette.websockets import WebSocketDisconnect

from maskstream.studio.security import LARGEST_BODY, Access, Guard, Roots, check_video, confined, is_loopback
from maskstream.types import InputError, VideoError
from maskstream.video import VideoWriter

TOKEN = "correct-horse-battery"
EVENTS = "ws://localhost:8765/events"


def client(access: Access, *, host: str = "localhost:8765", **headers: str) -> TestClient:
    """Of an application that says "yes" to everything, behind the guard."""
    app = FastAPI()

    @app.api_route("/{path:path}", methods=["GET", "POST", "PATCH", "DELETE"])
    async def yes(path: str, request: Request) -> dict[str, object]:
        return {"said": "yes", "body": len(await request.body()) if path != "upload" else 0}

    @app.websocket("/events")
    async def events(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text("yes")

    app.add_middleware(Guard, access=access, uploads=("/upload",))
    return TestClient(app, base_url=f"http://{host}", headers=headers)


# Hosts and origins.


@pytest.mark.parametrize("host", ["localhost:8765", "localhost", "127.0.0.1:1", "127.1.2.3", "[::1]:8765", "LOCALHOST"])
def test_loopback_names_are_answered(host):
    assert client(Access(), host=host).get("/").json() == {"said": "yes", "body": 0}


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("evil.example", id="a name that somebody made mean 127.0.0.1"),
        pytest.param("localhost.evil.example:8765", id="one that begins like ours"),
        pytest.param("127.0.0.1.evil.example", id="one that begins like an address"),
        pytest.param("192.168.0.7:8765", id="another address"),
        pytest.param("0.0.0.0:8765", id="an address that means all"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_other_hosts_are_refused_on_loopback(host, method):
    answer = client(Access()).request(method, "/api/state", headers={"host": host})
    assert answer.status_code == 403
    assert "localhost" in answer.json()["error"]


@pytest.mark.parametrize("host", ["", "[::1", "local host", "@localhost@", "::::"])
def test_hosts_that_are_none_are_refused(host):
    assert client(Access()).get("/", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:9999", "http://localhost", "x"])
@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
def test_what_changes_something_must_come_from_our_own_page(origin, method):
    answer = client(Access()).request(method, "/api/undo", headers={"origin": origin})
    assert answer.status_code == 403
    assert "another page" in answer.json()["error"]


@pytest.mark.parametrize("headers", [{}, {"origin": "http://localhost:8765"}, {"origin": "https://LOCALHOST:8765"}])
def test_our_own_page_and_programs_may_change_things(headers):
    assert client(Access()).post("/api/undo", headers=headers).status_code == 200


def test_reading_is_left_to_the_browser_which_keeps_answers_from_other_pages():
    answer = client(Access()).get("/api/state", headers={"origin": "http://evil.example"})
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "headers", [{"origin": "http://evil.example"}, {"origin": "null"}, {"host": "evil.example", "origin": ""}]
)
def test_foreign_web_sockets_are_refused(headers):
    with pytest.raises(WebSocketDisconnect), client(Access()).websocket_connect(EVENTS, headers=headers):
        pass


def test_our_own_web_socket_is_taken():
    with client(Access()).websocket_connect(EVENTS, headers={"origin": "http://localhost:8765"}) as socket:
        assert socket.receive_text() == "yes"


# Tokens.


def test_without_the_token_nothing_is_answered():
    outside = client(Access(loopback=False, token=TOKEN), host="10.0.0.5:8765")
    for method, path in (("GET", "/"), ("GET", "/static/main.js"), ("GET", "/api/state"), ("POST", "/api/undo")):
        answer = outside.request(method, path)
        assert answer.status_code == 401, path
        assert "token" in answer.json()["error"]
    with pytest.raises(WebSocketDisconnect), outside.websocket_connect(EVENTS):
        pass


def test_the_address_of_the_page_sets_a_cookie_that_opens_the_rest():
    outside = client(Access(loopback=False, token=TOKEN))
    page = outside.get("/", params={"token": TOKEN})
    assert page.status_code == 200
    cookie = page.headers["set-cookie"]
    assert TOKEN in cookie
    assert {part.strip() for part in cookie.split(";")[1:]} == {"HttpOnly", "SameSite=Strict", "Path=/"}
    assert outside.post("/api/undo").status_code == 200
    with outside.websocket_connect(EVENTS) as socket:
        assert socket.receive_text() == "yes"


def test_programs_send_the_token_in_a_header():
    outside = client(Access(loopback=False, token=TOKEN))
    assert outside.get("/api/state", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    with outside.websocket_connect(EVENTS, headers={"authorization": f"bearer {TOKEN}"}) as socket:
        assert socket.receive_text() == "yes"


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        pytest.param("/?token=wrong-horse-battery", {}, id="wrong in the address"),
        pytest.param("/?token=", {}, id="empty"),
        pytest.param(f"/api/state?token={TOKEN}", {}, id="right, but not on the page"),
        pytest.param("/", {"authorization": TOKEN}, id="no bearer"),
        pytest.param("/", {"authorization": f"Bearer {TOKEN}x"}, id="too long"),
        pytest.param("/", {"authorization": "Bearer ünïcödé".encode("latin-1").decode("latin-1")}, id="not ASCII"),
        pytest.param("/", {"cookie": f"maskstream={TOKEN}"}, id="a cookie of another name"),
        pytest.param("/", {"cookie": "\x01=;;=,"}, id="a cookie that is none"),
    ],
)
def test_a_wrong_token_is_refused(path, headers):
    given = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = client(Access(loopback=False, token=TOKEN)).get(path, headers=given)
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


def test_a_token_on_loopback_does_not_open_it_to_other_names():
    page = client(Access(token=TOKEN)).get("/", params={"token": TOKEN}, headers={"host": "evil.example"})
    assert page.status_code == 403


def test_beyond_loopback_a_token_is_made():
    made, again = (Access.for_host("0.0.0.0", None) for _ in range(2))
    assert made.token is not None and len(made.token) >= 24
    assert made.token != again.token
    assert Access.for_host("localhost", None).token is None
    assert Access.for_host("0.0.0.0", TOKEN).token == TOKEN
    with pytest.raises(InputError, match="beyond this machine a token is required"):
        Access(loopback=False)


@pytest.mark.parametrize("token", ["", "short", "with\nline ends in it", "ünïcödé-token"])
def test_a_token_that_is_guessed_or_fits_no_address_is_refused(token):
    with pytest.raises(InputError, match="token"):
        Access(token=token)


def test_two_studios_on_one_machine_have_cookies_of_their_own():
    assert Access(token=TOKEN).cookie != Access(token=f"{TOKEN}2").cookie


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        *((host, True) for host in ("localhost", "127.0.0.1", "::1", "[::1]", "localhost.")),
        *((host, False) for host in ("0.0.0.0", "::", "example.org", "", "127.0.0.1.nip.io")),
    ],
)
def test_loopback_is_told_from_the_rest(host, is_ours):
    assert is_loopback(host) == is_ours


# Bodies and headers.


def test_bodies_are_limited_by_what_is_announced_and_by_what_comes():
    inside = client(Access())
    assert inside.post("/a", content=b"x" * LARGEST_BODY).json()["body"] == LARGEST_BODY
    assert inside.post("/a", content=b"x" * (LARGEST_BODY + 1)).status_code == 413
    assert inside.post("/a", content=(b"x" * 2**16 for _ in range(17))).status_code == 413  # announces nothing
    assert inside.post("/a", content=b"", headers={"content-length": "-1"}).status_code == 413
    answer = inside.post("/a", content=b"", headers={"content-length": str(10**12)})
    assert answer.json() == {"error": f"the request has more than {LARGEST_BODY} bytes"}


def test_uploads_are_left_to_who_reads_them():
    assert client(Access()).post("/upload", content=b"x" * (LARGEST_BODY + 1)).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"host": "evil.example"}])
def test_every_answer_says_what_a_browser_must_not_do(headers):
    answer = client(Access()).get("/api/state", headers=headers)
    assert answer.headers["content-security-policy"].startswith("default-src 'self'; img-src 'self' blob: data:;")
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"


# Paths.


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """A root with files, a secret outside, and links from one to the other."""
    (tmp_path / "root" / "deep").mkdir(parents=True)
    (tmp_path / "root" / "deep" / "clip.mp4").write_text("clip")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.mp4").write_text("secret")
    (tmp_path / "root-of-others").mkdir()
    (tmp_path / "root" / "out").symlink_to(tmp_path / "outside")
    (tmp_path / "root" / "out.mp4").symlink_to(tmp_path / "outside" / "secret.mp4")
    (tmp_path / "root" / "loop").symlink_to(tmp_path / "root" / "loop")
    (tmp_path / "root" / "in.mp4").symlink_to(tmp_path / "root" / "deep" / "clip.mp4")
    (tmp_path / "outside" / "back").symlink_to(tmp_path / "root")
    return tmp_path


def test_what_is_inside_is_found_by_either_kind_of_path(places: Path):
    roots, clip = Roots([places / "root"]), places / "root" / "deep" / "clip.mp4"
    for text in ("deep/clip.mp4", str(clip), "deep/../deep/./clip.mp4", "in.mp4", "deep//clip.mp4"):
        assert roots.find(text) == clip.resolve()
    assert roots.find(".") == (places / "root").resolve()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("../outside/secret.mp4", id="up and out"),
        pytest.param("deep/../../outside/secret.mp4", id="up and out, from within"),
        pytest.param("{places}/outside/secret.mp4", id="absolute"),
        pytest.param("/etc/passwd", id="absolute and elsewhere"),
        pytest.param("..", id="the folder above"),
        pytest.param("../root-of-others", id="a name that begins with that of the root"),
        pytest.param("out/secret.mp4", id="a folder that is a link out"),
        pytest.param("out.mp4", id="a file that is a link out"),
        pytest.param("loop", id="a link to itself"),
        pytest.param("deep/clip.mp4\0.png", id="a byte of zero"),
        pytest.param("..\\outside\\secret.mp4", id="separators of Windows"),
        pytest.param("C:\\Windows\\win.ini", id="a drive of Windows"),
        pytest.param("\\\\server\\share", id="a share of Windows"),
        pytest.param("%2e%2e/outside/secret.mp4", id="encoded: decoded by nobody"),
        pytest.param("~/.ssh/id_rsa", id="home"),
        pytest.param("deep/clip.mp4/x", id="below a file"),
        pytest.param("x" * 5000, id="too long"),
        pytest.param("missing", id="not there"),
        pytest.param("\ud800", id="half of a character"),
    ],
)
def test_nothing_else_is_found_and_the_message_does_not_say_why(places: Path, text: str):
    text = text.format(places=places)
    with pytest.raises(InputError) as caught:
        Roots([places / "root"]).find(text)
    assert str(caught.value) == f"there is no {text!r} in the folders that this studio may open (--root)"


def test_any_of_several_roots_will_do_also_one_that_is_reached_by_a_link(places: Path):
    roots = Roots([places / "root-of-others", places / "outside" / "back"])
    assert roots.find(str(places / "root" / "deep")) == (places / "root" / "deep").resolve()
    with pytest.raises(InputError):
        roots.find(str(places / "outside"))


def test_a_root_that_is_not_there_is_an_error(tmp_path: Path):
    with pytest.raises(InputError, match=r"there is no folder .*nowhere"):
        Roots([tmp_path / "nowhere"])


def test_a_thread_that_is_confined_opens_nothing_else(places: Path):
    roots = Roots([places / "root"])
    with confined(roots.holds):
        assert (places / "root" / "in.mp4").read_text() == "clip"
        for path in (places / "root" / "out.mp4", places / "outside" / "secret.mp4", Path("/etc/passwd")):
            with pytest.raises(InputError, match=f"{path.name} is outside the folders"):
                path.read_text()
            with pytest.raises(InputError):
                os.open(path, os.O_RDONLY)
        elsewhere = threading.Thread(target=(places / "outside" / "secret.mp4").read_text)
        elsewhere.start()
        elsewhere.join()
    assert (places / "outside" / "secret.mp4").read_text() == "secret"


# Videos.


def write_clip(path: Path) -> Path:
    with VideoWriter(path, size_hw=(32, 32)) as writer:
        for n in range(3):
            writer.write(np.full((32, 32, 3), 60 * n, np.uint8), n / 24)
    return path


def anything(path: Path) -> bool:
    return True


@pytest.mark.parametrize("suffix", [".mp4", ".bin", ""])
def test_a_video_is_taken_whatever_it_is_called(tmp_path: Path, suffix: str):
    clip = write_clip(tmp_path / "clip.mp4").rename(tmp_path / f"clip{suffix}")
    check_video(clip, anything)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("list.mp4", "ffconcat version 1.0\nfile clip.mp4\n", id="a list of files"),
        pytest.param(
            "list.m3u8",
            "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nclip.mp4\n#EXT-X-ENDLIST\n",
            id="a list of files and addresses",
        ),
        pytest.param("page.mp4", "<html>", id="a page"),
        pytest.param("text.mp4", "only text\n" * 100, id="text, which FFmpeg renders as a film"),
        pytest.param("empty.mp4", "", id="nothing"),
        pytest.param("x.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n", id="an address to listen at"),
    ],
)
def test_what_is_no_video_or_leads_to_others_is_refused(tmp_path: Path, name: str, content: str):
    write_clip(tmp_path / "clip.mp4")
    (tmp_path / name).write_text(content)
    with pytest.raises(VideoError):
        check_video(tmp_path / name, anything)


def test_a_video_that_is_cut_off_before_its_first_frame_is_refused(tmp_path: Path):
    clip = write_clip(tmp_path / "clip.mp4")
    clip.write_bytes(clip.read_bytes()[:400])
    with pytest.raises(VideoError):
        check_video(clip, anything)


def test_folders_of_pictures_are_taken_unless_one_of_them_is_a_link_out(places: Path):
    folder = places / "root" / "frames"
    folder.mkdir()
    for n in range(2):
        Image.new("RGB", (32, 24)).save(folder / f"{n}.png")
    check_video(folder, Roots([places / "root"]).holds)
    Image.new("RGB", (32, 24)).save(places / "outside" / "2.png")
    (folder / "2.png").symlink_to(places / "outside" / "2.png")
    with pytest.raises(InputError, match=r"2.png in frames is a link to somewhere else"):
        check_video(folder, Roots([places / "root"]).holds)


def test_a_folder_without_pictures_a_pipe_and_a_link_out_are_refused(places: Path):
    roots = Roots([places / "root"])
    with pytest.raises(VideoError, match="without pictures"):
        check_video(places / "root" / "deep", roots.holds)
    os.mkfifo(places / "root" / "pipe")
    for name in ("pipe", "out.mp4"):
        with pytest.raises(InputError, match="is not opened"):
            check_video(places / "root" / name, roots.holds)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_frames_of_enormous_size_are_refused(tmp_path: Path):
    Image.new("1", (10_000, 9_000)).save(tmp_path / "large.png")
    with pytest.raises(InputError, match=r"large\.png are 9000×10000 pixels"):
        check_video(tmp_path / "large.png", anything)
