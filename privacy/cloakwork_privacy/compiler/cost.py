"""What operations cost, and how much noise they add: what the compiler chooses by.

Times are single-thread CPU milliseconds of SEAL 4.1 without AVX512, measured at N = 8192 and scaled; at 4096
and 16384 they were within 15 % of this. Trust the ratios.
"""

from __future__ import annotations

import math
from typing import Final

__all__ = [
    "FRESH",
    "key_switching_noise",
    "milliseconds",
    "rescaling_noise",
    "rounding_noise",
    "transfer",
]

FRESH: Final = 3.2
"""Standard deviation of an encryption's noise, in a coefficient (SEAL's default)."""

_PER_PRIME: Final = {
    "multiply_plain": 0.09,
    "add_plain": 0.02,
    "add": 0.033,
    "square": 0.147,
    "multiply": 0.19,
    "rescale": 0.33,
    "drop": 0.03,
}
_READING, _WRITING = 0.42, 2.0
_BUNDLED: Final = (
    0.25  # what any operation costs more on a bundle's ciphertext: it is moved into SEAL and back
)
_MATRIX: Final = 1.2e-3  # a multiplication of a whole polynomial by one weight, through BLAS


def milliseconds(name: str, degree: int, level: int, *, bundle: bool = False) -> float:
    """Time of one operation.

    Args:
        name: Of the operation; "matrix" is the cost of one weight.
        degree: N.
        level: Primes left of the operand.
        bundle: Whether the operand is one of a bundle's ciphertexts; weights know that themselves.
    """
    if name in {"rotate", "relinearise"}:
        time = 0.25 + 0.75 * level + 0.15 * level**2
    elif name == "matrix":
        time = _MATRIX * level
    else:
        time = _PER_PRIME[name] * level
    if bundle:
        time += _BUNDLED * level
    scaled: float = time * (degree / 8192) ** 1.08
    return scaled


def transfer(degree: int, level: int, inputs: int, outputs: int) -> float:
    """Time of parsing so many ciphertexts of a level, and of masking and writing so many answers."""
    scaled: float = (inputs * _READING * level + outputs * _WRITING) * (degree / 8192) ** 1.08
    return scaled


def rounding_noise(degree: int) -> float:
    """Deviation, in a slot, of rounding a plaintext's N coefficients to whole numbers."""
    return math.sqrt(degree / 12)


def rescaling_noise(degree: int) -> float:
    """Deviation, in a slot, of rounding two polynomials; the second meets a secret of variance 2/3."""
    return math.sqrt(degree / 12 * (1 + 2 * degree / 3))


def key_switching_noise(degree: int, level: int) -> float:
    """Deviation, in a slot, of a rotation or relinearisation, when the special prime is the largest.

    Not of all slots: see `packing.SPIKES`.
    """
    switched = FRESH * math.sqrt(degree) * math.sqrt(level * degree / 12)
    return math.hypot(switched, rescaling_noise(degree))
