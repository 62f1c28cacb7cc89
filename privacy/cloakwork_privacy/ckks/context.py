"""SEAL's view of a parameter set, built once per process."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import tenseal.sealapi as seal

from cloakwork_privacy.errors import PrivacyError

if TYPE_CHECKING:
    from cloakwork_privacy.ckks.parameters import Parameters

__all__ = ["Context", "context"]


class Context:
    """SEAL's context and what is derived from it.

    Attributes:
        parameters: The parameters it was built from.
        seal: SEAL's own context.
        primes: All primes, the special one last.
        encoder, evaluator: SEAL's, shared because both are stateless.
        key_id: parms_id (four 64-bit words) of the keys' level.
    """

    def __init__(self, parameters: Parameters) -> None:
        """Builds SEAL's context, and refuses parameters SEAL calls insecure (`insecure_parameters`)."""
        self.parameters = parameters
        self.primes, self.seal = _build(parameters)
        self.encoder = seal.CKKSEncoder(self.seal)
        self.evaluator = seal.Evaluator(self.seal)
        self.key_id: list[int] = self.seal.key_parms_id()
        self._ids: dict[int, list[int]] = {}
        data = self.seal.first_context_data()
        while data is not None:
            self._ids[data.chain_index() + 1] = data.parms_id()
            data = data.next_context_data() if data.chain_index() else None

    def parms_id(self, level: int) -> list[int]:
        """parms_id of ciphertexts with `level` primes left."""
        return self._ids[level]

    def galois_element(self, step: int) -> int:
        """The automorphism behind a rotation by `step` slots: SEAL's generator is 3."""
        return pow(3, step, 2 * self.parameters.poly_degree)


def _build(parameters: Parameters) -> tuple[tuple[int, ...], Any]:
    """Has SEAL choose the primes and judge them."""
    try:
        moduli = seal.CoeffModulus.Create(parameters.poly_degree, list(parameters.modulus_bits))
    except (RuntimeError, ValueError):
        raise PrivacyError(
            "insecure_parameters", "No such primes exist for this degree; use other bit sizes."
        ) from None
    chosen = seal.EncryptionParameters(seal.SCHEME_TYPE.CKKS)
    chosen.set_poly_modulus_degree(parameters.poly_degree)
    chosen.set_coeff_modulus(moduli)
    built = seal.SEALContext(chosen, True, seal.SEC_LEVEL_TYPE.TC128)
    # The constructor accepts insecure parameters without a word; only this flag tells.
    if not built.parameters_set():
        raise PrivacyError(
            "insecure_parameters", "SEAL finds less than 128 bits of security in these parameters."
        )
    primes = tuple(modulus.value() for modulus in moduli)
    if primes[-1] < max(primes):
        raise PrivacyError("insecure_parameters", "The special (last) prime must be the largest.")
    return primes, built


@lru_cache(maxsize=16)
def context(parameters: Parameters) -> Context:
    """The one context of these parameters in this process.

    Building takes 10-250 ms and much memory; parameters are bounded by the security table, so is the cache.
    """
    return Context(parameters)
