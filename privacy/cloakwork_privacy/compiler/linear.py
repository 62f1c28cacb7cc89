"""A linear model with one logit: logistic regression."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from cloakwork_privacy.ckks.parameters import Parameters
from cloakwork_privacy.compiler.circuit import Circuit, Constant, Operation
from cloakwork_privacy.compiler.program import Program, circuit_digest
from cloakwork_privacy.compiler.signature import Signature

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from cloakwork_privacy.compiler.signature import Finish

__all__ = ["LARGEST", "linear"]

_PARAMETERS: Final = Parameters(2048, (54,))
LARGEST: Final = _PARAMETERS.poly_degree
"""Most features it takes."""


def linear(
    weight: ArrayLike,
    bias: float,
    shift: ArrayLike,
    gain: ArrayLike,
    *,
    limit: float = 32.0,
    finish: Finish = "binary",
    max_records: int = 256,
) -> Program:
    """Compiles sigmoid(weight . x' + bias) with x' = (x - shift) * gain.

    The features are the coefficients of a polynomial, the weights those of another in reverse, so that one
    product holds the whole dot product in its constant coefficient: no rotation, no key switching, one
    prime. The client standardises, for free.

    Args:
        weight: (d,), for standardised features; d at most 2048.
        bias: The intercept.
        shift: (d,), the mean of each feature.
        gain: (d,), one over the standard deviation of each.
        limit: Largest |x'| to accept; a larger one costs bits of precision.
        finish: What clients make of the logit: "binary" or "none".
        max_records: Most records in one request.

    Raises:
        ValueError: Shapes do not match, or the weights are not finite or all zero.
    """
    weights, shifts, gains = (np.asarray(array, np.float64) for array in (weight, shift, gain))
    features, degree = weights.size, _PARAMETERS.poly_degree
    if not 0 < features <= degree or not weights.shape == shifts.shape == gains.shape == (features,):
        raise ValueError("weight, shift and gain are vectors of one length, at most 2048")
    if not np.isfinite(weights).all() or not weights.any():
        raise ValueError("weights must be finite, and not all zero")
    reverse = np.zeros(degree)
    reverse[0] = weights[0]
    reverse[degree - np.arange(1, features)] = -weights[1:]  # X^i * -X^(N-i) = 1, modulo X^N + 1
    # Bits left for both scales once the largest possible logit and its sign fit the prime. The input gets
    # two more than the weights: encryption noise is some times larger than a rounding error.
    most = limit * float(np.abs(weights).sum()) + abs(bias) + 1.0
    room = _PARAMETERS.modulus_bits[0] - 2 - math.ceil(math.log2(most))
    scale, factor = 2.0 ** (room // 2 + 1), 2.0 ** (room - room // 2 - 1)
    constants = {
        "weights": Constant(reverse, factor, 1),
        "bias": Constant(np.array([bias]), scale * factor, 1),
    }
    operations = Operation("multiply_plain", (0,), "weights"), Operation("add_plain", (1,), "bias")
    circuit = Circuit(operations, constants)
    signature = Signature(
        parameters=_PARAMETERS,
        packing="coefficients",
        input_shape=(features,),
        output_shape=(2,) if finish == "binary" else (1,),
        shift=tuple(shifts.tolist()),
        gain=tuple(gains.tolist()),
        limit=float(limit),
        gather=tuple(range(features)),
        scale=scale,
        rotations=(),
        rotation_levels=(),
        relinearise_level=0,
        answer_scale=scale * factor,
        answer_limit=most,
        period=None,
        take=(0,),
        finish=finish,
        max_records=max_records,
        circuit=circuit_digest(circuit),
    )
    return Program(signature, circuit)
