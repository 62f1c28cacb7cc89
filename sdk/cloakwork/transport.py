"""Carry a `Request` to the service and bring the `Response` back: over HTTP, or inside this process.

httpx is imported when a transport is made. The in-process transport comes from whichever installed
package answers to `local` in the entry-point group `cloakwork.transports`.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from .errors import ConfigError, DeadlineError, TransportError
from .wire import Request, Response

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .config import Config

__all__ = ["AsyncTransport", "Transport", "connect", "connect_async"]

POOL_SIZE = 100


class Transport(Protocol):
    """Blocking."""

    def send(self, request: Request) -> Response:
        """Send, and read the whole answer.

        Raises:
            TransportError: no answer came; DeadlineError: not in time.
        """

    def close(self) -> None:
        """Let go of connections; the transport cannot be used afterwards."""


class AsyncTransport(Protocol):
    """The same, awaited."""

    async def send_async(self, request: Request) -> Response:
        """Send, and read the whole answer."""

    async def close_async(self) -> None:
        """Let go of connections."""


def connect(config: Config) -> Transport:
    """Make the transport for an address."""
    return _local() if config.base_url == "local:" else HttpTransport(config.base_url)


def connect_async(config: Config) -> AsyncTransport:
    """Make the async transport for an address."""
    return _local() if config.base_url == "local:" else AsyncHttpTransport(config.base_url)


class InProcess(Transport, AsyncTransport, Protocol):
    """What the `local` entry point gives: one transport for both clients."""


def _local() -> InProcess:
    from importlib.metadata import entry_points

    for entry in entry_points(group="cloakwork.transports", name="local"):
        try:
            transport: InProcess = entry.load()()
        except ModuleNotFoundError as missing:
            raise ConfigError(
                "extra_missing",
                f"\"local:\" needs the package {missing.name}: pip install 'cloakwork[server]'.",
            ) from None
        return transport
    raise ConfigError("extra_missing", "\"local:\" needs the server: pip install 'cloakwork[server]'.")


class HttpTransport:
    """Over HTTP, blocking, with connections kept alive. Safe to share between threads."""

    def __init__(self, base_url: str) -> None:
        import httpx

        self._address = base_url
        limits = httpx.Limits(max_connections=POOL_SIZE, max_keepalive_connections=POOL_SIZE)
        self._client = httpx.Client(base_url=base_url, limits=limits, headers={"accept-encoding": "identity"})

    def send(self, request: Request) -> Response:
        end = time.monotonic() + request.timeout
        with (
            _translated(self._address),
            self._client.stream(
                request.method,
                request.path,
                headers=request.headers,
                content=request.body,
                timeout=request.timeout,
            ) as answer,
        ):
            # httpx bounds each read, not their sum: a slow drip of bytes must not outlive the call. (Dripping
            # headers still can: nothing is told until they end.)
            body = bytearray()
            for chunk in answer.iter_raw():
                body += chunk
                if time.monotonic() > end:
                    raise DeadlineError("deadline_exceeded", "The answer did not arrive whole in time.")
            return Response(answer.status_code, answer.headers, bytes(body))

    def close(self) -> None:
        self._client.close()


class AsyncHttpTransport:
    """Over HTTP, awaited. Cancelling the task closes the connection."""

    def __init__(self, base_url: str) -> None:
        import httpx

        self._address = base_url
        limits = httpx.Limits(max_connections=POOL_SIZE, max_keepalive_connections=POOL_SIZE)
        self._client = httpx.AsyncClient(
            base_url=base_url, limits=limits, headers={"accept-encoding": "identity"}
        )

    async def send_async(self, request: Request) -> Response:
        import asyncio

        with _translated(self._address):
            async with asyncio.timeout(request.timeout):
                answer = await self._client.request(
                    request.method,
                    request.path,
                    headers=request.headers,
                    content=request.body,
                    timeout=request.timeout,
                )
                return Response(answer.status_code, answer.headers, answer.content)

    async def close_async(self) -> None:
        await self._client.aclose()


@contextmanager
def _translated(address: str) -> Iterator[None]:
    import httpx

    try:
        yield
    except (httpx.TimeoutException, TimeoutError):
        raise DeadlineError("deadline_exceeded", "The service did not answer in time.") from None
    except httpx.HTTPError as failure:
        raise TransportError(
            "connection_failed",
            f"{address} could not be reached ({type(failure).__name__}); is the address right?",
        ) from failure
