"""What calls do to the books, on SQLite and on Postgres."""

import asyncio
import itertools
from dataclasses import replace

import pytest
from calls import CREDIT, SECRETS, answered, call, charge, failed, rows

from cloakwork.errors import AuthError, BusyError, CloakworkError, InputError, PaymentError
from cloakwork.jwks import keys_of
from cloakwork.price import Price
from cloakwork.receipts import verify
from cloakwork_functions.ledger import Held, Keys, Limits, SigningKeys
from cloakwork_functions.ledger.allowance import Allowance, set_allowance
from cloakwork_functions.ledger.statement import Statement

ROUNDING = Statement(
    "SELECT debit, credit, amount FROM entries JOIN {batch} ON entries.id = batch.id AND kind = 'rounding'",
    "id text",
)
ENTRIES = Statement(
    "SELECT kind, debit, credit, amount FROM entries WHERE kind <> 'credit' ORDER BY id, kind"
)
ACCOUNT = Statement("SELECT available, held FROM accounts WHERE id = 'a'")


def test_hold_then_settle_moves_the_amount_to_revenue(run, store, ledger):
    run(ledger.hold(charge()))
    assert rows(run, store, ACCOUNT) == [(CREDIT - 7, 7)]
    assert run(ledger.end(answered(charge()))).amount == 7
    assert rows(run, store, ENTRIES) == [
        ("hold", "available:a", "held:a", 7),
        ("settle", "held:a", "revenue", 7),
    ]
    assert rows(run, store, ACCOUNT) == [(CREDIT - 7, 0)]


def test_what_is_held_beyond_the_charge_is_given_back(run, store, ledger):
    run(ledger.hold(charge(amount=100)))
    run(ledger.end(answered(charge(amount=100))))
    assert rows(run, store, ENTRIES)[1:] == [
        ("release", "held:a", "available:a", 93),
        ("settle", "held:a", "revenue", 7),
    ]
    assert rows(run, store, ACCOUNT) == [(CREDIT - 7, 0)]


def test_a_failed_run_costs_nothing_and_has_no_receipt(run, store, ledger):
    run(ledger.hold(charge()))
    ended = run(ledger.end(failed(charge())))
    assert (ended.amount, ended.receipt) == (0, None)
    assert rows(run, store, ENTRIES)[1] == ("release", "held:a", "available:a", 7)
    assert rows(run, store, ACCOUNT) == [(CREDIT, 0)]


def test_lines_round_by_themselves_and_the_rest_has_an_account(run, store, ledger):
    # Two lines of 0.5 and 1.5 nano-USD round to 0 and 2, half to even, and so do 2.5 and 2.5 to 2 and 2.
    cases = [
        ({"call": 500, "record": 1_500}, 2, []),
        ({"call": 2_500, "record": 2_500}, 4, [("rounding", "revenue", 1)]),
    ]
    cases += [({"call": 1_500, "record": 1_500}, 4, [("held:a", "rounding", 1)])]
    for number, (rates, amount, rounding) in enumerate(cases):
        of = charge(f"r{number}", amount=10, price=Price(2, rates))
        run(ledger.hold(of))
        assert run(ledger.end(answered(of))).amount == amount
        moved = rows(run, store, ROUNDING, [(of.run,)])
        assert moved == rounding


def test_a_run_ends_once(run, store, ledger):
    async def race():
        await ledger.hold(charge())
        return await asyncio.gather(
            ledger.end(answered(charge())), ledger.end(failed(charge())), ledger.end(answered(charge()))
        )

    first, second, third = run(race())
    assert first.amount == second.amount == third.amount == 7
    assert first.receipt == third.receipt
    assert len(rows(run, store, ENTRIES)) == 2
    assert run(ledger.end(answered(charge()))) == first


def test_a_charge_after_a_release_is_refused(run, store, ledger):
    run(ledger.hold(charge()))
    run(ledger.end(failed(charge())))
    with pytest.raises(BusyError) as refused:
        run(ledger.end(answered(charge())))
    assert refused.value.code == "hold_lost"
    assert rows(run, store, ACCOUNT) == [(CREDIT, 0)]


