"""What a key carries on the wire: residues and seeds, nothing else.

A body that SEAL saves is mostly fixed once the program is known: parms_id, sizes, level, scale, NTT flag. A
client that could write those fields could send an infinite scale, a lower level or a compressed bomb. So
they do not travel: a `Layout` holds the fixed bytes, and the receiver writes them itself around the residues
and seeds it got, whose total size it knows to the byte. Residues travel in as many whole bytes as their
prime has, which is as small as SEAL's own compression makes them, within 7 %, and takes less time.

Half of every key is uniformly random and travels as the seed that SEAL expands it from, with Blake2xb. Keys
must be seeded: a client then cannot choose that half, which the privacy of the server's answer rests on (see
`answer`). Requests are seeded too, by other means: see `sealed`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from cloakwork_privacy.ckks.blob import SEED_BYTES, dump, header, load, looks_like_secret_key
from cloakwork_privacy.ckks.octets import narrow, widen
from cloakwork_privacy.errors import PrivacyError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cloakwork_privacy.ckks.context import Context

__all__ = [
    "Layout",
    "Unsent",
    "Words",
    "ciphertext_body",
    "galois_keys",
    "invalid",
    "plaintext_body",
    "public_key",
    "relinearisation_keys",
    "residues",
    "secret_key",
    "sized",
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


@dataclass(frozen=True, slots=True)
class Unsent:
    """A run of 64-bit words that nothing reads: whatever the sender has there, the receiver writes zeros."""

    count: int


@dataclass(frozen=True, eq=False)
class Layout:
    """One kind of SEAL object of one program; equal to itself only, as the functions below keep theirs.

    Attributes:
        pieces: Fixed bytes, and runs of words sent or not, in SEAL's order.
    """

    pieces: tuple[bytes | Words | Unsent, ...]

    @cached_property
    def wire_bytes(self) -> int:
        """Exact size on the wire."""
        return sum(piece.count * piece.width for piece in self.pieces if isinstance(piece, Words))

    @cached_property
    def body_bytes(self) -> int:
        """Exact size of SEAL's uncompressed body."""
        return sum(len(piece) if isinstance(piece, bytes) else piece.count * _WORD for piece in self.pieces)

    def pack(self, item: Any) -> bytes:
        """The wire's form of a SEAL object that this process made.

        Raises:
            RuntimeError: SEAL wrote other fixed bytes than foreseen: not a SEAL we know.
        """
        body, kept, start = dump(item, self.body_bytes), [], 0
        for piece in self.pieces:
            if isinstance(piece, Words):
                kept.append(narrow(np.frombuffer(body, "<u8", piece.count, start), piece.width))
                start += piece.count * _WORD
            elif isinstance(piece, Unsent):
                start += piece.count * _WORD
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
        sized(wire, self.wire_bytes, code)
        try:
            load(item, context.seal, self.body(wire))
        except (RuntimeError, ValueError):
            raise invalid(code) from None
        return item

    def body(self, wire: bytes) -> NDArray[np.uint8]:
        """SEAL's body around the wire's words."""
        body, start, sent = np.zeros(self.body_bytes, np.uint8), 0, 0
        for piece in self.pieces:
            if isinstance(piece, bytes):
                body[start : start + len(piece)] = np.frombuffer(piece, np.uint8)
                start += len(piece)
                continue
            if isinstance(piece, Words):
                words = widen(wire, sent, piece.count, piece.width)
                body[start : start + words.nbytes] = words.view(np.uint8)
                sent += piece.count * piece.width
            start += piece.count * _WORD
        return body


def sized(wire: bytes, wire_bytes: int, code: str) -> None:
    """Refuses bytes of another size than a program's.

    Raises:
        PrivacyError: As `Layout.unpack`.
    """
    if len(wire) == wire_bytes:
        return
    if looks_like_secret_key(wire):
        raise PrivacyError(
            "secret_key_refused",
            "These bytes are a secret key, which never leaves its owner. Discard it, make new keys.",
        )
    raise PrivacyError(
        code, f"Expected {wire_bytes} bytes for this program, got {len(wire)}; was it made for it?"
    )


def invalid(code: str) -> PrivacyError:
    """A residue is not below its prime."""
    return PrivacyError(code, "These bytes are no valid residues of this program's primes.")


