"""The SDK's "local:": the gateway in the caller's own process, without a socket.

The application runs on an event loop in a thread of its own, so the blocking and the async client use
it alike. Calls are charged to the account `local` in the same ledger.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from cloakwork.errors import DeadlineError
from cloakwork.wire import Request, Response
from cloakwork_functions.home import Home

from .app import create_app
from .routes import LOCAL

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from concurrent.futures import Future

__all__ = ["LocalTransport", "connect"]


def connect() -> LocalTransport:
    """Start the gateway of the operator's default folder."""
    return LocalTransport(Home.default())


class LocalTransport:
    """Carries requests to a gateway in this process."""

    def __init__(self, home: Home) -> None:
        self._app = create_app(home)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cloakwork-local", daemon=True)
        self._thread.start()
        self._stopping = asyncio.Event()
        self._lifespan = self._submit(self._live())

    def send(self, request: Request) -> Response:
        """Send, and read the whole answer."""
        answer: Response = self._submit(self._call(request)).result()
        return answer

    async def send_async(self, request: Request) -> Response:
        """Send, and read the whole answer."""
        return await asyncio.wrap_future(self._submit(self._call(request)))

    def close(self) -> None:
        """Stop workers and commit what waits."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._lifespan.result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def close_async(self) -> None:
        """Stop workers and commit what waits."""
        await asyncio.to_thread(self.close)

    def _submit(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    async def _live(self) -> None:
        events: asyncio.Queue[str] = asyncio.Queue()
        await events.put("lifespan.startup")

        async def receive() -> dict[str, Any]:
            return {"type": await events.get()}

        async def send(message: Any) -> None:
            if message["type"] == "lifespan.startup.complete":
                await self._stopping.wait()
                await events.put("lifespan.shutdown")

        await self._app({"type": "lifespan", "state": {}}, receive, send)
        await self._loop.shutdown_default_executor()

    async def _call(self, request: Request) -> Response:
        path, _, query = request.path.partition("?")
        scope = {
            "type": "http",
            "method": request.method,
            "path": path,
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in request.headers.items()],
            "account": LOCAL,
        }
        status, headers, body = 0, {}, bytearray()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": request.body}

        async def send(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers.update({name.decode(): value.decode() for name, value in message["headers"]})
            else:
                body.extend(message.get("body", b""))

        try:
            async with asyncio.timeout(request.timeout):
                await self._app(scope, receive, send)
        except TimeoutError:
            raise DeadlineError("deadline_exceeded", "The model did not answer in time.") from None
        return Response(status, headers, bytes(body))
