import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakwork.errors import CODES, error
from cloakwork.retry import Retry

PASSING = {
    "books_differ",
    "concurrency_limited",
    "hold_lost",
    "rate_limited",
    "connection_failed",
    "in_flight",
    "overloaded",
    "ledger_unavailable",
    "worker_failed",
    "model_unavailable",
    "internal",
}


@pytest.mark.parametrize("code", CODES)
def test_only_what_may_pass_is_tried_again(code):
    assert (Retry().delay(error(code, ""), 1, 0.5) is not None) == (code in PASSING)


@given(st.integers(1, 3), st.floats(0, 1, exclude_max=True))
def test_waits_grow_up_to_the_cap(attempt, jitter):
    wait = Retry(attempts=9, base=1.0, cap=3.0).delay(error("overloaded", ""), attempt, jitter)
    assert 0 <= wait <= min(3.0, 2.0 ** (attempt - 1))


def test_the_last_try_is_the_last():
    assert Retry(attempts=2).delay(error("overloaded", ""), 2, 0.5) is None


def test_the_servers_wish_comes_first():
    assert Retry().delay(error("overloaded", "", retry_after=7.0), 1, 0.5) == 7.0


def test_a_call_still_in_flight_is_waited_for_until_the_deadline():
    assert Retry(attempts=1).delay(error("in_flight", "", retry_after=1.0), 99, 0.5) == 1.0
