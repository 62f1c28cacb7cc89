"""The operations a circuit is made of.

Two ciphers do them: `seal` on ciphertexts, `noop` in the clear, so that a program can be checked and tested
without encryption.
"""

from __future__ import annotations

from typing import Final, Protocol, TypeVar

__all__ = ["SCALE_TOLERANCE", "Cipher", "same_scale"]

SCALE_TOLERANCE: Final = 1e-12
"""Largest relative difference of scales that still add: it moves values far less than encoding does."""

Register = TypeVar("Register")
Plain_contra = TypeVar("Plain_contra", contravariant=True)


class Cipher(Protocol[Register, Plain_contra]):
    """What a circuit may do with a ciphertext. Every method returns a new register.

    Operands of one operation must share their level; operands of a sum also their scale, within
    `SCALE_TOLERANCE`: the sum keeps the left one's, and as many polynomials as the larger operand.
    """

    def multiply_plain(self, register: Register, plain: Plain_contra) -> Register:
        """Product with a plaintext; scales multiply."""

    def add_plain(self, register: Register, plain: Plain_contra) -> Register:
        """Sum with a plaintext."""

    def matrix(self, register: Register, plain: Plain_contra) -> Register:
        """Product of a matrix (m, n) with a bundle of n ciphertexts, "features" alone; scales multiply."""

    def add(self, left: Register, right: Register) -> Register:
        """Sum of two ciphertexts."""

    def multiply(self, left: Register, right: Register) -> Register:
        """Product of two ciphertexts of two polynomials each: scales multiply, three polynomials."""

    def rotate(self, register: Register, step: int) -> Register:
        """Slots rotated to the left: slot s receives slot s + step. Needs two polynomials."""

    def square(self, register: Register) -> Register:
        """Square: scale squared, three polynomials."""

    def relinearise(self, register: Register) -> Register:
        """Back from three polynomials to two."""

    def rescale(self, register: Register) -> Register:
        """Divides by the last prime and drops it: one level less, scale divided by that prime."""

    def drop(self, register: Register) -> Register:
        """Drops the last prime: one level less, at the same scale."""


def same_scale(left: float, right: float) -> bool:
    """Whether values at these scales add."""
    return abs(left - right) <= SCALE_TOLERANCE * max(left, right)
