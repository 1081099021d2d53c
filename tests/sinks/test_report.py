import base64
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from maskstream.sinks.report import TrackRow, write_report
from maskstream.types import VideoError
from maskstream.video import VideoWriter

VOID = {"meta", "img", "rect", "path", "br", "link"}


class Page(HTMLParser):
    """Collects what the tests ask for, and checks that every element is closed in order."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.bars: dict[int, list[tuple[str, int, int]]] = {}
        self.curves: dict[int, str] = {}
        self.text = ""
        self._open: list[str] = []
        self._track = 0
        self.feed(source)
        self.close()
        assert self._open == [], f"not closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
            self._track = int((attributes.get("id") or "track-0").removeprefix("track-"))
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "rect":
            x, width = int(attributes["x"] or 0), int(attributes["width"] or 0)
            self.bars.setdefault(self._track, []).append((attributes["class"] or "", x, x + width))
        if tag == "path":
            self.curves[self._track] = attributes["d"] or ""

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        assert tag in VOID

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self._open and self._open[-1] in ("td", "th", "span") and self.rows and self.rows[-1]:
            self.rows[-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def report(path: Path, tracks: list[TrackRow], *, frame_count: int, **options) -> Page:
    arguments = {"title": "clip.mp4", "overlay": None, "run": {}} | options
    write_report(path / "report.html", tracks=tracks, frame_count=frame_count, **arguments)
    return Page((path / "report.html").read_text(encoding="utf-8"))


def row(track_id: int, frames: list[int], *, label: str = "object", area: float = 0.1) -> TrackRow:
    return TrackRow(track_id, label, tuple(frames), (area,) * len(frames))


def overlay_video(path: Path, count: int) -> Path:
    """Frame n is grey of brightness 40 + 5 n."""
    with VideoWriter(path, size_hw=(48, 64), fps_hint=10) as video:
        for n in range(count):
            video.write(np.full((48, 64, 3), 40 + 5 * n, dtype=np.uint8), n / 10)
    return path


def test_a_track_is_one_row_with_its_facts(tmp_path):
    track = TrackRow(7, "zebra", (2, 3, 8), (0.1, 0.2, 0.3))
    page = report(tmp_path, [track], frame_count=10)
    [cells] = [cells for cells in page.rows if cells[0] == "7"]
    assert cells[:5] == ["7", "zebra", "2–8", "3", "20.00 %"]
    assert "visible on 3 of 10 frames: 2–3, 8; at most 30.00 % of the picture" in page.text


@pytest.mark.parametrize(
    "frames, frame_count, expected",
    [
        pytest.param(
            [0, 1, 2, 7, 9], 10, [("all", 0, 300), ("all", 700, 800), ("all", 900, 1000)], id="gaps stay open"
        ),
        pytest.param([], 10, [], id="never visible"),
        pytest.param([0], 1, [("all", 0, 1000)], id="a video of one frame"),
        pytest.param([999], 1000, [("some", 998, 1000)], id="one frame of very many is still seen"),
        pytest.param(range(1000), 1000, [("all", 0, 1000)], id="always visible in a long video"),
        pytest.param(range(500, 750), 1000, [("all", 500, 750)], id="part of a long video"),
    ],
)
def test_presence_bars_lie_where_the_track_is_visible(tmp_path, frames, frame_count, expected):
    page = report(tmp_path, [row(1, list(frames))], frame_count=frame_count)
    assert page.bars[1] == [("rail", 0, 1000), *expected]


def test_in_a_long_video_a_flickering_track_has_a_pale_bar(tmp_path):
    page = report(tmp_path, [row(1, list(range(0, 8000, 2)))], frame_count=8000)
    assert page.bars[1] == [("rail", 0, 1000), ("some", 0, 1000)]


def test_the_area_curve_steps_with_the_area_and_stops_at_gaps(tmp_path):
    track = TrackRow(1, "object", (0, 1, 3), (0.1, 0.2, 0.05))
    page = report(tmp_path, [track], frame_count=4)
    # 28 units are the largest area; the floor is at 30.
    assert page.curves[1] == "M0 30V16H250V2H500V30zM750 30V23H1000V30z"


def test_the_curve_of_a_long_video_has_at_most_400_steps(tmp_path):
    page = report(tmp_path, [row(1, list(range(100_000)))], frame_count=100_000)
    assert 350 < page.curves[1].count("H") <= 400


def test_everything_that_comes_from_outside_is_escaped(tmp_path):
    nasty = "<script>alert(1)</script>&\"'{title}"
    page = report(tmp_path, [row(1, [0], label=nasty)], frame_count=1, title=nasty, run={nasty: nasty})
    assert page.all("script") == []
    assert page.text.count(nasty) == 5  # page title, heading, label, name and value of the fact


def test_the_page_needs_nothing_from_elsewhere(tmp_path):
    video = overlay_video(tmp_path / "overlay.mp4", 5)
    page = report(tmp_path, [row(1, [0, 1])], frame_count=5, overlay=video, run={"seed": "0"})
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "http://" not in source and "https://" not in source and "url(" not in source
    for tag in ("script", "link", "iframe", "object", "video"):
        assert page.all(tag) == []
    assert all((image["src"] or "").startswith("data:image/jpeg;base64,") for image in page.all("img"))
    assert "prefers-color-scheme: dark" in source


@pytest.mark.parametrize(
    "count, positions",
    [
        pytest.param(1, [0], id="one frame"),
        pytest.param(4, [0, 1, 2, 3], id="fewer frames than thumbnails"),
        pytest.param(37, [0, 4, 8, 12, 16, 20, 24, 28, 32, 36], id="spread evenly, both ends shown"),
    ],
)
def test_thumbnails_are_the_frames_their_captions_name(tmp_path, count, positions):
    video = overlay_video(tmp_path / "overlay.mp4", count)
    page = report(tmp_path, [], frame_count=count, overlay=video)
    images = page.all("img")
    assert [image["alt"] for image in images] == [f"overlay of frame {n}" for n in positions]
    for image, position in zip(images, positions, strict=True):
        jpeg = base64.b64decode((image["src"] or "").split(",")[1])
        picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        assert picture.mean() == pytest.approx(40 + 5 * position, abs=2)
        assert f"frame {position}{position / 10:.2f} s" in page.text


def test_an_overlay_that_cannot_be_read_is_an_error_and_writes_no_page(tmp_path):
    (tmp_path / "overlay.mp4").write_text("not a video")
    with pytest.raises(VideoError):
        report(tmp_path, [], frame_count=1, overlay=tmp_path / "overlay.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["overlay.mp4"]


@pytest.mark.parametrize("frame_count", [0, 1])
def test_a_run_that_found_nothing_says_so(tmp_path, frame_count):
    page = report(tmp_path, [], frame_count=frame_count)
    assert "No object was found." in page.text
    assert page.all("table") == []


def test_facts_of_the_run_stand_in_their_order(tmp_path):
    page = report(tmp_path, [], frame_count=1, run={"model": "deva", "device": "cpu", "a": "b"})
    assert page.rows == [["model", "deva"], ["device", "cpu"], ["a", "b"]]


def test_of_very_many_tracks_the_longest_seen_are_open_and_the_rest_folded_away(tmp_path):
    tracks = [row(n, list(range(n if n % 2 else 1000 - n))) for n in range(1, 501)]
    page = report(tmp_path, tracks, frame_count=1000)
    ids = [int(cells[0]) for cells in page.rows if cells[0].isdigit()]
    assert sorted(ids) == list(range(1, 501))
    assert ids[:40] == sorted(range(1, 501), key=lambda n: -len(tracks[n - 1].frames))[:40]
    assert len(page.all("details")) == 1
    assert "460 more tracks" in page.text
    assert (tmp_path / "report.html").stat().st_size < 5_000_000


def test_the_same_facts_give_the_same_bytes(tmp_path):
    video = overlay_video(tmp_path / "overlay.mp4", 12)
    pages = []
    for _ in range(2):
        report(tmp_path, [row(1, [0, 3])], frame_count=12, overlay=video, run={"seed": "0"})
        pages.append((tmp_path / "report.html").read_bytes())
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    "frames, areas, message",
    [
        pytest.param((0, 1), (0.5,), "2 frames but 1 areas", id="lengths differ"),
        pytest.param((1, 1), (0.5, 0.5), "do not ascend", id="a frame twice"),
        pytest.param((2, 1), (0.5, 0.5), "do not ascend", id="backwards"),
    ],
)
def test_rows_that_make_no_sense_are_refused(frames, areas, message):
    with pytest.raises(ValueError, match=message):
        TrackRow(1, "object", frames, areas)


def test_a_track_beyond_the_last_frame_is_refused(tmp_path):
    with pytest.raises(ValueError, match="track 3 is visible on frame 10 of 10"):
        report(tmp_path, [row(3, [9, 10])], frame_count=10)
