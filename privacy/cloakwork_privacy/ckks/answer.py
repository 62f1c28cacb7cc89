"""What of a result leaves the server, and how the client reads it.

A CKKS result says more than its logits. Four measures keep the rest on the server:

1. *Masked.* A fresh encryption of zero under the client's public key is added. Without it the second
   polynomial of a circuit of plaintext products is the request's times the weights: dividing the two gives
   every weight, exactly. The mask's uniform half the server itself expands from the seed in the client's key
   (as SEAL does it; a request's half as `expand` says). The other half is the client's word: one who crafts
   its public key reads the mask's randomness off the coefficients kept, some twenty of 2048 for a logistic
   regression, all of them in a bundle of more than slots / 2 records. So a bundle's mask binds only clients
   whose keys are honestly made.
2. *Cut.* Of the first polynomial only the coefficients that carry the logits are returned; without its first
   polynomial's coefficient a message coefficient is unknowable. Coefficient packing keeps the dot products
   and drops the partial sums around them. In slot packing an answer that repeats every p slots lies in the
   subring of X^(N/2p): keeping those 2p coefficients *is* averaging all slots of one residue modulo p, with
   no rotation, so partial sums are finished by leaving them out. It also halves the answer. A bundle's
   slots hold its records with a period as well, the next power of two, so that who pays for one record
   cannot read 4096: no more than the records fit the period. Slots left over within it are *blotted* by
   noise of an eighth of the modulus. That keeps honest clients honest and no more: one who scales up what it
   did not pay for, or averages, reads it, and so at most twice what it pays for.
3. *Flooded.* Uniform noise of 2^-15 of the scale is added to what is kept, less where many coefficients add
   up to a slot. It moves a logit by about 1e-4, 40 times what rescaling and key switching do (2.5e-6,
   measured on the convolution), whose noise speaks of intermediate values. A proof would ask for 2^30 times
   and more.
4. *Rounded.* Low bytes that only carry noise are dropped, as long as a logit moves by less than 2^-14
   (standard deviation). It hides them too, and makes the answer 3 bytes of 8 smaller.

What remains is what any answer tells: the logits, to about four digits, of a record the client chose. Enough
of them determine a linear model; that is for quotas to limit. A client that crafts its evaluation keys or its
ciphertexts can make the kept numbers mean something else, but gets no more of them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import tenseal.sealapi as seal

from cloakwork_privacy.ckks import blinds, layout, residues
from cloakwork_privacy.ckks.encoder import interpolate
from cloakwork_privacy.ckks.noise import binomial, uniform
from cloakwork_privacy.ckks.octets import narrow, widen
from cloakwork_privacy.errors import PrivacyError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cloakwork_privacy.ckks.context import Context
    from cloakwork_privacy.ckks.public import EvaluationKeys
    from cloakwork_privacy.compiler.signature import Signature

__all__ = ["deviation", "noise", "pick", "restore", "write"]

_FLOOD: Final = 2.0**-15  # at least half of it: the flood is a power of two
_FLOODED: Final = 32  # coefficients that may add up to a slot before their flood is made smaller
_BLOT: Final = 8
_DEVIATIONS: Final = 7
_ROUNDING: Final = 2.0**-14
_FRESH: Final = 3.2  # deviation of SEAL's noise
_LEVEL: Final = 1  # of every answer
_WORD: Final = 8


def write(ring: Context, signature: Signature, keys: EvaluationKeys, result: Any, records: int = 1) -> bytes:
    """Masks, floods, cuts and rounds a circuit's result.

    Args:
        ring: Of the program.
        signature: The program's.
        keys: The client's, for the mask.
        result: SEAL ciphertext of two polynomials at level 1 and the answer's scale; it is overwritten.
        records: For packing "features", how many it holds; else it holds one.

    Returns:
        The kept residues of the first polynomial and the whole second one, in coefficients, each residue in
        the whole bytes its prime needs less those that rounding drops.
    """
    mask = _mask(ring, keys)
    mask.scale = result.scale  # zero is zero at any scale, and SEAL adds equal scales only
    ring.evaluator.add_inplace(result, mask)
    ring.evaluator.transform_from_ntt_inplace(result)
    first, second = residues.view(result)[:, 0].view(np.int64)
    kept, dropped = first[signature.kept(records)], _dropped(signature, records)
    kept += uniform(kept.size, _flood_bits(signature, records))
    if signature.packing == "features":
        kept += _blot(ring.primes[0], kept.size // 2, records)
    sent = np.concatenate((kept, second))
    sent += binomial(sent.size)
    sent += 1 << _WORD * dropped >> 1  # so that dropping bytes rounds to nearest
    return narrow(_reduced(sent, ring.primes[0]), _width(ring), dropped)


def _mask(ring: Context, keys: EvaluationKeys) -> Any:
    """(p0 u, p1 u) in NTT form, for a client's public key (p0, p1) and a fresh ternary u.

    With noise added to the coefficients it is an encryption of zero. The smallness that SEAL would gain by
    encrypting modulo the special prime too and dividing by it does not pay: flooding is far above either.
    """
    mask = seal.Ciphertext()
    ring.evaluator.multiply_plain(keys.mask, blinds.draw(ring), mask)
    return mask


def restore(ring: Context, signature: Signature, part: bytes, records: int = 1) -> Any:
    """The ciphertext of an answer that `write` made, with zeros for the coefficients that were cut.

    What those decrypt to is noise.

    Raises:
        PrivacyError: `answer_invalid`.
    """
    degree, width, dropped = ring.parameters.poly_degree, _width(ring), _dropped(signature, records)
    kept = signature.kept(records)
    size = (width - dropped) * (kept.size + degree)
    if len(part) != size:
        raise PrivacyError(
            "answer_invalid", f"This program's answers have {size} bytes, not {len(part)}; ask again."
        )
    sent = widen(part, 0, kept.size + degree, width, dropped)
    words = np.zeros((2, _LEVEL, degree), np.uint64)
    words[0, 0, kept], words[1, 0] = sent[: kept.size], sent[kept.size :]
    if words.max() >= ring.primes[0]:
        raise layout.invalid("answer_invalid")
    result = residues.make(ring, words, signature.answer_scale, ntt=False)
    ring.evaluator.transform_to_ntt_inplace(result)
    return result


def pick(signature: Signature, values: NDArray[np.float64], records: int = 1) -> NDArray[np.float64]:
    """The logits among a decrypted answer's slots or coefficients, float64 of len(take).

    For packing "features" it is one logit of every record, float64 of (records,).

    Averaging the slots of a period is what silences the coefficients that were cut.
    """
    period = signature.repeats(records)
    if period is not None:
        values = values.reshape(-1, period).mean(axis=0)
    return values[:records] if signature.packing == "features" else values[list(signature.take)]


def noise(degree: int, kept: int, scale: float) -> float:
    """The same as `deviation`, before there is a signature: of so many coefficients kept at a scale."""
    masking = _FRESH * math.sqrt(4 / 3 * degree + 1) * math.sqrt(kept / 2) / scale
    return math.hypot(masking, 2 * _ROUNDING)


def deviation(signature: Signature) -> float:
    """Standard deviation of what masking, flooding and rounding do to a logit."""
    records, degree = signature.max_records, signature.parameters.poly_degree
    masking = _FRESH**2 * (4 / 3 * degree + 1)  # e u + e0 + e1 s, with u and s ternary
    flooding = 4.0 ** _flood_bits(signature, records) / 3
    rounding = 4.0 ** (_WORD * _dropped(signature, records)) / 12 * (2 / 3 * degree + 1)
    # A slot is the real part of a sum of as many coefficients times roots of unity: half of their variance.
    summed = max(1.0, signature.summed(records) / 2)
    return math.sqrt((masking + flooding + rounding) * summed) / signature.answer_scale


def _width(ring: Context) -> int:
    """Bytes of a residue of the answer's one prime."""
    return -(-ring.primes[0].bit_length() // 8)


def _dropped(signature: Signature, records: int) -> int:
    """Low bytes of each residue that are not sent.

    Rounding the second polynomial to 2^b adds noise of deviation 2^b sqrt(1/12), times a ternary secret of
    N coefficients of variance 2/3; a slot sums the kept coefficients of it, a coefficient is just one.
    """
    spread = math.sqrt(signature.parameters.poly_degree / 18 * signature.summed(records))
    return max(0, math.floor(math.log2(signature.answer_scale * _ROUNDING / spread) / _WORD))


def _reduced(values: NDArray[np.int64], prime: int) -> NDArray[np.uint64]:
    """Values of [-prime, 2 prime), which are overwritten, modulo the prime."""
    wrapped, modulus = values.view(np.uint64), np.uint64(prime)
    np.minimum(wrapped, wrapped + modulus, out=wrapped)  # a negative number is a huge unsigned one
    np.minimum(wrapped, wrapped - modulus, out=wrapped)
    return wrapped


def _flood_bits(signature: Signature, records: int) -> int:
    """The flood is uniform in [-2^b, 2^b)."""
    spread = math.sqrt(max(1.0, signature.summed(records) / _FLOODED))
    return max(0, math.floor(math.log2(signature.answer_scale * _FLOOD / spread)))


def _blot(prime: int, period: int, records: int) -> NDArray[np.int64]:
    """Coefficients, int64 (2 period,), of noise in all slots of a period but the first `records`.

    Noise is complex, as slots are, and uniform in a square of such a size that seven deviations of a
    coefficient are an eighth of the prime: larger noise would wrap around, and hide the other slots too.
    """
    noisy, degree = period - records, 2 * period
    noise = np.zeros(period, np.complex128)
    if noisy:
        reach = prime / _BLOT / (_DEVIATIONS * math.sqrt(4 / 3 * noisy) / degree)
        drawn = uniform(2 * noisy, 62) * (reach / 2.0**62)
        noise[records:].real, noise[records:].imag = np.split(drawn, 2)
    return np.rint(interpolate(degree, noise)).astype(np.int64)
