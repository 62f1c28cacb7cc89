"""SEAL's own memory of a ciphertext or a plaintext, as numpy arrays.

SEAL's binding gives no access to an item's words, and saving one compresses it, which takes longer than most
operations do. But a binding's object is a head and a pointer to SEAL's, which holds its sizes and a pointer
to the words. A trial in this process shows whether these are where we know them to be. Every access checks
the sizes again before it follows the pointer.
"""

from __future__ import annotations

import ctypes
import math
import os
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import tenseal.sealapi as seal

from cloakwork_privacy.ckks import blob, layout
from cloakwork_privacy.ckks.context import context
from cloakwork_privacy.ckks.parameters import Parameters

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ciphertext", "direct", "plaintext"]

_WORD: Final = 8
_BINDING_HEAD: Final = object.__basicsize__  # of a CPython object; then comes pybind11's pointer
_TRIAL: Final = Parameters(1024, (27,))


class _Ciphertext(ctypes.Structure):
    """The beginning of `seal::Ciphertext`; it ends with a `seal::DynArray`, from `pool` on."""

    _fields_ = (
        ("parms_id", ctypes.c_uint64 * 4),
        ("ntt", ctypes.c_bool),
        ("polynomials", ctypes.c_uint64),
        ("degree", ctypes.c_uint64),
        ("primes", ctypes.c_uint64),
        ("scale", ctypes.c_double),
        ("correction", ctypes.c_uint64),
        ("pool", ctypes.c_uint64 * 2),
        ("capacity", ctypes.c_uint64),
        ("count", ctypes.c_uint64),
        ("words", ctypes.c_uint64),
    )


class _Plaintext(ctypes.Structure):
    """The same of `seal::Plaintext`."""

    _fields_ = (
        ("parms_id", ctypes.c_uint64 * 4),
        ("coefficients", ctypes.c_uint64),
        ("scale", ctypes.c_double),
        ("pool", ctypes.c_uint64 * 2),
        ("capacity", ctypes.c_uint64),
        ("count", ctypes.c_uint64),
        ("words", ctypes.c_uint64),
    )


def ciphertext(item: Any, shape: tuple[int, ...], *, ntt: bool | None = None) -> NDArray[np.uint64]:
    """SEAL's own memory, valid for as long as the item is alive and keeps its size; only where `direct`.

    Args:
        item: SEAL's ciphertext.
        shape: Its polynomials, primes and N.
        ntt: What it is to say of itself; None for what it says already.

    Raises:
        RuntimeError: They are not where they were in the trial.
    """
    head = _Ciphertext.from_address(_address(item))
    if (head.polynomials, head.primes, head.degree) != shape:
        raise _moved()
    words = _words(head, shape)
    if ntt is not None:
        head.ntt = ntt
    return words


def plaintext(item: Any, shape: tuple[int, ...]) -> NDArray[np.uint64]:
    """As `ciphertext`, of a plaintext's primes and N."""
    head = _Plaintext.from_address(_address(item))
    if head.coefficients != math.prod(shape):
        raise _moved()
    return _words(head, shape)


@cache
def direct() -> bool:
    """Whether all is where we know it to be, tried on items whose contents we know.

    The trial reads through the kernel, which answers a wrong address with an error and not with a signal.
    """
    ring = context(_TRIAL)
    known = np.random.default_rng(0).integers(0, ring.primes[0], (2, 1, _TRIAL.poly_degree), np.uint64)
    plain = seal.Plaintext()
    blob.load(plain, ring.seal, layout.plaintext_body(ring, known[0], 1.5))
    try:
        memory = os.open("/proc/self/mem", os.O_RDONLY)
    except OSError:
        return False
    try:
        found = [_holds(memory, _Plaintext, plain, {"coefficients": known[0].size}, known[0])]
        for ntt in (True, False):
            item = seal.Ciphertext()
            blob.load(item, ring.seal, layout.ciphertext_body(ring, known, 1.5, ntt=ntt))
            sizes = {"ntt": ntt, "polynomials": 2, "primes": 1, "degree": _TRIAL.poly_degree}
            found.append(_holds(memory, _Ciphertext, item, sizes, known))
    except (OSError, OverflowError, ValueError):
        return False
    finally:
        os.close(memory)
    return all(found)


def _words(head: Any, shape: tuple[int, ...]) -> NDArray[np.uint64]:
    if head.count != math.prod(shape):
        raise _moved()
    return np.ndarray(shape, np.uint64, _bytes(head.count * _WORD).from_address(head.words))


def _moved() -> RuntimeError:
    return RuntimeError("SEAL's item is not laid out as it was")


@lru_cache(maxsize=16)
def _bytes(count: int) -> Any:
    """The type, which is slow to make."""
    return ctypes.c_char * count


def _address(item: Any) -> int:
    """Of the C++ object."""
    return ctypes.c_uint64.from_address(id(item) + _BINDING_HEAD).value


def _holds(memory: int, kind: Any, item: Any, sizes: dict[str, int], known: NDArray[np.uint64]) -> bool:
    """Whether an item's memory says what we made it of."""
    head = kind.from_buffer_copy(os.pread(memory, ctypes.sizeof(kind), _address(item)))
    return (
        list(head.parms_id) == item.parms_id()
        and all(getattr(head, name) == size for name, size in sizes.items())
        and head.scale == item.scale
        and head.count == known.size
        and os.pread(memory, known.nbytes, head.words) == known.tobytes()
    )
