"""64-bit words as the few bytes that travel of each, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["narrow", "widen"]

_WORD: Final = 8
_WHOLE: Final = {1: "<u1", 2: "<u2", 4: "<u4", 8: "<u8"}


def widen(
    data: bytes,
    start: int,
    count: int,
    width: int,
    dropped: int = 0,
    *,
    into: NDArray[np.uint64] | None = None,
) -> NDArray[np.uint64]:
    """Words, uint64 (count,), from the bytes `dropped` to `width` of each; the other bytes are zero.

    Where wanted they are written into an array.
    """
    sent = width - dropped
    if len(data) < start + (count - 1) * sent + _WORD:
        data = data[start : start + count * sent] + bytes(_WORD)
        start = 0
    # Every word is read with the first bytes of its neighbour, which are cut off: one pass for any width.
    wide = np.ndarray((count,), "<u8", data, start, (sent,))
    words: NDArray[np.uint64] = np.bitwise_and(wide, np.uint64((1 << _WORD * sent) - 1), out=into)
    if dropped:
        words <<= np.uint64(_WORD * dropped)
    return words


def narrow(words: NDArray[np.uint64], width: int, dropped: int = 0) -> bytes:
    """The bytes `dropped` to `width` of each word, (count,)."""
    sent, little = width - dropped, np.ascontiguousarray(words, "<u8")
    if sent in _WHOLE:
        return np.ndarray(little.shape, _WHOLE[sent], little, dropped, (_WORD,)).tobytes()
    return little.view(np.uint8).reshape(-1, _WORD)[:, dropped:width].tobytes()