def test_credit_for_n_calls_pays_for_n(run, store, ledger):
    most = CREDIT // 7

    async def race():
        calls = (call(ledger, charge(f"r{n}")) for n in range(most + 50))
        return await asyncio.gather(*calls, return_exceptions=True)

    outcomes = run(race())
    refused = [outcome for outcome in outcomes if isinstance(outcome, PaymentError)]
    assert len(refused) == 50
    assert {failure.code for failure in refused} == {"insufficient_credit"}
    assert rows(run, store, ACCOUNT) == [(CREDIT - 7 * most, 0)]
    assert f"{7 - CREDIT % 7} are missing" in str(refused[0])


def test_gateways_share_credit(run, store, gateway, ledger, open_ledger):
    ledgers = [ledger, open_ledger(gateway()), open_ledger(gateway())]
    most = CREDIT // 7

    async def race():
        calls = (call(ledgers[n % 3], charge(f"r{n}")) for n in range(most + 64))
        return await asyncio.gather(*calls, return_exceptions=True)

    outcomes = run(race())
    assert sum(isinstance(outcome, PaymentError) for outcome in outcomes) == 64
    assert rows(run, store, ACCOUNT) == [(CREDIT - 7 * most, 0)]
    chain = rows(run, store, Statement("SELECT sequence FROM receipts ORDER BY sequence"))
    assert chain == [(n + 1,) for n in range(most)]


def test_a_repeat_gets_the_answer_and_is_not_charged(run, store, ledger):
    first = run(call(ledger, charge("r1"), "k"))
    again = run(call(ledger, charge("r2"), "k"))
    assert again.run == "r1"
    assert again.ended == first
    assert ledger.answer(again) == b"answer"
    assert len(rows(run, store, ENTRIES)) == 2
    kept = rows(run, store, Statement("SELECT sealed FROM answers"))
    assert b"answer" not in kept[0][0].encode()


def test_a_repeat_of_an_open_call_has_to_wait(run, ledger):
    run(ledger.hold(charge("r1"), "k", b"x"))
    with pytest.raises(BusyError) as refused:
        run(ledger.hold(charge("r2"), "k", b"x"))
    assert refused.value.code == "in_flight"


def test_gateways_share_idempotency(run, store, gateway, ledger, open_ledger):
    ledgers = [ledger, open_ledger(gateway()), open_ledger(gateway())]

    async def race():
        calls = (ledgers[n % 3].hold(charge(f"r{n}"), "k", b"x") for n in range(30))
        return await asyncio.gather(*calls, return_exceptions=True)

    outcomes = run(race())
    assert sum(isinstance(outcome, Held) for outcome in outcomes) == 1
    assert {outcome.code for outcome in outcomes if not isinstance(outcome, Held)} == {"in_flight"}
    (won,) = (f"r{n}" for n, outcome in enumerate(outcomes) if isinstance(outcome, Held))
    run(ledger.end(answered(charge(won)), b"answer"))
    replay = run(ledgers[1].hold(charge("r99"), "k", b"x"))
    assert ledgers[1].answer(replay) == b"answer"


def test_a_repeat_of_a_failed_call_is_a_new_call(run, ledger):
    run(ledger.hold(charge("r1"), "k", b"x"))
    run(ledger.end(failed(charge("r1"))))
    assert isinstance(run(ledger.hold(charge("r2"), "k", b"sealed anew")), Held)


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("other", [{"body": b"y"}, {"body": b""}, {"model": "n"}])
def test_the_same_key_for_another_request_is_refused(run, ledger, ended, other):
    run(call(ledger, charge("r1"), "k") if ended else ledger.hold(charge("r1"), "k", b"x"))
    with pytest.raises(InputError) as refused:
        run(ledger.hold(charge("r2", model=other.get("model", "m")), "k", other.get("body", b"x")))
    assert refused.value.code == "idempotency_mismatch"


