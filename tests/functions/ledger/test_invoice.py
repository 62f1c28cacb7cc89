"""Invoices against the pricing of each run by itself, and against the entries, on both databases."""

import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import product

import pytest
from books import insert
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloakwork.errors import InputError, NotFoundError, ServerError
from cloakwork.price import UNITS, Price
from cloakwork.wire import Mode
from cloakwork_functions.ledger import Charge, End, Ledger, Outcome, Secrets, SigningKeys
from cloakwork_functions.ledger.accounts import Source, create_account, credit
from cloakwork_functions.ledger.invoice import Credit, Invoice, InvoiceLine, Month, invoice
from cloakwork_functions.ledger.page import page
from cloakwork_functions.ledger.statement import Statement
from cloakwork_functions.ledger.usage import Period, reconcile, usage

MONTH = Month(2024, 2)
PRICES = {
    0: Price(0, {"record": 2_000_000}),  # the card's, which the books do not hold
    1: Price(1, {"record": 7, "call": 500}),
    2: Price(2, {"byte": 1_500, "microsecond": 333}),
    3: Price(3, {"call": 2_500, "token": 1, "record": 10**13 + 500}),
    4: Price(4, {"record": 0}),
}
WRITE_PRICES = Statement(
    "INSERT INTO prices SELECT version, 'm', 'plaintext', rates, 0 FROM {batch}", "version bigint, rates text"
)
MOVE_CREDIT = Statement(
    "UPDATE entries SET at = batch.at FROM {batch} WHERE entries.id = batch.id", "id text, at bigint"
)
CREDIT = 10**15
NUMBERS = map(str, range(10**6))


@pytest.fixture
def do(run, store, unguarded):
    """Do work in a transaction."""
    run(store.transact(catalogue()))
    return lambda work: run(store.transact(work))


def catalogue():
    yield WRITE_PRICES((price.version, json.dumps(price.rates)) for price in PRICES.values() if price.version)


def open_account(topped_up=((CREDIT, MONTH.since - 1),)):
    """Make an account, topped up by amounts at times."""
    account = yield from create_account(f"Acme {next(NUMBERS)}")
    for amount, at in topped_up:
        reference = next(NUMBERS)
        yield from credit(account, amount, Source.CASH, reference)
        yield MOVE_CREDIT([(f"credit_{reference}", at)])
    return account


def used(price, at=MONTH.since, **quantities):
    """A run of one call that was charged by a price."""
    quantities = {"call": 1, "record": 1, **quantities}
    return {"at": at, "price": price, "quantities": quantities, "amount": PRICES[price].amount(quantities)}


RUNS = st.builds(
    used,
    st.sampled_from(sorted(PRICES)),
    st.sampled_from([MONTH.since - 1, MONTH.since, MONTH.until - 1, MONTH.until]),
    record=st.integers(1, 1000),
    byte=st.integers(0, 10**6),
    microsecond=st.integers(0, 10**8),
    token=st.integers(0, 10**6),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    runs=st.lists(RUNS, max_size=30),
    outcomes=st.lists(st.sampled_from(["answered", "abandoned", "failed", None])),
)
def test_lines_are_the_sums_of_each_runs_lines_and_come_to_the_entries(do, runs, outcomes):
    for run, outcome in zip(runs, outcomes, strict=False):
        run["outcome"] = outcome
    account = do(open_account())
    do(insert(account, runs))
    drawn = do(invoice(account, MONTH))
    expected = {}
    for run in runs:
        if MONTH.since <= run["at"] < MONTH.until and run.get("outcome", "answered") in {
            "answered",
            "abandoned",
        }:
            for line in PRICES[run["price"]].lines(run["quantities"]):
                name = run["price"], line.unit, line.rate
                quantity, amount = expected.get(name, (0, 0))
                expected[name] = quantity + line.quantity, amount + line.amount
    assert {
        (line.price, line.unit, line.rate): (line.quantity, line.amount) for line in drawn.lines
    } == expected
    assert len(drawn.lines) == len(expected)
    assert drawn.total == do(moved(account, MONTH.since, MONTH.until))
    assert drawn.opening == CREDIT - do(moved(account, 0, MONTH.since))
    assert drawn.closing == do(invoice(account, Month(2024, 3))).opening == drawn.opening - drawn.total


