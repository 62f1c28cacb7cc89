"""The JSON of a release: read without trust, written the same way every time.

member       value
format       "cloakwork-release/1"
mechanism    "nearest-codeword-response"
epsilon      the ε stated, in nats
near         how many codewords count as near a record
threshold    probability of a near answer, in units of 2**-53
input_shape  of one record
wire_shape   of one answer, [d]
center       n numbers
projection   d rows of n numbers
codebook     rows of d numbers, as many as there are possible answers
"""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

from cloakwork_privacy.anonymize.mechanism import MAX_SIZE
from cloakwork_privacy.errors import PrivacyError

__all__ = ["TOLERANCE", "Fields", "read", "write"]

FORMAT = "cloakwork-release/1"
MECHANISM = "nearest-codeword-response"
# How far below the stated ε the mechanism's own may lie: its threshold is a whole number, rounded down.
TOLERANCE = 1e-6
MAX_BYTES = 16 << 20
MAX_DEPTH = 1024
MAX_WIDTH = 1 << 16
MAX_DIMENSIONS = 8


class Fields(NamedTuple):
    """The members that carry information; the others follow from them. Arrays are nested lists."""

    epsilon: float
    near: int
    threshold: int
    input_shape: tuple[int, ...]
    center: list[float]
    projection: list[list[float]]
    codebook: list[list[float]]


MEMBERS = {"format", "mechanism", "wire_shape", *Fields._fields}


def read(body: bytes) -> Fields:
    """Decode a document and check every type and length in it.

    Raises:
        PrivacyError: `release_invalid`.
    """
    if len(body) > MAX_BYTES:
        raise _invalid(f"larger than {MAX_BYTES} bytes")
    try:
        document = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise _invalid("not JSON") from None
    if not isinstance(document, dict) or document.keys() != MEMBERS:
        raise _invalid("it lacks members, or has others than those known")
    if document["format"] != FORMAT or document["mechanism"] != MECHANISM:
        raise _invalid("of another format or mechanism; a newer cloakwork may know it")
    shape = _whole_list(document["input_shape"], MAX_DIMENSIONS)
    width = math.prod(shape)
    if not 1 <= width <= MAX_WIDTH:
        raise _invalid("its input is empty or too large")
    projection = _matrix(document["projection"], MAX_DEPTH, width)
    if document["wire_shape"] != [len(projection)]:
        raise _invalid("its wire_shape is not the projection's")
    return Fields(
        _number(document["epsilon"]),
        _whole(document["near"]),
        _whole(document["threshold"]),
        shape,
        _row(document["center"], width),
        projection,
        _matrix(document["codebook"], MAX_SIZE, len(projection)),
    )


def write(fields: Fields) -> bytes:
    """Encode a document, in UTF-8 and without white space."""
    document = {
        "format": FORMAT,
        "mechanism": MECHANISM,
        "wire_shape": [len(fields.projection)],
        **fields._asdict(),
    }
    return json.dumps(document, allow_nan=False, separators=(",", ":")).encode()


def _matrix(value: Any, most: int, width: int) -> list[list[float]]:
    if not isinstance(value, list) or not 1 <= len(value) <= most:
        raise _invalid("a matrix is not a list of rows, or has too many")
    return [_row(row, width) for row in value]


def _row(value: Any, width: int) -> list[float]:
    if not isinstance(value, list) or len(value) != width:
        raise _invalid("a row is not a list of the length expected")
    return [_number(item) for item in value]


def _whole_list(value: Any, most: int) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > most:
        raise _invalid("a shape is not a list, or has too many dimensions")
    return tuple(_whole(item) for item in value)


def _number(value: Any) -> float:
    # bool is an int to Python, and not to JSON.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _invalid("a number is missing")
    try:
        return float(value)
    except OverflowError:
        raise _invalid("a number is too large") from None


def _whole(value: Any) -> int:
    # The bound keeps products of a few of these small; the mechanism checks the rest.
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 53:
        raise _invalid("a whole number is missing or out of range")
    return value


def _refuse(constant: str) -> float:
    raise ValueError(constant)


def _invalid(why: str) -> PrivacyError:
    return PrivacyError("release_invalid", f"The service's anonymizer is refused: {why}.")
