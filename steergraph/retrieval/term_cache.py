"""What was worked out of blobs once, kept on disk for every process and every later commit.

Knows bytes under keys (what it is, the version of the code that made it, the blob's hash), and SQLite. Knows nothing
of terms or repositories. It is only a cache: whatever goes wrong with it (no room, no permission, a damaged file) is
told in one warning, and costs no more than the work it would have saved; its users see no error.

Several processes may read and write it at once, and any of them may be killed at any moment: SQLite's write-ahead log
keeps what was written whole, and every entry has a checksum, since SQLite has none. Least recently used entries go
when the file grows beyond its limit; entries of an older version are never read again, and go the same way.
"""

import logging
import os
import sqlite3
import time
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import NamedTuple, Self

from steergraph.base.folders import cache_folder

MAX_BYTES = 1_000_000_000
"""Of the default cache. The blobs of 75 issues of a repository of 15 MB take about 80 MB."""

_LOG = logging.getLogger(__name__)
_FORMAT = 1
_SECONDS = 10.0  # how long to wait for another process's write
_TOUCH_S = 3600  # how exactly the time of last use is known
_BATCH = 500
_STALE_S = 86_400.0
_PASSING = {
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT,
}  # fmt: skip
"""What is no damage of the file."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, version INTEGER NOT NULL, blob TEXT NOT NULL,
    used INTEGER NOT NULL, size INTEGER NOT NULL, crc INTEGER NOT NULL, UNIQUE (kind, version, blob));
CREATE INDEX IF NOT EXISTS by_use ON entry (used);
CREATE TABLE IF NOT EXISTS content (id INTEGER PRIMARY KEY, value BLOB NOT NULL);
"""


class Key(NamedTuple):
    """Under what an entry is kept."""

    kind: str
    """What it is: "terms", say."""
    version: int
    """Of the code that made it."""
    blob: str
    """The blob's object id."""


