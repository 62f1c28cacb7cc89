"""The operator's prices: append-only, one version after the other, for each model in each mode."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from decimal import Decimal, Inexact, InvalidOperation, localcontext
from typing import TYPE_CHECKING, Self

from cloakwork.errors import error
from cloakwork.price import UNITS, Price
from cloakwork.wire import Mode

from .statement import Statement

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cloakwork.wire import ModelInfo

    from .statement import Work
    from .store import Store

__all__ = ["Catalogue", "CatalogueEntry"]

PICO_PER_NANO = 1000
PICO_USD = Decimal("1e-12")
# A receipt states rates below 2**53 pico-USD.
MOST_USD = 9_000

# Of two that add a version at once, the later finds its number taken, adds nothing, and counts again.
ADD = Statement(
    "INSERT INTO prices (version, model, mode, rates, at) "
    "SELECT (SELECT coalesce(max(version), 0) + 1 FROM prices), model, mode, rates, at FROM {batch} "
    "WHERE true ON CONFLICT DO NOTHING RETURNING version",
    "model text, mode text, rates text, at bigint",
)
CURRENT = Statement(
    "SELECT version, model, mode, rates, at FROM prices "
    "WHERE version IN (SELECT max(version) FROM prices GROUP BY model, mode)"
)
HISTORY = Statement(
    "SELECT version, prices.model, mode, rates, at FROM prices "
    "JOIN {batch} ON prices.model = batch.model ORDER BY version",
    "model text",
)


@dataclass(frozen=True)
class CatalogueEntry:
    """A price, whose it is, and since when in Unix seconds."""

    model: str
    mode: str
    price: Price
    since: int


class Catalogue:
    """The prices that hold now, as this gateway last read them.

    No call waits for the database: another process's new price holds here from the next `refresh` on. Until
    then calls are quoted and charged by the price before, and say so: a run is recorded with the version that
    it was held for, whatever holds when it ends.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._current: dict[tuple[str, str], CatalogueEntry] = {}

    @classmethod
    async def open(cls, store: Store) -> Self:
        """Read the catalogue.

        Raises:
            BusyError: `ledger_unavailable`.
        """
        catalogue = cls(store)
        await catalogue.refresh()
        return catalogue

    async def refresh(self) -> None:
        """Read it again; unless that succeeds, what was read before holds.

        Raises:
            BusyError: `ledger_unavailable`.
        """
        entries = await self._store.read(_entries())
        self._current = {(entry.model, entry.mode): entry for entry in entries}

    async def set(self, model: str, mode: Mode, rates: Mapping[str, Decimal]) -> int:
        """Set the price of a model in a mode from now on, US dollars for one of a unit; return its version.

        Raises:
            InputError: `bad_price`, a rate is for no unit that the mode counts, no whole number of pico-USD,
                or beyond bounds.
            BusyError: `ledger_unavailable`.
        """
        if "@" in model:
            raise _bad("A price is for all versions of a model; leave out what follows the @.", "model")
        if "token" in rates:
            raise _bad("No model counts tokens yet, so a rate for them would charge nothing.", "rates")
        if "ciphertext" in rates and mode != Mode.ENCRYPTED:
            raise _bad("Only encrypted calls have ciphertexts; give a rate for a record or a call.", "rates")
        pico = {unit: _pico(unit, usd) for unit, usd in rates.items()}
        if not pico:
            raise _bad("Give a rate at least; 0 for what is free.", "rates")
        version = await self._store.transact(_add(model, mode, pico))
        await self.refresh()
        return version

    def find(self, model: str, mode: Mode, list_price: int | None) -> Price | None:
        """Give the catalogue's price, or else the card's list price as version 0, or None.

        Args:
            model: its name, without a version.
            mode: the privacy mode.
            list_price: on the card, nano-USD a record.
        """
        entry = self._current.get((model, mode))
        if entry is not None:
            return entry.price
        return None if list_price is None else Price(0, {"record": list_price * PICO_PER_NANO})

    def price(self, model: str, mode: Mode, list_price: int | None) -> Price:
        """Give a price as `find` does.

        Raises:
            PaymentError: `no_price`.
        """
        price = self.find(model, mode, list_price)
        if price is None:
            raise error(
                "no_price",
                f"{model} has no price for {mode} calls, so none is run; the operator sets one with "
                "`cloakwork prices set`.",
                param="privacy",
            )
        return price

    def priced(self, info: ModelInfo) -> ModelInfo:
        """The same model with what each mode costs now."""
        found = {
            mode: self.find(info.model, mode, offer.price_nano_usd) for mode, offer in info.card.modes.items()
        }
        return replace(info, prices={mode: price for mode, price in found.items() if price is not None})

    def current(self) -> list[CatalogueEntry]:
        """List the prices that hold now, by model and mode."""
        return [entry for _, entry in sorted(self._current.items())]

    async def history(self, model: str) -> list[CatalogueEntry]:
        """List every price that a model ever had here, oldest first.

        Raises:
            BusyError: `ledger_unavailable`.
        """
        return await self._store.read(_entries(model))


def _pico(unit: str, usd: Decimal) -> int:
    """Whole pico-USD."""
    if unit not in UNITS:
        raise _bad(f"There is no unit {unit}; a rate is for a {', '.join(UNITS)}.", "rates")
    if not (usd.is_finite() and 0 <= usd <= MOST_USD):
        raise _bad(f"The rate for a {unit} must be from 0 to {MOST_USD:,} US dollars.", "rates")
    try:
        with localcontext() as context:
            context.traps[Inexact] = True
            return int(usd.quantize(PICO_USD).scaleb(-PICO_USD.adjusted()))
    except (Inexact, InvalidOperation):
        raise _bad(
            f"The rate for a {unit} is no whole number of pico-USD: give twelve decimals at most.", "rates"
        ) from None


def _add(model: str, mode: Mode, pico: dict[str, int]) -> Work[int]:
    row = (model, str(mode), json.dumps(pico), int(time.time()))
    added: list[tuple[int]] = []
    while not added:
        added = yield ADD([row])
    return added[0][0]


def _entries(model: str | None = None) -> Work[list[CatalogueEntry]]:
    rows = yield CURRENT() if model is None else HISTORY([(model,)])
    return [
        CatalogueEntry(name, mode, Price(version, json.loads(rates)), at)
        for version, name, mode, rates, at in rows
    ]


def _bad(message: str, param: str) -> Exception:
    return error("bad_price", message, param=param)
