import asyncio
import signal
import sqlite3
import subprocess
import sys

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cloakwork.errors import BusyError, ConfigError, InputError
from cloakwork.wire import Mode
from cloakwork_functions.ledger import Charge, Ledger
from cloakwork_functions.ledger.database import open_database


def hold(ledger, run="r1", *, idempotency=None, body=b"x", amount=7, lifetime=60.0, account="cw_a"):
    charge = Charge(run, account, "m@1", Mode.PLAINTEXT, 1, amount, lifetime)
    return ledger.hold(charge, idempotency, body)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "books.db"


@pytest.fixture
def ledger(path):
    ledger = Ledger(path)
    yield ledger
    ledger.close()


def entries(path):
    connection = sqlite3.connect(path)
    try:
        return connection.execute(
            "SELECT run, kind, debit, credit, amount FROM entries ORDER BY run, kind"
        ).fetchall()
    finally:
        connection.close()


def test_hold_then_settle_moves_the_amount_to_revenue(ledger, path):
    async def call():
        run = await hold(ledger)
        await ledger.settle(run)
        await ledger.settle(run)

    asyncio.run(call())
    assert entries(path) == [
        ("r1", "hold", "customer:cw_a", "held", 7),
        ("r1", "settle", "held", "revenue", 7),
    ]


def test_release_gives_the_amount_back_and_ends_the_run(ledger, path):
    async def call():
        run = await hold(ledger)
        await ledger.release(run)
        await ledger.settle(run)

    asyncio.run(call())
    assert entries(path)[1] == ("r1", "release", "held", "customer:cw_a", 7)


def test_settle_and_release_in_one_batch_end_a_run_once(ledger, path):
    async def call():
        await hold(ledger)
        await asyncio.gather(ledger.settle("r1"), ledger.release("r1"), ledger.settle("r1"))

    asyncio.run(call())
    assert len(entries(path)) == 2


def test_a_repeat_of_a_settled_call_is_not_held_again(ledger, path):
    async def call():
        await ledger.settle(await hold(ledger, "r1", idempotency="k"))
        return await hold(ledger, "r2", idempotency="k")

    assert asyncio.run(call()) == "r1"
    assert len(entries(path)) == 2


def test_a_repeat_of_an_open_call_has_to_wait(ledger):
    async def call():
        await hold(ledger, "r1", idempotency="k")
        await hold(ledger, "r2", idempotency="k")

    with pytest.raises(BusyError) as refused:
        asyncio.run(call())
    assert refused.value.code == "in_flight"


def test_two_of_the_same_in_one_batch_are_held_once(ledger, path):
    async def call():
        return await asyncio.gather(
            *(hold(ledger, f"r{n}", idempotency="k") for n in range(20)), return_exceptions=True
        )

    outcomes = asyncio.run(call())
    assert sum(isinstance(outcome, str) for outcome in outcomes) == 1
    assert len(entries(path)) == 1


def test_a_repeat_of_a_failed_call_is_a_new_call(ledger):
    async def call():
        await ledger.release(await hold(ledger, "r1", idempotency="k"))
        return await hold(ledger, "r2", idempotency="k", body=b"sealed anew")

    assert asyncio.run(call()) == "r2"


@pytest.mark.parametrize("other", [{"body": b"y"}, {"body": b""}])
def test_the_same_key_for_another_request_is_refused(ledger, other):
    async def call():
        await ledger.settle(await hold(ledger, "r1", idempotency="k"))
        await hold(ledger, "r2", idempotency="k", **other)

    with pytest.raises(InputError) as refused:
        asyncio.run(call())
    assert refused.value.code == "idempotency_mismatch"


def test_idempotency_keys_are_an_accounts_own(ledger):
    async def call():
        await ledger.settle(await hold(ledger, "r1", idempotency="k"))
        return await hold(ledger, "r2", idempotency="k", account="cw_b")

    assert asyncio.run(call()) == "r2"


def test_expired_holds_are_released_and_others_are_not(ledger, path):
    async def call():
        await hold(ledger, "old", lifetime=-10.0)
        await hold(ledger, "new")
        await ledger.reap()
        await ledger.reap()

    asyncio.run(call())
    assert [(run, kind) for run, kind, *_ in entries(path)] == [
        ("new", "hold"),
        ("old", "hold"),
        ("old", "release"),
    ]


