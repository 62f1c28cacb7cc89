"""Alerts: a budget is nearly spent, which is said once for each term and cap."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .statement import Statement

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .budget import Budget
    from .statement import Work

__all__ = ["Alert", "list_alerts", "raise_alerts"]

log = logging.getLogger("cloakwork.alerts")

RAISE = Statement(
    "INSERT INTO alerts SELECT subject, term, cap, spent, at FROM {batch} WHERE true "
    "ON CONFLICT DO NOTHING RETURNING subject, at, spent, cap",
    "subject text, term bigint, cap bigint, spent bigint, at bigint",
)
LIST = Statement("SELECT subject, at, spent, cap FROM alerts ORDER BY at, subject, cap")


@dataclass(frozen=True)
class Alert:
    """That a subject, `key:PREFIX` or `project:ID`, had spent so much of its cap; nano-USD, Unix seconds."""

    subject: str
    at: int
    spent: int
    cap: int


def raise_alerts(budgets: Iterable[Budget], now: int) -> Work[None]:
    """Raise the alerts of those budgets that are spent far enough, unless they were raised before."""
    due = sorted(
        (each.subject, each.term, each.cap, each.spent, now) for each in budgets if each.nearly_spent
    )
    for row in (yield RAISE(due)):
        alert = Alert(*row)
        log.warning("%s has spent %d of %d nano-USD", alert.subject, alert.spent, alert.cap)


def list_alerts() -> Work[list[Alert]]:
    """List every alert, oldest first."""
    return [Alert(*row) for row in (yield LIST())]
