"""`cloakwork signing`: list and rotate the keys that sign receipts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from cloakwork_functions.home import Home
from cloakwork_functions.ledger import Secrets, SigningKeys

from .books import with_store

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from cloakwork_functions.ledger import Store

__all__ = ["HELP", "configure", "run"]

HELP = "list and rotate the keys that sign receipts"


def configure(parser: ArgumentParser) -> None:
    """Describe the command."""
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("list", help="show every key by its thumbprint, the newest first")
    actions.add_parser("rotate", help="sign with a new key; the old one stays published")


def run(arguments: Namespace) -> int:
    """Do it."""
    with_store(_rotate if arguments.action == "rotate" else _list)
    return 0


async def _open(store: Store) -> SigningKeys:
    keys = SigningKeys(store, Secrets.load(Home.default().secret))
    await keys.refresh()
    return keys


async def _list(store: Store) -> None:
    for key in (await _open(store)).jwks()["keys"]:
        Console().print(key["kid"])


async def _rotate(store: Store) -> None:
    Console().print(f"Receipts are signed by {await (await _open(store)).rotate()} from now on.")
