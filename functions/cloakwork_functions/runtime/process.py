"""The engine's end of one worker process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

import msgspec

from cloakwork.errors import CloakworkError, error

from .channel import Batch, Part, Ready, Replies, pack, read

if TYPE_CHECKING:
    import socket

    from .handle import Handle
    from .protocol import Call

__all__ = ["STOP_SECONDS", "WorkerDied", "WorkerProcess", "reap"]

START_SECONDS = 60.0
STOP_SECONDS = 5.0
READ_BUFFER = 1 << 20
T = TypeVar("T")


class WorkerDied(Exception):  # noqa: N818 (an event, not a caller's error)
    """The process ended before it answered."""


class WorkerProcess:
    """A running worker. Make one with `meet`, and `stop` it whatever happens.

    Attributes:
        pid: the process's number.
    """

    def __init__(self, handle: Handle, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._handle = handle
        self._reader = reader
        self._writer = writer
        self._decoder = msgspec.msgpack.Decoder(Replies)
        self.pid = 0

    @classmethod
    async def meet(cls, ours: socket.socket, handle: Handle) -> WorkerProcess:
        """Wait until the worker at the other end of a socket has loaded its model.

        Raises:
            WorkerDied: it ended while loading.
            ServerError: `model_unavailable`, the artifact was tampered with.
        """
        try:
            reader, writer = await asyncio.open_unix_connection(sock=ours, limit=READ_BUFFER)
        except BaseException:
            ours.close()
            await reap(handle, STOP_SECONDS)
            raise
        worker = cls(handle, reader, writer)
        try:
            async with asyncio.timeout(START_SECONDS):
                ready, _ = await worker._receive(msgspec.msgpack.Decoder(Ready))
        except BaseException as failure:
            await worker.stop()
            if isinstance(failure, TimeoutError):
                raise WorkerDied from failure
            raise
        if ready.code is not None:
            await worker.stop()
            raise error(ready.code, ready.message)
        worker.pid = ready.pid
        handle.born(ready.pid)
        return worker

    @property
    def gone(self) -> bool:
        """Whether it hung up; ask between batches."""
        return self._reader.at_eof()

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
        replies, payload = await self._receive(self._decoder)
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
        self._handle.kill()

    async def stop(self, *, patience: float = STOP_SECONDS) -> None:
        """Close the socket, which ends the worker, and kill it if it lingers for `patience` seconds."""
        self._writer.close()
        await reap(self._handle, patience)

    async def _receive(self, decoder: msgspec.msgpack.Decoder[T]) -> tuple[T, bytes]:
        try:
            return await read(self._reader, decoder)
        except (asyncio.IncompleteReadError, ConnectionError) as failure:
            raise WorkerDied from failure


async def reap(handle: Handle, patience: float) -> None:
    """Wait for a process's end, and kill it if it lingers.

    Started at once and shielded: whoever is cancelled here still leaves no process behind.
    """
    await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, handle.reap, patience))
