"""Accounts, credit and the audit, on both databases."""

import pytest

from cloakwork.errors import InputError, NotFoundError
from cloakwork_functions.ledger.accounts import (
    Source,
    create_account,
    create_project,
    credit,
    list_accounts,
    list_balances,
    open_account,
)
from cloakwork_functions.ledger.allowance import Allowance
from cloakwork_functions.ledger.audit import audit
from cloakwork_functions.ledger.money import MOST, in_dollars, nano_usd
from cloakwork_functions.ledger.statement import Statement

USD = 10**9


@pytest.fixture
def do(run, store):
    """Do work in a transaction."""
    return lambda work: run(store.transact(work))


def say(text, columns="", rows=()):
    """One statement as work, for what nothing but a test would do to the books."""
    yield Statement(text, columns)(rows)


def code(do, work):
    with pytest.raises((InputError, NotFoundError)) as refused:
        do(work)
    return refused.value.code


def only(accounts):
    (account,) = accounts
    return account.available, account.held


def test_an_account_is_known_by_a_slug_of_its_name(do):
    assert do(create_account("Müller & Söhne")) == "muller-sohne"
    assert do(create_project("muller-sohne", "Fraud detection")) == "muller-sohne/fraud-detection"
    (account,) = do(list_accounts())
    assert (account.id, account.name, account.available, account.held) == (
        "muller-sohne",
        "Müller & Söhne",
        0,
        0,
    )


def test_making_one_again_changes_nothing(do):
    assert do(create_account("Acme")) == do(create_account("Acme")) == "acme"
    assert do(create_project("acme", "x")) == do(create_project("acme", "x"))
    assert len(do(list_accounts())) == 1


def test_names_that_cannot_be_told_apart_are_refused(do):
    do(create_account("Acme"))
    do(create_project("acme", "a b"))
    assert code(do, create_account("ACME")) == "name_taken"
    assert code(do, create_project("acme", "a-b")) == "name_taken"


@pytest.mark.parametrize("name", ["", "-", "日本", "a" * 101, "㎧" * 51, "a\nb", "a\0b", "a\udc80"])
def test_names_that_no_id_can_be_made_of_are_refused(do, name):
    assert code(do, create_account(name)) == "bad_request"


@pytest.mark.parametrize("account", ["none", "a\0", "\udc80"])
def test_an_unknown_account_has_no_projects_and_no_credit(do, account):
    assert code(do, create_project(account, "x")) == "unknown_account"
    assert code(do, credit(account, 5, Source.CASH, "r")) == "unknown_account"
    assert do(list_balances()) == {}


def test_a_project_may_have_a_budget_and_what_it_spent_stays_spent(do, run, store):
    project = do(create_project(do(create_account("a")), "p", Allowance(5, "day")))
    do(say("UPDATE budgets SET term = 20000, spent = 3"))
    do(create_project("a", "p", Allowance(7, "day", alert=50)))
    do(create_project("a", "p"))
    assert rows(run, store, "SELECT * FROM budgets") == [(f"project:{project}", 7, "day", 50, 20000, 3)]
    # Months are numbered apart from days: under another period what was spent is counted anew.
    do(create_project("a", "p", Allowance(7, "total")))
    assert rows(run, store, "SELECT term, spent FROM budgets") == [(0, 0)]


def rows(run, store, text):
    def ask():
        return (yield Statement(text)())

    return run(store.read(ask()))


def test_credit_moves_money_from_its_source_to_the_account(do):
    account = do(create_account("a"))
    assert do(credit(account, 5, Source.CASH, "invoice-1"))
    assert do(credit(account, 3, Source.PROMO, "hello"))
    assert do(credit(account, 1, Source.REFUND, "sorry"))
    assert only(do(list_accounts())) == (9, 0)
    assert do(list_balances()) == {"available:a": 9, "cash": -5, "promo": -3, "refunds": -1}
    assert do(audit()) == []


def test_a_credit_is_written_once_for_its_reference(do):
    do(create_account("a"))
    do(create_account("b"))
    assert do(credit("a", 5, Source.CASH, "r"))
    assert not do(credit("a", 5, Source.CASH, "r"))
    for other in (("a", 6, Source.CASH), ("a", 5, Source.PROMO), ("b", 5, Source.CASH)):
        assert code(do, credit(*other, "r")) == "reference_used"
    assert do(list_balances()) == {"available:a": 5, "cash": -5}
    assert [account.available for account in do(list_accounts())] == [5, 0]


