"""What of a result leaves the server, and how the client reads it.

A CKKS result says more than its logits. Four measures keep the rest on the server:

1. *Masked.* A fresh encryption of zero under the client's public key is added. Without it the second
   polynomial of a circuit of plaintext products is the request's times the weights: dividing the two gives
   every weight, exactly. The mask is an RLWE sample whose uniform half the server itself expands from the
   client's seed, so the client cannot choose a weak one.
2. *Cut.* Of the first polynomial only the coefficients that carry the logits are returned; without its first
   polynomial's coefficient a message coefficient is unknowable. Coefficient packing keeps the dot products
   and drops the partial sums around them. In slot packing an answer that repeats every p slots lies in the
   subring of X^(N/2p): keeping those 2p coefficients *is* averaging all slots of one residue modulo p, with
   no rotation, so partial sums are finished by leaving them out. It also halves the answer.
3. *Flooded.* Uniform noise of 2^-15 of the scale is added to what is kept. It moves a logit by about 1e-4,
   40 times what rescaling and key switching do (2.5e-6, measured on the convolution), whose noise speaks
   of intermediate values. A proof would ask for 2^30 times and more.
4. *Rounded.* Low bytes that only carry noise are dropped, as long as a logit moves by less than 2^-14
   (standard deviation). It hides them too, and makes the answer 3 bytes of 8 smaller.

What remains is what any answer tells: the logits, to about four digits, of a record the client chose. Enough
of them determine a linear model; that is for quotas to limit. A client that crafts its evaluation keys can
make the kept numbers mean something else, but gets no more of them.
"""

from __future__ import annotations

import math
import secrets
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import tenseal.sealapi as seal

from cloakwork_privacy.ckks import layout
from cloakwork_privacy.errors import PrivacyError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cloakwork_privacy.ckks.context import Context
    from cloakwork_privacy.ckks.public import EvaluationKeys
    from cloakwork_privacy.compiler.signature import Signature

__all__ = ["pick", "restore", "write"]

_FLOOD: Final = 2.0**-15
_ROUNDING: Final = 2.0**-14
_LEVEL: Final = 1  # of every answer
_WORD: Final = 8


def write(ring: Context, signature: Signature, keys: EvaluationKeys, result: Any) -> bytes:
    """Masks, floods, cuts and rounds a circuit's result.

    Args:
        ring: Of the program.
        signature: The program's.
        keys: The client's, for the mask.
        result: SEAL ciphertext of two polynomials at level 1 and the answer's scale; it is overwritten.

    Returns:
        The kept residues of the first polynomial and the whole second one, in coefficients, each residue in
        the whole bytes its prime needs less those that rounding drops.
    """
    mask = seal.Ciphertext()
    keys.encryptor.encrypt_zero(ring.parms_id(_LEVEL), mask)
    mask.scale = result.scale  # zero is zero at any scale, and SEAL adds equal scales only
    ring.evaluator.add_inplace(result, mask)
    ring.evaluator.transform_from_ntt_inplace(result)
    words = _words(_layout(ring, signature).pack(result), _width(ring), 0)
    first, second = words.reshape(2, ring.parameters.poly_degree)
    prime, dropped = ring.primes[0], _dropped(signature)
    sent = np.concatenate(
        (_flooded(first[signature.kept], prime, int(signature.answer_scale * _FLOOD)), second)
    )
    half = 1 << _WORD * dropped >> 1
    return _bytes((sent + np.uint64(half)) % np.uint64(prime), _width(ring), dropped)


def restore(ring: Context, signature: Signature, part: bytes) -> Any:
    """The ciphertext of an answer, with zeros where coefficients were cut: what they decrypt to is noise.

    Raises:
        PrivacyError: `answer_invalid`.
    """
    degree, width, dropped = ring.parameters.poly_degree, _width(ring), _dropped(signature)
    size = (width - dropped) * (len(signature.kept) + degree)
    if len(part) != size:
        raise PrivacyError(
            "answer_invalid", f"This program's answers have {size} bytes, not {len(part)}; ask again."
        )
    sent = _words(part, width, dropped)
    words = np.zeros((2, degree), np.uint64)
    words[0, signature.kept], words[1] = sent[: len(signature.kept)], sent[len(signature.kept) :]
    wire = _bytes(words.ravel(), width, 0)
    result = _layout(ring, signature).unpack(wire, seal.Ciphertext(), ring, "answer_invalid")
    ring.evaluator.transform_to_ntt_inplace(result)
    return result


def pick(signature: Signature, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logits among a decrypted answer's slots or coefficients, float64 of len(take).

    Averaging the slots of a period is what silences the coefficients that were cut.
    """
    if signature.period is not None:
        values = values.reshape(-1, signature.period).mean(axis=0)
    return values[list(signature.take)]


def _layout(ring: Context, signature: Signature) -> layout.Layout:
    return layout.ciphertext(ring, _LEVEL, signature.answer_scale, seeded=False, ntt=False)


def _width(ring: Context) -> int:
    """Bytes of a residue of the answer's one prime."""
    return layout.residues(ring, _LEVEL)[0].width


def _dropped(signature: Signature) -> int:
    """Low bytes of each residue that are not sent.

    Rounding the second polynomial to 2^b adds noise of deviation 2^b sqrt(1/12), times a ternary secret of
    N coefficients of variance 2/3; a slot sums the kept coefficients of it, a coefficient is just one.
    """
    summed = 1 if signature.period is None else len(signature.kept)
    spread = math.sqrt(signature.parameters.poly_degree / 18 * summed)
    return max(0, math.floor(math.log2(signature.answer_scale * _ROUNDING / spread) / _WORD))


def _words(data: bytes, width: int, dropped: int) -> NDArray[np.uint64]:
    """Residues from the bytes `dropped` to `width` of each."""
    words = np.zeros((len(data) // (width - dropped), _WORD), np.uint8)
    words[:, dropped:width] = np.frombuffer(data, np.uint8).reshape(words.shape[0], width - dropped)
    return words.view("<u8").ravel()


def _bytes(words: NDArray[np.uint64], width: int, dropped: int) -> bytes:
    """Residues to those bytes."""
    return words.astype("<u8").view(np.uint8).reshape(-1, _WORD)[:, dropped:width].tobytes()


def _flooded(residues: NDArray[np.uint64], prime: int, most: int) -> NDArray[np.uint64]:
    """Residues with noise added to each, uniform in [-most, most]."""
    noise = (secrets.randbelow(2 * most + 1) - most for _ in residues)
    return np.array(
        [(residue + extra) % prime for residue, extra in zip(residues.tolist(), noise, strict=True)], "<u8"
    )
