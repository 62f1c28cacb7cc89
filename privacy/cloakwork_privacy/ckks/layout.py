"""What a SEAL object carries on the wire: residues and seeds, nothing else.

A body that SEAL saves is mostly fixed once the program is known: parms_id, sizes, level, scale, NTT flag. A
client that could write those fields could send an infinite scale, a lower level or a compressed bomb. So
they do not travel: a `Layout` holds the fixed bytes, and the receiver writes them itself around the residues
and seeds it got, whose total size it knows to the byte. Residues travel in as many whole bytes as their
prime has, which is as small as SEAL's own compression makes them, within 7 %, and takes less time.

Half of every fresh key and ciphertext is uniformly random and travels as the seed it is expanded from.
Keys and requests must be seeded: a client then cannot choose that half, which the privacy of the server's
answer rests on (see `answer`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from cloakwork_privacy.ckks.blob import SEED_BYTES, dump, header, load, looks_like_secret_key
from cloakwork_privacy.errors import PrivacyError

if TYPE_CHECKING:
    from cloakwork_privacy.ckks.context import Context

__all__ = [
    "Layout",
    "Words",
    "ciphertext",
    "galois_keys",
    "public_key",
    "relinearisation_keys",
    "residues",
    "secret_key",
]

_BLAKE2XB: Final = b"\x01"
_WORD: Final = 8
_KEY_SCALE: Final = 1.0  # SEAL leaves the scale of keys at one.

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Words:
    """A run of 64-bit words of a SEAL body, sent in the low `width` bytes of each."""

    count: int
    width: int


@dataclass(frozen=True)
class Layout:
    """One kind of SEAL object of one program.

    Attributes:
        pieces: Fixed bytes and runs of words, in SEAL's order.
    """

    pieces: tuple[bytes | Words, ...]

    @cached_property
    def wire_bytes(self) -> int:
        """Exact size on the wire."""
        return sum(piece.count * piece.width for piece in self.pieces if isinstance(piece, Words))

    @cached_property
    def body_bytes(self) -> int:
        """Exact size of SEAL's uncompressed body."""
        return sum(piece.count * _WORD if isinstance(piece, Words) else len(piece) for piece in self.pieces)

    def pack(self, item: Any) -> bytes:
        """The wire's form of a SEAL object that this process made.

        Raises:
            RuntimeError: SEAL wrote other fixed bytes than foreseen: not a SEAL we know.
        """
        body, kept, start = dump(item, self.body_bytes), [], 0
        for piece in self.pieces:
            if isinstance(piece, Words):
                words = np.frombuffer(body, np.uint8, piece.count * _WORD, start).reshape(piece.count, _WORD)
                kept.append(words[:, : piece.width].tobytes())
                start += words.size
            else:
                if body[start : start + len(piece)] != piece:
                    raise RuntimeError(
                        "SEAL wrote fields of an unknown layout; this TenSEAL is not supported"
                    )
                start += len(piece)
        return b"".join(kept)

    def unpack(self, wire: bytes, item: Item, context: Context, code: str) -> Item:
        """Fills an empty SEAL object from the wire, and returns it.

        Raises:
            PrivacyError: `secret_key_refused` when these bytes are a secret key in SEAL's own format, else
                `code`: not this program's size, or a residue not below its prime.
        """
        if len(wire) != self.wire_bytes:
            if looks_like_secret_key(wire):
                raise PrivacyError(
                    "secret_key_refused",
                    "These bytes are a secret key, which never leaves its owner. Discard it, make new keys.",
                )
            raise PrivacyError(
                code,
                f"Expected {self.wire_bytes} bytes for this program, got {len(wire)}; was it made for it?",
            )
        try:
            load(item, context.seal, self._body(wire))
        except (RuntimeError, ValueError):
            raise PrivacyError(code, "These bytes are no valid residues of this program's primes.") from None
        return item

    def _body(self, wire: bytes) -> bytes:
        """SEAL's body around the wire's words."""
        body, start = [], 0
        for piece in self.pieces:
            if isinstance(piece, Words):
                words = np.zeros((piece.count, _WORD), np.uint8)
                sent = np.frombuffer(wire, np.uint8, piece.count * piece.width, start)
                words[:, : piece.width] = sent.reshape(words.shape[0], piece.width)
                body.append(words.tobytes())
                start += sent.size
            else:
                body.append(piece)
        return b"".join(body)


