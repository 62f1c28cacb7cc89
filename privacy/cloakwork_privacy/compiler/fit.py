"""Polynomials in the place of activations: least squares on the range that calibration saw.

Half the weight is on a Chebyshev grid over the range and half on the calibrated samples, so that the data
are fitted best and nothing explodes between or beside them. Chebyshev polynomials keep the problem well
conditioned (Trefethen, Approximation Theory and Approximation Practice, chapters 3 and 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.polynomial import chebyshev

from cloakwork_privacy.compiler.calibrate import Range, observe, pre_activations
from cloakwork_privacy.compiler.network import Affine, Network, Polynomial, Stage
from cloakwork_privacy.errors import PrivacyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from cloakwork_privacy.compiler.network import Activation

__all__ = ["Substitute", "approximate", "check_options", "error", "fit", "nearest"]

_MOST_DEGREE: Final = 15
_GRID: Final = 512
_NEGLIGIBLE: Final = 1e-6
_LEAST_SCALE: Final = 1e-4
_RIDGE: Final = 1e-3
_SQUARE: Final = Polynomial((0.0, 0.0, 1.0))


@dataclass(frozen=True, eq=False)
class Substitute:
    """What stands for an activation: gain * scale * polynomial(x / scale) + shift, unit by unit.

    Only the polynomial costs anything: the rest is folded into the affine maps before and after it.

    Attributes:
        polynomial: One for the whole stage.
        scale: float64 of (size,), positive.
        gain: float64 of (size,).
        shift: float64 of (size,).
        bounds: Where the polynomial is good: least and largest x / scale.
    """

    polynomial: Polynomial
    scale: NDArray[np.float64]
    gain: NDArray[np.float64]
    shift: NDArray[np.float64]
    bounds: tuple[float, float]


def fit(network: Network, records: NDArray[np.float64], degree: int, margin: float = 0.1) -> Network:
    """Replaces each named activation by a polynomial in the stage's pre-activation.

    Stages are fitted in order, each on the values that the polynomials before it make.

    Args:
        network: As `fold` returns it.
        records: float64 of (n, inputs), as `calibrate.checked` returns them.
        degree: The largest, 1 to 15; squares stay squares.
        margin: By which share of itself the range is widened at either end.

    Returns:
        As many stages, with polynomials, of a lower degree where the higher terms would not matter. Rows
        and columns of the matrices are scaled, and biases moved, see `Substitute`.

    Raises:
        PrivacyError: `degree_invalid`, `margin_invalid`; `out_of_range` if values explode.
    """
    check_options(degree, margin)
    for index, stage in enumerate(network.stages):
        if not isinstance(stage.activation, Polynomial):
            chunks = partial(pre_activations, network, index, records)
            substitute = approximate(stage.activation, chunks, len(records), degree, margin)
            network = _replaced(network, index, substitute)
    return network


def approximate(
    activation: Activation,
    chunks: Callable[[], Iterable[NDArray[np.float64]]],
    records: int,
    degree: int,
    margin: float,
) -> Substitute:
    """Finds what stands for an activation.

    The polynomial is fitted for all units at once, on x / scale. ReLU commutes with positive factors, so its
    units are first brought nearer to one range: half-way (the geometric mean of their own and the largest),
    as at a range all of its own a unit would leave it on the next record. Gain and shift are then each
    unit's own least squares, which takes most of the remaining error out of what the next layer sees.

    Args:
        activation: Its name.
        chunks: Makes the stage's pre-activations anew at each call, float64 arrays (k, size).
        records: How many rows all of them have.
        degree: The largest, 1 to 15.
        margin: By which share of itself the range is widened at either end.
    """
    largest = np.maximum.reduce([np.abs(chunk).max(axis=0) for chunk in chunks()])
    scale = np.ones_like(largest)
    if activation == "relu" and largest.max() > 0:
        scale = np.sqrt(np.maximum(largest / largest.max(), _LEAST_SCALE))
    seen = observe((chunk / scale for chunk in chunks()), records)
    polynomial = nearest(activation, seen, degree, margin)
    gain, shift = np.ones_like(scale), np.zeros_like(scale)
    if activation != "square":
        gain, shift = _corrections(activation, polynomial, scale, chunks(), records)
    return Substitute(polynomial, scale, gain, shift, seen.widened(margin))


def _corrections(
    activation: Activation,
    polynomial: Polynomial,
    scale: NDArray[np.float64],
    chunks: Iterable[NDArray[np.float64]],
    records: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Least squares of each unit's activation by its polynomial; gains of units that hardly move stay 1."""
    sums = np.zeros((4, len(scale)))
    for chunk in chunks:
        have = scale * polynomial(chunk / scale)
        want = _activate(activation, chunk)
        sums += [have.sum(axis=0), want.sum(axis=0), (have * have).sum(axis=0), (have * want).sum(axis=0)]
    have, want, squares, products = sums / records
    variance = np.maximum(squares - have * have, 0.0)
    ridge = _RIDGE * variance.mean() + np.finfo(float).tiny
    gain = (products - have * want + ridge) / (variance + ridge)
    return gain, want - gain * have


