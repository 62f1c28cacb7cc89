"""A clock that steps back and forward under the ledger: no money moves for it."""

import pytest
from calls import CREDIT, answered, call, charge, rows

from cloakwork.errors import BusyError
from cloakwork_functions.ledger import Held, Replay
from cloakwork_functions.ledger.allowance import Allowance, set_allowance
from cloakwork_functions.ledger.audit import audit
from cloakwork_functions.ledger.statement import Statement

HOUR = 3600
DAY = 24 * HOUR
NOON = 1_700_000_000 // DAY * DAY + DAY // 2
ACCOUNT = Statement("SELECT available, held FROM accounts")


class Clock:
    """Stands still unless it is stepped."""

    def __init__(self):
        self.now = NOON

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def stepped(store, ledger, open_ledger, clock):
    """Books by that clock."""
    return open_ledger(store, clock=clock)


@pytest.mark.parametrize("steps", [(-DAY, 2 * DAY), (-30, 45), (40 * DAY, -80 * DAY), (HOUR, -HOUR)])
def test_steps_move_no_money_and_charge_nothing_twice(run, store, stepped, clock, steps):
    run(store.transact(set_allowance("project:a/p", Allowance(CREDIT))))
    charged = 0
    for number, step in enumerate((0, *steps)):
        clock.now += step
        run(stepped.hold(charge(f"r{number}", lifetime=10 * 365 * DAY), f"name-{number}", b"x"))
        clock.now += step
        run(stepped.reap())
        charged += run(stepped.end(answered(charge(f"r{number}")), b"answer")).amount
        for again in range(number + 1):
            repeat = run(call(stepped, charge(f"again-{number}-{again}"), f"name-{again}"))
            assert isinstance(repeat, Replay)
    assert charged == 21
    assert rows(run, store, ACCOUNT) == [(CREDIT - 21, 0)]
    assert rows(run, store, Statement("SELECT spent FROM budgets")) == [(21,)]
    assert run(store.read(audit())) == []


def test_a_step_back_loses_no_hold(run, store, stepped, clock):
    run(stepped.hold(charge(lifetime=60.0)))
    clock.now -= DAY
    run(stepped.reap())
    assert rows(run, store, ACCOUNT) == [(CREDIT - 7, 7)]
    assert run(stepped.end(answered(charge()))).amount == 7


def test_a_step_forward_may_release_a_hold_and_its_call_is_then_not_charged(run, store, stepped, clock):
    run(stepped.hold(charge(lifetime=60.0)))
    clock.now += HOUR
    run(stepped.reap())
    clock.now -= HOUR
    with pytest.raises(BusyError) as refused:
        run(stepped.end(answered(charge())))
    assert refused.value.code == "hold_lost"
    assert rows(run, store, ACCOUNT) == [(CREDIT, 0)]
    assert run(store.read(audit())) == []


def test_no_answer_is_forgotten_by_the_reap_that_finds_a_jump(run, stepped, clock):
    run(call(stepped, charge("r1"), "k"))
    run(stepped.reap())
    clock.now += 2 * DAY
    run(stepped.reap())
    assert isinstance(run(call(stepped, charge("r2"), "k")), Replay)
    run(stepped.reap())  # the time is what it seems to be
    assert isinstance(run(stepped.hold(charge("r3"), "k", b"x")), Held)


def test_a_step_back_opens_no_earlier_term_of_a_budget(run, store, stepped, clock):
    run(store.transact(set_allowance("project:a/p", Allowance(7, "day"))))
    clock.now = NOON + 3650 * DAY
    run(call(stepped, charge("r1")))
    clock.now -= DAY
    with pytest.raises(Exception, match="budget_exceeded"):
        run(stepped.hold(charge("r2")))
