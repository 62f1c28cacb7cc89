"""What a key or a project may spend: the cap that its budget is kept to."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

import msgspec

from cloakwork.errors import error

from .budget import begin, term
from .money import MOST, nano_usd
from .statement import Statement

if TYPE_CHECKING:
    from .statement import Work

__all__ = ["Allowance", "set_allowance"]

ALERT_PERCENT = 80
SET = Statement(
    "INSERT INTO budgets (subject, cap, period, alert, term, spent) "
    "SELECT subject, cap, period, alert, term, spent FROM {batch} WHERE true ON CONFLICT (subject) "
    "DO UPDATE SET cap = excluded.cap, period = excluded.period, alert = excluded.alert, "
    "term = excluded.term, spent = excluded.spent",
    "subject text, cap bigint, period text, alert bigint, term bigint, spent bigint",
)
LOCK = Statement(
    "SELECT id FROM accounts WHERE id IN (SELECT projects.account FROM {batch} JOIN projects "
    "ON projects.id = batch.project "
    "OR projects.id IN (SELECT keys.project FROM keys WHERE keys.prefix = batch.family)) {lock}",
    "project text, family text",
)
STANDING = Statement(
    "SELECT period, term, spent FROM budgets WHERE subject IN (SELECT subject FROM {batch})", "subject text"
)
# What calls of this term may cost, of those that have ended what they did: a run has a hold or an end.
SPENT = Statement(
    "SELECT CAST(coalesce(sum(coalesce(ends.amount, holds.amount)), 0) AS bigint) FROM {batch} "
    "JOIN runs ON runs.account = batch.account AND runs.at >= batch.since AND (runs.project = batch.project "
    "OR runs.key IN (SELECT keys.prefix FROM keys WHERE keys.family = batch.family)) "
    "LEFT JOIN holds ON holds.run = runs.id LEFT JOIN ends ON ends.run = runs.id",
    "account text, project text, family text, since bigint",
)


class Allowance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A hard cap on spending.

    Attributes:
        cap: nano-USD.
        period: how often it begins anew (UTC), or `total` for never.
        alert: percent of the cap from which on an alert is raised.

    Raises:
        InputError: `amount_invalid`.
    """

    cap: int
    period: Literal["day", "month", "total"] = "total"
    alert: int = ALERT_PERCENT

    def __post_init__(self) -> None:
        if not 0 <= self.cap <= MOST:
            raise error("amount_invalid", f"A budget is from 0 to {MOST} nano-USD.", param="cap")
        if not 0 < self.alert <= 100:  # noqa: PLR2004 (percent)
            raise error("amount_invalid", "An alert is at 1 to 100 percent of its budget.", param="alert")

    @classmethod
    def parse(cls, text: str) -> Allowance:
        """Read US dollars, in all or a term: `100`, `5/day`, `20.50/month`.

        Raises:
            InputError: `amount_invalid`.
        """
        amount, slash, period = text.partition("/")
        match period if slash else "total":
            case "day" | "month" | "total" as known:
                return cls(nano_usd(amount), known)
            case _:
                raise error("amount_invalid", "A budget is an amount, or an amount /day or /month.")


def set_allowance(subject: str, allowance: Allowance) -> Work[None]:
    """Give a subject, `key:FAMILY` or `project:ID`, a budget; what it has spent in this term stays spent.

    Its account is locked first, as whoever holds and settles does, so no call goes by what was before.
    """
    kind, _, name = subject.partition(":")
    spender = (name, None) if kind == "project" else (None, name)
    accounts = yield LOCK([spender])
    standing = yield STANDING([(subject,)])
    if standing and standing[0][0] == allowance.period:
        _, current, spent = standing[0]
    else:
        now = int(time.time())
        current, since = term(allowance.period, now), begin(allowance.period, now)
        spent = sum(row[0] for row in (yield SPENT((account, *spender, since) for (account,) in accounts)))
    yield SET([(subject, allowance.cap, allowance.period, allowance.alert, current, spent)])
