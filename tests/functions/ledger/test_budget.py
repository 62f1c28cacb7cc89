"""Budgets that change while calls are under way, and their alerts, on SQLite and on Postgres."""

import asyncio
import logging
from calendar import timegm

import pytest
from calls import answered, call, charge, failed, rows

from cloakwork.errors import PaymentError
from cloakwork_functions.ledger import Held, Keys
from cloakwork_functions.ledger.alerts import list_alerts
from cloakwork_functions.ledger.allowance import Allowance, set_allowance
from cloakwork_functions.ledger.audit import audit
from cloakwork_functions.ledger.budget import begin, term
from cloakwork_functions.ledger.statement import Statement

DAY = 86400
SPENT = Statement("SELECT spent FROM budgets")
PERIODS = ["day", "month", "total"]


@pytest.fixture
def family(run, store, ledger):  # the ledger makes the project
    """Make a key and its successor; gives how each calls."""
    keys = Keys(store)
    old = run(keys.create("a/p", "test"))
    new = run(keys.rotate(old.rpartition("_")[0]))
    callers = [run(keys.authenticate(key)) for key in (old, new)]
    return [{"key": each.prefix, "family": each.family} for each in callers]


def subject_of(kind, family):
    return "project:a/p" if kind == "project" else f"key:{family[0]['family']}"


@pytest.mark.parametrize("subject", [(kind, period) for kind in ("project", "key") for period in PERIODS])
def test_a_new_budget_counts_what_is_held_and_was_charged(run, store, ledger, family, subject):
    kind, period = subject
    old, new = family
    run(call(ledger, charge("r1", **old)))
    run(ledger.hold(charge("r2", amount=20, **new)))
    run(ledger.hold(charge("r3", **new)))
    run(ledger.end(failed(charge("r3", **new))))
    run(store.transact(set_allowance(subject_of(kind, family), Allowance(40, period))))
    assert rows(run, store, SPENT) == [(27,)]
    with pytest.raises(PaymentError):
        run(ledger.hold(charge("r4", amount=14, **old)))
    run(ledger.end(answered(charge("r2", amount=20, **new))))
    assert rows(run, store, SPENT) == [(14,)]
    assert isinstance(run(ledger.hold(charge("r5", amount=26, **old))), Held)


def test_a_budget_of_a_key_counts_no_calls_by_others(run, store, ledger, family):
    run(call(ledger, charge("r1", key="cw_other")))
    run(ledger.hold(charge("r2", key="cw_other")))
    run(store.transact(set_allowance(subject_of("key", family), Allowance(7))))
    assert rows(run, store, SPENT) == [(0,)]


def test_a_term_counts_no_calls_of_an_earlier_one_and_all_time_counts_them_all(
    run, store, open_ledger, family
):
    earlier = open_ledger(store, clock=lambda: 1_000_000_000)
    run(call(earlier, charge("r1", **family[0])))
    run(earlier.hold(charge("r2", **family[0])))
    for period, spent in (("day", 0), ("month", 0), ("total", 14)):
        run(store.transact(set_allowance("project:a/p", Allowance(100, period))))
        assert rows(run, store, SPENT) == [(spent,)]
    # Of a hold that a term does not count, nothing comes back to it.
    run(store.transact(set_allowance("project:a/p", Allowance(100, "day"))))
    run(call(earlier, charge("r3", **family[0])))
    spent = rows(run, store, SPENT)
    run(earlier.end(failed(charge("r2", **family[0]))))
    assert rows(run, store, SPENT) == spent


def test_a_budget_set_while_calls_come_and_go_loses_none(run, store, gateway, ledger, open_ledger):
    ledgers, operator = [ledger, open_ledger(gateway())], gateway()
    many = 50

    async def calls(by):
        for number in range(many):
            await call(ledgers[by], charge(f"r{by}-{number}"))

    async def changes():
        for number in range(3 * many):
            # Every third time the period changes, and so all is counted anew.
            period = "month" if number % 3 == 1 else "total"
            await operator.transact(set_allowance("project:a/p", Allowance(900 + number, period)))

    async def race():
        await asyncio.gather(calls(0), calls(1), changes())

    run(race())
    assert rows(run, store, SPENT) == [(2 * many * 7,)]
    assert run(store.read(audit())) == []


def test_a_refusal_by_one_budget_leaves_the_other_as_it_was(run, store, ledger):
    run(store.transact(set_allowance("key:cw_a", Allowance(100))))
    run(store.transact(set_allowance("project:a/p", Allowance(5))))
    with pytest.raises(PaymentError):
        run(ledger.hold(charge()))
    run(ledger.hold(charge("r2", amount=1)))
    assert rows(run, store, SPENT) == [(1,), (1,)]


def test_a_budget_raises_one_alert_for_each_term_and_cap_when_a_charge_nears_it(run, store, ledger, caplog):
    def raised():
        return [(each.subject, each.spent, each.cap) for each in run(store.read(list_alerts()))]

    run(store.transact(set_allowance("key:cw_a", Allowance(70, "day", 50))))
    run(ledger.hold(charge("big", amount=60)))
    run(ledger.end(failed(charge("big", amount=60))))
    assert raised() == []  # nothing was charged
    with caplog.at_level(logging.WARNING, "cloakwork.alerts"):
        for number in range(8):
            run(call(ledger, charge(f"r{number}")))
    assert raised() == [("key:cw_a", 35, 70)]
    assert caplog.messages == ["key:cw_a has spent 35 of 70 nano-USD"]
    run(store.transact(set_allowance("key:cw_a", Allowance(100, "day", 50))))
    run(call(ledger, charge("r9")))
    assert raised() == [("key:cw_a", 35, 70), ("key:cw_a", 63, 100)]


@pytest.mark.parametrize("at", [0, timegm((2024, 2, 29, 23, 59, 59)), timegm((2024, 3, 1, 0, 0, 0))])
@pytest.mark.parametrize("period", PERIODS)
def test_a_term_begins_with_its_first_second(period, at):
    first = begin(period, at)
    assert term(period, first) == term(period, at)
    assert period == "total" or term(period, first - 1) < term(period, at)
    assert begin("month", at) % DAY == begin("day", at) % DAY == 0
