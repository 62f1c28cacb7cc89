"""What only a server can do to a ledger: deadlocks, sessions cut, commits unanswered, crashes."""

import asyncio
import os
import signal
from urllib.parse import urlsplit

import pytest
from stores import LOCK, add, members, names, wait_for

from cloakwork.errors import BusyError, ConfigError
from cloakwork_functions.ledger import server
from cloakwork_functions.ledger.open import open_store
from cloakwork_functions.ledger.postgres import PostgresStore
from cloakwork_functions.ledger.statement import Statement
from cloakwork_functions.ledger.store import UnconfirmedError

SETTING = Statement("SELECT current_setting('synchronous_commit')")
SESSION = """
    SELECT pid FROM pg_locks
    WHERE locktype = 'advisory' AND (classid::bigint << 32) | objid::bigint = hashtextextended('{}', 0)"""


class Wire:
    """The network between gateway and server.

    Attributes:
        cut: None, or when to break at the next commit: "before" or "after" the server does it.
    """

    def __init__(self, url):
        self._server = urlsplit(url)
        self._carried = set()
        self.cut = None

    async def open(self):
        """Return the URL at this end."""
        self._listener = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        port = self._listener.sockets[0].getsockname()[1]
        return self._server._replace(netloc=f"postgres@127.0.0.1:{port}").geturl()

    async def close(self):
        self._listener.close()
        await asyncio.gather(*self._carried)

    async def _carry(self, client, answers):
        self._carried.add(asyncio.current_task())
        server, requests = await asyncio.open_connection(self._server.hostname, self._server.port)
        back = asyncio.create_task(pump(server, answers))
        while said := await client.read(1 << 16):
            if self.cut and b"COMMIT\0" in said:
                when, self.cut = self.cut, None
                back.cancel()
                await asyncio.wait([back])
                if when == "after":
                    requests.write(said)
                    await server.read(1 << 16)
                break
            requests.write(said)
        back.cancel()
        answers.transport.abort()
        requests.transport.abort()


async def pump(source, sink):
    while said := await source.read(1 << 16):
        sink.write(said)


@pytest.fixture
def database(postgres_url):
    return postgres_url


async def wait(task):
    return await task


@pytest.mark.parametrize(("cut", "written"), [("before", []), ("after", ["a"])])
def test_a_commit_without_an_answer_may_be_written_and_is_not_said_to_be_undone(run, database, cut, written):
    wire = Wire(database)
    store = run(PostgresStore.open(run(wire.open())))
    wire.cut = cut
    with pytest.raises(UnconfirmedError, match="may have been written"):
        run(store.transact(add("a")))
    assert run(store.read(names())) == written
    run(store.transact(add("b")))
    assert run(store.read(names())) == [*written, "b"]
    run(store.close())
    run(wire.close())


def test_a_server_that_crashes_is_busy_until_it_is_back_and_has_what_was_acknowledged(run, store, cluster):
    run(store.transact(add("a")))
    run(store.read(names()))
    with cluster.down():
        for _ in range(2):
            with pytest.raises(BusyError):
                run(store.transact(add("b")))
            with pytest.raises(BusyError):
                run(store.read(names()))
            with pytest.raises(BusyError):
                run(store.dead())
    run(store.transact(add("c")))
    assert run(store.read(names())) == ["a", "c"]


def test_a_server_that_does_not_answer_is_given_up(run, gateway, rival, monkeypatch):
    monkeypatch.setattr(server, "COMMAND_SECONDS", 0.5)
    store = gateway()
    ((frozen,),) = rival(SESSION.format(store.instance))
    os.kill(frozen, signal.SIGSTOP)
    try:
        with pytest.raises(BusyError, match="TimeoutError"):
            run(store.transact(add("a")))
        run(store.transact(add("b")))
    finally:
        os.kill(frozen, signal.SIGCONT)
    wait_for(lambda: (frozen,) not in rival(SESSION.format(store.instance)), run)
    assert run(store.read(names())) == ["b"]


