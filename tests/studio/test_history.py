"""Values by key, and everything that was done to them, undone and done again; also where the process is killed."""

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskstream.studio.history import HistoryMovedError, Store
from maskstream.types import InputError, OutputError


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "store.sqlite")
    yield store
    store.close()


def put(store: Store, label: str, **values: bytes | None) -> None:
    with store.action(label) as write:
        for key, value in values.items():
            write.put(key, value)


def test_an_action_is_there_when_it_is_done_and_after_opening_again(tmp_path):
    store = Store(tmp_path / "store.sqlite")
    put(store, "first", a=b"1", b=b"2")
    put(store, "second", a=b"3", b=None)
    store.note("video", b"clip")
    for _ in range(2):
        assert store.items() == [("a", b"3")]
        assert (store.get("a"), store.get("b"), store.get("c")) == (b"3", None, None)
        assert (store.undo_label, store.redo_label, store.revision) == ("second", None, 2)
        assert (store.fact("video"), store.fact("audio")) == (b"clip", None)
        store.close()
        store = Store(tmp_path / "store.sqlite")
    store.close()


def test_keys_are_found_by_how_they_begin(store):
    put(store, "some", **{"given/1/2": b"", "given/1/10": b"", "given/12/1": b"", "found/1/2": b""})
    assert store.keys("given/1/") == ["given/1/10", "given/1/2"]
    assert store.keys("given/") == ["given/1/10", "given/1/2", "given/12/1"]


def test_undo_and_redo_go_back_and_forth(store):
    put(store, "first", a=b"1")
    put(store, "second", a=b"2", b=b"x")
    undone = store.undo()
    assert undone is not None
    assert (undone.label, set(undone.keys), undone.revision) == ("second", {"a", "b"}, 3)
    assert (store.items(), store.undo_label, store.redo_label) == ([("a", b"1")], "first", "second")
    store.undo()
    assert (store.items(), store.undo_label, store.redo_label) == ([], None, "first")
    assert store.undo() is None
    store.redo()
    redone = store.redo()
    assert redone is not None
    assert (redone.label, store.items()) == ("second", [("a", b"2"), ("b", b"x")])
    assert store.redo() is None


def test_a_new_action_drops_what_could_be_done_again(store):
    put(store, "first", a=b"1")
    put(store, "second", a=b"2")
    store.undo()
    put(store, "third", a=b"3")
    assert (store.redo(), store.undo_label, store.get("a")) == (None, "third", b"3")
    store.undo()
    assert store.get("a") == b"1"


def test_an_action_that_fails_or_changes_nothing_is_none(store):
    put(store, "first", a=b"1")
    store.undo()
    with pytest.raises(KeyError), store.action("broken") as write:
        write.put("a", b"2")
        raise KeyError
    with store.action("idle") as write:
        write.put("b", None)
    assert (store.items(), store.undo_label, store.redo_label, store.revision) == ([], None, "first", 2)


def test_a_key_that_changes_twice_in_an_action_goes_back_to_what_it_was_before(store):
    put(store, "first", a=b"1")
    with store.action("second") as write:
        write.put("a", b"2")
        assert write.get("a") == b"2"
        write.put("a", b"3")
    store.undo()
    assert store.get("a") == b"1"
    store.redo()
    assert store.get("a") == b"3"


def test_numbers_of_actions_are_never_used_again(store):
    numbers = []
    for _ in range(3):
        with store.action("same") as write:
            write.put("a", b"1")
        numbers.append(write.action)
        store.undo()
    assert len(set(numbers)) == 3


def test_a_long_action_is_one_entry_also_with_others_in_between(store):
    long = store.begin("long")
    for key in ("a", "b"):
        with long.write() as write:
            assert write.put(key, b"long")
        put(store, f"short {key}", **{f"own {key}": b"short"})
    assert [store.undo().label for _ in range(3)] == ["short b", "short a", "long"]
    assert store.items() == []
    assert [store.redo().label for _ in range(3)] == ["long", "short a", "short b"]
    assert len(store.items()) == 4


def test_a_long_action_leaves_alone_what_was_changed_meanwhile(store):
    long = store.begin("long")
    with long.write() as write:
        write.put("a", b"long")
        write.put("b", b"long")
    put(store, "short", a=b"short", c=b"short")
    with long.write() as write:
        assert not write.put("a", b"later")
        assert not write.put("c", b"later")
        assert write.put("b", b"later")
    assert store.items() == [("a", b"short"), ("b", b"later"), ("c", b"short")]
    store.undo()
    assert store.items() == [("a", b"long"), ("b", b"later")]
    store.undo()
    assert store.items() == []


