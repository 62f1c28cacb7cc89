"""Money over the wire: what a caller pays, what it is told, and what it can prove."""

import contextlib
import csv
import io
import json
import socket
import threading
import time
from decimal import Decimal

import httpx
import numpy as np
import pytest
from conftest import cli, serving
from sklearn.datasets import load_breast_cancer

from cloakwork import Client
from cloakwork.chain import verify_chain
from cloakwork.errors import BusyError, CloakworkError, PaymentError, PrivacyError
from cloakwork.jwks import keys_of
from cloakwork.receipts import recount, verify
from cloakwork.wire import Header, Path

RECORD, OTHER = load_breast_cancer().data[:2].tolist()
PRICE = 1_000
URL = "CLOAKWORK_DATABASE_URL"


@pytest.fixture
def gateway(fresh_home, tmp_path):
    """A gateway with books of its own."""
    with serving(fresh_home, tmp_path / "log") as server:
        yield server


def balance(server):
    shown = httpx.get(server.address + Path.OWN_KEY, headers=server.headers).json()
    return shown["available"], shown["held"]


def ask(server, name="k", **headers):
    return server.run(json={"input": RECORD}, headers={Header.IDEMPOTENCY_KEY: name, **headers})


def test_a_call_costs_its_price_and_comes_with_a_receipt(gateway):
    before = balance(gateway)
    answer = ask(gateway)
    body = answer.request.content
    assert answer.headers[Header.COST] == str(PRICE)
    assert balance(gateway) == (before[0] - PRICE, 0)
    keys = keys_of(httpx.get(gateway.address + Path.JWKS).json())
    receipt = verify(answer.headers[Header.RECEIPT], keys)
    assert (receipt.amount, receipt.run, receipt.model) == (
        PRICE,
        answer.headers[Header.REQUEST_ID],
        "tumor-risk@1",
    )
    salt = bytes.fromhex(answer.headers[Header.RECEIPT_SALT])
    assert recount(receipt, salt, body, answer.content) == {
        "call": 1,
        "byte": len(body) + len(answer.content),
    }


@pytest.mark.parametrize("mode", ["plaintext", "anonymized", "encrypted"])
def test_the_client_recounts_every_mode(gateway, mode):
    with gateway.client() as client:
        result = client.run("tumor-risk", [RECORD, RECORD], privacy=mode)
        receipt = verify(result.receipt, client.receipt_keys())
    assert (receipt.mode, receipt.quantities["record"]) == (mode, 2)
    assert result.cost == Decimal(receipt.amount).scaleb(-9)
    assert ("ciphertext" in receipt.quantities) == (mode == "encrypted")


def test_a_repeat_is_the_same_answer_for_nothing(gateway):
    first, again = ask(gateway), ask(gateway)
    assert again.content == first.content
    for name in (Header.COST, Header.RECEIPT, Header.RECEIPT_SALT, Header.REQUEST_ID, Header.MODEL):
        assert again.headers[name] == first.headers[name]
    assert balance(gateway) == (10**10 - PRICE, 0)
    other = gateway.run(json={"input": OTHER}, headers={Header.IDEMPOTENCY_KEY: "k"})
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_mismatch")


def test_an_answer_kept_for_a_repeat_is_not_readable_in_the_books(gateway):
    with gateway.client() as client:
        client.run("tumor-risk", RECORD)
    output = json.dumps(ask(gateway).json()["output"]).encode()
    files = b"".join(path.read_bytes() for path in gateway.home.root.glob("cloakwork.db*") if path.is_file())
    assert output not in files
    assert b'"output"' not in files


def test_too_little_credit_says_what_is_missing_and_runs_nothing(gateway):
    cli(gateway.home, "accounts", "create", "poor")
    cli(gateway.home, "accounts", "project", "poor", "p")
    cli(gateway.home, "accounts", "credit", "poor", "0.0000015")
    key = cli(gateway.home, "keys", "create", "--project", "poor/p")
    with Client(gateway.address, key) as client:
        client.run("tumor-risk", RECORD)
        with pytest.raises(PaymentError) as refused:
            client.run("tumor-risk", RECORD)
        assert refused.value.code == "insufficient_credit"
        assert "500 are missing" in refused.value.message
        usage = client.usage()
    assert [(row.calls, row.amount_nano_usd) for row in usage] == [(1, PRICE)]


def test_a_budget_and_a_rate_are_told_in_the_answer(gateway):
    key = cli(gateway.home, "keys", "create", "--per-minute", "3", "--budget", "0.000002/day")
    headers = {"authorization": f"Bearer {key}"}
    first = httpx.post(f"{gateway.address}/v1/models/tumor-risk/run", json={"input": RECORD}, headers=headers)
    assert first.headers["ratelimit-policy"] == '"key";q=3;w=60'
    assert first.headers["x-ratelimit-remaining-requests"] == "2"
    codes = []
    for _ in range(3):
        answer = httpx.post(
            f"{gateway.address}/v1/models/tumor-risk/run", json={"input": RECORD}, headers=headers
        )
        codes.append((answer.status_code, answer.json().get("error", {}).get("code")))
    assert codes == [(200, None), (402, "budget_exceeded"), (402, "budget_exceeded")]


