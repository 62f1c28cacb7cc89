"""Vectors of numbers to SEAL plaintexts and back, in slots or in polynomial coefficients.

In slots a product is elementwise. In coefficients it is the product of polynomials modulo X^N + 1, so that
one product is a whole dot product. SEAL encodes slots only: the slots of a polynomial are its values at the
encoder's roots, zeta^(3^j) with zeta = exp(i pi / N), one root of each conjugate pair.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import tenseal.sealapi as seal

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cloakwork_privacy.ckks.context import Context
    from cloakwork_privacy.ckks.parameters import Packing

__all__ = ["decode", "encode", "interpolate"]


def encode(context: Context, packing: Packing, vector: NDArray[np.float64], scale: float, level: int) -> Any:
    """Encodes a vector.

    Args:
        context: Of the program.
        packing: Where the numbers go.
        vector: float64, at most N/2 (slots) or N (coefficients) long; the rest is zero.
        scale: Numbers are rounded to multiples of its inverse (in coefficients).
        level: Primes of the result.

    Raises:
        ValueError: The numbers do not fit the modulus at this scale.
    """
    if packing != "coefficients":
        values: list[float] | list[complex] = vector.tolist()
    else:
        values = _evaluate(context.parameters.poly_degree, vector).tolist()
    plain = seal.Plaintext()
    context.encoder.encode(values, context.parms_id(level), scale, plain)
    return plain


def decode(context: Context, packing: Packing, plain: Any) -> NDArray[np.float64]:
    """Decodes a plaintext to float64 of N/2 (slots) or N (coefficients) numbers."""
    if packing != "coefficients":
        return np.asarray(context.encoder.decode_double(plain))
    return interpolate(context.parameters.poly_degree, np.asarray(context.encoder.decode_complex(plain)))


@lru_cache(maxsize=8)
def _roots(degree: int) -> tuple[NDArray[np.complex128], NDArray[np.intp], NDArray[np.intp]]:
    """zeta^k for k < N, and for each slot the places t of its root zeta^(2t+1) and of its conjugate."""
    twist = np.exp(1j * np.pi * np.arange(degree) / degree)
    power, places = 1, []
    for _ in range(degree // 2):
        places.append((power - 1) // 2)
        power = power * 3 % (2 * degree)
    place = np.array(places)
    return twist, place, degree - 1 - place


def _evaluate(degree: int, coefficients: NDArray[np.float64]) -> NDArray[np.complex128]:
    """The slots of a polynomial."""
    twist, place, _ = _roots(degree)
    padded = np.zeros(degree)
    padded[: coefficients.size] = coefficients
    values: NDArray[np.complex128] = np.fft.ifft(padded * twist, norm="forward")[place]
    return values


def interpolate(degree: int, slots: NDArray[np.complex128]) -> NDArray[np.float64]:
    """The real polynomial, float64 (degree,), with these slots, complex128 (degree / 2,)."""
    twist, place, conjugate = _roots(degree)
    values = np.empty(degree, np.complex128)
    values[place], values[conjugate] = slots, slots.conj()
    coefficients: NDArray[np.float64] = (np.fft.fft(values, norm="forward") * twist.conj()).real
    return coefficients
