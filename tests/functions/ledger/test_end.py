"""Ends and reaps that do not go as usual, on SQLite and on Postgres."""

import asyncio
from dataclasses import replace

import pytest
from calls import CREDIT, answered, call, charge, failed, rows

from cloakwork.errors import CloakworkError, InputError, ServerError
from cloakwork.receipts import MOST
from cloakwork_functions.ledger import Ended, Replay
from cloakwork_functions.ledger.accounts import Source, credit
from cloakwork_functions.ledger.audit import audit
from cloakwork_functions.ledger.ends import SLICE
from cloakwork_functions.ledger.money import MOST as MOST_CREDIT
from cloakwork_functions.ledger.statement import Statement

COUNT = "SELECT count(*) FROM {}"


def counted(run, store, table):
    return rows(run, store, Statement(COUNT.format(table)))[0][0]


@pytest.mark.parametrize(
    "bad",
    [
        answered(charge("r1"), {"record": 2}),
        answered(charge("r1"), {"record": 1, "byte": MOST + 1}),
        replace(answered(charge("r1")), request="no digest"),
    ],
)
def test_a_run_that_cannot_be_charged_stays_open_and_the_others_end(run, store, ledger, bad):
    async def batch():
        await asyncio.gather(*(ledger.hold(charge(f"r{n}"), f"name-{n}") for n in range(3)))
        ends = [ledger.end(answered(charge(f"r{n}")) if n != 1 else bad, b"answer") for n in range(3)]
        return await asyncio.gather(*ends, return_exceptions=True)

    first, fault, last = run(batch())
    assert (first.amount, last.amount) == (7, 7)
    assert isinstance(fault, ServerError)
    assert rows(run, store, Statement("SELECT run FROM holds")) == [("r1",)]
    assert rows(run, store, Statement("SELECT available, held, receipts FROM accounts")) == [
        (CREDIT - 21, 7, 2)
    ]
    assert counted(run, store, "answers") == 2
    assert run(ledger.end(failed(charge("r1")))) == Ended(0, None)
    assert run(store.read(audit())) == []


def test_a_hold_that_no_receipt_could_state_is_refused(run, store, ledger):
    for number in range(10):
        run(store.transact(credit("a", MOST_CREDIT, Source.CASH, f"large-{number}")))
    with pytest.raises(InputError) as refused:
        run(ledger.hold(charge("r1", amount=MOST + 1)))
    assert refused.value.code == "amount_invalid"
    run(ledger.hold(charge("r2", amount=MOST)))


@pytest.mark.parametrize("table", ["runs", "ends", "entries", "receipts", "prices"])
@pytest.mark.parametrize("change", ["DELETE FROM {}", "UPDATE {0} SET {1} = {1}"])
def test_what_happened_is_not_changed(run, store, ledger, table, change):
    def work(text):
        yield Statement(text)()

    run(call(ledger, charge()))
    run(store.transact(work("INSERT INTO prices VALUES (1, 'm', 'plaintext', '', 0)")))
    column = {"runs": "id", "prices": "version", "receipts": "receipt"}.get(table, "amount")
    with pytest.raises(ServerError) as refused:
        run(store.transact(work(change.format(table, column))))
    assert refused.value.code == "internal"
    assert counted(run, store, table) > 0


@pytest.mark.parametrize("open_first", [True, False])
def test_a_failed_call_hides_no_other_of_its_name_whichever_id_is_higher(run, ledger, open_first):
    for name in ("r9", "r8"):
        run(ledger.hold(charge(name), "k", b"x"))
        run(ledger.end(failed(charge(name))))
    if open_first:
        run(ledger.hold(charge("r5"), "k", b"x"))
        with pytest.raises(CloakworkError) as refused:
            run(ledger.hold(charge("r4"), "k", b"x"))
        assert refused.value.code == "in_flight"
        run(ledger.end(answered(charge("r5")), b"answer"))
    else:
        run(call(ledger, charge("r5"), "k"))
    replay = run(ledger.hold(charge("r3"), "k", b"x"))
    assert isinstance(replay, Replay)
    assert replay.run == "r5"


def test_holds_are_reaped_and_answers_forgotten_slice_by_slice_until_none_is_left(run, store, ledger):
    many = 2 * SLICE + 1

    async def hold_all():
        calls = (ledger.hold(charge(f"r{n}", amount=0, lifetime=-5.0)) for n in range(many))
        await asyncio.gather(*calls)

    run(hold_all())
    run(ledger.reap())
    assert counted(run, store, "holds") == 0
    assert counted(run, store, "ends") == many

    def keep():
        yield Statement("INSERT INTO answers SELECT id, '', 1 FROM runs")()

    run(store.transact(keep()))
    run(ledger.reap())
    assert counted(run, store, "answers") == 0
