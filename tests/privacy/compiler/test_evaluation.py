"""Polynomials as schedules: right for every degree, and as shallow as promised."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakwork_privacy.compiler.evaluation import evaluate
from cloakwork_privacy.compiler.network import Polynomial
from cloakwork_privacy.compiler.schedule import Schedule

COEFFICIENT = st.floats(-2, 2).map(lambda number: round(number, 3))


def depth(schedule):
    depths = [0]
    for step in schedule.steps:
        depths.append(max(depths[of] for of in step.of) + (step.name in {"square", "multiply"}))
    return max(depths)


def products(schedule):
    return sum(step.name in {"square", "multiply"} for step in schedule.steps)


@given(st.lists(COEFFICIENT, min_size=1, max_size=15), st.sampled_from([1.0, -0.7]))
def test_every_polynomial_is_right_and_shallow(lower, leading):
    polynomial = Polynomial((*lower, leading))
    schedule = Schedule()
    evaluate(schedule, 0, polynomial)
    values = np.linspace(-1, 1, 9)[None]
    expected = np.polynomial.polynomial.polyval(values, polynomial.coefficients)
    # A schedule's last register is the result, and where nothing is to be done the input is.
    assert list(schedule.values(values))[-1] == pytest.approx(expected, abs=1e-9)
    assert depth(schedule) <= math.ceil(math.log2(polynomial.degree + 1))


@pytest.mark.parametrize(
    ("coefficients", "most"),
    [
        ((0.0, 0.0, 1.0), 1),
        ((0.0, 0.4, 0.0, 1.0), 2),
        ((0.0, 0.4, 0.3, 0.0, 1.0), 2),
        ((0.0,) * 8 + (1.0,), 3),
        ((0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7), 5),
    ],
)
def test_special_forms_take_few_products(coefficients, most):
    schedule = Schedule()
    evaluate(schedule, 0, Polynomial(coefficients))
    assert products(schedule) == most
