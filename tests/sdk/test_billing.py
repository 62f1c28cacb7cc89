"""Usage and quotes as the client asks for them: by hand, and of a real gateway."""

import asyncio
import csv
import json
import os
import subprocess
from io import StringIO

import numpy as np
import pytest
from conftest import CLI
from hypothesis import given
from hypothesis import strategies as st

from cloakwork import AsyncClient, InputError
from cloakwork.billing import count, quote, quotes, usage
from cloakwork.cli.table import aligned
from cloakwork.config import Config
from cloakwork.errors import ConfigError
from cloakwork.flow import Session
from cloakwork.price import Price
from cloakwork.rates import dollars, in_words
from cloakwork.sheet import FORMULA, sheet
from cloakwork.usage import UsageRow, table
from cloakwork.wire import Media, Mode, Response

OFFER = {"price_nano_usd": None, "accuracy": 1.0, "sent": "", "max_records": 9}
CARD = {
    "name": "m", "task": "", "summary": "", "modes": {"plaintext": OFFER}, "metrics": {}, "training": {},
    "training_data": "", "limits": "", "license": "",
    "input": {"shape": [2], "dtype": "float32", "unit": ""},
    "output": {"shape": [1], "dtype": "float32", "unit": ""},
}  # fmt: skip
INFO = {"model": "m", "version": 1, "digest": "", "aliases": [], "card": CARD}
SAID = {
    "mode": "plaintext", "records": 2, "price": {"version": 7, "rates": {"record": 1}}, "amount_nano_usd": 3,
    "exact": True, "bytes_up": 4, "bytes_down": 5, "keys_up": 6, "seconds": None,
}  # fmt: skip


def answer(value):
    return Response(200, {"content-type": Media.JSON}, json.dumps(value).encode())


def drive(flow, *answers):
    """Give a flow its answers; return what it asked for and what came out."""
    asked, step = [], next(flow)
    for each in answers:
        asked.append(step)
        try:
            step = flow.send(each)
        except StopIteration as end:
            return asked, end.value
    raise AssertionError(f"asked for more: {step}")


@pytest.fixture
def session(tmp_path):
    return Session(Config("http://host", "secret", tmp_path))


def test_a_quote_sends_how_many_records_there_are_and_nothing_of_them(session):
    flow = quotes(session, "m@prod", [[3.25, 4.5], [5.75, 6.5]], None, 5.0)
    (card, question), found = drive(flow, answer(INFO), answer({"model": "m@1", "quotes": [SAID]}))
    assert (card.method, card.path, card.body) == ("GET", "/v1/models/m@prod", b"")
    assert (question.method, question.path) == ("POST", "/v1/models/m@prod/quote")
    assert json.loads(question.body) == {"records": 2, "privacy": None}
    (mode,) = found
    assert (mode, found[mode].price, str(found[mode].amount)) == (
        Mode.PLAINTEXT,
        Price(7, {"record": 1}),
        "3E-9",
    )


def test_a_service_that_quotes_another_mode_than_was_asked_for_is_none(session):
    flow = quote(session, "m", [1, 2], Mode.ENCRYPTED, 5.0)
    with pytest.raises(ConfigError):
        drive(flow, answer(INFO), answer({"model": "m@1", "quotes": [SAID]}))


def test_usage_asks_for_days_and_groups(session):
    row = {"calls": 1, "charged": 1, "records": 1, "bytes": 2, "amount_nano_usd": 5, "key": "cw_a"}
    said = {"since": "2024-01-01", "until": "2024-01-31", "by": ["key"], "rows": [row]}
    (request,), found = drive(usage(session, "2024-01-01", None, ["key", "day"], 5.0), answer(said))
    assert request.path == "/v1/usage?from=2024-01-01&by=key%2Cday"
    assert found.rows == (UsageRow(1, 1, 1, 2, 5, key="cw_a"),)
    assert str(found.rows[0].amount) == "5E-9"


@pytest.mark.parametrize(
    ("value", "shape", "records"),
    [
        ([1, 2, 3], (3,), 1),
        ([[1, 2, 3]] * 5, (3,), 5),
        (((1, 2), (3, 4)), (2, 2), 1),
        (np.zeros((7, 2, 2)), (2, 2), 7),
        ([np.zeros((2, 2))] * 4, (2, 2), 4),
        (np.zeros((2, 2)), (2, 2), 1),
    ],
)
def test_records_are_counted_by_nesting(value, shape, records):
    assert count(value, shape) == records


@pytest.mark.parametrize("value", [1.0, [], [[[1, 2]]], np.zeros(()), "12", {"a": 1}, None])
def test_what_is_neither_a_record_nor_a_batch_is_not_counted(value):
    with pytest.raises(InputError, match="shape"):
        count(value, (2,))


CELLS = st.one_of(st.integers(0), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))


@given(st.lists(st.lists(CELLS, min_size=2, max_size=2), min_size=1))
def test_a_sheet_reads_back_and_starts_no_formula(rows):
    read = list(csv.reader(StringIO(sheet(rows), newline="")))
    assert [[cell.removeprefix("'") for cell in row] for row in read] == [
        [str(cell).removeprefix("'") for cell in row] for row in rows
    ]
    assert not any(cell.startswith(FORMULA) for row in read for cell in row)


def test_a_table_has_what_was_grouped_by_and_the_figures():
    row = UsageRow(2, 1, 3, 4, 10**9 + 5, day="2024-01-01", key="cw_a")
    assert table(["key", "day"], [row]) == [
        ("key", "day", "calls", "charged", "records", "bytes", "amount_nano_usd", "amount_usd"),
        ("cw_a", "2024-01-01", 2, 1, 3, 4, 1_000_000_005, "1.000000005"),
    ]


