"""Postgres, for gateways on several machines: one session writes, a few others read.

Durability is `synchronous_commit`: a commit has reached the server's disk when it returns. Rows that work
locks make other gateways wait; whoever waits too long, or in a circle, is told to try again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from asyncpg.exceptions import (
    InsufficientPrivilegeError,
    InvalidAuthorizationSpecificationError,
    InvalidCatalogNameError,
    PostgresError,
)

from cloakwork.errors import ConfigError

from .migrations import migrate
from .presence import Presence
from .server import CONNECT_SECONDS, FAILURES, Server, failures
from .statement import Statement
from .store import unconfirmed

if TYPE_CHECKING:
    from .server import Connection, Pool
    from .statement import Work

__all__ = ["PostgresStore"]

R = TypeVar("R")
LOCK_SECONDS = 5.0
# Of SQLite's words and what they are here; text is compared as it is there, byte by byte.
WORDS = {
    "INTEGER": "BIGINT",
    "TEXT": 'TEXT COLLATE "C"',
    " STRICT": "",
    "BEGIN SELECT RAISE(ABORT, 'append-only'); END": "EXECUTE FUNCTION append_only()",
}
REFUSE = Statement(
    "CREATE OR REPLACE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql "
    "AS $$ BEGIN RAISE restrict_violation USING MESSAGE = 'append-only'; END $$"
)
ALONE = Statement("SELECT pg_advisory_xact_lock(hashtextextended('cloakwork migrations', 0))")
MISCONFIGURED = (
    ValueError,
    InvalidAuthorizationSpecificationError,
    InvalidCatalogNameError,
    InsufficientPrivilegeError,
)


class PostgresStore:
    """`Store` in a Postgres database; `open` makes one."""

    def __init__(self, presence: Presence, readers: Pool) -> None:
        self._presence = presence
        self._readers = readers
        self.instance = presence.name

    @classmethod
    async def open(cls, url: str, lock_seconds: float = LOCK_SECONDS) -> PostgresStore:
        """Make the tables if need be, and join the gateways that share the database.

        Args:
            url: `postgresql://user@host/database`; what it leaves out, such as the password, comes from
                libpq's environment variables and password file.
            lock_seconds: how long to wait for another gateway that holds a lock.

        Raises:
            BusyError: `ledger_unavailable`.
            ConfigError: `bad_database`, the URL is malformed or the server does not let its user in or make
                tables; `other_schema`.
        """
        server = Server(url, lock_seconds)
        with failures():
            try:
                await _make_tables(server)
            except MISCONFIGURED as failure:
                raise ConfigError(
                    "bad_database",
                    f"Postgres cannot be used as the database URL says ({type(failure).__name__}). Check its "
                    "form, user, password and name of the database, and that the user may create tables.",
                ) from None
            store = cls(Presence(server), await server.pool())
        async with store._presence.session():
            return store

    async def transact(self, work: Work[R]) -> R:
        """See `Store.transact`. A deadlock is a busy database too, for work cannot begin anew."""
        return await asyncio.shield(self._transact(work))

    async def read(self, work: Work[R]) -> R:
        """See `Store.read`."""
        with failures():
            async with self._readers.acquire(timeout=CONNECT_SECONDS) as connection:
                return await _drive(connection, work)

    async def survey(self, work: Work[R]) -> R:
        """See `Store.survey`."""
        return await self.read(work)

    async def dead(self) -> list[str]:
        """See `Store.dead`."""
        return await self._presence.dead()

    async def forget(self, names: list[str]) -> None:
        """See `Store.forget`."""
        await self._presence.forget(names)

    async def close(self) -> None:
        """See `Store.close`."""
        await self._presence.close()
        self._readers.terminate()

    async def _transact(self, work: Work[R]) -> R:
        async with self._presence.session() as connection:
            return await _transact(connection, work)


async def _make_tables(server: Server) -> None:
    connection = await server.connect()
    try:
        await _transact(connection, _migrate())
    finally:
        connection.terminate()


def _migrate() -> Work[None]:
    """Change the tables while no other gateway does."""
    yield ALONE()
    yield REFUSE()
    yield from migrate(WORDS)


async def _transact(connection: Connection, work: Work[R]) -> R:
    try:
        await connection.execute("BEGIN")
        done = await _drive(connection, work)
    except BaseException:
        await _undo(connection)
        raise
    try:
        await connection.execute("COMMIT")
    except FAILURES as failure:
        if isinstance(failure, PostgresError) and not connection.is_closed():
            raise  # it was refused, and so undone
        connection.terminate()
        raise unconfirmed(type(failure).__name__) from None
    return done


async def _undo(connection: Connection) -> None:
    try:
        await connection.execute("ROLLBACK")
    except FAILURES:
        connection.terminate()


async def _drive(connection: Any, work: Work[R]) -> R:
    """Run a unit of work to its end."""
    rows: Any = None
    try:
        while True:
            query = work.send(rows)
            if query.empty:
                rows = []
                continue
            columns = zip(*query.rows, strict=True) if query.statement.columns else ()
            rows = [tuple(row) for row in await connection.fetch(query.statement.postgres, *columns)]
    except StopIteration as end:
        result: R = end.value
        return result
