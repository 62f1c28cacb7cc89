"""Products of a plain matrix with many ciphertexts, as exact integer linear algebra on their residues.

A weight is an integer, round(w * scale), and multiplies every residue of a ciphertext alike, in NTT form as
in coefficients. Residues have up to 60 bits; split into limbs of few enough bits, sums of weights times limbs
stay below 2^53, so that the matrix product of BLAS in float64 is exact, in whatever order it adds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Weights"]

_EXACT_BITS: Final = 53
_LEAST_LIMB: Final = 8  # bits; weights so large would be slow, and are a mistake
_BLOCK_BYTES: Final = 1 << 20  # of limbs at a time, so that they stay in the cache
_LEAST_BLOCK: Final = 256  # points of a polynomial at a time, all the same
_JOINED: Final = 1 << 14  # residues made at a time
_READING: Final = 12  # reading a row of limbs takes as long as multiplying it by so many weights
_MANTISSA: Final = np.uint64(0x433 << 52)  # 2^52 as a float64: its low bits count ones
_OFFSET: Final = 2.0**52


@dataclass(frozen=True)
class _Group:
    """Outputs that read neighbouring inputs.

    Attributes:
        rows: Of the whole matrix.
        columns: Of the whole matrix, a range outside of which these rows are zero.
        weights: Integers as float64, (rows, columns).
    """

    rows: NDArray[np.intp]
    columns: slice
    weights: NDArray[np.float64]


class Weights:
    """A matrix prepared for products.

    Attributes:
        scale: The ciphertexts' scale is multiplied by this.
    """

    def __init__(self, matrix: NDArray[np.float64], scale: float) -> None:
        """Rounds a matrix (outputs, inputs).

        Raises:
            ValueError: A weight is too large for the scale.
        """
        integers = np.rint(matrix * scale)
        reach = float(np.abs(integers).sum(axis=1).max(initial=0.0))
        self.scale = scale
        self._shape = integers.shape
        self._limb_bits = _EXACT_BITS - math.ceil(math.log2(reach + 1)) if math.isfinite(reach) else 0
        if self._limb_bits < _LEAST_LIMB:
            raise ValueError("the matrix is too large for its scale")
        self._groups = _grouped(integers)

    def __call__(self, residues: NDArray[np.uint64], primes: tuple[int, ...]) -> NDArray[np.uint64]:
        """Multiplies.

        Args:
            residues: uint64 (inputs, polynomials, primes, N), each below its prime.
            primes: At least as many as the residues have.

        Returns:
            uint64 (outputs, polynomials, primes, N).
        """
        outputs, inputs = self._shape
        _, polynomials, levels, degree = residues.shape
        result = np.zeros((outputs, *residues.shape[1:]), np.uint64)  # rows of zeros are in no group
        for level, prime in enumerate(primes[:levels]):
            limbs = -(-prime.bit_length() // self._limb_bits)
            fitting = 1 << (_BLOCK_BYTES // (8 * inputs * limbs)).bit_length() >> 1
            block = min(degree, max(_LEAST_BLOCK, fitting))
            # One buffer for all blocks: fresh memory costs more than what is done in it.
            split = np.empty((inputs, limbs, block), np.uint64)
            for polynomial, start in product(range(polynomials), range(0, degree, block)):
                points = (slice(None), polynomial, level, slice(start, start + block))
                self._multiply(residues[points], prime, split, result[points])
        return result

    def _multiply(
        self,
        points: NDArray[np.uint64],
        prime: int,
        split: NDArray[np.uint64],
        result: NDArray[np.uint64],
    ) -> None:
        """(inputs, n) of one prime to (outputs, n) in `result`, by way of `split`, (inputs, limbs, n)."""
        inputs, limbs, count = split.shape
        bits = -(-prime.bit_length() // limbs)
        numbers = _split(points, split, bits).reshape(inputs, limbs * count)
        together = max(1, _JOINED // count)
        for group in self._groups:
            for start in range(0, len(group.rows), together):
                part = slice(start, start + together)
                sums = group.weights[part] @ numbers[group.columns]
                result[group.rows[part]] = _joined(sums.reshape(-1, limbs, count), bits, prime)


def _grouped(integers: NDArray[np.float64]) -> list[_Group]:
    """Rows by the range of columns they read: those of a convolution are few.

    A group costs a product for each of its weights, and the reading of its columns.
    """
    support = integers != 0
    filled = np.flatnonzero(support.any(axis=1))
    first = support.argmax(axis=1)
    end = support.shape[1] - support[:, ::-1].argmax(axis=1)
    groups: list[tuple[list[int], int, int]] = []
    # Wide rows come last: among the narrow ones they would draw all into one group.
    order = np.lexsort((end[filled], first[filled], np.ceil(np.log2(end - first))[filled]))
    for row in filled[order].tolist():
        one = [row], int(first[row]), int(end[row])
        if groups:
            rows, start, stop = groups[-1]
            both = [*rows, row], min(start, one[1]), max(stop, one[2])
            if _cost(both) <= _cost(groups[-1]) + _cost(one):
                groups[-1] = both
                continue
        groups.append(one)
    return [
        _Group(np.array(rows), slice(start, stop), np.ascontiguousarray(integers[rows, start:stop]))
        for rows, start, stop in groups
    ]


def _cost(group: tuple[list[int], int, int]) -> int:
    rows, start, stop = group
    return (len(rows) + _READING) * (stop - start)


def _split(points: NDArray[np.uint64], split: NDArray[np.uint64], bits: int) -> NDArray[np.float64]:
    """Residues (inputs, n) to their limbs, the lowest first: float64, in `split`, (inputs, limbs, n)."""
    last = split.shape[1] - 1
    for limb in range(last + 1):
        part = split[:, limb]
        np.right_shift(points, np.uint64(bits * limb), out=part)
        if limb < last:
            np.bitwise_and(part, np.uint64((1 << bits) - 1), out=part)
    split |= _MANTISSA
    numbers = split.view(np.float64)
    numbers -= _OFFSET
    return numbers


def _joined(sums: NDArray[np.float64], bits: int, prime: int) -> NDArray[np.uint64]:
    """Sums of limbs, (rows, limbs, n), to residues, (rows, n).

    The quotient is off by little more than its rounding, so the remainder is below the prime in size, and
    computing it modulo 2^64 is enough.
    """
    limbs = sums.shape[1]
    quotient = sums[:, limbs - 1] * (2.0 ** (bits * (limbs - 1)) / prime)
    remainder = sums[:, limbs - 1].astype(np.int64)
    for limb in reversed(range(limbs - 1)):
        quotient += sums[:, limb] * (2.0 ** (bits * limb) / prime)
        remainder <<= np.int64(bits)
        remainder += sums[:, limb].astype(np.int64)
    np.rint(quotient, out=quotient)
    remainder -= quotient.astype(np.int64) * np.int64(prime)
    wrapped = remainder.view(np.uint64)
    joined: NDArray[np.uint64] = np.minimum(wrapped, wrapped + np.uint64(prime))
    return joined
