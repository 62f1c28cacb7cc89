"""What an account used, added up from how its runs ended; and the proof that the entries say the same."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from cloakwork.errors import error
from cloakwork.usage import DIMENSIONS, UsageRow

from .statement import Statement

if TYPE_CHECKING:
    from collections.abc import Collection

    from .statement import Work

__all__ = ["Difference", "Period", "reconcile", "usage"]

DAY_SECONDS = 86_400
MOST_DAYS = 366

# Grouped by what the flags in the batch name; the rest is null throughout. Failed runs have no quantities.
USAGE = Statement(
    "SELECT CASE WHEN batch.day = 1 THEN runs.at / 86400 END, "
    "CASE WHEN batch.model = 1 THEN runs.model END, "
    "CASE WHEN batch.mode = 1 THEN runs.mode END, "
    "CASE WHEN batch.key = 1 THEN runs.key END, "
    "CASE WHEN batch.project = 1 THEN runs.project END, "
    "CASE WHEN batch.outcome = 1 THEN ends.outcome END, "
    "count(*), "
    "count(*) FILTER (WHERE ends.outcome IN ('answered', 'abandoned')), "
    "coalesce(sum(CAST(quantities{json} ->> 'record' AS bigint)), 0), "
    "coalesce(sum(CAST(quantities{json} ->> 'byte' AS bigint)), 0), "
    "sum(amount) "
    "FROM {batch} JOIN runs ON runs.account = batch.account "
    "AND runs.at >= batch.since AND runs.at < batch.until JOIN ends ON ends.run = runs.id "
    "GROUP BY 1, 2, 3, 4, 5, 6",
    "account text, since bigint, until bigint, day bigint, model bigint, mode bigint, key bigint, "
    "project bigint, outcome bigint",
)
# What ends say against what left the account's held money for anywhere but back.
DIFFERENCES = Statement(
    "SELECT run, sum(charged), sum(moved) FROM ("
    "SELECT ends.run AS run, ends.amount AS charged, 0 AS moved FROM {batch} "
    "JOIN runs ON runs.account = batch.account JOIN ends ON ends.run = runs.id "
    "UNION ALL "
    "SELECT entries.id, 0, entries.amount FROM {batch} "
    "JOIN entries ON debit = 'held:' || batch.account AND credit <> 'available:' || batch.account"
    ") AS said GROUP BY run HAVING sum(charged) <> sum(moved) ORDER BY run",
    "account text",
)


@dataclass(frozen=True)
class Period:
    """Days in UTC, both included.

    Raises:
        InputError: `bad_request`, they are in the wrong order, or more than a year of them.
    """

    first: date
    last: date

    def __post_init__(self) -> None:
        if not 0 <= (self.last - self.first).days < MOST_DAYS:
            raise error(
                "bad_request", f"Ask for 1 to {MOST_DAYS} days, the first of them first.", param="from"
            )

    @property
    def since(self) -> int:
        """Unix seconds at which it begins."""
        return _seconds(self.first)

    @property
    def until(self) -> int:
        """Unix seconds at which it is over."""
        return _seconds(self.last) + DAY_SECONDS


@dataclass(frozen=True)
class Difference:
    """A run whose charge and entries differ: nano-USD that its end says, and that the entries moved."""

    run: str
    charged: int
    moved: int


def usage(account: str, period: Period, by: Collection[str]) -> Work[tuple[UsageRow, ...]]:
    """Add up the calls of a period that have ended, grouped by some of `DIMENSIONS`, in their order.

    A call belongs to the day on which it was held, so a day is settled when its last call has ended.

    Raises:
        InputError: `bad_request`, there is no such dimension.
    """
    if not set(by) <= set(DIMENSIONS):
        raise error("bad_request", f"Group by any of {', '.join(DIMENSIONS)}.", param="by")
    flags = (int(name in by) for name in DIMENSIONS)
    rows = yield USAGE([(account, period.since, period.until, *flags)])
    return tuple(
        UsageRow(*figures, **dict(zip(DIMENSIONS, (day if day is None else _day(day), *names), strict=True)))
        for day, *rest in sorted(rows, key=_place)
        for names, figures in [(rest[:-5], rest[-5:])]
    )


def reconcile(account: str) -> Work[tuple[Difference, ...]]:
    """Prove that usage and entries say the same of every run of an account: nothing, if they do."""
    return tuple(Difference(*row) for row in (yield DIFFERENCES([(account,)])))


def _place(row: tuple[object, ...]) -> tuple[object, ...]:
    """Where a row stands, whatever the database's collation; what it is not grouped by is null in all."""
    return tuple(value for value in row[: len(DIMENSIONS)] if value is not None)


def _seconds(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def _day(number: int) -> str:
    """The date of a number of days since 1970."""
    return (date(1970, 1, 1) + timedelta(days=number)).isoformat()
