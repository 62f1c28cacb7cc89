"""Evaluation keys go up in chunks, and on from where they stopped, whoever was cut off."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from .chunk import Chunk, KeyUpload, Limit
from .errors import CloakworkError
from .exchange import decoded
from .wire import Header, Media

if TYPE_CHECKING:
    from collections.abc import Callable

    from .exchange import Deadline, Exchange, Flow

__all__ = ["Progress", "unheard", "upload"]

Progress: TypeAlias = "Callable[[int, int], None]"
MOST_SETBACKS = 8


def unheard(_received: int, _total: int) -> None:
    """Tell nobody of progress."""


def upload(
    exchange: Exchange, path: str, frame: Callable[[], bytes], end: Deadline, progress: Progress
) -> Flow[int]:
    """Upload what is not there yet; tell how many bytes that took.

    Each chunk is tried again as any request is. One that the service does not expect, because a part of it
    came through before the connection broke or because another client uploads the same keys, is followed by
    the one it does expect.

    Raises:
        CloakworkError: the keys are refused, or the service lost what it had too often.
    """
    state = yield from _ask(exchange, path, end)
    if state.complete:
        return 0
    keys = frame()
    sent = setbacks = 0
    while not state.complete:
        progress(state.received, len(keys))
        first = min(state.received, len(keys))
        try:
            chunk = Chunk(first, min(first + Limit.CHUNK, len(keys)), len(keys))
            state = yield from _send(exchange, path, chunk, keys, end)
            sent += chunk.size
        except CloakworkError as failure:
            # What a stage began with may be damaged, as by a power cut: it is gone now, so send all of it.
            resumed = failure.code == "evaluation_keys_invalid" and first > sent
            if not resumed and failure.code != "upload_offset_mismatch":
                raise
            state = yield from _ask(exchange, path, end)
            setbacks += state.received <= first
            if setbacks > MOST_SETBACKS:
                raise
    progress(len(keys), len(keys))
    return sent


def _ask(exchange: Exchange, path: str, end: Deadline) -> Flow[KeyUpload]:
    return decoded(KeyUpload, (yield from exchange.call("GET", path, end)))


def _send(exchange: Exchange, path: str, chunk: Chunk, keys: bytes, end: Deadline) -> Flow[KeyUpload]:
    headers = {"content-type": Media.FRAME, Header.CONTENT_RANGE: str(chunk)}
    answer = yield from exchange.call("PUT", path, end, headers, keys[chunk.start : chunk.end])
    return decoded(KeyUpload, answer)
