"""Graph state in Postgres: connecting, making the tables, and texts that JSON in Postgres can't hold.

Needs the extra `postgres`; only `checkpoints.py` imports it. Knows a URL with credentials, and repeats nothing of it.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint, CheckpointMetadata, CheckpointTuple
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from psycopg import Connection, Error, OperationalError, ProgrammingError
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool

from steergraph.base.errors import InputError

_CONNECT_S = 10
_SETUP_S = 60.0
_SETUP_LOCK = 7_302_119_365_184_427_105  # any number that nobody else's advisory lock has
_ESCAPED = "\ufdd0json:"
"""Begins a text that is kept as JSON; its first character is none that a text may have."""


class TextSaver(PostgresSaver):
    """A PostgresSaver that keeps every text. Its own keeps texts as jsonb, which refuses NUL and lone surrogates; a
    repository, an issue and a model may hold both."""

    def put(
        self, config: RunnableConfig, checkpoint: Checkpoint, metadata: CheckpointMetadata, new_versions: Any
    ) -> RunnableConfig:
        values = {name: _escaped(value) for name, value in checkpoint["channel_values"].items()}
        return super().put(config, {**checkpoint, "channel_values": values}, metadata, new_versions)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        found = super().get_tuple(config)
        return None if found is None else _restored(found)

    def list(self, config: RunnableConfig | None, **options: Any) -> Iterator[CheckpointTuple]:
        return map(_restored, super().list(config, **options))


@contextmanager
def open_postgres(url: str, shown: str) -> Iterator[BaseCheckpointSaver[str]]:
    """The checkpointer at `url`, which messages call `shown`. Raises InputError where it can't be used."""
    settings: dict[str, Any] = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    try:
        # A connection of its own first: a pool tries again and again, and logs what it was told.
        with Connection.connect(url, connect_timeout=_CONNECT_S, **settings) as connection:
            _set_up(connection, PostgresSaver(connection))
    except Error as error:
        raise InputError(f"{shown}: cannot keep graph state there: {_reason(error)}") from None
    pool = ConnectionPool(url, connection_class=Connection[DictRow], min_size=1, max_size=8, kwargs=settings, open=True)
    with pool:
        try:
            yield TextSaver(pool, serde=JsonPlusSerializer())
        except Error as error:
            raise InputError(f"{shown}: cannot use graph state there: {_reason(error)}") from None


def _escaped(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    odd = "\0" in value or value.startswith(_ESCAPED) or any("\ud800" <= char <= "\udfff" for char in value)
    return _ESCAPED + json.dumps(value) if odd else value


def _restored(found: CheckpointTuple) -> CheckpointTuple:
    values = {
        name: json.loads(value.removeprefix(_ESCAPED))
        if isinstance(value, str) and value.startswith(_ESCAPED)
        else value
        for name, value in found.checkpoint["channel_values"].items()
    }
    return found._replace(checkpoint={**found.checkpoint, "channel_values": values})


def _set_up(connection: Connection[Any], saver: PostgresSaver) -> None:
    """Make the tables, one process at a time: two that make them together fail.

    The lock is tried again and again instead of waited for, because CREATE INDEX CONCURRENTLY waits for whoever waits.
    """
    until = time.monotonic() + _SETUP_S
    taken = "SELECT 1 WHERE pg_try_advisory_lock(%s)"
    while connection.execute(taken, (_SETUP_LOCK,)).fetchone() is None:
        if time.monotonic() > until:
            raise InputError("another process has been making the tables for a minute")
        time.sleep(0.1)
    try:
        saver.setup()
    finally:
        connection.execute("SELECT pg_advisory_unlock(%s)", (_SETUP_LOCK,))


def _reason(error: Error) -> str:
    """What the server or the driver said, in one line; only its class where that could quote the URL."""
    if isinstance(error, ProgrammingError) and not error.sqlstate:
        return type(error).__name__
    words = " ".join(str(error).split())[:200]
    return words if words and isinstance(error, OperationalError) else f"{type(error).__name__}: {words}"