def test_a_call_that_was_charged_and_not_kept_is_answered_anew_after_its_time(run, store, ledger):
    run(call(ledger, charge("r1"), "k"))
    run(store.transact(write("UPDATE answers SET expires = 1")))
    run(ledger.reap())
    run(ledger.reap())
    assert isinstance(run(ledger.hold(charge("r2"), "k", b"x")), Held)


def write(text):
    yield Statement(text)()


def test_expired_holds_are_released_and_others_are_not(run, store, ledger):
    run(ledger.hold(charge("r1", lifetime=-5.0)))
    run(ledger.hold(charge("r2")))
    run(ledger.reap())
    run(ledger.reap())
    assert rows(run, store, ACCOUNT) == [(CREDIT - 7, 7)]
    assert rows(run, store, Statement("SELECT run, outcome FROM ends")) == [("r1", "expired")]
    assert rows(run, store, Statement("SELECT run FROM holds")) == [("r2",)]


def limit(per_minute=None, concurrency=None, *, key="cw_a", model="*"):
    def work():
        columns = "key text, model text, per_minute bigint, concurrency bigint"
        insert = Statement(
            "INSERT INTO limits SELECT key, model, per_minute, concurrency FROM {batch}", columns
        )
        yield insert([(key, model, per_minute, concurrency)])

    return work()


def test_a_rate_is_kept_by_all_gateways_together(run, store, gateway, ledger, open_ledger):
    run(store.transact(limit(per_minute=10)))
    ledgers = [ledger, open_ledger(gateway())]

    async def race():
        calls = (call(ledgers[n % 2], charge(f"r{n}")) for n in range(30))
        return await asyncio.gather(*calls, return_exceptions=True)

    outcomes = run(race())
    refused = [outcome for outcome in outcomes if isinstance(outcome, BusyError)]
    assert len(refused) == 20
    assert {failure.code for failure in refused} == {"rate_limited"}
    assert 1 <= refused[0].retry_after <= 6
    assert refused[0].headers["x-ratelimit-remaining-requests"] == "0"
    assert refused[0].headers["ratelimit-policy"] == '"key";q=10;w=60'


def test_a_call_says_what_is_left_of_each_limit(run, store, ledger):
    run(store.transact(limit(per_minute=10)))
    run(store.transact(limit(per_minute=3, model="m")))
    run(store.transact(limit(per_minute=1, key="*", model="m")))
    held = run(ledger.hold(charge()))
    assert [(each.model, each.per_minute, each.remaining) for each in held.standings] == [
        ("m", 3, 2),
        ("*", 10, 9),
    ]
    other = run(ledger.hold(charge("r2", key="cw_b")))
    assert [(each.model, each.per_minute, each.remaining) for each in other.standings] == [("m", 1, 0)]


def test_no_more_calls_at_once_than_the_limit(run, store, ledger):
    run(store.transact(limit(concurrency=2)))
    run(store.transact(limit(concurrency=1, model="m")))
    run(ledger.hold(charge("r1")))
    for of in (charge("r2"),):
        with pytest.raises(BusyError) as refused:
            run(ledger.hold(of))
        assert refused.value.code == "concurrency_limited"
    run(ledger.hold(charge("r3", model="n")))
    with pytest.raises(BusyError):
        run(ledger.hold(charge("r4", model="o")))
    run(ledger.end(failed(charge("r1"))))
    assert isinstance(run(ledger.hold(charge("r5"))), Held)


def test_a_call_refused_for_its_money_takes_nothing_of_its_rate(run, store, ledger):
    run(store.transact(limit(per_minute=10)))
    with pytest.raises(PaymentError):
        run(ledger.hold(charge("r1", amount=CREDIT + 1)))
    assert run(ledger.hold(charge("r2"))).standings[0].remaining == 9


