"""What is compiled: affine maps and activations in turn, and nothing else.

Convolutions, poolings, normalisations, residual sums and concatenations are all affine, so once they are
composed a network is a list of stages

    h_i = activation_i(bias_i + sum over j of matrix_ij h_j),  j < i,  h_0 = the flattened input

and one last affine map. Matrices act on flattened values in torch's order (row-major, channels first).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["ACTIVATIONS", "Activation", "Affine", "Network", "Polynomial", "Stage"]

Activation = Literal["square", "relu", "silu", "gelu", "sigmoid", "tanh"]


def _gelu(values: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.special import erf

    smooth: NDArray[np.float64] = 0.5 * values * (1.0 + erf(values / np.sqrt(2.0)))
    return smooth


def _sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    chances: NDArray[np.float64] = 0.5 * (1.0 + np.tanh(0.5 * values))
    return chances


ACTIVATIONS: Final[dict[Activation, Callable[[NDArray[np.float64]], Any]]] = {
    "square": np.square,
    "relu": lambda values: np.maximum(values, 0.0),
    "silu": lambda values: values * _sigmoid(values),
    "gelu": _gelu,
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
}
"""Elementwise, on float64 arrays."""


@dataclass(frozen=True)
class Polynomial:
    """c0 + c1 x + c2 x^2 + ...

    Attributes:
        coefficients: Ascending; the last is not zero.
    """

    coefficients: tuple[float, ...]

    @property
    def degree(self) -> int:
        """Of the polynomial."""
        return len(self.coefficients) - 1

    def __call__(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Elementwise, by Horner's rule."""
        result = np.full_like(values, self.coefficients[-1])
        for coefficient in reversed(self.coefficients[:-1]):
            result = result * values + coefficient
        return result


@dataclass(frozen=True)
class Affine:
    """bias + sum of matrix @ h[source].

    Attributes:
        terms: float64 matrix (m, size of the source) by source: 0 is the input, i the i-th stage's value.
        bias: float64 of (m,).
    """

    terms: Mapping[int, NDArray[np.float64]]
    bias: NDArray[np.float64]

    def __call__(self, values: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        """Values (n, size) of every source so far → (n, m)."""
        result = np.tile(self.bias, (len(values[0]), 1))
        for source, matrix in self.terms.items():
            result = result + values[source] @ matrix.T
        return result


@dataclass(frozen=True)
class Stage:
    """One affine map and the activation after it."""

    affine: Affine
    activation: Activation | Polynomial

    def activate(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The activation, elementwise."""
        if isinstance(self.activation, Polynomial):
            return self.activation(values)
        activated: NDArray[np.float64] = ACTIVATIONS[self.activation](values)
        return activated


@dataclass(frozen=True)
class Network:
    """A network in that form.

    Attributes:
        inputs: Number of features.
        stages: In order.
        output: The last affine map, to the logits.
    """

    inputs: int
    stages: tuple[Stage, ...]
    output: Affine

    def values(self, records: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """Flattened records (n, inputs) → [records, value of stage 1, ...], each (n, size)."""
        values = [records]
        for stage in self.stages:
            values.append(stage.activate(stage.affine(values)))
        return values

    def __call__(self, records: NDArray[np.float64]) -> NDArray[np.float64]:
        """Flattened records (n, inputs) → logits (n, outputs)."""
        return self.output(self.values(records))
