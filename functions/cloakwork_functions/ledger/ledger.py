"""Hold, then settle or release: what every call does to the books.

    hold      customer → held       before anything runs, on disk before the model is asked
    settle    held     → revenue    before the answer is sent
    release   held     → customer   the call failed, or its hold expired

A run has one hold and at most one end; the database refuses a second. Amounts are whole nano-USD.
"""

from __future__ import annotations

import hmac
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cloakwork.errors import BusyError, InputError

from .database import Writer, open_database
from .keys import Keys

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from cloakwork.wire import Mode

__all__ = ["Charge", "Ledger"]

HELD = "held"
REVENUE = "revenue"


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
        idempotency: the client's name for the call, or None.
        body: the request's body; it is kept as an HMAC, and only when `idempotency` is given.
    """

    run: str
    account: str
    model: str
    mode: Mode
    records: int
    amount: int
    lifetime: float
    idempotency: str | None
    body: bytes


class Ledger:
    """The books of one gateway."""

    def __init__(self, path: Path) -> None:
        self._writer = Writer(path)
        self._reader = open_database(path)
        self.keys = Keys(self._reader)
        self._mac_key = _secret(self._reader, "request-mac")
        self._reaped = 0

    async def hold(self, charge: Charge) -> str:
        """Reserve the amount; return the run to settle, which is an earlier one's for a repeat.

        A repeat (same account, idempotency key and body) of a settled call may run again and is not
        charged again.

        Raises:
            BusyError: `in_flight` when the first such call has not ended; `ledger_unavailable`.
            InputError: `idempotency_mismatch` when the key was used for another request.
        """
        what = f"{charge.model}\0{charge.mode}\0".encode()
        mac = hmac.digest(self._mac_key, what + charge.body, "sha256") if charge.idempotency else None
        return await self._writer.write(lambda connection: _hold(connection, charge, mac))

    async def settle(self, run: str) -> None:
        """Take the amount held; settling twice takes it once."""
        await self._writer.write(lambda connection: _end(connection, run, "settle", REVENUE))

    async def release(self, run: str) -> None:
        """Give back the amount held, unless the run has already ended."""
        await self._writer.write(lambda connection: _end(connection, run, "release", None))

    async def reap(self) -> int:
        """Release the holds that expired, and say how many; they are runs whose gateway died."""
        now = int(time.time())
        since, self._reaped = self._reaped, now
        return await self._writer.write(lambda connection: _reap(connection, since, now))

    def charged(self, run: str) -> int | None:
        """Tell what a run was charged in nano-USD, or None when it was not."""
        row = self._reader.execute(
            "SELECT amount FROM entries WHERE run = ? AND kind = 'settle'", (run,)
        ).fetchone()
        return None if row is None else int(row[0])

    def ready(self) -> bool:
        """Tell whether the books can be read."""
        return bool(self._reader.execute("SELECT 1").fetchone() == (1,))

    def close(self) -> None:
        """Commit what waits and let go of the database."""
        self._writer.close()
        self._reader.close()


def _hold(connection: sqlite3.Connection, charge: Charge, mac: bytes | None) -> str:
    if charge.idempotency is not None:
        earlier = connection.execute(
            "SELECT id, body_mac, end.kind FROM runs "
            "LEFT JOIN entries AS end ON end.run = id AND end.kind <> 'hold' "
            "WHERE account = ? AND idempotency = ? ORDER BY runs.rowid DESC LIMIT 1",
            (charge.account, charge.idempotency),
        ).fetchone()
        if earlier is not None and earlier[1] != mac:
            raise InputError(
                "idempotency_mismatch",
                "This idempotency key was used for another request; make a new key for each.",
            )
        if earlier is not None and earlier[2] is None:
            raise BusyError(
                "in_flight", "The first call with this idempotency key has not ended.", retry_after=1
            )
        if earlier is not None and earlier[2] == "settle":
            return str(earlier[0])
    now = time.time()
    connection.execute(
        "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            charge.run,
            charge.account,
            charge.model,
            charge.mode,
            charge.records,
            charge.idempotency,
            mac,
            int(now + charge.lifetime) + 1,
        ),
    )
    connection.execute(
        "INSERT INTO entries VALUES (?, 'hold', ?, ?, ?, ?)",
        (charge.run, _customer(charge.account), HELD, charge.amount, int(now)),
    )
    return charge.run


def _end(connection: sqlite3.Connection, run: str, kind: str, credit: str | None) -> None:
    """Close a run; `credit` None gives the amount back to whom it was taken from."""
    connection.execute(
        "INSERT INTO entries SELECT run, ?, credit, ifnull(?, debit), amount, ? FROM entries AS hold "
        "WHERE run = ? AND kind = 'hold' "
        "AND NOT EXISTS (SELECT 1 FROM entries WHERE run = hold.run AND kind <> 'hold')",
        (kind, credit, int(time.time()), run),
    )


def _reap(connection: sqlite3.Connection, since: int, now: int) -> int:
    expired = connection.execute(
        "SELECT id FROM runs WHERE expires >= ? AND expires < ? "
        "AND NOT EXISTS (SELECT 1 FROM entries WHERE run = id AND kind <> 'hold')",
        (since, now),
    ).fetchall()
    for (run,) in expired:
        _end(connection, run, "release", None)
    return len(expired)


def _secret(connection: sqlite3.Connection, name: str) -> bytes:
    connection.execute("INSERT OR IGNORE INTO secrets VALUES (?, ?)", (name, secrets.token_bytes(32)))
    return bytes(connection.execute("SELECT value FROM secrets WHERE name = ?", (name,)).fetchone()[0])


def _customer(account: str) -> str:
    return f"customer:{account}"
