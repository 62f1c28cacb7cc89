"""Group reads: whatever waits when a query is done goes into the next one, all of it.

On Postgres a round trip costs the same however many rows it asks for. There is no timer, and nothing is
remembered: a query begins after whoever it answers has asked, so it sees all that was committed before.
"""

from __future__ import annotations

import asyncio
from copy import copy
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from .statement import Work
    from .store import Store

__all__ = ["Reader"]

K = TypeVar("K")
V = TypeVar("V")


class Pending(NamedTuple, Generic[K, V]):
    """A question, and who waits for its answer."""

    question: K
    future: asyncio.Future[V]


class Reader(Generic[K, V]):
    """Questions of one event loop, asked together.

    Args:
        store: of whom.
        find: the work of a batch; it gives an answer to each question, in order.
    """

    def __init__(self, store: Store, find: Callable[[list[K]], Work[list[V]]]) -> None:
        self._store = store
        self._find = find
        self._waiting: list[Pending[K, V]] = []
        self._queries: asyncio.Task[None] | None = None

    async def read(self, question: K) -> V:
        """Put a question into the next query and return its answer.

        Raises:
            BusyError: `ledger_unavailable`.
        """
        future: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        self._waiting.append(Pending(question, future))
        if self._queries is None:
            # A task runs soon and not now: whatever else this turn of the loop brings goes along.
            self._queries = asyncio.create_task(self._query())
        return await future

    async def _query(self) -> None:
        """Ask until nothing waits; it must not raise, or whoever waits would wait for ever."""
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                await self._answer(batch)
        finally:
            self._queries = None

    async def _answer(self, batch: list[Pending[K, V]]) -> None:
        try:
            answers = await self._store.read(self._find([item.question for item in batch]))
        except Exception as failure:  # noqa: BLE001 (a database gone or a fault of ours: the callers are told)
            for _, future in batch:
                if not future.done():
                    future.set_exception(copy(failure))  # each caller adds details of its own
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():  # its caller was cancelled
                future.set_result(answer)