def test_racing_credits_of_one_reference_are_written_once(run, gateway):
    import asyncio

    stores = [gateway(), gateway()]
    run(stores[0].transact(create_account("a")))

    async def race():
        works = [store.transact(credit("a", 5, Source.CASH, "r")) for store in stores for _ in range(8)]
        return await asyncio.gather(*works)

    assert sum(run(race())) == 1
    assert only(run(stores[1].read(list_accounts()))) == (5, 0)


@pytest.mark.parametrize("amount", [0, -1, MOST + 1])
def test_a_credit_of_nothing_or_too_much_is_refused(do, amount):
    do(create_account("a"))
    assert code(do, credit("a", amount, Source.CASH, "r")) == "amount_invalid"


@pytest.mark.parametrize("reference", ["", "é", "a\n", "x" * 101])
def test_a_reference_that_cannot_be_read_off_paper_is_refused(do, reference):
    do(create_account("a"))
    assert code(do, credit("a", 1, Source.CASH, reference)) == "bad_request"


def test_opening_an_account_gives_ten_dollars_once(do):
    assert do(open_account("default")) == do(open_account("default")) == "default/default"
    assert only(do(list_accounts())) == (10 * USD, 0)
    assert do(list_balances()) == {"available:default": 10 * USD, "promo": -10 * USD}


@pytest.fixture
def booked(do, unguarded):
    """Books with a call of each kind: one open, one ended at 40 of 60 held, one that failed."""
    do(open_account("a"))
    runs = [("open", 50, None), ("charged", 60, 40), ("failed", 70, 0)]
    for name, held, charged in runs:
        do(
            say(
                "INSERT INTO runs (id, account, project, key, model, model_digest, mode, price, at) "
                "SELECT id, 'a', 'a/default', 'cw_x', 'm@1', '', 'plaintext', 0, 0 FROM {batch}",
                "id text",
                [(name,)],
            )
        )
        do(entry(name, "hold", "available:a", "held:a", held))
        if charged is None:
            do(hold(name, held))
            continue
        do(entry(name, "settle", "held:a", "revenue", charged))
        do(entry(name, "release", "held:a", "available:a", held - charged))
        do(end(name, charged))
    do(say("INSERT INTO receipts VALUES ('a', 1, 'charged', '')"))
    do(say("INSERT INTO budgets VALUES ('project:a/default', 1000, 'total', 80, 0, 90)"))
    do(say(f"UPDATE accounts SET available = {10 * USD - 90}, held = 50, receipts = 1"))
    assert do(audit()) == []


def entry(*row):
    return say(
        "INSERT INTO entries SELECT id, kind, debit, credit, amount, 0 FROM {batch}",
        "id text, kind text, debit text, credit text, amount bigint",
        [row],
    )


def hold(run, amount):
    return say(
        "INSERT INTO holds SELECT run, 'a', 'a/default', 'cw_x', 'm', amount, 'g', 0, 0 FROM {batch}",
        "run text, amount bigint",
        [(run, amount)],
    )


def end(run, amount):
    return say(
        "INSERT INTO ends SELECT run, outcome, amount, '{{}}', 0 FROM {batch}",
        "run text, outcome text, amount bigint",
        [(run, "answered" if amount else "failed", amount)],
    )


