"""Long lists of JSON files: the same as reading it all, without holding it all."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskstream.formats import long_json
from maskstream.formats.long_json import LazySamples, Shards, elements, reading
from maskstream.types import InputError, OutputError, VideoSample

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


def written(path: Path, value, **options) -> Path:
    path.write_text(json.dumps(value, **options), encoding="utf-8")
    return path


@pytest.fixture
def file(tmp_path):
    records = [{"id": n, "video": n % 3, "text": "x" * n} for n in range(20)]
    return written(tmp_path / "data.json", {"before": [1, {"records": []}], "records": records, "after": "all"})


@pytest.fixture
def in_cache(monkeypatch, tmp_path):
    """Every file counts as big; the folder of the cache."""
    monkeypatch.setenv("MASKSTREAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(long_json, "_IN_MEMORY", 0)
    return tmp_path / "cache" / "json"


# elements


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text(max_size=4), values, max_size=3), st.lists(values, max_size=6), st.data())
def test_elements_are_those_of_the_whole_file_wherever_it_is_cut(tmp_path_factory, rest, listed, data):
    chunk = data.draw(st.integers(1, 40), label="chunk")
    spaces = data.draw(st.sampled_from([{}, {"indent": 3}, {"ensure_ascii": False}]), label="spaces")
    folder = tmp_path_factory.mktemp("json")
    as_list = written(folder / "list.json", listed, **spaces)
    as_member = written(folder / "member.json", rest | {"the list": listed}, **spaces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_json, "_CHUNK", chunk)
        assert list(elements(as_list)) == listed
        assert list(elements(as_member, "the list")) == listed


@pytest.mark.parametrize("text", ['[{"n": 1}, {"n": 2}, ]', '[{"n": 1}, {"n": 2} {', '[{"n": 1}, {"n": 2}, {"n": "'])
def test_what_stands_before_the_damage_is_read_and_the_damage_is_named(tmp_path, text):
    path = tmp_path / "damaged.json"
    path.write_text(text)
    found = elements(path, what="a list of numbers")
    assert [next(found), next(found)] == [{"n": 1}, {"n": 2}]
    with pytest.raises(InputError, match=r"damaged\.json cannot be read as a list of numbers: .* at character \d+"):
        next(found)


def test_damage_is_not_looked_for_in_the_rest_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(long_json, "_CHUNK", 64)
    path = tmp_path / "damaged.json"
    path.write_text('[{"n": 1}, {"n": oops},' + " " * 100_000)
    read: list[bool] = []
    original = long_json._Text._grow

    def grow(text: long_json._Text) -> bool:
        read.append(original(text))
        return read[-1]

    monkeypatch.setattr(long_json._Text, "_grow", grow)
    with pytest.raises(InputError, match="at character 17"):
        list(elements(path))
    assert len(read) < 5


@pytest.mark.parametrize(
    "text, key, message",
    [
        ('{"a": []}', "b", "has no list 'b'"),
        ('{"b": 3}', None, r"\[ expected at character 0"),
        ("[]", "b", r"{ expected at character 0"),
        ("", None, r"\[ expected"),
        ("\ufeff[1", None, ", or ] expected at character 2"),
        ('{"b" []}', "b", ": expected at character 5"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, text, key, message):
    path = tmp_path / "file.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message) as error:
        list(elements(path, key))
    assert str(path) in str(error.value)


def test_a_missing_file_and_a_picture_are_refused(tmp_path):
    with pytest.raises(InputError, match="there is no"):
        list(elements(tmp_path / "none.json"))
    (tmp_path / "picture").write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="cannot be read"):
        list(elements(tmp_path / "picture"))


# Shards


def check(shards: Shards) -> None:
    assert shards.keys() == ["0", "1", "2"]
    assert [one["id"] for one in shards["1"]] == list(range(1, 20, 3))
    assert shards["7"] == []
    assert shards.rest == {"before": [1, {"records": []}], "after": "all"}
    assert shards.has_list


def test_shards_of_a_small_file_are_held(file, tmp_path, monkeypatch):
    monkeypatch.setenv("MASKSTREAM_CACHE", str(tmp_path / "cache"))
    check(Shards(file, "records", by=("video",), what="records"))
    assert not (tmp_path / "cache").exists()


def test_shards_of_a_big_file_are_laid_out_once(file, in_cache, monkeypatch):
    check(Shards(file, "records", by=("video",), what="records"))
    monkeypatch.setattr(long_json, "_walk", None)  # what is in the cache is not read again
    check(Shards(file, "records", by=("video",), what="records"))
    assert len(list(in_cache.iterdir())) == 1


def test_a_changed_file_is_laid_out_anew_and_what_was_before_is_removed(file, in_cache):
    Shards(file, "records", by=("video",), what="records")
    written(file, {"records": [{"video": "new"}]})
    assert Shards(file, "records", by=("video",), what="records").keys() == ["new"]
    assert len(list(in_cache.iterdir())) == 1
    os.utime(file, ns=(1, 1))
    Shards(file, "records", by=("video",), what="records")
    assert len(list(in_cache.iterdir())) == 1


def test_other_fields_and_lists_of_a_file_are_kept_apart(file, in_cache):
    assert Shards(file, "records", by=("id", "video"), what="records").keys()[:2] == ["0/0", "1/1"]
    check(Shards(file, "records", by=("video",), what="records"))
    assert len(list(in_cache.iterdir())) == 2


@pytest.mark.parametrize("damage", [b"", b"{}\nx"], ids=["empty", "cut"])
def test_a_cache_that_a_crash_cut_short_is_made_again(file, in_cache, damage):
    Shards(file, "records", by=("video",), what="records")
    (path,) = in_cache.iterdir()
    path.write_bytes(damage)
    check(Shards(file, "records", by=("video",), what="records"))


def test_an_element_without_an_owner_is_named_and_leaves_no_cache(file, in_cache):
    with pytest.raises(InputError, match="entry 0 of records: there is no 'owner'"):
        Shards(file, "records", by=("owner",), what="records")
    assert list(in_cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_says_where_else(file, in_cache, tmp_path):
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(OutputError, match="MASKSTREAM_CACHE"):
        Shards(file, "records", by=("video",), what="records")


def test_a_list_that_is_null_or_missing_is_told_from_an_empty_one(tmp_path):
    for value, found in (({"records": []}, True), ({"records": None}, False), ({}, False)):
        path = written(tmp_path / "file.json", value)
        assert Shards(path, "records", by=("video",), what="records").has_list is found


# Lazy samples and errors


def test_lazy_samples_are_made_when_asked_for_and_the_last_is_kept():
    made: list[str] = []

    def make(name: str) -> VideoSample:
        made.append(name)
        return VideoSample(name, ())

    samples = LazySamples(["b", "a"], make)
    assert (list(samples), len(samples), made) == (["b", "a"], 2, [])
    assert samples["a"] is samples["a"]
    assert made == ["a"]
    assert samples.get("c") is None


@pytest.mark.parametrize(
    "error, message",
    [
        (KeyError("rle"), "file, part: there is no 'rle'"),
        (TypeError("odd"), "file, part: this is not as it should be: odd"),
        (InputError("odd"), "file, part: odd"),
    ],
)
def test_an_error_in_a_part_of_a_file_says_which(error, message):
    with pytest.raises(InputError, match=message), reading(Path("file"), "part"):
        raise error
