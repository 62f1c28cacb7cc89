"""Which gateways on a Postgres are alive: each holds an advisory lock in its name for as long as it lives.

The session that holds the lock is the one that writes, so a gateway is alive exactly as long as it can write.
When the session is lost a new one begins, at once and again until the server is back, and takes the lock
before anything else. In between, another gateway may take this one for dead and release its open holds;
whoever settles one then finds it released.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from cloakwork.errors import CloakworkError

from .server import FAILURES, failures
from .store import unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .server import Connection, Server

__all__ = ["Presence"]

RETURN_SECONDS = 0.5
# Shared, because a session of ours may hold it still that we lost and the server did not.
LOCK = "SELECT pg_advisory_lock_shared(hashtextextended($1, 0))"
ENTER = "INSERT INTO gateways VALUES ($1) ON CONFLICT DO NOTHING"
LEAVE = "DELETE FROM gateways WHERE name = $1"
IS_DEAD = """
    hashtextextended(name, 0) NOT IN (
        SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks
        WHERE locktype = 'advisory' AND objsubid = 1
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    )"""
DEAD = f"SELECT name FROM gateways WHERE {IS_DEAD}"  # noqa: S608 (of constants)
FORGET = f"DELETE FROM gateways WHERE name = ANY ($1::text[]) AND {IS_DEAD}"  # noqa: S608


class Presence:
    """This gateway, among those that share a database, and its session that writes.

    Attributes:
        name: written with every hold this gateway makes.
    """

    def __init__(self, server: Server) -> None:
        self.name = secrets.token_hex(8)
        self._server = server
        self._turn = asyncio.Lock()
        self._closed = False
        self._connection: Connection | None = None
        self._returning: asyncio.Task[None] | None = None  # named, or the loop would let go of it
        self._returned = False

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Connection]:
        """Take the session that writes, alone; after a loss, a new one.

        Raises:
            BusyError: `ledger_unavailable`.
            ServerError: `internal`, the server rejected what it was asked.
        """
        async with self._turn:
            if self._closed:
                raise unavailable("closed")
            with failures():
                if self._connection is None or self._connection.is_closed():
                    self._returned = self._connection is not None
                    self._connection = await self._enter()
                yield self._connection

    async def dead(self) -> list[str]:
        """Name the gateways that ended without saying so."""
        async with self.session() as connection:
            if self._returned:  # others may have lost the server with us, and not be back yet
                self._returned = False
                return []
            return [name for (name,) in await connection.fetch(DEAD)]

    async def forget(self, names: list[str]) -> None:
        """Remove what dead gateways left here, unless one of them is back."""
        async with self.session() as connection:
            await connection.execute(FORGET, names)

    async def close(self) -> None:
        """End, after those who wait for the session. Whoever cannot say so is found dead."""
        async with self._turn:
            self._closed = True
        if self._connection:
            with suppress(*FAILURES):
                await self._connection.execute(LEAVE, self.name)
            self._connection.terminate()

    async def _enter(self) -> Connection:
        """Begin a session; be alive before it is known that there is such a gateway."""
        connection = await self._server.connect()
        try:
            await connection.execute(LOCK, self.name)
            await connection.execute(ENTER, self.name)
        except BaseException:
            connection.terminate()
            raise
        connection.add_termination_listener(self._lost)
        return connection

    def _lost(self, _connection: object) -> None:
        if not self._closed:
            self._returning = asyncio.create_task(self._return())

    async def _return(self) -> None:
        while not self._closed:
            with suppress(CloakworkError):
                async with self.session():
                    return
            await asyncio.sleep(RETURN_SECONDS)
