"""Calls under way: each is a task of its own, so that it is settled whatever becomes of its caller."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from cloakwork.errors import DeadlineError, InputError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from .answer import Answer

__all__ = ["Calls", "Progress"]

faults = logging.getLogger("cloakwork.faults")


class Progress:
    """How far a call is, and whether its caller still waits for it.

    Attributes:
        begun: it left the queue for good; if its worker dies, it is run again all the same.
        abandoned: its caller left.
    """

    def __init__(self) -> None:
        self._queued = False
        self.begun = False
        self.abandoned = False

    def queue(self) -> None:
        """The call is paid for and waits for the model.

        Raises:
            CancelledError: nobody waits for it any more.
        """
        if self.abandoned:
            raise asyncio.CancelledError
        self._queued = True

    def begin(self) -> None:
        """The call leaves the queue."""
        self.begun = True

    def leave(self, task: asyncio.Task[Answer]) -> None:
        """The caller leaves, and takes along a call that waits for the model.

        One that is being paid for sees to that itself, since a hold that is cancelled may be written still.
        """
        self.abandoned = True
        if self._queued and not self.begun:
            task.cancel()
        task.add_done_callback(_unheard)


class Calls:
    """The calls of one service."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Answer]] = set()

    async def over(
        self,
        call: Coroutine[Any, Any, Answer],
        progress: Progress,
        timeout: float,
        gone: Callable[[], Awaitable[None]],
    ) -> Answer:
        """Wait for a call for as long as its caller does.

        A caller leaves when it hangs up, runs out of time or is cancelled. A call that has not begun goes
        with it, and what was held is given back first; one that has begun is finished without it.

        Raises:
            InputError: `client_gone`.
            DeadlineError: `deadline_exceeded`.
            CloakworkError: as the call failed.
        """
        task = asyncio.create_task(call)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        leaving = asyncio.ensure_future(gone())
        try:
            await asyncio.wait((task, leaving), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            hung_up = leaving.done()
        finally:
            leaving.cancel()
            if not task.done():
                progress.leave(task)
        if not progress.begun:
            await asyncio.wait((task,))
        if task.done() and not task.cancelled():
            return task.result()
        raise _left(progress, hung_up=hung_up)

    async def close(self) -> None:
        """Wait for those that have begun; stop what runs them first, or it takes as long as they do."""
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _unheard(task: asyncio.Task[Answer]) -> None:
    """Say how a call failed that nobody waits for, without its words."""
    if not task.cancelled() and (failure := task.exception()) is not None:
        faults.error("an abandoned call failed: %s", type(failure).__name__)


def _left(progress: Progress, *, hung_up: bool) -> Exception:
    fate = (
        "what had begun is finished and charged, and its answer kept for a repeat with the idempotency key"
        if progress.begun
        else "it had not begun, and nothing was charged"
    )
    if hung_up:
        return InputError("client_gone", f"The client hung up: {fate}.")
    return DeadlineError("deadline_exceeded", f"The model did not answer in time: {fate}.")
