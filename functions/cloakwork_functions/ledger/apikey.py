"""What is known of an API key once it is made: who calls with it, and what may be shown of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from cloakwork.errors import error

from .allowance import Allowance
from .budget import term
from .scope import Scope

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["ApiKey", "Identity", "Limits"]

MOST_CALLS = 10**6


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls.

    Attributes:
        account: who pays.
        project: under which budget.
        prefix: of the API key.
        family: prefix of the first key of its line of rotations, which share limits and a budget.
        scope: what it may do.
    """

    account: str
    project: str
    prefix: str
    family: str
    scope: Scope


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many calls a key and its successors may make a minute and at once, on all models together.

    None is for any number.

    Raises:
        InputError: `scope_invalid`.
    """

    per_minute: int | None = None
    concurrency: int | None = None

    def __post_init__(self) -> None:
        if not all(each is None or 0 < each <= MOST_CALLS for each in (self.per_minute, self.concurrency)):
            raise error("scope_invalid", f"A limit is from 1 to {MOST_CALLS} calls.", param="limits")


@dataclass(frozen=True)
class ApiKey:
    """What may be shown of a key. Times are Unix seconds.

    Attributes:
        prefix: its name.
        account, project: whose it is.
        name: what it is for.
        scope: what it may do.
        created: when it was made.
        expires: from when on it is refused, or None.
        revoked: since when it is refused, or None.
        last_used: to the minute, or None.
        limits: of its calls, with those of the keys it took the place of and of its successors.
        budget: of their spending, or None.
        spent: nano-USD of the budget, in the term that it is in.
    """

    prefix: str
    account: str
    project: str
    name: str
    scope: Scope
    created: int
    expires: int | None
    revoked: int | None
    last_used: int | None
    limits: Limits
    budget: Allowance | None
    spent: int

    @classmethod
    def of(cls, row: Sequence[Any], now: int) -> ApiKey:
        """Read it off a row of the store: the key's columns, then its limits' and its budget's."""
        prefix, account, project, name, scope, created, expires, revoked, last_used = row[:9]
        per_minute, concurrency, cap, period, alert, counted, spent = row[9:]
        budget = None if cap is None else Allowance(cap, period, alert)
        if budget is None or term(period, now) > counted:
            spent = 0
        return cls(
            prefix,
            account,
            project,
            name,
            Scope.from_json(scope),
            created,
            expires,
            revoked,
            last_used,
            Limits(per_minute, concurrency),
            budget,
            spent,
        )
