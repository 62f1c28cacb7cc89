"""What to try a store with: work on the table of accounts, and gateways in processes of their own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from contextlib import contextmanager

from cloakwork_functions.ledger.statement import Statement

PATIENCE = 30.0
ADD = Statement("INSERT INTO accounts (id, name, created, head) SELECT id, '', 0, '' FROM {batch}", "id text")
LOCK = Statement("SELECT accounts.id FROM accounts JOIN {batch} USING (id) {lock}", "id text")
ALL = Statement("SELECT id FROM accounts ORDER BY id")
MEMBER = """
import asyncio, sys
from pathlib import Path
from cloakwork_functions.ledger.open import open_store

async def main(database):
    url = database if "://" in database else None
    store = await open_store(Path(database), url)
    print(store.instance, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await store.close()

asyncio.run(main(sys.argv[1]))
"""


def add(*names):
    """Add accounts."""
    yield ADD([(name,) for name in names])


def lock(*names):
    """Lock accounts, and name those there are."""
    return [name for (name,) in (yield LOCK([(name,) for name in names]))]


def names():
    """Name all accounts."""
    return [name for (name,) in (yield ALL())]


@contextmanager
def members(database, count):
    """Start gateways, all at once: each says its name, and ends when nothing more is said to it."""
    command = [sys.executable, "-c", MEMBER, str(database)]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    try:
        yield started
    finally:
        for process in started:
            process.communicate(timeout=PATIENCE)


def wait_for(found, run):
    """Wait for something to be true, and return it; meanwhile the test's event loop runs on."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if done := found():
            return done
        run(asyncio.sleep(0.01))
    raise AssertionError("waited in vain")
