"""Polynomials over ciphertexts at the smallest depth, ceil(log2(degree + 1)) products in a row.

Stages are normalised first (see `normalise`): a polynomial's constant is zero here, as the next layer's bias
has taken it, and where it could be its second coefficient is zero and its leading one is one, which makes
degrees 2, 3 and 4 cost one or two products and no more:

    u^2
    u^3 + p u          = u (u^2 + p)
    u^4 + p u^2 + q u  = (u^2 + p / 2)^2 + q u - p^2 / 4

Other polynomials are halved recursively, p = upper * x^(2^k) + lower, on repeated squares of x (Paterson and
Stockmeyer's idea, in the variant of least depth).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from cloakwork_privacy.compiler.network import Polynomial
    from cloakwork_privacy.compiler.schedule import Schedule

__all__ = ["evaluate"]

_CUBIC, _QUARTIC = 3, 4


def evaluate(schedule: Schedule, of: int, polynomial: Polynomial) -> int:
    """Appends the steps of polynomial(register), and returns the register of the result."""
    coefficients = polynomial.coefficients
    match polynomial.degree, coefficients[-1], coefficients[-2]:
        case 1, 1.0, 0.0:
            return of
        case 2, 1.0, 0.0:
            result = schedule.square(of)
            return schedule.add_plain(result, np.array(coefficients[:1]))
        case 3, 1.0, 0.0:
            inner = schedule.add_plain(schedule.square(of), np.array(coefficients[1:2]))
            return schedule.add_plain(schedule.multiply(inner, of), np.array(coefficients[:1]))
        case 4, 1.0, 0.0:
            return _quartic(schedule, of, coefficients)
        case _:
            return _Halving(schedule, of).result(coefficients, ())


def _quartic(schedule: Schedule, of: int, coefficients: tuple[float, ...]) -> int:
    constant, linear, quadratic = coefficients[:3]
    result = schedule.square(schedule.add_plain(schedule.square(of), np.array([quadratic / 2])))
    if linear:
        result = schedule.add(result, schedule.multiply_plain(of, np.array([linear]), like=(result,)))
    return schedule.add_plain(result, np.array([constant - quadratic**2 / 4]))


class _Halving:
    """The recursion, and the squares it has computed so far."""

    def __init__(self, schedule: Schedule, of: int) -> None:
        self._schedule = schedule
        self._powers = {1: of}

    def result(self, coefficients: tuple[float, ...], like: tuple[int, ...]) -> int:
        """coefficients(x), at the scale that `like` asks for; the degree is at least one."""
        degree = len(coefficients) - 1
        half = 1 << (degree.bit_length() - 1)
        lower, upper = _trimmed(coefficients[:half]), coefficients[half:]
        if upper == (1.0,) and not like:
            result = self._power(half)
        elif len(upper) == 1:
            result = self._schedule.multiply_plain(self._power(half), np.array(upper), like=like)
        else:
            power = self._power(half)
            factor = self.result(upper, (*like, power) if like else ())
            result = self._schedule.multiply(factor, power)
        if len(lower) > 1:
            result = self._schedule.add(result, self.result(lower, like or (result,)))
        elif lower:
            result = self._schedule.add_plain(result, np.array(lower))
        return result

    def _power(self, exponent: int) -> int:
        if exponent not in self._powers:
            self._powers[exponent] = self._schedule.square(self._power(exponent // 2))
        return self._powers[exponent]


def _trimmed(coefficients: tuple[float, ...]) -> tuple[float, ...]:
    """Without the zeros at the upper end."""
    while coefficients and coefficients[-1] == 0.0:
        coefficients = coefficients[:-1]
    return coefficients
