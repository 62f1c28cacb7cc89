"""The same function with every pre-activation in [-1, 1], and polynomials in their cheapest form."""

import numpy as np
import pytest
from hypothesis import given, settings
from networks import SQUARE, dense, networks, polynomial, records

from cloakwork_privacy.compiler.network import Network, Polynomial, Stage
from cloakwork_privacy.compiler.normalise import normalise
from cloakwork_privacy.compiler.standardise import standardise


def largest_pre_activation(network, given):
    values = network.values(given)
    return max((np.abs(stage.affine(values)).max() for stage in network.stages), default=0.0)


@settings(max_examples=30, deadline=None)
@given(networks())
def test_nothing_changes_but_the_ranges(network):
    given = records(network)
    normal = normalise(network, given)
    expected = network(given)
    assert normal(given) == pytest.approx(expected, abs=1e-7 * max(1.0, np.abs(expected).max()))
    assert largest_pre_activation(normal, given) <= 1 + 1e-9


@pytest.mark.parametrize("degree", [2, 3, 4])
def test_low_degrees_become_monic_without_a_second_coefficient(degree):
    random = np.random.default_rng(degree)
    coefficients = (*random.normal(size=degree), 1.3)
    network = Network(
        6, (Stage(dense(random, 5, (0, 6)), Polynomial(coefficients)),), dense(random, 3, (1, 5))
    )
    given = 4 * records(network)
    (stage,) = normalise(network, given).stages
    assert stage.activation.coefficients[-1] == 1.0
    assert stage.activation.coefficients[-2] == 0.0
    assert stage.activation.coefficients[0] == 0.0


def test_a_vertex_far_from_the_data_stays_where_it_is():
    random = np.random.default_rng(1)
    nearly_straight = Polynomial((0.0, 1.0, 1e-3))
    network = Network(6, (Stage(dense(random, 5, (0, 6)), nearly_straight),), dense(random, 3, (1, 5)))
    given = records(network)
    normal = normalise(network, given)
    assert normal.stages[0].activation.coefficients[1] != 0.0
    assert normal(given) == pytest.approx(network(given), abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(networks())
def test_standardised_features_lie_in_the_unit_interval(network):
    given = records(network) * np.geomspace(0.01, 1.0, network.inputs) + 0.3
    changed, standard = standardise(network, given)
    ready = standard(given)
    expected = network(given)
    assert np.abs(ready).max() <= 1 + 1e-12
    assert changed(ready) == pytest.approx(expected, rel=1e-6, abs=1e-6 * np.abs(expected).max())


def test_pixels_share_a_range_and_columns_do_not():
    random = np.random.default_rng(2)
    network = Network(3, (Stage(dense(random, 4, (0, 3)), SQUARE),), dense(random, 2, (1, 4)))
    pixels = np.array([[0.0, 16.0, 8.0], [2.0, 3.0, 4.0]])
    _, standard = standardise(network, pixels)
    assert len(set(standard.gain)) == 1
    columns = np.array([[0.0, 1e4, 8.0], [1.0, -1e4, 8.0]])
    _, standard = standardise(network, columns)
    assert len(set(standard.gain)) == 3
    assert standard(columns)[:, 2].tolist() == [0.0, 0.0]


def test_polynomials_of_any_degree_stay_within_one():
    random = np.random.default_rng(3)
    stages = (Stage(dense(random, 5, (0, 6)), polynomial(random, 7)),)
    network = Network(6, stages, dense(random, 3, (1, 5)))
    given = records(network)
    values = normalise(network, given).values(given)
    assert np.abs(values[1]).max() <= 1 + 1e-9
