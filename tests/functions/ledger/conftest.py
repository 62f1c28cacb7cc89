"""Stores to test on: whatever asks for `store` runs on SQLite and on Postgres."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest
from calls import SECRETS, open_account

from cloakwork_functions.ledger import Ledger, SigningKeys
from cloakwork_functions.ledger.postgres import PostgresStore
from cloakwork_functions.ledger.sqlite import SqliteStore


@pytest.fixture
def run():
    """Run a coroutine on the test's event loop, the same one each time."""
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture
def sqlite_path(tmp_path):
    return tmp_path / "books.db"


@pytest.fixture(params=["sqlite", "postgres"])
def database(request):
    """A database of the test's own, empty: a path for SQLite, a URL for Postgres."""
    return request.getfixturevalue("sqlite_path" if request.param == "sqlite" else "postgres_url")


@pytest.fixture
def gateway(run, database):
    """Open the database as one more gateway: `gateway(**options)` returns its store."""
    opened = []

    async def join(**options):
        if isinstance(database, Path):
            return SqliteStore(database, **options)
        return await PostgresStore.open(database, **options)

    def gateway(**options):
        opened.append(run(join(**options)))
        return opened[-1]

    yield gateway
    for store in opened:
        run(store.close())


@pytest.fixture
def store(gateway):
    """The store of one gateway."""
    return gateway()


@pytest.fixture
def rival(run, database):
    """Somebody else's session: `rival(text)` says a statement in it and returns the rows."""
    if isinstance(database, Path):
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            yield lambda text: connection.execute(text).fetchall()
    else:
        connection = run(asyncpg.connect(database))
        yield lambda text: [tuple(row) for row in run(connection.fetch(text))]
        connection.terminate()


@pytest.fixture
def open_ledger(run):
    """Keep books on a store, as one gateway of several does."""
    opened = []

    def open_ledger(store, **options):
        signing = SigningKeys(store, SECRETS)
        run(signing.refresh())
        opened.append(Ledger(store, SECRETS, signing.receipt, **options))
        return opened[-1]

    yield open_ledger
    for ledger in opened:
        run(ledger.close())


@pytest.fixture
def ledger(run, store, open_ledger):
    """Books with one account that has credit."""
    run(store.transact(open_account()))
    return open_ledger(store)


@pytest.fixture
def unguarded(store, database, rival):  # the store makes the tables
    """Let the test change what is append-only, as a fault of the database or its owner might."""
    if isinstance(database, Path):
        for (name,) in rival("SELECT name FROM sqlite_master WHERE type = 'trigger'"):
            rival(f"DROP TRIGGER {name}")
    else:
        rival("DROP FUNCTION append_only CASCADE")
