"""The operator's books, as commands open them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar

from cloakwork_functions.home import Home
from cloakwork_functions.ledger import open_store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cloakwork_functions.ledger import Store

__all__ = ["date", "with_store"]

R = TypeVar("R")


def with_store(do: Callable[[Store], Awaitable[R]]) -> R:
    """Do something with the store that the operator's folder or environment names."""

    async def opened() -> R:
        home = Home.default()
        home.make()
        store = await open_store(home.database)
        try:
            return await do(store)
        finally:
            await store.close()

    return asyncio.run(opened())


def date(seconds: int | None) -> str:
    """Write a Unix time, in UTC to the minute; nothing for none."""
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds))
