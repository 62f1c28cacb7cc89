"""One text for two databases: what goes into a batch comes out of it, on both."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloakwork_functions.ledger.statement import Statement

ECHO = Statement("SELECT name, amount FROM {batch}", "name text, amount bigint")
INSERT = Statement(
    "INSERT INTO prices (version, model, mode, rates, at) "
    "SELECT version, model, 'plaintext', '', 0 FROM {batch} "
    "WHERE true ON CONFLICT DO NOTHING RETURNING version",
    "version bigint, model text",
)
LOCK = Statement(
    "SELECT version FROM {batch} JOIN prices USING (version) ORDER BY version {lock}", "version bigint"
)
TOTAL = Statement("SELECT sum(version), count(*) FROM prices")
MODELS = Statement("SELECT model FROM prices ORDER BY model")

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
ROWS = st.lists(st.tuples(st.none() | TEXTS, st.none() | st.integers(-(1 << 63), (1 << 63) - 1)))


def ask(query):
    return (yield query)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=ROWS)
def test_a_batch_arrives_as_it_was_sent(run, store, rows):
    assert run(store.read(ask(ECHO(rows)))) == rows


def test_statements_of_a_batch_insert_lock_and_sum(run, store):
    def work():
        inserted = yield INSERT([(2, "b"), (1, "a"), (2, "again")])
        locked = yield LOCK([(2,), (1,), (3,)])
        return inserted, locked, (yield TOTAL())

    inserted, locked, total = run(store.transact(work()))
    assert sorted(inserted) == [(1,), (2,)]
    assert locked == [(1,), (2,)]
    assert total == [(3, 2)]
    assert type(total[0][0]) is int


def test_text_is_ordered_by_its_characters(run, store):
    run(store.transact(ask(INSERT(enumerate(["a", "é", "Z", "a b", "aB"])))))
    assert run(store.read(ask(MODELS()))) == [("Z",), ("a",), ("a b",), ("aB",), ("é",)]


def test_an_empty_batch_is_not_asked():
    assert INSERT([]).empty
    assert not INSERT([(1, "a")]).empty
    assert not TOTAL().empty


def test_only_postgres_locks_rows():
    assert LOCK.postgres.endswith("FOR UPDATE")
    assert "UPDATE" not in LOCK.sqlite
