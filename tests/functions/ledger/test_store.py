"""What both databases promise, tried on both."""

import asyncio
import resource
import signal
import stat
import traceback

import pytest
from stores import add, lock, members, names, wait_for

from cloakwork.errors import BusyError, ConfigError, ServerError
from cloakwork_functions.ledger.open import open_store
from cloakwork_functions.ledger.sqlite import SqliteStore
from cloakwork_functions.ledger.statement import Statement
from cloakwork_functions.ledger.store import UnconfirmedError

PAY = Statement(
    "UPDATE accounts SET available = available + batch.amount FROM {batch} WHERE accounts.id = batch.id",
    "id text, amount bigint",
)

BALANCES = Statement("SELECT available FROM accounts")


def test_what_is_committed_is_seen_by_every_gateway(run, gateway):
    one, other = gateway(), gateway()

    def work():
        yield from add("a", "b")
        return (yield from lock("b"))

    assert run(one.transact(work())) == ["b"]
    assert run(one.read(names())) == run(other.read(names())) == ["a", "b"]


def test_work_that_fails_leaves_nothing(run, store):
    def work():
        yield from add("a")
        raise LookupError("a fault of its own")

    with pytest.raises(LookupError, match="a fault of its own"):
        run(store.transact(work()))
    run(store.transact(add("b")))
    assert run(store.read(names())) == ["b"]


@pytest.mark.parametrize("row", [("a", 1 << 63), ("a", 1 << 64), ("a", -1), ("a\0b", 1), ("\ud800", 1)])
def test_a_row_that_cannot_be_is_rejected_with_all_beside_it(run, store, row):
    def work():
        yield from add("a")
        yield PAY([row])

    with pytest.raises(ServerError) as caught:
        run(store.transact(work()))
    assert caught.value.code == "internal"
    assert run(store.read(names())) == []


def test_a_commit_that_is_rejected_is_undone(run, store, rival):
    rival("CREATE TABLE late (id TEXT REFERENCES accounts (id) DEFERRABLE INITIALLY DEFERRED)")

    def work():
        yield from add("a")
        yield Statement("INSERT INTO late VALUES ('nobody')")()

    with pytest.raises(ServerError) as caught:
        run(store.transact(work()))
    assert caught.value.code == "internal"
    run(store.transact(add("b")))
    assert run(store.read(names())) == ["b"]


def test_what_is_rejected_is_not_quoted(run, store):
    name = "47" * 4
    with pytest.raises(ServerError) as caught:
        run(store.transact(add(name, name)))
    assert name not in "".join(traceback.format_exception(caught.value))


def test_text_that_looks_like_an_escape_is_text(run, store):
    run(store.transact(add(r"\u0000")))
    assert run(store.read(names())) == [r"\u0000"]


def test_read_sees_only_what_is_committed(run, store, rival):
    rival("BEGIN")
    rival("INSERT INTO accounts (id, name, created, head) VALUES ('a', '', 0, '')")
    assert run(store.read(names())) == []
    rival("COMMIT")
    assert run(store.read(names())) == ["a"]


def test_read_does_not_write(run, store):
    with pytest.raises(BusyError):
        run(store.read(add("a")))
    assert run(store.read(names())) == []


def test_many_at_once_are_all_done(run, store):
    async def calls():
        await asyncio.gather(*(store.transact(add(f"{number:02}")) for number in range(30)))
        return await asyncio.gather(*(store.read(names()) for _ in range(30)))

    assert run(calls()) == [[f"{number:02}" for number in range(30)]] * 30


def test_gateways_that_lock_before_they_read_decide_by_the_latest(run, gateway):
    stores = gateway(), gateway()
    run(stores[0].transact(add("a")))

    def double():
        yield from lock("a")
        ((balance,),) = yield BALANCES()
        yield PAY([("a", balance or 1)])

    async def calls():
        await asyncio.gather(*(store.transact(double()) for store in stores for _ in range(20)))
        return await stores[0].read(balances())

    assert run(calls()) == [(1 << 39,)]


def balances():
    return (yield BALANCES())


def test_a_caller_that_leaves_does_not_disturb_the_next(run, store):
    async def calls():
        left = asyncio.create_task(store.transact(add("a")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        left.cancel()
        await store.transact(add("b"))

    run(calls())
    assert run(store.read(names())) == ["a", "b"]


def test_a_locked_database_is_busy_until_it_is_free(run, gateway, rival):
    store = gateway(lock_seconds=0.1)
    run(store.transact(add("a")))
    rival("BEGIN")
    rival("UPDATE accounts SET name = 'rival'")

    def work():
        yield from add("b")
        yield from lock("a")

    with pytest.raises(BusyError, match=r"SQLITE_BUSY|LockNotAvailableError") as caught:
        run(store.transact(work()))
    assert (caught.value.code, caught.value.retry_after) == ("ledger_unavailable", 1)
    assert not isinstance(caught.value, UnconfirmedError)
    assert run(store.read(names())) == ["a"]
    rival("ROLLBACK")
    run(store.transact(work()))
    assert run(store.read(names())) == ["a", "b"]


def test_a_full_database_is_busy_until_there_is_room(run, sqlite_path):
    store = SqliteStore(sqlite_path)
    store._writer.execute("PRAGMA max_page_count = 1")  # as small as it is now
    with pytest.raises(BusyError, match="SQLITE_FULL"):
        run(store.transact(add(*(f"{number:0500}" for number in range(100)))))
    assert run(store.read(names())) == []
    store._writer.execute("PRAGMA max_page_count = 10000")
    run(store.transact(add("a")))
    assert run(store.read(names())) == ["a"]
    run(store.close())


def test_a_commit_that_the_disk_fails_is_not_said_to_be_undone(run, sqlite_path):
    store = SqliteStore(sqlite_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (sqlite_path.with_name("books.db-wal").stat().st_size, hard))
    try:
        with pytest.raises(UnconfirmedError, match="may have been written"):
            run(store.transact(add("a")))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    run(store.transact(add("b")))
    assert "b" in run(store.read(names()))
    run(store.close())


def test_a_closed_store_is_busy(run, store):
    run(store.close())
    with pytest.raises(BusyError):
        run(store.transact(add("a")))
    with pytest.raises(BusyError):
        run(store.read(names()))


def test_gateways_that_start_at_once_make_the_tables_once(run, database, rival):
    with members(database, 4) as started:
        assert len({process.stdout.readline() for process in started}) == 4
        assert rival("SELECT version FROM migrations") == [(1,)]


def test_a_database_of_a_later_version_is_refused_and_left_alone(run, gateway, rival):
    gateway()
    rival("INSERT INTO migrations VALUES (999)")
    with pytest.raises(ConfigError, match="other_schema"):
        gateway()


def test_a_gateway_that_is_killed_is_found_dead_and_one_that_lives_is_not(run, gateway, database):
    one, other = gateway(), gateway()
    with members(database, 2) as (victim, survivor):
        name = victim.stdout.readline().strip()
        survivor.stdout.readline()
        assert run(one.dead()) == run(other.dead()) == []
        victim.send_signal(signal.SIGKILL)
        assert wait_for(lambda: run(one.dead()), run) == run(other.dead()) == [name]
        run(one.forget([name]))
        assert run(one.dead()) == run(other.dead()) == []
    assert run(one.dead()) == []


def test_only_its_owner_reads_the_file(run, sqlite_path):
    store = run(open_store(sqlite_path))
    run(store.transact(add("a")))
    files = [path for path in sqlite_path.parent.glob("books.db*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    run(store.close())
