"""Which videos are meant, and what they are called."""

import http.server
import json
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from maskstream.engine.segment import PromptWords
from maskstream.engine.sources import Listed, clean_name, find_videos, local_copy, names_of, read_prompts
from maskstream.types import InputError, VideoError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files by name only; what is in them does not matter here."""
    names = [
        "a.mp4",
        "b.MOV",
        "notes.md",
        ".hidden.mp4",
        "deep/c.mkv",
        "deep/cover.jpg",
        "frames/walk/00000.jpg",
        "frames/walk/00001.jpg",
        "out/run.json",
        "out/videos/a/overlay.mp4",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def places(root: Path, *sources: str) -> list[str]:
    return [str(Path(listed.where).relative_to(root)) for listed in find_videos([str(root / s) for s in sources])]


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        pytest.param(["a.mp4", "notes.md"], ["a.mp4", "notes.md"], id="a file that is named is a video"),
        pytest.param(["."], ["a.mp4", "b.MOV", "deep/c.mkv", "frames/walk"], id="a folder, but not our results in it"),
        pytest.param(["frames/walk"], ["frames/walk"], id="a folder of images"),
        pytest.param(["*.m*"], ["a.mp4", "notes.md"], id="a pattern takes what it matches"),
        pytest.param(["**/*.mkv", "deep"], ["deep/c.mkv"], id="each video once"),
        pytest.param(["frames/*"], ["frames/walk"], id="a pattern of folders"),
        pytest.param(["frames/walk/*.jpg"], ["frames/walk/*.jpg"], id="a pattern of images is one video"),
    ],
)
def test_sources_mean_videos(tree, sources, expected):
    assert places(tree, *sources) == expected


@pytest.mark.parametrize(
    ("source", "word"),
    [
        pytest.param("out", "no video", id="a folder of results"),
        pytest.param("*.nothing", "*.nothing", id="a pattern that matches nothing"),
    ],
)
def test_a_source_without_a_video_is_named(tree, source, word):
    with pytest.raises(InputError, match="no video") as caught:
        find_videos([str(tree / source)])
    assert word in str(caught.value)


@pytest.mark.parametrize("source", ["-", "camera:0", "rtsp://here/there"])
def test_what_passes_by_once_is_refused(source):
    with pytest.raises(InputError, match="passes by once"):
        find_videos([source])


def test_a_list_of_lines_is_relative_to_its_folder(tree):
    (tree / "list.txt").write_text("# ours\na.mp4\n\n  deep/c.mkv\n/elsewhere/d.mp4\ns3://bucket/e.mp4\n")
    assert [v.where for v in find_videos([str(tree / "list.txt")])] == [
        str(tree / "a.mp4"),
        str(tree / "deep/c.mkv"),
        "/elsewhere/d.mp4",
        "s3://bucket/e.mp4",
    ]


def test_a_table_names_videos_and_their_prompts(tree):
    (tree / "a.json").write_text(json.dumps({"box": ["0:1:1,1,9,9"], "mask": ["0:first.png"]}))
    (tree / "list.csv").write_text("id,path,prompts\none,a.mp4,a.json\n,b.MOV,\n")
    one, two = find_videos([str(tree / "list.csv")])
    assert (one.name, one.words) == ("one", PromptWords(box=("0:1:1,1,9,9",), mask=(f"0:{tree / 'first.png'}",)))
    assert (two.name, two.words) == (None, None)


def test_a_table_may_be_parquet(tree):
    pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"path": ["a.mp4", "b.MOV"], "id": [7, None]}), tree / "list.parquet")
    assert [(Path(v.where).name, v.name) for v in find_videos([str(tree / "list.parquet")])] == [
        ("a.mp4", "7"),
        ("b.MOV", None),
    ]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        pytest.param("list.csv", b"file\na.mp4\n", ["row 1", "path"], id="no column of paths"),
        pytest.param("list.txt", b"\xff\xfe\x00", ["list.txt"], id="no text"),
        pytest.param("list.parquet", b"PAR?", ["list.parquet"], id="no parquet"),
        pytest.param("list.txt", None, ["list.txt", "cannot be read"], id="no such list"),
    ],
)
def test_a_list_that_cannot_be_read_is_named(tmp_path, name, content, words):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        find_videos([str(tmp_path / name)])
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("{", id="no JSON"),
        pytest.param("[1]", id="no object"),
        pytest.param('{"clip": ["0:1:1,1,9,9"]}', id="no kinds"),
        pytest.param('{"clip": {"circle": ["0:1:1,1,9"]}}', id="an unknown kind"),
        pytest.param('{"clip": {"box": [1]}}', id="no text"),
    ],
)
def test_a_file_of_prompts_that_cannot_be_read_is_named(tmp_path, content):
    (tmp_path / "prompts.json").write_text(content)
    with pytest.raises(InputError, match=r"prompts\.json"):
        read_prompts(tmp_path / "prompts.json")


# Names.


def named(*places: str, **earlier: str) -> list[str]:
    return list(names_of([Listed(place) for place in places], earlier).values())


def test_a_video_is_called_like_its_file():
    assert named("x/a.mp4", "b.tar.mkv", "frames/walk", "https://h/c.webm?key=1") == ["a", "b.tar", "walk", "c"]


def test_names_are_different_and_do_not_depend_on_the_order():
    one, two, three = named("x/a.mp4", "y/A.mp4", "b.mp4")
    assert one.startswith("a-")
    assert two.startswith("A-")
    assert one.casefold() != two.casefold()
    assert three == "b"
    assert named("b.mp4", "y/A.mp4", "x/a.mp4") == [three, two, one]


def test_names_that_were_given_out_stay_when_more_videos_come():
    earlier = {"x/a.mp4": "a"}
    names = names_of([Listed("y/a.mp4"), Listed("x/a.mp4")], earlier)
    assert names["x/a.mp4"] == "a"
    assert names["y/a.mp4"].startswith("a-")


def test_two_videos_with_one_id_are_refused():
    with pytest.raises(InputError, match="another id"):
        names_of([Listed("a.mp4", "one"), Listed("b.mp4", "one")], {})


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a b/ü:1", "a_b_ü_1"), ("..", "video"), (".x", "x"), ("n" * 300, "n" * 100), ("-1.5_", "-1.5_")],
)
def test_names_are_what_file_systems_take(name, expected):
    assert clean_name(name) == expected


# Networks.


@pytest.fixture
def memory() -> Iterator[None]:
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    for name, content in {"/films/a.mp4": b"A", "/films/deep/b.mkv": b"B", "/films/c.txt.md": b"C"}.items():
        files.pipe(name, content)
    files.pipe("/films/all.txt", b"a.mp4\n")
    yield
    files.rm("/films", recursive=True)


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param("memory://films", ["memory:///films/a.mp4", "memory:///films/deep/b.mkv"], id="a folder"),
        pytest.param("memory://films/*.mp4", ["memory:///films/a.mp4"], id="a pattern"),
        pytest.param("memory://films/a.mp4", ["memory://films/a.mp4"], id="a file"),
        pytest.param("memory://films/all.txt", ["memory://films/a.mp4"], id="a list"),
    ],
)
def test_a_network_has_folders_and_patterns_too(source, expected):
    assert [listed.where.replace(":////", ":///") for listed in find_videos([source])] == expected


@pytest.mark.usefixtures("memory")
def test_what_lies_on_a_network_is_here_as_long_as_it_is_needed(tmp_path):
    with local_copy("memory://films/a.mp4", tmp_path / "copy") as path:
        assert Path(path).name == "a.mp4"
        assert Path(path).read_bytes() == b"A"
    assert not (tmp_path / "copy").exists()


@pytest.mark.usefixtures("memory")
def test_what_is_not_on_the_network_is_named(tmp_path):
    with pytest.raises(VideoError, match="does not exist"), local_copy("memory://films/z.mp4", tmp_path / "copy"):
        pass
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        pytest.param("nowhere://x/a.mp4", ["nowhere"], id="no such protocol"),
        pytest.param("abfs://x/a.mp4", ["pip install adlfs"], id="not installed"),
    ],
)
def test_a_network_that_cannot_be_read_is_named_at_once(address, words):
    with pytest.raises(InputError) as caught:
        find_videos([address])
    assert all(word in str(caught.value) for word in words)


def test_videos_come_over_http(tmp_path):
    pytest.importorskip("aiohttp", reason="http needs aiohttp")
    (tmp_path / "a.mp4").write_bytes(b"film")
    handler = partial(_Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/a.mp4?key=1"
        (listed,) = find_videos([address])
        assert names_of([listed], {}) == {address: "a"}
        with local_copy(listed.where, tmp_path / "copy") as path:
            assert Path(path).read_bytes() == b"film"
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
