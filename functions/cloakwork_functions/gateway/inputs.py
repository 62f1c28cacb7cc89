"""Bodies into records: everything a model may trust about its input is checked here, before a hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from cloakwork import tensor
from cloakwork.errors import InputError
from cloakwork.wire import Media, RunInput

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Expected", "Records", "read_records"]

DECODER = msgspec.json.Decoder(RunInput)
NUMERIC = "fiu"


class Expected(NamedTuple):
    """What a mode of a model takes: the shape of one record, bounds, and most records in a call."""

    shape: tuple[int, ...]
    minimum: float | None
    maximum: float | None
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
    elif media == Media.JSON:
        array = _from_json(body)
    else:
        raise InputError(
            "unsupported_media_type", f"Send {Media.JSON} or {Media.TENSOR}.", param="content-type"
        )
    if array.dtype.kind not in NUMERIC:
        raise InputError(
            "wrong_dtype",
            "The input must be numbers throughout: no text, null or truth values.",
            param="input",
        )
    batched = array.ndim == len(expected.shape) + 1
    if (array.shape[1:] if batched else array.shape) != expected.shape:
        wanted = list(expected.shape)
        raise InputError(
            "wrong_shape",
            f"The input has shape {list(array.shape)}; send {wanted}, or [n, {str(wanted)[1:]} for a batch.",
            param="input",
        )
    count = array.shape[0] if batched else 1
    if not 0 < count <= expected.max_records:
        raise InputError(
            "too_many_records",
            f"A call takes 1 to {expected.max_records} records, not {count}.",
            param="input",
        )
    return Records(_checked(array, expected).tobytes(), count, batched)


def _from_json(body: bytes) -> NDArray[Any]:
    try:
        value = DECODER.decode(body).input
    except msgspec.ValidationError:
        raise InputError("bad_json", 'The body must be an object with a member "input".') from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if b"NaN" in body or b"Infinity" in body:
            raise InputError(
                "not_finite", "JSON has no NaN or infinity; remove or impute such values."
            ) from None
        raise InputError("bad_json", "The body is not JSON.") from None
    try:
        array: NDArray[Any] = np.asarray(value)
    except (ValueError, OverflowError):
        raise InputError(
            "wrong_shape", "The input's lists are ragged; send a rectangular array.", param="input"
        ) from None
    return array


def _checked(array: NDArray[Any], expected: Expected) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        values: NDArray[np.float32] = array.astype("<f4", copy=False)
    if not np.isfinite(values).all():
        raise InputError(
            "not_finite",
            "The input holds NaN, infinity or a number beyond float32; remove or impute it.",
            param="input",
        )
    low, high = expected.minimum, expected.maximum
    if (low is not None and values.min() < low) or (high is not None and values.max() > high):
        raise InputError(
            "out_of_range", f"Values must lie between {low} and {high}, as the card says.", param="input"
        )
    return values
