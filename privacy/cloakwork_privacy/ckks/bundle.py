"""The cipher on bundles: one ciphertext for each feature, with a record in every slot.

What is a rotation in other packings is here a matrix acting on whole ciphertexts, so that thousands of
records cost no more than one. A register is one array of residues rather than hundreds of SEAL's ciphertexts,
whose memory SEAL would never give back; what SEAL computes passes through a single ciphertext.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import tenseal.sealapi as seal

from cloakwork_privacy.ckks import residues
from cloakwork_privacy.ckks.cipher import same_scale
from cloakwork_privacy.ckks.matrix import Weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from cloakwork_privacy.ckks.context import Context
    from cloakwork_privacy.ckks.public import EvaluationKeys
    from cloakwork_privacy.ckks.sealed import Sealed
    from cloakwork_privacy.compiler.circuit import Constant

__all__ = ["Bundle", "BundleCipher", "Scalars", "encode", "parse"]


@dataclass(frozen=True)
class Bundle:
    """Ciphertexts of one scale and level.

    Attributes:
        residues: uint64 (ciphertexts, polynomials, primes, N), in NTT form.
        scale: Of all of them.
    """

    residues: NDArray[np.uint64]
    scale: float

    @property
    def level(self) -> int:
        """Primes left."""
        level: int = self.residues.shape[2]
        return level


@dataclass(frozen=True)
class Scalars:
    """Numbers for the ciphertexts of a bundle.

    Attributes:
        integers: round(number * scale), one for each ciphertext, or one for all.
        scale: They are encoded at.
    """

    integers: tuple[int, ...]
    scale: float


def encode(constant: Constant) -> Weights | Scalars:
    """A constant of a program: a matrix, or a vector of one number for each ciphertext, or for all.

    A number that would round to zero becomes one unit, which is no further from it than two roundings: SEAL
    refuses to multiply by zero.

    Raises:
        ValueError: As `Weights`.
    """
    if constant.vector.ndim > 1:
        return Weights(constant.vector, constant.scale)
    exact = constant.vector * constant.scale
    integers = np.where(np.abs(exact) < 1, np.sign(exact), np.rint(exact))
    return Scalars(tuple(map(int, integers.tolist())), constant.scale)


def parse(kind: Sealed, parts: tuple[bytes, ...]) -> Bundle:
    """The bundle of a request's parts.

    Raises:
        PrivacyError: `ciphertext_invalid`, `secret_key_refused`.
    """
    for part in parts:
        kind.check(part)  # before memory is taken for all of them
    words = np.empty((len(parts), *kind.shape), np.uint64)
    for part, into in zip(parts, words, strict=True):
        kind.read(part, into)
    return Bundle(words, kind.scale)


class BundleCipher:
    """The protocol of `ckks.cipher.Cipher`, for every ciphertext of a bundle alike, under one client's keys.

    Where SEAL does not do the work itself, `ValueError` says what it would say.
    """

    def __init__(self, ring: Context, keys: EvaluationKeys) -> None:
        self._ring = ring
        self._keys = keys

    def matrix(self, register: Bundle, plain: Weights) -> Bundle:
        """Product of a matrix (m, n) with n ciphertexts: m ciphertexts; scales multiply."""
        return Bundle(plain(register.residues, self._ring.primes), register.scale * plain.scale)

    def multiply_plain(self, register: Bundle, plain: Scalars) -> Bundle:
        """Each ciphertext times its number; scales multiply."""
        factors = [seal.Plaintext() for _ in plain.integers]
        for integer, factor in zip(plain.integers, factors, strict=True):
            self._ring.encoder.encode(float(integer), self._ring.parms_id(register.level), 1.0, factor)
        several = iter(factors * (len(register.residues) // len(factors)))
        product = self._each(
            lambda item, out: self._ring.evaluator.multiply_plain(item, next(several), out), register
        )
        return replace(product, scale=register.scale * plain.scale)

    def add_plain(self, register: Bundle, plain: Scalars) -> Bundle:
        """Each ciphertext plus its number."""
        _require_scales(register.scale, plain.scale)
        primes = self._ring.primes[: register.level]
        added = [[integer % prime for prime in primes] for integer in plain.integers]
        words = register.residues.copy()
        first = words[:, 0]
        first += np.array(added, np.uint64)[:, :, None]
        self._reduce(first)
        return Bundle(words, register.scale)

    def add(self, left: Bundle, right: Bundle) -> Bundle:
        """Sum of two bundles, ciphertext by ciphertext."""
        _require_scales(left.scale, right.scale)
        if left.level != right.level:
            raise ValueError("levels differ")
        more, less = left.residues, right.residues
        if more.shape[1] < less.shape[1]:
            more, less = less, more
        words = more.copy()
        common = words[:, : less.shape[1]]
        common += less
        self._reduce(common)
        return Bundle(words, left.scale)

    def multiply(self, left: Bundle, right: Bundle) -> Bundle:
        """Products of ciphertexts, of three polynomials."""
        return self._each(self._ring.evaluator.multiply, left, right)

    def rotate(self, register: Bundle, step: int) -> NoReturn:  # noqa: ARG002 - the protocol's arguments
        """A slot is another record: there is nothing to be had from rotating."""
        raise ValueError("records do not rotate")

    def square(self, register: Bundle) -> Bundle:
        """Squares, of three polynomials."""
        return self._each(self._ring.evaluator.square, register)

    def relinearise(self, register: Bundle) -> Bundle:
        """Back to two polynomials."""
        keys = self._keys.relinearisation
        return self._each(lambda item, out: self._ring.evaluator.relinearize(item, keys, out), register)

    def rescale(self, register: Bundle) -> Bundle:
        """Divides by the last prime and drops it."""
        return self._each(self._ring.evaluator.rescale_to_next, register)

    def drop(self, register: Bundle) -> Bundle:
        """Drops the last prime."""
        return Bundle(np.ascontiguousarray(register.residues[:, :, :-1]), register.scale)

    def _each(self, call: Callable[..., None], *registers: Bundle) -> Bundle:
        """What SEAL makes of each ciphertext, or of those in one place of several bundles.

        Weights may leave a constant, a ciphertext without second polynomial. SEAL refuses to make one, lest
        it be sent to anyone; ours are masked first. So a second polynomial is lent to it meanwhile: no
        operation here lets it into the first.
        """
        items = [residues.make(self._ring, each.residues[0], each.scale) for each in registers]
        out = seal.Ciphertext()
        words = None
        for index, given in enumerate(zip(*(each.residues for each in registers), strict=True)):
            constant = not any(one[1:].any() for one in given)
            for place, one in enumerate(given):
                lent = _lent(one) if constant else one
                items[place] = residues.fill(self._ring, items[place], lent, registers[place].scale)
            call(*items, out)
            if words is None:
                made = residues.read(out)
                words = np.empty((len(registers[0].residues), *made.shape), np.uint64)
            residues.read(out, words[index])
            if constant:
                words[index, 1:] = 0
        assert words is not None
        return Bundle(words, out.scale)

    def _reduce(self, sums: NDArray[np.uint64]) -> None:
        """Sums of two residues, (..., primes, N), modulo each prime."""
        for level, prime in enumerate(self._ring.primes[: sums.shape[-2]]):
            part = sums[..., level, :]
            np.minimum(part, part - np.uint64(prime), out=part)


def _lent(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A copy with a second polynomial, of coefficients too large to be rescaled to zero."""
    lent = words.copy()
    lent[1] = np.arange(words.shape[-1], dtype=np.uint64)
    return lent


def _require_scales(left: float, right: float) -> None:
    if not same_scale(left, right):
        raise ValueError("scales differ")
