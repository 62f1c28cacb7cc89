"""Calls as a gateway makes them to the ledger, for the one account that tests of it have."""

from __future__ import annotations

from cloakwork.price import Price
from cloakwork.wire import Mode
from cloakwork_functions.ledger import Charge, End, Outcome, Replay, Secrets
from cloakwork_functions.ledger.accounts import Source, create_account, create_project, credit

SECRETS = Secrets(bytes(32))
PRICE = Price(1, {"record": 7_000})
CREDIT = 1_000
USED = {"call": 1, "record": 1}


def open_account():
    yield from create_account("a")
    yield from create_project("a", "p")
    yield from credit("a", CREDIT, Source.CASH, "first")


def charge(run="r1", *, amount=7, lifetime=60.0, key="cw_a", family=None, model="m", price=PRICE):
    who = "a", "a/p", key, family or key
    return Charge(run, *who, model, 1, "d" * 64, Mode.PLAINTEXT, price, amount, lifetime)


def answered(of, quantities=USED):
    return End(of, Outcome.ANSWERED, quantities, request="1" * 64, answer="2" * 64)


def failed(of):
    return End(of, Outcome.FAILED, {})


async def call(ledger, of, idempotency=None, body=b"x", answer=b"answer"):
    """A whole call; gives what it was charged, or the replay."""
    held = await ledger.hold(of, idempotency, body)
    if isinstance(held, Replay):
        return held
    return await ledger.end(answered(of), answer if idempotency else None)


def rows(run, store, statement, columns=()):
    def work():
        return (yield statement(columns))

    return [tuple(row) for row in run(store.read(work()))]
