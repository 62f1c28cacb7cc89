"""One array on the wire: eight bytes of header, the dimensions, then little-endian elements.

    offset  bytes  field
    0       4      magic "CWT1"
    4       1      element type: 1 float32, 2 float64, 3 int32, 4 int64, 5 uint8, 6 float16
    5       1      number of dimensions, at most 8
    6       2      zero
    8       4·n    dimensions, unsigned 32-bit
    …              elements in C order

Decoding copies nothing. numpy is imported when an array is first met.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

from .errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["decode", "encode"]

MAGIC = b"CWT1"
MAX_DIMENSIONS = 8
CODES = {1: "float32", 2: "float64", 3: "int32", 4: "int64", 5: "uint8", 6: "float16"}
NAMES = {name: code for code, name in CODES.items()}
HEAD = struct.Struct("<4sBBH")


def encode(array: NDArray[Any]) -> bytes:
    """Write an array of any shape.

    Raises:
        InputError: `wrong_dtype` when the elements are not plain numbers.
    """
    import numpy as np

    code = NAMES.get(array.dtype.name)
    if code is None:
        raise InputError(
            "wrong_dtype",
            f"An array of {array.dtype.name} cannot be sent; convert it to one of {', '.join(NAMES)}.",
        )
    plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    head = HEAD.pack(MAGIC, code, array.ndim, 0) + struct.pack(f"<{array.ndim}I", *array.shape)
    return head + plain.tobytes()


def decode(body: bytes | memoryview) -> NDArray[np.generic]:
    """Read an array; it shares the memory of `body` and cannot be written to.

    Raises:
        InputError: `bad_tensor` when the header or the length is off.
    """
    import numpy as np

    if len(body) < HEAD.size:
        raise _bad("it is shorter than its header")
    magic, code, dimensions, zero = HEAD.unpack_from(body)
    start = HEAD.size + 4 * dimensions
    if magic != MAGIC or zero or code not in CODES or dimensions > MAX_DIMENSIONS or len(body) < start:
        raise _bad("its header is not one of ours")
    shape = struct.unpack_from(f"<{dimensions}I", body, HEAD.size)
    dtype = np.dtype(CODES[code]).newbyteorder("<")
    if len(body) - start != math.prod(shape) * dtype.itemsize:
        raise _bad("its length does not fit its dimensions")
    try:
        array: NDArray[np.generic] = np.frombuffer(body, dtype, offset=start).reshape(shape)
    except ValueError:
        raise _bad("its dimensions are beyond any array") from None
    return array


def _bad(why: str) -> InputError:
    return InputError("bad_tensor", f"The body is not a tensor: {why}. See cloakwork.tensor for the format.")