@pytest.mark.parametrize("subject", ["key:cw_a", "project:a/p"])
def test_a_budget_is_a_hard_cap(run, store, ledger, subject):
    run(store.transact(set_allowance(subject, Allowance(21, "month"))))

    async def race():
        calls = (ledger.hold(charge(f"r{n}")) for n in range(5))
        return await asyncio.gather(*calls, return_exceptions=True)

    outcomes = run(race())
    assert sum(isinstance(outcome, Held) for outcome in outcomes) == 3
    assert {outcome.code for outcome in outcomes if not isinstance(outcome, Held)} == {"budget_exceeded"}
    assert rows(run, store, ACCOUNT) == [(CREDIT - 21, 21)]
    run(ledger.end(failed(charge("r0"))))
    assert isinstance(run(ledger.hold(charge("r9"))), Held)


@pytest.fixture
def pair(run, store, ledger):
    """Make a key and its successor: whose key a charge is under, the old one's or the new one's."""
    keys = Keys(store)

    def pair(**bounds):
        old = run(keys.create("a/p", "test", **bounds))
        new = run(keys.rotate(old.rpartition("_")[0]))
        callers = [run(keys.authenticate(key)) for key in (old, new)]
        return [{"key": each.prefix, "family": each.family} for each in callers]

    return pair


@pytest.fixture
def ledgers(gateway, ledger, open_ledger):
    """The books of two gateways."""
    return [ledger, open_ledger(gateway())]


