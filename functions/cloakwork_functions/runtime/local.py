"""The engine that runs models in worker processes on this machine."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from cloakwork.wire import Mode

from .pool import Limits, Pool
from .protocol import unheard

if TYPE_CHECKING:
    from collections.abc import Callable

    from .protocol import Call, Computed

__all__ = ["LocalRuntime"]

BATCH_RECORDS = 1024


class LocalRuntime:
    """One pool of processes for each artifact and mode.

    Args:
        idle_seconds: how long a worker without work lives.
        workers: most processes of a model in encrypted mode; one for each core unless given.
    """

    def __init__(self, idle_seconds: float = 300.0, workers: int | None = None) -> None:
        self._idle_seconds = idle_seconds
        self._workers = workers or os.cpu_count() or 1
        self._pools: dict[tuple[str, Mode], Pool] = {}

    async def run(self, call: Call, timeout: float, begun: Callable[[], None] = unheard) -> Computed:
        """See `Runtime.run`."""
        return await self._pool(call).run(call, timeout, begun)

    async def close(self) -> None:
        """See `Runtime.close`."""
        await asyncio.gather(*(pool.close() for pool in self._pools.values()))

    def workers(self) -> dict[tuple[str, Mode], list[int]]:
        """Tell the process numbers of the workers that run, by artifact digest and mode."""
        return {key: list(pool.processes) for key, pool in self._pools.items() if pool.processes}

    def _pool(self, call: Call) -> Pool:
        key = (call.artifact.digest, call.mode)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = Pool(call.artifact, call.mode, self._limits(call.mode))
        return pool

    def _limits(self, mode: Mode) -> Limits:
        if mode is Mode.ENCRYPTED:
            # A ciphertext keeps a core busy for milliseconds and gains nothing from company.
            return Limits(workers=self._workers, records=1, idle_seconds=self._idle_seconds)
        return Limits(workers=1, records=BATCH_RECORDS, idle_seconds=self._idle_seconds)
