"""A program's public half: how a client packs records, which keys it makes, how it reads answers.

A client receives this from a server it does not trust. What it makes of it can only cost the server a wrong
answer: parameters are judged here, records are encrypted under the client's own key before they leave, and
every size is bounded, that of the keys it asks for too.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np

from cloakwork_privacy.ckks.parameters import Packing, Parameters
from cloakwork_privacy.errors import PrivacyError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Finish", "Signature"]

Finish = Literal["softmax", "binary"]

_MOST_BYTES: Final = 4 << 20
_MOST_RECORDS: Final = 4096
_MOST_DIMENSIONS: Final = 8
_MOST_DEGREE: Final = 16384
_MOST_KEY_BYTES: Final = 64 << 20  # What a client is willing to make and to upload for one program.
_MOST_INTEGER_DIGITS: Final = 9
_DIGITS: Final = 5  # The noise is in those after. It protects nothing: see `SecretKeys.open`.
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


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
            window layout is just a gather.
        scale: Of the encrypted input.
        rotations: Slot rotations that need a Galois key.
        relinearise: Whether a relinearisation key is needed.
        answer_scale: Of the answer, which always has one prime left: nothing smaller can be sent.
        period: Slot packing: the answer repeats every so many slots, so only 2 * period coefficients are
            returned (see `ckks.answer`). Coefficient packing: None, only those in `take` are returned.
        take: Where the logits are, below `period` or N.
        finish: Logits to output: "softmax", or "binary" for one logit z: [1 - sigmoid(z), sigmoid(z)].
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
    relinearise: bool
    answer_scale: float
    period: int | None
    take: tuple[int, ...]
    finish: Finish
    max_records: int
    circuit: str

    def __post_init__(self) -> None:
        """Refuses a signature that contradicts itself (code `program_invalid`)."""
        for fault, found in self._faults():
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

    @cached_property
    def kept(self) -> NDArray[np.intp]:
        """Positions of the polynomial coefficients an answer keeps, ascending."""
        if self.period is None:
            return np.sort(np.array(self.take, np.intp))
        return np.arange(0, self.parameters.poly_degree, self.parameters.slots // self.period)

    def prepare(self, records: ArrayLike) -> NDArray[np.float64]:
        """Checks, standardises and packs records.

        Args:
            records: (n, *input_shape) of real numbers.

        Returns:
            float64 of (n, len(gather)): what to encode.

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
        return packed

    def finished(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turns decrypted logits (n, len(take)) into outputs (n, *output_shape), rounded to five digits."""
        if self.finish == "binary":
            positive = 0.5 * (1.0 + np.tanh(0.5 * logits))
            chances = np.concatenate((1.0 - positive, positive), axis=1)
        else:
            powers = np.exp(logits - logits.max(axis=1, keepdims=True))
            chances = powers / powers.sum(axis=1, keepdims=True)
        return np.round(chances, _DIGITS).reshape(-1, *self.output_shape)

    def _faults(self) -> list[tuple[str, bool]]:
        """Every rule with whether it is broken. Types come first: later rules compute with the fields."""
        types = self._mistyped()
        if types:
            return [(f"{', '.join(types)} of the wrong type", True)]
        # Next the sizes, as multiplying dimensions without bound takes quadratic time.
        shapes = (self.input_shape, self.output_shape)
        if self.parameters.poly_degree > _MOST_DEGREE or not all(map(_is_shape, shapes)):
            return [("polynomial degree or shapes", True)]
        parameters, features = self.parameters, math.prod(self.input_shape)
        capacity = parameters.capacity(self.packing)
        logits = len(self.take)
        period = capacity if self.period is None else self.period
        outputs = (2,) if self.finish == "binary" else (logits,)
        return [
            ("shapes", features > capacity),
            ("shift or gain", not len(self.shift) == len(self.gain) == features),
            ("gather", not 0 < len(self.gather) <= capacity),
            ("gather", any(not -1 <= place < features for place in self.gather)),
            ("numbers", not all(map(math.isfinite, (*self.shift, *self.gain)))),
            ("scales", not all(1 <= number < math.inf for number in (self.scale, self.answer_scale))),
            (
                "limit",
                not 0
                < self.limit * self.scale
                < 2.0 ** (sum(parameters.modulus_bits[: parameters.levels]) - 1),
            ),
            ("answer scale", self.answer_scale >= 2.0 ** (parameters.modulus_bits[0] - 1)),
            ("period", (self.period is None) != (self.packing == "coefficients")),
            ("period", self.period is not None and not _is_period(self.period, parameters.slots)),
            ("take", not logits or any(not 0 <= place < period for place in self.take)),
            ("take", len(set(self.take)) != logits),
            ("outputs", self.output_shape != outputs or (self.finish == "binary" and logits != 1)),
            ("rotations", any(not 0 < step < parameters.slots for step in self.rotations)),
            ("rotations", len(set(self.rotations)) != len(self.rotations)),
            ("keys", (self.relinearise or bool(self.rotations)) and len(parameters.modulus_bits) == 1),
            ("keys too large", self._key_bytes() > _MOST_KEY_BYTES),
            ("record count", not 1 <= self.max_records <= _MOST_RECORDS),
            ("circuit digest", not _SHA256.fullmatch(self.circuit)),
        ]

    def _key_bytes(self) -> int:
        """Size of the evaluation keys it asks for, to within their seeds and heads."""
        parameters = self.parameters
        switched = parameters.levels * (self.relinearise + len(self.rotations))
        return (1 + switched) * len(parameters.modulus_bits) * parameters.poly_degree * 8

    def _mistyped(self) -> list[str]:
        """Fields of another type than declared: JSON says nothing of types."""
        integers = ("input_shape", "output_shape", "gather", "rotations", "take")
        checks: dict[str, bool] = {
            **{name: _all(getattr(self, name), int) for name in integers},
            **{name: _all(getattr(self, name), float) for name in ("shift", "gain")},
            **{name: type(getattr(self, name)) is float for name in ("limit", "scale", "answer_scale")},
            "max_records": type(self.max_records) is int,
            "modulus_bits": _all(self.parameters.modulus_bits, int)
            and type(self.parameters.poly_degree) is int,
            "packing": self.packing in get_args(Packing),
            "finish": self.finish in get_args(Finish),
            "period": self.period is None or type(self.period) is int,
            "relinearise": type(self.relinearise) is bool,
            "circuit": type(self.circuit) is str,
        }
        return [name for name, right in checks.items() if not right]


def _no_constant(name: str) -> Any:
    """JSON has no NaN and no Infinity, though Python reads them."""
    raise ValueError(name)


def _integer(digits: str) -> int:
    """Reading a long integer takes quadratic time; everything counted here is short."""
    if len(digits) > _MOST_INTEGER_DIGITS:
        raise ValueError("integer too long")
    return int(digits)


def _all(values: Any, kind: type) -> bool:
    """Whether this is a tuple of exactly this type: a bool is no int here, an int no float."""
    return isinstance(values, tuple) and all(type(value) is kind for value in values)


def _is_shape(shape: tuple[int, ...]) -> bool:
    return 1 <= len(shape) <= _MOST_DIMENSIONS and all(1 <= size <= _MOST_DEGREE for size in shape)


def _is_period(period: int, slots: int) -> bool:
    """A power of two from 2: with period 1 the generator 3 leaves no smaller ring."""
    return 1 < period <= slots and period & (period - 1) == 0
