"""Ciphertexts as numpy arrays of residues, and back.

SEAL's binding gives no access to a ciphertext's words, and saving one compresses it, which takes longer than
most operations do. But a binding's object is a head and a pointer to SEAL's, which holds its sizes and a
pointer to the words. Where a trial in this process shows these to be where we know them to be, words are
copied straight; else they pass through SEAL's own streams, at a tenth of the speed. Every access checks
the sizes again before it follows the pointer.
"""

from __future__ import annotations

import ctypes
import math
import os
import struct
import threading
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import tenseal.sealapi as seal

from cloakwork_privacy.ckks import blob, layout
from cloakwork_privacy.ckks.context import context
from cloakwork_privacy.ckks.octets import widen
from cloakwork_privacy.ckks.parameters import Parameters

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cloakwork_privacy.ckks.context import Context

__all__ = ["blank", "fill", "make", "read", "unpack"]

_WORD: Final = 8
# A CPython object's head, then pybind11's pointer to the C++ object.
_BINDING_HEAD: Final = object.__basicsize__
# seal::Ciphertext in 64-bit words: parms_id (4), is_ntt, size, degree, primes, scale, correction factor,
# then a DynArray: memory pool (2), capacity, count, pointer to the words.
_HEAD: Final = struct.Struct("<4QQ3QdQ2QQQQ")
_SIZES: Final = slice(5, 8)
_COUNT: Final = 13
_POINTER: Final = 14
_TRIAL: Final = Parameters(1024, (27,))

_local = threading.local()


def read(item: Any, into: NDArray[np.uint64] | None = None) -> NDArray[np.uint64]:
    """A copy of a SEAL ciphertext's residues, uint64 (polynomials, primes, N), where wanted into an array."""
    words = _words(item) if _direct() else _read_stream(item)
    if into is None:
        return words.copy()
    into[:] = words
    return into


def blank(ring: Context, level: int, polynomials: int = 2) -> Any:
    """A ciphertext of zeros in coefficients, to be filled."""
    item = seal.Ciphertext(ring.seal, ring.parms_id(level), polynomials)
    item.resize(polynomials)
    return item


def fill(ring: Context, item: Any, residues: NDArray[np.uint64], scale: float) -> Any:
    """A ciphertext with these residues: `item` itself, overwritten, where that is possible.

    Args:
        ring: Of the program.
        item: SEAL ciphertext of the same number of polynomials and primes; the result has its NTT form.
        residues: uint64 (polynomials, primes, N), each below its prime: nothing checks that.
        scale: Of the result.
    """
    if not _direct():
        return make(ring, residues, scale, ntt=item.is_ntt_form())
    _words(item)[:] = residues
    item.scale = scale
    return item


def make(ring: Context, residues: NDArray[np.uint64], scale: float, *, ntt: bool = True) -> Any:
    """A new SEAL ciphertext of residues, uint64 (polynomials, primes, N).

    Raises:
        ValueError, RuntimeError: A residue is not below its prime.
    """
    item = seal.Ciphertext()
    polynomials, level, _ = residues.shape
    head = np.frombuffer(layout.ciphertext_head(ring, level, polynomials, scale, ntt=ntt), np.uint8)
    blob.load(
        item, ring.seal, np.concatenate((head, np.ascontiguousarray(residues, "<u8").view(np.uint8).ravel()))
    )
    return item


def unpack(ring: Context, kind: layout.Layout, wire: bytes, code: str, item: Any | None = None) -> Any:
    """A seeded ciphertext of the wire: as `kind.unpack`, and faster.

    SEAL expands the seed, from a stream that is otherwise always the same; the other half is copied.

    Args:
        ring: Of the program.
        kind: A seeded ciphertext's layout.
        wire: What to read.
        code: Of the error.
        item: Ciphertext to overwrite; None for a new one.

    Raises:
        PrivacyError: As `Layout.unpack`.
    """
    item = seal.Ciphertext() if item is None else item
    if not _direct():
        return kind.unpack(wire, item, ring, code)
    kind.check(wire, code)
    _stencil(ring, kind).load(item, ring.seal, wire[-blob.SEED_BYTES :])
    start = 0
    for words, piece, prime in zip(_words(item)[0], _runs(kind), ring.primes, strict=False):
        words[:] = widen(wire, start, piece.count, piece.width)
        if words.max() >= prime:
            raise layout.invalid(code)
        start += piece.count * piece.width
    return item


def _runs(kind: layout.Layout) -> list[layout.Words]:
    """A seeded ciphertext's residues, then its seed."""
    return [piece for piece in kind.pieces if isinstance(piece, layout.Words)]


def _stencil(ring: Context, kind: layout.Layout) -> blob.Stencil:
    """This thread's, in this process."""
    if getattr(_local, "process", None) != os.getpid():
        _local.process, _local.stencils = os.getpid(), {}
    stencils: dict[tuple[Context, layout.Layout], blob.Stencil] = _local.stencils
    if (ring, kind) not in stencils:
        body = kind.body(bytes(kind.wire_bytes))
        stencils[ring, kind] = blob.Stencil(body, body.size - blob.SEED_BYTES)
    return stencils[ring, kind]


def _read_stream(item: Any) -> NDArray[np.uint64]:
    """A body ends with the words."""
    shape = (item.size(), item.coeff_modulus_size(), item.poly_modulus_degree())
    words = _WORD * math.prod(shape)
    return (
        np.frombuffer(blob.body(item, words + _WORD * _HEAD.size)[-words:], "<u8")
        .reshape(shape)
        .astype(np.uint64)
    )


def _words(item: Any) -> NDArray[np.uint64]:
    """SEAL's own memory, valid for as long as the item is alive and unchanged.

    Raises:
        RuntimeError: The item's sizes are not where they were in the trial.
    """
    head = _HEAD.unpack((ctypes.c_char * _HEAD.size).from_address(_address(item)))
    sizes = (item.size(), item.poly_modulus_degree(), item.coeff_modulus_size())
    if head[_SIZES] != sizes or head[_COUNT] != math.prod(sizes):
        raise RuntimeError("SEAL's ciphertext is not laid out as it was")
    polynomials, degree, primes = sizes
    memory = (ctypes.c_uint64 * head[_COUNT]).from_address(head[_POINTER])
    return np.frombuffer(memory, np.uint64).reshape(polynomials, primes, degree)


def _address(item: Any) -> int:
    """Of the C++ object."""
    return ctypes.c_uint64.from_address(id(item) + _BINDING_HEAD).value


@cache
def _direct() -> bool:
    """Whether the words are where we know them to be, tried on a ciphertext whose words we know.

    The trial reads through the kernel, which answers a wrong address with an error and not with a signal.
    """
    if not hasattr(os, "memfd_create"):  # stencils need one
        return False
    ring = context(_TRIAL)
    known = np.random.default_rng(0).integers(0, ring.primes[0], (2, 1, _TRIAL.poly_degree), np.uint64)
    item = make(ring, known, 1.5)
    try:
        memory = os.open("/proc/self/mem", os.O_RDONLY)
    except OSError:
        return False
    try:
        head = _HEAD.unpack(os.pread(memory, _HEAD.size, _address(item)))
        words = os.pread(memory, known.nbytes, head[_POINTER])
    except (OSError, OverflowError, struct.error):
        return False
    finally:
        os.close(memory)
    sizes = (2, _TRIAL.poly_degree, 1)
    return (
        head[:4] == tuple(ring.parms_id(1))
        and head[_SIZES] == sizes
        and head[8] == item.scale
        and head[_COUNT] == known.size
        and words == known.tobytes()
    )
