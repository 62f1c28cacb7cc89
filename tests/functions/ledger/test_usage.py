"""Usage against a naive model of random runs, and against the entries, on both databases."""

from collections import defaultdict
from datetime import date, timedelta

import pytest
from books import CHARGED, NAMES, insert
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloakwork.errors import InputError
from cloakwork.usage import DIMENSIONS
from cloakwork_functions.ledger.statement import Statement
from cloakwork_functions.ledger.usage import Difference, Period, reconcile, usage

FIRST = date(2024, 2, 27)
EPOCH = date(1970, 1, 1)
DAY = 86_400
START = (FIRST - EPOCH).days * DAY

RUNS = st.fixed_dictionaries(
    {
        "at": st.tuples(st.integers(0, 4), st.sampled_from([0, 1, DAY - 1])).map(
            lambda at: START + at[0] * DAY + at[1]
        ),
        "model": st.sampled_from(["digits@1", "digits@10", "Digits@2"]),
        "mode": st.sampled_from(["plaintext", "encrypted"]),
        "key": st.sampled_from(["cw_a", "cw_b"]),
        "project": st.sampled_from(["p", "q"]),
        "outcome": st.sampled_from(["answered", "abandoned", "failed", "expired", None]),
        "quantities": st.fixed_dictionaries({"record": st.integers(1, 1000), "byte": st.integers(0, 2**40)}),
        "amount": st.integers(0, 2**50),
    }
)


def naive(runs, period, by):
    """What usage should say: a dictionary from group to figures."""
    groups = defaultdict(lambda: [0, 0, 0, 0, 0])
    for run in runs:
        day = EPOCH + timedelta(days=run["at"] // DAY)
        if run["outcome"] is None or not period.first <= day <= period.last:
            continue
        name = tuple(day.isoformat() if each == "day" else run[each] for each in DIMENSIONS if each in by)
        paid = run["outcome"] in CHARGED
        figures = (
            1,
            paid,
            *(paid * run["quantities"][unit] for unit in ("record", "byte")),
            paid * run["amount"],
        )
        groups[name] = [a + b for a, b in zip(groups[name], figures, strict=True)]
    return dict(sorted(groups.items()))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    runs=st.lists(RUNS, max_size=30),
    span=st.tuples(st.integers(0, 4), st.integers(0, 4)).map(sorted),
    by=st.sets(st.sampled_from(DIMENSIONS)),
)
def test_usage_is_what_a_naive_count_gives_and_what_the_entries_say(run, store, runs, span, by):
    account = next(NAMES)
    run(store.transact(insert(account, runs)))
    run(store.transact(insert("another", runs)))
    period = Period(*(FIRST + timedelta(days=days) for days in span))
    rows = run(store.read(usage(account, period, by)))
    found = {
        tuple(getattr(row, name) for name in DIMENSIONS if name in by): [
            row.calls,
            row.charged,
            row.records,
            row.bytes,
            row.amount_nano_usd,
        ]
        for row in rows
    }
    assert list(found.items()) == list(naive(runs, period, by).items())
    assert all(getattr(row, name) is None for row in rows for name in set(DIMENSIONS) - by)
    assert run(store.read(reconcile(account))) == ()
    everything = Period(FIRST, FIRST + timedelta(days=10))
    total = sum(row.amount_nano_usd for row in run(store.read(usage(account, everything, by))))
    assert total == run(store.read(settled(account)))


def settled(account):
    statement = Statement(
        "SELECT coalesce(sum(amount), 0) FROM {batch} JOIN entries ON debit = 'held:' || account "
        "AND credit IN ('revenue', 'rounding')",
        "account text",
    )
    return (yield statement([(account,)]))[0][0]


@pytest.mark.parametrize(
    ("planted", "expected"),
    [
        ("UPDATE entries SET amount = 9 WHERE kind = 'settle' AND id = '{}'", (8, 9)),
        ("UPDATE ends SET amount = 7 WHERE run = '{}'", (7, 8)),
        ("DELETE FROM entries WHERE kind = 'settle' AND id = '{}'", (8, 0)),
        ("DELETE FROM ends WHERE run = '{}'", (0, 8)),
        ("UPDATE entries SET amount = 1 WHERE kind = 'rounding' AND id = '{}'", (8, 9)),
        ("UPDATE entries SET debit = 'held:other' WHERE kind = 'settle' AND id = '{}'", (8, 0)),
        ("UPDATE runs SET account = 'other' WHERE id = '{}'", (0, 8)),
    ],
)
def test_a_difference_of_one_run_is_found(run, store, unguarded, planted, expected):
    names = run(store.transact(insert("a", [{}] * 3)))
    assert run(store.read(reconcile("a"))) == ()

    def plant():
        yield Statement(planted.format(names[1]))()

    run(store.transact(plant()))
    assert run(store.read(reconcile("a"))) == (Difference(names[1], *expected),)


def test_equal_and_opposite_differences_do_not_hide_one_another(run, store, unguarded):
    first, second = run(store.transact(insert("a", [{}] * 2)))

    def plant():
        yield Statement(f"UPDATE ends SET amount = 9 WHERE run = '{first}'")()
        yield Statement(f"UPDATE ends SET amount = 7 WHERE run = '{second}'")()

    run(store.transact(plant()))
    assert [each.run for each in run(store.read(reconcile("a")))] == [first, second]


def test_a_day_begins_and_ends_at_midnight_in_utc(run, store):
    runs = [{"at": START + second} for second in (-1, 0, DAY - 1, DAY)]
    run(store.transact(insert("a", runs)))
    rows = run(store.read(usage("a", Period(FIRST, FIRST), ["day"])))
    assert [(row.day, row.calls) for row in rows] == [("2024-02-27", 2)]


@pytest.mark.parametrize("days", [-1, 366])
def test_a_period_is_a_day_to_a_leap_year(days):
    Period(FIRST, FIRST + timedelta(days=365))
    with pytest.raises(InputError):
        Period(FIRST, FIRST + timedelta(days=days))


def test_there_is_nothing_to_group_by_but_dimensions(run, store):
    with pytest.raises(InputError, match="day, model, mode, key, project, outcome"):
        run(store.read(usage("a", Period(FIRST, FIRST), ["day", "account"])))
