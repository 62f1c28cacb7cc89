"""Layouts and rotations: every arrangement computes the network, in as few rotations as are known to do."""

import numpy as np
import pytest
from hypothesis import given, settings
from networks import SQUARE, convolution, dense, networks, records

from cloakwork_privacy.compiler import packing
from cloakwork_privacy.compiler.arrange import arrange, bundle
from cloakwork_privacy.compiler.network import Affine, Network, Polynomial, Stage
from cloakwork_privacy.compiler.normalise import normalise
from cloakwork_privacy.compiler.rotations import rotated_sum
from cloakwork_privacy.compiler.schedule import Schedule

RANDOM = np.random.default_rng(7)
CUBIC = Polynomial((0.0, 0.3, 0.0, 1.0))


def answers(arrangement, given):
    gather = np.array(arrangement.gather)
    packed = np.where(gather < 0, 0.0, given[:, gather])
    logits = list(arrangement.schedule.values(packed))[-1]
    if arrangement.period:
        logits = logits.reshape(len(given), -1, arrangement.period).mean(axis=1)
    return logits[:, list(arrangement.take)]


@settings(max_examples=40, deadline=None)
@given(networks())
def test_every_arrangement_computes_the_network(network):
    given = records(network, count=3)
    normal = normalise(network, given)
    expected = network(given)
    close = pytest.approx(expected, abs=1e-6 * max(1.0, np.abs(expected).max()))
    found = arrange(normal, 512)
    assert found
    for arrangement in (*found, bundle(normal)):
        assert answers(arrangement, given) == close


def tutorial():
    """The convolutional network of TenSEAL's tutorial."""
    stages = (
        Stage(convolution(RANDOM, 28, 7, 4, stride=3), SQUARE),
        Stage(dense(RANDOM, 64, (1, 256)), SQUARE),
    )
    return Network(784, stages, dense(RANDOM, 10, (2, 64)))


@pytest.mark.parametrize(
    ("network", "rotations"),
    [
        (tutorial(), 15),
        (Network(64, (Stage(dense(RANDOM, 64, (0, 64)), CUBIC),), dense(RANDOM, 10, (1, 64))), 6),
        (Network(30, (), dense(RANDOM, 3, (0, 30))), 0),
    ],
)
def test_well_known_shapes_take_few_rotations(network, rotations):
    best, *others = arrange(network, 4096)
    assert best.rotations <= rotations
    given = records(network, count=2)
    for arrangement in (best, *others):
        assert answers(arrangement, given) == pytest.approx(network(given), abs=1e-9)


def test_the_client_lays_windows_out():
    affine = convolution(RANDOM, 8, 3, 4)
    layout, rows = packing.windows(affine.terms[0], 4096, copies=1)
    # 36 windows of 9 pixels: tap t of window u at slot 64 t + u.
    pixels = layout.order[: layout.period].reshape(16, 64)
    assert (pixels[:9, :36] >= 0).all()
    assert (pixels[9:] == -1).all()
    assert pixels[4, 0] == 9  # the centre of the first window
    assert sorted(rows[rows >= 0]) == list(range(4 * 36))


def test_what_does_not_fit_has_no_arrangement():
    wide = Network(5, (Stage(dense(RANDOM, 600, (0, 5)), SQUARE),), dense(RANDOM, 2, (1, 600)))
    assert arrange(wide, 512) == []
    assert arrange(wide, 1024) != []


def test_a_residual_and_a_concatenation():
    stages = (
        Stage(dense(RANDOM, 16, (0, 16)), SQUARE),
        Stage(Affine({1: RANDOM.normal(size=(16, 16)), 0: np.eye(16)}, np.zeros(16)), SQUARE),
    )
    network = Network(16, stages, dense(RANDOM, 5, (1, 16), (2, 16)))
    given = records(network, count=3)
    for arrangement in arrange(network, 256):
        assert answers(arrangement, given) == pytest.approx(network(given), abs=1e-9)


@pytest.mark.parametrize("steps", [[0], [3], [0, 1, 2, 3], list(range(64)), [0, 64, 128, 192], [5, 40, 41]])
def test_sums_of_rotations(steps):
    slots = 256
    vectors = {step: RANDOM.normal(size=slots) for step in steps}
    values = RANDOM.normal(size=(2, slots))
    schedule = Schedule()
    rotated_sum(schedule, 0, vectors)
    expected = sum(vector * np.roll(values, -step, axis=1) for step, vector in vectors.items())
    assert list(schedule.values(values))[-1] == pytest.approx(expected, abs=1e-12)
    rotations = sum(step.name == "rotate" for step in schedule.steps)
    assert rotations <= 2 * np.sqrt(max(steps) // max(np.gcd.reduce(steps), 1) + 1)
