"""Brings every pre-activation into [-1, 1] and every polynomial into the form that costs least.

With z = r u - t a polynomial p(z) becomes q(u), and the next layer takes q's constant into its bias and a
factor of q into its matrix. What is left to compute is u's own affine map, for free in the weights, and q
less those two. The shift t is chosen to remove the second highest coefficient ("completing the square"), as
long as the vertex is near the calibrated range: a far one would trade a product for digits.

Scaling each stage by its own range is what keeps errors small: it took a convolutional network's from 1.47 to
0.016.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cloakwork_privacy.compiler.network import Affine, Network, Polynomial, Stage

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["normalise"]

_FAR = 1.5  # times the range's half width from its centre
_MOST_INNER = 64.0  # A monic polynomial's other coefficients; beyond it digits get lost in differences.
_SPECIAL = range(2, 5)  # degrees with a form of their own, see `evaluation`


def normalise(network: Network, records: NDArray[np.float64]) -> Network:
    """A network of the same outputs, whose polynomials are applied to [-1, 1] on these records.

    Args:
        network: All its activations are polynomials, of degree 1 at least.
        records: (n, inputs), calibration.
    """
    values = network.values(records)
    stages: list[Stage] = []
    absorb: dict[int, tuple[float, float]] = {}
    for stage in network.stages:
        assert isinstance(stage.activation, Polynomial)
        before = stage.affine(values)
        shift, reach = _range(stage.activation, float(before.min()), float(before.max()))
        reduced, factor, constant = _reduced(_composed(stage.activation, reach, shift))
        affine = _absorbed(stage.affine, absorb)
        affine = Affine(
            {source: matrix / reach for source, matrix in affine.terms.items()}, (affine.bias + shift) / reach
        )
        stages.append(Stage(affine, reduced))
        absorb[len(stages)] = (factor, constant)
    return Network(network.inputs, tuple(stages), _absorbed(network.output, absorb))


def _range(polynomial: Polynomial, low: float, high: float) -> tuple[float, float]:
    """The shift t and reach r of u = (z + t) / r."""
    centre, half = (low + high) / 2, max((high - low) / 2, 1e-6 * max(abs(low), abs(high), 1.0))
    coefficients = polynomial.coefficients
    shift = -centre
    if polynomial.degree in _SPECIAL:
        vertex = -coefficients[-2] / (polynomial.degree * coefficients[-1])
        if abs(vertex - centre) <= _FAR * half:
            shift = -vertex
    return shift, max(abs(low + shift), abs(high + shift), half)


def _composed(polynomial: Polynomial, reach: float, shift: float) -> NDArray[np.float64]:
    """Coefficients of p(reach u - shift)."""
    inner = np.polynomial.Polynomial([-shift, reach])
    composed = np.polynomial.Polynomial(polynomial.coefficients)(inner)
    coefficients: NDArray[np.float64] = np.array(composed.coef, np.float64)
    # What is zero on paper is a rounding error here, and would cost a product.
    coefficients[np.abs(coefficients) < 1e-12 * np.abs(coefficients).max()] = 0.0
    degree = int(np.flatnonzero(coefficients).max(initial=0))
    return coefficients[: degree + 1]


def _reduced(coefficients: NDArray[np.float64]) -> tuple[Polynomial, float, float]:
    """q(u) = factor * polynomial(u) + constant, the polynomial monic where its digits allow."""
    constant, degree = float(coefficients[0]), len(coefficients) - 1
    rest = coefficients.copy()
    rest[0] = 0.0
    factor = float(rest[-1])
    monic = rest / factor
    special = degree == 1 or (degree in _SPECIAL and monic[-2] == 0.0)
    if not special or np.abs(monic[:-1]).max() > _MOST_INNER:
        factor = float(np.abs(rest).sum())
    return Polynomial(tuple((rest / factor).tolist())), factor, constant


def _absorbed(affine: Affine, absorb: dict[int, tuple[float, float]]) -> Affine:
    """The same map, of sources that lack a factor and a constant."""
    terms, bias = {}, affine.bias
    for source, matrix in affine.terms.items():
        factor, constant = absorb.get(source, (1.0, 0.0))
        terms[source] = matrix * factor
        bias = bias + matrix.sum(axis=1) * constant
    return Affine(terms, bias)
