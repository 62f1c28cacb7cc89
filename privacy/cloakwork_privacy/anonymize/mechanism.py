"""Randomised response over the nearest of finitely many codewords: the one source of noise here.

Of `size` codewords, `near` are close to the record. With probability threshold / 2**53 the answer is one of
those, chosen uniformly; otherwise it is one of the others, chosen uniformly. Every record has exactly `near`
near codewords, so a codeword's probability takes one of two values, whatever the record, and

    ε = ln( (threshold / near) / ((2**53 - threshold) / (size - near)) )

bounds the logarithm of the ratio of any answer's probability under any two records. With `near` = 1 this is
k-ary randomised response (Kairouz, Oh, Viswanath, JMLR 2016, §4.1); with `near` > 1 it is PrivUnit's cap
(Bhowmick et al., arXiv:1812.00984, §4.1) on a finite set of points instead of the sphere.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cloakwork_privacy.errors import PrivacyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["MAX_EPSILON", "MAX_SIZE", "RandomizedResponse"]

# 53 bits: the widest integer that every JSON reader, JavaScript's included, holds exactly.
BITS = 53
TOTAL = 1 << BITS
MAX_SIZE = 4096
# Up to here 53 bits resolve ε to better than a millionth for every size; "privacy" ends well before.
MAX_EPSILON = 12.0


@dataclass(frozen=True)
class RandomizedResponse:
    """The law of the answer, given which codewords are near.

    Attributes:
        size: number of codewords, between 2 and 4096.
        near: how many of them count as near every record, less than `size`.
        threshold: probability of a near answer, in units of 2**-53.
    """

    size: int
    near: int
    threshold: int

    def __post_init__(self) -> None:
        """Refuse parameters that define no law, or one whose ε is zero, negative or above 12.

        Raises:
            PrivacyError: `release_invalid`.
        """
        if not (1 <= self.near < self.size <= MAX_SIZE and 0 < self.threshold < TOTAL):
            raise PrivacyError(
                "release_invalid", "The anonymizer's counts or its threshold are out of range; do not use it."
            )
        if not 0 < self.epsilon <= MAX_EPSILON:
            raise PrivacyError(
                "release_invalid",
                f"The anonymizer's ε is not above 0 and at most {MAX_EPSILON:g}; do not use it.",
            )

    @classmethod
    def calibrate(cls, epsilon: float, *, size: int, near: int) -> RandomizedResponse:
        """Find the law with the most faithful answers whose ε is not above the one asked for.

        Raises:
            PrivacyError: `release_invalid` when no such law exists.
        """
        if not 0 < epsilon <= MAX_EPSILON:
            raise PrivacyError("release_invalid", f"Choose an ε above 0 and at most {MAX_EPSILON:g}.")
        # A billionth is given back, for rounding on the way; close to certainty a last bit is worth more.
        odds = near * math.exp(epsilon - 1e-9)
        threshold = math.floor(TOTAL * (odds / (odds + size - near)))
        while _epsilon(size, near, threshold) > epsilon:
            threshold -= 1
        return cls(size, near, threshold)

    @property
    def epsilon(self) -> float:
        """The local differential privacy of one answer, in nats."""
        return _epsilon(self.size, self.near, self.threshold)

    def law(self, near: NDArray[np.intp]) -> NDArray[np.float64]:
        """Give every codeword's probability of being the answer.

        Args:
            near: the near codewords of each record, shape (n, near).

        Returns:
            Probabilities, shape (n, size); each row sums to 1.
        """
        chance = self.threshold / TOTAL
        table = np.full((len(near), self.size), (1 - chance) / (self.size - self.near))
        np.put_along_axis(table, near, chance / self.near, axis=1)
        return table

    def draw(self, near: NDArray[np.intp]) -> NDArray[np.intp]:
        """Choose an answer for each record with the operating system's cryptographic generator.

        Args:
            near: the near codewords of each record, shape (n, near).

        Returns:
            The codewords chosen, shape (n,).
        """
        return np.fromiter((self._one(row) for row in near.tolist()), dtype=np.intp, count=len(near))

    def _one(self, near: Sequence[int]) -> int:
        if secrets.randbits(BITS) < self.threshold:
            return secrets.choice(near)
        # The n-th codeword that is not near: step over each near one at or before it.
        chosen = secrets.randbelow(self.size - self.near)
        for index in sorted(near):
            chosen += index <= chosen
        return chosen


def _epsilon(size: int, near: int, threshold: int) -> float:
    # Whole numbers are divided once, so this is right to the last bits.
    return math.log((threshold * (size - near)) / (near * (TOTAL - threshold)))
