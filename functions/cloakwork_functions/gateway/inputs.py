"""Bodies into records: everything a model may trust about its input is checked here, before a hold."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from cloakwork import tensor
from cloakwork.errors import InputError
from cloakwork.wire import Media, RunInput

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Expected", "Records", "read_records"]

FLOAT32_MAX = float(np.finfo(np.float32).max)
DECODER = msgspec.json.Decoder(RunInput)


class Expected(NamedTuple):
    """What a mode of a model takes: the shape of one record, bounds (also in words), most records."""

    shape: tuple[int, ...]
    minimum: float | None
    maximum: float | None
    bounds: str
    max_records: int


@dataclass(frozen=True, slots=True)
class Records:
    """Checked records.

    Attributes:
        body: float32 elements, little-endian, C order.
        count: how many records.
        batched: whether the caller sent a leading batch dimension.
    """

    body: bytes
    count: int
    batched: bool


def read_records(body: bytes, media: str, expected: Expected) -> Records:
    """Decode and check a body.

    Raises:
        InputError: `bad_json`, `bad_tensor`, `unsupported_media_type`, `wrong_dtype`, `wrong_shape`,
            `too_many_records`, `not_finite` or `out_of_range`.
    """
    if media == Media.TENSOR:
        array = tensor.decode(body)
        batched = _batched(array.shape, expected)
    elif media == Media.JSON:
        value = _decode(body)
        batched = _batched(_shape(value), expected)
        array = _array(value, expected.shape, batched=batched)
    else:
        raise InputError(
            "unsupported_media_type", f"Send {Media.JSON} or {Media.TENSOR}.", param="content-type"
        )
    return Records(_checked(array, expected).tobytes(), array.shape[0] if batched else 1, batched)


def _batched(shape: tuple[int, ...], expected: Expected) -> bool:
    """Tell whether a shape is that of a batch; refuse it when it is neither that nor a record's."""
    if shape == expected.shape:
        return False
    if shape[1:] != expected.shape or len(shape) != len(expected.shape) + 1:
        wanted = list(expected.shape)
        raise InputError(
            "wrong_shape",
            f"The input has shape {list(shape)}; send {wanted}, or [n, {str(wanted)[1:]} for a batch.",
            param="input",
        )
    if not 0 < shape[0] <= expected.max_records:
        raise InputError(
            "too_many_records",
            f"A call takes 1 to {expected.max_records} records, not {shape[0]}.",
            param="input",
        )
    return True


def _decode(body: bytes) -> Any:
    try:
        return DECODER.decode(body).input
    except msgspec.ValidationError:
        raise InputError("bad_json", 'The body must be an object with a member "input".') from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if b"NaN" in body or b"Infinity" in body:
            raise InputError(
                "not_finite", "JSON has no NaN or infinity; remove or impute such values."
            ) from None
        raise InputError("bad_json", "The body is not JSON.") from None


def _shape(value: Any) -> tuple[int, ...]:
    """Read the shape off the first elements; `_array` checks the others."""
    shape: list[int] = []
    while isinstance(value, list) and len(shape) <= tensor.MAX_DIMENSIONS:
        shape.append(len(value))
        value = value[0] if value else None
    return tuple(shape)


def _array(value: Any, shape: tuple[int, ...], *, batched: bool) -> NDArray[Any]:
    """Turn lists whose first elements fit into an array, once all of them do.

    numpy would take text and ragged lists too, at a price in memory that the caller sets.
    """
    records = value if batched else [value]
    for length in shape:
        if not all(isinstance(item, list) and len(item) == length for item in records):
            raise InputError(
                "wrong_shape", "The input's lists are ragged; send a rectangular array.", param="input"
            )
        records = list(chain.from_iterable(records))
    if not {type(item) for item in records} <= {int, float}:
        raise InputError(
            "wrong_dtype",
            "The input must be numbers throughout: no text, null or truth values.",
            param="input",
        )
    try:
        flat = np.array(records, np.float64)
    except OverflowError:
        raise _not_finite() from None
    return flat.reshape(-1, *shape) if batched else flat.reshape(shape)


def _checked(array: NDArray[Any], expected: Expected) -> NDArray[np.float32]:
    """Check values and narrow them. The least and the greatest tell of NaN and infinity as well."""
    least, greatest = float(array.min()), float(array.max())
    if not (least >= -FLOAT32_MAX and greatest <= FLOAT32_MAX):
        raise _not_finite()
    low, high = expected.minimum, expected.maximum
    if (low is not None and least < low) or (high is not None and greatest > high):
        raise InputError(
            "out_of_range", f"Values must be {expected.bounds}, as the card says.", param="input"
        )
    return array.astype("<f4", copy=False)


def _not_finite() -> InputError:
    return InputError(
        "not_finite", "The input holds NaN, infinity or a number beyond float32; remove it.", param="input"
    )
