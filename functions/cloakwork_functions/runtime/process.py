"""The engine's end of one worker process."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec

from cloakwork.errors import CloakworkError, error

from .channel import Batch, Part, Replies, pack, read

if TYPE_CHECKING:
    from cloakwork.wire import Mode
    from cloakwork_functions.registry import Artifact

    from .protocol import Call

__all__ = ["WorkerDied", "WorkerProcess"]

START_SECONDS = 60.0
STOP_SECONDS = 5.0
READ_BUFFER = 1 << 20


class WorkerDied(Exception):  # noqa: N818 (an event, not a caller's error)
    """The process ended before it answered."""


class WorkerProcess:
    """A running worker. Make one with `start`, and `stop` it whatever happens."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._decoder = msgspec.msgpack.Decoder(Replies)

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    @classmethod
    async def start(cls, artifact: Artifact, mode: Mode) -> WorkerProcess:
        """Start a worker and wait until its model is loaded.

        Raises:
            WorkerDied: it ended while loading.
            ServerError: `model_unavailable`, the artifact was tampered with.
        """
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "cloakwork_functions.runtime.worker"]
        arguments = [str(theirs.fileno()), str(artifact.folder), artifact.digest, str(mode)]
        with theirs:
            try:
                reader, writer = await asyncio.open_unix_connection(sock=ours, limit=READ_BUFFER)
            except BaseException:
                ours.close()
                raise
            process = subprocess.Popen(  # noqa: ASYNC220, S603 (fork and exec return at once; the command is ours)
                [*command, *arguments], stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
            )
        worker = cls(process, reader, writer)
        try:
            async with asyncio.timeout(START_SECONDS):
                replies, _ = await worker._receive()
        except BaseException as failure:
            await worker.stop()
            if isinstance(failure, TimeoutError):
                raise WorkerDied from failure
            raise
        if replies.replies:
            await worker.stop()
            first = replies.replies[0]
            raise error(first.code or "worker_failed", first.message)
        return worker

    async def run(self, calls: list[Call]) -> list[bytes | CloakworkError]:
        """Run calls together; one answer each, in order.

        Raises:
            WorkerDied: no answer will come.
        """
        parts = [Part(len(call.body), call.records, str(call.keys) if call.keys else None) for call in calls]
        try:
            self._writer.write(pack(Batch(parts), b"".join(call.body for call in calls)))
            await self._writer.drain()
        except (ConnectionError, RuntimeError) as failure:
            raise WorkerDied from failure
        replies, payload = await self._receive()
        answers: list[bytes | CloakworkError] = []
        start = 0
        for reply in replies.replies:
            if reply.code is not None:
                answers.append(error(reply.code, reply.message))
            else:
                answers.append(payload[start : start + reply.size])
                start += reply.size
        return answers

    def kill(self) -> None:
        """End the process at once; whoever waits for its answers learns that it died."""
        self._process.kill()

    async def stop(self, *, patience: float = STOP_SECONDS) -> None:
        """Close the socket, which ends the worker, and kill it if it lingers for `patience` seconds."""
        self._writer.close()
        # Started at once and shielded: whoever is cancelled here still leaves no process behind.
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, self._reap, patience))

    def _reap(self, patience: float) -> None:
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    async def _receive(self) -> tuple[Replies, bytes]:
        try:
            return await read(self._reader, self._decoder)
        except (asyncio.IncompleteReadError, ConnectionError) as failure:
            raise WorkerDied from failure
