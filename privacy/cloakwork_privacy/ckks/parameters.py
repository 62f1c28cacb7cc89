"""Encryption parameters, and the proof that they are secure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from cloakwork_privacy.errors import PrivacyError

__all__ = ["LARGEST_MODULUS_BITS", "Packing", "Parameters"]

Packing = Literal["slots", "coefficients", "features"]
"""Where numbers are put.

- "slots": a record in the N/2 slots of a ciphertext, multiplied elementwise;
- "coefficients": a record in the N coefficients of a ciphertext, multiplied as polynomials;
- "features": a ciphertext for each feature, with up to N/2 records in its slots: a bundle.
"""

LARGEST_MODULUS_BITS: Final = {1024: 27, 2048: 54, 4096: 109, 8192: 218, 16384: 438, 32768: 881}
"""Most bits of coefficient modulus, special prime included, that leave 128 bits of security, by degree.

Source: Homomorphic Encryption Standard (HomomorphicEncryption.org, 2018), table 1: ternary secret,
classical attacks.
"""

_PRIME_BITS: Final = range(20, 61)  # SEAL's primes end at 60 bits; below 20 few fit a large degree.


@dataclass(frozen=True, slots=True)
class Parameters:
    """A ring and its primes: all that client and server must agree on.

    Attributes:
        poly_degree: Degree N of the polynomials, a power of two.
        modulus_bits: Bits of each prime. With more than one prime the last is the special one, used in key
            switching only.
    """

    poly_degree: int
    modulus_bits: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuses what the security table does not cover (code `insecure_parameters`)."""
        largest = LARGEST_MODULUS_BITS.get(self.poly_degree)
        if largest is None:
            raise PrivacyError(
                "insecure_parameters",
                f"No polynomial degree {self.poly_degree} in the security table; use one of "
                f"{', '.join(map(str, LARGEST_MODULUS_BITS))}.",
            )
        if not self.modulus_bits or any(bits not in _PRIME_BITS for bits in self.modulus_bits):
            raise PrivacyError(
                "insecure_parameters", "Every prime must have 20 to 60 bits, and one is needed."
            )
        if sum(self.modulus_bits) > largest:
            raise PrivacyError(
                "insecure_parameters",
                f"{sum(self.modulus_bits)} bits of modulus at degree {self.poly_degree} give less than 128 "
                f"bits of security; use at most {largest}.",
            )
        if self.modulus_bits[-1] < max(self.modulus_bits):
            # Key switching divides its noise by the special prime: a smaller one ruins every result.
            raise PrivacyError("insecure_parameters", "The special (last) prime must be the largest.")

    @property
    def slots(self) -> int:
        """Numbers one ciphertext holds in slot packing."""
        return self.poly_degree // 2

    @property
    def levels(self) -> int:
        """Data primes. A ciphertext at level L has L of them left; fresh ones have all."""
        return max(1, len(self.modulus_bits) - 1)

    def key_bytes(self, level: int) -> int:
        """Bytes on the wire of a key that switches at levels up to this one, but for seeds and heads.

        It has a component for each of the first `level` primes, modulo these and the special one.
        """
        widths = [(bits + 7) // 8 for bits in self.modulus_bits]
        return level * (sum(widths[:level]) + widths[-1]) * self.poly_degree

    def capacity(self, packing: Packing) -> int:
        """Numbers one ciphertext holds."""
        return self.poly_degree if packing == "coefficients" else self.slots