def residues(context: Context, primes: int) -> tuple[Words, ...]:
    """One polynomial modulo the first `primes` primes, each in the whole bytes its bits need."""
    degree = context.parameters.poly_degree
    return tuple(Words(degree, (bits + 7) // 8) for bits in context.parameters.modulus_bits[:primes])


@lru_cache(maxsize=16)
def public_key(context: Context) -> Layout:
    """A seeded public key."""
    return Layout(_key(context))


@lru_cache(maxsize=16)
def relinearisation_keys(context: Context, level: int) -> Layout:
    """Seeded relinearisation keys, for use at this level and below."""
    return Layout(_key_switching(context, {0: level}, 1))


@lru_cache(maxsize=16)
def galois_keys(context: Context, rotations: tuple[tuple[int, int], ...]) -> Layout:
    """Seeded Galois keys of exactly these rotations, each with the highest level it is used at."""
    present = {(context.galois_element(step) - 1) // 2: level for step, level in rotations}
    return Layout(_key_switching(context, present, context.parameters.poly_degree))


@lru_cache(maxsize=16)
def secret_key(context: Context) -> Layout:
    """A secret key, which SEAL keeps as a plaintext at the keys' level. It goes to its owner's disk only."""
    primes = len(context.primes)
    head = _plaintext_head(context, context.key_id, primes, _KEY_SCALE)
    return Layout((head, *residues(context, primes)))


def ciphertext_body(
    context: Context, words: NDArray[np.uint64], scale: float, *, ntt: bool
) -> NDArray[np.uint8]:
    """SEAL's body of an unseeded ciphertext, uint64 (polynomials, primes, N)."""
    polynomials, level, _ = words.shape
    head = _ciphertext_head(context, context.parms_id(level), level, scale, polynomials=polynomials, ntt=ntt)
    return _joined(head + _array_head(context, polynomials * level), words)


def plaintext_body(context: Context, words: NDArray[np.uint64], scale: float) -> NDArray[np.uint8]:
    """SEAL's body of a plaintext in NTT form, uint64 (primes, N)."""
    level = len(words)
    return _joined(_plaintext_head(context, context.parms_id(level), level, scale), words)


def _joined(head: bytes, words: NDArray[np.uint64]) -> NDArray[np.uint8]:
    return np.frombuffer(head + words.astype("<u8").tobytes(), np.uint8)


def _plaintext_head(context: Context, parms_id: list[int], primes: int, scale: float) -> bytes:
    sizes = struct.pack("<Qd", context.parameters.poly_degree * primes, scale)
    return _words(parms_id) + sizes + _array_head(context, primes)


def _ciphertext_head(
    context: Context, parms_id: list[int], primes: int, scale: float, *, polynomials: int, ntt: bool
) -> bytes:
    correction = 1  # BGV's; one elsewhere
    sizes = struct.pack("<QQQ", polynomials, context.parameters.poly_degree, primes)
    return _words(parms_id) + struct.pack("<?", ntt) + sizes + struct.pack("<dQ", scale, correction)


def _key(context: Context) -> tuple[bytes | Words, ...]:
    """A seeded public key, or a component of a key switching one: its first polynomial, then the seed."""
    primes = len(context.primes)
    head = _ciphertext_head(context, context.key_id, primes, _KEY_SCALE, polynomials=2, ntt=True)
    return (
        head + _array_head(context, primes),
        *residues(context, primes),
        header(len(_BLAKE2XB) + SEED_BYTES) + _BLAKE2XB,
        Words(SEED_BYTES // _WORD, _WORD),
    )


def _switch(context: Context, component: int, level: int) -> tuple[bytes | Words | Unsent, ...]:
    """One component of a key switching key, cut to what switching at this level and below reads.

    There, a ciphertext is decomposed by its own primes only, and the products are summed modulo those and
    the special one: of the first `level` components other residues are never read, and other components not
    at all. What is sent is a part of the whole key, so it tells no more.
    """
    *residues_, prefix, seed = _key(context)[1:]
    head = (header(Layout(_key(context)).body_bytes), _key(context)[0])
    if component >= level:
        return (*head, *map(_unsent, residues_), prefix, _unsent(seed))
    used = {*range(level), len(residues_) - 1}
    return (*head, *(run if i in used else _unsent(run) for i, run in enumerate(residues_)), prefix, seed)


def _unsent(run: bytes | Words) -> Unsent:
    assert isinstance(run, Words)
    return Unsent(run.count)


def _key_switching(
    context: Context, present: dict[int, int], places: int
) -> tuple[bytes | Words | Unsent, ...]:
    """Key switching keys: at each of `places` nothing, or a key used at no higher level than stated."""
    components = context.parameters.levels
    pieces: list[bytes | Words | Unsent] = [_words(context.key_id) + struct.pack("<Q", places)]
    empty = 0
    for place in range(places):
        if place in present:
            pieces.append(bytes(_WORD * empty) + struct.pack("<Q", components))
            for component in range(components):
                pieces.extend(_switch(context, component, present[place]))
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