def test_beyond_the_rate_a_caller_is_told_when_to_come_again(gateway):
    key = cli(gateway.home, "keys", "create", "--per-minute", "1")
    headers = {"authorization": f"Bearer {key}"}
    answers = [
        httpx.post(f"{gateway.address}/v1/models/tumor-risk/run", json={"input": RECORD}, headers=headers)
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert 1 <= int(answers[1].headers[Header.RETRY_AFTER]) <= 60
    assert answers[1].headers["ratelimit"].startswith('"key";r=0;t=')
    with Client(gateway.address, key) as client, pytest.raises(CloakworkError) as refused:
        client.run("tumor-risk", RECORD, deadline=2.0)
    assert refused.value.code == "deadline_exceeded"
    assert isinstance(refused.value.__cause__, BusyError)


def test_a_floor_is_kept_by_server_and_client(gateway):
    key = cli(gateway.home, "keys", "create", "--floor", "encrypted")
    bare = httpx.post(
        f"{gateway.address}/v1/models/tumor-risk/run",
        json={"input": RECORD},
        headers={"authorization": f"Bearer {key}"},
    )
    assert (bare.status_code, bare.json()["error"]["code"]) == (403, "below_privacy_floor")
    with Client(gateway.address, key) as client:
        for mode in ("plaintext", "anonymized"):
            with pytest.raises(PrivacyError) as refused:
                client.run("tumor-risk", RECORD, privacy=mode)
            assert refused.value.code == "below_privacy_floor"
            assert refused.value.request_id is None, "the client refuses before it sends anything"
        assert client.run("tumor-risk", RECORD, privacy="encrypted").cost > 0


def test_a_quote_is_what_is_charged(gateway):
    records = np.array([RECORD] * 5, np.float32)
    with gateway.client() as client:
        quotes = client.quote("tumor-risk", records)
        assert set(quotes) == {"plaintext", "anonymized", "encrypted"}
        for mode, quote in quotes.items():
            result = client.run("tumor-risk", records, privacy=mode)
            assert quote.exact
            assert (quote.amount, quote.records) == (result.cost, 5)
            assert quote.bytes_up == result.privacy.bytes_up


def test_a_new_price_is_quoted_charged_and_named_in_the_receipt(gateway):
    cli(
        gateway.home,
        "prices",
        "set",
        "tumor-risk",
        "plaintext",
        "--per-call",
        "0.000005",
        "--per-byte",
        "0.000000001",
    )
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        answer = gateway.run(json={"input": RECORD})
        receipt = verify(
            answer.headers[Header.RECEIPT], keys_of(httpx.get(gateway.address + Path.JWKS).json())
        )
        if receipt.price == 1:
            break
        time.sleep(0.2)
    size = len(answer.request.content) + len(answer.content)
    assert [(line.unit, line.amount) for line in receipt.lines] == [("call", 5_000), ("byte", size)]
    assert balance(gateway)[1] == 0


def test_usage_invoice_and_receipts_say_the_same(gateway, tmp_path):
    with gateway.client() as client:
        for mode, count in (("plaintext", 3), ("encrypted", 2)):
            for _ in range(count):
                client.run("tumor-risk", RECORD, privacy=mode)
        total = sum(row.amount_nano_usd for row in client.usage())
        summary = verify_chain(list(client.receipts()), client.receipt_keys())
    assert summary.total.amount == total
    assert balance(gateway)[0] == 10**10 - total
    month = time.strftime("%Y-%m", time.gmtime())
    page = httpx.get(f"{gateway.address}/v1/invoices/{month}", headers=gateway.headers)
    assert page.headers["content-type"].startswith("text/html")
    assert str(Decimal(total).scaleb(-9)) in page.text
    sheet = httpx.get(f"{gateway.address}/v1/usage?by=mode&format=csv", headers=gateway.headers).text
    rows = list(csv.DictReader(io.StringIO(sheet)))
    assert sum(int(row["amount_nano_usd"]) for row in rows) == total


def test_receipts_are_verified_from_the_command_line(gateway, tmp_path, monkeypatch):
    with gateway.client() as client:
        for _ in range(3):
            client.run("tumor-risk", RECORD)
    monkeypatch.setenv("CLOAKWORK_BASE_URL", gateway.address)
    monkeypatch.setenv("CLOAKWORK_API_KEY", gateway.key)
    chain = tmp_path / "receipts.txt"
    cli(gateway.home, "receipts", "export", "--out", str(chain))
    assert "3" in cli(gateway.home, "receipts", "verify", str(chain))
    lines = chain.read_text().splitlines()
    chain.write_text("\n".join([lines[0], lines[2]]))
    with pytest.raises(Exception, match="exit status 1"):
        cli(gateway.home, "receipts", "verify", str(chain))


def test_a_caller_who_hangs_up_while_it_waits_pays_nothing(gateway, held_out):
    """The first of two long calls keeps the one worker busy; the second is abandoned in the queue."""
    with (
        serving(gateway.home, gateway.log.parent / "log2", "--workers", "1") as server,
        server.client() as client,
    ):
        records = held_out("digits")[0][:64]
        client.run("digits", records[0], privacy="encrypted")
        before = balance(server)
        busy = threading.Thread(target=lambda: client.run("digits", records, privacy="encrypted"))
        busy.start()
        wait_for(lambda: balance(server)[1] > 0)
        with pytest.raises(CloakworkError):
            client.run("digits", records[0], privacy="encrypted", deadline=0.3)
        busy.join(60)
        wait_for(lambda: balance(server)[1] == 0)
        assert balance(server)[0] == before[0] - 64 * 20_000


def test_a_caller_who_hangs_up_while_it_is_computed_pays_and_finds_the_answer(gateway, held_out):
    records = held_out("digits")[0][:64]
    with gateway.client() as client:
        client.run("digits", records[0], privacy="encrypted")
        sealed = client._session.keys[next(iter(client._session.keys))].seal(records)
    before = balance(gateway)
    head = (
        "POST /v1/models/digits/run?privacy=encrypted HTTP/1.1\r\nhost: x\r\n"
        f"authorization: Bearer {gateway.key}\r\nidempotency-key: gone\r\n"
        f"content-type: application/vnd.cloakwork.frame\r\ncontent-length: {len(sealed)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
        connection.sendall(head.encode() + sealed)
        wait_for(lambda: balance(gateway)[1] > 0)
        time.sleep(0.3)  # it has begun: nothing else is waiting
    wait_for(lambda: balance(gateway)[1] == 0)
    assert balance(gateway)[0] == before[0] - 64 * 20_000
    answer = gateway.run(
        "digits",
        "encrypted",
        content=sealed,
        headers={"content-type": "application/vnd.cloakwork.frame", Header.IDEMPOTENCY_KEY: "gone"},
    )
    assert (answer.status_code, answer.headers[Header.COST]) == (200, str(64 * 20_000))
    assert balance(gateway)[0] == before[0] - 64 * 20_000


def test_who_runs_out_of_time_while_it_is_computed_pays_and_finds_the_answer(gateway, held_out):
    """A short timeout is no way to have computing for nothing."""
    records = held_out("digits")[0][:64]
    with gateway.client() as client:
        client.run("digits", records[0], privacy="encrypted")
        sealed = client._session.keys[next(iter(client._session.keys))].seal(records)
    before = balance(gateway)[0]
    asked = {
        "content": sealed,
        "headers": {"content-type": "application/vnd.cloakwork.frame", Header.IDEMPOTENCY_KEY: "late"},
    }
    late = asked | {"headers": {**asked["headers"], Header.TIMEOUT: "0.3"}}
    answer = gateway.run("digits", "encrypted", **late)
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert balance(gateway) == (before - 64 * 20_000, 64 * 20_000), "still computed, and held"
    wait_for(lambda: balance(gateway)[1] == 0)
    answer = gateway.run("digits", "encrypted", **asked)
    assert (answer.status_code, answer.headers[Header.COST]) == (200, str(64 * 20_000))
    assert balance(gateway)[0] == before - 64 * 20_000
    with gateway.client() as client:
        calls = {row.outcome: row.calls for row in client.usage(by=("outcome",))}
    assert calls == {"answered": 1, "abandoned": 1}


@pytest.mark.parametrize("gateways", [1, 3])
def test_credit_for_n_calls_pays_for_n_of_64_racing_clients(
    fresh_home, tmp_path, request, monkeypatch, gateways
):
    if gateways > 1:
        monkeypatch.setenv(URL, request.getfixturevalue("postgres_url"))
    paid = 20
    cli(fresh_home, "accounts", "create", "racer")
    cli(fresh_home, "accounts", "project", "racer", "p")
    cli(fresh_home, "accounts", "credit", "racer", "0.00002")
    key = cli(fresh_home, "keys", "create", "--project", "racer/p", "--manage")
    outcomes = []
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(serving(fresh_home, tmp_path / f"log{n}")) for n in range(gateways)]

        def call(server):
            answer = httpx.post(
                f"{server.address}/v1/models/tumor-risk/run",
                json={"input": RECORD},
                headers={"authorization": f"Bearer {key}"},
                timeout=60,
            )
            outcomes.append(answer.status_code)

        callers = [threading.Thread(target=call, args=(servers[n % gateways],)) for n in range(64)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        left = httpx.get(servers[0].address + Path.OWN_KEY, headers={"authorization": f"Bearer {key}"}).json()
    assert sorted(outcomes) == [200] * paid + [402] * (64 - paid)
    assert (left["available"], left["held"]) == (0, 0)
    assert "sound" in cli(fresh_home, "accounts", "audit")


def wait_for(condition, seconds=30.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return
        time.sleep(0.02)
    raise TimeoutError
