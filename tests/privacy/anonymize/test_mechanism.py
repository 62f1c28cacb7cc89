from __future__ import annotations

import math
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakwork_privacy.anonymize import RandomizedResponse
from cloakwork_privacy.anonymize.mechanism import MAX_EPSILON, TOTAL
from cloakwork_privacy.errors import PrivacyError


def exact_law(response, near):
    """The definition, in rationals: the probability of each codeword for one record."""
    chance = Fraction(response.threshold, TOTAL)
    far = (1 - chance) / (response.size - response.near)
    return [chance / response.near if word in near else far for word in range(response.size)]


def exact_loss(response):
    """The worst ratio of any answer's probability under any two records, over all pairs of records."""
    rows = [exact_law(response, set(near)) for near in combinations(range(response.size), response.near)]
    return max(a / b for one in rows for two in rows for a, b in zip(one, two, strict=True))


def observed_loss(response, draws=40_000):
    """The same ratio's logarithm, estimated from answers to two records with different near codewords."""
    one = np.arange(response.near)
    two = response.size - 1 - one
    counts = [
        np.bincount(response.draw(np.tile(near, (draws, 1))), minlength=response.size) for near in (one, two)
    ]
    return float(np.abs(np.log(counts[0] / counts[1])).max())


@pytest.mark.parametrize(("size", "near"), [(2, 1), (5, 1), (5, 2), (6, 3)])
@pytest.mark.parametrize("epsilon", [0.1, 1.0, 4.0])
def test_no_answer_is_more_than_e_to_the_epsilon_likelier_under_another_record(size, near, epsilon):
    response = RandomizedResponse.calibrate(epsilon, size=size, near=near)
    loss = math.log(exact_loss(response))
    assert loss <= epsilon
    assert loss == pytest.approx(epsilon, abs=1e-6)
    assert response.epsilon == pytest.approx(loss, abs=1e-12)


@pytest.mark.parametrize(("stated", "within"), [(1.0, True), (1.5, False)])
def test_the_draws_keep_the_inequality_and_the_test_sees_too_little_noise(stated, within):
    response = RandomizedResponse.calibrate(stated, size=4, near=1)
    # Ratios of counts near 40_000 / e stray by less than 0.1 but once in a billion runs.
    assert (observed_loss(response) <= 1.0 + 0.1) is within


def test_draws_follow_the_law():
    response = RandomizedResponse.calibrate(1.0, size=7, near=3)
    near = np.array([[5, 0, 3]])
    draws = 60_000
    expected = response.law(near)[0] * draws
    counts = np.bincount(response.draw(np.repeat(near, draws, axis=0)), minlength=7)
    # Pearson's statistic has 6 degrees of freedom: above 60 with a probability below 1e-10.
    assert ((counts - expected) ** 2 / expected).sum() < 60


@given(
    st.floats(0.001, MAX_EPSILON),
    st.integers(2, 4096).flatmap(lambda size: st.tuples(st.just(size), st.integers(1, size - 1))),
)
def test_calibration_matches_the_closed_form_and_never_exceeds_what_was_asked(epsilon, counts):
    size, near = counts
    response = RandomizedResponse.calibrate(epsilon, size=size, near=near)
    odds = near * math.exp(epsilon)
    assert response.threshold / TOTAL == pytest.approx(odds / (odds + size - near), rel=1e-8)
    assert 0 <= epsilon - response.epsilon <= 1e-6


@pytest.mark.parametrize(
    ("size", "near", "epsilon"), [(4096, 4095, 12.0), (4072, 4071, 12.0), (4096, 4095, 10.0)]
)
def test_close_to_certainty_too_no_more_than_what_was_asked_is_spent(size, near, epsilon):
    response = RandomizedResponse.calibrate(epsilon, size=size, near=near)
    assert 0 <= epsilon - response.epsilon <= 1e-6


def test_one_near_codeword_is_k_ary_randomised_response():
    # Kairouz, Oh, Viswanath 2016: the truth with probability e^ε / (e^ε + k - 1).
    response = RandomizedResponse.calibrate(4.0, size=10, near=1)
    assert response.law(np.array([[0]]))[0, 0] == pytest.approx(math.exp(4) / (math.exp(4) + 9), rel=1e-8)


@given(st.integers(2, 30).flatmap(lambda size: st.tuples(st.just(size), st.integers(1, size - 1))))
def test_the_law_is_the_definition(counts):
    size, near = counts
    response = RandomizedResponse.calibrate(3.0, size=size, near=near)
    chosen = np.random.default_rng(size).permutation(size)[:near]
    expected = [float(p) for p in exact_law(response, set(chosen.tolist()))]
    assert response.law(chosen[None])[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("size", "near", "threshold"),
    [
        (1, 1, TOTAL // 2),
        (4097, 1, TOTAL // 2),
        (4, 0, TOTAL // 2),
        (4, 4, TOTAL // 2),
        (4, 2, 0),
        (4, 2, TOTAL),
        (4, 2, TOTAL // 2),  # ε = 0: the answer says nothing
        (4, 2, TOTAL // 3),  # ε < 0
        (4, 2, TOTAL - 1),  # ε = 36
    ],
)
def test_parameters_without_a_sound_law_are_refused(size, near, threshold):
    with pytest.raises(PrivacyError) as refusal:
        RandomizedResponse(size, near, threshold)
    assert refusal.value.code == "release_invalid"


@pytest.mark.parametrize("epsilon", [0.0, -1.0, MAX_EPSILON + 1, math.nan, math.inf])
def test_no_calibration_to_a_senseless_epsilon(epsilon):
    with pytest.raises(PrivacyError, match="ε"):
        RandomizedResponse.calibrate(epsilon, size=4, near=1)


def test_draws_of_no_records_are_none():
    assert RandomizedResponse.calibrate(1.0, size=4, near=2).draw(np.empty((0, 2), np.intp)).shape == (0,)
