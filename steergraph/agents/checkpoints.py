"""Where graph state is kept: a SQLite file, or Postgres by URL (the extra `postgres`).

Knows LangGraph's checkpointers. A Postgres URL's credentials are used to connect and for nothing else: no message and
no file ever holds them.
"""

import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from steergraph.configs import InputError

_SCHEMES = ("postgresql", "postgres")
_CONNECT_S = 10
_SETUP_S = 60.0
_SETUP_LOCK = 7_302_119_365_184_427_105  # any number that nobody else's advisory lock has


def is_url(where: str | Path) -> bool:
    """Whether `where` is a URL and no path."""
    return isinstance(where, str) and "://" in where


def shown(where: str | Path) -> str:
    """`where` as it may be written down: of a URL the scheme, host and database, and nothing else."""
    if not isinstance(where, str) or not is_url(where):
        return str(where)
    try:
        parts = urlsplit(where)
        place = f"{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"
    except ValueError:
        return "postgresql://..."
    return f"{parts.scheme}://{place}"


def checked_url(url: str) -> str:
    """`url`, where it can be a Postgres URL. Raises InputError, without credentials, where it cannot, or where the
    extra is missing."""
    scheme = url.split("://", 1)[0].lower()
    if scheme not in _SCHEMES:
        raise InputError(f"{scheme[:20]}://...: graph state is kept in a file or at a postgresql:// URL")
    try:
        from psycopg import ProgrammingError, conninfo
    except ImportError as error:
        raise InputError("graph state in Postgres needs: pip install 'steergraph[postgres]'") from error
    try:
        conninfo.conninfo_to_dict(url)
        _ = urlsplit(url).port
    except (ProgrammingError, ValueError):
        # The reason would quote what it could not read: a password that is not percent-encoded, say.
        raise InputError("postgresql://...: not a URL that can be read (is a password not percent-encoded?)") from None
    return url


@contextmanager
def open_checkpoints(where: str | Path) -> Iterator[BaseCheckpointSaver[str]]:
    """The checkpointer at `where`, a path or a postgresql:// URL; closed on leaving. Safe to use from several threads.

    Raises InputError where the file is damaged or can't be written, or the server can't be reached.
    """
    opened = _postgres(where) if isinstance(where, str) and is_url(where) else _sqlite(Path(where))
    with opened as saver:
        yield saver


def state_errors() -> tuple[type[Exception], ...]:
    """What a checkpointer raises where state can't be kept any more."""
    found: list[type[Exception]] = [sqlite3.Error]
    if "psycopg" in sys.modules:
        from psycopg import Error

        found.append(Error)
    if "psycopg_pool" in sys.modules:
        from psycopg_pool import PoolClosed, PoolTimeout

        found += [PoolClosed, PoolTimeout]
    return tuple(found)


@contextmanager
def _sqlite(path: Path) -> Iterator[BaseCheckpointSaver[str]]:
    from langgraph.checkpoint.sqlite import SqliteSaver

    try:
        connection = sqlite3.connect(path, check_same_thread=False)
    except sqlite3.Error as error:
        raise InputError(f"{path}: cannot open the checkpoint: {error}") from error
    try:
        saver = SqliteSaver(connection, serde=JsonPlusSerializer())
        saver.setup()
        yield saver
    except sqlite3.Error as error:
        raise InputError(f"{path}: cannot use the checkpoint: {error}") from error
    finally:
        connection.close()


@contextmanager
def _postgres(url: str) -> Iterator[BaseCheckpointSaver[str]]:
    checked_url(url)
    try:
        from langgraph.checkpoint.postgres import PostgresSaver
        from psycopg import Connection, Error
        from psycopg.rows import DictRow, dict_row
        from psycopg_pool import ConnectionPool
    except ImportError as error:
        raise InputError("graph state in Postgres needs: pip install 'steergraph[postgres]'") from error

    settings: dict[str, Any] = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    try:
        # A connection of its own first: a pool tries again and again, and logs what it was told.
        with Connection.connect(url, connect_timeout=_CONNECT_S, **settings) as connection:
            _set_up(connection, PostgresSaver(connection))
    except Error as error:
        raise InputError(f"{shown(url)}: cannot keep graph state there: {_reason(error)}") from None
    pool = ConnectionPool(url, connection_class=Connection[DictRow], min_size=1, max_size=8, kwargs=settings, open=True)
    with pool:
        try:
            yield PostgresSaver(pool, serde=JsonPlusSerializer())
        except Error as error:
            raise InputError(f"{shown(url)}: cannot use graph state there: {_reason(error)}") from None


def _set_up(connection: Any, saver: Any) -> None:
    """Make the tables, one process at a time: two that make them together fail.

    The lock is tried again and again instead of waited for, because CREATE INDEX CONCURRENTLY waits for whoever waits.
    """
    until = time.monotonic() + _SETUP_S
    while not connection.execute("SELECT pg_try_advisory_lock(%s) AS got", (_SETUP_LOCK,)).fetchone()["got"]:
        if time.monotonic() > until:
            raise InputError("another process has been making the tables for a minute")
        time.sleep(0.1)
    try:
        saver.setup()
    finally:
        connection.execute("SELECT pg_advisory_unlock(%s)", (_SETUP_LOCK,))


def _reason(error: Exception) -> str:
    """What the server or the driver said, in one line; only its class where that could quote the URL."""
    from psycopg import OperationalError, ProgrammingError

    if isinstance(error, ProgrammingError) and not getattr(error, "sqlstate", None):
        return type(error).__name__
    words = " ".join(str(error).split())[:200]
    return words if words and isinstance(error, OperationalError) else f"{type(error).__name__}: {words}"
