"""Randomness of requests and answers, from OpenSSL's generator (AES-256 in counter mode, by NIST SP 800-90A).

The operating system seeds it, and a forked process seeds its own anew. It is eight times as fast as asking
the operating system for every byte.

Every draw has exactly the distribution it states: what is not a power of two is drawn by rejection.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["binomial", "ternary", "uniform"]

_TRITS: Final = 5  # in a byte: 3^5 = 243
_TRIT_VALUES: Final = 3**_TRITS
_TABLE: Final = (np.arange(_TRIT_VALUES)[:, None] // 3 ** np.arange(_TRITS) % 3 - 1).astype(np.int64)
_BITS: Final = 42
_BITS_MASK: Final = np.uint64((1 << _BITS) - 1)


def ternary(count: int) -> NDArray[np.int64]:
    """Independent numbers of {-1, 0, 1}, each as likely: int64 (count,)."""
    needed = -(-count // _TRITS)
    kept = np.zeros(0, np.uint8)
    while kept.size < needed:
        drawn = np.frombuffer(ssl.RAND_bytes(needed * 5 // 4 + 32), np.uint8)
        kept = np.concatenate((kept, drawn[drawn < _TRIT_VALUES]))
    return _TABLE.take(kept[:needed], axis=0).ravel()[:count]


def binomial(count: int) -> NDArray[np.int8]:
    """Independent centred binomial numbers of variance 10.5, as SEAL's own encryption noise: int8 (count,).

    SEAL's is the difference in the number of set bits of two times 21 bits. That of 42 bits, less 21, has the
    same distribution: a bit of the second half may as well count where it is not set.
    """
    words = np.frombuffer(ssl.RAND_bytes(8 * count), np.uint64) & _BITS_MASK
    ones: NDArray[np.int8] = np.bitwise_count(words).view(np.int8)
    ones -= np.int8(_BITS // 2)
    return ones


def uniform(count: int, bits: int) -> NDArray[np.int64]:
    """Independent integers of [-2^bits, 2^bits), each as likely: int64 (count,); at most 62 bits."""
    return np.right_shift(np.frombuffer(ssl.RAND_bytes(8 * count), np.int64), 63 - bits)
