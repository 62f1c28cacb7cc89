"""The ledger against a model of it that fits a screen: whatever is done, both say the same."""

import asyncio
from itertools import count

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from cloakwork.errors import CloakworkError
from cloakwork.price import Price
from cloakwork.wire import Mode
from cloakwork_functions.ledger import Charge, End, Held, Ledger, Outcome, Secrets, SigningKeys
from cloakwork_functions.ledger.accounts import Source, create_account, create_project, credit
from cloakwork_functions.ledger.allowance import Allowance, set_allowance
from cloakwork_functions.ledger.audit import audit
from cloakwork_functions.ledger.statement import Statement

SECRETS = Secrets(bytes(32))
PRICE = Price(1, {"record": 1_000})
AMOUNTS = st.integers(0, 60)
NAMES = st.sampled_from([None, "one", "two"])
STANDING = Statement(
    "SELECT available, held, receipts FROM accounts JOIN {batch} ON accounts.id = batch.id", "id text"
)
SPENT = Statement("SELECT spent FROM budgets JOIN {batch} ON budgets.subject = batch.subject", "subject text")


class Books(RuleBasedStateMachine):
    """One account of a shared store, and what it should hold."""

    numbers = count()
    runs = Bundle("runs")

    def __init__(self, run, store, ledgers):
        super().__init__()
        self.do, self.store, self.ledgers = run, store, ledgers
        self.account = f"account-{next(self.numbers)}"
        self.available = self.spent = self.receipts = 0
        self.cap, self.subject = 10**9, ""
        self.held, self.ended, self.named, self.charges = {}, {}, {}, {}

    @initialize(cap=st.sampled_from([150, 10**9]), kind=st.sampled_from(["project", "key"]))
    def open(self, cap, kind):
        self.subject = f"project:{self.account}/p" if kind == "project" else f"key:{self.account}"

        def work():
            yield from create_account(self.account)
            yield from create_project(self.account, "p")
            yield from set_allowance(self.subject, Allowance(cap))

        self.do(self.store.transact(work()))
        self.cap = cap

    @rule(amount=st.integers(1, 200), number=st.integers(0, 20))
    def credit(self, amount, number):
        reference = f"{self.account}-{number}"
        new = self._try(self.store.transact(credit(self.account, amount, Source.CASH, reference)))
        assert new in {True, False, "reference_used"}
        self.available += amount * (new is True)

    @rule(
        target=runs,
        key=st.sampled_from(["cw_x", "cw_y"]),
        amount=AMOUNTS,
        name=NAMES,
        body=st.sampled_from([b"x", b"y"]),
        lifetime=st.sampled_from([60.0, -5.0]),
        by=st.integers(0, 1),
    )
    def hold(self, amount, name, body, *, key, lifetime, by):
        run = f"{self.account}-run-{next(self.numbers)}"
        charge = Charge(
            run,
            self.account,
            f"{self.account}/p",
            key,
            self.account,  # the name of the keys' family, which no other account's share
            "m",
            1,
            "d" * 64,
            Mode.PLAINTEXT,
            PRICE,
            amount,
            lifetime,
        )
        expected = self._expected(amount, name, body)
        outcome = self._try(self.ledgers[by].hold(charge, name, body))
        if isinstance(outcome, str):
            assert outcome == expected
            return multiple()
        if not isinstance(outcome, Held):
            assert outcome.run == expected
            assert self.ledgers[by].answer(outcome) == outcome.run.encode()
            assert outcome.ended.amount == self.ended[outcome.run]
            return multiple()
        assert expected is None
        self.available -= amount
        self.spent += amount
        self.held[run] = (amount, lifetime < 0)
        self.charges[run] = charge
        if name is not None:
            self.named[name] = (run, body)
        return run

    def _try(self, doing):
        """What comes of it, or the code of the refusal."""
        try:
            return self.do(doing)
        except CloakworkError as failure:
            return failure.code

    def _expected(self, amount, name, body):
        """The run that is repeated, the code of the refusal, or None for a new hold."""
        if name in self.named:
            run, first = self.named[name]
            if run in self.held or self.ended[run] is not None:
                if first != body:
                    return "idempotency_mismatch"
                return "in_flight" if run in self.held else run
        if amount > self.available:
            return "insufficient_credit"
        return "budget_exceeded" if self.spent + amount > self.cap else None

    @rule(run=runs, share=st.floats(0, 1), answered=st.booleans(), by=st.integers(0, 1))
    def end(self, run, share, answered, by):
        charge = self.charges[run]
        quantity = int(charge.amount * share)
        outcome = Outcome.ANSWERED if answered else Outcome.FAILED
        end = End(charge, outcome, {"record": quantity}, request="1" * 64, answer="2" * 64)
        ended = self._try(self.ledgers[by].end(end, run.encode() if answered else None))
        if ended == "hold_lost":
            assert run not in self.held
            assert self.ended[run] is None
            assert answered
            return
        if run in self.held:
            self._close(run, quantity if answered else None)
        assert ended.amount == (self.ended[run] or 0)

    def _close(self, run, charged):
        amount, _ = self.held.pop(run)
        self.ended[run] = charged
        self.available += amount - (charged or 0)
        self.spent -= amount - (charged or 0)
        self.receipts += charged is not None

    @rule(by=st.integers(0, 1))
    def reap(self, by):
        self.do(self.ledgers[by].reap())
        for run in [run for run, (_, expired) in self.held.items() if expired]:
            self._close(run, None)

    @invariant()
    def agrees(self):
        def work():
            standing = yield STANDING([(self.account,)])
            spent = yield SPENT([(self.subject,)])
            return [tuple(row) for row in (*standing, *spent)]

        assert self.available >= 0
        expected = [
            (self.available, sum(amount for amount, _ in self.held.values()), self.receipts),
            (self.spent,),
        ]
        assert self.do(self.store.read(work())) in ([], expected)

    def teardown(self):
        assert self.do(self.store.read(audit())) == []


def test_the_ledger_agrees_with_its_model(run, gateway):
    stores = [gateway(), gateway()]
    ledgers = []
    for store in stores:
        signing = SigningKeys(store, SECRETS)
        run(signing.refresh())
        ledgers.append(Ledger(store, SECRETS, signing.receipt))
    quick = settings(
        max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(lambda: Books(run, stores[0], ledgers), settings=quick)

    async def close():
        await asyncio.gather(*(ledger.close() for ledger in ledgers))

    run(close())
