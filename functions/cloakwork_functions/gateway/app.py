"""The application: a service that is opened and closed as a whole, and its routes inside the middleware."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING

from starlette.routing import Router

from cloakwork.errors import BusyError, error
from cloakwork_functions.ledger import Catalogue, Keys, Ledger, Secrets, SigningKeys, open_store
from cloakwork_functions.registry import Registry
from cloakwork_functions.runtime import LocalRuntime

from .calls import Calls
from .keystore import KeyLimits, KeyStore
from .middleware import RequestMiddleware
from .quote import Pace
from .routes import routes
from .service import Service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

    from starlette.types import ASGIApp, Receive, Scope, Send

    from cloakwork_functions.home import Home
    from cloakwork_functions.runtime import Runtime

__all__ = ["create_app", "open_service"]

REAP_SECONDS = 30.0
REFRESH_SECONDS = 5.0
SWEEP_SECONDS = 3600.0

faults = logging.getLogger("cloakwork.faults")


@asynccontextmanager
async def open_service(
    home: Home,
    *,
    database: str | None = None,
    runtime: Runtime | None = None,
    limits: KeyLimits | None = None,
) -> AsyncIterator[Service]:
    """Open what a gateway serves from an operator's folder; close it in reverse, so that nothing is lost.

    Args:
        home: the folder.
        database: address of a Postgres, for books shared with other gateways; else see `open_store`.
        runtime: where models run; local processes unless told otherwise.
        limits: on clients' evaluation keys.

    Raises:
        ConfigError: the database or the service's secret cannot be used.
        BusyError: `ledger_unavailable`.
    """
    home.make()
    secrets = Secrets.load(home.secret)
    async with AsyncExitStack() as stack:
        store = await open_store(home.database, database)
        stack.push_async_callback(store.close)
        signing = SigningKeys(store, secrets)
        await signing.refresh()
        ledger = Ledger(store, secrets, signing.receipt)
        stack.push_async_callback(ledger.close)
        calls = Calls()
        stack.push_async_callback(calls.close)
        runtime = runtime or LocalRuntime()
        stack.push_async_callback(runtime.close)
        service = Service(
            registry=Registry(home.registry),
            store=store,
            ledger=ledger,
            keys=Keys(store),
            catalogue=await Catalogue.open(store),
            signing=signing,
            runtime=runtime,
            keystore=KeyStore(home.evaluation_keys, limits or KeyLimits()),
            pace=Pace(),
            calls=calls,
        )
        chores = [asyncio.create_task(chore) for chore in _chores(service)]
        stack.push_async_callback(_stop, chores, service.keys)
        yield service


def create_app(service: Service) -> ASGIApp:
    """Make the gateway of a service."""
    return RequestMiddleware(Router(routes(service), redirect_slashes=False, default=_nothing))


def _chores(service: Service) -> list[Coroutine[None, None, None]]:
    """What is done again and again while a service is open."""
    return [
        _every(REAP_SECONDS, service.ledger.reap),
        _every(REFRESH_SECONDS, service.catalogue.refresh),
        _every(REFRESH_SECONDS, service.signing.refresh),
        _every(REFRESH_SECONDS, service.keys.write_use),
        _every(SWEEP_SECONDS, lambda: asyncio.to_thread(service.keystore.sweep)),
    ]


async def _every(seconds: float, chore: Callable[[], Awaitable[None]]) -> None:
    """Do a chore now and then; one that fails is done again all the same."""
    while True:
        try:
            # An unavailable ledger tells its callers so as well; a folder may change under another gateway.
            with suppress(BusyError, OSError):
                await chore()
        except Exception as failure:  # noqa: BLE001 (a chore that stops for good would go unnoticed)
            faults.error("a chore failed: %s", type(failure).__name__)
        await asyncio.sleep(seconds)


async def _stop(tasks: list[asyncio.Task[None]], keys: Keys) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    with suppress(BusyError):
        await keys.write_use()


async def _nothing(scope: Scope, _receive: Receive, _send: Send) -> None:
    if scope["type"] == "http":
        raise error("unknown_path", "There is nothing at this path; see /openapi.json for what is.")
