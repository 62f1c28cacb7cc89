"""Messages between the engine and a worker process, over a pair of sockets.

A message is two lengths (32-bit header, 64-bit payload), a MessagePack header and the payload. Both
ends are ours and on one machine, but nothing is unpickled: a header decodes into exactly its type.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

if TYPE_CHECKING:
    import asyncio
    import socket

__all__ = ["Batch", "Channel", "Part", "Ready", "Replies", "Reply", "pack", "read"]

LENGTHS = struct.Struct("<IQ")
T = TypeVar("T")


class Ready(msgspec.Struct, array_like=True):
    """A worker's first message: its process number, or why its model cannot be loaded."""

    pid: int
    code: str | None = None
    message: str = ""


class Part(msgspec.Struct, array_like=True):
    """One call of a batch: its share of the payload in bytes, its records, its keys' file."""

    size: int
    records: int
    keys: str | None


class Batch(msgspec.Struct, array_like=True):
    """Calls to run together; their bodies are the payload, one after another."""

    parts: list[Part]


class Reply(msgspec.Struct, array_like=True):
    """The answer to one part: its share of the payload, or why there is none."""

    size: int
    code: str | None = None
    message: str = ""


class Replies(msgspec.Struct, array_like=True):
    """Answers in the order of the parts."""

    replies: list[Reply]


class Channel(Generic[T]):
    """The worker's end: blocking, one message at a time."""

    def __init__(self, sock: socket.socket, kind: type[T]) -> None:
        self._socket = sock
        self._file = sock.makefile("rwb")
        self._decoder = msgspec.msgpack.Decoder(kind)

    def receive(self) -> tuple[T, memoryview] | None:
        """Wait for a message; None when the other end is gone."""
        lengths = self._file.read(LENGTHS.size)
        if len(lengths) < LENGTHS.size:
            return None
        head, size = LENGTHS.unpack(lengths)
        header, payload = self._file.read(head), self._file.read(size)
        if len(payload) < size:
            return None
        return self._decoder.decode(header), memoryview(payload)

    def fileno(self) -> int:
        """Tell the descriptor, for `select`: between messages nothing lies unread in a buffer of ours."""
        return self._socket.fileno()

    def send(self, header: msgspec.Struct, payload: bytes = b"") -> None:
        """Send a message whole."""
        self._file.write(pack(header, payload))
        self._file.flush()


def pack(header: msgspec.Struct, payload: bytes) -> bytes:
    """Write a message."""
    head = msgspec.msgpack.encode(header)
    return b"".join((LENGTHS.pack(len(head), len(payload)), head, payload))


async def read(reader: asyncio.StreamReader, decoder: msgspec.msgpack.Decoder[T]) -> tuple[T, bytes]:
    """Read a message at the engine's end.

    Raises:
        asyncio.IncompleteReadError: the worker is gone.
    """
    head, size = LENGTHS.unpack(await reader.readexactly(LENGTHS.size))
    header = decoder.decode(await reader.readexactly(head))
    return header, await reader.readexactly(size)
