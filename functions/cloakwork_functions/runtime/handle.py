"""How the engine ends a worker process, and knows that it ended."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from contextlib import suppress
from typing import Protocol

__all__ = ["Forked", "Handle", "Spawned"]

KILL_SECONDS = 5.0  # more than any kill takes, unless the process is stuck in the kernel


class Handle(Protocol):
    """A process that serves the other end of a worker's socket."""

    def born(self, pid: int) -> None:
        """Learn the number it gave itself."""

    def kill(self) -> None:
        """End it at once, if it has not ended."""

    def reap(self, patience: float) -> None:
        """Wait for its end, and kill it if it lingers for `patience` seconds. Blocks; call it once."""


class Spawned:
    """A child of this process."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def born(self, pid: int) -> None:
        """See `Handle`; a child's number is known."""

    def kill(self) -> None:
        """See `Handle`."""
        self._process.kill()

    def reap(self, patience: float) -> None:
        """See `Handle`."""
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Forked:
    """A child of a nursery. It holds the other end of the pipe `ending` for as long as it lives.

    The nursery buries it, so its number alone would not do: another process may have it by now.
    """

    def __init__(self, ending: int) -> None:
        self._ending = ending
        self._pid: int | None = None

    def born(self, pid: int) -> None:
        """See `Handle`."""
        self._pid = pid

    def kill(self) -> None:
        """See `Handle`. One that has not said its number yet ends when its socket does."""
        if self._pid is not None and not self._ended(0.0):
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    def reap(self, patience: float) -> None:
        """See `Handle`."""
        if self._pid is not None:
            if not self._ended(patience):
                self.kill()
                self._ended(KILL_SECONDS)
            # Where the gateway is a container's first process, a child whose nursery died falls to it.
            with suppress(ChildProcessError):
                os.waitpid(self._pid, 0)
        self._pid = None
        os.close(self._ending)

    def _ended(self, seconds: float) -> bool:
        poll = select.poll()  # select itself takes no descriptor beyond 1023
        poll.register(self._ending)
        return bool(poll.poll(seconds * 1000))
