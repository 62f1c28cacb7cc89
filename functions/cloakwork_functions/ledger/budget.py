"""A hard cap on spending in a day, a month or in all; what is held counts as spent."""

from __future__ import annotations

import time
from calendar import timegm
from dataclasses import dataclass

from cloakwork.errors import error

__all__ = ["Budget", "begin", "term"]


DAY = 86400


def term(period: str, at: int) -> int:
    """Number the day or month (UTC) of a Unix time; all time is one term, 0."""
    if period == "total":
        return 0
    date = time.gmtime(at)
    return date.tm_year * 12 + date.tm_mon if period == "month" else at // DAY


def begin(period: str, at: int) -> int:
    """The Unix time at which the term of another began."""
    if period == "total":
        return 0
    date = time.gmtime(at)
    return timegm((date.tm_year, date.tm_mon, 1, 0, 0, 0)) if period == "month" else at // DAY * DAY


@dataclass(slots=True)
class Budget:
    """A subject's budget, as it stands.

    Attributes:
        subject: `key:PREFIX` or `project:ID`.
        cap: nano-USD a term.
        period: `day`, `month` or `total`.
        alert: percent of the cap.
        term: that `spent` is of.
        spent: nano-USD, open holds included.
    """

    subject: str
    cap: int
    period: str
    alert: int
    term: int
    spent: int

    @property
    def nearly_spent(self) -> bool:
        """Whether an alert is due."""
        return self.spent * 100 >= self.cap * self.alert

    def check(self, amount: int, now: int) -> None:
        """See that an amount may be spent now; it is not counted yet.

        Raises:
            PaymentError: `budget_exceeded`.
        """
        # A clock that steps back does not open an earlier term again.
        if (current := term(self.period, now)) > self.term:
            self.term, self.spent = current, 0
        if self.spent + amount > self.cap:
            raise error(
                "budget_exceeded",
                f"The budget of {self.subject} has {self.cap - self.spent} nano-USD left ({self.period}) and "
                f"the call may cost {amount}; raise the budget or wait for the next term.",
            )

    def give_back(self, amount: int, held_at: int) -> None:
        """Count an amount held at a time as not spent after all, unless its term is over."""
        if term(self.period, held_at) == self.term:
            self.spent = max(0, self.spent - amount)
