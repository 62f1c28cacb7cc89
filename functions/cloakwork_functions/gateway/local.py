"""The SDK's "local:": the gateway in the caller's own process, without a socket.

The application runs on an event loop in a thread of its own, so the blocking and the async client use
it alike. Calls are charged to the account `local` in the same ledger.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cloakwork.errors import DeadlineError, TransportError
from cloakwork.wire import Request, Response
from cloakwork_functions.home import Home
from cloakwork_functions.ledger.accounts import Source, credit, open_account
from cloakwork_functions.ledger.money import MOST

from .app import create_app, open_service
from .auth import LOCAL

if TYPE_CHECKING:
    from cloakwork_functions.ledger.statement import Work

__all__ = ["LocalTransport", "connect"]


def connect() -> LocalTransport:
    """Start the gateway of the operator's default folder."""
    return LocalTransport(Home.default())


class LocalTransport:
    """Carries requests to a gateway in this process."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._calls: set[asyncio.Task[Response]] = set()
        started: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(
            target=asyncio.run, args=(self._live(started),), name="cloakwork-local", daemon=True
        )
        self._thread.start()
        self._loop = started.result()

    def send(self, request: Request) -> Response:
        """Send, and read the whole answer."""
        try:
            return self._submit(request).result()
        except CancelledError:
            raise _closed() from None

    async def send_async(self, request: Request) -> Response:
        """Send, and read the whole answer."""
        return await asyncio.wrap_future(self._submit(request))

    def close(self) -> None:
        """End the calls under way, stop workers and commit what waits."""
        with suppress(RuntimeError):  # closed already
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    async def close_async(self) -> None:
        """Stop workers and commit what waits."""
        await asyncio.to_thread(self.close)

    def _submit(self, request: Request) -> Future[Response]:
        call = self._call(request)
        try:
            return asyncio.run_coroutine_threadsafe(call, self._loop)
        except RuntimeError:
            call.close()
            raise _closed() from None

    async def _live(self, started: Future[asyncio.AbstractEventLoop]) -> None:
        """Keep the service open until `close`."""
        self._stopping = asyncio.Event()
        try:
            async with open_service(self._home) as service:
                await service.store.transact(_own_account())
                self._app = create_app(service)
                started.set_result(asyncio.get_running_loop())
                await self._stopping.wait()
                for call in self._calls:
                    call.cancel()
                await asyncio.gather(*self._calls, return_exceptions=True)
        except BaseException as failure:
            if started.done():
                raise
            started.set_exception(failure)

    async def _call(self, request: Request) -> Response:
        task = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        try:
            return await self._answer(request)
        finally:
            self._calls.discard(task)

    async def _answer(self, request: Request) -> Response:
        path, _, query = request.path.partition("?")
        scope = {
            "type": "http",
            "method": request.method,
            "path": path,
            "query_string": query.encode(),
            "headers": [
                (b"content-length", str(len(request.body)).encode()),
                *((name.encode(), value.encode()) for name, value in request.headers.items()),
            ],
            "account": LOCAL,
        }
        status, headers, body = 0, {}, bytearray()

        bodies = iter([request.body])

        async def receive() -> dict[str, Any]:
            body = next(bodies, None)
            if body is None:  # this caller never hangs up: it cancels
                await asyncio.Event().wait()
            return {"type": "http.request", "body": body}

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


def _own_account() -> Work[None]:
    """The account that calls in this process are charged to: whoever runs the models pays nobody for them."""
    yield from open_account(LOCAL)
    yield from credit(LOCAL, MOST, Source.PROMO, LOCAL)


def _closed() -> TransportError:
    return TransportError("connection_failed", "This client was closed; make another.")
