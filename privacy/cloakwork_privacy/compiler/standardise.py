"""What the client does to its features before it encrypts them: a shift and a gain, for free and exact.

Features of one kind, such as pixels, share one range. Where ranges differ much, as between columns of a
table, every feature gets its own; they are then public, like the rest of a program's signature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from cloakwork_privacy.compiler.network import Affine, Network, Stage

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Standard", "standardise"]

_PIXEL_LIMIT: Final = 1.5
_COLUMN_LIMIT: Final = 8.0
_ALIKE: Final = 8.0  # Ranges within this factor count as of one kind.


@dataclass(frozen=True)
class Standard:
    """x' = (x - shift) * gain, of one number for each feature; calibration's lie in [-1, 1].

    Attributes:
        shift, gain: One of each for each feature.
        limit: Largest |x'| to accept: pixels have an end, while the next patient's columns may exceed all
            that were seen.
    """

    shift: NDArray[np.float64]
    gain: NDArray[np.float64]
    limit: float

    def __call__(self, records: NDArray[np.float64]) -> NDArray[np.float64]:
        """Records (n, features) as they are encrypted."""
        return (records - self.shift) * self.gain


def standardise(network: Network, records: NDArray[np.float64]) -> tuple[Network, Standard]:
    """The network of standardised features, and the standard, under which these records lie in [-1, 1]."""
    low, high = records.min(axis=0), records.max(axis=0)
    half = (high - low) / 2
    varying = half[half > 0]
    alike = not len(varying) or varying.max() <= _ALIKE * np.quantile(varying, 0.5, method="lower")
    if alike:
        low, high = np.full_like(low, low.min()), np.full_like(high, high.max())
        half = (high - low) / 2
    shift = (low + high) / 2
    gain = 1.0 / np.where(half > 0, half, np.maximum(np.abs(shift), 1.0))
    standard = Standard(shift, gain, _PIXEL_LIMIT if alike else _COLUMN_LIMIT)
    stages = tuple(Stage(_standardised(stage.affine, standard), stage.activation) for stage in network.stages)
    return Network(network.inputs, stages, _standardised(network.output, standard)), standard


def _standardised(affine: Affine, standard: Standard) -> Affine:
    """The same map, of features already standardised: x = x' / gain + shift."""
    matrix = affine.terms.get(0)
    if matrix is None:
        return affine
    return Affine({**affine.terms, 0: matrix / standard.gain}, affine.bias + matrix @ standard.shift)
