"""`cloakwork keys`: make, list, limit, rotate and revoke API keys."""

from __future__ import annotations

import time
from argparse import ArgumentTypeError
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from cloakwork.wire import Mode
from cloakwork_functions.ledger import Keys, Limits
from cloakwork_functions.ledger.accounts import DEFAULT, open_account
from cloakwork_functions.ledger.allowance import Allowance
from cloakwork_functions.ledger.keys import OVERLAP_SECONDS
from cloakwork_functions.ledger.limits import ANY
from cloakwork_functions.ledger.money import in_dollars
from cloakwork_functions.ledger.scope import Scope

from .books import date, with_store

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

    from cloakwork_functions.ledger import ApiKey, Store

__all__ = ["HELP", "configure", "run"]

HELP = "make, list, limit, rotate and revoke API keys"
PROJECT = f"{DEFAULT}/{DEFAULT}"
MODES = ",".join(Mode)
DAY = 24 * 3600
MOST_DAYS = 36500


def configure(parser: ArgumentParser) -> None:
    """Describe the command."""
    actions = parser.add_subparsers(dest="action", required=True)
    _configure_create(actions.add_parser("create", help="make a key and print it, for the only time"))
    shown = actions.add_parser("list", help="show every key's prefix, and what it may do")
    shown.add_argument("--account", help="of this account alone")
    rotate = actions.add_parser("rotate", help="make a key's successor and print it, for the only time")
    rotate.add_argument("prefix", help="for example cw_Ab3dEf6h")
    rotate.add_argument(
        "--overlap",
        type=int,
        default=OVERLAP_SECONDS,
        metavar="SECONDS",
        help="how long the old one goes on working (default: %(default)s)",
    )
    limit = actions.add_parser("limit", help="limit a key's calls, and those of its successors")
    limit.add_argument("prefix", help="for example cw_Ab3dEf6h, or '*' for each key that has no limit itself")
    limit.add_argument("--model", default=ANY, metavar="NAME", help="to this model (default: all together)")
    _add_limits(limit, "; without either, any number")
    budget = actions.add_parser("budget", help="set what a key and its successors may spend")
    budget.add_argument("prefix", help="for example cw_Ab3dEf6h")
    budget.add_argument("budget", metavar="USD[/day|/month]", help="for example 20/month")
    revoke = actions.add_parser("revoke", help="refuse a key from now on")
    revoke.add_argument("prefix", help="for example cw_Ab3dEf6h")


def _configure_create(create: ArgumentParser) -> None:
    create.add_argument("--name", default="default", help="what the key is for")
    create.add_argument(
        "--project", default=PROJECT, metavar="ACCOUNT/PROJECT", help="who pays (default: %(default)s)"
    )
    create.add_argument(
        "--models", type=_items, default=("*",), metavar="PATTERN,…", help="models it may call (default: all)"
    )
    create.add_argument(
        "--modes", type=_modes, default=tuple(Mode), metavar="MODE,…", help=f"from {MODES} (default: all)"
    )
    create.add_argument(
        "--floor",
        choices=[mode.value for mode in Mode],
        default=Mode.PLAINTEXT,
        help="the least privacy it may be used with (default: %(default)s)",
    )
    create.add_argument("--manage", action="store_true", help="it may manage keys of its account")
    create.add_argument("--no-run", action="store_true", help="it may run nothing")
    create.add_argument(
        "--allow", type=_items, default=(), metavar="CIDR,…", help="networks it works from (default: any)"
    )
    create.add_argument(
        "--expires", type=_days, metavar="DAYS", help="days until it expires (default: never)"
    )
    _add_limits(create)
    create.add_argument("--budget", metavar="USD[/day|/month]", help="the most it may spend")


def _add_limits(parser: ArgumentParser, note: str = "") -> None:
    parser.add_argument(
        "--per-minute", type=int, metavar="N", help=f"N calls at once, refilled at N a minute{note}"
    )
    parser.add_argument("--concurrency", type=int, metavar="N", help=f"most calls under way{note}")


def run(arguments: Namespace) -> int:
    """Do it."""
    actions = {"create": _create, "list": _list, "limit": _limit, "budget": _budget}
    action = (actions | {"rotate": _rotate, "revoke": _revoke})[arguments.action]
    return with_store(lambda store: action(store, arguments))


