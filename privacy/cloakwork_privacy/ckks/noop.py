"""The cipher without encryption: the same operations on numbers in the clear.

It keeps the books SEAL keeps (scale, level, number of polynomials) and is stricter about them, so a program
that runs here runs there. It adds no noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cloakwork_privacy.ckks.cipher import same_scale

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from cloakwork_privacy.ckks.parameters import Packing
    from cloakwork_privacy.compiler.signature import Signature

__all__ = ["Clear", "NoopCipher"]

_FRESH = 2  # polynomials of a fresh ciphertext
_SQUARED = 3


@dataclass(frozen=True)
class Clear:
    """A ciphertext or plaintext in the clear.

    Attributes:
        values: float64 of all slots or coefficients; of a bundle (ciphertexts, slots), of a bundle's
            plaintext (ciphertexts, 1) or the matrix.
        scale, level: As SEAL would have them.
        polynomials: Two, or three after a product of ciphertexts.
    """

    values: NDArray[np.float64]
    scale: float
    level: int
    polynomials: int = _FRESH


class NoopCipher:
    """Computes in the clear; every method raises ValueError where the books do not balance."""

    def __init__(
        self,
        primes: tuple[int, ...],
        packing: Packing,
        rotations: Mapping[int, int] | None = None,
        relinearise_level: int = 0,
    ) -> None:
        """Takes the data primes, the packing, and the keys there are.

        Args:
            primes: The data primes.
            packing: Where the numbers are.
            rotations: For each rotation with a key, the highest level it reaches.
            relinearise_level: The highest level the relinearisation key reaches; 0 for none.
        """
        self._primes = primes
        self._packing = packing
        self._rotations = rotations or {}
        self._relinearise_level = relinearise_level

    @classmethod
    def of(cls, signature: Signature, primes: tuple[int, ...]) -> NoopCipher:
        """With the packing and the keys of a program, and the primes of its ring."""
        rotations = dict(zip(signature.rotations, signature.rotation_levels, strict=True))
        data = primes[: signature.parameters.levels]
        return cls(data, signature.packing, rotations, signature.relinearise_level)

    def request(self, packed: NDArray[np.float64], scale: float, capacity: int) -> Clear:
        """Register 0: what `Signature.prepare` packed for one ciphertext, or for "features" for all."""
        values = np.zeros((*packed.shape[:-1], capacity))
        values[..., : packed.shape[-1]] = packed
        return self._fitting(Clear(values, scale, len(self._primes)))

    def encode(self, vector: NDArray[np.float64], scale: float, level: int, capacity: int) -> Clear:
        """A constant: padded with zeros to the capacity, or for "features" a column or a matrix."""
        if self._packing == "features":
            values = np.array(vector if vector.ndim > 1 else vector[:, None])
        else:
            values = np.zeros(capacity)
            values[: vector.size] = vector
        return self._fitting(Clear(values, scale, level))

    def multiply_plain(self, register: Clear, plain: Clear) -> Clear:
        """Product with a plaintext; scales multiply."""
        _require(register.level == plain.level, "levels differ")
        zero = "the plaintext is zero: the product would be transparent"
        if self._packing == "features":
            self._columns(register, plain)
            _require(bool(plain.values.all()), zero)
        _require(bool(plain.values.any()), zero)
        if self._packing == "coefficients":
            values = _negacyclic(register.values, plain.values)
        else:
            values = register.values * plain.values
        return self._fitting(replace(register, values=values, scale=register.scale * plain.scale))

    def matrix(self, register: Clear, plain: Clear) -> Clear:
        """Product of a matrix with the ciphertexts of a bundle; scales multiply."""
        _require(self._packing == "features", "matrices multiply bundles")
        _require(register.level == plain.level, "levels differ")
        _require(plain.values.shape[1:] == register.values.shape[:1], "the matrix has another width")
        values = plain.values @ register.values
        return self._fitting(replace(register, values=values, scale=register.scale * plain.scale))

    def add_plain(self, register: Clear, plain: Clear) -> Clear:
        """Sum with a plaintext."""
        if self._packing == "features":
            self._columns(register, plain)
        return self.add(register, plain)

    def add(self, left: Clear, right: Clear) -> Clear:
        """Sum of two ciphertexts."""
        _require(left.level == right.level, "levels differ")
        _require(same_scale(left.scale, right.scale), "scales differ")
        polynomials = max(left.polynomials, right.polynomials)
        return replace(left, values=left.values + right.values, polynomials=polynomials)

    def multiply(self, left: Clear, right: Clear) -> Clear:
        """Product of two ciphertexts, of three polynomials."""
        _require(self._packing != "coefficients", "multiplying polynomials multiplies no coefficients")
        _require(left.level == right.level, "levels differ")
        _require(left.polynomials == right.polynomials == _FRESH, "relinearise before multiplying")
        values, scale = left.values * right.values, left.scale * right.scale
        return self._fitting(replace(left, values=values, scale=scale, polynomials=_SQUARED))

    def rotate(self, register: Clear, step: int) -> Clear:
        """Slots rotated to the left."""
        _require(self._packing == "slots", "coefficients and records do not rotate")
        _require(register.polynomials == _FRESH, "relinearise before rotating")
        _require(register.level <= self._rotations.get(step, 0), "no key for this rotation at this level")
        return replace(register, values=np.roll(register.values, -step))

    def square(self, register: Clear) -> Clear:
        """Square, of three polynomials."""
        return self.multiply(register, register)

    def relinearise(self, register: Clear) -> Clear:
        """Back to two polynomials."""
        _require(register.polynomials == _SQUARED, "nothing to relinearise")
        _require(register.level <= self._relinearise_level, "no key to relinearise at this level")
        return replace(register, polynomials=_FRESH)

    def rescale(self, register: Clear) -> Clear:
        """Divides by the last prime and drops it."""
        _require(register.level > 1, "no prime left to drop")
        self._holding(register, register.level)
        prime = float(self._primes[register.level - 1])
        return replace(register, scale=register.scale / prime, level=register.level - 1)

    def drop(self, register: Clear) -> Clear:
        """Drops the last prime."""
        _require(register.level > 1, "no prime left to drop")
        self._holding(register, register.level - 1)
        return self._fitting(replace(register, level=register.level - 1))

    def _columns(self, register: Clear, plain: Clear) -> None:
        """One number for each ciphertext of a bundle, or one for all."""
        _require(plain.values.shape in {(1, 1), (len(register.values), 1)}, "another number of ciphertexts")

    def _holding(self, register: Clear, level: int) -> None:
        """A value that wrapped around the modulus is lost for good once a prime is gone."""
        bound = float(np.abs(register.values).max()) * register.scale
        _require(bound < self._modulus(level) / 2, "a value exceeds the modulus")

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