def residues(context: Context, primes: int) -> tuple[Words, ...]:
    """One polynomial modulo the first `primes` primes, each in the whole bytes its bits need."""
    degree = context.parameters.poly_degree
    return tuple(Words(degree, (bits + 7) // 8) for bits in context.parameters.modulus_bits[:primes])


@lru_cache(maxsize=64)
def ciphertext(context: Context, level: int, scale: float, *, seeded: bool, ntt: bool = True) -> Layout:
    """A ciphertext of two polynomials at a level and a scale."""
    return Layout(_ciphertext(context, context.parms_id(level), level, scale, seeded=seeded, ntt=ntt))


@lru_cache(maxsize=16)
def public_key(context: Context) -> Layout:
    """A seeded public key."""
    return Layout(_key(context))


@lru_cache(maxsize=16)
def relinearisation_keys(context: Context) -> Layout:
    """Seeded relinearisation keys."""
    return Layout(_key_switching(context, {0}, 1))


@lru_cache(maxsize=16)
def galois_keys(context: Context, rotations: tuple[int, ...]) -> Layout:
    """Seeded Galois keys of exactly these rotations."""
    present = {(context.galois_element(step) - 1) // 2 for step in rotations}
    return Layout(_key_switching(context, present, context.parameters.poly_degree))


@lru_cache(maxsize=16)
def secret_key(context: Context) -> Layout:
    """A secret key, which SEAL keeps as a plaintext at the keys' level. It goes to its owner's disk only."""
    primes = len(context.primes)
    head = _words(context.key_id) + struct.pack("<Qd", context.parameters.poly_degree * primes, _KEY_SCALE)
    return Layout((head + _array_head(context, primes), *residues(context, primes)))


def _ciphertext(
    context: Context, parms_id: list[int], primes: int, scale: float, *, seeded: bool, ntt: bool
) -> tuple[bytes | Words, ...]:
    degree = context.parameters.poly_degree
    correction = 1  # BGV's; one elsewhere
    head = _words(parms_id) + struct.pack("<?QQQdQ", ntt, 2, degree, primes, scale, correction)
    polynomial = residues(context, primes)
    if not seeded:
        return (head + _array_head(context, 2 * primes), *polynomial, *polynomial)
    seed = (header(len(_BLAKE2XB) + SEED_BYTES) + _BLAKE2XB, Words(SEED_BYTES // _WORD, _WORD))
    return (head + _array_head(context, primes), *polynomial, *seed)


def _key(context: Context) -> tuple[bytes | Words, ...]:
    return _ciphertext(context, context.key_id, len(context.primes), _KEY_SCALE, seeded=True, ntt=True)


def _key_switching(context: Context, present: set[int], places: int) -> tuple[bytes | Words, ...]:
    """Key switching keys: at each of `places`, none or one key per data prime."""
    key = _key(context)
    keys = (header(Layout(key).body_bytes), *key) * context.parameters.levels
    pieces: list[bytes | Words] = [_words(context.key_id) + struct.pack("<Q", places)]
    empty = 0
    for place in range(places):
        if place in present:
            pieces.extend((bytes(_WORD * empty) + struct.pack("<Q", context.parameters.levels), *keys))
            empty = 0
        else:
            empty += 1
    return (*pieces, bytes(_WORD * empty))


def _words(values: list[int]) -> bytes:
    return struct.pack(f"<{len(values)}Q", *values)


def _array_head(context: Context, polynomials: int) -> bytes:
    """The nested header and word count before an array of so many single-prime polynomials."""
    count = polynomials * context.parameters.poly_degree
    return header(_WORD + _WORD * count) + struct.pack("<Q", count)
