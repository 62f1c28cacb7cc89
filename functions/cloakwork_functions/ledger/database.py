"""SQLite, opened the one way we use it, and one thread that commits what many callers wrote.

Durability is WAL with synchronous FULL: a commit has reached the disk when it returns. One commit
costs a disk flush however many rows it holds, so the writer takes whatever waits, greedily and
without a timer, into the next transaction. A caller is answered after its commit, never before.
"""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.resources import files
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from cloakwork.errors import BusyError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Writer", "open_database"]

SCHEMA_VERSION = 1

J = TypeVar("J")
R = TypeVar("R")


def open_database(path: Path) -> sqlite3.Connection:
    """Open the database, readable by its owner alone; make its tables if it has none.

    Raises:
        ConfigError: `other_schema`.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    connection = sqlite3.connect(path, isolation_level=None, timeout=5.0, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:
        schema = (files(__package__) / "schema.sql").read_text("utf-8")
        connection.executescript(
            f"BEGIN IMMEDIATE; {schema}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        )
    elif version != SCHEMA_VERSION:
        connection.close()
        raise ConfigError(
            "other_schema",
            f"{path} was written by another version (schema {version}, this is {SCHEMA_VERSION}); "
            "use that version, or move the file aside to begin new books.",
        )
    return connection


class Pending(NamedTuple, Generic[J, R]):
    """A job, and who waits for it."""

    job: J
    future: asyncio.Future[R]


class Writer(Generic[J, R]):
    """The thread that alone writes to a database, for the tasks of one event loop at a time.

    Jobs gather in the loop while a commit is under way, and go to the thread together when it is done:
    one hand-over a batch, because each of them has the two threads compete for the interpreter.

    Args:
        path: the database.
        apply: writes a batch of jobs inside a transaction and gives an outcome for each, in order. It
            should say few statements, each over the whole batch, for the same reason.
    """

    def __init__(
        self, path: Path, apply: Callable[[sqlite3.Connection, list[J]], list[R | Exception]]
    ) -> None:
        self._connection = open_database(path)
        self._apply = apply
        self._waiting: list[Pending[J, R]] = []
        self._committing = False
        self._closed = False
        self._thread = ThreadPoolExecutor(1, "ledger-writer")

    async def write(self, job: J) -> R:
        """Put a job into the next transaction and return its outcome once that is on disk.

        Raises:
            BusyError: `ledger_unavailable` when the database is locked, full or gone.
            Exception: whatever `apply` gave as the job's outcome.
        """
        if self._closed:
            raise _unavailable("closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._waiting.append(Pending(job, future))
        if not self._committing:
            self._committing = True
            # Soon and not now: whatever else this turn of the loop brings goes along.
            loop.call_soon(self._start, loop)
        return await future

    def close(self) -> None:
        """Commit what waits, and refuse whatever comes later."""
        self._closed = True
        left, self._waiting = self._waiting, []
        if left:
            outcomes = self._thread.submit(self._commit, [item.job for item in left]).result()
            _settle(left, outcomes)
        self._thread.shutdown()
        self._connection.close()

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._closed:
            return
        batch, self._waiting = self._waiting, []
        committed = loop.run_in_executor(self._thread, self._commit, [item.job for item in batch])
        committed.add_done_callback(lambda outcomes: self._answer(loop, batch, outcomes.result()))

    def _answer(
        self, loop: asyncio.AbstractEventLoop, batch: list[Pending[J, R]], outcomes: list[R | Exception]
    ) -> None:
        _settle(batch, outcomes)
        self._committing = bool(self._waiting)
        if self._committing:
            self._start(loop)

    def _commit(self, jobs: list[J]) -> list[R | Exception]:
        """Write a batch; it must not raise, or every later caller would wait for ever."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            outcomes = self._apply(self._connection, jobs)
            self._connection.execute("COMMIT")
        except Exception as failure:  # noqa: BLE001 (memory, disk or a fault of ours: the callers are told)
            with suppress(sqlite3.Error):
                self._connection.rollback()
            return [_unavailable(type(failure).__name__) for _ in jobs]
        return outcomes


def _settle(batch: list[Pending[J, R]], outcomes: list[R | Exception]) -> None:
    for (_, future), outcome in zip(batch, outcomes, strict=True):
        if future.done():
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


def _unavailable(why: str) -> BusyError:
    return BusyError(
        "ledger_unavailable",
        f"The ledger cannot be written ({why}); nothing was charged. Try again.",
        retry_after=1,
    )