class TermCache:
    """A cache of bytes by `Key`, in one SQLite file. Safe to use from several threads, and after a fork.

    Args:
        folder: where the file lies; by default `terms` in the cache folder.
        max_bytes: the limit of the file's size.
    """

    def __init__(self, folder: str | Path | None = None, max_bytes: int = MAX_BYTES) -> None:
        self.folder = Path(folder) if folder is not None else cache_folder() / "terms"
        self.max_bytes = max_bytes
        self._connection: sqlite3.Connection | None = None
        self._path = Path()
        self._pid = 0
        self._off = False
        self._lock = RLock()

    def get_many(self, keys: Iterable[Key]) -> dict[Key, bytes]:
        """The entries that are there. A damaged one counts as absent, and is removed."""
        wanted: dict[tuple[str, int], list[str]] = defaultdict(list)
        for key in keys:
            wanted[key[:2]].append(key.blob)
        found: dict[Key, bytes] = {}
        old: list[int] = []
        damaged: list[int] = []
        with self._open("read") as connection:
            if connection is None:
                return {}
            now = int(time.time())
            for (kind, version), blobs in wanted.items():
                for at in range(0, len(blobs), _BATCH):
                    some = blobs[at : at + _BATCH]
                    rows = connection.execute(
                        "SELECT id, blob, used, crc, value FROM entry LEFT JOIN content USING (id)"
                        f" WHERE kind = ? AND version = ? AND blob IN ({','.join('?' * len(some))})",
                        (kind, version, *some),
                    )
                    for number, blob, used, crc, value in rows:
                        key = Key(kind, version, blob)
                        if not isinstance(value, bytes) or not isinstance(used, int) or crc != _checksum(key, value):
                            damaged.append(number)
                            continue
                        found[key] = value
                        if abs(now - used) > _TOUCH_S:
                            old.append(number)
            if damaged:
                _LOG.warning("%s: %d damaged entries, made anew", self.folder, len(damaged))
            if old or damaged:
                self._tidy(connection, now, old, damaged)
        return found

    def put_many(self, entries: Mapping[Key, bytes]) -> None:
        """Keep `entries`; those that are there already stay as they are."""
        items = list(entries.items())
        with self._open("write") as connection:
            if connection is None:
                return
            for at in range(0, len(items), _BATCH):
                with _transaction(connection):
                    _insert(connection, items[at : at + _BATCH])
                    self._evict(connection)

    def size(self) -> int:
        """Bytes in use, of all entries and what it takes to find them."""
        with self._open("read") as connection:
            return 0 if connection is None else _used(connection)

    def close(self) -> None:
        """Let go of the file. The cache can be used again after it. Idempotent."""
        with self._lock:
            if self._connection is not None and self._pid == os.getpid():
                self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tidy(self, connection: sqlite3.Connection, now: int, old: list[int], damaged: list[int]) -> None:
        with _transaction(connection):
            connection.executemany("UPDATE entry SET used = ? WHERE id = ?", [(now, number) for number in old])
            _remove(connection, damaged)

    def _evict(self, connection: sqlite3.Connection) -> None:
        """Within a transaction: remove what was used least recently until a tenth of the limit is free."""
        used = _used(connection)
        if used <= self.max_bytes:
            return
        excess = used - self.max_bytes * 9 // 10
        gone: list[int] = []
        for number, size in connection.execute("SELECT id, CAST(size AS INTEGER) FROM entry ORDER BY used, id"):
            gone.append(number)
            excess -= size
            if excess <= 0:
                break
        _remove(connection, gone)

    @contextmanager
    def _open(self, what: str) -> Iterator[sqlite3.Connection | None]:
        """The connection, or None where there is none to be had. Errors in the body end here, told in a warning."""
        with self._lock:
            connection = None
            try:
                connection = self._connected()
            except (sqlite3.Error, OSError) as error:
                self._fail(what, error)
            try:
                yield connection
            except sqlite3.Error as error:
                self._fail(what, error)

    def _fail(self, what: str, error: Exception) -> None:
        said = getattr(error, "strerror", None) or error
        _LOG.warning("%s: cannot %s the term cache (%s): going on without", self.folder, what, said)
        if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF not in _PASSING:
            self._begin_anew()
        else:  # it may be better next time, except where it cannot even be opened
            self._off = self._connection is None

    def _connected(self) -> sqlite3.Connection | None:
        if self._pid != os.getpid():  # a connection must not be used, nor closed, on the other side of a fork
            self._connection, self._off, self._pid = None, False, os.getpid()
        if self._connection is None and not self._off:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._path = max(self._files(), default=self._file(1))
            self._sweep()
            connection = sqlite3.connect(self._path, timeout=_SECONDS, check_same_thread=False, isolation_level=None)
            connection.text_factory = lambda data: data.decode("utf-8", "replace")  # a damaged key must not raise
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                # Nothing waits for the disk. A killed process loses nothing by that; a machine that loses its power may
                # leave a damaged file, which is found out by SQLite or by the checksums.
                connection.execute("PRAGMA synchronous = OFF")
                if connection.execute("PRAGMA user_version").fetchone()[0] != _FORMAT:
                    with _transaction(connection):
                        for statement in _SCHEMA.split(";")[:-1]:
                            connection.execute(statement)
                        connection.execute(f"PRAGMA user_version = {_FORMAT}")
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _file(self, number: int) -> Path:
        return self.folder / f"terms-{_FORMAT}-{number:06d}.sqlite3"

    def _files(self) -> list[Path]:
        return list(self.folder.glob(f"terms-{_FORMAT}-{'[0-9]' * 6}.sqlite3"))

    def _begin_anew(self) -> None:
        """The file is damaged: go on with the next. It is not removed at once, since others may have it open, and
        SQLite's files may not be taken away from under it."""
        try:
            if self._connection is not None:
                self._connection.close()
        except sqlite3.Error:
            pass
        self._connection = None
        following = self._file(int(self._path.stem[-6:]) + 1)
        try:
            following.touch()
        except OSError:
            self._off = True

    def _sweep(self) -> None:
        """Remove damaged files that nobody has written to for a day."""
        for path in self._files():
            if path < self._path and time.time() - path.stat().st_mtime > _STALE_S:
                for left in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
                    left.unlink(missing_ok=True)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _insert(connection: sqlite3.Connection, items: Sequence[tuple[Key, bytes]]) -> None:
    now = int(time.time())
    (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM entry").fetchone()
    before = connection.total_changes
    connection.executemany(
        "INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [(last + n, *key, now, len(value), _checksum(key, value)) for n, (key, value) in enumerate(items, 1)],
    )
    values = [(last + n, value) for n, (_, value) in enumerate(items, 1)]
    if connection.total_changes - before < len(items):  # some were there already
        new = {number for (number,) in connection.execute("SELECT id FROM entry WHERE id > ?", (last,))}
        values = [row for row in values if row[0] in new]
    connection.executemany("INSERT OR REPLACE INTO content VALUES (?, ?)", values)


def _remove(connection: sqlite3.Connection, numbers: Iterable[int]) -> None:
    rows = [(number,) for number in numbers]
    connection.executemany("DELETE FROM content WHERE id = ?", rows)
    connection.executemany("DELETE FROM entry WHERE id = ?", rows)


def _used(connection: sqlite3.Connection) -> int:
    values = [
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    ]
    return int((values[0] - values[1]) * values[2])


def _checksum(key: Key, value: bytes) -> int:
    return zlib.crc32(value, zlib.crc32(f"{key.kind} {key.version} {key.blob}".encode("utf-8", "backslashreplace")))
