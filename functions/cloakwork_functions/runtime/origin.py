"""Where the workers of one artifact in one mode come from."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from cloakwork.wire import Mode

from .handle import Forked, Spawned
from .process import WorkerDied, WorkerProcess, reap

if TYPE_CHECKING:
    from cloakwork_functions.registry import Artifact

__all__ = ["Nursery", "Origin", "Spawner", "origin"]

# A worker runs whatever a model brings: the service's secret and its database's address are not for it.
OURS = ("CLOAKWORK_", "PG")


class Origin(Protocol):
    """Starts workers."""

    async def start(self) -> WorkerProcess:
        """Start a worker and wait until its model is loaded.

        Raises:
            WorkerDied: it ended while loading.
            ServerError: `model_unavailable`, the artifact was tampered with.
        """

    async def close(self) -> None:
        """Let go of what the next worker would be started from; a later `start` makes it anew."""


def origin(artifact: Artifact, mode: Mode) -> Origin:
    """Pick what suits a mode: ciphertexts need large constants, and onnxruntime's threads forbid a fork."""
    return Nursery(artifact) if mode is Mode.ENCRYPTED else Spawner(artifact, mode)


class Spawner:
    """Starts each worker by itself."""

    def __init__(self, artifact: Artifact, mode: Mode) -> None:
        self._artifact = artifact
        self._mode = mode

    async def start(self) -> WorkerProcess:
        """See `Origin`."""
        ours, theirs = socket.socketpair()
        process = _popen("worker", ours, theirs, self._artifact, self._mode)
        return await WorkerProcess.meet(ours, Spawned(process))

    async def close(self) -> None:
        """See `Origin`; there is nothing."""


class Nursery:
    """Starts one process that loads the model, and has it fork each worker; see `nursery`."""

    def __init__(self, artifact: Artifact) -> None:
        self._artifact = artifact
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    async def start(self) -> WorkerProcess:
        """See `Origin`."""
        ours, theirs = socket.socketpair()
        ending, held = os.pipe()
        try:
            await self._fork(theirs, held)
        except BaseException:
            ours.close()
            os.close(ending)
            raise
        finally:
            theirs.close()
            os.close(held)
        try:
            return await WorkerProcess.meet(ours, Forked(ending))
        except WorkerDied:
            await self.close()  # the nursery died as well, or hangs
            raise

    async def close(self) -> None:
        """See `Origin`. There is nothing in the nursery to wait for, and its children outlive their batch."""
        process, control = self._process, self._control
        self._process = self._control = None
        if process is not None and control is not None:
            control.close()
            await reap(Spawned(process), 0.0)

    async def _fork(self, sock: socket.socket, ending: int) -> None:
        """Have a worker forked for these, by a new nursery if the one there was is gone.

        Raises:
            WorkerDied: the new one is gone too, or does not listen.
        """
        if self._send(sock, ending):
            return
        await self.close()
        if not self._send(sock, ending):
            raise WorkerDied

    def _send(self, sock: socket.socket, ending: int) -> bool:
        control = self._control or self._open()
        with suppress(OSError):
            socket.send_fds(control, [b"\0"], [sock.fileno(), ending])
            return True
        return False

    def _open(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)  # what a stopped nursery leaves unread must not stop the engine
        self._process = _popen("nursery", ours, theirs, self._artifact, Mode.ENCRYPTED)
        self._control = ours
        return ours


def _popen(
    module: str, ours: socket.socket, theirs: socket.socket, artifact: Artifact, mode: Mode
) -> subprocess.Popen[bytes]:
    """Start a process at one end of a pair of sockets; the other stays open if that works."""
    command = [sys.executable, "-m", f"cloakwork_functions.runtime.{module}"]
    arguments = [str(theirs.fileno()), str(artifact.folder), artifact.digest, str(mode)]
    try:
        with theirs:
            return subprocess.Popen(  # noqa: S603 (the command is ours)
                [*command, *arguments],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={name: text for name, text in os.environ.items() if not name.startswith(OURS)},
            )
    except BaseException:
        ours.close()
        raise