def test_a_long_action_that_was_undone_cannot_go_on(store):
    long = store.begin("long")
    with long.write() as write:
        write.put("a", b"long")
    store.undo()
    with pytest.raises(HistoryMovedError, match="'long' was undone"), long.write() as write:
        write.put("b", b"later")
    put(store, "other", c=b"1")  # drops it for good
    with pytest.raises(HistoryMovedError), long.write() as write:
        write.put("b", b"later")
    assert store.items() == [("c", b"1")]


def test_watchers_see_what_changed_before_anybody_else(store):
    seen = []
    store.watch(lambda changes: seen.append(({key: store.get(key) for key in changes}, store.revision)))
    put(store, "first", a=b"1", b=b"2")
    put(store, "second", a=None)
    store.undo()
    assert seen == [({"a": b"1", "b": b"2"}, 1), ({"a": None}, 2), ({"a": b"1"}, 3)]


def test_a_file_that_is_something_else_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"no database at all, but long enough to have a header of one " * 20)
    with pytest.raises(InputError, match="not a project, or is damaged"):
        Store(tmp_path / "a")
    with sqlite3.connect(tmp_path / "b") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(InputError, match="newer maskstream"):
        Store(tmp_path / "b")
    with pytest.raises(InputError, match="cannot be opened"):
        Store(tmp_path / "nowhere" / "c")


def test_what_cannot_be_written_is_said_and_leaves_everything_as_it_was(tmp_path):
    store = Store(tmp_path / "store.sqlite")
    put(store, "first", a=b"1")
    store._connection.execute("PRAGMA max_page_count = 20")  # a disk that is full
    with pytest.raises(OutputError, match="cannot be written"):
        put(store, "large", b=bytes(10**6))
    assert (store.items(), store.undo_label, store.revision) == ([("a", b"1")], "first", 1)
    store.close()


def test_threads_do_not_lose_each_others_actions(store):
    def work(name: str) -> None:
        long = store.begin(name)
        for n in range(20):
            with long.write() as write:
                write.put(f"{name}/{n}", b"1")
            put(store, "count", count=str(n).encode())

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.items()) == 4 * 20 + 1
    while store.undo():
        pass
    assert store.items() == []


KEYS = st.sampled_from("abcd")
VALUES = st.one_of(st.none(), st.binary(max_size=2))
PUTS = st.lists(st.tuples(KEYS, VALUES), max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.tuples(st.sampled_from(["act", "long"]), PUTS), st.sampled_from(["undo", "redo"]))))
def test_any_sequence_can_be_undone_to_nothing_and_done_again(steps):
    """The oracle keeps whole states; of a long action it does not know which entry it belongs to."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store.sqlite")
        long = store.begin("long")
        for step in steps:
            if step == "undo":
                store.undo()
            elif step == "redo":
                store.redo()
            else:
                kind, puts = step
                try:
                    with store.action("act") if kind == "act" else long.write() as write:
                        for key, value in puts:
                            write.put(key, value)
                except HistoryMovedError:
                    long = store.begin("long")
        while store.redo():
            pass
        states = [store.items()]
        while store.undo():
            states.append(store.items())
        assert states[-1] == []
        for state in reversed(states[:-1]):
            assert store.redo() is not None
            assert store.items() == state
        store.close()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(PUTS, st.sampled_from(["undo", "redo"]))))
def test_short_actions_do_what_a_list_of_states_does(steps):
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store.sqlite")
        states: list[dict[str, bytes]] = [{}]
        now = 0
        for step in steps:
            if step == "undo":
                now = max(now - 1, 0)
                store.undo()
            elif step == "redo":
                now = min(now + 1, len(states) - 1)
                store.redo()
            else:
                with store.action("act") as write:
                    for key, value in step:
                        write.put(key, value)
                after = {**states[now], **dict(step)}
                after = {key: value for key, value in after.items() if value is not None}
                if write.changed:
                    states, now = [*states[: now + 1], after], now + 1
            assert dict(store.items()) == states[now]
        store.close()


COUNTER = """
import sys
from maskstream.studio.history import Store
store = Store(sys.argv[1])
for n in range(10**6):
    with store.action(f"count {n}") as write:
        write.put("n", str(n).encode())
        write.put(f"n/{n}", bytes(5000))
    print(n, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="processes are not killed that way")
def test_a_process_that_is_killed_leaves_its_last_action(tmp_path):
    for said in (3, 17):
        path = tmp_path / f"{said}.sqlite"
        process = subprocess.Popen([sys.executable, "-c", COUNTER, str(path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        for _ in range(said):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        rest = process.stdout.read().split()
        process.wait()
        process.stdout.close()
        last = int(rest[-1]) if rest else said - 1
        store = Store(path)
        n = int(store.get("n") or -1)
        assert n in (last, last + 1)  # killed after it was done and before it was said
        assert (store.undo_label, len(store.keys("n/")), store.revision) == (f"count {n}", n + 1, n + 1)
        assert store.undo() is not None
        assert store.get("n") == str(n - 1).encode()
        store.close()
