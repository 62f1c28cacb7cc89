"""SQLite, opened the one way we use it, and one thread that commits what many callers wrote.

Durability is WAL with synchronous FULL: a commit has reached the disk when it returns. One commit
costs a disk flush however many rows it holds, so the writer takes whatever waits, greedily and
without a timer, into the next transaction. A caller is answered after its commit, never before.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections import defaultdict
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from cloakwork.errors import BusyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

__all__ = ["Writer", "open_database"]

T = TypeVar("T")
MAX_BATCH = 512


def open_database(path: Path) -> sqlite3.Connection:
    """Open the database, readable by its owner alone, and create what is missing in it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    connection = sqlite3.connect(path, isolation_level=None, timeout=5.0, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'secrets'").fetchone():
        schema = (files(__package__) / "schema.sql").read_text("utf-8")
        connection.executescript(f"BEGIN IMMEDIATE; {schema}; COMMIT;")
    return connection


class Job(NamedTuple):
    """Some writing, and who waits for it."""

    work: Callable[[sqlite3.Connection], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]


class Outcome(NamedTuple):
    """How a job ended."""

    future: asyncio.Future[Any]
    value: Any
    failure: BaseException | None


class Writer:
    """The thread that alone writes to a database."""

    def __init__(self, path: Path) -> None:
        self._connection = open_database(path)
        self._waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._loop, name="ledger-writer", daemon=True)
        self._thread.start()

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` inside the next transaction and return its value once that is on disk.

        `work` may raise: its own changes are undone, those of its neighbours are not.

        Raises:
            BusyError: `ledger_unavailable` when the database is locked, full or gone.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._waiting.put(Job(work, loop, future))
        return await future

    def close(self) -> None:
        """Commit what waits and stop."""
        self._waiting.put(None)
        self._thread.join()
        self._connection.close()

    def _loop(self) -> None:
        while (job := self._waiting.get()) is not None:
            batch = [job]
            while len(batch) < MAX_BATCH and not self._waiting.empty():
                following = self._waiting.get()
                if following is None:
                    self._waiting.put(None)
                    break
                batch.append(following)
            _resolve(batch, self._commit(batch))

    def _commit(self, batch: list[Job]) -> list[Outcome]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            outcomes = [self._one(job) for job in batch]
            self._connection.execute("COMMIT")
        except sqlite3.Error as failure:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            unavailable = BusyError(
                "ledger_unavailable",
                f"The ledger cannot be written ({type(failure).__name__}); nothing was charged. Try again.",
                retry_after=1,
            )
            return [Outcome(job.future, None, unavailable) for job in batch]
        return outcomes

    def _one(self, job: Job) -> Outcome:
        self._connection.execute("SAVEPOINT job")
        try:
            value = job.work(self._connection)
        except sqlite3.OperationalError:
            raise
        except Exception as failure:  # noqa: BLE001 (the caller's own failure goes back to the caller)
            self._connection.execute("ROLLBACK TO job")
            return Outcome(job.future, None, failure)
        finally:
            if self._connection.in_transaction:
                self._connection.execute("RELEASE job")
        return Outcome(job.future, value, None)


def _resolve(batch: list[Job], outcomes: list[Outcome]) -> None:
    """Wake every caller, with one call into each event loop."""
    by_loop: defaultdict[asyncio.AbstractEventLoop, list[Outcome]] = defaultdict(list)
    for job, outcome in zip(batch, outcomes, strict=True):
        by_loop[job.loop].append(outcome)
    for loop, those in by_loop.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_wake, those)


def _wake(outcomes: Iterable[Outcome]) -> None:
    for future, value, failure in outcomes:
        if future.done():
            continue
        if failure is None:
            future.set_result(value)
        else:
            future.set_exception(failure)
