"""Hold, then settle or release: what every call does to the books.

    hold      customer → held       before anything runs, on disk before the model is asked
    settle    held     → revenue    before the answer is sent
    release   held     → customer   the call failed, or its hold expired

A run has one hold and at most one end; the database refuses a second. Amounts are whole nano-USD.
"""

from __future__ import annotations

import hmac
import json
import secrets
import sqlite3
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from cloakwork.errors import BusyError, CloakworkError, InputError

from .database import Writer, open_database
from .instance import Instance
from .keys import Keys

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from cloakwork.wire import Mode

__all__ = ["Charge", "Ledger"]


@dataclass(frozen=True, slots=True)
class Charge:
    """What a call will cost, and how to know it again.

    Attributes:
        run: the server's name for the call.
        account: prefix of the API key.
        model: `name@version`.
        mode: the privacy mode.
        records: how many records the call holds.
        amount: nano-USD.
        lifetime: seconds after which an open hold is released.
    """

    run: str
    account: str
    model: str
    mode: Mode
    records: int
    amount: int
    lifetime: float


@dataclass(frozen=True, slots=True)
class Hold:
    """A charge to be held: by which gateway, under which of the client's names, for which request."""

    charge: Charge
    gateway: str
    idempotency: str | None
    mac: str | None


@dataclass(frozen=True, slots=True)
class End:
    """A run to be ended: `kind` is settle or release."""

    run: str
    kind: str


@dataclass(frozen=True, slots=True)
class Reap:
    """Release open holds: those of gateways that died, and those that expired between two times."""

    dead: list[str]
    since: int
    now: int


Job: TypeAlias = Hold | End | Reap


class Ledger:
    """The books of one gateway."""

    def __init__(self, path: Path) -> None:
        self._writer: Writer[Job, str] = Writer(path, _apply)
        self._reader = open_database(path)
        self.keys = Keys(self._reader)
        self._mac_key = _secret(self._reader, "request-mac")
        self._instance = Instance(path.with_suffix(".gateways"))
        self._reaped = 0

    async def hold(self, charge: Charge, idempotency: str | None = None, request: bytes = b"") -> str:
        """Reserve the amount; return the run to settle, which is an earlier one's for a repeat.

        A repeat (same account, idempotency key and request) of a settled call may run again and is not
        charged again. The request is kept as an HMAC, and only under an idempotency key.

        Raises:
            BusyError: `in_flight` when the first such call has not ended; `ledger_unavailable`.
            InputError: `idempotency_mismatch` when the key was used for another request.
        """
        mac = None
        if idempotency is not None:
            what = f"{charge.model}\0{charge.mode}\0".encode() + request
            mac = hmac.digest(self._mac_key, what, "sha256").hex()
        return await self._writer.write(Hold(charge, self._instance.name, idempotency, mac))

    async def settle(self, run: str) -> None:
        """Take the amount held; settling twice takes it once."""
        await self._writer.write(End(run, "settle"))

    async def release(self, run: str) -> None:
        """Give back the amount held, unless the run has already ended."""
        await self._writer.write(End(run, "release"))

    async def reap(self) -> None:
        """Release the holds of gateways that died, and those that expired."""
        now = int(time.time())
        dead = self._instance.dead()
        await self._writer.write(Reap(dead, self._reaped, now))
        self._instance.forget(dead)
        self._reaped = now

    def ready(self) -> bool:
        """Tell whether the books can be read."""
        try:
            self._reader.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except sqlite3.Error:
            return False
        return True

    def close(self) -> None:
        """Commit what waits and let go of the database."""
        self._writer.close()
        self._reader.close()
        self._instance.close()


def _apply(connection: sqlite3.Connection, jobs: list[Job]) -> list[str | Exception]:
    """Write a batch: each statement takes all its rows at once, as JSON."""
    outcomes: dict[int, str | Exception] = {}
    holds = {at: job for at, job in enumerate(jobs) if isinstance(job, Hold)}
    outcomes |= _earlier(connection, holds)
    _insert_holds(connection, [job for at, job in holds.items() if at not in outcomes])
    _insert_ends(connection, [job for job in jobs if isinstance(job, End)])
    for job in jobs:
        if isinstance(job, Reap):
            _reap(connection, job)
    return [outcomes.get(at, job.charge.run if isinstance(job, Hold) else "") for at, job in enumerate(jobs)]


