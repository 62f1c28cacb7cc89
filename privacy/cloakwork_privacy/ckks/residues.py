"""SEAL's ciphertexts and plaintexts as numpy arrays of residues, and back.

Where this process knows SEAL's memory (see `memory`), words are copied straight; else they pass through
SEAL's own streams, at a tenth of the speed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import tenseal.sealapi as seal

from cloakwork_privacy.ckks import blob, layout, memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from cloakwork_privacy.ckks.context import Context

__all__ = ["centred", "fill", "make", "plain", "read", "read_plain", "view", "written"]

_WORD: Final = 8
_LONGEST_HEAD: Final = 256  # more than SEAL writes before the words of a body


def view(item: Any) -> NDArray[np.uint64]:
    """A SEAL ciphertext's residues, uint64 (polynomials, primes, N).

    Where possible they are SEAL's own memory, which lives no longer than the ciphertext, else a copy.
    """
    shape = item.size(), item.coeff_modulus_size(), item.poly_modulus_degree()
    return memory.ciphertext(item, shape) if memory.direct() else _streamed(item, shape)


def read(item: Any, into: NDArray[np.uint64] | None = None) -> NDArray[np.uint64]:
    """A copy of a SEAL ciphertext's residues, uint64 (polynomials, primes, N), where wanted into an array."""
    if into is None:
        return view(item).copy()
    into[:] = view(item)
    return into


def read_plain(item: Any, shape: tuple[int, int]) -> NDArray[np.uint64]:
    """A copy of the residues, uint64 (primes, N), of a SEAL plaintext in NTT form."""
    return memory.plaintext(item, shape).copy() if memory.direct() else _streamed(item, shape)


def make(ring: Context, residues: NDArray[np.uint64], scale: float, *, ntt: bool = True) -> Any:
    """A new SEAL ciphertext.

    Args:
        ring: Of the program.
        residues: uint64 (polynomials, primes, N), each below its prime: nothing here checks that.
        scale: Of the result.
        ntt: Whether these are residues of a polynomial's values, or of its coefficients.
    """
    return written(ring, residues.shape, scale, lambda words: np.copyto(words, residues), ntt=ntt)


def written(
    ring: Context,
    shape: tuple[int, ...],
    scale: float,
    write: Callable[[NDArray[np.uint64]], None],
    *,
    ntt: bool = True,
) -> Any:
    """As `make`, of the residues that `write` writes into an array of this shape: where possible in place."""
    polynomials, level, _ = shape
    if not memory.direct():
        words, item = np.empty(shape, np.uint64), seal.Ciphertext()
        write(words)
        blob.load(item, ring.seal, layout.ciphertext_body(ring, words, scale, ntt=ntt))
        return item
    item = seal.Ciphertext(ring.seal, ring.parms_id(level), polynomials)
    item.resize(polynomials)
    write(memory.ciphertext(item, shape, ntt=ntt))
    item.scale = scale
    return item


def fill(ring: Context, item: Any, residues: NDArray[np.uint64], scale: float) -> Any:
    """A ciphertext with these residues: `item` itself, overwritten, where that is possible.

    Args:
        ring: Of the program.
        item: SEAL ciphertext of the same number of polynomials and primes; the result has its NTT form.
        residues: As for `make`.
        scale: Of the result.
    """
    if not memory.direct():
        return make(ring, residues, scale, ntt=item.is_ntt_form())
    memory.ciphertext(item, residues.shape)[:] = residues
    item.scale = scale
    return item


def plain(ring: Context, residues: NDArray[np.uint64], scale: float) -> Any:
    """A new SEAL plaintext in NTT form, of residues, uint64 (primes, N), each below its prime."""
    item = seal.Plaintext()
    if not memory.direct():
        blob.load(item, ring.seal, layout.plaintext_body(ring, residues, scale))
        return item
    ring.encoder.encode(1.0, ring.parms_id(len(residues)), scale, item)  # any number gives it its size
    memory.plaintext(item, residues.shape)[:] = residues
    return item


def centred(ring: Context, level: int, values: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Residues, uint64 (n, primes, N), of small integers, int64 (n, N)."""
    count, degree = values.shape
    words = values.view(np.uint64)  # where a negative number is a huge one
    made = np.empty((count, level, degree), np.uint64)
    for place, prime in enumerate(ring.primes[:level]):
        np.minimum(words, words + np.uint64(prime), out=made[:, place])
    return made


def _streamed(item: Any, shape: tuple[int, ...]) -> NDArray[np.uint64]:
    """A body ends with the words."""
    size = _WORD * math.prod(shape)
    body = blob.body(item, size + _LONGEST_HEAD)
    return np.frombuffer(body[-size:], "<u8").reshape(shape).astype(np.uint64)
