"""`cloakwork keys`: make, list and revoke API keys."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from cloakwork_functions.home import Home
from cloakwork_functions.ledger import Keys
from cloakwork_functions.ledger.database import open_database

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

__all__ = ["HELP", "configure", "run"]

HELP = "make, list and revoke API keys"


def configure(parser: ArgumentParser) -> None:
    """Describe the command."""
    actions = parser.add_subparsers(dest="action", required=True)
    create = actions.add_parser("create", help="make a key and print it, for the only time")
    create.add_argument("--name", default="default", help="what the key is for")
    actions.add_parser("list", help="show every key's prefix")
    revoke = actions.add_parser("revoke", help="refuse a key from now on")
    revoke.add_argument("prefix", help="for example cw_Ab3dEf6h")


def run(arguments: Namespace) -> int:
    """Do it."""
    home = Home.default()
    home.make()
    with closing(open_database(home.database)) as connection:
        keys = Keys(connection)
        if arguments.action == "create":
            print(keys.create(arguments.name))  # noqa: T201 (the output is the key)
            return 0
        if arguments.action == "revoke":
            return _revoke(keys, arguments.prefix)
        _list(keys)
    return 0


def _revoke(keys: Keys, prefix: str) -> int:
    if keys.revoke(prefix):
        Console().print(f"Revoked {prefix}.")
        return 0
    # What was given is not repeated: it may be a whole key.
    Console(stderr=True).print("No live key has that prefix; `cloakwork keys list` shows them.")
    return 1


def _list(keys: Keys) -> None:
    table = Table("prefix", "name", "made", "state")
    for key in keys.list():
        table.add_row(
            key.prefix,
            key.name,
            _date(key.created),
            f"revoked {_date(key.revoked)}" if key.revoked else "live",
        )
    Console().print(table)


def _date(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds))
