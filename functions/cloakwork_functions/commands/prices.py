"""`cloakwork prices`: what calls cost, and what they cost before."""

from __future__ import annotations

from argparse import ArgumentTypeError
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cloakwork.price import UNITS
from cloakwork.rates import in_words
from cloakwork.wire import Mode
from cloakwork_functions.ledger import Catalogue

from .books import date, with_store

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterable

    from cloakwork_functions.ledger import Store
    from cloakwork_functions.ledger.prices import CatalogueEntry

__all__ = ["HELP", "configure", "run"]

HELP = "list, set and look up prices"
# Nobody thinks of a price in microseconds, and no model counts tokens yet.
OPTIONS = {unit: "second" if unit == "microsecond" else unit for unit in UNITS if unit != "token"}
MICRO = -6
MOST_DIGITS = 24  # what a Decimal holds is exact


def configure(parser: ArgumentParser) -> None:
    """Describe the command."""
    actions = parser.add_subparsers(dest="action", required=False)
    change = actions.add_parser("set", help="set a price, in place of all rates before")
    change.add_argument("model", help="its name, without a version")
    change.add_argument("mode", choices=[mode.value for mode in Mode])
    for unit, option in OPTIONS.items():
        change.add_argument(f"--per-{option}", dest=unit, type=_usd, metavar="USD", help=f"for one {option}")
    history = actions.add_parser("history", help="show every price that a model had")
    history.add_argument("model")


def run(arguments: Namespace) -> int:
    """Do it. A running gateway goes by a new price within seconds."""
    with_store(lambda store: _run(store, arguments))
    return 0


async def _run(store: Store, arguments: Namespace) -> None:
    catalogue = await Catalogue.open(store)
    if arguments.action == "set":
        await _set(catalogue, arguments)
    elif arguments.action == "history":
        Console().print(_table(await catalogue.history(arguments.model)))
    else:
        Console().print(_table(catalogue.current()))
        Console().print("Where there is none, the price on the model's card holds.")


async def _set(catalogue: Catalogue, arguments: Namespace) -> None:
    rates = {unit: getattr(arguments, unit) for unit in OPTIONS if getattr(arguments, unit) is not None}
    if "microsecond" in rates:
        rates["microsecond"] = rates["microsecond"].scaleb(MICRO)
    mode = Mode(arguments.mode)
    version = await catalogue.set(arguments.model, mode, rates)
    price = catalogue.price(arguments.model, mode, None)
    Console().print(
        f"Version {version}: {arguments.model}, {mode}: {in_words(price)}.", markup=False, soft_wrap=True
    )


def _table(entries: Iterable[CatalogueEntry]) -> Table:
    table = Table("model", "mode", "version", "since, in UTC", "price")
    for entry in entries:
        texts = entry.model, entry.mode, str(entry.price.version), date(entry.since), in_words(entry.price)
        table.add_row(*map(escape, texts))
    return table


def _usd(text: str) -> Decimal:
    try:
        usd = Decimal(text)
    except InvalidOperation:
        usd = Decimal("NaN")
    if not usd.is_finite() or len(text) > MOST_DIGITS:
        raise ArgumentTypeError("give US dollars, such as 0.000002")
    return usd
