"""What masks are made of: fresh random polynomials, a few made ahead.

SEAL transforms whole ciphertexts, of two polynomials and more, and a mask needs the transform of one. So
several are drawn and transformed at once, and kept for the next answers. They owe nothing to any client or
request. Each is handed out once, to one thread of one process: a fork leaves the child none of its parent's.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from cloakwork_privacy.ckks import residues
from cloakwork_privacy.ckks.noise import ternary

if TYPE_CHECKING:
    from cloakwork_privacy.ckks.context import Context

__all__ = ["draw"]

_LEVEL: Final = 1  # of every answer
_TOGETHER: Final = 8

_stock: WeakKeyDictionary[Context, list[Any]] = WeakKeyDictionary()
os.register_at_fork(after_in_child=_stock.clear)


def draw(ring: Context) -> Any:
    """A polynomial of independent coefficients of {-1, 0, 1}, each as likely.

    Returns:
        SEAL plaintext in NTT form, at an answer's level and scale 1, that nobody else gets.
    """
    kept = _stock.setdefault(ring, [])
    while True:
        try:
            return kept.pop()  # atomic, so two threads cannot have the same one
        except IndexError:
            kept.extend(_made(ring))


def _made(ring: Context) -> list[Any]:
    degree = ring.parameters.poly_degree
    drawn = ternary(_TOGETHER * degree).reshape(_TOGETHER, degree)
    several = residues.make(ring, residues.centred(ring, _LEVEL, drawn), 1.0, ntt=False)
    ring.evaluator.transform_to_ntt_inplace(several)
    return [residues.plain(ring, words, 1.0) for words in residues.view(several)]