def test_holds_of_a_gateway_that_died_are_released_at_once_and_those_of_the_living_are_not(path, ledger):
    script = f"""
import asyncio, os, signal
from pathlib import Path
from cloakwork_functions.ledger import Charge, Ledger
ledger = Ledger(Path({str(path)!r}))
charge = Charge("dead", "cw_a", "m@1", "plaintext", 1, 7, 60.0)
asyncio.run(ledger.hold(charge, "k", b"x"))
os.kill(os.getpid(), signal.SIGKILL)
"""

    async def call():
        await hold(ledger, "alive")
        await ledger.reap()
        return await hold(ledger, "again", idempotency="k")

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL
    assert asyncio.run(call()) == "again"
    kinds = [(run, kind) for run, kind, *_ in entries(path)]
    assert kinds == [("again", "hold"), ("alive", "hold"), ("dead", "hold"), ("dead", "release")]
    assert len(list(path.with_suffix(".gateways").iterdir())) == 1


def test_a_fault_in_one_batch_is_told_and_the_next_batch_is_written(ledger, path, monkeypatch):
    def broken(connection, jobs):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(ledger._writer, "_apply", broken)
        with pytest.raises(BusyError):
            asyncio.run(hold(ledger, "r1"))
    assert asyncio.run(hold(ledger, "r2")) == "r2"
    assert [run for run, *_ in entries(path)] == ["r2"]


def test_closing_commits_what_waits_and_refuses_what_comes_later(path):
    async def call():
        ledger = Ledger(path)
        await hold(ledger)
        waiting = [asyncio.create_task(ledger.settle("r1")) for _ in range(3)]
        await asyncio.sleep(0)
        ledger.close()
        await asyncio.gather(*waiting)
        with pytest.raises(BusyError):
            await ledger.settle("r1")

    asyncio.run(call())
    assert [kind for _, kind, *_ in entries(path)] == ["hold", "settle"]


def test_books_that_cannot_be_read_are_not_ready(path, ledger):
    assert ledger.ready()
    ledger._reader.close()
    assert not ledger.ready()


def test_a_locked_database_is_busy_and_recovers_by_itself(ledger, path):
    other = open_database(path)
    ledger._writer._connection.execute("PRAGMA busy_timeout = 50")
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(BusyError) as refused:
        asyncio.run(hold(ledger))
    assert refused.value.code == "ledger_unavailable"
    other.execute("ROLLBACK")
    other.close()
    assert asyncio.run(hold(ledger)) == "r1"


def test_books_of_another_version_are_refused_by_name(path):
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ConfigError, match="schema 99"):
        Ledger(path)


def test_bodies_are_not_stored(ledger, path):
    asyncio.run(hold(ledger, idempotency="k", body=b"a distinctive body"))
    stored = b"".join(file.read_bytes() for file in path.parent.glob("books.db*"))
    assert b"cw_a" in stored
    assert b"distinctive" not in stored


def test_a_commit_is_on_disk_when_it_returns(ledger):
    (mode,) = ledger._writer._connection.execute("PRAGMA journal_mode").fetchone()
    (level,) = ledger._writer._connection.execute("PRAGMA synchronous").fetchone()
    assert (mode, level) == ("wal", 2)


class Books(RuleBasedStateMachine):
    """Any order of holds, ends and repeats keeps the books balanced and every run ended at most once."""

    def __init__(self):
        super().__init__()
        import tempfile
        from pathlib import Path

        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "books.db"
        self.ledger = Ledger(self.path)
        self.names = 0
        self.ended = {}

    @rule(amount=st.integers(0, 10**12), idempotency=st.none() | st.sampled_from("abc"))
    def hold(self, amount, idempotency):
        self.names += 1
        try:
            asyncio.run(hold(self.ledger, f"r{self.names}", amount=amount, idempotency=idempotency))
        except BusyError:
            assert idempotency is not None

    @rule(data=st.data(), kind=st.sampled_from(["settle", "release"]))
    def end(self, data, kind):
        run = f"r{data.draw(st.integers(1, max(1, self.names)))}"
        asyncio.run(getattr(self.ledger, kind)(run))
        if any(entry[0] == run for entry in entries(self.path)):
            self.ended.setdefault(run, kind)

    @invariant()
    def balanced(self):
        rows = entries(self.path)
        accounts = {}
        for _, _, debit, credit, amount in rows:
            accounts[debit] = accounts.get(debit, 0) - amount
            accounts[credit] = accounts.get(credit, 0) + amount
        held = {run: amount for run, kind, _, _, amount in rows if kind == "hold"}
        ends = [(run, kind) for run, kind, *_ in rows if kind != "hold"]
        assert sum(accounts.values()) == 0
        assert dict(ends) == self.ended
        assert len(ends) == len(self.ended)
        assert accounts.get("held", 0) == sum(amount for run, amount in held.items() if run not in self.ended)

    def teardown(self):
        self.ledger.close()
        self.folder.cleanup()


TestBooks = Books.TestCase
TestBooks.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)