def moved(account, since, until):
    statement = Statement(
        "SELECT coalesce(sum(amount), 0) FROM {batch} JOIN runs ON runs.account = batch.account "
        "AND runs.at >= since AND runs.at < until JOIN entries ON entries.id = runs.id "
        "AND entries.kind IN ('settle', 'rounding')",
        "account text, since bigint, until bigint",
    )
    return (yield statement([(account, since, until)]))[0][0]


def test_what_the_ledger_itself_wrote_is_explained_run_by_run(run, store, do):
    account = do(open_account())
    signing = SigningKeys(store, Secrets(bytes(32)))
    run(signing.refresh())
    ledger = Ledger(store, Secrets(bytes(32)), signing.receipt)
    outcomes = [Outcome.ANSWERED, Outcome.ABANDONED, Outcome.FAILED, Outcome.ANSWERED, None]
    charged = 0
    for number, (outcome, price) in enumerate(product(outcomes, PRICES.values())):
        charge = Charge(
            f"r{number}",
            account,
            f"{account}/p",
            "cw_a",
            "cw_a",
            "m",
            1,
            "d" * 64,
            Mode.PLAINTEXT,
            price,
            10**12,
            60.0,
        )
        used = {"call": 1, "record": number + 1, "byte": number * 333 + 1, "microsecond": 501, "token": 1500}
        run(ledger.hold(charge))
        if outcome is not None:
            used = {} if outcome == Outcome.FAILED else used
            charged += run(ledger.end(End(charge, outcome, used, "1" * 64, "2" * 64))).amount
    run(ledger.close())
    month = Month.parse(datetime.now(UTC).strftime("%Y-%m"))
    drawn = do(invoice(account, month))
    assert drawn.total == charged > 0
    assert drawn.closing == CREDIT - charged
    assert do(reconcile(account)) == ()
    everything = Period(datetime.fromtimestamp(month.since, UTC).date(), datetime.now(UTC).date())
    (row,) = do(usage(account, everything, []))
    assert (row.calls, row.charged, row.amount_nano_usd) == (20, 15, charged)


def test_lines_stand_by_model_mode_price_and_unit(do):
    account = do(open_account())
    runs = [used(3), used(1), used(0), used(1) | {"model": "a@1"}, used(1) | {"mode": "encrypted"}]
    do(insert(account, runs))
    lines = [(line.model, line.mode, line.price, line.unit) for line in do(invoice(account, MONTH)).lines]
    assert lines == [
        ("a@1", "plaintext", 1, "call"),
        ("a@1", "plaintext", 1, "record"),
        ("m@1", "encrypted", 1, "call"),
        ("m@1", "encrypted", 1, "record"),
        ("m@1", "plaintext", 0, "record"),
        ("m@1", "plaintext", 1, "call"),
        ("m@1", "plaintext", 1, "record"),
        ("m@1", "plaintext", 3, "call"),
        ("m@1", "plaintext", 3, "record"),
        ("m@1", "plaintext", 3, "token"),
    ]


def test_credits_are_those_of_the_month_and_earlier_ones_are_in_the_opening_balance(do):
    times = [(5, MONTH.since - 1), (20, MONTH.since), (300, MONTH.until - 1), (4000, MONTH.until)]
    account = do(open_account(topped_up=times))
    do(open_account(topped_up=[(9, MONTH.since)]))
    drawn = do(invoice(account, MONTH))
    assert drawn.credits == (Credit(MONTH.since, "cash", 20), Credit(MONTH.until - 1, "cash", 300))
    assert (drawn.opening, drawn.total, drawn.closing) == (5, 0, 325)


@pytest.mark.parametrize(
    "planted",
    [
        "UPDATE entries SET amount = amount + 2 WHERE kind = 'settle'",
        "DELETE FROM entries WHERE kind = 'settle'",
        "UPDATE ends SET amount = amount + 1, quantities = '{\"record\": 3}'",
        "UPDATE prices SET rates = '{\"record\": 1000}'",
    ],
)
def test_an_invoice_that_its_lines_do_not_explain_is_not_given(do, planted):
    account = do(open_account())
    do(insert(account, [used(1, record=1000)]))
    assert do(invoice(account, MONTH)).total == 7

    def plant():
        yield Statement(planted.replace("{", "{{").replace("}", "}}"))()

    do(plant())
    with pytest.raises(ServerError) as failure:
        do(invoice(account, MONTH))
    assert failure.value.code == "books_differ"


