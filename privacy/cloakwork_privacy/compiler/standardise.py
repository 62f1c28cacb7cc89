"""What the client does to its features before it encrypts them: a shift and a gain, for free and exact.

Features of one kind, such as pixels, share one range. Where ranges differ much, as between columns of a
table, every feature gets its own. They are public, like the rest of a program's signature, and so rounded
outwards to two digits of the range: the extreme records themselves are nobody's business.
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
_ENDS: Final = 1e-3  # Share of values at the ends of the range from which on it is taken for all there is.
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
    bounded = alike and float(np.isin(records, (low.min(), high.max())).mean()) > _ENDS
    if alike:
        low, high = np.full_like(low, low.min()), np.full_like(high, high.max())
        half = (high - low) / 2
    shift, half = _rounded((low + high) / 2, np.where(half > 0, half, np.maximum(np.abs(low), 1.0)))
    standard = Standard(shift, 1.0 / half, _PIXEL_LIMIT if bounded else _COLUMN_LIMIT)
    stages = tuple(Stage(_standardised(stage.affine, standard), stage.activation) for stage in network.stages)
    return Network(network.inputs, stages, _standardised(network.output, standard)), standard


def _rounded(
    shift: NDArray[np.float64], half: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Middles and half ranges in steps of about a hundredth of the range, no value left out."""
    step = 10.0 ** (np.floor(np.log10(half)) - 1)
    return np.round(shift / step) * step, np.ceil(half / step + 0.5) * step


def _standardised(affine: Affine, standard: Standard) -> Affine:
    """The same map, of features already standardised: x = x' / gain + shift."""
    matrix = affine.terms.get(0)
    if matrix is None:
        return affine
    return Affine({**affine.terms, 0: matrix / standard.gain}, affine.bias + matrix @ standard.shift)
