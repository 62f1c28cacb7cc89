"""What scales are given by, and what comes of it: the nouns of `placement`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Node", "Operand", "Placed", "Scale", "Sizes", "Unfit"]


class Unfit(Exception):  # noqa: N818 - not an error: the search just goes on
    """These scales do not work out."""


@dataclass(frozen=True)
class Scale:
    """One way to spend the modulus.

    Attributes:
        degree: N.
        primes: Data primes, or as yet powers of two of their sizes; the first is the answer's.
        input_scale: Of the request.
        factor: Scale of constants.
        waterline: Least scale that rescaling may leave.
    """

    degree: int
    primes: tuple[float, ...]
    input_scale: float
    factor: float
    waterline: float


@dataclass(frozen=True)
class Sizes:
    """How large the values in a schedule's registers get.

    Attributes:
        rms: Of each register, over its slots, of the calibration record where it is largest.
        peak: Of each register, a bound to be accommodated.
        answer: The same of the logits. Sums may wrap around as they like, as long as nothing but sums follows
            and the last ones fit, and logits are averages over slots that may each be larger.
        final: The first register of the last affine map.
        width: Ciphertexts of each register.
        weights: Root mean square of what is not zero in each step's constant; 0 without one.
        reach: Largest sum of |weights| of a row of each step's matrix; 0 without one.
        bundle: Whether registers are bundles, whose constants are whole numbers and encoded without noise.
        averaged: Different slots that the answer averages.
        period: Of the answer; 0 in a bundle.
    """

    rms: Sequence[float]
    peak: Sequence[float]
    answer: float
    final: int
    width: Sequence[int]
    weights: Sequence[float]
    reach: Sequence[float]
    bundle: bool
    averaged: int
    period: int


@dataclass(frozen=True, slots=True)
class Operand:
    """A constant with the scale and level to encode it at."""

    vector: NDArray[np.float64]
    scale: float
    level: int


@dataclass(frozen=True, slots=True)
class Node:
    """What is known of a register of the circuit.

    Noise is its deviation at the register's scale; below its floor it is not rescaled, as it has yet to meet
    what is there.
    """

    index: int
    scale: float
    level: int
    noise: float
    polynomials: int = 2
    floor: int = 1


@dataclass
class Placed:
    """A schedule with its scales and levels.

    Attributes:
        operations: (name, registers, operand, rotation); operation i writes register i + 1.
        milliseconds: Predicted.
        scale: Of the answer, which has one prime left.
        error: Predicted deviation of a logit, with what is done to the answer afterwards.
        rotations: Highest level each rotation is used at.
        relinearise: Highest level of relinearisations; 0 for none.
    """

    operations: list[tuple[str, tuple[int, ...], Operand | None, int]]
    milliseconds: float
    scale: float
    error: float
    rotations: dict[int, int]
    relinearise: int
