"""The uniform half of a request's ciphertexts, expanded from its seed.

Half of a fresh ciphertext is uniformly random and public. It travels as a seed of 32 bytes, so that a client
cannot choose it: the server expands the seed itself. The definition, for the i-th of a program's primes p,
counted from 0, whose bit length is b:

1. The stream is AES-256 in counter mode under the seed, from the counter block of 16 bytes that holds i in
   its first eight and 0 in its last eight, both big-endian: other primes have other streams.
2. It is read as little-endian words of 64 bits, of which the lowest b bits are kept.
3. Words that are not below p are left out. The first N that remain are the residues modulo p.

So every residue has exactly the uniform distribution, and any number of them is a prefix of any larger. The
seed is no secret and need not be: what is asked of AES is that a seed decides all and nobody finds one that
gives residues of their liking. SEAL would expand seeds with Blake2xb, at several times the cost.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SEED_BYTES", "expand"]

SEED_BYTES: Final = 32
_COUNTER: Final = struct.Struct(">QQ")


def expand(seed: bytes, place: int, prime: int, into: NDArray[np.uint64]) -> None:
    """Uniform residues.

    Args:
        seed: 32 bytes.
        place: Of the prime among the program's.
        prime: Of at most 64 bits.
        into: uint64 (N,), to be filled.
    """
    stream = Cipher(AES256(seed), CTR(_COUNTER.pack(place, 0))).encryptor()
    mask, found = np.uint64((1 << prime.bit_length()) - 1), 0
    while found < into.size:
        rest = into[found:]
        stream.update_into(_zeros(rest.nbytes), rest.view(np.uint8).data)
        np.bitwise_and(rest.view("<u8"), mask, out=rest)
        if rest.max() < prime:  # mostly so, as SEAL's primes lie just below a power of two
            return
        below = rest[rest < prime]
        rest[: below.size] = below
        found += below.size


@lru_cache(maxsize=16)
def _zeros(count: int) -> bytes:
    """What is encrypted to have the stream itself, kept because it is always the same."""
    return bytes(count)
