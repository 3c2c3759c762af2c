"""Where graph state is kept: a SQLite file, or Postgres by URL (the extra `postgres`).

Knows LangGraph's checkpointers. A Postgres URL's credentials are used to connect and for nothing else: no message and
no file ever holds them.
"""

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from steergraph.base.errors import InputError

_SCHEMES = ("postgresql", "postgres")
_LACKING = "graph state in Postgres needs: pip install 'steergraph[postgres]'"


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
        raise InputError(_LACKING) from error
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
    if not isinstance(where, str) or not is_url(where):
        with _sqlite(Path(where)) as saver:
            yield saver
        return
    checked_url(where)
    try:
        from steergraph.agents.checkpoints.postgres import open_postgres
    except ImportError as error:
        raise InputError(_LACKING) from error
    with open_postgres(where, shown(where)) as saver:
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