def test_whoever_is_in_a_deadlock_is_told_to_try_again(run, gateway, rival):
    store = gateway()
    run(store.transact(add("a")))
    run(store.transact(add("b")))
    rival("BEGIN")
    rival("UPDATE accounts SET name = 'rival' WHERE id = 'b'")

    def both():
        yield LOCK([("a",)])
        yield LOCK([("b",)])

    async def begin():
        return asyncio.create_task(store.transact(both()))

    task = run(begin())
    wait_for(lambda: rival("SELECT FROM pg_locks WHERE NOT granted"), run)
    rival("UPDATE accounts SET name = 'rival' WHERE id = 'a'")
    with pytest.raises(BusyError) as caught:
        run(wait(task))
    assert not isinstance(caught.value, UnconfirmedError)
    rival("COMMIT")
    run(store.transact(both()))


def test_a_gateway_that_loses_its_session_is_alive_again_by_itself(run, gateway, rival, database):
    store, other = gateway(), gateway()
    with members(database, 1) as (member,):
        name = member.stdout.readline().strip()
        member.kill()
    rival(f"DELETE FROM gateways WHERE name = '{store.instance}'")
    ((lost,),) = rival(SESSION.format(store.instance))
    rival(f"SELECT pg_terminate_backend({lost})")
    wait_for(lambda: rival(SESSION.format(store.instance)) not in ([], [(lost,)]), run)
    wait_for(lambda: (store.instance,) in rival("SELECT name FROM gateways"), run)
    assert run(store.dead()) == [], "others may be on their way back too"
    assert run(store.dead()) == run(other.dead()) == [name]


def test_a_gateway_that_is_back_is_not_forgotten(run, gateway, rival):
    store, other = gateway(), gateway()
    run(store.forget([other.instance]))
    assert (other.instance,) in rival("SELECT name FROM gateways")


def test_a_gateway_that_closes_is_not_dead(run, gateway, rival):
    store, other = gateway(), gateway()
    run(other.close())
    assert run(store.dead()) == []
    assert rival("SELECT name FROM gateways") == [(store.instance,)]


def test_commits_are_durable_whatever_the_database_was_told(run, gateway, rival, database):
    rival(f"ALTER DATABASE {urlsplit(database).path[1:]} SET synchronous_commit = off")
    assert run(gateway().transact(setting())) == [("on",)]


def setting():
    return (yield SETTING())


def test_text_is_compared_as_in_sqlite_in_every_column(store, rival):
    others = rival(
        "SELECT table_name, column_name FROM information_schema.columns "
        "WHERE table_schema = 'public' AND data_type = 'text' AND collation_name IS DISTINCT FROM 'C'"
    )
    assert others == []


@pytest.mark.parametrize("url", ["mysql://127.0.0.1/books", "postgresql://127.0.0.1:port/books", "nothing"])
def test_a_url_that_is_none_is_refused(run, url):
    with pytest.raises(ConfigError) as caught:
        run(PostgresStore.open(url))
    assert caught.value.code == "bad_database"


def test_a_database_that_is_not_there_is_refused(run, cluster):
    with pytest.raises(ConfigError, match="InvalidCatalogNameError"):
        run(PostgresStore.open(cluster.url("nowhere")))


def test_a_user_who_may_not_make_tables_is_refused(run, database, rival):
    rival("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    rival("CREATE ROLE poor LOGIN")
    with pytest.raises(ConfigError, match="InsufficientPrivilegeError"):
        run(PostgresStore.open(database.replace("postgres@", "poor@")))


def test_a_server_that_is_not_there_is_busy(run, database, cluster):
    with cluster.down(), pytest.raises(BusyError):
        run(PostgresStore.open(database))


def test_the_environment_names_the_database(run, tmp_path, database, monkeypatch):
    monkeypatch.setenv("CLOAKWORK_DATABASE_URL", database)
    store = run(open_store(tmp_path / "books.db"))
    assert isinstance(store, PostgresStore)
    run(store.close())
    assert not list(tmp_path.iterdir())
