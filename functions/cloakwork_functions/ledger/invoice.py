"""What an account was charged in a month, line by line, and how its balance came about.

Lines are priced anew, from what was used and the catalogue, and must come to what the entries say: an invoice
that does not explain them is not given. The balance is told backwards from today's, so that an account's
earlier years need not be added up.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

from cloakwork.errors import error
from cloakwork.price import UNITS

from .statement import Statement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .statement import Work

__all__ = ["Credit", "Invoice", "InvoiceLine", "Month", "invoice"]

FORM = re.compile(r"([1-9][0-9]{3})-(0[1-9]|1[0-2])")
DECEMBER = 12
PICO_PER_NANO = 1000

# Who it is, what the account has now, and what was added to it and taken since the month began.
STANDING = Statement(
    "SELECT accounts.name, available + held, "
    "(SELECT coalesce(sum(amount), 0) FROM entries "
    "WHERE kind = 'credit' AND credit = 'available:' || accounts.id AND at >= batch.since), "
    "(SELECT coalesce(sum(amount), 0) FROM runs JOIN entries ON entries.id = runs.id "
    "AND debit = 'held:' || runs.account AND credit <> 'available:' || runs.account "
    "WHERE runs.account = accounts.id AND runs.at >= batch.since) "
    "FROM {batch} JOIN accounts ON accounts.id = batch.id",
    "id text, since bigint",
)
CREDITS = Statement(
    "SELECT at, debit, amount FROM {batch} JOIN entries ON kind = 'credit' "
    "AND credit = 'available:' || batch.account AND at >= batch.since AND at < batch.until ORDER BY at, id",
    "account text, since bigint, until bigint",
)
RATES = Statement("SELECT DISTINCT rates FROM prices")
# A row for each unit of each price that runs were charged by, and what the entries say of its units together.
# Each run is rounded by itself, half to even, as when it was charged. The rate is split into nano- and
# pico-USD, so that no product leaves 64 bits. A version that the catalogue lacks is a card's list price.
LINES = Statement(
    "WITH used AS (SELECT runs.model, runs.mode, runs.price, unit, ends.amount, "
    "CAST(rates{json} ->> unit AS bigint) AS rate, "
    "coalesce(CAST(quantities{json} ->> unit AS bigint), 0) AS quantity, "
    "(SELECT sum(moved.amount) FROM entries AS moved WHERE moved.id = runs.id "
    "AND debit = 'held:' || runs.account AND credit <> 'available:' || runs.account) AS moved "
    "FROM {batch} JOIN runs ON runs.account = batch.account "
    "AND runs.at >= batch.since AND runs.at < batch.until JOIN ends ON ends.run = runs.id "
    "LEFT JOIN prices ON version = price "
    "WHERE outcome IN ('answered', 'abandoned') "
    "AND (rates{json} ->> unit IS NOT NULL OR rates IS NULL AND unit = 'record')), "
    "split AS (SELECT used.*, quantity * (rate / 1000) + quantity * (rate % 1000) / 1000 AS nano, "
    "quantity * (rate % 1000) % 1000 AS rest FROM used) "
    "SELECT model, mode, price, unit, rate, sum(quantity), "
    "sum(CASE WHEN rate IS NULL THEN amount WHEN rest > 500 OR rest = 500 AND nano % 2 = 1 THEN nano + 1 "
    "ELSE nano END), coalesce(sum(moved), 0) FROM split GROUP BY 1, 2, 3, 4, 5",
    "account text, since bigint, until bigint, unit text",
)


@dataclass(frozen=True)
class Month:
    """A month in UTC."""

    year: int
    number: int

    @classmethod
    def parse(cls, text: str) -> Month:
        """Read `YYYY-MM`.

        Raises:
            InputError: `bad_request`, it is none, or has not begun.
        """
        found = FORM.fullmatch(text)
        month = cls(int(found[1]), int(found[2])) if found else None
        if month is None or month.since > time.time():
            raise error("bad_request", "Write the month as YYYY-MM; it must have begun.", param="month")
        return month

    @property
    def since(self) -> int:
        """Unix seconds at which it begins."""
        return int(datetime(self.year, self.number, 1, tzinfo=UTC).timestamp())

    @property
    def until(self) -> int:
        """Unix seconds at which it is over."""
        later = Month(self.year + 1, 1) if self.number == DECEMBER else Month(self.year, self.number + 1)
        return later.since

    def __str__(self) -> str:
        return f"{self.year}-{self.number:02}"


@dataclass(frozen=True)
class Credit:
    """An amount that was added to the balance: nano-USD, when, and out of which account of the books."""

    at: int
    source: str
    amount: int


@dataclass(frozen=True)
class InvoiceLine:
    """What was used of one unit at one price.

    Attributes:
        model: `name@version`.
        mode: the privacy mode.
        price: version in the catalogue; 0 is the price on the model's card.
        unit: one of `price.UNITS`.
        rate: pico-USD for one of it.
        quantity: how much.
        amount: nano-USD: the sum over calls of quantity times rate, rounded half to even in each call.
    """

    model: str
    mode: str
    price: int
    unit: str
    rate: int
    quantity: int
    amount: int


@dataclass(frozen=True)
class Invoice:
    """A month of an account. Amounts are nano-USD; a call belongs to the month in which it was held.

    Attributes:
        account: its id.
        name: its name.
        month: which one.
        drawn: Unix seconds of when this was added up.
        opening: the balance before the month, what is held for calls under way included.
        credits: what was added, in the order of time.
        lines: what was charged.
    """

    account: str
    name: str
    month: Month
    drawn: int
    opening: int
    credits: tuple[Credit, ...]
    lines: tuple[InvoiceLine, ...]

    @property
    def total(self) -> int:
        """What was charged."""
        return sum(line.amount for line in self.lines)

    @property
    def closing(self) -> int:
        """The balance after the month."""
        return self.opening + sum(credit.amount for credit in self.credits) - self.total

    @property
    def settled(self) -> bool:
        """Whether the month was over when this was drawn."""
        return self.drawn >= self.month.until


def invoice(account: str, month: Month) -> Work[Invoice]:
    """Draw up the invoice of an account for a month.

    Raises:
        NotFoundError: `unknown_account`.
        ServerError: `books_differ`, the lines do not come to what the entries say.
    """
    standing = yield STANDING([(account, month.since)])
    if not standing:
        raise error("unknown_account", "There is no such account; `cloakwork accounts list` shows them.")
    name, balance, added, taken = standing[0]
    units = {"record"}.union(*(json.loads(rates) for (rates,) in (yield RATES())))
    rows = yield LINES((account, month.since, month.until, unit) for unit in units)
    return Invoice(
        account,
        name,
        month,
        drawn=int(time.time()),
        opening=balance - added + taken,
        credits=tuple(Credit(*row) for row in (yield CREDITS([(account, month.since, month.until)]))),
        lines=tuple(_lines(rows)),
    )


def _lines(rows: list[tuple[Any, ...]]) -> Iterator[InvoiceLine]:
    place = list(UNITS).index
    ordered = sorted(rows, key=lambda row: (*row[:3], place(row[3])))
    for _, units in groupby(ordered, key=lambda row: row[:3]):
        charged, moved = 0, 0
        for model, mode, price, unit, rate, quantity, amount, moved in units:  # noqa: B007 (the same for all)
            charged += amount
            yield InvoiceLine(model, mode, price, unit, _rate(rate, quantity, amount), quantity, amount)
        if charged != moved:
            raise error(
                "books_differ",
                "What was used does not explain what was charged, so there is no invoice; check the ledger.",
            )


def _rate(rate: int | None, quantity: int, amount: int) -> int:
    """The rate; a list price is not in the books, but whole nano-USD for each record, so amounts tell it."""
    return amount * PICO_PER_NANO // max(quantity, 1) if rate is None else rate