def _replaced(network: Network, index: int, substitute: Substitute) -> Network:
    """The network with the index-th stage (from 0) substituted, its factors in the maps around it."""
    stage, scale = network.stages[index], substitute.scale
    before = Affine(
        {source: matrix / scale[:, None] for source, matrix in stage.affine.terms.items()},
        stage.affine.bias / scale,
    )

    def after(affine: Affine) -> Affine:
        matrix = affine.terms.get(index + 1)
        if matrix is None:
            return affine
        terms = {**affine.terms, index + 1: matrix * (substitute.gain * scale)}
        return Affine(terms, affine.bias + matrix @ substitute.shift)

    later = (Stage(after(other.affine), other.activation) for other in network.stages[index + 1 :])
    stages = (*network.stages[:index], Stage(before, substitute.polynomial), *later)
    return Network(network.inputs, stages, after(network.output))


def check_options(degree: int, margin: float) -> None:
    """Refuses what cannot be fitted.

    Raises:
        PrivacyError: `degree_invalid`, `margin_invalid`.
    """
    if type(degree) is not int or not 1 <= degree <= _MOST_DEGREE:
        raise PrivacyError(
            "degree_invalid", f"The degree of activations is a whole number from 1 to {_MOST_DEGREE}."
        )
    if not 0 <= margin <= 1:
        raise PrivacyError("margin_invalid", "The margin is a share of the range, from 0 to 1.")


def nearest(activation: Activation, seen: Range, degree: int, margin: float) -> Polynomial:
    """The polynomial of at most this degree nearest to an activation on a range.

    The degree falls as long as the last Chebyshev term is below 1e-6 of the span of values, and as long as
    rounding the coefficients does more harm than that: far from zero, powers of x cancel.
    """
    if activation == "square":
        return _SQUARE
    low, high = seen.widened(margin)
    centre, radius = (low + high) / 2, (high - low) / 2
    grid = np.cos(np.pi * (np.arange(_GRID) + 0.5) / _GRID)
    places = np.concatenate((grid, (seen.samples - centre) / radius))
    weights = np.repeat(np.sqrt([0.5 / _GRID, 0.5 / len(seen.samples)]), [_GRID, len(seen.samples)])
    wanted = _activate(activation, centre + radius * places)
    negligible = _NEGLIGIBLE * max(float(np.ptp(wanted)), _NEGLIGIBLE * float(np.abs(wanted).max()))
    for lower in range(degree, 0, -1):
        basis = chebyshev.chebvander(places, lower) * weights[:, None]
        series = np.linalg.lstsq(basis, wanted * weights, rcond=None)[0]
        series = series[: int(np.flatnonzero(np.abs(series) > negligible).max(initial=0)) + 1]
        polynomial = Polynomial(_monomials(series, centre, radius))
        rounding = np.abs(polynomial(centre + radius * grid) - chebyshev.chebval(grid, series)).max()
        if rounding <= negligible:
            break
    return polynomial


def error(stage: Stage, polynomial: Polynomial, seen: Range) -> tuple[float, float]:
    """How far a polynomial is from the activation it stands for.

    Args:
        stage: With the activation.
        polynomial: In its place.
        seen: The stage's pre-activations.

    Returns:
        The largest difference over the samples, and the root of the mean square.
    """
    difference = polynomial(seen.samples) - stage.activate(seen.samples)
    return float(np.abs(difference).max()), float(np.sqrt(np.mean(np.square(difference))))


def _activate(activation: Activation, values: NDArray[np.float64]) -> NDArray[np.float64]:
    return Stage(Affine({}, np.zeros(0)), activation).activate(values)


def _monomials(series: NDArray[np.float64], centre: float, radius: float) -> tuple[float, ...]:
    """Coefficients in x of a Chebyshev series in (x - centre) / radius, exact but for the last rounding."""
    step = [Fraction(-centre) / Fraction(radius), 1 / Fraction(radius)]
    previous, current = [Fraction(1)], step
    total = [Fraction(0)] * len(series)
    for coefficient in series:
        for power, factor in enumerate(previous):
            total[power] += Fraction(coefficient) * factor
        # T_(k+1) = 2 t T_k - T_(k-1), with t = step[0] + step[1] x.
        following = [Fraction(0)] * (len(current) + 1)
        for power, factor in enumerate(current):
            following[power] += 2 * step[0] * factor
            following[power + 1] += 2 * step[1] * factor
        for power, factor in enumerate(previous):
            following[power] -= factor
        previous, current = current, following
    return tuple(map(float, total))