def _earlier(connection: sqlite3.Connection, holds: dict[int, Hold]) -> dict[int, str | Exception]:
    """Find the holds that name a call made before, and what is to become of each."""
    named = {at: hold for at, hold in holds.items() if hold.idempotency is not None}
    if not named:
        return {}
    found: dict[tuple[str, str | None], tuple[str, str | None, str | None]] = {}
    rows = connection.execute(
        "SELECT account, idempotency, runs.id, body_mac, "
        "(SELECT kind FROM entries WHERE run = runs.id AND kind <> 'hold') "
        "FROM json_each(?) AS wanted JOIN runs "
        "ON account = wanted.value ->> 0 AND idempotency = wanted.value ->> 1 ORDER BY runs.rowid",
        (json.dumps([(hold.charge.account, hold.idempotency) for hold in named.values()]),),
    )
    for account, idempotency, run, mac, end in rows:
        found[account, idempotency] = (run, mac, end)
    outcomes: dict[int, str | Exception] = {}
    for at, hold in named.items():
        name = (hold.charge.account, hold.idempotency)
        if name in found and (outcome := _repeat(hold, *found[name])):
            outcomes[at] = outcome
        else:
            found[name] = (hold.charge.run, hold.mac, None)
    return outcomes


def _repeat(hold: Hold, run: str, mac: str | None, end: str | None) -> str | CloakworkError | None:
    """Say what becomes of a call made before: nothing special if that one failed and was released."""
    if end == "release":
        return None
    if mac != hold.mac:
        return InputError(
            "idempotency_mismatch",
            "This idempotency key was used for another request; make a new key for each.",
        )
    if end is None:
        return BusyError(
            "in_flight", "The first call with this idempotency key has not ended; wait for it.", retry_after=1
        )
    return run


def _insert_holds(connection: sqlite3.Connection, holds: Iterable[Hold]) -> None:
    now = time.time()
    rows = [
        (
            charge.run,
            charge.account,
            charge.model,
            charge.mode,
            charge.records,
            hold.idempotency,
            hold.mac,
            hold.gateway,
            int(now + charge.lifetime) + 1,
            charge.amount,
        )
        for hold in holds
        for charge in (hold.charge,)
    ]
    if not rows:
        return
    batch = json.dumps(rows)
    connection.execute(
        "INSERT INTO runs SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, "
        "value ->> 5, value ->> 6, value ->> 7, value ->> 8 FROM json_each(?)",
        (batch,),
    )
    connection.execute(
        "INSERT INTO entries SELECT value ->> 0, 'hold', 'customer:' || (value ->> 1), 'held', "
        "value ->> 9, ? FROM json_each(?)",
        (int(now), batch),
    )


def _insert_ends(connection: sqlite3.Connection, ends: Iterable[End]) -> None:
    """End runs. One that has ended already, also within this batch, stays as it is."""
    batch = json.dumps([(end.run, end.kind) for end in ends])
    if batch == "[]":
        return
    connection.execute(
        "INSERT INTO entries SELECT run, value ->> 1, credit, "
        "iif(value ->> 1 = 'settle', 'revenue', debit), amount, ? "
        "FROM json_each(?) JOIN entries ON run = value ->> 0 AND kind = 'hold' "
        "WHERE true ON CONFLICT DO NOTHING",
        (int(time.time()), batch),
    )


def _reap(connection: sqlite3.Connection, reap: Reap) -> None:
    connection.execute(
        "INSERT INTO entries SELECT run, 'release', credit, debit, amount, ? FROM runs "
        "JOIN entries ON run = id AND kind = 'hold' "
        "WHERE (expires >= ? AND expires < ?) "
        "OR (expires >= ? AND gateway IN (SELECT value FROM json_each(?))) "
        "ON CONFLICT DO NOTHING",
        (reap.now, reap.since, reap.now, reap.now, json.dumps(reap.dead)),
    )


def _secret(connection: sqlite3.Connection, name: str) -> bytes:
    connection.execute("INSERT OR IGNORE INTO secrets VALUES (?, ?)", (name, secrets.token_bytes(32)))
    return bytes(connection.execute("SELECT value FROM secrets WHERE name = ?", (name,)).fetchone()[0])
