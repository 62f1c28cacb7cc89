"""SQLite, opened the one way we use it: one thread writes, the caller's thread reads.

Durability is WAL with synchronous FULL: a commit has reached the disk when it returns.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from .instance import Instance
from .migrations import migrate
from .store import rejected, unavailable, unconfirmed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .statement import Row, Work

__all__ = ["SqliteStore"]

R = TypeVar("R")
LOCK_SECONDS = 5.0
REJECTED = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH}


class SqliteStore:
    """`Store` in a file, readable by its owner alone; gateways of one machine may share it.

    Args:
        path: the file, made if need be; what else belongs to it lies beside it.
        lock_seconds: how long to wait for another process that writes.

    Raises:
        BusyError: `ledger_unavailable`.
        ConfigError: `other_schema`.
    """

    def __init__(self, path: Path, lock_seconds: float = LOCK_SECONDS) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        with _alone(path.parent):
            self._writer = _connect(path, lock_seconds)
            try:
                _transact(self._writer, migrate({}))
                self._reader = _connect(path, lock_seconds)
            except BaseException:
                self._writer.close()
                raise
        self._reader.execute("PRAGMA query_only = ON")
        self._thread = ThreadPoolExecutor(1, "ledger-writer")
        self._instance = Instance(path.with_suffix(".gateways"))
        self.instance = self._instance.name
        self._path, self._lock_seconds = path, lock_seconds

    async def transact(self, work: Work[R]) -> R:
        """See `Store.transact`."""
        try:
            done = asyncio.get_running_loop().run_in_executor(self._thread, _transact, self._writer, work)
        except RuntimeError:  # the thread was shut down
            raise unavailable("closed") from None
        return await done

    async def read(self, work: Work[R]) -> R:
        """See `Store.read`. A read takes microseconds, which a thread would add to."""
        with _failures():
            return _drive(self._reader, work)

    async def survey(self, work: Work[R]) -> R:
        """See `Store.survey`. SQLite lets go of the interpreter while it looks for rows."""
        return await asyncio.to_thread(_survey, self._path, self._lock_seconds, work)

    async def dead(self) -> list[str]:
        """See `Store.dead`."""
        return self._instance.dead()

    async def forget(self, names: list[str]) -> None:
        """See `Store.forget`."""
        self._instance.forget(names)

    async def close(self) -> None:
        """See `Store.close`."""
        await asyncio.to_thread(self._thread.shutdown)
        self._writer.close()
        self._reader.close()
        self._instance.close()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep others from opening: of two that turn a new file to WAL, one may fail without having waited."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _connect(path: Path, lock_seconds: float) -> sqlite3.Connection:
    with _failures():
        connection = sqlite3.connect(
            path, isolation_level=None, timeout=lock_seconds, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            connection.close()
            raise
        return connection


def _survey(path: Path, lock_seconds: float, work: Work[R]) -> R:
    with closing(_connect(path, lock_seconds)) as connection, _failures():
        connection.execute("PRAGMA query_only = ON")
        return _drive(connection, work)


def _transact(connection: sqlite3.Connection, work: Work[R]) -> R:
    with _failures():
        try:
            connection.execute("BEGIN IMMEDIATE")
            done = _drive(connection, work)
        except BaseException:
            _undo(connection)
            raise
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as failure:
            _undo(connection)
            if _kind(failure) == sqlite3.SQLITE_IOERR:  # perhaps written and not flushed
                raise unconfirmed(_name(failure)) from None
            raise
        return done


def _drive(connection: sqlite3.Connection, work: Work[R]) -> R:
    """Run a unit of work to its end."""
    rows: Any = None
    try:
        while True:
            query = work.send(rows)
            if query.empty:
                rows = []
                continue
            parameters = (_batch(query.rows),) if query.statement.columns else ()
            rows = connection.execute(query.statement.sqlite, parameters).fetchall()
    except StopIteration as end:
        result: R = end.value
        return result


def _batch(rows: list[Row]) -> str:
    try:
        text = msgspec.json.encode(rows).decode()
    except UnicodeEncodeError:
        raise rejected("text that is not Unicode") from None
    # SQLite would cut text off at NUL. The escape alone proves nothing: its letters may be there as such.
    if r"\u0000" in text and any("\0" in value for row in rows for value in row if isinstance(value, str)):
        raise rejected("NUL in text")
    return text


def _undo(connection: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):
        connection.rollback()


@contextmanager
def _failures() -> Iterator[None]:
    """Tell the caller, without SQLite's words, what is wrong: with the database or with what we asked."""
    try:
        yield
    except sqlite3.Error as failure:
        raise (rejected if _kind(failure) in REJECTED else unavailable)(_name(failure)) from None


def _kind(failure: sqlite3.Error) -> int:
    """Its primary result code, which is the low byte of the whole; 0 where Python itself objects."""
    code: int = getattr(failure, "sqlite_errorcode", 0)
    return code & 0xFF


def _name(failure: sqlite3.Error) -> str:
    return getattr(failure, "sqlite_errorname", type(failure).__name__)
