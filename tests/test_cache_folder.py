"""Where things are kept that can be made again."""

from pathlib import Path

import pytest

from maskstream.files import cache_folder


@pytest.mark.parametrize(
    "platform, variables, expected",
    [
        pytest.param("linux", {}, "home/.cache/maskstream", id="Linux"),
        pytest.param("linux", {"XDG_CACHE_HOME": "xdg"}, "xdg/maskstream", id="Linux, moved"),
        pytest.param("darwin", {"XDG_CACHE_HOME": "xdg"}, "home/Library/Caches/maskstream", id="macOS"),
        pytest.param("win32", {"LOCALAPPDATA": "local"}, "local/maskstream", id="Windows"),
        pytest.param("win32", {}, "home/AppData/Local/maskstream", id="Windows, bare"),
        pytest.param("win32", {"LOCALAPPDATA": "local", "MASKSTREAM_CACHE": "mine"}, "mine", id="chosen"),
        pytest.param("linux", {"MASKSTREAM_CACHE": ""}, "home/.cache/maskstream", id="chosen, but empty"),
    ],
)
def test_the_cache_is_where_the_platform_or_the_user_wants_it(monkeypatch, platform, variables, expected):
    for name in ("MASKSTREAM_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("maskstream.files.sys.platform", platform)
    monkeypatch.setattr(Path, "home", lambda: Path("home"))
    assert cache_folder() == Path(expected)