@pytest.mark.parametrize(
    ("bounds", "code"),
    [
        ({"limits": Limits(per_minute=3)}, "rate_limited"),
        ({"limits": Limits(concurrency=3)}, "concurrency_limited"),
        ({"budget": Allowance(21)}, "budget_exceeded"),
    ],
)
def test_a_rotated_key_and_its_successor_may_no_more_than_one_key(run, ledgers, pair, bounds, code):
    callers = pair(**bounds)

    async def race():
        calls = (  # by each key at each gateway
            ledgers[n % 2].hold(charge(f"r{n}", **callers[n // 2 % 2])) for n in range(12)
        )
        return await asyncio.gather(*calls, return_exceptions=True)

    outcomes = run(race())
    assert sum(isinstance(outcome, Held) for outcome in outcomes) == 3
    assert {outcome.code for outcome in outcomes if not isinstance(outcome, Held)} == {code}


def outcome_of(run, call):
    """What comes of a call, or the code that it is refused with."""
    try:
        return run(call)
    except CloakworkError as failure:
        return failure.code


@pytest.mark.parametrize("by", ["failure", "charge", "reap"])
def test_what_a_rotated_key_held_comes_back_for_its_successor(run, store, ledgers, by):
    (ledger, other), keys = ledgers, Keys(store)
    prefix = run(keys.create("a/p", "test", budget=Allowance(10))).rpartition("_")[0]
    early = charge("r1", key=prefix, amount=10, lifetime=-5.0)
    late = charge("r2", key=prefix, amount=10)
    run(ledger.hold(early))
    heir = run(keys.rotate(prefix)).rpartition("_")[0]
    after = charge("r3", key=heir, family=prefix, amount=3)
    assert outcome_of(run, other.hold(after)) == "budget_exceeded"
    if by == "reap":
        run(ledger.reap())
    else:
        run(ledger.end(answered(early) if by == "charge" else failed(early)))
    assert isinstance(run(other.hold(after)), Held)
    assert outcome_of(run, ledger.hold(late)) == "budget_exceeded"
    assert [key.spent for key in run(keys.list())] == [10 if by == "charge" else 3] * 2


@pytest.mark.parametrize("by", ["failure", "charge", "reap"])
def test_a_call_under_way_by_a_rotated_key_makes_room_for_its_successor_when_it_ends(run, ledgers, pair, by):
    (ledger, other), (old, new) = ledgers, pair(limits=Limits(concurrency=1))
    early = charge("r1", lifetime=-5.0, **old)
    run(ledger.hold(early))
    assert outcome_of(run, other.hold(charge("r2", **new))) == "concurrency_limited"
    if by == "reap":
        run(ledger.reap())
    else:
        run(ledger.end(answered(early) if by == "charge" else failed(early)))
    assert isinstance(run(other.hold(charge("r2", **new))), Held)
    assert outcome_of(run, ledger.hold(charge("r3", **old))) == "concurrency_limited"


def test_a_run_is_written_under_the_key_that_called_and_a_hold_under_its_family(run, store, ledger, pair):
    old, new = pair()
    run(ledger.hold(charge("r1", **old)))
    run(ledger.hold(charge("r2", **new)))
    assert rows(run, store, Statement("SELECT id, key FROM runs ORDER BY id")) == [
        ("r1", old["key"]),
        ("r2", new["key"]),
    ]
    assert rows(run, store, Statement("SELECT DISTINCT key FROM holds")) == [(old["key"],)]


def test_a_key_of_another_family_has_limits_of_its_own(run, ledger, pair):
    (one, _), (other, _) = (pair(limits=Limits(concurrency=1)) for _ in range(2))
    run(ledger.hold(charge("r1", **one)))
    assert isinstance(run(ledger.hold(charge("r2", **other))), Held)


def test_a_default_limit_is_kept_by_each_family(run, store, ledger, pair):
    run(store.transact(limit(concurrency=1, key="*")))
    (old, new), (other, _) = pair(), pair()
    run(ledger.hold(charge("r1", **old)))
    assert outcome_of(run, ledger.hold(charge("r2", **new))) == "concurrency_limited"
    assert isinstance(run(ledger.hold(charge("r3", **other))), Held)


@pytest.mark.parametrize("revoked", [0, 1])
def test_of_a_rotated_key_and_its_successor_the_revoked_one_is_refused_at_the_hold(
    run, store, ledger, pair, revoked
):
    callers = pair()
    run(Keys(store).revoke(callers[revoked]["key"]))
    assert outcome_of(run, ledger.hold(charge("r1", **callers[revoked]))) == "revoked_key"
    assert isinstance(run(ledger.hold(charge("r2", **callers[1 - revoked]))), Held)


def test_a_key_revoked_since_it_was_let_in_is_refused_at_the_hold(run, store, ledger):
    columns = "prefix text, digest text, revoked bigint, expires bigint"
    make = Statement(
        "INSERT INTO keys (prefix, family, digest, project, name, scope, created, revoked, expires) "
        "SELECT prefix, prefix, digest, 'a/p', '', '{{}}', 0, revoked, expires FROM {batch}",
        columns,
    )

    def work():
        yield make([("cw_r", "1", 5, None), ("cw_e", "2", None, 5), ("cw_a", "3", None, None)])

    run(store.transact(work()))
    for key, code in (("cw_r", "revoked_key"), ("cw_e", "expired_key")):
        with pytest.raises(AuthError) as refused:
            run(ledger.hold(charge(key=key)))
        assert refused.value.code == code
    assert isinstance(run(ledger.hold(charge())), Held)


def test_receipts_are_a_chain_that_verifies(run, store, ledger):
    signing = SigningKeys(store, SECRETS)
    run(signing.refresh())
    keys = keys_of(signing.jwks())
    receipts = [verify(run(call(ledger, charge(f"r{n}"))).receipt, keys) for n in range(3)]
    assert [receipt.sequence for receipt in receipts] == [1, 2, 3]
    for earlier, later in itertools.pairwise(receipts):
        assert later.previous == earlier.hash
    assert {receipt.amount for receipt in receipts} == {7}


def test_a_refused_call_leaves_nothing(run, store, ledger):
    before = [
        rows(run, store, Statement(f"SELECT count(*) FROM {table}")) for table in ("runs", "holds", "entries")
    ]
    for of in (charge(amount=CREDIT + 1), replace(charge(), account="nobody")):
        with pytest.raises(CloakworkError):
            run(ledger.hold(of))
    assert before == [
        rows(run, store, Statement(f"SELECT count(*) FROM {table}")) for table in ("runs", "holds", "entries")
    ]
