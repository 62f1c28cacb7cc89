"""What an account used: the vocabulary of the service's answer.

A call is of the day, in UTC, on which it began. Records and bytes are those of calls that were charged, so
they add up to what the account's receipts say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .wire import usd

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from decimal import Decimal

__all__ = ["DIMENSIONS", "Usage", "UsageRow", "table"]

DIMENSIONS = ("day", "model", "mode", "key", "project", "outcome")
FIGURES = ("calls", "charged", "records", "bytes", "amount_nano_usd")


@dataclass(frozen=True)
class UsageRow:
    """Calls that have something in common; what they were not grouped by is None.

    Attributes:
        day: `YYYY-MM-DD`.
        model: `name@version`.
        mode: the privacy mode.
        key: prefix of the API key.
        project: its project.
        outcome: how the calls ended.
        calls: how many ended.
        charged: how many of those were charged; the others failed and cost nothing.
        records, bytes: of those charged; bytes of requests and answers together.
        amount_nano_usd: what they were charged.
    """

    calls: int
    charged: int
    records: int
    bytes: int
    amount_nano_usd: int
    day: str | None = None
    model: str | None = None
    mode: str | None = None
    key: str | None = None
    project: str | None = None
    outcome: str | None = None

    @property
    def amount(self) -> Decimal:
        """What they were charged, in US dollars."""
        return usd(self.amount_nano_usd)


@dataclass(frozen=True)
class Usage:
    """The answer to a question for usage: days from `since` to `until`, both included, grouped `by`."""

    since: str
    until: str
    by: tuple[str, ...]
    rows: tuple[UsageRow, ...]


def table(by: Sequence[str], rows: Iterable[UsageRow]) -> list[tuple[object, ...]]:
    """Rows as a table, its header first: what they are grouped by, the figures, and the amount in dollars."""
    names = (*by, *FIGURES)
    cells = [(*(getattr(row, name) for name in names), f"{row.amount:f}") for row in rows]
    return [(*names, "amount_usd"), *cells]
