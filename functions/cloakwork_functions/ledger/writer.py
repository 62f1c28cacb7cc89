"""Group commit: whatever waits when a commit is done goes into the next transaction, all of it.

One commit costs a disk flush however many rows it holds. There is no timer: a lone caller waits for nobody,
and under load batches grow by themselves. A caller is answered after its commit, never before.
"""

from __future__ import annotations

import asyncio
from copy import copy
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from .store import unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from .statement import Work
    from .store import Store

__all__ = ["Writer"]

J = TypeVar("J")
R = TypeVar("R")


class Pending(NamedTuple, Generic[J, R]):
    """A job, and who waits for it."""

    job: J
    future: asyncio.Future[R]


class Writer(Generic[J, R]):
    """Jobs of one event loop, committed batch by batch.

    Args:
        store: where to.
        apply: the work of a batch; it gives an outcome for each job, in order.
    """

    def __init__(self, store: Store, apply: Callable[[list[J]], Work[list[R | Exception]]]) -> None:
        self._store = store
        self._apply = apply
        self._waiting: list[Pending[J, R]] = []
        self._commits: asyncio.Task[None] | None = None
        self._closed = False

    async def write(self, job: J) -> R:
        """Put a job into the next transaction and return its outcome once that is on disk.

        Raises:
            BusyError: `ledger_unavailable`.
            Exception: whatever `apply` gave as the job's outcome.
        """
        if self._closed:
            raise unavailable("closed")
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append(Pending(job, future))
        if self._commits is None:
            # A task runs soon and not now: whatever else this turn of the loop brings goes along.
            self._commits = asyncio.create_task(self._commit())
        return await future

    async def close(self) -> None:
        """Commit what waits, and refuse whatever comes later."""
        self._closed = True
        if self._commits is not None:
            await self._commits

    async def _commit(self) -> None:
        """Commit until nothing waits; it must not raise, or whoever waits would wait for ever."""
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                for (_, future), outcome in zip(batch, await self._outcomes(batch), strict=True):
                    _settle(future, outcome)
        finally:
            self._commits = None

    async def _outcomes(self, batch: list[Pending[J, R]]) -> list[R | Exception]:
        try:
            return await self._store.transact(self._apply([item.job for item in batch]))
        except Exception as failure:  # noqa: BLE001 (memory, disk or a fault of ours: the callers are told)
            return [copy(failure) for _ in batch]  # each caller adds details of its own


def _settle(future: asyncio.Future[R], outcome: R | Exception) -> None:
    if future.done():  # its caller was cancelled
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
