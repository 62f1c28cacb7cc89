"""A Postgres server as we connect to it: durable, patient for a while, and in words that quote nothing.

A connection is a session of the server's: between the two there may be no pooler that shares sessions.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
from asyncpg.exceptions import InterfaceError, InternalClientError, PostgresError

from .store import rejected, unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]

__all__ = ["FAILURES", "Server", "failures"]

CONNECT_SECONDS = 5.0
COMMAND_SECONDS = 10.0
READERS = 8
SETTINGS = {
    "application_name": "cloakwork",
    "synchronous_commit": "on",
    "default_transaction_isolation": "read committed",
    # What a gateway holds that is gone without a word is freed within half a minute.
    "idle_in_transaction_session_timeout": "30s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
FAILURES = (PostgresError, InterfaceError, InternalClientError, OSError)
REJECTED = {"22", "23", "42"}  # classes of SQLSTATE: data, constraints, and statements that cannot be done


class Server:
    """Where to connect to, and how.

    Args:
        url: of the database.
        lock_seconds: how long a statement waits for a lock that another session holds.
    """

    def __init__(self, url: str, lock_seconds: float) -> None:
        self._url = url
        self._options: dict[str, Any] = {"timeout": CONNECT_SECONDS, "command_timeout": COMMAND_SECONDS}
        self._settings = SETTINGS | {"lock_timeout": str(round(lock_seconds * 1000))}

    async def connect(self) -> Connection:
        """Begin a session."""
        settings = self._settings
        connection: Connection = await asyncpg.connect(self._url, server_settings=settings, **self._options)
        await _init(connection)
        return connection

    async def pool(self) -> Pool:
        """Sessions that only read, begun when they are needed."""
        return await asyncpg.create_pool(
            self._url,
            min_size=0,
            max_size=READERS,
            init=_init,
            reset=_reset,
            server_settings=self._settings | {"default_transaction_read_only": "on"},
            **self._options,
        )


async def _init(connection: Any) -> None:
    """Have the sum of whole numbers be one, as it is in SQLite; Postgres calls it numeric."""
    await connection.set_type_codec("numeric", schema="pg_catalog", encoder=str, decoder=int, format="text")


async def _reset(_connection: object) -> None:
    """Reading leaves nothing behind, so spare the round trip that asyncpg would clean up with."""


@contextmanager
def failures() -> Iterator[None]:
    """Tell the caller, without Postgres's words, what is wrong: with the server or with what we asked.

    Raises:
        BusyError: `ledger_unavailable`.
        ServerError: `internal`.
    """
    try:
        yield
    except FAILURES as failure:
        ours = (getattr(failure, "sqlstate", None) or "")[:2] in REJECTED
        raise (rejected if ours else unavailable)(type(failure).__name__) from None
