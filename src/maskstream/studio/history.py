"""What a project is on disk: values by key, and every action that changed them, to be undone and done again.

    entries   key ─► value, as things are now
    actions   one a thing that was done, in order; the undone ones last
    changes   action, key ─► the other value: the one before while the action is done, the one after while it is undone

To undo an action is to exchange its values with those of the entries, and so is doing it again. So what a project holds
is on disk once for every time that it was changed, and both ways are the same.

Each transaction is durable when it returns (SQLite, write-ahead log, full synchronisation): a process that is killed
leaves the last finished one.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from maskstream.types import InputError, OutputError

VERSION = 1
"""Of the layout of the file."""

Changes: TypeAlias = Collection[str]
"""Keys whose values are others now. Not the values: all masks of a video may change at once."""

_LAYOUT = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE entries (key TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE actions (id INTEGER PRIMARY KEY AUTOINCREMENT, label TEXT NOT NULL, undone INTEGER NOT NULL);
CREATE TABLE changes (action INTEGER NOT NULL, key TEXT NOT NULL, value BLOB, PRIMARY KEY (action, key));
CREATE INDEX changed ON changes (key, action);
INSERT INTO facts VALUES ('revision', X'30');
"""


class HistoryMovedError(InputError):
    """An action that was under way has been undone."""


@dataclass(frozen=True, slots=True)
class Step:
    """What undoing, or doing again, changed.

    Attributes:
        label: of the action.
        keys: that changed.
        revision: of the store, now.
    """

    label: str
    keys: tuple[str, ...]
    revision: int


class Write:
    """A transaction under way.

    Attributes:
        action: number of the action it belongs to; never used again.
        label: of the action.
        changed: keys, so far.
    """

    def __init__(self, connection: sqlite3.Connection, action: int, label: str, changed: dict[str, None]) -> None:
        self.action = action
        self.label = label
        self.changed = changed
        self._connection = connection

    def put(self, key: str, value: bytes | None) -> bool:
        """Change a value.

        Args:
            key: of it.
            value: the new one; None takes it away.

        Returns:
            Whether it was taken. It is not where a later action has changed this key: an action that takes long never
            undoes what was done meanwhile.
        """
        later = "SELECT 1 FROM changes WHERE key = ? AND action > ? LIMIT 1"
        if self._connection.execute(later, (key, self.action)).fetchone():
            return False
        before = _value(self._connection, key)
        if before == value:
            return True
        # The value before the action, even where it changes the key twice.
        self._connection.execute("INSERT OR IGNORE INTO changes VALUES (?, ?, ?)", (self.action, key, before))
        _set(self._connection, key, value)
        self.changed[key] = None
        return True

    def get(self, key: str) -> bytes | None:
        """A value as it is within the transaction."""
        return _value(self._connection, key)