async def _create(store: Store, arguments: Namespace) -> int:
    scope = Scope(
        models=arguments.models,
        modes=arguments.modes,
        manage=arguments.manage,
        run=not arguments.no_run,
        floor=Mode(arguments.floor),
        addresses=arguments.allow,
    )
    limits = Limits(arguments.per_minute, arguments.concurrency)
    budget = None if arguments.budget is None else Allowance.parse(arguments.budget)
    if arguments.project == PROJECT:
        await store.transact(open_account(DEFAULT))
    expires = None if arguments.expires is None else int(time.time() + arguments.expires * DAY)
    key = await Keys(store).create(
        arguments.project, arguments.name, scope, expires=expires, limits=limits, budget=budget
    )
    print(key)  # noqa: T201 (the output is the key)
    return 0


async def _limit(store: Store, arguments: Namespace) -> int:
    limits = Limits(arguments.per_minute, arguments.concurrency)
    await Keys(store).limit(arguments.prefix, limits, arguments.model)
    said = " and ".join(_limits(limits)) or "any number of calls"
    Console().print(f"{said}, on {arguments.model}.", markup=False, highlight=False)
    return 0


async def _budget(store: Store, arguments: Namespace) -> int:
    await Keys(store).budget(arguments.prefix, Allowance.parse(arguments.budget))
    return 0


async def _rotate(store: Store, arguments: Namespace) -> int:
    print(await Keys(store).rotate(arguments.prefix, arguments.overlap))  # noqa: T201 (the output is the key)
    return 0


async def _revoke(store: Store, arguments: Namespace) -> int:
    if await Keys(store).revoke(arguments.prefix):
        Console().print(f"Revoked {arguments.prefix}.")
        return 0
    # What was given is not repeated: it may be a whole key.
    Console(stderr=True).print("No live key has that prefix; `cloakwork keys list` shows them.")
    return 1


async def _list(store: Store, arguments: Namespace) -> int:
    table = Table(
        Column("prefix", no_wrap=True),
        Column("for", min_width=len(PROJECT), overflow="fold"),
        "may",
        "last used",
        "state",
    )
    for key in await Keys(store).list(arguments.account):
        may = escape("\n".join((*_permissions(key.scope), *_limits(key.limits), *_spending(key))))
        table.add_row(key.prefix, escape(f"{key.name}\n{key.project}"), may, date(key.last_used), _state(key))
    Console().print(table)
    return 0


def _permissions(scope: Scope) -> Iterator[str]:
    """Say what a scope permits, in a few words each."""
    if scope.run:
        modes = [mode for mode in scope.modes if mode.meets(scope.floor)]
        only = "" if len(modes) == len(Mode) else f" {' or '.join(modes)}"
        yield f"run {', '.join(scope.models)}{only}"
    if scope.manage:
        yield "manage"
    if scope.addresses:
        yield f"from {', '.join(scope.addresses)}"


def _limits(limits: Limits) -> Iterator[str]:
    """Say what limits calls, in a few words each."""
    if limits.per_minute is not None:
        yield f"{limits.per_minute} calls at once, refilled at {limits.per_minute} a minute"
    if limits.concurrency is not None:
        yield f"{limits.concurrency} under way"


def _spending(key: ApiKey) -> Iterator[str]:
    """Say what a key may spend."""
    if key.budget is not None:
        period = "" if key.budget.period == "total" else f" a {key.budget.period}"
        yield f"spent {in_dollars(key.spent)} of {in_dollars(key.budget.cap)}{period}"


def _state(key: ApiKey) -> str:
    if key.revoked is not None:
        return f"revoked {date(key.revoked)}"
    if key.expires is None:
        return "live"
    return f"{'live until' if key.expires > time.time() else 'expired'} {date(key.expires)}"


def _items(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _modes(text: str) -> tuple[Mode, ...]:
    if not set(text.split(",")) <= set(Mode):
        raise ArgumentTypeError(f"must be some of {MODES}")
    return tuple(Mode(mode) for mode in dict.fromkeys(text.split(",")))


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = 0.0
    if not 0 < days <= MOST_DAYS:
        raise ArgumentTypeError("must be a positive number of days, at most a century of them")
    return days
