"""Fits against numpy's Chebyshev polynomials and exact cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial import Chebyshev

from cloakwork_privacy.compiler.calibrate import Range, observe
from cloakwork_privacy.compiler.fit import approximate, error, fit, nearest
from cloakwork_privacy.compiler.network import ACTIVATIONS, Affine, Network, Polynomial, Stage
from cloakwork_privacy.errors import PrivacyError

NAMED = ["relu", "silu", "gelu", "sigmoid", "tanh"]


def spread(low, high):
    """Samples by the Chebyshev density, under which the fit is numpy's interpolation but for aliasing."""
    return Range(low, high, (low + high) / 2 + (high - low) / 2 * np.cos(np.pi * np.linspace(0, 1, 5001)))


@pytest.mark.parametrize("activation", NAMED)
@pytest.mark.parametrize("degree", [1, 4, 9, 15])
@pytest.mark.parametrize(("low", "high"), [(-3.0, 5.0), (-4.0, 4.0), (1.0, 2.0)])
def test_against_numpy(activation, degree, low, high):
    function = ACTIVATIONS[activation]
    polynomial = nearest(activation, spread(low, high), degree, 0.0)
    x = np.linspace(low, high, 1001)
    reference = np.abs(Chebyshev.interpolate(function, degree, [low, high])(x) - function(x)).max()
    found = np.abs(polynomial(x) - function(x)).max()
    assert found <= 1.5 * reference + 1e-5 * np.ptp(function(x))
    assert polynomial.degree <= degree


def test_relu_of_degree_two_is_the_known_one():
    # The Chebyshev series of |t| begins 2/pi + 4/(3 pi) T_2, so relu = (t + |t|) / 2 has half of that.
    fitted = nearest("relu", spread(-1.0, 1.0), 2, 0.0)
    expected = (1 / (3 * np.pi), 0.5, 4 / (3 * np.pi))
    assert fitted.coefficients == pytest.approx(expected, abs=1e-3)


def test_degrees_are_true():
    assert nearest("tanh", spread(-2.0, 2.0), 8, 0.1).degree == 7
    assert nearest("relu", spread(-2.0, 2.0), 7, 0.1).degree == 6
    assert nearest("relu", spread(1.0, 2.0), 7, 0.1).coefficients == pytest.approx((0.0, 1.0), abs=1e-9)
    assert nearest("relu", spread(-2.0, -1.0), 7, 0.1).coefficients == (0.0,)
    assert nearest("square", spread(-2.0, 2.0), 1, 0.1).coefficients == (0.0, 0.0, 1.0)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.sampled_from(NAMED), st.floats(-50, 50), st.floats(0.01, 30), st.integers(1, 15), st.floats(0, 0.5))
def test_bounded_on_the_widened_range(activation, low, width, degree, margin):
    seen = observe([np.random.default_rng(0).uniform(low, low + width, (50, 2))], 50)
    polynomial = nearest(activation, seen, degree, margin)
    assert polynomial.degree == 0 or polynomial.coefficients[-1] != 0
    x = np.linspace(*seen.widened(margin), 500)
    wanted = ACTIVATIONS[activation](x)
    assert np.abs(polynomial(x) - wanted).max() <= np.ptp(wanted) + 1e-6 * np.abs(wanted).max() + 1e-12


def random_network(activations, seed=0):
    random, sizes, stages = np.random.default_rng(seed), [6], []
    for activation in activations:
        terms = {len(stages): random.normal(size=(8, sizes[-1])) / np.sqrt(sizes[-1])}
        stages.append(Stage(Affine(terms, random.normal(size=8) / 4), activation))
        sizes.append(8)
    terms = {0: random.normal(size=(3, 6)), len(stages): random.normal(size=(3, 8))}
    return Network(6, tuple(stages), Affine(terms, np.zeros(3)))


def test_networks():
    network = random_network(["relu", "square", "silu", "tanh"])
    records = np.random.default_rng(1).normal(size=(600, 6))
    differences = [
        np.abs(fit(network, records, degree)(records) - network(records)).max() for degree in (3, 7, 15)
    ]
    assert differences == sorted(differences, reverse=True)
    assert differences[-1] < 0.3
    fitted = fit(network, records, 7)
    assert fitted.stages[1].activation.coefficients == (0.0, 0.0, 1.0)
    assert all(isinstance(stage.activation, Polynomial) for stage in fitted.stages)
    assert fit(fitted, records, 2) == fitted


def test_smooth_networks_are_exact_at_high_degree():
    network = random_network(["silu", "sigmoid"])
    records = np.random.default_rng(1).normal(size=(300, 6))
    assert fit(network, records, 15)(records) == pytest.approx(network(records), abs=1e-3)


def test_units_of_unlike_ranges_and_constant_units():
    affine = Affine({0: np.diag([1e-2, 1.0, 30.0, 0.0])}, np.array([0.0, 0.0, 0.0, 2.0]))
    network = Network(4, (Stage(affine, "relu"),), Affine({1: np.eye(4)}, np.zeros(4)))
    records = np.random.default_rng(0).normal(size=(500, 4))
    found = fit(network, records, 5)(records)
    rms = np.sqrt(np.mean((found - network(records)) ** 2, axis=0))
    assert (rms[:3] < [5e-3, 0.3, 4.0]).all()
    assert rms[3] < 1e-9


def test_gain_and_shift_leave_no_mean_error():
    values = np.random.default_rng(0).normal(size=(400, 5)) * [1, 2, 3, 4, 5]
    fitted = approximate("relu", lambda: [values[:150], values[150:]], 400, 2, 0.1)
    stood = fitted.gain * fitted.scale * fitted.polynomial(values / fitted.scale) + fitted.shift
    assert (stood - np.maximum(values, 0)).mean(axis=0) == pytest.approx(np.zeros(5), abs=1e-9)


def test_error():
    seen = Range(0.0, 2.0, np.array([0.0, 1.0, 2.0]))
    stage = Stage(Affine({}, np.zeros(1)), "square")
    assert error(stage, Polynomial((0.0, 1.0)), seen) == pytest.approx((2.0, np.sqrt(4 / 3)))


@pytest.mark.parametrize(
    ("degree", "margin", "code"),
    [
        (0, 0.1, "degree_invalid"),
        (16, 0.1, "degree_invalid"),
        (3.0, 0.1, "degree_invalid"),
        (True, 0.1, "degree_invalid"),
        (3, -0.1, "margin_invalid"),
        (3, float("nan"), "margin_invalid"),
    ],
)
def test_options(degree, margin, code):
    with pytest.raises(PrivacyError) as refusal:
        fit(random_network(["relu"]), np.ones((1, 6)), degree, margin)
    assert refusal.value.code == code
