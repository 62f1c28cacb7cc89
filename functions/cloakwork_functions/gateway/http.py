"""The little of HTTP that plain ASGI endpoints need: read a body, send an answer."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import msgspec

from cloakwork.errors import BusyError, InputError
from cloakwork.wire import Media

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from starlette.types import Receive, Scope, Send

__all__ = [
    "PIECE_BYTES",
    "Memory",
    "body_size",
    "header",
    "hung_up",
    "query",
    "read_body",
    "read_pieces",
    "send_answer",
    "send_json",
]

BODY_SECONDS = 60.0
SMALL_BODY = 64 << 10
PIECE_BYTES = 1 << 20


def header(scope: Scope, name: str) -> str | None:
    """Find a header by its lower-case name."""
    value: bytes | None = scope["header_map"].get(name.encode())
    return None if value is None else value.decode("latin-1")


def query(scope: Scope, name: str, default: str) -> str:
    """Find a query parameter; one that is empty is not the default.

    Raises:
        InputError: `bad_request`, it is there more than once.
    """
    text: str = scope["query_string"].decode("latin-1")
    values = parse_qs(text, keep_blank_values=True).get(name, [default]) if text else [default]
    if len(values) > 1:
        raise InputError("bad_request", f"Give {name} once.", param=name)
    return values[0]


class Memory:
    """A bound on the bodies held at one time, so that many large ones cannot exhaust the process."""

    def __init__(self, limit: int) -> None:
        self._free = limit

    @contextmanager
    def reserve(self, size: int) -> Iterator[None]:
        """Take `size` bytes for as long as the block runs.

        Raises:
            BusyError: `overloaded`, there are not so many left.
        """
        if size > self._free:
            raise BusyError("overloaded", "Too many large bodies at once; try again shortly.", retry_after=1)
        self._free -= size
        try:
            yield
        finally:
            self._free += size


def body_size(scope: Scope, limit: int) -> int:
    """Tell how large a body will be; one that does not say counts as the largest accepted.

    Raises:
        InputError: `body_too_large`, before any of it is read.
    """
    announced = header(scope, "content-length")
    if announced is None:
        return limit
    if not announced.isdecimal() or int(announced) > limit:
        raise _too_large(limit)
    return int(announced)


async def read_body(receive: Receive, size: int) -> bytes:
    """Read a body of at most `size` bytes.

    A large one has a minute to arrive, because memory is reserved for it; a small one that never comes holds
    up nothing but its connection.

    Raises:
        InputError: `body_too_large` or, when the caller hung up or stalls, `bad_request`.
    """
    chunks: list[bytes] = []
    arrived = 0
    try:
        async with asyncio.timeout(BODY_SECONDS if size > SMALL_BODY else None):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _ended_early()
                chunks.append(message.get("body", b""))
                arrived += len(chunks[-1])
                if arrived > size:
                    raise _too_large(size)
                if not message.get("more_body"):
                    return b"".join(chunks)
    except TimeoutError:
        raise _stalled() from None


async def read_pieces(receive: Receive) -> AsyncIterator[bytes]:
    """Read a body piece by piece, each about a megabyte with a minute to arrive.

    What came before a body broke off is given all the same.

    Raises:
        InputError: `bad_request`, the caller hung up or stalls.
    """
    more = True
    while more:
        piece = bytearray()
        cut: InputError | None = None
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while more and len(piece) < PIECE_BYTES:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        cut = _ended_early()
                        break
                    piece += message.get("body", b"")
                    more = message.get("more_body", False)
        except TimeoutError:
            cut = _stalled()
        if piece:
            yield bytes(piece)
        if cut is not None:
            raise cut


async def hung_up(receive: Receive) -> None:
    """Return when the caller hangs up, once its body is read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_json(send: Send, value: Any, status: int = 200) -> None:
    """Send a value as JSON."""
    await send_answer(send, msgspec.json.encode(value), Media.JSON, status=status)


async def send_answer(
    send: Send, body: bytes, media: str, headers: Mapping[str, str] | None = None, status: int = 200
) -> None:
    """Send a whole answer."""
    pairs = [(b"content-type", media.encode()), (b"content-length", str(len(body)).encode())]
    if headers:
        pairs += [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


def _ended_early() -> InputError:
    return InputError("bad_request", "The body ended early.")


def _stalled() -> InputError:
    return InputError("bad_request", f"The body did not arrive within {BODY_SECONDS:g} s.")


def _too_large(limit: int) -> InputError:
    return InputError(
        "body_too_large", f"The body is larger than {limit} bytes; send fewer records in a call."
    )
