"""The rules a signature keeps, for a client that does not trust who wrote it.

They leave a client with nothing to compute that is large, slow or undefined, whatever the signature says.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from cloakwork_privacy.ckks.parameters import Packing

if TYPE_CHECKING:
    from cloakwork_privacy.compiler.signature import Signature

__all__ = ["MOST_FEATURES", "MOST_KEY_BYTES", "MOST_REQUEST_BYTES", "Finish", "faults"]

Finish = Literal["softmax", "binary", "none"]
"""What a client makes of logits: see `Signature`."""

_MOST_RECORDS: Final = 8192
MOST_FEATURES: Final = 4096  # of packing "features", a ciphertext each
MOST_REQUEST_BYTES: Final = 256 << 20  # What a client is willing to make for one request of that packing.
_MOST_DIMENSIONS: Final = 8
_MOST_NUMBERS: Final = 1 << 16  # in a record, of which no more are sent than fit
_MOST_DEGREE: Final = 16384
MOST_KEY_BYTES: Final = 127 << 20  # What a client is willing to upload for one program, with room for heads.
_MOST_MADE_BYTES: Final = 1 << 30  # What making them may take in memory: SEAL makes whole keys.
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


def faults(signature: Signature) -> list[tuple[str, bool]]:
    """Every rule with whether it is broken. Types come first: later rules compute with the fields."""
    types = _mistyped(signature)
    if types:
        return [(f"{', '.join(types)} of the wrong type", True)]
    # Next the sizes, as multiplying dimensions without bound takes quadratic time.
    shapes = (signature.input_shape, signature.output_shape)
    if signature.parameters.poly_degree > _MOST_DEGREE or not all(map(_is_shape, shapes)):
        return [("polynomial degree or shapes", True)]
    parameters, features = signature.parameters, math.prod(signature.input_shape)
    capacity = parameters.capacity(signature.packing)
    logits = len(signature.take)
    bundle = signature.packing == "features"
    # Most ciphertexts a record's numbers can be spread over, and most places to take logits from.
    spread = MOST_FEATURES if bundle else capacity
    places = spread if signature.period is None or bundle else signature.period
    answer_bits = parameters.modulus_bits[0] - 1  # for the number itself, less its sign
    return [
        ("shapes", features > _MOST_NUMBERS),
        ("shift or gain", not len(signature.shift) == len(signature.gain) == features),
        ("gather", not 0 < len(signature.gather) <= spread),
        ("gather", any(not -1 <= place < features for place in signature.gather)),
        ("numbers", not all(map(math.isfinite, (*signature.shift, *signature.gain)))),
        ("scales", not all(1 <= number < math.inf for number in (signature.scale, signature.answer_scale))),
        (
            "limit",
            not 0
            < signature.limit * signature.scale
            < 2.0 ** (sum(parameters.modulus_bits[: parameters.levels]) - 1),
        ),
        (
            "answer limit",
            not 0
            < signature.answer_limit * signature.answer_scale
            < 2.0**answer_bits * signature.summed(signature.max_records),
        ),
        ("answer scale", signature.answer_scale >= 2.0**answer_bits),
        ("period", (signature.period is None) != (signature.packing == "coefficients")),
        ("period", bundle and signature.period != parameters.slots),
        ("period", signature.period is not None and not _is_period(signature.period, parameters.slots)),
        ("take", not logits or any(not 0 <= place < places for place in signature.take)),
        ("take", len(set(signature.take)) != logits),
        ("outputs", not _is_finished(signature, logits)),
        ("rotations", any(not 0 < step < parameters.slots for step in signature.rotations)),
        ("rotations", len(set(signature.rotations)) != len(signature.rotations)),
        ("rotation levels", len(signature.rotation_levels) != len(signature.rotations)),
        ("rotation levels", any(not 1 <= level <= parameters.levels for level in signature.rotation_levels)),
        ("relinearise level", not 0 <= signature.relinearise_level <= parameters.levels),
        ("keys", bool(_switching(signature)) and len(parameters.modulus_bits) == 1),
        ("keys too large", _key_bytes(signature) > MOST_KEY_BYTES),
        ("keys too large", _made_bytes(signature) > _MOST_MADE_BYTES),
        ("rotations", bool(signature.rotations) and signature.packing != "slots"),
        ("record count", not 1 <= signature.max_records <= _MOST_RECORDS),
        ("record count", bundle and signature.max_records > parameters.slots),
        ("request too large", bundle and _request_bytes(signature) > MOST_REQUEST_BYTES),
        ("circuit digest", not _SHA256.fullmatch(signature.circuit)),
    ]


def _request_bytes(signature: Signature) -> int:
    """Size of a request of packing "features", at most, but for seeds and head."""
    return len(signature.gather) * signature.parameters.levels * signature.parameters.poly_degree * 8


def _is_finished(signature: Signature, logits: int) -> bool:
    """Whether finishing so many logits gives an output of that shape."""
    if signature.finish == "binary":
        return logits == 1 and signature.output_shape == (2,)
    if signature.finish == "softmax":
        return signature.output_shape == (logits,)
    return math.prod(signature.output_shape) == logits


def _switching(signature: Signature) -> tuple[int, ...]:
    """The levels of all key switching keys."""
    return signature.rotation_levels + (signature.relinearise_level,) * bool(signature.relinearise_level)


def _key_bytes(signature: Signature) -> int:
    """Size of the key switching keys on the wire, but for their seeds and heads."""
    return sum(map(signature.parameters.key_bytes, _switching(signature)))


def _made_bytes(signature: Signature) -> int:
    """Size of the key switching keys in memory: every component, both polynomials."""
    parameters = signature.parameters
    whole = parameters.levels * len(parameters.modulus_bits) * parameters.poly_degree * 16
    return len(_switching(signature)) * whole


def _mistyped(signature: Signature) -> list[str]:
    """Fields of another type than declared: JSON says nothing of types."""
    integers = ("input_shape", "output_shape", "gather", "rotations", "rotation_levels", "take")
    floats = ("limit", "scale", "answer_scale", "answer_limit")
    checks: dict[str, bool] = {
        **{name: _all(getattr(signature, name), int) for name in integers},
        **{name: _all(getattr(signature, name), float) for name in ("shift", "gain")},
        **{name: type(getattr(signature, name)) is float for name in floats},
        **{name: type(getattr(signature, name)) is int for name in ("max_records", "relinearise_level")},
        "modulus_bits": _all(signature.parameters.modulus_bits, int)
        and type(signature.parameters.poly_degree) is int,
        "packing": signature.packing in get_args(Packing),
        "finish": signature.finish in get_args(Finish),
        "period": signature.period is None or type(signature.period) is int,
        "circuit": type(signature.circuit) is str,
    }
    return [name for name, right in checks.items() if not right]


def _all(values: Any, kind: type) -> bool:
    """Whether this is a tuple of exactly this type: a bool is no int here, an int no float."""
    return isinstance(values, tuple) and all(type(value) is kind for value in values)


def _is_shape(shape: tuple[int, ...]) -> bool:
    return 1 <= len(shape) <= _MOST_DIMENSIONS and all(1 <= size <= _MOST_DEGREE for size in shape)


def _is_period(period: int, slots: int) -> bool:
    """A power of two from 2: with period 1 the generator 3 leaves no smaller ring."""
    return 1 < period <= slots and period & (period - 1) == 0
