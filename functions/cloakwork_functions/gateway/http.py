"""The little of HTTP that plain ASGI endpoints need: read a body, send an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import msgspec

from cloakwork.errors import InputError
from cloakwork.wire import Media

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Receive, Scope, Send

__all__ = ["header", "query", "read_body", "send_answer", "send_json"]


def header(scope: Scope, name: str) -> str | None:
    """Find a header by its lower-case name."""
    wanted = name.encode()
    pairs: list[tuple[bytes, bytes]] = scope["headers"]
    for key, value in pairs:
        if key == wanted:
            return value.decode("latin-1")
    return None


def query(scope: Scope, name: str, default: str) -> str:
    """Find a query parameter."""
    text: str = scope["query_string"].decode("latin-1")
    return parse_qs(text).get(name, [default])[0] if text else default


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """Read a body of at most `limit` bytes.

    Raises:
        InputError: `body_too_large`, before the rest is read; `bad_request` when the caller hung up.
    """
    announced = header(scope, "content-length")
    if announced is not None and int(announced) > limit:
        raise _too_large(limit)
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return _within(body, limit)
    chunks = [body]
    size = len(body)
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise InputError("bad_request", "The body ended early.")
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > limit:
            raise _too_large(limit)
    return b"".join(chunks)


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


def _within(body: bytes, limit: int) -> bytes:
    if len(body) > limit:
        raise _too_large(limit)
    return body


def _too_large(limit: int) -> InputError:
    return InputError(
        "body_too_large", f"The body is larger than {limit} bytes; send fewer records in a call."
    )