PLANTED = {
    "available": (
        [say, "UPDATE accounts SET available = available + 1"],
        ["available:a: balance kept", "books: all balances"],
    ),
    "held": (
        [say, "UPDATE accounts SET held = held - 1"],
        ["books: all balances", "held:a: balance kept"],
    ),
    "an entry lost": (
        [say, "DELETE FROM entries WHERE kind = 'settle'"],
        ["books: all balances", "charged: charge at its end", "held:a: balance kept"],
    ),
    "an entry changed": (
        [say, "UPDATE entries SET amount = 41 WHERE kind = 'settle' AND amount = 40"],
        ["books: all balances", "charged: charge at its end", "held:a: balance kept"],
    ),
    "charged twice": (
        [entry, "charged", "settle again", "available:a", "revenue", 40],
        ["available:a: balance kept", "books: all balances", "charged: charge at its end"],
    ),
    "to a stranger": (
        [entry, "charged", "gift", "revenue", "available:stranger", 1],
        ["available:stranger: entries of no known account", "books: all", "charged: charge at its end"],
    ),
    "an entry of no run": (
        [entry, "ghost", "settle", "promo", "revenue", 1],
        ["ghost: entries of no run"],
    ),
    "a hold lost": (
        [say, "DELETE FROM holds"],
        ["open: neither open nor ended"],
    ),
    "a hold changed": (
        [say, "UPDATE holds SET amount = 49"],
        ["open: open hold"],
    ),
    "a hold without entries": (
        [say, "DELETE FROM entries WHERE id = 'open'"],
        ["available:a: balance kept", "held:a: balance kept", "open: open hold"],
    ),
    "a hold that stayed": (
        [hold, "charged", 60],
        ["charged: ended, but its hold is open"],
    ),
    "an end too many": (
        [end, "open", 50],
        ["open: ended, but its hold is open", "open: receipts, one if"],
    ),
    "an end lost": (
        [say, "DELETE FROM ends WHERE amount = 40"],
        ["charged: neither open nor ended", "charged: receipts, one if"],
    ),
    "an end changed": (
        [say, "UPDATE ends SET amount = 39 WHERE amount = 40"],
        ["charged: charge at its end"],
    ),
    "a receipt lost": (
        [say, "DELETE FROM receipts"],
        ["a: last receipt and how many", "charged: receipts, one if"],
    ),
    "a receipt too many": (
        [say, "INSERT INTO receipts VALUES ('a', 2, 'failed', '')"],
        ["a: last receipt and how many", "failed: receipts, one if"],
    ),
    "a receipt of a stranger's": (
        [say, "UPDATE receipts SET account = 'stranger'"],
        ["a: last receipt and how many", "charged: receipts, one if"],
    ),
    "a gap in the receipts": (
        [say, "UPDATE receipts SET sequence = 2"],
        ["a: last receipt and how many"],
    ),
    "a receipt that was not counted": (
        [say, "UPDATE accounts SET receipts = 0"],
        ["a: last receipt and how many"],
    ),
    "a budget that forgot a hold": (
        [say, "UPDATE budgets SET spent = 40"],
        ["project:a/default: spent of a budget"],
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_the_audit_finds_what_is_planted(do, booked, name):
    (make, *arguments), found = PLANTED[name]
    do(make(*arguments))
    discrepancies = sorted(do(audit()))
    assert len(discrepancies) == len(found), discrepancies
    assert all(said.startswith(what) for said, what in zip(discrepancies, found, strict=True)), discrepancies


@pytest.mark.parametrize(
    ("text", "nano"),
    [("10", 10 * USD), ("0.000000001", 1), ("1e-9", 1), ("0", 0), ("1000000", MOST), ("5.50", 5_500_000_000)],
)
def test_amounts(text, nano):
    assert nano_usd(text) == nano


NO_AMOUNTS = [
    "",
    "ten",
    "$5",
    "1,000",
    "NaN",
    "sNaN",
    "Infinity",
    "-1",
    "0.0000000001",
    "1e999999",
    "1e-999999",
]


@pytest.mark.parametrize("text", [*NO_AMOUNTS, "1000000.000000001", "0." + "3" * 60])
def test_amounts_that_are_none(text):
    with pytest.raises(InputError) as refused:
        nano_usd(text)
    assert refused.value.code == "amount_invalid"


def test_amounts_are_written_exactly():
    written = [in_dollars(nano) for nano in (0, 1, -1000, 25_500_000_000, MOST)]
    assert written == ["$0.00", "$0.000000001", "-$0.000001", "$25.50", "$1,000,000.00"]


def test_budgets_in_words():
    assert Allowance.parse("5/day") == Allowance(5 * USD, "day")
    assert Allowance.parse("20.50/month") == Allowance(20_500_000_000, "month")
    assert Allowance.parse("100") == Allowance(100 * USD, "total")
    for text in ("5/year", "x/day", "/day", "5/", "5/day/day", "-1"):
        with pytest.raises(InputError):
            Allowance.parse(text)
