"""The client's public half of the anonymized mode: record in, noised projection out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloakwork_privacy.anonymize import document
from cloakwork_privacy.anonymize.mechanism import RandomizedResponse
from cloakwork_privacy.errors import PrivacyError

__all__ = ["Release"]

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Release:
    """A local randomiser: a public projection, a public codebook and randomised response between them.

    A record x becomes z = projection · (x - center); the answer is one of the codebook's points, and which
    one is drawn by `response` from the points nearest to z and the rest. All arrays are public, learnt from
    public data, and cannot weaken ε: it depends on `response` alone, whoever made the arrays.

    What is promised is ε for each answer, for any two records whatever. It is not anonymity, and it adds up:
    n answers about the same record spend n·ε, so keep an answer instead of drawing it again. At ε = 4 the
    answer to a yes-or-no question may be right with odds of 55 to 1: plausible deniability, not secrecy.

    Attributes:
        input_shape: of one record.
        center: what is subtracted from the flattened record, float32 (n,).
        projection: rows are directions, scales of the features included, float32 (d, n).
        codebook: the only values that ever leave, float32 (size, d).
        response: the noise.
        epsilon: the stated ε per record, in nats; at least the noise's own, and within 1e-6 of it.
    """

    input_shape: tuple[int, ...]
    center: Floats
    projection: Floats
    codebook: Floats
    response: RandomizedResponse
    epsilon: float

    def __post_init__(self) -> None:
        """Hold the parts to each other.

        Raises:
            PrivacyError: `release_invalid`.
        """
        (width,), (depth, columns) = self.center.shape, self.projection.shape
        if width != columns or math.prod(self.input_shape) != width:
            raise _invalid("its projection does not fit the input's shape")
        if self.codebook.shape != (self.response.size, depth):
            raise _invalid("its codebook does not fit the projection or the mechanism")
        if not all(np.isfinite(a).all() for a in (self.center, self.projection, self.codebook)):
            raise _invalid("it holds numbers that are not finite in float32")
        # Written so that a NaN fails too.
        if not 0 <= self.epsilon - self.response.epsilon <= document.TOLERANCE:
            raise _invalid("the ε it states is not the one its mechanism gives")

    @property
    def wire_shape(self) -> tuple[int, ...]:
        """Shape of what one record becomes."""
        return (self.projection.shape[0],)

    @classmethod
    def from_json(cls, body: bytes) -> Release:
        """Read a document from a server that is not trusted, and derive ε anew.

        Raises:
            PrivacyError: `release_invalid` when the document is malformed, or states an ε that its mechanism
                does not give.
        """
        fields = document.read(body)
        return cls(
            fields.input_shape,
            _array(fields.center),
            _array(fields.projection),
            _array(fields.codebook),
            RandomizedResponse(len(fields.codebook), fields.near, fields.threshold),
            fields.epsilon,
        )

    def to_json(self) -> bytes:
        """Write the document that `from_json` reads, the same bytes for the same release."""
        return document.write(
            document.Fields(
                self.epsilon,
                self.response.near,
                self.response.threshold,
                self.input_shape,
                _numbers(self.center),
                [_numbers(row) for row in self.projection],
                [_numbers(row) for row in self.codebook],
            )
        )

    def release(self, records: NDArray[Any]) -> Floats:
        """Draw one answer for each record. Each call draws anew and spends ε for every record again.

        Args:
            records: numbers, shape (n, *input_shape).

        Returns:
            Points of the codebook, shape (n, *wire_shape).

        Raises:
            PrivacyError: `wrong_shape`, `wrong_dtype` or `not_finite` (NaN, infinity or beyond float32).
        """
        return self.codebook[self.response.draw(self.near(records))]

    def law(self, records: NDArray[Any]) -> NDArray[np.float64]:
        """Give the probability of every point of the codebook, shape (n, size), instead of drawing one.

        This is what a model is trained and measured with. It shows the record: it must not leave the client.

        Raises:
            PrivacyError: as `release`.
        """
        return self.response.law(self.near(records))

    def near(self, records: NDArray[Any]) -> NDArray[np.intp]:
        """Find the indices of each record's nearest codewords, shape (n, response.near), in no set order.

        Raises:
            PrivacyError: as `release`.
        """
        flat = self._checked(records).reshape(-1, len(self.center)).astype(np.float64)
        points = (flat - self.center) @ self.projection.T.astype(np.float64)
        codebook = self.codebook.astype(np.float64)
        # Squared distance without the term that all codewords share. Float32 values squared stay finite here.
        distance = (codebook**2).sum(axis=1) - 2 * points @ codebook.T
        return np.argpartition(distance, self.response.near - 1, axis=1)[:, : self.response.near]

    def _checked(self, records: NDArray[Any]) -> Floats:
        if records.dtype.kind not in "fiu":
            raise PrivacyError("wrong_dtype", "Records hold something else than real numbers; convert them.")
        if records.shape[1:] != self.input_shape or records.ndim != len(self.input_shape) + 1:
            wanted = ", ".join(map(str, ("n", *self.input_shape)))
            raise PrivacyError("wrong_shape", f"Records must have the shape ({wanted}), not {records.shape}.")
        with np.errstate(over="ignore"):
            narrow = records.astype(np.float32)
        if not np.isfinite(narrow).all():
            raise PrivacyError(
                "not_finite", "Records hold NaN, infinity or numbers beyond float32; impute them."
            )
        return narrow


def _array(values: Any) -> Floats:
    with np.errstate(over="ignore"):
        return np.array(values, dtype=np.float32)


def _numbers(row: Floats) -> list[float]:
    # The shortest decimal that float32 reads back as the same number; float64 would write twice the digits.
    return [float(str(value)) for value in row]


def _invalid(why: str) -> PrivacyError:
    return PrivacyError("release_invalid", f"The service's anonymizer is refused: {why}.")
