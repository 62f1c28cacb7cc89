"""Durable rows of a ledger per second, 256 writers at once: ours against SQLite one row at a time.

A call of ours leaves five rows: the run, its hold's entry, its end, its charge's entry, and a signed receipt
in the account's chain; what it reads, checks, updates and deletes on the way is not counted. The peer inserts
an entry and commits. Both have WAL and synchronous FULL, on the same disk, in turns.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from harness import in_turns, more_is_better, write

from cloakwork.price import Price
from cloakwork.wire import Mode
from cloakwork_functions.ledger import Charge, End, Ledger, Outcome, Secrets, SigningKeys, open_store
from cloakwork_functions.ledger.accounts import Source, create_account, credit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cloakwork_functions.ledger.statement import Work

ROUNDS = 7
SECONDS = 3.0
WRITERS = 256
ROWS = 5
SCHEMA = (
    "CREATE TABLE entries (id TEXT, kind TEXT, debit TEXT, credit TEXT, amount INTEGER, at INTEGER, "
    "PRIMARY KEY (id, kind)) STRICT"
)
PRICE = Price(1, {"record": 1_000_000})
SECRETS = Secrets(bytes(32))


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        numbers = count()
        pairs = in_turns(
            ROUNDS,
            lambda: asyncio.run(ours(Path(scratch) / f"ours{next(numbers)}.db")),
            lambda: theirs(Path(scratch) / f"theirs{next(numbers)}.db"),
        )
    note = f"{WRITERS} writers, WAL, synchronous FULL; ours checks credit and signs receipts on the way"
    write("ledger_rows", [more_is_better(pairs, "ledger.rows", "rows/s", "SQLite, one by one", note)])


async def ours(path: Path) -> float:
    """Rows per second of whole calls, each a hold and a settlement."""
    store = await open_store(path)
    signing = SigningKeys(store, SECRETS)
    await signing.refresh()
    await store.transact(account())
    ledger = Ledger(store, SECRETS, signing.receipt)
    runs = (f"req_{number:016x}" for number in count())
    began = time.perf_counter()
    done = await asyncio.gather(*(calls(ledger, runs, began + SECONDS) for _ in range(WRITERS)))
    elapsed = time.perf_counter() - began
    await ledger.close()
    await store.close()
    return ROWS * sum(done) / elapsed


async def calls(ledger: Ledger, runs: Iterator[str], until: float) -> int:
    done = 0
    while time.perf_counter() < until:
        run = next(runs)
        charge = Charge(run, "a", "a/p", "cw_a", "cw_a", "m", 1, "d" * 64, Mode.PLAINTEXT, PRICE, 1000, 60.0)
        await ledger.hold(charge)
        await ledger.end(
            End(charge, Outcome.ANSWERED, {"call": 1, "record": 1}, request="1" * 64, answer="2" * 64)
        )
        done += 1
    return done


def account() -> Work[None]:
    yield from create_account("a")
    yield from credit("a", 10**15, Source.CASH, "first")


def theirs(path: Path) -> float:
    """Rows per second, each a transaction."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(SCHEMA)
    began = time.perf_counter()
    done = 0
    while time.perf_counter() - began < SECONDS:
        row = (f"req_{done:016x}", "hold", "available:a", "held:a", 1000, 0)
        connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)", row)
        done += 1
    elapsed = time.perf_counter() - began
    connection.close()
    return done / elapsed


if __name__ == "__main__":
    main()
