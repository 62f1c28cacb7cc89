"""The upload of evaluation keys, driven by hand."""

import json
from contextlib import suppress
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakwork.chunk import Chunk, KeyUpload, Limit
from cloakwork.config import Config
from cloakwork.errors import CloakworkError, InputError, TransportError, error, to_body
from cloakwork.exchange import Deadline, Exchange, Pause
from cloakwork.upload import MOST_SETBACKS, unheard, upload
from cloakwork.wire import Response

KEYS = bytes(range(250)) * 40


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(Limit, "CHUNK", 4000)


def stands(received, *, complete=False):
    return Response(200, {}, json.dumps(asdict(KeyUpload("f", received, complete))).encode())


def refused(code):
    failure = error(code, "no")
    return Response(failure.status, {}, json.dumps(to_body(failure)).encode())


def drive(*answers, progress=unheard):
    """Give the flow its answers; return what it sent and what came out."""
    flow = upload(Exchange(Config("http://host", None, None)), "/p", lambda: KEYS, Deadline(60.0), progress)
    asked, answers = [], list(answers)
    step = next(flow)
    while True:
        try:
            if isinstance(step, Pause):
                step = flow.send(None)
                continue
            asked.append((step.method, step.headers.get("content-range"), step.body))
            answer = answers.pop(0)
            step = flow.throw(answer) if isinstance(answer, Exception) else flow.send(answer)
        except StopIteration as end:
            assert not answers
            return asked, end.value


def piece(start, end):
    return ("PUT", f"bytes {start}-{end - 1}/{len(KEYS)}", KEYS[start:end])


ASK = ("GET", None, b"")


def test_keys_that_are_there_are_not_sent():
    assert drive(stands(10_000, complete=True)) == ([ASK], 0)


def test_chunks_follow_on_one_another():
    told = []
    asked, sent = drive(
        stands(0), stands(4000), stands(8000), stands(10_000, complete=True),
        progress=lambda *state: told.append(state),
    )  # fmt: skip
    assert asked == [ASK, piece(0, 4000), piece(4000, 8000), piece(8000, 10_000)]
    assert sent == 10_000
    assert told == [(0, 10_000), (4000, 10_000), (8000, 10_000), (10_000, 10_000)]


def test_an_upload_begun_by_another_process_goes_on():
    asked, sent = drive(stands(9000), stands(10_000, complete=True))
    assert asked == [ASK, piece(9000, 10_000)]
    assert sent == 1000


def test_all_there_but_not_checked_asks_for_the_check():
    asked, sent = drive(stands(10_000), stands(10_000, complete=True))
    assert asked == [ASK, ("PUT", "bytes */10000", b"")]
    assert sent == 0


def test_after_a_broken_connection_it_goes_on_from_what_arrived():
    broken = TransportError("connection_failed", "")
    asked, sent = drive(
        stands(0), broken, refused("upload_offset_mismatch"), stands(3000), stands(7000),
        stands(10_000, complete=True),
    )  # fmt: skip
    assert asked == [ASK, piece(0, 4000), piece(0, 4000), ASK, piece(3000, 7000), piece(7000, 10_000)]
    assert sent == 7000


def test_another_client_may_finish_it():
    asked, sent = drive(stands(0), refused("upload_offset_mismatch"), stands(10_000, complete=True))
    assert asked == [ASK, piece(0, 4000), ASK]
    assert sent == 0


def test_a_damaged_beginning_that_was_not_ours_is_sent_again_once():
    whole = [stands(4000), stands(8000)]
    asked, sent = drive(
        stands(8000), refused("evaluation_keys_invalid"), stands(0), *whole, stands(10_000, complete=True)
    )
    assert asked[2:] == [ASK, piece(0, 4000), piece(4000, 8000), piece(8000, 10_000)]
    assert sent == 10_000
    with pytest.raises(CloakworkError) as failure:
        drive(stands(0), *whole, refused("evaluation_keys_invalid"))
    assert failure.value.code == "evaluation_keys_invalid"


def test_a_service_that_always_expects_something_else_is_given_up():
    with pytest.raises(CloakworkError) as failure:
        drive(stands(0), *[refused("upload_offset_mismatch"), stands(0)] * (MOST_SETBACKS + 1))
    assert failure.value.code == "upload_offset_mismatch"


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_chunk_is_read_as_it_was_written(start, size, rest):
    chunk = Chunk(start, start + size, start + size + rest)
    if size or not rest:
        assert Chunk.parse(str(chunk)) == chunk


@given(st.text() | st.from_regex(r"bytes [0-9]{1,3}-[0-9]{1,3}/[0-9]{1,3}", fullmatch=True))
def test_anything_else_is_refused_or_in_order(text):
    with suppress(InputError):
        chunk = Chunk.parse(text)
        assert 0 <= chunk.start <= chunk.end <= chunk.total
