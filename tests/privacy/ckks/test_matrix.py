"""Exactness against Python's integers."""

import numpy as np
import pytest

from cloakwork_privacy.ckks import matrix
from cloakwork_privacy.ckks.matrix import Weights

RANDOM = np.random.default_rng(0)


def exact(weights, scale, residues, primes):
    integers = np.rint(weights * scale).astype(np.int64).astype(object)
    rows = np.empty((len(weights), *residues.shape[1:]), object)
    for level, prime in enumerate(primes[: residues.shape[2]]):
        points = residues[:, :, level].reshape(len(residues), -1).astype(object)
        rows[:, :, level] = (integers @ points % prime).reshape(len(weights), *residues[0, :, 0].shape)
    return rows


def drawn(inputs, primes, polynomials=2, degree=128):
    columns = [RANDOM.integers(0, prime, (inputs, polynomials, degree), np.uint64) for prime in primes]
    return np.stack(columns, axis=2)


@pytest.mark.parametrize("bits", [20, 30, 40, 54, 60])
@pytest.mark.parametrize("scale_bits", [0, 10, 20, 36])
def test_products_are_exact(bits, scale_bits):
    primes = ((1 << bits) - 1, (1 << bits) - 59)
    weights = RANDOM.normal(size=(7, 30)) + np.sign(RANDOM.normal(size=(7, 30)))
    residues = drawn(30, primes, polynomials=3)
    residues[3], residues[4] = primes[1] - 1, 0
    product = Weights(weights, 2.0**scale_bits)(residues, primes)
    assert product.dtype == np.uint64
    assert (product.astype(object) == exact(weights, 2.0**scale_bits, residues, primes)).all()


def test_the_largest_weights_are_exact():
    """All of one sign, and every residue at its largest: the sums reach 2^53 and not one more."""
    prime = (1 << 60) - 93
    weights = np.full((2, 15), 2.0**40)
    residues = np.full((15, 2, 1, 64), prime - 1, np.uint64)
    product = Weights(weights, 1.0)(residues, (prime,))
    assert (product.astype(object) == exact(weights, 1.0, residues, (prime,))).all()


@pytest.mark.parametrize("block", [1 << 9, 1 << 14, 1 << 30])
def test_blocks_and_ranges_make_no_difference(block, monkeypatch):
    """A band matrix: rows read ranges that overlap, and one row reads everything."""
    monkeypatch.setattr(matrix, "_BLOCK_BYTES", block)
    monkeypatch.setattr(matrix, "_LEAST_BLOCK", 64)
    primes = ((1 << 54) - 33,)
    weights = np.zeros((41, 200))
    for row in range(40):
        start = 50 * (row // 10)
        weights[39 - row, start : start + 40 + row % 10] = RANDOM.normal(size=40 + row % 10)
    weights[40] = 1.0
    made = Weights(weights, 2.0**20)
    assert len(made._groups) > 2
    assert sorted(row for group in made._groups for row in group.rows.tolist()) == list(range(41))
    residues = drawn(200, primes, degree=1024)
    assert (made(residues, primes).astype(object) == exact(weights, 2.0**20, residues, primes)).all()


def test_a_convolution_costs_a_few_bands():
    weights = np.zeros((4, 8, 8, 28, 28))
    for row, column in np.ndindex(8, 8):
        weights[:, row, column, 3 * row : 3 * row + 7, 3 * column : 3 * column + 7] = 1.0
    made = Weights(weights.reshape(256, 784), 2.0**14)
    assert sum(group.weights.size for group in made._groups) <= 256 * 196


@pytest.mark.parametrize("filled", [[], [0], [1, 3]])
def test_rows_of_zeros_are_zero(filled):
    weights = np.full((4, 3), 1e-9)
    weights[filled] = RANDOM.normal(size=(len(filled), 3))
    primes = ((1 << 54) - 33,)
    residues = drawn(3, primes)
    product = Weights(weights, 2.0**20)(residues, primes)
    assert (product.astype(object) == exact(weights, 2.0**20, residues, primes)).all()


def test_huge_weights_are_refused():
    for huge in (2.0**46, 1e300, np.inf):
        with pytest.raises(ValueError, match="too large"):
            Weights(np.array([[1.0, huge]]), 1.0)
