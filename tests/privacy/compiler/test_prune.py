"""The same function without what has no effect."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import SQUARE, dense, networks, records

from cloakwork_privacy.compiler.network import Affine, Network, Polynomial, Stage
from cloakwork_privacy.compiler.prune import prune
from cloakwork_privacy.errors import PrivacyError

RANDOM = np.random.default_rng(13)
SHIFTED = Polynomial((0.5, 1.0, 1.0))


def holed(network, random):
    """The network with a third of all rows and columns of its matrices set to zero."""

    def holes(affine):
        def hole(matrix):
            rows, columns = (random.random(size) > 1 / 3 for size in matrix.shape)
            return matrix * rows[:, None] * columns

        return Affine({source: hole(matrix) for source, matrix in affine.terms.items()}, affine.bias)

    stages = tuple(Stage(holes(stage.affine), stage.activation) for stage in network.stages)
    return Network(network.inputs, stages, holes(network.output))


def maps(network):
    return [*(stage.affine for stage in network.stages), network.output]


def rows_of_zeros(affine):
    return int((~np.any([matrix.any(axis=1) for matrix in affine.terms.values()], axis=0)).sum())


@settings(max_examples=40, deadline=None)
@given(networks(), st.integers(0, 1 << 30))
def test_nothing_changes_and_nothing_idle_is_left(network, seed):
    network = holed(network, np.random.default_rng(seed))
    given = records(network)
    expected = network(given)
    try:
        pruned, features = prune(network, given)
    except PrivacyError:
        assert np.ptp(expected, axis=0) == pytest.approx(0.0, abs=1e-9)
        return
    assert pruned(given[:, features]) == pytest.approx(expected, abs=1e-9 * max(1.0, np.abs(expected).max()))
    assert all(matrix.any() for affine in maps(pruned) for matrix in affine.terms.values())
    assert not any(map(rows_of_zeros, maps(pruned)[:-1]))
    sizes = [pruned.inputs, *(len(stage.affine.bias) for stage in pruned.stages)]
    for source, size in enumerate(sizes):
        read = [affine.terms[source].any(axis=0) for affine in maps(pruned) if source in affine.terms]
        assert np.any(read, axis=0).tolist() == [True] * size


def test_a_whole_network_stays_as_it_is():
    network = Network(6, (Stage(dense(RANDOM, 5, (0, 6)), SQUARE),), dense(RANDOM, 3, (1, 5)))
    pruned, features = prune(network, records(network))
    assert features.tolist() == list(range(6))
    for before, after in zip(maps(network), maps(pruned), strict=True):
        assert {source: matrix.tolist() for source, matrix in before.terms.items()} == {
            source: matrix.tolist() for source, matrix in after.terms.items()
        }
        assert before.bias.tolist() == after.bias.tolist()


def test_a_dead_unit_becomes_a_bias():
    first = Affine({0: np.array([[1.0, 2.0], [1e-30, 0.0]])}, np.array([0.0, 3.0]))
    network = Network(2, (Stage(first, SHIFTED),), Affine({1: np.array([[1.0, 2.0]])}, np.array([1.0])))
    pruned, features = prune(network, records(network))
    assert features.tolist() == [0, 1]
    assert pruned.stages[0].affine.terms[0].tolist() == [[1.0, 2.0]]
    assert pruned.output.bias.tolist() == [1.0 + 2.0 * (0.5 + 3.0 + 9.0)]


def test_constants_make_constants():
    """A unit that reads dead units only is dead, and so is its stage."""
    dead = Stage(Affine({0: np.zeros((3, 4))}, np.ones(3)), SHIFTED)
    after = Stage(Affine({1: RANDOM.normal(size=(2, 3))}, np.zeros(2)), SQUARE)
    output = Affine({0: RANDOM.normal(size=(2, 4)), 2: RANDOM.normal(size=(2, 2))}, np.zeros(2))
    network = Network(4, (dead, after), output)
    given = records(network)
    pruned, _ = prune(network, given)
    assert pruned.stages == ()
    assert pruned(given) == pytest.approx(network(given), abs=1e-12)


def test_features_that_nobody_reads_are_left_out():
    matrix = RANDOM.normal(size=(5, 6))
    matrix[:, [0, 4]] = 0.0
    unread = np.vstack((matrix, RANDOM.normal(size=(1, 6))))  # the last unit reads all, and nobody reads it
    second = np.hstack((RANDOM.normal(size=(3, 5)), np.zeros((3, 1))))
    network = Network(6, (Stage(Affine({0: unread}, np.zeros(6)), SQUARE),), Affine({1: second}, np.zeros(3)))
    given = records(network)
    pruned, features = prune(network, given)
    assert features.tolist() == [1, 2, 3, 5]
    assert pruned.inputs == 4
    assert pruned(given[:, features]) == pytest.approx(network(given), abs=1e-12)


def test_a_constant_logit_stays_and_constant_logits_are_refused():
    weight = RANDOM.normal(size=(3, 4))
    weight[1] = 0.0
    one = Network(4, (), Affine({0: weight}, np.array([0.0, 7.0, 0.0])))
    pruned, _ = prune(one, records(one))
    assert pruned(records(one))[:, 1].tolist() == [7.0] * 20
    none = Network(4, (), Affine({0: np.zeros((3, 4))}, np.ones(3)))
    with pytest.raises(PrivacyError, match="same for every record") as refused:
        prune(none, records(none))
    assert refused.value.code == "model_unsupported"


def test_calibration_that_says_nothing_of_sizes_removes_nothing():
    network = Network(6, (Stage(dense(RANDOM, 5, (0, 6)), SQUARE),), dense(RANDOM, 3, (1, 5)))
    assert prune(network, np.zeros((1, 6)))[1].tolist() == list(range(6))


def test_small_weights_that_matter_stay():
    """Next to nothing is a matter of what they meet."""
    matrix = np.array([[1e-9, 1.0], [0.0, 1e-12]])
    network = Network(2, (), Affine({0: matrix}, np.zeros(2)))
    pruned, _ = prune(network, records(network))
    assert pruned.output.terms[0].tolist() == matrix.tolist()
