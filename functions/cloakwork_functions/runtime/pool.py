"""The workers of one artifact in one mode, and the calls that wait for them.

Whatever waits when a worker is free goes to it in one batch: under load batches grow by themselves,
and a lone call waits for nobody. Workers start when calls wait and stop when none came for a while.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cloakwork.errors import BusyError, CloakworkError, DeadlineError, ServerError

from .origin import origin
from .process import STOP_SECONDS, WorkerDied
from .protocol import Computed, unheard

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloakwork.wire import Mode
    from cloakwork_functions.registry import Artifact

    from .process import WorkerProcess
    from .protocol import Call

__all__ = ["Limits", "Pool"]

MAX_TRIES = 3
MICRO = 1_000_000


@dataclass(frozen=True)
class Limits:
    """Bounds of a pool.

    Attributes:
        workers: most processes at once.
        records: most records in one batch.
        waiting: most calls waiting; one more is refused.
        idle_seconds: how long a worker without work lives.
    """

    workers: int
    records: int
    idle_seconds: float
    waiting: int = 4096


class QueuedCall:
    """A call, and who waits for its answer."""

    __slots__ = ("begun", "call", "deadline", "future", "tries")

    def __init__(
        self, call: Call, deadline: float, future: asyncio.Future[Computed], begun: Callable[[], None]
    ) -> None:
        self.call = call
        self.deadline = deadline
        self.future = future
        self.begun = begun
        self.tries = 0


class Pool:
    """See the module."""

    def __init__(self, artifact: Artifact, mode: Mode, limits: Limits) -> None:
        self._origin = origin(artifact, mode)
        self._limits = limits
        self._queue: deque[QueuedCall] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._resting: list[asyncio.Future[None]] = []
        self._closing: set[asyncio.Task[None]] = set()
        self._starting = False
        self._failed_starts = 0
        self.processes: dict[int, WorkerProcess] = {}

    async def run(self, call: Call, timeout: float, begun: Callable[[], None] = unheard) -> Computed:
        """See `Runtime.run`."""
        if len(self._queue) >= self._limits.waiting:
            raise BusyError(
                "overloaded", "Too many calls wait for this model; try again shortly.", retry_after=1
            )
        loop = asyncio.get_running_loop()
        item = QueuedCall(call, loop.time() + timeout, loop.create_future(), begun)
        alarm = loop.call_at(item.deadline, _expire, item.future)
        self._queue.append(item)
        self._wake()
        try:
            return await item.future
        finally:
            alarm.cancel()

    async def close(self) -> None:
        """Stop every worker and fail what waits."""
        tasks = list(self._workers)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._fail_all(_stopping())
        await self._origin.close()
        await asyncio.gather(*self._closing)

    def _wake(self) -> None:
        """Put a worker to the calls that wait: a resting one, or a new one.

        The last to rest is the first to work, so that no more are kept from idling out than the load needs.
        New ones start one after another, so that no more start than calls still wait.
        """
        while self._resting:
            resting = self._resting.pop()
            if not resting.done():
                resting.set_result(None)
                return
        if len(self._workers) < self._limits.workers and not self._starting:
            self._starting = True
            task = asyncio.create_task(self._work())
            self._workers.add(task)
            task.add_done_callback(self._left)

    def _left(self, task: asyncio.Task[None]) -> None:
        self._workers.discard(task)
        if task.cancelled():
            return
        failure = task.exception()
        if isinstance(failure, CloakworkError):
            self._fail_all(failure)
        elif isinstance(failure, WorkerDied):
            self._failed_starts += 1
            if self._failed_starts >= MAX_TRIES and not self._workers:
                self._fail_all(
                    ServerError("worker_failed", "The model's process does not start; nothing was charged.")
                )
        elif failure is not None:
            self._fail_all(ServerError("worker_failed", "The model's engine failed; nothing was charged."))
            raise failure
        if self._queue:
            self._wake()
        elif not self._workers:
            closing = asyncio.create_task(self._origin.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _work(self) -> None:
        """Live the life of one worker: start, run batches, rest, stop."""
        try:
            worker = await self._origin.start()
        finally:
            self._starting = False
        self.processes[worker.pid] = worker
        self._failed_starts = 0
        if len(self._queue) > 1:  # more than this one is about to take
            self._wake()
        patience = 0.0
        try:
            while await self._work_waits():
                if worker.gone:  # while it rested, so no call is to blame
                    return
                await self._run_batch(worker)
            patience = STOP_SECONDS
        except WorkerDied:
            return
        finally:
            del self.processes[worker.pid]
            await worker.stop(patience=patience)

    async def _work_waits(self) -> bool:
        """Rest until there is work; false when there was none for the idle time."""
        if self._queue:
            return True
        loop = asyncio.get_running_loop()
        rest: asyncio.Future[None] = loop.create_future()
        alarm = loop.call_later(self._limits.idle_seconds, rest.cancel)
        self._resting.append(rest)
        try:
            await rest
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return False
        finally:
            alarm.cancel()
        return True

    async def _run_batch(self, worker: WorkerProcess) -> None:
        batch = self._take()
        if not batch:
            return
        for item in batch:
            item.begun()
        # A worker that outlives all its callers hangs. Killing it ends the exchange, and nobody is waiting.
        alarm = asyncio.get_running_loop().call_at(max(item.deadline for item in batch), worker.kill)
        began = time.perf_counter()
        try:
            answers = await worker.run([item.call for item in batch])
        except WorkerDied:
            alive = [item for item in batch if not item.future.done()]
            self._count_tries(alive)
            self._queue.extendleft(item for item in reversed(alive) if not item.future.done())
            raise
        except asyncio.CancelledError:
            for item in batch:
                _settle(item.future, _stopping())
            raise
        finally:
            alarm.cancel()
        microseconds = (time.perf_counter() - began) * MICRO
        records = sum(item.call.records for item in batch)
        for item, answer in zip(batch, answers, strict=True):
            if isinstance(answer, CloakworkError):
                _settle(item.future, answer)
            else:  # where there are no records, keys alone were checked
                share = item.call.records / max(records, 1)
                _settle(item.future, Computed(answer, int(microseconds * share)))

    def _take(self) -> list[QueuedCall]:
        """Take whatever waits, up to the batch's bound."""
        batch: list[QueuedCall] = []
        records = 0
        while self._queue:
            item = self._queue[0]
            if item.future.done():
                self._queue.popleft()
                continue
            records += item.call.records
            # A call that a worker died under runs alone: if it is what kills, it takes nobody along.
            if batch and (item.tries or batch[0].tries or records > self._limits.records):
                break
            batch.append(self._queue.popleft())
        return batch

    def _count_tries(self, items: list[QueuedCall]) -> None:
        """Give up the calls that a worker died under too often: one of them may be what kills it."""
        for item in items:
            item.tries += 1
            if item.tries >= MAX_TRIES:
                _settle(
                    item.future,
                    ServerError(
                        "worker_failed", "The model's process died on this call; nothing was charged."
                    ),
                )

    def _fail_all(self, failure: CloakworkError) -> None:
        while self._queue:
            _settle(self._queue.popleft().future, failure)


def _settle(future: asyncio.Future[Computed], answer: Computed | CloakworkError) -> None:
    if future.done():
        return
    if isinstance(answer, CloakworkError):
        future.set_exception(answer)
    else:
        future.set_result(answer)


def _stopping() -> ServerError:
    return ServerError("worker_failed", "The service is stopping; nothing was charged.")


def _expire(future: asyncio.Future[Computed]) -> None:
    _settle(
        future, DeadlineError("deadline_exceeded", "The model did not answer in time; nothing was charged.")
    )