class Store:
    """Values by key with a history. Threads may share it; each call is one after the other.

    Args:
        path: of the file, made if it is not there.

    Raises:
        InputError: the file is something else, damaged, or of a newer version.
    """

    def __init__(self, path: Path) -> None:
        self.lock = threading.RLock()
        self._path = path
        self._watchers: list[Callable[[Changes], None]] = []
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise InputError(f"{path} cannot be opened: {error}") from error
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._connection.close()
            raise InputError(f"{path} is not a project, or is damaged: {error}") from error
        except InputError:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise InputError(f"{self._path} was written by a newer maskstream: update to open it")
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        if version == 0:
            self._connection.executescript(f"BEGIN IMMEDIATE; {_LAYOUT} PRAGMA user_version = {VERSION}; COMMIT")
        self._revision = int(self.fact("revision") or 0)

    def close(self) -> None:
        """Let go of the file."""
        with self.lock:
            self._connection.close()

    # ---------------------------------------------------------------- reading

    @property
    def revision(self) -> int:
        """Grows with every transaction."""
        return self._revision

    def get(self, key: str) -> bytes | None:
        """The value of a key, or None."""
        with self.lock:
            return _value(self._connection, key)

    def items(self, prefix: str = "") -> list[tuple[str, bytes]]:
        """Keys that begin so and their values, by key."""
        with self.lock:
            return self._connection.execute(
                "SELECT key, value FROM entries WHERE key >= ? AND key < ? ORDER BY key", _between(prefix)
            ).fetchall()

    def keys(self, prefix: str = "") -> list[str]:
        """Keys that begin so, in order."""
        with self.lock:
            rows = self._connection.execute(
                "SELECT key FROM entries WHERE key >= ? AND key < ? ORDER BY key", _between(prefix)
            ).fetchall()
        return [key for (key,) in rows]

    def fact(self, name: str) -> bytes | None:
        """What was noted by `note`, or None."""
        with self.lock:
            row = self._connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def note(self, name: str, value: bytes) -> None:
        """Keep something that is no part of the history and is never undone."""
        with self.lock:
            self._connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    @property
    def undo_label(self) -> str | None:
        """The action that would be undone next."""
        return self._label("SELECT label FROM actions WHERE NOT undone ORDER BY id DESC LIMIT 1")

    @property
    def redo_label(self) -> str | None:
        """The action that would be done again next."""
        return self._label("SELECT label FROM actions WHERE undone ORDER BY id LIMIT 1")

    def watch(self, callback: Callable[[Changes], None]) -> None:
        """Call this with what each transaction changed, under the lock, before anybody can read it."""
        self._watchers.append(callback)

    # ---------------------------------------------------------------- writing

    @contextmanager
    def action(self, label: str) -> Iterator[Write]:
        """One transaction that is one entry of the history. What could be done again is dropped.

        If the block raises, or changes nothing, there was no action.

        Args:
            label: what it is called, for people.
        """
        with self.write(None, label) as write:
            yield write

    def begin(self, label: str) -> LongAction:
        """An action of several transactions that is one entry of the history."""
        return LongAction(self, label)

    def undo(self) -> Step | None:
        """Undo the last action; None where there is none."""
        return self._exchange("SELECT id, label FROM actions WHERE NOT undone ORDER BY id DESC LIMIT 1", undone=1)

    def redo(self) -> Step | None:
        """Do the action again that was undone last; None where there is none."""
        return self._exchange("SELECT id, label FROM actions WHERE undone ORDER BY id LIMIT 1", undone=0)

    def _exchange(self, which: str, *, undone: int) -> Step | None:
        with self.lock:
            row = self._connection.execute(which).fetchone()
            if row is None:
                return None
            action, label = row
            with self._transaction() as changed:
                for (key,) in self._connection.execute(
                    "SELECT key FROM changes WHERE action = ?", (action,)
                ).fetchall():
                    self._swap(action, key)
                    changed[key] = None
                self._connection.execute("UPDATE actions SET undone = ? WHERE id = ?", (undone, action))
            return Step(label, tuple(changed), self._revision)

    def _swap(self, action: int, key: str) -> None:
        """Exchange the value of an entry with the one that a change keeps."""
        now, where = _value(self._connection, key), (action, key)
        (other,) = self._connection.execute("SELECT value FROM changes WHERE action = ? AND key = ?", where).fetchone()
        self._connection.execute("UPDATE changes SET value = ? WHERE action = ? AND key = ?", (now, *where))
        _set(self._connection, key, other)

    @contextmanager
    def write(self, action: int | None, label: str) -> Iterator[Write]:
        """A transaction of an action, of a new one where there is no number; for `action` and `LongAction`."""
        with self.lock, self._transaction() as changed:
            undone = self._connection.execute("SELECT undone FROM actions WHERE id = ?", (action,)).fetchone()
            if action is not None and (undone is None or undone[0]):
                raise HistoryMovedError(f"{label!r} was undone while it was under way: begin it again")
            self._connection.execute("DELETE FROM changes WHERE action IN (SELECT id FROM actions WHERE undone)")
            self._connection.execute("DELETE FROM actions WHERE undone")
            if action is None:
                insert = "INSERT INTO actions (label, undone) VALUES (?, 0)"
                action = self._connection.execute(insert, (label,)).lastrowid
            assert action is not None
            yield Write(self._connection, action, label, changed)

    @contextmanager
    def _transaction(self) -> Iterator[dict[str, None]]:
        """All or nothing; nothing, too, where nothing changed. Yields what changed, to be filled. The lock is held."""
        changed: dict[str, None] = {}  # in order, each once
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield changed
                if changed:
                    grown = str(self._revision + 1).encode()
                    self._connection.execute("UPDATE facts SET value = ? WHERE name = 'revision'", (grown,))
                self._connection.execute("COMMIT" if changed else "ROLLBACK")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise OutputError(f"{self._path} cannot be written: {error}") from error
        if changed:
            self._revision += 1
            for watcher in self._watchers:
                watcher(changed)

    def _label(self, select: str) -> str | None:
        with self.lock:
            row = self._connection.execute(select).fetchone()
        return None if row is None else str(row[0])


class LongAction:
    """An action of several transactions: results of a job, as they come. From `Store.begin`.

    It is one entry of the history from its first transaction on, also where the process is killed before its last.
    Other actions may come between.
    """

    def __init__(self, store: Store, label: str) -> None:
        self.label = label
        self._store = store
        self._number: int | None = None

    @contextmanager
    def write(self) -> Iterator[Write]:
        """The next transaction. If the block raises, or changes nothing, there was none.

        Raises:
            HistoryMovedError: the action has been undone.
        """
        with self._store.write(self._number, self.label) as write:
            yield write
        if write.changed:
            self._number = write.action


def _between(prefix: str) -> tuple[str, str]:
    return prefix, prefix + "\U0010ffff"


def _value(connection: sqlite3.Connection, key: str) -> bytes | None:
    row = connection.execute("SELECT value FROM entries WHERE key = ?", (key,)).fetchone()
    return None if row is None else bytes(row[0])


def _set(connection: sqlite3.Connection, key: str, value: bytes | None) -> None:
    if value is None:
        connection.execute("DELETE FROM entries WHERE key = ?", (key,))
    else:
        connection.execute("INSERT OR REPLACE INTO entries VALUES (?, ?)", (key, value))
