"""The endpoints about money, asked inside this process, over real books."""

import asyncio
import csv
import json
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO

import httpx
import msgspec
import pytest
from books import insert

from cloakwork.errors import CODES
from cloakwork.wire import Card, Media, Mode, Offer, Path, Tensor
from cloakwork_functions.gateway import create_app, open_service
from cloakwork_functions.gateway.quote import Pace
from cloakwork_functions.home import Home
from cloakwork_functions.ledger.accounts import create_project, open_account
from cloakwork_functions.ledger.scope import Scope
from cloakwork_functions.ledger.statement import Statement
from cloakwork_functions.registry import Registry

DAY = 86_400
TODAY = datetime.now(UTC).date()
MIDNIGHT = int(datetime(TODAY.year, TODAY.month, TODAY.day, tzinfo=UTC).timestamp())
RECEIPTS = Statement(
    "INSERT INTO receipts SELECT account, sequence, run, receipt FROM {batch}",
    "account text, sequence bigint, run text, receipt text",
)
QUOTE = "/v1/models/squares/quote"


def publish(home, folder):
    """A model of 2 x 3 numbers, free of a list price in one mode."""
    folder.mkdir()
    modes = {
        Mode.PLAINTEXT: Offer(2000, 1.0, "the record itself", 10_000_000),
        Mode.ANONYMIZED: Offer(None, 1.0, "noise", 10, wire=(2,), epsilon=4.0),
    }
    shapes = Tensor((2, 3), "float32", "pixel"), Tensor((4,), "float32", "probability")
    card = Card("squares", "", "", *shapes, modes, {}, {}, "", "", "")
    (folder / "card.json").write_bytes(msgspec.json.encode(card))
    Registry(home.registry).publish(folder)


class World:
    """A gateway in this process and a key to it."""

    def __init__(self, run, service):
        self.run = run
        self.service = service
        self.app = create_app(service)
        self.do = lambda work: run(service.store.transact(work))
        self.key, self.stranger = (
            run(service.keys.create(self.do(open_account(name)), "test", Scope(manage=True)))
            for name in ("acme", "other")
        )

    def ask(self, path, key=None, body=None, **headers):
        async def send():
            transport = httpx.ASGITransport(self.app)
            sent = {"authorization": f"Bearer {key or self.key}", **headers}
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
                return await client.request(
                    "GET" if body is None else "POST", path, headers=sent, content=body
                )

        return self.run(send())

    def refused(self, path, **request):
        answer = self.ask(path, **request)
        code = answer.json()["error"]["code"]
        assert answer.status_code == CODES[code].status
        return code

    def quote(self, **asked):
        answer = self.ask(QUOTE, body=json.dumps(asked)).json()
        return {each["mode"]: each for each in answer["quotes"]}


@pytest.fixture
def world(tmp_path):
    home = Home(tmp_path / "home")
    home.make()
    publish(home, tmp_path / "squares")
    with asyncio.Runner() as runner:

        async def enter():
            stack = AsyncExitStack()
            return stack, await stack.enter_async_context(open_service(home))

        stack, service = runner.run(enter())
        yield World(runner.run, service)
        runner.run(stack.aclose())


@pytest.mark.parametrize(
    ("path", "body"),
    [(Path.USAGE, None), ("/v1/invoices/2024-02", None), (Path.RECEIPTS, None), (QUOTE, "{}")],
)
def test_nothing_is_told_without_a_key(world, path, body):
    assert world.refused(path, key="cw_none", body=body) == "wrong_key"


def test_usage_is_the_last_thirty_days_by_day_model_and_mode(world):
    times = [MIDNIGHT - days * DAY for days in (0, 29, 30)]
    world.do(insert("acme", [{"at": at} for at in times]))
    found = world.ask(Path.USAGE).json()
    assert found["since"] == (TODAY - timedelta(days=29)).isoformat()
    assert found["until"] == TODAY.isoformat()
    assert found["by"] == ["day", "model", "mode"]
    assert [row["day"] for row in found["rows"]] == [found["since"], found["until"]]
    row = {key: value for key, value in found["rows"][0].items() if value is not None and key != "day"}
    assert row == {
        "model": "m@1", "mode": "plaintext", "calls": 1, "charged": 1, "records": 1, "bytes": 0,
        "amount_nano_usd": 8,
    }  # fmt: skip


def test_usage_of_chosen_days_by_chosen_names(world):
    world.do(insert("acme", [{"at": 1_704_067_200 + hour * 3600} for hour in range(50)]))
    found = world.ask(f"{Path.USAGE}?from=2024-01-01&to=2024-01-02&by=key").json()
    assert [(row["key"], row["calls"], row["day"]) for row in found["rows"]] == [("cw_a", 48, None)]
    assert [
        row["calls"] for row in world.ask(f"{Path.USAGE}?from=2024-01-01&to=2024-01-09&by=,").json()["rows"]
    ] == [50]


