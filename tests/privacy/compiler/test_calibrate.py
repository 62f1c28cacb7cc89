"""Ranges against the values themselves."""

import numpy as np
import pytest

from cloakwork_privacy.compiler.calibrate import calibrate, checked, observe
from cloakwork_privacy.compiler.network import Affine, Network, Stage
from cloakwork_privacy.errors import PrivacyError

RANDOM = np.random.default_rng(7)


def network():
    first = Affine({0: RANDOM.normal(size=(5, 3))}, RANDOM.normal(size=5))
    second = Affine({0: RANDOM.normal(size=(4, 3)), 1: RANDOM.normal(size=(4, 5))}, np.zeros(4))
    return Network(3, (Stage(first, "relu"), Stage(second, "tanh")), Affine({2: np.ones((1, 4))}, np.ones(1)))


def test_ranges():
    model, records = network(), RANDOM.normal(size=(1000, 3))
    values = model.values(records)
    for index, seen in enumerate(calibrate(model, records)):
        exact = model.stages[index].affine(values)
        assert (seen.low, seen.high) == pytest.approx((exact.min(), exact.max()))
        assert np.isin(seen.samples.round(9), exact.round(9)).all()
        assert seen.widened(0.5) == pytest.approx(
            (1.5 * seen.low - 0.5 * seen.high, 1.5 * seen.high - 0.5 * seen.low)
        )


def test_samples_are_few_and_seeded():
    chunks = [RANDOM.normal(size=(100, 500)) for _ in range(3)]
    one, same, other = (observe(chunks, 300, seed) for seed in (0, 0, 1))
    assert 10_000 < len(one.samples) <= 1 << 14
    assert (one.samples == same.samples).all()
    assert (one.samples != other.samples).any()
    assert (one.low, one.high) == (min(c.min() for c in chunks), max(c.max() for c in chunks))


@pytest.mark.parametrize("value", [0.0, 3.0, -1e-8, 1e12])
def test_one_value_is_widened(value):
    seen = observe([np.full((4, 2), value)], 4)
    assert seen.low < value < seen.high


def test_explosions_are_refused():
    with pytest.raises(PrivacyError, match="beyond floating point") as refusal:
        observe([np.array([[1.0, np.inf]])], 1)
    assert refusal.value.code == "out_of_range"


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.bool_])
def test_checked(dtype):
    flat = checked(np.ones((4, 2, 3), dtype), (2, 3))
    assert flat.shape == (4, 6)
    assert flat.dtype == np.float64


@pytest.mark.parametrize(
    ("records", "code"),
    [
        (np.ones((4, 3), np.complex128), "wrong_dtype"),
        (np.array([["a"] * 3]), "wrong_dtype"),
        (np.ones((4, 2)), "wrong_shape"),
        (np.ones((0, 3)), "wrong_shape"),
        (np.ones(3), "wrong_shape"),
        (np.float64(1), "wrong_shape"),
        (np.array([[1.0, np.nan, 0.0]]), "not_finite"),
    ],
)
def test_refused(records, code):
    with pytest.raises(PrivacyError) as refusal:
        checked(records, (3,))
    assert refusal.value.code == code
