"""Leaves out what has no effect: numbers that no logit depends on, and numbers that depend on no feature.

Trained networks have such units: dead ones, whose weights decayed to nothing, channels that were pruned,
pixels between strides. Left in they cost products, in a bundle whole ciphertexts; and a constant that is
computed under encryption is a ciphertext that anyone can read, which SEAL refuses to make.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from cloakwork_privacy.compiler.fold import simplify
from cloakwork_privacy.compiler.network import Affine, Network, Stage
from cloakwork_privacy.errors import PrivacyError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["prune"]

_NEGLIGIBLE: Final = 2.0**-50  # of a map's largest product: float64 would round it away in the sum


def prune(network: Network, records: NDArray[np.float64]) -> tuple[Network, NDArray[np.intp]]:
    """The same function without constant and unread numbers.

    A logit may be constant, as long as another is not: it stays, as a row of zeros with a bias.

    Args:
        network: All its activations are polynomials.
        records: (n, inputs), standardised calibration.

    Returns:
        The network of the features that matter, and which these are, ascending.

    Raises:
        PrivacyError: `model_unsupported`: no logit depends on any feature.
    """
    constants_gone = _without_constants(_rounded(network, records))
    pruned, features = _without_unread(constants_gone)
    if not len(features):
        raise PrivacyError(
            "model_unsupported",
            "The model's answer is the same for every record: all that depends on its input is multiplied "
            "by zero. Train it, or load its weights.",
        )
    return simplify(pruned), features


def _rounded(network: Network, records: NDArray[np.float64]) -> Network:
    """Without weights that are next to nothing, however large what they meet."""
    largest = [float(np.abs(values).max(initial=0.0)) or 1.0 for values in network.values(records)]

    def rounded(affine: Affine) -> Affine:
        reach = [largest[source] * np.abs(matrix).max(initial=0.0) for source, matrix in affine.terms.items()]
        least = _NEGLIGIBLE * max(reach, default=0.0)
        terms = {
            source: np.where(np.abs(matrix) * largest[source] < least, 0.0, matrix)
            for source, matrix in affine.terms.items()
        }
        return Affine(terms, affine.bias)

    stages = tuple(Stage(rounded(stage.affine), stage.activation) for stage in network.stages)
    return Network(network.inputs, stages, rounded(network.output))


def _without_constants(network: Network) -> Network:
    """Stages without rows of zeros; what these would be is in the biases of the maps that read them."""
    constants: list[NDArray[np.float64]] = [np.full(network.inputs, np.nan)]  # NaN: it varies
    stages = []
    for stage in network.stages:
        affine = _folded(stage.affine, constants)
        varies = _any(affine.terms, axis=1, size=len(affine.bias))
        constants.append(np.where(varies, np.nan, stage.activate(affine.bias)))
        stages.append(Stage(_rows(affine, varies), stage.activation))
    return Network(network.inputs, tuple(stages), _folded(network.output, constants))


def _folded(affine: Affine, constants: Sequence[NDArray[np.float64]]) -> Affine:
    """The same map of what varies in each source."""
    terms, bias = {}, affine.bias
    for source, matrix in affine.terms.items():
        varies = np.isnan(constants[source])
        terms[source] = matrix[:, varies]
        bias = bias + matrix[:, ~varies] @ constants[source][~varies]
    return Affine(terms, bias)


def _without_unread(network: Network) -> tuple[Network, NDArray[np.intp]]:
    """Stages without rows that nobody reads, and the features that somebody reads."""
    sizes = [network.inputs, *(len(stage.affine.bias) for stage in network.stages)]
    read = [np.zeros(size, bool) for size in sizes]

    def reads(affine: Affine) -> None:
        for source, matrix in affine.terms.items():
            read[source] |= matrix.any(axis=0)

    reads(network.output)
    maps = []
    for index in range(len(network.stages), 0, -1):
        # All who may read it have been seen, without the rows that nobody reads.
        affine = _rows(network.stages[index - 1].affine, read[index])
        reads(affine)
        maps.append(affine)
    stages = tuple(
        Stage(_columns(affine, read), stage.activation)
        for affine, stage in zip(reversed(maps), network.stages, strict=True)
    )
    features = np.flatnonzero(read[0])
    return Network(len(features), stages, _columns(network.output, read)), features


def _rows(affine: Affine, kept: NDArray[np.bool_]) -> Affine:
    return Affine({source: matrix[kept] for source, matrix in affine.terms.items()}, affine.bias[kept])


def _columns(affine: Affine, kept: Sequence[NDArray[np.bool_]]) -> Affine:
    """Of the columns that are kept, and without terms that are all zero."""
    terms = {
        source: np.ascontiguousarray(matrix[:, kept[source]])
        for source, matrix in affine.terms.items()
        if matrix.any()
    }
    return Affine(terms, affine.bias)


def _any(terms: Mapping[int, NDArray[np.float64]], *, axis: int, size: int) -> NDArray[np.bool_]:
    """Where any term has anything but zeros."""
    found = np.zeros(size, bool)
    for matrix in terms.values():
        found |= matrix.any(axis=axis)
    return found
