"""The application: routes on a service, inside the middleware."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from starlette.routing import Router

from cloakwork.errors import BusyError, error
from cloakwork_functions.ledger import Ledger
from cloakwork_functions.registry import Registry
from cloakwork_functions.runtime import LocalRuntime

from .keystore import KeyLimits, KeyStore
from .middleware import RequestMiddleware
from .routes import routes
from .service import Service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp, Receive, Scope, Send

    from cloakwork_functions.home import Home
    from cloakwork_functions.runtime import Runtime

__all__ = ["create_app"]

REAP_SECONDS = 30.0
SWEEP_SECONDS = 3600.0


def create_app(home: Home, runtime: Runtime | None = None, keys: KeyLimits | None = None) -> ASGIApp:
    """Make the gateway of an operator's folder; models run in local processes unless told otherwise."""
    home.make()
    service = Service(
        registry=Registry(home.registry),
        ledger=Ledger(home.database),
        runtime=runtime or LocalRuntime(),
        keystore=KeyStore(home.evaluation_keys, keys or KeyLimits()),
    )

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(_reap(service.ledger)), asyncio.create_task(_sweep(service.keystore))]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await service.runtime.close()
            service.ledger.close()

    return RequestMiddleware(
        Router(routes(service), redirect_slashes=False, default=_nothing, lifespan=lifespan)
    )


async def _reap(ledger: Ledger) -> None:
    while True:
        # An unavailable ledger tells its callers so as well; the next round tries again.
        with suppress(BusyError):
            await ledger.reap()
        await asyncio.sleep(REAP_SECONDS)


async def _sweep(keystore: KeyStore) -> None:
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        with suppress(OSError):  # such as a folder that another gateway changes; the next round tries again
            await asyncio.to_thread(keystore.sweep)


async def _nothing(scope: Scope, _receive: Receive, _send: Send) -> None:
    if scope["type"] == "http":
        raise error("unknown_path", "There is nothing at this path; see /openapi.json for what is.")
