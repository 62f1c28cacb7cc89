"""Holds: who may call, as often as it may, with money enough, and not twice."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from cloakwork.errors import CloakworkError, error
from cloakwork.receipts import MOST

from .books import subjects
from .jobs import Ended, Held, Hold, Replay
from .limits import ANY
from .rate import headers, take
from .statement import Statement

if TYPE_CHECKING:
    from .books import Books
    from .rate import Standing
    from .statement import Row, Work

__all__ = ["hold_all"]

KEYS = Statement(
    "SELECT prefix, revoked, expires FROM keys WHERE prefix IN (SELECT key FROM {batch}) "
    "AND (revoked IS NOT NULL OR expires IS NOT NULL)",
    "key text",
)
LIMITS = Statement(
    "SELECT batch.family, limits.key, limits.model, per_minute, concurrency, coalesce(full_at, 0) "
    "FROM {batch} JOIN limits ON limits.key IN (batch.family, '*') "
    "LEFT JOIN rates ON rates.key = batch.family AND rates.model = limits.model",
    "family text",
)
OPEN = Statement(
    "SELECT holds.key, model, count(*) FROM holds WHERE holds.key IN (SELECT family FROM {batch}) "
    "GROUP BY holds.key, model",
    "family text",
)
# The one call under each name that has not ended or whose answer is kept. A name may have been used by calls
# that failed, before it or, by the clocks of other gateways, after.
EARLIER = Statement(
    "SELECT runs.account, runs.idempotency, runs.id, request_mac, sealed, amount, receipt FROM {batch} "
    "JOIN runs ON runs.account = batch.account AND runs.idempotency = batch.idempotency "
    "LEFT JOIN ends ON ends.run = runs.id LEFT JOIN answers ON answers.run = runs.id "
    "LEFT JOIN receipts ON receipts.run = runs.id WHERE ends.run IS NULL OR answers.run IS NOT NULL",
    "account text, idempotency text",
)
WRITE_RUNS = Statement(
    "INSERT INTO runs SELECT id, account, project, key, model, model_digest, mode, price, at, idempotency, "
    "request_mac FROM {batch}",
    "id text, account text, project text, key text, model text, model_digest text, mode text, price bigint, "
    "at bigint, idempotency text, request_mac text",
)
WRITE_HOLDS = Statement(
    "INSERT INTO holds SELECT run, account, project, family, model, amount, gateway, at, expires "
    "FROM {batch}",
    "run text, account text, project text, family text, model text, amount bigint, gateway text, at bigint, "
    "expires bigint",
)
WRITE_RATES = Statement(
    "INSERT INTO rates SELECT family, model, full_at FROM {batch} WHERE true "
    "ON CONFLICT (key, model) DO UPDATE SET full_at = excluded.full_at",
    "family text, model text, full_at bigint",
)


@dataclass(frozen=True)
class Limit:
    """What a family of keys may do, on a model or on all (`*`)."""

    model: str
    per_minute: int | None
    concurrency: int | None


class Earlier(NamedTuple):
    """A call made before, and its answer and charge if it has ended."""

    run: str
    mac: str | None
    sealed: str | None = None
    amount: int | None = None
    receipt: str | None = None


@dataclass
class Desk:
    """What holds are decided by, beside the books; kept up to date from one hold of the batch to the next.

    Attributes:
        refused: the code that each key is refused with that has ended.
        limits: of each family of keys, by model or `*`.
        full_at: when each bucket is full again, microseconds, by family and model or `*`.
        open: calls under way, likewise.
        earlier: calls made before, by account and the client's name for them.
        rates: the buckets that calls were taken out of.
    """

    refused: dict[str, str]
    limits: dict[str, dict[str, Limit]]
    full_at: dict[tuple[str, str], int]
    open: dict[tuple[str, str], int]
    earlier: dict[tuple[str, str | None], Earlier]
    rates: dict[tuple[str, str], int] = field(default_factory=dict)


def hold_all(
    books: Books, holds: list[Hold], gateway: str, micros: int
) -> Work[list[Held | Replay | Exception]]:
    """Decide each hold and write those that stand; `micros` is the time in microseconds."""
    if not holds:
        return []
    desk = yield from _open_desk(holds, books.now)
    outcomes: list[Held | Replay | Exception] = []
    standing: list[Hold] = []
    for hold in holds:
        try:
            outcome = _decide(books, desk, hold, micros)
        except CloakworkError as refusal:
            outcomes.append(refusal)
            continue
        outcomes.append(outcome)
        if isinstance(outcome, Held):
            standing.append(hold)
    yield WRITE_RUNS(_run(hold, books.now) for hold in standing)
    yield WRITE_HOLDS(_hold(hold, gateway, books.now) for hold in standing)
    yield WRITE_RATES((*name, full_at) for name, full_at in desk.rates.items())
    return outcomes


def _open_desk(holds: list[Hold], now: int) -> Work[Desk]:
    keys = [(key,) for key in sorted({hold.charge.key for hold in holds})]
    refused = {
        prefix: "revoked_key" if revoked is not None else "expired_key"
        for prefix, revoked, expires in (yield KEYS(keys))
        if revoked is not None or expires <= now
    }
    families = [(family,) for family in sorted({hold.charge.family for hold in holds})]
    limits: dict[str, dict[str, Limit]] = {}
    full_at: dict[tuple[str, str], int] = {}
    for family, owner, model, per_minute, concurrency, full in (yield LIMITS(families)):
        own = limits.setdefault(family, {})
        if owner == family or model not in own:  # a key's own limit goes before that of every key
            own[model] = Limit(model, per_minute, concurrency)
        full_at[family, model] = full
    bounded = [
        (family,)
        for family, own in limits.items()
        if any(limit.concurrency is not None for limit in own.values())
    ]
    opened: dict[tuple[str, str], int] = {}
    for family, model, count in (yield OPEN(bounded)):
        opened[family, model] = count
        opened[family, ANY] = opened.get((family, ANY), 0) + count
    named = {(hold.charge.account, hold.idempotency) for hold in holds if hold.idempotency is not None}
    earlier = {(row[0], row[1]): Earlier(*row[2:]) for row in (yield EARLIER(sorted(named)))}
    return Desk(refused, limits, full_at, opened, earlier)


def _decide(books: Books, desk: Desk, hold: Hold, micros: int) -> Held | Replay:
    charge = hold.charge
    if code := desk.refused.get(charge.key):
        # It may have been let in before: what counts is the moment of the hold.
        raise error(code, f"The API key {charge.key} has ended; ask its owner for a new one.")
    if charge.amount > MOST:
        raise error("amount_invalid", "The call may cost more than a receipt can state; send fewer records.")
    name = charge.account, hold.idempotency
    if hold.idempotency is not None and name in desk.earlier:
        return _repeat(hold, desk.earlier[name])
    standings = _limited(desk, hold, micros)
    family = charge.family
    books.hold(charge.run, charge.account, subjects(charge.project, family), charge.amount)
    for standing in standings:
        desk.full_at[family, standing.model] = standing.full_at
        desk.rates[family, standing.model] = standing.full_at
    for model in (charge.model, ANY):
        desk.open[family, model] = desk.open.get((family, model), 0) + 1
    if hold.idempotency is not None:
        desk.earlier[name] = Earlier(charge.run, hold.mac)
    return Held(tuple(standings))


def _repeat(hold: Hold, earlier: Earlier) -> Replay:
    """What becomes of a call made before.

    Raises:
        InputError: `idempotency_mismatch`.
        BusyError: `in_flight`.
    """
    if earlier.mac != hold.mac:
        raise error(
            "idempotency_mismatch",
            "This idempotency key was used for another request; make a new key for each.",
        )
    if earlier.sealed is None:
        raise error(
            "in_flight", "The first call with this idempotency key has not ended; wait for it.", retry_after=1
        )
    return Replay(earlier.run, earlier.sealed, Ended(earlier.amount or 0, earlier.receipt))


def _limited(desk: Desk, hold: Hold, micros: int) -> list[Standing]:
    """Check the limits of a call's key for its model and for all; give where it stands with each rate.

    Raises:
        BusyError: `rate_limited` or `concurrency_limited`; nothing was counted.
    """
    family = hold.charge.family
    own = desk.limits.get(family, {})
    standings = []
    for model in (hold.charge.model, ANY):
        limit = own.get(model)
        if limit is None:
            continue
        if limit.concurrency is not None and desk.open.get((family, model), 0) >= limit.concurrency:
            raise error(
                "concurrency_limited",
                f"This API key has {limit.concurrency} calls under way, all that it may; let one end first.",
                retry_after=1,
            )
        if limit.per_minute is not None:
            standing = take(model, limit.per_minute, desk.full_at[family, model], micros)
            if standing.retry:
                raise _too_often(standing)
            standings.append(standing)
    return standings


def _too_often(standing: Standing) -> CloakworkError:
    return error(
        "rate_limited",
        f"This API key may make {standing.per_minute} calls at once, refilled at {standing.per_minute} a "
        "minute; wait as long as Retry-After says.",
        retry_after=math.ceil(standing.retry),
        headers=headers((standing,)),
    )


def _run(hold: Hold, now: int) -> Row:
    charge = hold.charge
    who = charge.run, charge.account, charge.project, charge.key
    what = charge.exact, charge.model_digest, str(charge.mode), charge.price.version
    return (*who, *what, now, hold.idempotency, hold.mac)


def _hold(hold: Hold, gateway: str, now: int) -> Row:
    charge = hold.charge
    who: tuple[Any, ...] = charge.run, charge.account, charge.project, charge.family, charge.model
    return (*who, charge.amount, gateway, now, int(now + charge.lifetime) + 1)