def test_an_account_sees_its_own_alone(world):
    world.do(insert("acme", [{"at": MIDNIGHT}]))
    world.do(receipts("acme", 1))
    assert world.ask(Path.USAGE, world.stranger).json()["rows"] == []
    assert world.ask(Path.RECEIPTS, world.stranger).json() == {"receipts": []}
    month = f"/v1/invoices/{TODAY:%Y-%m}"
    assert "m@1" in world.ask(month).text
    assert "m@1" not in world.ask(month, world.stranger).text


def test_a_key_that_does_not_manage_sees_its_own_projects_usage_and_no_invoice(world):
    project = world.do(create_project("acme", "lab"))
    key = world.run(world.service.keys.create(project, "test"))
    runs = [{"at": MIDNIGHT, "project": name} for name in (project, project, "acme/default")]
    world.do(insert("acme", runs))
    world.do(receipts("acme", 1))
    assert [row["calls"] for row in world.ask(Path.USAGE).json()["rows"]] == [3]
    for by, shown in (("day", None), ("project", project), (",", None)):
        (row,) = world.ask(f"{Path.USAGE}?by={by}", key).json()["rows"]
        assert (row["calls"], row["project"]) == (2, shown)
    assert world.refused(f"/v1/invoices/{TODAY:%Y-%m}", key=key) == "manage_forbidden"
    assert world.ask(Path.RECEIPTS, key).json() == {"receipts": ["receipt 1"]}


def test_a_key_is_told_nothing_about_models_that_it_may_not_call(world):
    def make(**scope):
        return world.run(world.service.keys.create("acme/default", "test", Scope(**scope)))

    own, other, plain = make(models=("squares",)), make(models=("circles",)), make(modes=(Mode.PLAINTEXT,))
    keys = "/v1/models/squares/evaluation-keys/" + "0" * 64
    asked = (QUOTE, '{"records": 1}'), ("/v1/models/squares@1/modes/anonymized", None), (keys, None)
    for path, body in asked:
        assert world.refused(path, key=other, body=body) == "model_forbidden"
    assert world.ask(QUOTE, own, '{"records": 1}').status_code == 200
    assert world.ask(keys, own).status_code == 200
    assert world.refused(keys, key=plain) == "mode_forbidden"


@pytest.mark.parametrize("query", ["privacy=", "privacy=plaintext&privacy=encrypted", "privacy", "privacy=x"])
def test_an_odd_mode_is_not_taken_for_plaintext(world, query):
    """An empty value in a client's template must not send a record in the clear."""
    path = f"/v1/models/squares/run?{query}"
    assert world.refused(path, body='{"input": [[1, 2, 3], [1, 2, 3]]}') == "bad_request"


@pytest.mark.parametrize(
    "query",
    [
        "from=yesterday",
        "to=2024-1-1",
        "to=20240101",
        "to=2024-02-30",
        "to=0001-01-01",
        "from=9999-01-01",
        "from=2024-01-02&to=2024-01-01",
        "from=2020-01-01&to=2024-01-01",
        "by=account",
    ],
)
def test_what_is_no_question_for_usage_is_refused(world, query):
    assert world.refused(f"{Path.USAGE}?{query}") == "bad_request"


@pytest.mark.parametrize(("query", "headers"), [("format=csv&", {}), ("", {"accept": "text/csv"})])
def test_usage_as_csv(world, query, headers):
    names = ["=1+1", "+1", "-1", "@x", 'a,"b"\nc', "plain"]
    world.do(insert("acme", [{"at": MIDNIGHT, "model": name} for name in names]))
    answer = world.ask(f"{Path.USAGE}?{query}by=day,model", **headers)
    assert answer.headers["content-type"] == Media.CSV
    assert answer.headers["content-disposition"].endswith(f'-{TODAY}.csv"')
    first, *rows = csv.reader(StringIO(answer.text, newline=""))
    assert first == ["day", "model", "calls", "charged", "records", "bytes", "amount_nano_usd", "amount_usd"]
    assert [row[1] for row in rows] == ["'+1", "'-1", "'=1+1", "'@x", 'a,"b"\nc', "plain"]
    assert all(row[2:] == ["1", "1", "1", "0", "8", "0.000000008"] for row in rows)


def test_an_invoice_is_a_page_that_runs_nothing(world):
    world.do(insert("acme", [{"at": MIDNIGHT, "price": 0, "model": "<script>x"}]))
    answer = world.ask(f"/v1/invoices/{TODAY:%Y-%m}")
    assert answer.headers["content-type"] == Media.HTML
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "&lt;script&gt;x" in answer.text
    assert "<script" not in answer.text
    assert "0.000000008" in answer.text
    assert "10.000000000" in answer.text  # the credit to try it with
    for month in ("2024-13", "9999-01", "now"):
        assert world.refused(f"/v1/invoices/{month}") == "bad_request"