def test_an_account_that_is_none_has_no_invoice(do):
    with pytest.raises(NotFoundError):
        do(invoice("nobody", MONTH))


@pytest.mark.parametrize(
    "text", ["2024-13", "2024-00", "2024-2", "24-02", "2024-02-01", "9999-12", "", "\uff12024-02"]
)
def test_what_is_no_month_that_has_begun_is_refused(text):
    with pytest.raises(InputError):
        Month.parse(text)


@pytest.mark.parametrize(("text", "days"), [("2024-02", 29), ("2023-12", 31), ("2023-02", 28)])
def test_months_follow_one_another(text, days):
    month = Month.parse(text)
    assert str(month) == text
    assert month.until - month.since == days * 86_400
    assert month.since == datetime.fromisoformat(f"{text}-01").replace(tzinfo=UTC).timestamp()


class Page(HTMLParser):
    """The elements of a page, with attributes, and its text; everything that opens must close."""

    VOID = frozenset({"meta"})

    def __init__(self, html):
        super().__init__()
        self.elements, self.open, self.text = [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def drawn(name="Acme", **fields):
    fields = {"opening": 5 * 10**9, "drawn": MONTH.until, "lines": (), "credits": (), **fields}
    return Invoice(account="acme", name=name, month=MONTH, **fields)


LINE = InvoiceLine("digits@1", "encrypted", 2, "record", 20_000_000, 1_000_001, 20_000_020_000)


def test_a_page_says_every_figure_to_the_last_digit():
    lines = (
        LINE,
        InvoiceLine("digits@1", "plaintext", 0, "record", 2_000_000, 1, 2_000),
        InvoiceLine("digits@1", "plaintext", 3, "microsecond", 1, 1_234_567, 1_235),
    )
    text = " ".join(Page(page(drawn(lines=lines, credits=(Credit(MONTH.since, "promo", 10**10),)))).text)
    for said in (
        "1,000,001 records", "$0.00002 a record", "20.000020000",
        "list price", "1 record ", "$0.000002 a record", "0.000002000",
        "version 3", "1.234567 seconds", "$0.000001 a second", "0.000001235",
        "Promotional credit", "10.000000000",
        "5.000000000", "20.000023235", "-20.000023235", "-5.000023235",
        "2024-02-01", "2024-02-29", "Final.",
    ):  # fmt: skip
        assert said in text, said
    assert "Preliminary" in page(drawn(drawn=MONTH.until - 1))
    assert "No charges." in page(drawn())


def test_a_page_needs_nothing_else_and_tells_a_screen_reader_what_is_what():
    html = page(drawn(lines=(LINE,)))
    parsed = Page(html)
    assert html.startswith("<!doctype html>")
    assert parsed.all("html") == [{"lang": "en"}]
    assert len(parsed.all("title")) == len(parsed.all("h1")) == len(parsed.all("main")) == 1
    assert len(parsed.all("caption")) == len(parsed.all("table")) == 2
    assert all(cell.get("scope") in {"row", "col"} for cell in parsed.all("th"))
    assert not {tag for tag, _ in parsed.elements} & {"script", "link", "img", "iframe", "a", "form"}
    assert not re.search(r"https?:|//|url\(|@import|src=|href=", html)
    assert "size: A4" in html


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", '"><img src=x onerror=y>', "$total ${name}", "a & b"]
)
def test_names_are_text_and_nothing_more(name):
    line = InvoiceLine(name, name, 1, name, 1, 1, 1)
    parsed = Page(page(drawn(name, lines=(line,), credits=(Credit(0, name, 1),))))
    assert not parsed.all("script") + parsed.all("img")
    assert "".join(parsed.text).count(name) >= 5
    assert [tag for tag, _ in parsed.elements].count("tr") == len(parsed.all("tr")) == 8


def test_units_are_all_known_to_the_page():
    lines = tuple(InvoiceLine("m@1", "plaintext", 1, unit, 1, 2, 3) for unit in UNITS)
    text = " ".join(Page(page(drawn(lines=lines))).text)
    for said in ("2 calls", "2 records", "2 tokens", "2 bytes", "2 ciphertexts", "0.000002 seconds"):
        assert said in text
