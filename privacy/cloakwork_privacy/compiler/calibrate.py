"""What goes into the activations on real records: where polynomials have to be right."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from cloakwork_privacy.compiler.network import Network
from cloakwork_privacy.errors import PrivacyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import ArrayLike, NDArray

__all__ = ["Range", "calibrate", "checked", "observe", "pre_activations"]

_MOST_SAMPLES: Final = 1 << 14
_CHUNK: Final = 256
_NARROW: Final = 1e-6


@dataclass(frozen=True, eq=False)
class Range:
    """What a stage's pre-activations were.

    Attributes:
        low: The least.
        high: The largest; greater than `low`, also where only one value was seen.
        samples: float64 of (k,), at most 2^14 or so of them.
    """

    low: float
    high: float
    samples: NDArray[np.float64]

    def widened(self, margin: float) -> tuple[float, float]:
        """The bounds, moved outwards by a share of their distance."""
        more = margin * (self.high - self.low)
        return self.low - more, self.high + more


def checked(records: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Validates calibration records.

    Args:
        records: (n, *shape) of real numbers, n >= 1.
        shape: The model's input, without the batch dimension.

    Returns:
        float64 of (n, size), flattened.

    Raises:
        PrivacyError: `wrong_dtype`, `wrong_shape`, `not_finite`.
    """
    array = np.asarray(records)
    if array.dtype.kind not in "biuf":
        raise PrivacyError(
            "wrong_dtype", f"Calibration records must be real numbers, not {array.dtype}; convert them."
        )
    if array.shape[1:] != tuple(shape) or not array.shape or not len(array):
        expected = ", ".join(map(str, ("n", *shape)))
        raise PrivacyError(
            "wrong_shape",
            f"Calibration records have the shape {array.shape}, and the model takes ({expected}), n >= 1; "
            "pass some of its training records.",
        )
    flat = array.reshape(len(array), -1).astype(np.float64)
    if not np.isfinite(flat).all():
        raise PrivacyError(
            "not_finite", "Calibration records hold NaN or infinity; impute or drop those records."
        )
    return flat


def calibrate(network: Network, records: NDArray[np.float64], seed: int = 0) -> tuple[Range, ...]:
    """The range of every stage's pre-activation.

    Args:
        network: With any activations.
        records: float64 of (n, inputs), as `checked` returns them.
        seed: Picks the samples.

    Returns:
        One range for each stage.
    """
    return tuple(
        observe(pre_activations(network, index, records), len(records), seed)
        for index in range(len(network.stages))
    )


def pre_activations(
    network: Network, index: int, records: NDArray[np.float64]
) -> Iterator[NDArray[np.float64]]:
    """What the index-th stage (from 0) gets, float64 of (k, size of the stage): some records at a time."""
    before = Network(network.inputs, network.stages[:index], network.stages[index].affine)
    for start in range(0, len(records), _CHUNK):
        yield before(records[start : start + _CHUNK])


def observe(chunks: Iterable[NDArray[np.float64]], records: int, seed: int = 0) -> Range:
    """The range of numbers that come in chunks.

    Args:
        chunks: Each float64 of (k, size).
        records: How many rows all of them have.
        seed: Picks the samples: from each chunk its share, without repetition.

    Raises:
        PrivacyError: `out_of_range` if a number is infinite or NaN.
    """
    random = np.random.default_rng(seed)
    low, high, samples = math.inf, -math.inf, []
    for chunk in chunks:
        flat = chunk.reshape(-1)
        share = max(1, _MOST_SAMPLES * len(chunk) // records)
        low, high = min(low, float(flat.min())), max(high, float(flat.max()))
        samples.append(
            flat if len(flat) <= share else random.choice(flat, share, replace=False, shuffle=False)
        )
    if not (math.isfinite(low) and math.isfinite(high)):
        raise PrivacyError(
            "out_of_range",
            "An activation's input grows beyond floating point on the calibration records; use a larger "
            "degree or margin, or normalise the records.",
        )
    size = max(abs(low), abs(high))
    if high - low <= _NARROW * size or size == 0.0:
        low, high = low - (size or 1.0), high + (size or 1.0)
    return Range(low, high, np.concatenate(samples))