def receipts(account, count):
    yield RECEIPTS(
        (account, number, f"{account}{number}", f"receipt {number}") for number in range(1, count + 1)
    )


def test_receipts_come_a_thousand_at_a_time_in_order(world):
    world.do(receipts("acme", 1500))
    starts = (0, 1000, 1499, 1500)
    pages = [world.ask(f"{Path.RECEIPTS}?after={after}").json()["receipts"] for after in starts]
    assert list(map(len, pages)) == [1000, 500, 1, 0]
    assert pages[0] + pages[1] == [f"receipt {number}" for number in range(1, 1501)]
    assert world.ask(Path.RECEIPTS).json()["receipts"] == pages[0]


@pytest.mark.parametrize("after", ["-1", "x", "1.0", "9" * 30, "%C2%B2"])
def test_what_is_no_sequence_is_refused(world, after):
    assert world.refused(f"{Path.RECEIPTS}?after={after}") == "bad_request"


def test_a_quote_by_the_cards_price(world):
    assert world.quote(records=3) == {
        "plaintext": {
            "mode": "plaintext", "records": 3, "price": {"version": 0, "rates": {"record": 2_000_000}},
            "amount_nano_usd": 6000, "exact": True, "bytes_up": 8 + 12 + 72, "bytes_down": 8 + 8 + 48,
            "keys_up": 0, "seconds": None,
        }
    }  # fmt: skip
    assert world.quote(records=1)["plaintext"]["bytes_up"] == 8 + 8 + 24


def test_a_quote_follows_the_catalogue_and_the_pace(world):
    run, catalogue, pace = world.run, world.service.catalogue, world.service.pace
    rates = {"call": Decimal("0.001"), "microsecond": Decimal("0.000002"), "byte": Decimal("1e-9")}
    run(catalogue.set("squares", Mode.ANONYMIZED, rates))
    said = world.quote(records=1)["anonymized"]
    assert (said["price"]["version"], said["amount_nano_usd"], said["exact"]) == (1, None, False)
    assert (said["bytes_up"], said["bytes_down"]) == (8 + 8 + 8, 8 + 8 + 16)
    pace.observe("squares", Mode.ANONYMIZED, 1, 0.5)
    said = world.quote(records=1)["anonymized"]
    assert said["seconds"] == 0.5
    assert said["amount_nano_usd"] == 1_000_000 + 500_000 * 2_000 + 56
    assert list(world.quote(records=1)) == ["plaintext", "anonymized"]
    assert list(world.quote(records=1, privacy="anonymized")) == ["anonymized"]


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"records": 1, "privacy": "anonymized"}, "no_price"),
        ({"records": 1, "privacy": "encrypted"}, "mode_not_offered"),
        ({"records": 0}, "too_many_records"),
        ({"records": -1}, "too_many_records"),
        ({"records": 10_000_001}, "too_many_records"),
        ({"records": 10_000_000}, "body_too_large"),
        ({"records": 1.5}, "bad_json"),
        ({"records": "1"}, "bad_json"),
        ({}, "bad_json"),
        ([1], "bad_json"),
    ],
)
def test_what_would_be_refused_is_not_quoted(world, asked, code):
    assert world.refused(QUOTE, body=json.dumps(asked)) == code


def test_a_question_for_a_quote_is_short_json_about_a_model(world):
    assert world.refused(QUOTE, body="{") == "bad_json"
    assert world.refused(QUOTE, body=b"\xff") == "bad_json"
    assert world.refused(QUOTE, body='{"records": 1, "privacy": "secret"}') in {"bad_json", "bad_request"}
    assert world.refused(QUOTE, body=" " * 2000) == "body_too_large"
    assert world.refused("/v1/models/circles/quote", body='{"records": 1}') == "unknown_model"


def test_the_pace_is_the_median_of_recent_runs_of_about_as_many_records():
    pace = Pace()
    assert pace.expected("m", Mode.PLAINTEXT, 1) is None
    for seconds in (9.0, 1.0, 2.0):
        pace.observe("m", Mode.PLAINTEXT, 5, seconds)
    assert pace.expected("m", Mode.PLAINTEXT, 4) == pace.expected("m", Mode.PLAINTEXT, 7) == 2.0
    assert pace.expected("m", Mode.PLAINTEXT, 8) is pace.expected("m", Mode.ENCRYPTED, 5) is None
    for _ in range(1000):
        pace.observe("m", Mode.PLAINTEXT, 5, 3.0)
    pace.observe("m", Mode.PLAINTEXT, 5, 100.0)
    assert pace.expected("m", Mode.PLAINTEXT, 5) == 3.0
