"""A request's ciphertext on the wire: one half as residues, the other as the seed it is expanded from.

It has the level and the scale that the program says. A client that could write those fields could send an
infinite scale or a lower level, so they do not travel: the bytes are the first polynomial, in NTT form and in
as many whole bytes for each residue as its prime needs, and the seed of the second (see `expand`), nothing
else. Their number is known to the byte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cloakwork_privacy.ckks import layout, residues
from cloakwork_privacy.ckks.expand import SEED_BYTES, expand
from cloakwork_privacy.ckks.octets import narrow, widen

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cloakwork_privacy.ckks.context import Context

__all__ = ["Sealed"]

_CODE: Final = "ciphertext_invalid"


class Sealed:
    """The form of one program's sealed ciphertexts.

    Attributes:
        ring: Of the program.
        scale: Of what is sealed.
        shape: Of a ciphertext's residues: polynomials, primes, N.
        wire_bytes: Exact size on the wire.
    """

    def __init__(self, ring: Context, scale: float) -> None:
        self.ring = ring
        self.scale = scale
        self._runs = layout.residues(ring, ring.parameters.levels)
        self.shape = 2, len(self._runs), ring.parameters.poly_degree
        self.wire_bytes = sum(run.count * run.width for run in self._runs) + SEED_BYTES

    def second(self, seed: bytes, into: NDArray[np.uint64]) -> None:
        """Writes the second polynomial that a seed stands for into an array, (primes, N), in NTT form."""
        for place, words in enumerate(into):
            expand(seed, place, self.ring.primes[place], words)

    def pack(self, first: NDArray[np.uint64], seed: bytes) -> bytes:
        """The wire's form of a first polynomial, uint64 (primes, N) in NTT form, and the second's seed."""
        runs = zip(first, self._runs, strict=True)
        return b"".join((*(narrow(words, run.width) for words, run in runs), seed))

    def check(self, wire: bytes) -> None:
        """Refuses bytes of another size; raises as `read`."""
        layout.sized(wire, self.wire_bytes, _CODE)

    def read(self, wire: bytes, into: NDArray[np.uint64]) -> None:
        """Writes a ciphertext's residues, in NTT form, into an array of this `shape`.

        Raises:
            PrivacyError: `secret_key_refused` when these bytes are a secret key in SEAL's own format, else
                `ciphertext_invalid`: not this program's size, or a residue not below its prime.
        """
        self.check(wire)
        start = 0
        for words, run, prime in zip(into[0], self._runs, self.ring.primes, strict=False):
            widen(wire, start, run.count, run.width, into=words)
            if words.max() >= prime:
                raise layout.invalid(_CODE)
            start += run.count * run.width
        self.second(wire[start:], into[1])

    def unpack(self, wire: bytes) -> Any:
        """The SEAL ciphertext of the wire. Raises as `read`."""
        return residues.written(self.ring, self.shape, self.scale, lambda words: self.read(wire, words))
