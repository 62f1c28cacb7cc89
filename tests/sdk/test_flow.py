"""Flows are driven by hand here: no socket, no sleep."""

import json

import pytest

from cloakwork.config import Config
from cloakwork.errors import BusyError, DeadlineError, TransportError, error, to_body
from cloakwork.exchange import Pause
from cloakwork.flow import Session
from cloakwork.wire import Header, Media, Mode, Request, Response

OK = Response(
    200,
    {"content-type": Media.JSON, Header.COST: "5", Header.MODEL: "m@1", Header.REQUEST_ID: "req_1"},
    json.dumps({"output": [1]}).encode(),
)


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
                step = flow.send(answers.pop(0))
        except StopIteration as end:
            return asked, end.value


@pytest.fixture
def session(tmp_path):
    return Session(Config("http://host", "secret", tmp_path))


def run(session, deadline=60.0):
    return session.run("m", [1], Mode.PLAINTEXT, deadline, None)


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
