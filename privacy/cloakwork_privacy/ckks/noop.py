"""The cipher without encryption: the same operations on numbers in the clear.

It keeps the books SEAL keeps (scale, level, number of polynomials) and is stricter about them, so a program
that runs here runs there. It adds no noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from cloakwork_privacy.ckks.parameters import Packing

__all__ = ["Clear", "NoopCipher"]

_FRESH = 2  # polynomials of a fresh ciphertext
_SQUARED = 3


@dataclass(frozen=True)
class Clear:
    """A ciphertext or plaintext in the clear.

    Attributes:
        values: float64 of all slots or coefficients.
        scale, level: As SEAL would have them.
        polynomials: Two, or three after a square.
    """

    values: NDArray[np.float64]
    scale: float
    level: int
    polynomials: int = _FRESH


class NoopCipher:
    """Computes in the clear; every method raises ValueError where the books do not balance."""

    def __init__(self, primes: tuple[int, ...], packing: Packing, rotations: Collection[int]) -> None:
        """Takes the data primes, the packing, and the rotations there are keys for."""
        self._primes = primes
        self._packing = packing
        self._rotations = rotations

    def encode(self, vector: NDArray[np.float64], scale: float, level: int, capacity: int) -> Clear:
        """A vector padded with zeros to the capacity."""
        values = np.zeros(capacity)
        values[: vector.size] = vector
        return self._fitting(Clear(values, scale, level))

    def multiply_plain(self, register: Clear, plain: Clear) -> Clear:
        """Product with a plaintext; scales multiply."""
        _require(register.level == plain.level, "levels differ")
        _require(bool(plain.values.any()), "the plaintext is zero: the product would be transparent")
        if self._packing == "slots":
            values = register.values * plain.values
        else:
            values = _negacyclic(register.values, plain.values)
        return self._fitting(replace(register, values=values, scale=register.scale * plain.scale))

    def add_plain(self, register: Clear, plain: Clear) -> Clear:
        """Sum with a plaintext."""
        return self.add(register, replace(plain, polynomials=register.polynomials))

    def add(self, left: Clear, right: Clear) -> Clear:
        """Sum of two ciphertexts."""
        _require(left.level == right.level, "levels differ")
        _require(left.scale == right.scale, "scales differ")
        _require(left.polynomials == right.polynomials, "one operand is not relinearised")
        return replace(left, values=left.values + right.values)

    def rotate(self, register: Clear, step: int) -> Clear:
        """Slots rotated to the left."""
        _require(self._packing == "slots", "coefficients do not rotate")
        _require(register.polynomials == _FRESH, "relinearise before rotating")
        _require(step in self._rotations, "there is no key for this rotation")
        return replace(register, values=np.roll(register.values, -step))

    def square(self, register: Clear) -> Clear:
        """Square, of three polynomials."""
        _require(self._packing == "slots", "squaring a polynomial squares no coefficient")
        _require(register.polynomials == _FRESH, "relinearise before squaring")
        return self._fitting(
            replace(register, values=register.values**2, scale=register.scale**2, polynomials=_SQUARED)
        )

    def relinearise(self, register: Clear) -> Clear:
        """Back to two polynomials."""
        _require(register.polynomials == _SQUARED, "nothing to relinearise")
        return replace(register, polynomials=_FRESH)

    def rescale(self, register: Clear) -> Clear:
        """Divides by the last prime and drops it."""
        _require(register.level > 1, "no prime left to drop")
        # A value that wrapped around the modulus is lost for good once it is rescaled.
        bound = float(np.abs(register.values).max()) * register.scale
        _require(bound < self._modulus(register.level) / 2, "a value exceeds the modulus")
        prime = float(self._primes[register.level - 1])
        return replace(register, scale=register.scale / prime, level=register.level - 1)

    def _fitting(self, register: Clear) -> Clear:
        """SEAL's own bound: a scale must be below the modulus."""
        _require(1 <= register.level <= len(self._primes), "no such level")
        _require(0 < register.scale < self._modulus(register.level), "the scale exceeds the modulus")
        return register

    def _modulus(self, level: int) -> int:
        return math.prod(self._primes[:level])


def _require(holds: bool, fault: str) -> None:  # noqa: FBT001 - a condition is what it takes
    if not holds:
        raise ValueError(fault)


def _negacyclic(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Product modulo X^N + 1: a cyclic convolution of sequences twisted by the 2N-th root of unity."""
    twist = np.exp(1j * np.pi * np.arange(left.size) / left.size)
    product = np.fft.ifft(np.fft.fft(left * twist) * np.fft.fft(right * twist)) * twist.conj()
    values: NDArray[np.float64] = product.real
    return values