def test_columns_are_aligned():
    assert aligned([("name", "n"), ("a", 1), ("bcdef", 10)]) == "name    n\na       1\nbcdef  10\n"
    assert aligned([("name", "n")]) == "name  n\n"


@pytest.mark.parametrize(
    ("rates", "words"),
    [
        ({"record": 2_000_000}, "$0.000002 a record"),
        ({"record": 0}, "$0 a record"),
        ({"microsecond": 10_000, "call": 10**12}, "$1 a call + $0.01 a second"),
        ({"byte": 1}, "$0.000000000001 a byte"),
    ],
)
def test_prices_in_words(rates, words):
    assert in_words(Price(1, rates)) == words
    assert dollars(123 * 10**14) == "12300"


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("records", [1, 3])
def test_what_is_quoted_is_what_is_charged_and_sent(server, held_out, mode, records):
    images = held_out("digits")[0][:records]
    value = images[0] if records == 1 else images
    with server.client() as client:
        quoted = client.quote("digits", value, privacy=mode)
        done = client.run("digits", value, privacy=mode)
        again = client.quote("digits", value, privacy=mode)
    assert quoted.exact
    assert (quoted.mode, quoted.records, quoted.amount) == (mode, records, done.cost)
    assert (quoted.bytes_up, quoted.bytes_down) == (done.privacy.bytes_up, done.privacy.bytes_down)
    assert done.privacy.keys_up in {0, quoted.keys_up}
    assert (quoted.keys_up > 0) == (mode == Mode.ENCRYPTED)
    assert again.seconds > 0


def test_all_modes_are_quoted_at_once_awaited_or_not(server):
    async def ask():
        client = AsyncClient(server.address, server.key)
        try:
            return (
                await client.quote("tumor-risk", [[1.0] * 30] * 2),
                await client.quote("tumor-risk", [1.0] * 30, privacy="plaintext"),
                await client.usage(by=["key"]),
            )
        finally:
            await client.close()

    quoted, one, used = asyncio.run(ask())
    with server.client() as client:
        assert client.quote("tumor-risk", [[1.0] * 30] * 2).keys() == quoted.keys() == set(Mode)
        assert client.usage(by=["key"])[: len(used)] == used
    assert quoted[Mode.PLAINTEXT].amount_nano_usd == 2 * one.amount_nano_usd == 2000


def test_a_throughput_program_is_quoted_as_it_is_sent(server, held_out):
    with server.client() as client:
        offer = client.models.get("digits").card.modes[Mode.ENCRYPTED]
        records = offer.programs["throughput"].records_from
        images = np.resize(held_out("digits")[0], (records, 8, 8))
        quoted = client.quote("digits", images, privacy="encrypted")
        done = client.run("digits", images, privacy="encrypted")
    assert offer.program(records) == "throughput"
    assert quoted.amount == done.cost
    assert quoted.bytes_up == done.privacy.bytes_up
    # A bundle that is not full comes back smaller than the one that was measured.
    assert quoted.bytes_down >= done.privacy.bytes_down
    assert quoted.keys_up == offer.report["programs"]["throughput"]["key_bytes"]


def test_usage_adds_up_to_what_calls_said_they_cost(server):
    with server.client() as client:
        before = sum(row.amount_nano_usd for row in client.usage())
        cost = sum(client.run("tumor-risk", [[1.0] * 30] * records).cost for records in (1, 2, 3))
        rows = client.usage()
        assert sum(row.amount_nano_usd for row in rows) - before == cost.scaleb(9) == 6000
        assert {"tumor-risk@1"} <= {row.model for row in rows}
        with pytest.raises(InputError):
            client.usage(by=["colour"])


@pytest.fixture
def cli(server, config, tmp_path):
    environment = os.environ | {
        "CLOAKWORK_BASE_URL": server.address,
        "CLOAKWORK_API_KEY": server.key,
        "CLOAKWORK_CONFIG": str(config),
    }

    def run(*arguments, text=None):
        done = subprocess.run(
            [*CLI, *map(str, arguments)],
            env=environment,
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return done

    return run


def test_quote_prints_a_row_for_each_mode(cli):
    record = json.dumps([1.0] * 30)
    lines = cli("quote", "tumor-risk", "-", text=record).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["mode", *Mode]
    assert "$0.000001000" in lines[1]
    assert "$0.000001 a record" in lines[1]
    assert (
        len(cli("quote", "tumor-risk", "-", "--privacy", "encrypted", text=record).stdout.splitlines()) == 2
    )
    assert "[wrong_shape" in cli("quote", "tumor-risk", "-", text="[[[1]]]").stderr


def test_usage_prints_or_writes_a_table_json_or_csv(cli, server, tmp_path):
    with server.client() as client:
        client.run("tumor-risk", [1.0] * 30)
    for form, read in (
        ("json", json.loads),
        ("csv", lambda text: list(csv.DictReader(StringIO(text, newline="")))),
    ):
        out = tmp_path / form
        assert cli("usage", "--by", "model,key", "--format", form, "--out", out).stdout == ""
        rows = read(out.read_bytes().decode())
        assert {row["model"]: int(row["calls"]) for row in rows}["tumor-risk@1"] > 0
        assert {row["key"] for row in rows} >= {server.key.rpartition("_")[0]}
    header, *rows = cli("usage").stdout.splitlines()
    assert header.split() == [
        "day",
        "model",
        "mode",
        "calls",
        "charged",
        "records",
        "bytes",
        "amount_nano_usd",
        "amount_usd",
    ]
    assert rows
    assert "[bad_request" in cli("usage", "--since", "yesterday").stderr
