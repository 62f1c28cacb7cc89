"""Around every request: names every request, renders every failure, writes one log line.

A log line holds the request's id, method, route, status, milliseconds and the failure's code: never a
header, a body, a query or an exception's message, which could quote the input.
"""

from __future__ import annotations

import logging
import os
import time
import traceback
from typing import TYPE_CHECKING

import msgspec

from cloakwork.errors import CloakworkError, ServerError, to_body
from cloakwork.wire import Header, Media

from .http import send_answer

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["RequestMiddleware"]

access = logging.getLogger("cloakwork.access")
faults = logging.getLogger("cloakwork.faults")


class RequestMiddleware:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 (ASGI)
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        request_id = scope["request_id"] = _name()
        scope["header_map"] = dict(scope["headers"])
        status = 0
        code = "-"
        name = Header.REQUEST_ID.encode()

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if not any(key == name for key, _ in message["headers"]):
                    message["headers"].append((name, request_id.encode()))
            await send(message)

        try:
            await self._app(scope, receive, named)
        except Exception as failure:  # noqa: BLE001 (every failure becomes an answer here, and only here)
            known = failure if isinstance(failure, CloakworkError) else _fault(failure, request_id)
            code = known.code
            if status == 0:
                await _render(named, known, request_id)
        finally:
            milliseconds = (time.perf_counter() - began) * 1000
            route = getattr(scope.get("route"), "path", "-")
            access.info(
                "%s %s %s %d %.1fms %s", request_id, scope["method"], route, status, milliseconds, code
            )


def _name() -> str:
    """Name a request: 48 bits of milliseconds, then 80 random ones.

    Names in the order of time are written side by side in the ledger's indexes, which halves what a
    commit has to flush.
    """
    return f"req_{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"


async def _render(send: Send, failure: CloakworkError, request_id: str) -> None:
    failure.request_id = request_id
    headers = dict(failure.headers)
    if failure.retry_after:
        headers[Header.RETRY_AFTER] = str(int(failure.retry_after))
    if failure.status == 401:  # noqa: PLR2004 (RFC 9110 wants a challenge with it)
        headers["www-authenticate"] = "Bearer"
    await send_answer(send, msgspec.json.encode(to_body(failure)), Media.PROBLEM, headers, failure.status)


def _fault(failure: Exception, request_id: str) -> ServerError:
    """Log where an unforeseen failure came from, without its words."""
    where = "".join(traceback.format_tb(failure.__traceback__))
    faults.error("%s %s\n%s", request_id, type(failure).__name__, where)
    return ServerError(
        "internal", "Something failed on our side; nothing was charged. Tell us the request id."
    )
