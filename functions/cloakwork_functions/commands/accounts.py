"""`cloakwork accounts`: make accounts and projects, add credit, and prove the books."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cloakwork_functions.ledger.accounts import (
    Source,
    create_account,
    create_project,
    credit,
    list_accounts,
    list_balances,
)
from cloakwork_functions.ledger.alerts import list_alerts
from cloakwork_functions.ledger.allowance import Allowance
from cloakwork_functions.ledger.audit import audit
from cloakwork_functions.ledger.money import in_dollars, nano_usd

from .books import date, with_store

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from cloakwork_functions.ledger import Store

__all__ = ["HELP", "configure", "run"]

HELP = "make accounts and projects, add credit, and prove the books"


def configure(parser: ArgumentParser) -> None:
    """Describe the command."""
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("list", help="show every account and its money")
    create = actions.add_parser("create", help="make an account and print its id")
    create.add_argument("name", help="for example 'Acme Ltd'")
    project = actions.add_parser("project", help="make a project and print its id, or change its budget")
    project.add_argument("account", help="an account's id")
    project.add_argument("name", help="for example 'Fraud detection'")
    project.add_argument("--budget", metavar="USD[/day|/month]", help="the most it may spend")
    add = actions.add_parser("credit", help="add what an account paid in, or is given")
    add.add_argument("account", help="its id")
    add.add_argument("amount", metavar="USD", help="for example 25 or 0.50")
    source = add.add_mutually_exclusive_group()
    source.add_argument(
        "--promo", dest="source", action="store_const", const=Source.PROMO, help="it is given"
    )
    source.add_argument(
        "--refund", dest="source", action="store_const", const=Source.REFUND, help="it is given back"
    )
    add.set_defaults(source=Source.CASH)
    add.add_argument("--reference", help="such as an invoice's number: a second credit of it changes nothing")
    actions.add_parser("alerts", help="show which budgets were nearly spent, and when")
    actions.add_parser("audit", help="prove that the books are sound")


def run(arguments: Namespace) -> int:
    """Do it."""
    actions = {
        "list": _list,
        "create": _create,
        "project": _project,
        "credit": _credit,
        "alerts": _alerts,
        "audit": _audit,
    }
    return with_store(lambda store: actions[arguments.action](store, arguments))


async def _list(store: Store, _arguments: Namespace) -> int:
    table = Table("account", "name", "available", "held", "made")
    for account in await store.read(list_accounts()):
        money = in_dollars(account.available), in_dollars(account.held)
        table.add_row(account.id, escape(account.name), *money, date(account.created))
    Console().print(table)
    return 0


async def _create(store: Store, arguments: Namespace) -> int:
    print(await store.transact(create_account(arguments.name)))  # noqa: T201 (the output is the id)
    return 0


async def _project(store: Store, arguments: Namespace) -> int:
    budget = None if arguments.budget is None else Allowance.parse(arguments.budget)
    work = create_project(arguments.account, arguments.name, budget)
    print(await store.transact(work))  # noqa: T201 (the output is the id)
    return 0


async def _credit(store: Store, arguments: Namespace) -> int:
    reference = arguments.reference or secrets.token_hex(8)
    amount = nano_usd(arguments.amount)
    added = await store.transact(credit(arguments.account, amount, arguments.source, reference))
    done = f"Added {in_dollars(amount)} to" if added else "This credit had been added before, to"
    Console().print(f"{done} {arguments.account}, reference {reference}.", markup=False, highlight=False)
    return 0


async def _alerts(store: Store, _arguments: Namespace) -> int:
    table = Table("budget of", "when, in UTC", "spent", "of")
    for alert in await store.read(list_alerts()):
        table.add_row(alert.subject, date(alert.at), in_dollars(alert.spent), in_dollars(alert.cap))
    Console().print(table)
    return 0


async def _audit(store: Store, _arguments: Namespace) -> int:
    discrepancies = await store.read(audit())
    if discrepancies:
        for discrepancy in discrepancies:
            Console(stderr=True).print(discrepancy, markup=False, soft_wrap=True)
        return 1
    table = Table("account of the books", "balance")
    for name, amount in (await store.read(list_balances())).items():
        table.add_row(name, in_dollars(amount))
    Console().print(table, "The books are sound.")
    return 0
