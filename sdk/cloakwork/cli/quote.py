"""`cloakwork quote`: what a call would cost, before it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloakwork.client import Client
from cloakwork.rates import in_words
from cloakwork.wire import Mode

from .run import read_input
from .table import aligned

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from cloakwork.quote import Quote

__all__ = ["HELP", "configure", "run"]

HELP = "tell what a call would cost, in each mode; the input is counted here and not sent"
HEADER = ("mode", "records", "cost", "bytes up", "bytes down", "keys, once", "seconds", "price")


def configure(parser: ArgumentParser) -> None:
    """Describe the command."""
    parser.add_argument("model", help="for example digits, digits@prod or digits@3")
    parser.add_argument("input", help="a .json or .npy file, or - for JSON on standard input")
    parser.add_argument("--privacy", choices=[mode.value for mode in Mode], help="only this mode")


def run(arguments: Namespace) -> int:
    """Do it."""
    value = read_input(arguments.input)
    with Client() as client:
        quotes = (
            client.quote(arguments.model, value, privacy=arguments.privacy)
            if arguments.privacy
            else client.quote(arguments.model, value)
        )
    listed = quotes.values() if isinstance(quotes, dict) else [quotes]
    print(aligned([HEADER, *map(_row, listed)]), end="")  # noqa: T201
    return 0


def _row(quote: Quote) -> tuple[str, ...]:
    cost = "unknown" if quote.amount is None else f"{'' if quote.exact else 'about '}${quote.amount:f}"
    seconds = "unknown" if quote.seconds is None else f"{quote.seconds:.3g}"
    sizes = (f"{size:,}" for size in (quote.bytes_up, quote.bytes_down, quote.keys_up))
    return (quote.mode, str(quote.records), cost, *sizes, seconds, in_words(quote.price))
