"""Flows are driven by hand here: no socket, no sleep."""

import json

import pytest

from cloakwork.config import Config
from cloakwork.errors import (
    BusyError,
    ConfigError,
    DeadlineError,
    ReceiptError,
    TransportError,
    error,
    to_body,
)
from cloakwork.exchange import Pause
from cloakwork.flow import Session
from cloakwork.price import Line
from cloakwork.receipts import GENESIS, Receipt, compact, digest
from cloakwork.wire import Header, Media, Mode, Request, Response

SALT = bytes(16)
FEE = Line("record", 1, 5_000, 5)


def OK(request, says=None, **counts):  # noqa: N802 (an answer like the others, but for its receipt)
    """Answer a request, with a receipt for both bodies."""
    body = json.dumps({"output": [1]}).encode()
    quantities = {"call": 1, "record": 1, "byte": len(request.body) + len(body)} | counts
    said = {
        "account": "a", "sequence": 1, "previous": GENESIS, "run": "req_1", "at": 1, "model": "m@1",
        "model_digest": "d" * 64, "mode": "plaintext", "outcome": "answered",
        "request": digest(SALT, "request", request.body), "answer": digest(SALT, "answer", body),
        "quantities": quantities, "price": 1, "lines": (Line("byte", quantities["byte"], 0, 0), FEE),
        "amount": 5, "key": "k",
    }  # fmt: skip
    receipt = Receipt(**said | (says or {}))
    headers = {
        "content-type": Media.JSON,
        Header.COST: "5",
        Header.MODEL: "m@1",
        Header.REQUEST_ID: "req_1",
        Header.RECEIPT: compact(receipt.canonical, bytes(64)),
        Header.RECEIPT_SALT: SALT.hex(),
    }
    return Response(200, headers, body)


def failing(code, **headers):
    failure = error(code, "no")
    return Response(failure.status, headers, json.dumps(to_body(failure)).encode())


def drive(flow, *answers):
    """Give a flow its answers; return what it asked for and what came out."""
    asked, answers = [], list(answers)
    step = next(flow)
    while True:
        asked.append(step)
        try:
            if isinstance(step, Pause):
                step = flow.send(None)
            elif isinstance(answers[0], Exception):
                step = flow.throw(answers.pop(0))
            else:
                answer = answers.pop(0)
                step = flow.send(answer(step) if callable(answer) else answer)
        except StopIteration as end:
            return asked, end.value


@pytest.fixture
def session(tmp_path):
    return Session(Config("http://host", "secret", tmp_path))


def run(session, deadline=60.0, ref="m", value=(1,)):
    return session.run(ref, list(value), Mode.PLAINTEXT, deadline, None)


def test_a_plain_call_is_one_request_with_the_key(session):
    asked, result = drive(run(session), OK)
    (request,) = asked
    assert request.headers["authorization"] == "Bearer secret"
    assert request.path == "/v1/models/m/run?privacy=plaintext"
    assert (result.output, str(result.cost), result.model) == ([1], "5E-9", "m@1")


def test_retries_repeat_the_same_request_under_the_same_idempotency_key(session):
    asked, _ = drive(run(session), failing("overloaded"), TransportError("connection_failed", ""), OK)
    requests = [step for step in asked if isinstance(step, Request)]
    assert len(requests) == 3
    assert len({request.headers[Header.IDEMPOTENCY_KEY] for request in requests}) == 1
    assert len({request.body for request in requests}) == 1
    assert [type(step) for step in asked] == [Request, Pause, Request, Pause, Request]


def test_two_calls_never_share_an_idempotency_key(session):
    names = {drive(run(session), OK)[0][0].headers[Header.IDEMPOTENCY_KEY] for _ in range(50)}
    assert len(names) == 50


def test_a_refusal_is_not_tried_again(session):
    with pytest.raises(Exception, match="no") as refused:
        drive(run(session), failing("wrong_shape"))
    assert refused.value.code == "wrong_shape"


def test_it_gives_up_with_the_last_failure(session):
    with pytest.raises(BusyError):
        drive(run(session), *[failing("overloaded")] * 4)


def test_the_deadline_bounds_tries_and_waits_together(session):
    with pytest.raises(DeadlineError):
        drive(run(session, deadline=5.0), failing("overloaded", **{Header.RETRY_AFTER: "30"}))


def test_model_references_cannot_leave_their_path_segment(session):
    flow = session.model("../keys?x#y", 5.0)
    assert next(flow).path == "/v1/models/..%2Fkeys%3Fx%23y"


@pytest.mark.parametrize("wrong", [{"call": 2}, {"byte": 7}])
def test_a_receipt_for_more_than_the_client_counts_is_refused(session, wrong):
    with pytest.raises(ReceiptError) as refused:
        drive(run(session), lambda request: OK(request, **wrong))
    assert refused.value.code == "receipt_invalid"


@pytest.mark.parametrize(
    ("ref", "wrong"),
    [
        ("m", {"run": "req_2"}),
        ("m", {"lines": (), "amount": 0}),
        ("m", {"mode": "anonymized"}),
        ("m", {"model": "m@2"}),
        ("other", {}),
        ("m@2", {}),
        ("m@sha256:ab", {}),
    ],
)
def test_a_receipt_for_another_call_is_refused(session, ref, wrong):
    with pytest.raises(ReceiptError) as refused:
        drive(run(session, ref=ref), lambda request: OK(request, says=wrong))
    assert refused.value.code == "receipt_invalid"


@pytest.mark.parametrize("ref", ["m", "m@1", "m@prod", "m@sha256:ddd"])
def test_a_receipt_is_for_whatever_version_was_asked(session, ref):
    assert drive(run(session, ref=ref), OK)[1].model == "m@1"


@pytest.mark.parametrize(
    ("sent", "charged", "fits"), [(3, 3, True), (3, 1, True), (3, 2, False), (1, 2, False)]
)
def test_a_receipt_is_for_as_many_records_as_were_sent(session, sent, charged, fits):
    """Three numbers are a batch of three or one record: the model's card would tell."""
    fee = Line("record", charged, 0, 0), Line("call", 1, 5_000, 5)
    answer = drive_or_refuse(
        run(session, value=range(sent)), lambda request: OK(request, says={"lines": fee}, record=charged)
    )
    assert (answer == "receipt_invalid") is not fits


def drive_or_refuse(flow, *answers):
    try:
        return drive(flow, *answers)
    except ReceiptError as refused:
        return refused.code


def test_an_answer_without_a_receipt_is_none_of_ours(session):
    def bare(request):
        answer = OK(request)
        return Response(
            200, {name: text for name, text in answer.headers.items() if name != Header.RECEIPT}, answer.body
        )

    with pytest.raises(ConfigError):
        drive(run(session), bare)
