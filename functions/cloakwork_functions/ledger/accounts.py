"""Accounts, which pay, and their projects, which have budgets.

Both are known by slugs of their names: `acme` and `acme/fraud-detection`. An account's credit comes from
`cash` (what it paid in), `promo` or `refunds`, by an entry each, and is written once for each reference.
"""

from __future__ import annotations

import re
import time
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from cloakwork.errors import error
from cloakwork.receipts import GENESIS

from .allowance import Allowance, set_allowance
from .money import MOST
from .statement import Statement

if TYPE_CHECKING:
    from .statement import Work

__all__ = [
    "DEFAULT",
    "Account",
    "Source",
    "create_account",
    "create_project",
    "credit",
    "list_accounts",
    "list_balances",
    "open_account",
    "read_account",
]

DEFAULT = "default"
WELCOME_NANO_USD = 10 * 10**9
LONGEST_NAME = 100

MAKE_ACCOUNT = Statement(
    "INSERT INTO accounts (id, name, created, head) SELECT id, name, at, head FROM {batch} WHERE true "
    "ON CONFLICT (id) DO NOTHING",
    "id text, name text, at bigint, head text",
)
# Locked, for what refers to an account would else share a lock on it that nobody can then make their own.
ACCOUNT = Statement(
    "SELECT accounts.name FROM accounts JOIN {batch} ON accounts.id = batch.id {lock}", "id text"
)
MAKE_PROJECT = Statement(
    "INSERT INTO projects (id, account, name, created) SELECT id, account, name, at FROM {batch} WHERE true "
    "ON CONFLICT DO NOTHING",
    "id text, account text, name text, at bigint",
)
PROJECT = Statement("SELECT projects.name FROM projects JOIN {batch} ON projects.id = batch.id", "id text")
# One kind for every source, so that a reference names one credit in all the books.
MAKE_ENTRY = Statement(
    "INSERT INTO entries (id, kind, debit, credit, amount, at) "
    "SELECT id, 'credit', debit, credit, amount, at FROM {batch} WHERE true "
    "ON CONFLICT DO NOTHING RETURNING id",
    "id text, debit text, credit text, amount bigint, at bigint",
)
ENTRY = Statement(
    "SELECT entries.debit, entries.credit, entries.amount FROM entries JOIN {batch} "
    "ON entries.id = batch.id AND entries.kind = 'credit'",
    "id text",
)
ADD = Statement(
    "UPDATE accounts SET available = available + batch.amount FROM {batch} WHERE accounts.id = batch.id",
    "id text, amount bigint",
)
ACCOUNTS = Statement("SELECT id, name, created, available, held FROM accounts ORDER BY id")
ONE = Statement(
    "SELECT accounts.id, name, created, available, held FROM accounts JOIN {batch} ON accounts.id = batch.id",
    "id text",
)
BALANCES = Statement(
    "SELECT name, CAST(sum(amount) AS bigint) FROM (SELECT credit AS name, amount FROM entries "
    "UNION ALL SELECT debit, -amount FROM entries) AS moved GROUP BY name ORDER BY name"
)


class Source(StrEnum):
    """Where a credit comes from: the account of the books that it is taken out of."""

    CASH = "cash"
    PROMO = "promo"
    REFUND = "refunds"


@dataclass(frozen=True)
class Account:
    """An account as it stands; amounts are nano-USD."""

    id: str
    name: str
    created: int
    available: int
    held: int


def create_account(name: str) -> Work[str]:
    """Make an account unless it is there; return its id.

    Raises:
        InputError: `bad_request`, no id can be made of the name; `name_taken`, another name has the same id.
    """
    slug = _slug(name)
    yield MAKE_ACCOUNT([(slug, name, int(time.time()), GENESIS)])
    _same_name(name, (yield ACCOUNT([(slug,)])))
    return slug


def create_project(account: str, name: str, allowance: Allowance | None = None) -> Work[str]:
    """Make a project of an account unless it is there, give it a budget if one is named; return its id.

    Raises:
        NotFoundError: `unknown_account`.
        InputError: as for `create_account`.
    """
    yield from _check_account(account)
    project = f"{account}/{_slug(name)}"
    yield MAKE_PROJECT([(project, account, name, int(time.time()))])
    _same_name(name, (yield PROJECT([(project,)])))
    if allowance is not None:
        yield from set_allowance(f"project:{project}", allowance)
    return project


def credit(account: str, amount: int, source: Source, reference: str) -> Work[bool]:
    """Add credit, nano-USD, to an account; false if this very credit was written before.

    Raises:
        NotFoundError: `unknown_account`.
        InputError: `amount_invalid`; `bad_request`, the reference cannot be used; `reference_used`, it names
            another credit.
    """
    if not 0 < amount <= MOST:
        raise error("amount_invalid", f"A credit is from 1 to {MOST} nano-USD.", param="amount")
    if not (0 < len(reference) <= LONGEST_NAME and reference.isascii() and reference.isprintable()):
        raise error(
            "bad_request",
            f"A reference is 1 to {LONGEST_NAME} printable ASCII characters.",
            param="reference",
        )
    yield from _check_account(account)
    name, moved = f"credit_{reference}", (str(source), f"available:{account}", amount)
    if (yield MAKE_ENTRY([(name, *moved, int(time.time()))])):
        yield ADD([(account, amount)])
        return True
    if tuple((yield ENTRY([(name,)]))[0]) != moved:
        raise error(
            "reference_used",
            "This reference names a credit of another amount, source or account; choose a new one for each.",
            param="reference",
        )
    return False


def open_account(name: str) -> Work[str]:
    """Make an account with a project `default` and, once, $10 to try it with; return the project's id.

    Raises:
        InputError: as for `create_account`.
    """
    account = yield from create_account(name)
    project = yield from create_project(account, DEFAULT)
    yield from credit(account, WELCOME_NANO_USD, Source.PROMO, f"welcome-{account}")
    return project


def list_accounts() -> Work[list[Account]]:
    """List every account, by id."""
    return [Account(*row) for row in (yield ACCOUNTS())]


def read_account(account: str) -> Work[Account]:
    """Read an account as it stands.

    Raises:
        NotFoundError: `unknown_account`.
    """
    rows = yield ONE([(account,)])
    if not rows:
        raise _unknown_account()
    return Account(*rows[0])


def list_balances() -> Work[dict[str, int]]:
    """Add up the entries: what each account of the books holds, nano-USD; all together they hold nothing."""
    return dict((yield BALANCES()))


def _slug(name: str) -> str:
    """Turn a name into an id: `Müller & Söhne` into `muller-sohne`."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub("[^a-z0-9]+", "-", plain).strip("-")
    # Letters that stand for several make a slug longer than its name.
    if not slug or max(len(name), len(slug)) > LONGEST_NAME or not name.isprintable():
        raise error(
            "bad_request",
            f"A name is at most {LONGEST_NAME} printable characters, a Latin letter or a digit among them.",
            param="name",
        )
    return slug


def _same_name(name: str, rows: list[tuple[str, ...]]) -> None:
    if rows[0][0] != name:
        raise error(
            "name_taken", "Another name has the same id; choose one that differs by more.", param="name"
        )


def _check_account(account: str) -> Work[None]:
    if not (account.isprintable() and (yield ACCOUNT([(account,)]))):
        raise _unknown_account()


def _unknown_account() -> Exception:
    return error("unknown_account", "There is no such account; `cloakwork accounts list` shows them.")
