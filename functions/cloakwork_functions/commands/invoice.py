"""`cloakwork invoice`: what an account was charged in a month, as a page to send."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from cloakwork.wire import usd
from cloakwork_functions.ledger.invoice import Month, invoice
from cloakwork_functions.ledger.page import page

from .books import with_store

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

__all__ = ["HELP", "configure", "run"]

HELP = "draw up an account's invoice for a month, as HTML"


def configure(parser: ArgumentParser) -> None:
    """Describe the command."""
    parser.add_argument("account", help="its id, as `cloakwork accounts list` shows it")
    parser.add_argument("month", help="YYYY-MM, in UTC")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")


def run(arguments: Namespace) -> int:
    """Do it."""
    month = Month.parse(arguments.month)
    drawn = with_store(lambda store: store.read(invoice(arguments.account, month)))
    arguments.out.write_text(page(drawn), "utf-8")
    total = f"${usd(drawn.total):f}"
    Console().print(
        f"{drawn.account}, {drawn.month}: {total}; wrote {arguments.out}.", markup=False, soft_wrap=True
    )
    return 0
