"""A program's public half: how a client packs records, which keys it makes, how it reads answers.

A client receives this from a server it does not trust. What it makes of it can only cost the server a wrong
answer: parameters are judged here, records are encrypted under the client's own key before they leave, and
every size is bounded, that of the keys it asks for too.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cloakwork_privacy.ckks.parameters import Packing, Parameters
from cloakwork_privacy.compiler.rules import Finish, faults
from cloakwork_privacy.errors import PrivacyError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Finish", "Signature"]

_MOST_BYTES: Final = 4 << 20
_MOST_INTEGER_DIGITS: Final = 9
_DIGITS: Final = 5  # The noise is in those after. It protects nothing: see `SecretKeys.open`.


@dataclass(frozen=True)
class Signature:
    """What a client needs to know of a program.

    Attributes:
        parameters: Encryption parameters.
        packing: Where the numbers go.
        input_shape, output_shape: Of one record and of one finished answer.
        shift, gain: One of each per flattened feature: x' = (x - shift) * gain is what is encrypted.
        limit: Largest |x'| the program computes correctly; beyond it sums could wrap around the modulus.
        gather: For each slot or coefficient the feature it holds, -1 for zero; the rest is zero. An im2col
            window layout is just a gather. For packing "features": for each ciphertext.
        scale: Of the encrypted input.
        rotations: Slot rotations that need a Galois key.
        rotation_levels: The highest level each is used at: lower levels need less of a key.
        relinearise_level: The highest level the relinearisation key is used at; 0 where none is needed.
        answer_scale: Of the answer, which always has one prime left: nothing smaller can be sent.
        answer_limit: Largest |logit| an honest answer can hold. A computation that wrapped around the modulus
            looks random and huge, and is refused for it.
        period: Slot packing: the answer repeats every so many slots, so only 2 * period coefficients are
            returned (see `ckks.answer`). Coefficient packing: None, only those in `take` are returned. For
            "features" all slots; the period follows from the number of records.
        take: Where the logits are: slots below `period`, coefficients, or for "features" ciphertexts.
        finish: Logits to output: "softmax", or "binary" for one logit z: [1 - sigmoid(z), sigmoid(z)], or
            "none": the logits themselves.
        max_records: Most records in one request.
        circuit: SHA-256 of the server's circuit and constants, hex.
    """

    parameters: Parameters
    packing: Packing
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    shift: tuple[float, ...]
    gain: tuple[float, ...]
    limit: float
    gather: tuple[int, ...]
    scale: float
    rotations: tuple[int, ...]
    rotation_levels: tuple[int, ...]
    relinearise_level: int
    answer_scale: float
    answer_limit: float
    period: int | None
    take: tuple[int, ...]
    finish: Finish
    max_records: int
    circuit: str

    def __post_init__(self) -> None:
        """Refuses a signature that contradicts itself (code `program_invalid`)."""
        for fault, found in faults(self):
            if found:
                raise PrivacyError(
                    "program_invalid", f"The program's signature is invalid: {fault}. Fetch it again."
                )

    @classmethod
    def from_json(cls, data: bytes) -> Signature:
        """Reads and validates a signature.

        Raises:
            PrivacyError: `insecure_parameters`, or `program_invalid` for anything else, also for a
                spelling of the JSON other than `to_json`'s: one signature has one digest.
        """
        if len(data) > _MOST_BYTES:
            raise PrivacyError(
                "program_invalid", f"A signature has at most {_MOST_BYTES} bytes; fetch it again."
            )
        try:
            fields: dict[str, Any] = json.loads(data, parse_constant=_no_constant, parse_int=_integer)
            parameters = fields.pop("parameters")
            fields = {
                name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
            }
            fields["parameters"] = Parameters(parameters["poly_degree"], tuple(parameters["modulus_bits"]))
            read = cls(**fields)
            same = read.to_json() == data
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
            same = False
        if not same:
            raise PrivacyError(
                "program_invalid", "These bytes are no signature of a program; fetch it again."
            )
        return read

    def to_json(self) -> bytes:
        """The one spelling of this signature."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the JSON, hex: what frames call their program."""
        return hashlib.sha256(self.to_json()).hexdigest()

    def repeats(self, records: int) -> int | None:
        """Slots after which an answer of so many records repeats; None in coefficient packing.

        A bundle's slots hold its records again and again, with the smallest period that they fit.
        """
        return 1 << max(1, (records - 1).bit_length()) if self.packing == "features" else self.period

    def kept(self, records: int) -> NDArray[np.intp]:
        """Positions of the polynomial coefficients an answer of so many records keeps, ascending."""
        period = self.repeats(records)
        if period is None:
            return np.sort(np.array(self.take, np.intp))
        return np.arange(0, self.parameters.poly_degree, self.parameters.slots // period)

    def summed(self, records: int) -> int:
        """How many of the kept coefficients add up to a logit: all to a slot, or the one that is it."""
        return 2 * (self.repeats(records) or 0) or 1

    def sealed(self, records: int) -> int:
        """Ciphertexts in a request of so many records."""
        return len(self.gather) if self.packing == "features" else records

    def answered(self, records: int) -> int:
        """Ciphertexts in an answer of so many records."""
        return len(self.take) if self.packing == "features" else records

    def prepare(self, records: ArrayLike) -> NDArray[np.float64]:
        """Checks, standardises and packs records.

        Args:
            records: (n, *input_shape) of real numbers.

        Returns:
            float64 of (n, len(gather)): a row for each ciphertext; for packing "features" (len(gather), n).

        Raises:
            PrivacyError: `wrong_dtype`, `wrong_shape`, `too_many_records`, `not_finite`, `out_of_range`.
        """
        array = np.asarray(records)
        if array.dtype.kind not in "biuf":
            raise PrivacyError(
                "wrong_dtype", f"Records must be real numbers, not {array.dtype}; convert them first."
            )
        if array.shape[1:] != self.input_shape or not array.shape or not len(array):
            expected = ", ".join(map(str, ("n", *self.input_shape)))
            raise PrivacyError("wrong_shape", f"Records must have the shape ({expected}), not {array.shape}.")
        if len(array) > self.max_records:
            raise PrivacyError(
                "too_many_records",
                f"{len(array)} records in one request, at most {self.max_records}; split them.",
            )
        flat = array.reshape(len(array), -1).astype(np.float64)
        if not np.isfinite(flat).all():
            raise PrivacyError("not_finite", "Records hold NaN or infinity; impute or drop them first.")
        ready = (flat - self.shift) * self.gain
        if not (np.abs(ready) <= self.limit).all():
            raise PrivacyError(
                "out_of_range",
                f"A standardised feature exceeds {self.limit:g}, the most this model takes; clip it.",
            )
        gather = np.array(self.gather)
        packed: NDArray[np.float64] = np.where(gather < 0, 0.0, ready[:, gather])
        return packed.T if self.packing == "features" else packed

    def finished(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turns decrypted logits (n, len(take)) into outputs (n, *output_shape), float64.

        Probabilities are rounded to five digits.
        """
        if self.finish == "none":
            return logits.reshape(-1, *self.output_shape)
        if self.finish == "binary":
            positive = 0.5 * (1.0 + np.tanh(0.5 * logits))
            chances = np.concatenate((1.0 - positive, positive), axis=1)
        else:
            powers = np.exp(logits - logits.max(axis=1, keepdims=True))
            chances = powers / powers.sum(axis=1, keepdims=True)
        return np.round(chances, _DIGITS).reshape(-1, *self.output_shape)


def _no_constant(name: str) -> Any:
    """JSON has no NaN and no Infinity, though Python reads them."""
    raise ValueError(name)


def _integer(digits: str) -> int:
    """Reading a long integer takes quadratic time; everything counted here is short."""
    if len(digits) > _MOST_INTEGER_DIGITS:
        raise ValueError("integer too long")
    return int(digits)
